//! Searching: memory, SQLite and PostgreSQL find the same, in the same order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use isocenter::catalogue::search::Found;
use isocenter::catalogue::{Catalogue, NewInstance, Rules};
use isocenter::dicom::attribute_set::AttributeSetBuilder;
use isocenter::dicom::entry::{AttributeSet, IndexEntry, InstanceEntry, NameEntry, SeriesEntry, StudyEntry};
use isocenter::dicom::frames::StoredFrames;
use isocenter::dicom::header::Form;
use isocenter::dicom::query::{Candidate, Condition, Include, Page, SearchKey, SearchQuery, Test};
use isocenter::dicom::transfer_syntax::{EXPLICIT_LITTLE, Encoding};
use isocenter::dicom::uid::{InstanceKey, InstanceUid, Level, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid};
use isocenter::dicom::values::fold;
use isocenter::dicomweb::query::parse;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::support::database::{Backend, TestDatabase};

// ---- archives

/// Study → series → instances, by the numbers that make their UIDs.
#[derive(Clone, Debug)]
struct Archive {
    studies: BTreeMap<StudyUid, Study>,
}

#[derive(Clone, Debug)]
struct Study {
    entry: StudyEntry,
    modalities: Vec<String>,
    series: BTreeMap<SeriesUid, Series>,
}

#[derive(Clone, Debug)]
struct Series {
    entry: SeriesEntry,
    instances: BTreeMap<InstanceUid, (SopClassUid, InstanceEntry)>,
}

fn study_uid(number: usize) -> StudyUid {
    StudyUid::parse(&format!("1.2.{number}")).unwrap()
}

fn sop_class(number: usize) -> SopClassUid {
    SopClassUid::parse(&format!("1.2.840.{number}")).unwrap()
}

fn entries(archive: &Archive) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (study, in_study) in &archive.studies {
        for (series, in_series) in &in_study.series {
            for (instance, (sop_class, entry)) in &in_series.instances {
                entries.push(IndexEntry {
                    key: InstanceKey { study: study.clone(), series: series.clone(), instance: instance.clone() },
                    sop_class: sop_class.clone(),
                    study: in_study.entry.clone(),
                    series: in_series.entry.clone(),
                    instance: entry.clone(),
                });
            }
        }
    }
    entries
}

fn new_instance(entry: IndexEntry, metadata: &str) -> NewInstance {
    NewInstance {
        entry,
        transfer_syntax: TransferSyntaxUid::parse(EXPLICIT_LITTLE).unwrap(),
        encoding: Encoding::EXPLICIT_LITTLE,
        form: Form::Part10,
        location: "x".into(),
        size: 1,
        digest: [1; 32],
        received_digest: [2; 32],
        received_at: 1,
        source: "test".into(),
        file_name: None,
        metadata: metadata.as_bytes().to_vec(),
        frames: StoredFrames::default(),
        number_of_frames: 1,
        bulk: Vec::new(),
        deletion: None,
    }
}

async fn store(catalogue: &Catalogue, instances: Vec<NewInstance>) {
    let lease = Uuid::now_v7();
    catalogue.take_lease(lease, Duration::from_mins(1)).await.unwrap();
    catalogue.insert_instances(lease, Rules::default(), instances, catalogue.announce()).await.unwrap();
}

// ---- wild values

/// What patterns, quoting and the order of texts stumble over.
const LETTERS: &str = "[abA%_\\[\\]\\-\\^\\\\'\";é山😀\u{D7FF}\u{E000}\u{10FFFF}\u{1}]";

