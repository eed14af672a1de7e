//! What was deleted and what was taken back hold when the index is lost, older than the objects, or made anew beside a server.

use dicom_core::VR;
use isocenter::store::Receipt;
use isocenter::store::keys::StorageKey;
use serde_json::Value;
use uuid::Uuid;

use crate::reindex::{ANY, ct, give_back, reindex, start_without_index, sweep, take, tell_of_a_deletion};
use crate::support::generate::{Elements, Syntax};
use crate::support::multipart;
use crate::support::raw::Raw;
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::{is_clean, put};

on_both_stacks!(
    a_delete_of_an_older_version_leaves_the_newer_one_in_another_study,
    what_was_stored_again_is_told_from_what_was_deleted_whatever_the_clocks_say,
    a_delete_that_followed_a_restore_holds_also_where_the_index_is_older,
    what_was_replaced_since_the_index_was_saved_and_then_deleted_does_not_come_back,
    a_delete_of_which_everything_was_erased_holds_however_often_an_old_index_comes_back,
    a_study_and_its_series_tell_of_the_instance_received_first_of_those_that_can_be_seen,
    what_moved_to_another_study_does_not_go_on_telling_of_the_first,
    a_delete_comes_about_although_nothing_that_is_left_can_tell_of_the_study,
    what_was_replaced_and_erased_before_its_delete_does_not_come_back_with_an_old_index,
    what_began_before_and_ended_after_a_delete_stays_when_the_index_is_lost,
    a_restore_that_was_cut_off_comes_about,
    what_was_stored_after_a_restore_that_was_cut_off_stays,
    what_could_not_be_read_before_a_delete_is_deleted_with_it,
    a_delete_that_was_cut_off_and_asked_for_again_is_taken_back_with_it,
    contents_of_several_series_come_back_in_the_order_in_which_they_came,
    what_was_taken_back_after_the_index_was_saved_stays_in_the_place_of_what_was_deleted,
    what_was_replaced_before_a_delete_does_not_take_the_place_of_what_is_taken_back,
    a_copy_that_was_taken_back_is_not_taken_for_one_that_stays_deleted,
    what_moved_away_and_back_is_found_where_it_was_last,
    what_was_erased_since_the_index_was_saved_cannot_be_taken_back,
    a_version_that_is_kept_in_another_study_keeps_its_number,
    the_objects_of_another_archive_are_refused,
    no_sweep_forgets_a_delete_that_an_older_index_does_not_know,
    what_tells_of_a_delete_and_cannot_be_read_is_named,
    whatever_becomes_of_the_index_it_says_what_was_answered,
);

/// An instance that every study and series of the patient may hold.
fn shared(study: u32, series: u32, comment: &str) -> Vec<u8> {
    let study = format!("1.2.{study}");
    let elements = Elements::ct(&study, &format!("{study}.{series}"), "1.2.9.9");
    elements.text(0x0020, 0x4000, VR::LT, comment).part10(Syntax::Explicit)
}

fn path(study: u32, series: u32) -> String {
    format!("/studies/1.2.{study}/series/1.2.{study}.{series}/instances/1.2.9.9")
}

async fn store(server: &TestServer, file: &[u8]) {
    assert_eq!(server.store(&[file.to_vec()]).await.status, 200);
}

async fn delete(server: &TestServer, path: &str) {
    assert_eq!(server.send("DELETE", path, &[], "").await.status, 204, "{path}");
}

