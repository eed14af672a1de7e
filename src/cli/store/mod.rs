//! `isocenter store`: sends files and folders to a DICOMweb server by STOW-RS.

mod answer;
mod files;
mod identity;
mod progress;
mod report;
mod request;
mod turns;

pub use report::{Outcome, Report};

use crate::error::{Error, Result};
use files::FileToSend;
use futures_util::{Stream, StreamExt, future, stream};
use progress::Progress;
use request::{Client, Reply, Stop};
use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use turns::{Identified, Turns};

/// Send DICOM files and folders to a DICOMweb server.
///
/// Every file of a folder is sent, except hidden ones; what the server does not take is listed with its reason. Sending a
/// file twice does no harm. Of several files with one SOP Instance UID the first is stored: in the order of the arguments, below a folder by path.
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
    let run = Run { client, progress, parallel: usize::from(args.parallel), stopping: AtomicBool::new(false) };
    let stop = run.send(&found.files, &mut report).await;
    run.progress.finish();
    match stop {
        Some(Stop(error)) if report.is_empty() => return Err(error),
        Some(Stop(error)) => report.stop(&found.files, error.message()),
        None => {}
    }
    report.sort();
    Ok(report)
}

type Outcomes = Vec<(PathBuf, Outcome)>;

/// One run of the command.
struct Run {
    client: Client,
    progress: Progress,
    parallel: usize,
    /// The server takes no more.
    stopping: AtomicBool,
}

impl Run {
    /// Sends all files in their turns; what makes it stop before, if anything.
    async fn send(&self, files: &[FileToSend], report: &mut Report) -> Option<Stop> {
        let mut turns = Turns::default();
        let found = stream::iter(files::groups(files, |file| file.size))
            .take_while(|_| future::ready(!self.is_stopping()))
            .map(identified)
            // several at once, as a file may lie on a slow network, but in their order
            .buffered(self.parallel)
            .map(|group| group.map(|group| turns.first(group)));
        let mut stop = self.send_groups(found, report).await;
        for files in turns.later() {
            let groups = files::groups(&files, |file| file.file.size).into_iter().map(|group| Ok(group.to_vec()));
            stop = stop.or(self.send_groups(stream::iter(groups), report).await);
        }
        stop
    }

    async fn send_groups(
        &self,
        groups: impl Stream<Item = Result<Vec<Identified>, Stop>>,
        report: &mut Report,
    ) -> Option<Stop> {
        let mut answers = pin!(groups.map(|group| self.send_group(group)).buffer_unordered(self.parallel));
        let mut stop = None;
        // what is on its way when the server stops taking more is still answered for
        while let Some((outcomes, stopped)) = answers.next().await {
            for (path, outcome) in outcomes {
                report.add(path, outcome);
            }
            stop = stop.or(stopped);
        }
        stop
    }

    async fn send_group(&self, files: Result<Vec<Identified>, Stop>) -> (Outcomes, Option<Stop>) {
        let mut outcomes = Vec::new();
        if self.is_stopping() {
            return (outcomes, None);
        }
        let sent = match files {
            Ok(files) => self.send_and_ask(&files, &mut outcomes).await,
            Err(stop) => Err(stop),
        };
        if sent.is_err() {
            self.stopping.store(true, Ordering::Relaxed);
        }
        (outcomes, sent.err())
    }

    /// Sends files in one request; those whose outcome the answer does not tell, each in one of its own.
    async fn send_and_ask(&self, files: &[Identified], outcomes: &mut Outcomes) -> Result<(), Stop> {
        let mut alone = Vec::new();
        for (path, reply) in self.client.send(files, &self.progress).await? {
            match reply {
                Reply::Unclear(_) if files.len() > 1 => alone.push(path),
                reply => outcomes.push(told(path, reply, &self.progress)),
            }
        }
        for file in files.iter().filter(|file| alone.contains(&file.file.path)) {
            self.progress.again(file.file.size);
            for (path, reply) in self.client.send(std::slice::from_ref(file), &self.progress).await? {
                outcomes.push(told(path, reply, &self.progress));
            }
        }
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

async fn identified(files: &[FileToSend]) -> Result<Vec<Identified>, Stop> {
    let files = files.to_vec();
    let identified = tokio::task::spawn_blocking(move || turns::identify(files)).await;
    identified.map_err(|error| Stop(Error::internal("reading files failed").caused_by(error)))
}

fn told(path: PathBuf, reply: Reply, progress: &Progress) -> (PathBuf, Outcome) {
    progress.file_done();
    match reply {
        Reply::Is(outcome) => (path, outcome),
        Reply::Unclear(why) => (path, Outcome::Failed(why)),
    }
}
