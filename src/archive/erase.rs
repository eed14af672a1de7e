//! Erases what is hidden when it cannot be taken back any more: first no row brings it back, then the object goes, then the row.
//!
//! Cut off anywhere, the next run goes on with the rows that are left; several at once do no harm.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::catalogue::{Catalogue, Deletable};
use crate::clock;
use crate::error::{Error, Result};
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
/// The index is unavailable. Objects that could not be removed are told of, and end the run: the next one tries again.
pub async fn erase(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    hidden_before: i64,
    mut tell: impl FnMut(&Erased),
) -> Result<()> {
    loop {
        let batch = catalogue.take_erasable(hidden_before, BATCH).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let remove = |one: Deletable| async move {
            let key = StorageKey::from_index(one.location);
            let failure = store.remove(&key).await.err();
            (one.id, Erased { key, failure })
        };
        let mut removals = pin!(stream::iter(batch).map(remove).buffer_unordered(REMOVALS));
        let (mut gone, mut failed) = (Vec::new(), false);
        while let Some((id, erased)) = removals.next().await {
            match &erased.failure {
                None => gone.push(id),
                Some(_) => failed = true,
            }
            tell(&erased);
        }
        catalogue.forget_instances(&gone).await?;
        if failed {
            return Ok(());
        }
    }
}
