//! Deleting: hidden at once, told of ever after, taken back within the time for that, then erased.

use serde_json::Value;

use crate::support::binary::{Binary, JSON, number};
use crate::support::generate::{Elements, Syntax};
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::is_clean;

on_both_stacks!(
    a_deleted_study_is_gone_everywhere_and_the_rest_is_not,
    series_and_instances_are_deleted_alone_and_the_counters_follow,
    what_was_deleted_can_be_stored_again_with_other_attributes,
    a_delete_is_taken_back_with_all_that_it_hid,
    what_was_stored_again_since_stays_when_a_delete_is_taken_back,
    after_the_undo_window_a_sweep_erases_and_nothing_comes_back,
    deleting_what_is_not_there_changes_nothing,
    a_delete_in_one_process_holds_in_another_at_once,
    an_erasing_sweep_that_was_cut_off_is_continued,
);

const ANY: &str = "application/dicom; transfer-syntax=*";

fn file(study: &str, series: u32, instance: u32, patient: &str) -> Vec<u8> {
    let series_uid = format!("{study}.{series}");
    Elements::ct(study, &series_uid, &format!("{series_uid}.{instance}"))
        .text(0x0010, 0x0020, dicom_core::VR::LO, patient)
        .text(0x0008, 0x0060, dicom_core::VR::CS, if series == 1 { "CT" } else { "MR" })
        .part10(Syntax::Explicit)
}

/// Two series of two instances each in study 1.2.1, and one instance in study 1.2.2.
async fn fill(server: &Binary) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> =
        [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(series, instance)| file("1.2.1", series, instance, "A")).to_vec();
    files.push(file("1.2.2", 1, 1, "B"));
    assert_eq!(server.store(&files).await.status, 200);
    files
}

async fn delete(server: &Binary, path: &str) -> u16 {
    server.send("DELETE", path, &[], "").await.status
}

/// The statuses of everything that can be asked of an instance.
async fn statuses(server: &Binary, study: &str, series: u32, instance: u32) -> Vec<u16> {
    let path = format!("/studies/{study}/series/{study}.{series}/instances/{study}.{series}.{instance}");
    let mut statuses = Vec::new();
    for (more, accept) in
        [("", ANY), ("/metadata", JSON), ("/frames/1", "*/*"), ("/bulkdata/7FE00010", "*/*"), ("?v=1", ANY)]
    {
        statuses.push(server.read(&format!("{path}{more}"), accept).await.status);
    }
    statuses
}

async fn a_deleted_study_is_gone_everywhere_and_the_rest_is_not(server: TestServer) {
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1?reason=wrong%20patient").await, 204);
    for path in ["", "/metadata", "/series/1.2.1.1", "/series/1.2.1.1/metadata"] {
        let accept = if path.ends_with("metadata") { JSON } else { "multipart/related; type=\"application/dicom\"" };
        assert_eq!(server.read(&format!("/studies/1.2.1{path}"), accept).await.status, 410, "{path}");
    }
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [410; 5]);
    assert_eq!(statuses(&server, "1.2.2", 1, 1).await, [200; 5]);
    for (path, left) in [
        ("/studies", 1),
        ("/series", 1),
        ("/instances", 1),
        ("/studies?PatientID=A", 0),
        ("/studies/1.2.1/series", 0),
        ("/studies/1.2.1/instances", 0),
        ("/studies/1.2.1/series/1.2.1.1/instances", 0),
        ("/instances?SOPInstanceUID=1.2.1.1.1", 0),
    ] {
        assert_eq!(server.search(path).await.len(), left, "{path}");
    }
    assert_eq!(delete(&server, "/studies/1.2.1").await, 410);
    assert_eq!(delete(&server, "/studies/1.2.1/series/1.2.1.1").await, 410);
    // kept for now
    assert_eq!(server.keys().await.len(), 5);
    is_clean(&server).await;
    let mut index = server.index().await;
    assert_eq!(index.query("select reason from deletions").await, ["wrong patient"]);
}

