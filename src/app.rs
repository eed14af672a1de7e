//! What the surfaces work with: settings, index, objects, and the ways in and out of the archive.
//!
//! One value of each, opened once; the only bag of dependencies.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::archive::erase;
use crate::archive::ingest::Ingest;
use crate::archive::limits::IngestLimits;
use crate::archive::policy::Policy;
use crate::archive::retrieve::Retrieve;
use crate::archive::shared_settings;
use crate::archive::sweep::{self, Event, Stray, SweepOptions};
use crate::catalogue::{Catalogue, Work};
use crate::clock::Stopwatch;
use crate::config::Config;
use crate::dicom::uid::InstanceUid;
use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// How long a part of the server may take to say that it is well.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long an answer of the parts holds, so that many probes cost as much as one.
const PROBE_AGE: Duration = Duration::from_secs(1);

/// One value of each dependency; the only bag of them.
#[derive(Clone)]
pub struct App {
    /// The effective settings.
    pub config: Arc<Config>,
    /// The index.
    pub catalogue: Catalogue,
    /// The objects.
    pub store: ObjectStorage,
    /// The way in.
    pub ingest: Ingest,
    /// The way out.
    pub retrieve: Retrieve,
    /// The runtime on which pools and background work live; it outlives the threads that answer requests.
    runtime: Handle,
    probed: Arc<Mutex<Option<(Stopwatch, Readiness)>>>,
}

/// The parts by name, and how each is.
pub type Readiness = Arc<[(&'static str, Result<()>)]>;

impl App {
    /// Opens index and objects, bringing the index up to date. The calling runtime must outlive the server.
    ///
    /// # Errors
    /// A configuration error that says what to do.
    pub async fn open(config: Config) -> Result<Self> {
        make_data_dir(&config)?;
        let catalogue = Catalogue::open(&config.database_url(), &config.database).await?;
        match Self::open_with(config, catalogue.clone()).await {
            Ok(app) => Ok(app),
            Err(error) => {
                catalogue.close().await;
                Err(error)
            }
        }
    }

    async fn open_with(config: Config, catalogue: Catalogue) -> Result<Self> {
        catalogue.migrate().await?;
        let store = ObjectStorage::open(&config.storage_url(), &config.storage).await?;
        belong_together(&catalogue, &store, &config).await?;
        shared_settings::keep(&store, &config.shared()).await?;
        let limits = IngestLimits { instance_bytes: config.limits.instance_size, ..IngestLimits::default() };
        let ingest = Ingest::new(catalogue.clone(), store.clone(), limits, Policy::new(&config.store)?);
        let retrieve = Retrieve::new(catalogue.clone(), store.clone());
        let runtime = Handle::current();
        Ok(Self { config: Arc::new(config), catalogue, store, ingest, retrieve, runtime, probed: Arc::default() })
    }

    /// Asks database and store whether they can work, each within a few seconds.
    pub async fn readiness(&self) -> Readiness {
        let mut probed = self.probed.lock().await;
        if let Some((when, readiness)) = &*probed
            && when.elapsed() < PROBE_AGE
        {
            return Arc::clone(readiness);
        }
        let (catalogue, store) = (self.catalogue.clone(), self.store.clone());
        // On the runtime of the pools, not on a thread that answers requests.
        let probes = self.runtime.spawn(async move { tokio::join!(within(catalogue.ping()), within(store.probe())) });
        let (database, objects) = probes.await.unwrap_or_else(|error| {
            (Err(Error::internal("the probe failed").caused_by(error)), Err(Error::internal("the probe failed")))
        });
        let readiness: Readiness = Arc::new([("database", database), ("store", objects)]);
        for (name, state) in readiness.iter() {
            if let Err(error) = state {
                tracing::error!(part = name, ?error, "not ready");
            }
        }
        *probed = Some((Stopwatch::start(), Arc::clone(&readiness)));
        readiness
    }

    /// Removes now and then what is to be erased and what killed processes left, for as long as it is polled.
    pub async fn keep_tidy(self) {
        let settings = &self.config.store;
        if settings.sweep_interval.is_zero() {
            return;
        }
        loop {
            tokio::time::sleep(settings.sweep_interval).await;
            if let Err(error) = self.tidy().await {
                tracing::warn!(?error, "the archive could not be swept; it is tried again");
            }
        }
    }

    async fn tidy(&self) -> Result<()> {
        let (mut erased, mut removed, mut failed) = (0_u64, 0_u64, 0_u64);
        let before = erase::before(self.config.store.undo_window);
        let ended = erase::erase(&self.catalogue, &self.store, before, |one| match one.failure {
            None => erased += 1,
            Some(_) => failed += 1,
        });
        let mut ended = ended.await;
        if ended.is_ok() {
            // nobody looks on: whoever restored an old index has time to have it made anew
            let options = SweepOptions { full: false, dry_run: false, grace: self.config.store.undo_window };
            let told = |event| match event {
                Event::Stray(Stray { failure: None, .. }) => removed += 1,
                Event::Stray(Stray { key, failure: Some(error), .. }) => {
                    failed += 1;
                    tracing::warn!(key = key.as_str(), ?error, "an object without a row cannot be removed");
                }
                Event::Looked(_) => {}
            };
            ended = sweep::sweep(&self.catalogue, &self.store, options, told).await.map(tell_of_newer);
        }
        if failed > 0 {
            tracing::warn!(erased, removed, failed, "the archive was swept, but some objects could not be removed");
        } else if erased + removed > 0 {
            tracing::info!(erased, removed, "the archive was swept");
        }
        ended
    }

    /// Runs work on the runtime of the pools, and to its end even when whoever asked for it goes away.
    ///
    /// # Errors
    /// That of the work, or that it ended without a result.
    pub async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(work).await.unwrap_or_else(|error| {
            Err(if error.is_cancelled() {
                Error::unavailable("the server is shutting down", error)
            } else {
                Error::internal("the work of a request panicked").caused_by(error)
            })
        })
    }

    /// Closes what has to be closed, after the last request.
    pub async fn close(&self) {
        self.store.settle().await;
        self.ingest.close().await;
        self.catalogue.close().await;
    }
}

/// Index and objects that are not of the same archive are worse than none: what is stored would be lost with either.
async fn belong_together(catalogue: &Catalogue, store: &ObjectStorage, config: &Config) -> Result<()> {
    expect_kinship(catalogue, store, config).await?;
    expect_objects(catalogue, store, config).await
}

/// Refuses an index that knows none of the objects.
pub(crate) async fn expect_kinship(catalogue: &Catalogue, store: &ObjectStorage, config: &Config) -> Result<()> {
    let objects = first_objects(store).await?;
    // asked after the objects were listed, and in this order: another server may be storing the first instances
    let known =
        objects.is_empty() || catalogue.under_way(Work::Reindex).await? || catalogue.has_heard_of_any(&objects).await?;
    if !known {
        return Err(Error::configuration(format!(
            "`{}` holds objects of which the index knows nothing; if the index was lost, run `isocenter reindex`, which makes it \
             anew; otherwise name the right one with `--database-url` or `--data-dir`",
            config.storage_url()
        )));
    }
    Ok(())
}

/// Refuses an index with instances beside a store without their objects: what is not mounted, or of another archive, must not be
/// taken for lost or removed.
pub(crate) async fn expect_objects(catalogue: &Catalogue, store: &ObjectStorage, config: &Config) -> Result<()> {
    let named = catalogue.some_objects(FEW.into()).await?;
    if named.is_empty() {
        return Ok(());
    }
    for location in named {
        if store.exists(&StorageKey::from_index(location)).await?.is_some() {
            return Ok(());
        }
    }
    // the first instances may all have been erased since the index was saved
    let objects = first_objects(store).await?;
    if !objects.is_empty() && catalogue.has_heard_of_any(&objects).await? {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "the index holds instances, but `{}` holds none of their objects; mount the volume that is missing, or name the right \
         place with `--storage-url` or `--data-dir`",
        config.storage_url()
    )))
}

