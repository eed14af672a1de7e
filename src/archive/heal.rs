//! An instance that is sent again although its row is there: its object may be gone or cut, and then this one takes its place.

use crate::archive::lease::Lease;
use crate::catalogue::Catalogue;
use crate::dicom::uid::InstanceKey;
use crate::error::Result;
use crate::store::keys::StorageKey;
use crate::store::{ObjectStorage, Stored};

/// Whether the object that came again is needed: the row names it from now on.
///
/// # Errors
/// Index or object store are unavailable, so nobody knows whether the instance is safe.
pub(super) async fn takes_the_place(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    lease: &Lease,
    key: &InstanceKey,
    object: &Stored,
) -> Result<bool> {
    // a row that is gone meanwhile was deleted after it was found
    let Some(row) = catalogue.locate(key).await? else { return Ok(false) };
    let location = StorageKey::from_index(row.location.clone());
    if store.exists(&location).await? == Some(row.size) {
        return Ok(false);
    }
    tracing::error!(
        key = location.as_str(),
        "the object of an instance was gone or cut; it was sent again and takes its place"
    );
    catalogue.relocate(key, &row.location, object.key().as_str(), lease.id).await
}
