//! SQLite's one writer: a task that takes what waits and commits it together, since each commit waits for the disk.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlitePool};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::attempts;
use super::database::Database;
use super::dialect::Dialect;
use super::failure::{convert, is_of_the_batch, timed_out};
use super::insert::{Batch, Inserted};
use super::metadata::Dictionaries;
use super::sql::Statement;
use super::storing::{StoredBatches, store};
use crate::error::{Error, Result};

/// Jobs that may wait; whoever comes later waits to be let in.
const WAITING: usize = 1024;
/// Most instances that are committed together, so that nobody waits long.
const TOGETHER: usize = 512;

/// Hands jobs to the writer. The task ends when the last of these is dropped.
pub(super) struct Queue(mpsc::Sender<Job>);

type Reply<T> = oneshot::Sender<Result<T>>;

enum Job {
    Begin(Begin, Reply<()>),
    End(Uuid, Reply<()>),
    Insert(Batch, Reply<Vec<Inserted>>),
}

struct Begin {
    attempt: Uuid,
    /// Milliseconds.
    lease: i64,
}

impl Job {
    fn instances(&self) -> usize {
        match self {
            Self::Begin(..) | Self::End(..) => 0,
            Self::Insert(batch, _) => batch.instances.len(),
        }
    }
}

impl Queue {
    pub(super) async fn begin_attempt(&self, attempt: Uuid, lease: i64) -> Result<()> {
        self.ask(|reply| Job::Begin(Begin { attempt, lease }, reply)).await
    }

    pub(super) async fn end_attempt(&self, attempt: Uuid) -> Result<()> {
        self.ask(|reply| Job::End(attempt, reply)).await
    }

