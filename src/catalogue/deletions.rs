//! Deleting: instances are hidden in one transaction, can be taken back until they are erased, and are told of ever after.
//!
//! Rows are locked in the order in which storing locks them: the study, its series, its instances. A study and its series keep
//! their rows, with a count of none, so that what is taken back finds its place.

use std::collections::BTreeSet;

use uuid::{NoContext, Timestamp, Uuid};

use super::database::Database;
use super::dialect::Dialect;
use super::failure::Raced;
use super::hidden::{Hidden, recount_series, recount_study};
use super::insert::NotInserted;
use super::instances::InstanceId;
use super::metadata::Dictionaries;
use super::sql::{Row, Statement};
use super::telling::count_anew;
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
    /// When that was received, in milliseconds since 1970-01-01 UTC.
    pub received_at: i64,
}

/// How hiding came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hid {
    /// So many instances are hidden now, older versions included.
    Instances(u64),
    /// Others than were named would have been hidden: nothing changed.
    Changed,
}

impl Catalogue {
    /// The instances that a deletion of this scope would hide, older versions included.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn deletable(&self, scope: &Scope) -> Result<Vec<Deletable>> {
        let mut found = Vec::new();
        for statement in in_scope(scope, "i.id, i.location, i.received_at") {
            let rows = self.database().read_all(statement).await?;
            found.extend(rows.iter().map(deletable).collect::<Result<Vec<_>>>()?);
        }
        Ok(found)
    }

    /// The storage keys of the contents that were replaced under the UIDs of a scope.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn replaced_in(&self, scope: &Scope) -> Result<Vec<String>> {
        let mut replaced = Statement::new(
            "select r.location from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
             join instances r on r.partition_id = i.partition_id and r.sop_instance_uid = i.sop_instance_uid \
             and r.hidden <> 0 and (r.hidden = 2 or r.hidden = 4 and r.deletion_id is null) \
             where t.partition_id = $1 and t.study_uid = $2 and i.hidden in (0, 3)",
        )
        .with(MAIN_PARTITION)
        .with(scope.study().as_str());
        narrow(&mut replaced, scope);
        let rows = self.database().read_all(replaced).await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// The id of an event that is after all that this index knows of, whatever the clock says; a UUIDv7.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn next_event(&self) -> Result<Uuid> {
        let last = Statement::new(
            "select max(uuid) from (select max(uuid) as uuid from deletions union all select max(uuid) from restores) e",
        );
        let last = self.database().read_optional(last).await?;
        let last = last.as_ref().and_then(|row| row.optional_text(0).transpose()).transpose()?;
        let last = last.map(Uuid::try_parse).transpose().map_err(damaged)?.and_then(|last| last.get_timestamp());
        let after = |(seconds, nanos): (u64, u32)| {
            seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000)) + 1
        };
        let now = u64::try_from(clock::unix_millis()).unwrap_or_default();
        let at = last.map_or(now, |last| now.max(after(last.to_unix())));
        let nanos = u32::try_from(at % 1000).unwrap_or_default() * 1_000_000;
        Ok(Uuid::new_v7(Timestamp::from_unix(NoContext, at / 1000, nanos)))
    }

    /// Hides the instances of a scope, if they are those named. On `Ok` it is durable, and whoever asks from now on does not
    /// see them.
    ///
    /// # Errors
    /// `InDoubt` when it may have come about, else nothing changed.
    pub async fn hide(&self, deletion: &Deletion, named: &[Deletable]) -> Result<Hid, NotInserted> {
        let (deletion, named): (_, Named) =
            (deletion.clone(), named.iter().map(|one| (one.id, one.location.clone())).collect());
        let dictionaries = self.0.dictionaries.clone();
        self.attempt(move |transaction| {
            let (deletion, named, dictionaries) = (deletion.clone(), named.clone(), dictionaries.clone());
            Box::pin(async move { hide(transaction, &dictionaries, &deletion, &named).await })
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

    /// Runs what a transaction does, and again when another process was faster; commits if it says so.
    pub(super) async fn transact<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Transaction) -> Work<'a, T> + Send + Sync + 'static,
    {
        self.attempt(work).await.map_err(NotInserted::into_error)
    }

    /// The same, and tells failures after which nothing changed from those after which nobody knows.
    pub(super) async fn attempt<T, F>(&self, work: F) -> Result<T, NotInserted>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Transaction) -> Work<'a, T> + Send + Sync + 'static,
    {
        let database = self.database().clone();
        // the task ends without an answer when the server does
        let run = async move { Ok(attempt(&database, work).await) };
        self.database().spawn(run).await.map_err(NotInserted::InDoubt)?
    }
}

