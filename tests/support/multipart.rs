//! `multipart/related` from the client's side, independent of the server's reader and writer.

use memchr::memmem::find;

const BOUNDARY: &str = "a-boundary-of-the-tests";

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its headers as they stand, line by line.
    pub headers: Vec<String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Part {
    /// The value of a header, named as on the wire.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The content type and body of a request that stores these files.
pub fn write<F: AsRef<[u8]>>(files: &[F]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for file in files {
        body.extend(format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n").as_bytes());
        body.extend(file.as_ref());
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}"), body)
}

/// The parts of an answer; panics where it is not well formed.
pub fn read(content_type: &str, body: &[u8]) -> Vec<Part> {
    assert!(content_type.starts_with("multipart/related"), "{content_type}");
    let parameter = content_type.split(';').find_map(|part| part.trim().strip_prefix("boundary="));
    let delimiter = format!("\r\n--{}", parameter.expect("a boundary").trim_matches('"'));
    // the first delimiter has no line before it
    let body = [b"\r\n", body].concat();
    let mut rest = &body[find(&body, delimiter.as_bytes()).expect("a first delimiter") + delimiter.len()..];
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").expect("a delimiter ends its line");
        let end = find(rest, delimiter.as_bytes()).expect("a delimiter after each part");
        parts.push(part(&rest[..end]));
        rest = &rest[end + delimiter.len()..];
    }
    parts
}

fn part(bytes: &[u8]) -> Part {
    let end = find(bytes, b"\r\n\r\n").expect("an empty line after the headers");
    let headers = std::str::from_utf8(&bytes[..end]).expect("headers are text");
    Part { headers: headers.split("\r\n").map(str::to_owned).collect(), body: bytes[end + 4..].to_vec() }
}
