//! What nobody means well with: the server refuses it by a status of its own, stays alive, and its memory stays bounded.

use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use dicom_core::VR;
use futures_util::future::join_all;
use futures_util::stream;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::binary::{Answer, Binary, JSON};
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::multipart;
use crate::support::server::{TestServer, on_both_stacks};

const MIB: u64 = 1 << 20;
/// What the process may take at most, whatever is sent: the upload buffers, the headers of all uploads, and what is written
/// of two of them at a time.
const MOST_MEMORY: u64 = 900 * MIB;
/// Uploads at once.
const CLIENTS: usize = 32;

on_both_stacks!(
    deep_nesting_is_refused_however_it_is_written,
    declared_lengths_cost_nothing,
    mutated_files_are_stored_or_refused_but_never_an_error_of_the_server,
    uids_that_look_like_paths_are_refused,
    values_that_databases_dislike_are_stored,
);

/// A file whose data set ends in these bytes, in explicit or implicit little endian.
fn file(syntax: Syntax, uid: &str, tail: &[u8]) -> Vec<u8> {
    let mut file = small(uid).part10(syntax);
    file.extend_from_slice(tail);
    file
}

/// As little as an instance may hold, so that anything may follow it.
fn small(uid: &str) -> Elements {
    Elements::default()
        .text(0x0008, 0x0016, VR::UI, "1.2.840.10008.5.1.4.1.1.2")
        .text(0x0008, 0x0018, VR::UI, uid)
        .text(0x0020, 0x000d, VR::UI, "1.2")
        .text(0x0020, 0x000e, VR::UI, "1.2.3")
}

/// The header of a sequence of a private-free tag that follows the UIDs, and that of an item in it.
fn opened(syntax: Syntax, length: u32) -> Vec<u8> {
    let mut bytes = vec![0x40, 0x00, 0x75, 0x02];
    if syntax == Syntax::Explicit {
        bytes.extend(b"SQ\0\0");
    }
    bytes.extend(length.to_le_bytes());
    bytes.extend([0xfe, 0xff, 0x00, 0xe0]);
    bytes.extend(length.saturating_sub(8).max(if length == u32::MAX { length } else { 0 }).to_le_bytes());
    bytes
}

/// So many sequences inside each other, closed or cut off at the innermost one.
fn nested(syntax: Syntax, depth: u32, defined: bool, closed: bool) -> Vec<u8> {
    let head = opened(syntax, 0).len();
    let mut bytes = Vec::with_capacity(depth as usize * (head + 16));
    for level in 0..depth {
        let inside = u32::try_from(head).unwrap() * (depth - 1 - level);
        bytes.extend(opened(syntax, if defined { inside + 8 } else { u32::MAX }));
    }
    if !defined && closed {
        let ends: &[u8] = &[0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
        bytes.extend(ends.repeat(depth as usize));
    }
    bytes
}

/// Refused with 409 and "cannot understand", and nothing is left.
async fn assert_refused(server: &TestServer, what: &str, file: &[u8]) {
    let answer = server.store(&[file]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xC000]), "{what}: {}", answer.text());
}

async fn deep_nesting_is_refused_however_it_is_written(server: TestServer) {
    for syntax in [Syntax::Explicit, Syntax::Implicit] {
        for (depth, defined, closed) in [
            (10_000, true, true),
            (10_000, false, true),
            (10_000, false, false),
            (1_000_000, true, true),
            (1_000_000, false, true),
        ] {
            let what = format!("{syntax:?}, {depth} levels, defined: {defined}, closed: {closed}");
            assert_refused(&server, &what, &file(syntax, "1.2.3.4", &nested(syntax, depth, defined, closed))).await;
        }
        let uid = format!("{}.9", syntax.uid());
        let answer = server.store(&[file(syntax, &uid, &nested(syntax, 20, false, true))]).await;
        assert_eq!(answer.status, 200, "twenty levels are nothing: {}", answer.text());
    }
    assert!(server.is_alive().await && server.peak_memory() < 300 * MIB, "{} bytes", server.peak_memory());
}

