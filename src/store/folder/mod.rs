//! Objects as files below a folder.
//!
//! ```text
//! studies/1.2/3.4/5.6.{lease}.{number}.dcm    an object, under its key
//! studies/1.2/3.4/receipts                    the receipts of the objects beside it
//! staging/{process}/{n}                       what is being received; staging/{process}.lock is locked while the process lives
//! ```
//! When objects are said to be durable, they survive a loss of power under their keys: their files and folders are synced
//! ([`durable`]). Before that a crash may leave anything, which no row names. Several processes may share the folder.

mod durable;
mod lately;
mod staging;
mod upload;

pub(super) use upload::{Staged, Upload};

use super::budget::Budget;
use super::keys::StorageKey;
use super::receipts::{self, Receipt};
use super::{ByteStream, Work, received};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use durable::KnownFolders;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use lately::Lately;
use staging::{Mark, Staging};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes that are read or written at once: a hop to another thread costs as much as copying some 100 KiB.
pub(super) const PIECE: usize = 512 << 10;
/// What is read at once if it is all that is asked for.
const WHOLE: u64 = 1 << 20;
/// Where uploads are received.
const STAGING: &str = "staging";
/// The receipts of a series.
const RECEIPTS: &str = "receipts";

/// A folder of objects.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Where files are received; nowhere, where objects are only read.
    staging: Option<Staging>,
    /// What shows that the folder is still there.
    mark: Arc<Mark>,
    known: KnownFolders,
    lately: Lately,
    work: Work,
    budget: Budget,
}

impl Folder {
    pub(super) async fn open(root: &Path, work: Work, budget: Budget) -> Result<Self> {
        let path = root.to_owned();
        let staging = work
            .blocking(move || make_root(&path).and_then(|()| Staging::open(&path.join(STAGING))).map_err(unavailable))
            .await
            .map_err(|error| not_usable(root, error))?;
        let mark = Arc::clone(staging.mark());
        Ok(Self::opened(root, Some(staging), mark, work, budget))
    }

    /// Opens a folder in which nothing is written, not even to try whether it could be.
    pub(super) async fn open_to_read(root: &Path, work: Work, budget: Budget) -> Result<Self> {
        let path = root.to_owned();
        let look = move || std::fs::read_dir(&path).map(|_| Mark::where_there_is(path.join("studies")));
        let mark = work.blocking(move || look().map_err(unavailable)).await;
        let mark = mark.map_err(|error| not_readable(root, error))?;
        Ok(Self::opened(root, None, Arc::new(mark), work, budget))
    }

    fn opened(root: &Path, staging: Option<Staging>, mark: Arc<Mark>, work: Work, budget: Budget) -> Self {
        let (known, lately) = (KnownFolders::default(), Lately::default());
        Self { root: root.to_owned(), staging, mark, known, lately, work, budget }
    }

    fn path(&self, key: &StorageKey) -> Result<PathBuf> {
        Ok(self.root.join(key.checked()?))
    }

    pub(super) async fn read(&self, key: &StorageKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        let path = self.path(key)?;
        let room = range.as_ref().map_or(Ok(Vec::new()), |range| room(piece(range.end.saturating_sub(range.start))))?;
        let mark = Arc::clone(&self.mark);
        let (first, reader) = self
            .work
            .blocking(move || {
                let mut reader = Reader::open(&path, range, &mark)?;
                Ok((reader.next(room)?, reader))
            })
            .await?;
        let rest = reader.stream(self.work.clone());
        Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
    }

    pub(super) async fn read_bytes(&self, key: &StorageKey, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(key)?;
        let room = room(range.end.saturating_sub(range.start))?;
        let mark = Arc::clone(&self.mark);
        self.work.blocking(move || Reader::open(&path, Some(range), &mark)?.all(room)).await
    }

