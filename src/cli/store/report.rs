//! What became of each file, and how the user is told.

use super::answer::meaning;
use super::files::{FileToSend, Found};
use crate::cli::text::printable;
use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is stored now.
    Stored,
    /// It was stored before.
    Present,
    /// It is stored, and the server has something to say about it.
    Warned {
        /// Warning Reason (0008,1196).
        reason: u16,
        /// What the server adds.
        comment: Option<String>,
    },
    /// The server does not take it.
    Refused {
        /// Failure Reason (0008,1197).
        reason: Option<u16>,
        /// What the server adds.
        comment: Option<String>,
    },
    /// It could not be read or sent, or nothing is known about it.
    Failed(String),
    /// The server went away before.
    NotSent,
}

/// The outcomes of all files.
#[derive(Debug)]
pub struct Report {
    files: BTreeMap<Outcome, Vec<PathBuf>>,
    found: usize,
    bytes: u64,
    hidden: u64,
    stopped: Option<String>,
    started: crate::clock::Stopwatch,
}

impl Report {
    pub(super) fn new(found: &Found) -> Self {
        let mut report = Self {
            files: BTreeMap::new(),
            found: found.files.len() + found.unreadable.len(),
            bytes: found.files.iter().map(|file| file.size).sum(),
            hidden: found.hidden,
            stopped: None,
            started: crate::clock::Stopwatch::start(),
        };
        for (path, why) in &found.unreadable {
            report.add(path.clone(), Outcome::Failed(format!("cannot be read: {why}")));
        }
        report
    }

    pub(super) fn add(&mut self, path: PathBuf, outcome: Outcome) {
        self.files.entry(outcome).or_default().push(path);
    }

    /// Puts the files of each outcome in order: answers come in any.
    pub(super) fn sort(&mut self) {
        self.files.values_mut().for_each(|files| files.sort_unstable());
    }

    /// Whether the server has said nothing about any file.
    pub(super) fn is_empty(&self) -> bool {
        self.files.keys().all(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// Notes that the rest was not sent.
    pub(super) fn stop(&mut self, files: &[FileToSend], why: &str) {
        let known: HashSet<&Path> = self.files.values().flatten().map(PathBuf::as_path).collect();
        let rest: Vec<PathBuf> =
            files.iter().map(|file| &file.path).filter(|path| !known.contains(path.as_path())).cloned().collect();
        self.files.insert(Outcome::NotSent, rest);
        self.stopped = Some(why.to_owned());
    }

    /// Whether the server has every file.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.files.keys().all(|outcome| matches!(outcome, Outcome::Stored | Outcome::Present | Outcome::Warned { .. }))
    }

    /// How many files had an outcome.
    pub fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.files.iter().filter(|(outcome, _)| is(outcome)).map(|(_, files)| files.len()).sum()
    }

    /// Each outcome with its files.
    pub fn outcomes(&self) -> impl Iterator<Item = (&Outcome, &[PathBuf])> {
        self.files.iter().map(|(outcome, files)| (outcome, files.as_slice()))
    }

    fn kinds(&self) -> [(&'static str, usize); 6] {
        [
            ("stored", self.count(|outcome| matches!(outcome, Outcome::Stored))),
            ("already there", self.count(|outcome| matches!(outcome, Outcome::Present))),
            ("stored with a warning", self.count(|outcome| matches!(outcome, Outcome::Warned { .. }))),
            ("refused", self.count(|outcome| matches!(outcome, Outcome::Refused { .. }))),
            ("failed", self.count(|outcome| matches!(outcome, Outcome::Failed(_)))),
            ("not sent", self.count(|outcome| matches!(outcome, Outcome::NotSent))),
        ]
    }

    /// The summary for people: what was not simply stored first, the figures last.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (outcome, files) in self.outcomes() {
            let Some(title) = title(outcome) else { continue };
            let _ = writeln!(text, "{}: {}", printable(&title), files_of(files.len()));
            for file in files {
                let _ = writeln!(text, "  {}", printable(&file.to_string_lossy()));
            }
        }
        if let Some(why) = &self.stopped {
            let _ = writeln!(text, "stopped: {}", printable(why));
        }
        let elapsed = self.started.elapsed();
        let per_second = self.bytes as f64 / elapsed.as_secs_f64().max(0.001);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float as an integer saturates")]
        let rate = DecimalBytes(per_second as u64);
        let seconds = Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)).as_secs_f64();
        let _ = write!(text, "{}, {} in {seconds:.1} s ({rate}/s):", files_of(self.found), DecimalBytes(self.bytes));
        let kinds: Vec<String> = self
            .kinds()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{} {name}", HumanCount(count as u64)))
            .collect();
        let _ = write!(text, " {}", if kinds.is_empty() { "nothing to send".to_owned() } else { kinds.join(", ") });
        if self.hidden > 0 {
            let _ = write!(text, " ({} left out)", files_of_kind(self.hidden, "hidden entry", "hidden entries"));
        }
        text
    }

    /// The summary for programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        let others: Vec<Value> = self
            .outcomes()
            .filter_map(|(outcome, files)| Some((describe(outcome)?, files)))
            .flat_map(|(description, files)| {
                files.iter().map(move |file| {
                    let mut description = description.clone();
                    description["file"] = json!(file.to_string_lossy());
                    description
                })
            })
            .collect();
        let mut summary = json!({ "files": self.found, "bytes": self.bytes, "hidden": self.hidden, "others": others });
        for (name, count) in self.kinds() {
            summary[name.replace(' ', "_")] = json!(count);
        }
        if let Some(why) = &self.stopped {
            summary["stopped"] = json!(why);
        }
        summary.to_string()
    }
}

