//! SQLite's one writer: a task that takes what waits and commits it together, since each commit waits for the disk.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::database::Database;
use super::failure::{is_of_the_batch, timed_out};
use super::insert::{Batch, Inserted, NotInserted};
use super::metadata::Dictionaries;
use super::storing::{StoredBatches, store};
use crate::error::{Error, Result};

/// Batches that may wait; whoever comes later waits to be let in.
const WAITING: usize = 1024;
/// Most instances that are committed together, so that nobody waits long.
const TOGETHER: usize = 512;

/// Hands batches to the writer. The task ends when the last of these is dropped.
pub(super) struct Queue(mpsc::Sender<Job>);

type Reply = oneshot::Sender<Result<Vec<Inserted>, NotInserted>>;

/// A batch and who waits for it.
struct Job {
    batch: Batch,
    reply: Reply,
}

impl Queue {
    pub(super) async fn insert(&self, batch: Batch) -> Result<Vec<Inserted>, NotInserted> {
        let (reply, answer) = oneshot::channel();
        let gone = || timed_out("the writer of the index has ended");
        self.0.send(Job { batch, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| NotInserted::InDoubt(gone()))?
    }
}

/// Starts the writer.
pub(super) fn start(database: &Database, dictionaries: Dictionaries) -> Queue {
    let (sender, receiver) = mpsc::channel(WAITING);
    let writer = Writer { database: database.clone(), dictionaries };
    database.runtime.spawn(writer.run(receiver));
    Queue(sender)
}

struct Writer {
    database: Database,
    dictionaries: Dictionaries,
}

impl Writer {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut instances = 0;
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                instances += job.batch.instances.len();
                group.push(job);
                next = if instances < TOGETHER { jobs.try_recv().ok() } else { None };
            }
            for single in self.write(group).await {
                self.write(vec![single]).await;
            }
        }
    }

    /// Commits a group and answers its jobs. Gives them back when one of them may have spoilt it, so that it alone fails.
    async fn write(&self, mut group: Vec<Job>) -> Vec<Job> {
        loop {
            group.retain(|job| !job.reply.is_closed());
            if group.is_empty() {
                return group;
            }
            match self.commit(&group).await {
                Ok(Some(stored)) => {
                    stored.remember(&self.dictionaries);
                    for (job, outcome) in group.into_iter().zip(stored.outcomes) {
                        // whoever does not wait any more does not care
                        let _ = job.reply.send(outcome);
                    }
                    return Vec::new();
                }
                // somebody went away before the commit; nothing happened
                Ok(None) => {}
                Err(NotInserted::Failed(error)) if group.len() > 1 && is_of_the_batch(&error) => return group,
                Err(error) => {
                    fail(group, error);
                    return Vec::new();
                }
            }
        }
    }

    async fn commit(&self, group: &[Job]) -> Result<Option<StoredBatches>, NotInserted> {
        let batches: Vec<&Batch> = group.iter().map(|job| &job.batch).collect();
        let wanted = || !group.iter().any(|job| job.reply.is_closed());
        store(self.database.begin().await?, &self.dictionaries, &batches, wanted).await
    }
}

/// Answers all with the same error.
fn fail(group: Vec<Job>, why: NotInserted) {
    let in_doubt = matches!(why, NotInserted::InDoubt(_));
    let error = Arc::new(why.into_error());
    for job in group {
        let copy = Error::new(error.kind(), error.message().to_owned()).caused_by(Arc::clone(&error));
        let _ = job.reply.send(Err(if in_doubt { NotInserted::InDoubt(copy) } else { NotInserted::Failed(copy) }));
    }
}
