//! Taking a deletion back: which of its instances can be seen again, and what stays deleted.
//!
//! An instance stays deleted when another was stored under its UID since, or when it is being erased.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::Catalogue;
use super::deletions::lock;
use super::dialect::Dialect;
use super::failure::{Raced, is_unique_violation};
use super::hidden::Hidden;
use super::insert::NotInserted;
use super::metadata::Dictionaries;
use super::sql::{Row, Statement};
use super::telling::count_anew;
use super::transaction::Transaction;
use crate::dicom::uid::Scope;
use crate::error::{Error, Result};

/// What is left of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restorable {
    /// Instances that can be taken back, each with all of its versions.
    pub instances: u64,
    /// Instances that cannot, because others were stored under their UIDs since.
    pub taken: u64,
    /// The storage keys of the objects that come back.
    pub returning: BTreeSet<String>,
}

/// How taking back came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Instances that can be seen again, each with all of its versions.
    pub instances: u64,
    /// Instances that stay deleted, because others were stored under their UIDs since.
    pub taken: u64,
}

impl Catalogue {
    /// How much of a deletion could be taken back.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn restorable(&self, deletion: Uuid) -> Result<Restorable> {
        let rows = self.database().read_all(of_deletion(deletion)).await?;
        let lost = rows.iter().map(lost).collect::<Result<Vec<_>>>()?;
        let (back, stay): (Vec<_>, Vec<_>) = lost.into_iter().partition(Lost::comes_back);
        let (instances, taken) = (instances(&back), taken(&stay));
        Ok(Restorable { instances, taken, returning: back.into_iter().map(|one| one.location).collect() })
    }

    /// Takes a deletion back, if these are the objects that come back; none when they are not: nothing changed then. What stays
    /// deleted goes on being of this deletion.
    ///
    /// # Errors
    /// `InDoubt` when it may have come about, else nothing changed.
    pub async fn restore(
        &self,
        deletion: Uuid,
        scope: &Scope,
        returning: &BTreeSet<String>,
        event: Uuid,
    ) -> Result<Option<Restored>, NotInserted> {
        let (scope, returning, dictionaries) = (scope.clone(), returning.clone(), self.0.dictionaries.clone());
        self.attempt(move |transaction| {
            let (scope, returning, dictionaries) = (scope.clone(), returning.clone(), dictionaries.clone());
            Box::pin(async move {
                let restored = restore(transaction, &dictionaries, deletion, &scope, &returning, event).await;
                // another was stored under one of the UIDs since they were looked for
                restored.map_err(|error| if is_unique_violation(&error) { Raced::error() } else { error })
            })
        })
        .await
    }

    /// Notes what took deletions back before this index knew of it.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn note_restores(&self, events: &[Uuid]) -> Result<()> {
        let notes: Vec<Statement> = events.iter().map(|event| note(*event)).collect();
        self.transact(move |transaction| {
            let notes = notes.clone();
            Box::pin(async move { transaction.fetch_each(notes).await.map(|_| (true, ())) })
        })
        .await
    }
}

fn note(event: Uuid) -> Statement {
    Statement::new("insert into restores (uuid) values ($1) on conflict (uuid) do nothing").with(event.to_string())
}

/// An instance of a deletion.
struct Lost {
    id: i64,
    uid: String,
    series: i64,
    study: i64,
    location: String,
    hidden: i64,
    /// Another can be seen under its UID.
    taken: bool,
}

impl Lost {
    fn comes_back(&self) -> bool {
        self.hidden == Hidden::Deleted.code() && !self.taken
    }
}

fn lost(row: &Row) -> Result<Lost> {
    Ok(Lost {
        id: row.integer(0)?,
        uid: row.text(1)?.to_owned(),
        series: row.integer(2)?,
        study: row.integer(3)?,
        location: row.text(4)?.to_owned(),
        hidden: row.integer(5)?,
        taken: row.integer(6)? != 0,
    })
}

/// How many instances there are, of which each may have several versions.
fn instances<'a>(lost: impl IntoIterator<Item = &'a Lost>) -> u64 {
    lost.into_iter().map(|one| one.uid.as_str()).collect::<BTreeSet<_>>().len() as u64
}

