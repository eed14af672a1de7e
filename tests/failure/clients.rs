//! Clients that go away in the middle of each kind of payload leave nothing: no row, no object, no temporary file.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use serde_json::json;

use crate::support::binary::JSON;
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::multipart;
use crate::support::raw::Raw;
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::is_clean;

on_both_stacks!(a_client_that_goes_away_in_the_middle_of_any_payload_leaves_nothing);

/// More than the server keeps of anything in memory.
const LARGE: usize = 3 << 20;
const BOUNDARY: &str = "a-boundary-of-the-tests";

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    StdRng::seed_from_u64(7).fill_bytes(&mut noise);
    noise
}

fn ct(instance: u32) -> Vec<u8> {
    let pixels = Value::Bytes(noise(LARGE));
    Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{instance}"))
        .with(0x7fe0, 0x0010, dicom_core::VR::OW, pixels)
        .part10(Syntax::Explicit)
}

fn metadata(instance: &str) -> serde_json::Value {
    json!({
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.66"]},
        "00080018": {"vr": "UI", "Value": [instance]},
        "0020000D": {"vr": "UI", "Value": ["1.2.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.1.2"]},
    })
}

/// The content type and body of an instance that is described, with so many bytes of bulk data.
pub fn described(bytes: usize) -> (String, Vec<u8>) {
    let mut instance = metadata("1.2.1.2.1");
    instance["00420011"] = json!({"vr": "OB", "BulkDataURI": "bulk"});
    let mut body = format!("--{BOUNDARY}\r\nContent-Type: {JSON}\r\n\r\n{}\r\n", json!([instance])).into_bytes();
    let head = "Content-Type: application/octet-stream\r\nContent-Location: bulk";
    body.extend(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
    body.extend(noise(bytes));
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/related; type=\"{JSON}\"; boundary={BOUNDARY}"), body)
}

/// Each kind: its name, its headers, its body.
fn payloads() -> Vec<(&'static str, String, Vec<u8>)> {
    let typed = |content_type: &str| format!("Content-Type: {content_type}\r\n");
    let (parts, files) = multipart::write(&[ct(1), ct(2)]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&multipart::write(&[ct(3), ct(4)]).1).unwrap();
    let (bulk_parts, with_bulk) = described(LARGE);
    let mut inline = metadata("1.2.1.2.2");
    inline["00420011"] = json!({"vr": "OB", "InlineBinary": "AAAA".repeat(LARGE / 4)});
    vec![
        ("files", typed(&parts), files),
        ("one file", typed("application/dicom"), ct(5)),
        ("gzip", typed(&parts) + "Content-Encoding: gzip\r\n", gzip.finish().unwrap()),
        ("bulk data", typed(&bulk_parts), with_bulk),
        ("metadata", typed(JSON), json!([inline]).to_string().into_bytes()),
    ]
}

async fn a_client_that_goes_away_in_the_middle_of_any_payload_leaves_nothing(mut server: TestServer) {
    let temporary = tempfile::tempdir().unwrap();
    let settings = [("TMPDIR", temporary.path().to_str().unwrap()), ("ISOCENTER_LOG", "info")];
    server.restart_with(&settings).await;
    let address = server.url("").trim_start_matches("http://").to_owned();
    let head = |headers: &str, framing: &str| {
        format!("POST /dicom-web/studies HTTP/1.1\r\nHost: {address}\r\nAccept: {JSON}\r\n{headers}{framing}\r\n")
    };
    let payloads = payloads();
    let mut gone = 0;
    for (name, headers, body) in &payloads {
        for sent in [body.len() / 5, body.len() / 2, body.len() * 9 / 10, body.len() - 10] {
            // with a length, and in one chunk that is larger than what comes
            let framings = [
                format!("Content-Length: {}\r\n", body.len()),
                format!("Transfer-Encoding: chunked\r\n\r\n{:x}", body.len()),
            ];
            for framing in framings {
                let mut client = Raw::connect(&address).await;
                assert!(client.send(head(headers, &framing).as_bytes()).await, "{name}");
                assert!(client.send(&body[..sent]).await, "{name}: {sent} bytes");
                drop(client);
                gone += 1;
            }
        }
    }
    server.has_logged("client went away", gone).await;
    server.is_left_empty().await;
    server.has_no_temporary_file().await;
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "no temporary file has a name");
    assert_eq!(server.instances_counted().await, 0);
    for (name, headers, body) in &payloads {
        let framing = format!("Content-Length: {}\r\n", body.len());
        let whole = [head(headers, &framing).into_bytes(), body.clone()].concat();
        let answer = Raw::connect(&address).await.exchange(&[&whole], false).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    assert_eq!(is_clean(&server).await, 7);
    assert_eq!(server.objects(), 7);
}
