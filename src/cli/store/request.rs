//! One STOW-RS request: files as a streamed multipart body, sent again where that can help.

use super::answer;
use super::progress::Progress;
use super::report::Outcome;
use super::turns::Identified;
use crate::cli::text::printable;
use crate::config::masked;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Body, Response, StatusCode, Url};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use uuid::Uuid;

/// Bytes that are read of a file at once.
const PIECE: u64 = 512 << 10;
/// Bytes of an answer that are read at most.
const ANSWER: usize = 64 << 20;
/// How often a request is sent.
const TRIES: u32 = 6;
/// The wait after the first failure; doubled after each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How long nothing may move, neither there nor back.
const STALL: Duration = Duration::from_mins(5);

/// The server that is sent to.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    studies: Url,
    /// How the user named it, its password masked.
    name: String,
    answered: AtomicBool,
}

/// Why it makes no sense to go on.
#[derive(Debug)]
pub struct Stop(pub Error);

/// What is known about a file after a request.
#[derive(Debug)]
pub enum Reply {
    /// Its outcome.
    Is(Outcome),
    /// Nothing for sure; sent alone it may be told.
    Unclear(String),
}

/// An open file of a request.
struct Part {
    file: Arc<File>,
    size: u64,
}

enum Answer {
    Dataset(serde_json::Value),
    /// Success without saying more.
    Success,
    /// No success without saying more; again has no sense, in other groups it may have.
    Refused(String),
}

/// A failure of one try.
enum Failure {
    /// Worth another try, after a time that the server may name.
    Passing {
        why: String,
        wait: Option<Duration>,
        lasting: Lasting,
    },
    Stop(Stop),
}

/// What it means if a failure does not pass.
#[derive(Clone, Copy)]
enum Lasting {
    /// The server takes nothing.
    Server,
    /// These files cannot be sent together, or one of them not at all.
    Files,
}

fn passing(why: String, lasting: Lasting) -> Failure {
    Failure::Passing { why, wait: None, lasting }
}

