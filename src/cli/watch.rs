//! How far a command over the archive is, and a report whose items are printed as they come, so that it may be of any length.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::io::Write as _;

use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::print;
use crate::clock::Stopwatch;

/// Seconds between two lines where no bar can be shown.
const EVERY: u64 = 10;

/// A bar on a terminal, now and then a line elsewhere; both on standard error.
pub(super) struct Watch {
    bar: Option<ProgressBar>,
    started: Stopwatch,
    noun: &'static str,
    total: Option<u64>,
    lines: u64,
}

impl Watch {
    /// For about so many of what the noun names, if that is known.
    pub(super) fn new(noun: &'static str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = match total {
                Some(_) => format!("{{bar:30}} {{human_pos}} of {{human_len}} {noun}, {{msg}}, {{eta}} left"),
                None => format!("{{spinner}} {{human_pos}} {noun}, {{msg}}, {{elapsed}}"),
            };
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self { bar, started: Stopwatch::start(), noun, total, lines: 1 }
    }

    /// So many are done, with so many bytes.
    pub(super) fn show(&mut self, done: u64, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(DecimalBytes(bytes).to_string());
            bar.set_position(done);
            return;
        }
        if self.started.elapsed().as_secs() >= self.lines.saturating_mul(EVERY) {
            self.lines = self.started.elapsed().as_secs() / EVERY + 1;
            let of = self.total.map(|total| format!(" of {}", HumanCount(total))).unwrap_or_default();
            let line = format!("{}{of} {}, {}", HumanCount(done), self.noun, DecimalBytes(bytes));
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }

    /// Prints to standard output, above the bar.
    fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(text)),
            None => print(text),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Items as lines, or in the list of one JSON object.
pub(super) struct Listing {
    pub(super) watch: Watch,
    json: bool,
    items: u64,
}

impl Listing {
    /// Begins the list of this name.
    pub(super) fn begin(watch: Watch, json: bool, name: &str) -> Self {
        if json {
            watch.print(&format!("{{\"{name}\":["));
        }
        Self { watch, json, items: 0 }
    }

    /// Prints an item: a text for people, an object for programs.
    pub(super) fn item(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        let separator = if self.items == 0 { "\n" } else { ",\n" };
        let item = if self.json { format!("{separator}{}", json()) } else { text() + "\n" };
        self.items += 1;
        self.watch.print(&item);
    }

    /// Prints what stands behind the items.
    pub(super) fn end(self, text: &str, json: &Map<String, Value>) {
        self.watch.finish();
        if !self.json {
            return print(&format!("{text}\n"));
        }
        let mut end = if self.items == 0 { "]".to_owned() } else { "\n]".to_owned() };
        for (name, value) in json {
            let _ = write!(end, ",\"{name}\":{value}");
        }
        print(&(end + "}\n"));
    }
}

/// A number of things, by their name.
pub(super) fn many(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}
