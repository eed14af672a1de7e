//! `isocenter store`: sends files and folders to a DICOMweb server by STOW-RS.

mod answer;
mod files;
mod progress;
mod report;
mod request;

pub use report::{Outcome, Report};

use crate::error::{Error, Result};
use files::FileToSend;
use futures_util::StreamExt;
use progress::Progress;
use request::{Client, Reply, Stop};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Send DICOM files and folders to a DICOMweb server.
///
/// Every file of a folder is sent, except hidden ones; what the server does not take is listed with its reason. Sending a
/// file twice does no harm.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  isocenter store scans/                     all files below a folder, to the server on this machine
  isocenter store a.dcm b.dcm --to https://pacs.example/dicom-web

Exit status: 0 if the server has all files, 1 if it does not, 2 if the command is wrong.")]
pub struct StoreArgs {
    /// Files and folders; folders with all that is below them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The DICOMweb root of the server; user and password may be part of it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/dicom-web")]
    pub to: String,
    /// Requests that are sent at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parallel: u8,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command. Errors of kind `BadRequest` are mistakes in its use (exit status 2), all others are failures (1).
pub async fn run(args: &StoreArgs) -> Result<super::Outcome> {
    let report = send(args).await?;
    let text = if args.json { report.to_json() } else { report.to_text() };
    // whoever closed the pipe does not want the rest
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(if report.is_complete() { super::Outcome::Done } else { super::Outcome::SomeFailed })
}

/// Sends all files and tells what became of each.
///
/// # Errors
/// `BadRequest` if a path does not exist or the URL is none; others if the server does not take anything at all.
pub async fn send(args: &StoreArgs) -> Result<Report> {
    let client = Client::new(&args.to)?;
    let paths = args.paths.clone();
    let found = tokio::task::spawn_blocking(move || files::find(&paths));
    let found = found.await.map_err(|error| Error::internal("looking for files failed").caused_by(error))??;
    let progress = Progress::new(found.files.len() as u64, found.files.iter().map(|file| file.size).sum());
    let mut report = Report::new(&found);
    let mut stop = None;
    let stopping = AtomicBool::new(false);
    {
        let mut groups = futures_util::stream::iter(files::groups(&found.files))
            .map(|group| send_group(&client, &progress, group, &stopping))
            .buffer_unordered(usize::from(args.parallel));
        // what is on its way when the server stops taking more is still answered for
        while let Some((outcomes, stopped)) = groups.next().await {
            for (path, outcome) in outcomes {
                report.add(path, outcome);
            }
            stop = stop.or(stopped);
        }
    }
    progress.finish();
    match stop {
        Some(Stop(error)) if report.is_empty() => Err(error),
        Some(Stop(error)) => {
            report.stop(&found.files, error.message());
            Ok(report)
        }
        None => Ok(report),
    }
}

type Outcomes = Vec<(PathBuf, Outcome)>;

/// Sends files in one request; those whose outcome the answer does not tell, each in one of its own.
async fn send_group(
    client: &Client,
    progress: &Progress,
    files: &[FileToSend],
    stopping: &AtomicBool,
) -> (Outcomes, Option<Stop>) {
    let mut outcomes = Vec::with_capacity(files.len());
    if stopping.load(Ordering::Relaxed) {
        return (outcomes, None);
    }
    let sent = send_and_ask(client, progress, files, &mut outcomes).await;
    if sent.is_err() {
        stopping.store(true, Ordering::Relaxed);
    }
    (outcomes, sent.err())
}

async fn send_and_ask(
    client: &Client,
    progress: &Progress,
    files: &[FileToSend],
    outcomes: &mut Outcomes,
) -> Result<(), Stop> {
    let mut alone = Vec::new();
    for (path, reply) in client.send(files, progress).await? {
        match reply {
            Reply::Unclear(_) if files.len() > 1 => alone.push(path),
            reply => outcomes.push(told(path, reply, progress)),
        }
    }
    for file in files.iter().filter(|file| alone.contains(&file.path)) {
        progress.again(file.size);
        for (path, reply) in client.send(std::slice::from_ref(file), progress).await? {
            outcomes.push(told(path, reply, progress));
        }
    }
    Ok(())
}

fn told(path: PathBuf, reply: Reply, progress: &Progress) -> (PathBuf, Outcome) {
    progress.file_done();
    match reply {
        Reply::Is(outcome) => (path, outcome),
        Reply::Unclear(why) => (path, Outcome::Failed(why)),
    }
}
