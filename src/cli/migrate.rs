//! `isocenter migrate`: brings the index up to the version of this program.

use super::{Outcome, Settings, print, runtime};
use crate::app::make_data_dir;
use crate::catalogue::Catalogue;
use crate::error::Result;
use crate::telemetry;

/// Applies the migrations that are missing.
pub(super) fn run(settings: &Settings) -> Result<Outcome> {
    let config = settings.load()?.config;
    telemetry::start_log(&config.log)?;
    make_data_dir(&config)?;
    let migrated = runtime()?.block_on(async {
        let catalogue = Catalogue::open(&config.database_url(), &config.database).await?;
        let migrated = catalogue.migrate().await;
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
