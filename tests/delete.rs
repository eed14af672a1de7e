//! Deleting: hidden at once, told of ever after, taken back within the time for that, then erased.

use futures_util::TryStreamExt as _;
use isocenter::store::keys::StorageKey;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::binary::{Binary, JSON, number};
use crate::support::generate::{Elements, Syntax};
use crate::support::server::{BackEnds, TestServer, on_both_stacks, until};
use crate::verify::{is_clean, report};

on_both_stacks!(
    a_deleted_study_is_gone_everywhere_and_the_rest_is_not,
    series_and_instances_are_deleted_alone_and_the_counters_follow,
    a_study_is_not_found_by_the_modality_of_a_series_that_was_deleted,
    what_was_deleted_can_be_stored_again_with_other_attributes,
    a_delete_is_taken_back_with_all_that_it_hid,
    what_was_stored_again_since_stays_when_a_delete_is_taken_back,
    of_several_deletes_of_an_instance_the_last_is_taken_back,
    after_the_undo_window_a_sweep_erases_and_nothing_comes_back,
    deleting_what_is_not_there_changes_nothing,
    a_delete_in_one_process_holds_in_another_at_once,
    an_erasing_sweep_that_was_cut_off_is_continued,
    a_delete_that_the_index_refuses_leaves_nothing_that_tells_of_it,
    what_stays_deleted_when_the_rest_is_taken_back_stays_so_without_the_index,
    a_server_starts_while_the_last_deleted_instances_are_erased,
    a_delete_of_an_instance_takes_older_versions_in_other_studies_along,
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

async fn a_study_is_not_found_by_the_modality_of_a_series_that_was_deleted(server: TestServer) {
    fill(&server).await;
    let found = async |modality| server.search(&format!("/studies?ModalitiesInStudy={modality}")).await.len();
    assert_eq!((found("MR").await, found("M*").await, found("CT").await), (1, 1, 2));
    assert_eq!(delete(&server, "/studies/1.2.1/series/1.2.1.2").await, 204);
    assert_eq!((found("MR").await, found("M*").await, found("CT").await), (0, 0, 2));
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

async fn of_several_deletes_of_an_instance_the_last_is_taken_back(server: TestServer) {
    let last = file("1.2.1", 1, 1, "Z");
    for content in [file("1.2.1", 1, 1, "A"), last.clone()] {
        assert_eq!(server.store(&[content]).await.status, 200);
        assert_eq!(delete(&server, "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1").await, 204);
    }
    restore(&server, "1.2.1.1.1", 0, "1 instance restored").await;
    assert!(server.read("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1", ANY).await.body == last);
    restore(&server, "1.2.1.1.1", 1, "nothing can be taken back, as 1 instance was stored again").await;
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
        ("/studies/1.2.1?reason=one&reason=two", 400),
        ("/studies/1.2.1?reason=%ff", 400),
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

/// The objects that tell of deletions.
async fn told(server: &TestServer) -> Vec<String> {
    let listed: Vec<_> = server.storage().await.list("deletions").try_collect().await.unwrap();
    listed.into_iter().map(|(key, _)| key.as_str().to_owned()).collect()
}

async fn a_delete_that_the_index_refuses_leaves_nothing_that_tells_of_it(server: TestServer) {
    fill(&server).await;
    let mut index = server.index().await;
    index.execute("alter table deletions rename to elsewhere").await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 500);
    assert_eq!(told(&server).await, [""; 0]);
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [200; 5]);
    index.execute("alter table elsewhere rename to deletions").await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    assert_eq!(told(&server).await.len(), 1);
}

async fn what_stays_deleted_when_the_rest_is_taken_back_stays_so_without_the_index(mut server: TestServer) {
    fill(&server).await;
    for study in ["1.2.1", "1.2.2"] {
        assert_eq!(delete(&server, &format!("/studies/{study}")).await, 204);
    }
    let again = [file("1.2.1", 1, 1, "Z"), file("1.2.2", 1, 1, "Z")];
    assert_eq!(server.store(&again).await.status, 200);
    let before = told(&server).await;
    restore(&server, "1.2.2", 1, "nothing can be taken back, as 1 instance was stored again").await;
    assert_eq!(told(&server).await, before);
    let listed = server.run(&["restore", "--list", "1.2.2"]).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("nothing can be taken back"));
    restore(&server, "1.2.1", 0, "3 instances restored, 1 not").await;
    assert_eq!(told(&server).await.len(), 2);
    server.lose_index().await;
    let (status, report) = report(&server.run(&["reindex", "--json"]).await);
    assert_eq!((status, &report["indexed"], &report["deleted"]), (0, &5.into(), &2.into()), "{report}");
    server.restart().await;
    for (study, again) in ["1.2.1", "1.2.2"].into_iter().zip(&again) {
        let path = format!("/studies/{study}/series/{study}.1/instances/{study}.1.1");
        assert!(server.read(&path, ANY).await.body == *again, "{path}");
        restore(&server, study, 1, "nothing can be taken back").await;
    }
    assert_eq!(statuses(&server, "1.2.1", 2, 2).await, [200; 5]);
    is_clean(&server).await;
}

async fn a_server_starts_while_the_last_deleted_instances_are_erased(mut server: TestServer) {
    fill(&server).await;
    for study in ["1.2.1", "1.2.2"] {
        assert_eq!(delete(&server, &format!("/studies/{study}")).await, 204);
    }
    // killed when the objects were removed, before their rows were forgotten
    server.index().await.execute("update instances set hidden = 4").await;
    for key in server.keys().await {
        server.storage().await.remove(&StorageKey::from_index(key)).await.unwrap();
    }
    server.restart().await;
    let (status, report) = report(&server.run(&["sweep", "--json"]).await);
    assert_eq!((status, number_of(&report, "erased")), (0, 5), "{report}");
}

