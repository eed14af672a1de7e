//! Erases what is hidden when it cannot be taken back any more: first no row brings it back, then the object goes, then the row.
//!
//! Cut off anywhere, the next run goes on with the rows that are left; several at once do no harm.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use uuid::Uuid;

use crate::archive::events;
use crate::archive::reindex::expect_whole_index;
use crate::catalogue::{Catalogue, Deletable, DeletionId};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// Instances that are taken at once.
const BATCH: i64 = 500;
/// Objects that are removed at once.
const REMOVALS: usize = 16;

/// What became of an object that was to be erased.
#[derive(Debug)]
pub struct Erased {
    /// Where it was.
    pub key: StorageKey,
    /// Why it could not be removed, if so.
    pub failure: Option<Error>,
}

/// The time before which hidden instances are erased, in milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn before(undo_window: Duration) -> i64 {
    clock::unix_millis().saturating_sub(i64::try_from(undo_window.as_millis()).unwrap_or(i64::MAX))
}

/// Erases the instances that were hidden before a time, in milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// Index or store is unavailable. Objects that could not be removed are told of and passed over: the next run tries again.
pub async fn erase(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    hidden_before: i64,
    mut tell: impl FnMut(&Erased),
) -> Result<()> {
    let mut after = None;
    loop {
        let left = catalogue.taken_erasable(after, BATCH).await?;
        let Some(last) = left.last() else { break };
        after = Some(last.id);
        remove(catalogue, store, left, &mut tell).await?;
    }
    // what cannot be taken back until the index is whole must not be erased meanwhile
    expect_whole_index(catalogue).await?;
    let deletions = told(catalogue, store, hidden_before, &mut tell).await?;
    loop {
        let due = catalogue.take_erasable(hidden_before, deletions.clone(), BATCH).await?;
        if due.is_empty() {
            return Ok(());
        }
        remove(catalogue, store, due, &mut tell).await?;
    }
}

/// The deletions that are due, of which an object tells, and of which nothing was taken back that this index does not know of.
async fn told(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    hidden_before: i64,
    tell: &mut impl FnMut(&Erased),
) -> Result<Vec<DeletionId>> {
    let mut told = Vec::new();
    let due = catalogue.due_deletions(hidden_before).await?;
    let restores = if due.is_empty() { Vec::new() } else { events::restores(store).await? };
    for (deletion, id) in due {
        let key = StorageKey::deletion(id);
        let of_this = restores.iter().filter(|(of, ..)| *of == id);
        let why = if store.exists(&key).await?.is_none() {
            "no object tells of the delete; `isocenter restore` takes it back"
        } else if is_taken_back(catalogue, store, deletion, of_this).await? {
            "some of it was taken back since this index was saved; `isocenter reindex` brings it up to date"
        } else {
            told.push(deletion);
            continue;
        };
        tracing::error!(deletion = %id, why, "what was deleted is not erased");
        tell(&Erased { key, failure: Some(Error::new(ErrorKind::Conflict, why)) });
    }
    Ok(told)
}

/// Whether any of these restores tells of something that the deletion hides here.
async fn is_taken_back(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    deletion: DeletionId,
    restores: impl Iterator<Item = &(Uuid, StorageKey, u64)>,
) -> Result<bool> {
    for (_, key, bytes) in restores {
        // one that cannot be read may tell of anything
        let Some(told) = events::taken_back(store, key, *bytes).await? else { return Ok(true) };
        if catalogue.hides_any(deletion, told.objects).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the objects of a batch, then the rows of those that are gone.
async fn remove(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    batch: Vec<Deletable>,
    tell: &mut impl FnMut(&Erased),
) -> Result<()> {
    let remove = |one: Deletable| async move {
        let key = StorageKey::from_index(one.location);
        let failure = store.remove(&key).await.err();
        (one.id, Erased { key, failure })
    };
    let mut removals = pin!(stream::iter(batch).map(remove).buffer_unordered(REMOVALS));
    let mut gone = Vec::new();
    while let Some((id, erased)) = removals.next().await {
        match &erased.failure {
            None => gone.push(id),
            Some(error) => {
                tracing::warn!(key = erased.key.as_str(), ?error, "an object that is to be erased cannot be removed");
            }
        }
        tell(&erased);
    }
    if gone.is_empty() {
        // one after the other fails while the store is away: that ends the run
        store.probe().await?;
    }
    catalogue.forget_instances(&gone).await
}
