//! WADO-RS of whole instances, series and studies: bytes, parts, headers, and what is refused.

use dicom_core::VR;

use crate::support::binary::Answer;
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::server::{TestServer, on_both_stacks};
use crate::support::trees::{self, File};

const AS_STORED: &str = "application/dicom; transfer-syntax=*";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const JPEG: &str = "1.2.840.10008.1.2.4.50";

on_both_stacks!(
    an_instance_leaves_as_stored_or_in_explicit_little_endian,
    accept_headers_of_clients_in_use_are_understood,
    the_accept_parameter_decides_for_every_resource,
    a_series_and_a_study_leave_as_parts_with_their_headers,
    what_is_not_there_or_cannot_be_made_is_refused_by_its_status,
    head_has_the_headers_of_get,
);

fn ct(number: u32) -> Elements {
    let code =
        Elements::default().text(0x0008, 0x0100, VR::SH, "code").with(0x0009, 0x1010, VR::UN, Value::Bytes(vec![1, 2]));
    Elements::ct("1.2", "1.2.3", &format!("1.2.3.{number}"))
        .text(0x0009, 0x0010, VR::LO, "PRIVATE")
        .with(0x0009, 0x1011, VR::OB, Value::Bytes(vec![5; 5001]))
        .with(0x0008, 0x1140, VR::SQ, Value::Items(vec![code.clone(), Elements::default()], true))
        .with(0x0040, 0x0275, VR::SQ, Value::Items(vec![code], false))
        .with(0x0028, 0x1201, VR::OW, Value::Words((0..2000).collect()))
        .with(0x0018, 0x9219, VR::SL, Value::Longs(vec![1, 2, 3]))
}

fn path(number: u32) -> String {
    format!("/studies/1.2/series/1.2.3/instances/1.2.3.{number}")
}

async fn an_instance_leaves_as_stored_or_in_explicit_little_endian(server: TestServer) {
    let jpeg = ct(6).encapsulated(&[&[1; 30], &[2; 31], &[3; 9999]]);
    let explicit = ct(1);
    for (what, number, sent, as_stored, native) in [
        ("explicit", 1, explicit.part10(Syntax::Explicit), EXPLICIT, EXPLICIT),
        ("implicit", 2, ct(2).part10(Syntax::Implicit), EXPLICIT, EXPLICIT),
        ("big endian", 3, ct(3).part10(Syntax::BigEndian), EXPLICIT, EXPLICIT),
        ("deflated", 4, ct(4).part10(Syntax::Deflated), DEFLATED, EXPLICIT),
        ("encapsulated", 6, jpeg.part10(Syntax::JPEG), JPEG, JPEG),
        ("without preamble", 7, ct(7).without_preamble(Syntax::Explicit), EXPLICIT, EXPLICIT),
        ("bare implicit", 8, ct(8).dataset(Syntax::Implicit), EXPLICIT, EXPLICIT),
        ("bare explicit", 9, ct(9).dataset(Syntax::Explicit), EXPLICIT, EXPLICIT),
        ("implicit without preamble", 10, ct(10).without_preamble(Syntax::Implicit), EXPLICIT, EXPLICIT),
    ] {
        assert_eq!(server.store(&[&sent]).await.status, 200, "{what}");
        for (accept, syntax) in [(AS_STORED, as_stored), ("application/dicom", native)] {
            let answer = server.read(&path(number), accept).await;
            assert_eq!(answer.status, 200, "{what}, {accept}: {}", answer.text());
            assert_eq!(answer.content_type, format!("application/dicom; transfer-syntax={syntax}"), "{what}");
            let unchanged = matches!(what, "explicit" | "encapsulated") || syntax == DEFLATED;
            assert_eq!(answer.body == sent, unchanged, "{what}, {accept}");
            assert_says_the_same(what, &sent, &answer, syntax);
        }
    }
}

fn assert_says_the_same(what: &str, sent: &[u8], answer: &Answer, syntax: &str) {
    assert!(answer.body[..128].iter().all(|byte| *byte == 0) && &answer.body[128..132] == b"DICM", "{what}");
    let got = File::read(&answer.body).unwrap();
    assert_eq!(got.header.transfer_syntax.as_str(), syntax, "{what}");
    let meta = got.header.meta.sop_instance.as_deref().unwrap();
    assert_eq!(meta, got.header.identity().unwrap().key.instance.as_str(), "{what}");
    assert_eq!(trees::difference(&File::read(sent).unwrap(), &got), None, "{what}");
}

