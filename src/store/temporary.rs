//! Files without a name: nothing is left of them however the process ends.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use uuid::Uuid;

/// A new empty file, for this process only.
pub(super) fn file() -> Result<File> {
    let path = std::env::temp_dir().join(format!("isocenter-{}", Uuid::now_v7().simple()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(unavailable)?;
    std::fs::remove_file(&path).map_err(unavailable)?;
    Ok(file)
}

/// The folder for temporary files is full or cannot be written.
pub(super) fn unavailable(error: io::Error) -> Error {
    Error::unavailable("the folder for temporary files cannot be used", error)
}
