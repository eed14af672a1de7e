//! STOW-RS of metadata in JSON and XML with bulk data in parts of their own.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use isocenter::dicom::xml;
use serde_json::{Value as Json, json};

use crate::support::binary::{Answer, JSON};
use crate::support::corpus::{Corpus, Expected, report};
use crate::support::model;
use crate::support::server::{BackEnds, TestServer, on_both_stacks};

on_both_stacks!(
    metadata_and_bulk_data_become_an_instance_that_says_the_same,
    instances_of_one_request_are_stored_in_their_order_and_may_share_a_part,
    bulk_data_are_found_however_their_uri_is_written,
    a_missing_part_fails_its_instance_and_no_other,
    compressed_frames_are_encapsulated,
    what_is_wrong_with_a_request_and_with_an_instance_are_told_apart,
    metadata_over_the_limit_are_refused_and_leave_nothing,
    photographs_and_documents_become_instances_of_their_classes,
    media_that_are_not_what_is_said_of_them_are_refused,
);

const XML: &str = "application/dicom+xml";
const BOUNDARY: &str = "a-boundary-of-the-tests";

/// A part: its headers, and its body.
type Part = (String, Vec<u8>);

fn part(head: &str, body: impl AsRef<[u8]>) -> Part {
    (head.to_owned(), body.as_ref().to_vec())
}

fn octets(location: &str, body: impl AsRef<[u8]>) -> Part {
    part(&format!("Content-Type: application/octet-stream\r\nContent-Location: {location}"), body)
}

/// The metadata as parts of a form.
fn metadata(form: &str, instances: &[Json]) -> Vec<Part> {
    let head = format!("Content-Type: {form}");
    match form {
        XML => instances.iter().map(|instance| part(&head, xml::write(instance))).collect(),
        _ => vec![part(&head, Json::from(instances).to_string())],
    }
}

