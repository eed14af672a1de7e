//! Removes objects that no row names: what killed processes and failed commits left, or with a whole listing whatever else.
//!
//! Two questions about an object are asked in this order: whether the lease in its key is held, and whether a row names
//! it. A lease that is not held never will be again, and without it no row is written; so rows that are asked for
//! afterwards are all that there will be. Several sweeps at once, and servers beside them, do no harm.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::catalogue::Catalogue;
use crate::clock;
use crate::error::{Error, Result};
use crate::store::ObjectStorage;
use crate::store::keys::{InstanceObject, StorageKey};

/// Objects about which the index is asked at once.
const BATCH: usize = 500;
/// Objects that are removed at once.
const REMOVALS: usize = 16;

/// What is swept, and how.
#[derive(Clone, Copy, Debug)]
pub struct SweepOptions {
    /// Every object is compared with the index, not only those under leases that have run out.
    pub full: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// What a sweep tells of while it runs.
#[derive(Debug)]
pub enum Event {
    /// So many more objects were looked at.
    Looked(u64),
    /// An object without a row was removed, or would be.
    Stray(Stray),
}

/// An object without a row.
#[derive(Debug)]
pub struct Stray {
    /// Where it is or was.
    pub key: StorageKey,
    /// Its size.
    pub bytes: u64,
    /// Why it could not be removed, if so.
    pub failure: Option<Error>,
}

/// An object in the listing that was made for an instance.
struct Candidate {
    key: StorageKey,
    bytes: u64,
    object: InstanceObject,
}

/// Removes objects without a row; how many leases were swept.
///
/// # Errors
/// `BadRequest` when a full sweep would remove everything, for the index is empty. `Unavailable` when index or store is;
/// leases that were taken are swept by the next run then.
pub async fn sweep(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    options: SweepOptions,
    mut tell: impl FnMut(Event),
) -> Result<u64> {
    if options.full && !options.dry_run && !catalogue.holds_instances().await? {
        return Err(Error::bad_request(
            "the index has no instance, so `--full` would remove every object; check `--database-url` and `--data-dir`, or look with `--dry-run`",
        ));
    }
    let lapsed = take_leases(catalogue, options.dry_run).await?;
    if lapsed.is_empty() && !options.full {
        return Ok(0);
    }
    let sweep = Sweep { catalogue, store, options, lapsed: &lapsed };
    let mut failed = false;
    // whatever else lies below the root is none of ours
    let candidates = candidates(store.list("studies"));
    let mut batches = pin!(candidates.try_chunks(BATCH).map_err(|error| error.1));
    while let Some(batch) = batches.try_next().await? {
        tell(Event::Looked(batch.len() as u64));
        let strays = sweep.strays(batch).await?;
        let mut removed = pin!(stream::iter(strays).map(|stray| sweep.remove(stray)).buffer_unordered(REMOVALS));
        while let Some(stray) = removed.next().await {
            failed |= stray.failure.is_some();
            tell(Event::Stray(stray));
        }
    }
    if options.full && !options.dry_run {
        remove_untold_deletions(catalogue, store).await?;
    }
    if !failed && !options.dry_run {
        for lease in &lapsed {
            catalogue.forget_lapsed_lease(*lease).await?;
        }
    }
    Ok(lapsed.len() as u64)
}

/// Takes the leases that have run out: these, and those that another sweep took and did not come to an end with.
async fn take_leases(catalogue: &Catalogue, dry_run: bool) -> Result<HashSet<Uuid>> {
    let expired = catalogue.expired_leases().await?;
    if dry_run {
        return Ok(expired.into_iter().chain(catalogue.lapsed_leases().await?).collect());
    }
    for lease in expired {
        catalogue.lapse_lease(lease).await?;
    }
    Ok(catalogue.lapsed_leases().await?.into_iter().collect())
}

/// A deletion that is told of for so long without a row never came about.
const UNTOLD: Duration = Duration::from_hours(24);

/// Removes the objects that tell of deletions of which the index knows nothing, as it was cut off before it did.
async fn remove_untold_deletions(catalogue: &Catalogue, store: &ObjectStorage) -> Result<()> {
    let before = Duration::from_millis(u64::try_from(clock::unix_millis()).unwrap_or_default()).saturating_sub(UNTOLD);
    let told = store.list("deletions").try_filter_map(|(key, _)| async move { Ok(key.deletion_id()) });
    let old = told.try_filter(|id| {
        let (seconds, _) = id.get_timestamp().map_or((u64::MAX, 0), |time| time.to_unix());
        std::future::ready(seconds < before.as_secs())
    });
    let mut batches = pin!(old.try_chunks(BATCH).map_err(|error| error.1));
    while let Some(batch) = batches.try_next().await? {
        let known = catalogue.known_deletions(&batch).await?;
        for id in batch.into_iter().filter(|id| !known.contains(id)) {
            store.remove(&StorageKey::deletion(id)).await?;
        }
    }
    Ok(())
}

fn candidates(listing: BoxStream<'static, Result<(StorageKey, u64)>>) -> BoxStream<'static, Result<Candidate>> {
    let candidate = |(key, bytes): (StorageKey, u64)| async move {
        Ok(key.instance_object().map(|object| Candidate { key, bytes, object }))
    };
    listing.try_filter_map(candidate).boxed()
}

struct Sweep<'a> {
    catalogue: &'a Catalogue,
    store: &'a ObjectStorage,
    options: SweepOptions,
    lapsed: &'a HashSet<Uuid>,
}

impl Sweep<'_> {
    /// Those of these objects that no row names or ever will.
    async fn strays(&self, mut batch: Vec<Candidate>) -> Result<Vec<Stray>> {
        if self.options.full {
            // asked after the objects were listed: their processes took their leases before
            let leases = batch.iter().map(|candidate| candidate.object.lease).collect();
            let held = self.catalogue.leases_held(&leases).await?;
            // in a dry run those that have run out are not taken
            batch.retain(|one| !held.contains(&one.object.lease) || self.lapsed.contains(&one.object.lease));
        } else {
            batch.retain(|one| self.lapsed.contains(&one.object.lease));
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let instances = batch.iter().map(|candidate| candidate.object.instance.instance.clone()).collect();
        let named = self.catalogue.locations_of(&instances).await?;
        let unnamed = batch.into_iter().filter(|candidate| !named.contains(candidate.key.as_str()));
        Ok(unnamed.map(|Candidate { key, bytes, .. }| Stray { key, bytes, failure: None }).collect())
    }

    async fn remove(&self, mut stray: Stray) -> Stray {
        if !self.options.dry_run {
            stray.failure = self.store.remove(&stray.key).await.err();
        }
        stray
    }
}