impl Client {
    /// A client for the DICOMweb root of a server.
    pub fn new(root: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::bad_request(format!("`--to {}` is not the URL of a DICOMweb server: {why}", masked(root)))
        };
        if !names_host(root) {
            return Err(wrong("it must begin with http:// or https://, and a host must follow"));
        }
        let studies = Url::parse(&format!("{}/studies", root.trim_end_matches('/')))
            .map_err(|error| wrong(&error.to_string()))?;
        if studies.query().is_some() || studies.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        // an error means that one is installed already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("isocenter/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10));
        let local = ["127.", "localhost", "[::1]"];
        if studies.host_str().is_some_and(|host| local.iter().any(|local| host.starts_with(local))) {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|error| Error::internal("the HTTP client cannot be made").caused_by(error))?;
        let name = masked(studies.as_str().strip_suffix("/studies").unwrap_or_default());
        Ok(Self { http, studies, name, answered: AtomicBool::new(false) })
    }

    /// Sends files in one request and tells what became of each, as far as the answer says.
    pub async fn send(&self, files: &[Identified], progress: &Progress) -> Result<Vec<(PathBuf, Reply)>, Stop> {
        let paths: Vec<PathBuf> = files.iter().map(|file| file.file.path.clone()).collect();
        let opened = tokio::task::spawn_blocking(move || {
            let part = |path: PathBuf| (open(&path), path);
            paths.into_iter().map(part).collect::<Vec<_>>()
        });
        let opened = opened.await.map_err(|error| Stop(Error::internal("reading files failed").caused_by(error)))?;
        let mut replies = Vec::with_capacity(opened.len());
        let mut paths = Vec::new();
        let mut uids = Vec::new();
        let mut parts = Vec::new();
        for ((part, path), file) in opened.into_iter().zip(files) {
            match part {
                Ok(part) => {
                    paths.push(path);
                    uids.push(file.uids.clone());
                    parts.push(part);
                }
                Err(error) => replies.push((path, Reply::Is(Outcome::Failed(format!("cannot be read: {error}"))))),
            }
        }
        if parts.is_empty() {
            return Ok(replies);
        }
        let unclear = |why: &str| Reply::Unclear(why.to_owned());
        let parts_replies: Vec<Reply> = match self.send_until_answered(parts, progress).await? {
            Answer::Success => uids.iter().map(|_| Reply::Is(Outcome::Stored)).collect(),
            Answer::Refused(why) => uids.iter().map(|_| unclear(&why)).collect(),
            Answer::Dataset(dataset) => answer::assign(&dataset, &uids)
                .into_iter()
                .map(|outcome| {
                    outcome.map_or_else(|| unclear("the answer of the server does not tell of it"), Reply::Is)
                })
                .collect(),
        };
        replies.extend(paths.into_iter().zip(parts_replies));
        Ok(replies)
    }

    async fn send_until_answered(&self, parts: Vec<Part>, progress: &Progress) -> Result<Answer, Stop> {
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = Arc::new(AtomicU64::new(0));
            match self.try_once(&parts, &sent, progress).await {
                Ok(answer) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Failure::Stop(stop)) => return Err(stop),
                Err(Failure::Passing { why, lasting: Lasting::Server, .. }) if tries == TRIES => {
                    return Err(Stop(Error::new(ErrorKind::Unavailable, why)));
                }
                Err(Failure::Passing { why, .. }) if tries == TRIES => return Ok(Answer::Refused(why)),
                Err(Failure::Passing { wait: asked, .. }) => {
                    progress.again(sent.load(Ordering::Relaxed));
                    tokio::time::sleep(asked.unwrap_or(wait).min(LONGEST_WAIT)).await;
                    wait = wait.saturating_mul(2);
                }
            }
        }
    }

    async fn try_once(&self, parts: &[Part], sent: &Arc<AtomicU64>, progress: &Progress) -> Result<Answer, Failure> {
        let boundary = Uuid::new_v4().simple().to_string();
        let (body, length) = body(parts, &boundary, Arc::clone(sent));
        let request = self
            .http
            .post(self.studies.clone())
            .header(CONTENT_TYPE, format!("multipart/related; type=\"application/dicom\"; boundary={boundary}"))
            .header(ACCEPT, "application/dicom+json")
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(body))
            .send();
        let response = match watched(request, sent, progress).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => return Err(self.no_response(&error)),
            None => return Err(passing(format!("the server at {} does not answer", self.name), Lasting::Server)),
        };
        self.understand(response).await
    }

    fn no_response(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() && !self.answered.load(Ordering::Relaxed) {
            let name = &self.name;
            let message = match name.strip_prefix("https://") {
                Some(rest) if is_without_tls(error) => {
                    format!("the server at {name} seems not to speak TLS; try `--to http://{rest}`")
                }
                _ => {
                    format!("no DICOMweb server at {name}: start one with `isocenter serve`, or name another with --to")
                }
            };
            return Failure::Stop(Stop(Error::unavailable(message, cause(error))));
        }
        let lasting = if error.is_connect() { Lasting::Server } else { Lasting::Files };
        passing(format!("no answer from the server: {}", cause(error)), lasting)
    }

    async fn understand(&self, response: Response) -> Result<Answer, Failure> {
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let name = &self.name;
        let stop = |why: String| Err(Failure::Stop(Stop(Error::new(ErrorKind::Unavailable, why))));
        let media_type = media_type(&response);
        let text = match read(response).await {
            Ok(text) => text,
            Err(error) => return Err(passing(format!("the answer of the server broke off: {error}"), Lasting::Files)),
        };
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Err(Failure::Passing { why: described(status, &text), wait: asked, lasting: Lasting::Server })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => stop(format!(
                "the server at {name} does not let you store ({status}); user and password may be part of --to"
            )),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                stop(format!("nothing can be stored at {name} ({status}); is this the DICOMweb root of the server?"))
            }
            _ => match serde_json::from_slice(&text) {
                Ok(dataset)
                    if (status.is_success() || status == StatusCode::CONFLICT) && answer::is_dataset(&dataset) =>
                {
                    Ok(Answer::Dataset(dataset))
                }
                // a page of something in between says nothing about files, whatever its status
                _ if status.is_success() && !text.trim_ascii().is_empty() => Ok(Answer::Refused(format!(
                    "the server answered {status} {media_type}, which is no DICOM JSON data set; is --to its DICOMweb root?"
                ))),
                _ if status == StatusCode::OK || status == StatusCode::NO_CONTENT => Ok(Answer::Success),
                _ => Ok(Answer::Refused(described(status, &text))),
            },
        }
    }
}

