//! The transaction that stores batches of instances, in few statements, and how each instance came out.
//!
//! Rows are locked in one order, so that processes that store the same things wait for each other and do not deadlock:
//! the lease, studies by UID, series by UID, instances by UID. Counters and a series' version change under the lock
//! of their row. The unique index on the SOP Instance UIDs that are visible decides who was first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::MAIN_PARTITION;
use super::columns::stored_text;
use super::deletions::{Deletion, insert};
use super::dialect::Dialect;
use super::earlier::{Came, Earlier, Gone, Kept, earlier, find_hidden};
use super::failure::Raced;
use super::hidden::Hidden;
use super::insert::{Batch, Inserted, NewInstance, NotInserted, Occasion, Patient, Prepared, Rules};
use super::leases;
use super::metadata::{Dictionaries, Dictionary};
use super::sql::{Row, Statement};
use super::transaction::Transaction;
use super::upsert::insert_new;
use crate::config::{Duplicates, OtherPatient};
use crate::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use crate::error::{Error, Result};

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
    let look = look(&mut transaction, batches).await?;
    let alive: Vec<bool> = batches.iter().map(|batch| look.leases.contains(&batch.lease)).collect();
    let candidates: Vec<&Batch> =
        batches.iter().zip(&alive).filter(|(_, alive)| **alive).map(|(batch, _)| *batch).collect();
    let mut judge = Judge::new(look);
    let mut judged = Vec::with_capacity(candidates.len());
    for batch in &candidates {
        judged.push(judge.batch(batch)?);
    }
    let inserted = insert_new(&mut transaction, dictionaries, &judge.new, &judge.replaced, &judge.moved_up).await?;
    for (batch, outcomes) in candidates.iter().zip(&mut judged) {
        note_patients(batch, outcomes, &inserted.strangers)?;
    }
    if !wanted() {
        return Ok(None);
    }
    transaction.commit_with(inserted.steps).await?;
    judged.reverse();
    let outcome = |alive: bool| if alive { judged.pop() } else { None }.ok_or(NotInserted::LeaseGone);
    Ok(Some(StoredBatches { outcomes: alive.into_iter().map(outcome).collect(), dictionaries: inserted.dictionaries }))
}

/// What is there before a transaction changes anything.
#[derive(Default)]
struct Look {
    /// The leases that are held.
    leases: HashSet<String>,
    /// What is stored, by SOP Instance UID.
    known: HashMap<String, Known>,
    /// The older versions that are kept, by SOP Instance UID, where anybody wants to know.
    kept: HashMap<String, Vec<Kept>>,
    /// Those that a deletion hides, by SOP Instance UID, where anybody wants to know.
    gone: HashMap<String, Vec<Gone>>,
    /// The rows of the deletions that hide what comes.
    deletions: HashMap<Uuid, i64>,
    /// The Patient IDs of studies, where anybody wants to know.
    patients: HashMap<String, Option<String>>,
}

