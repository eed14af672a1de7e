//! References to parts of a request, resolved as RFC 3986 5.2 does, so that both ways to write one are the same text.

/// A reference against a base, which is absolute. Nothing is decoded or put in another case: clients write a URI alike in
/// both places, and parts are told apart by its text.
#[must_use]
pub fn resolve(base: &str, reference: &str) -> String {
    let reference = reference.trim();
    if scheme(reference).is_some() {
        return reference.to_owned();
    }
    let (scheme, rest) = base.split_once(':').unwrap_or(("http", base));
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}");
    }
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path_end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, query) = (&path[..path_end], &path[path_end..]);
    let (reference_path, suffix) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
    let (path, suffix) = match reference_path {
        // the query stays where the reference has but a fragment
        "" if suffix.starts_with('?') => (path.to_owned(), suffix.to_owned()),
        "" => {
            let query = &query[..query.find('#').unwrap_or(query.len())];
            (path.to_owned(), format!("{query}{suffix}"))
        }
        absolute if absolute.starts_with('/') => (without_dots(absolute), suffix.to_owned()),
        relative => {
            let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
            (without_dots(&format!("{folder}{relative}")), suffix.to_owned())
        }
    };
    format!("{scheme}://{authority}{path}{suffix}")
}

/// The scheme of a reference that has one (RFC 3986 3.1).
fn scheme(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let mut bytes = scheme.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    (first && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))).then_some(scheme)
}

/// A path without its segments `.` and `..` (RFC 3986 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // what it names is a folder
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    kept.iter().fold(String::new(), |path, segment| path + "/" + segment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn references_resolve_as_the_examples_of_the_rfc_do() {
        // RFC 3986 5.4, its base without what HTTP has not
        for (reference, expected) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("g#s", "http://a/b/c/g#s"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("g/../h", "http://a/b/c/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
        ] {
            assert_eq!(resolve("http://a/b/c/d;p?q", reference), expected, "{reference}");
        }
        for (reference, expected) in [
            ("bulk/1", "http://h:8080/dicom-web/bulk/1"),
            ("/dicom-web/bulk/1", "http://h:8080/dicom-web/bulk/1"),
            (" http://h:8080/dicom-web/bulk/1 ", "http://h:8080/dicom-web/bulk/1"),
            ("cid:a@b", "cid:a@b"),
            ("urn:uuid:1", "urn:uuid:1"),
            ("1.2.3/4:5", "http://h:8080/dicom-web/1.2.3/4:5"),
        ] {
            assert_eq!(resolve("http://h:8080/dicom-web/studies", reference), expected, "{reference}");
        }
    }

    proptest! {
        #[test]
        fn any_text_resolves_to_the_same_text_again(base in any::<String>(), reference in any::<String>()) {
            let once = resolve("http://h/a/b", &reference);
            assert_eq!(resolve("http://h/a/b", &once), once);
            drop(resolve(&base, &reference));
        }
    }
}