fn body(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn send(server: &TestServer, study: &str, form: &str, parts: &[Part]) -> Answer {
    let content_type = format!("multipart/related; type=\"{form}\"; boundary={BOUNDARY}");
    let headers = [("content-type", content_type.as_str()), ("accept", JSON)];
    server.send("POST", &format!("/studies{study}"), &headers, body(parts)).await
}

/// Sends instances in a form with their bulk data.
async fn store(server: &TestServer, form: &str, instances: &[Json], bulk: &[Part]) -> Answer {
    send(server, "", form, &[metadata(form, instances), bulk.to_vec()].concat()).await
}

/// An image of 2 × 2 pixels in 16 bits whose pixel data are named by a URI.
fn image(number: &str, uri: &str) -> Json {
    json!({
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": [format!("1.2.3.{number}")]},
        "00080060": {"vr": "CS", "Value": ["OT"]},
        "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}, {}]},
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00091001": {"vr": "FD", "Value": [1.5, -2.0]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
        "00100020": {"vr": "LO", "Value": ["P-1"]},
        "00100030": {"vr": "DA"},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
        "00200032": {"vr": "DS", "Value": [1.25, null, -3]},
        "00280002": {"vr": "US", "Value": [1]},
        "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
        "00280010": {"vr": "US", "Value": [2]},
        "00280011": {"vr": "US", "Value": [2]},
        "00280100": {"vr": "US", "Value": [16]},
        "00280101": {"vr": "US", "Value": [16]},
        "00280102": {"vr": "US", "Value": [15]},
        "00280103": {"vr": "US", "Value": [0]},
        "7FE00010": {"vr": "OW", "BulkDataURI": uri},
    })
}

const PIXELS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn path(number: &str) -> String {
    format!("/studies/1.2/series/1.2.3/instances/1.2.3.{number}")
}

async fn pixels(server: &TestServer, number: &str) -> Vec<u8> {
    let answer = server.read(&format!("{}/frames/1", path(number)), "application/octet-stream").await;
    assert_eq!(answer.status, 200, "{number}: {}", answer.text());
    answer.body
}

async fn metadata_and_bulk_data_become_an_instance_that_says_the_same(server: TestServer) {
    for (number, form) in [("1", JSON), ("2", XML)] {
        let sent = image(number, "bulk/1");
        let answer = store(&server, form, std::slice::from_ref(&sent), &[octets("bulk/1", PIXELS)]).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.text());
        assert_eq!(answer.retrieve_urls(), [format!("{}{}", server.root(), path(number))]);
        let stored = server.read(&format!("{}/metadata", path(number)), JSON).await;
        model::assert_well_formed(&stored.body);
        let mut expected = sent.clone();
        expected["00083002"] = json!({"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]});
        expected["7FE00010"]["BulkDataURI"] = json!(format!("/dicom-web{}/bulkdata/7FE00010", path(number)));
        assert_eq!(stored.json()[0], expected, "{form}");
        assert_eq!(pixels(&server, number).await, PIXELS);
        // the same request makes the same bytes
        let again = store(&server, form, &[sent], &[octets("bulk/1", PIXELS)]).await;
        assert_eq!(
            (again.status, again.json()["00081199"]["Value"][0]["00000902"]["Value"][0].as_str()),
            (200, Some("already stored"))
        );
        let mut other = image(number, "bulk/1");
        other["00100020"]["Value"][0] = json!("P-2");
        let other = store(&server, form, &[other], &[octets("bulk/1", PIXELS)]).await;
        assert_eq!((other.status, other.failure_reasons()), (409, vec![0x0111]));
    }
    let mut inline = image("3", "");
    inline["7FE00010"] = json!({"vr": "OW", "InlineBinary": "AQIDBAUGBwg="});
    let alone = [("content-type", JSON), ("accept", JSON)];
    assert_eq!(server.send("POST", "/studies/1.2", &alone, inline.to_string()).await.status, 200, "a body by itself");
    assert_eq!(pixels(&server, "3").await, PIXELS);
    assert_eq!(store(&server, XML, &[inline], &[]).await.status, 200, "the same in XML makes the same bytes");
    let file = server.read(&path("3"), "application/dicom; transfer-syntax=*").await.body;
    assert!(file.starts_with(&[0; 128]) && &file[128..132] == b"DICM");
    assert_eq!(server.instances_counted().await, 3);
}

async fn instances_of_one_request_are_stored_in_their_order_and_may_share_a_part(server: TestServer) {
    for (form, numbers) in [(JSON, ["9", "2", "5"]), (XML, ["8", "1", "4"])] {
        let instances = numbers.map(|number| image(number, if number == "5" { "two" } else { "one" }));
        let bulk = [octets("unused", b"nobody"), octets("two", [0; 8]), octets("one", PIXELS)];
        let answer = store(&server, form, &instances, &bulk).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.text());
        let expected: Vec<_> = numbers.iter().map(|number| format!("{}{}", server.root(), path(number))).collect();
        assert_eq!(answer.retrieve_urls(), expected);
        for number in numbers {
            let expected = if number == "5" { [0; 8] } else { PIXELS };
            assert_eq!(pixels(&server, number).await, expected, "{number}");
        }
    }
    // more than stays in memory, from one part, and in the study of the path
    let large: Vec<u8> = (0..6 << 20).map(|at: u32| (at % 251) as u8).collect();
    let instances: Vec<_> = ["21", "22"]
        .map(|number| {
            let mut image = image(number, "large");
            image["00280010"]["Value"][0] = json!(1536);
            image["00280011"]["Value"][0] = json!(2048);
            image
        })
        .to_vec();
    let parts = [metadata(JSON, &instances), vec![octets("large", &large)]].concat();
    assert_eq!(send(&server, "/1.2", JSON, &parts).await.status, 200);
    for number in ["21", "22"] {
        assert!(pixels(&server, number).await == large, "{number}");
    }
    let answer = send(&server, "/1.9", JSON, &parts).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xC000, 0xC000]), "of another study");
}

async fn bulk_data_are_found_however_their_uri_is_written(server: TestServer) {
    let root = server.root();
    let absolute = format!("{root}/bulk/7");
    for (number, (uri, head)) in (1..).zip([
        ("bulk/7", "Content-Location: bulk/7".to_owned()),
        ("bulk/7", format!("Content-Location: {absolute}")),
        (absolute.as_str(), "Content-Location: /dicom-web/bulk/7".to_owned()),
        ("../dicom-web/./bulk/7", "content-location:bulk/7".to_owned()),
        ("http://elsewhere/a?b=c&d#e", "Content-Location: http://elsewhere/a?b=c&d#e".to_owned()),
        ("odd one/%41 ü.raw", "Content-Location: odd one/%41 ü.raw".to_owned()),
        ("../../../etc/passwd", "Content-Location: ../../../etc/passwd".to_owned()),
        ("urn:uuid:1-2-3", "Content-Location: urn:uuid:1-2-3".to_owned()),
        ("cid:a@b", "Content-ID: <a@b>".to_owned()),
    ]) {
        for (form, number) in [(JSON, format!("{number}")), (XML, format!("{number}0"))] {
            let answer = store(&server, form, &[image(&number, uri)], &[part(&head, PIXELS)]).await;
            assert_eq!(answer.status, 200, "{uri} by {head}: {}", answer.text());
            assert_eq!(pixels(&server, &number).await, PIXELS);
        }
    }
    // what this server has is not what was sent
    let own = format!("{root}{}/bulkdata/7FE00010", path("1"));
    let answer = store(&server, JSON, &[image("99", &own)], &[]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xA922]));
}

