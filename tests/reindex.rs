//! `isocenter reindex`: the index is made anew from the objects alone.

use std::collections::BTreeMap;

use dicom_core::VR;
use isocenter::store::keys::StorageKey;
use isocenter::store::{ObjectStorage, Receipt, Stored};
use serde_json::Value;

use crate::support::binary::JSON;
use crate::support::generate::{Elements, Syntax, Value as Pixels};
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::{is_clean, put, report};

on_both_stacks!(
    a_lost_index_is_made_anew_and_answers_as_before,
    what_was_deleted_stays_deleted_and_can_still_be_taken_back,
    a_delete_that_was_cut_off_comes_about_and_can_be_taken_back,
    deletes_and_what_took_them_back_hold_also_where_the_index_is_older,
    what_was_replaced_before_a_delete_does_not_come_back,
    neither_sweep_nor_reindex_works_beside_objects_that_are_away,
    what_was_deleted_long_ago_can_still_be_taken_back,
    a_delete_that_an_older_index_does_not_know_hides_what_has_rows_and_what_has_none,
    of_several_contents_the_settings_tell_which_one_counts,
    a_run_that_was_cut_off_is_continued,
    after_a_run_that_failed_nothing_is_deleted_taken_back_or_swept_until_another_came_to_its_end,
    what_is_stored_again_while_its_delete_is_found_stays,
    versions_of_what_was_deleted_come_back_in_their_order,
    what_is_damaged_is_named_and_gets_no_row,
    objects_of_uploads_under_way_are_left_alone,
    an_index_from_a_backup_is_brought_up_to_date_and_no_sweep_removes_what_it_lacks,
    an_older_content_never_takes_the_place_of_a_newer_one,
    of_contents_in_several_series_the_last_one_counts,
    copies_that_a_run_found_needless_are_removed_by_the_next_sweep,
    what_a_run_left_beside_no_row_is_removed_by_a_full_sweep_only,
    an_instance_whose_object_is_lost_or_damaged_gets_a_copy_of_the_same_content,
    a_copy_of_what_was_deleted_stays_deleted,
);

pub const ANY: &str = "application/dicom; transfer-syntax=*";

pub fn ct(study: u32, series: u32, instance: u32) -> Elements {
    let study = format!("1.2.{study}");
    let series = format!("{study}.{series}");
    let pixels = Pixels::Bytes(vec![u8::try_from(instance).unwrap(); 2048]);
    Elements::ct(&study, &series, &format!("{series}.{instance}"))
        .text(0x0010, 0x0020, VR::LO, &format!("P{study}"))
        .with(0x7fe0, 0x0010, VR::OW, pixels)
}

/// Two studies of two series with six instances each, some encapsulated, some in other encodings.
fn files() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for (study, series) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        for instance in 1..=6 {
            let file = ct(study, series, instance);
            files.push(match instance {
                5 => file.encapsulated(&[&[1; 100], &[2; 50]]).part10(Syntax::JPEG),
                6 => file.part10(Syntax::Deflated),
                4 => file.part10(Syntax::BigEndian),
                _ => file.part10(Syntax::Explicit),
            });
        }
    }
    files
}

/// All that the index answers, and the bytes of all instances.
async fn answers(server: &TestServer) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for path in ["/studies?includefield=all", "/series?includefield=all", "/instances?includefield=all"] {
        for found in server.search(path).await {
            // their order among equals is that of the UIDs
            let text = found.to_string().replace(&server.root(), "");
            answers.push(text.into_bytes());
        }
    }
    for found in server.search("/instances").await {
        let uid = |tag: &str| found[tag]["Value"][0].as_str().unwrap().to_owned();
        let path = format!("/studies/{}/series/{}/instances/{}", uid("0020000D"), uid("0020000E"), uid("00080018"));
        for (more, accept) in [("", ANY), ("/metadata", JSON), ("/frames/1", "*/*")] {
            let answer = server.read(&format!("{path}{more}"), accept).await;
            assert_eq!(answer.status, 200, "{path}{more}");
            let several = answer.content_type.starts_with("multipart/");
            answers.push(if several { answer.parts().remove(0).body } else { answer.body });
        }
    }
    answers
}

fn assert_same(now: &[Vec<u8>], before: &[Vec<u8>]) {
    for (now, before) in now.iter().zip(before) {
        assert!(now == before, "{}\n{}", String::from_utf8_lossy(now), String::from_utf8_lossy(before));
    }
    assert_eq!(now.len(), before.len());
}

/// Runs it: the exit status and the report.
pub async fn reindex(server: &TestServer) -> (i32, Value) {
    report(&server.run(&["reindex", "--json"]).await)
}

