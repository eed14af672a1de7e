//! Making an index that is older than the objects agree with what they tell of deletions and restores.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::archive::events::{self, Deleted, Events, Fate, tell};
use crate::catalogue::{Catalogue, Deletion, Standing, Verdict};
use crate::dicom::uid::{InstanceUid, Scope};
use crate::error::{Error, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// Instances whose rows are read at once, and deletions about which the index is asked.
const BATCH: usize = 500;
/// Objects that are looked for at once.
const PROBES: usize = 16;
/// How often rows are read that others change at the same time.
const LOOKS: u32 = 16;

/// What was done to make the index agree.
#[derive(Debug, Default)]
pub struct Agreed {
    /// Deletes of which the index did not know, although it had rows of what they hide: older than they, or they were cut off.
    pub deleted: Vec<Deletion>,
    /// Those that hid instances, although they had been taken back.
    pub restored: Vec<Deletion>,
    /// What tells of deletes and restores and cannot be read.
    pub unread: Vec<StorageKey>,
}

/// Makes the rows agree: what is to be hidden first, since what is taken back may stand in its place.
pub(super) async fn agree(
    lease: Uuid,
    catalogue: &Catalogue,
    store: &ObjectStorage,
    events: &Events,
) -> Result<Agreed> {
    let (restores, taken_back): (Vec<Uuid>, HashSet<Uuid>) = events.restores.iter().copied().unzip();
    catalogue.note_restores(&restores).await?;
    let mut agreed = Agreed { unread: events.unread.clone(), ..Agreed::default() };
    let rows = Rows { lease, catalogue, store, events };
    let mut over = Vec::new();
    for batch in events.deletions.chunks(BATCH) {
        let ids: Vec<Uuid> = batch.iter().filter_map(|(key, _)| key.deletion_id()).collect();
        let known = catalogue.known_deletions(&ids).await?;
        for (key, bytes) in batch {
            // one that is gone by now did not come about
            let Some((deletion, told)) = events::deletion(store, key, *bytes).await? else { continue };
            let hidden = rows.settle(&deletion, &told, &[Verdict::Deleted, Verdict::Erased, Verdict::Replaced]).await?;
            match (known.contains(&deletion.id), events.is_last_of(&deletion, &told)) {
                (false, true) => catalogue.know(&deletion).await?,
                (true, false) => over.push(deletion.id),
                (true, true) | (false, false) => {}
            }
            if hidden > 0 {
                // who asked for it may have given up and removed it before the rows changed
                if store.exists(key).await?.is_none() {
                    tell(store, key, &told).await?;
                }
                agreed.deleted.push(deletion);
            }
        }
    }
    let of_restores = |(key, _): &&(StorageKey, u64)| key.deletion_id().is_some_and(|id| taken_back.contains(&id));
    for (key, bytes) in events.deletions.iter().filter(of_restores) {
        let Some((deletion, told)) = events::deletion(store, key, *bytes).await? else { continue };
        let Some(restores) = restores_of(store, events, deletion.id).await? else { continue };
        if rows.settle(&deletion, &told, &[Verdict::Shown]).await? > 0 {
            for (key, event) in restores {
                if store.exists(&key).await?.is_none() {
                    store.put(&key, event).await?.keep();
                }
            }
            agreed.restored.push(deletion);
        }
    }
    for deletion in over {
        catalogue.forget_deletion(deletion).await?;
    }
    Ok(agreed)
}

/// What took a deletion back; none where one is gone: whoever asked for it gave up and was told so.
async fn restores_of(
    store: &ObjectStorage,
    events: &Events,
    deletion: Uuid,
) -> Result<Option<Vec<(StorageKey, Bytes)>>> {
    let mut restores = Vec::new();
    for (event, _) in events.restores.iter().filter(|(_, of)| *of == deletion) {
        let key = StorageKey::restore(deletion, *event);
        let Some(bytes) = store.exists(&key).await? else { return Ok(None) };
        restores.push((key.clone(), store.read_bytes(&key, 0..bytes).await?));
    }
    Ok(Some(restores))
}

/// The rows of an index, and what they are to agree with.
struct Rows<'a> {
    /// Of the run of `reindex`.
    lease: Uuid,
    catalogue: &'a Catalogue,
    store: &'a ObjectStorage,
    events: &'a Events,
}

