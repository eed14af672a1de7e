//! The transaction that stores batches of instances, in few statements, and how each instance came out.
//!
//! Rows are locked in one order, so that processes that store the same things wait for each other and do not deadlock:
//! the lease, studies by UID, series by UID, instances by UID. Counters and a series' version change under the lock
//! of their row. The unique index on the SOP Instance UIDs that are visible decides who was first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::MAIN_PARTITION;
use super::insert::{Batch, Inserted, NewInstance, NotInserted, Prepared};
use super::leases;
use super::metadata::{Dictionaries, Dictionary};
use super::sql::Statement;
use super::transaction::Transaction;
use super::upsert::insert_new;
use crate::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use crate::error::Result;

/// What a transaction did, to be used once it is committed.
#[derive(Default)]
pub(super) struct StoredBatches {
    /// Of each batch: its outcomes, or that its lease is gone.
    pub(super) outcomes: Vec<Result<Vec<Inserted>, NotInserted>>,
    dictionaries: Vec<(InstanceKey, i64, Arc<Dictionary>)>,
}

impl StoredBatches {
    /// Remembers the dictionaries of the series; only after the commit.
    pub(super) fn remember(&self, dictionaries: &Dictionaries) {
        for (key, id, dictionary) in &self.dictionaries {
            dictionaries.remember(key, *id, Arc::clone(dictionary));
        }
    }
}

/// Writes batches in a transaction and commits it, unless they are not `wanted` any more just before.
///
/// A batch whose lease is gone does not stop the others; any other error spoils the transaction.
pub(super) async fn store(
    mut transaction: Transaction,
    dictionaries: &Dictionaries,
    batches: &[&Batch],
    wanted: impl Fn() -> bool,
) -> Result<Option<StoredBatches>, NotInserted> {
    let (held, known) = look(&mut transaction, batches).await?;
    let alive: Vec<bool> = batches.iter().map(|batch| held.contains(&batch.lease)).collect();
    let candidates: Vec<&Batch> =
        batches.iter().zip(&alive).filter(|(_, alive)| **alive).map(|(batch, _)| *batch).collect();
    let (mut judged, new) = judge(&candidates, known);
    let (steps, dictionaries) = insert_new(&mut transaction, dictionaries, &new).await?;
    if !wanted() {
        return Ok(None);
    }
    transaction.commit_with(steps).await?;
    judged.reverse();
    let outcome = |alive: bool| if alive { judged.pop() } else { None }.ok_or(NotInserted::LeaseGone);
    Ok(Some(StoredBatches { outcomes: alive.into_iter().map(outcome).collect(), dictionaries }))
}

/// The leases that are held, and what is stored under the UIDs of the batches.
async fn look(transaction: &mut Transaction, batches: &[&Batch]) -> Result<(HashSet<String>, HashMap<String, Known>)> {
    let dialect = transaction.dialect();
    let leases: BTreeSet<&String> = batches.iter().map(|batch| &batch.lease).collect();
    let uids: Vec<String> =
        batches.iter().flat_map(|batch| &batch.instances).map(|one| one.new.entry.key.instance.to_string()).collect();
    let find = Statement::new(format!(
        "select i.sop_instance_uid, t.study_uid, s.series_uid, i.received_digest \
         from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
         where i.partition_id = $1 and i.hidden = 0 and i.sop_instance_uid {}",
        dialect.any(2)
    ));
    let held = leases::held(dialect, leases.into_iter().cloned().collect());
    let mut rows = transaction.fetch_each(vec![held, find.with(MAIN_PARTITION).with(uids)]).await?.into_iter();
    let mut held = HashSet::new();
    for row in rows.next().unwrap_or_default() {
        held.insert(row.text(0)?.to_owned());
    }
    let mut known = HashMap::new();
    for row in rows.flatten() {
        let stored = Known {
            study: row.text(1)?.to_owned(),
            series: row.text(2)?.to_owned(),
            received_digest: row.bytes(3)?.to_vec(),
        };
        known.insert(row.text(0)?.to_owned(), stored);
    }
    Ok((held, known))
}

/// What is stored under a SOP Instance UID.
struct Known {
    study: String,
    series: String,
    received_digest: Vec<u8>,
}

impl Known {
    fn judge(&self, new: &NewInstance) -> Inserted {
        let key = &new.entry.key;
        let same = self.study == key.study.as_str()
            && self.series == key.series.as_str()
            && self.received_digest == new.received_digest;
        if same { Inserted::Identical } else { Inserted::Different }
    }
}

/// The instances to insert, by the order in which rows are locked.
pub(super) type New<'a> = BTreeMap<&'a StudyUid, BTreeMap<&'a SeriesUid, BTreeMap<&'a InstanceUid, &'a Prepared>>>;

/// The outcomes of each batch, and what is new.
fn judge<'a>(batches: &[&'a Batch], mut known: HashMap<String, Known>) -> (Vec<Vec<Inserted>>, New<'a>) {
    let mut new = New::new();
    let mut judge = |one: &'a Prepared| {
        let key = &one.new.entry.key;
        if let Some(known) = known.get(key.instance.as_str()) {
            return known.judge(&one.new);
        }
        let stored = Known {
            study: key.study.to_string(),
            series: key.series.to_string(),
            received_digest: one.new.received_digest.to_vec(),
        };
        known.insert(key.instance.to_string(), stored);
        new.entry(&key.study).or_default().entry(&key.series).or_default().insert(&key.instance, one);
        Inserted::New
    };
    let outcomes = batches.iter().map(|batch| batch.instances.iter().map(&mut judge).collect()).collect();
    (outcomes, new)
}