/// Loses the index and starts the server beside the objects, which it would refuse if they were there already.
pub async fn start_without_index(server: &mut TestServer) {
    server.lose_index().await;
    let storage = server.storage().await;
    let keys: Vec<StorageKey> = server.keys().await.into_iter().map(StorageKey::from_index).collect();
    let mut objects = Vec::new();
    for key in &keys {
        objects.push(take(&storage, key).await);
    }
    server.restart().await;
    for (key, object) in keys.iter().zip(objects) {
        give_back(&storage, key, object).await;
    }
}

async fn a_lost_index_is_made_anew_and_answers_as_before(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let before = answers(&server).await;
    assert_eq!(before.len(), 2 + 4 + 24 + 24 * 3);
    server.lose_index().await;
    let (status, report) = reindex(&server).await;
    assert_eq!((status, &report["indexed"], &report["read"]), (0, &24.into(), &24.into()), "{report}");
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    is_clean(&server).await;
    // what is sent again is recognised
    let again = server.store(&files()).await;
    assert_eq!(again.status, 200);
    assert_eq!(server.keys().await.len(), 24);
    let (status, report) = reindex(&server).await;
    assert_eq!((status, &report["known"]), (0, &24.into()), "{report}");
}

async fn what_was_deleted_stays_deleted_and_can_still_be_taken_back(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    for path in ["/studies/1.2.1", "/studies/1.2.2/series/1.2.2.1", "/studies/1.2.2/series/1.2.2.2/instances/1.2.2.2.1"]
    {
        assert_eq!(server.send("DELETE", path, &[], "").await.status, 204);
    }
    // deleted, and stored again
    let again = ct(1, 1, 1).text(0x0010, 0x0020, VR::LO, "NEW").part10(Syntax::Explicit);
    assert_eq!(server.store(std::slice::from_ref(&again)).await.status, 200);
    let before = answers(&server).await;
    server.lose_index().await;
    let (status, report) = reindex(&server).await;
    assert_eq!((status, &report["indexed"], &report["deleted"]), (0, &6.into(), &19.into()), "{report}");
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    for (path, status) in [
        ("/studies/1.2.1/metadata", 200),
        ("/studies/1.2.1/series/1.2.1.2/metadata", 410),
        ("/studies/1.2.2/series/1.2.2.1/metadata", 410),
        ("/studies/1.2.2/series/1.2.2.2/instances/1.2.2.2.1/metadata", 410),
        ("/studies/1.2.2/series/1.2.2.2/instances/1.2.2.2.2/metadata", 200),
    ] {
        assert_eq!(server.read(path, JSON).await.status, status, "{path}");
    }
    let output = server.run(&["restore", "1.2.2.1"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("6 instances restored"));
    assert_eq!(server.search("/studies/1.2.2/series/1.2.2.1/instances").await.len(), 6);
    is_clean(&server).await;
}

/// Writes what tells of a deletion of a series long ago, as a delete does before it changes any row.
pub async fn tell_of_a_deletion(server: &TestServer, study: &str, series: &str, id: uuid::Uuid) {
    let keys: Vec<String> = server.keys().await;
    let prefix = format!("studies/{study}/{series}/");
    let objects: BTreeMap<&String, i64> =
        keys.iter().filter(|key| key.starts_with(&prefix)).map(|key| (key, 0)).collect();
    assert_eq!(objects.len(), 6);
    let told = serde_json::json!({
        "study": study, "series": series, "at": 0, "who": "http 192.0.2.1", "reason": "", "objects": objects,
    });
    let key = StorageKey::deletion(id);
    put(&server.storage().await, &key, told.to_string().into_bytes()).await;
}

async fn a_delete_that_was_cut_off_comes_about_and_can_be_taken_back(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    // rows that came by storing and rows that came by a reindex, which is followed by another
    for times in 0..2 {
        tell_of_a_deletion(&server, "1.2.1", "1.2.1.1", uuid::Uuid::now_v7()).await;
        for again in [false, true] {
            let (status, found) = reindex(&server).await;
            let told: Value = if again { serde_json::json!([]) } else { serde_json::json!(["1.2.1.1"]) };
            assert_eq!((status, &found["known"], &found["deletes_done"]), (0, &24.into(), &told), "{found}");
            assert_eq!(server.instances_counted().await, 18);
            assert!(server.search("/studies/1.2.1/series/1.2.1.1/instances").await.is_empty());
        }
        let output = server.run(&["restore", "1.2.1.1"]).await;
        assert!(String::from_utf8_lossy(&output.stdout).contains("6 instances restored"));
        assert_eq!(server.instances_counted().await, 24);
        if times == 0 {
            server.lose_index().await;
            assert_eq!(reindex(&server).await.0, 0);
            server.restart().await;
            assert_eq!(server.instances_counted().await, 24, "it was taken back");
        }
    }
    is_clean(&server).await;
}

async fn deletes_and_what_took_them_back_hold_also_where_the_index_is_older(mut server: TestServer) {
    let (old, new) = (&files()[..2], &files()[12..14]);
    let again = ct(1, 1, 1).text(0x0020, 0x4000, VR::LT, "NEW").part10(Syntax::Explicit);
    assert_eq!(server.store(&files()).await.status, 200);
    assert_eq!(server.send("DELETE", "/studies/1.2.2", &[], "").await.status, 204);
    server.save_index().await;
    // one is deleted and stored again with other bytes, one deleted and stored again as it was, one deleted; a study taken back
    for instance in [1, 2, 3] {
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.{instance}");
        assert_eq!(server.send("DELETE", &path, &[], "").await.status, 204);
    }
    assert_eq!(server.store(&[again.clone(), old[1].clone()]).await.status, 200);
    assert_eq!(server.run(&["restore", "1.2.2"]).await.status.code(), Some(0));
    let before = answers(&server).await;
    server.restore_index().await;
    server.lets_leases_run_out().await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["indexed"]), (0, &2.into()), "{found}");
    assert_eq!(found["deletes_done"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(found["deletes_taken_back"], serde_json::json!(["1.2.2"]), "{found}");
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    assert_eq!(server.store(&[again, old[1].clone(), new[0].clone()]).await.status, 200);
    for flags in [&[][..], &["--full"]] {
        assert_eq!(sweep(&server, flags).await.0, 0);
    }
    // and when it is lost then, what was stored again is not taken for deleted
    server.lose_index().await;
    assert_eq!(reindex(&server).await.0, 0);
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    is_clean(&server).await;
}

async fn what_was_replaced_before_a_delete_does_not_come_back(mut server: TestServer) {
    for policy in ["replace", "versions"] {
        server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", policy)]).await;
        let series = if policy == "replace" { 1 } else { 2 };
        for id in ["A", "B"] {
            let content = ct(1, series, 1).text(0x0010, 0x0020, VR::LO, id).part10(Syntax::Explicit);
            assert_eq!(server.store(&[content]).await.status, 200);
        }
        let path = format!("/studies/1.2.1/series/1.2.1.{series}/instances/1.2.1.{series}.1");
        assert_eq!(server.send("DELETE", &path, &[], "").await.status, 204);
        server.lose_index().await;
        let (status, found) = reindex(&server).await;
        assert_eq!((status, &found["indexed"]), (0, &Value::Null), "{policy}: {found}");
        server.restart().await;
        assert_eq!(server.read(&path, ANY).await.status, 410, "{policy}");
        is_clean(&server).await;
    }
}

async fn neither_sweep_nor_reindex_works_beside_objects_that_are_away(server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let storage = server.storage().await;
    let mut objects = Vec::new();
    for key in server.keys().await {
        let key = StorageKey::from_index(key);
        let object = take(&storage, &key).await;
        objects.push((key, object));
    }
    for command in [&["sweep"][..], &["sweep", "--full"], &["reindex"]] {
        let refused = server.run(command).await;
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command:?}: {error}");
        assert!(error.contains("holds none of their objects"), "{error}");
    }
    for (key, object) in objects {
        give_back(&storage, &key, object).await;
    }
    is_clean(&server).await;
}

