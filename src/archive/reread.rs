//! Reading an object again that was stored before: its digest, its size and its header.

use futures_util::TryStreamExt as _;

use crate::archive::digest::Digest;
use crate::dicom::header::{HeaderLimits, HeaderReader};
use crate::error::{ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// What an object is.
pub(super) struct Reread {
    /// BLAKE3 of its bytes.
    pub(super) digest: [u8; 32],
    /// How many those are.
    pub(super) size: u64,
    /// Its header, or in words why it has none.
    pub(super) header: std::result::Result<HeaderReader, String>,
}

/// The size of an object and the BLAKE3 of its bytes.
///
/// # Errors
/// The store does not hand it out.
pub(super) async fn digest_of(store: &ObjectStorage, key: &StorageKey) -> Result<(u64, [u8; 32])> {
    let mut object = store.read(key).await?;
    let (mut digest, mut size) = (Digest::new(), 0_u64);
    while let Some(piece) = object.try_next().await? {
        digest.update(&piece);
        size = size.saturating_add(piece.len() as u64);
    }
    Ok((size, digest.finish()))
}

/// What an object was when it was stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
}

/// What is left of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole,
    Damaged,
    Nothing,
}

/// Reads an object to tell whether it is what was stored.
///
/// # Errors
/// The store is unavailable.
pub(super) async fn is_whole(store: &ObjectStorage, key: &StorageKey, whole: Whole) -> Result<Found> {
    match store.exists(key).await? {
        None => return Ok(Found::Nothing),
        Some(size) if size != whole.size => return Ok(Found::Damaged),
        Some(_) => {}
    }
    match digest_of(store, key).await {
        Ok((_, digest)) if digest == whole.digest => Ok(Found::Whole),
        Ok(_) => Ok(Found::Damaged),
        // bytes that the disk does not hand out
        Err(error) if error.kind() == ErrorKind::Lost => Ok(Found::Damaged),
        Err(error) => Err(error),
    }
}

/// Reads all of an object.
///
/// # Errors
/// The store does not hand it out.
pub(super) async fn reread(store: &ObjectStorage, key: &StorageKey, limits: HeaderLimits) -> Result<Reread> {
    let mut header = HeaderReader::new(limits);
    let mut digest = Digest::new();
    let mut size = 0_u64;
    let mut refused = None;
    let mut bytes = store.read(key).await?;
    while let Some(piece) = bytes.try_next().await? {
        size = size.saturating_add(piece.len() as u64);
        digest.update(&piece);
        if refused.is_none() {
            refused = header.push(&piece).err();
        }
    }
    let header = refused.map_or(Ok(header), |error| Err(error.to_string()));
    Ok(Reread { digest: digest.finish(), size, header })
}
