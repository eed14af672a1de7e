//! A table of hostile requests against one running server: what each is answered, that the connection is sane afterwards,
//! that the server goes on to serve others, and that all of them together cost no memory.

mod amounts;
mod bodies;
mod bulk_data;
mod encodings;
mod messages;
mod metadata;
mod native_model;
mod part10;
mod parts;
mod paths;
mod slow;

use crate::support::binary::Binary;
use crate::support::generate::{Elements, Syntax};
use crate::support::raw::{Raw, RawAnswer};
use crate::support::server::{BackEnds, TestServer};

/// The process may take no more over the whole table: some 40 MiB that it always takes, the upload buffers, one large header.
const MOST_MEMORY: u64 = 300 << 20;
/// A row that takes so much more than those before it is named.
const TOLD_MEMORY: u64 = 8 << 20;
/// Rows that the table has at least.
const LEAST_ROWS: usize = 1_000;
/// The connection ends without an answer.
const CLOSED: u16 = 0;
/// Cannot understand.
const NOT_UNDERSTOOD: u16 = 0xC000;

/// One hostile request.
struct Row {
    what: String,
    /// What is sent, in pieces.
    send: Vec<Vec<u8>>,
    /// The client closes its side then.
    half_close: bool,
    /// Any of these is right; the first is what comes today.
    status: Vec<u16>,
    /// The failure reasons of an answer to storing.
    reasons: Vec<u16>,
}

impl Row {
    /// A request as it goes over the wire.
    fn raw(what: impl Into<String>, send: impl Into<Vec<u8>>, status: u16) -> Self {
        Self {
            what: what.into(),
            send: vec![send.into()],
            half_close: false,
            status: vec![status],
            reasons: Vec::new(),
        }
    }

    /// A storing request with this Content-Type.
    fn store(what: impl Into<String>, content_type: &str, body: impl AsRef<[u8]>, status: u16) -> Self {
        Self::raw(what, post(&[("Content-Type", content_type)], body.as_ref()), status)
    }

    /// One instance in an otherwise good request.
    fn file(what: impl Into<String>, file: impl AsRef<[u8]>, status: u16) -> Self {
        let row = Self::store(what, RELATED, parts(&[file]), status);
        if status == 409 { row.because(&[NOT_UNDERSTOOD]) } else { row }
    }

    /// The reasons that the answer gives.
    fn because(mut self, reasons: &[u16]) -> Self {
        self.reasons = reasons.to_vec();
        self
    }

    /// Another status is as right.
    fn or(mut self, status: u16) -> Self {
        self.status.push(status);
        self
    }

    /// The client sends nothing more and says so.
    fn and_ends(mut self) -> Self {
        self.half_close = true;
        self
    }

    /// Cuts what is sent.
    fn cut(mut self, size: usize) -> Self {
        self.send = self.send.concat().chunks(size).map(<[u8]>::to_vec).collect();
        self
    }
}

const RELATED: &str = "multipart/related; type=\"application/dicom\"; boundary=b";
const PART: &str = "--b\r\nContent-Type: application/dicom\r\n\r\n";

/// A small good file with a UID of its own below study 1.2.
fn good(number: usize) -> Vec<u8> {
    Elements::ct("1.2", "1.2.3", &format!("1.2.3.{number}")).part10(Syntax::Explicit)
}

/// A multipart body with boundary `b`.
fn parts<F: AsRef<[u8]>>(files: &[F]) -> Vec<u8> {
    let mut body: Vec<u8> = files.iter().flat_map(|file| [PART.as_bytes(), file.as_ref(), b"\r\n"].concat()).collect();
    body.extend(b"--b--\r\n");
    body
}

/// The head of a storing request, without its end.
fn head() -> String {
    "POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nAccept: application/dicom+json\r\n".to_owned()
}

/// A storing request with its length.
fn post(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = head();
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    let end = format!("Content-Length: {}\r\n\r\n", body.len());
    [text.as_bytes(), end.as_bytes(), body].concat()
}

/// A request without a body.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_request_is_answered_and_nothing_stays() {
    let mut server = TestServer::start(BackEnds::Local).await;
    // what is hostile in a row is its form, not whose it is
    server.restart_with(&[("ISOCENTER_STORE_OTHER_PATIENT", "accept")]).await;
    assert_eq!(server.store(&[good(1)]).await.status, 200);
    let rows: Vec<Row> = [
        messages::rows(),
        paths::rows(),
        bodies::rows(),
        parts::rows(),
        part10::rows(),
        encodings::rows(),
        metadata::rows(),
        native_model::rows(),
        bulk_data::rows(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(rows.len() >= LEAST_ROWS, "{} rows", rows.len());
    let mut wrong = Vec::new();
    let mut peak = server.peak_memory();
    for row in &rows {
        wrong.extend(judge(&server, row).await.map(|fault| format!("{}: {fault}", row.what)));
        assert!(server.is_alive().await, "{}: the server is gone:\n{}", row.what, server.log());
        let before = std::mem::replace(&mut peak, server.peak_memory());
        if peak.saturating_sub(before) >= TOLD_MEMORY {
            println!("{}: {} MiB after {} MiB", row.what, peak >> 20, before >> 20);
        }
    }
    println!("{} rows, {} MiB at most", rows.len(), server.peak_memory() >> 20);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(server.peak_memory() < MOST_MEMORY, "{} MiB", server.peak_memory() >> 20);
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(server.objects(), server.instances_counted().await, "objects without rows");
}

/// Sends a row; what is wrong with the answer, if anything.
async fn judge(server: &Binary, row: &Row) -> Option<String> {
    let mut connection = Raw::connect(address(server).as_str()).await;
    let pieces: Vec<&[u8]> = row.send.iter().map(Vec::as_slice).collect();
    let answer = connection.exchange(&pieces, row.half_close).await;
    if !row.status.contains(&answer.status) {
        return Some(format!("status {} instead of {:?}: {}", answer.status, row.status, answer.text()));
    }
    if answer.status == row.status[0] && answer.failure_reasons() != row.reasons {
        return Some(format!("reasons {:04X?} instead of {:04X?}", answer.failure_reasons(), row.reasons));
    }
    if let Some(fault) = unsafe_text(&answer) {
        return Some(fault);
    }
    if answer.keeps_alive() && !row.half_close {
        let next = connection.exchange(&[get("/health/live").as_bytes()], true).await;
        (next.status != 200).then(|| format!("the connection goes on with status {}", next.status))
    } else {
        (!connection.closes().await).then(|| "the connection stays open".to_owned())
    }
}

/// A refusal is a problem document with the id of the request, or the response of PS3.18, and shows nothing of the inside.
fn unsafe_text(answer: &RawAnswer) -> Option<String> {
    let text = answer.text();
    let inside = ["src/", "panicked", ".rs:", "sqlx", "stack backtrace", "/tmp/"];
    inside.iter().find(|word| text.contains(**word)).map(|word| format!("the answer says `{word}`: {text}"))
}

/// Where a server listens.
fn address(server: &Binary) -> String {
    server.url("").replace("http://", "")
}