async fn series_and_instances_are_deleted_alone_and_the_counters_follow(server: TestServer) {
    fill(&server).await;
    let study = async || server.search("/studies?StudyInstanceUID=1.2.1&includefield=all").await.remove(0);
    let counts = |study: &Value| (number(study, "00201206"), number(study, "00201208"));
    let modalities = |study: &Value| study["00080061"]["Value"].as_array().unwrap().clone();
    assert_eq!(counts(&study().await), (2, 4));
    assert_eq!(modalities(&study().await), ["CT", "MR"]);
    assert_eq!(delete(&server, "/studies/1.2.1/series/1.2.1.2/instances/1.2.1.2.1").await, 204);
    assert_eq!(counts(&study().await), (2, 3));
    assert_eq!(statuses(&server, "1.2.1", 2, 1).await, [410; 5]);
    assert_eq!(statuses(&server, "1.2.1", 2, 2).await, [200; 5]);
    assert_eq!(delete(&server, "/studies/1.2.1/series/1.2.1.2").await, 204);
    assert_eq!(counts(&study().await), (1, 2));
    assert_eq!(modalities(&study().await), ["CT"]);
    assert_eq!(statuses(&server, "1.2.1", 2, 2).await, [410; 5]);
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [200; 5]);
    // the last ones, one by one: the study is gone with them
    for instance in ["1.2.1.1.1", "1.2.1.1.2"] {
        assert_eq!(delete(&server, &format!("/studies/1.2.1/series/1.2.1.1/instances/{instance}")).await, 204);
    }
    assert_eq!(server.search("/studies").await.len(), 1);
    assert_eq!(server.read("/studies/1.2.1/metadata", JSON).await.status, 410);
    assert_eq!(server.instances_counted().await, 1);
    is_clean(&server).await;
}

async fn what_was_deleted_can_be_stored_again_with_other_attributes(server: TestServer) {
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    let corrected = file("1.2.1", 2, 1, "C");
    let answer = server.store(std::slice::from_ref(&corrected)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["00081199"]["Value"][0].get("00081196").is_none());
    let study = server.search("/studies?StudyInstanceUID=1.2.1").await.remove(0);
    assert_eq!(study["00100020"]["Value"][0], "C");
    assert_eq!(study["00080061"]["Value"], serde_json::json!(["MR"]));
    assert_eq!((number(&study, "00201206"), number(&study, "00201208")), (1, 1));
    assert!(server.search("/studies?PatientID=A").await.is_empty());
    assert_eq!(server.search("/studies?PatientID=C").await.len(), 1);
    let read = server.read("/studies/1.2.1/series/1.2.1.2/instances/1.2.1.2.1", ANY).await;
    assert!(read.body == corrected);
    // what was deleted beside it still is
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [410; 5]);
    is_clean(&server).await;
}

async fn restore(server: &TestServer, uid: &str, status: i32, says: &str) {
    let output = server.run(&["restore", uid]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(status), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(says), "{text}");
}

async fn a_delete_is_taken_back_with_all_that_it_hid(server: TestServer) {
    let files = fill(&server).await;
    let before = server.search("/studies?StudyInstanceUID=1.2.1").await;
    assert_eq!(delete(&server, "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1").await, 204);
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    restore(&server, "1.2.1", 0, "3 instances restored").await;
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [410; 5]);
    restore(&server, "1.2.1.1.1", 0, "1 instance restored").await;
    for (number, (series, instance)) in [(1, 1), (1, 2), (2, 1), (2, 2)].into_iter().enumerate() {
        let path = format!("/studies/1.2.1/series/1.2.1.{series}/instances/1.2.1.{series}.{instance}");
        assert!(server.read(&path, ANY).await.body == files[number]);
    }
    assert_eq!(server.search("/studies?StudyInstanceUID=1.2.1").await, before);
    // a UID that was never there is 404 again, not 410
    assert_eq!(statuses(&server, "1.2.1", 1, 9).await, [404; 5]);
    restore(&server, "1.2.1", 1, "no delete of it is known").await;
    is_clean(&server).await;
}

