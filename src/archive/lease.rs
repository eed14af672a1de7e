//! The lease under which this process stores: taken before its first byte, renewed while it lives, given back at its end.
//!
//! Objects whose keys carry the id of a lease are safe from the sweep while it lasts. After whatever may have left an object
//! without a row, the process goes on under another lease. The one before is renewed while something is still stored
//! under it; then it runs out, and the sweep looks for what was left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use uuid::Uuid;

use crate::catalogue::Catalogue;
use crate::dicom::uid::InstanceKey;
use crate::error::Result;
use crate::store::keys::StorageKey;

/// How often a lease is renewed within its term, so that a database may be away for most of it.
const RENEWALS: u32 = 4;

/// Hands out the lease of the process.
pub(super) struct Leases {
    catalogue: Catalogue,
    term: Duration,
    runtime: Handle,
    current: Mutex<Option<Arc<Lease>>>,
    /// One takes a new lease, the others wait for it.
    taking: tokio::sync::Mutex<()>,
}

/// A lease. Whoever stores under it holds it.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: Uuid,
    objects: AtomicU64,
}

impl Lease {
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
    pub(super) fn new(catalogue: Catalogue, term: Duration) -> Self {
        let runtime = Handle::current();
        Self { catalogue, term, runtime, current: Mutex::default(), taking: tokio::sync::Mutex::default() }
    }

    /// The lease to store under, taken now if there is none.
    pub(super) async fn current(&self) -> Result<Arc<Lease>> {
        if let Some(lease) = self.known() {
            return Ok(lease);
        }
        let _taking = self.taking.lock().await;
        if let Some(lease) = self.known() {
            return Ok(lease);
        }
        let lease = Arc::new(Lease { id: Uuid::now_v7(), objects: AtomicU64::new(0) });
        self.catalogue.take_lease(lease.id, self.term).await?;
        self.runtime.spawn(renew(self.catalogue.clone(), lease.id, Arc::downgrade(&lease), self.term));
        *self.slot() = Some(Arc::clone(&lease));
        Ok(lease)
    }

    /// Stores under another lease from now on.
    pub(super) fn retire(&self, lease: &Lease) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|current| current.id == lease.id) {
            *slot = None;
        }
    }

    /// Gives the lease back if nothing is stored under it any more.
    pub(super) async fn end(&self) {
        let lease = self.slot().take();
        if let Some(lease) = lease.and_then(Arc::into_inner)
            && let Err(error) = self.catalogue.end_lease(lease.id).await
        {
            tracing::warn!(lease = %lease.id, ?error, "the lease of this process is left to run out");
        }
    }

    fn known(&self) -> Option<Arc<Lease>> {
        self.slot().clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Lease>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews a lease until nobody holds it any more.
async fn renew(catalogue: Catalogue, id: Uuid, lease: Weak<Lease>, term: Duration) {
    loop {
        tokio::time::sleep(term / RENEWALS).await;
        if lease.strong_count() == 0 {
            return;
        }
        match catalogue.renew_lease(id).await {
            Ok(true) => {}
            // the next commit finds out too, and takes another
            Ok(false) => return tracing::error!(lease = %id, "the lease of this process is gone"),
            Err(error) => tracing::warn!(lease = %id, ?error, "the lease of this process could not be renewed"),
        }
    }
}