async fn attempt<T, F>(database: &Database, work: F) -> Result<T, NotInserted>
where
    F: for<'a> Fn(&'a mut Transaction) -> Work<'a, T> + Send + Sync,
{
    const TRIES: u32 = 8;
    let mut tries = 1;
    loop {
        let mut transaction = database.begin().await?;
        let done = match work(&mut transaction).await {
            Ok((true, value)) => transaction.commit_with(Vec::new()).await.map(|()| value),
            Ok((false, value)) => return Ok(value),
            Err(error) => Err(NotInserted::Failed(error)),
        };
        match done {
            Err(NotInserted::Failed(error)) if tries < TRIES && super::failure::is_conflict(&error) => tries += 1,
            done => return done,
        }
    }
}

/// What is done within a transaction: whether to commit it, and the result.
pub(super) type Work<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<(bool, T)>> + Send + 'a>>;

/// Rows and the objects that they name: an object that came again may take the place of one that was lost.
type Named = BTreeSet<(InstanceId, String)>;

async fn hide(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    deletion: &Deletion,
    named: &Named,
) -> Result<(bool, Hid)> {
    lock(transaction, &deletion.scope, Vec::new()).await?;
    // `reindex` was told of it, and did what it could
    let known = is_known(transaction, deletion).await?;
    let columns = "i.id, i.series_id, i.study_id, i.hidden, i.location";
    let rows = transaction.fetch_each(in_scope(&deletion.scope, columns)).await?;
    let found = rows.iter().flatten().map(|row| Ok((InstanceId(row.integer(0)?), row.text(4)?.to_owned())));
    let found = found.collect::<Result<Named>>()?;
    if found != *named && !(known && found.is_subset(named)) {
        return Ok((false, Hid::Changed));
    }
    let rows = rows.iter().flatten().map(place).collect::<Result<Vec<_>>>()?;
    let id = make_known(transaction, deletion).await?;
    hide_rows(transaction, dictionaries, deletion.at, id, &rows).await?;
    Ok((true, Hid::Instances(named.len() as u64)))
}

/// A row of an instance and where it belongs.
struct Place {
    id: i64,
    series: i64,
    study: i64,
    hidden: i64,
}

fn place(row: &Row) -> Result<Place> {
    Ok(Place { id: row.integer(0)?, series: row.integer(1)?, study: row.integer(2)?, hidden: row.integer(3)? })
}

async fn is_known(transaction: &mut Transaction, deletion: &Deletion) -> Result<bool> {
    let find = Statement::new("select id from deletions where uuid = $1").with(deletion.id.to_string());
    Ok(transaction.fetch_each(vec![find]).await?.iter().flatten().next().is_some())
}

/// Makes a deletion known, if it is not; the id of its row.
pub(super) async fn make_known(transaction: &mut Transaction, deletion: &Deletion) -> Result<i64> {
    let inserted = transaction.fetch_each(vec![insert(deletion)]).await?;
    inserted.iter().flatten().next().ok_or_else(|| Error::internal("an insert returned no row"))?.integer(0)
}

/// Hides rows, all of them or none; where one could be seen, study and series say what is left.
async fn hide_rows(
    transaction: &mut Transaction,
    dictionaries: &Dictionaries,
    at: i64,
    deletion: i64,
    rows: &[Place],
) -> Result<()> {
    let dialect = transaction.dialect();
    let hide = Statement::new(format!(
        "update instances set hidden = $1, hidden_at = $2, deletion_id = $3 where id {} and hidden in (0, 3) returning id",
        dialect.any(4)
    ))
    .with(Hidden::Deleted.code())
    .with(at)
    .with(deletion)
    .with(rows.iter().map(|row| row.id).collect::<Vec<_>>());
    let hidden = transaction.fetch_each(vec![hide]).await?;
    if hidden.iter().flatten().count() != rows.len() {
        return Err(Raced::error());
    }
    // an older version is not counted, and may be of a study that is not locked
    let seen = || rows.iter().filter(|row| row.hidden == Hidden::No.code());
    let (series, studies) = (seen().map(|row| row.series).collect(), seen().map(|row| row.study).collect());
    count_anew(transaction, dictionaries, &series, &studies).await
}

