//! The query string of a search: refused, or a search within its bounds that can be evaluated and told of in headers.
//!
//! Input: a byte that says at which level, a value that the index holds, a line feed, the query string.

use isocenter::dicom::entry::{InstanceEntry, NameEntry, SeriesEntry, StudyEntry};
use isocenter::dicom::query::{Candidate, SearchQuery, Test};
use isocenter::dicom::uid::{InstanceUid, Level, SeriesUid, SopClassUid, StudyUid};
use isocenter::dicom::values::{fold, wildcard};
use isocenter::dicomweb::query::parse;
use isocenter::error::ErrorKind;

/// Texts that a slow matcher is compared on are no longer than this.
const LONGEST: usize = 64;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = super::first(data) else { return };
    let (value, text) = super::line(rest);
    let value = String::from_utf8_lossy(value);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let level = [Level::Study, Level::Series, Level::Instance][usize::from(kind % 3)];
    let study = (kind & 0x10 != 0).then(|| StudyUid::parse("1.2").expect("a UID"));
    let series = (kind & 0x20 != 0 && study.is_some()).then(|| SeriesUid::parse("1.2.3").expect("a UID"));
    match parse(level, study.clone(), series.clone(), text) {
        Ok(parsed) => {
            assert!(parsed.query.conditions.len() <= 200);
            assert_eq!((&parsed.query.study, &parsed.query.series), (&study, &series));
            for warning in &parsed.warnings {
                assert!(warning.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{warning:?}");
            }
            assert!(texts(&parsed.query).all(|text| !text.contains('\0')), "NUL, which PostgreSQL does not take");
            evaluate(&parsed.query, &value);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(error.message().chars().all(|character| !character.is_control()), "{:?}", error.message());
        }
    }
}

/// All texts that a value of the index is compared with.
fn texts(query: &SearchQuery) -> impl Iterator<Item = &String> {
    query.conditions.iter().flat_map(|condition| match &condition.test {
        Test::Text(text) | Test::Wildcard(text) | Test::Name(text) => std::slice::from_ref(text),
        Test::AnyOf(texts) => texts,
        Test::Integer(_) | Test::Dates(..) | Test::Times(..) | Test::Moments(..) => &[],
    })
}

/// The matcher in memory comes to an end, and its patterns mean what a simple one says.
fn evaluate(query: &SearchQuery, value: &str) {
    let uid = (StudyUid::parse("1.2").expect("a UID"), SeriesUid::parse("1.2.3").expect("a UID"));
    let (instance, class) =
        (InstanceUid::parse("1.2.3.4").expect("a UID"), SopClassUid::parse("1.2.5").expect("a UID"));
    let some = || Some(value.to_owned()).filter(|value| !value.is_empty());
    let study = StudyEntry {
        patient_id: some(),
        patient_name: NameEntry::new(value),
        accession_number: some(),
        study_date: Some("20240229".to_owned()),
        study_time: Some(1),
        study_description: some(),
        ..StudyEntry::default()
    };
    let series = SeriesEntry { modality: some(), series_number: Some(7), ..SeriesEntry::default() };
    let entry = InstanceEntry { instance_number: Some(-1), ..InstanceEntry::default() };
    let modalities = [value.to_owned()];
    let candidate = Candidate {
        study_uid: &uid.0,
        study: &study,
        modalities: &modalities,
        series: (query.level != Level::Study).then_some((&uid.1, &series)),
        instance: (query.level == Level::Instance).then_some((&instance, &class, &entry)),
    };
    let _ = query.matches(&candidate);
    for condition in &query.conditions {
        let (Test::Wildcard(pattern) | Test::Name(pattern)) = &condition.test else { continue };
        if pattern.chars().count() <= LONGEST && value.chars().count() <= LONGEST {
            assert_eq!(wildcard(pattern, value), simple(pattern, value), "{pattern:?} on {value:?}");
            let folded = fold(value);
            assert_eq!(wildcard(pattern, &folded), simple(pattern, &folded), "{pattern:?} on {folded:?}");
        }
    }
}

/// `*` for any run of characters, `?` for one: a table of every beginning of the pattern on every beginning of the text.
fn simple(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for wanted in pattern.chars() {
        let before = row.clone();
        row[0] = before[0] && wanted == '*';
        for at in 1..=text.len() {
            row[at] = match wanted {
                '*' => before[at] || row[at - 1],
                '?' => before[at - 1],
                other => before[at - 1] && other == text[at - 1],
            };
        }
    }
    row[text.len()]
}
