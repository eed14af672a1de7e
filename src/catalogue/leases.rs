//! Leases: a row for each process that stores, so that a sweep knows which objects may still become instances.
//!
//! A sweep takes a lease that has run out by moving its row to `lapsed_leases`. A commit reads the row of its lease under a
//! lock that such a move waits for, and finds none afterwards. The lapsed lease stays known until what was left under it is
//! removed, however often a sweep is cut off.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use super::Catalogue;
use super::dialect::Dialect;
use super::insert::NotInserted;
use super::sql::{Row, Statement};
use crate::error::{Error, Result};

impl Catalogue {
    /// Registers a process before the first byte that it stores. Objects whose keys carry the id of the lease are safe from the
    /// sweep for `term` by the database's clock, so that it must be renewed.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn take_lease(&self, id: Uuid, term: Duration) -> Result<()> {
        let now = self.0.database.dialect().now_millis();
        let text = format!("insert into leases (id, started_at, term, expires_at) values ($1, {now}, $2, {now} + $2)");
        let term = i64::try_from(term.as_millis()).unwrap_or(i64::MAX / 4);
        self.0.database.write(Statement::new(text).with(id.to_string()).with(term)).await.map(drop)
    }

    /// Renews a lease by its term; false when it is gone, so that nothing can be stored under it any more.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn renew_lease(&self, id: Uuid) -> Result<bool> {
        let now = self.0.database.dialect().now_millis();
        let text = format!("update leases set expires_at = {now} + term where id = $1");
        self.0.database.write(Statement::new(text).with(id.to_string())).await.map(|renewed| renewed > 0)
    }

    /// Gives a lease back, under which no object without a row is left.
    ///
    /// # Errors
    /// `Unavailable` when the database is; the lease then runs out by itself.
    pub async fn end_lease(&self, id: Uuid) -> Result<()> {
        self.0.database.write(Statement::new("delete from leases where id = $1").with(id.to_string())).await.map(drop)
    }
}

/// What a sweep asks for and does.
impl Catalogue {
    /// The leases that have run out, but are still held: their processes may renew them.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn expired_leases(&self) -> Result<Vec<Uuid>> {
        let now = self.0.database.dialect().now_millis();
        let text = format!("select id from leases where expires_at <= {now} order by id");
        ids(&self.0.database.read_all(Statement::new(text)).await?)
    }

    /// Takes a lease that has run out, unless it was renewed or given back meanwhile: nothing is stored under it from then on.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn lapse_lease(&self, id: Uuid) -> Result<bool> {
        let database = self.0.database.clone();
        let lapse = async move {
            let now = database.dialect().now_millis();
            let take = format!("delete from leases where id = $1 and expires_at <= {now} returning id");
            let keep =
                format!("insert into lapsed_leases (id, lapsed_at) values ($1, {now}) on conflict (id) do nothing");
            let [take, keep] = [take, keep].map(|text| Statement::new(text).with(id.to_string()));
            let mut transaction = database.begin().await?;
            if transaction.fetch_each(vec![take]).await?.iter().flatten().next().is_none() {
                return Ok(false);
            }
            transaction.commit_with(vec![keep.into()]).await.map_err(NotInserted::into_error)?;
            Ok(true)
        };
        self.0.database.spawn(lapse).await
    }

    /// The leases that sweeps took and under which objects without a row may be left.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn lapsed_leases(&self) -> Result<Vec<Uuid>> {
        ids(&self.0.database.read_all(Statement::new("select id from lapsed_leases order by id")).await?)
    }

    /// Forgets a lapsed lease under which nothing without a row is left.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn forget_lapsed_lease(&self, id: Uuid) -> Result<()> {
        let statement = Statement::new("delete from lapsed_leases where id = $1").with(id.to_string());
        self.0.database.write(statement).await.map(drop)
    }

    /// Which of these leases are held. What is not held now will never be again: rows that are asked for afterwards are all
    /// that name objects under it.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn leases_held(&self, leases: &HashSet<Uuid>) -> Result<HashSet<Uuid>> {
        let leases: Vec<String> = leases.iter().map(Uuid::to_string).collect();
        let statement = Statement::new(format!("select id from leases where id {}", self.0.database.dialect().any(1)));
        let rows = self.0.database.read_all(statement.with(leases)).await?;
        Ok(ids(&rows)?.into_iter().collect())
    }
}

fn ids(rows: &[Row]) -> Result<Vec<Uuid>> {
    let id = |row: &Row| {
        Uuid::try_parse(row.text(0)?)
            .map_err(|error| Error::internal("a lease in the index is damaged").caused_by(error))
    };
    rows.iter().map(id).collect()
}

/// Which of these leases are held. The sweep cannot take one of them until the transaction has ended.
pub(super) fn held(dialect: Dialect, leases: Vec<String>) -> Statement {
    let lock = match dialect {
        // who writes has the database for itself
        Dialect::Sqlite => "",
        Dialect::Postgres => " for key share",
    };
    Statement::new(format!("select id from leases where id {}{lock}", dialect.any(1))).with(leases)
}
