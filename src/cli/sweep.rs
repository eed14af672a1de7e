//! `isocenter sweep`: removes objects that no row names, and erases what was deleted.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Map, Value, json};

use super::opened::{Index, Opened, over_archive};
use super::watch::{Listing, Watch, many};
use super::{Outcome, Places};
use crate::archive::erase::{self, Erased};
use crate::archive::sweep::{Event, Stray, SweepOptions, Swept, sweep};
use crate::error::Result;
use crate::store::keys::StorageKey;

/// Remove objects that no row of the index names, and erase what was deleted or replaced.
///
/// What was deleted can be taken back for a while (`store.undo_window`, 7 days unless set otherwise) by `isocenter restore`. After
/// that its bytes are erased, and so are those of what was replaced. A server does all this by itself every hour
/// (`store.sweep_interval`).
///
/// A process that stores has a lease that it renews. When it is killed, its lease runs out after an hour at most. A sweep
/// takes such leases and removes the objects begun under them that never became instances; a server by itself only when
/// `store.undo_window` has passed too. Servers may run meanwhile, and objects under leases that are held are left alone, as is
/// everything that was not stored as an instance.
///
/// An index that was restored from a backup does not know what was stored since. Where an object shows this, nothing is removed,
/// and `isocenter reindex` is named, which makes the rows that are missing. It cannot be seen when all that is missing was stored
/// in the hour after the backup: so run `isocenter reindex` after restoring one. The clock of a server that was set forward while it
/// ran looks the same.
///
/// `isocenter reindex` reads all objects that have no row, and leaves some without: copies that nothing needs, which any sweep
/// removes, and what is damaged, no instance, or of another content than the instance has, which --full removes too. With --full all
/// objects are looked at, and one that `isocenter reindex` has not read shows that the index is older.
///
/// Each object is a line: its storage key and its size. With --json the output is one object: `objects`, then how many
/// objects and bytes were removed, how many deleted instances erased, how many failed, and how many leases were swept.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  isocenter sweep                               the archive in ./isocenter-data
  isocenter sweep --dry-run                     what it would remove
  isocenter sweep --full --dry-run --data-dir /srv/dicom
  isocenter sweep --database-url postgres://me@db/isocenter --storage-url s3://bucket/prefix

Exit status: 0 all well, 1 something could not be removed or the index is older than the objects, 2 usage or settings.")]
pub(super) struct SweepArgs {
    #[command(flatten)]
    places: Places,
    /// Remove also what `isocenter reindex` found damaged, no instance, or of another content, and left
    #[arg(long)]
    full: bool,
    /// Remove nothing, only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Sweeps.
pub(super) fn run(args: &SweepArgs) -> Result<Outcome> {
    over_archive(&args.places, Index::Existing, async |opened| report(opened, args).await)
}

async fn report(opened: &Opened, args: &SweepArgs) -> Result<Outcome> {
    let options = SweepOptions { full: args.full, dry_run: args.dry_run, grace: Duration::ZERO };
    let mut report = Report { dry_run: args.dry_run, ..Report::default() };
    let mut listing = Listing::begin(Watch::new("objects looked at", None), args.json, "objects");
    let before = erase::before(opened.config.store.undo_window);
    if args.dry_run {
        report.erased = opened.catalogue.erasable(before).await?.0;
    } else {
        let erased = erase::erase(&opened.catalogue, &opened.store, before, |one| report.erase(one)).await;
        if let Err(error) = erased {
            listing.end(&report.to_text(None), &report.to_json(None));
            return Err(error);
        }
    }
    let swept = sweep(&opened.catalogue, &opened.store, options, |event| match event {
        Event::Looked(objects) => {
            report.looked = report.looked.saturating_add(objects);
            listing.watch.show(report.looked, report.bytes);
        }
        Event::Stray(stray) => {
            report.add(&stray);
            listing.item(|| line(&stray, args.dry_run), || object(&stray));
            listing.watch.show(report.looked, report.bytes);
        }
    })
    .await;
    let told = swept.as_ref().ok();
    listing.end(&report.to_text(told), &report.to_json(told));
    let swept = swept?;
    Ok(if report.failed == 0 && swept.newer.is_none() { Outcome::Done } else { Outcome::SomeFailed })
}

fn line(stray: &Stray, dry_run: bool) -> String {
    let (key, bytes) = (stray.key.as_str(), stray.bytes);
    match &stray.failure {
        Some(error) => format!("not removed, {}: {key} ({bytes} bytes)", error.message()),
        None if dry_run => format!("would remove {key} ({bytes} bytes)"),
        None => format!("removed {key} ({bytes} bytes)"),
    }
}

fn object(stray: &Stray) -> Value {
    let mut object = json!({ "key": stray.key.as_str(), "bytes": stray.bytes });
    if let Some(error) = &stray.failure {
        object["failure"] = json!(error.message());
    }
    object
}

/// The figures.
#[derive(Default)]
struct Report {
    dry_run: bool,
    looked: u64,
    removed: u64,
    bytes: u64,
    failed: u64,
    erased: u64,
}

impl Report {
    fn erase(&mut self, one: &Erased) {
        match &one.failure {
            None => self.erased += 1,
            Some(_) => self.failed += 1,
        }
    }

    fn add(&mut self, stray: &Stray) {
        if stray.failure.is_some() {
            self.failed += 1;
        } else {
            self.removed += 1;
            self.bytes = self.bytes.saturating_add(stray.bytes);
        }
    }

    /// `swept` says how the sweep came out, if it came to its end.
    fn to_text(&self, swept: Option<&Swept>) -> String {
        let what = if self.dry_run { "would be removed" } else { "removed" };
        let mut text = format!(
            "{} looked at, {} {what} ({})",
            many(self.looked, "object", "objects"),
            HumanCount(self.removed),
            DecimalBytes(self.bytes)
        );
        if self.erased > 0 {
            let what = if self.dry_run { "would be erased" } else { "erased" };
            let _ = write!(text, ", {} {what}", many(self.erased, "deleted instance", "deleted instances"));
        }
        if self.failed > 0 {
            let _ = write!(text, ", {} could not be removed", HumanCount(self.failed));
        }
        let _ = match swept {
            Some(Swept { newer: Some(key), .. }) => write!(
                text,
                "; nothing without a row is removed, as the index is older than the objects, which `{}` shows: \
                 run `isocenter reindex`, then sweep again",
                key.as_str()
            ),
            Some(swept) => write!(text, "; {} had run out", many(swept.leases, "lease", "leases")),
            None => write!(text, "; the sweep did not come to its end"),
        };
        text
    }

    fn to_json(&self, swept: Option<&Swept>) -> Map<String, Value> {
        let fields = [
            ("looked_at", json!(self.looked)),
            ("removed", json!(self.removed)),
            ("bytes", json!(self.bytes)),
            ("erased", json!(self.erased)),
            ("failed", json!(self.failed)),
            ("leases", json!(swept.map(|swept| swept.leases))),
            ("newer_than_index", json!(swept.and_then(|swept| swept.newer.as_ref()).map(StorageKey::as_str))),
            ("dry_run", json!(self.dry_run)),
            ("complete", json!(swept.is_some())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
