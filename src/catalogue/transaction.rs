//! Transactions that write, in as few rounds as the database allows.
//!
//! A connection of SQLite is a thread, and each round to it costs two changes of threads, which is more than most statements
//! cost themselves. So statements that do not depend on each other's rows go together, the first ones with the
//! `begin` and the last ones with the `commit`. PostgreSQL gets them one by one.

use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::{Either, Executor as _, Sqlite};

use super::dialect::Dialect;
use super::failure::{Raced, convert, is_conflict};
use super::insert::NotInserted;
use super::postgres::Connection;
use super::sql::{Row, Statement};
use crate::error::{Error, Result};

/// A transaction. Dropped without a commit it is rolled back.
pub(super) enum Transaction {
    Sqlite(SqliteTransaction),
    Postgres(Connection),
}

/// A statement at the end of a transaction.
pub(super) struct Step {
    pub(super) statement: Statement,
    /// Rows that it changes unless another process was faster. Nobody is faster than a writer of SQLite, which has the
    /// database for itself from the first statement on.
    pub(super) changes: Option<u64>,
}

impl From<Statement> for Step {
    fn from(statement: Statement) -> Self {
        Self { statement, changes: None }
    }
}

impl Transaction {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs statements in order; the rows of each.
    pub(super) async fn fetch_each(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        match self {
            Self::Sqlite(transaction) => transaction.fetch_each(statements).await,
            Self::Postgres(connection) => {
                let mut rows = Vec::with_capacity(statements.len());
                for statement in statements {
                    rows.push(connection.fetch_all(statement.postgres()?).await?);
                }
                Ok(rows)
            }
        }
    }

    /// Runs statements in order and commits; on `Ok` the changes are durable.
    ///
    /// # Errors
    /// `Failed` because of [`Raced`] when a step changed fewer rows than it has to; `InDoubt` when the commit itself failed.
    pub(super) async fn commit_with(self, steps: Vec<Step>) -> Result<(), NotInserted> {
        match self {
            Self::Sqlite(transaction) => {
                transaction.commit_with(steps.into_iter().map(|step| step.statement).collect()).await
            }
            Self::Postgres(mut connection) => {
                for Step { statement, changes } in steps {
                    let changed = connection.execute(statement.postgres()?).await?;
                    if changes.is_some_and(|changes| changes != changed) {
                        return Err(Raced::error().into());
                    }
                }
                match connection.commit().await {
                    Err(error) if is_conflict(&error) => Err(NotInserted::Failed(error)),
                    committed => committed.map_err(NotInserted::InDoubt),
                }
            }
        }
    }
}

/// A transaction of SQLite's one writer. It begins with its first statements.
pub(super) struct SqliteTransaction {
    connection: PoolConnection<Sqlite>,
    open: bool,
}

impl SqliteTransaction {
    pub(super) fn new(connection: PoolConnection<Sqlite>) -> Self {
        Self { connection, open: false }
    }

    async fn fetch_each(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        let mut rows = Vec::with_capacity(statements.len());
        for round in rounds(statements) {
            let mut fetched: Vec<Vec<Row>> = round.iter().map(|_| Vec::new()).collect();
            self.run(round, "", &mut fetched).await.map_err(|(_, error)| error)?;
            rows.append(&mut fetched);
        }
        Ok(rows)
    }

    async fn commit_with(mut self, statements: Vec<Statement>) -> Result<(), NotInserted> {
        let mut rounds = rounds(statements);
        let last = rounds.pop().unwrap_or_default();
        for round in rounds {
            self.run(round, "", &mut []).await.map_err(|(_, error)| error)?;
        }
        let all = last.len();
        match self.run(last, "commit", &mut []).await {
            Ok(()) => {
                self.open = false;
                Ok(())
            }
            Err((done, error)) if done < all => Err(NotInserted::Failed(error)),
            Err((_, error)) => Err(NotInserted::InDoubt(error)),
        }
    }

    /// Runs the statements of a round and what ends them, and keeps the rows of each that has a place for them. An error comes
    /// with the number of statements that were done before.
    async fn run(
        &mut self,
        statements: Vec<Statement>,
        end: &str,
        rows: &mut [Vec<Row>],
    ) -> Result<(), (usize, Error)> {
        let mut script = Statement::default();
        // the statement that begins says that it is done like the others
        let before = usize::from(!self.open);
        if !self.open {
            // takes the lock here: a transaction that reads first and writes later fails at once when another process wrote
            // in between, whatever its busy timeout
            script.push("begin immediate; ");
        }
        for statement in statements {
            script.append(statement).map_err(|error| (0, error))?.push("; ");
        }
        script.push(end);
        self.open = true;
        let query = script.sqlite().map_err(|error| (0, error))?;
        let mut results = (&mut *self.connection).fetch_many(query);
        let mut done = 0_usize;
        loop {
            match results.try_next().await {
                Ok(Some(Either::Left(_))) => done += 1,
                Ok(Some(Either::Right(row))) => {
                    if let Some(rows) = done.checked_sub(before).and_then(|statement| rows.get_mut(statement)) {
                        rows.push(Row::Sqlite(row));
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err((done.saturating_sub(before), convert(error))),
            }
        }
    }
}

/// Most statements of a round, and most values of several: each combination stays prepared, so there must be few of them.
const TOGETHER: usize = 6;
const VALUES: usize = 128;

/// Which statements go together, in their order. One with many values goes alone, and costs more than the change of threads.
fn rounds(statements: Vec<Statement>) -> Vec<Vec<Statement>> {
    let mut rounds: Vec<Vec<Statement>> = Vec::new();
    let mut values = 0;
    for statement in statements {
        values += statement.values();
        match rounds.last_mut() {
            Some(round) if values <= VALUES && round.len() < TOGETHER => round.push(statement),
            _ => {
                values = statement.values();
                rounds.push(vec![statement]);
            }
        }
    }
    rounds
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if self.open {
            // closing rolls back; the pool opens another
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_statements_go_together_and_large_ones_alone() {
        let cases: [(&[usize], &[usize]); 6] = [
            (&[], &[]),
            (&[20, 15], &[2]),
            (&[3, 2, 1, 22], &[4]),
            (&[3, 1408, 22, 44], &[1, 1, 2]),
            (&[64, 64, 1], &[2, 1]),
            (&[1; 14], &[6, 6, 2]),
        ];
        for (values, expected) in cases {
            let statement = |values: &usize| (0..*values).fold(Statement::default(), |all, _| all.with(1));
            let lengths: Vec<usize> = rounds(values.iter().map(statement).collect()).iter().map(Vec::len).collect();
            assert_eq!(lengths, expected, "{values:?}");
        }
    }
}
