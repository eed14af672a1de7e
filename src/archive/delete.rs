//! Deleting and taking back: what is deleted is hidden at once and erased later ([`crate::archive::erase`]).
//!
//! Before the rows change, an object tells of it ([`crate::archive::events`]), so that an index that is rebuilt from the objects, or is
//! older, says the same: where there is such an object it was asked for, and `reindex` makes it come about if it was cut off before
//! the rows changed. When the rows are known not to have changed it is removed.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::archive::events::{Deleted, TakenBack, tell};
use crate::archive::ingest::Ingest;
use crate::archive::reindex::expect_whole_index;
use crate::catalogue::{Catalogue, Deletable, Deletion, Hid, Left, NotInserted, Restored};
use crate::clock;
use crate::dicom::uid::Scope;
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
/// Not found, gone already, the index is made anew, or index or store is unavailable.
pub async fn delete(ingest: &Ingest, scope: &Scope, who: &str, why: &str) -> Result<u64> {
    let (catalogue, store) = (&ingest.0.catalogue, &ingest.0.store);
    let mut changed = Vec::new();
    let hidden = hide(ingest, scope, [who, why], &mut changed).await;
    // only now: `reindex` may have done in the meantime what one of these tells of
    for deletion in changed {
        untell(catalogue, store, &StorageKey::deletion(deletion), deletion).await;
    }
    hidden
}

/// Tells of a deletion and hides what it names, again and again while others change what is there: those are `changed`.
async fn hide(ingest: &Ingest, scope: &Scope, [who, why]: [&str; 2], changed: &mut Vec<Uuid>) -> Result<u64> {
    let (catalogue, store) = (&ingest.0.catalogue, &ingest.0.store);
    let text = |text: &str| text.chars().take(MOST_TEXT).collect::<String>();
    expect_whole_index(catalogue).await?;
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
            id: catalogue.next_event().await?,
            scope: scope.clone(),
            at: clock::unix_millis(),
            who: text(who),
            reason: text(why),
        };
        let key = StorageKey::deletion(deletion.id);
        tell(store, &key, &deleted(ingest, &deletion, &named).await?).await?;
        if let Err(busy) = expect_whole_index(catalogue).await {
            return Err(failed(catalogue, store, &key, deletion.id, NotInserted::Failed(busy)).await);
        }
        match catalogue.hide(&deletion, &named).await {
            Ok(Hid::Instances(instances)) => {
                tracing::info!(deletion = %deletion.id, instances, "deleted");
                return Ok(instances);
            }
            Ok(Hid::Changed) => changed.push(deletion.id),
            Err(failure) => return Err(failed(catalogue, store, &key, deletion.id, failure).await),
        }
    }
    Err(Error::unavailable("others store there at the same time; try again", "the instances changed at every look"))
}

/// What is to be told of a deletion: it hides these rows, and what `reindex` could not read and may read yet. What was replaced or
/// left for good gets no row any more.
async fn deleted(ingest: &Ingest, deletion: &Deletion, named: &[Deletable]) -> Result<Deleted> {
    // asked after the rows: what this process is about to give one is under one of these
    let (catalogue, leases) = (&ingest.0.catalogue, ingest.0.leases.held());
    let scope = &deletion.scope;
    let mut objects: BTreeMap<String, i64> = named.iter().map(|one| (one.location.clone(), one.received_at)).collect();
    let mut left = catalogue.replaced_in(scope).await?;
    for one in catalogue.left_below(&StorageKey::beginning(scope)).await? {
        let object = StorageKey::from_index(one.location.clone()).instance_object();
        if object.is_none_or(|object| !scope.holds(&object.instance)) {
            continue;
        }
        match one.kind {
            Left::Needless | Left::Different | Left::Useless => left.push(one.location),
            Left::Damaged | Left::Unread => drop(objects.insert(one.location, i64::MIN)),
        }
    }
    Ok(Deleted::new(deletion, objects, left, leases))
}

/// Takes a deletion back, as far as it can be.
///
/// # Errors
/// The index is made anew, or index or store is unavailable.
pub async fn restore(catalogue: &Catalogue, store: &ObjectStorage, deletion: &Deletion) -> Result<Restored> {
    expect_whole_index(catalogue).await?;
    for _ in 0..LOOKS {
        let found = catalogue.restorable(deletion.id).await?;
        if found.instances == 0 {
            return Ok(Restored { instances: 0, taken: found.taken });
        }
        let event = catalogue.next_event().await?;
        let key = StorageKey::restore(deletion.id, event);
        tell(store, &key, &TakenBack { objects: found.returning.iter().cloned().collect() }).await?;
        if let Err(busy) = expect_whole_index(catalogue).await {
            return Err(failed(catalogue, store, &key, event, NotInserted::Failed(busy)).await);
        }
        match catalogue.restore(deletion.id, &deletion.scope, &found.returning, event).await {
            Ok(Some(restored)) => {
                tracing::info!(deletion = %deletion.id, instances = restored.instances, "restored");
                return Ok(restored);
            }
            // `reindex` has done it meanwhile
            Ok(None) if catalogue.knows_event(event).await? => {
                return Ok(Restored { instances: found.instances, taken: found.taken });
            }
            Ok(None) => untell(catalogue, store, &key, event).await,
            Err(failure) => return Err(failed(catalogue, store, &key, event, failure).await),
        }
    }
    Err(Error::unavailable("others store there at the same time; try again", "the instances changed at every look"))
}

/// After a failure: what tells of the event goes, unless it may have come about.
async fn failed(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    told: &StorageKey,
    event: Uuid,
    failure: NotInserted,
) -> Error {
    if !matches!(failure, NotInserted::InDoubt(_)) {
        untell(catalogue, store, told, event).await;
    }
    failure.into_error()
}

/// Removes what tells of an event that did not come about.
async fn untell(catalogue: &Catalogue, store: &ObjectStorage, told: &StorageKey, event: Uuid) {
    if let Err(error) = remove_unknown(catalogue, store, told, event).await {
        tracing::warn!(
            key = told.as_str(),
            ?error,
            "what tells of a delete or restore that failed stays; `isocenter reindex` makes it come about"
        );
    }
}

/// `reindex` may have read it, and make it come about before or while it is removed: it is back then.
async fn remove_unknown(catalogue: &Catalogue, store: &ObjectStorage, told: &StorageKey, event: Uuid) -> Result<()> {
    // where nobody can tell, the answer says that it failed
    let is_known = catalogue.knows_event(event).await;
    if matches!(is_known, Ok(true)) {
        return Ok(());
    }
    let Some(bytes) = store.exists(told).await? else { return Ok(()) };
    let event_told = store.read_bytes(told, 0..bytes).await?;
    store.remove(told).await?;
    // that a restore is known does not say that anything came of it
    let counts = is_known.is_ok() && told.deletion_id().is_some();
    if counts && catalogue.knows_event(event).await.unwrap_or(true) {
        store.put(told, event_told).await?.keep();
    }
    Ok(())
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
