//! The texts of a multipart body: the boundary that its Content-Type names, and the headers of its parts.

use crate::error::{Error, ErrorKind, Result};
use crate::http::media_type::MediaType;

/// Longest boundary that is accepted; RFC 2046 allows 70, some clients send more.
const LONGEST_BOUNDARY: usize = 256;

/// The headers of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartHeaders {
    pub(super) fields: Vec<(String, String)>,
}

impl PartHeaders {
    /// The first header of a name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The media type of the part, if it names one that can be read.
    #[must_use]
    pub fn content_type(&self) -> Option<MediaType> {
        self.get("content-type").and_then(MediaType::parse)
    }

    /// The URI of the part.
    #[must_use]
    pub fn content_location(&self) -> Option<&str> {
        self.get("content-location")
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Adds a line to the headers of a part.
pub(super) fn add_header(fields: &mut Vec<(String, String)>, line: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(line);
    // A folded line goes on with the value before (RFC 822).
    if text.starts_with([' ', '\t'])
        && let Some((_, value)) = fields.last_mut()
    {
        value.push(' ');
        value.push_str(text.trim());
        return Ok(());
    }
    let Some((name, value)) = text.split_once(':') else {
        return Err(Error::bad_request("a part has a header line without a colon; a blank line ends its headers"));
    };
    fields.push((name.trim().to_owned(), value.trim().to_owned()));
    Ok(())
}

/// The boundary that a Content-Type names.
pub(super) fn boundary_of(content_type: &str) -> Result<String> {
    let media =
        MediaType::parse(content_type).filter(|media| media.essence.starts_with("multipart/")).ok_or_else(|| {
            Error::new(ErrorKind::UnsupportedMediaType, "the body must be `multipart/related` with a `boundary`")
        })?;
    let boundary = media.parameter("boundary").unwrap_or_default().trim_end();
    if boundary.is_empty() {
        return Err(Error::bad_request("the content type names no `boundary`"));
    }
    // RFC 2046 names fewer characters; any printable one is unambiguous.
    if boundary.len() > LONGEST_BOUNDARY || !boundary.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(Error::bad_request(format!(
            "the `boundary` must be 1 to {LONGEST_BOUNDARY} printable characters of ASCII"
        )));
    }
    Ok(boundary.to_owned())
}
