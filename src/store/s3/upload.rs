//! Receiving an object into a bucket.

use super::super::budget::{Pieces, Share};
use super::super::keys::{DICOM, StorageKey};
use super::super::receipts::Receipt;
use super::super::{Running, stopped};
use super::spill::Spill;
use super::{Bucket, RECEIPT, unavailable};
use crate::error::{Error, Result};
use bytes::Bytes;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
};
use std::sync::Arc;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that are taken from the caller at once.
const PIECE: usize = 512 << 10;
/// Parts of one object that travel at once.
const PARTS_AT_ONCE: usize = 3;
/// After so many parts they become twice as large, for a store takes 10,000 at most.
const DOUBLE_AFTER: usize = 2_500;

/// An object that is being received.
#[derive(Debug)]
pub(in super::super) struct Upload {
    bucket: Arc<Bucket>,
    key: Option<StorageKey>,
    pieces: Pieces,
    spill: Option<Spill>,
    parts: Option<Parts>,
}

/// A multipart upload. Dropped without its end, it is aborted.
#[derive(Debug)]
struct Parts {
    bucket: Arc<Bucket>,
    upload: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<Result<()>>,
    begun: usize,
    running: Running,
}

/// A complete object. Dropped, it is removed when it has been sent.
#[derive(Debug)]
pub(in super::super) struct Staged {
    bucket: Arc<Bucket>,
    key: StorageKey,
    sending: Option<JoinHandle<Result<()>>>,
    durable: bool,
}

impl Upload {
    pub(in super::super) fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket, key: None, pieces: Pieces::default(), spill: None, parts: None }
    }

    pub(in super::super) fn name(&mut self, key: StorageKey) {
        self.key = Some(key);
    }

    /// Bytes of the next part.
    fn part(&self) -> usize {
        let begun = self.parts.as_ref().map_or(0, |parts| parts.begun);
        let doublings = u32::try_from(begun / DOUBLE_AFTER).unwrap_or(u32::MAX).min(10);
        let part = self.bucket.limits.part;
        part.checked_shl(doublings).unwrap_or(part).min(self.bucket.budget.most_moving()).max(part)
    }

    pub(in super::super) async fn write(&mut self, mut piece: Bytes) -> Result<()> {
        while !piece.is_empty() {
            let part = self.part();
            let in_file = self.spill.as_ref().map_or(0, Spill::len);
            // a part ends where it is full, so that the file is empty whenever its part was sent
            let room = match &self.key {
                Some(_) => part.saturating_sub(usize::try_from(in_file).unwrap_or(usize::MAX).max(self.pieces.len())),
                None => usize::MAX,
            };
            let next = piece.split_to(piece.len().min(PIECE).min(room));
            let share = if self.spill.is_some() { None } else { self.bucket.budget.try_keep(next.len()) };
            if let Some(share) = share {
                self.pieces.push(next, share);
                if self.pieces.len() >= part && self.key.is_none() {
                    self.spill_pieces().await?;
                }
            } else if !next.is_empty() {
                // what is kept goes first, and its shares with it: nothing is held while waiting for the share that moves
                if !self.pieces.is_empty() {
                    self.spill_pieces().await?;
                }
                let share = self.bucket.budget.moving(next.len()).await;
                self.pieces.push(next, share);
                self.spill_pieces().await?;
            }
            self.send_full_parts().await?;
        }
        Ok(())
    }

    async fn spill_pieces(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        let spill = self.spill.take();
        let spill = self
            .bucket
            .work
            .blocking(move || {
                let mut spill = spill.map_or_else(Spill::new, Ok)?;
                spill.append(pieces)?;
                Ok(spill)
            })
            .await?;
        self.spill = Some(spill);
        Ok(())
    }

    async fn send_full_parts(&mut self) -> Result<()> {
        if self.key.is_none() {
            return Ok(());
        }
        while self.spill.as_ref().is_some_and(|spill| spill.len() >= self.part() as u64) {
            let (bytes, share) = self.take_spilled(self.part()).await?;
            self.send_part(vec![bytes], vec![share]).await?;
        }
        if self.pieces.len() >= self.part() {
            let (bytes, shares) = std::mem::take(&mut self.pieces).into_parts();
            self.send_part(bytes, shares).await?;
        }
        Ok(())
    }

    async fn take_spilled(&mut self, length: usize) -> Result<(Bytes, Share)> {
        // no share is held while this one is waited for; parts on their way give theirs back by themselves
        let share = self.bucket.budget.moving(length).await;
        let Some(mut spill) = self.spill.take() else { return Ok((Bytes::new(), share)) };
        let taken = self.bucket.work.blocking(move || Ok((spill.take(length as u64)?, spill)));
        let (bytes, spill) = taken.await?;
        self.spill = Some(spill).filter(|spill| spill.len() > 0);
        Ok((bytes, share))
    }

    async fn send_part(&mut self, bytes: Vec<Bytes>, shares: Vec<Share>) -> Result<()> {
        if self.parts.is_none() {
            let key = self.key.as_ref().ok_or_else(|| Error::internal("a part was sent of an object without a key"))?;
            self.parts = Some(Parts::begin(&self.bucket, key).await?);
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        parts.send(bytes, shares).await
    }

    /// Begins to send what is left, and ends the object.
    pub(in super::super) fn finish(mut self, receipt: Receipt) -> Result<Staged> {
        let key = self.key.clone().ok_or_else(|| Error::internal("an object was finished without a key"))?;
        let bucket = Arc::clone(&self.bucket);
        let sending = bucket.work.runtime.spawn(async move { self.send_rest(&receipt).await });
        Ok(Staged { bucket, key, sending: Some(sending), durable: false })
    }

    async fn send_rest(&mut self, receipt: &Receipt) -> Result<()> {
        self.send_full_parts().await?;
        let (bytes, shares) = match &self.spill {
            Some(spill) => {
                let left = usize::try_from(spill.len()).unwrap_or(usize::MAX);
                let (bytes, share) = self.take_spilled(left).await?;
                (vec![bytes], vec![share])
            }
            None => std::mem::take(&mut self.pieces).into_parts(),
        };
        if self.parts.is_none() {
            return self.send_whole(bytes, shares, receipt).await;
        }
        if bytes.iter().any(|bytes| !bytes.is_empty()) {
            self.send_part(bytes, shares).await?;
        }
        let (Some(parts), Some(key)) = (self.parts.take(), &self.key) else { return Ok(()) };
        let beside = self.bucket.receipt_path(key)?;
        parts.complete().await?;
        // last: an object without a receipt is found by a sweep, a receipt without an object is not
        self.bucket.store.put(&beside, PutPayload::from(receipt.to_text())).await.map(drop).map_err(unavailable)
    }

    async fn send_whole(&mut self, bytes: Vec<Bytes>, _shares: Vec<Share>, receipt: &Receipt) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let path = self.bucket.path(key)?;
        let mut attributes = content_type();
        attributes.insert(Attribute::Metadata(RECEIPT.into()), receipt.to_text().into());
        let payload: PutPayload = bytes.into_iter().collect();
        let _turn = self.bucket.sending.acquire().await;
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.bucket.store.put_opts(&path, payload, options).await.map(|_| ()).map_err(unavailable)
    }
}