async fn restore(server: &TestServer, uid: &str) {
    let output = server.run(&["restore", uid]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Makes a lost index anew.
async fn lose_and_reindex(server: &mut TestServer) {
    server.lose_index().await;
    let (status, found) = reindex(server).await;
    assert_eq!(status, 0, "{found}");
    server.restart().await;
}

/// Brings back the index that was saved and brings it up to date.
async fn go_back_and_reindex(server: &mut TestServer) {
    server.restore_index().await;
    server.lets_leases_run_out().await;
    let (status, found) = reindex(server).await;
    assert_eq!(status, 0, "{found}");
    server.restart().await;
}

/// Writes what a restore of all there is writes before it changes any row.
async fn tell_of_a_restore(server: &TestServer) {
    let id = server.index().await.query("select uuid from deletions").await.remove(0);
    let told = StorageKey::restore(Uuid::try_parse(&id).unwrap(), Uuid::now_v7());
    let objects = serde_json::json!({ "objects": server.keys().await });
    put(&server.storage().await, &told, objects.to_string().into_bytes()).await;
}

/// That this content is read there, or that it is gone.
async fn reads(server: &TestServer, path: &str, content: Option<&[u8]>) {
    let read = server.read(path, ANY).await;
    match content {
        Some(content) => assert!(read.status == 200 && read.body == content, "{path}: {}", read.status),
        None => assert_eq!(read.status, 410, "{path}"),
    }
}

async fn a_delete_of_an_older_version_leaves_the_newer_one_in_another_study(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    let newer = shared(2, 1, "B");
    store(&server, &shared(1, 1, "A")).await;
    store(&server, &newer).await;
    store(&server, &ct(1, 1, 1).part10(Syntax::Explicit)).await;
    delete(&server, "/studies/1.2.1").await;
    reads(&server, &path(2, 1), Some(&newer)).await;
    lose_and_reindex(&mut server).await;
    reads(&server, &path(2, 1), Some(&newer)).await;
    assert_eq!(server.instances_counted().await, 1);
    is_clean(&server).await;
}

async fn what_was_stored_again_is_told_from_what_was_deleted_whatever_the_clocks_say(mut server: TestServer) {
    let storage = server.storage().await;
    // received by a process whose clock is behind, with the same bytes and with others; and with a receipt that was lost
    for (study, comment, behind) in [(1, "A", Some(5_000)), (2, "B", Some(5_000)), (3, "A", None)] {
        store(&server, &shared(study, 1, "A")).await;
        let before = server.keys().await;
        server.index().await.execute("update instances set received_at = received_at - 60000").await;
        delete(&server, &format!("/studies/1.2.{study}")).await;
        let again = shared(study, 1, comment);
        store(&server, &again).await;
        let key = server.keys().await.into_iter().find(|key| !before.contains(key)).unwrap();
        let key = StorageKey::from_index(key);
        let (bytes, receipt) = take(&storage, &key).await;
        let receipt = match behind {
            Some(behind) => Receipt { received_at: receipt.received_at - behind, ..receipt },
            None => receipt,
        };
        give_back(&storage, &key, (bytes, receipt)).await;
        // beside files those of a series are a file of their own
        let receipts = server.data().join("objects").join(key.as_str()).with_file_name("receipts");
        if behind.is_none() && receipts.exists() {
            std::fs::remove_file(receipts).unwrap();
        }
        lose_and_reindex(&mut server).await;
        reads(&server, &path(study, 1), Some(&again)).await;
        is_clean(&server).await;
        delete(&server, &format!("/studies/1.2.{study}")).await;
        lose_and_reindex(&mut server).await;
        reads(&server, &path(study, 1), None).await;
    }
}

async fn a_delete_that_followed_a_restore_holds_also_where_the_index_is_older(mut server: TestServer) {
    let (first, other) = (shared(1, 1, "A"), Elements::ct("1.2.1", "1.2.1.1", "1.2.9.8").part10(Syntax::Explicit));
    store(&server, &first).await;
    store(&server, &other).await;
    delete(&server, "/studies/1.2.1").await;
    server.save_index().await;
    // taken back and deleted again
    restore(&server, "1.2.1").await;
    delete(&server, "/studies/1.2.1").await;
    go_back_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), None).await;
    assert_eq!(server.instances_counted().await, 0);
    // one stored again with other bytes, and only the rest taken back
    let again = shared(1, 1, "B");
    store(&server, &again).await;
    restore(&server, "1.2.1").await;
    go_back_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), Some(&again)).await;
    assert_eq!(server.instances_counted().await, 2);
    is_clean(&server).await;
}

async fn what_was_replaced_since_the_index_was_saved_and_then_deleted_does_not_come_back(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "replace")]).await;
    store(&server, &shared(1, 1, "A")).await;
    server.save_index().await;
    store(&server, &shared(1, 1, "B")).await;
    delete(&server, "/studies/1.2.1").await;
    go_back_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), None).await;
    lose_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), None).await;
    restore(&server, "1.2.1").await;
    reads(&server, &path(1, 1), Some(&shared(1, 1, "B"))).await;
    is_clean(&server).await;
}

