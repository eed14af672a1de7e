//! The command line: one file per command, each opens what it needs and calls one function.
//!
//! Exit status: 0 all well, 1 something failed, 2 usage or settings.

mod config;
mod migrate;
mod opened;
mod reindex;
mod restore;
pub mod sample;
mod serve;
pub mod store;
mod sweep;
mod text;
mod verify;
mod watch;

use std::error::Error as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Loaded;
use crate::error::{Error, ErrorKind, Result};

/// A DICOMweb archive in one binary: stores, finds and returns DICOM over HTTP.
///
/// Without a command it serves, like `isocenter serve`. With nothing set it listens on 127.0.0.1:8080 and keeps its index (SQLite) and
/// objects in ./isocenter-data.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  isocenter                                    serve at http://127.0.0.1:8080/dicom-web
  isocenter serve --listen 127.0.0.1:9000 --data-dir /srv/dicom
  isocenter serve --database-url postgres://me@db/isocenter --storage-url s3://bucket/prefix
  isocenter store scans/                       send a folder of files to it
  isocenter verify                             compare every instance with its object
  isocenter sweep                              remove what killed processes left, erase what was deleted
  isocenter restore UID                        take back the delete of a study, series or instance
  isocenter reindex                            make a lost index anew from the objects
  isocenter config                             print all settings, and where each comes from
  curl 'http://127.0.0.1:8080/dicom-web/studies?PatientID=1234'

Every setting can also stand in a TOML file (--config) or in the environment (ISOCENTER_...);
a flag wins over the environment, the environment over the file.
Exit status: 0 all well, 1 something failed, 2 usage or settings.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer requests until told to stop
    Serve(Settings),
    /// Send files and folders to a DICOMweb server
    Store(store::StoreArgs),
    /// Write synthetic studies to a folder, for a start without DICOM at hand
    Sample(sample::SampleArgs),
    /// Bring the index up to the version of this program, and leave
    Migrate(Settings),
    // what these do is told where their arguments are
    Verify(verify::VerifyArgs),
    Sweep(sweep::SweepArgs),
    Restore(restore::RestoreArgs),
    Reindex(reindex::ReindexArgs),
    /// Print the effective settings as TOML, secrets masked, and where each comes from
    Config(Settings),
}

/// The flags of the commands that open the archive.
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Each flag has a variable: --data-dir is ISOCENTER_DATA_DIR. `isocenter config` prints all settings."
)]
pub struct Settings {
    #[command(flatten)]
    places: Places,
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The URL by which clients reach the server, when it stands behind a proxy
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Answer everyone who can reach an address that is not loopback
    #[arg(long)]
    allow_anonymous: bool,
}

/// The flags that say where the archive is.
#[derive(Args, Clone, Debug, Default)]
pub struct Places {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where index and objects lie that have no place of their own [default: ./isocenter-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The index: sqlite://path or postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The objects: file:///path or s3://bucket/prefix, with the usual `AWS_*` variables
    #[arg(long, value_name = "URL")]
    storage_url: Option<String>,
}

impl Settings {
    /// The settings of this process.
    fn load(&self) -> Result<Loaded> {
        let mut flags = given([("--listen", &self.listen), ("--public-url", &self.public_url)]);
        if self.allow_anonymous {
            flags.push(("--allow-anonymous", "true".to_owned()));
        }
        self.places.load_with(flags)
    }
}

impl Places {
    /// The settings of this process.
    fn load(&self) -> Result<Loaded> {
        self.load_with(Vec::new())
    }

    fn load_with(&self, mut flags: Vec<(&'static str, String)>) -> Result<Loaded> {
        flags.extend(given([
            ("--data-dir", &self.data_dir),
            ("--database-url", &self.database_url),
            ("--storage-url", &self.storage_url),
        ]));
        Loaded::from_process(self.config.as_deref(), &flags)
    }
}

/// The flags that were given.
fn given<const N: usize>(flags: [(&'static str, &Option<String>); N]) -> Vec<(&'static str, String)> {
    flags.into_iter().filter_map(|(flag, text)| text.clone().map(|text| (flag, text))).collect()
}

/// How a command ended that did not fail as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All well.
    Done,
    /// Some items failed.
    SomeFailed,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve::run(&cli.settings),
        Some(Command::Serve(settings)) => serve::run(&settings),
        Some(Command::Store(args)) => runtime().and_then(|runtime| runtime.block_on(store::run(&args))),
        Some(Command::Sample(args)) => sample::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Sweep(args)) => sweep::run(&args),
        Some(Command::Restore(args)) => restore::run(&args),
        Some(Command::Reindex(args)) => reindex::run(&args),
        Some(Command::Migrate(settings)) => migrate::run(&settings),
        Some(Command::Config(settings)) => config::run(&settings),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(1),
        Err(error) => {
            // Nobody is left to tell when even that fails.
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&error));
            ExitCode::from(if matches!(error.kind(), ErrorKind::Configuration | ErrorKind::BadRequest) { 2 } else { 1 })
        }
    }
}

/// An error as one line. Messages about settings say all; the others are followed by what caused them.
fn one_line(error: &Error) -> String {
    let mut line = error.message().to_owned();
    let mut source = error.source().filter(|_| error.kind() != ErrorKind::Configuration);
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    text::printable(&line.replace(['\n', '\r'], " "))
}

/// The runtime on which everything but the connections of clients lives.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("isocenter")
        .build()
        .map_err(|error| Error::internal("the runtime cannot be started").caused_by(error))
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_with_or_without_the_command() {
        let cli = Cli::try_parse_from(["isocenter", "--listen", "a"]).unwrap();
        assert_eq!(cli.settings.listen.as_deref(), Some("a"));
        let cli = Cli::try_parse_from(["isocenter", "serve", "--listen", "b", "--allow-anonymous"]).unwrap();
        let Some(Command::Serve(settings)) = cli.command else { panic!("serve") };
        assert!(settings.allow_anonymous && settings.listen.as_deref() == Some("b"));
        assert!(Cli::try_parse_from(["isocenter", "--lisen", "a"]).is_err());
    }

    #[test]
    fn errors_are_one_line() {
        let error = Error::internal("a\nb").caused_by("c\r\nd");
        assert_eq!(one_line(&error), "a b: c  d");
        assert_eq!(one_line(&Error::configuration("a").caused_by("b")), "a");
        assert_eq!(one_line(&Error::bad_request("`a\x1b[2J` cannot be read")), r"`a\u{1b}[2J` cannot be read");
    }
}
