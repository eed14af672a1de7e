//! Searches DICOM files in memory: files are the arguments, searches the lines of the input (`study`, `series` or
//! `instance`, a tab, the query string). Prints `file`, path and UIDs of each file that is indexed, then the UIDs of the
//! matches of each search, one line each. `tests/interop/search_vs_pydicom.py` compares them with what pydicom's values say.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufWriter, Write};

use isocenter::dicom::entry::{IndexEntry, SeriesEntry, StudyEntry};
use isocenter::dicom::header::{HeaderLimits, HeaderReader};
use isocenter::dicom::query::{Candidate, SearchQuery};
use isocenter::dicom::uid::{InstanceUid, Level, SeriesUid, StudyUid};
use isocenter::dicomweb::query::parse;

/// As the catalogue has it: the attributes of a study and of a series are those of the first instance.
#[derive(Default)]
struct Archive {
    studies: BTreeMap<StudyUid, (StudyEntry, Vec<String>)>,
    series: BTreeMap<(StudyUid, SeriesUid), SeriesEntry>,
    instances: BTreeMap<InstanceUid, IndexEntry>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut archive = Archive::default();
    let mut out = BufWriter::new(std::io::stdout().lock());
    for path in std::env::args().skip(1) {
        let Some(entry) = read(&path) else { continue };
        let key = entry.key.clone();
        if archive.add(entry) {
            writeln!(out, "file\t{path}\t{}\t{}\t{}", key.study, key.series, key.instance)?;
        }
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (level, text) = line.split_once('\t').ok_or("a line without tab")?;
        let level = match level {
            "study" => Level::Study,
            "series" => Level::Series,
            _ => Level::Instance,
        };
        match parse(level, None, None, text) {
            Ok(parsed) => writeln!(out, "{}", archive.search(&parsed.query).join(" "))?,
            Err(error) => writeln!(out, "refused {error}")?,
        }
    }
    Ok(out.flush()?)
}

fn read(path: &str) -> Option<IndexEntry> {
    let mut reader = HeaderReader::new(HeaderLimits::default());
    reader.push(&std::fs::read(path).ok()?).ok()?;
    IndexEntry::from_header(&reader.finish().ok()?).ok()
}

impl Archive {
    fn add(&mut self, entry: IndexEntry) -> bool {
        let key = entry.key.clone();
        if self.instances.contains_key(&key.instance) {
            return false;
        }
        let (_, modalities) =
            self.studies.entry(key.study.clone()).or_insert_with(|| (entry.study.clone(), Vec::new()));
        let series = self.series.entry((key.study, key.series)).or_insert_with(|| {
            modalities.extend(entry.series.modality.clone());
            entry.series.clone()
        });
        // candidates below show what the series has, not the instance
        let entry = IndexEntry { series: series.clone(), ..entry };
        self.instances.insert(key.instance, entry);
        true
    }

    fn search(&self, query: &SearchQuery) -> Vec<String> {
        let mut found: Vec<String> = self.instances.values().filter_map(|entry| self.found(query, entry)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// The UID of the level asked for, with those above it.
    fn found(&self, query: &SearchQuery, entry: &IndexEntry) -> Option<String> {
        let key = &entry.key;
        let (study, modalities) = self.studies.get(&key.study)?;
        let candidate = Candidate {
            study_uid: &key.study,
            study,
            modalities,
            series: (query.level >= Level::Series).then_some((&key.series, &entry.series)),
            instance: (query.level == Level::Instance).then_some((&key.instance, &entry.sop_class, &entry.instance)),
        };
        query.matches(&candidate).then(|| match query.level {
            Level::Study => key.study.to_string(),
            Level::Series => format!("{}/{}", key.study, key.series),
            Level::Instance => format!("{}/{}/{}", key.study, key.series, key.instance),
        })
    }
}