async fn what_was_stored_again_since_stays_when_a_delete_is_taken_back(server: TestServer) {
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    let again = file("1.2.1", 1, 1, "Z");
    assert_eq!(server.store(std::slice::from_ref(&again)).await.status, 200);
    restore(&server, "1.2.1", 0, "3 instances restored, 1 not, as they were stored again").await;
    assert!(server.read("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1", ANY).await.body == again);
    let study = server.search("/studies?StudyInstanceUID=1.2.1").await.remove(0);
    assert_eq!((number(&study, "00201206"), number(&study, "00201208")), (2, 4));
    is_clean(&server).await;
}

async fn after_the_undo_window_a_sweep_erases_and_nothing_comes_back(mut server: TestServer) {
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    let sweep = async |server: &TestServer, more: &[&str]| {
        let output = server.run(&[&["sweep", "--json"], more].concat()).await;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{report}");
        number_of(&report, "erased")
    };
    assert_eq!(sweep(&server, &[]).await, 0);
    server.restart_with(&[("ISOCENTER_STORE_UNDO_WINDOW", "0s")]).await;
    assert_eq!(sweep(&server, &["--dry-run"]).await, 4);
    assert_eq!(server.keys().await.len(), 5);
    assert_eq!(sweep(&server, &[]).await, 4);
    assert_eq!(server.keys().await.len(), 1);
    assert_eq!(sweep(&server, &[]).await, 0);
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [410; 5]);
    restore(&server, "1.2.1", 1, "erased").await;
    let mut index = server.index().await;
    for (table, left) in
        [("studies", 1), ("series", 1), ("instances", 1), ("metadata_dictionaries", 1), ("deletions", 1)]
    {
        assert_eq!(index.query(&format!("select 'row' from {table}")).await.len(), left, "{table}");
    }
    // and the same UIDs can be used again
    assert_eq!(server.store(&[file("1.2.1", 1, 1, "A")]).await.status, 200);
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [200; 5]);
    is_clean(&server).await;
}

fn number_of(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap()
}

async fn deleting_what_is_not_there_changes_nothing(server: TestServer) {
    fill(&server).await;
    for (path, status) in [
        ("/studies/1.2.9", 404),
        ("/studies/1.2.1/series/1.2.2.1", 404),
        ("/studies/1.2.2/series/1.2.2.1/instances/1.2.1.1.1", 404),
        ("/studies/1.2.1?resaon=typo", 400),
        ("/studies/1.2.x", 400),
        ("/studies", 405),
        ("/studies/1.2.1/metadata", 405),
    ] {
        assert_eq!(delete(&server, path).await, status, "{path}");
    }
    let foreign = server.send("DELETE", "/studies/1.2.1", &[("origin", "http://elsewhere.example")], "").await;
    assert_eq!(foreign.status, 403);
    assert_eq!(server.instances_counted().await, 5);
}

async fn a_delete_in_one_process_holds_in_another_at_once(server: TestServer) {
    fill(&server).await;
    let other = server.another().await;
    assert_eq!(statuses(&other, "1.2.1", 1, 1).await, [200; 5]);
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    assert_eq!(statuses(&other, "1.2.1", 1, 1).await, [410; 5]);
    // the other one still has the dictionary of a series in mind that is erased now
    assert_eq!(other.store(&[file("1.2.1", 1, 1, "A")]).await.status, 200);
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [200; 5]);
}

async fn an_erasing_sweep_that_was_cut_off_is_continued(mut server: TestServer) {
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    server.restart_with(&[("ISOCENTER_STORE_UNDO_WINDOW", "0s")]).await;
    // the rows were taken, one object removed, and nothing else
    let mut index = server.index().await;
    index.execute("update instances set hidden = 4 where deletion_id is not null").await;
    let keys = server.keys().await;
    let gone = keys.iter().find(|key| key.starts_with("studies/1.2.1/")).unwrap();
    let key = isocenter::store::keys::StorageKey::from_index(gone.clone());
    server.storage().await.remove(&key).await.unwrap();
    restore(&server, "1.2.1", 1, "erased").await;
    is_clean(&server).await;
    let output = server.run(&["sweep", "--json"]).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number_of(&report, "erased"), 4, "{report}");
    assert_eq!(server.keys().await.len(), 1);
    assert_eq!(index.query("select 'row' from instances").await.len(), 1);
}