async fn accept_headers_of_clients_in_use_are_understood(server: TestServer) {
    let (native, jpeg) = (ct(1).part10(Syntax::Explicit), ct(6).encapsulated(&[&[1; 30]]).part10(Syntax::JPEG));
    assert_eq!(server.store(&[&native, &jpeg]).await.status, 200);
    let dicom = |parameters: &str| format!("multipart/related; type=\"application/dicom\"{parameters}");
    for (accept, parts) in [
        ("multipart/related; type=\"application/dicom\"", true),
        ("multipart/related; type=application/dicom", true),
        ("Multipart/Related;TYPE=\"Application/DICOM\"", true),
        ("multipart/related; type=\"application/dicom\"; transfer-syntax=*", true),
        ("multipart/related; type=\"application/dicom\"; transfer-syntax=\"*\"", true),
        // dicomweb-client, Python and JavaScript
        (
            "multipart/related; type=\"application/dicom\"; transfer-syntax=*, multipart/related; type=\"application/dicom\"",
            true,
        ),
        ("multipart/related; type=\"application/dicom\";, */*;q=0.1", true),
        ("*/*", true),
        ("multipart/related", true),
        ("", true),
        ("application/dicom", false),
        ("application/dicom; transfer-syntax=*", false),
        ("multipart/related; type=\"application/dicom\";q=0.5, application/dicom", false),
        ("image/jpeg, application/dicom;q=0.1", false),
    ] {
        for (number, sent) in [(1, &native), (6, &jpeg)] {
            let answer = server.read(&path(number), accept).await;
            assert_eq!(answer.status, 200, "{accept}");
            assert_eq!(
                answer.content_type.starts_with("multipart/related; type=\"application/dicom\"; boundary="),
                parts,
                "{accept}"
            );
            let body = if parts { answer.parts().remove(0).body } else { answer.body };
            assert!(body == *sent, "{accept}");
        }
    }
    for (accept, number, status) in [
        (dicom("; transfer-syntax=1.2.840.10008.1.2.1"), 1, 200),
        (dicom("; transfer-syntax=\"1.2.840.10008.1.2.1\""), 1, 200),
        (dicom(&format!("; transfer-syntax={JPEG}")), 6, 200),
        (dicom(&format!("; transfer-syntax={JPEG}")), 1, 406),
        (dicom("; transfer-syntax=1.2.840.10008.1.2.1"), 6, 406),
        // never leaves the server
        (dicom("; transfer-syntax=1.2.840.10008.1.2"), 1, 406),
        (dicom(";q=0"), 1, 406),
        ("application/dicom+json".to_owned(), 1, 406),
        ("image/jpeg".to_owned(), 1, 406),
        ("application/dicom;q=0, multipart/related; type=\"application/dicom\";q=0".to_owned(), 1, 406),
    ] {
        let answer = server.read(&path(number), &accept).await;
        assert_eq!(answer.status, status, "{accept}, instance {number}");
        assert!(status == 200 || answer.text().contains("application/dicom"), "406 lists what there is");
    }
}

async fn the_accept_parameter_decides_for_every_resource(server: TestServer) {
    let jpeg = ct(6).encapsulated(&[&[1; 30], &[2; 31]]).part10(Syntax::JPEG);
    assert_eq!(server.store(&[ct(1).part10(Syntax::Explicit), jpeg]).await.status, 200);
    let (native, jpeg) = (path(1), path(6));
    // what it can be, an unusual form of it, and something else that other resources can be
    for (path, fits, other) in [
        ("/studies/1.2".to_owned(), "multipart/related;type=application/dicom", "application/dicom"),
        ("/studies/1.2/series/1.2.3".to_owned(), "multipart/related;%20type=%22application/dicom%22", "image/jpeg"),
        (native.clone(), "application/dicom", "image/png"),
        (format!("{native}/metadata"), "application/dicom+json", "application/dicom%2Bxml"),
        ("/studies/1.2/series/1.2.3/metadata".to_owned(), "application/json", "application/dicom"),
        ("/studies/1.2/metadata".to_owned(), "application/dicom%20json", "text/html"),
        ("/studies".to_owned(), "application/dicom%2Bjson", "application/dicom%2Bxml"),
        ("/studies/1.2/series".to_owned(), "application/dicom%2bjson", "image/png"),
        ("/studies/1.2/instances".to_owned(), "image/png,application/json;q=0.1", "image/png"),
        (format!("{native}/frames/1"), "application/octet-stream", "image/jpeg"),
        (format!("{jpeg}/frames/1"), "image/jpeg;transfer-syntax=*", "image/jls"),
        (format!("{jpeg}/frames/1,2"), "multipart/related;type=image/jpeg", "image/jpeg"),
        (format!("{jpeg}/bulkdata/7FE00010"), "multipart/related;type=image/jpeg", "application/dicom"),
        (format!("{native}/bulkdata/7FE00010"), "application/octet-stream", "application/pdf"),
    ] {
        // it stands for the header, which pages often cannot choose
        for header in ["*/*", "text/html", ""] {
            for (accept, status) in [
                (fits, 200),
                (other, 406),
                (&format!("{fits},{other}"), 200),
                ("no-media-type", 400),
                (&format!("{fits},no-media-type"), 400),
                ("image/png;transfer-syntax=1.2.x", 400),
                ("%ff", 400),
                ("%zz", 400),
                (&format!("{fits}&accept={fits}"), 400),
            ] {
                let answer = server.read(&format!("{path}?accept={accept}"), header).await;
                let what = format!("{path}?accept={accept}, `{header}`: {}", answer.text());
                assert_eq!(answer.status, status, "{what}");
                assert!(status != 400 || answer.text().contains("`accept`"), "{what}");
                assert!(status != 406 || answer.text().contains("there is `"), "{what}");
            }
        }
        let empty = server.read(&format!("{path}?accept="), "*/*").await;
        assert_eq!(empty.status, 200, "{path}: an empty one asks for nothing");
    }
}

