//! The index: one suite for SQLite and PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt, TryStreamExt};
use isocenter::catalogue::{
    Catalogue, Deletion, EndedLease, Inserted, InstanceRow, NewInstance, NotInserted, Patient, Rules,
};
use isocenter::config::{DatabaseSettings, DatabaseUrl, Secret};
use isocenter::dicom::entry::{AttributeSet, IndexEntry, InstanceEntry, NameEntry, SeriesEntry, StudyEntry};
use isocenter::dicom::frames::StoredFrames;
use isocenter::dicom::header::Form;
use isocenter::dicom::query::{Include, SearchQuery};
use isocenter::dicom::transfer_syntax::{EXPLICIT_LITTLE, Encoding};
use isocenter::dicom::uid::{
    InstanceKey, InstanceUid, Level, Scope, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid,
};
use isocenter::error::{ErrorKind, Result};
use uuid::Uuid;

use crate::support::database::{Backend, TestDatabase, administrate, postgres_url};

const LEASE: Duration = Duration::from_mins(1);

/// Runs a test on both back ends.
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
    a_stored_instance_is_located_with_all_that_was_given
    an_instance_is_not_located_under_another_series_or_study
    a_known_uid_is_identical_only_with_the_same_content_in_the_same_place
    twins_within_a_batch_are_judged_like_those_of_two_batches
    counters_versions_and_modalities_follow_what_is_new
    the_first_instance_stored_gives_a_study_and_a_series_their_attributes
    instances_come_in_order_across_batches
    a_scope_without_instances_streams_nothing
    values_that_no_column_takes_as_they_are_do_not_stop_an_instance
    metadata_comes_back_byte_for_byte_and_takes_a_fifth
    large_metadata_comes_in_order_though_few_are_held_at_once
    blocks_of_a_frame_index_are_kept_with_their_instance
    what_a_deletion_hid_gets_a_row_that_is_never_seen_and_stands_in_no_way
    of_the_same_instances_stored_at_once_each_is_new_exactly_once
    of_different_contents_stored_at_once_one_wins
    studies_stored_at_once_in_opposite_orders_do_not_deadlock
    a_batch_that_fails_does_not_spoil_those_beside_it
    a_dropped_insert_leaves_nothing_and_the_database_usable
    an_insert_without_its_lease_is_refused
    a_lease_lasts_for_its_term_from_each_renewal_until_it_is_given_back
    a_lease_is_not_taken_away_while_instances_are_stored_under_it
    an_instance_gets_no_object_under_a_lease_that_a_sweep_takes
    a_lease_lapses_once_it_has_run_out_and_is_known_until_it_is_forgotten
    an_index_of_a_newer_version_is_refused
    migrating_twice_at_once_migrates_once
    a_closed_catalogue_is_unavailable
    a_database_that_does_not_answer_in_time_is_unavailable
    a_catalogue_serves_runtimes_that_come_and_go
}

fn key(study: u32, series: u32, instance: u32) -> InstanceKey {
    InstanceKey {
        study: StudyUid::parse(&format!("1.2.{study}")).unwrap(),
        series: SeriesUid::parse(&format!("1.2.{study}.{series}")).unwrap(),
        instance: InstanceUid::parse(&format!("1.2.{study}.{series}.{instance}")).unwrap(),
    }
}

