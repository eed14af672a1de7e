//! Opens an archive that is there already, for commands that look after it beside its servers.

use super::{Outcome, Places, runtime};
use crate::catalogue::Catalogue;
use crate::config::{Config, DatabaseUrl};
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
    let config = places.load()?.config;
    telemetry::start_log(&config.log)?;
    runtime()?.block_on(async {
        let opened = Opened::open(&config, index).await?;
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
    async fn open(config: &Config, index: Index) -> Result<Self> {
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
        match store {
            Ok(store) => Ok(Self { catalogue, store, config: config.clone() }),
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
