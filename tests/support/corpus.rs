//! The corpus of real files, and what the server has to answer for each: `tests/corpus_expected.tsv`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The files that tests may read, in the order of their paths.
pub struct Corpus {
    /// Where they are.
    pub folder: PathBuf,
    /// One row per file.
    pub files: Vec<CorpusFile>,
}

/// A file of the corpus and the outcome of storing it after those before it.
#[derive(Clone, Debug)]
pub struct CorpusFile {
    /// Its path inside the corpus.
    pub path: String,
    /// SHA-256 of its bytes, as hex digits.
    pub sha256: String,
    /// What storing it into one server with all before it gives.
    pub expected: Expected,
    /// Files of the same group have no SOP Instance UID with two contents; from 1.
    pub group: u32,
}

/// What storing a file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is stored.
    Stored,
    /// It is stored, with this warning.
    Warned(u16),
    /// The same bytes are stored already, which is success.
    Duplicate,
    /// It is refused with this reason.
    Refused(u16),
}

impl Expected {
    /// Whether there is one instance more afterwards.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Stored | Self::Warned(_))
    }
}

impl CorpusFile {
    /// What storing the file gives when only its own group is stored.
    pub fn expected_in_group(&self) -> Expected {
        match self.expected {
            Expected::Refused(0x0111) => Expected::Stored,
            other => other,
        }
    }
}

impl Corpus {
    /// The corpus in `ISOCENTER_TEST_CORPUS`, else in `../shared/dicom`; `None` when there is none, or for `none`.
    pub fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = match env::var("ISOCENTER_TEST_CORPUS") {
            Ok(folder) if folder == "none" => return None,
            Ok(folder) => PathBuf::from(folder),
            Err(_) => root.join("../shared/dicom"),
        };
        folder
            .join("MANIFEST.tsv")
            .is_file()
            .then(|| Self { folder, files: expected(&root.join("tests/corpus_expected.tsv")) })
    }

    /// The bytes of a file.
    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The files by group.
    pub fn groups(&self) -> BTreeMap<u32, Vec<&CorpusFile>> {
        let mut groups = BTreeMap::<u32, Vec<&CorpusFile>>::new();
        for file in &self.files {
            groups.entry(file.group).or_default().push(file);
        }
        groups
    }

    /// The rows of `pixels.tsv`: decoded frames and their digests.
    pub fn frames(&self) -> Vec<CorpusFrame> {
        let text = fs::read_to_string(self.folder.join("pixels.tsv")).unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('\t').collect();
            CorpusFrame {
                path: cells[0].to_owned(),
                number: cells[1].parse().unwrap(),
                sha256_stored: Some(cells[9].to_owned()).filter(|digest| !digest.is_empty()),
            }
        };
        text.lines().skip(1).map(row).collect()
    }
}

/// A frame with a known digest.
pub struct CorpusFrame {
    /// The path of its file inside the corpus.
    pub path: String,
    /// From 1.
    pub number: u32,
    /// SHA-256 of the frame as it stands in the file; `None` where it has no bytes of its own.
    pub sha256_stored: Option<String>,
}

/// A reason such as `C000H`.
fn number(reason: &str) -> u16 {
    u16::from_str_radix(reason.trim_end_matches('H'), 16).unwrap()
}

fn expected(path: &Path) -> Vec<CorpusFile> {
    let text = fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let expected = match (cells[2], cells[3]) {
            ("stored", "") => Expected::Stored,
            ("stored", reason) => Expected::Warned(number(reason)),
            ("refused", reason) => Expected::Refused(number(reason)),
            (outcome, _) if outcome.starts_with("duplicate-of ") => Expected::Duplicate,
            _ => panic!("{}: what is {} {}?", cells[0], cells[2], cells[3]),
        };
        CorpusFile {
            path: cells[0].to_owned(),
            sha256: cells[1].to_owned(),
            expected,
            group: cells[4].parse().unwrap(),
        }
    };
    text.lines().skip(1).map(row).collect()
}

/// Says how many files of the corpus a test went through; `tests/run` sums up what is written here.
pub fn report(test: &str, files: usize) {
    println!("{test}: {files} files of the corpus");
    if let Ok(folder) = env::var("ISOCENTER_TEST_REPORT") {
        fs::write(Path::new(&folder).join(format!("{test}.corpus")), files.to_string()).unwrap();
    }
}

#[test]
fn the_expectations_name_every_file_of_the_corpus_once() {
    let Some(corpus) = Corpus::find() else { return report("expectations", 0) };
    let manifest = String::from_utf8(corpus.read("MANIFEST.tsv")).unwrap();
    let mut listed: Vec<(String, String)> = manifest
        .lines()
        .skip(1)
        .map(|line| line.split('\t'))
        .map(|mut cells| (cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned()))
        .collect();
    listed.sort();
    let named: Vec<(String, String)> =
        corpus.files.iter().map(|file| (file.path.clone(), file.sha256.clone())).collect();
    assert_eq!(named, listed);
}
