//! Deleting: instances are hidden in one transaction, can be taken back until they are erased, and are told of ever after.
//!
//! Rows are locked in the order in which storing locks them: the study, its series, its instances. A study and its series keep
//! their rows, with a count of none, so that what is taken back finds its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::dialect::Dialect;
use super::hidden::{Hidden, recount_series, recount_study};
use super::insert::NotInserted;
use super::instances::InstanceId;
use super::sql::{Row, Statement};
use super::transaction::Transaction;
use super::{Catalogue, MAIN_PARTITION};
use crate::clock;
use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, SeriesUid, StudyUid};
use crate::error::{Error, Result};

/// What was deleted, when and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Which deletion it is; a UUIDv7.
    pub id: Uuid,
    /// What was deleted.
    pub scope: Scope,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at: i64,
    /// By whom.
    pub who: String,
    /// Why, as they said; may be empty.
    pub reason: String,
}

/// An instance that a deletion is about to hide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletable {
    /// Its row.
    pub id: InstanceId,
    /// The storage key of its object.
    pub location: String,
}

/// How hiding came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hid {
    /// So many instances are hidden now, older versions included.
    Instances(u64),
    /// Others than were named would have been hidden: nothing changed.
    Changed,
}

/// How taking back came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Instances that can be seen again, older versions included.
    pub instances: u64,
    /// Instances that stay deleted, because others were stored under their UIDs since.
    pub taken: u64,
}

impl Catalogue {
    /// The instances that a deletion of this scope would hide, older versions included.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn deletable(&self, scope: &Scope) -> Result<Vec<Deletable>> {
        let rows = self.database().read_all(in_scope(scope, "i.id, i.location")).await?;
        rows.iter().map(deletable).collect()
    }

    /// Hides the instances of a scope, if they are those named. On `Ok` it is durable, and whoever asks from now on does not
    /// see them.
    ///
    /// # Errors
    /// `Unavailable` when the database is; it may have come about.
    pub async fn hide(&self, deletion: &Deletion, named: &[Deletable]) -> Result<Hid> {
        let (deletion, named) = (deletion.clone(), named.iter().map(|one| one.id).collect::<BTreeSet<_>>());
        self.transact(move |transaction| {
            let (deletion, named) = (deletion.clone(), named.clone());
            Box::pin(async move { hide(transaction, &deletion, &named).await })
        })
        .await
    }

    /// Makes a deletion known again that an index has lost, and hides those instances whose objects it hid.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn adopt(&self, deletion: &Deletion, objects: &[(InstanceUid, String)]) -> Result<u64> {
        let (deletion, objects) = (deletion.clone(), objects.to_vec());
        self.transact(move |transaction| {
            let (deletion, objects) = (deletion.clone(), objects.clone());
            Box::pin(async move { adopt(transaction, &deletion, objects).await })
        })
        .await
    }

    /// The deletions of a study, series or instance by its UID, the latest first.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn deletions_of(&self, uid: &str) -> Result<Vec<Deletion>> {
        let half = |column: &str, and: &str| {
            format!("select {DELETION} from deletions where partition_id = {MAIN_PARTITION} and {column} = $1 {and}")
        };
        let text = format!(
            "{} union all {} union all {} order by deleted_at desc, uuid desc",
            half("study_uid", "and series_uid is null"),
            half("series_uid", "and sop_instance_uid is null"),
            half("sop_instance_uid", "")
        );
        let rows = self.database().read_all(Statement::new(text).with(uid)).await?;
        rows.iter().map(deletion).collect()
    }

    /// Whether a scope in which nothing can be seen was deleted, or something of it or around it was.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn was_deleted(&self, scope: &Scope) -> Result<bool> {
        let (series, instance) = parts(scope);
        let mut statement = Statement::new("select 1 from deletions where partition_id = $1 and study_uid = $2");
        let mut statement = {
            statement = statement.with(MAIN_PARTITION).with(scope.study().as_str());
            statement
        };
        if let Some(series) = series {
            statement.push(" and (series_uid is null or series_uid = ").push_bind(series.as_str()).push(")");
        }
        if let Some(instance) = instance {
            statement.push(" and (sop_instance_uid is null or sop_instance_uid = ");
            statement.push_bind(instance.as_str()).push(")");
        }
        statement.push(" limit 1");
        Ok(self.database().read_optional(statement).await?.is_some())
    }

    /// How many instances of a deletion could be taken back.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn restorable(&self, deletion: Uuid) -> Result<u64> {
        let count = Statement::new(
            "select count(*) from instances i join deletions d on d.id = i.deletion_id where i.hidden = 1 and d.uuid = $1",
        );
        self.database().read_optional(count.with(deletion.to_string())).await?.map_or(Ok(0), |row| row.count(0))
    }

    /// Takes a deletion back, as far as its instances are not erased or stored anew.
    ///
    /// # Errors
    /// `Unavailable` when the database is; it may have come about.
    pub async fn restore(&self, deletion: Uuid) -> Result<Restored> {
        self.transact(move |transaction| Box::pin(async move { restore(transaction, deletion).await })).await
    }

    /// Runs what a transaction does, and again when another process was faster; commits if it says so.
    pub(super) async fn transact<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Transaction) -> Work<'a, T> + Send + Sync + 'static,
    {
        const TRIES: u32 = 8;
        let database = self.database().clone();
        let run = async move {
            let mut tries = 1;
            loop {
                let mut transaction = database.begin().await?;
                let done = match work(&mut transaction).await {
                    Ok((true, value)) => {
                        transaction.commit_with(Vec::new()).await.map_err(NotInserted::into_error).map(|()| value)
                    }
                    Ok((false, value)) => return Ok(value),
                    Err(error) => Err(error),
                };
                match done {
                    Err(error) if tries < TRIES && super::failure::is_conflict(&error) => tries += 1,
                    done => return done,
                }
            }
        };
        self.database().spawn(run).await
    }
}

