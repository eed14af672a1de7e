//! Syncing receipts a moment after they were written, those of many requests to one series at once. Nobody waits for it.

use super::{Folder, RECEIPTS, is_missing};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a loss of power may take.
const MOMENT: Duration = Duration::from_millis(250);

/// Folders whose receipts are not synced yet.
#[derive(Debug, Default)]
pub(super) struct Lately(Mutex<BTreeSet<PathBuf>>);

impl Lately {
    fn folders(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    /// Syncs the receipts of folders soon.
    pub(super) fn sync_receipts_later(self: &Arc<Self>, written: &[PathBuf]) {
        let mut folders = self.lately.folders();
        let begun = !folders.is_empty();
        folders.extend(written.iter().cloned());
        drop(folders);
        if begun {
            return;
        }
        let folder = Arc::clone(self);
        self.work.spawn(async move {
            tokio::time::sleep(MOMENT).await;
            let folders = std::mem::take(&mut *folder.lately.folders());
            let sync = move || {
                for folder in folders {
                    if let Err(error) = sync(&folder) {
                        tracing::warn!(%error, "the receipts of a series could not be synced");
                    }
                }
                Ok(())
            };
            // it fails when the process ends only
            let _ = folder.work.blocking(sync).await;
        });
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    match OpenOptions::new().append(true).open(folder.join(RECEIPTS)).and_then(|log| log.sync_data()) {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}
