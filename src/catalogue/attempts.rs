//! Storing requests that are under way: a row each, so that a sweep knows what may still become an instance.

use std::time::Duration;

use uuid::Uuid;

use super::Catalogue;
use super::dialect::Dialect;
use super::sql::Statement;
use crate::error::Result;

impl Catalogue {
    /// Registers a storing request before its first byte. Its objects are safe from the sweep until the lease has run out by the
    /// database's clock; [`Catalogue::insert_instances`] renews it.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn begin_attempt(&self, attempt: Uuid, lease: Duration) -> Result<()> {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 4);
        if let Some(writer) = &self.0.writer {
            return writer.begin_attempt(attempt, lease).await;
        }
        let statement = Statement::new(begin(Dialect::Postgres)).with(attempt.to_string()).with(lease);
        self.run(statement).await
    }

    /// Forgets a storing request that ends without a last [`Catalogue::insert_instances`].
    ///
    /// # Errors
    /// `Unavailable` when the database is; the lease then runs out by itself.
    pub async fn end_attempt(&self, attempt: Uuid) -> Result<()> {
        if let Some(writer) = &self.0.writer {
            return writer.end_attempt(attempt).await;
        }
        self.run(Statement::new(END_POSTGRES).with(attempt.to_string())).await
    }

    /// A single statement commits by itself: one round trip.
    async fn run(&self, statement: Statement) -> Result<()> {
        self.0.database.read_all(statement).await.map(drop)
    }
}

/// Inserts an attempt ($1) with a lease ($2, milliseconds).
///
/// It is not made durable: when a crash loses it, the request is lost too, and what it left is found by the full sweep.
/// The commit of its instances demands that the row is there. (SQLite does the same by `pragma synchronous`.)
pub(super) fn begin(dialect: Dialect) -> String {
    let now = dialect.now_millis();
    match dialect {
        Dialect::Sqlite => {
            format!("insert into attempts (attempt, started_at, lease, lease_until) values ($1, {now}, $2, {now} + $2)")
        }
        Dialect::Postgres => format!(
            "with relaxed as materialized (select set_config('synchronous_commit', 'off', true)) \
             insert into attempts (attempt, started_at, lease, lease_until) select $1, {now}, $2, {now} + $2 from relaxed"
        ),
    }
}

/// Removes an attempt; as little durable as [`begin`].
const END_POSTGRES: &str = "with relaxed as materialized (select set_config('synchronous_commit', 'off', true)) \
     delete from attempts using relaxed where attempt = $1";

/// Removes an attempt.
pub(super) const END_SQLITE: &str = "delete from attempts where attempt = $1";
