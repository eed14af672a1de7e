//! The multipart reader: how a body is cut changes nothing, and the parts are those that a simple reader finds.
//!
//! Input: a byte that says how to cut, the boundary, a line feed, the body.

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use isocenter::error::{Error, ErrorKind};
use isocenter::http::multipart::{Limits, Multipart, PartHeaders};
use memchr::memmem::find;

type Parts = (Vec<(PartHeaders, Vec<u8>)>, Option<ErrorKind>);

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((seed, rest)) = super::first(data) else { return };
    let (boundary, body) = super::line(rest);
    let Ok(boundary) = std::str::from_utf8(boundary) else { return };
    let content_type = format!("multipart/related; boundary=\"{boundary}\"");
    let Some(whole) = read(&content_type, &[body]) else { return };
    for cut in [1, seed] {
        let again = read(&content_type, &super::chunks(cut, body));
        assert_eq!(again.as_ref(), Some(&whole), "cut by {cut}");
    }
    // a boundary that a quoted string changes is not compared
    if boundary.is_empty()
        || boundary.bytes().any(|byte| matches!(byte, b'"' | b'\\'))
        || boundary.trim_end() != boundary
    {
        return;
    }
    let simple = simple(boundary, body);
    match (&whole.1, simple) {
        (None, Some(parts)) => {
            let found: Vec<&[u8]> = whole.0.iter().map(|(_, body)| &body[..]).collect();
            assert_eq!(found, parts);
        }
        (Some(_), None) => {}
        (found, simple) => panic!("{found:?}, but a simple reader finds {simple:?}"),
    }
}

/// All parts up to the end or an error; `None` for a boundary that is none.
fn read(content_type: &str, chunks: &[&[u8]]) -> Option<Parts> {
    let body = stream::iter(chunks.iter().map(|chunk| Ok::<_, Error>(Bytes::copy_from_slice(chunk))));
    let mut multipart = Multipart::new(content_type, body).ok()?;
    let mut parts = Vec::new();
    let mut read = async || -> Result<(), Error> {
        while let Some(mut part) = multipart.next_part().await? {
            let at = parts.len();
            parts.push((part.headers().clone(), Vec::new()));
            while let Some(chunk) = part.next_chunk().await? {
                assert!(!chunk.is_empty(), "an empty chunk");
                parts[at].1.extend_from_slice(&chunk);
            }
        }
        Ok(())
    };
    let ended = read().now_or_never().expect("nothing to wait for");
    if ended.is_err() {
        // how much of a part came before the error is nobody's business
        parts.clear();
    }
    Some((parts, ended.err().map(|error| error.kind())))
}

/// What follows the text of a delimiter.
enum Tail {
    /// A part, after so many bytes; the line ended in LF alone.
    Part(usize, bool),
    Close,
    Data,
    Truncated,
}

/// The same rules over a body that lies there whole; `None` when it is refused.
fn simple<'a>(boundary: &str, body: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let limits = Limits::default();
    let mut parts = Vec::new();
    if body.is_empty() {
        return Some(parts);
    }
    let delimiter = format!("--{boundary}");
    let mut at = 0;
    let bare = loop {
        if let Some(after) = body[at..].strip_prefix(delimiter.as_bytes()) {
            match tail(after, true) {
                Tail::Part(length, bare) => {
                    at += delimiter.len() + length;
                    break bare;
                }
                Tail::Close => return Some(parts),
                Tail::Truncated => return None,
                Tail::Data => {}
            }
        }
        at += find(&body[at..], b"\n")? + 1;
        if at > limits.preamble_bytes {
            return None;
        }
    };
    let between = if bare { format!("\n{delimiter}") } else { format!("\r\n{delimiter}") };
    loop {
        at += headers(&body[at..], limits)?;
        let (data, length, more) = data(&body[at..], &delimiter, &between, bare)?;
        parts.push(data);
        if !more {
            return Some(parts);
        }
        at += length;
    }
}

/// Bytes of the headers of a part with the empty line.
fn headers(bytes: &[u8], limits: Limits) -> Option<usize> {
    let (mut at, mut count) = (0, 0);
    loop {
        let end = find(&bytes[at..], b"\n")?;
        let line = &bytes[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += end + 1;
        if at > limits.header_bytes {
            return None;
        }
        if line.is_empty() {
            return Some(at);
        }
        if count > 0 && matches!(line[0], b' ' | b'\t') {
            continue;
        }
        count += 1;
        if !line.contains(&b':') || count > limits.headers {
            return None;
        }
    }
}

/// The data of a part, where the next one begins, and whether there is one.
fn data<'a>(bytes: &'a [u8], delimiter: &str, between: &str, bare: bool) -> Option<(&'a [u8], usize, bool)> {
    let empty = bytes.strip_prefix(delimiter.as_bytes()).map(|after| (tail(after, bare), delimiter.len()));
    match empty {
        Some((Tail::Part(length, _), start)) => return Some((&[], start + length, true)),
        Some((Tail::Close, _)) => return Some((&[], 0, false)),
        Some((Tail::Truncated, _)) => return None,
        Some((Tail::Data, _)) | None => {}
    }
    let mut from = 0;
    loop {
        let found = from + find(&bytes[from..], between.as_bytes())?;
        match tail(&bytes[found + between.len()..], bare) {
            Tail::Part(length, _) => return Some((&bytes[..found], found + between.len() + length, true)),
            Tail::Close => return Some((&bytes[..found], 0, false)),
            Tail::Truncated => return None,
            Tail::Data => from = found + 1,
        }
    }
}

fn tail(after: &[u8], bare: bool) -> Tail {
    if let Some(after) = after.strip_prefix(b"--") {
        return match after.first() {
            None | Some(b' ' | b'\t' | b'\r' | b'\n') => Tail::Close,
            Some(_) => Tail::Data,
        };
    }
    let padding = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if padding > 256 {
        return Tail::Data;
    }
    match &after[padding..] {
        [b'\r', b'\n', ..] => Tail::Part(padding + 2, false),
        [b'\n', ..] if bare => Tail::Part(padding + 1, true),
        [] | [b'\r'] => Tail::Truncated,
        [b'-'] if padding == 0 => Tail::Truncated,
        _ => Tail::Data,
    }
}
