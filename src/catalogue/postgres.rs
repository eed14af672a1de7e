//! A connection to PostgreSQL of which no network can make a request wait for ever.
//!
//! PostgreSQL ends a statement that runs for too long, but not one whose answer is lost on the way: a firewall that forgot the
//! connection, or a machine that vanished, says nothing at all. So each answer is waited for, but not longer than
//! PostgreSQL could take; and a connection that owes one is closed and never used again.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use super::failure::{convert, timed_out};
use super::sql::Row;
use crate::error::{Error, Result};

/// A connection of the pool. Dropped, it goes back there, and what it had begun and not committed is rolled back.
pub(super) struct Connection {
    inner: Option<PoolConnection<Postgres>>,
    /// How long an answer may take.
    patience: Duration,
    /// An answer is due: set while one is waited for, so that it stays when the wait is given up.
    owes: bool,
    in_transaction: bool,
}

impl Connection {
    /// Takes a connection from the pool, which has a time limit of its own.
    pub(super) async fn acquire(pool: &PgPool, patience: Duration) -> Result<Self> {
        let inner = pool.acquire().await.map_err(convert)?;
        Ok(Self { inner: Some(inner), patience, owes: false, in_transaction: false })
    }

    /// Runs a statement; all rows.
    pub(super) async fn fetch_all(&mut self, query: Query<'static, Postgres, PgArguments>) -> Result<Vec<Row>> {
        let patience = self.patience;
        let rows = query.fetch(self.ask()?).map_ok(Row::Postgres).try_collect();
        let answer = timeout(patience, rows).await;
        self.answered(answer)
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(&mut self, query: Query<'static, Postgres, PgArguments>) -> Result<u64> {
        let patience = self.patience;
        let answer = timeout(patience, query.execute(self.ask()?)).await;
        self.answered(answer).map(|done| done.rows_affected())
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.in_transaction = true;
        self.say("begin").await
    }

    /// Commits it. After an error it may have been committed or not, unless that says which.
    pub(super) async fn commit(&mut self) -> Result<()> {
        self.say("commit").await?;
        self.in_transaction = false;
        Ok(())
    }

    async fn say(&mut self, words: &'static str) -> Result<()> {
        let patience = self.patience;
        let answer = timeout(patience, sqlx::raw_sql(words).execute(self.ask()?)).await;
        self.answered(answer).map(drop)
    }

    fn ask(&mut self) -> Result<&mut PgConnection> {
        self.owes = true;
        self.inner.as_deref_mut().ok_or_else(|| Error::internal("a connection was used after its end"))
    }

    fn answered<T>(&mut self, answer: Result<sqlx::Result<T>, tokio::time::error::Elapsed>) -> Result<T> {
        let answer = answer.map_err(|_| timed_out("no answer in time"))?;
        self.owes = false;
        answer.map_err(convert)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut connection) = self.inner.take() else { return };
        // also when what follows is given up
        connection.close_on_drop();
        if self.owes {
            return;
        }
        let in_transaction = self.in_transaction;
        let give_back = async move {
            // the pool tries a connection that comes back, and finds one that is broken
            if !in_transaction || sqlx::raw_sql("rollback").execute(&mut *connection).await.is_ok() {
                connection.return_to_pool().await;
            }
        };
        tokio::spawn(timeout(self.patience, give_back));
    }
}