async fn a_delete_of_which_everything_was_erased_holds_however_often_an_old_index_comes_back(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "replace")]).await;
    let other = Elements::ct("1.2.2", "1.2.2.1", "1.2.9.8").part10(Syntax::Explicit);
    store(&server, &other).await;
    store(&server, &shared(1, 1, "A")).await;
    server.save_index().await;
    store(&server, &shared(1, 1, "B")).await;
    delete(&server, "/studies/1.2.1").await;
    server.index().await.execute("update instances set hidden_at = 1 where hidden <> 0").await;
    assert_eq!(sweep(&server, &[]).await.0, 0);
    assert_eq!(server.keys().await.len(), 1);
    for _ in 0..2 {
        go_back_and_reindex(&mut server).await;
        reads(&server, &path(1, 1), None).await;
        // long ago, as far as sweeps can tell
        server.index().await.execute("update instances set hidden_at = 1 where hidden <> 0").await;
        server.lets_leases_run_out().await;
        assert_eq!(sweep(&server, &["--full"]).await.0, 0);
    }
    assert_eq!(server.read("/studies/1.2.2/series/1.2.2.1/instances/1.2.9.8", ANY).await.body, other);
    is_clean(&server).await;
}

async fn what_was_replaced_and_erased_before_its_delete_does_not_come_back_with_an_old_index(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "replace")]).await;
    store(&server, &shared(1, 1, "A")).await;
    server.save_index().await;
    store(&server, &shared(1, 1, "B")).await;
    server.index().await.execute("update instances set hidden_at = 1 where hidden <> 0").await;
    assert_eq!(sweep(&server, &[]).await.0, 0);
    assert_eq!(server.keys().await.len(), 1);
    delete(&server, "/studies/1.2.1").await;
    go_back_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), None).await;
    assert!(server.search("/instances").await.is_empty());
    is_clean(&server).await;
}

async fn what_moved_to_another_study_does_not_go_on_telling_of_the_first(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "replace")]).await;
    let of = |study: &str, uid: &str, patient: &str| {
        let file = Elements::ct(study, &format!("{study}.1"), uid).text(0x0010, 0x0020, VR::LO, patient);
        file.text(0x0010, 0x0010, VR::PN, &format!("{patient}^X")).part10(Syntax::Explicit)
    };
    for (study, uid, patient) in
        [("1.2.1", "1.2.9.9", "WRONG"), ("1.2.1", "1.2.9.1", "SECOND"), ("1.2.2", "1.2.9.9", "THIRD")]
    {
        assert!([200, 202].contains(&server.store(&[of(study, uid, patient)]).await.status));
    }
    for _ in 0..2 {
        for (patient, studies) in [("WRONG", 0), ("SECOND", 1), ("THIRD", 1)] {
            assert_eq!(server.search(&format!("/studies?PatientID={patient}")).await.len(), studies, "{patient}");
            assert_eq!(server.search(&format!("/studies?PatientName={patient}*")).await.len(), studies, "{patient}");
        }
        lose_and_reindex(&mut server).await;
    }
    is_clean(&server).await;
}

async fn a_delete_comes_about_although_nothing_that_is_left_can_tell_of_the_study(mut server: TestServer) {
    for instance in 1..=3 {
        store(&server, &ct(1, 1, instance).part10(Syntax::Explicit)).await;
    }
    let mut index = server.index().await;
    index.execute("update instances set metadata = frames where sop_instance_uid = '1.2.1.1.2'").await;
    delete(&server, "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1").await;
    index.execute("update metadata_dictionaries set content = (select frames from instances limit 1)").await;
    server.restart().await;
    delete(&server, "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.2").await;
    assert_eq!(server.instances_counted().await, 1);
}