async fn a_missing_part_fails_its_instance_and_no_other(server: TestServer) {
    for (form, first) in [(JSON, 1), (XML, 4)] {
        let [a, b, c] = [0, 1, 2].map(|n| (first + n).to_string());
        let instances = [image(&a, "there"), image(&b, "not there"), image(&c, "there")];
        let answer = store(&server, form, &instances, &[octets("there", PIXELS)]).await;
        assert_eq!((answer.status, answer.failure_reasons()), (202, vec![0xA922]), "{}", answer.text());
        let failed = &answer.json()["00081198"]["Value"][0];
        assert_eq!(failed["00081155"]["Value"][0], format!("1.2.3.{b}"));
        assert_eq!(failed["00081150"]["Value"][0], "1.2.840.10008.5.1.4.1.1.7");
        let comment = failed["00000902"]["Value"][0].as_str().unwrap();
        assert_eq!(comment, "`7FE00010` OW: no part of the request has its bulk data");
        assert_eq!(answer.retrieve_urls().len(), 2);
        let alone = store(&server, form, &[image(&b, "not there")], &[]).await;
        assert_eq!((alone.status, alone.failure_reasons()), (409, vec![0xA922]));
    }
}

async fn compressed_frames_are_encapsulated(server: TestServer) {
    let rle = "1.2.840.10008.1.2.5";
    let head = format!("Content-Type: application/octet-stream; transfer-syntax={rle}\r\nContent-Location: f");
    let frames = [part(&head, [1; 31]), part(&head, [2; 4000]), part(&head, [3; 30])];
    let answer = store(&server, JSON, &[image("1", "f")], &frames).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stored = server.read(&format!("{}/metadata", path("1")), JSON).await.json()[0].clone();
    assert_eq!(stored["00083002"]["Value"][0], rle);
    assert_eq!(stored["00280008"]["Value"][0], 3);
    let accept = format!("multipart/related; type=\"*/*\"; transfer-syntax={rle}");
    let read = server.read(&format!("{}/frames/1,2,3", path("1")), &accept).await;
    assert_eq!(read.status, 200, "{}", read.text());
    let lengths: Vec<_> = read.parts().iter().map(|part| part.body.len()).collect();
    assert_eq!(lengths, [32, 4000, 30]);
    let web_page = part("Content-Type: text/html\r\nContent-Location: f", "<html>");
    let answer = store(&server, JSON, &[image("2", "f")], &[web_page]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xC122]));
}

