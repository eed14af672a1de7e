//! The connections to the database, and running statements over them: SQLite or PostgreSQL behind one enum.
//!
//! Callers are futures of any runtime (each actix worker has one of its own); what drives a socket of PostgreSQL is spawned
//! on the runtime that opened the catalogue, which outlives the workers. SQLite's connections have threads of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{PgPool, SqlitePool};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::dialect::Dialect;
use super::failure::{convert, timed_out};
use super::postgres::Connection;
use super::sql::{Row, Statement};
use super::transaction::{SqliteTransaction, Transaction};
use crate::error::{Error, Result};

/// The connections.
#[derive(Clone)]
pub(in crate::catalogue) struct Database {
    pub(super) pools: Pools,
    /// Where it is, for messages to the operator; without password.
    pub(super) place: Arc<str>,
    /// The runtime that opened the catalogue.
    pub(super) runtime: Handle,
    /// How long one statement may run. PostgreSQL enforces it by itself.
    pub(super) statement_timeout: Duration,
    /// How long PostgreSQL may be silent: longer than a statement may run.
    pub(super) patience: Duration,
}

#[derive(Clone)]
pub(super) enum Pools {
    /// One connection that writes and several that only read.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

impl Database {
    /// Which one it is.
    pub(in crate::catalogue) fn dialect(&self) -> Dialect {
        match self.pools {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement that reads; all rows.
    pub(in crate::catalogue) async fn read_all(&self, statement: Statement) -> Result<Vec<Row>> {
        match &self.pools {
            Pools::Sqlite { readers, .. } => {
                let rows = statement.sqlite()?.fetch(readers).map_ok(Row::Sqlite).map_err(convert).try_collect();
                let limited = tokio::time::timeout(self.statement_timeout, rows).await;
                limited.map_err(|_| timed_out("the statement took too long"))?
            }
            Pools::Postgres(pool) => {
                let query = statement.postgres()?;
                let pool = pool.clone();
                let patience = self.patience;
                self.spawn(async move { Connection::acquire(&pool, patience).await?.fetch_all(query).await }).await
            }
        }
    }

    /// Runs a statement that reads; its one row or none.
    pub(in crate::catalogue) async fn read_optional(&self, statement: Statement) -> Result<Option<Row>> {
        Ok(self.read_all(statement).await?.into_iter().next())
    }

    /// Runs a statement that writes, as a transaction of its own; how many rows it changed. On `Ok` the change is durable.
    pub(super) async fn write(&self, statement: Statement) -> Result<u64> {
        match &self.pools {
            Pools::Sqlite { writer, .. } => {
                statement.sqlite()?.execute(writer).await.map(|done| done.rows_affected()).map_err(convert)
            }
            Pools::Postgres(pool) => {
                let query = statement.postgres()?;
                let pool = pool.clone();
                let patience = self.patience;
                self.spawn(async move { Connection::acquire(&pool, patience).await?.execute(query).await }).await
            }
        }
    }

    /// Begins a transaction that writes. Dropped without commit it is rolled back.
    ///
    /// Of PostgreSQL it must be used within [`Database::spawn`].
    pub(super) async fn begin(&self) -> Result<Transaction> {
        match &self.pools {
            Pools::Sqlite { writer, .. } => {
                let connection = writer.acquire().await.map_err(convert)?;
                Ok(Transaction::Sqlite(SqliteTransaction::new(connection)))
            }
            Pools::Postgres(pool) => {
                let mut connection = Connection::acquire(pool, self.patience).await?;
                connection.begin().await?;
                Ok(Transaction::Postgres(connection))
            }
        }
    }

    /// Runs a future on the runtime of the catalogue. Dropping the result drops the future.
    pub(super) async fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        AbortOnDrop(self.runtime.spawn(future)).await
    }

    /// Runs a computation of more than half a millisecond off the threads that serve requests.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        AbortOnDrop(self.runtime.spawn_blocking(work)).await
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                // the last connection to close merges the write-ahead log into the database
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// A task that ends with the one who waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for AbortOnDrop<Result<T>> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|joined| match joined {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Err(Error::unavailable("the server is shutting down", error)),
            Err(error) => Err(Error::internal("a task of the index database panicked").caused_by(error)),
        })
    }
}
