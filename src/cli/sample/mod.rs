//! `isocenter sample`: writes synthetic studies for someone who has no DICOM at hand, and for tests and benchmarks.
//!
//! Each study has a head phantom as a CT and an MR series, a colour multi-frame instance and a PDF report. All of it is
//! computed, nothing comes from a person; the same seed makes the same bytes.

mod dataset;
mod document;
mod instances;
mod phantom;

pub use instances::{Instance, Plan};

use crate::error::{Error, Result};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Write synthetic studies to a folder.
///
/// Each study has a head as a CT and an MR series, a colour multi-frame instance and a PDF. The same seed makes the same files.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  isocenter sample demo && isocenter store demo
  isocenter sample big --studies 50 --slices 200      10 GB to try out a server with")]
pub struct SampleArgs {
    /// The folder, made if it does not exist; files of the same names are replaced
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Another seed makes other patients
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many studies
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub studies: u32,
    /// Slices of the CT series; the MR series has half as many
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slices: u32,
    /// Rows and columns of a CT slice; the others have half as many
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(16..=8192))]
    pub size: u16,
}

/// Runs the command.
pub fn run(args: &SampleArgs) -> Result<super::Outcome> {
    let plan = Plan { seed: args.seed, studies: args.studies, slices: args.slices, size: args.size };
    let bar = progress(plan.instances());
    let (mut files, mut bytes) = (0u64, 0u64);
    let mut made = HashSet::new();
    for instance in plan.iter() {
        let path = args.folder.join(&instance.path);
        let folder = path.parent().unwrap_or(&args.folder);
        if made.insert(folder.to_owned()) {
            std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, error))?;
        }
        std::fs::write(&path, &instance.bytes).map_err(|error| cannot_write(&path, error))?;
        files += 1;
        bytes += instance.bytes.len() as u64;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let folder = args.folder.display();
    let studies = if args.studies == 1 { "study" } else { "studies" };
    let (count, size) = (args.studies, DecimalBytes(bytes));
    // whoever closed the pipe does not want to know
    let _ = writeln!(
        std::io::stdout().lock(),
        "wrote {count} {studies} in {files} files with {size} below {folder}; `isocenter store {folder}` sends them"
    );
    Ok(super::Outcome::Done)
}

fn progress(files: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} files, {eta} left");
    ProgressBar::new(files).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("`{}` cannot be written, name a folder where it can", path.display()), error)
}
