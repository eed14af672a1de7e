//! Receiving an object into a file.
//!
//! A small object stays in memory until its batch is made durable, so that it is created, written, synced and named in
//! one go. A larger one goes to a staging file in large pieces, one of which is written while the next arrives.

use super::super::budget::Pieces;
use super::super::keys::StorageKey;
use super::super::receipts::Receipt;
use super::super::{Running, stopped};
use super::staging::StagedFile;
use super::{Folder, PIECE, unavailable};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What stays in memory if there is room.
const SMALL: usize = 1 << 20;
/// After so many bytes of a large object the disk is waited for: else a sync of gigabytes would stand at its end.
const SYNC_EVERY: u64 = 64 << 20;

/// An object that is being received.
#[derive(Debug)]
pub(in super::super) struct Upload {
    folder: Arc<Folder>,
    key: Option<StorageKey>,
    pieces: Pieces,
    file: Writing,
    written: u64,
}

/// The staging file: none yet, or in the hands of the thread that writes, which gives it back.
#[derive(Debug)]
enum Writing {
    Nothing,
    File(StagedFile),
    Task(JoinHandle<Result<StagedFile>>),
    Failed,
}

/// A complete object.
#[derive(Debug)]
pub(in super::super) struct Staged {
    pub(in super::super) key: StorageKey,
    pub(super) receipt: Receipt,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Memory(Pieces),
    File(StagedFile),
    Writing(JoinHandle<Result<StagedFile>>),
}

impl Upload {
    pub(in super::super) fn new(folder: Arc<Folder>) -> Self {
        Self { folder, key: None, pieces: Pieces::default(), file: Writing::Nothing, written: 0 }
    }

    pub(in super::super) fn name(&mut self, key: StorageKey) {
        self.key = Some(key);
    }

    pub(in super::super) async fn write(&mut self, mut piece: Bytes) -> Result<()> {
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(PIECE));
            if let Some(share) = self.folder.budget.try_keep(part.len()) {
                self.pieces.push(part, share);
                let most = if matches!(self.file, Writing::Nothing) { SMALL } else { PIECE };
                if self.pieces.len() > most {
                    self.start_writing().await?;
                }
            } else {
                let share = self.folder.budget.moving(part.len()).await;
                self.pieces.push(part, share);
                self.start_writing().await?;
                // the share was waited for, so it must be given back before anything else is waited for
                if let Some(file) = self.taken_file().await? {
                    self.file = Writing::File(file);
                }
            }
        }
        Ok(())
    }

    /// Hands what there is to a thread that writes it, once the thread before has ended.
    async fn start_writing(&mut self) -> Result<()> {
        let file = self.taken_file().await?;
        let pieces = std::mem::take(&mut self.pieces);
        let before = self.written;
        self.written += pieces.len() as u64;
        let sync = self.written / SYNC_EVERY > before / SYNC_EVERY;
        let folder = Arc::clone(&self.folder);
        let running = self.folder.work.running();
        let task = move || write(&folder, file, pieces, sync, running);
        self.file = Writing::Task(self.folder.work.runtime.spawn_blocking(task));
        Ok(())
    }

    async fn taken_file(&mut self) -> Result<Option<StagedFile>> {
        match std::mem::replace(&mut self.file, Writing::Failed) {
            Writing::Nothing => Ok(None),
            Writing::File(file) => Ok(Some(file)),
            Writing::Task(task) => task.await.map_err(stopped)?.map(Some),
            Writing::Failed => Err(Error::internal("an object was written to after an error")),
        }
    }

    pub(in super::super) async fn finish(mut self, receipt: Receipt) -> Result<Staged> {
        let key = self.key.take().ok_or_else(|| Error::internal("an object was finished without a key"))?;
        let in_memory = matches!(self.file, Writing::Nothing) && self.folder.budget.is_roomy();
        if !in_memory && (!self.pieces.is_empty() || matches!(self.file, Writing::Nothing)) {
            self.start_writing().await?;
        }
        let content = match self.file {
            Writing::Nothing => Content::Memory(self.pieces),
            Writing::File(file) => Content::File(file),
            Writing::Task(task) => Content::Writing(task),
            Writing::Failed => return Err(Error::internal("an object was finished after an error")),
        };
        Ok(Staged { key, receipt, content })
    }
}

/// Appends pieces to a staging file, which it makes if there is none.
fn write(
    folder: &Folder,
    file: Option<StagedFile>,
    pieces: Pieces,
    sync: bool,
    running: Running,
) -> Result<StagedFile> {
    let mut file = if let Some(file) = file {
        file
    } else {
        let staging = folder.staging.as_ref().ok_or_else(|| Error::internal("the object store was opened to read"))?;
        StagedFile::create(staging.path(), running).map_err(unavailable)?
    };
    pieces.write_to(&mut file.file).map_err(unavailable)?;
    if sync {
        file.file.sync_data().map_err(unavailable)?;
    }
    Ok(file)
}