async fn look(transaction: &mut Transaction, batches: &[&Batch]) -> Result<Look> {
    let dialect = transaction.dialect();
    let leases: BTreeSet<&String> = batches.iter().map(|batch| &batch.lease).collect();
    let keys = || batches.iter().flat_map(|batch| &batch.instances).map(|one| &one.new.entry.key);
    let find = Statement::new(format!(
        "select i.sop_instance_uid, t.study_uid, s.series_uid, i.received_digest, i.id, i.series_id, i.study_id, i.version, \
         i.received_at, i.location, t.patient_id \
         from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
         where i.partition_id = $1 and i.hidden = 0 and i.sop_instance_uid {}",
        dialect.any(2)
    ));
    let studies = || -> Vec<String> {
        let studies: BTreeSet<&StudyUid> = keys().map(|key| &key.study).collect();
        studies.into_iter().map(ToString::to_string).collect()
    };
    let replaces = |batch: &&Batch| matches!(batch.rules.duplicates, Duplicates::Replace | Duplicates::Versions);
    let deletions = deletions(batches);
    let deletes = !deletions.is_empty();
    if dialect == Dialect::Postgres && (deletes || batches.iter().any(replaces)) {
        // those who replace the same instance take turns, instead of finding again and again that another was faster
        let lock =
            "select id from studies where partition_id = $1 and study_uid = any($2) order by study_uid for update";
        transaction.fetch_each(vec![Statement::new(lock).with(MAIN_PARTITION).with(studies())]).await?;
    }
    // after the studies, as when a deletion is taken back
    let deletions = make_known(transaction, deletions).await?;
    let uids: Vec<String> = keys().map(|key| key.instance.to_string()).collect();
    let looks_back =
        |batch: &&Batch| batch.rules.occasion == Occasion::Found || batch.rules.duplicates == Duplicates::Versions;
    let found = deletes || batches.iter().any(looks_back);
    let held = leases::held(dialect, leases.into_iter().cloned().collect());
    let mut statements = vec![held, find.with(MAIN_PARTITION).with(uids.clone())];
    if found {
        statements.push(find_hidden(dialect, uids));
    }
    if batches.iter().any(|batch| batch.rules.other_patient == OtherPatient::Reject) {
        let find = Statement::new(format!(
            "select study_uid, patient_id from studies where partition_id = $1 and instance_count > 0 and study_uid {}",
            dialect.any(2)
        ));
        statements.push(find.with(MAIN_PARTITION).with(studies()));
    }
    let mut rows = transaction.fetch_each(statements).await?.into_iter();
    let mut look = Look { deletions, ..Look::default() };
    for row in rows.next().unwrap_or_default() {
        look.leases.insert(row.text(0)?.to_owned());
    }
    for row in rows.next().unwrap_or_default() {
        look.known.insert(row.text(0)?.to_owned(), known(&row)?);
    }
    for row in if found { rows.next() } else { None }.unwrap_or_default() {
        let (uid, earlier) = earlier(&row)?;
        match earlier {
            Earlier::Kept(kept) => look.kept.entry(uid).or_default().push(kept),
            Earlier::Gone(gone) => look.gone.entry(uid).or_default().push(gone),
        }
    }
    for row in rows.flatten() {
        look.patients.insert(row.text(0)?.to_owned(), row.optional_text(1)?.map(str::to_owned));
    }
    Ok(look)
}

/// A row of what can be seen.
fn known(row: &Row) -> Result<Known> {
    Ok(Known {
        study: row.text(1)?.to_owned(),
        series: row.text(2)?.to_owned(),
        received_digest: row.bytes(3)?.to_vec(),
        came: Came::new(row.integer(8)?, row.text(9)?),
        patient: row.optional_text(10)?.map(str::to_owned),
        row: Some(KnownRow {
            id: row.integer(4)?,
            series: row.integer(5)?,
            study: row.integer(6)?,
            version: row.integer(7)?,
        }),
    })
}

/// The deletions that hide what comes.
fn deletions<'a>(batches: &[&'a Batch]) -> BTreeMap<Uuid, &'a Deletion> {
    let instances = batches.iter().flat_map(|batch| &batch.instances);
    instances.filter_map(|one| one.new.deletion.as_ref().map(|deletion| (deletion.id, &**deletion))).collect()
}

/// Makes deletions known that are not; the ids of their rows. Whoever else inserts what one of them hides waits here.
async fn make_known(transaction: &mut Transaction, deletions: BTreeMap<Uuid, &Deletion>) -> Result<HashMap<Uuid, i64>> {
    let inserts = deletions.values().map(|deletion| insert(deletion)).collect();
    let rows = transaction.fetch_each(inserts).await?;
    let ids = rows.iter().flatten().map(|row| row.integer(0)).collect::<Result<Vec<_>>>()?;
    Ok(deletions.into_keys().zip(ids).collect())
}

/// What is stored under a SOP Instance UID.
struct Known {
    study: String,
    series: String,
    received_digest: Vec<u8>,
    came: Came,
    /// The Patient ID of its study.
    patient: Option<String>,
    /// None: it is to be stored by this transaction.
    row: Option<KnownRow>,
}

#[derive(Clone, Copy)]
struct KnownRow {
    id: i64,
    series: i64,
    study: i64,
    version: i64,
}

impl Known {
    fn of(new: &NewInstance) -> Self {
        let key = &new.entry.key;
        let (study, series) = (key.study.to_string(), key.series.to_string());
        let patient = stored_text(new.entry.study.patient_id.as_ref());
        Self { study, series, received_digest: new.received_digest.to_vec(), came: Came::of(new), patient, row: None }
    }

    fn is(&self, new: &NewInstance) -> bool {
        self.is_at(&new.entry.key) && self.received_digest == new.received_digest
    }

    /// Whether it lies in a study of another patient than that in which the new one goes.
    fn is_of_other_patient(&self, new: &NewInstance) -> bool {
        self.study != new.entry.key.study.as_str() && self.patient != stored_text(new.entry.study.patient_id.as_ref())
    }

    fn is_at(&self, key: &InstanceKey) -> bool {
        self.study == key.study.as_str() && self.series == key.series.as_str()
    }
}

