//! What URLs name: studies, series, instances, frames, bulk data, versions. Everything else is refused with 400 and its reason.
//!
//! UIDs are decoded once, then checked; what comes out of here is safe to use as a key.

use std::borrow::Cow;

use actix_web::HttpRequest;

use crate::dicom::bulk::BulkPath;
use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, SeriesUid, StudyUid, UidError};
use crate::error::{Error, Result};

/// Names of the path parameters in route patterns.
pub const STUDY: &str = "study";
/// See [`STUDY`].
pub const SERIES: &str = "series";
/// See [`STUDY`].
pub const INSTANCE: &str = "instance";
/// The frame list.
pub const FRAMES: &str = "frames";
/// What follows `bulkdata/`.
pub const BULK_DATA: &str = "bulkdata";

/// Most frames in one list.
const MOST_FRAMES: usize = 10_000;

/// The study of a URL.
pub fn study(request: &HttpRequest) -> Result<StudyUid> {
    parse_uid(STUDY, parameter(request, STUDY), StudyUid::parse)
}

/// The study and series of a URL.
pub fn series(request: &HttpRequest) -> Result<(StudyUid, SeriesUid)> {
    Ok((study(request)?, parse_uid(SERIES, parameter(request, SERIES), SeriesUid::parse)?))
}

/// The instance of a URL with its study and series.
pub fn instance(request: &HttpRequest) -> Result<InstanceKey> {
    let (study, series) = series(request)?;
    let instance = parse_uid(INSTANCE, parameter(request, INSTANCE), InstanceUid::parse)?;
    Ok(InstanceKey { study, series, instance })
}

/// The study, series or instance of a URL, as deep as its pattern goes.
pub fn scope(request: &HttpRequest) -> Result<Scope> {
    let path = request.match_info();
    if path.get(INSTANCE).is_some() {
        return instance(request).map(Scope::Instance);
    }
    if path.get(SERIES).is_some() {
        let (study, series) = series(request)?;
        return Ok(Scope::Series(study, series));
    }
    study(request).map(Scope::Study)
}

/// The version of the instance that a URL asks for by `v`, if it does.
pub fn version(request: &HttpRequest) -> Result<Option<u32>> {
    let Some(text) = single(request.query_string(), "v")? else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number > 0);
    let refused = || Error::bad_request(format!("the version `{}` of `v` must be a number from 1 on", shown(&text)));
    number.map(Some).ok_or_else(refused)
}

/// The value of a query parameter that may be given once; `None` when it is not given.
///
/// # Errors
/// It is given more than once, so that nobody knows which one is meant, or it cannot be decoded.
pub fn single<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>> {
    let mut given = None;
    for pair in query.split('&') {
        let (raw, value) = pair.split_once('=').unwrap_or((pair, ""));
        if form_decode(raw).is_some_and(|decoded| decoded == name) && given.replace(value).is_some() {
            return Err(Error::bad_request(format!("parameter `{name}` may be given only once")));
        }
    }
    let refused =
        || Error::bad_request(format!("parameter `{name}` must be percent-encoded UTF-8 without NUL characters"));
    given.map(|value| form_decode(value).ok_or_else(refused)).transpose()
}

/// The frame numbers of a URL.
pub fn frames(request: &HttpRequest) -> Result<Vec<u32>> {
    frame_list(parameter(request, FRAMES))
}

/// The bulk data value of a URL.
pub fn bulk_data(request: &HttpRequest) -> Result<BulkPath> {
    let raw = parameter(request, BULK_DATA);
    BulkPath::parse(&percent_decode(raw).unwrap_or(Cow::Borrowed(raw)))
}

fn parameter<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    request.match_info().get(name).unwrap_or_default()
}

fn parse_uid<T>(name: &str, raw: &str, parse: fn(&str) -> Result<T, UidError>) -> Result<T> {
    let text = percent_decode(raw).unwrap_or(Cow::Borrowed(raw));
    parse(&text).map_err(|reason| {
        let shown = shown(&text);
        Error::bad_request(format!("the {name} `{shown}` {reason}; it must be a UID of 1 to 64 digits and dots"))
    })
}