async fn what_was_deleted_long_ago_can_still_be_taken_back(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    tell_of_a_deletion(&server, "1.2.2", "1.2.2.1", uuid::Uuid::now_v7()).await;
    server.lose_index().await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["indexed"], &found["deleted"]), (0, &18.into(), &6.into()), "{found}");
    // the time for that begins now
    let (status, swept) = report(&server.run(&["sweep", "--json"]).await);
    assert_eq!((status, &swept["erased"]), (0, &0.into()), "{swept}");
    let output = server.run(&["restore", "1.2.2.1"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("6 instances restored"));
    server.restart().await;
    assert_eq!(server.search("/studies/1.2.2/series/1.2.2.1/instances").await.len(), 6);
    is_clean(&server).await;
}

async fn a_delete_that_an_older_index_does_not_know_hides_what_has_rows_and_what_has_none(server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    tell_of_a_deletion(&server, "1.2.2", "1.2.2.1", uuid::Uuid::now_v7()).await;
    let mut index = server.index().await;
    for text in [
        "delete from instances where sop_instance_uid in ('1.2.2.1.1', '1.2.2.1.2')",
        "update series set instance_count = 4 where series_uid = '1.2.2.1'",
        "update studies set instance_count = 10 where study_uid = '1.2.2'",
        // a server that stored them is there no more
        "delete from leases",
    ] {
        index.execute(text).await;
    }
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["known"], &found["deleted"]), (0, &22.into(), &2.into()), "{found}");
    assert_eq!(found["deletes_done"], serde_json::json!(["1.2.2.1"]), "{found}");
    assert!(server.search("/studies/1.2.2/series/1.2.2.1/instances").await.is_empty());
    assert_eq!(server.instances_counted().await, 18);
    is_clean(&server).await;
}