/// Waits for an answer as long as something moves.
async fn watched<T>(request: impl Future<Output = T>, sent: &AtomicU64, progress: &Progress) -> Option<T> {
    let mut request = std::pin::pin!(request);
    let mut before = 0;
    let mut still = Duration::ZERO;
    loop {
        /// Often enough that the bar moves.
        const LOOK: Duration = Duration::from_millis(200);
        let answer = tokio::time::timeout(LOOK, request.as_mut()).await;
        let now = sent.load(Ordering::Relaxed);
        progress.sent(now - before);
        still = if now == before { still + LOOK } else { Duration::ZERO };
        before = now;
        match answer {
            Ok(answer) => return Some(answer),
            Err(_) if still >= STALL => return None,
            Err(_) => {}
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<Part> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok(Part { file: Arc::new(file), size })
}

enum Piece {
    Text(Bytes),
    File(Arc<File>, u64, u64),
}

/// The multipart body and its length ([RFC 2387](https://www.rfc-editor.org/rfc/rfc2387)).
fn body(parts: &[Part], boundary: &str, sent: Arc<AtomicU64>) -> (BoxStream<'static, io::Result<Bytes>>, u64) {
    let mut pieces = VecDeque::new();
    let mut length = 0u64;
    for (index, part) in parts.iter().enumerate() {
        let line_break = if index == 0 { "" } else { "\r\n" };
        let head = format!("{line_break}--{boundary}\r\nContent-Type: application/dicom\r\n\r\n");
        length += head.len() as u64 + part.size;
        pieces.push_back(Piece::Text(head.into()));
        pieces.push_back(Piece::File(Arc::clone(&part.file), 0, part.size));
    }
    let end = format!("\r\n--{boundary}--\r\n");
    length += end.len() as u64;
    pieces.push_back(Piece::Text(end.into()));
    let stream = stream::try_unfold(pieces, move |mut pieces| {
        let sent = Arc::clone(&sent);
        async move {
            loop {
                match pieces.pop_front() {
                    None => return Ok(None),
                    Some(Piece::Text(text)) => return Ok(Some((text, pieces))),
                    Some(Piece::File(_, from, to)) if from == to => {}
                    Some(Piece::File(file, from, to)) => {
                        let until = to.min(from + PIECE);
                        let source = Arc::clone(&file);
                        let piece = tokio::task::spawn_blocking(move || read_piece(&source, from, until - from));
                        let piece = piece.await.map_err(io::Error::other)??;
                        sent.fetch_add(until - from, Ordering::Relaxed);
                        pieces.push_front(Piece::File(file, until, to));
                        return Ok(Some((piece, pieces)));
                    }
                }
            }
        }
    });
    (stream.boxed(), length)
}

fn read_piece(mut file: &File, from: u64, length: u64) -> io::Result<Bytes> {
    file.seek(io::SeekFrom::Start(from))?;
    let mut piece = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut piece)?;
    if piece.len() as u64 == length {
        Ok(piece.into())
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was sent"))
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if text.len() + piece.len() > ANSWER {
            break;
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// Seconds or a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(value.trim().trim_end_matches("GMT").trim_end(), &Rfc2822)
        .or_else(|_| OffsetDateTime::parse(&value.trim().replace("GMT", "+0000"), &Rfc2822))
        .ok()?;
    Some(Duration::try_from(at - crate::clock::now()).unwrap_or(Duration::ZERO))
}

/// A status and the first line of its explanation.
fn described(status: StatusCode, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let message = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = message.as_ref().and_then(|message| {
        ["message", "Message", "detail", "title", "error"].into_iter().find_map(|name| message.get(name)?.as_str())
    });
    let line = message.unwrap_or(&text).lines().next().unwrap_or_default().trim();
    let line = printable(&line.chars().take(200).collect::<String>());
    if line.is_empty() || line.starts_with('<') || line.starts_with('{') {
        format!("the server answered {status}")
    } else {
        format!("the server answered {status}: {line}")
    }
}

/// Whether a text is a URL of HTTP that goes on with a host. The parser of URLs takes any number of slashes before it.
fn names_host(root: &str) -> bool {
    let (scheme, rest) = root.split_once("://").unwrap_or_default();
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        && rest.starts_with(|character: char| !matches!(character, '/' | '\\'))
}

/// What a server says that its answer is.
fn media_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let value: String = value.split(';').next().unwrap_or_default().trim().chars().take(100).collect();
    if value.is_empty() { "without a media type".to_owned() } else { format!("with `{}`", printable(&value)) }
}

/// Whether what answered is no TLS, or hung up on it.
fn is_without_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        // an `io::Error` shows what is in it not as its source
        let inner = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn std::error::Error + 'static));
        let tls = error.downcast_ref::<rustls::Error>();
        if matches!(tls, Some(rustls::Error::InvalidMessage(_)))
            || io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
        {
            return true;
        }
        next = inner.or_else(|| error.source());
    }
    false
}

/// The deepest cause of an error.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