fn letters(pattern: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(pattern).unwrap()
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => letters(&format!("{LETTERS}{{1,4}}")),
        1 => letters(&format!("({LETTERS}|\\*|\\?){{1,4}}")),
        1 => Just("a".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = Option<NameEntry>> {
    vec(option::of(value()), 0..4).prop_map(|groups| {
        let groups: Vec<String> = groups.into_iter().map(Option::unwrap_or_default).collect();
        NameEntry::new(&groups.join("="))
    })
}

fn date() -> impl Strategy<Value = String> {
    select(vec!["19991231", "20200101", "20200102", "20201231"]).prop_map(str::to_owned)
}

fn time() -> impl Strategy<Value = i64> {
    select(vec![0, 1, 43_200_000_000, 43_200_000_001, 86_400_000_000])
}

fn study_entry() -> impl Strategy<Value = StudyEntry> {
    let texts =
        (option::of(value()), option::of(value()), option::of(value()), option::of(value()), option::of(value()));
    (texts, (name(), name()), (option::of(date()), option::of(date()), option::of(time()))).prop_map(
        |(texts, names, (birth, date, time))| StudyEntry {
            patient_id: texts.0,
            patient_name: names.0,
            patient_birth_date: birth,
            patient_sex: texts.1,
            study_date: date,
            study_time: time,
            accession_number: texts.2,
            study_id: texts.3,
            study_description: texts.4,
            referring_physician_name: names.1,
            attributes: AttributeSet::default(),
        },
    )
}

fn modality() -> impl Strategy<Value = String> {
    // a modality is the first value of a Code String: without backslash
    prop_oneof![select(vec!["CT", "C_", "MR", "%"]).prop_map(str::to_owned), value()]
        .prop_map(|text| text.replace('\\', "/"))
}

fn series_entry() -> impl Strategy<Value = SeriesEntry> {
    let dates = (option::of(date()), option::of(time()), option::of(date()), option::of(time()));
    (option::of(modality()), option::of(-1_i64..3), option::of(value()), option::of(value()), dates).prop_map(
        |(modality, series_number, series_description, body_part_examined, dates)| SeriesEntry {
            modality,
            series_number,
            series_description,
            body_part_examined,
            series_date: dates.0,
            series_time: dates.1,
            performed_procedure_step_start_date: dates.2,
            performed_procedure_step_start_time: dates.3,
            attributes: AttributeSet::default(),
        },
    )
}

fn archive() -> impl Strategy<Value = Archive> {
    let series = (series_entry(), vec((0_usize..3, option::of(-1_i64..3)), 1..4));
    vec((study_entry(), vec(series, 1..4)), 1..9).prop_map(|studies| {
        let mut count = 0;
        let mut instances = |numbers: Vec<(usize, Option<i64>)>| {
            let each = numbers.into_iter().map(|(class, instance_number)| {
                count += 1;
                let uid = InstanceUid::parse(&format!("1.9.{count}")).unwrap();
                let attributes = AttributeSet::default();
                (uid, (sop_class(class), InstanceEntry { instance_number, attributes }))
            });
            each.collect::<BTreeMap<_, _>>()
        };
        let mut archive = Archive { studies: BTreeMap::new() };
        for (number, (entry, list)) in studies.into_iter().enumerate() {
            let mut modalities: Vec<String> = list.iter().filter_map(|(series, _)| series.modality.clone()).collect();
            modalities.sort();
            modalities.dedup();
            let mut series = BTreeMap::new();
            for (place, (entry, numbers)) in list.into_iter().enumerate() {
                // the same UID in several studies
                let uid = SeriesUid::parse(&format!("1.3.{place}")).unwrap();
                series.insert(uid, Series { entry, instances: instances(numbers) });
            }
            archive.studies.insert(study_uid(number), Study { entry, modalities, series });
        }
        archive
    })
}

// ---- wild queries

/// All texts of an archive, so that queries hit.
fn texts(archive: &Archive) -> Vec<String> {
    let mut texts = vec!["a".to_owned()];
    for study in archive.studies.values() {
        let entry = &study.entry;
        texts.extend(
            [&entry.patient_id, &entry.patient_sex, &entry.accession_number, &entry.study_id, &entry.study_description]
                .into_iter()
                .flatten()
                .cloned(),
        );
        for name in [&entry.patient_name, &entry.referring_physician_name].into_iter().flatten() {
            texts.extend([name.alphabetic.clone(), name.ideographic.clone(), name.phonetic.clone()]);
            texts.push(format!("{}={}={}", name.alphabetic, name.ideographic, name.phonetic));
        }
        for series in study.series.values() {
            let entry = &series.entry;
            texts.extend(
                [&entry.modality, &entry.series_description, &entry.body_part_examined].into_iter().flatten().cloned(),
            );
        }
    }
    texts
}

/// A text of the archive as it is, with parts replaced by wildcards, or any other.
fn key_text(texts: Vec<String>) -> impl Strategy<Value = String> {
    let existing = (select(texts), vec((any::<proptest::sample::Index>(), 0_u8..4), 0..3));
    prop_oneof![
        4 => existing.prop_map(|(text, changes)| {
            let mut letters: Vec<char> = text.chars().collect();
            for (place, change) in changes {
                if letters.is_empty() {
                    break;
                }
                let place = place.index(letters.len());
                match change {
                    0 => letters[place] = '?',
                    1 => letters.insert(place, '*'),
                    2 => letters[place] = '*',
                    _ => letters.truncate(place),
                }
            }
            letters.into_iter().collect()
        }),
        1 => letters(&format!("({LETTERS}|\\*|\\?|=){{0,5}}")),
    ]
}

fn uid() -> impl Strategy<Value = String> {
    prop_oneof![
        (0_usize..9).prop_map(|number| study_uid(number).to_string()),
        (0_usize..4).prop_map(|number| format!("1.3.{number}")),
        (0_usize..40).prop_map(|number| format!("1.9.{number}")),
        (0_usize..3).prop_map(|number| sop_class(number).to_string()),
    ]
}

/// A test of any kind, fit for its key or not.
fn any_test(texts: Vec<String>) -> impl Strategy<Value = Test> {
    let text = key_text(texts);
    let text = text.boxed();
    let moment = || option::of((date(), time()));
    prop_oneof![
        text.clone().prop_map(Test::Text),
        vec(prop_oneof![text.clone(), uid()], 0..4).prop_map(Test::AnyOf),
        text.clone().prop_map(Test::Wildcard),
        text.prop_map(|text| Test::Name(fold(&text))),
        (-1_i64..3).prop_map(Test::Integer),
        (option::of(date()), option::of(date())).prop_map(|(from, to)| Test::Dates(from, to)),
        (option::of(time()), option::of(time())).prop_map(|(from, to)| Test::Times(from, to)),
        (moment(), moment()).prop_map(|(from, to)| Test::Moments(from, to)),
    ]
}

fn condition(texts: Vec<String>) -> impl Strategy<Value = Condition> {
    let keys: Vec<SearchKey> = SearchKey::ALL.iter().copied().chain([SearchKey::StudyDateTime]).collect();
    let tests = vec(any_test(texts), 24);
    // mostly a test that fits
    (select(keys), tests, 0_u8..12).prop_map(|(key, tests, odd)| {
        let fitting = tests.iter().find(|test| odd == 0 || test.fits(key.vr()));
        Condition { key, test: fitting.unwrap_or(&Test::Integer(0)).clone() }
    })
}

fn query(texts: Vec<String>) -> impl Strategy<Value = SearchQuery> {
    let level = select(vec![Level::Study, Level::Series, Level::Instance]);
    let parents = (option::weighted(0.3, 0_usize..9), option::weighted(0.3, 0_usize..4));
    let page = (option::of(1_u64..8), 0_u64..4);
    (level, parents, vec(condition(texts), 0..3), page).prop_map(|(level, (study, series), conditions, page)| {
        SearchQuery {
            level,
            study: study.filter(|_| level > Level::Study).map(study_uid),
            series: series
                .filter(|_| level > Level::Series && study.is_some())
                .map(|number| SeriesUid::parse(&format!("1.3.{number}")).unwrap()),
            conditions,
            include: Include::Tags(Vec::new()),
            page: Page { limit: page.0, offset: page.1 },
        }
    })
}

/// A query string of one condition, as a client would make it of these texts.
fn query_string(texts: Vec<String>) -> impl Strategy<Value = (Level, String)> {
    let level = select(vec![Level::Study, Level::Series, Level::Instance]);
    (level, select(SearchKey::ALL.to_vec()), key_text(texts))
        .prop_map(|(level, key, text)| (level, format!("{}={}", key.keyword(), percent_encoded(&text))))
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

// ---- the three evaluations

type Uids = (String, Option<String>, Option<String>);

/// What orders the answers; its last parts are the UIDs.
type Place<'a> = (
    (Reverse<Option<String>>, Reverse<i64>, &'a StudyUid),
    Option<(i64, &'a SeriesUid)>,
    Option<(i64, &'a InstanceUid)>,
);

fn in_memory(archive: &Archive, query: &SearchQuery) -> Vec<Uids> {
    let mut found: Vec<Place<'_>> = Vec::new();
    for (study_uid, study) in &archive.studies {
        let order = (Reverse(study.entry.study_date.clone()), Reverse(study.entry.study_time.unwrap_or(-1)), study_uid);
        let top =
            Candidate { study_uid, study: &study.entry, modalities: &study.modalities, series: None, instance: None };
        if query.level == Level::Study {
            found.extend(query.matches(&top).then_some((order, None, None)));
            continue;
        }
        for (series_uid, series) in &study.series {
            let middle = Candidate { series: Some((series_uid, &series.entry)), ..top };
            let place = (series.entry.series_number.unwrap_or(i64::MAX), series_uid);
            if query.level == Level::Series {
                found.extend(query.matches(&middle).then(|| (order.clone(), Some(place), None)));
                continue;
            }
            for (uid, (sop_class, instance)) in &series.instances {
                let bottom = Candidate { instance: Some((uid, sop_class, instance)), ..middle };
                let last = (instance.instance_number.unwrap_or(i64::MAX), uid);
                found.extend(query.matches(&bottom).then(|| (order.clone(), Some(place), Some(last))));
            }
        }
    }
    found.sort();
    found
        .into_iter()
        .map(|((_, _, study), series, instance): Place<'_>| {
            (study.to_string(), series.map(|(_, uid)| uid.to_string()), instance.map(|(_, uid)| uid.to_string()))
        })
        .collect()
}

async fn uids(found: Found) -> Vec<Uids> {
    found
        .matches
        .map_ok(|found| {
            let series = found.series_uid.map(|uid| uid.to_string());
            (found.study_uid.to_string(), series, found.instance.map(|instance| instance.uid.to_string()))
        })
        .try_collect()
        .await
        .unwrap()
}

/// The page of the query, and how many come after it.
fn page(all: Vec<Uids>, query: &SearchQuery) -> (Vec<Uids>, u64) {
    let total = all.len();
    let offset = usize::try_from(query.page.offset).unwrap();
    let limit = query.page.limit.map_or(1_000, |limit| usize::try_from(limit).unwrap());
    let page: Vec<Uids> = all.into_iter().skip(offset).take(limit).collect();
    (page, total.saturating_sub(offset).saturating_sub(limit) as u64)
}

#[test]
fn memory_sqlite_and_postgres_find_the_same_in_the_same_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config =
        ProptestConfig { cases: 8, max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() };
    let cases = archive().prop_flat_map(|archive| {
        let texts = texts(&archive);
        (Just(archive), vec(query(texts.clone()), 120), vec(query_string(texts), 60))
    });
    let (mut searched, mut matched) = (0, 0);
    let counts = std::sync::Mutex::new((&mut searched, &mut matched));
    TestRunner::new(config)
        .run(&cases, |(archive, queries, strings)| {
            let parsed = strings.iter().filter_map(|(level, text)| parse(*level, None, None, text).ok());
            let queries: Vec<SearchQuery> = parsed.map(|parsed| parsed.query).chain(queries).collect();
            let found = runtime.block_on(compare(&archive, &queries));
            let mut counts = counts.lock().unwrap();
            *counts.0 += queries.len();
            *counts.1 += found;
            Ok(())
        })
        .unwrap();
    println!("{searched} searches agreed, {matched} of them found something");
    assert!(matched * 5 > searched, "too few of the searches find anything: {matched} of {searched}");
}

async fn compare(archive: &Archive, queries: &[SearchQuery]) -> usize {
    let mut found = 0;
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let database = TestDatabase::create(backend).await;
        let catalogue = database.open().await;
        let instances = entries(archive).into_iter().map(|entry| new_instance(entry, "{}")).collect();
        store(&catalogue, instances).await;
        found = 0;
        for query in queries {
            let (expected, additional) = page(in_memory(archive, query), query);
            found += usize::from(!expected.is_empty());
            let answer = catalogue.search(query).await.unwrap();
            assert_eq!(
                answer.additional,
                if query.study.is_some() && query.page.limit.is_none() { 0 } else { additional }
            );
            assert_eq!(uids(answer).await, expected, "{backend:?} {query:?}");
        }
        catalogue.close().await;
    }
    found
}

// ---- pages and hostile texts

macro_rules! both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Backend::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Backend::Postgres).await;
            })*
        }
    };
}

