//! `isocenter migrate`: brings the index up to the version of this program.

use super::opened::{has_index_file, no_archive};
use super::{Outcome, Settings, print, runtime};
use crate::catalogue::{Catalogue, Migrated};
use crate::config::{Config, DatabaseUrl};
use crate::error::{Error, Result};
use crate::telemetry;

/// Applies the migrations that are missing.
pub(super) fn run(settings: &Settings) -> Result<Outcome> {
    let config = settings.load()?.config;
    telemetry::start_log(&config.log)?;
    if !has_index_file(&config) {
        return Err(none(&config));
    }
    let migrated = runtime()?.block_on(async {
        let catalogue = Catalogue::open(&config.database_url(), &config.database).await?;
        let migrated = migrate(&catalogue, &config).await;
        catalogue.close().await;
        migrated
    })?;
    if migrated.from == migrated.to {
        print(&format!("the index is at version {}; there was nothing to do\n", migrated.to));
    } else {
        print(&format!("the index went from version {} to {}\n", migrated.from, migrated.to));
    }
    Ok(Outcome::Done)
}

/// A database that somebody made for the index gets its tables; a file would be one at a mistyped place.
async fn migrate(catalogue: &Catalogue, config: &Config) -> Result<Migrated> {
    if matches!(config.database_url(), DatabaseUrl::Sqlite(_)) && !catalogue.is_made().await? {
        return Err(none(config));
    }
    catalogue.migrate().await
}

fn none(config: &Config) -> Error {
    no_archive(config, "the first index is made by `isocenter serve`")
}
