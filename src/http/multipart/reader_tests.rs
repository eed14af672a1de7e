//! Bodies as clients send them, whole and in pieces.

use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_assume, proptest};

use super::*;

type Collected = Vec<(Vec<(String, String)>, Vec<u8>)>;

fn chunks(body: &[u8], size: usize) -> Vec<Result<Bytes>> {
    body.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

fn read(content_type: &str, pieces: Vec<Result<Bytes>>) -> Result<Collected> {
    let run = async {
        let mut multipart = Multipart::new(content_type, stream::iter(pieces))?;
        let mut parts = Vec::new();
        while let Some(mut part) = multipart.next_part().await? {
            let mut data = Vec::new();
            while let Some(chunk) = part.next_chunk().await? {
                assert!(!chunk.is_empty());
                data.extend_from_slice(&chunk);
            }
            parts.push((part.headers().fields.clone(), data));
        }
        assert_eq!(multipart.parts(), parts.len() as u64);
        Ok(parts)
    };
    run.now_or_never().expect("the body is there at once")
}

const TYPE: &str = "multipart/related; type=application/dicom; boundary=b0";

/// Reads a body in chunks of every size; all must agree.
fn read_all_ways(content_type: &str, body: &[u8]) -> Result<Collected, String> {
    let whole = read(content_type, vec![Ok(Bytes::copy_from_slice(body))]).map_err(|error| error.to_string());
    for size in 1..=body.len().max(1) {
        let pieces = read(content_type, chunks(body, size)).map_err(|error| error.to_string());
        assert_eq!(pieces, whole, "chunks of {size}");
    }
    whole
}

fn data(body: &str) -> Result<Vec<String>, String> {
    data_of(TYPE, body)
}

fn data_of(content_type: &str, body: &str) -> Result<Vec<String>, String> {
    let parts = read_all_ways(content_type, body.as_bytes())?;
    Ok(parts.into_iter().map(|(_, data)| String::from_utf8_lossy(&data).into_owned()).collect())
}

#[test]
fn bodies_are_read_as_clients_write_them() {
    let cases: &[(&str, &[&str])] = &[
        ("--b0\r\nContent-Type: application/dicom\r\n\r\none\r\n--b0--\r\n", &["one"]),
        ("--b0\r\nA: b\r\n\r\none\r\n--b0\r\nA: b\r\n\r\ntwo\r\n--b0--", &["one", "two"]),
        // A preamble, and an epilogue that looks like a part.
        ("This is MIME.\r\n--b0\r\n\r\none\r\n--b0--\r\nbye\r\n--b0\r\n\r\nno", &["one"]),
        ("\r\n--b0\r\n\r\none\r\n--b0--", &["one"]),
        ("\r\n\r\n--b0\r\n\r\none\r\n--b0--", &["one"]),
        ("--b0x\r\n--b0\r\n\r\none\r\n--b0--", &["one"]),
        // Parts without headers.
        ("--b0\r\n\r\none\r\n--b0\r\n\r\ntwo\r\n--b0--", &["one", "two"]),
        // Empty parts, with the line end of the delimiter and without.
        ("--b0\r\nA: b\r\n\r\n\r\n--b0--", &[""]),
        ("--b0\r\nA: b\r\n\r\n--b0\r\n\r\n\r\n--b0\r\n\r\n--b0--", &["", "", ""]),
        // Transport padding.
        ("--b0 \t \r\n\r\none\r\n--b0  \r\n\r\ntwo\r\n--b0-- \r\n", &["one", "two"]),
        // Data that looks like a delimiter.
        (
            "--b0\r\n\r\none\r\n--b0X\r\n--b\r\n--b0-\r\n--b0--x\r\n--b0\rno\r\n--b0--",
            &["one\r\n--b0X\r\n--b\r\n--b0-\r\n--b0--x\r\n--b0\rno"],
        ),
        ("--b0\r\n\r\n--b0X\r\n--b0--", &["--b0X"]),
        ("--b0\r\n\r\n\r\r\n\r\n\r\n--b0--", &["\r\r\n\r\n"]),
        ("--b0\r\n\r\none\n--b0\n\r\n--b0--", &["one\n--b0\n"]),
        // Line ends of LF alone.
        ("--b0\nA: b\n\none\r\n--b0\n\ntwo\n--b0--\n", &["one\r", "two"]),
        ("--b0\n\none\n--b0--", &["one"]),
        // No part at all.
        ("--b0--\r\n", &[]),
        ("--b0--", &[]),
        ("", &[]),
    ];
    for (body, expected) in cases {
        let expected = expected.iter().map(|&part| part.to_owned()).collect();
        assert_eq!(data(body), Ok(expected), "{body:?}");
    }
}

#[test]
fn broken_bodies_are_refused() {
    let cases = [
        ("--b0\r\n\r\none", "truncated"),
        ("--b0\r\n\r\none\r\n", "truncated"),
        ("--b0\r\n\r\none\r\n--b0", "truncated"),
        ("--b0\r\n\r\none\r\n--b0-", "truncated"),
        ("--b0\r\n\r\none\r\n--b0\r\n", "truncated"),
        ("--b0\r\nA: b\r\n", "truncated"),
        ("--b0\r\n", "truncated"),
        ("--b0", "no delimiter"),
        ("one", "no delimiter"),
        ("--other\r\n\r\none\r\n--other--", "no delimiter"),
        ("--b0\r\nno colon\r\n\r\none\r\n--b0--", "without a colon"),
    ];
    for (body, expected) in cases {
        let error = data(body).expect_err(body);
        assert!(error.contains(expected), "{body:?}: {error}");
    }
}

#[test]
fn boundaries_are_read_in_every_spelling() {
    let body = |boundary: &str| format!("--{boundary}\r\n\r\none\r\n--{boundary}--");
    let long = "x".repeat(200);
    let accepted = [
        ("multipart/related; boundary=abc".to_owned(), "abc"),
        ("Multipart/Related; TYPE=\"application/dicom\"; BOUNDARY=\"abc\"".to_owned(), "abc"),
        ("multipart/related;type=application/dicom;boundary=----=_Part_1_2.3;start=x".to_owned(), "----=_Part_1_2.3"),
        ("multipart/related; boundary=\"a b'()+_,-./:=?c\"".to_owned(), "a b'()+_,-./:=?c"),
        ("multipart/related; boundary=a:b=c?d".to_owned(), "a:b=c?d"),
        ("multipart/mixed; boundary=abc".to_owned(), "abc"),
        (format!("multipart/related; boundary={long}"), long.as_str()),
    ];
    for (content_type, boundary) in accepted {
        assert_eq!(data_of(&content_type, &body(boundary)), Ok(vec!["one".to_owned()]), "{content_type}");
    }
    let refused = [
        ("application/dicom", ErrorKind::UnsupportedMediaType),
        ("", ErrorKind::UnsupportedMediaType),
        ("multipart/related; type=\"application/dicom\"", ErrorKind::BadRequest),
        ("multipart/related; boundary=\"\"", ErrorKind::BadRequest),
        ("multipart/related; boundary=\"a\u{e9}\"", ErrorKind::BadRequest),
        (&format!("multipart/related; boundary={long}{long}"), ErrorKind::BadRequest),
    ];
    for (content_type, kind) in refused {
        let error = read(content_type, Vec::new()).expect_err(content_type);
        assert_eq!(error.kind(), kind, "{content_type}");
    }
}

#[test]
fn part_headers_are_read_in_any_case() {
    let body = b"--b0\r\ncontent-type: application/dicom; transfer-syntax=1.2\r\nX-Long: a\r\n\tb\r\nCONTENT-LOCATION:/x\r\n\r\n\r\n--b0--";
    let parts = read_all_ways(TYPE, body).unwrap();
    let headers = PartHeaders { fields: parts[0].0.clone() };
    assert_eq!(headers.len(), 3);
    assert_eq!(headers.content_type().unwrap().parameter("transfer-syntax"), Some("1.2"));
    assert_eq!(headers.get("x-long"), Some("a b"));
    assert_eq!(headers.content_location(), Some("/x"));
}

#[test]
fn headers_and_preambles_over_the_limits_are_refused() {
    let many = "H: x\r\n".repeat(65);
    let long = format!("H: {}\r\n", "x".repeat(17 << 10));
    for headers in [many, long.clone(), long.trim_end().to_owned()] {
        let body = format!("--b0\r\n{headers}\r\none\r\n--b0--");
        for size in [1 << 20, 4096, 100] {
            let error = read(TYPE, chunks(body.as_bytes(), size)).expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
    }
    let endless = stream::repeat_with(|| Ok::<_, Error>(Bytes::from_static(&[b'-'; 1000])));
    let mut multipart = Multipart::new(TYPE, endless).unwrap();
    let error = multipart.next_part().now_or_never().unwrap().err().expect("an endless preamble");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
}

#[test]
fn an_error_of_the_body_ends_the_reading() {
    let pieces = vec![
        Ok(Bytes::from_static(b"--b0\r\n\r\none")),
        Err(Error::new(ErrorKind::ClientGone, "the client went away")),
        Ok(Bytes::from_static(b"\r\n--b0--")),
    ];
    assert_eq!(read(TYPE, pieces).expect_err("the client went away").kind(), ErrorKind::ClientGone);
}

#[test]
fn dropping_a_part_goes_on_with_the_next_one() {
    let body = b"--b0\r\n\r\none\r\n--b0\r\nA: b\r\n\r\ntwo\r\n--b0--";
    for size in 1..body.len() {
        let run = async {
            let mut multipart = Multipart::new(TYPE, stream::iter(chunks(body, size))).unwrap();
            assert!(multipart.next_part().await.unwrap().unwrap().headers().is_empty());
            let part = multipart.next_part().await.unwrap().unwrap();
            let rest: Vec<_> = part.map(Result::unwrap).collect().await;
            assert_eq!(rest.concat(), b"two");
        };
        run.now_or_never().unwrap();
    }
}

#[test]
fn data_is_handed_out_without_a_copy() {
    let mut body = b"--b0\r\n\r\n".to_vec();
    body.resize(100_000, b'x');
    let chunk = Bytes::from(body);
    let range = chunk.as_ptr_range();
    let mut multipart = Multipart::new(TYPE, stream::iter([Ok::<_, Error>(chunk.clone())])).unwrap();
    let run = async { multipart.next_part().await.unwrap().unwrap().next_chunk().await.unwrap().unwrap() };
    let data = run.now_or_never().unwrap();
    assert!(range.contains(&data.as_ptr()));
    assert_eq!(data.len(), 100_000 - 8);
}

fn part_data() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::prop_oneof![
        Just(b"\r\n--b0".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"--b0".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"-".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

use proptest::strategy::Just;

proptest! {
    #[test]
    fn any_chunking_gives_identical_parts(parts in prop::collection::vec(part_data(), 0..5), sizes in prop::collection::vec(1usize..30, 1..40)) {
        let line = b"\r\n--b0";
        // A line of the data that is a delimiter would be one.
        for part in &parts {
            let framed = [b"\r\n", part.as_slice(), b"\r"].concat();
            let mut ends = memchr::memmem::find_iter(&framed, line).map(|at| &framed[at + line.len()..]);
            prop_assume!(!ends.any(|end| tail(end, false) != Tail::Data));
        }
        let mut body = Vec::new();
        for part in &parts {
            body.extend_from_slice(b"--b0\r\nContent-Type: application/dicom\r\n\r\n");
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b0--\r\n");
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(Ok(Bytes::copy_from_slice(piece)));
            rest = after;
        }
        let found: Vec<_> = read(TYPE, pieces).unwrap().into_iter().map(|(_, data)| data).collect();
        prop_assert_eq!(found, parts);
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in prop::collection::vec(proptest::prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), Just(b'0'), Just(b':'), any::<u8>()], 0..200), size in 1usize..20) {
        let whole = read(TYPE, vec![Ok(Bytes::from(body.clone()))]).map_err(|error| error.to_string());
        let pieces = read(TYPE, chunks(&body, size)).map_err(|error| error.to_string());
        prop_assert_eq!(whole, pieces);
    }
}
