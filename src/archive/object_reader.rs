//! Ranged reads of an object while it leaves, in what is inflated of it when it is deflated.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::Mutex;

use crate::dicom::events::Limits;
use crate::dicom::inflate::Inflater;
use crate::error::{Error, Result};
use crate::store::keys::StorageKey;
use crate::store::{ByteStream, ObjectStorage};

/// Stored bytes that are inflated at once: deflate makes up to a thousand times as many of them.
const SLICE_BYTES: usize = 8 << 10;

/// Ranged reads of one object; of its inflated data set for deflated ones, where going forward continues one inflation.
pub(super) struct ObjectReader {
    store: ObjectStorage,
    key: StorageKey,
    inflating: Option<Mutex<Option<Inflating>>>,
}

/// An inflation under way.
struct Inflating {
    object: ByteStream,
    inflater: Inflater,
    /// Bytes of the object that are not inflated yet.
    pending: Bytes,
    /// Inflated bytes that are not consumed yet, beginning at `position`.
    ahead: Vec<u8>,
    position: u64,
}

impl ObjectReader {
    /// Reads this object, or what is inflated of it.
    pub(super) fn new(store: ObjectStorage, key: StorageKey, deflated: bool) -> Self {
        Self { store, key, inflating: deflated.then(|| Mutex::new(None)) }
    }

    /// The stored bytes of a range as they come.
    pub(super) async fn stream(&self, range: Range<u64>) -> Result<ByteStream> {
        self.store.read_range(&self.key, range).await
    }

    /// A range at once.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.inflating {
            None => self.store.read_bytes(&self.key, range).await,
            Some(inflating) => self.read_inflated(&mut *inflating.lock().await, range).await,
        }
    }

    async fn read_inflated(&self, state: &mut Option<Inflating>, range: Range<u64>) -> Result<Bytes> {
        let inflating = match state {
            Some(inflating) if inflating.position <= range.start => inflating,
            _ => state.insert(Inflating {
                object: self.store.read(&self.key).await?,
                inflater: Inflater::new(range.start..u64::MAX, Limits::default()),
                pending: Bytes::new(),
                ahead: Vec::new(),
                position: range.start,
            }),
        };
        inflating.read(range).await
    }
}

impl Inflating {
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes> {
        let damaged = || Error::lost("a deflated object is shorter than its index says");
        let length = usize::try_from(range.end - range.start).map_err(|_| damaged())?;
        loop {
            let skip = usize::try_from(range.start - self.position).unwrap_or(usize::MAX).min(self.ahead.len());
            self.ahead.drain(..skip);
            self.position += skip as u64;
            if self.position == range.start && self.ahead.len() >= length {
                let read = Bytes::copy_from_slice(&self.ahead[..length]);
                // the last byte stays: the next frame of single bits may begin within it
                let done = length.saturating_sub(1);
                self.ahead.drain(..done);
                self.position += done as u64;
                return Ok(read);
            }
            if self.pending.is_empty() {
                self.pending = self.object.next().await.ok_or_else(damaged)??;
            }
            let slice = self.pending.split_to(self.pending.len().min(SLICE_BYTES));
            self.inflater.push(&slice, &mut self.ahead).map_err(|error| damaged().caused_by(error))?;
            // a slice may become megabytes, and one chunk of the object has many: others have their turn in between
            tokio::task::yield_now().await;
        }
    }
}
