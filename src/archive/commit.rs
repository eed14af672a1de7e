//! A batch of complete instances → durable objects, then rows, then outcomes; and what becomes of the objects that got no row.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::archive::heal::{Again, Healer};
use crate::archive::ingest::{Prepared, Shared};
use crate::archive::lease::Lease;
use crate::archive::memory::Share;
use crate::archive::outcome::{InstanceOutcome, Refusal, Warning};
use crate::catalogue::{Inserted, NotInserted, Patient, Work};
use crate::dicom::reasons::{FailureReason, WarningReason};
use crate::dicom::uid::InstanceKey;
use crate::error::{Error, Result};
use crate::store::Stored;

/// A part of a batch as its outcome names it.
struct Part {
    number: usize,
    key: InstanceKey,
    sop_class: String,
    /// Of the object that is stored.
    size: u64,
    digest: [u8; 32],
    source: String,
    _share: Share,
    /// The names of the attributes that were changed, and what says what they were.
    coerced: Option<(Vec<String>, Value)>,
}

/// The last item of the Original Attributes Sequence, which says what was changed just now.
fn last_original(metadata: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "04000561")]
        original: Value,
    }
    let read = serde_json::from_slice::<Metadata>(metadata);
    let mut items = read.map_or(Value::Null, |metadata| metadata.original);
    items.get_mut("Value").and_then(Value::as_array_mut).and_then(Vec::pop).unwrap_or_default()
}

/// Makes the objects of a batch durable, then writes their rows in one transaction, then tells the outcomes.
pub(super) async fn commit(
    shared: &Shared,
    lease: &Lease,
    batch: Vec<(usize, Prepared)>,
) -> Vec<(usize, InstanceOutcome)> {
    let mut parts = Vec::with_capacity(batch.len());
    let mut staged = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for (number, Prepared { staged: object, row, share, changed }) in batch {
        let sop_class = row.entry.sop_class.to_string();
        let coerced = (!changed.is_empty()).then(|| (changed, last_original(&row.metadata)));
        parts.push(Part {
            number,
            key: row.entry.key.clone(),
            sop_class,
            size: row.size,
            digest: row.digest,
            source: row.source.clone(),
            _share: share,
            coerced,
        });
        staged.push(object);
        rows.push(row);
    }
    let coming = shared.catalogue.announce();
    let stored = match shared.store.make_durable(staged).await {
        Ok(stored) => stored,
        Err(error) => {
            // what could not be written could perhaps not be removed either
            shared.leases.retire(lease);
            return unavailable(parts, &error);
        }
    };
    let failure = match shared.catalogue.insert_instances(lease.id, shared.policy.rules, rows, coming).await {
        Ok(inserted) => return settle(shared, lease, parts, stored, inserted).await,
        Err(failure) => failure,
    };
    if !matches!(failure, NotInserted::Failed(_)) {
        shared.leases.retire(lease);
    }
    match failure {
        NotInserted::Failed(_) => remove(shared, lease, stored).await,
        NotInserted::LeaseGone => remove_unnamed(shared, lease, &parts, stored).await,
        // rows may name the objects, so they must stay: the sweep removes those that none names when the lease has run out
        NotInserted::InDoubt(_) => stored.into_iter().for_each(Stored::keep),
    }
    unavailable(parts, &failure.into_error())
}

/// Keeps the objects that rows name now and removes the others.
async fn settle(
    shared: &Shared,
    lease: &Lease,
    parts: Vec<Part>,
    stored: Vec<Stored>,
    inserted: Vec<Inserted>,
) -> Vec<(usize, InstanceOutcome)> {
    let mut outcomes = Vec::with_capacity(parts.len());
    let mut losers = Vec::new();
    let (named, others): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .zip(stored)
        .zip(inserted)
        .partition(|(_, inserted)| matches!(inserted, Inserted::New(_) | Inserted::Replaced(_) | Inserted::Below));
    // before anything that takes time or may fail: rows name these
    for ((part, object), inserted) in named {
        object.keep();
        outcomes.push((part.number, outcome(part, inserted)));
    }
    for ((part, object), inserted) in others {
        let needed = match inserted {
            Inserted::New(_) | Inserted::Replaced(_) | Inserted::Below => Ok(true),
            Inserted::Identical => {
                let Part { key, size, digest, source, .. } = &part;
                let Shared { catalogue, store, describer, limits, .. } = shared;
                let healer = Healer { catalogue, store, describer, header: limits.header, lease: lease.id };
                let again = Again { key, object: object.key(), size: *size, digest: *digest, source };
                healer.takes_the_place(&again).await
            }
            Inserted::Different | Inserted::Ignored | Inserted::Older | Inserted::OtherPatient => Ok(false),
        };
        match needed {
            Ok(true) => object.keep(),
            Ok(false) => losers.push(object),
            Err(error) => {
                // the row may name it: the sweep finds out
                object.keep();
                shared.leases.retire(lease);
                outcomes.extend(unavailable(vec![part], &error));
                continue;
            }
        }
        outcomes.push((part.number, outcome(part, inserted)));
    }
    remove(shared, lease, losers).await;
    outcomes
}

