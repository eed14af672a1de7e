//! URLs as they may be shown: without what gives access.

/// Parameters of a query whose values are not shown, by a part of their name.
const SECRETS: [&str; 8] = ["password", "passwd", "pwd", "secret", "token", "key", "sign", "credential"];

/// A URL, or a text that was given as one, without the password of its user and of its parameters.
///
/// Rather too much is masked than too little, as it need not be well formed: passwords are given unescaped too, so the
/// last `@` ends them.
#[must_use]
pub fn masked(url: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(plain) => (scheme, rest),
        _ => ("", url),
    };
    let separator = if scheme.is_empty() { "" } else { "://" };
    let (front, query) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    if query.contains('@') {
        // part of a password, or of a parameter
        return format!("{scheme}{separator}***");
    }
    let front = match front.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", masked_user(scheme, user)),
        None => front.to_owned(),
    };
    let query: Vec<_> = query.split('&').map(masked_parameter).collect();
    format!("{scheme}{separator}{front}{}", query.join("&"))
}

fn masked_user(scheme: &str, user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) if !scheme.is_empty() => format!("{name}:***"),
        // elsewhere a name alone may be a token
        None if matches!(scheme, "postgres" | "postgresql") => user.to_owned(),
        _ => "***".to_owned(),
    }
}

fn masked_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if SECRETS.iter().any(|secret| name.to_ascii_lowercase().contains(secret)) => {
            format!("{name}=***")
        }
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_is_shown_with_what_gives_access() {
        for (url, shown) in [
            ("http://127.0.0.1:8080/dicom-web", "http://127.0.0.1:8080/dicom-web"),
            ("http://u:SECRET@127.0.0.1:9101/x?y", "http://u:***@127.0.0.1:9101/x?y"),
            ("http://u:SECRET@127.0.0.1:x", "http://u:***@127.0.0.1:x"),
            ("https://SECRET@host/", "https://***@host/"),
            ("https://u:SE/SECRET@host/", "https://u:***@host/"),
            ("https://u:SE@SECRET@host/", "https://u:***@host/"),
            ("https://u:SE?SECRET@host/", "https://***"),
            ("https://u:SE@x#SECRET@host/", "https://***"),
            ("https://u:SE://SECRET@host/", "https://u:***@host/"),
            ("https://host/?password=SE@SECRET", "https://***"),
            ("https://host/?a=b&X-Amz-Signature=SECRET&c", "https://host/?a=b&X-Amz-Signature=***&c"),
            ("s3://KEY:SECRET@b/p", "s3://KEY:***@b/p"),
            ("postgres://me@host/db?sslmode=require", "postgres://me@host/db?sslmode=require"),
            ("postgres://me:SECRET@host/db?sslpassword=SECRET", "postgres://me:***@host/db?sslpassword=***"),
            ("u:SECRET@host", "***@host"),
            ("http:/u:SECRET@host", "***@host"),
            ("u:SE://SECRET@host", "***@host"),
            ("", ""),
        ] {
            assert_eq!(masked(url), shown, "{url}");
            assert!(!masked(url).contains("SECRET"), "{url}");
        }
    }
}
