//! The transaction that stores batches of instances, in few statements, and how each instance came out.
//!
//! Rows are locked in one order, so that processes that store the same things wait for each other and do not deadlock:
//! the attempt, studies by UID, series by UID, instances by UID. Counters and a series' version change under the lock
//! of their row. The unique index on the SOP Instance UIDs that are visible decides who was first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::MAIN_PARTITION;
use super::database::Transaction;
use super::insert::{Batch, Inserted, NewInstance, Prepared};
use super::metadata::{Dictionaries, Dictionary};
use super::sql::Statement;
use super::upsert::insert_new;
use crate::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use crate::error::{Error, Result};

/// What a transaction did, to be used once it is committed.
#[derive(Default)]
pub(super) struct StoredBatches {
    /// Of each batch: its outcomes, or that its attempt is gone.
    pub(super) outcomes: Vec<Result<Vec<Inserted>>>,
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

/// Writes batches within a transaction. A batch whose attempt is gone does not stop the others; any other error spoils the transaction.
pub(super) async fn store(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    batches: &[&Batch],
) -> Result<StoredBatches> {
    let leases = renew_attempts(transaction, batches).await?;
    let alive: Vec<bool> = batches.iter().map(|batch| leases.contains_key(&batch.attempt)).collect();
    let candidates: Vec<&Batch> =
        batches.iter().zip(&alive).filter(|(_, alive)| **alive).map(|(batch, _)| *batch).collect();
    let known = find_known(transaction, &candidates).await?;
    let (mut judged, new) = judge(&candidates, known);
    let dictionaries = insert_new(transaction, dictionaries, &new).await?;
    for (batch, outcomes) in candidates.iter().zip(&judged) {
        if batch.last && outcomes.iter().any(|outcome| *outcome != Inserted::New) {
            keep_attempt(transaction, &batch.attempt, leases[&batch.attempt]).await?;
        }
    }
    judged.reverse();
    let outcomes = alive.into_iter().map(|alive| if alive { judged.pop() } else { None }.ok_or_else(attempt_is_gone));
    Ok(StoredBatches { outcomes: outcomes.collect(), dictionaries })
}

/// Locks the attempts against the sweep and renews or ends them; those that are still there, with their leases.
async fn renew_attempts(transaction: &mut Transaction, batches: &[&Batch]) -> Result<HashMap<String, i64>> {
    let dialect = transaction.dialect();
    let mut alive = HashMap::with_capacity(batches.len());
    for last in [false, true] {
        let attempts: Vec<String> =
            batches.iter().filter(|batch| batch.last == last).map(|batch| batch.attempt.clone()).collect();
        if attempts.is_empty() {
            continue;
        }
        let any = dialect.any(1);
        let text = if last {
            format!("delete from attempts where attempt {any} returning attempt, lease")
        } else {
            let now = dialect.now_millis();
            format!("update attempts set lease_until = {now} + lease where attempt {any} returning attempt, lease")
        };
        for row in transaction.fetch_all(Statement::new(text).with(attempts)).await? {
            alive.insert(row.text(0)?.to_owned(), row.integer(1)?);
        }
    }
    Ok(alive)
}

/// Brings an attempt back whose last batch left objects without a row: it ends when those are removed.
async fn keep_attempt(transaction: &mut Transaction, attempt: &str, lease: i64) -> Result<()> {
    let now = transaction.dialect().now_millis();
    let text = format!(
        "insert into attempts (attempt, started_at, lease, lease_until) values ($1, {now}, $2, {now} + $2) returning attempt"
    );
    transaction.fetch_all(Statement::new(text).with(attempt).with(lease)).await.map(drop)
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

async fn find_known(transaction: &mut Transaction, batches: &[&Batch]) -> Result<HashMap<String, Known>> {
    let uids: Vec<String> =
        batches.iter().flat_map(|batch| &batch.instances).map(|one| one.new.entry.key.instance.to_string()).collect();
    if uids.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = Statement::new(format!(
        "select i.sop_instance_uid, t.study_uid, s.series_uid, i.received_digest \
         from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
         where i.partition_id = $1 and i.hidden = 0 and i.sop_instance_uid {}",
        transaction.dialect().any(2)
    ));
    let mut known = HashMap::new();
    for row in transaction.fetch_all(statement.with(MAIN_PARTITION).with(uids)).await? {
        let stored = Known {
            study: row.text(1)?.to_owned(),
            series: row.text(2)?.to_owned(),
            received_digest: row.bytes(3)?.to_vec(),
        };
        known.insert(row.text(0)?.to_owned(), stored);
    }
    Ok(known)
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

pub(super) fn attempt_is_gone() -> Error {
    Error::unavailable("the lease of the storing request has run out", "no row of the attempt")
}
