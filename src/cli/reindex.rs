//! `isocenter reindex`: makes a lost index anew from the objects.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Map, Value, json};

use super::opened::{Index, Opened, over_archive};
use super::watch::{Listing, Watch, many};
use super::{Outcome, Places};
use crate::archive::reindex::{Fate, Reindex, Reindexed};
use crate::catalogue::Deletion;
use crate::error::Result;
use crate::store::keys::StorageKey;

/// Make a lost index anew from the objects alone.
///
/// Every object that no row names is read, compared with its digest, and gets its rows; instances that have rows are passed over.
/// So a run that was cut off is continued by the next one, and an index that is older than the objects is brought up to date.
/// What was deleted is deleted, and what was taken back is there, also if the index is older than that; the report names it then. A
/// delete or a restore that was cut off comes about. Without an index one is made.
/// Servers may run meanwhile; they find what is indexed already. Sweeps, deletes and restores wait: servers skip their sweeps and
/// answer a delete by 503.
///
/// What lies under a lease that is held is left alone, as a process may be about to make its row, and told of. An index that was
/// saved less than an hour ago holds leases of processes that are gone: run this again when they have run out.
///
/// Of several contents under one SOP Instance UID that are not known to be deleted, the setting `store.duplicates` tells which
/// one counts: with `reject` and `ignore` the first that was received, with `replace` and `versions` the last. Among those that
/// have no row yet, that is: with `reject` and `ignore` what has a row keeps its place. Where the index is intact, run
/// `isocenter sweep` first, since what was refused just before a process was killed looks like what was stored.
///
/// Copies that nothing needs (left over, superseded) are removed by the next `isocenter sweep`; what is damaged, unusable or of
/// another content by `isocenter sweep --full` only. An instance whose object is lost or damaged gets a copy of the same content, if
/// there is one.
///
/// Each object that gets no row is a line: why, and its storage key. With --json the output is one object: `objects`, then how
/// many came out how.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  isocenter reindex                             the archive in ./isocenter-data
  isocenter reindex --data-dir /srv/dicom --parallel 8
  isocenter reindex --database-url postgres://me@db/isocenter --storage-url s3://bucket/prefix

Exit status: 0 all well, 1 some objects got no row or could not be read, 2 usage or settings.")]
pub(super) struct ReindexArgs {
    #[command(flatten)]
    places: Places,
    /// Objects that are read at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Reads all objects.
pub(super) fn run(args: &ReindexArgs) -> Result<Outcome> {
    over_archive(&args.places, Index::Made, async |opened| reindex(opened, args).await)
}

async fn reindex(opened: &Opened, args: &ReindexArgs) -> Result<Outcome> {
    let (catalogue, store) = (opened.catalogue.clone(), opened.store.clone());
    let reindex = Reindex::new(catalogue, store, &opened.config.store, usize::from(args.parallel))?;
    let mut report = Report::default();
    let mut listing = Listing::begin(Watch::new("objects", None), args.json, "objects");
    let ran = reindex
        .run(|one| {
            report.add(&one);
            if let Some(problem) = problem(&one.fate) {
                let key = one.key.as_str();
                listing.item(|| format!("{problem}: {key}"), || json!({ "problem": problem, "key": key }));
            }
            listing.watch.show(report.objects, report.bytes);
        })
        .await;
    if let Ok(agreed) = &ran {
        for key in agreed.unread.iter().map(StorageKey::as_str) {
            let problem =
                "this object tells of a delete or a restore and cannot be read, so what it says does not hold";
            listing.item(|| format!("{problem}: {key}"), || json!({ "problem": problem, "key": key }));
        }
        report.unread_deletes = agreed.unread.len() as u64;
        let uids = |deletions: &[Deletion]| deletions.iter().map(|one| one.scope.uid().to_owned()).collect();
        (report.deleted, report.restored) = (uids(&agreed.deleted), uids(&agreed.restored));
    }
    listing.end(&report.to_text(ran.is_ok()), &report.to_json(ran.is_ok()));
    ran?;
    Ok(if report.failed() == 0 { Outcome::Done } else { Outcome::SomeFailed })
}

/// How an object came out: as a text and in JSON.
fn kind(fate: &Fate) -> (&'static str, &'static str) {
    match fate {
        Fate::Indexed { hidden: false, .. } => ("indexed", "indexed"),
        Fate::Indexed { hidden: true, .. } => ("indexed as deleted", "deleted"),
        Fate::Known => ("known already", "known"),
        Fate::LeftOver => ("left over", "left_over"),
        Fate::Different => ("of another content", "different"),
        Fate::Superseded => ("superseded", "superseded"),
        Fate::Held => ("left alone", "held"),
        Fate::Damaged => ("damaged", "damaged"),
        Fate::Unusable(_) => ("unusable", "unusable"),
        Fate::Unread => ("not read", "unread"),
    }
}

const FAILURES: [&str; 5] = ["different", "held", "damaged", "unusable", "unread"];

/// What is to be said of an object, if anything.
fn problem(fate: &Fate) -> Option<String> {
    match fate {
        Fate::Indexed { .. } | Fate::Known => None,
        Fate::LeftOver => Some("left over, the next `isocenter sweep` removes it".to_owned()),
        Fate::Different => Some(
            "another content has its UID, or had and was deleted; only `isocenter sweep --full` removes it".to_owned(),
        ),
        Fate::Superseded => {
            Some("superseded by a later content under its UID, the next `isocenter sweep` removes it".to_owned())
        }
        Fate::Held => {
            Some("left alone under a lease that is held; run it again when that has ended or run out".to_owned())
        }
        Fate::Damaged => {
            Some("damaged: it has other bytes than were stored; only `isocenter sweep --full` removes it".to_owned())
        }
        Fate::Unusable(why) => Some(format!("{why}; only `isocenter sweep --full` removes it")),
        Fate::Unread => Some("the object store did not hand it out".to_owned()),
    }
}

/// The figures.
#[derive(Default)]
struct Report {
    objects: u64,
    bytes: u64,
    without_receipt: u64,
    /// What tells of deletes and cannot be read.
    unread_deletes: u64,
    /// What had been deleted, and rows were there.
    deleted: Vec<String>,
    /// What had been taken back, and was hidden.
    restored: Vec<String>,
    /// By name in JSON: text and count.
    fates: BTreeMap<&'static str, (&'static str, u64)>,
}