/// That the one study and its one series say this, and are found by it.
async fn tells(server: &TestServer, patient: &str, modality: &str) {
    let found = server.search("/studies?includefield=all").await;
    let told = |value: &Value, tag: &str| value[tag]["Value"][0].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (found.len(), told(&found[0], "00100020"), told(&found[0], "00080061")),
        (1, patient.into(), modality.into())
    );
    let series = server.search("/studies/1.2.1/series").await;
    assert_eq!((series.len(), told(&series[0], "00080060")), (1, modality.into()));
    for (who, studies) in [("FIRST", usize::from(patient == "FIRST")), ("SECOND", usize::from(patient == "SECOND"))] {
        assert_eq!(server.search(&format!("/studies?PatientID={who}")).await.len(), studies, "{who}");
        assert_eq!(server.search(&format!("/studies?PatientName={who}*")).await.len(), studies, "{who}");
    }
    let others = ["CT", "MR"].into_iter().filter(|other| *other != modality);
    for other in others {
        assert!(server.search(&format!("/studies?ModalitiesInStudy={other}")).await.is_empty());
    }
}

async fn a_study_and_its_series_tell_of_the_instance_received_first_of_those_that_can_be_seen(mut server: TestServer) {
    // the order of their UIDs is another one
    for (uid, patient, modality) in [("1.2.9.9", "FIRST", "CT"), ("1.2.9.1", "SECOND", "MR")] {
        let file = Elements::ct("1.2.1", "1.2.1.1", uid)
            .text(0x0010, 0x0020, VR::LO, patient)
            .text(0x0010, 0x0010, VR::PN, &format!("{patient}^X"))
            .text(0x0008, 0x0060, VR::CS, modality);
        assert!([200, 202].contains(&server.store(&[file.part10(Syntax::Explicit)]).await.status));
        tells(&server, "FIRST", "CT").await;
    }
    lose_and_reindex(&mut server).await;
    tells(&server, "FIRST", "CT").await;
    delete(&server, &path(1, 1)).await;
    tells(&server, "SECOND", "MR").await;
    lose_and_reindex(&mut server).await;
    tells(&server, "SECOND", "MR").await;
    restore(&server, "1.2.9.9").await;
    tells(&server, "FIRST", "CT").await;
    delete(&server, "/studies/1.2.1/series/1.2.1.1/instances/1.2.9.1").await;
    tells(&server, "FIRST", "CT").await;
    lose_and_reindex(&mut server).await;
    tells(&server, "FIRST", "CT").await;
    is_clean(&server).await;
}

async fn what_began_before_and_ended_after_a_delete_stays_when_the_index_is_lost(mut server: TestServer) {
    let slow = shared(1, 1, "A");
    let other = Elements::ct("1.2.2", "1.2.2.1", "1.2.9.8").part10(Syntax::Explicit);
    let (content_type, body) = multipart::write(&[&slow, &other]);
    let address = server.url("").trim_start_matches("http://").to_owned();
    let head = format!(
        "POST /dicom-web/studies HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut upload = Raw::connect(&address).await;
    // the first part is whole
    let (most, rest) = body.split_at(body.len() - other.len() / 2);
    assert!(upload.send(head.as_bytes()).await && upload.send(most).await);
    store(&server, &shared(1, 1, "B")).await;
    delete(&server, &path(1, 1)).await;
    assert_eq!(upload.exchange(&[rest], false).await.status, 200);
    reads(&server, &path(1, 1), Some(&slow)).await;
    lose_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), Some(&slow)).await;
    server.lets_leases_run_out().await;
    assert_eq!(sweep(&server, &["--full"]).await.0, 0);
    reads(&server, &path(1, 1), Some(&slow)).await;
    is_clean(&server).await;
}

async fn a_restore_that_was_cut_off_comes_about(mut server: TestServer) {
    let file = shared(1, 1, "A");
    store(&server, &file).await;
    delete(&server, "/studies/1.2.1").await;
    tell_of_a_restore(&server).await;
    // nothing of it is erased meanwhile
    server.index().await.execute("update instances set hidden_at = 1 where hidden = 1").await;
    assert_eq!(sweep(&server, &[]).await, (1, 0));
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["deletes_taken_back"]), (0, &serde_json::json!(["1.2.1"])), "{found}");
    reads(&server, &path(1, 1), Some(&file)).await;
    delete(&server, "/studies/1.2.1").await;
    restore(&server, "1.2.1").await;
    for _ in 0..2 {
        assert_eq!(reindex(&server).await.0, 0);
        reads(&server, &path(1, 1), Some(&file)).await;
        lose_and_reindex(&mut server).await;
        reads(&server, &path(1, 1), Some(&file)).await;
    }
    is_clean(&server).await;
}