async fn what_is_wrong_with_a_request_and_with_an_instance_are_told_apart(server: TestServer) {
    let one = |text: &str| vec![part(&format!("Content-Type: {JSON}"), text)];
    let good = image("1", "p").to_string();
    let deep = |levels: usize| {
        let open = r#"{"00081140":{"vr":"SQ","Value":["#;
        one(&format!("[{}{{}}{}]", open.repeat(levels), "]}}".repeat(levels)))
    };
    for (what, form, parts, status) in [
        ("nothing", JSON, Vec::new(), 400),
        ("no metadata", JSON, vec![octets("p", PIXELS)], 400),
        ("no JSON", JSON, one("[{]"), 400),
        ("cut JSON", JSON, one(&good[..good.len() - 1]), 400),
        ("a number", JSON, one("5"), 400),
        ("no instance", JSON, one("[]"), 400),
        ("10,000 levels", JSON, deep(10_000), 400),
        ("1,000 levels", JSON, deep(1000), 409),
        ("no object", JSON, one("[5]"), 409),
        ("no tags", JSON, one(r#"[{"PatientID":{"vr":"LO"}}]"#), 409),
        ("no UIDs", JSON, one("{}"), 409),
        ("no XML", XML, vec![part(&format!("Content-Type: {XML}"), "<a")], 409),
        ("an entity", XML, vec![part(&format!("Content-Type: {XML}"), "<!DOCTYPE a><NativeDicomModel/>")], 409),
        ("a file", JSON, [one(&good), vec![part("Content-Type: application/dicom", "x")]].concat(), 409),
    ] {
        let answer = send(&server, "", form, &parts).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status == 409 {
            assert!(answer.failure_reasons().iter().all(|reason| [0xC000, 0xA922].contains(reason)), "{what}");
        }
    }
    let mut wrong = image("2", "p");
    wrong["00280010"]["Value"][0] = json!("a secret");
    let mut twice = image("3", "p").to_string();
    twice.insert_str(1, r#""00080060":{"vr":"CS"},"#);
    let text = format!("[{good},{wrong},{twice}]");
    let answer = send(&server, "", JSON, &[one(&text), vec![octets("p", PIXELS)]].concat()).await;
    assert_eq!((answer.status, answer.failure_reasons()), (202, vec![0xC000, 0xC000]), "{}", answer.text());
    assert!(!answer.text().contains("secret"));
    assert_eq!(answer.json()["00081198"]["Value"][0]["00081155"]["Value"][0], "1.2.3.2");
    assert_eq!((server.objects(), server.instances_counted().await), (1, 1));
}

async fn metadata_over_the_limit_are_refused_and_leave_nothing(server: TestServer) {
    let mut large = image("1", "p");
    large["00204000"] = json!({"vr": "LT", "Value": ["x".repeat(65 << 20)]});
    let answer = store(&server, JSON, &[large], &[octets("p", PIXELS)]).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    server.is_left_empty().await;
    // items of nothing take more memory than text
    let mut items = image("2", "p");
    items["00081140"]["Value"] = vec![json!({}); 2_000_000].into();
    let answer = store(&server, JSON, &[items], &[octets("p", PIXELS)]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xA700]), "{}", answer.text());
    server.is_left_empty().await;
    assert!(server.is_alive().await);
}

/// A JPEG image of 8 × 8 pixels of grey: the markers that an image needs, and a scan that nobody decodes here.
fn jpeg(scan: &[u8]) -> Vec<u8> {
    let frame = [0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0];
    let start = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0];
    [&[0xFF, 0xD8], &frame[..], &start, scan, &[0xFF, 0xD9]].concat()
}

