//! Deleting and taking back: what is deleted is hidden at once and erased later ([`crate::archive::erase`]).
//!
//! Before the rows change, an object tells of the deletion (`deletions/{id}.json`) with the keys of all objects that it hides, so
//! that an index that is rebuilt from the objects does not bring back what was deleted. It hides those and no others: no clock
//! and no UID tells what was stored again since. Before a deletion is taken back, another object tells of what stays deleted, and
//! the first one goes.
//!
//! So where there is such an object its deletion was asked for, and where there is none it was to be taken back: `reindex` makes an
//! index that does not say so agree, because it is older or because the process was killed in between.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalogue::{Catalogue, Deletion, Hid, NotInserted, Restored};
use crate::clock;
use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, SeriesUid, StudyUid};
use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// How often the instances of a scope are read that others store into at the same time.
const LOOKS: u32 = 16;
/// Characters of who and why that are kept.
const MOST_TEXT: usize = 1024;
/// Largest object of a deletion: the keys of millions of objects.
const MOST_TOLD: u64 = 1 << 30;
/// Deletions about which the index is asked at once.
const BATCH: usize = 500;

/// Hides a study, a series or an instance; how many instances.
///
/// # Errors
/// Not found, gone already, or index or store is unavailable.
pub async fn delete(catalogue: &Catalogue, store: &ObjectStorage, scope: &Scope, who: &str, why: &str) -> Result<u64> {
    let mut changed = Vec::new();
    let hidden = hide(catalogue, store, scope, [who, why], &mut changed).await;
    // only now: `reindex` may have done in the meantime what one of these tells of
    let known = if changed.is_empty() { Ok(HashSet::new()) } else { catalogue.known_deletions(&changed).await };
    match known {
        Ok(known) => {
            for deletion in changed.into_iter().filter(|deletion| !known.contains(deletion)) {
                untell(store, deletion).await;
            }
        }
        Err(error) => tracing::warn!(?error, "what tells of deletions that are none is left to a sweep"),
    }
    hidden
}

/// Tells of a deletion and hides what it names, again and again while others change what is there: those are `changed`.
async fn hide(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    scope: &Scope,
    [who, why]: [&str; 2],
    changed: &mut Vec<Uuid>,
) -> Result<u64> {
    let text = |text: &str| text.chars().take(MOST_TEXT).collect::<String>();
    let mut instances = 0;
    for _ in 0..LOOKS {
        let named = catalogue.deletable(scope).await?;
        if named.is_empty() && !catalogue.known_deletions(changed).await?.is_empty() {
            return Ok(instances);
        }
        if named.is_empty() {
            return Err(missing(catalogue, scope).await?);
        }
        instances = named.len() as u64;
        let deletion = Deletion {
            id: Uuid::now_v7(),
            scope: scope.clone(),
            at: clock::unix_millis(),
            who: text(who),
            reason: text(why),
        };
        let mut objects = beneath(catalogue, scope).await?;
        objects.extend(named.iter().map(|one| one.location.clone()));
        tell(store, &deletion, &objects).await?;
        match catalogue.hide(&deletion, &named).await {
            Ok(Hid::Instances(instances)) => {
                // a delete of the same that was taken back meanwhile may have taken this one for one that was cut off
                if store.exists(&StorageKey::deletion(deletion.id)).await?.is_none() {
                    tell(store, &deletion, &objects).await?;
                }
                tracing::info!(deletion = %deletion.id, instances, "deleted");
                return Ok(instances);
            }
            Ok(Hid::Changed) => changed.push(deletion.id),
            Err(failure) => return Err(failed(store, Some(deletion.id), failure).await),
        }
    }
    Err(Error::unavailable("others store there at the same time; try again", "the instances changed at every look"))
}

/// The keys of what else lies under the UIDs of a scope: what was replaced there, and what `reindex` left.
async fn beneath(catalogue: &Catalogue, scope: &Scope) -> Result<BTreeSet<String>> {
    let mut keys: BTreeSet<String> = catalogue.replaced_in(scope).await?.into_iter().collect();
    let left = catalogue.left_below(&StorageKey::beginning(scope)).await?;
    let of_scope = |key: &String| {
        let object = StorageKey::from_index(key.clone()).instance_object();
        object.is_some_and(|object| scope.holds(&object.instance))
    };
    keys.extend(left.into_iter().filter(of_scope));
    Ok(keys)
}

/// Takes a deletion back, as far as it can be, and what was cut off of others that hid the same.
///
/// # Errors
/// Index or store is unavailable.
pub async fn restore(catalogue: &Catalogue, store: &ObjectStorage, deletion: &Deletion) -> Result<Restored> {
    let found = catalogue.restorable(deletion.id).await?;
    if found.instances > 0 {
        spare(catalogue, store, deletion, &found.returning).await?;
    }
    take_back(catalogue, store, deletion).await
}