    pub(super) async fn insert(&self, batch: Batch) -> Result<Vec<Inserted>> {
        self.ask(|reply| Job::Insert(batch, reply)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || timed_out("the writer of the index has ended");
        self.0.send(job(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Starts the writer.
pub(super) fn start(database: &Database, pool: SqlitePool, dictionaries: Dictionaries) -> Queue {
    let (sender, receiver) = mpsc::channel(WAITING);
    let writer = Writer { database: database.clone(), pool, dictionaries };
    database.runtime.spawn(writer.run(receiver));
    Queue(sender)
}

struct Writer {
    database: Database,
    pool: SqlitePool,
    dictionaries: Dictionaries,
}

/// Jobs that are committed together, by kind.
#[derive(Default)]
struct Group {
    begins: Vec<(Begin, Reply<()>)>,
    ends: Vec<(Uuid, Reply<()>)>,
    inserts: Vec<(Batch, Reply<Vec<Inserted>>)>,
}

impl Writer {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut instances = 0;
            let mut group = Group::default();
            let mut next = Some(first);
            while let Some(job) = next {
                instances += job.instances();
                group.add(job);
                next = if instances < TOGETHER { jobs.try_recv().ok() } else { None };
            }
            if let Some(together) = self.write(group).await {
                // something in one of them: each by itself, so that it alone fails
                for single in together.split() {
                    self.write(single).await;
                }
            }
        }
    }

    /// Commits a group and answers its jobs. Gives it back when a part of it may have spoilt it.
    async fn write(&self, mut group: Group) -> Option<Group> {
        loop {
            group.forget_cancelled();
            if group.is_empty() {
                return None;
            }
            let committed = if group.inserts.is_empty() {
                self.commit_relaxed(&group).await.map(|()| Committed::All(StoredBatches::default()))
            } else {
                self.commit(&group).await
            };
            match committed {
                Ok(Committed::All(stored)) => {
                    stored.remember(&self.dictionaries);
                    group.succeed(stored.outcomes);
                    return None;
                }
                Ok(Committed::Cancelled) => {}
                Err(error) if !group.is_single() && is_of_the_batch(&error) => return Some(group),
                Err(error) => {
                    group.fail(error);
                    return None;
                }
            }
        }
    }

    async fn commit(&self, group: &Group) -> Result<Committed> {
        let mut transaction = self.database.begin().await?;
        for (begin, _) in &group.begins {
            let statement = Statement::new(attempts::begin(Dialect::Sqlite));
            transaction.execute(statement.with(begin.attempt.to_string()).with(begin.lease)).await?;
        }
        let batches: Vec<&Batch> = group.inserts.iter().map(|(batch, _)| batch).collect();
        let stored = store(&mut transaction, &self.dictionaries, &batches).await?;
        for (attempt, _) in &group.ends {
            transaction.execute(Statement::new(attempts::END_SQLITE).with(attempt.to_string())).await?;
        }
        if group.inserts.iter().any(|(_, reply)| reply.is_closed()) {
            // dropped: rolled back
            return Ok(Committed::Cancelled);
        }
        transaction.commit().await.map(|()| Committed::All(stored))
    }

    /// Attempts need not be durable (see [`attempts::begin`]): without instances beside them nobody waits for the disk.
    async fn commit_relaxed(&self, group: &Group) -> Result<()> {
        let mut connection = Database::writer(&self.pool).await?;
        // One round to the thread of the connection. A single job, which is the usual case, keeps its statements prepared.
        let done = match (group.begins.as_slice(), group.ends.as_slice()) {
            ([(Begin { attempt, lease }, _)], []) => {
                let text = relaxed(&attempts::begin(Dialect::Sqlite));
                let query = sqlx::query(AssertSqlSafe(text)).bind(attempt.to_string()).bind(*lease);
                query.execute(&mut *connection).await
            }
            ([], [(attempt, _)]) => {
                let query = sqlx::query(AssertSqlSafe(relaxed(attempts::END_SQLITE))).bind(attempt.to_string());
                query.execute(&mut *connection).await
            }
            _ => sqlx::raw_sql(AssertSqlSafe(group.text())).execute(&mut *connection).await,
        };
        if let Err(error) = done {
            // it may be within the transaction and must not go on relaxed; the pool opens another
            let _ = connection.close().await;
            return Err(convert(error));
        }
        Ok(())
    }
}

/// Statements in a transaction that does not wait for the disk.
fn relaxed(statements: &str) -> String {
    format!("pragma synchronous = normal; begin immediate; {statements}; commit; pragma synchronous = full")
}

enum Committed {
    All(StoredBatches),
    /// Somebody went away before the commit; nothing happened.
    Cancelled,
}

impl Group {
    fn add(&mut self, job: Job) {
        match job {
            Job::Begin(begin, reply) => self.begins.push((begin, reply)),
            Job::End(attempt, reply) => self.ends.push((attempt, reply)),
            Job::Insert(batch, reply) => self.inserts.push((batch, reply)),
        }
    }

    fn is_empty(&self) -> bool {
        self.begins.is_empty() && self.ends.is_empty() && self.inserts.is_empty()
    }

    /// All begins and ends: hexadecimal digits and numbers, which need no parameters.
    fn text(&self) -> String {
        let now = Dialect::Sqlite.now_millis();
        let begins = self.begins.iter().map(|(Begin { attempt, lease }, _)| {
            format!("insert into attempts values ('{attempt}', {now}, {lease}, {now} + {lease})")
        });
        let ends = self.ends.iter().map(|(attempt, _)| format!("delete from attempts where attempt = '{attempt}'"));
        relaxed(&begins.chain(ends).collect::<Vec<_>>().join("; "))
    }

    fn is_single(&self) -> bool {
        self.begins.len() + self.ends.len() + self.inserts.len() == 1
    }

    fn forget_cancelled(&mut self) {
        self.begins.retain(|(_, reply)| !reply.is_closed());
        self.inserts.retain(|(_, reply)| !reply.is_closed());
    }

    fn split(self) -> impl Iterator<Item = Group> {
        let begins = self.begins.into_iter().map(|begin| Group { begins: vec![begin], ..Group::default() });
        let inserts = self.inserts.into_iter().map(|insert| Group { inserts: vec![insert], ..Group::default() });
        let ends = self.ends.into_iter().map(|end| Group { ends: vec![end], ..Group::default() });
        begins.chain(inserts).chain(ends)
    }

    /// Answers all. Whoever does not wait any more does not care.
    fn succeed(self, outcomes: Vec<Result<Vec<Inserted>>>) {
        for ((_, reply), outcome) in self.inserts.into_iter().zip(outcomes) {
            let _ = reply.send(outcome);
        }
        for reply in
            self.begins.into_iter().map(|(_, reply)| reply).chain(self.ends.into_iter().map(|(_, reply)| reply))
        {
            let _ = reply.send(Ok(()));
        }
    }

    fn fail(self, error: Error) {
        let error = Arc::new(error);
        let copy = || Error::new(error.kind(), error.message().to_owned()).caused_by(Arc::clone(&error));
        for (_, reply) in self.inserts {
            let _ = reply.send(Err(copy()));
        }
        for reply in
            self.begins.into_iter().map(|(_, reply)| reply).chain(self.ends.into_iter().map(|(_, reply)| reply))
        {
            let _ = reply.send(Err(copy()));
        }
    }
}
