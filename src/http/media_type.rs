//! Media types as clients really write them: any case, any quoting, stray spaces and separators.
//!
//! The strict parsers refuse `type=application/dicom` without quotes (the value holds a `/`, RFC 9110 5.6.6), which
//! many DICOMweb clients send; here every parameter value may come quoted or bare.

/// A media type with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// `type/subtype` in lower case.
    pub essence: String,
    /// Parameters in the order they came; names in lower case, values without quotes.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads one media type; `None` if there is nothing like `type/subtype` at its start.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = split_outside_quotes(text, b';');
        let essence = fields.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let parameters = fields.filter_map(parameter).collect();
        Some(Self { essence, parameters })
    }

    /// The first parameter of a name given in lower case.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte))
}

fn parameter(field: &str) -> Option<(String, String)> {
    let (name, value) = field.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty()).then(|| (name, unquote(value.trim())))
}

fn unquote(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"') else { return value.to_owned() };
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// The pieces of a header value between separators that are not inside a quoted string; empty ones included.
pub fn split_outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            if escaped {
                escaped = false;
            } else if quoted && byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = !quoted;
            }
            byte == separator && !quoted
        });
        // The separator is one ASCII byte, so both sides are whole characters.
        let (piece, after) = match end {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(piece)
    })
}

/// A parameter value in quotes, ready for a header.
#[must_use]
pub fn quote(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_as_clients_write_them() {
        type Case<'a> = (&'a str, Option<(&'a str, &'a [(&'a str, &'a str)])>);
        let cases: &[Case<'_>] = &[
            ("application/dicom", Some(("application/dicom", &[]))),
            (" Application/DICOM ; ", Some(("application/dicom", &[]))),
            (
                "multipart/related; type=application/dicom",
                Some(("multipart/related", &[("type", "application/dicom")])),
            ),
            (
                "Multipart/Related;TYPE=\"Application/DICOM\"",
                Some(("multipart/related", &[("type", "Application/DICOM")])),
            ),
            (
                "multipart/related ; boundary = \"a;b,\\\"c\" ; type = x/y",
                Some(("multipart/related", &[("boundary", "a;b,\"c"), ("type", "x/y")])),
            ),
            ("multipart/related; boundary=a=_:?b", Some(("multipart/related", &[("boundary", "a=_:?b")]))),
            ("multipart/related; boundary=\"open", Some(("multipart/related", &[("boundary", "open")]))),
            ("application/dicom+json;;; q=0.3;=x;noise", Some(("application/dicom+json", &[("q", "0.3")]))),
            ("*/*", Some(("*/*", &[]))),
            ("", None),
            ("text", None),
            ("/x", None),
            ("a/b/c", None),
        ];
        for (text, expected) in cases {
            let found = MediaType::parse(text);
            assert_eq!(
                found.as_ref().map(|media| media.essence.as_str()),
                expected.map(|(essence, _)| essence),
                "{text}"
            );
            for (name, value) in expected.map_or(&[][..], |(_, parameters)| parameters) {
                assert_eq!(found.as_ref().and_then(|media| media.parameter(name)), Some(*value), "{text} {name}");
            }
        }
    }

    #[test]
    fn separators_inside_quotes_do_not_split() {
        let pieces: Vec<_> = split_outside_quotes(r#"a; t="x,\",y", b,,c"#, b',').collect();
        assert_eq!(pieces, [r#"a; t="x,\",y""#, " b", "", "c"]);
        assert_eq!(quote(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}