async fn of_several_contents_the_settings_tell_which_one_counts(mut server: TestServer) {
    const PATH: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    let contents: Vec<Vec<u8>> =
        ["A", "B", "C"].map(|id| ct(1, 1, 1).text(0x0010, 0x0020, VR::LO, id).part10(Syntax::Explicit)).to_vec();
    for content in &contents {
        assert_eq!(server.store(std::slice::from_ref(content)).await.status, 200);
    }
    for (policy, visible, different) in [("versions", 2, 0), ("replace", 2, 0), ("reject", 0, 2)] {
        server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", policy)]).await;
        server.lose_index().await;
        // nothing is said here: what the server was set to is kept beside the objects
        server.set(&[]);
        let (status, report) = reindex(&server).await;
        server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", policy)]).await;
        assert_eq!(status, i32::from(different > 0), "{report}");
        assert_eq!(report["different"].as_u64().unwrap_or(0), different, "{report}");
        assert!(server.read(PATH, ANY).await.body == contents[visible], "{policy}");
        let first = server.read(&format!("{PATH}?v=1"), ANY).await;
        assert_eq!(first.status, if policy == "replace" { 404 } else { 200 }, "{policy}");
        is_clean(&server).await;
    }
}

async fn a_run_that_was_cut_off_is_continued(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    assert_eq!(server.send("DELETE", "/studies/1.2.2/series/1.2.2.1", &[], "").await.status, 204);
    let before = answers(&server).await;
    server.lose_index().await;
    assert_eq!(reindex(&server).await.0, 0);
    // as it would be had it been cut off: some rows are missing, also of what was deleted
    let mut index = server.index().await;
    for text in [
        "delete from instances where sop_instance_uid like '1.2.1.2.%'",
        "delete from series where series_uid = '1.2.1.2'",
        "update studies set series_count = 1, instance_count = 6 where study_uid = '1.2.1'",
        "delete from instances where sop_instance_uid in ('1.2.2.1.1', '1.2.2.1.2')",
    ] {
        index.execute(text).await;
    }
    let (status, report) = reindex(&server).await;
    let told = ["indexed", "deleted", "known"].map(|name| &report[name]);
    assert_eq!((status, told), (0, [&6.into(), &2.into(), &16.into()]), "{report}");
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    is_clean(&server).await;
}

async fn after_a_run_that_failed_nothing_is_deleted_taken_back_or_swept_until_another_came_to_its_end(
    mut server: TestServer,
) {
    assert_eq!(server.store(&files()).await.status, 200);
    assert_eq!(server.send("DELETE", "/studies/1.2.2", &[], "").await.status, 204);
    let mut index = server.index().await;
    // half of a study has no row, and what is left cannot be noted
    for text in [
        "delete from instances where sop_instance_uid like '1.2.1.2.%'",
        "delete from series where series_uid = '1.2.1.2'",
        "update studies set series_count = 1, instance_count = 6 where study_uid = '1.2.1'",
        "alter table left_objects rename to no_objects",
    ] {
        index.execute(text).await;
    }
    assert!(!server.run(&["reindex"]).await.status.success());
    index.execute("alter table no_objects rename to left_objects").await;
    let refused = server.send("DELETE", "/studies/1.2.1", &[], "").await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true));
    for command in [&["restore", "1.2.2"][..], &["sweep"], &["sweep", "--full"]] {
        let output = server.run(command).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("was cut off"), "{command:?}: {error}");
    }
    assert_eq!(server.instances_counted().await, 6, "what can be seen can be read");
    let (status, found) = report(&server.run(&["verify", "--json"]).await);
    assert_eq!((status, &found["index_whole"], &found["missing"]), (1, &false.into(), &0.into()), "{found}");
    server.lets_leases_run_out().await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["indexed"]), (0, &6.into()), "{found}");
    assert_eq!(server.send("DELETE", "/studies/1.2.1", &[], "").await.status, 204);
    assert_eq!(server.run(&["restore", "1.2.2"]).await.status.code(), Some(0));
    assert_eq!(sweep(&server, &[]).await, (0, 0));
    server.lose_index().await;
    assert_eq!(reindex(&server).await.0, 0);
    server.restart().await;
    assert_eq!(server.read("/studies/1.2.1/metadata", JSON).await.status, 410);
    assert_eq!(server.instances_counted().await, 12);
    is_clean(&server).await;
}