async fn declared_lengths_cost_nothing(server: TestServer) {
    let long = |tag: [u8; 4], vr: &[u8], length: u32| [&tag[..], vr, b"\0\0", &length.to_le_bytes()].concat();
    let pixels = [0xe0, 0x7f, 0x10, 0x00];
    let private = [0x09, 0x00, 0x10, 0x10];
    let text = [0x40, 0x00, 0x60, 0xa1];
    let mut cases: Vec<Vec<u8>> = Vec::new();
    for length in [0xffff_fffe, 0x8000_0000, 0x7fff_fffe, 100] {
        cases.extend([
            long(pixels, b"OW", length),
            long(private, b"UN", length),
            long(text, b"UT", length),
            long(text, b"UC", length),
            long([0x40, 0x00, 0x75, 0x02], b"SQ", length),
        ]);
    }
    // fragments that are longer than what comes, and more of them than can be
    let fragment = |length: u32| [&[0xfe, 0xff, 0x00, 0xe0][..], &length.to_le_bytes()].concat();
    let encapsulated = long(pixels, b"OB", u32::MAX);
    cases.push([&encapsulated[..], &fragment(0), &fragment(0xffff_fffe)].concat());
    cases.push([&encapsulated[..], &fragment(0xffff_fff0), b"1234"].concat());
    cases.push([&encapsulated[..], &fragment(u32::MAX)].concat());
    for (number, tail) in cases.iter().enumerate() {
        assert_refused(&server, &format!("case {number}"), &file(Syntax::Explicit, "1.2.3.4", tail)).await;
    }
    server.is_left_empty().await;
    assert!(server.peak_memory() < 300 * MIB, "{} bytes", server.peak_memory());
}

/// Bytes replaced, removed, doubled, or cut off.
fn mutated(file: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..file.len().max(1)).min(file.len().saturating_sub(1));
        let length = random.random_range(1..64).min(file.len() - at);
        match random.random_range(0..6) {
            0 => file[at] = random.random(),
            1 => file[at] = [0, 0xff, 0x7f, 0x80][random.random_range(0..4)],
            2 => drop(file.drain(at..at + length)),
            3 => drop(file.splice(at..at, file[at..at + length].to_vec())),
            4 => file.truncate(at.max(1)),
            _ => file[at..at + length].fill(0xff),
        }
    }
    file
}

/// A good file of one of many kinds, with a UID of its own.
fn seed(round: usize, item: &Elements) -> Vec<u8> {
    let image = Elements::ct("1.2", "1.2.3", &format!("1.2.3.{round}"))
        .with(0x0008, 0x1140, VR::SQ, Value::Items(vec![item.clone(), item.clone()], true))
        .with(0x0040, 0x0275, VR::SQ, Value::Items(vec![item.clone()], false))
        .with(0x0009, 0x1010, VR::OB, Value::Bytes(vec![7; 3000]));
    match round % 7 {
        kind @ 0..4 => image.part10(Syntax::NATIVE[kind]),
        4 => image.encapsulated(&[&[1; 30], &[2; 31], &[3; 400]]).part10(Syntax::JPEG),
        5 => image.dataset(Syntax::Implicit),
        _ => image.without_preamble(Syntax::Explicit),
    }
}

async fn mutated_files_are_stored_or_refused_but_never_an_error_of_the_server(server: TestServer) {
    let mut random = StdRng::seed_from_u64(20);
    let item = Elements::default().text(0x0008, 0x0100, VR::SH, "code").number(0x0028, 0x0010, 7);
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    for round in 0..420 {
        let file = mutated(&seed(round, &item), &mut random);
        let answer = server.store(&[&file]).await;
        // a Patient ID that was hit is another one: stored with a warning
        assert!(matches!(answer.status, 200 | 202 | 409), "round {round}: {} {}", answer.status, answer.text());
        *statuses.entry(if answer.status == 409 { 409 } else { 200 }).or_default() += 1;
        for url in answer.retrieve_urls() {
            reads_back(&server, &url, round).await;
        }
    }
    println!("420 mutated files by status: {statuses:?}");
    assert!(statuses.len() == 2 && statuses.values().all(|count| *count > 40), "both happen: {statuses:?}");
    assert!(server.is_alive().await);
}

/// Whatever was stored can be read in every form, or says why not.
async fn reads_back(server: &TestServer, url: &str, round: usize) {
    for (path, accept) in [
        ("", "application/dicom; transfer-syntax=*"),
        ("", "application/dicom"),
        ("/metadata", JSON),
        ("/frames/1", "*/*"),
        ("/frames/1,2", "*/*"),
        ("/bulkdata/7FE00010", "*/*"),
    ] {
        let answer = server.get(&format!("{url}{path}"), accept).await;
        assert!(answer.status().as_u16() < 500, "round {round}{path}: {}", answer.status());
        let whole = answer.bytes().await;
        assert!(whole.is_ok(), "round {round}{path}: the answer was cut off");
    }
}

