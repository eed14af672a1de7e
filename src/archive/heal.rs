//! An instance that is sent again although its row is there: its object may be gone or cut, and then this one takes its place.
//!
//! What was sent is the same, but not always what is stored: rules that change attributes note when they did, and may be others by
//! now. If the objects differ, all of the row is written anew, and the old one is erased with its object. Otherwise the row names the
//! new object, and what is left of the old one goes at once, as no row names it any more.

use tokio::runtime::Handle;

use crate::archive::describe::Object;
use crate::archive::ingest::Shared;
use crate::archive::lease::Lease;
use crate::archive::reread::{Reread, reread};
use crate::catalogue::{Inserted, NewInstance, NotInserted, Occasion, Rules};
use crate::dicom::uid::InstanceKey;
use crate::error::{Error, Result};
use crate::store::Stored;
use crate::store::keys::StorageKey;

/// How often a row is looked at that another request heals at the same time.
const LOOKS: u32 = 2;

/// An object that came again.
pub(super) struct Again<'a> {
    pub(super) key: &'a InstanceKey,
    pub(super) object: &'a Stored,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    /// Who sent it and how.
    pub(super) source: &'a str,
}

/// Whether the object that came again is needed: the row names it from now on.
///
/// # Errors
/// The instance may not be safe, as index or object store are unavailable or the lease is gone. The row may name the object
/// that came again, so this has to stay.
pub(super) async fn takes_the_place(shared: &Shared, lease: &Lease, again: &Again<'_>) -> Result<bool> {
    let Shared { catalogue, store, .. } = shared;
    let &Again { key, object, size, digest, .. } = again;
    for _ in 0..LOOKS {
        // a row that is gone meanwhile was deleted after it was found
        let Some(row) = catalogue.locate(key, None).await? else { return Ok(false) };
        let location = StorageKey::from_index(row.location.clone());
        let there = store.exists(&location).await?;
        if there == Some(row.size) {
            return Ok(false);
        }
        tracing::error!(key = location.as_str(), "the object of an instance is gone or cut; it was sent again");
        let healed = if (row.size, row.digest) == (size, digest) {
            let relocated = catalogue.relocate(key, &row.location, object.key().as_str(), lease.id).await?;
            if relocated
                && there.is_some()
                && let Err(error) = store.remove(&location).await
            {
                tracing::warn!(key = location.as_str(), ?error, "the cut object of an instance cannot be removed");
            }
            relocated
        } else {
            replaces_the_row(shared, lease, again).await?
        };
        if healed {
            return Ok(true);
        }
    }
    Err(Error::unavailable("the object of the instance is lost; try again", "its row could not name another"))
}

/// Writes the row anew; false if there is another content by now.
async fn replaces_the_row(shared: &Shared, lease: &Lease, again: &Again<'_>) -> Result<bool> {
    let row = describe(shared, again).await?;
    let rules = Rules { occasion: Occasion::Lost, ..Rules::default() };
    let coming = shared.catalogue.announce();
    let inserted = shared.catalogue.insert_instances(lease.id, rules, vec![row], coming).await;
    let inserted = inserted.map_err(NotInserted::into_error)?;
    Ok(inserted.iter().any(|one| matches!(one, Inserted::New(_) | Inserted::Replaced(_))))
}

/// The row of the object, which is read again: the one that came with it was given away.
async fn describe(shared: &Shared, again: &Again<'_>) -> Result<NewInstance> {
    let failed = |why: String| Error::unavailable("the object of the instance is lost; try again", why);
    let location = again.object.key();
    let receipt = shared.store.receipt(location).await?.ok_or_else(|| failed("it has no receipt".to_owned()))?;
    let Reread { digest, size, header } = reread(&shared.store, location, shared.limits.header).await?;
    if digest != again.digest {
        return Err(failed("what was stored reads otherwise".to_owned()));
    }
    let header = header.map_err(failed)?;
    let mut share = shared.describer.memory.share();
    if !share.resize(header.held_bytes()) {
        return Err(failed("other uploads hold the memory".to_owned()));
    }
    let described = shared.describer.describe(header, &Handle::current()).await.map_err(|(_, why)| failed(why))?;
    let (received_digest, received_at) = (receipt.received_digest, receipt.received_at);
    Ok(described.into_row(&Object { location, size, digest, received_digest, received_at, source: again.source }))
}
