//! Clients that take their time: a byte now and then, in the head or in the body, and what they hold meanwhile.

use std::io::Write as _;
use std::time::Duration;

use dicom_core::VR;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use futures_util::future::join_all;

use super::part10::{front, small};
use super::{CLOSED, PART, RELATED, address, get, good, head};
use crate::support::binary::Binary;
use crate::support::generate::{Elements, Syntax};
use crate::support::raw::{Raw, RawAnswer};

/// A server that loses patience soon: by rate, long before a client counts as standing still.
const IMPATIENT: [(&str, &str); 4] = [
    ("ISOCENTER_SERVER_RATE_WINDOW", "500ms"),
    ("ISOCENTER_SERVER_IDLE_TIMEOUT", "5m"),
    ("ISOCENTER_SERVER_REQUEST_TIMEOUT", "1s"),
    ("ISOCENTER_SERVER_KEEP_ALIVE", "1s"),
];
/// How often a slow client sends a byte.
const NOW_AND_THEN: Duration = Duration::from_millis(20);

async fn impatient(folder: &tempfile::TempDir) -> Binary {
    Binary::start_with(&folder.path().join("data"), &IMPATIENT).await
}

/// Sends the beginning of a request, then a byte now and then.
async fn trickle(server: &Binary, beginning: &[u8], byte: u8) -> (RawAnswer, Raw) {
    let mut connection = Raw::connect(&address(server)).await;
    assert!(connection.send(beginning).await);
    let answer = connection.drip(byte, NOW_AND_THEN).await;
    (answer, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_byte_now_and_then_is_cut_by_408() {
    let folder = tempfile::tempdir().unwrap();
    let server = impatient(&folder).await;
    let with = |headers: &str, body: &[u8]| {
        let head = format!("{}Content-Type: {RELATED}\r\n{headers}\r\n\r\n", head());
        [head.as_bytes(), body].concat()
    };
    let half = [PART.as_bytes(), &good(1)[..200]].concat();
    // its header goes on with the name of a file
    let gzip = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03";
    let single = format!("{}Content-Type: application/dicom\r\nContent-Length: 99999\r\n\r\n", head());
    for (what, beginning) in [
        ("nothing of a body", with("Content-Length: 99999", b"")),
        ("a preamble", with("Content-Length: 99999", b"preamble")),
        ("the headers of a part", with("Content-Length: 99999", b"--b\r\nX: ")),
        ("half an instance", with("Content-Length: 99999", &half)),
        ("half an instance in a chunk", with("Transfer-Encoding: chunked", &[b"fffff\r\n", &half[..]].concat())),
        ("the header of gzip", with("Content-Length: 99999\r\nContent-Encoding: gzip", gzip)),
        ("half an instance as the body", [single.as_bytes(), &good(1)[..200]].concat()),
        ("an epilogue", with("Content-Length: 99999", b"--b\r\n\r\nx\r\n--b--\r\n")),
    ] {
        let (answer, connection) = trickle(&server, &beginning, b'x').await;
        // what follows the closing delimiter belongs to nothing, so the answer to the rest is given
        let expected = if what == "an epilogue" { 409 } else { 408 };
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        assert!(!answer.keeps_alive(), "{what}");
        assert!(connection.closes().await, "{what}");
    }
    assert_eq!(server.store(&[good(1)]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_byte_now_and_then_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let server = impatient(&folder).await;
    for beginning in ["G", "GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let (answer, connection) = trickle(&server, beginning.as_bytes(), b'x').await;
        assert!(matches!(answer.status, CLOSED | 408), "{beginning}: {}", answer.status);
        assert!(connection.closes().await, "{beginning}");
    }
    let mut connection = Raw::connect(&address(&server)).await;
    assert_eq!(connection.exchange(&[get("/health/live").as_bytes()], false).await.status, 200);
    let answer = connection.drip(b'x', NOW_AND_THEN).await;
    assert!(matches!(answer.status, CLOSED | 408), "the second head on a connection: {}", answer.status);
    assert!(connection.closes().await);
    // a connection that says nothing more, and one that never said anything
    let mut silent = Raw::connect(&address(&server)).await;
    assert_eq!(silent.exchange(&[get("/health/live").as_bytes()], false).await.status, 200);
    assert!(silent.closes().await && Raw::connect(&address(&server)).await.closes().await);
    assert!(server.is_alive().await);
}

/// The beginning of a request whose instance has some 60 MB of attributes, packed into little.
fn large_header(uid: &str, megabytes: u16) -> Vec<u8> {
    let value = "x".repeat(60_000);
    let fields = (0..megabytes * 17).map(|number| (0x0021 + 2 * (number / 200), 0x1000 + number % 200));
    let all = fields.fold(small(uid), |all, (group, element)| all.text(group, element, VR::LT, &value));
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&all.dataset(Syntax::Explicit)).unwrap();
    encoder.flush().unwrap();
    [&front(Syntax::Deflated)[..], encoder.get_ref()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hold_the_memory_of_headers_and_hardly_send_do_not_keep_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let server = impatient(&folder).await;
    let beginning = |client: u32| {
        let head = format!("{}Content-Type: {RELATED}\r\nContent-Length: 99999999\r\n\r\n{PART}", head());
        [head.as_bytes(), &large_header(&format!("1.2.3.{client}"), 60)].concat()
    };
    let beginnings: Vec<_> = (0..6).map(beginning).collect();
    // what follows an open deflate stream: blocks of nothing
    let held = join_all(beginnings.iter().map(|beginning| trickle(&server, beginning, 0))).await;
    let statuses: Vec<u16> = held.iter().map(|(answer, _)| answer.status).collect();
    assert_eq!(statuses, [408; 6]);
    drop(held);
    let value = "x".repeat(60_000);
    let fields = (0..200).map(|number| (0x0021, 0x1000 + number));
    let large = fields.fold(Elements::ct("1.2", "1.2.3", "1.2.3.9"), |all, (group, element)| {
        all.text(group, element, VR::LT, &value)
    });
    let answer = server.store(&[large.part10(Syntax::Explicit)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
