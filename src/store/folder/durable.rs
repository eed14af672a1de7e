//! Making a batch of files durable: every file gets its name and is synced, then every folder that got a name.
//!
//! A journalling file system commits all at once of which it knows by then where on the disk it lies. So the syncs of one step run
//! beside each other, and each thread writes several files and has the system begin to write them before it syncs the first.
//! Receipts are not waited for ([`lately`](super::lately)): they serve to rebuild an index that was lost too.

use super::super::budget::Pieces;
use super::super::receipts::{self, Receipt};
use super::staging::{ClosedFile, PRIVATE, StagedFile};
use super::upload::{Content, Staged};
use super::{Folder, RECEIPTS, is_missing, unavailable};
use crate::error::Result;
use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Threads that sync the files of one batch, the calling one included.
const THREADS: usize = 4;
/// Files that one of them has open at once: a batch has more than a process may have open beside its connections.
const OPEN: usize = 8;
/// Folders that are remembered before all are forgotten.
const KNOWN: usize = 8192;
/// How often a folder is made again that another process removed as empty just then.
const TRIES: usize = 100;

/// Folders whose own names are durable, by what identifies them: one may have been removed and made again.
#[derive(Debug, Default)]
pub(super) struct KnownFolders(Mutex<HashMap<PathBuf, Identity>>);

type Identity = (u64, u64, Option<SystemTime>);

impl KnownFolders {
    fn contains(&self, path: &Path, identity: &Identity) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path) == Some(identity)
    }

    fn insert(&self, path: PathBuf, identity: Identity) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(path, identity);
    }
}

/// Files that have their names. They are removed when dropped, unless they were handed on.
#[derive(Debug)]
struct Named {
    root: PathBuf,
    paths: Vec<PathBuf>,
}

impl Drop for Named {
    fn drop(&mut self) {
        for path in self.paths.drain(..) {
            let _ = remove(&self.root, &path);
        }
    }
}

struct Item {
    path: PathBuf,
    name: String,
    receipt: Receipt,
    content: Ready,
}

enum Ready {
    Memory(Pieces),
    File(StagedFile),
}

impl Folder {
    pub(in super::super) async fn make_durable(self: &Arc<Self>, staged: Vec<Staged>) -> Result<()> {
        let mut batch = Vec::with_capacity(staged.len());
        for staged in staged {
            let path = self.path(&staged.key)?;
            let name = staged.key.as_str().rsplit('/').next().unwrap_or_default().to_owned();
            let content = match staged.content {
                Content::Memory(pieces) => Ready::Memory(pieces),
                Content::File(file) => Ready::File(file),
                Content::Writing(task) => Ready::File(task.await.map_err(super::super::stopped)??),
            };
            batch.push(Item { path, name, receipt: staged.receipt, content });
        }
        if batch.is_empty() {
            return Ok(());
        }
        let folder = Arc::clone(self);
        // if nobody waits any more, the result is dropped and with it the files are
        let mut named = self.work.blocking(move || folder.commit(batch)).await?;
        named.paths.clear();
        Ok(())
    }

    fn commit(self: &Arc<Self>, batch: Vec<Item>) -> Result<Named> {
        // folders are made on the way, and must not be where another disk is to be
        let appended = self.mark.check().and_then(|()| append_receipts(&self.root, &batch));
        let logs = appended.map_err(unavailable)?;
        let folder = Arc::clone(self);
        let files = self.in_parallel(batch, move |items| folder.name(items).map_err(unavailable));
        let folders: Vec<PathBuf> = logs.into_keys().collect();
        let files = files.inspect_err(|_| folders.iter().for_each(|folder| remove_empty(&self.root, folder)))?;
        let paths = files.into_iter().map(ClosedFile::keep).collect();
        let named = Named { root: self.root.clone(), paths };
        self.sync_receipts_later(&folders);
        let root = Arc::clone(self);
        let sync = move |folder: &PathBuf| root.sync_folder(folder).map_err(unavailable);
        self.in_parallel(folders, move |folders| folders.iter().map(&sync).collect())?;
        Ok(named)
    }

    /// Gives objects their names and syncs their content.
    fn name(&self, items: Vec<Item>) -> io::Result<Vec<ClosedFile>> {
        let several = items.len() > 1;
        let write = |item| {
            let file = self.write(item)?;
            if several {
                file.begin_to_sync()?;
            }
            Ok(file)
        };
        let files = items.into_iter().map(write).collect::<io::Result<Vec<_>>>()?;
        let sync = |file: StagedFile| file.file.sync_data().map(|()| file.close());
        files.into_iter().map(sync).collect()
    }

    /// Gives an object its name. One in memory is written where it is to lie: a crash may leave a part of it there, which has
    /// no row.
    fn write(&self, Item { path, content, .. }: Item) -> io::Result<StagedFile> {
        match content {
            Ready::Memory(pieces) => {
                let mut file = StagedFile::create(path, self.work.running())?;
                pieces.write_to(&mut file.file)?;
                Ok(file)
            }
            Ready::File(mut file) => {
                file.rename(path)?;
                Ok(file)
            }
        }
    }

