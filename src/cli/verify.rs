//! `isocenter verify`: compares every row of the index with its object and reports what is wrong.

use std::collections::BTreeMap;

use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Map, Value, json};

use super::opened::{Index, Opened, over_archive};
use super::watch::{Listing, Watch, many};
use super::{Outcome, Places};
use crate::archive::verify::{Checked, Problem, RowPart, Verify, VerifyOptions};
use crate::catalogue::{IndexedRow, Work};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::error::Result;
use crate::store::keys::StorageKey;

/// Compare every instance of the index with its object.
///
/// Each row has to name an object that is there, has the size and the BLAKE3 digest it had when it was stored, and the
/// metadata, frame index and bulk data index of the row have to be readable. Nothing is changed, so the
/// archive may be a copy that cannot be written. Servers may store and
/// remove meanwhile; what they do is no finding.
///
/// Each finding is a line: what is wrong, study, series and instance UID, storage key. With --json the output is one
/// object: `findings`, then `instances`, `bytes` and how many findings there are of each kind.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Findings:
  missing      the object is not there
  wrong size   the object is longer or shorter than it was
  damaged      the object has other bytes than it had
  unreadable   columns, storage key, frame index, metadata or bulk data index of the row
  unchecked    the object could not be read several times over; see the log, and try again

Examples:
  isocenter verify                              the archive in ./isocenter-data
  isocenter verify --data-dir /srv/dicom --quick
  isocenter verify --study 1.2.840.1 --json
  isocenter verify --parallel 32 --database-url postgres://me@db/dicom --storage-url s3://bucket

Exit status: 0 all well, 1 something is wrong, 2 usage or settings.")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    places: Places,
    /// Only the instances of this study
    #[arg(long, value_name = "UID", value_parser = StudyUid::parse)]
    study: Option<StudyUid>,
    /// Objects that are read at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Do not read objects: only look whether they are there and have the right size
    #[arg(long)]
    quick: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Compares.
pub(super) fn run(args: &VerifyArgs) -> Result<Outcome> {
    over_archive(&args.places, Index::Read, async |opened| verify(opened, args).await)
}

async fn verify(opened: &Opened, args: &VerifyArgs) -> Result<Outcome> {
    let options = VerifyOptions { study: args.study.clone(), parallel: usize::from(args.parallel), quick: args.quick };
    let verify = Verify::begin(&opened.catalogue, &opened.store, &options).await?;
    let half = opened.catalogue.under_way(Work::Reindex).await? || opened.catalogue.was_reindex_cut_off().await?;
    let mut report = Report { half, ..Report::default() };
    let watch = Watch::new("instances", Some(verify.instances()));
    let mut listing = Listing::begin(watch, args.json, "findings");
    let ran = verify
        .run(|checked| {
            report.add(&checked);
            for problem in &checked.problems {
                listing.item(|| line(&checked.row, *problem), || object(&checked.row, *problem));
            }
            listing.watch.show(report.instances, report.bytes);
        })
        .await;
    listing.end(&report.to_text(ran.is_ok()), &report.to_json(ran.is_ok()));
    ran?;
    let clean = !half && report.findings.values().all(|count| *count == 0);
    Ok(if clean { Outcome::Done } else { Outcome::SomeFailed })
}

/// What a finding is called, and in JSON.
const KINDS: [(&str, &str); 5] = [
    ("missing", "missing"),
    ("wrong size", "wrong_size"),
    ("damaged", "damaged"),
    ("unreadable", "unreadable"),
    ("unchecked", "unchecked"),
];

fn kind(problem: Problem) -> (&'static str, &'static str) {
    let [missing, wrong_size, damaged, unreadable, unchecked] = KINDS;
    match problem {
        Problem::Missing => missing,
        Problem::WrongSize { .. } => wrong_size,
        Problem::Damaged => damaged,
        Problem::Unreadable(_) => unreadable,
        Problem::Unchecked => unchecked,
    }
}

fn part_name(part: RowPart) -> &'static str {
    match part {
        RowPart::Columns => "columns",
        RowPart::StorageKey => "storage key",
        RowPart::FrameIndex => "frame index",
        RowPart::Metadata => "metadata",
        RowPart::BulkData => "bulk data",
    }
}

/// Study, series and instance UID. What is not a UID is left out: nobody knows what it is.
fn uids(row: &IndexedRow) -> [Option<&str>; 3] {
    [
        row.study.as_ref().map(StudyUid::as_str),
        row.series.as_ref().map(SeriesUid::as_str),
        row.instance.as_ref().map(InstanceUid::as_str),
    ]
}

/// The storage key, if it is a path below the store.
fn location(row: &IndexedRow) -> Option<String> {
    let key = StorageKey::from_index(row.location.clone());
    key.checked().ok().map(str::to_owned)
}

fn line(row: &IndexedRow, problem: Problem) -> String {
    let detail = match problem {
        Problem::WrongSize { expected, found } => format!(" ({found} bytes instead of {expected})"),
        Problem::Unreadable(part) => format!(" ({})", part_name(part)),
        Problem::Missing | Problem::Damaged | Problem::Unchecked => String::new(),
    };
    let [study, series, instance] = uids(row).map(|uid| uid.unwrap_or("?"));
    let key = location(row).unwrap_or_else(|| "?".to_owned());
    format!("{}{detail}: study {study} series {series} instance {instance}: {key}", kind(problem).0)
}

fn object(row: &IndexedRow, problem: Problem) -> Value {
    let [study, series, instance] = uids(row);
    let mut object = json!({
        "problem": kind(problem).1, "study": study, "series": series, "instance": instance, "key": location(row),
    });
    match problem {
        Problem::WrongSize { expected, found } => {
            object["expected_bytes"] = json!(expected);
            object["found_bytes"] = json!(found);
        }
        Problem::Unreadable(part) => object["part"] = json!(part_name(part)),
        Problem::Missing | Problem::Damaged | Problem::Unchecked => {}
    }
    object
}

/// The figures.
#[derive(Default)]
struct Report {
    instances: u64,
    bytes: u64,
    findings: BTreeMap<&'static str, u64>,
    /// The index is being made anew, or was half made.
    half: bool,
}

impl Report {
    fn add(&mut self, checked: &Checked) {
        self.instances += 1;
        self.bytes = self.bytes.saturating_add(checked.bytes);
        for problem in &checked.problems {
            *self.findings.entry(kind(*problem).1).or_default() += 1;
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.findings.get(name).copied().unwrap_or_default()
    }

    fn to_text(&self, complete: bool) -> String {
        let found: Vec<String> = KINDS
            .iter()
            .filter(|(_, name)| self.count(name) > 0)
            .map(|(text, name)| format!("{} {text}", HumanCount(self.count(name))))
            .collect();
        let found = if found.is_empty() { "nothing is wrong".to_owned() } else { found.join(", ") };
        let rest = if complete { "" } else { "; the rest was not checked" };
        let half = if self.half {
            "; the index is not whole until a run of `isocenter reindex` has come to its end"
        } else {
            ""
        };
        format!(
            "{} checked, {}: {found}{rest}{half}",
            many(self.instances, "instance", "instances"),
            DecimalBytes(self.bytes)
        )
    }

    fn to_json(&self, complete: bool) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("instances".to_owned(), json!(self.instances));
        fields.insert("bytes".to_owned(), json!(self.bytes));
        for (_, name) in KINDS {
            fields.insert(name.to_owned(), json!(self.count(name)));
        }
        fields.insert("complete".to_owned(), json!(complete));
        fields.insert("index_whole".to_owned(), json!(!self.half));
        fields
    }
}
