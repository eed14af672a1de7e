//! The resources that BulkDataURIs of the metadata name: every one resolves, to the bytes of its value.

use dicom_core::VR;

use crate::support::binary::JSON;
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::model;
use crate::support::server::{TestServer, on_both_stacks};

const BASE: &str = "/studies/1.2/series/1.2.3/instances/1.2.3.4";

on_both_stacks!(
    every_bulk_data_uri_leads_to_its_value,
    encapsulated_pixel_data_leave_as_frames,
    pixel_data_of_thousands_of_frames_leave_as_as_many_parts,
    the_form_is_negotiated_and_what_is_not_there_is_refused,
);

async fn every_bulk_data_uri_leads_to_its_value(server: TestServer) {
    let words: Vec<u16> = (0..3000).collect();
    let icon = |words: &[u16]| Elements::default().with(0x7fe0, 0x0010, VR::OW, Value::Words(words.to_vec()));
    let palette = Elements::default().with(0x0028, 0x1201, VR::OW, Value::Words(words.clone()));
    for (number, syntax) in Syntax::NATIVE.iter().enumerate() {
        let uid = format!("1.2.3.{number}");
        let file = Elements::ct("1.2", "1.2.3", &uid)
            .with(0x0009, 0x1010, VR::OB, Value::Bytes(vec![9; 5001]))
            .text(0x0009, 0x0010, VR::LO, "PRIVATE")
            .with(0x0028, 0x1201, VR::OW, Value::Words(words.clone()))
            .with(0x0029, 0x1010, VR::UN, Value::Unknown(vec![palette.clone()]))
            .with(0x0066, 0x0023, VR::OL, Value::Longs((0..2000).collect()))
            .with(0x0088, 0x0200, VR::SQ, Value::Items(vec![icon(&words[..8]), icon(&words[8..16])], number % 2 == 0))
            .part10(*syntax);
        assert_eq!(server.store(&[file]).await.status, 200);
        let instance = format!("/studies/1.2/series/1.2.3/instances/{uid}");
        let object = server.read(&format!("{instance}/metadata"), JSON).await.json()[0].clone();
        let uris = model::bulk_data_uris(&object);
        let little = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let pixels: Vec<u16> = (0..8).map(|n| n * 0x0101).collect();
        for (path, expected) in [
            ("00091010", [vec![9; 5001], vec![0]].concat()),
            ("00281201", little(&words)),
            ("00291010/1/00281201", little(&words)),
            ("00660023", (0..2000_u32).flat_map(u32::to_le_bytes).collect()),
            ("00880200/1/7FE00010", little(&words[..8])),
            ("00880200/2/7FE00010", little(&words[8..16])),
            ("7FE00010", little(&pixels)),
        ] {
            let uri = format!("/dicom-web{instance}/bulkdata/{path}");
            assert!(uris.contains(&uri), "{syntax:?}: {uri} of {uris:?}");
            let answer = server.read(&server.url(&uri), "application/octet-stream").await;
            assert_eq!(answer.status, 200, "{syntax:?}, {path}: {}", answer.text());
            assert!(answer.body == expected, "{syntax:?}, {path}: {} bytes", answer.body.len());
            let answer = server.read(&server.url(&uri), "multipart/related; type=\"application/octet-stream\"").await;
            let part = &answer.parts()[0];
            assert!(part.body == expected && part.headers[0].starts_with("Content-Type: application/octet-stream"));
            assert_eq!(part.header("Content-Location"), Some(server.url(&uri).as_str()));
            assert_eq!(part.header("Content-Length"), Some(expected.len().to_string().as_str()));
        }
        assert_eq!(uris.len(), 7, "{syntax:?}: {uris:?}");
    }
}

async fn encapsulated_pixel_data_leave_as_frames(server: TestServer) {
    let frames: [&[u8]; 3] = [&[1; 30], &[2; 4000], &[3; 31]];
    let file = Elements::ct("1.2", "1.2.3", "1.2.3.4").encapsulated(&frames).part10(Syntax::JPEG);
    assert_eq!(server.store(&[file]).await.status, 200);
    let answer = server.read(&format!("{BASE}/bulkdata/7FE00010"), "*/*").await;
    let parts = answer.parts();
    assert_eq!((answer.status, parts.len()), (200, 3));
    for (part, frame) in parts.iter().zip(frames) {
        assert_eq!(part.headers[0], "Content-Type: image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50");
        assert!(part.body.starts_with(frame) && part.body.len() == frame.len().next_multiple_of(2));
    }
}

async fn pixel_data_of_thousands_of_frames_leave_as_as_many_parts(server: TestServer) {
    // each of another content, so that none can stand for another
    let frames: Vec<Vec<u8>> = (0..2500_u32).map(|n| n.to_le_bytes().repeat(1 + n as usize % 7)).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let file = Elements::ct("1.2", "1.2.3", "1.2.3.4").encapsulated(&frames).part10(Syntax::JPEG);
    assert_eq!(server.store(&[file]).await.status, 200);
    let answer = server.read(&format!("{BASE}/bulkdata/7FE00010"), "*/*").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let boundary = answer.content_type.split_once("boundary=").unwrap().1.trim_matches('"');
    assert!(
        answer.body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()),
        "the last part is followed by the end"
    );
    let parts = answer.parts();
    assert_eq!(parts.len(), frames.len());
    for (index, (part, frame)) in parts.iter().zip(frames).enumerate() {
        let number = index + 1;
        assert!(part.body == frame, "frame {number}: {:?}", part.body);
        let url = format!("{}{BASE}/frames/{number}", server.root());
        assert_eq!(part.header("Content-Location"), Some(url.as_str()));
    }
}

async fn the_form_is_negotiated_and_what_is_not_there_is_refused(server: TestServer) {
    let file = Elements::ct("1.2", "1.2.3", "1.2.3.4").part10(Syntax::Explicit);
    assert_eq!(server.store(&[file]).await.status, 200);
    for (path, accept, status, parts) in [
        ("7FE00010", "application/octet-stream", 200, false),
        ("7fe00010", "application/octet-stream", 200, false),
        ("7FE00010", "*/*", 200, true),
        (
            "7FE00010",
            "multipart/related; type=\"application/pdf\", multipart/related; type=\"application/octet-stream\"",
            200,
            true,
        ),
        ("7FE00010", "image/jpeg", 406, false),
        ("00100010", "*/*", 404, false),
        ("00880200/1/7FE00010", "*/*", 404, false),
        ("7FE00010/1", "*/*", 400, false),
        ("7FE0", "*/*", 400, false),
        ("00880200/0/7FE00010", "*/*", 400, false),
        ("..%2F..%2Fetc", "*/*", 400, false),
        ("", "*/*", 400, false),
    ] {
        let answer = server.read(&format!("{BASE}/bulkdata/{path}"), accept).await;
        assert_eq!(answer.status, status, "{path}, {accept}: {}", answer.text());
        assert_eq!(status == 200 && answer.content_type.starts_with("multipart/related"), parts, "{path}, {accept}");
    }
    assert_eq!(
        server.read(&format!("{}/bulkdata/7FE00010", BASE.replace("1.2.3.4", "1.2.3.5")), "*/*").await.status,
        404
    );
}
