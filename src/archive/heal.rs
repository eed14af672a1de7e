//! An instance that is sent again although its row is there: its object may be gone or cut, and then this one takes its place.

use crate::archive::lease::Lease;
use crate::catalogue::Catalogue;
use crate::dicom::uid::InstanceKey;
use crate::error::{Error, Result};
use crate::store::keys::StorageKey;
use crate::store::{ObjectStorage, Stored};

/// How often a row is looked at that another request heals at the same time.
const LOOKS: u32 = 2;

/// Whether the object that came again is needed: the row names it from now on.
///
/// # Errors
/// The instance may not be safe, as index or object store are unavailable or the lease is gone. The row may name the object
/// that came again, so this has to stay.
pub(super) async fn takes_the_place(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    lease: &Lease,
    key: &InstanceKey,
    object: &Stored,
) -> Result<bool> {
    for _ in 0..LOOKS {
        // a row that is gone meanwhile was deleted after it was found
        let Some(row) = catalogue.locate(key, None).await? else { return Ok(false) };
        let location = StorageKey::from_index(row.location.clone());
        if store.exists(&location).await? == Some(row.size) {
            return Ok(false);
        }
        tracing::error!(key = location.as_str(), "the object of an instance is gone or cut; it was sent again");
        if catalogue.relocate(key, &row.location, object.key().as_str(), lease.id).await? {
            return Ok(true);
        }
    }
    Err(Error::unavailable("the object of the instance is lost; try again", "its row could not name another"))
}
