//! An instance that comes again although its row is there: the object of that may be gone or damaged, and then this one takes its
//! place. The object is read to know, which costs what it cost to receive this one.
//!
//! What was sent is the same, but not always what is stored: rules that change attributes note when they did, and may be others by
//! now. If the objects differ, all of the row is written anew, and the old one is erased with its object. Otherwise the row names the
//! new object, and what is left of the old one goes at once, as no row names it any more.

use tokio::runtime::Handle;

use uuid::Uuid;

use crate::archive::describe::{Describer, Object};
use crate::archive::reread::{Found, Reread, Whole, is_whole, reread};
use crate::catalogue::{Catalogue, Inserted, NewInstance, NotInserted, Occasion, Rules};
use crate::dicom::header::HeaderLimits;
use crate::dicom::uid::InstanceKey;
use crate::error::{Error, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// How often a row is looked at that another request heals at the same time.
const LOOKS: u32 = 2;

/// An object that came again.
pub(super) struct Again<'a> {
    pub(super) key: &'a InstanceKey,
    pub(super) object: &'a StorageKey,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    /// Who sent it and how.
    pub(super) source: &'a str,
}

/// What heals rows.
pub(super) struct Healer<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) store: &'a ObjectStorage,
    pub(super) describer: &'a Describer,
    pub(super) header: HeaderLimits,
    /// The lease under which rows are written.
    pub(super) lease: Uuid,
}

impl Healer<'_> {
    /// Whether the object that came again is needed: the row names it from now on.
    ///
    /// # Errors
    /// The instance may not be safe, as index or object store are unavailable or the lease is gone. The row may name the object
    /// that came again, so this has to stay.
    pub(super) async fn takes_the_place(&self, again: &Again<'_>) -> Result<bool> {
        let &Again { key, object, size, digest, .. } = again;
        for _ in 0..LOOKS {
            // a row that is gone meanwhile was deleted after it was found
            let Some(row) = self.catalogue.locate(key, None).await? else { return Ok(false) };
            if row.location == object.as_str() {
                return Ok(true);
            }
            let location = StorageKey::from_index(row.location.clone());
            let found = is_whole(self.store, &location, Whole { size: row.size, digest: row.digest }).await?;
            if found == Found::Whole {
                return Ok(false);
            }
            tracing::error!(key = location.as_str(), "the object of an instance is gone or damaged; it came again");
            let healed = if (row.size, row.digest) == (size, digest) {
                let relocated = self.catalogue.relocate(key, &row.location, object.as_str(), self.lease).await?;
                if relocated {
                    self.remove_damaged(&location).await;
                }
                relocated
            } else {
                self.replaces_the_row(again).await?
            };
            if healed {
                return Ok(true);
            }
        }
        Err(Error::unavailable("the object of the instance is lost; try again", "its row could not name another"))
    }

    /// What cannot be removed is left to a full sweep, as [`Catalogue::relocate`] noted.
    async fn remove_damaged(&self, location: &StorageKey) {
        let removed = async {
            self.store.remove(location).await?;
            self.catalogue.forget_left(vec![location.as_str().to_owned()]).await
        };
        if let Err(error) = removed.await {
            tracing::warn!(
                key = location.as_str(),
                ?error,
                "the damaged object of an instance is left to a full sweep"
            );
        }
    }

    /// Writes the row anew; false if there is another content by now.
    async fn replaces_the_row(&self, again: &Again<'_>) -> Result<bool> {
        let row = self.describe(again).await?;
        let rules = Rules { occasion: Occasion::Lost, ..Rules::default() };
        let coming = self.catalogue.announce();
        let inserted = self.catalogue.insert_instances(self.lease, rules, vec![row], coming).await;
        let inserted = inserted.map_err(NotInserted::into_error)?;
        Ok(inserted.iter().any(|one| matches!(one, Inserted::New(_) | Inserted::Replaced(_))))
    }

    /// The row of the object, which is read again: the one that came with it was given away.
    async fn describe(&self, again: &Again<'_>) -> Result<NewInstance> {
        let failed = |why: String| Error::unavailable("the object of the instance is lost; try again", why);
        let location = again.object;
        let receipt = self.store.receipt(location).await?.ok_or_else(|| failed("it has no receipt".to_owned()))?;
        let Reread { digest, size, header } = reread(self.store, location, self.header).await?;
        if digest != again.digest {
            return Err(failed("what was stored reads otherwise".to_owned()));
        }
        let header = header.map_err(failed)?;
        let mut share = self.describer.memory.share();
        if !share.resize(header.held_bytes()) {
            return Err(failed("other uploads hold the memory".to_owned()));
        }
        let described = self.describer.describe(header, &Handle::current()).await.map_err(|(_, why)| failed(why))?;
        let (received_digest, received_at) = (receipt.received_digest, receipt.received_at);
        Ok(described.into_row(&Object { location, size, digest, received_digest, received_at, source: again.source }))
    }
}
