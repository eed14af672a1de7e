//! When files are sent that contend for one SOP Instance UID: in the order in which they were found, each after those before
//! it were answered for. So which of them is stored does not depend on how many requests are sent at once.

use super::files::FileToSend;
use super::identity;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// A file and the UIDs by which a server may name it.
#[derive(Clone, Debug)]
pub struct Identified {
    /// The file.
    pub file: FileToSend,
    /// Its SOP Instance UIDs, as far as they can be read.
    pub uids: Vec<String>,
}

/// Reads which instances files are.
pub fn identify(files: Vec<FileToSend>) -> Vec<Identified> {
    files.into_iter().map(|file| Identified { uids: identity::uids_of(&file.path), file }).collect()
}

/// Gives every file its turn; files of one turn are of different instances.
#[derive(Debug, Default)]
pub struct Turns {
    /// The last turn of each UID, by its hash: a folder may have millions of files. Should two UIDs have the same, a file
    /// comes later than it could, which does no harm.
    last: HashMap<u64, u32>,
    hasher: RandomState,
    later: BTreeMap<u32, Vec<Identified>>,
}

impl Turns {
    /// Those of the files that have no other before them; called for all files in their order.
    pub fn first(&mut self, files: Vec<Identified>) -> Vec<Identified> {
        let mut now = Vec::with_capacity(files.len());
        for file in files {
            match self.turn(&file.uids) {
                0 => now.push(file),
                turn => self.later.entry(turn).or_default().push(file),
            }
        }
        now
    }

    /// The files of the other turns, turn by turn.
    pub fn later(self) -> impl Iterator<Item = Vec<Identified>> {
        self.later.into_values()
    }

    /// By the UID of the data set, where it can be read: some programs write the same one into the file meta information of
    /// all their files.
    fn turn(&mut self, uids: &[String]) -> u32 {
        let Some(uid) = uids.first() else { return 0 };
        let hash = self.hasher.hash_one(uid);
        let turn = self.last.get(&hash).map_or(0, |before| before + 1);
        self.last.insert(hash, turn);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_uid_have_their_turns_in_their_order() {
        let file = |(name, uids): (&str, &[&str])| Identified {
            file: FileToSend { path: name.into(), size: 0 },
            uids: uids.iter().map(|uid| (*uid).to_owned()).collect(),
        };
        let names = |files: &[Identified]| -> Vec<String> {
            files.iter().map(|file| file.file.path.to_str().unwrap().to_owned()).collect()
        };
        let mut turns = Turns::default();
        // `d` has the UID of its data set for itself
        let first = [("a", &["1"][..]), ("b", &["2"]), ("c", &["1", "3"]), ("d", &["3", "1"]), ("e", &[])];
        let second = [("f", &["4"][..]), ("g", &["2"]), ("h", &[]), ("i", &["1"])];
        assert_eq!(names(&turns.first(first.map(file).into())), ["a", "b", "d", "e"]);
        assert_eq!(names(&turns.first(second.map(file).into())), ["f", "h"]);
        let later: Vec<_> = turns.later().map(|files| names(&files)).collect();
        assert_eq!(later, [vec!["c", "g"], vec!["i"]]);
    }
}