async fn what_was_stored_after_a_restore_that_was_cut_off_stays(mut server: TestServer) {
    let (first, second) = (shared(1, 1, "A"), shared(1, 1, "B"));
    store(&server, &first).await;
    delete(&server, "/studies/1.2.1").await;
    tell_of_a_restore(&server).await;
    store(&server, &second).await;
    for _ in 0..2 {
        let (status, found) = reindex(&server).await;
        assert_eq!((status, &found["deletes_taken_back"]), (0, &serde_json::json!([])), "{found}");
        reads(&server, &path(1, 1), Some(&second)).await;
    }
    lose_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), Some(&second)).await;
    server.index().await.execute("update instances set hidden_at = 1 where hidden = 1").await;
    assert_eq!(sweep(&server, &["--full"]).await.0, 0);
    assert_eq!(server.keys().await.len(), 1);
    reads(&server, &path(1, 1), Some(&second)).await;
    is_clean(&server).await;
}

async fn what_could_not_be_read_before_a_delete_is_deleted_with_it(mut server: TestServer) {
    let (file, other) = (shared(1, 1, "A"), Elements::ct("1.2.1", "1.2.1.1", "1.2.9.8").part10(Syntax::Explicit));
    store(&server, &file).await;
    let key = StorageKey::from_index(server.keys().await.remove(0));
    store(&server, &other).await;
    let storage = server.storage().await;
    let (bytes, receipt) = take(&storage, &key).await;
    give_back(&storage, &key, (vec![7; bytes.len()], receipt)).await;
    server.lose_index().await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["damaged"], &found["indexed"]), (1, &1.into(), &1.into()), "{found}");
    server.restart().await;
    delete(&server, "/studies/1.2.1").await;
    storage.remove(&key).await.unwrap();
    give_back(&storage, &key, (bytes, receipt)).await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["deleted"]), (0, &1.into()), "{found}");
    assert_eq!(server.instances_counted().await, 0);
    assert_eq!(sweep(&server, &["--full"]).await, (0, 0));
    restore(&server, "1.2.1").await;
    reads(&server, &path(1, 1), Some(&file)).await;
    assert_eq!(server.instances_counted().await, 2);
    is_clean(&server).await;
}

async fn a_delete_that_was_cut_off_and_asked_for_again_is_taken_back_with_it(mut server: TestServer) {
    let files: Vec<_> = (1..=6).map(|instance| ct(1, 1, instance).part10(Syntax::Explicit)).collect();
    assert_eq!(server.store(&files).await.status, 200);
    // not known to the index, or known by a `reindex` that found all of it deleted
    for known in [false, true] {
        tell_of_a_deletion(&server, "1.2.1", "1.2.1.1", Uuid::now_v7()).await;
        delete(&server, "/studies/1.2.1").await;
        if known {
            assert_eq!(reindex(&server).await.0, 0);
        }
        restore(&server, "1.2.1").await;
        assert_eq!(server.instances_counted().await, 6);
        let (status, found) = reindex(&server).await;
        assert_eq!((status, &found["deletes_done"]), (0, &serde_json::json!([])), "{found}");
        lose_and_reindex(&mut server).await;
        assert_eq!(server.instances_counted().await, 6, "known: {known}");
    }
    is_clean(&server).await;
}

async fn contents_of_several_series_come_back_in_the_order_in_which_they_came(mut server: TestServer) {
    for (study, policy) in [(1, "versions"), (2, "replace")] {
        server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", policy)]).await;
        let uid = format!("1.2.{study}.7");
        let file = |series: u32| {
            let study = format!("1.2.{study}");
            Elements::ct(&study, &format!("{study}.{series}"), &uid).part10(Syntax::Explicit)
        };
        // series are read in the order of their UIDs
        let order = [2, 3, 1];
        for series in order {
            store(&server, &file(series)).await;
        }
        let last = format!("/studies/1.2.{study}/series/1.2.{study}.1/instances/{uid}");
        delete(&server, &last).await;
        lose_and_reindex(&mut server).await;
        reads(&server, &last, None).await;
        restore(&server, &uid).await;
        reads(&server, &last, Some(&file(1))).await;
        for (version, series) in (1..).zip(order) {
            let path = format!("/studies/1.2.{study}/series/1.2.{study}.{series}/instances/{uid}?v={version}");
            if policy == "versions" {
                reads(&server, &path, Some(&file(series))).await;
            } else if series != 1 {
                assert_eq!(server.read(&path, ANY).await.status, 404, "what was replaced is none of it");
            }
        }
        is_clean(&server).await;
    }
}