impl Report {
    fn add(&mut self, one: &Reindexed) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(one.bytes);
        self.without_receipt += u64::from(matches!(one.fate, Fate::Indexed { without_receipt: true, .. }));
        let (text, name) = kind(&one.fate);
        self.fates.entry(name).or_insert((text, 0)).1 += 1;
    }

    fn failed(&self) -> u64 {
        let objects: u64 = FAILURES.iter().filter_map(|name| self.fates.get(name)).map(|(_, count)| count).sum();
        objects + self.unread_deletes
    }

    fn to_text(&self, complete: bool) -> String {
        let fates: Vec<String> =
            self.fates.values().map(|(text, count)| format!("{} {text}", HumanCount(*count))).collect();
        let fates = if fates.is_empty() { String::new() } else { format!(": {}", fates.join(", ")) };
        let unproven = match self.without_receipt {
            0 => String::new(),
            count => format!("; of {} nothing tells the digest", many(count, "object", "objects")),
        };
        let rest = if complete { "" } else { "; it did not come to its end, run it again" };
        let mut agreed = String::new();
        for (uids, what) in [(&self.deleted, "deleted"), (&self.restored, "taken back")] {
            if !uids.is_empty() {
                let _ = write!(
                    agreed,
                    "; {what}, as the objects tell, and not in the index until now: {}",
                    uids.join(", ")
                );
            }
        }
        format!(
            "{}, {}{fates}{unproven}{agreed}{rest}",
            many(self.objects, "object", "objects"),
            DecimalBytes(self.bytes)
        )
    }

    fn to_json(&self, complete: bool) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("read".to_owned(), json!(self.objects));
        fields.insert("bytes".to_owned(), json!(self.bytes));
        for (name, (_, count)) in &self.fates {
            fields.insert((*name).to_owned(), json!(count));
        }
        fields.insert("without_receipt".to_owned(), json!(self.without_receipt));
        fields.insert("deletes_unread".to_owned(), json!(self.unread_deletes));
        fields.insert("deletes_done".to_owned(), json!(self.deleted));
        fields.insert("deletes_taken_back".to_owned(), json!(self.restored));
        fields.insert("complete".to_owned(), json!(complete));
        fields
    }
}
