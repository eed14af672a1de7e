//! The requests: the same bytes and headers for every server.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};

const BOUNDARY: &str = "isocenter-load-7d29a1c0f4";
/// Whole instances as stored, in the multipart form that every server has.
pub const INSTANCES: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
/// Frames as stored, in the multipart form.
pub const FRAMES: &str = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";
/// Metadata, search results, answers to storing.
pub const JSON: &str = "application/dicom+json";

/// A DICOMweb root and its connections.
#[derive(Clone)]
pub struct Client {
    root: String,
    http: reqwest::Client,
}

impl Client {
    /// Keeps as many connections open as requests run at once.
    pub fn new(root: &str, connections: usize) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(connections)
            .timeout(Duration::from_mins(2))
            .build()?;
        Ok(Self { root: root.trim_end_matches('/').to_owned(), http })
    }

    /// Stores one file whose last `length` bytes come so many times; how many bytes it has. The client holds them once.
    pub async fn store_repeating(&self, file: Vec<u8>, length: usize, times: u32) -> Result<u64, String> {
        let mut start = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n").into_bytes();
        let (header, piece) = file.split_at(file.len() - length);
        start.extend(header);
        let end = format!("\r\n--{BOUNDARY}--\r\n").into_bytes();
        let bytes = header.len() as u64 + length as u64 * u64::from(times);
        let all = bytes + (start.len() - header.len() + end.len()) as u64;
        let pieces = std::iter::repeat_n(Bytes::copy_from_slice(piece), times as usize);
        let chunks = std::iter::once(start.into()).chain(pieces).chain([end.into()]);
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks.map(Ok::<_, std::io::Error>)));
        let request = self.store_request().header(CONTENT_LENGTH, all).timeout(Duration::from_mins(10)).body(body);
        stored(&send(request).await?, 1).map(|()| bytes)
    }

    fn store_request(&self) -> reqwest::RequestBuilder {
        let content_type = format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}");
        self.http.post(format!("{}/studies", self.root)).header(CONTENT_TYPE, content_type).header(ACCEPT, JSON)
    }

    /// Stores these files in one request; whether all of them were stored.
    pub async fn store(&self, files: &[Vec<u8>]) -> Result<(), String> {
        let mut body = Vec::with_capacity(files.iter().map(|file| file.len() + 128).sum());
        for file in files {
            body.extend(format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n").as_bytes());
            body.extend(file);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
        stored(&send(self.store_request().body(body)).await?, files.len())
    }

    /// The body of an answer.
    pub async fn get(&self, path: &str, accept: &str) -> Result<Bytes, String> {
        send(self.http.get(format!("{}{path}", self.root)).header(ACCEPT, accept)).await
    }
}

/// One item of the Referenced SOP Sequence for each stored instance, and no Failed SOP Sequence.
fn stored(answer: &[u8], files: usize) -> Result<(), String> {
    let stored = memchr::memmem::find_iter(answer, b"\"00081155\"").count();
    let refused = memchr::memmem::find(answer, b"\"00081197\"").is_some();
    if stored == files && !refused { Ok(()) } else { Err(format!("{stored} of {files} stored")) }
}

async fn send(request: reqwest::RequestBuilder) -> Result<Bytes, String> {
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    if status.as_u16() == 200 { Ok(body) } else { Err(format!("status {status}")) }
}
