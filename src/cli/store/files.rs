//! Which files are sent: all below the given paths, in the order of their names, in groups for one request each.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files of one request.
const GROUP_FILES: usize = 32;
/// Bytes of one request, unless one file has more.
const GROUP_BYTES: u64 = 64 << 20;

/// A file and its size when it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileToSend {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
}

/// What lies below the given paths.
#[derive(Debug, Default)]
pub struct Found {
    /// Regular files.
    pub files: Vec<FileToSend>,
    /// Files in folders that are hidden, such as `.DS_Store`: these are no images.
    pub hidden: u64,
    /// What could not be looked at, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Finds all files below the paths.
pub fn find(paths: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    let mut seen = HashSet::new();
    for path in paths {
        let metadata = std::fs::metadata(path)
            .map_err(|error| Error::bad_request(format!("`{}` cannot be read: {error}", path.display())))?;
        if metadata.is_dir() {
            walk(path, &mut found, &mut seen);
        } else if metadata.is_file() {
            found.files.push(FileToSend { path: path.clone(), size: metadata.len() });
        } else {
            // a pipe can be read only once, and a request may have to be sent again
            found.unreadable.push((path.clone(), "neither a file nor a folder".to_owned()));
        }
    }
    Ok(found)
}

/// Walks a folder depth first. A folder that was seen is not entered again, so links cannot make a loop.
fn walk(root: &Path, found: &mut Found, seen: &mut HashSet<(u64, u64)>) {
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let kind = match std::fs::metadata(&path) {
            Ok(kind) => kind,
            Err(error) => {
                found.unreadable.push((path, error.to_string()));
                continue;
            }
        };
        if kind.is_file() {
            found.files.push(FileToSend { path, size: kind.len() });
        } else if kind.is_dir() && seen.insert((kind.dev(), kind.ino())) {
            match visible(&path, found) {
                Ok(mut entries) => {
                    entries.sort_unstable_by(|one, other| other.cmp(one));
                    left.append(&mut entries);
                }
                Err(error) => found.unreadable.push((path, error.to_string())),
            }
        }
    }
}

fn visible(folder: &Path, found: &mut Found) -> io::Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.hidden += 1;
        } else {
            entries.push(entry.path());
        }
    }
    Ok(entries)
}

/// Cuts files into groups by their sizes.
pub fn groups<F>(mut files: &[F], size: impl Fn(&F) -> u64) -> Vec<&[F]> {
    let mut groups = Vec::new();
    while !files.is_empty() {
        let mut bytes = 0u64;
        let fits = |file: &&F| {
            bytes = bytes.saturating_add(size(file));
            bytes <= GROUP_BYTES
        };
        let count = files.iter().take(GROUP_FILES).take_while(fits).count().max(1);
        let (group, rest) = files.split_at(count);
        groups.push(group);
        files = rest;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_visible_files_are_found_once_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        for name in ["b/c/2", "a", "b/1", ".hidden", "b/.DS_Store"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("b/loop")).unwrap();
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("b/broken")).unwrap();
        let found = find(&[root.to_owned(), root.join(".hidden")]).unwrap();
        let names: Vec<_> =
            found.files.iter().map(|file| file.path.strip_prefix(root).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a", "b/1", "b/c/2", ".hidden"]);
        assert_eq!((found.hidden, found.unreadable.len()), (2, 1));
        let device = find(&["/dev/null".into()]).unwrap();
        assert_eq!((device.files.len(), device.unreadable.len()), (0, 1));
        assert!(find(&[root.join("missing")]).unwrap_err().message().contains("missing"));
    }

    #[test]
    fn groups_keep_to_both_limits() {
        let files: Vec<u64> = [vec![1; 40], vec![40 << 20; 3], vec![5 << 30], vec![2]].concat();
        let sizes: Vec<usize> = groups(&files, |size| *size).into_iter().map(<[_]>::len).collect();
        assert_eq!(sizes, [32, 9, 1, 1, 1, 1]);
        assert_eq!(groups(&[], |size| *size).len(), 0);
    }
}
