//! WADO-RS frames: the right bytes of the right frames, in the order asked for, under the right media type.

use dicom_core::VR;

use crate::support::generate::{Elements, Syntax, Value};
use crate::support::server::{TestServer, on_both_stacks};

/// What OHIF sends for every frame.
const OHIF: &str = "multipart/related; type=application/octet-stream; transfer-syntax=*";
const BASE: &str = "/studies/1.2/series/1.2.3/instances/1.2.3.4";

on_both_stacks!(
    native_frames_are_little_endian_whatever_the_encoding,
    one_bit_frames_are_cut_at_bits,
    encapsulated_frames_are_their_fragments_joined,
    frames_come_in_the_order_of_the_list,
    accept_headers_decide_the_form,
    frames_that_are_not_there_are_refused,
);

fn ct() -> Elements {
    Elements::ct("1.2", "1.2.3", "1.2.3.4")
}

async fn native_frames_are_little_endian_whatever_the_encoding(server: TestServer) {
    let words: Vec<u16> = (0..24).map(|n| n * 0x0102).collect();
    for (number, syntax) in Syntax::NATIVE.iter().enumerate() {
        let uid = format!("1.2.3.{number}");
        let file = Elements::ct("1.2", "1.2.3", &uid)
            .text(0x0028, 0x0008, VR::IS, "3")
            .with(0x7fe0, 0x0010, VR::OW, Value::Words(words.clone()))
            .part10(*syntax);
        assert_eq!(server.store(&[file]).await.status, 200);
        for frame in 1..=3_usize {
            let path = format!("/studies/1.2/series/1.2.3/instances/{uid}/frames/{frame}");
            let answer = server.read(&path, OHIF).await;
            let parts = answer.parts();
            assert_eq!((answer.status, parts.len()), (200, 1), "{syntax:?}");
            let expected: Vec<u8> =
                words[frame * 8 - 8..frame * 8].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(parts[0].body, expected, "{syntax:?}, frame {frame}");
            assert_eq!(
                parts[0].headers[0],
                "Content-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
            );
            assert_eq!(parts[0].header("Content-Location"), Some(format!("{}{path}", server.root()).as_str()));
            assert_eq!(parts[0].header("Content-Length"), Some("16"));
        }
    }
}

async fn one_bit_frames_are_cut_at_bits(server: TestServer) {
    // two frames of 3 × 5 pixels: the second begins in the last bit of the second byte
    let bits = [0b1010_1100, 0b1111_0011, 0b1000_0001, 0b0011_1111];
    let file = ct()
        .number(0x0028, 0x0010, 3)
        .number(0x0028, 0x0011, 5)
        .number(0x0028, 0x0100, 1)
        .number(0x0028, 0x0101, 1)
        .number(0x0028, 0x0102, 0)
        .text(0x0028, 0x0008, VR::IS, "2")
        .with(0x7fe0, 0x0010, VR::OB, Value::Bytes(bits.to_vec()))
        .part10(Syntax::Explicit);
    assert_eq!(server.store(&[file]).await.status, 200);
    let all = u32::from_le_bytes(bits);
    for (frame, expected) in [(1, all & 0x7fff), (2, all >> 15 & 0x7fff)] {
        let answer = server.read(&format!("{BASE}/frames/{frame}"), "application/octet-stream").await;
        assert_eq!(answer.status, 200);
        let [low, high] = answer.body[..] else { panic!("{} bytes", answer.body.len()) };
        // bits after the last pixel mean nothing
        assert_eq!(u32::from(u16::from_le_bytes([low, high])) & 0x7fff, expected, "frame {frame}");
    }
}

/// An item header and its content, padded.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes
}

