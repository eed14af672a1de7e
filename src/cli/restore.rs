//! `isocenter restore`: takes back deletes.

use std::fmt::Write as _;

use indicatif::HumanCount;

use super::opened::{Index, Opened, over_archive};
use super::watch::many;
use super::{Outcome, Places, print};
use crate::archive::delete;
use crate::archive::reindex::expect_whole_index;
use crate::catalogue::Deletion;
use crate::dicom::uid::StudyUid;
use crate::error::{Error, Result};

/// Take back the delete of a study, a series or an instance.
///
/// That can be done until what was deleted is erased (`store.undo_window`, 7 days unless set otherwise). Instances that were
/// stored again since stay as they are now. All deletes of the UID are taken back, the latest first. Servers may run meanwhile.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  isocenter restore 1.2.840.113619.2.55.3       a study, series or instance of the archive in ./isocenter-data
  isocenter restore --list 1.2.840.113619.2.55.3
  isocenter restore --database-url postgres://me@db/isocenter --storage-url s3://bucket/prefix 1.2.3

Exit status: 0 all well, 1 of a delete nothing could be taken back, 2 usage or settings.")]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    places: Places,
    /// Study, Series or SOP Instance UIDs as they were deleted
    #[arg(required = true, value_name = "UID")]
    uids: Vec<String>,
    /// Restore nothing, only tell which deletes there are and how much of each could be taken back
    #[arg(long)]
    list: bool,
}

/// Takes back.
pub(super) fn run(args: &RestoreArgs) -> Result<Outcome> {
    for uid in &args.uids {
        // all three levels have the same form
        StudyUid::parse(uid).map_err(|error| Error::bad_request(format!("`{uid}` {error}")))?;
    }
    over_archive(&args.places, Index::Existing, async |opened| restore(opened, args).await)
}

async fn restore(opened: &Opened, args: &RestoreArgs) -> Result<Outcome> {
    expect_whole_index(&opened.catalogue).await?;
    let mut outcome = Outcome::Done;
    for uid in &args.uids {
        let deletions = opened.catalogue.deletions_of(uid).await?;
        if deletions.is_empty() {
            print(&format!("{uid}: no delete of it is known\n"));
            outcome = Outcome::SomeFailed;
        }
        let mut all_failed = !deletions.is_empty();
        for deletion in deletions {
            let (line, done) = take_back(opened, uid, &deletion, args.list).await?;
            print(&line);
            // what an earlier delete hid cannot come back beside what was just taken back, which came later
            all_failed &= !done;
        }
        if all_failed {
            outcome = Outcome::SomeFailed;
        }
    }
    Ok(outcome)
}

/// The line about a deletion, and whether all is well.
async fn take_back(opened: &Opened, uid: &str, deletion: &Deletion, list: bool) -> Result<(String, bool)> {
    let (instances, taken) = if list {
        let restorable = opened.catalogue.restorable(deletion.id).await?;
        (restorable.instances, restorable.taken)
    } else {
        let restored = delete::restore(&opened.catalogue, &opened.store, deletion).await?;
        (restored.instances, restored.taken)
    };
    let when = crate::clock::utc_text(deletion.at);
    let who = super::text::printable(&deletion.who);
    let what = came_out(instances, taken, list);
    Ok((format!("{uid}: deleted {when} by {who}, {what}\n"), list || instances > 0))
}

/// How taking back came out or would come out, in words.
fn came_out(instances: u64, taken: u64, list: bool) -> String {
    let mut text = match (instances, taken) {
        (0, 0) => return "erased".to_owned(),
        (0, _) => {
            let taken = many(taken, "instance was", "instances were");
            return format!("nothing can be taken back, as {taken} stored again");
        }
        _ => many(instances, "instance", "instances"),
    };
    text.push_str(if list { " can be taken back" } else { " restored" });
    if taken > 0 {
        let _ = write!(text, ", {} not, as they were stored again", HumanCount(taken));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_again_cannot_be_taken_back() {
        for (instances, taken, list, text) in [
            (0, 0, true, "erased"),
            (0, 1, true, "nothing can be taken back, as 1 instance was stored again"),
            (0, 2, false, "nothing can be taken back, as 2 instances were stored again"),
            (1, 0, true, "1 instance can be taken back"),
            (3, 0, false, "3 instances restored"),
            (3, 1, false, "3 instances restored, 1 not, as they were stored again"),
            (3, 1, true, "3 instances can be taken back, 1 not, as they were stored again"),
        ] {
            assert_eq!(came_out(instances, taken, list), text);
        }
    }
}
