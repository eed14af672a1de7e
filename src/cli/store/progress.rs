//! How far the command is: a bar on a terminal, now and then a line elsewhere.

use crate::clock::Stopwatch;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds between two lines.
const EVERY: u64 = 10;

/// Files and bytes, counted as they are sent.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Stopwatch,
    files: u64,
    bytes: u64,
    files_done: AtomicU64,
    bytes_sent: AtomicU64,
    lines: AtomicU64,
}

impl Progress {
    /// For so many files with so many bytes.
    pub fn new(files: u64, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(bytes);
            let style = ProgressStyle::with_template(
                "{bar:30} {decimal_bytes} of {decimal_total_bytes}, {msg}, {decimal_bytes_per_sec}, {eta} left",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let progress = Self {
            bar,
            started: Stopwatch::start(),
            files,
            bytes,
            files_done: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            lines: AtomicU64::new(1),
        };
        progress.show();
        progress
    }

    /// Bytes of all files that were sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Bytes of a file were sent.
    pub fn sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// Bytes that were sent must be sent again.
    pub fn again(&self, bytes: u64) {
        let _ =
            self.bytes_sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sent| Some(sent.saturating_sub(bytes)));
    }

    /// A file is answered for.
    pub fn file_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.show();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&self) {
        let sent = self.bytes_sent().min(self.bytes);
        let done = self.files_done.load(Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} of {} files", HumanCount(done), HumanCount(self.files)));
            bar.set_position(sent);
            return;
        }
        let line = self.lines.load(Ordering::Relaxed);
        let due = self.started.elapsed().as_secs() >= line.saturating_mul(EVERY);
        if due && self.lines.compare_exchange(line, line + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let (files, bytes) = (HumanCount(self.files), DecimalBytes(self.bytes));
            let _ = writeln!(
                std::io::stderr().lock(),
                "{} of {files} files, {} of {bytes} sent",
                HumanCount(done),
                DecimalBytes(sent)
            );
        }
    }
}
