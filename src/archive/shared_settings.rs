//! The settings that the commands which look after an archive share with its servers, kept beside the objects: a lost index must
//! not take along by which of several contents counts, nor a command that is run without the settings file erase too early.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// Settings by their names in the file, as texts.
pub type SharedSettings = BTreeMap<String, String>;

/// Largest object of settings.
const MOST_BYTES: u64 = 64 << 10;

/// Keeps the settings of a server that starts, unless they are kept already.
///
/// # Errors
/// The store is unavailable.
pub async fn keep(store: &ObjectStorage, settings: &SharedSettings) -> Result<()> {
    let kept = list(store).await?;
    if let Some((last, bytes)) = kept.last()
        && read(store, last, *bytes).await?.as_ref() == Some(settings)
    {
        return Ok(());
    }
    let json = serde_json::to_vec(settings);
    let json = json.map_err(|error| Error::internal("the settings cannot be written").caused_by(error))?;
    store.put(&StorageKey::settings(Uuid::now_v7()), Bytes::from(json)).await?.keep();
    for (older, _) in kept {
        store.remove(&older).await?;
    }
    Ok(())
}

/// The settings of the server that started last, if they are known.
///
/// # Errors
/// The store is unavailable.
pub async fn kept(store: &ObjectStorage) -> Result<Option<SharedSettings>> {
    for (key, bytes) in list(store).await?.iter().rev() {
        if let Some(settings) = read(store, key, *bytes).await? {
            return Ok(Some(settings));
        }
    }
    Ok(None)
}

/// In the order in which they were written.
async fn list(store: &ObjectStorage) -> Result<Vec<(StorageKey, u64)>> {
    let listing = store.list("settings").try_filter(|(key, _)| std::future::ready(key.settings_id().is_some()));
    let mut kept: Vec<(StorageKey, u64)> = listing.try_collect().await?;
    kept.sort();
    Ok(kept)
}

async fn read(store: &ObjectStorage, key: &StorageKey, bytes: u64) -> Result<Option<SharedSettings>> {
    let json = match store.read_bytes(key, 0..bytes.min(MOST_BYTES)).await {
        Ok(json) => json,
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        // removed by another server that starts
        Err(_) if store.exists(key).await?.is_none() => return Ok(None),
        Err(_) => Bytes::new(),
    };
    let settings = serde_json::from_slice(&json).ok();
    if settings.is_none() {
        tracing::warn!(
            key = key.as_str(),
            "the settings that are kept beside the objects cannot be read; those given here count"
        );
    }
    Ok(settings)
}
