//! The server over real connections, byte by byte where clients of other kinds would hide what happens.

use std::net::SocketAddr;
use std::time::Duration;

use isocenter::config::Config;
use isocenter::serve::Server;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A server in this process, on a port and with a folder of its own.
struct Running {
    address: SocketAddr,
    handle: actix_web::dev::ServerHandle,
    app: isocenter::app::App,
    task: JoinHandle<isocenter::error::Result<()>>,
    _folder: TempDir,
}

async fn start(change: impl FnOnce(&mut Config)) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    config.server.listen = "127.0.0.1:0".parse().unwrap();
    config.server.workers = 1;
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    let (address, handle, app) = (server.address(), server.handle(), server.app().clone());
    Running { address, handle, app, task: tokio::spawn(server.run()), _folder: folder }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    /// The head and body of an answer to a request for a path.
    async fn get(&self, path: &str) -> String {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    async fn stop(self) {
        self.handle.stop(true).await;
        self.task.await.unwrap().unwrap();
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset after the answer has still answered.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the answer so far has a text.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        answer.extend_from_slice(&buffer[..read]);
        let seen = String::from_utf8_lossy(&answer).into_owned();
        if seen.contains(text) {
            return seen;
        }
        assert_ne!(read, 0, "closed after {seen}");
    }
}

const STORE: &str = "POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n\
                     Content-Type: multipart/related; type=\"application/dicom\"; boundary=b\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_before_the_body_is_asked_for() {
    let server = start(|config| config.limits.request_size = 1000).await;
    let cases = [
        ("Origin: https://evil.example\r\nContent-Length: 10\r\n", "HTTP/1.1 403 "),
        ("Content-Length: 1001\r\n", "HTTP/1.1 413 "),
    ];
    for (headers, status) in cases {
        let answer = server.exchange(&format!("{STORE}{headers}Expect: 100-continue\r\n\r\n")).await;
        assert!(answer.starts_with(status) && answer.contains("application/problem+json"), "{answer}");
        // Without `Expect` the answer is the same, and the body that was sent does not hide it.
        let answer = server.exchange(&format!("{STORE}{headers}\r\n{}", "x".repeat(10))).await;
        assert!(answer.starts_with(status), "{answer}");
    }
    let mut stream = server.connect().await;
    stream.write_all(format!("{STORE}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    drop(stream);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_another_host_are_misdirected() {
    let server = start(|_| {}).await;
    let answer = server.exchange("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let answer = server.exchange("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = server.exchange("GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_over_the_limits_are_refused() {
    let server = start(|config| config.limits.request_size = 1000).await;
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200 << 10));
    let answer = server.exchange(&long).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let part = "--b\r\nContent-Type: application/dicom\r\n\r\n";
    let chunk = format!("{part}{}", "x".repeat(2000));
    let chunked = format!("{STORE}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    let answer = server.exchange(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_dawdle_are_cut() {
    let server = start(|config| {
        config.server.request_timeout = Duration::from_secs(1);
        config.server.idle_timeout = Duration::from_millis(200);
    })
    .await;
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    let answer = server.exchange("GET / HTTP/1.1\r\nHost: loc").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let answer = server.exchange(&format!("{STORE}Content-Length: 100\r\n\r\n--b\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_has_the_headers_of_get_and_no_body() {
    let server = start(|_| {}).await;
    let get = server.get("/health/live").await;
    let (headers, body) = get.split_once("\r\n\r\n").unwrap();
    let length = format!("content-length: {}", body.len());
    assert!(headers.contains(&length));
    let request = "HEAD /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let head = server.exchange(request).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&length) && head.ends_with("\r\n\r\n"), "{head}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_id_and_errors_name_it() {
    let server = start(|_| {}).await;
    let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: my-id.1\r\nConnection: close\r\n\r\n";
    let answer = server.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("x-request-id: my-id.1\r\n"), "{answer}");
    assert!(answer.contains("\"requestId\":\"my-id.1\""), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_touches_the_database() {
    let server = start(|_| {}).await;
    let answer = server.get("/health/ready").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"database\":\"ok\""), "{answer}");
    server.stop().await;
    let server = start(|_| {}).await;
    server.app.catalogue.close().await;
    let answer = server.get("/health/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"database\":\"failed\""), "{answer}");
    assert!(answer.contains("\"store\":\"ok\""), "{answer}");
    assert!(server.get("/health/live").await.starts_with("HTTP/1.1 200 "));
    server.handle.stop(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route() {
    let server = start(|_| {}).await;
    server.get("/dicom-web/studies?PatientName=Secret").await;
    let page = server.get("/metrics").await;
    let counted = "isocenter_http_requests_total{route=\"search_studies\",status=\"2xx\"} ";
    let line = page.lines().find_map(|line| line.strip_prefix(counted)).unwrap();
    assert_ne!(line, "0");
    assert!(page.contains("isocenter_http_request_duration_seconds_bucket{route=\"search_studies\""));
    assert!(page.contains("process_resident_memory_bytes "));
    assert!(!page.contains("Secret"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_are_finished_at_shutdown() {
    let server = start(|_| {}).await;
    let body = "--b\r\nContent-Type: application/dicom\r\n\r\nno DICOM\r\n--b--\r\n";
    let mut stream = server.connect().await;
    let head = format!("{STORE}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // The request runs: its handler has asked for the body.
    read_until(&mut stream, "100 Continue\r\n\r\n").await;
    let (handle, address) = (server.handle.clone(), server.address);
    let stopped = tokio::spawn(async move { handle.stop(true).await });
    // New connections are refused as soon as the listener is closed.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
    stopped.await.unwrap();
    server.task.await.unwrap().unwrap();
}
