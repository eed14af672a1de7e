//! Opens an archive that is there already, for commands that look after it beside its servers.

use futures_util::StreamExt as _;

use super::{Outcome, Places, runtime};
use crate::app;
use crate::archive::shared_settings;
use crate::catalogue::Catalogue;
use crate::config::{Config, DatabaseUrl, Loaded, StorageUrl};
use crate::error::{Error, Result};
use crate::store::ObjectStorage;
use crate::telemetry;

/// The index and the objects of an archive.
pub(super) struct Opened {
    pub(super) catalogue: Catalogue,
    pub(super) store: ObjectStorage,
    pub(super) config: Config,
}

/// Whether a command works with an index that is there, or makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Index {
    /// No index is made or migrated: a wrong setting must not look like an archive without instances.
    Existing,
    /// The same, and nothing at all is written: the archive may be a copy that nobody may write.
    Read,
    /// One is made where there are objects without one, and brought up to date.
    Made,
}

/// Runs a command over the archive that the settings name.
pub(super) fn over_archive(
    places: &Places,
    index: Index,
    command: impl AsyncFnOnce(&Opened) -> Result<Outcome>,
) -> Result<Outcome> {
    let loaded = places.load()?;
    telemetry::start_log(&loaded.config.log)?;
    runtime()?.block_on(async {
        let opened = Opened::open(loaded, index).await?;
        let outcome = command(&opened).await;
        opened.close().await;
        outcome
    })
}

impl Opened {
    /// Opens both.
    ///
    /// # Errors
    /// A configuration error that says what to do.
    async fn open(loaded: Loaded, index: Index) -> Result<Self> {
        let config = &loaded.config;
        if !has_index_file(config) {
            match index {
                Index::Existing | Index::Read => {
                    return Err(no_archive(config, "`isocenter reindex` makes a lost index anew"));
                }
                Index::Made => expect_objects(config).await?,
            }
        }
        let url = config.database_url();
        let catalogue = match index {
            Index::Read => Catalogue::open_to_read(&url, &config.database).await?,
            Index::Existing | Index::Made => Catalogue::open(&url, &config.database).await?,
        };
        match Self::open_beside(&catalogue, loaded, index).await {
            Ok((store, config)) => Ok(Self { catalogue, store, config }),
            Err(error) => {
                catalogue.close().await;
                Err(error)
            }
        }
    }

    /// The objects, and the settings to work by.
    async fn open_beside(catalogue: &Catalogue, loaded: Loaded, index: Index) -> Result<(ObjectStorage, Config)> {
        let config = &loaded.config;
        match index {
            Index::Existing | Index::Read => catalogue.expect_current().await?,
            Index::Made => make(catalogue, config).await?,
        }
        expect_folder(config)?;
        let store = match index {
            Index::Read => {
                let store = ObjectStorage::open_to_read(&config.storage_url(), &config.storage).await?;
                app::expect_kinship(catalogue, &store, config).await?;
                store
            }
            Index::Existing | Index::Made => {
                let store = ObjectStorage::open(&config.storage_url(), &config.storage).await?;
                app::expect_objects(catalogue, &store, config).await?;
                store
            }
        };
        let config = agree(&store, loaded).await?;
        Ok((store, config))
    }

    async fn close(self) {
        self.store.settle().await;
        self.catalogue.close().await;
    }
}

/// The settings with those of the archive's servers where nothing else is said here.
async fn agree(store: &ObjectStorage, mut loaded: Loaded) -> Result<Config> {
    if let Some(servers) = shared_settings::kept(store).await? {
        for name in loaded.adopt(&servers)? {
            let theirs = servers.get(name).map_or("", String::as_str);
            tracing::warn!("`{name}` is set otherwise here than for the servers of the archive, which have `{theirs}`");
        }
    }
    Ok(loaded.config)
}

/// Refuses a folder of objects that is not there, before one is made in its place.
fn expect_folder(config: &Config) -> Result<()> {
    match config.storage_url() {
        StorageUrl::Folder(path) if !path.is_dir() => Err(Error::configuration(format!(
            "there is no folder of objects at `{}`; mount the volume that is missing, or name the right place with `--storage-url` \
             or `--data-dir`",
            path.display()
        ))),
        StorageUrl::Folder(_) | StorageUrl::S3 { .. } => Ok(()),
    }
}

/// Brings an index up to date, or makes one where there are objects.
async fn make(catalogue: &Catalogue, config: &Config) -> Result<()> {
    if !catalogue.is_made().await? {
        expect_objects(config).await?;
    }
    catalogue.migrate().await.map(drop)
}

/// Whether the file of the index is there; a server is asked when it is connected to.
pub(super) fn has_index_file(config: &Config) -> bool {
    match config.database_url() {
        DatabaseUrl::Sqlite(path) => path.exists(),
        DatabaseUrl::Postgres(_) => true,
    }
}

/// Refuses a place without an archive, before one is made there by mistake.
pub(super) fn no_archive(config: &Config, hint: &str) -> Error {
    let place = if config.database_url.is_none() && config.storage_url.is_none() {
        format!("`{}`", config.data_dir.display())
    } else {
        format!("`{}` and `{}`", config.database_url(), config.storage_url())
    };
    Error::configuration(format!(
        "there is no archive in {place}; name it with `--data-dir`, or with `--database-url` and `--storage-url`; {hint}"
    ))
}

/// Refuses a place without objects. None is made by the question: a folder is only looked at.
async fn expect_objects(config: &Config) -> Result<()> {
    let url = config.storage_url();
    let found = match &url {
        StorageUrl::Folder(path) => path.join("studies").is_dir(),
        StorageUrl::S3 { .. } => {
            let store = ObjectStorage::open(&url, &config.storage).await?;
            let found = store.list("studies").next().await.transpose();
            store.settle().await;
            found?.is_some()
        }
    };
    if found { Ok(()) } else { Err(no_archive(config, "`isocenter serve` makes a new one")) }
}