/// Takes a deletion back, as far as it can be.
///
/// # Errors
/// Index or store is unavailable.
pub(super) async fn take_back(catalogue: &Catalogue, store: &ObjectStorage, deletion: &Deletion) -> Result<Restored> {
    for _ in 0..LOOKS {
        let found = catalogue.restorable(deletion.id).await?;
        if found.instances == 0 {
            // whoever took it back elsewhere, or before this index was saved, removed what tells of it
            if !found.staying.is_empty() && store.exists(&StorageKey::deletion(deletion.id)).await?.is_none() {
                tell(store, deletion, &found.staying).await?;
            }
            return Ok(Restored { instances: 0, taken: found.taken });
        }
        let rest = (!found.staying.is_empty()).then(|| Deletion { id: Uuid::now_v7(), ..deletion.clone() });
        if let Some(rest) = &rest {
            tell(store, rest, &found.staying).await?;
        }
        let rest = rest.map(|rest| rest.id);
        // before the rows: cut off here, `reindex` shows them, while the other way round it would hide them again
        store.remove(&StorageKey::deletion(deletion.id)).await?;
        match catalogue.restore(deletion.id, &deletion.scope, &found.staying, rest).await {
            Ok(Some(restored)) => {
                tracing::info!(deletion = %deletion.id, instances = restored.instances, "restored");
                return Ok(restored);
            }
            Ok(None) => {
                if let Some(rest) = rest {
                    untell(store, rest).await;
                }
            }
            Err(failure) => return Err(failed(store, rest, failure).await),
        }
    }
    Err(Error::unavailable("others store there at the same time; try again", "the instances changed at every look"))
}

/// Has no other deletion hide what comes back: one that was cut off before its rows changed, and asked for again then.
async fn spare(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    taken_back: &Deletion,
    returning: &BTreeSet<String>,
) -> Result<()> {
    let idle: HashSet<Uuid> = catalogue.idle_deletions(taken_back.scope.study()).await?.into_iter().collect();
    let mut batches = store.list("deletions").try_chunks(BATCH).map_err(|error| error.1);
    while let Some(batch) = batches.try_next().await? {
        let ids: Vec<Uuid> = batch.iter().filter_map(|(key, _)| key.deletion_id()).collect();
        let known = catalogue.known_deletions(&ids).await?;
        for (key, bytes) in batch {
            if key.deletion_id().is_none_or(|id| known.contains(&id) && !idle.contains(&id)) {
                continue;
            }
            let Some(mut told) = Told::read(store, &key, bytes).await? else { continue };
            let before = told.objects.len();
            told.objects.retain(|object| !returning.contains(object));
            if told.objects.len() == before {
                continue;
            }
            if !told.objects.is_empty() {
                store.put(&StorageKey::deletion(Uuid::now_v7()), told.to_bytes()?).await?.keep();
            }
            store.remove(&key).await?;
        }
    }
    Ok(())
}

/// Writes what tells of a deletion. It stays whatever becomes of this task: only who knows that no row is hidden by it removes it.
async fn tell(store: &ObjectStorage, deletion: &Deletion, objects: &BTreeSet<String>) -> Result<()> {
    let told = Told::of(deletion, objects).to_bytes()?;
    store.put(&StorageKey::deletion(deletion.id), told).await?.keep();
    Ok(())
}

/// Removes what tells of a deletion that is none.
async fn untell(store: &ObjectStorage, deletion: Uuid) {
    if let Err(error) = store.remove(&StorageKey::deletion(deletion)).await {
        tracing::warn!(%deletion, ?error, "what tells of a deletion that is none is left to a sweep");
    }
}

/// After a failure: what tells of the deletion goes, unless it may have come about.
async fn failed(store: &ObjectStorage, told: Option<Uuid>, failure: NotInserted) -> Error {
    if let (Some(told), false) = (told, matches!(failure, NotInserted::InDoubt(_))) {
        untell(store, told).await;
    }
    failure.into_error()
}

/// Why nothing is to be seen of a scope: it was never there, or it was deleted.
///
/// # Errors
/// The index is unavailable.
pub async fn missing(catalogue: &Catalogue, scope: &Scope) -> Result<Error> {
    let what = match scope {
        Scope::Study(_) => "study",
        Scope::Series(..) => "series",
        Scope::Instance(_) => "instance",
    };
    Ok(if catalogue.was_deleted(scope).await? {
        Error::new(ErrorKind::Gone, format!("the {what} was deleted"))
    } else {
        Error::not_found(format!("there is no such {what}"))
    })
}

/// What the object of a deletion holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    study: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    instance: Option<String>,
    at: i64,
    who: String,
    reason: String,
    /// The storage keys of the objects that it hides.
    objects: Vec<String>,
}

impl Told {
    fn of(deletion: &Deletion, objects: &BTreeSet<String>) -> Self {
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
            objects: objects.iter().cloned().collect(),
        }
    }

    /// What an object tells; none if it cannot be read or is gone.
    pub(super) async fn read(store: &ObjectStorage, key: &StorageKey, bytes: u64) -> Result<Option<Self>> {
        if bytes > MOST_TOLD {
            return Ok(None);
        }
        match store.read_bytes(key, 0..bytes).await {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The objects of instances that it names.
    pub(super) fn named(&self) -> Vec<(InstanceUid, String)> {
        let named = |object: &String| {
            let key = StorageKey::from_index(object.clone());
            key.instance_object().map(|of| (of.instance.instance, object.clone()))
        };
        self.objects.iter().filter_map(named).collect()
    }

    fn to_bytes(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self);
        json.map(Bytes::from).map_err(|error| Error::internal("a deletion cannot be written").caused_by(error))
    }

    /// The deletion of this id, if the object tells of one.
    pub(super) fn deletion(&self, id: Uuid) -> Option<Deletion> {
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
}
