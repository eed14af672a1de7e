//! Bytes at rest: objects that are written once under a key of their own, read whole or by range, and removed.
//!
//! ```text
//! begin → Upload ─ write* ─ name ─ write* ─ finish → Staged ─ make_durable → Stored ─ keep
//! ```
//! An object is not there before [`ObjectStorage::make_durable`], and it is gone again if [`Stored::keep`] is never
//! called: each of the three removes what it left when it is dropped. `keep` is called when the rows are committed.
//!
//! A folder ([`folder`]) and a bucket ([`s3`]) do the same; what they cannot do alike is told where they differ. Reads
//! and writes run on the runtime on which the storage was opened, whatever runtime awaits them.

mod budget;
mod folder;
pub mod keys;
mod receipts;
mod s3;
pub mod spool;
mod temporary;

pub use receipts::Receipt;

use crate::config::{StorageSettings, StorageUrl};
use crate::error::{Error, Result};
use budget::Budget;
use bytes::{Bytes, BytesMut};
use folder::Folder;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use keys::StorageKey;
use s3::Bucket;
use spool::Spool;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// The bytes of an object as they come.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Where the objects are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ObjectStorage {
    backend: Backend,
    budget: Budget,
    work: Work,
}

#[derive(Clone, Debug)]
enum Backend {
    Folder(Arc<Folder>),
    Bucket(Arc<Bucket>),
}

impl ObjectStorage {
    /// Opens the store of a URL and tries whether objects can be written, read and removed there.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Configuration`] with what to do: the folder is not writable, the bucket does not exist, the endpoint
    /// does not answer, the credentials are refused.
    pub async fn open(url: &StorageUrl, settings: &StorageSettings) -> Result<Self> {
        match url {
            StorageUrl::Folder(path) => {
                let work = Work::here();
                let budget = Budget::new(settings.upload_buffer_bytes, folder::PIECE);
                let folder = Folder::open(path, work.clone(), budget.clone()).await?;
                let storage = Self { backend: Backend::Folder(Arc::new(folder)), budget, work };
                storage.probe().await.map_err(|error| folder::not_usable(path, error))?;
                Ok(storage)
            }
            StorageUrl::S3 { bucket, prefix } => Self::open_bucket(bucket, prefix, &[], settings).await,
        }
    }

    /// Opens the store of a URL to read only: nothing is tried by writing, as [`Self::open`] does, where it is a folder.
    ///
    /// # Errors
    /// As [`Self::open`]; also if there is no such folder.
    pub async fn open_to_read(url: &StorageUrl, settings: &StorageSettings) -> Result<Self> {
        let StorageUrl::Folder(path) = url else { return Self::open(url, settings).await };
        let (work, budget) = (Work::here(), Budget::new(settings.upload_buffer_bytes, folder::PIECE));
        let folder = Folder::open_to_read(path, work.clone(), budget.clone()).await?;
        Ok(Self { backend: Backend::Folder(Arc::new(folder)), budget, work })
    }

    /// Refuses what can be told to be wrong without asking the store.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Configuration`] with what to do.
    pub fn check(url: &StorageUrl) -> Result<()> {
        match url {
            StorageUrl::Folder(_) => Ok(()),
            StorageUrl::S3 { bucket, .. } => Bucket::check(bucket),
        }
    }

