//! Erasing hidden instances for good: which rows are due, and forgetting them when their objects are gone.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Catalogue;
use super::deletions::{Deletable, deletable};
use super::dialect::Dialect;
use super::instances::InstanceId;
use super::sql::{Row, Statement};
use crate::error::{Error, Result};

/// The row of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionId(i64);

impl Catalogue {
    /// Instances that were taken to be erased and are not forgotten, by id after one: those that a run left.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn taken_erasable(&self, after: Option<InstanceId>, most: i64) -> Result<Vec<Deletable>> {
        let left = Statement::new(
            "select id, location, received_at from instances where hidden <> 0 and hidden = 4 and id > $1 order by id limit $2",
        );
        let rows = self.database().read_all(left.with(after.map_or(0, |id| id.0)).with(most)).await?;
        rows.iter().map(deletable).collect()
    }

    /// The deletions that hide instances whose time is over: their rows and ids.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn due_deletions(&self, hidden_before: i64) -> Result<Vec<(DeletionId, Uuid)>> {
        let due = Statement::new(
            "select distinct d.id, d.uuid from instances i join deletions d on d.id = i.deletion_id \
             where i.hidden = 1 and i.hidden_at <= $1 and i.hidden <> 0 order by d.id",
        );
        let rows = self.database().read_all(due.with(hidden_before)).await?;
        let damaged = |error| Error::internal("a deletion in the index is damaged").caused_by(error);
        let deletion = |row: &Row| Ok((DeletionId(row.integer(0)?), Uuid::try_parse(row.text(1)?).map_err(damaged)?));
        rows.iter().map(deletion).collect()
    }

    /// Whether a deletion hides any of these objects.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn hides_any(&self, deletion: DeletionId, locations: Vec<String>) -> Result<bool> {
        let any = self.database().dialect().any(2);
        let text = format!("select 1 from instances where deletion_id = $1 and location {any} and hidden = 1 limit 1");
        let rows = self.database().read_optional(Statement::new(text).with(deletion.0).with(locations)).await?;
        Ok(rows.is_some())
    }

    /// Takes hidden instances whose time is over and that no deletion hides or one of these, so that nothing brings them back:
    /// their objects are to be erased, and then their rows with [`Catalogue::forget_instances`].
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn take_erasable(
        &self,
        hidden_before: i64,
        deletions: Vec<DeletionId>,
        most: i64,
    ) -> Result<Vec<Deletable>> {
        let deletions: Vec<i64> = deletions.into_iter().map(|deletion| deletion.0).collect();
        let due = format!(
            "update instances set hidden = 4 where id in (select id from instances \
             where hidden in (1, 2) and hidden_at <= $1 and (deletion_id is null or deletion_id {}) \
             order by hidden_at limit $3) and hidden in (1, 2) returning id, location, received_at",
            self.database().dialect().any(2)
        );
        let due = Statement::new(due).with(hidden_before).with(deletions).with(most);
        self.transact(move |transaction| {
            let due = due.clone();
            Box::pin(async move {
                let rows = transaction.fetch_each(vec![due]).await?;
                let taken = rows.iter().flatten().map(deletable).collect::<Result<Vec<_>>>()?;
                Ok((!taken.is_empty(), taken))
            })
        })
        .await
    }

    /// How many hidden instances' time is over, and the bytes of their objects.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn erasable(&self, hidden_before: i64) -> Result<(u64, u64)> {
        let count = Statement::new(
            "select count(*), cast(coalesce(sum(size), 0) as bigint) from instances \
             where hidden <> 0 and (hidden = 4 or (hidden in (1, 2) and hidden_at <= $1))",
        );
        let row = self.database().read_optional(count.with(hidden_before)).await?;
        row.map_or(Ok((0, 0)), |row| Ok((row.count(0)?, row.count(1)?)))
    }

    /// Forgets instances whose objects are erased, and the series and studies of which nothing is left.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn forget_instances(&self, instances: &[InstanceId]) -> Result<()> {
        let ids: Vec<i64> = instances.iter().map(|id| id.0).collect();
        let dialect = self.database().dialect();
        self.transact(move |transaction| {
            let ids = ids.clone();
            Box::pin(async move {
                let any = dialect.any(1);
                let blocks =
                    Statement::new(format!("delete from frame_blocks where instance_id {any}")).with(ids.clone());
                let text = format!("delete from instances where id {any} and hidden = 4 returning series_id, study_id");
                let gone = transaction.fetch_each(vec![blocks, Statement::new(text).with(ids)]).await?;
                let mut series = BTreeSet::new();
                let mut studies = BTreeSet::new();
                for row in gone.iter().flatten() {
                    series.insert(row.integer(0)?);
                    studies.insert(row.integer(1)?);
                }
                transaction.fetch_each(forget_empty(dialect, series, studies)).await?;
                Ok((true, ()))
            })
        })
        .await
    }
}

/// The rows of a series of ids that hold nothing any more. A count of none is looked at under the lock of the row: whoever stores
/// counts first.
fn forget_empty(dialect: Dialect, series: BTreeSet<i64>, studies: BTreeSet<i64>) -> Vec<Statement> {
    let any = dialect.any(1);
    let series: Vec<i64> = series.into_iter().collect();
    let studies: Vec<i64> = studies.into_iter().collect();
    vec![
        Statement::new(format!(
            "delete from series where id {any} and instance_count = 0 \
             and not exists (select 1 from instances where series_id = series.id)"
        ))
        .with(series.clone()),
        // the dictionary of a series has its id
        Statement::new(format!(
            "delete from metadata_dictionaries where id {any} \
             and not exists (select 1 from series where series.id = metadata_dictionaries.id)"
        ))
        .with(series),
        Statement::new(format!(
            "delete from studies where id {any} and instance_count = 0 \
             and not exists (select 1 from series where study_id = studies.id)"
        ))
        .with(studies),
    ]
}
