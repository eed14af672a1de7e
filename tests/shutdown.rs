//! The real binary, told to end while clients are served: it takes no more of them, and finishes what it began.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use dicom_core::VR;

use crate::support::binary::Binary;
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::multipart;

/// More than the sockets between client and server hold.
const LARGE: usize = 64 << 20;
/// More than the server keeps of an upload before it writes.
const MEDIUM: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_upload_and_a_running_download_are_finished_before_the_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Binary::start(folder.path()).await;
    let (down, up) = (instance("2.25.1", LARGE), instance("2.25.2", MEDIUM));
    assert_eq!(server.store(&[&down]).await.status, 200);

    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut download = TcpStream::connect(&address).unwrap();
    let path = "/dicom-web/studies/2.25.1.1/series/2.25.1.2/instances/2.25.1";
    write!(
        download,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/dicom\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut begun = [0; 4096];
    download.read_exact(&mut begun).unwrap();
    let mut upload = TcpStream::connect(&address).unwrap();
    let (content_type, body) = multipart::write(&[&up]);
    let length = body.len();
    write!(
        upload,
        "POST /dicom-web/studies HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    // Its handler has asked for the body, so the request runs.
    let mut asked = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    upload.read_exact(&mut asked).unwrap();
    upload.write_all(&body[..length / 2]).unwrap();

    terminate(&server);
    while TcpStream::connect(&address).is_ok() {
        tokio::task::yield_now().await;
    }
    upload.write_all(&body[length / 2..]).unwrap();
    assert!(rest(upload).starts_with(b"HTTP/1.1 200 "), "the upload is acknowledged");
    let answer = [&begun[..], &rest(download)].concat();
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&down), "the download is whole");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());

    let server = Binary::start(folder.path()).await;
    assert_eq!(server.instances_counted().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_what_the_first_would_wait_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Binary::start(folder.path()).await;
    let address = server.url("").trim_start_matches("http://").to_owned();
    let (content_type, body) = multipart::write(&[&instance("2.25.1", MEDIUM)]);
    let mut upload = TcpStream::connect(&address).unwrap();
    write!(
        upload,
        "POST /dicom-web/studies HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    )
    .unwrap();
    let mut asked = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    upload.read_exact(&mut asked).unwrap();
    upload.write_all(&body[..body.len() / 2]).unwrap();
    terminate(&server);
    while TcpStream::connect(&address).is_ok() {
        tokio::task::yield_now().await;
    }
    terminate(&server);
    // it would wait for the rest of the upload, which never comes
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    drop(upload);
    let server = Binary::start(folder.path()).await;
    assert_eq!(server.instances_counted().await, 0);
}

fn instance(uid: &str, size: usize) -> Vec<u8> {
    let pixels = Value::Bytes((0..251).cycle().take(size).collect());
    let ct = Elements::ct(&format!("{uid}.1"), &format!("{uid}.2"), uid);
    ct.with(0x7fe0, 0x0010, VR::OW, pixels).part10(Syntax::Explicit)
}

fn terminate(server: &Binary) {
    let status = Command::new("kill").args(["-TERM", &server.pid().to_string()]).status().unwrap();
    assert!(status.success());
}

fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}