    /// Opens a bucket with settings that go before the `AWS_*` variables of the environment, by the same names in lower case.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_bucket(
        bucket: &str,
        prefix: &str,
        access: &[(&str, &str)],
        settings: &StorageSettings,
    ) -> Result<Self> {
        let work = Work::here();
        let limits = s3::Limits::new(settings);
        let budget = Budget::new(settings.upload_buffer_bytes, limits.part);
        let bucket = Bucket::open(bucket, prefix, access, limits, work.clone(), budget.clone()).await?;
        Ok(Self { backend: Backend::Bucket(Arc::new(bucket)), budget, work })
    }

    /// A store in memory, for tests. Panics outside a runtime.
    #[must_use]
    pub fn memory() -> Self {
        Self::memory_with(&StorageSettings::default())
    }

    /// A store in memory whose uploads use a given budget.
    #[must_use]
    pub fn memory_with(settings: &StorageSettings) -> Self {
        let work = Work::here();
        let limits = s3::Limits::new(settings);
        let budget = Budget::new(settings.upload_buffer_bytes, limits.part);
        let bucket = Bucket::memory(limits, work.clone(), budget.clone());
        Self { backend: Backend::Bucket(Arc::new(bucket)), budget, work }
    }

    /// Begins an object whose key is not known yet.
    #[allow(clippy::unused_async, reason = "may have to wait in another back end")]
    pub async fn begin(&self) -> Result<Upload> {
        let to = match &self.backend {
            Backend::Folder(folder) => UploadTo::Folder(folder::Upload::new(Arc::clone(folder))),
            Backend::Bucket(bucket) => UploadTo::Bucket(Box::new(s3::Upload::new(Arc::clone(bucket)))),
        };
        Ok(Upload { to, whole: true })
    }

    /// A whole object as a stream of large pieces.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Lost`] if it is missing, since a row named it.
    pub async fn read(&self, key: &StorageKey) -> Result<ByteStream> {
        match &self.backend {
            Backend::Folder(folder) => folder.read(key, None).await,
            Backend::Bucket(bucket) => bucket.read(key, None).await,
        }
    }

    /// A part of an object as a stream of large pieces.
    ///
    /// # Errors
    /// As [`Self::read`]; also if the object ends before the range does. It is never silently short.
    pub async fn read_range(&self, key: &StorageKey, range: Range<u64>) -> Result<ByteStream> {
        match &self.backend {
            Backend::Folder(folder) => folder.read(key, Some(range)).await,
            Backend::Bucket(bucket) => bucket.read(key, Some(range)).await,
        }
    }

    /// A small part of an object in one piece.
    ///
    /// # Errors
    /// As [`Self::read_range`].
    pub async fn read_bytes(&self, key: &StorageKey, range: Range<u64>) -> Result<Bytes> {
        match &self.backend {
            Backend::Folder(folder) => folder.read_bytes(key, range).await,
            Backend::Bucket(bucket) => bucket.read_bytes(key, range).await,
        }
    }

    /// Makes complete objects readable under their keys; when it returns, they survive a loss of power.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`] if the store is full or away. Everything of this call is removed again.
    pub async fn make_durable(&self, staged: Vec<Staged>) -> Result<Vec<Stored>> {
        let mut files = Vec::new();
        let mut objects = Vec::new();
        let mut keys = Vec::with_capacity(staged.len());
        for staged in staged {
            match staged.0 {
                StagedIn::Folder(file) => {
                    keys.push(file.key.clone());
                    files.push(file);
                }
                StagedIn::Bucket(object) => {
                    keys.push(object.key().clone());
                    objects.push(object);
                }
            }
        }
        match &self.backend {
            Backend::Folder(folder) if objects.is_empty() => folder.make_durable(files).await?,
            Backend::Bucket(_) if files.is_empty() => s3::make_durable(objects).await?,
            Backend::Folder(_) | Backend::Bucket(_) => {
                return Err(Error::internal("an object was staged in another object store"));
            }
        }
        Ok(keys.into_iter().map(|key| Stored { object: Some((self.clone(), key)) }).collect())
    }

    /// Removes an object; one that is not there is no error.
    pub async fn remove(&self, key: &StorageKey) -> Result<()> {
        match &self.backend {
            Backend::Folder(folder) => folder.remove(key).await,
            Backend::Bucket(bucket) => bucket.remove(key).await,
        }
    }

    /// Writes a small object at once; when it returns, it survives a loss of power.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`] if the store is full or away.
    pub async fn put(&self, key: &StorageKey, content: Bytes) -> Result<Stored> {
        let digest = *blake3::hash(&content).as_bytes();
        let mut upload = self.begin().await?;
        upload.name(key.clone());
        upload.write(content).await?;
        let receipt = Receipt { received_at: crate::clock::unix_millis(), received_digest: digest, digest };
        let stored = self.make_durable(vec![upload.finish(receipt).await?]).await?;
        stored.into_iter().next().ok_or_else(|| Error::internal("an object was not stored"))
    }

    /// Really touches the store: writes an object, reads it back and removes it.
    pub async fn probe(&self) -> Result<()> {
        let id = Uuid::now_v7();
        let key = StorageKey::probe(id);
        let content = Bytes::copy_from_slice(id.as_bytes());
        let stored = self.put(&key, content.clone()).await?;
        let back = self.read_bytes(&key, 0..content.len() as u64).await?;
        self.remove(&key).await?;
        stored.keep();
        if back == content {
            Ok(())
        } else {
            Err(Error::internal("the object store returned other bytes than were written"))
        }
    }

    /// The size of an object, if it is there.
    pub async fn exists(&self, key: &StorageKey) -> Result<Option<u64>> {
        match &self.backend {
            Backend::Folder(folder) => folder.exists(key).await,
            Backend::Bucket(bucket) => bucket.exists(key).await,
        }
    }

    /// The receipt of an object, if it has one.
    pub async fn receipt(&self, key: &StorageKey) -> Result<Option<Receipt>> {
        match &self.backend {
            Backend::Folder(folder) => folder.receipt(key).await,
            Backend::Bucket(bucket) => bucket.receipt(key).await,
        }
    }

    /// All objects whose keys begin with the names in `prefix` (`studies/1.2`, or empty for all), with their sizes, in no order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<(StorageKey, u64)>> {
        match &self.backend {
            Backend::Folder(folder) => folder.list(prefix),
            Backend::Bucket(bucket) => bucket.list(prefix),
        }
    }

    /// A place for bytes that are needed again, and gone with the process.
    #[must_use]
    pub fn spool(&self) -> Spool {
        Spool::new(self.work.clone(), self.budget.clone())
    }

    /// Bytes of uploads that are in memory now, and never more than the budget.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.budget.held()
    }

    /// Whether all objects could be removed that nobody wants any more.
    #[must_use]
    pub fn left_nothing(&self) -> bool {
        !self.work.left_some.load(Ordering::Relaxed)
    }

    /// Waits until nothing that was begun is left to clean up: at the end of the server, when all uploads have ended.
    pub async fn settle(&self) {
        self.work.settle().await;
    }
}

