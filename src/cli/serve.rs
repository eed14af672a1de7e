//! `isocenter serve`: opens the archive and answers requests until told to stop.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Outcome, Settings, print, runtime};
use crate::error::Result;
use crate::serve::Server;
use crate::telemetry;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(settings: &Settings) -> Result<Outcome> {
    let loaded = settings.load()?;
    telemetry::start_log(&loaded.config.log)?;
    raise_open_files();
    runtime()?.block_on(async {
        let announce = |server: &Server| {
            print(&format!("isocenter {} listening on {}\n", env!("CARGO_PKG_VERSION"), server.url()));
            tracing::info!(url = server.url(), version = env!("CARGO_PKG_VERSION"), "listening");
        };
        Server::start(loaded.config).await?.run_until_stopped(announce).await
    })?;
    Ok(Outcome::Done)
}

/// Takes as many open files as this process may have: shells give it 1,024, of which each connection needs one.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit of open files could not be raised");
    }
}