async fn what_is_stored_again_while_its_delete_is_found_stays(mut server: TestServer) {
    let files = files();
    let (before, after) = (&files[..6], &files[6..12]);
    assert_eq!(server.store(&files).await.status, 200);
    assert_eq!(server.send("DELETE", "/studies/1.2.1", &[], "").await.status, 204);
    start_without_index(&mut server).await;
    let (found, stored) = tokio::join!(reindex(&server), server.store(before));
    assert_eq!(stored.status, 200);
    assert_eq!((&found.1["deleted"], &found.1["indexed"]), (&12.into(), &12.into()), "{}", found.1);
    assert_eq!(server.store(after).await.status, 200);
    assert_eq!(server.keys().await.len(), 36, "all of them got objects");
    for times in 0..3 {
        assert_eq!(server.search("/studies/1.2.1/instances").await.len(), 12);
        assert_eq!(server.instances_counted().await, 24);
        is_clean(&server).await;
        let mut index = server.index().await;
        if times == 1 {
            // a run that was cut off: what comes now stands beside what can be seen
            index.execute("delete from instances where hidden = 1 and sop_instance_uid like '1.2.1.1.%'").await;
        }
        let (status, found) = reindex(&server).await;
        let deleted = if times == 1 { 6 } else { 0 };
        assert_eq!((status, found["deleted"].as_u64().unwrap_or(0)), (0, deleted), "{found}");
        assert_eq!(index.query("select 'row' from instances where hidden = 1").await.len(), 12);
    }
    let output = server.run(&["restore", "1.2.1"]).await;
    assert_eq!(output.status.code(), Some(1), "all was stored again");
}