/// An object that is being received.
///
/// Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    to: UploadTo,
    /// Not so while a write runs, nor after one that failed or was given up: bytes are missing then.
    whole: bool,
}

#[derive(Debug)]
enum UploadTo {
    Folder(folder::Upload),
    Bucket(Box<s3::Upload>),
}

impl Upload {
    /// Names the object, at any time before [`Self::finish`]. A bucket holds what comes before in a temporary file.
    pub fn name(&mut self, key: StorageKey) {
        match &mut self.to {
            UploadTo::Folder(upload) => upload.name(key),
            UploadTo::Bucket(upload) => upload.name(key),
        }
    }

    /// Appends bytes; waits while the back end is slower or the memory of all uploads is used up.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unavailable`]; the object cannot be finished after that.
    pub async fn write(&mut self, piece: Bytes) -> Result<()> {
        self.check_whole()?;
        self.whole = false;
        match &mut self.to {
            UploadTo::Folder(upload) => upload.write(piece).await,
            UploadTo::Bucket(upload) => upload.write(piece).await,
        }?;
        self.whole = true;
        Ok(())
    }

    /// Ends the object. Errors of writes that still run come from [`ObjectStorage::make_durable`].
    pub async fn finish(self, receipt: Receipt) -> Result<Staged> {
        self.check_whole()?;
        Ok(Staged(match self.to {
            UploadTo::Folder(upload) => StagedIn::Folder(upload.finish(receipt).await?),
            UploadTo::Bucket(upload) => StagedIn::Bucket(upload.finish(receipt)?),
        }))
    }

    fn check_whole(&self) -> Result<()> {
        if self.whole { Ok(()) } else { Err(Error::internal("an object was continued after a write that failed")) }
    }
}

/// A complete object that is not yet durable. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Staged(StagedIn);

