//! Objects in a bucket of an S3-compatible store, or in memory through the same code.
//!
//! An object up to one part is sent in one request, in the background, so that the parts of a request travel beside each
//! other; a larger one in parts. An object without a name cannot be sent: beyond one part it waits in a temporary file,
//! as does one that finds the memory of all uploads used up ([`upload`]).
//! `object_store`'s own way to use another runtime buffers whole bodies for slow readers, hence the tasks and the
//! bounded channels here.

mod spill;
mod upload;

pub(super) use upload::{Staged, Upload, make_durable};

use super::budget::Budget;
use super::keys::StorageKey;
use super::receipts::Receipt;
use super::{ByteStream, Work, gathered, received};
use crate::config::StorageSettings;
use crate::error::{Error, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attribute, ClientConfigKey, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

/// The least that S3 takes as a part that is not the last.
const LEAST_PART: usize = 5 << 20;
/// Pieces of a body are gathered up to this size before they are handed on.
const PIECE: usize = 256 << 10;
/// Pieces of a body that wait for a slow reader.
const WAITING: usize = 2;
/// Requests that send something at once, of all uploads.
const SENDING: usize = 32;
/// How often a body that breaks off is asked for again without any byte of progress.
const RESUMES: u32 = 3;
/// How long the store may take to answer at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The name of the metadata that holds the receipt.
const RECEIPT: &str = "isocenter-receipt";
/// What follows the key of an object in that of its receipt.
const RECEIPT_SUFFIX: &str = ".receipt";

/// Sizes that do not change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a part, and of the largest object that is sent in one request.
    pub(super) part: usize,
}

impl Limits {
    pub(super) fn new(settings: &StorageSettings) -> Self {
        let half = settings.upload_buffer_bytes / 2;
        let part = usize::try_from(settings.part_bytes.min(half)).unwrap_or(usize::MAX);
        Self { part: part.clamp(LEAST_PART, 1 << 30) }
    }
}

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    limits: Limits,
    work: Work,
    budget: Budget,
    sending: Arc<Semaphore>,
}

impl Bucket {
    pub(super) fn memory(limits: Limits, work: Work, budget: Budget) -> Self {
        let sending = Arc::new(Semaphore::new(SENDING));
        Self { store: Arc::new(InMemory::new()), prefix: String::new(), limits, work, budget, sending }
    }

    /// Refuses variables that no client can be made of.
    pub(super) fn check(bucket: &str) -> Result<()> {
        // an error means that one is installed already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let built = with_timeouts(builder, endpoint.as_deref()).build();
        built.map(drop).map_err(|error| not_usable(bucket, endpoint.as_deref(), &error))
    }

