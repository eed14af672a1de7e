//! What objects tell of deletions when the index is lost: each is an event, `deletions/{id}.json` with the objects that it hides,
//! `restores/{deletion}.{id}.json` with those of them that can be seen again.
//!
//! Of each object the last event that names it tells what it is: the ids are in the order of the events, since each is later than all
//! that the index knows of when it comes about. What no event names can be seen, unless it came before what is deleted under its UID:
//! it was replaced then, or a killed process left it. What was received later was stored again, whatever the clock says, and what
//! came under a lease that the process of the delete held then may have been committed later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalogue::Deletion;
use crate::config::Duplicates;
use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, SeriesUid, StudyUid};
use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// Largest object of an event: the keys of millions of objects.
const MOST_TOLD: u64 = 1 << 30;
/// Events that are read at once.
const READS: usize = 2;

/// What the object of a deletion holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Deleted {
    study: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    instance: Option<String>,
    at: i64,
    who: String,
    reason: String,
    /// The storage keys of the objects that it hides, and when those were received, in milliseconds since 1970-01-01 UTC.
    objects: BTreeMap<String, i64>,
    /// Those of objects that were replaced, or left by `reindex`: they must not take the place of what was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    left: Vec<String>,
    /// The leases that the process held in which it came about: what came under one of them may have got its row after it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) leases: Vec<Uuid>,
}

/// What the object of a restore holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TakenBack {
    /// The storage keys of the objects that can be seen again.
    pub(super) objects: Vec<String>,
}

impl Deleted {
    pub(super) fn new(
        deletion: &Deletion,
        objects: BTreeMap<String, i64>,
        left: Vec<String>,
        leases: Vec<Uuid>,
    ) -> Self {
        let (series, instance) = match &deletion.scope {
            Scope::Study(_) => (None, None),
            Scope::Series(_, series) => (Some(series.to_string()), None),
            Scope::Instance(key) => (Some(key.series.to_string()), Some(key.instance.to_string())),
        };
        Self {
            study: deletion.scope.study().to_string(),
            series,
            instance,
            at: deletion.at,
            who: deletion.who.clone(),
            reason: deletion.reason.clone(),
            objects,
            left,
            leases,
        }
    }

    /// The deletion of this id, if the object tells of one.
    fn deletion(&self, id: Uuid) -> Option<Deletion> {
        let study = StudyUid::parse(&self.study).ok()?;
        let series = self.series.as_deref().map(SeriesUid::parse).transpose().ok()?;
        let instance = self.instance.as_deref().map(InstanceUid::parse).transpose().ok()?;
        let scope = match (series, instance) {
            (None, _) => Scope::Study(study),
            (Some(series), None) => Scope::Series(study, series),
            (Some(series), Some(instance)) => Scope::Instance(InstanceKey { study, series, instance }),
        };
        Some(Deletion { id, scope, at: self.at, who: self.who.clone(), reason: self.reason.clone() })
    }

    /// The instances whose objects it names.
    pub(super) fn instances(&self) -> Vec<(InstanceUid, &str)> {
        let named =
            |key: &'_ String| StorageKey::from_index(key.clone()).instance_object().map(|of| of.instance.instance);
        self.objects.keys().filter_map(|key| Some((named(key)?, key.as_str()))).collect()
    }
}

/// Writes an event. It stays whatever becomes of this task: only who knows that it did not come about removes it.
pub(super) async fn tell(store: &ObjectStorage, key: &StorageKey, event: &impl Serialize) -> Result<()> {
    let json =
        serde_json::to_vec(event).map_err(|error| Error::internal("an event cannot be written").caused_by(error))?;
    store.put(key, Bytes::from(json)).await?.keep();
    Ok(())
}

/// An event as it is kept; none if it cannot be read or is gone.
async fn read<T: for<'a> Deserialize<'a>>(store: &ObjectStorage, key: &StorageKey, bytes: u64) -> Result<Option<T>> {
    if bytes > MOST_TOLD {
        return Ok(None);
    }
    match store.read_bytes(key, 0..bytes).await {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        Err(_) => Ok(None),
    }
}

/// A deletion of which an object tells; none if it cannot be read or is gone.
pub(super) async fn deletion(
    store: &ObjectStorage,
    key: &StorageKey,
    bytes: u64,
) -> Result<Option<(Deletion, Deleted)>> {
    let told: Option<Deleted> = read(store, key, bytes).await?;
    Ok(told.zip(key.deletion_id()).and_then(|(told, id)| Some((told.deletion(id)?, told))))
}

/// The restores that objects tell of: which deletion each takes back, its key and the size of that.
pub(super) async fn restores(store: &ObjectStorage) -> Result<Vec<(Uuid, StorageKey, u64)>> {
    let listing = store.list("restores").try_filter_map(|(key, bytes)| async move {
        Ok(key.restore_ids().map(|(deletion, _)| (deletion, key, bytes)))
    });
    listing.try_collect().await
}

/// What a restore took back; none if it cannot be read or is gone.
pub(super) async fn taken_back(store: &ObjectStorage, key: &StorageKey, bytes: u64) -> Result<Option<TakenBack>> {
    read(store, key, bytes).await
}

/// What the last event says of an object.
enum Last {
    /// A deletion hides it, of an instance whose UID has this digest, and it was received then.
    Deleted(Arc<Deletion>, [u8; 16], i64),
    /// It was left without a row by a deletion.
    Left,
    /// It was taken back by this event.
    Shown(Uuid),
}