impl Rows<'_> {
    /// Does to the rows under the UIDs of a deletion what of these verdicts is found of them; how many changed.
    async fn settle(&self, deletion: &Deletion, told: &Deleted, verdicts: &[Verdict]) -> Result<u64> {
        let mut changed = 0;
        let instances: BTreeSet<InstanceUid> = told.instances().into_iter().map(|(instance, _)| instance).collect();
        let instances: Vec<&InstanceUid> = instances.iter().collect();
        for batch in instances.chunks(BATCH) {
            let batch: BTreeMap<&str, &InstanceUid> = batch.iter().map(|uid| (uid.as_str(), *uid)).collect();
            let mut looks = 0;
            changed += loop {
                let found = self.found(deletion, &batch, verdicts).await?;
                if found.is_empty() {
                    break 0;
                }
                // a run that was held up for long may have been given up, and the events be others by now
                if !self.catalogue.renew_lease(self.lease).await? {
                    return Err(Error::unavailable(
                        "the run was held up for too long; run it again",
                        "its lease is gone",
                    ));
                }
                if let Some(settled) = self.catalogue.settle(deletion, &found).await? {
                    for row in settled.taken {
                        self.leave_deleted(deletion, told, row).await?;
                    }
                    break settled.changed;
                }
                looks += 1;
                if looks == LOOKS {
                    let why = "the rows changed at every look";
                    return Err(Error::unavailable("others change the same instances; try again", why));
                }
            };
        }
        Ok(changed)
    }

    /// The rows under these UIDs of which this is found.
    async fn found(
        &self,
        deletion: &Deletion,
        batch: &BTreeMap<&str, &InstanceUid>,
        verdicts: &[Verdict],
    ) -> Result<Vec<(Standing, Verdict)>> {
        let standing = self.catalogue.standing(&batch.values().copied().collect()).await?;
        let found = standing.into_iter().filter_map(|row| {
            let instance = *batch.get(row.instance())?;
            let verdict = self.verdict(deletion, instance, &row)?;
            Some((row, verdict))
        });
        let looked = stream::iter(found).map(|(row, verdict)| async move {
            let key = StorageKey::from_index(row.location.clone());
            let is_gone = verdict != Verdict::Shown && self.store.exists(&key).await?.is_none();
            let verdict = match verdict {
                Verdict::Deleted if is_gone => Some(Verdict::Erased),
                // only what was replaced and erased since: what is there may have been stored again
                Verdict::Erased if !is_gone => None,
                verdict => Some(verdict),
            };
            Ok::<_, Error>(verdict.map(|verdict| (row, verdict)))
        });
        let found: Vec<Option<(Standing, Verdict)>> = looked.buffered(PROBES).try_collect().await?;
        Ok(found.into_iter().flatten().filter(|(_, verdict)| verdicts.contains(verdict)).collect())
    }

    /// What may become of a row, as far as this deletion has a say in it.
    fn verdict(&self, deletion: &Deletion, instance: &InstanceUid, row: &Standing) -> Option<Verdict> {
        match self.events.fate(&row.location, instance, Some(row.received_at)) {
            Fate::Deleted(by) if by.id == deletion.id && row.deletion != Some(by.id) => Some(Verdict::Deleted),
            Fate::Left if row.deletion.is_none() => Some(Verdict::Replaced),
            Fate::Superseded | Fate::Late if row.deletion.is_none() => Some(Verdict::Erased),
            Fate::Shown(event) if row.deletion.is_some_and(|by| by < event) => Some(Verdict::Shown),
            Fate::Deleted(_) | Fate::Left | Fate::Superseded | Fate::Late | Fate::Shown(_) | Fate::Unknown => None,
        }
    }

    /// Another was stored in the place of what a restore that was cut off was to bring back: that stays deleted.
    async fn leave_deleted(&self, deletion: &Deletion, told: &Deleted, row: Standing) -> Result<()> {
        let Some(object) = StorageKey::from_index(row.location.clone()).instance_object() else { return Ok(()) };
        let id = self.catalogue.next_event().await?;
        let again = Deletion { id, scope: Scope::Instance(object.instance), ..deletion.clone() };
        let objects = BTreeMap::from([(row.location.clone(), row.received_at)]);
        let again_told = Deleted::new(&again, objects, Vec::new(), told.leases.clone());
        tell(self.store, &StorageKey::deletion(id), &again_told).await?;
        self.catalogue.settle(&again, &[(row, Verdict::Deleted)]).await.map(drop)
    }
}