fn files_of(count: usize) -> String {
    files_of_kind(count as u64, "file", "files")
}

fn files_of_kind(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}

/// The heading above the files with an outcome; none if there is nothing to say.
fn title(outcome: &Outcome) -> Option<String> {
    let reason = |what: &str, reason: Option<u16>, comment: &Option<String>| {
        let mut title = what.to_owned();
        if let Some(reason) = reason {
            let _ = write!(title, ", {reason:04X}H {}", meaning(reason));
        }
        if let Some(comment) = comment {
            let _ = write!(title, ": {comment}");
        }
        title
    };
    match outcome {
        Outcome::Stored | Outcome::Present => None,
        Outcome::Warned { reason: code, comment } => Some(reason("stored with a warning", Some(*code), comment)),
        Outcome::Refused { reason: code, comment } => Some(reason("refused", *code, comment)),
        Outcome::Failed(why) => Some(format!("failed, {why}")),
        Outcome::NotSent => Some("not sent".to_owned()),
    }
}

fn describe(outcome: &Outcome) -> Option<Value> {
    match outcome {
        Outcome::Stored | Outcome::Present => None,
        Outcome::Warned { reason, comment } => {
            Some(json!({ "outcome": "warning", "reason": reason, "meaning": meaning(*reason), "comment": comment }))
        }
        Outcome::Refused { reason, comment } => {
            Some(json!({ "outcome": "refused", "reason": reason, "meaning": reason.map(meaning), "comment": comment }))
        }
        Outcome::Failed(why) => Some(json!({ "outcome": "failed", "comment": why })),
        Outcome::NotSent => Some(json!({ "outcome": "not sent" })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_adds_up() {
        let files: Vec<_> = (0..6).map(|n| FileToSend { path: format!("f{n}").into(), size: 500 }).collect();
        let found = Found { files: files.clone(), hidden: 1, unreadable: vec![("dir".into(), "denied".into())] };
        let mut report = Report::new(&found);
        report.add("f0".into(), Outcome::Stored);
        report.add("f1".into(), Outcome::Present);
        report.add("f2".into(), Outcome::Refused { reason: Some(0xC000), comment: Some("truncated".into()) });
        report.add("f3".into(), Outcome::Warned { reason: 0xB007, comment: None });
        report.stop(&files, "the server went away");
        let text = report.to_text();
        assert!(text.contains("refused, C000H cannot be understood: truncated: 1 file\n  f2\n"), "{text}");
        assert!(text.contains("not sent: 2 files\n  f4\n  f5\n"), "{text}");
        assert!(text.contains("failed, cannot be read: denied: 1 file\n  dir\n"), "{text}");
        let figures = "1 stored, 1 already there, 1 stored with a warning, 1 refused, 1 failed, 2 not sent (1 hidden entry left out)";
        assert!(text.ends_with(figures) && text.contains("\n7 files, 3.00 kB in"), "{text}");
        assert!(!report.is_complete());
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["others"].as_array().unwrap().len(), 5);
        assert_eq!((&json["already_there"], &json["refused"], &json["files"]), (&json!(1), &json!(1), &json!(7)));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_in_names_and_words() {
        let path = PathBuf::from("a\x1b]0;title\x07\nb");
        let files = vec![FileToSend { path: path.clone(), size: 1 }];
        let found = Found { files: files.clone(), hidden: 0, unreadable: vec![(path.clone(), "why\x1b".into())] };
        let mut report = Report::new(&found);
        report.add(path, Outcome::Refused { reason: None, comment: Some("no\x1b[2J\nway".into()) });
        report.stop(&files, "gone\x1b[1m");
        let text = report.to_text();
        assert!(!text.contains(|character: char| character.is_control() && character != '\n'), "{text:?}");
        assert!(text.contains(r"refused: no\u{1b}[2J\nway: 1 file"), "{text}");
        assert!(text.contains("\n  a\\u{1b}]0;title\\u{7}\\nb\n"), "{text}");
    }
}