    /// Does the same with all items, a few at once, on a few threads of the pool; the first error is the answer.
    fn in_parallel<T, R>(
        &self,
        items: Vec<T>,
        work: impl Fn(Vec<T>) -> Result<Vec<R>> + Send + std::marker::Sync + 'static,
    ) -> Result<Vec<R>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        // Waking a thread costs more than the syncs of a few small files, the later of which find the work done.
        let threads = (items.len() / 4).clamp(1, THREADS);
        let at_once = items.len().div_ceil(threads).min(OPEN);
        let items = Mutex::new(items.into_iter());
        let run = Arc::new(move || {
            let mut done = Vec::new();
            loop {
                let next =
                    items.lock().unwrap_or_else(PoisonError::into_inner).by_ref().take(at_once).collect::<Vec<T>>();
                if next.is_empty() {
                    return Ok(done);
                }
                done.extend(work(next)?);
            }
        });
        let helpers: Vec<_> = (1..threads)
            .map(|_| {
                let run = Arc::clone(&run);
                self.work.runtime.spawn_blocking(move || run())
            })
            .collect();
        let mut done = run();
        for helper in helpers {
            // Nothing is left to do for one that has not begun, and waiting for it could be waiting for this very thread.
            helper.abort();
            let more = match self.work.runtime.block_on(helper) {
                Err(error) if error.is_cancelled() => continue,
                more => more.map_err(super::super::stopped),
            };
            done = done.and_then(|mut done| {
                done.extend(more??);
                Ok(done)
            });
        }
        done
    }

    /// Syncs a folder, and its parents up to one whose name is known to be durable: who made them may not have come so far.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut new = Vec::new();
        for folder in folder.ancestors() {
            let file = File::open(folder)?;
            file.sync_all()?;
            if folder == self.root {
                break;
            }
            let metadata = file.metadata()?;
            let identity = (metadata.dev(), metadata.ino(), metadata.created().ok());
            if self.known.contains(folder, &identity) {
                break;
            }
            new.push((folder.to_owned(), identity));
        }
        for (folder, identity) in new {
            self.known.insert(folder, identity);
        }
        Ok(())
    }
}

/// Appends the receipts of a batch to the files of its folders, which it makes. The files stay locked, so that no
/// folder is removed as empty before its objects have their names.
fn append_receipts(root: &Path, batch: &[Item]) -> io::Result<BTreeMap<PathBuf, File>> {
    let mut lines: BTreeMap<&Path, String> = BTreeMap::new();
    for item in batch {
        let folder = item.path.parent().unwrap_or(Path::new(""));
        lines.entry(folder).or_default().push_str(&receipts::line(&item.name, &item.receipt));
    }
    let mut logs = BTreeMap::new();
    for (folder, lines) in lines {
        let appended = open_receipts(folder).and_then(|mut log| log.write_all(lines.as_bytes()).map(|()| log));
        match appended {
            Ok(log) => logs.insert(folder.to_owned(), log),
            Err(error) => {
                let folders = logs.into_keys().chain([folder.to_owned()]);
                folders.for_each(|folder| remove_empty(root, &folder));
                return Err(error);
            }
        };
    }
    Ok(logs)
}

fn open_receipts(folder: &Path) -> io::Result<File> {
    let path = folder.join(RECEIPTS);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for _ in 0..TRIES {
        match OpenOptions::new().append(true).create(true).mode(PRIVATE).open(&path) {
            Ok(log) => {
                log.lock_shared()?;
                if log.metadata()?.nlink() > 0 {
                    return Ok(log);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                last = error;
                match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Removes a file, and its folders when nothing else is in them.
///
/// Nothing is synced: an object that comes back after a loss of power has no row, and a sweep removes it.
pub(super) fn remove(root: &Path, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error),
    }
    path.parent().into_iter().for_each(|folder| remove_empty(root, folder));
    Ok(())
}

/// Removes a folder in which nothing is but receipts, and its parents when nothing else is in them.
fn remove_empty(root: &Path, folder: &Path) {
    if !remove_receipts(folder).unwrap_or(false) {
        return;
    }
    for folder in folder.ancestors().take_while(|folder| *folder != root) {
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

/// Removes the receipts if they are all that is left of a folder; says whether nothing is left.
fn remove_receipts(folder: &Path) -> io::Result<bool> {
    let only_receipts = || -> io::Result<bool> {
        for entry in std::fs::read_dir(folder)? {
            if entry?.file_name() != RECEIPTS {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if !only_receipts()? {
        return Ok(false);
    }
    let path = folder.join(RECEIPTS);
    let log = match OpenOptions::new().append(true).open(&path) {
        Ok(log) => log,
        Err(error) => return if is_missing(&error) { Ok(true) } else { Err(error) },
    };
    match log.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if !only_receipts()? {
        return Ok(false);
    }
    std::fs::remove_file(&path)?;
    Ok(true)
}
