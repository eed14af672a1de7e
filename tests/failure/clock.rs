//! Clocks that are set back or were wrong: nothing live is removed, no order is lost, no attribute goes stale.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dicom_core::VR;
use isocenter::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use isocenter::store::keys::StorageKey;
use isocenter::store::{Receipt, Stored};
use uuid::{ContextV7, Timestamp, Uuid};

use super::ANY;
use crate::support::generate::{Elements, Syntax};
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::is_clean;

on_both_stacks!(
    what_is_hidden_or_held_by_a_clock_ahead_of_ours_stays,
    versions_are_made_anew_whatever_the_times_of_their_receipt,
    a_study_that_comes_again_shows_its_new_attributes_whatever_the_clock_said_before,
);

const DAY: i64 = 24 * 60 * 60 * 1000;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn of_study(study: u32, patient: &str) -> Elements {
    let study = format!("1.2.{study}");
    Elements::ct(&study, &format!("{study}.1"), &format!("{study}.1.1")).text(0x0010, 0x0020, VR::LO, patient)
}

fn path(study: u32) -> String {
    format!("/studies/1.2.{study}/series/1.2.{study}.1/instances/1.2.{study}.1.1")
}

async fn what_is_hidden_or_held_by_a_clock_ahead_of_ours_stays(server: TestServer) {
    for study in 1..=4 {
        assert_eq!(server.store(&[of_study(study, "A").part10(Syntax::Explicit)]).await.status, 200);
    }
    let mut index = server.index().await;
    // how long ago it was hidden, and whether it is erased
    let cases = [(1, -30 * DAY, false), (2, -DAY, false), (3, 0, false), (4, 8 * DAY, true)];
    for (study, ago, _) in cases {
        assert_eq!(server.send("DELETE", &format!("/studies/1.2.{study}"), &[], "").await.status, 204);
        let uid = format!("1.2.{study}.1.1");
        let hidden_at = now() - ago;
        index.execute(&format!("update instances set hidden_at = {hidden_at} where sop_instance_uid = '{uid}'")).await;
    }
    // a lease of a process whose clock is ahead, under which something is about to be stored
    let lease =
        Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), u64::try_from((now() + 30 * DAY) / 1000).unwrap(), 0));
    let (started, expires) = (now() + 30 * DAY, now() + 31 * DAY);
    let values = format!("values ('{lease}', {started}, {DAY}, {expires})");
    index.execute(&format!("insert into leases (id, started_at, term, expires_at) {values}")).await;
    let storage = server.storage().await;
    let begun = key(9, lease, 1);
    storage.put(&begun, Bytes::from_static(b"begun")).await.unwrap().keep();
    let untold = StorageKey::deletion(lease);
    storage.put(&untold, Bytes::from_static(b"{}")).await.unwrap().keep();
    for flags in [&["sweep"][..], &["sweep", "--full"]] {
        let output = server.run(flags).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // a full sweep is refused where the index is empty, which it is not
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(server.keys().await.len(), 4, "three that are hidden, and what is about to be stored");
        assert!(storage.exists(&begun).await.unwrap().is_some() && storage.exists(&untold).await.unwrap().is_some());
    }
    for (study, _, erased) in cases {
        let restored = server.run(&["restore", &format!("1.2.{study}")]).await.status.code() == Some(0);
        assert_eq!(restored, !erased, "{study}");
        let status = server.read(&path(study), ANY).await.status;
        assert_eq!(status, if erased { 410 } else { 200 }, "{study}");
    }
    is_clean(&server).await;
}

fn key(study: u32, lease: Uuid, number: u64) -> StorageKey {
    let instance = InstanceKey {
        study: StudyUid::parse(&format!("1.2.{study}")).unwrap(),
        series: SeriesUid::parse(&format!("1.2.{study}.1")).unwrap(),
        instance: InstanceUid::parse(&format!("1.2.{study}.1.1")).unwrap(),
    };
    StorageKey::instance(&instance, lease, number)
}

async fn versions_are_made_anew_whatever_the_times_of_their_receipt(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    // when each content came by the clock, and in which order they become versions
    let cases: [([i64; 3], [usize; 3]); 5] = [
        ([1, 2, 3], [0, 1, 2]),
        ([7, 7, 7], [0, 1, 2]),
        ([9, 5, 7], [1, 2, 0]),
        ([0, -5, 5], [1, 0, 2]),
        ([i64::MAX, 0, i64::MIN], [2, 1, 0]),
    ];
    let patients = ["A", "B", "C"];
    let storage = server.storage().await;
    for (study, (times, _)) in (1..).zip(cases) {
        let lease = Uuid::now_v7();
        for ((number, received_at), patient) in (0..).zip(times).zip(patients) {
            let file = of_study(study, patient).part10(Syntax::Explicit);
            let digest = *blake3::hash(&file).as_bytes();
            let mut upload = storage.begin().await.unwrap();
            upload.name(key(study, lease, number));
            upload.write(file.into()).await.unwrap();
            let staged = upload.finish(Receipt { received_at, received_digest: digest, digest }).await.unwrap();
            storage.make_durable(vec![staged]).await.unwrap().into_iter().for_each(Stored::keep);
        }
    }
    let output = server.run(&["reindex"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    for (study, (times, order)) in (1..).zip(cases) {
        let content = |number: usize| of_study(study, patients[number]).part10(Syntax::Explicit);
        for (version, number) in (1..).zip(order) {
            let read = server.read(&format!("{}?v={version}", path(study)), ANY).await;
            assert!(read.status == 200 && read.body == content(number), "{times:?}: version {version}");
        }
        assert!(server.read(&path(study), ANY).await.body == content(order[2]), "{times:?}: the last one is seen");
    }
    assert_eq!(server.instances_counted().await, cases.len());
    is_clean(&server).await;
}

async fn a_study_that_comes_again_shows_its_new_attributes_whatever_the_clock_said_before(server: TestServer) {
    let mut index = server.index().await;
    let patients = |number: usize| format!("P-{number}");
    assert_eq!(server.store(&[of_study(1, "first").part10(Syntax::Explicit)]).await.status, 200);
    // long ago, far ahead, and about the moment in which it comes again
    let mut times = vec![0, -1, now() + 400 * DAY];
    times.extend((0..24).map(|_| i64::MIN));
    for (number, time) in times.into_iter().enumerate() {
        assert_eq!(server.send("DELETE", "/studies/1.2.1", &[], "").await.status, 204);
        let created = if time == i64::MIN { now() + i64::try_from(number % 8).unwrap() } else { time };
        index.execute(&format!("update studies set created_at = {created}, updated_at = {created}")).await;
        let file = of_study(1, &patients(number)).part10(Syntax::Explicit);
        assert_eq!(server.store(&[file]).await.status, 200);
        let found = server.search(&format!("/studies?PatientID={}", patients(number))).await;
        assert_eq!(found.len(), 1, "created at {created}");
    }
    is_clean(&server).await;
}