async fn versions_of_what_was_deleted_come_back_in_their_order(mut server: TestServer) {
    const PATH: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    // the first content comes again as the last
    let contents = ["A", "B", "A"].map(|id| ct(1, 1, 1).text(0x0010, 0x0020, VR::LO, id).part10(Syntax::Explicit));
    for content in &contents {
        assert_eq!(server.store(std::slice::from_ref(content)).await.status, 200);
    }
    assert_eq!(server.send("DELETE", PATH, &[], "").await.status, 204);
    server.lose_index().await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["deleted"]), (0, &3.into()), "{found}");
    let output = server.run(&["restore", "1.2.1.1.1"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 instance restored"));
    server.restart().await;
    for (version, content) in (1..).zip(&contents) {
        let read = server.read(&format!("{PATH}?v={version}"), ANY).await;
        assert!(read.status == 200 && read.body == *content, "version {version}: {}", read.status);
    }
    assert_eq!(server.read(&format!("{PATH}?v=4"), ANY).await.status, 404);
    assert_eq!(server.instances_counted().await, 1);
    is_clean(&server).await;
}

async fn what_is_damaged_is_named_and_gets_no_row(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let storage = server.storage().await;
    let keys: Vec<String> =
        server.keys().await.into_iter().filter(|key| key.starts_with("studies/1.2.1/1.2.1.1/")).collect();
    let [first, second, third, ..] = keys.as_slice() else { panic!("six objects") };
    // one with another byte, one cut, one that is of another instance, one that is nothing
    for (key, change) in [(first, 0), (second, 1)] {
        let key = StorageKey::from_index(key.clone());
        let size = storage.exists(&key).await.unwrap().unwrap();
        let mut bytes = storage.read_bytes(&key, 0..size).await.unwrap().to_vec();
        storage.remove(&key).await.unwrap();
        if change == 0 {
            *bytes.last_mut().unwrap() ^= 1;
        } else {
            bytes.truncate(bytes.len() - 100);
        }
        put_raw(&server, &key, bytes).await;
    }
    let elsewhere = StorageKey::from_index(third.replace("1.2.1.1.3.", "1.2.1.1.33."));
    put(&storage, &elsewhere, ct(1, 1, 3).part10(Syntax::Explicit)).await;
    let nothing = StorageKey::from_index(third.replace("1.2.1.1.3.", "1.2.1.1.34."));
    put(&storage, &nothing, b"nothing".to_vec()).await;
    server.lose_index().await;
    let (status, report) = reindex(&server).await;
    assert_eq!(status, 1);
    let counts = ["indexed", "damaged", "unusable"].map(|name| report[name].as_u64().unwrap_or(0));
    assert_eq!(counts.iter().sum::<u64>(), 26, "{report}");
    assert_eq!(counts[0], 22, "{report}");
    let named: Vec<&str> =
        report["objects"].as_array().unwrap().iter().map(|object| object["key"].as_str().unwrap()).collect();
    for key in [first.as_str(), second.as_str(), elsewhere.as_str(), nothing.as_str()] {
        assert!(named.contains(&key), "{key} is not named in {named:?}");
    }
    server.restart().await;
    is_clean(&server).await;
    // and what is sent again is stored again
    assert_eq!(server.store(&files()).await.status, 200);
    assert_eq!(server.instances_counted().await, 24);
    is_clean(&server).await;
}

/// Puts bytes under a key as an accident would: what belongs to the object stays as it was.
async fn put_raw(server: &TestServer, key: &StorageKey, bytes: Vec<u8>) {
    let file = server.data().join("objects").join(key.as_str());
    if file.parent().unwrap().exists() {
        std::fs::write(file, bytes).unwrap();
    } else {
        // without a receipt that fits, only its form tells
        put(&server.storage().await, key, bytes).await;
    }
}

async fn objects_of_uploads_under_way_are_left_alone(server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    // an object under the lease of the running server, whose row might come yet
    let mut index = server.index().await;
    let lease = index.query("select id from leases").await.remove(0);
    let lease = uuid::Uuid::try_parse(&lease).unwrap();
    let instance = isocenter::dicom::uid::InstanceKey {
        study: isocenter::dicom::uid::StudyUid::parse("1.2.1").unwrap(),
        series: isocenter::dicom::uid::SeriesUid::parse("1.2.1.1").unwrap(),
        instance: isocenter::dicom::uid::InstanceUid::parse("1.2.1.1.9").unwrap(),
    };
    let key = StorageKey::instance(&instance, lease, 1_000_000);
    put(&server.storage().await, &key, ct(1, 1, 9).part10(Syntax::Explicit)).await;
    let (status, report) = reindex(&server).await;
    assert_eq!((status, &report["known"], &report["held"]), (1, &24.into(), &1.into()), "{report}");
    assert_eq!(server.instances_counted().await, 24);
    assert_eq!(server.keys().await.len(), 25);
}

async fn an_index_from_a_backup_is_brought_up_to_date_and_no_sweep_removes_what_it_lacks(mut server: TestServer) {
    let (old, new): (Vec<_>, Vec<_>) = files().into_iter().enumerate().partition(|(number, _)| number % 4 == 0);
    let files = |numbered: Vec<(usize, Vec<u8>)>| numbered.into_iter().map(|(_, file)| file).collect::<Vec<_>>();
    let (old, new) = (files(old), files(new));
    assert_eq!(server.store(&old).await.status, 200);
    server.save_index().await;
    // under the same lease, which is renewed meanwhile
    assert_eq!(server.store(&new).await.status, 200);
    let before = answers(&server).await;
    let keys = server.keys().await;
    server.restore_index().await;
    let (status, report) = reindex(&server).await;
    assert_eq!(
        (status, &report["known"], &report["held"]),
        (1, &6.into(), &18.into()),
        "the lease may be held: {report}"
    );
    // as it is once the lease has run out by this index
    let last = "(select max(received_at) from instances)";
    server.index().await.execute(&format!("update leases set expires_at = {last}")).await;
    for flags in [&["sweep", "--json", "--dry-run"][..], &["sweep", "--json"], &["sweep", "--json"]] {
        let (status, swept) = crate::verify::report(&server.run(flags).await);
        assert_eq!((status, &swept["removed"]), (1, &0.into()), "{swept}");
        assert!(keys.iter().any(|key| swept["newer_than_index"] == key.as_str()), "{swept}");
        assert_eq!(server.keys().await, keys);
    }
    let (status, report) = reindex(&server).await;
    assert_eq!((status, &report["indexed"], &report["known"]), (0, &18.into(), &6.into()), "{report}");
    let swept = server.run(&["sweep"]).await;
    assert_eq!(swept.status.code(), Some(0), "{}", String::from_utf8_lossy(&swept.stdout));
    assert_eq!(server.keys().await, keys);
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    is_clean(&server).await;
}

/// An object and its receipt, taken away.
pub async fn take(storage: &ObjectStorage, key: &StorageKey) -> (Vec<u8>, Receipt) {
    let size = storage.exists(key).await.unwrap().unwrap();
    let bytes = storage.read_bytes(key, 0..size).await.unwrap().to_vec();
    let receipt = storage.receipt(key).await.unwrap().unwrap();
    storage.remove(key).await.unwrap();
    (bytes, receipt)
}

pub async fn give_back(storage: &ObjectStorage, key: &StorageKey, (bytes, receipt): (Vec<u8>, Receipt)) {
    let mut upload = storage.begin().await.unwrap();
    upload.name(key.clone());
    upload.write(bytes.into()).await.unwrap();
    let staged = upload.finish(receipt).await.unwrap();
    storage.make_durable(vec![staged]).await.unwrap().into_iter().for_each(Stored::keep);
}

async fn an_older_content_never_takes_the_place_of_a_newer_one(mut server: TestServer) {
    const PATH: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "versions")]).await;
    let ids = ["A", "B", "C", "D"];
    let contents = ids.map(|id| ct(1, 1, 1).text(0x0010, 0x0020, VR::LO, id).part10(Syntax::Explicit));
    let mut keys = Vec::new();
    for content in &contents {
        assert_eq!(server.store(std::slice::from_ref(content)).await.status, 200);
        let new = server.keys().await.into_iter().find(|key| !keys.contains(key)).unwrap();
        keys.push(new);
    }
    let keys: Vec<StorageKey> = keys.into_iter().map(StorageKey::from_index).collect();
    let before = answers(&server).await;
    let storage = server.storage().await;
    // which content each version is
    for (policy, versions) in
        [("replace", [Some(3), None, None, None]), ("versions", [Some(0), Some(1), Some(2), Some(3)])]
    {
        server.set(&[("ISOCENTER_STORE_DUPLICATES", policy)]);
        start_without_index(&mut server).await;
        // those that came first cannot be read the first time
        let mut away = Vec::new();
        for key in &keys[..3] {
            away.push(take(&storage, key).await);
        }
        let (status, report) = reindex(&server).await;
        assert_eq!((status, &report["indexed"]), (0, &1.into()), "{report}");
        for number in [1, 0, 2] {
            give_back(&storage, &keys[number], away[number].clone()).await;
            let (status, report) = reindex(&server).await;
            let told = if policy == "replace" { "superseded" } else { "indexed" };
            assert!(status == 0 && report[told].as_u64().unwrap() >= 1, "{report}");
            assert!(server.read(PATH, ANY).await.body == contents[3], "{policy}: the last one is seen");
            is_clean(&server).await;
        }
        assert_eq!(server.instances_counted().await, 1);
        for (version, content) in (1..).zip(versions) {
            let read = server.read(&format!("{PATH}?v={version}"), ANY).await;
            let right =
                content.map_or(read.status == 404, |number| read.status == 200 && read.body == contents[number]);
            assert!(right, "{policy}: version {version}: {}", read.status);
        }
        assert_same(&answers(&server).await, &before);
    }
}