/// Removes objects under a lease that is gone, but those that `reindex` has given rows. In doubt they stay.
async fn remove_unnamed(shared: &Shared, lease: &Lease, parts: &[Part], stored: Vec<Stored>) {
    match named(shared, parts).await {
        Ok(Some(named)) => {
            let (kept, unnamed): (Vec<_>, Vec<_>) =
                stored.into_iter().partition(|object| named.contains(object.key().as_str()));
            kept.into_iter().for_each(Stored::keep);
            remove(shared, lease, unnamed).await;
        }
        Ok(None) => stored.into_iter().for_each(Stored::keep),
        Err(error) => {
            tracing::warn!(lease = %lease.id, ?error, "objects under a lease that is gone are left to the sweep");
            stored.into_iter().for_each(Stored::keep);
        }
    }
}

/// The keys that rows of these instances name; none while `reindex` may be about to write more.
async fn named(shared: &Shared, parts: &[Part]) -> Result<Option<HashSet<String>>> {
    // asked before the rows: who took the lease holds its own until its rows are written
    if shared.catalogue.under_way(Work::Reindex).await? {
        return Ok(None);
    }
    let instances = parts.iter().map(|part| part.key.instance.clone()).collect();
    shared.catalogue.locations_of(&instances).await.map(Some)
}

/// Removes objects that got no row.
async fn remove(shared: &Shared, lease: &Lease, objects: Vec<Stored>) {
    for object in objects {
        if let Err(error) = object.remove().await {
            tracing::warn!(lease = %lease.id, ?error, "an object without a row is left to the sweep");
            shared.leases.retire(lease);
        }
    }
}

fn outcome(part: Part, inserted: Inserted) -> InstanceOutcome {
    let Part { key, sop_class, coerced, .. } = part;
    let warning = |reason, comment: &str| Warning { reason, comment: comment.to_owned() };
    let refused = |reason, comment: &str| {
        InstanceOutcome::Refused(Refusal {
            sop_class: Some(sop_class.clone()),
            sop_instance: Some(key.instance.to_string()),
            reason,
            comment: comment.to_owned(),
            transient: false,
        })
    };
    let mut warnings = Vec::new();
    let (already, coerced) = match inserted {
        Inserted::New(patient) | Inserted::Replaced(patient) => {
            if let Some((names, _)) = &coerced {
                warnings.push(warning(WarningReason::Coerced, &format!("changed: {}", names.join(", "))));
            }
            if patient == Patient::Other {
                warnings.push(warning(WarningReason::Mismatch, "the Patient ID is not that of the study"));
            }
            (false, coerced)
        }
        Inserted::Identical | Inserted::Below => (true, None),
        Inserted::Ignored => {
            warnings.push(warning(WarningReason::Discarded, "another instance is stored under this UID and stays"));
            (true, None)
        }
        // the last two are for objects that are found, not for those that a client sends
        Inserted::Different | Inserted::Older => {
            return refused(FailureReason::DuplicateInstance, "another instance is stored under this SOP Instance UID");
        }
        Inserted::OtherPatient => {
            return refused(FailureReason::ProcessingFailure, "the Patient ID is not that of the study");
        }
    };
    InstanceOutcome::Stored { key, sop_class, already, warnings, original: coerced.map(|(_, original)| original) }
}

fn unavailable(parts: Vec<Part>, error: &Error) -> Vec<(usize, InstanceOutcome)> {
    let refused = |part: Part| {
        let known = Refusal {
            sop_class: Some(part.sop_class),
            sop_instance: Some(part.key.instance.to_string()),
            reason: FailureReason::OutOfResources,
            comment: String::new(),
            transient: true,
        };
        (part.number, InstanceOutcome::Refused(Refusal::unavailable(known, error)))
    };
    parts.into_iter().map(refused).collect()
}