    pub(super) async fn exists(&self, key: &StorageKey) -> Result<Option<u64>> {
        let path = self.path(key)?;
        let mark = Arc::clone(&self.mark);
        self.work
            .blocking(move || match path.metadata() {
                Ok(metadata) => Ok(Some(metadata.len())),
                Err(error) if is_missing(&error) => mark.check().map(|()| None).map_err(unavailable),
                Err(error) => Err(unavailable(error)),
            })
            .await
    }

    pub(super) async fn receipt(&self, key: &StorageKey) -> Result<Option<Receipt>> {
        let path = self.path(key)?;
        self.work
            .blocking(move || {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
                if !path.try_exists().map_err(unavailable)? {
                    return Ok(None);
                }
                match std::fs::read(path.with_file_name(RECEIPTS)) {
                    Ok(lines) => Ok(receipts::find(&String::from_utf8_lossy(&lines), name)),
                    Err(error) if is_missing(&error) => Ok(None),
                    Err(error) => Err(unavailable(error)),
                }
            })
            .await
    }

    pub(super) async fn remove(&self, key: &StorageKey) -> Result<()> {
        let path = self.path(key)?;
        let (root, mark) = (self.root.clone(), Arc::clone(&self.mark));
        // what cannot be seen is not removed
        let remove = move || mark.check().and_then(|()| durable::remove(&root, &path));
        self.work.blocking(move || remove().map_err(unavailable)).await
    }

    pub(super) fn list(&self, prefix: &str) -> BoxStream<'static, Result<(StorageKey, u64)>> {
        let (sender, receiver) = mpsc::channel(64);
        let (root, mark) = (self.root.clone(), Arc::clone(&self.mark));
        let start = if prefix.is_empty() { root.clone() } else { root.join(prefix) };
        self.work.runtime.spawn_blocking(move || {
            if let Err(error) = walk(&root, start, &mark, &sender) {
                let _ = sender.blocking_send(Err(unavailable(error)));
            }
        });
        received(receiver)
    }
}

/// Makes the folder, durably and for this user only: it will hold what patients would not show to others.
fn make_root(root: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = root.ancestors().take_while(|folder| !folder.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Sends every object below a folder; ends early if nobody listens any more.
fn walk(root: &Path, start: PathBuf, mark: &Mark, found: &mpsc::Sender<Result<(StorageKey, u64)>>) -> io::Result<()> {
    let mut folders = vec![start];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => {
                // removed meanwhile; but whoever lists must not take all for gone
                mark.check()?;
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if is_missing(&error) => {
                    mark.check()?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                if folder != root || entry.file_name() != STAGING {
                    folders.push(path);
                }
            } else if metadata.is_file() && entry.file_name() != RECEIPTS {
                let key = path.strip_prefix(root).ok().and_then(Path::to_str);
                let Some(key) = key.map(|key| StorageKey::from_index(key.to_owned())) else { continue };
                if found.blocking_send(Ok((key, metadata.len()))).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// A part of a file that is read from its start to its end.
struct Reader {
    file: File,
    left: u64,
}

impl Reader {
    /// An object is missing only where its folder is still there.
    fn open(path: &Path, range: Option<Range<u64>>, mark: &Mark) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| match mark.check() {
            Ok(()) if is_missing(&error) => Error::lost("object missing").caused_by(error),
            Ok(()) => unavailable(error),
            Err(gone) => unavailable(gone),
        })?;
        let size = file.metadata().map_err(unavailable)?.len();
        let range = range.unwrap_or(0..size);
        if range.end > size || range.start > range.end {
            return Err(Error::lost(format!(
                "the object of {size} bytes does not have the range {}..{}",
                range.start, range.end
            )));
        }
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start)).map_err(unavailable)?;
        }
        Ok(Self { file, left: range.end - range.start })
    }

    /// Exactly that many bytes, into memory that is not zeroed first.
    fn take(&mut self, length: u64, mut room: Vec<u8>) -> Result<Bytes> {
        reserve(&mut room, length)?;
        (&self.file).take(length).read_to_end(&mut room).map_err(unreadable)?;
        if room.len() as u64 != length {
            return Err(Error::lost("the object became shorter while it was read"));
        }
        self.left -= length;
        Ok(room.into())
    }

    fn next(&mut self, room: Vec<u8>) -> Result<Option<Bytes>> {
        match piece(self.left) {
            0 => Ok(None),
            length => self.take(length, room).map(Some),
        }
    }

    fn all(mut self, room: Vec<u8>) -> Result<Bytes> {
        self.take(self.left, room)
    }

    /// The pieces, one of which is read ahead while the one before is sent.
    fn stream(self, work: Work) -> ByteStream {
        if self.left == 0 {
            return stream::empty().boxed();
        }
        let ahead = |mut reader: Self, work: &Work| {
            let room = room(piece(reader.left));
            work.runtime.spawn_blocking(move || {
                let piece = room.and_then(|room| reader.next(room));
                (piece, reader)
            })
        };
        let first = ahead(self, &work);
        stream::try_unfold(Some(first), move |task| {
            let work = work.clone();
            async move {
                let Some(task) = task else { return Ok(None) };
                let (piece, reader) = task.await.map_err(super::stopped)?;
                let next = if reader.left == 0 { None } else { Some(ahead(reader, &work)) };
                Ok(piece?.map(|piece| (piece, next)))
            }
        })
        .boxed()
    }
}