/// What a client knows of a photograph or a document.
fn known(number: &str, tag: &str, vr: &str) -> Json {
    json!({
        "00080018": {"vr": "UI", "Value": [format!("1.2.3.{number}")]},
        "00080020": {"vr": "DA", "Value": ["20240229"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P-1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
        tag: {"vr": vr, "BulkDataURI": "media"},
    })
}

fn media(content_type: &str, body: &[u8]) -> Part {
    part(&format!("Content-Type: {content_type}\r\nContent-Location: media"), body)
}

async fn photographs_and_documents_become_instances_of_their_classes(server: TestServer) {
    let image = jpeg(&[1; 20]);
    let pdf = b"%PDF-1.7\nnothing\n%%EOF\n";
    for (number, form) in [("1", JSON), ("2", XML)] {
        let answer = store(&server, form, &[known(number, "7FE00010", "OB")], &[media("image/jpeg", &image)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let stored = server.read(&format!("{}/metadata", path(number)), JSON).await.json()[0].clone();
        for (tag, value) in [
            ("00080016", json!("1.2.840.10008.5.1.4.1.1.77.1.4")),
            ("00083002", json!("1.2.840.10008.1.2.4.50")),
            ("00280004", json!("MONOCHROME2")),
            ("00280010", json!(8)),
            ("00280011", json!(8)),
            ("00280100", json!(8)),
            ("00282110", json!("01")),
        ] {
            assert_eq!(stored[tag]["Value"][0], value, "{tag}");
        }
        let frame = server.read(&format!("{}/frames/1", path(number)), "image/jpeg").await;
        assert_eq!((frame.status, frame.body.strip_suffix(&[0]).unwrap_or(&frame.body)), (200, &image[..]));
    }
    let answer = store(&server, JSON, &[known("3", "00420011", "OB")], &[media("application/pdf", pdf)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stored = server.read(&format!("{}/metadata", path("3")), JSON).await.json()[0].clone();
    assert_eq!(stored["00080016"]["Value"][0], "1.2.840.10008.5.1.4.1.1.104.1");
    assert_eq!(stored["00420012"]["Value"][0], "application/pdf");
    assert_eq!(stored["00420015"]["Value"][0], pdf.len());
    let frames = [jpeg(&[1; 21]), jpeg(&[2; 30]), jpeg(&[3; 4])];
    let parts: Vec<Part> = frames.iter().map(|frame| media("image/jpeg", frame)).collect();
    let answer = store(&server, JSON, &[known("4", "7FE00010", "OB")], &parts).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stored = server.read(&format!("{}/metadata", path("4")), JSON).await.json()[0].clone();
    assert_eq!(stored["00280008"]["Value"][0], 3);
    let frame = server.read(&format!("{}/frames/2", path("4")), "image/jpeg").await;
    assert_eq!(frame.body.strip_suffix(&[0]), Some(&frames[1][..]), "with its padding");
}

async fn media_that_are_not_what_is_said_of_them_are_refused(server: TestServer) {
    let image = jpeg(&[1; 20]);
    let rows = |rows: u16| {
        let mut known = known("1", "7FE00010", "OB");
        known["00280010"] = json!({"vr": "US", "Value": [rows]});
        known
    };
    for (what, metadata, content_type, bytes, reason) in [
        ("no JPEG", rows(8), "image/jpeg", &b"GIF89a"[..], 0xC000),
        ("cut", rows(8), "image/jpeg", &image[..10], 0xC000),
        ("another size", rows(9), "image/jpeg", &image, 0xC000),
        ("a document for an image", rows(8), "application/pdf", b"%PDF-1.7\n%%EOF\n", 0xC122),
        ("no media type of images", rows(8), "text/html", b"<html>", 0xC122),
        ("another transfer syntax", rows(8), "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.80", &image, 0xC000),
    ] {
        let answer = store(&server, JSON, &[metadata], &[media(content_type, bytes)]).await;
        assert_eq!((answer.status, answer.failure_reasons()), (409, vec![reason]), "{what}: {}", answer.text());
    }
    let answer = store(&server, JSON, &[rows(8)], &[media("image/jpeg", &image)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The values that metadata name, as parts of a request.
async fn bulk_of(server: &TestServer, instance: &Json) -> Vec<Part> {
    let mut bulk = Vec::new();
    for uri in model::bulk_data_uris(instance) {
        let accept = "multipart/related; type=\"*/*\"; transfer-syntax=*";
        let answer = server.read(&server.url(&uri), accept).await;
        assert_eq!(answer.status, 200, "{uri}: {}", answer.text());
        for found in answer.parts() {
            let content_type = found.header("Content-Type").unwrap();
            bulk.push(part(&format!("Content-Type: {content_type}\r\nContent-Location: {uri}"), found.body));
        }
    }
    bulk
}

/// Whether bulk data came back: native ones with their padding, of code streams what they are without what is around them.
fn is_same(sent: &[Part], stored: &[Part]) -> bool {
    let same = |((head, sent), (_, stored)): (&Part, &Part)| {
        if head.contains("octet-stream") {
            stored.strip_prefix(&sent[..]).is_some_and(|padding| padding.is_empty() || padding == [0])
        } else {
            let code_stream = stored.strip_suffix(&[0]).unwrap_or(stored);
            memchr::memmem::find(sent, code_stream).is_some() && stored.len() * 2 > sent.len()
        }
    };
    sent.len() == stored.len() && sent.iter().zip(stored).all(same)
}

/// What was sent and did not come back: the first attribute.
fn lost(sent: &Json, stored: &Json) -> Option<String> {
    let attributes = sent.as_object().unwrap().iter();
    let kept = |(tag, attribute): &(&String, &Json)| {
        // how it is encoded, and where its bulk data are; PS3.3 C.7.6.3 tells the rest for what is compressed
        ["00083002", "7FE00010", "7FE00001", "7FE00002", "00280004", "00280006", "00282110", "00282112", "00282114"]
            .contains(&tag.as_str())
            || stored.get(tag.as_str()).is_some_and(|stored| comparable(stored) == comparable(attribute))
    };
    attributes.into_iter().find(|attribute| !kept(attribute)).map(|(tag, _)| tag.clone())
}

/// Without what XML does not tell: empty components and values at the end, and the text of a number.
fn comparable(value: &Json) -> Json {
    match value {
        Json::Object(object) => {
            let trimmed = |(key, value): (&String, &Json)| {
                let value = match (key.as_str(), value) {
                    ("Alphabetic" | "Ideographic" | "Phonetic", Json::String(name)) => {
                        json!(name.trim_end_matches('^'))
                    }
                    ("Value", Json::Array(values)) if object.get("vr").is_some_and(|vr| vr != "SQ") => {
                        let mut values: Vec<Json> = values.iter().map(comparable).collect();
                        while values.last().is_some_and(|value| value.is_null() || *value == json!({})) {
                            values.pop();
                        }
                        json!(values)
                    }
                    (_, value) => comparable(value),
                };
                (value != json!("") && value != json!([])).then(|| (key.clone(), value))
            };
            Json::Object(object.iter().filter_map(trimmed).collect())
        }
        Json::Array(values) => values.iter().map(comparable).collect(),
        Json::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

/// Files of the corpus whose metadata and frames contradict each other, or that have no image, or no UID.
const REFUSED: [&str; 12] = [
    "broken/JPEG2000-embedded-sequence-delimiter.dcm",
    "broken/fuzz/005_gdcm_sig6_560c67be.dcm",
    "broken/fuzz/013_gdcm_sig6_d69a2543.dcm",
    "broken/syn_enc_bot_out_of_range.dcm",
    "broken/syn_enc_zero_fragments.dcm",
    "broken/syn_no_sop_class.dcm",
    // JPEG Lossless of another predictor than its transfer syntax has
    "modality/sample-op.dcm",
    // bits stored that are not those of the code stream
    "pixel/693_J2KR.dcm",
    "syntax/wg04/XA1_JPLY",
    // single bits
    "syntax/liver_j2k.dcm",
    "syntax/liver_rle.dcm",
    // progresses in another order than its transfer syntax has
    "synthetic/syntax/htj2k_rpcl_mf.dcm",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_has_is_stored_into_others_by_its_metadata_and_bulk_data() {
    let Some(corpus) = Corpus::find() else { return report("store_metadata", 0) };
    let source = TestServer::start(BackEnds::Local).await;
    let targets = [(JSON, TestServer::start(BackEnds::Local).await), (XML, TestServer::start(BackEnds::Local).await)];
    let (mut count, mut wrong, mut refused) = (0, Vec::new(), BTreeSet::new());
    for file in corpus.groups().remove(&1).unwrap() {
        let bytes = corpus.read(&file.path);
        // the large ones are many times the same
        if file.expected_in_group() != Expected::Stored || bytes.len() > 2 << 20 {
            continue;
        }
        let answer = source.store(&[bytes]).await;
        let url = answer.retrieve_urls().remove(0);
        let sent = source.read(&format!("{url}/metadata"), JSON).await.json()[0].clone();
        let bulk = bulk_of(&source, &sent).await;
        for (form, target) in &targets {
            let answer = store(target, form, std::slice::from_ref(&sent), &bulk).await;
            // a study of two patients is stored with a warning
            if answer.retrieve_urls().is_empty() {
                let failed = &answer.json()["00081198"]["Value"][0]["00000902"]["Value"][0];
                if !REFUSED.contains(&file.path.as_str()) {
                    refused.insert(format!("{}: {failed}", file.path));
                }
                continue;
            }
            let url = url.replace(&source.root(), &target.root());
            let stored = target.read(&format!("{url}/metadata"), JSON).await.json()[0].clone();
            if let Some(tag) = lost(&sent, &stored) {
                wrong.push((file.path.clone(), *form, tag));
            } else if !is_same(&bulk, &bulk_of(target, &stored).await) {
                wrong.push((file.path.clone(), *form, "bulk data".to_owned()));
            }
        }
        count += 1;
    }
    report("store_metadata", count);
    assert_eq!(wrong, Vec::new());
    assert_eq!(refused, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_of_much_metadata_share_one_bound_of_memory() {
    let server = TestServer::start(BackEnds::Local).await;
    let sent = |number: u32| {
        let mut image = image(&number.to_string(), "");
        image["7FE00010"] = json!({"vr": "OW", "InlineBinary": "A".repeat(32 << 20)});
        body(&metadata(JSON, &[image]))
    };
    let content_type = format!("multipart/related; type=\"{JSON}\"; boundary={BOUNDARY}");
    let headers = [("content-type", content_type.as_str()), ("accept", JSON)];
    let answers = join_all((0..20).map(|number| server.send("POST", "/studies", &headers, sent(number)))).await;
    for answer in &answers {
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        assert!(answer.status == 200 || answer.header("retry-after").is_some());
    }
    assert_eq!(server.send("POST", "/studies", &headers, sent(30)).await.status, 200, "all of it was given back");
    let peak = server.peak_memory();
    assert!(peak < 600 << 20, "{} MiB", peak >> 20);
}