/// What is done within a transaction: whether to commit it, and the result.
pub(super) type Work<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<(bool, T)>> + Send + 'a>>;

async fn hide(transaction: &mut Transaction, deletion: &Deletion, named: &BTreeSet<InstanceId>) -> Result<(bool, Hid)> {
    let dialect = transaction.dialect();
    lock(transaction, &deletion.scope).await?;
    let rows = transaction.fetch_each(vec![in_scope(&deletion.scope, "i.id, i.series_id, i.study_id")]).await?;
    let mut series = BTreeSet::new();
    let mut studies = BTreeSet::new();
    let mut found = BTreeSet::new();
    for row in rows.iter().flatten() {
        found.insert(InstanceId(row.integer(0)?));
        series.insert(row.integer(1)?);
        studies.insert(row.integer(2)?);
    }
    if found != *named {
        return Ok((false, Hid::Changed));
    }
    let inserted = transaction.fetch_each(vec![insert(deletion)]).await?;
    let id =
        inserted.iter().flatten().next().ok_or_else(|| Error::internal("an insert returned no row"))?.integer(0)?;
    let mut statements = vec![hide_rows(dialect, deletion.at, id, found.iter().map(|id| id.0).collect())];
    statements.extend(recounts(dialect, &series, &studies));
    transaction.fetch_each(statements).await?;
    Ok((true, Hid::Instances(found.len() as u64)))
}

async fn adopt(
    transaction: &mut Transaction,
    deletion: &Deletion,
    objects: Vec<(InstanceUid, String)>,
) -> Result<(bool, u64)> {
    let dialect = transaction.dialect();
    lock(transaction, &deletion.scope).await?;
    let known = Statement::new("select id from deletions where uuid = $1").with(deletion.id.to_string());
    let known = transaction.fetch_each(vec![known]).await?;
    let id = match known.iter().flatten().next() {
        Some(row) => row.integer(0)?,
        None => match transaction.fetch_each(vec![insert(deletion)]).await?.iter().flatten().next() {
            Some(row) => row.integer(0)?,
            None => return Err(Error::internal("an insert returned no row")),
        },
    };
    let (uids, locations): (Vec<String>, BTreeSet<String>) =
        objects.into_iter().map(|(uid, location)| (uid.to_string(), location)).unzip();
    let rows = Statement::new(format!(
        "select id, series_id, study_id, location from instances where partition_id = $1 and sop_instance_uid {} \
         and hidden in (0, 3)",
        dialect.any(2)
    ));
    let rows = transaction.fetch_each(vec![rows.with(MAIN_PARTITION).with(uids)]).await?;
    let (mut ids, mut series, mut studies) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for row in rows.iter().flatten() {
        if locations.contains(row.text(3)?) {
            ids.push(row.integer(0)?);
            series.insert(row.integer(1)?);
            studies.insert(row.integer(2)?);
        }
    }
    let hidden = ids.len() as u64;
    let mut statements = vec![hide_rows(dialect, deletion.at, id, ids)];
    statements.extend(recounts(dialect, &series, &studies));
    transaction.fetch_each(statements).await?;
    Ok((true, hidden))
}