    pub(super) async fn open(
        bucket: &str,
        prefix: &str,
        access: &[(&str, &str)],
        limits: Limits,
        work: Work,
        budget: Budget,
    ) -> Result<Self> {
        // an error means that one is installed already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        for (key, value) in access {
            let key: AmazonS3ConfigKey =
                key.parse().map_err(|error: object_store::Error| not_usable(bucket, None, &error))?;
            builder = builder.with_config(key, *value);
        }
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let has_key = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
        let build = |builder: AmazonS3Builder, retries: usize, timeout: Duration| {
            let retry = RetryConfig { max_retries: retries, retry_timeout: timeout, ..RetryConfig::default() };
            let built = with_timeouts(builder.with_retry(retry), endpoint.as_deref()).build();
            built.map_err(|error| not_usable(bucket, endpoint.as_deref(), &error))
        };
        let probe: Arc<dyn ObjectStore> = Arc::new(build(builder.clone(), 1, Duration::from_secs(5))?);
        let path = Path::from(join(prefix, StorageKey::probe(Uuid::now_v7()).as_str()));
        let tried = work.runtime.spawn(tokio::time::timeout(OPEN_TIMEOUT, try_out(probe, path))).await;
        match tried.map_err(super::stopped)? {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refused(bucket, endpoint.as_deref(), has_key, error)),
            Err(_) => return Err(no_answer(bucket, endpoint.as_deref(), has_key)),
        }
        let store = Arc::new(build(builder, 5, Duration::from_mins(1))?);
        let sending = Arc::new(Semaphore::new(SENDING));
        Ok(Self { store, prefix: prefix.to_owned(), limits, work, budget, sending })
    }

    fn path(&self, key: &StorageKey) -> Result<Path> {
        Ok(Path::from(join(&self.prefix, key.checked()?)))
    }

    fn receipt_path(&self, key: &StorageKey) -> Result<Path> {
        Ok(Path::from(join(&self.prefix, key.checked()?) + RECEIPT_SUFFIX))
    }

    pub(super) async fn read(&self, key: &StorageKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        let path = self.path(key)?;
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            check_end(range, self.exists(key).await?)?;
            return Ok(stream::empty().boxed());
        }
        let store = Arc::clone(&self.store);
        let (opened, open) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(WAITING);
        self.work.runtime.spawn(send_body(store, path, range, opened, sender));
        open.await.map_err(|error| Error::unavailable("the object store is being closed", error))??;
        Ok(received(receiver))
    }

    pub(super) async fn read_bytes(&self, key: &StorageKey, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            check_end(&range, self.exists(key).await?)?;
            return Ok(Bytes::new());
        }
        let path = self.path(key)?;
        let store = Arc::clone(&self.store);
        self.work
            .on_runtime(async move {
                let bytes = store.get_range(&path, range.clone()).await.map_err(unreadable)?;
                if bytes.len() as u64 == range.end - range.start { Ok(bytes) } else { Err(beyond(&range)) }
            })
            .await
    }

    pub(super) async fn exists(&self, key: &StorageKey) -> Result<Option<u64>> {
        let path = self.path(key)?;
        let store = Arc::clone(&self.store);
        self.work
            .on_runtime(async move {
                match store.head(&path).await {
                    Ok(meta) => Ok(Some(meta.size)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(unavailable(error)),
                }
            })
            .await
    }

    pub(super) async fn receipt(&self, key: &StorageKey) -> Result<Option<Receipt>> {
        let (path, beside) = (self.path(key)?, self.receipt_path(key)?);
        let store = Arc::clone(&self.store);
        self.work
            .on_runtime(async move {
                let head = match store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await {
                    Ok(head) => head,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(unavailable(error)),
                };
                if let Some(receipt) = head.attributes.get(&Attribute::Metadata(RECEIPT.into())) {
                    return Ok(Receipt::from_text(receipt));
                }
                match store.get(&beside).await {
                    Ok(body) => {
                        let text = body.bytes().await.map_err(unavailable)?;
                        Ok(std::str::from_utf8(&text).ok().and_then(Receipt::from_text))
                    }
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(unavailable(error)),
                }
            })
            .await
    }

    pub(super) async fn remove(&self, key: &StorageKey) -> Result<()> {
        let (path, beside) = (self.path(key)?, self.receipt_path(key)?);
        let store = Arc::clone(&self.store);
        self.work
            .on_runtime(async move {
                let (object, receipt) = tokio::join!(store.delete(&path), store.delete(&beside));
                for removed in [object, receipt] {
                    match removed {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => return Err(unavailable(error)),
                    }
                }
                Ok(())
            })
            .await
    }

    pub(super) fn list(&self, prefix: &str) -> BoxStream<'static, Result<(StorageKey, u64)>> {
        let store = Arc::clone(&self.store);
        let (sender, receiver) = mpsc::channel(64);
        let whole = join(&self.prefix, prefix);
        let root = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        self.work.runtime.spawn(async move {
            let mut found = store.list(Some(&Path::from(whole)).filter(|path| !path.as_ref().is_empty()));
            while let Some(next) = found.next().await {
                let next = match next {
                    Ok(meta) => {
                        let Some(key) = meta.location.as_ref().strip_prefix(&root) else { continue };
                        if key.ends_with(RECEIPT_SUFFIX) {
                            continue;
                        }
                        Ok((StorageKey::from_index(key.to_owned()), meta.size))
                    }
                    Err(error) => Err(unavailable(error)),
                };
                if sender.send(next).await.is_err() {
                    return;
                }
            }
        });
        received(receiver)
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
}

/// No limit for a whole request, for a body may be large and its reader slow; but one for each wait, which
/// `AWS_READ_TIMEOUT` may change.
fn with_timeouts(builder: AmazonS3Builder, endpoint: Option<&str>) -> AmazonS3Builder {
    let client = AmazonS3ConfigKey::Client;
    let wait = builder.get_config_value(&client(ClientConfigKey::ReadTimeout));
    let builder = builder
        .with_config(client(ClientConfigKey::Timeout), "7days")
        .with_config(client(ClientConfigKey::ConnectTimeout), "5s")
        .with_config(client(ClientConfigKey::ReadTimeout), wait.unwrap_or_else(|| "60s".to_owned()));
    // whoever wrote `http://` meant it; `AWS_ALLOW_HTTP` need not repeat it
    let http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    if http { builder.with_config(client(ClientConfigKey::AllowHttp), "true") } else { builder }
}

