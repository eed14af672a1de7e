//! Opens an archive that is there already, for commands that look after it beside its servers.

use super::{Outcome, Places, runtime};
use crate::archive::shared_settings;
use crate::catalogue::Catalogue;
use crate::config::{Config, DatabaseUrl, Loaded};
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
    /// One is made where there is none, and brought up to date.
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
        let url = config.database_url();
        if let DatabaseUrl::Sqlite(path) = &url
            && index == Index::Existing
            && !path.exists()
        {
            return Err(Error::configuration(format!(
                "there is no index at `{}`; name the archive with `--data-dir` or `--database-url`",
                path.display()
            )));
        }
        let catalogue = Catalogue::open(&url, &config.database).await?;
        let current = match index {
            Index::Existing => catalogue.expect_current().await,
            Index::Made => catalogue.migrate().await.map(drop),
        };
        let store = match current {
            Ok(()) => ObjectStorage::open(&config.storage_url(), &config.storage).await,
            Err(error) => Err(error),
        };
        let agreed = match store {
            Ok(store) => agree(&store, loaded).await.map(|config| (store, config)),
            Err(error) => Err(error),
        };
        match agreed {
            Ok((store, config)) => Ok(Self { catalogue, store, config }),
            Err(error) => {
                catalogue.close().await;
                Err(error)
            }
        }
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