async fn what_was_taken_back_after_the_index_was_saved_stays_in_the_place_of_what_was_deleted(mut server: TestServer) {
    let (first, second) = (shared(1, 1, "A"), shared(1, 1, "B"));
    store(&server, &first).await;
    delete(&server, "/studies/1.2.1/series/1.2.1.1").await;
    store(&server, &second).await;
    server.save_index().await;
    delete(&server, &path(1, 1)).await;
    restore(&server, "1.2.1.1").await;
    for _ in 0..2 {
        go_back_and_reindex(&mut server).await;
        reads(&server, &path(1, 1), Some(&first)).await;
        lose_and_reindex(&mut server).await;
        reads(&server, &path(1, 1), Some(&first)).await;
    }
    is_clean(&server).await;
}

async fn what_was_replaced_before_a_delete_does_not_take_the_place_of_what_is_taken_back(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "replace")]).await;
    let first = shared(1, 1, "W");
    store(&server, &first).await;
    store(&server, &Elements::ct("1.2.1", "1.2.1.1", "1.2.9.8").part10(Syntax::Explicit)).await;
    delete(&server, &path(1, 1)).await;
    store(&server, &shared(1, 1, "B")).await;
    store(&server, &shared(1, 1, "C")).await;
    delete(&server, "/studies/1.2.1/series/1.2.1.1").await;
    restore(&server, "1.2.9.9").await;
    restore(&server, "1.2.1.1").await;
    reads(&server, &path(1, 1), Some(&first)).await;
    lose_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), Some(&first)).await;
    assert_eq!(server.instances_counted().await, 2);
    is_clean(&server).await;
}

async fn a_copy_that_was_taken_back_is_not_taken_for_one_that_stays_deleted(mut server: TestServer) {
    let file = shared(1, 1, "A");
    server.save_index().await;
    store(&server, &file).await;
    let first = StorageKey::from_index(server.keys().await.remove(0));
    delete(&server, &path(1, 1)).await;
    store(&server, &file).await;
    delete(&server, "/studies/1.2.1/series/1.2.1.1").await;
    restore(&server, "1.2.9.9").await;
    // the one that was taken back is found after the other
    let storage = server.storage().await;
    let object = take(&storage, &first).await;
    go_back_and_reindex(&mut server).await;
    reads(&server, &path(1, 1), None).await;
    give_back(&storage, &first, object).await;
    assert_eq!(reindex(&server).await.0, 0);
    reads(&server, &path(1, 1), Some(&file)).await;
    assert_eq!(sweep(&server, &[]).await, (0, 0));
    is_clean(&server).await;
}

async fn what_moved_away_and_back_is_found_where_it_was_last(mut server: TestServer) {
    for (policy, study) in [("replace", 1), ("versions", 3)] {
        server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", policy)]).await;
        let uid = format!("1.2.8.{study}");
        let file = |study: u32| {
            let study = format!("1.2.{study}");
            Elements::ct(&study, &format!("{study}.1"), &uid).part10(Syntax::Explicit)
        };
        let path = |study: u32| format!("/studies/1.2.{study}/series/1.2.{study}.1/instances/{uid}");
        for place in [study, study + 1, study] {
            store(&server, &file(place)).await;
        }
        for _ in 0..2 {
            reads(&server, &path(study), Some(&file(study))).await;
            assert_eq!(server.read(&path(study + 1), ANY).await.status, 404, "{policy}");
            lose_and_reindex(&mut server).await;
            assert_eq!(sweep(&server, &[]).await.0, 0);
            is_clean(&server).await;
        }
    }
}