fn content_type() -> Attributes {
    Attributes::from_iter([(Attribute::ContentType, DICOM)])
}

impl Parts {
    async fn begin(bucket: &Arc<Bucket>, key: &StorageKey) -> Result<Self> {
        let path = bucket.path(key)?;
        let store = Arc::clone(&bucket.store);
        let options = PutMultipartOptions { attributes: content_type(), ..PutMultipartOptions::default() };
        // the guard is made where the upload begins, so that one that nobody waits for any more is aborted too
        let guard = Self {
            bucket: Arc::clone(bucket),
            upload: None,
            sending: JoinSet::new(),
            begun: 0,
            running: bucket.work.running(),
        };
        let begin = async move {
            let mut guard = guard;
            guard.upload = Some(store.put_multipart_opts(&path, options).await.map_err(unavailable)?);
            Ok(guard)
        };
        bucket.work.on_runtime(begin).await
    }

    async fn send(&mut self, bytes: Vec<Bytes>, shares: Vec<Share>) -> Result<()> {
        while self.sending.len() >= PARTS_AT_ONCE {
            if let Some(sent) = self.sending.join_next().await {
                sent.map_err(stopped)??;
            }
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let part = upload.put_part(bytes.into_iter().collect());
        let turns = Arc::clone(&self.bucket.sending);
        let task = async move {
            let _turn = turns.acquire_owned().await;
            let sent = part.await.map_err(unavailable);
            drop(shares);
            sent
        };
        self.sending.spawn_on(task, &self.bucket.work.runtime);
        self.begun += 1;
        Ok(())
    }

    async fn complete(mut self) -> Result<()> {
        while let Some(sent) = self.sending.join_next().await {
            sent.map_err(stopped)??;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        upload.complete().await.map_err(unavailable)?;
        self.upload = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let mut sending = std::mem::take(&mut self.sending);
        let running = self.running.take();
        self.bucket.work.runtime.spawn(async move {
            sending.shutdown().await;
            if let Err(error) = upload.abort().await {
                tracing::warn!(%error, "a multipart upload could not be aborted; a lifecycle rule of the bucket should remove such");
            }
            drop(running);
        });
    }
}

impl Staged {
    pub(in super::super) fn key(&self) -> &StorageKey {
        &self.key
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.durable {
            return;
        }
        let sending = self.sending.take();
        let bucket = Arc::clone(&self.bucket);
        let key = self.key.clone();
        self.bucket.work.spawn(async move {
            if let Some(sending) = sending {
                let _ = sending.await;
            }
            if let Err(error) = bucket.remove(&key).await {
                bucket.work.left(&key, &error);
            }
        });
    }
}

/// Waits until all have been sent: then the store has them for good. If one was not, all are removed.
pub(in super::super) async fn make_durable(mut staged: Vec<Staged>) -> Result<()> {
    for object in &mut staged {
        // the task stays in its guard while it is waited for, so that dropping this future removes the objects
        let Some(sending) = &mut object.sending else { continue };
        let sent = sending.await;
        object.sending = None;
        sent.map_err(stopped)??;
    }
    for object in &mut staged {
        object.durable = true;
    }
    Ok(())
}