/// Sends a body piece by piece, and asks for the rest again where it breaks off.
async fn send_body(
    store: Arc<dyn ObjectStore>,
    path: Path,
    range: Option<Range<u64>>,
    opened: oneshot::Sender<Result<()>>,
    pieces: mpsc::Sender<Result<Bytes>>,
) {
    let mut opened = Some(opened);
    let mut wanted = range;
    let mut failures = 0;
    loop {
        let options = GetOptions { range: wanted.clone().map(GetRange::Bounded), ..GetOptions::default() };
        let result = match store.get_opts(&path, options).await {
            Ok(result) if wanted.as_ref().is_none_or(|wanted| *wanted == result.range) => Ok(result),
            Ok(_) => Err(wanted.as_ref().map_or_else(|| Error::lost("object missing"), beyond)),
            Err(error) => Err(unreadable(error)),
        };
        let (body, mut left) = match (result, opened.take()) {
            (Ok(result), first) => {
                if let Some(opened) = first {
                    let _ = opened.send(Ok(()));
                }
                let left = wanted.take().unwrap_or_else(|| result.range.clone());
                (result.into_stream(), left)
            }
            (Err(error), Some(opened)) => {
                let _ = opened.send(Err(error));
                return;
            }
            (Err(error), None) => {
                let _ = pieces.send(Err(error)).await;
                return;
            }
        };
        let mut body = std::pin::pin!(gathered(body.map(|piece| piece.map_err(unavailable)), PIECE));
        let broken = loop {
            match body.next().await {
                Some(Ok(piece)) => {
                    left.start = left.start.saturating_add(piece.len() as u64);
                    failures = 0;
                    if pieces.send(Ok(piece)).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => break error,
                None if left.is_empty() => return,
                None => break Error::lost("the object became shorter while it was read"),
            }
        };
        failures += 1;
        if failures > RESUMES || left.is_empty() {
            let _ = pieces.send(Err(broken)).await;
            return;
        }
        wanted = Some(left);
    }
}

fn check_end(range: &Range<u64>, size: Option<u64>) -> Result<()> {
    match size {
        Some(size) if range.end <= size => Ok(()),
        Some(_) => Err(beyond(range)),
        None => Err(Error::lost("object missing")),
    }
}

fn beyond(range: &Range<u64>) -> Error {
    Error::lost(format!("the object does not have the range {}..{}", range.start, range.end))
}

fn unavailable(error: object_store::Error) -> Error {
    Error::unavailable("the object store is unavailable", error)
}

/// An error of reading: an object that is missing or too short is damage, for a row named it.
fn unreadable(error: object_store::Error) -> Error {
    match &error {
        object_store::Error::NotFound { .. } => Error::lost("object missing").caused_by(error),
        other if is_range_beyond(other) => Error::lost("the object does not have the range").caused_by(error),
        _ => unavailable(error),
    }
}

/// A range that starts beyond the end has an error of its own; the store in memory has no other.
fn is_range_beyond(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { store: "InMemory", .. })
        || text_of(error).contains("status code: 416")
}

/// Looks for, writes, reads and removes an object. There are stores that make a missing bucket when something is written.
async fn try_out(store: Arc<dyn ObjectStore>, path: Path) -> Result<(), object_store::Error> {
    store.list(Some(&path)).next().await.transpose()?;
    store.put(&path, PutPayload::from_static(b"probe")).await?;
    store.get(&path).await?.bytes().await?;
    store.delete(&path).await
}

/// All that an error says, causes included.
fn text_of(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn is_unreachable(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout);
        }
        cause = error.source();
    }
    false
}

fn at(endpoint: Option<&str>) -> String {
    endpoint.map_or_else(|| "AWS".to_owned(), |endpoint| format!("`{endpoint}`"))
}

fn not_usable(bucket: &str, endpoint: Option<&str>, error: &object_store::Error) -> Error {
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string().replace('\n', " ");
    Error::configuration(format!(
        "the bucket `{bucket}` at {} cannot be used: {text}; check the AWS_* variables",
        at(endpoint)
    ))
}

fn no_answer(bucket: &str, endpoint: Option<&str>, has_key: bool) -> Error {
    if has_key {
        Error::configuration(format!(
            "the object store at {} does not answer; check AWS_ENDPOINT_URL and whether it runs",
            at(endpoint)
        ))
    } else {
        Error::configuration(format!(
            "there are no credentials for the bucket `{bucket}`; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ))
    }
}

/// An error at the start, with what to do. A listing has no error of its own for a missing bucket or refused credentials.
fn refused(bucket: &str, endpoint: Option<&str>, has_key: bool, error: object_store::Error) -> Error {
    let place = at(endpoint);
    let text = text_of(&error);
    let is_status = |status: &str| text.contains(&format!("status code: {status}"));
    if matches!(error, object_store::Error::NotFound { .. }) || text.contains("NoSuchBucket") {
        Error::configuration(format!(
            "there is no bucket `{bucket}` at {place}; create it or name another with --storage-url"
        ))
    } else if matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })
        || is_status("401")
        || is_status("403")
    {
        Error::configuration(format!(
            "the credentials are refused for the bucket `{bucket}` at {place}; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and that they may list, read, write and delete"
        ))
    } else if !has_key || is_unreachable(&error) {
        no_answer(bucket, endpoint, has_key)
    } else {
        not_usable(bucket, endpoint, &error)
    }
    .caused_by(error)
}
