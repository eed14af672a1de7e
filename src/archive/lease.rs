//! The lease under which this process stores: taken before its first byte, renewed while it lives, given back at its end.
//!
//! Objects whose keys carry the id of a lease are safe from the sweep while it lasts. After whatever may have left an object
//! without a row, the process goes on under another lease. The one before is renewed while something is still stored
//! under it; then it runs out, and the sweep looks for what was left.
//!
//! Nothing is begun under a lease that could not be renewed for its whole term: were the process killed then, what came so late
//! would look to a sweep as if the index were older than the objects.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::catalogue::Catalogue;
use crate::clock::Stopwatch;
use crate::dicom::uid::InstanceKey;
use crate::error::{Error, Result};
use crate::store::keys::StorageKey;

/// How often a lease is renewed within its term, so that a database may be away for most of it.
const RENEWALS: u32 = 4;

/// Hands out the lease of the process.
pub(super) struct Leases(Arc<Inner>);

struct Inner {
    catalogue: Catalogue,
    term: Duration,
    /// Makes the id of a lease.
    name: fn() -> Uuid,
    runtime: Handle,
    current: Mutex<Option<Arc<Lease>>>,
    /// All that were taken, as long as something is stored under them.
    taken: Mutex<Vec<Weak<Lease>>>,
    /// One takes a new lease, the others wait for it.
    taking: tokio::sync::Mutex<()>,
}

/// A lease. Whoever stores under it holds it.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: Uuid,
    objects: AtomicU64,
    /// Since before it was taken or last renewed.
    renewed: Mutex<Stopwatch>,
}

impl Lease {
    fn new(id: Uuid, renewed: Stopwatch) -> Self {
        Self { id, objects: AtomicU64::new(0), renewed: Mutex::new(renewed) }
    }

    fn renewed(&self) -> MutexGuard<'_, Stopwatch> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the objects begun under the lease.
    pub(super) fn next(&self) -> u64 {
        self.objects.fetch_add(1, Ordering::Relaxed)
    }

    /// The key of an object begun under the lease.
    pub(super) fn key(&self, instance: &InstanceKey, object: u64) -> StorageKey {
        StorageKey::instance(instance, self.id, object)
    }
}

impl Leases {
    /// Leases to store under.
    pub(super) fn new(catalogue: Catalogue, term: Duration) -> Self {
        Self::named(catalogue, term, Uuid::now_v7)
    }

    /// Leases of which each has an id of its own kind.
    pub(super) fn named(catalogue: Catalogue, term: Duration, name: fn() -> Uuid) -> Self {
        let runtime = Handle::current();
        let taking = tokio::sync::Mutex::default();
        let (current, taken) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { catalogue, term, name, runtime, current, taken, taking }))
    }

    /// The lease to store under, taken now if there is none.
    pub(super) async fn current(&self) -> Result<Arc<Lease>> {
        if let Some(lease) = self.0.known() {
            return Ok(lease);
        }
        let _taking = self.0.taking.lock().await;
        if let Some(lease) = self.0.known() {
            return Ok(lease);
        }
        let lease = Arc::new(Lease::new((self.0.name)(), Stopwatch::start()));
        self.0.in_time(self.0.catalogue.take_lease(lease.id, self.0.term)).await?;
        self.0.runtime.spawn(keep(Arc::downgrade(&self.0), lease.id, Arc::downgrade(&lease), self.0.term / RENEWALS));
        self.0.taken().push(Arc::downgrade(&lease));
        *self.0.slot() = Some(Arc::clone(&lease));
        Ok(lease)
    }

    /// Those under which this process may be about to store something.
    pub(super) fn held(&self) -> Vec<Uuid> {
        self.0.taken().iter().filter_map(Weak::upgrade).map(|lease| lease.id).collect()
    }

    /// Stores under another lease from now on.
    pub(super) fn retire(&self, lease: &Lease) {
        self.0.retire(lease.id);
    }

    /// Gives the lease back if nothing is stored under it any more and nothing was left.
    pub(super) async fn end(&self, left_nothing: bool) {
        let lease = self.0.slot().take();
        if let Some(lease) = lease.filter(|_| left_nothing).and_then(Arc::into_inner)
            && let Err(error) = self.0.catalogue.end_lease(lease.id).await
        {
            tracing::warn!(lease = %lease.id, ?error, "the lease of this process is left to run out");
        }
    }
}

impl Inner {
    /// The lease at hand, unless it may have run out.
    fn known(&self) -> Option<Arc<Lease>> {
        self.slot().clone().filter(|lease| lease.renewed().elapsed() < self.term)
    }

    fn retire(&self, id: Uuid) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|current| current.id == id) {
            *slot = None;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Lease>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are over are forgotten.
    fn taken(&self) -> MutexGuard<'_, Vec<Weak<Lease>>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|lease| lease.strong_count() > 0);
        taken
    }

    /// A connection that hangs must not hang more than one renewal.
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| Error::unavailable("the index database is unavailable", "no answer in time");
        timeout(self.term / RENEWALS, answer).await.map_err(late)?
    }
}

/// Renews a lease until nobody holds it any more.
async fn keep(leases: Weak<Inner>, id: Uuid, lease: Weak<Lease>, pause: Duration) {
    loop {
        sleep(pause).await;
        let Some(leases) = leases.upgrade().filter(|_| lease.strong_count() > 0) else { return };
        let started = Stopwatch::start();
        match leases.in_time(leases.catalogue.renew_lease(id)).await {
            Ok(true) => {
                if let Some(lease) = lease.upgrade() {
                    *lease.renewed() = started;
                }
            }
            Ok(false) => {
                leases.retire(id);
                // given back meanwhile, if nobody holds it
                if lease.strong_count() > 0 {
                    tracing::error!(lease = %id, "the lease of this process is gone; it takes another");
                }
                return;
            }
            Err(error) => tracing::warn!(lease = %id, ?error, "the lease of this process could not be renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseSettings, DatabaseUrl};

    #[tokio::test]
    async fn a_lease_that_was_not_renewed_for_its_term_is_not_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("index.sqlite3"));
        let catalogue = Catalogue::open(&url, &DatabaseSettings::default()).await.unwrap();
        catalogue.migrate().await.unwrap();
        let long = Leases::new(catalogue.clone(), Duration::from_hours(1));
        let first = long.current().await.unwrap();
        assert_eq!(long.current().await.unwrap().id, first.id);
        let inner = Inner {
            catalogue,
            term: Duration::ZERO,
            name: Uuid::now_v7,
            runtime: Handle::current(),
            current: Mutex::new(Some(first)),
            taken: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
        };
        assert!(inner.known().is_none(), "its term is over");
    }
}