both! {
    a_result_of_many_batches_is_complete_and_in_order
    hostile_texts_are_only_texts
    an_offset_skips_studies_however_many_of_their_series_match
    fields_that_only_the_metadata_hold_are_picked_out_of_them
}

/// One study of two series, with `instances` instances.
fn large(instances: i64) -> Vec<NewInstance> {
    let entry = |number: i64| IndexEntry {
        key: InstanceKey {
            study: study_uid(1),
            series: SeriesUid::parse(&format!("1.3.{}", number % 2)).unwrap(),
            instance: InstanceUid::parse(&format!("1.9.{number}")).unwrap(),
        },
        sop_class: sop_class(1),
        study: StudyEntry::default(),
        series: SeriesEntry { series_number: Some(number % 2), modality: Some("CT".into()), ..SeriesEntry::default() },
        instance: InstanceEntry {
            // many share a number
            instance_number: (number % 10 != 0).then_some(number / 7),
            attributes: AttributeSet::default(),
        },
    };
    (0..instances)
        .map(|number| {
            let metadata = format!(r#"{{"00080005":{{"vr":"CS"}},"00281050":{{"vr":"DS","Value":[{number}]}}}}"#);
            new_instance(entry(number), &metadata)
        })
        .collect()
}

async fn a_result_of_many_batches_is_complete_and_in_order(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let all = large(5_300);
    let mut expected: Vec<_> = all
        .iter()
        .map(|new| {
            let number = new.entry.instance.instance_number.unwrap_or(i64::MAX);
            (new.entry.series.series_number, number, new.entry.key.instance.to_string())
        })
        .collect();
    expected.sort();
    let expected: Vec<String> = expected.into_iter().map(|(_, _, uid)| uid).collect();
    for portion in all.chunks(500) {
        store(&catalogue, portion.to_vec()).await;
    }
    // (below the study, limit, offset) → (how many, how many more)
    for (below, limit, offset, wanted, additional) in [
        (true, None, 0, 5_300, 0),
        (true, None, 5_000, 300, 0),
        (true, Some(1_000), 0, 1_000, 4_300),
        (true, Some(1_001), 4_299, 1_001, 0),
        (true, Some(1_001), 4_298, 1_001, 1),
        (true, Some(4_000), 100, 4_000, 1_200),
        (true, Some(9_000), 1, 5_299, 0),
        (true, Some(u64::MAX), 5_300, 0, 0),
        (true, Some(5), u64::MAX, 0, 0),
        (false, None, 0, 1_000, 4_300),
        (false, Some(5_299), 0, 5_299, 1),
        (false, Some(5_300), 0, 5_300, 0),
    ] {
        let query = SearchQuery {
            study: below.then(|| study_uid(1)),
            page: Page { limit, offset },
            ..SearchQuery::all(Level::Instance)
        };
        let found = catalogue.search(&query).await.unwrap();
        assert_eq!(found.additional, additional, "{limit:?} {offset}");
        let uids: Vec<String> = uids(found).await.into_iter().filter_map(|(_, _, instance)| instance).collect();
        assert_eq!(uids.len(), wanted, "{limit:?} {offset}");
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(expected.len());
        assert!(uids == expected[from..from + wanted], "{limit:?} {offset}");
    }
}

async fn an_offset_skips_studies_however_many_of_their_series_match(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    store(&catalogue, large(2)).await;
    let query = |offset| SearchQuery {
        level: Level::Study,
        study: None,
        series: None,
        conditions: vec![Condition { key: SearchKey::ModalitiesInStudy, test: Test::Wildcard("*".into()) }],
        include: Include::Tags(Vec::new()),
        page: Page { limit: Some(3), offset },
    };
    for (offset, studies) in [(0, 1), (1, 0)] {
        let found = catalogue.search(&query(offset)).await.unwrap();
        assert_eq!(uids(found).await.len(), studies, "from {offset}");
    }
    catalogue.close().await;
}

async fn hostile_texts_are_only_texts(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let hostile =
        ["'; drop table studies; --", "\" or 1=1 --", "$1", "x' or 'a'='a", "\\'; select 1", "{}", "%", "1);--", "?1"];
    let mut instances = Vec::new();
    for (number, text) in (1_i64..).zip(hostile) {
        let mut entry = large(1).remove(0).entry;
        let number = usize::try_from(number).unwrap();
        entry.key.study = study_uid(number);
        entry.key.instance = InstanceUid::parse(&format!("1.9.{number}")).unwrap();
        entry.study.patient_id = Some(text.to_owned());
        entry.study.patient_name = NameEntry::new(text);
        entry.series.modality = Some(text.replace('\\', "/"));
        instances.push(new_instance(entry, "{}"));
    }
    store(&catalogue, instances).await;
    for (number, text) in (1..).zip(hostile) {
        let encoded = percent_encoded(text);
        for key in SearchKey::ALL {
            for value in [encoded.clone(), format!("{encoded}*"), format!("*{encoded}")] {
                let Ok(parsed) = parse(Level::Study, None, None, &format!("{}={value}", key.keyword())) else {
                    continue;
                };
                let found = uids(catalogue.search(&parsed.query).await.unwrap()).await;
                if matches!(key, SearchKey::PatientId | SearchKey::PatientName) && !text.contains('?') {
                    assert!(found.contains(&(study_uid(number).to_string(), None, None)), "{key:?} {text}");
                }
            }
        }
    }
    assert_eq!(uids(catalogue.search(&SearchQuery::all(Level::Study)).await.unwrap()).await.len(), hostile.len());
}

async fn fields_that_only_the_metadata_hold_are_picked_out_of_them(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    store(&catalogue, large(150)).await;
    let query =
        parse(Level::Instance, None, None, "includefield=WindowCenter,00080005&InstanceNumber=3").unwrap().query;
    let found: Vec<_> = catalogue.search(&query).await.unwrap().matches.try_collect().await.unwrap();
    assert_eq!(found.len(), 7);
    for found in found {
        let instance = found.instance.unwrap();
        let number = instance.uid.as_str().trim_start_matches("1.9.").to_owned();
        let json = format!(r#"{{"vr":"DS","Value":[{number}]}}"#);
        let expected =
            AttributeSetBuilder::default().fragment(dicom_core::Tag(0x0028, 0x1050), json.as_bytes()).build();
        assert_eq!(instance.picked, expected);
    }
}
