//! SQLite's one writer: a task that takes what waits and commits it together, since each commit waits for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

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

/// How long a commit waits for batches that are on their way: a commit takes about as long, and costs one batch as much as
/// it costs ten.
const LINGER: Duration = Duration::from_millis(2);

/// Hands batches to the writer. The task ends when the last of these is dropped.
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
    coming: Arc<AtomicUsize>,
}

/// A batch that is on its way to the index, until it arrives or is given up.
#[derive(Debug, Default)]
pub struct Coming(Option<Arc<AtomicUsize>>);

impl Drop for Coming {
    fn drop(&mut self) {
        if let Some(coming) = &self.0 {
            coming.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

type Reply = oneshot::Sender<Result<Vec<Inserted>, NotInserted>>;

/// A batch and who waits for it.
struct Job {
    batch: Batch,
    reply: Reply,
    coming: Coming,
}

impl Queue {
    /// Announces a batch.
    pub(super) fn announce(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(Some(Arc::clone(&self.coming)))
    }

    pub(super) async fn insert(&self, batch: Batch, coming: Coming) -> Result<Vec<Inserted>, NotInserted> {
        let (reply, answer) = oneshot::channel();
        let gone = || timed_out("the writer of the index has ended");
        self.jobs.send(Job { batch, reply, coming }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| NotInserted::InDoubt(gone()))?
    }
}

/// Starts the writer.
pub(super) fn start(database: &Database, dictionaries: Dictionaries) -> Queue {
    let (sender, receiver) = mpsc::channel(WAITING);
    let coming = Arc::new(AtomicUsize::new(0));
    let writer = Writer { database: database.clone(), dictionaries, coming: Arc::clone(&coming) };
    database.runtime.spawn(writer.run(receiver));
    Queue { jobs: sender, coming }
}

struct Writer {
    database: Database,
    dictionaries: Dictionaries,
    coming: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let group = self.gather(first, &mut jobs).await;
            for single in self.write(group).await {
                self.write(vec![single]).await;
            }
        }
    }

    /// Takes what waits, and for a moment what is about to come.
    async fn gather(&self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> Vec<Job> {
        let until = Instant::now() + LINGER;
        let mut instances = 0;
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next {
            instances += job.batch.instances.len();
            job.coming = Coming::default();
            group.push(job);
            next = if instances >= TOGETHER {
                None
            } else if let Ok(job) = jobs.try_recv() {
                Some(job)
            } else if self.coming.load(Ordering::Relaxed) > 0 {
                timeout_at(until, jobs.recv()).await.unwrap_or_default()
            } else {
                None
            };
        }
        group
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