/// A disk or a file system that checks its sums answers so for ever where bytes are lost: to ask again is of no use.
fn unreadable(error: io::Error) -> Error {
    let lost = match error.raw_os_error() {
        Some(libc::EIO | libc::EBADMSG) => true,
        #[cfg(target_os = "linux")]
        Some(libc::EUCLEAN) => true,
        _ => false,
    };
    if lost {
        return Error::lost("the disk does not hand out the object").caused_by(error);
    }
    unavailable(error)
}

/// How much of what is left is read at once.
fn piece(left: u64) -> u64 {
    if left <= WHOLE { left } else { PIECE as u64 }
}

/// Memory to read into, made by the thread that will free it: an allocator keeps memory by thread, and made by the many
/// threads of blocking calls it would stay with each of them.
fn room(length: u64) -> Result<Vec<u8>> {
    let mut room = Vec::new();
    reserve(&mut room, length)?;
    Ok(room)
}

fn reserve(room: &mut Vec<u8>, length: u64) -> Result<()> {
    let length =
        usize::try_from(length).map_err(|error| Error::internal("too long to read at once").caused_by(error))?;
    room.try_reserve_exact(length)
        .map_err(|error| Error::unavailable("not enough memory to read from the object store", error))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// An error of the file system as the caller sees it; the cause goes to the log.
fn unavailable(error: io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the object store is full",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "the object store cannot be written",
        _ => "the object store is unavailable",
    };
    Error::unavailable(message, error)
}

/// What the operator is told of a folder that cannot even be read.
fn not_readable(root: &Path, error: Error) -> Error {
    Error::configuration(format!(
        "the objects in `{}` cannot be read; mount the volume that is missing, or name the right place with `--storage-url` or \
         `--data-dir`",
        root.display()
    ))
    .caused_by(error)
}

/// An error at the start, with what to do.
pub(super) fn not_usable(path: &Path, error: Error) -> Error {
    let cause = std::error::Error::source(&error);
    let text = cause.map_or_else(|| error.to_string(), ToString::to_string);
    let full = cause
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    let hint = if full {
        "make some room there: to free what was deleted takes a little, too"
    } else {
        "let this user write there, or name another folder with --data-dir or --storage-url"
    };
    Error::new(
        ErrorKind::Configuration,
        format!("the storage folder `{}` cannot be used: {text}; {hint}", path.display()),
    )
    .caused_by(error)
}