/// How many of those that stay deleted do so because others were stored under their UIDs.
fn taken(stay: &[Lost]) -> u64 {
    instances(stay.iter().filter(|one| one.hidden == Hidden::Deleted.code()))
}

/// The instances of a deletion that are not erased yet, the newest version of each first.
fn of_deletion(deletion: Uuid) -> Statement {
    Statement::new(
        "select i.id, i.sop_instance_uid, i.series_id, i.study_id, i.location, i.hidden, \
         cast(case when exists (select 1 from instances v where v.partition_id = i.partition_id \
         and v.sop_instance_uid = i.sop_instance_uid and v.hidden = 0) then 1 else 0 end as bigint) \
         from deletions d join instances i on i.deletion_id = d.id where d.uuid = $1 and i.hidden in (1, 4) \
         order by i.sop_instance_uid, i.version desc, i.received_at desc",
    )
    .with(deletion.to_string())
}

async fn restore(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    deletion: Uuid,
    scope: &Scope,
    returning: &BTreeSet<String>,
    event: Uuid,
) -> Result<(bool, Option<Restored>)> {
    hold(transaction, deletion, scope).await?;
    let rows = transaction.fetch_each(vec![of_deletion(deletion)]).await?;
    let lost = rows.iter().flatten().map(lost).collect::<Result<Vec<_>>>()?;
    let (back, stay): (Vec<_>, Vec<_>) = lost.into_iter().partition(Lost::comes_back);
    if back.is_empty() || back.iter().map(|one| one.location.clone()).collect::<BTreeSet<_>>() != *returning {
        return Ok((false, None));
    }
    let mut of_uid: HashMap<&str, Hidden> = HashMap::new();
    let states = back
        .iter()
        .map(|one| (one.id, *of_uid.entry(&one.uid).and_modify(|state| *state = Hidden::Kept).or_insert(Hidden::No)));
    if !show(transaction, states).await? {
        return Err(Error::internal("rows changed while they were locked"));
    }
    let (series, studies) = (back.iter().map(|one| one.series).collect(), back.iter().map(|one| one.study).collect());
    count_anew(transaction, dictionaries, &series, &studies).await?;
    let mut last = Vec::new();
    if stay.is_empty() {
        last.push(Statement::new("delete from deletions where uuid = $1").with(deletion.to_string()));
    }
    last.push(note(event));
    transaction.fetch_each(last).await?;
    Ok((true, Some(Restored { instances: instances(&back), taken: taken(&stay) })))
}

/// Holds up whoever stores into the studies of a deletion, and whoever would erase its instances.
async fn hold(transaction: &mut Transaction, deletion: Uuid, scope: &Scope) -> Result<()> {
    if transaction.dialect() == Dialect::Sqlite {
        // who writes has the database for itself
        return Ok(());
    }
    const OF: &str = "from instances i join deletions d on d.id = i.deletion_id where d.uuid = $1 and i.hidden = 1";
    let studies = Statement::new(format!("select distinct i.study_id {OF}")).with(deletion.to_string());
    let studies = transaction.fetch_each(vec![studies]).await?;
    let studies = studies.iter().flatten().map(|row| row.integer(0)).collect::<Result<Vec<_>>>()?;
    lock(transaction, scope, studies).await?;
    let instances = Statement::new(format!("select i.id {OF} order by i.id for update of i"));
    transaction.fetch_each(vec![instances.with(deletion.to_string())]).await.map(drop)
}

/// Takes from rows that they are deleted, and gives each the state that it has from now on; whether all of them were. Nothing is
/// counted.
pub(super) async fn show(transaction: &mut Transaction, rows: impl IntoIterator<Item = (i64, Hidden)>) -> Result<bool> {
    let dialect = transaction.dialect();
    let mut states: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (id, state) in rows {
        states.entry(state.code()).or_default().push(id);
    }
    let mut all = true;
    for (state, ids) in states {
        let text = format!(
            "update instances set hidden = $1, hidden_at = null, deletion_id = null where id {} and hidden = 1 returning id",
            dialect.any(2)
        );
        let count = ids.len();
        let rows = transaction.fetch_each(vec![Statement::new(text).with(state).with(ids)]).await?;
        all &= rows.iter().flatten().count() == count;
    }
    Ok(all)
}
