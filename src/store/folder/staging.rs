//! Where files are received before they get their names, and how those of a dead process are found.
//!
//! Each process has a folder of its own here and holds a lock for as long as it lives, which the system gives back
//! however it ends. Whoever opens the store removes the folders whose lock is free.

use super::super::Running;
use super::is_missing;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// What others may do with objects: nothing.
pub(super) const PRIVATE: u32 = 0o600;

/// What shows that the folder of objects is still the one that was opened: the lock file of this process, in its place.
///
/// A folder can be deleted or moved away, and its disk be unmounted, under a server that runs. What is then found in its place
/// has none of the objects, and nothing must be written there.
///
/// Its name tells it from those of other processes. Numbers of devices and inodes would not do: they change when a disk is
/// mounted again, and on some network file systems at any time.
#[derive(Debug)]
pub(super) struct Mark(Option<PathBuf>);

impl Mark {
    /// A file or folder that stays as long as the folder does.
    pub(super) fn of(path: PathBuf) -> Self {
        Self(Some(path))
    }

    /// The same, if it is there; else nothing is asked.
    pub(super) fn where_there_is(path: PathBuf) -> Self {
        Self(path.exists().then_some(path))
    }

    /// One look at the file system.
    ///
    /// # Errors
    /// The folder is another one, or cannot be looked at.
    pub(super) fn check(&self) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        match path.metadata() {
            Err(error) if is_missing(&error) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the folder of objects was deleted, moved or unmounted; when it is back and has lost nothing, the server goes on",
            )),
            looked => looked.map(drop),
        }
    }
}

/// The folder of this process.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    mark: Arc<Mark>,
    lock_path: PathBuf,
    _lock: File,
    next: AtomicU64,
}

impl Staging {
    /// Makes the folder of this process and removes those of dead ones.
    pub(super) fn open(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        remove_abandoned(parent)?;
        loop {
            let name = Uuid::now_v7().simple().to_string();
            let lock_path = parent.join(format!("{name}.lock"));
            let lock = OpenOptions::new().write(true).create_new(true).open(&lock_path)?;
            // another process may have taken the file for abandoned before it was locked
            if lock.try_lock().is_err() || lock.metadata()?.nlink() == 0 {
                continue;
            }
            let folder = parent.join(name);
            std::fs::create_dir(&folder)?;
            let mark = Arc::new(Mark::of(lock_path.clone()));
            return Ok(Self { folder, mark, lock_path, _lock: lock, next: AtomicU64::new(0) });
        }
    }

    /// What shows that the folder is still there.
    pub(super) fn mark(&self) -> &Arc<Mark> {
        &self.mark
    }

    /// The path of a new file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // fails if a file is still being written, which the next start will remove
        if std::fs::remove_dir(&self.folder).is_ok() {
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

fn remove_abandoned(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = OpenOptions::new().write(true).open(&path) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                match std::fs::remove_dir_all(path.with_extension("")) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                std::fs::remove_file(&path)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct StagedFile {
    pub(super) file: File,
    closed: ClosedFile,
}

/// A file that is removed when dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct ClosedFile {
    path: PathBuf,
    /// Dropped after the file is removed, so that whoever waits for the end of all work waits for that too.
    _running: Running,
}

impl StagedFile {
    pub(super) fn create(path: PathBuf, running: Running) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&path)?;
        Ok(Self { file, closed: ClosedFile { path, _running: running } })
    }

    /// Gives the file another name.
    pub(super) fn rename(&mut self, to: PathBuf) -> io::Result<()> {
        std::fs::rename(&self.closed.path, &to)?;
        self.closed.path = to;
        Ok(())
    }

    /// Lets the system begin to write what it holds of the file, so that it knows where on the disk that lies.
    ///
    /// # Errors
    /// What went wrong, of which a sync might not hear any more.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "no crate has a safe form of this call")]
    pub(super) fn begin_to_sync(&self) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the descriptor is open as long as `self` is, and no memory is handed over.
        let status = unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        let error = io::Error::last_os_error();
        if status == 0 || cannot_be_asked(error.kind()) { Ok(()) } else { Err(error) }
    }

    /// Other systems are not asked.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as it is on Linux")]
    pub(super) fn begin_to_sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Closes the file.
    pub(super) fn close(self) -> ClosedFile {
        self.closed
    }
}

/// Whether a system that is old or guarded, or a file system that has no ranges, refuses the call as such; all is then done by the
/// sync.
#[cfg(target_os = "linux")]
fn cannot_be_asked(error: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidInput, NotSeekable, PermissionDenied, Unsupported};
    matches!(error, Unsupported | InvalidInput | NotSeekable | PermissionDenied)
}

impl ClosedFile {
    /// Lets the file stay; where it is.
    pub(super) fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for ClosedFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_tells_the_folder_that_was_opened_from_another() {
        let parent = tempfile::tempdir().unwrap();
        let (path, away) = (parent.path().join("objects"), parent.path().join("away"));
        let staging = Staging::open(&path).unwrap();
        staging.mark().check().unwrap();
        std::fs::rename(&path, &away).unwrap();
        assert_eq!(staging.mark().check().unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::create_dir(&path).unwrap();
        assert!(staging.mark().check().is_err(), "an empty folder in its place");
        for file in std::fs::read_dir(&away).unwrap() {
            let file = file.unwrap();
            if file.path().is_file() {
                std::fs::copy(file.path(), path.join(file.file_name())).unwrap();
            }
        }
        staging.mark().check().expect("what was copied back is taken for the folder");
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
        staging.mark().check().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_that_the_call_is_refused_is_passed_over() {
        for number in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL, libc::ESPIPE, libc::EPERM, libc::EACCES] {
            assert!(cannot_be_asked(io::Error::from_raw_os_error(number).kind()), "{number}");
        }
        for number in [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::ENOMEM, libc::ESTALE, libc::EBADF] {
            assert!(!cannot_be_asked(io::Error::from_raw_os_error(number).kind()), "{number}");
        }
        let parent = tempfile::tempdir().unwrap();
        let file = StagedFile::create(parent.path().join("file"), None).unwrap();
        file.begin_to_sync().unwrap();
    }

    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Staging::open(parent.path()).unwrap();
        let file = StagedFile::create(alive.path(), None).unwrap();
        std::fs::create_dir(parent.path().join("dead")).unwrap();
        std::fs::write(parent.path().join("dead/0"), "left").unwrap();
        std::fs::write(parent.path().join("dead.lock"), "").unwrap();
        let other = Staging::open(parent.path()).unwrap();
        assert!(file.closed.path.exists());
        assert!(!parent.path().join("dead").exists());
        assert!(!parent.path().join("dead.lock").exists());
        drop((file, other, alive));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