async fn of_contents_in_several_series_the_last_one_counts(mut server: TestServer) {
    server.restart_with(&[("ISOCENTER_STORE_DUPLICATES", "replace")]).await;
    let file = |study: u32, series: u32| {
        let uid = format!("1.2.{study}");
        Elements::ct(&uid, &format!("{uid}.{series}"), &format!("{uid}.9")).part10(Syntax::Explicit)
    };
    let path =
        |study: u32, series: u32| format!("/studies/1.2.{study}/series/1.2.{study}.{series}/instances/1.2.{study}.9");
    let orders = [(1, [1, 2]), (2, [2, 1])];
    for (study, series) in orders {
        for series in series {
            assert_eq!(server.store(&[file(study, series)]).await.status, 200);
        }
    }
    for policy in ["replace", "versions"] {
        server.set(&[("ISOCENTER_STORE_DUPLICATES", policy)]);
        start_without_index(&mut server).await;
        assert_eq!(reindex(&server).await.0, 0);
        for (study, [first, last]) in orders {
            assert_eq!(server.read(&path(study, last), ANY).await.status, 200, "{policy}: {study}");
            assert_eq!(server.read(&path(study, first), ANY).await.status, 404, "{policy}: {study}");
            assert_eq!(server.search(&format!("/studies/1.2.{study}/series")).await.len(), 1, "{policy}: {study}");
        }
        assert_eq!(server.instances_counted().await, 2);
        is_clean(&server).await;
    }
}

/// The key of another attempt to store the instance of a key, under a lease that no index knows.
fn elsewhere(key: &str, lease: uuid::Uuid) -> StorageKey {
    let object = StorageKey::from_index(key.to_owned()).instance_object().unwrap();
    StorageKey::instance(&object.instance, lease, 0)
}

/// Sweeps: the exit status and how many objects were removed.
pub async fn sweep(server: &TestServer, flags: &[&str]) -> (i32, u64) {
    let (status, swept) = report(&server.run(&[&["sweep", "--json"], flags].concat()).await);
    (status, swept["removed"].as_u64().unwrap())
}

