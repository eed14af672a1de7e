//! Leases: a row for each process that stores, so that a sweep knows which objects may still become instances.

use std::time::Duration;

use uuid::Uuid;

use super::Catalogue;
use super::dialect::Dialect;
use super::sql::Statement;
use crate::error::Result;

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

/// Which of these leases are held. The sweep cannot take one of them until the transaction has ended.
pub(super) fn held(dialect: Dialect, leases: Vec<String>) -> Statement {
    let lock = match dialect {
        // who writes has the database for itself
        Dialect::Sqlite => "",
        Dialect::Postgres => " for key share",
    };
    Statement::new(format!("select id from leases where id {}{lock}", dialect.any(1))).with(leases)
}
