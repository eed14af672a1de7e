//! The requests: the same bytes and headers for every server.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};

use crate::series::File;

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
            .timeout(Duration::from_mins(10))
            .build()?;
        Ok(Self { root: root.trim_end_matches('/').to_owned(), http })
    }

    /// Stores these files in one request; whether all of them were stored.
    pub async fn store(&self, files: &[File]) -> Result<(), String> {
        let mut pieces = Vec::with_capacity(files.len() * 3 + 1);
        let delimiter = Bytes::from(format!("\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n"));
        for file in files {
            // the first has no line to end
            pieces.push(delimiter.slice(if pieces.is_empty() { 2 } else { 0 }..));
            pieces.extend(file.pieces());
        }
        pieces.push(format!("\r\n--{BOUNDARY}--\r\n").into());
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
        let request = self
            .http
            .post(format!("{}/studies", self.root))
            .header(CONTENT_TYPE, format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}"))
            .header(CONTENT_LENGTH, length)
            .header(ACCEPT, JSON);
        stored(&send(request.body(body)).await?, files.len())
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
