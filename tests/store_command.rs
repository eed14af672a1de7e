//! `isocenter store` against servers that answer as the many that are in use do.

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use dicom_core::VR;
use isocenter::cli::store::{Outcome, Report, StoreArgs, send};
use isocenter::error::ErrorKind;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

use crate::support::corpus::{Corpus, Expected, report};
use crate::support::generate::{Elements, Syntax, Value as Content};
use crate::support::server::{BackEnds, TestServer};

/// The parts of a request.
type Parts = Vec<Vec<u8>>;
type Answer = fn(request: usize, parts: &Parts) -> HttpResponse;

/// A server that keeps what it gets and answers by a rule.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Parts>>>,
    handle: ServerHandle,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let requests: Arc<Mutex<Vec<Parts>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let server = HttpServer::new(move || {
            let seen = Arc::clone(&seen);
            let store = move |request: HttpRequest, body: web::Bytes| {
                let parts = parts(&request, &body);
                let mut seen = seen.lock().unwrap();
                seen.push(parts);
                let response = answer(seen.len(), seen.last().unwrap());
                async move { response }
            };
            let limit = web::PayloadConfig::new(usize::MAX);
            App::new().app_data(limit).route("/dicom-web/studies", web::post().to(store))
        })
        .workers(1)
        .bind(("127.0.0.1", 0))
        .unwrap();
        let url = format!("http://{}/dicom-web/", server.addrs()[0]);
        let server = server.disable_signals().run();
        let handle = server.handle();
        std::thread::spawn(move || actix_web::rt::System::new().block_on(server));
        Self { url, requests, handle }
    }

    fn parts_per_request(&self) -> Vec<usize> {
        self.requests.lock().unwrap().iter().map(Vec::len).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

fn parts(request: &HttpRequest, body: &[u8]) -> Parts {
    let content_type = request.headers().get("content-type").unwrap().to_str().unwrap();
    assert!(content_type.starts_with("multipart/related; type=\"application/dicom\"; boundary="), "{content_type}");
    assert_eq!(request.headers().get("content-length").unwrap().to_str().unwrap(), body.len().to_string());
    let boundary = format!("\r\n--{}", content_type.rsplit('=').next().unwrap());
    let mut rest = [b"\r\n", body].concat();
    let mut parts = Vec::new();
    loop {
        rest = rest.strip_prefix(boundary.as_bytes()).unwrap().to_vec();
        if rest == b"--\r\n" {
            return parts;
        }
        rest = rest.strip_prefix(b"\r\nContent-Type: application/dicom\r\n\r\n").unwrap().to_vec();
        let end = memchr::memmem::find(&rest, boundary.as_bytes()).unwrap();
        parts.push(rest[..end].to_vec());
        rest.drain(..end);
    }
}

/// A file whose file meta information names a UID, of a given size.
fn file(folder: &Path, name: &str, uid: &str, size: usize) {
    let mut bytes = vec![0; 128];
    bytes.extend_from_slice(b"DICM\x02\0\x03\0UI");
    bytes.extend_from_slice(&u16::try_from(uid.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(uid.as_bytes());
    bytes.resize(size.max(bytes.len()), b'x');
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn uid(part: &[u8]) -> Option<String> {
    let length = usize::from(*part.get(138)?);
    Some(String::from_utf8(part.get(140..140 + length)?.to_vec()).unwrap())
}

fn item(uid: Option<String>, reason: Option<u16>) -> Value {
    let mut item = json!({});
    if let Some(uid) = uid {
        item["00081155"] = json!({"vr": "UI", "Value": [uid]});
    }
    if let Some(reason) = reason {
        item["00081197"] = json!({"vr": "US", "Value": [reason]});
    }
    item
}

/// Answers as the standard wants: parts that are no DICOM, and UIDs that end in 9, are refused.
fn standard(_: usize, parts: &Parts) -> HttpResponse {
    let mut sequences: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for part in parts {
        match uid(part) {
            None => sequences.entry("0008119A").or_default().push(item(None, Some(0xC000))),
            Some(uid) if uid.ends_with('9') => {
                sequences.entry("00081198").or_default().push(item(Some(uid), Some(0x0111)));
            }
            Some(uid) => sequences.entry("00081199").or_default().push(item(Some(uid), None)),
        }
    }
    let failed = sequences.keys().any(|tag| *tag != "00081199");
    let dataset: BTreeMap<_, _> =
        sequences.into_iter().map(|(tag, items)| (tag, json!({"vr": "SQ", "Value": items}))).collect();
    let mut response = if failed { HttpResponse::Accepted() } else { HttpResponse::Ok() };
    response.content_type("application/dicom+json").json(dataset)
}

fn arguments(folder: &TempDir, to: &str) -> StoreArgs {
    StoreArgs { paths: vec![folder.path().to_owned()], to: to.to_owned(), parallel: 2, json: false }
}

async fn sent(folder: &TempDir, server: &Server) -> Report {
    send(&arguments(folder, &server.url)).await.unwrap()
}

fn stored(report: &Report) -> usize {
    report.count(|outcome| *outcome == Outcome::Stored)
}

fn names(report: &Report, wanted: &Outcome) -> Vec<String> {
    let files = report.outcomes().find(|(outcome, _)| *outcome == wanted).map_or(&[][..], |(_, files)| files);
    let mut names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_arrives_whole_and_every_refusal_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100 {
        file(folder.path(), &format!("{number:03}.dcm"), &format!("1.2.{number}"), 1000 * number);
    }
    std::fs::write(folder.path().join("notes.txt"), "not DICOM").unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    file(folder.path(), "large.dcm", "1.2.3.4", 70_000_000);
    let server = Server::start(standard);
    let report = sent(&folder, &server).await;
    assert_eq!(stored(&report), 91);
    let other = Outcome::Refused { reason: Some(0x0111), comment: None };
    assert_eq!(names(&report, &other).len(), 10);
    assert_eq!(names(&report, &Outcome::Refused { reason: Some(0xC000), comment: None }), ["empty", "notes.txt"]);
    assert!(!report.is_complete());
    assert!(report.to_text().contains("103 files"), "{}", report.to_text());
    let mut received: Vec<Vec<u8>> = server.requests.lock().unwrap().iter().flatten().cloned().collect();
    let mut expected: Vec<Vec<u8>> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    received.sort();
    expected.sort();
    assert!(received == expected, "each file was sent once, as it is");
    assert!(server.parts_per_request().into_iter().all(|parts| parts <= 32));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_a_request_for_one_part_gets_the_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..4 {
        file(folder.path(), &number.to_string(), &format!("1.2.{number}"), 1000);
    }
    std::fs::write(folder.path().join("bad"), "not DICOM").unwrap();
    let server = Server::start(|_, parts| {
        if parts.iter().any(|part| uid(part).is_none()) {
            HttpResponse::BadRequest().json(json!({"Message": "Cannot parse an invalid DICOM file"}))
        } else {
            HttpResponse::Ok().finish()
        }
    });
    let report = sent(&folder, &server).await;
    assert_eq!(stored(&report), 4);
    let why = "the server answered 400 Bad Request: Cannot parse an invalid DICOM file".to_owned();
    assert_eq!(names(&report, &Outcome::Failed(why)), ["bad"]);
    assert_eq!(server.parts_per_request(), [5, 1, 1, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_an_answer_cannot_tell_apart_are_sent_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("first"), "a report").unwrap();
    std::fs::write(folder.path().join("second"), "a letter!").unwrap();
    file(folder.path(), "third", "1.3", 1000);
    // a server that makes images of other files, some of them
    let server = Server::start(|_, parts| {
        let (good, bad): (Parts, Parts) = parts.iter().cloned().partition(|part| part.len() % 2 == 0);
        let good = good.iter().map(|part| item(uid(part).or(Some("2.25.1".to_owned())), None)).collect::<Vec<_>>();
        let bad = bad.iter().map(|part| item(uid(part), Some(0xC000))).collect::<Vec<_>>();
        HttpResponse::Accepted().json(json!({
            "0008119A": {"vr": "SQ", "Value": bad},
            "00081199": {"vr": "SQ", "Value": good},
        }))
    });
    let report = sent(&folder, &server).await;
    assert_eq!(names(&report, &Outcome::Stored), ["first", "third"]);
    assert_eq!(names(&report, &Outcome::Refused { reason: Some(0xC000), comment: None }), ["second"]);
    assert_eq!(server.parts_per_request(), [3, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_instance_are_sent_one_after_the_other_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..60 {
        file(folder.path(), &format!("{number:02}"), &format!("1.2.{}", number % 25), 500 + number);
    }
    let server = Server::start(standard);
    let arguments = StoreArgs { parallel: 8, ..arguments(&folder, &server.url) };
    send(&arguments).await.unwrap();
    let requests = server.requests.lock().unwrap();
    let mut sizes = BTreeMap::<String, Vec<usize>>::new();
    for parts in requests.iter() {
        let uids: BTreeSet<_> = parts.iter().map(|part| uid(part)).collect();
        assert_eq!(uids.len(), parts.len(), "an answer tells the files of a request apart");
        for part in parts {
            sizes.entry(uid(part).unwrap()).or_default().push(part.len());
        }
    }
    assert_eq!(sizes.len(), 25);
    assert!(sizes.values().all(|sizes| sizes.is_sorted()), "{sizes:?}");
    assert_eq!(requests.iter().map(Vec::len).sum::<usize>(), 60);
}

/// Twenty instances that come three times, the second time with another content, the third as the first; the files of an
/// instance lie near each other or far apart, some are data sets alone. What comes first takes longest.
fn contended(folder: &Path) -> BTreeMap<String, Outcome> {
    let mut expected = BTreeMap::new();
    for instance in 0..20 {
        let far = instance % 2 == 0;
        for copy in 0..3 {
            let name = if far { format!("{copy}/{instance:02}") } else { format!("1/{instance:02}-{copy}") };
            let size = if copy == 1 { 10 } else { 200_000 };
            let elements = Elements::ct("1.2", "1.2.3", &format!("1.2.3.{instance}")).with(
                0x7fe0,
                0x0010,
                VR::OW,
                Content::Words(vec![7; size]),
            );
            let syntax = Syntax::NATIVE[instance % 3];
            let bytes = if instance % 5 == 4 { elements.dataset(syntax) } else { elements.part10(syntax) };
            std::fs::create_dir_all(folder.join(&name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(&name), bytes).unwrap();
            let outcome = match copy {
                0 => Outcome::Stored,
                1 => refused(0x0111),
                _ => Outcome::Present,
            };
            expected.insert(name, outcome);
        }
    }
    // refused, so what comes after it under its UID is stored
    let whole = Elements::ct("1.2", "1.2.3", "1.2.3.99").part10(Syntax::Explicit);
    std::fs::write(folder.join("0/cut"), &whole[..whole.len() - 5]).unwrap();
    std::fs::write(folder.join("1/whole"), whole).unwrap();
    std::fs::write(folder.join("0/notes.txt"), "not DICOM").unwrap();
    expected.insert("0/cut".to_owned(), refused(0xC000));
    expected.insert("0/notes.txt".to_owned(), refused(0xC000));
    expected.insert("1/whole".to_owned(), Outcome::Stored);
    expected
}

fn refused(reason: u16) -> Outcome {
    Outcome::Refused { reason: Some(reason), comment: None }
}

/// The outcome of each file by its path, without what the server adds in words.
fn by_path(report: &Report, folder: &Path) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    for (outcome, files) in report.outcomes() {
        let outcome = match outcome {
            Outcome::Refused { reason: Some(reason), .. } => refused(*reason),
            other => other.clone(),
        };
        assert!(files.is_sorted());
        for file in files {
            let path = file.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            assert_eq!(outcomes.insert(path, outcome.clone()), None);
        }
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_files_of_one_instance_the_first_is_stored_however_many_requests_run() {
    let folder = tempfile::tempdir().unwrap();
    let expected = contended(folder.path());
    for parallel in [1, 3, 16] {
        let server = TestServer::start(BackEnds::Local).await;
        let arguments = StoreArgs { parallel, ..arguments(&folder, &server.root()) };
        let report = send(&arguments).await.unwrap();
        assert_eq!(by_path(&report, folder.path()), expected, "{parallel} at once");
        assert_eq!(server.instances_counted().await, 21, "{parallel} at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_the_corpus_as_a_folder_has_the_expected_outcome_for_each_file() {
    let Some(corpus) = Corpus::find() else { return report("sent", 0) };
    let outcome = |expected| match expected {
        // which of the files of a study comes first, when several requests run, nobody knows; so it is not known which differs
        Expected::Stored | Expected::Warned(_) => Outcome::Stored,
        Expected::Duplicate => Outcome::Present,
        Expected::Refused(reason) => refused(reason),
    };
    let server = TestServer::start(BackEnds::Local).await;
    let arguments = StoreArgs { paths: vec![corpus.folder.clone()], to: server.root(), parallel: 3, json: false };
    let mut outcomes = by_path(&send(&arguments).await.unwrap(), &corpus.folder);
    let (mut wrong, mut warned) = (Vec::new(), 0);
    for file in &corpus.files {
        let mut got = outcomes.remove(&file.path);
        if let Some(Outcome::Warned { reason: 0xB007, .. }) = got {
            warned += 1;
            got = Some(Outcome::Stored);
        }
        if got.as_ref() != Some(&outcome(file.expected)) {
            wrong.push(format!("{}: {:?} expected, {got:?}", file.path, file.expected));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}\n", wrong.len(), wrong.join("\n"));
    assert_eq!(warned, corpus.files.iter().filter(|file| matches!(file.expected, Expected::Warned(_))).count());
    // what describes the corpus is no image
    assert!(outcomes.values().all(|outcome| *outcome == refused(0xC000)), "{outcomes:?}");
    report("sent", corpus.files.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_about_the_files_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "file", "1.2", 1000);
    let answers: [(Answer, Option<&str>); 8] = [
        (|_, _| HttpResponse::Ok().finish(), None),
        (|_, _| HttpResponse::NoContent().finish(), None),
        (
            |_, _| HttpResponse::Ok().content_type("text/html; charset=utf-8").body("<p>Log in</p>"),
            Some("with `text/html`"),
        ),
        (
            |_, _| HttpResponse::Accepted().content_type("text/plain").body("Log in"),
            Some("202 Accepted with `text/plain`"),
        ),
        (
            |_, _| {
                HttpResponse::Ok().content_type("application/dicom+json").body("{\"00081199\": {\"vr\": \"SQ\", \"Va")
            },
            Some("with `application/dicom+json`, which is no DICOM JSON data set"),
        ),
        (|_, _| HttpResponse::Ok().json(json!({"message": "Log in"})), Some("no DICOM JSON data set")),
        (|_, _| HttpResponse::Ok().body("Log in"), Some("no DICOM JSON data set")),
        (
            |_, _| {
                HttpResponse::Ok()
                    .json(json!({"00081199": {"vr": "SQ", "Value": [item(Some("9.9".to_owned()), None)]}}))
            },
            Some("another instance than the one in the file"),
        ),
    ];
    for (answer, expected) in answers {
        let report = sent(&folder, &Server::start(answer)).await;
        let text = report.to_text();
        assert_eq!(report.is_complete(), expected.is_none(), "{text}");
        assert!(text.contains(expected.unwrap_or("1 stored")) && !text.contains("Log in"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "file", "1.2", 1000);
    let server = Server::start(|request, parts| match request {
        1 => HttpResponse::ServiceUnavailable().insert_header(("Retry-After", "0")).finish(),
        2 => HttpResponse::TooManyRequests().insert_header(("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")).finish(),
        _ => standard(request, parts),
    });
    let report = sent(&folder, &server).await;
    assert!(report.is_complete());
    assert_eq!(server.parts_per_request(), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_has_to_change_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "file", "1.2", 1000);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let forbidden = Server::start(|_, _| HttpResponse::Unauthorized().finish());
    let elsewhere = forbidden.url.replace("dicom-web", "elsewhere");
    for (to, kind, expected) in [
        (format!("http://{free}/dicom-web"), ErrorKind::Unavailable, "start one with `isocenter serve`"),
        (forbidden.url.clone(), ErrorKind::Unavailable, "does not let you store (401 Unauthorized)"),
        (elsewhere.clone(), ErrorKind::Unavailable, "is this the DICOMweb root of the server?"),
        (elsewhere.replace("//", "//me:SECRET@"), ErrorKind::Unavailable, "http://me:***@127.0.0.1"),
        (
            forbidden.url.replace("http:", "https:"),
            ErrorKind::Unavailable,
            "not to speak TLS; try `--to http://127.0.0.1",
        ),
        ("http://".to_owned(), ErrorKind::BadRequest, "`--to http://` is not the URL"),
        ("https:///".to_owned(), ErrorKind::BadRequest, "a host must follow"),
        ("http://me:SECRET@127.0.0.1:9/x?y".to_owned(), ErrorKind::BadRequest, "has a query"),
        ("http://me:SECRET@127.0.0.1:x".to_owned(), ErrorKind::BadRequest, "invalid port"),
        ("me:SECRET@server".to_owned(), ErrorKind::BadRequest, "must begin with http"),
        ("ftp://server".to_owned(), ErrorKind::BadRequest, "must begin with http:// or https://"),
        ("server:8080".to_owned(), ErrorKind::BadRequest, "is not the URL of a DICOMweb server"),
    ] {
        let error = send(&arguments(&folder, &to)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let whole = format!("{error:?}");
        assert!(!whole.contains("SECRET") && whole.matches("404 Not Found").count() < 2, "{whole}");
        assert!(error.message().contains(expected) && !error.message().contains('\n'), "{error}");
    }
    let missing = StoreArgs { paths: vec!["/nowhere/at/all".into()], ..arguments(&folder, &forbidden.url) };
    assert_eq!(send(&missing).await.unwrap_err().kind(), ErrorKind::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_to_a_server_that_stops_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..70 {
        file(folder.path(), &format!("{number:03}"), &format!("1.2.{number}"), 1000);
    }
    let server = Server::start(|request, parts| {
        let not_bad = |part: &Vec<u8>| !uid(part).unwrap().ends_with('9');
        let good: Parts = parts.iter().filter(|part| not_bad(part)).cloned().collect();
        if request == 1 { standard(request, &good) } else { HttpResponse::Forbidden().finish() }
    });
    let arguments = StoreArgs { parallel: 1, ..arguments(&folder, &server.url) };
    let report = send(&arguments).await.unwrap();
    // of the first request three are not told of; sent again, they meet a closed door
    assert_eq!(
        (stored(&report), report.count(|outcome| *outcome == Outcome::NotSent)),
        (29, 41),
        "{}",
        report.to_text()
    );
    assert_eq!(server.parts_per_request(), [32, 1]);
    assert!(report.to_text().contains("stopped: the server at"), "{}", report.to_text());
    assert!(!report.is_complete());
}