/// What events say of objects. Keys and UIDs are kept as digests of 16 bytes, as there may be millions.
#[derive(Default)]
pub(super) struct Events {
    last: HashMap<[u8; 16], Last>,
    /// When the newest object was received that is deleted under a UID, and by which deletion.
    newest: HashMap<[u8; 16], (i64, Uuid)>,
    /// The leases that its process held when a deletion came about.
    leases: HashMap<Uuid, Vec<Uuid>>,
    /// The objects of deletions, by their order, with their sizes.
    pub(super) deletions: Vec<(StorageKey, u64)>,
    /// The ids of restores, and the deletions that they take back.
    pub(super) restores: Vec<(Uuid, Uuid)>,
    /// Those that cannot be read.
    pub(super) unread: Vec<StorageKey>,
}

/// What becomes of an object, whether it has a row or not.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// A deletion hides it.
    Deleted(Arc<Deletion>),
    /// It was replaced or left over when a deletion hid the instance, and needs no row.
    Left,
    /// What is deleted came after it.
    Superseded,
    /// The same, but it may have got its row after the deletion; where its object is gone, it has not.
    Late,
    /// It can be seen, if nothing else can be seen under its UID and no later deletion hides it.
    Shown(Uuid),
    /// Nothing is known of it.
    Unknown,
}

/// What an object tells.
enum Told {
    Deleted(Arc<Deletion>, Deleted),
    TakenBack(TakenBack),
    Unread,
}

fn digest(text: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut digest);
    digest
}

impl Events {
    /// Reads all of them. Where older versions are kept, what came before what is deleted may be one of them, which is not.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(super) async fn read(store: &ObjectStorage, duplicates: Duplicates) -> Result<Self> {
        let mut events = Self::default();
        let mut listed: Vec<(Uuid, StorageKey, u64)> = Vec::new();
        let mut deletions = store.list("deletions");
        while let Some((key, bytes)) = deletions.try_next().await? {
            listed.extend(key.deletion_id().map(|id| (id, key, bytes)));
        }
        for (_, key, bytes) in restores(store).await? {
            let Some((deletion, id)) = key.restore_ids() else { continue };
            events.restores.push((id, deletion));
            listed.push((id, key, bytes));
        }
        listed.sort();
        let reads = stream::iter(listed).map(|(_, key, bytes)| async move {
            let told = told(store, &key, bytes).await?;
            Ok::<_, Error>((key, bytes, told))
        });
        let mut reads = std::pin::pin!(reads.buffered(READS));
        while let Some((key, bytes, told)) = reads.try_next().await? {
            match told {
                Told::Deleted(deletion, told) => {
                    events.delete(&deletion, &told);
                    events.deletions.push((key, bytes));
                }
                Told::TakenBack(told) => {
                    let Some((_, id)) = key.restore_ids() else { continue };
                    events.last.extend(told.objects.iter().map(|object| (digest(object), Last::Shown(id))));
                }
                // it may have been removed since it was listed
                Told::Unread if store.exists(&key).await?.is_none() => {}
                Told::Unread => events.unread.push(key),
            }
        }
        for last in events.last.values() {
            if let Last::Deleted(deletion, uid, received_at) = last
                && duplicates != Duplicates::Versions
            {
                let this = (*received_at, deletion.id);
                let newest = events.newest.entry(*uid).or_insert(this);
                *newest = (*newest).max(this);
            }
        }
        Ok(events)
    }

    fn delete(&mut self, deletion: &Arc<Deletion>, told: &Deleted) {
        self.last.extend(told.left.iter().map(|key| (digest(key), Last::Left)));
        self.leases.insert(deletion.id, told.leases.clone());
        for (uid, key) in told.instances() {
            let received_at = told.objects.get(key).copied().unwrap_or_default();
            let last = Last::Deleted(Arc::clone(deletion), digest(uid.as_str()), received_at);
            self.last.insert(digest(key), last);
        }
    }

    /// Whether a deletion hides anything of what it named, there or erased.
    pub(super) fn is_last_of(&self, deletion: &Deletion, told: &Deleted) -> bool {
        let hides =
            |key: &String| matches!(self.last.get(&digest(key)), Some(Last::Deleted(by, ..)) if by.id == deletion.id);
        told.objects.keys().any(hides)
    }

    /// What becomes of an object of an instance that was received then, if that is known.
    pub(super) fn fate(&self, key: &str, instance: &InstanceUid, received_at: Option<i64>) -> Fate {
        match self.last.get(&digest(key)) {
            Some(Last::Deleted(deletion, ..)) => Fate::Deleted(Arc::clone(deletion)),
            Some(Last::Left) => Fate::Left,
            Some(Last::Shown(event)) => Fate::Shown(*event),
            None => {
                let newest = self.newest.get(&digest(instance.as_str()));
                match newest.zip(received_at) {
                    Some(((newest, deletion), received_at)) if received_at <= *newest => {
                        if self.may_have_come_after(*deletion, key) { Fate::Late } else { Fate::Superseded }
                    }
                    _ => Fate::Unknown,
                }
            }
        }
    }
}

impl Events {
    /// Whether an object may have got its row after a deletion, whenever it was received.
    fn may_have_come_after(&self, deletion: Uuid, key: &str) -> bool {
        let lease = StorageKey::from_index(key.to_owned()).instance_object().map(|object| object.lease);
        self.leases.get(&deletion).zip(lease).is_some_and(|(held, lease)| held.contains(&lease))
    }
}

async fn told(store: &ObjectStorage, key: &StorageKey, bytes: u64) -> Result<Told> {
    if key.restore_ids().is_some() {
        return Ok(taken_back(store, key, bytes).await?.map_or(Told::Unread, Told::TakenBack));
    }
    let told = deletion(store, key, bytes).await?;
    Ok(told.map_or(Told::Unread, |(deletion, told)| Told::Deleted(Arc::new(deletion), told)))
}