async fn encapsulated_frames_are_their_fragments_joined(server: TestServer) {
    // a JPEG code stream begins and ends with its markers, by which frames are told apart without a table
    let jpeg = |fill: u8, length: usize| [&[0xff, 0xd8, 0xff], &vec![fill; length][..], &[0xff, 0xd9]].concat();
    let frames = [jpeg(1, 301), jpeg(2, 40), jpeg(3, 90_001)];
    let cut = |frame: &[u8], pieces: usize| -> Vec<Vec<u8>> {
        let length = frame.len().div_ceil(pieces).next_multiple_of(2);
        frame.chunks(length).map(<[u8]>::to_vec).collect()
    };
    let fragments = |pieces: [usize; 3]| -> (Vec<u32>, Vec<Vec<u8>>) {
        let (mut offsets, mut all, mut offset) = (Vec::new(), Vec::new(), 0);
        for (frame, pieces) in frames.iter().zip(pieces) {
            offsets.push(offset);
            for fragment in cut(frame, pieces) {
                offset += 8 + u32::try_from(padded(&fragment).len()).unwrap();
                all.push(fragment);
            }
        }
        (offsets, all)
    };
    let longs = |numbers: &[u64]| Value::Bytes(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
    for (what, number, pieces, basic, extended) in [
        ("one each, filled table", 1, [1, 1, 1], true, false),
        ("one each, empty table", 2, [1, 1, 1], false, false),
        ("several, filled table", 3, [3, 1, 4], true, false),
        ("several, empty table", 4, [2, 1, 5], false, false),
        ("one each, extended table", 5, [1, 1, 1], false, true),
    ] {
        let uid = format!("1.2.3.{number}");
        let (offsets, all) = fragments(pieces);
        let mut file = Elements::ct("1.2", "1.2.3", &uid).text(0x0028, 0x0008, VR::IS, "3");
        if extended {
            let lengths: Vec<u64> = frames.iter().map(|frame| frame.len() as u64).collect();
            file = file
                .with(
                    0x7fe0,
                    0x0001,
                    VR::OV,
                    longs(&offsets.iter().map(|offset| u64::from(*offset)).collect::<Vec<_>>()),
                )
                .with(0x7fe0, 0x0002, VR::OV, longs(&lengths));
        }
        let table = if basic { offsets } else { Vec::new() };
        let file = file.with(0x7fe0, 0x0010, VR::OB, Value::Fragments(table, all)).part10(Syntax::JPEG);
        assert_eq!(server.store(&[file]).await.status, 200, "{what}");
        let answer = server.read(&format!("/studies/1.2/series/1.2.3/instances/{uid}/frames/1,2,3"), OHIF).await;
        let parts = answer.parts();
        assert_eq!((answer.status, parts.len()), (200, 3), "{what}");
        for (part, frame) in parts.iter().zip(&frames) {
            assert_eq!(part.headers[0], "Content-Type: image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", "{what}");
            assert!(
                part.body == padded(frame) || part.body == *frame,
                "{what}: {} of {}",
                part.body.len(),
                frame.len()
            );
        }
    }
}

async fn frames_come_in_the_order_of_the_list(server: TestServer) {
    let words: Vec<u16> = (0..8000).collect();
    let file = ct()
        .text(0x0028, 0x0008, VR::IS, "1000")
        .with(0x7fe0, 0x0010, VR::OW, Value::Words(words.clone()))
        .part10(Syntax::Explicit);
    assert_eq!(server.store(&[file]).await.status, 200);
    let every: Vec<u32> = (1..=1000).collect();
    for list in
        [vec![1, 2, 3], vec![3, 1, 2], vec![1000, 1, 500], vec![7], every.iter().rev().copied().collect(), every]
    {
        let text = list.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        for text in [text.clone(), text.replace(',', "%2C")] {
            let answer = server.read(&format!("{BASE}/frames/{text}"), OHIF).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.header("content-length").unwrap(), answer.body.len().to_string());
            let parts = answer.parts();
            assert_eq!(parts.len(), list.len());
            for (part, number) in parts.iter().zip(&list) {
                let first = u16::from_le_bytes([part.body[0], part.body[1]]);
                assert_eq!((part.body.len(), u32::from(first)), (16, (number - 1) * 8));
                assert!(part.header("Content-Location").unwrap().ends_with(&format!("/frames/{number}")));
            }
        }
    }
}

async fn accept_headers_decide_the_form(server: TestServer) {
    let native = ct().part10(Syntax::Explicit);
    let jpeg = Elements::ct("1.2", "1.2.3", "1.2.3.5").encapsulated(&[&[1; 30], &[2; 30]]).part10(Syntax::JPEG);
    assert_eq!(server.store(&[native, jpeg]).await.status, 200);
    let slides = "multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.80, \
                  multipart/related; type=\"application/octet-stream\"; transfer-syntax=*, \
                  multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50";
    let octets = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
    let image = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50";
    for (instance, frames, accept, status, content_type) in [
        (4, "1", OHIF, 200, "multipart/related; type=\"application/octet-stream\""),
        (4, "1", "*/*", 200, "multipart/related; type=\"application/octet-stream\""),
        (4, "1", "application/octet-stream", 200, octets),
        (4, "1", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", 200, octets),
        (4, "1", "image/jpeg", 406, ""),
        (4, "1", "multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.90", 406, ""),
        (4, "1", "application/octet-stream;q=0", 406, ""),
        (5, "1", OHIF, 200, "multipart/related; type=\"image/jpeg\""),
        (5, "1,2", slides, 200, "multipart/related; type=\"image/jpeg\""),
        (5, "1", "image/jpeg", 200, image),
        (
            5,
            "1",
            "multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50",
            200,
            "multipart/related; type=\"image/jpeg\"",
        ),
        (5, "1,2", "image/jpeg", 406, ""),
        (5, "1", "multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.80", 406, ""),
    ] {
        let path = format!("/studies/1.2/series/1.2.3/instances/1.2.3.{instance}/frames/{frames}");
        let answer = server.read(&path, accept).await;
        assert_eq!(answer.status, status, "{instance}, {accept}: {}", answer.text());
        if status == 200 {
            assert!(answer.content_type.starts_with(content_type), "{instance}, {accept}: {}", answer.content_type);
            assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        }
    }
}

async fn frames_that_are_not_there_are_refused(server: TestServer) {
    let report = Elements::ct("1.2", "1.2.3", "1.2.3.9").without(0x7fe0, 0x0010).part10(Syntax::Explicit);
    assert_eq!(server.store(&[ct().part10(Syntax::Explicit), report]).await.status, 200);
    let elsewhere = BASE.replace("1.2.3.4", "1.2.3.9");
    for (path, status) in [
        (format!("{BASE}/frames/1"), 200),
        (format!("{BASE}/frames/2"), 404),
        (format!("{BASE}/frames/1,2"), 404),
        (format!("{BASE}/frames/4294967295"), 404),
        (format!("{BASE}/frames/0"), 400),
        (format!("{BASE}/frames/-1"), 400),
        (format!("{BASE}/frames/x"), 400),
        (format!("{BASE}/frames/1,,2"), 400),
        (format!("{BASE}/frames/1%00"), 400),
        (format!("{BASE}/frames/99999999999999999999"), 400),
        (format!("{elsewhere}/frames/1"), 404),
        (BASE.replace("1.2.3.4", "1.2.3.8") + "/frames/1", 404),
        (BASE.replace("studies/1.2", "studies/1.3") + "/frames/1", 404),
    ] {
        let answer = server.read(&path, "*/*").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}