/// Refuses settings by what can be said of them without network and disk, before anything is opened.
///
/// # Errors
/// [`ErrorKind::Configuration`] naming the setting and what would be accepted.
pub fn check(config: &Config) -> Result<()> {
    config.check_listener()?;
    Policy::new(&config.store)?;
    Catalogue::check(&config.database_url())?;
    ObjectStorage::check(&config.storage_url())
}

/// How many objects are looked at to tell whether they are those of an index.
const FEW: u8 = 100;

/// Objects of instances that tell whether an index belongs to them: some may be strange to the right one.
async fn first_objects(store: &ObjectStorage) -> Result<Vec<(String, InstanceUid, Uuid)>> {
    let instances = store.list("studies").try_filter_map(|(key, _)| async move {
        let object = key.instance_object();
        Ok(object.map(|object| (key.as_str().to_owned(), object.instance.instance, object.lease)))
    });
    instances.take(usize::from(FEW)).try_collect().await
}

async fn within(probe: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(PROBE_TIMEOUT, probe)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "gave no answer in time")))
}

/// Makes the folder in which index or objects lie, if they have no place of their own.
fn make_data_dir(config: &Config) -> Result<()> {
    if !config.uses_data_dir() {
        return Ok(());
    }
    let folder = &config.data_dir;
    make_durably(folder).map_err(|error| {
        Error::configuration(format!(
            "cannot create the data folder `{}`: {error}; make it writable or choose another with `--data-dir`",
            folder.display()
        ))
    })
}

/// Makes a folder for this user only, and sees to it that its name survives a loss of power: all that is stored lies below it.
fn make_durably(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Says so where a sweep found that it must not remove anything.
fn tell_of_newer(swept: sweep::Swept) {
    if let Some(key) = swept.newer {
        tracing::error!(
            key = key.as_str(),
            "the index is older than the objects, as when it was restored from a backup, so nothing was swept; \
             `isocenter reindex` brings it up to date"
        );
    }
}