async fn what_was_erased_since_the_index_was_saved_cannot_be_taken_back(mut server: TestServer) {
    store(&server, &shared(1, 1, "A")).await;
    let other = Elements::ct("1.2.1", "1.2.1.1", "1.2.9.8").part10(Syntax::Explicit);
    store(&server, &other).await;
    server.save_index().await;
    delete(&server, &path(1, 1)).await;
    server.index().await.execute("update instances set hidden_at = 1 where hidden = 1").await;
    assert_eq!(sweep(&server, &[]).await.0, 0);
    assert_eq!(server.keys().await.len(), 1);
    go_back_and_reindex(&mut server).await;
    assert_eq!(server.run(&["restore", "1.2.9.9"]).await.status.code(), Some(1));
    reads(&server, &path(1, 1), None).await;
    assert_eq!(server.read("/studies/1.2.1/metadata", "application/dicom+json").await.status, 200);
    assert_eq!(server.read("/studies/1.2.1/series/1.2.1.1/instances/1.2.9.8", ANY).await.body, other);
    assert_eq!(sweep(&server, &[]).await.0, 0);
    is_clean(&server).await;
}

async fn a_version_that_is_kept_in_another_study_keeps_its_number(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    let (kept, last) = (shared(1, 1, "A"), shared(1, 1, "C"));
    store(&server, &kept).await;
    store(&server, &shared(2, 1, "B")).await;
    delete(&server, "/studies/1.2.2").await;
    store(&server, &last).await;
    reads(&server, &path(1, 1), Some(&last)).await;
    reads(&server, &format!("{}?v=1", path(1, 1)), Some(&kept)).await;
    is_clean(&server).await;
}

async fn the_objects_of_another_archive_are_refused(mut server: TestServer) {
    store(&server, &shared(1, 1, "A")).await;
    server.save_index().await;
    let storage = server.storage().await;
    let key = StorageKey::from_index(server.keys().await.remove(0));
    let (bytes, receipt) = take(&storage, &key).await;
    let object = key.instance_object().unwrap();
    give_back(&storage, &StorageKey::instance(&object.instance, Uuid::now_v7(), 0), (bytes, receipt)).await;
    for command in ["reindex", "sweep"] {
        let output = server.run(&[command]).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("none of their objects"), "{command}: {error}");
    }
    server.restore_index().await;
}

async fn no_sweep_forgets_a_delete_that_an_older_index_does_not_know(mut server: TestServer) {
    let files: Vec<_> = (1..=6).map(|instance| ct(1, 1, instance).part10(Syntax::Explicit)).collect();
    assert_eq!(server.store(&files).await.status, 200);
    let long_ago = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_600_000_000, 0));
    tell_of_a_deletion(&server, "1.2.1", "1.2.1.1", long_ago).await;
    for flags in [&[][..], &["--full"]] {
        server.lets_leases_run_out().await;
        assert_eq!(sweep(&server, flags).await, (0, 0));
    }
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["deletes_done"]), (0, &serde_json::json!(["1.2.1.1"])), "{found}");
    assert_eq!(server.instances_counted().await, 0);
    start_without_index(&mut server).await;
    assert_eq!(reindex(&server).await.0, 0);
    assert_eq!(server.instances_counted().await, 0);
}

async fn what_tells_of_a_delete_and_cannot_be_read_is_named(server: TestServer) {
    store(&server, &shared(1, 1, "A")).await;
    let key = StorageKey::deletion(Uuid::now_v7());
    put(&server.storage().await, &key, b"{".to_vec()).await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["deletes_unread"]), (1, &1.into()), "{found}");
    assert!(found["objects"].to_string().contains(key.as_str()), "{found}");
}

/// What is to be seen of instances, as one would expect who only knows what was answered.
#[derive(Default)]
struct Model {
    /// Instance, content and the deletion that hides it.
    rows: Vec<(usize, usize, Option<usize>)>,
    /// The UID by which each was deleted.
    deletions: Vec<String>,
}

impl Model {
    fn seen(&self, instance: usize) -> Option<usize> {
        self.rows.iter().find(|(of, _, by)| *of == instance && by.is_none()).map(|(_, content, _)| *content)
    }