/// A refused text as it may be shown: short, and nothing but ASCII that shows.
fn shown(text: &str) -> String {
    let clean = |character: char| if character.is_ascii_graphic() && character != '`' { character } else { '?' };
    let mut shown: String = text.chars().take(80).map(clean).collect();
    if shown.len() < text.len() && text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// Decodes `%XX` once; `None` when the result is not UTF-8. A `%` without two digits stays.
#[must_use]
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digits = after.split_first_chunk().filter(|_| first == b'%');
        match digits.and_then(|(&[high, low], tail)| Some((hex(high)? << 4 | hex(low)?, tail))) {
            Some((byte, tail)) => {
                bytes.push(byte);
                rest = tail;
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Undoes the percent-encoding of a query string, once and strictly; `+` is a space, as forms send it.
#[must_use]
pub fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+' | 0)) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    if bytes.contains(&0) {
        return None;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Reads a list of frame numbers in the order given: whole numbers from 1, each once (PS3.18 10.4.1.1.6).
pub fn frame_list(raw: &str) -> Result<Vec<u32>> {
    let text = percent_decode(raw).unwrap_or(Cow::Borrowed(raw));
    let mut frames = Vec::new();
    for piece in text.split(',') {
        if frames.len() == MOST_FRAMES {
            return Err(Error::bad_request(format!("the frame list has more than {MOST_FRAMES} numbers")));
        }
        let digits = !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_digit());
        let number = piece.parse::<u32>().ok().filter(|&number| digits && number > 0).ok_or_else(|| {
            Error::bad_request(format!(
                "the frame list has `{}`; it must be whole numbers from 1 with commas between",
                shown(piece)
            ))
        })?;
        frames.push(number);
    }
    let mut sorted = frames.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Error::bad_request(format!("the frame list has frame `{}` twice", twice[0]))),
        None => Ok(frames),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn frame_lists_keep_their_order_and_refuse_what_is_no_frame() {
        assert_eq!(frame_list("1").unwrap(), [1]);
        assert_eq!(frame_list("3,1,2").unwrap(), [3, 1, 2]);
        assert_eq!(frame_list("1%2C2%2c5").unwrap(), [1, 2, 5]);
        assert_eq!(frame_list("007").unwrap(), [7]);
        let many = (1..=10_001).map(|n: u32| n.to_string()).collect::<Vec<_>>().join(",");
        for bad in ["", "0", "-1", "+1", "x", "1,", ",1", "1,,2", "1,1", "1 2", "4294967296", "1.0", "%", "%FF", &many]
        {
            assert_eq!(frame_list(bad).expect_err(bad).kind(), ErrorKind::BadRequest, "{bad}");
        }
    }

    #[test]
    fn uids_of_urls_are_decoded_once_and_checked() {
        let request = |study: &'static str| TestRequest::default().param(STUDY, study).to_http_request();
        for (raw, expected) in [("1.2.3", "1.2.3"), ("1%2E2", "1.2"), ("1.02", "1.02")] {
            assert_eq!(study(&request(raw)).unwrap().as_str(), expected);
        }
        for bad in ["", "1.2.", "a", "1%2F2", "1%252E2", "1 ", "..", "%00", "%FF", "1.2\\1.3"] {
            let error = study(&request(bad)).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(error.message().is_ascii() && !error.message().contains('\0'), "{error}");
        }
    }

    #[test]
    fn a_parameter_that_may_be_given_once_is_refused_twice_and_found_wherever_it_stands() {
        for (query, expected) in [
            ("", None),
            ("x=1&vv=2&V=3", None),
            ("v=2", Some("2")),
            ("&x=1&v=a%20b+c&&", Some("a b c")),
            ("%76=2", Some("2")),
            ("v", Some("")),
            ("v=1=2", Some("1=2")),
        ] {
            assert_eq!(single(query, "v").unwrap().as_deref(), expected, "{query}");
        }
        for query in ["v=1&v=1", "v=1&x=2&%76=1", "v&v", "v=%", "v=%zz", "v=%ff", "v=%00"] {
            let error = single(query, "v").expect_err(query);
            assert!(error.kind() == ErrorKind::BadRequest && error.message().contains("`v`"), "{query}: {error}");
        }
    }

    #[test]
    fn a_url_names_the_level_that_its_pattern_has() {
        let request = TestRequest::default().param(STUDY, "1").to_http_request();
        assert_eq!(scope(&request).unwrap(), Scope::Study(StudyUid::parse("1").unwrap()));
        let request = TestRequest::default().param(STUDY, "1").param(SERIES, "2").to_http_request();
        assert!(matches!(scope(&request).unwrap(), Scope::Series(..)));
        let request =
            TestRequest::default().param(STUDY, "1").param(SERIES, "2").param(INSTANCE, "3").to_http_request();
        let Scope::Instance(key) = scope(&request).unwrap() else { panic!("an instance") };
        assert_eq!((key.study.as_str(), key.series.as_str(), key.instance.as_str()), ("1", "2", "3"));
    }
}