async fn copies_that_a_run_found_needless_are_removed_by_the_next_sweep(mut server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let keys = server.keys().await;
    let before = answers(&server).await;
    let storage = server.storage().await;
    // as it is when a server is killed before it removes what came twice, and the index is lost then
    let lease = uuid::Uuid::now_v7();
    for key in &keys[..2] {
        let original = StorageKey::from_index(key.clone());
        let object = take(&storage, &original).await;
        give_back(&storage, &original, object.clone()).await;
        give_back(&storage, &elsewhere(key, lease), object).await;
    }
    server.lose_index().await;
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["indexed"], &found["left_over"]), (0, &24.into(), &2.into()), "{found}");
    for (flags, removed) in [(&["--dry-run"][..], 2), (&[], 2), (&[], 0), (&["--full"], 0)] {
        assert_eq!(sweep(&server, flags).await, (0, removed), "{flags:?}");
    }
    assert_eq!(server.keys().await, keys);
    // an older index knows the lease, but not how long it was renewed
    let lease = uuid::Uuid::now_v7();
    let original = StorageKey::from_index(keys[0].clone());
    let object = take(&storage, &original).await;
    give_back(&storage, &original, object.clone()).await;
    give_back(&storage, &elsewhere(&keys[0], lease), object).await;
    server.index().await.execute(&format!("insert into lapsed_leases (id, lapsed_at) values ('{lease}', 1)")).await;
    assert_eq!(sweep(&server, &[]).await, (1, 0));
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["left_over"]), (0, &1.into()), "{found}");
    assert_eq!(sweep(&server, &[]).await, (0, 1));
    assert_eq!(server.keys().await, keys);
    assert!(server.index().await.query("select id from lapsed_leases").await.is_empty());
    server.restart().await;
    assert_same(&answers(&server).await, &before);
    is_clean(&server).await;
}

async fn what_a_run_left_beside_no_row_is_removed_by_a_full_sweep_only(server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let keys = server.keys().await;
    let storage = server.storage().await;
    // a needless copy and, under the same lease, an object that has not the bytes of its receipt
    let (lease, lapsed) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    let original = StorageKey::from_index(keys[0].clone());
    let object = take(&storage, &original).await;
    give_back(&storage, &original, object.clone()).await;
    give_back(&storage, &elsewhere(&keys[0], lease), object).await;
    put(&storage, &elsewhere(&keys[1], lease), b"damaged".to_vec()).await;
    // without another lease that has run out there is nothing to look for
    let mut index = server.index().await;
    let run_out = format!("insert into lapsed_leases (id, lapsed_at) values ('{lapsed}', 1)");
    let output = server.run(&["reindex"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("only `isocenter sweep --full` removes it"), "{text}");
    index.execute(&run_out).await;
    assert_eq!(sweep(&server, &[]).await, (0, 1), "the copy that nothing needs");
    assert_eq!(sweep(&server, &[]).await, (0, 0));
    assert_eq!(sweep(&server, &["--full", "--dry-run"]).await, (0, 1));
    assert_eq!(sweep(&server, &["--full"]).await, (0, 1));
    assert_eq!(sweep(&server, &[]).await, (0, 0));
    assert_eq!(server.keys().await, keys);
    is_clean(&server).await;
}

async fn an_instance_whose_object_is_lost_or_damaged_gets_a_copy_of_the_same_content(server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let before = answers(&server).await;
    let keys = server.keys().await;
    let storage = server.storage().await;
    let lease = uuid::Uuid::now_v7();
    let kept = StorageKey::from_index(keys[3].clone());
    for (number, key) in keys[..3].iter().enumerate() {
        let original = StorageKey::from_index(key.clone());
        let object = take(&storage, &original).await;
        give_back(&storage, &elsewhere(key, lease), object.clone()).await;
        match number {
            0 => {}
            1 => put(&storage, &original, vec![7; object.0.len()]).await,
            _ => give_back(&storage, &original, object).await,
        }
    }
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["indexed"], &found["left_over"]), (0, &2.into(), &1.into()), "{found}");
    assert_eq!(sweep(&server, &[]).await, (0, 1));
    let now = server.keys().await;
    assert!(now.len() == keys.len() && now.contains(&keys[2]) && now.contains(&kept.as_str().to_owned()), "{now:?}");
    assert_same(&answers(&server).await, &before);
    is_clean(&server).await;
}

async fn a_copy_of_what_was_deleted_stays_deleted(server: TestServer) {
    assert_eq!(server.store(&files()).await.status, 200);
    let keys = server.keys().await;
    let storage = server.storage().await;
    let original = StorageKey::from_index(keys[0].clone());
    let object = take(&storage, &original).await;
    give_back(&storage, &original, object.clone()).await;
    let before = Receipt { received_at: object.1.received_at - 1000, ..object.1 };
    give_back(&storage, &elsewhere(&keys[0], uuid::Uuid::now_v7()), (object.0, before)).await;
    let study = original.instance_object().unwrap().instance.study;
    assert_eq!(server.send("DELETE", &format!("/studies/{study}"), &[], "").await.status, 204);
    let (status, found) = reindex(&server).await;
    assert_eq!((status, &found["different"], &found["indexed"]), (1, &1.into(), &Value::Null), "{found}");
    assert!(server.search(&format!("/studies/{study}/instances")).await.is_empty());
    assert_eq!(sweep(&server, &[]).await, (0, 0));
    assert_eq!(sweep(&server, &["--full"]).await, (0, 1));
    assert_eq!(server.keys().await, keys, "the delete can still be taken back");
}