async fn a_series_and_a_study_leave_as_parts_with_their_headers(server: TestServer) {
    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    for number in 1..=5_u32 {
        let series = format!("1.2.{}", number % 2);
        let uid = format!("1.2.3.{number}");
        let file = Elements::ct("1.2", &series, &uid).text(0x0020, 0x0013, VR::IS, &number.to_string());
        sent.push((format!("/studies/1.2/series/{series}/instances/{uid}"), file.part10(Syntax::Explicit)));
    }
    let elsewhere = Elements::ct("1.9", "1.9.1", "1.9.1.1").part10(Syntax::Explicit);
    let files: Vec<&[u8]> = sent.iter().map(|(_, file)| file.as_slice()).chain([elsewhere.as_slice()]).collect();
    assert_eq!(server.store(&files).await.status, 200);
    for (scope, expected) in [
        ("/studies/1.2", vec![1, 3, 0, 2, 4]),
        ("/studies/1.2/series/1.2.1", vec![0, 2, 4]),
        ("/studies/1.2/series/1.2.0", vec![1, 3]),
    ] {
        let answer = server.read(scope, "multipart/related; type=\"application/dicom\"; transfer-syntax=*").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        assert_multipart(&answer);
        let mut parts = answer.parts();
        parts.sort_by_key(|part| part.header("Content-Location").unwrap().to_owned());
        let mut wanted: Vec<_> = expected.iter().map(|&n: &usize| &sent[n]).collect();
        wanted.sort();
        assert_eq!(parts.len(), wanted.len(), "{scope}");
        for (part, (path, file)) in parts.iter().zip(wanted) {
            assert_eq!(part.headers[0], format!("Content-Type: application/dicom; transfer-syntax={EXPLICIT}"));
            assert_eq!(part.header("Content-Length"), Some(file.len().to_string().as_str()));
            assert_eq!(part.header("Content-Location"), Some(format!("{}{path}", server.root()).as_str()));
            assert!(part.body == *file, "{path}");
        }
    }
    // more than one instance has no single part
    assert_eq!(server.read("/studies/1.2", "application/dicom").await.status, 406);
}

/// The rules for boundaries (RFC 2046 5.1.1, PS3.18 8.6.1.2).
fn assert_multipart(answer: &Answer) {
    let boundary = answer.content_type.split("boundary=").nth(1).unwrap();
    assert!(boundary.len() <= 70 && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    assert!(answer.body.starts_with(format!("--{boundary}\r\nContent-Type: ").as_bytes()));
    assert!(answer.body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()));
}

async fn what_is_not_there_or_cannot_be_made_is_refused_by_its_status(server: TestServer) {
    assert_eq!(server.store(&[ct(1).part10(Syntax::Explicit)]).await.status, 200);
    for (path, status) in [
        ("/studies/1.3", 404),
        ("/studies/1.2/series/1.2.4", 404),
        ("/studies/1.2/series/1.2.3/instances/1.2.3.2", 404),
        ("/studies/1.3/series/1.2.3/instances/1.2.3.1", 404),
        ("/studies/1.2/series/1.2.4/instances/1.2.3.1", 404),
        ("/studies/1.2/unknown", 404),
        ("/studies/1.2/series/1.2.3/instances/1.2.3.1/unknown", 404),
        ("/studies/x", 400),
        ("/studies/1.2/series/1..2", 400),
        ("/studies/1.2/series/1.2.3/instances/.1", 400),
        ("/studies/%31.2/series/1.2.3/instances/1.2.3.1", 200),
    ] {
        let answer = server.read(path, "*/*").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(status == 200 || answer.content_type == "application/problem+json", "{path}");
    }
}

async fn head_has_the_headers_of_get(server: TestServer) {
    assert_eq!(server.store(&[ct(1).part10(Syntax::Explicit)]).await.status, 200);
    for (path, accept) in [
        (path(1), AS_STORED),
        (path(1) + "/frames/1", "*/*"),
        (path(1) + "/frames/1", "application/octet-stream"),
        (path(1) + "/bulkdata/7FE00010", "application/octet-stream"),
        (path(1) + "/metadata", "application/dicom+json"),
        ("/studies/1.2/metadata".to_owned(), "application/dicom+json"),
        ("/studies".to_owned(), "application/dicom+json"),
        ("/studies/1.2".to_owned(), "*/*"),
        ("/studies/1.3".to_owned(), "*/*"),
    ] {
        let get = server.read(&path, accept).await;
        let head = server.send("HEAD", &path, &[("accept", accept)], "").await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for name in ["content-length", "cache-control", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
        // boundaries are drawn anew
        let essence = |answer: &Answer| answer.content_type.split("boundary").next().unwrap().to_owned();
        assert_eq!(essence(&head), essence(&get), "{path}");
        assert!(get.status != 200 || get.header("cache-control") == Some("private, no-cache"), "{path}");
    }
}