async fn uids_that_look_like_paths_are_refused(server: TestServer) {
    let before = server.files();
    for bad in [
        "../../etc/passwd",
        "1.2/../3",
        "..",
        "1..2",
        ".1",
        "1.",
        "1.2\\3",
        "1.2%2f3",
        "1.2.3\u{0}4",
        "1 2",
        "a.b",
        "-1",
    ] {
        for (group, element) in [(0x0008, 0x0018), (0x0020, 0x000d), (0x0020, 0x000e)] {
            let file =
                Elements::ct("1.2", "1.2.3", "1.2.3.4").text(group, element, VR::UI, bad).part10(Syntax::Explicit);
            assert_refused(&server, &format!("{bad:?} as ({group:04X},{element:04X})"), &file).await;
        }
        let quoted = bad.bytes().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "%{byte:02X}");
            text
        });
        for path in [
            format!("/studies/{quoted}/metadata"),
            format!("/studies/1.2/series/{quoted}/metadata"),
            format!("/studies/1.2/series/1.2.3/instances/{quoted}"),
            format!("/studies/1.2/series/1.2.3/instances/{quoted}/frames/1"),
            format!("/studies/1.2/series/1.2.3/instances/1.2.3.4/bulkdata/{quoted}"),
        ] {
            let answer = server.read(&path, "*/*").await;
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        }
    }
    let long = "1".repeat(65);
    let file = Elements::ct("1.2", "1.2.3", &long).part10(Syntax::Explicit);
    assert_refused(&server, "65 characters", &file).await;
    assert_eq!(server.files(), before);
}

async fn values_that_databases_dislike_are_stored(server: TestServer) {
    let odd = [
        "a\u{0}b",
        "'; drop table studies; --",
        "%_*?\\",
        "\u{7f}\u{1}\u{1b}$B",
        "\u{ff}\u{fe}\u{80}",
        &"x".repeat(60_000),
    ];
    for (number, text) in odd.iter().enumerate() {
        let (study, uid) = (format!("1.2.{number}"), format!("1.2.{number}.3.4"));
        let mut file = Elements::ct(&study, &format!("{study}.3"), &uid);
        // those that the index keeps in columns of their own
        for (group, element, vr) in [
            (0x0008, 0x0020, VR::DA),
            (0x0008, 0x0030, VR::TM),
            (0x0008, 0x0050, VR::SH),
            (0x0008, 0x0060, VR::CS),
            (0x0008, 0x0090, VR::PN),
            (0x0008, 0x1030, VR::LO),
            (0x0008, 0x103e, VR::LO),
            (0x0010, 0x0010, VR::PN),
            (0x0010, 0x0020, VR::LO),
            (0x0010, 0x0030, VR::DA),
            (0x0010, 0x0040, VR::CS),
            (0x0020, 0x0010, VR::SH),
            (0x0020, 0x0011, VR::IS),
            (0x0020, 0x0013, VR::IS),
            (0x0008, 0x0005, VR::CS),
        ] {
            file = file.text(group, element, vr, text);
        }
        let answer = server.store(&[file.part10(Syntax::Explicit)]).await;
        assert_eq!(answer.status, 200, "text {number}: {}", answer.text());
        for path in ["/studies", "/series", "/instances"] {
            assert_eq!(server.search(&format!("{path}?StudyInstanceUID={study}&includefield=all")).await.len(), 1);
        }
        let answer = server.read(&format!("/studies/{study}/metadata"), JSON).await;
        assert_eq!(answer.json()[0]["00080018"]["Value"][0], uid, "text {number}");
    }
}

/// A deflated file whose attributes come to so many bytes of the same character, which pack well.
fn greedy(uid: &str, megabytes: u16, filler: u8) -> Vec<u8> {
    let value = String::from_utf8(vec![filler; 60_000]).unwrap();
    let count = megabytes * 17;
    let fields = (0..count).map(|number| (0x0021 + 2 * (number / 200), 0x1000 + number % 200));
    fields.fold(small(uid), |all, (group, element)| all.text(group, element, VR::LT, &value)).part10(Syntax::Deflated)
}

