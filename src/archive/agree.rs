//! Making an index that is older than the objects agree with what they tell of deletions and restores.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::events::{self, Deleted, Events, Fate};
use crate::catalogue::{Catalogue, Deletion, Standing, Verdict};
use crate::dicom::uid::InstanceUid;
use crate::error::{Error, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// Instances whose rows are read at once.
const BATCH: usize = 500;
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
pub(super) async fn agree(catalogue: &Catalogue, store: &ObjectStorage, events: &Events) -> Result<Agreed> {
    catalogue.note_restores(&events.restores).await?;
    let mut agreed = Agreed { unread: events.unread.clone(), ..Agreed::default() };
    for verdicts in [&[Verdict::Deleted, Verdict::Replaced][..], &[Verdict::Shown]] {
        let hides = verdicts.contains(&Verdict::Deleted);
        for (key, bytes) in &events.deletions {
            // one that is gone by now did not come about
            let Some((deletion, told)) = events::deletion(store, key, *bytes).await? else { continue };
            let changed = settle((catalogue, store), events, &deletion, &told, verdicts).await?;
            if changed > 0 {
                if hides { &mut agreed.deleted } else { &mut agreed.restored }.push(deletion.clone());
            }
            if hides && events.last_of(&deletion, &told) {
                catalogue.know(&deletion).await?;
            } else if !hides && !events.last_of(&deletion, &told) {
                catalogue.forget_deletion(deletion.id).await?;
            }
        }
    }
    Ok(agreed)
}

/// Does to the rows under the UIDs of a deletion what of these verdicts is found of them; how many can be seen no more, or again.
async fn settle(
    (catalogue, store): (&Catalogue, &ObjectStorage),
    events: &Events,
    deletion: &Deletion,
    told: &Deleted,
    verdicts: &[Verdict],
) -> Result<u64> {
    let mut changed = 0;
    let instances: BTreeSet<InstanceUid> = told.instances().into_iter().map(|(instance, _)| instance).collect();
    let instances: Vec<&InstanceUid> = instances.iter().collect();
    for batch in instances.chunks(BATCH) {
        let batch: BTreeMap<&str, &InstanceUid> = batch.iter().map(|uid| (uid.as_str(), *uid)).collect();
        let mut looks = 0;
        changed += loop {
            let standing = catalogue.standing(&batch.values().copied().collect()).await?;
            let found = standing.into_iter().filter_map(|row| {
                let instance = *batch.get(row.instance())?;
                let verdict = verdict(events, deletion, instance, &row).filter(|found| verdicts.contains(found))?;
                Some((row, verdict))
            });
            let mut found: Vec<(Standing, Verdict)> = found.collect();
            if found.is_empty() {
                break 0;
            }
            for (row, verdict) in &mut found {
                let key = StorageKey::from_index(row.location.clone());
                if *verdict == Verdict::Deleted && store.exists(&key).await?.is_none() {
                    *verdict = Verdict::Erased;
                }
            }
            if let Some(changed) = catalogue.settle(deletion, &found).await? {
                break changed;
            }
            looks += 1;
            if looks == LOOKS {
                return Err(Error::unavailable(
                    "others change the same instances; try again",
                    "the rows changed at every look",
                ));
            }
        };
    }
    Ok(changed)
}

/// What is to become of a row, as far as this deletion has a say in it.
fn verdict(events: &Events, deletion: &Deletion, instance: &InstanceUid, row: &Standing) -> Option<Verdict> {
    match events.fate(&row.location, instance, Some(row.received_at)) {
        Fate::Deleted(by) if by.id == deletion.id && row.deletion != Some(by.id) => Some(Verdict::Deleted),
        Fate::Left | Fate::Superseded if row.deletion.is_none() => Some(Verdict::Replaced),
        Fate::Shown if row.deletion.is_some() => Some(Verdict::Shown),
        Fate::Deleted(_) | Fate::Left | Fate::Superseded | Fate::Shown | Fate::Unknown => None,
    }
}