/// An instance to insert.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) one: &'a Prepared,
    /// 1 for the first content under its UID.
    pub(super) version: i64,
    /// The row of the deletion that hides it.
    pub(super) deletion: Option<i64>,
}

impl Arrival<'_> {
    /// Whether it can be seen.
    pub(super) fn shows(&self) -> bool {
        self.deletion.is_none()
    }
}

/// The instances of a series to insert, by UID and storage key: of one UID one can be seen, and others may be hidden.
pub(super) type OfSeries<'a> = BTreeMap<(&'a InstanceUid, &'a str), Arrival<'a>>;

/// The instances of a study to insert.
pub(super) type OfStudy<'a> = BTreeMap<&'a SeriesUid, OfSeries<'a>>;

/// The instances to insert, by the order in which rows are locked.
pub(super) type New<'a> = BTreeMap<&'a StudyUid, OfStudy<'a>>;

/// A row whose place is taken by a new one.
pub(super) struct Replaced {
    pub(super) id: i64,
    pub(super) series: i64,
    pub(super) study: i64,
    /// What it is from now on.
    pub(super) hidden: Hidden,
    /// It takes its place back at the end, since what came is older: that is hidden as this version of the UID.
    pub(super) back: Option<(InstanceUid, i64)>,
}

/// Versions of a UID that a deletion hides and that go up by one, as what came before them is found later.
pub(super) struct MovedUp {
    pub(super) uid: InstanceUid,
    pub(super) deletion: i64,
    pub(super) from: i64,
}

/// Decides what becomes of each instance.
struct Judge<'a> {
    look: Look,
    new: New<'a>,
    replaced: Vec<Replaced>,
    moved_up: Vec<MovedUp>,
}

impl<'a> Judge<'a> {
    fn new(look: Look) -> Self {
        Self { look, new: New::new(), replaced: Vec::new(), moved_up: Vec::new() }
    }

