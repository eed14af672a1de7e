//! `isocenter config`: prints the effective settings, which is also the way to begin a settings file.

use super::{Outcome, Settings, print};
use crate::app;
use crate::error::Result;

/// Prints them, if a server would take them.
pub(super) fn run(settings: &Settings) -> Result<Outcome> {
    let loaded = settings.load()?;
    app::check(&loaded.config)?;
    print(&loaded.to_toml());
    Ok(Outcome::Done)
}
