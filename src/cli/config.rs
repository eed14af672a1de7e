//! `isocenter config`: prints the effective settings, which is also the way to begin a settings file.

use super::{Outcome, Settings, print};
use crate::error::Result;

/// Prints them.
pub(super) fn run(settings: &Settings) -> Result<Outcome> {
    print(&settings.load()?.to_toml());
    Ok(Outcome::Done)
}
