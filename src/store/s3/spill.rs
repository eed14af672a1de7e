//! A temporary file for bytes that cannot be sent yet.

use super::super::budget::Pieces;
use super::super::temporary::{self, unavailable};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Bytes that are appended at the end and taken from the start.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    start: u64,
    end: u64,
}

impl Spill {
    /// An empty file.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { file: temporary::file()?, start: 0, end: 0 })
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(super) fn append(&mut self, pieces: Pieces) -> Result<()> {
        let length = pieces.len() as u64;
        self.file.seek(SeekFrom::Start(self.end)).map_err(unavailable)?;
        pieces.write_to(&mut self.file).map_err(unavailable)?;
        self.end += length;
        Ok(())
    }

    /// The next bytes, `length` or what there is.
    pub(super) fn take(&mut self, length: u64) -> Result<Bytes> {
        let length = length.min(self.len());
        let mut bytes = Vec::new();
        let capacity = usize::try_from(length).unwrap_or(usize::MAX);
        bytes
            .try_reserve_exact(capacity)
            .map_err(|error| Error::unavailable("not enough memory for an upload", error))?;
        self.file.seek(SeekFrom::Start(self.start)).map_err(unavailable)?;
        (&self.file).take(length).read_to_end(&mut bytes).map_err(unavailable)?;
        self.start += bytes.len() as u64;
        if self.start == self.end {
            self.file.set_len(0).map_err(unavailable)?;
            (self.start, self.end) = (0, 0);
        }
        Ok(bytes.into())
    }
}
