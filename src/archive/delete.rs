//! Deleting and taking back: what is deleted is hidden at once and erased later ([`crate::archive::erase`]).
//!
//! Before the rows change, an object tells of the deletion (`deletions/{id}.json`) with the keys of all objects that it hides, so
//! that an index that is rebuilt from the objects does not bring back what was deleted. When a deletion is taken back, another
//! object tells of what stays deleted, and the first one goes after the rows have changed.
//!
//! So where there is such an object its deletion was asked for, and where there is none it was taken back: `reindex` makes an index
//! that is older agree. A deletion that was cut off between object and rows comes about then, unless a sweep removed the object
//! before.

use bytes::Bytes;
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

/// Hides a study, a series or an instance; how many instances.
///
/// # Errors
/// Not found, gone already, or index or store is unavailable.
pub async fn delete(catalogue: &Catalogue, store: &ObjectStorage, scope: &Scope, who: &str, why: &str) -> Result<u64> {
    for _ in 0..LOOKS {
        let named = catalogue.deletable(scope).await?;
        if named.is_empty() {
            return Err(missing(catalogue, scope).await?);
        }
        let text = |text: &str| text.chars().take(MOST_TEXT).collect::<String>();
        let deletion = Deletion {
            id: Uuid::now_v7(),
            scope: scope.clone(),
            at: clock::unix_millis(),
            who: text(who),
            reason: text(why),
        };
        let objects = named.iter().map(|one| one.location.clone()).collect();
        tell(store, &deletion, objects).await?;
        match catalogue.hide(&deletion, &named).await {
            Ok(Hid::Instances(instances)) => {
                tracing::info!(deletion = %deletion.id, instances, "deleted");
                return Ok(instances);
            }
            Ok(Hid::Changed) => untell(store, deletion.id).await,
            Err(failure) => return Err(failed(store, Some(deletion.id), failure).await),
        }
    }
    Err(Error::unavailable("others store there at the same time; try again", "the instances changed at every look"))
}

/// Takes a deletion back, as far as it can be.
///
/// # Errors
/// Index or store is unavailable.
pub async fn restore(catalogue: &Catalogue, store: &ObjectStorage, deletion: &Deletion) -> Result<Restored> {
    for _ in 0..LOOKS {
        let found = catalogue.restorable(deletion.id).await?;
        if found.instances == 0 {
            return Ok(Restored { instances: 0, taken: found.taken });
        }
        let rest = (!found.staying.is_empty()).then(|| Deletion { id: Uuid::now_v7(), ..deletion.clone() });
        if let Some(rest) = &rest {
            tell(store, rest, found.staying.iter().cloned().collect()).await?;
        }
        let rest = rest.map(|rest| rest.id);
        match catalogue.restore(deletion.id, &deletion.scope, &found.staying, rest).await {
            Ok(Some(restored)) => {
                untell(store, deletion.id).await;
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

/// Writes what tells of a deletion. It stays whatever becomes of this task: only who knows that no row is hidden by it removes it.
async fn tell(store: &ObjectStorage, deletion: &Deletion, objects: Vec<String>) -> Result<()> {
    let told = Told::of(deletion, objects).to_bytes()?;
    store.put(&StorageKey::deletion(deletion.id), told).await?.keep();
    Ok(())
}

/// Removes what tells of a deletion that is none. Left over, it does no harm while the index is there.
async fn untell(store: &ObjectStorage, deletion: Uuid) {
    if let Err(error) = store.remove(&StorageKey::deletion(deletion)).await {
        tracing::warn!(%deletion, ?error, "what tells of a deletion that is none is left to a full sweep");
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
    pub(super) objects: Vec<String>,
}

impl Told {
    fn of(deletion: &Deletion, objects: Vec<String>) -> Self {
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
        }
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