fn hide_rows(dialect: Dialect, at: i64, deletion: i64, rows: Vec<i64>) -> Statement {
    Statement::new(format!(
        "update instances set hidden = $1, hidden_at = $2, deletion_id = $3 where id {} and hidden in (0, 3)",
        dialect.any(4)
    ))
    .with(Hidden::Deleted.code())
    .with(at)
    .with(deletion)
    .with(rows)
}

fn insert(deletion: &Deletion) -> Statement {
    let (series_uid, instance_uid) = parts(&deletion.scope);
    Statement::new(
        "insert into deletions (uuid, partition_id, study_uid, series_uid, sop_instance_uid, deleted_at, who, reason) \
         values ($1, $2, $3, $4, $5, $6, $7, $8) returning id",
    )
    .with(deletion.id.to_string())
    .with(MAIN_PARTITION)
    .with(deletion.scope.study().as_str())
    .with(series_uid.map(SeriesUid::as_str))
    .with(instance_uid.map(InstanceUid::as_str))
    .with(deletion.at)
    .with(deletion.who.replace('\0', ""))
    .with(deletion.reason.replace('\0', ""))
}

fn recounts(dialect: Dialect, series: &BTreeSet<i64>, studies: &BTreeSet<i64>) -> Vec<Statement> {
    let now = clock::unix_millis();
    let series = series.iter().map(|series| recount_series(*series, now));
    series.chain(studies.iter().map(|study| recount_study(dialect, *study, now))).collect()
}

/// Holds up whoever stores into the study of a scope.
async fn lock(transaction: &mut Transaction, scope: &Scope) -> Result<()> {
    if transaction.dialect() == Dialect::Postgres {
        let study = Statement::new("select id from studies where partition_id = $1 and study_uid = $2 for update")
            .with(MAIN_PARTITION)
            .with(scope.study().as_str());
        let series = Statement::new(
            "select s.id from series s join studies t on t.id = s.study_id \
             where t.partition_id = $1 and t.study_uid = $2 order by s.series_uid for update of s",
        )
        .with(MAIN_PARTITION)
        .with(scope.study().as_str());
        transaction.fetch_each(vec![study, series]).await?;
    }
    Ok(())
}

/// An instance of a deletion that is to be taken back.
struct Lost {
    id: i64,
    uid: String,
    series: i64,
    study: i64,
}