/// Sends to a server of its own, all at once, and gives the statuses; the server must live and stay within bounds.
async fn besiege(what: &str, files: Vec<Vec<u8>>) -> Vec<u16> {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("data")).await;
    let uploads = files.iter().map(|file| server.store(std::slice::from_ref(file)));
    let answers: Vec<Answer> = join_all(uploads).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    println!("{what}: {statuses:?}, {} MiB at most", server.peak_memory() / MIB);
    for answer in &answers {
        // 503 is what a client gets that may try again
        assert!(matches!(answer.status, 200 | 409 | 503), "{what}: {} {}", answer.status, answer.text());
    }
    assert!(server.peak_memory() < MOST_MEMORY, "{what}: {} MiB", server.peak_memory() / MIB);
    assert!(server.is_alive().await, "{what}");
    let good = Elements::ct("1.9", "1.9.3", "1.9.3.4").part10(Syntax::Explicit);
    assert_eq!(server.store(&[good]).await.status, 200, "{what}: it goes on to serve others");
    for found in server.search("/instances?limit=100").await {
        let uid = found["00080018"]["Value"][0].as_str().unwrap();
        let series = found["0020000E"]["Value"][0].as_str().unwrap();
        let study = found["0020000D"]["Value"][0].as_str().unwrap();
        let path = format!("/studies/{study}/series/{series}/instances/{uid}/metadata");
        let answer = server.get(&path, JSON).await;
        assert_eq!(answer.status(), 200, "{what}: {path}");
    }
    assert!(server.peak_memory() < MOST_MEMORY, "{what}, read: {} MiB", server.peak_memory() / MIB);
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_want_the_most_memory_are_bounded_together() {
    besiege("values", vec![greedy("1.2.3.4", 60, b'x'); CLIENTS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_grow_as_they_are_written_are_bounded_together() {
    // each of these takes six bytes of JSON
    besiege("escapes", vec![greedy("1.2.3.4", 60, 1); CLIENTS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_without_values_are_bounded_together() {
    let empty: Vec<u8> = (0..1_300_000_u32)
        .flat_map(|number| {
            let tag = (0x0021 + 2 * (number / 60_000), 0x1000 + number % 60_000);
            let [group, element] = [u16::try_from(tag.0).unwrap(), u16::try_from(tag.1).unwrap()];
            [&group.to_le_bytes()[..], &element.to_le_bytes(), b"LO\0\0"].concat()
        })
        .collect();
    besiege("elements", vec![file(Syntax::Explicit, "1.2.3.4", &empty); CLIENTS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_headers_in_one_request_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("data")).await;
    let request = |client: usize| {
        let files: Vec<_> = (0..32).map(|number| greedy(&format!("1.2.3.{client}.{number}"), 1, b'x')).collect();
        let server = &server;
        async move { server.store(&files).await.status }
    };
    let statuses = join_all((0..CLIENTS / 2).map(request)).await;
    println!("requests of 32: {statuses:?}, {} MiB at most", server.peak_memory() / MIB);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 202 | 503)), "{statuses:?}");
    assert!(server.peak_memory() < MOST_MEMORY, "{} MiB", server.peak_memory() / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn deflate_bombs_are_refused_early() {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&small("1.2.3.4").dataset(Syntax::Explicit)).unwrap();
    encoder.write_all(b"\xe0\x7f\x10\x00OB\0\0\0\0\0\x7f").unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let whole = small("1.2.3.4").part10(Syntax::Deflated);
    let front = &whole[..whole.len() - small("1.2.3.4").dataset(Syntax::Deflated).len()];
    let file = [front, &bomb].concat();
    let statuses = besiege("bombs", vec![file; CLIENTS]).await;
    assert_eq!(statuses, [409; CLIENTS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_bodies_that_never_become_one_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("data")).await;
    let endless = |first: &'static [u8], piece: &'static [u8]| {
        let chunks = std::iter::once(first).chain(std::iter::repeat(piece)).map(Bytes::from_static);
        reqwest::Body::wrap_stream(stream::iter(chunks.map(Ok::<_, std::io::Error>)))
    };
    let kib = |byte: u8| -> &'static [u8] { Box::leak(vec![byte; 1024].into_boxed_slice()) };
    let header: &'static [u8] = Box::leak(format!("{}: x\r\n", "h".repeat(20)).into_bytes().into_boxed_slice());
    for (what, first, piece, expected) in [
        ("a preamble without end", &b"preamble"[..], kib(b'x'), 400),
        ("a preamble of lines", b"preamble", b"line\r\n", 400),
        ("a header without end", b"--b\r\nContent-Type: ", kib(b'x'), 413),
        ("headers without end", b"--b\r\n", header, 413),
        ("padding without end", b"--b", kib(b' '), 400),
    ] {
        let headers = [("content-type", "multipart/related; type=\"application/dicom\"; boundary=b"), ("accept", JSON)];
        let answer = server.send("POST", "/studies", &headers, endless(first, piece)).await;
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
    }
    // a header of a megabyte, in the part of an otherwise good body
    let (content_type, body) = multipart::write(&[small("1.2.3.4").part10(Syntax::Explicit)]);
    let head = body.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let large = [&body[..head], b"\r\nX-Large: ", &vec![b'x'; 1 << 20], &body[head..]].concat();
    let answer = server.send("POST", "/studies", &[("content-type", &content_type)], large).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(server.is_alive().await && server.peak_memory() < 300 * MIB, "{} bytes", server.peak_memory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_http_does_not_disturb_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("data")).await;
    let address = server.url("").replace("http://", "");
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let noise: Vec<u8> = (0..random.random_range(1..3000)).map(|_| random.random()).collect();
        // the server may close before all of it was written
        let _ = stream.write_all(&noise).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(server.is_alive().await);
}