    /// The status of storing a content.
    fn store(&mut self, instance: usize, content: usize) -> u16 {
        let seen = self.seen(instance);
        if seen.is_none() {
            self.rows.push((instance, content, None));
        }
        if seen.is_none_or(|seen| seen == content) { 200 } else { 409 }
    }

    /// Whether anything was deleted.
    fn delete(&mut self, uid: &str, holds: impl Fn(usize) -> bool) -> bool {
        let number = self.deletions.len();
        let mut hidden = false;
        for (instance, _, by) in &mut self.rows {
            if by.is_none() && holds(*instance) {
                *by = Some(number);
                hidden = true;
            }
        }
        if hidden {
            self.deletions.push(uid.to_owned());
        }
        hidden
    }

    /// Takes back all deletes of a UID, the latest first.
    fn restore(&mut self, uid: &str) {
        for number in (0..self.deletions.len()).rev().filter(|number| self.deletions[*number] == uid) {
            for at in 0..self.rows.len() {
                let (instance, _, by) = self.rows[at];
                if by == Some(number) && self.seen(instance).is_none() {
                    self.rows[at].2 = None;
                }
            }
        }
    }
}

/// Series 1.2.1.1 and 1.2.1.2 of one study and 1.2.2.1 of another, with two instances each.
fn place(instance: usize) -> [String; 3] {
    let (study, series) = [(1, 1), (1, 2), (2, 1)][instance / 2];
    [format!("1.2.{study}"), format!("1.2.{study}.{series}"), format!("1.2.9.{instance}")]
}

async fn whatever_becomes_of_the_index_it_says_what_was_answered(mut server: TestServer) {
    const INSTANCES: usize = 6;
    let mut state = 7_u64;
    // PCG without its output function is random enough
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let file = |instance: usize, content: usize| {
        let [study, series, uid] = place(instance);
        Elements::ct(&study, &series, &uid).text(0x0020, 0x4000, VR::LT, &content.to_string()).part10(Syntax::Explicit)
    };
    let path = |instance: usize| {
        let [study, series, uid] = place(instance);
        format!("/studies/{study}/series/{series}/instances/{uid}")
    };
    let mut model = Model::default();
    let mut history = Vec::new();
    assert_eq!(server.store(&[file(0, 0)]).await.status, model.store(0, 0));
    server.save_index().await;
    for _ in 0..80 {
        let (instance, level) = (random(INSTANCES), random(3));
        let uids = place(instance);
        let uid = uids[level].clone();
        match random(12) {
            0..5 => {
                let content = random(2);
                history.push(format!("store {instance} {content}"));
                let status = server.store(&[file(instance, content)]).await.status;
                assert_eq!(status, model.store(instance, content), "{history:#?}");
            }
            5..7 => {
                history.push(format!("delete {uid}"));
                let path = ["/studies/", "/series/", "/instances/"].into_iter().zip(&uids).take(level + 1);
                let path: String = path.flat_map(|(name, uid)| [name, uid.as_str()]).collect();
                let status = server.send("DELETE", &path, &[], "").await.status;
                let deleted = model.delete(&uid, |instance| place(instance)[level] == uid);
                assert_eq!(status == 204, deleted, "{status} {history:#?}");
            }
            7..9 => {
                history.push(format!("restore {uid}"));
                server.run(&["restore", &uid]).await;
                model.restore(&uid);
            }
            9 => {
                history.push("save".to_owned());
                server.save_index().await;
            }
            10 => {
                history.push("go back".to_owned());
                go_back_and_reindex(&mut server).await;
            }
            _ => {
                history.push("lose".to_owned());
                lose_and_reindex(&mut server).await;
            }
        }
        for instance in 0..INSTANCES {
            let read = server.read(&path(instance), ANY).await;
            let seen = model.seen(instance);
            let right =
                seen.map_or(read.status != 200, |content| read.status == 200 && read.body == file(instance, content));
            assert!(right, "{instance} is to be {seen:?}, {} after {history:#?}", read.status);
        }
    }
    is_clean(&server).await;
    for flags in [&[][..], &["--full"]] {
        assert_eq!(sweep(&server, flags).await, (0, 0));
    }
}