    /// The outcomes of a batch, not yet with what the index says of patients.
    fn batch(&mut self, batch: &'a Batch) -> Result<Vec<Inserted>> {
        let mut own = HashSet::new();
        let mut outcomes = Vec::with_capacity(batch.instances.len());
        for one in &batch.instances {
            if let Some(deletion) = &one.new.deletion {
                outcomes.push(self.deleted(one, deletion)?);
                continue;
            }
            let outcome = self.instance(one, batch.rules, &own)?;
            if matches!(outcome, Inserted::New(_) | Inserted::Replaced(_) | Inserted::Below) {
                own.insert(&one.new.entry.key.instance);
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// What was deleted is nobody's duplicate, whatever can be seen under its UID: only its own row is. Contents of one UID that
    /// the same deletion hides are numbered in the order in which they came, whatever their series.
    fn deleted(&mut self, one: &'a Prepared, deletion: &Deletion) -> Result<Inserted> {
        let missing = || Error::internal("an upsert returned less than it was given");
        let deletion = *self.look.deletions.get(&deletion.id).ok_or_else(missing)?;
        let (uid, came) = (&one.new.entry.key.instance, Came::of(&one.new));
        let gone = self.look.gone.entry(uid.to_string()).or_default();
        if gone.iter().any(|gone| gone.location == one.new.location) {
            return Ok(Inserted::Identical);
        }
        let mut version = 1;
        let mut later = None;
        for gone in gone.iter().filter(|gone| gone.deletion == deletion) {
            if gone.came >= came && gone.is_copy(&one.new) {
                // a copy that was left over is no version of its own; of versions with the same content the later ones came later
                return Ok(Inserted::Identical);
            } else if gone.came <= came {
                version = version.max(gone.version + 1);
            } else {
                later = later.into_iter().chain([gone.version]).min();
            }
        }
        if let Some(later) = later {
            // those of a UID come one after the other: the rest is in the index already
            version = version.min(later);
            self.moved_up.push(MovedUp { uid: uid.clone(), deletion, from: version });
        }
        gone.push(Gone::of(&one.new, deletion, version));
        self.arrives(Arrival { one, version, deletion: Some(deletion) });
        Ok(Inserted::New(Patient::Same))
    }

    fn arrives(&mut self, arrival: Arrival<'a>) {
        let new = &arrival.one.new;
        let key = &new.entry.key;
        let of_series = self.new.entry(&key.study).or_default().entry(&key.series).or_default();
        of_series.insert((&key.instance, &new.location), arrival);
    }

    fn instance(&mut self, one: &'a Prepared, rules: Rules, own: &HashSet<&InstanceUid>) -> Result<Inserted> {
        let key = &one.new.entry.key;
        if rules.other_patient == OtherPatient::Reject {
            let patient = stored_text(one.new.entry.study.patient_id.as_ref());
            let of_study = self.look.patients.entry(key.study.to_string()).or_insert_with(|| patient.clone());
            if *of_study != patient {
                return Ok(Inserted::OtherPatient);
            }
        }
        if rules.occasion == Occasion::Found && self.is_found_already(&one.new) {
            return Ok(Inserted::Identical);
        }
        let (mut version, mut outcome) = (1, Inserted::New(Patient::Same));
        if let Some(known) = self.look.known.get(key.instance.as_str()) {
            let lost = rules.occasion == Occasion::Lost;
            let came = Came::of(&one.new);
            let older = rules.occasion == Occasion::Found && came < known.came;
            let later = rules.occasion == Occasion::Found && came > known.came;
            let hidden = match rules.duplicates {
                // it may have been elsewhere in between, where what came before this copy must not take its place
                Duplicates::Replace | Duplicates::Versions if later && known.is(&one.new) => Hidden::Replaced,
                _ if lost && known.is(&one.new) => Hidden::Erasing,
                _ if known.is(&one.new) => return Ok(Inserted::Identical),
                _ if lost => return Ok(Inserted::Different),
                Duplicates::Replace if older => return Ok(Inserted::Older),
                // its answer names the instance that stays, which is then the one that was sent
                Duplicates::Ignore if known.is_at(key) => return Ok(Inserted::Ignored),
                Duplicates::Reject | Duplicates::Ignore => return Ok(Inserted::Different),
                Duplicates::Replace => Hidden::Replaced,
                Duplicates::Versions => Hidden::Kept,
            };
            // whose image it is changes, although the Patient ID is that of its new study
            let moved = rules.other_patient != OtherPatient::Accept && known.is_of_other_patient(&one.new);
            if moved && rules.other_patient == OtherPatient::Reject {
                return Ok(Inserted::OtherPatient);
            }
            let Some(row) = known.row else {
                // which of the two a client means to be the last cannot be told within a request; between requests the order
                // of their transactions tells
                let twice = own.contains(&key.instance);
                return if twice { Ok(Inserted::Different) } else { Err(Raced::error()) };
            };
            // the same content is the same version
            version = if known.is(&one.new) { row.version } else { row.version + 1 };
            let patient = if moved { Patient::Other } else { Patient::Same };
            outcome = if older { Inserted::Below } else { Inserted::Replaced(patient) };
            let back = older.then(|| (key.instance.clone(), self.version_below(key, row, &one.new)));
            self.replaced.push(Replaced { id: row.id, series: row.series, study: row.study, hidden, back });
        } else if rules.occasion == Occasion::Lost {
            // deleted since it was found that its object is lost
            return Ok(Inserted::Different);
        } else {
            // older versions may lie in another study, of which nothing was deleted
            let kept = self.look.kept.get(key.instance.as_str()).into_iter().flatten();
            version += kept.map(|kept| kept.version).max().unwrap_or_default();
        }
        self.look.known.insert(key.instance.to_string(), Known::of(&one.new));
        self.arrives(Arrival { one, version, deletion: None });
        Ok(outcome)
    }

    /// Whether an object that was found is that of an older version.
    fn is_found_already(&self, new: &NewInstance) -> bool {
        let uid = new.entry.key.instance.as_str();
        self.look.kept.get(uid).into_iter().flatten().any(|kept| kept.location == new.location)
    }

    /// Which version a content is that came before the one that can be seen; it and all that came later go up by one.
    fn version_below(&self, key: &InstanceKey, seen: KnownRow, new: &NewInstance) -> i64 {
        let came = Came::of(new);
        let kept = self.look.kept.get(key.instance.as_str()).into_iter().flatten();
        kept.filter(|kept| kept.came > came).map(|kept| kept.version).min().unwrap_or(seen.version).min(seen.version)
    }
}

/// Notes whose Patient ID is not that of the study.
fn note_patients(batch: &Batch, outcomes: &mut [Inserted], strangers: &HashSet<InstanceUid>) -> Result<()> {
    if strangers.is_empty() {
        return Ok(());
    }
    for (one, outcome) in batch.instances.iter().zip(outcomes) {
        if let Inserted::New(patient) | Inserted::Replaced(patient) = outcome
            && strangers.contains(&one.new.entry.key.instance)
        {
            match batch.rules.other_patient {
                OtherPatient::Accept => {}
                OtherPatient::Warn => *patient = Patient::Other,
                // another process stored the study since it was looked for
                OtherPatient::Reject => return Err(Raced::error()),
            }
        }
    }
    Ok(())
}