#[derive(Debug)]
enum StagedIn {
    Folder(folder::Staged),
    Bucket(s3::Staged),
}

/// A durable object without a row: dropped, it is removed in the background.
#[derive(Debug)]
#[must_use = "dropping removes the object; call `keep` after the commit of its row"]
pub struct Stored {
    object: Option<(ObjectStorage, StorageKey)>,
}

impl Stored {
    /// The key under which it can be read.
    #[must_use]
    pub fn key(&self) -> &StorageKey {
        &self.object.as_ref().expect("only `keep` takes it, and that takes the guard too").1
    }

    /// Removes the object now.
    pub async fn remove(mut self) -> Result<()> {
        match self.object.take() {
            Some((storage, key)) => storage.remove(&key).await,
            None => Ok(()),
        }
    }

    /// Lets the object stay: its row is committed.
    pub fn keep(mut self) {
        self.object = None;
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Some((storage, key)) = self.object.take() {
            let work = storage.work.clone();
            work.spawn(async move {
                if let Err(error) = storage.remove(&key).await {
                    storage.work.left(&key, &error);
                }
            });
        }
    }
}

/// The runtime that does the work, and a count of what runs there or waits to be cleaned up.
#[derive(Clone, Debug)]
struct Work {
    runtime: Handle,
    running: Arc<Semaphore>,
    /// An object without a row could not be removed.
    left_some: Arc<AtomicBool>,
}

/// More than can ever run.
const ALL: u32 = 1 << 24;

/// Counts as running work until dropped.
type Running = Option<OwnedSemaphorePermit>;

impl Work {
    fn here() -> Self {
        let running = Arc::new(Semaphore::new(ALL as usize));
        Self { runtime: Handle::current(), running, left_some: Arc::default() }
    }

    /// Notes that an object without a row is there.
    fn left(&self, key: &StorageKey, error: &Error) {
        self.left_some.store(true, Ordering::Relaxed);
        tracing::warn!(
            key = key.as_str(),
            ?error,
            "an object without a row could not be removed; `isocenter sweep` will"
        );
    }

    /// Not counted only while someone waits in [`Self::settle`].
    fn running(&self) -> Running {
        Arc::clone(&self.running).try_acquire_owned().ok()
    }

    /// Runs blocking calls on a thread for them. They run to their end even if nobody waits any more.
    async fn blocking<T: Send + 'static>(&self, calls: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let running = self.running();
        let task = self.runtime.spawn_blocking(move || (calls(), running));
        let (result, _running) = task.await.map_err(stopped)?;
        result
    }

    /// Runs a future on the runtime of the storage and waits for it.
    async fn on_runtime<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(future).await.map_err(stopped)?
    }

    /// Runs a future in the background.
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let running = self.running();
        self.runtime.spawn(async move {
            future.await;
            drop(running);
        });
    }

    async fn settle(&self) {
        let _all = self.running.acquire_many(ALL).await;
    }
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::unavailable("the object store is being closed", error)
}

/// Gathers the pieces of a stream up to `least` bytes, so that small network packets do not become small pieces.
fn gathered<S>(stream: S, least: usize) -> impl futures_util::Stream<Item = Result<Bytes>> + Send
where
    S: futures_util::Stream<Item = Result<Bytes>> + Send + Unpin,
{
    futures_util::stream::try_unfold(stream, move |mut stream| async move {
        let Some(first) = stream.try_next().await? else { return Ok(None) };
        if first.len() >= least {
            return Ok(Some((first, stream)));
        }
        let mut gathered = BytesMut::with_capacity(least);
        gathered.extend_from_slice(&first);
        while gathered.len() < least {
            let Some(next) = stream.try_next().await? else { break };
            gathered.extend_from_slice(&next);
        }
        Ok(Some((gathered.freeze(), stream)))
    })
}

/// The stream of a channel.
fn received<T: Send + 'static>(channel: tokio::sync::mpsc::Receiver<Result<T>>) -> BoxStream<'static, Result<T>> {
    futures_util::stream::unfold(channel, |mut channel| async move { channel.recv().await.map(|item| (item, channel)) })
        .boxed()
}