/// Makes a deletion known if it is not, and holds up whoever else does; gives its id.
pub(super) fn insert(deletion: &Deletion) -> Statement {
    let (series_uid, instance_uid) = parts(&deletion.scope);
    Statement::new(
        "insert into deletions (uuid, partition_id, study_uid, series_uid, sop_instance_uid, deleted_at, who, reason) \
         values ($1, $2, $3, $4, $5, $6, $7, $8) \
         on conflict (uuid) do update set deleted_at = deletions.deleted_at returning id",
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

pub(super) fn recounts(dialect: Dialect, series: &BTreeSet<i64>, studies: &BTreeSet<i64>) -> Vec<Statement> {
    let now = clock::unix_millis();
    let series = series.iter().map(|series| recount_series(*series, now));
    series.chain(studies.iter().map(|study| recount_study(dialect, *study, now))).collect()
}

/// Holds up whoever stores into the study of a scope, or into these.
pub(super) async fn lock(transaction: &mut Transaction, scope: &Scope, also: Vec<i64>) -> Result<()> {
    if transaction.dialect() == Dialect::Postgres {
        let those = "where (t.partition_id = $1 and t.study_uid = $2) or t.id = any($3)";
        let study = format!("select t.id from studies t {those} order by t.study_uid for update");
        let series = format!(
            "select s.id from series s join studies t on t.id = s.study_id {those} \
             order by t.study_uid, s.series_uid for update of s"
        );
        let statement =
            |text| Statement::new(text).with(MAIN_PARTITION).with(scope.study().as_str()).with(also.clone());
        transaction.fetch_each([study, series].map(statement).into()).await?;
    }
    Ok(())
}

/// The rows of a scope that a deletion hides. With an instance go its older versions, wherever they lie: one that was sent again
/// under another study left the first one there.
fn in_scope(scope: &Scope, columns: &str) -> Vec<Statement> {
    let mut statement = Statement::new(format!(
        "select {columns} from instances i join series s on s.id = i.series_id join studies t on t.id = i.study_id \
         where t.partition_id = $1 and t.study_uid = $2 and i.hidden in (0, 3)"
    ))
    .with(MAIN_PARTITION)
    .with(scope.study().as_str());
    narrow(&mut statement, scope);
    let mut statements = vec![statement];
    if let Scope::Instance(key) = scope {
        let elsewhere = Statement::new(format!(
            "select {columns} from instances v join series s on s.id = v.series_id join studies t on t.id = v.study_id \
             join instances i on i.partition_id = v.partition_id and i.sop_instance_uid = v.sop_instance_uid \
             and i.hidden <> 0 and i.hidden = 3 and i.series_id <> v.series_id \
             where v.partition_id = $1 and v.sop_instance_uid = $2 and v.hidden = 0 \
             and t.study_uid = $3 and s.series_uid = $4"
        ));
        let elsewhere = elsewhere.with(MAIN_PARTITION).with(key.instance.as_str());
        statements.push(elsewhere.with(key.study.as_str()).with(key.series.as_str()));
    }
    statements
}

/// Narrows a statement over instances `i` of series `s` down to those of the series or the instance.
fn narrow(statement: &mut Statement, scope: &Scope) {
    let (series, instance) = parts(scope);
    if let Some(series) = series {
        statement.push(" and s.series_uid = ").push_bind(series.as_str());
    }
    if let Some(instance) = instance {
        statement.push(" and i.sop_instance_uid = ").push_bind(instance.as_str());
    }
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

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("the row of a deletion is damaged").caused_by(cause)
}

fn deletion(row: &Row) -> Result<Deletion> {
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
    Ok(Deletable { id: InstanceId(row.integer(0)?), location: row.text(1)?.to_owned(), received_at: row.integer(2)? })
}
