//! Bytes of a request that are needed once all of it has come: a little in memory, the rest in a file without a name.
//!
//! What is in memory counts in the budget of all uploads, as theirs does.

use super::Work;
use super::budget::{Budget, Pieces, Share};
use super::temporary::{self, unavailable};
use crate::error::Result;
use crate::store::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Up to so many bytes stay in memory, when the budget has room for them.
const IN_MEMORY: usize = 1 << 20;
/// Bytes that are read from the file at once.
const PIECE: usize = 256 << 10;

/// Bytes that are coming in.
#[derive(Debug)]
pub struct Spool {
    work: Work,
    budget: Budget,
    pieces: Pieces,
    file: Option<Arc<File>>,
    length: u64,
}

/// All bytes that came in. Cheap to clone; gone with the last clone.
#[derive(Clone, Debug)]
pub struct Spooled {
    work: Work,
    held: Held,
}

#[derive(Clone, Debug)]
enum Held {
    Memory(Bytes, Arc<Vec<Share>>),
    File(Arc<File>),
}

impl Spool {
    pub(super) fn new(work: Work, budget: Budget) -> Self {
        Self { work, budget, pieces: Pieces::default(), file: None, length: 0 }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// The folder for temporary files is full or cannot be written.
    pub async fn append(&mut self, piece: Bytes) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.length = self.length.saturating_add(piece.len() as u64);
        let Some(share) = self.budget.try_keep(piece.len()) else {
            // what is kept goes first, and its shares with it: nothing is held while waiting for the share that moves
            self.write().await?;
            let share = self.budget.moving(piece.len()).await;
            self.pieces.push(piece, share);
            return self.write().await;
        };
        self.pieces.push(piece, share);
        if self.pieces.len() > IN_MEMORY { self.write().await } else { Ok(()) }
    }

    /// Ends the bytes.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub async fn finish(mut self) -> Result<Spooled> {
        if self.file.is_some() {
            self.write().await?;
        }
        let held = if let Some(file) = self.file {
            Held::File(file)
        } else {
            let (pieces, shares) = self.pieces.into_parts();
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            for piece in pieces {
                whole.extend_from_slice(&piece);
            }
            Held::Memory(whole.freeze(), Arc::new(shares))
        };
        Ok(Spooled { work: self.work, held })
    }

    async fn write(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        if pieces.is_empty() {
            return Ok(());
        }
        let file = self.file.take();
        let written = self.work.blocking(move || {
            let file = file.map_or_else(|| temporary::file().map(Arc::new), Ok)?;
            pieces.write_to(&mut &*file).map_err(unavailable)?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }
}

impl Spooled {
    /// Some of the bytes, as they are wanted.
    #[must_use]
    pub fn read(&self, range: Range<u64>) -> ByteStream {
        match &self.held {
            Held::Memory(bytes, shares) => {
                let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
                let piece = bytes.slice(at(range.start)..at(range.end).max(at(range.start)));
                let shares = Arc::clone(shares);
                stream::once(async move {
                    drop(shares);
                    Ok(piece)
                })
                .boxed()
            }
            Held::File(file) => {
                let (file, work) = (Arc::clone(file), self.work.clone());
                stream::try_unfold(range, move |range| {
                    let (file, work) = (Arc::clone(&file), work.clone());
                    async move {
                        let left = range.end.saturating_sub(range.start);
                        if left == 0 {
                            return Ok(None);
                        }
                        let length = PIECE.min(usize::try_from(left).unwrap_or(usize::MAX));
                        let piece = work.blocking(move || {
                            let mut piece = vec![0; length];
                            file.read_exact_at(&mut piece, range.start).map_err(unavailable)?;
                            Ok(Bytes::from(piece))
                        });
                        Ok(Some((piece.await?, range.start.saturating_add(length as u64)..range.end)))
                    }
                })
                .boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageSettings;
    use crate::store::ObjectStorage;
    use futures_util::TryStreamExt as _;

    async fn read(spooled: &Spooled, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<Bytes> = spooled.read(range).try_collect().await.unwrap();
        pieces.concat()
    }

    #[tokio::test]
    async fn bytes_come_back_from_memory_and_from_the_file_alike() {
        for (budget, sizes, in_file) in [
            (64 << 20, &[10_usize, 0, 1000, 70_000][..], false),
            (64 << 20, &[700_000; 5], true),
            (0, &[10, 20, 3_000_000], true),
        ] {
            let settings = StorageSettings { upload_buffer_bytes: budget, ..StorageSettings::default() };
            let storage = ObjectStorage::memory_with(&settings);
            let mut spool = storage.spool();
            let mut expected = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let piece: Vec<u8> = (0..*size).map(|at| u8::try_from((at * 7 + number) % 256).unwrap()).collect();
                expected.extend_from_slice(&piece);
                spool.append(piece.into()).await.unwrap();
                assert!(storage.held_bytes() <= 3 * IN_MEMORY as u64);
            }
            assert_eq!(spool.len(), expected.len() as u64);
            let spooled = spool.finish().await.unwrap();
            assert_eq!(matches!(spooled.held, Held::File(_)), in_file);
            let length = expected.len() as u64;
            assert!(read(&spooled, 0..length).await == expected);
            assert!(read(&spooled, 5..length - 3).await == expected[5..expected.len() - 3]);
            assert!(read(&spooled, length..length).await.is_empty());
            drop(spooled);
            assert_eq!(storage.held_bytes(), 0);
        }
    }
}