async fn a_delete_of_an_instance_takes_older_versions_in_other_studies_along(mut server: TestServer) {
    let under = |study: &str| Elements::ct(study, &format!("{study}.1"), "1.2.9").part10(Syntax::Explicit);
    let path = |study: &str| format!("/studies/{study}/series/{study}.1/instances/1.2.9");
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    for study in ["1.2.1", "1.2.2"] {
        assert_eq!(server.store(&[under(study)]).await.status, 200);
    }
    let first = format!("{}?v=1", path("1.2.1"));
    let second = format!("{}?v=2", path("1.2.2"));
    let seen =
        async |server: &TestServer| [server.read(&first, ANY).await.status, server.read(&second, ANY).await.status];
    assert_eq!(seen(&server).await, [200, 200]);
    assert_eq!(delete(&server, &path("1.2.2")).await, 204);
    assert_eq!(seen(&server).await, [404, 410]);
    restore(&server, "1.2.9", 0, "1 instance restored").await;
    assert_eq!(seen(&server).await, [200, 200]);
    assert_eq!(server.search("/studies").await.len(), 1);
    is_clean(&server).await;
    // and after a reindex
    assert_eq!(delete(&server, &path("1.2.2")).await, 204);
    server.lose_index().await;
    assert_eq!(report(&server.run(&["reindex", "--json"]).await).0, 0);
    server.restart().await;
    assert_eq!(seen(&server).await, [404, 410]);
    is_clean(&server).await;
}

/// Waits until a statement waits for a lock that another holds.
async fn a_statement_waits(server: &TestServer) {
    until("no statement waits for a lock", async || {
        const WAITING: &str =
            "select 'waits' from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        !server.index().await.query(WAITING).await.is_empty()
    })
    .await;
}

/// Takes back the delete of study 1.2.1 while another process is about to commit this.
async fn restore_beside(server: &TestServer, statement: &str, status: i32, says: &str) {
    let mut other = server.index().await;
    other.execute(&format!("begin; {statement}")).await;
    tokio::join!(restore(server, "1.2.1", status, says), async {
        a_statement_waits(server).await;
        other.execute("commit").await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_to_be_erased_while_it_is_taken_back_stays_deleted() {
    let server = TestServer::start(BackEnds::Shared).await;
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    restore_beside(&server, "update instances set hidden = 4 where deletion_id is not null", 1, "erased").await;
    assert_eq!(server.index().await.query("select 'row' from instances where hidden = 4").await.len(), 4);
    assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [410; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_another_study_while_a_delete_is_taken_back_stays() {
    let server = TestServer::start(BackEnds::Shared).await;
    fill(&server).await;
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    let store = "update instances set sop_instance_uid = '1.2.1.1.1' where sop_instance_uid = '1.2.2.1.1'";
    restore_beside(&server, store, 0, "3 instances restored, 1 not").await;
    assert_eq!(told(&server).await.len(), 1);
    assert_eq!(server.instances_counted().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_comes_to_its_end_when_the_client_goes_away() {
    let server = TestServer::start(BackEnds::Shared).await;
    fill(&server).await;
    let mut other = server.index().await;
    other.execute("begin; select id from studies for update").await;
    let root = server.root();
    let (address, root) = root.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = |method: &str, path: &str| format!("{method} /{root}{path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let requests = request("GET", "/studies") + &request("DELETE", "/studies/1.2.1");
    client.write_all(requests.as_bytes()).await.unwrap();
    client.readable().await.unwrap();
    a_statement_waits(&server).await;
    // with an answer unread it is reset, not only closed
    drop(client);
    // the server has the time to find out
    for _ in 0..20 {
        assert_eq!(statuses(&server, "1.2.1", 1, 1).await, [200; 5]);
    }
    other.execute("commit").await;
    let path = "/studies/1.2.1/metadata";
    until("the study is still there", async || server.read(path, JSON).await.status == 410).await;
    assert_eq!(told(&server).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_removed_does_not_keep_others_from_being_erased() {
    let mut server = TestServer::start(BackEnds::Local).await;
    fill(&server).await;
    server.restart_with(&[("ISOCENTER_STORE_UNDO_WINDOW", "0s")]).await;
    // a folder in its place
    let key = server.keys().await.remove(0);
    let place = server.data().join("objects").join(&key);
    std::fs::remove_file(&place).unwrap();
    std::fs::create_dir(&place).unwrap();
    let sweep = async |server: &TestServer| {
        let (status, report) = report(&server.run(&["sweep", "--json"]).await);
        (status, number_of(&report, "erased"), number_of(&report, "failed"))
    };
    assert_eq!(delete(&server, "/studies/1.2.1").await, 204);
    assert_eq!(sweep(&server).await, (1, 3, 1));
    assert_eq!(delete(&server, "/studies/1.2.2").await, 204);
    assert_eq!(sweep(&server).await, (1, 1, 1));
    let settings = [("ISOCENTER_STORE_UNDO_WINDOW", "0s"), ("ISOCENTER_STORE_SWEEP_INTERVAL", "1s")];
    server.restart_with(&settings).await;
    server.has_logged(&key, 1).await;
    server.has_logged("some objects could not be removed", 1).await;
    std::fs::remove_dir(&place).unwrap();
    server.restart_with(&settings[..1]).await;
    assert_eq!(sweep(&server).await, (0, 1, 0));
}