/// Instance `instance` of series `series` of study `study`; numbers make UIDs and numbers.
fn new(study: u32, series: u32, instance: u32) -> NewInstance {
    let metadata =
        (0..60).map(|tag| format!(r#""0008{tag:04X}":{{"vr":"LO","Value":["{}"]}}"#, (tag * 7919 + study) % 997));
    let metadata = metadata.collect::<Vec<_>>().join(",");
    let metadata = format!(
        r#"{{{metadata},"00080060":{{"vr":"CS","Value":["CT"]}},"00100020":{{"vr":"LO","Value":["P{study}"]}},"00200013":{{"vr":"IS","Value":[{instance}]}}}}"#
    );
    NewInstance {
        entry: IndexEntry {
            key: key(study, series, instance),
            sop_class: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            study: StudyEntry {
                patient_id: Some(format!("P{study}")),
                patient_name: Some(NameEntry { alphabetic: "doe^jane".into(), ..NameEntry::default() }),
                study_date: Some("20240102".into()),
                attributes: AttributeSet(b"study".to_vec()),
                ..StudyEntry::default()
            },
            series: SeriesEntry {
                modality: Some("CT".into()),
                series_number: Some(i64::from(series)),
                attributes: AttributeSet(b"series".to_vec()),
                ..SeriesEntry::default()
            },
            instance: InstanceEntry {
                instance_number: Some(i64::from(instance)),
                attributes: AttributeSet(b"instance".to_vec()),
            },
        },
        transfer_syntax: TransferSyntaxUid::parse(EXPLICIT_LITTLE).unwrap(),
        encoding: Encoding::EXPLICIT_LITTLE,
        form: Form::Part10,
        location: format!("studies/{study}/{series}/{instance}.dcm"),
        size: 1000 + u64::from(instance),
        digest: [1; 32],
        received_digest: [2; 32],
        received_at: 1_700_000_000_000,
        source: "test".into(),
        file_name: None,
        metadata: metadata.into_bytes(),
        frames: StoredFrames { head: b"head".to_vec(), blocks: Vec::new() },
        number_of_frames: 1,
        bulk: b"bulk".to_vec(),
        deletion: None,
    }
}

const NEW: Inserted = Inserted::New(Patient::Same);

async fn store(catalogue: &Catalogue, instances: Vec<NewInstance>) -> Result<Vec<Inserted>> {
    let lease = Uuid::now_v7();
    catalogue.take_lease(lease, LEASE).await?;
    catalogue
        .insert_instances(lease, Rules::default(), instances, catalogue.announce())
        .await
        .map_err(NotInserted::into_error)
}

async fn list(catalogue: &Catalogue, scope: Scope) -> Vec<InstanceRow> {
    catalogue.instances(&scope).try_collect().await.unwrap()
}

fn uids(rows: &[InstanceRow]) -> Vec<String> {
    rows.iter().map(|row| row.key.instance.to_string()).collect()
}

async fn a_stored_instance_is_located_with_all_that_was_given(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let given = new(1, 2, 3);
    assert_eq!(store(&catalogue, vec![given.clone()]).await.unwrap(), [NEW]);
    let row = catalogue.locate(&given.entry.key, None).await.unwrap().expect("it is there");
    let expected = InstanceRow {
        id: row.id,
        key: given.entry.key.clone(),
        sop_class: given.entry.sop_class.clone(),
        transfer_syntax: given.transfer_syntax.clone(),
        encoding: given.encoding,
        form: given.form,
        location: given.location.clone(),
        size: given.size,
        digest: given.digest,
        received_at: given.received_at,
        number_of_frames: given.number_of_frames,
        frames: given.frames.head.clone(),
        series_version: 1,
    };
    assert_eq!(row, expected);
    assert_eq!(catalogue.bulk_index(row.id).await.unwrap(), given.bulk);
    for scope in [
        Scope::Study(row.key.study.clone()),
        Scope::Series(row.key.study.clone(), row.key.series.clone()),
        Scope::Instance(row.key.clone()),
    ] {
        assert_eq!(list(&catalogue, scope).await, std::slice::from_ref(&expected));
    }
}

async fn an_instance_is_not_located_under_another_series_or_study(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    store(&catalogue, vec![new(1, 1, 1), new(1, 2, 1), new(2, 1, 1)]).await.unwrap();
    for place in [key(1, 2, 1), key(2, 1, 1), key(3, 1, 1)] {
        let elsewhere = InstanceKey { instance: key(1, 1, 1).instance, ..place };
        assert_eq!(catalogue.locate(&elsewhere, None).await.unwrap(), None, "{elsewhere:?}");
        assert!(list(&catalogue, Scope::Instance(elsewhere)).await.is_empty());
    }
    assert_eq!(catalogue.locate(&key(1, 1, 9), None).await.unwrap(), None);
}

/// The instance with another content.
fn changed(instance: NewInstance) -> NewInstance {
    NewInstance { received_digest: [9; 32], ..instance }
}

/// The instance under another place.
fn moved(instance: NewInstance, to: InstanceKey) -> NewInstance {
    let key = InstanceKey { instance: instance.entry.key.instance.clone(), ..to };
    NewInstance { entry: IndexEntry { key, ..instance.entry.clone() }, ..instance }
}

async fn a_known_uid_is_identical_only_with_the_same_content_in_the_same_place(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    store(&catalogue, vec![new(1, 1, 1)]).await.unwrap();
    let again = vec![
        new(1, 1, 1),
        changed(new(1, 1, 1)),
        moved(new(1, 1, 1), key(1, 2, 1)),
        moved(new(1, 1, 1), key(2, 1, 1)),
        new(1, 1, 2),
    ];
    let outcomes = store(&catalogue, again).await.unwrap();
    assert_eq!(outcomes, [Inserted::Identical, Inserted::Different, Inserted::Different, Inserted::Different, NEW]);
    let rows = database.query("select study_uid, cast(instance_count as text) from studies order by study_uid").await;
    assert_eq!(rows, ["1.2.1 2"], "what was refused leaves no study");
    assert_eq!(database.query("select series_uid from series").await, ["1.2.1.1"]);
}

async fn twins_within_a_batch_are_judged_like_those_of_two_batches(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let outcomes =
        store(&catalogue, vec![new(1, 1, 1), new(1, 1, 1), changed(new(1, 1, 1)), new(1, 1, 2)]).await.unwrap();
    assert_eq!(outcomes, [NEW, Inserted::Identical, Inserted::Different, NEW]);
    assert_eq!(list(&catalogue, Scope::Study(key(1, 1, 1).study)).await.len(), 2);
}

/// Study, number of series, of instances, modalities; and series, version, number of instances.
async fn counters(database: &TestDatabase) -> Vec<String> {
    let mut rows = database
        .query(
            "select study_uid, cast(series_count as text), cast(instance_count as text), modalities \
             from studies order by study_uid",
        )
        .await;
    let series =
        "select series_uid, cast(version as text), cast(instance_count as text) from series order by series_uid";
    rows.extend(database.query(series).await);
    rows
}

async fn counters_versions_and_modalities_follow_what_is_new(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let of = |modality: Option<&str>, mut instance: NewInstance| {
        instance.entry.series.modality = modality.map(str::to_owned);
        instance
    };
    store(&catalogue, vec![of(Some("PT"), new(1, 1, 1)), of(Some("PT"), new(1, 1, 2))]).await.unwrap();
    assert_eq!(counters(&database).await, ["1.2.1 1 2 PT", "1.2.1.1 1 2"]);
    let more = vec![of(Some("CT"), new(1, 2, 1)), of(None, new(1, 3, 1)), of(Some("PT"), new(1, 1, 3)), new(2, 1, 1)];
    store(&catalogue, more).await.unwrap();
    let expected = ["1.2.1 3 5 CT\\PT", "1.2.2 1 1 CT", "1.2.1.1 2 3", "1.2.1.2 1 1", "1.2.1.3 1 1", "1.2.2.1 1 1"];
    assert_eq!(counters(&database).await, expected);
    // a batch that changes nothing steps no version
    store(&catalogue, vec![new(1, 1, 1), changed(new(1, 2, 1))]).await.unwrap();
    assert_eq!(counters(&database).await, expected);
    assert_eq!(catalogue.locate(&key(1, 1, 1), None).await.unwrap().unwrap().series_version, 2);
}

async fn the_first_instance_stored_gives_a_study_and_a_series_their_attributes(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    store(&catalogue, vec![new(1, 1, 1)]).await.unwrap();
    let mut later = new(1, 1, 2);
    later.entry.study.patient_id = Some("other".into());
    later.entry.series.modality = Some("MR".into());
    store(&catalogue, vec![later]).await.unwrap();
    assert_eq!(database.query("select patient_id, patient_name, modalities from studies").await, ["P1 doe^jane CT"]);
    assert_eq!(database.query("select modality from series").await, ["CT"]);
}

async fn instances_come_in_order_across_batches(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    // series 2 of more than two batches with two instances per number, a few small ones, some without a number
    let mut given: Vec<NewInstance> = (0..1100).map(|number| new(1, 2, number)).collect();
    for instance in &mut given {
        instance.entry.instance.instance_number = instance.entry.instance.instance_number.map(|number| number / 2);
    }
    for series in [1, 3, 4, 5] {
        given.extend((0..7).map(|number| new(1, series, number)));
    }
    for instance in &mut given {
        let key = &instance.entry.key;
        if key.instance.as_str().ends_with('5') {
            instance.entry.instance.instance_number = None;
        }
        if key.series.as_str().ends_with(".1") {
            instance.entry.series.series_number = None;
        }
    }
    let last = i64::MAX;
    let mut expected: Vec<_> = given
        .iter()
        .map(|one| {
            let (series, instance) = (one.entry.series.series_number, one.entry.instance.instance_number);
            let key = &one.entry.key;
            (series.unwrap_or(last), key.series.to_string(), instance.unwrap_or(last), key.instance.to_string())
        })
        .collect();
    expected.sort();
    let expected: Vec<String> = expected.into_iter().map(|(.., uid)| uid).collect();
    let study = key(1, 1, 1).study;
    for portion in given.chunks(300) {
        store(&catalogue, portion.to_vec()).await.unwrap();
    }
    let rows = list(&catalogue, Scope::Study(study.clone())).await;
    assert_eq!(uids(&rows), expected);
    let metadata: Vec<_> = catalogue.metadata(&Scope::Study(study.clone())).try_collect().await.unwrap();
    let keys: Vec<_> = metadata.iter().map(|one| &one.key).collect();
    assert_eq!(keys, rows.iter().map(|row| &row.key).collect::<Vec<_>>());
    let series = list(&catalogue, Scope::Series(study, key(1, 2, 1).series)).await;
    assert_eq!(uids(&series), expected[..1100]);
}

async fn a_scope_without_instances_streams_nothing(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    store(&catalogue, vec![new(1, 1, 1)]).await.unwrap();
    let place = key(1, 1, 1);
    for scope in [
        Scope::Study(key(2, 1, 1).study),
        Scope::Series(key(2, 1, 1).study, place.series.clone()),
        Scope::Series(place.study, key(1, 2, 1).series),
        Scope::Instance(key(1, 1, 2)),
    ] {
        assert!(list(&catalogue, scope.clone()).await.is_empty(), "{scope:?}");
        let metadata: Vec<_> = catalogue.metadata(&scope).try_collect().await.unwrap();
        assert!(metadata.is_empty(), "{scope:?}");
    }
}

async fn values_that_no_column_takes_as_they_are_do_not_stop_an_instance(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let mut instance = new(1, 1, 1);
    // incompressible, since PostgreSQL compresses what it indexes
    let long: String =
        (0..5000_u32).filter_map(|n| char::from_u32(0x4e00 + n.wrapping_mul(2_654_435_761) % 20_000)).collect();
    instance.entry.study.patient_id = Some(long.clone());
    instance.entry.study.accession_number = Some("A\0B".into());
    instance.entry.series.modality = Some(format!("\0{long}"));
    instance.file_name = Some("a\0.dcm".into());
    assert_eq!(store(&catalogue, vec![instance]).await.unwrap(), [NEW]);
    let kept = database.query("select patient_id, accession_number from studies").await;
    let (patient_id, accession_number) = kept[0].split_once(' ').unwrap();
    assert!(long.starts_with(patient_id) && patient_id.len() > 1000, "{} bytes", patient_id.len());
    assert_eq!(accession_number, "AB");
}

async fn metadata_comes_back_byte_for_byte_and_takes_a_fifth(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let given: Vec<NewInstance> = (0..60).flat_map(|number| [new(1, 1, number), new(1, 2, number)]).collect();
    let plain: usize = given.iter().map(|one| one.metadata.len()).sum();
    for portion in given.chunks(50) {
        store(&catalogue, portion.to_vec()).await.unwrap();
    }
    let stored: usize =
        database.query("select cast(sum(length(metadata)) as text) from instances").await[0].parse().unwrap();
    assert!(stored * 5 < plain, "{stored} of {plain} bytes");
    // through the cache of the catalogue that stored, and through the rows alone
    for catalogue in [&catalogue, &database.open().await] {
        let metadata: Vec<_> = catalogue.metadata(&Scope::Study(key(1, 1, 1).study)).try_collect().await.unwrap();
        assert_eq!(metadata.len(), given.len());
        for one in metadata {
            let given = given.iter().find(|given| given.entry.key == one.key).unwrap();
            assert_eq!(one.json, given.metadata);
        }
        store(catalogue, vec![new(1, 1, 61), new(2, 1, 1)]).await.unwrap();
        let late: Vec<_> = catalogue.metadata(&Scope::Instance(key(1, 1, 61))).try_collect().await.unwrap();
        assert_eq!(late[0].json, new(1, 1, 61).metadata);
        database.execute("delete from instances where sop_instance_uid = '1.2.1.1.61'").await;
    }
    assert_eq!(database.query("select cast(count(*) as text) from metadata_dictionaries").await, ["3"]);
}

async fn large_metadata_comes_in_order_though_few_are_held_at_once(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let value = "0123456789abcdef".repeat(70_000);
    let given: Vec<NewInstance> = (1..=10)
        .map(|number| {
            let mut one = new(1, 1 + number / 6, number);
            one.metadata = format!(r#"{{"00204000":{{"vr":"LT","Value":["{value}{number}"]}}}}"#).into_bytes();
            one
        })
        .collect();
    store(&catalogue, given.clone()).await.unwrap();
    let metadata: Vec<_> =
        database.open().await.metadata(&Scope::Study(key(1, 1, 1).study)).try_collect().await.unwrap();
    assert_eq!(metadata.len(), given.len());
    assert!(metadata.iter().zip(&given).all(|(one, given)| one.key == given.entry.key && one.json == given.metadata));
    let comments = dicom_core::Tag(0x0020, 0x4000);
    let query = SearchQuery { include: Include::Tags(vec![comments]), ..SearchQuery::all(Level::Instance) };
    let found: Vec<_> = catalogue.search(&query).await.unwrap().matches.try_collect().await.unwrap();
    assert_eq!(found.len(), given.len());
    for found in found.into_iter().filter_map(|found| found.instance) {
        let given = given.iter().find(|given| given.entry.key.instance == found.uid).unwrap();
        let picked = found.picked.get(comments).unwrap();
        assert!(given.metadata.windows(picked.len()).any(|part| part == picked), "{}", found.uid);
    }
}

async fn blocks_of_a_frame_index_are_kept_with_their_instance(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let with_blocks = |instance: u32, blocks: u8| {
        let blocks = (0..blocks).map(|block| vec![block, u8::try_from(instance).unwrap()]).collect();
        NewInstance { frames: StoredFrames { head: vec![7], blocks }, ..new(1, 1, instance) }
    };
    store(&catalogue, vec![with_blocks(2, 3), new(1, 1, 3), with_blocks(1, 2)]).await.unwrap();
    let id = async |instance| catalogue.locate(&key(1, 1, instance), None).await.unwrap().unwrap().id;
    assert_eq!(catalogue.frame_block(id(2).await, 2).await.unwrap(), [2, 2]);
    assert_eq!(catalogue.frame_block(id(1).await, 0).await.unwrap(), [0, 1]);
    let missing = catalogue.frame_block(id(3).await, 0).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Internal);
}

async fn what_a_deletion_hid_gets_a_row_that_is_never_seen_and_stands_in_no_way(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let scope = Scope::Study(key(1, 1, 1).study);
    let deletion =
        Deletion { id: Uuid::now_v7(), scope: scope.clone(), at: 1, who: "test".into(), reason: String::new() };
    let by = Arc::new(deletion.clone());
    let gone = |instance: u32, content: u8| {
        let mut gone = new(1, 1, instance);
        gone.entry.study.patient_id = Some("GONE".into());
        gone.entry.series.modality = Some("PT".into());
        let frames = StoredFrames { head: vec![7], blocks: vec![vec![0], vec![content]] };
        let location = format!("gone/{instance}/{content}.dcm");
        let received_digest = [content; 32];
        NewInstance { location, frames, received_digest, deletion: Some(Arc::clone(&by)), ..gone }
    };
    // alone in its study
    assert_eq!(store(&catalogue, vec![gone(1, 1), gone(2, 1)]).await.unwrap(), [NEW; 2]);
    assert!(list(&catalogue, scope.clone()).await.is_empty());
    assert_eq!(counters(&database).await, ["1.2.1 0 0 ", "1.2.1.1 1 0"]);
    // what is stored again is new, also beside others that are gone, and within one batch
    assert_eq!(store(&catalogue, vec![new(1, 1, 1)]).await.unwrap(), [NEW]);
    assert_eq!(store(&catalogue, vec![gone(1, 2), gone(3, 1), new(1, 1, 3)]).await.unwrap(), [NEW; 3]);
    let counted = ["1.2.1 1 2 CT", "1.2.1.1 3 2"];
    assert_eq!(counters(&database).await, counted);
    assert_eq!(uids(&list(&catalogue, scope.clone()).await), ["1.2.1.1.1", "1.2.1.1.3"]);
    assert_eq!(database.query("select patient_id from studies").await, ["P1"]);
    // each only once
    let again = store(&catalogue, vec![gone(1, 1), gone(1, 2), gone(2, 1)]).await.unwrap();
    assert_eq!(again, [Inserted::Identical; 3]);
    assert_eq!(counters(&database).await, counted);
    let rows =
        database.query("select location, cast(version as text) from instances where hidden = 1 order by 1").await;
    assert_eq!(rows, ["gone/1/1.dcm 1", "gone/1/2.dcm 2", "gone/2/1.dcm 1", "gone/3/1.dcm 1"]);
    // and what was not stored again can be taken back
    let returning = BTreeSet::from(["gone/2/1.dcm".to_owned()]);
    let restored = catalogue.restore(deletion.id, &scope, &returning, Uuid::now_v7()).await.unwrap().unwrap();
    assert_eq!((restored.instances, restored.taken), (1, 2), "instances, of which one had two versions");
    let back = catalogue.locate(&key(1, 1, 2), None).await.unwrap().unwrap();
    assert_eq!(catalogue.frame_block(back.id, 1).await.unwrap(), [1]);
    assert_eq!(counters(&database).await[0], "1.2.1 1 3 CT");
}

/// Runs batches at once over two catalogues on the same database.
async fn store_at_once(database: &TestDatabase, batches: Vec<Vec<NewInstance>>) -> Vec<Vec<Inserted>> {
    let catalogues = [database.open().await, database.open().await];
    let tasks = batches.into_iter().zip(catalogues.iter().cycle()).map(|(batch, catalogue)| {
        let catalogue = catalogue.clone();
        tokio::spawn(async move { store(&catalogue, batch).await.unwrap() })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

async fn of_the_same_instances_stored_at_once_each_is_new_exactly_once(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let batch = || (0..10).map(|number| new(1, number % 2, number)).collect::<Vec<_>>();
    let outcomes = store_at_once(&database, (0..20).map(|_| batch()).collect()).await;
    for instance in 0..10 {
        let new = outcomes.iter().filter(|outcomes| outcomes[instance] == NEW).count();
        let identical = outcomes.iter().filter(|outcomes| outcomes[instance] == Inserted::Identical).count();
        assert_eq!((new, identical), (1, 19), "instance {instance}");
    }
    let counts = database.query("select cast(series_count as text), cast(instance_count as text) from studies").await;
    assert_eq!(counts, ["2 10"]);
    assert_eq!(database.query("select cast(count(*) as text) from instances").await, ["10"]);
    // each batch had compressed its metadata against a dictionary of its own
    let metadata: Vec<_> =
        database.open().await.metadata(&Scope::Study(key(1, 1, 1).study)).try_collect().await.unwrap();
    for one in metadata {
        assert_eq!(one.json, batch().into_iter().find(|given| given.entry.key == one.key).unwrap().metadata);
    }
}

async fn of_different_contents_stored_at_once_one_wins(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    // the odd ones under another study
    let batch = |number: u8| {
        let instance = NewInstance { received_digest: [number; 32], ..new(1, 1, 1) };
        vec![if number.is_multiple_of(2) { instance } else { moved(instance, key(2, 1, 1)) }]
    };
    let outcomes = store_at_once(&database, (0..20).map(batch).collect()).await;
    let winners: Vec<usize> = (0..20).filter(|number| outcomes[*number] == [NEW]).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == [Inserted::Different]).count(), 19);
    let expected = format!("1.2.{} 1", 1 + winners[0] % 2);
    let studies = database.query("select study_uid, cast(instance_count as text) from studies").await;
    assert_eq!(studies, [expected], "no study is left empty");
}

async fn studies_stored_at_once_in_opposite_orders_do_not_deadlock(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let batch = |task: u32| {
        let mut batch: Vec<_> = (0..6).flat_map(|study| (0..2).map(move |series| new(study, series, task))).collect();
        if task % 2 == 1 {
            batch.reverse();
        }
        batch
    };
    let outcomes = store_at_once(&database, (0..20).map(batch).collect()).await;
    assert!(outcomes.iter().flatten().all(|outcome| *outcome == NEW));
    let counts = "select distinct cast(series_count as text), cast(instance_count as text) from studies";
    assert_eq!(database.query(counts).await, ["2 40"]);
    assert_eq!(database.query("select distinct cast(instance_count as text) from series").await, ["20"]);
}

async fn a_batch_that_fails_does_not_spoil_those_beside_it(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    database
        .execute(match backend {
            Backend::Sqlite => {
                "create trigger refuse before insert on instances when new.source = 'bad' \
                 begin select raise(abort, 'refused'); end"
            }
            Backend::Postgres => "alter table instances add constraint refuse check (source <> 'bad')",
        })
        .await;
    // while another holds the lock, all of them come to wait for the writer
    let mut held = database.connect().await;
    let lease = Uuid::now_v7();
    catalogue.take_lease(lease, LEASE).await.unwrap();
    held.execute(if backend == Backend::Sqlite { "begin immediate" } else { "begin" }).await;
    let mut waiting = FuturesOrdered::new();
    for number in 0..10 {
        let source = if number == 4 { "bad" } else { "good" };
        let instance = NewInstance { source: source.into(), ..new(1, 1, number) };
        let mut insert =
            Box::pin(catalogue.insert_instances(lease, Rules::default(), vec![instance], catalogue.announce()));
        assert!(backend == Backend::Postgres || futures_util::poll!(&mut insert).is_pending());
        waiting.push_back(insert);
    }
    held.execute("rollback").await;
    let outcomes: Vec<Result<Vec<Inserted>, NotInserted>> = waiting.collect().await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(outcome) => assert_eq!((number == 4, outcome), (false, vec![NEW])),
            Err(NotInserted::Failed(error)) => assert_eq!((number, error.kind()), (4, ErrorKind::Internal)),
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
    assert_eq!(database.query("select cast(instance_count as text) from studies").await, ["9"]);
}

async fn a_dropped_insert_leaves_nothing_and_the_database_usable(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let (lease, mut held) = (Uuid::now_v7(), database.connect().await);
    catalogue.take_lease(lease, LEASE).await.unwrap();
    // the insert comes to wait for the lock that is held here
    held.execute(match backend {
        Backend::Sqlite => "begin immediate",
        Backend::Postgres => "begin; lock table instances in exclusive mode",
    })
    .await;
    let mut insert =
        Box::pin(catalogue.insert_instances(lease, Rules::default(), vec![new(1, 1, 1)], catalogue.announce()));
    assert!(futures_util::poll!(&mut insert).is_pending());
    if backend == Backend::Postgres {
        let waiting = "select 'x' from pg_locks where not granted and relation = 'instances'::regclass";
        while held.query(waiting).await.is_empty() {}
    }
    drop(insert);
    held.execute("rollback").await;
    assert_eq!(store(&catalogue, vec![new(2, 1, 1)]).await.unwrap(), [NEW]);
    assert_eq!(counters(&database).await, ["1.2.2 1 1 CT", "1.2.2.1 1 1"]);
    assert_eq!(
        catalogue.insert_instances(lease, Rules::default(), vec![new(1, 1, 1)], catalogue.announce()).await.unwrap(),
        [NEW]
    );
}

async fn an_insert_without_its_lease_is_refused(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let (lost, held) = (Uuid::now_v7(), Uuid::now_v7());
    catalogue.take_lease(held, LEASE).await.unwrap();
    let refused =
        catalogue.insert_instances(lost, Rules::default(), vec![new(1, 1, 1)], catalogue.announce()).await.unwrap_err();
    assert!(matches!(refused, NotInserted::LeaseGone), "{refused:?}");
    assert_eq!(refused.into_error().kind(), ErrorKind::Unavailable);
    assert!(counters(&database).await.is_empty());
    // the writer of SQLite waits for the one that is announced and commits both together
    let (first, second) = (catalogue.announce(), catalogue.announce());
    let refused = catalogue.insert_instances(lost, Rules::default(), vec![new(1, 1, 2)], first);
    let stored = catalogue.insert_instances(held, Rules::default(), vec![new(1, 1, 1)], second);
    let (refused, stored) = tokio::join!(refused, stored);
    assert!(matches!(refused, Err(NotInserted::LeaseGone)), "{refused:?}");
    assert_eq!(stored.unwrap(), [NEW], "stored beside the one that was refused");
}

async fn a_lease_lasts_for_its_term_from_each_renewal_until_it_is_given_back(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let left = "select cast(expires_at - started_at as text) from leases";
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    catalogue.take_lease(first, LEASE).await.unwrap();
    assert_eq!(database.query(left).await, [LEASE.as_millis().to_string()]);
    database.execute("update leases set expires_at = 0").await;
    assert!(catalogue.renew_lease(first).await.unwrap());
    let renewed: u128 = database.query(left).await[0].parse().unwrap();
    assert!(renewed >= LEASE.as_millis(), "{renewed}");
    assert!(!catalogue.renew_lease(second).await.unwrap(), "never taken");
    catalogue.take_lease(second, LEASE).await.unwrap();
    catalogue.end_lease(second).await.unwrap();
    assert_eq!(database.query("select id from leases").await, [first.to_string()]);
}

fn ids(leases: Result<Vec<EndedLease>>) -> Vec<Uuid> {
    leases.unwrap().into_iter().map(|lease| lease.id).collect()
}

async fn a_lease_lapses_once_it_has_run_out_and_is_known_until_it_is_forgotten(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let [held, run_out, renewed] = [(); 3].map(|()| Uuid::now_v7());
    for lease in [held, run_out, renewed] {
        catalogue.take_lease(lease, LEASE).await.unwrap();
    }
    assert!(ids(catalogue.expired_leases(Duration::ZERO).await).is_empty());
    database.execute(&format!("update leases set expires_at = 0 where id <> '{held}'")).await;
    assert_eq!(ids(catalogue.expired_leases(Duration::ZERO).await), [run_out, renewed]);
    assert_eq!(ids(catalogue.expired_leases(Duration::from_hours(24)).await), [run_out, renewed]);
    assert!(catalogue.renew_lease(renewed).await.unwrap());
    for (lease, lapses) in [(held, false), (run_out, true), (renewed, false), (Uuid::now_v7(), false), (run_out, false)]
    {
        assert_eq!(catalogue.lapse_lease(lease).await.unwrap(), lapses);
    }
    assert!(!catalogue.renew_lease(run_out).await.unwrap(), "it is gone for its process");
    let all = [held, run_out, renewed, Uuid::now_v7()].into();
    assert_eq!(catalogue.leases_held(&all).await.unwrap(), [held, renewed].into());
    assert_eq!(ids(catalogue.lapsed_leases().await), [run_out]);
    catalogue.forget_lapsed_lease(run_out).await.unwrap();
    assert!(ids(catalogue.lapsed_leases().await).is_empty());
}

/// What a sweep does: it takes a lease that ran out, then removes objects under it that have no row.
async fn a_lease_is_not_taken_away_while_instances_are_stored_under_it(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let lease = Uuid::now_v7();
    catalogue.take_lease(lease, LEASE).await.unwrap();
    let storing = catalogue.clone();
    let storing = tokio::spawn(async move {
        let mut outcomes = Vec::new();
        while !matches!(outcomes.last(), Some(false)) {
            let instance = new(1, 1, u32::try_from(outcomes.len()).unwrap());
            outcomes.push(
                storing.insert_instances(lease, Rules::default(), vec![instance], storing.announce()).await.is_ok(),
            );
        }
        outcomes
    });
    while counters(&database).await.is_empty() {
        assert!(!storing.is_finished(), "nothing could be stored");
    }
    database.execute("update leases set expires_at = 0").await;
    assert!(catalogue.lapse_lease(lease).await.unwrap());
    let rows = "select cast(count(*) as text) from instances";
    let (when_taken, outcomes) = (database.query(rows).await, storing.await.unwrap());
    assert_eq!(database.query(rows).await, when_taken, "nothing was stored under it any more");
    assert_eq!(when_taken, [outcomes.iter().filter(|stored| **stored).count().to_string()]);
}

async fn an_instance_gets_no_object_under_a_lease_that_a_sweep_takes(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    let [kept, taken] = [(); 2].map(|()| Uuid::now_v7());
    for lease in [kept, taken] {
        catalogue.take_lease(lease, LEASE).await.unwrap();
    }
    catalogue.insert_instances(kept, Rules::default(), vec![new(1, 1, 1)], catalogue.announce()).await.unwrap();
    let location = || async { catalogue.locate(&key(1, 1, 1), None).await.unwrap().unwrap().location };
    let first = location().await;
    assert!(catalogue.relocate(&key(1, 1, 1), &first, "second", kept).await.unwrap());
    assert!(!catalogue.relocate(&key(1, 1, 1), &first, "third", kept).await.unwrap(), "it lies elsewhere now");
    let mut sweep = database.connect().await;
    let begin = if backend == Backend::Sqlite { "begin immediate" } else { "begin" };
    sweep.execute(&format!("{begin}; delete from leases where id = '{taken}'")).await;
    let relocating = catalogue.clone();
    let relocated = tokio::spawn(async move { relocating.relocate(&key(1, 1, 1), "second", "third", taken).await });
    // an answer before the sweep has the lease can only be wrong
    while relocated.is_finished() || database.query(WAITING[usize::from(backend == Backend::Postgres)]).await.is_empty()
    {
        assert!(!relocated.is_finished(), "it did not wait");
    }
    sweep.execute("commit").await;
    assert!(!relocated.await.unwrap().unwrap());
    assert_eq!(location().await, "second");
}

/// Finds something once a statement waits for a lock; SQLite does not tell.
const WAITING: [&str; 2] = ["select 'x'", "select 'x' from pg_locks where not granted"];

async fn an_index_of_a_newer_version_is_refused(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    database.execute("update _sqlx_migrations set version = 1000000 where version = 6").await;
    let settings = DatabaseSettings::default();
    for error in [
        Catalogue::open(&database.url, &settings).await.map(drop).unwrap_err(),
        catalogue.migrate().await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains("has version 1000000, this isocenter knows up to 6"), "{error}");
    }
}

async fn migrating_twice_at_once_migrates_once(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let settings = DatabaseSettings::default();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (url, settings) = (database.url.clone(), settings.clone());
            tokio::spawn(async move { Catalogue::open(&url, &settings).await?.migrate().await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().to, 6);
    }
    assert_eq!(database.query("select name from partitions").await, ["main"]);
}

async fn a_closed_catalogue_is_unavailable(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    catalogue.ping().await.unwrap();
    catalogue.close().await;
    for error in [
        catalogue.ping().await.unwrap_err(),
        catalogue.locate(&key(1, 1, 1), None).await.map(drop).unwrap_err(),
        store(&catalogue, vec![new(1, 1, 1)]).await.map(drop).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the index database is unavailable"));
    }
}

async fn a_database_that_does_not_answer_in_time_is_unavailable(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    database.open().await;
    let limit = Duration::from_millis(100);
    let settings = DatabaseSettings { acquire_timeout: limit, statement_timeout: limit, ..DatabaseSettings::default() };
    // where the machine is slow, connecting takes its time
    let patient = DatabaseSettings { acquire_timeout: LEASE, ..settings.clone() };
    let settings = if backend == Backend::Sqlite { settings } else { patient };
    let catalogue = Catalogue::open(&database.url, &settings).await.unwrap();
    let mut held = database.connect().await;
    held.execute(match backend {
        Backend::Sqlite => "begin immediate",
        Backend::Postgres => "begin; lock table leases in access exclusive mode",
    })
    .await;
    let error = store(&catalogue, vec![new(1, 1, 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the index database is unavailable"));
    held.execute("rollback").await;
    assert_eq!(store(&catalogue, vec![new(1, 1, 1)]).await.unwrap(), [NEW]);
}

async fn a_catalogue_serves_runtimes_that_come_and_go(backend: Backend) {
    let database = TestDatabase::create(backend).await;
    let catalogue = database.open().await;
    for number in 0..3 {
        let catalogue = catalogue.clone();
        let worker = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                assert_eq!(store(&catalogue, vec![new(1, 1, number)]).await.unwrap(), [NEW]);
                assert!(catalogue.locate(&key(1, 1, number), None).await.unwrap().is_some());
                assert_eq!(list(&catalogue, Scope::Study(key(1, 1, 1).study)).await.len(), number as usize + 1);
            });
        };
        tokio::task::spawn_blocking(worker).await.unwrap();
    }
}

#[tokio::test]
async fn both_databases_have_the_same_tables_columns_and_indexes() {
    let sqlite = TestDatabase::create(Backend::Sqlite).await;
    let postgres = TestDatabase::create(Backend::Postgres).await;
    sqlite.open().await;
    postgres.open().await;
    let columns = sqlite
        .query(
            "select t.name, c.name, case upper(c.type) when 'BLOB' then 'bytea' when 'TEXT' then 'text' else 'bigint' end, \
             case when c.\"notnull\" = 1 or c.pk > 0 then 'not null' else 'null' end \
             from sqlite_schema t join pragma_table_info(t.name) c \
             where t.type = 'table' and t.name not like 'sqlite%' and t.name not like '_sqlx%'",
        )
        .await;
    let expected = postgres
        .query(
            "select table_name::text, column_name::text, data_type::text, \
             case is_nullable when 'NO' then 'not null' else 'null' end from information_schema.columns \
             where table_schema = 'public' and table_name not like '\\_sqlx%'",
        )
        .await;
    assert!(columns.len() > 70, "{columns:?}");
    assert_eq!(sorted(columns), sorted(expected));
    let indexes =
        sqlite.query("select tbl_name, name from sqlite_schema where type = 'index' and sql is not null").await;
    let expected = postgres
        .query(
            "select t.relname::text, i.relname::text from pg_index x join pg_class i on i.oid = x.indexrelid \
             join pg_class t on t.oid = x.indrelid \
             where t.relnamespace = 'public'::regnamespace and i.relname not like '%\\_key' and i.relname not like '%\\_pkey'",
        )
        .await;
    assert_eq!(sorted(indexes), sorted(expected));
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// What the operator reads when the index cannot be opened.
async fn refusal(url: DatabaseUrl) -> String {
    let settings = DatabaseSettings { acquire_timeout: Duration::from_secs(5), ..DatabaseSettings::default() };
    let error = Catalogue::open(&url, &settings).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(!error.message().contains('\n'), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    error.message().to_owned()
}

#[tokio::test]
async fn an_unusable_sqlite_file_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "this is not a database, however long it is: ".repeat(100)).unwrap();
    let message = refusal(DatabaseUrl::Sqlite(file.clone())).await;
    assert!(message.contains("check that it is a SQLite database"), "{message}");
    let message = refusal(DatabaseUrl::Sqlite(file.join("index.sqlite3"))).await;
    assert!(message.contains("cannot create or write"), "{message}");
}

#[tokio::test]
async fn an_unusable_postgres_is_refused_with_what_to_do() {
    let refused = async |url: String| refusal(DatabaseUrl::Postgres(Secret::new(url))).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let message = refused(format!("postgres://someone:secret@127.0.0.1:{port}/archive")).await;
    assert!(message.contains(&format!("127.0.0.1:{port} cannot be reached")), "{message}");
    let message = refused(postgres_url("there_is_none")).await;
    assert!(message.contains("has no database `there_is_none`; create it"), "{message}");
    let nobody = postgres_url("postgres").replace("postgres@", "nobody_here:secret@");
    let message = refused(nobody).await;
    assert!(message.contains("refused the user `nobody_here`"), "{message}");
    let message = refused("postgres://host:port:secret".into()).await;
    assert!(message.contains("is not an address of PostgreSQL"), "{message}");
    administrate("create database isocenter_ascii encoding 'SQL_ASCII' template template0 locale 'C'").await;
    let message = refused(postgres_url("isocenter_ascii")).await;
    administrate("drop database isocenter_ascii").await;
    assert!(message.contains("has the encoding SQL_ASCII; isocenter needs UTF8"), "{message}");
}