async fn restore(transaction: &mut Transaction, deletion_id: Uuid) -> Result<(bool, Restored)> {
    let dialect = transaction.dialect();
    let find = Statement::new(format!("select {DELETION}, id from deletions where uuid = $1"));
    let found = transaction.fetch_each(vec![find.with(deletion_id.to_string())]).await?;
    let Some(row) = found.iter().flatten().next() else { return Ok((false, Restored::default())) };
    let (deletion, id) = (deletion(row)?, row.integer(7)?);
    lock(transaction, &deletion.scope).await?;
    let lost = Statement::new(
        "select id, sop_instance_uid, series_id, study_id from instances \
         where deletion_id = $1 and hidden = 1 order by sop_instance_uid, version desc, received_at desc",
    );
    let seen = Statement::new(
        "select i.sop_instance_uid from instances d join instances i on i.partition_id = d.partition_id \
         and i.sop_instance_uid = d.sop_instance_uid and i.hidden = 0 where d.deletion_id = $1",
    );
    let rows = transaction.fetch_each(vec![lost.with(id), seen.with(id)]).await?;
    let [lost, seen] = rows.as_slice() else { return Err(Error::internal("two statements had other answers")) };
    let seen = seen.iter().map(|row| row.text(0)).collect::<Result<BTreeSet<_>>>()?;
    let lost = lost.iter().map(self::lost).collect::<Result<Vec<_>>>()?;
    let (taken, back): (Vec<_>, Vec<_>) = lost.into_iter().partition(|one| seen.contains(one.uid.as_str()));
    // the newest version of each comes first
    let mut of_uid: HashMap<&str, Hidden> = HashMap::new();
    let mut states: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for one in &back {
        let state = *of_uid.entry(&one.uid).and_modify(|state| *state = Hidden::Kept).or_insert(Hidden::No);
        states.entry(state.code()).or_default().push(one.id);
    }
    let mut statements = Vec::new();
    for (state, ids) in states {
        let text = format!(
            "update instances set hidden = $1, hidden_at = null, deletion_id = null where id {}",
            dialect.any(2)
        );
        statements.push(Statement::new(text).with(state).with(ids));
    }
    let series = back.iter().map(|one| one.series).collect();
    let studies = back.iter().map(|one| one.study).collect();
    statements.extend(recounts(dialect, &series, &studies));
    if taken.is_empty() {
        let forget = "delete from deletions where id = $1 and not exists \
                      (select 1 from instances where deletion_id = deletions.id)";
        statements.push(Statement::new(forget).with(id));
    }
    transaction.fetch_each(statements).await?;
    Ok((true, Restored { instances: back.len() as u64, taken: taken.len() as u64 }))
}

fn lost(row: &Row) -> Result<Lost> {
    Ok(Lost { id: row.integer(0)?, uid: row.text(1)?.to_owned(), series: row.integer(2)?, study: row.integer(3)? })
}

/// The rows of a scope that a deletion hides.
fn in_scope(scope: &Scope, columns: &str) -> Statement {
    let (series, instance) = parts(scope);
    let mut statement = Statement::new(format!(
        "select {columns} from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
         where t.partition_id = $1 and t.study_uid = $2 and i.hidden in (0, 3)"
    ))
    .with(MAIN_PARTITION)
    .with(scope.study().as_str());
    if let Some(series) = series {
        statement.push(" and s.series_uid = ").push_bind(series.as_str());
    }
    if let Some(instance) = instance {
        statement.push(" and i.sop_instance_uid = ").push_bind(instance.as_str());
    }
    statement
}

fn parts(scope: &Scope) -> (Option<&SeriesUid>, Option<&InstanceUid>) {
    match scope {
        Scope::Study(_) => (None, None),
        Scope::Series(_, series) => (Some(series), None),
        Scope::Instance(key) => (Some(&key.series), Some(&key.instance)),
    }
}

/// The columns of [`Deletion`].
const DELETION: &str = "uuid, study_uid, series_uid, sop_instance_uid, deleted_at, who, reason";

fn deletion(row: &Row) -> Result<Deletion> {
    fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::internal("the row of a deletion is damaged").caused_by(cause)
    }
    let study = StudyUid::parse(row.text(1)?).map_err(damaged)?;
    let series = row.optional_text(2)?.map(SeriesUid::parse).transpose().map_err(damaged)?;
    let instance = row.optional_text(3)?.map(InstanceUid::parse).transpose().map_err(damaged)?;
    Ok(Deletion {
        id: Uuid::try_parse(row.text(0)?).map_err(damaged)?,
        scope: match (series, instance) {
            (None, _) => Scope::Study(study),
            (Some(series), None) => Scope::Series(study, series),
            (Some(series), Some(instance)) => Scope::Instance(InstanceKey { study, series, instance }),
        },
        at: row.integer(4)?,
        who: row.text(5)?.to_owned(),
        reason: row.text(6)?.to_owned(),
    })
}

pub(super) fn deletable(row: &Row) -> Result<Deletable> {
    Ok(Deletable { id: InstanceId(row.integer(0)?), location: row.text(1)?.to_owned() })
}
