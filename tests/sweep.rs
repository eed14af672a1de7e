//! `isocenter sweep`: what killed processes left is removed, and nothing else ever.

use std::time::Duration;

use isocenter::archive::sweep::{Event, SweepOptions};
use isocenter::catalogue::Work;
use isocenter::config::StorageSettings;
use isocenter::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use isocenter::store::ObjectStorage;
use isocenter::store::keys::StorageKey;
use serde_json::{Value, json};
use uuid::{NoContext, Timestamp, Uuid};

use crate::reindex::{give_back, take};
use crate::support::binary::client;
use crate::support::database::{Backend, Session, TestDatabase};
use crate::support::generate::{Elements, Syntax, Value as Pixels};
use crate::support::multipart;
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::{is_clean, put, report};

on_both_stacks!(
    what_a_killed_server_left_is_removed_once_its_lease_has_run_out,
    sweeps_beside_a_storing_server_remove_nothing_of_its,
    a_full_sweep_removes_stray_copies_once_reindex_has_read_them_and_leaves_what_is_not_an_instance,
    a_full_sweep_removes_nothing_where_the_index_is_lost_or_old,
    a_server_does_not_start_where_the_index_has_never_heard_of_the_objects,
    a_server_does_not_start_with_the_index_of_another_archive,
    a_copy_stays_while_the_object_beside_which_it_was_left_is_not_whole,
    what_reindex_could_not_read_is_never_removed,
    what_was_found_damaged_and_is_whole_again_stays,
    what_was_deleted_is_not_erased_where_no_object_tells_of_the_delete,
    commands_go_by_the_settings_of_the_servers_unless_they_have_their_own,
    the_object_of_a_hidden_row_stays,
    a_sweep_that_was_cut_off_is_continued_and_two_at_once_do_no_harm,
    a_sweep_removes_nothing_where_the_index_never_heard_of_the_lease_of_an_object,
    neither_sweep_nor_reindex_runs_beside_the_other,
    what_is_left_of_a_cut_or_damaged_object_goes_when_the_instance_comes_again,
    objects_whose_lease_is_gone_stay_while_reindex_may_make_their_rows,
    what_tells_of_a_deletion_that_never_came_about_goes_with_any_sweep_that_looks,
);

/// A CT with so many bytes of pixel data.
fn ct(instance: u32, bytes: usize) -> Vec<u8> {
    let pixels = Pixels::Bytes(vec![7; bytes]);
    Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{instance}"))
        .with(0x7fe0, 0x0010, dicom_core::VR::OW, pixels)
        .part10(Syntax::Explicit)
}

/// An id as it was made three hours and more ago.
fn long_ago() -> Uuid {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let then = now.checked_sub(Duration::from_hours(3)).unwrap();
    Uuid::new_v7(Timestamp::from_unix(NoContext, then.as_secs(), then.subsec_nanos()))
}

/// The key of an object that might have been begun for an instance.
fn key(instance: u32, lease: Uuid, number: u64) -> StorageKey {
    let instance = InstanceKey {
        study: StudyUid::parse("1.2.1").unwrap(),
        series: SeriesUid::parse("1.2.1.1").unwrap(),
        instance: InstanceUid::parse(&format!("1.2.1.1.{instance}")).unwrap(),
    };
    StorageKey::instance(&instance, lease, number)
}

/// Sweeps and expects that all goes well: how many objects and bytes are removed, and the keys in the report.
async fn sweep(server: &TestServer, flags: &[&str]) -> (u64, u64, Vec<String>) {
    let (status, report) = report(&server.run(&[&["sweep", "--json"], flags].concat()).await);
    assert_eq!((status, &report["failed"], &report["complete"]), (0, &json!(0), &json!(true)), "{report}");
    let key = |object: &Value| object["key"].as_str().unwrap().to_owned();
    let mut keys: Vec<String> = report["objects"].as_array().unwrap().iter().map(key).collect();
    keys.sort();
    (report["removed"].as_u64().unwrap(), report["bytes"].as_u64().unwrap(), keys)
}

const NOTHING: (u64, u64, Vec<String>) = (0, 0, Vec::new());

/// Leases that are held and leases that sweeps have taken.
async fn leases(server: &TestServer) -> (usize, usize) {
    let mut index = server.index().await;
    (index.query("select id from leases").await.len(), index.query("select id from lapsed_leases").await.len())
}

async fn read_back(server: &TestServer, instance: u32, file: &[u8]) {
    let path = format!("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.{instance}");
    let read = server.read(&path, "application/dicom; transfer-syntax=*").await;
    assert_eq!(read.status, 200, "{instance}");
    assert!(read.body == file, "{instance}");
}

async fn what_a_killed_server_left_is_removed_once_its_lease_has_run_out(mut server: TestServer) {
    let files: Vec<Vec<u8>> = (0..3).map(|instance| ct(instance, 100)).collect();
    assert_eq!(server.store(&files).await.status, 200);
    let kept = server.keys().await;
    assert_eq!(kept.len(), 3);
    // commits wait, so that the server is killed between objects and rows
    let mut lock = server.index().await;
    let text = match &lock {
        Session::Sqlite(_) => "begin immediate",
        Session::Postgres(_) => "begin; lock table instances in exclusive mode",
    };
    lock.execute(text).await;
    let uploads: Vec<_> = [vec![ct(10, 100), ct(11, 12 << 20)], vec![ct(12, 100), ct(13, 100)]]
        .map(|files| {
            let (content_type, body) = multipart::write(&files);
            let post = client().post(format!("{}/studies", server.root())).header("content-type", content_type);
            tokio::spawn(post.body(body).send())
        })
        .into();
    let all = server.keys_when(7).await;
    server.kill();
    for upload in uploads {
        assert!(upload.await.unwrap().is_err(), "the server was killed before it answered");
    }
    lock.execute("rollback").await;
    let left: Vec<String> = all.iter().filter(|key| !kept.contains(key)).cloned().collect();
    for flags in [&[][..], &["--full"]] {
        assert_eq!(sweep(&server, flags).await, NOTHING, "the lease is held still");
    }
    server.lets_leases_run_out().await;
    for flags in [&["--dry-run"][..], &["--dry-run", "--full"]] {
        let (removed, bytes, keys) = sweep(&server, flags).await;
        assert_eq!((removed, &keys), (4, &left));
        assert!(bytes > 12 << 20);
        assert_eq!(server.keys().await, all, "a dry run removes nothing");
        assert_eq!(leases(&server).await, (1, 0), "and takes no lease");
    }
    assert_eq!(sweep(&server, &[]).await.2, left);
    assert_eq!(server.keys().await, kept);
    assert_eq!(leases(&server).await, (0, 0));
    assert_eq!(sweep(&server, &[]).await, NOTHING);
    server.restart().await;
    assert_eq!(is_clean(&server).await, 3);
    for (instance, file) in (0..).zip(&files) {
        read_back(&server, instance, file).await;
    }
    assert_eq!(server.store(&[ct(10, 100)]).await.status, 200, "what was lost can be stored again");
}

async fn sweeps_beside_a_storing_server_remove_nothing_of_its(server: TestServer) {
    assert_eq!(server.store(&[ct(98, 100)]).await.status, 200);
    for round in 0..4 {
        let store = async {
            for number in 0..20 {
                assert_eq!(server.store(&[ct(round * 20 + number, 1000)]).await.status, 200);
            }
        };
        let flags: &[&str] = if round % 2 == 0 { &["--full"] } else { &[] };
        let (swept, ()) = tokio::join!(sweep(&server, flags), store);
        assert_eq!(swept, NOTHING);
    }
    assert_eq!(is_clean(&server).await, 81);
    // a process that was cut off loses its lease, and goes on under another
    server.lets_leases_run_out().await;
    assert_eq!(sweep(&server, &["--full"]).await, NOTHING);
    assert_eq!(leases(&server).await, (0, 0));
    assert_eq!(server.store(&[ct(99, 100)]).await.status, 503);
    assert_eq!(server.store(&[ct(99, 100)]).await.status, 200);
    assert_eq!(is_clean(&server).await, 82);
}

async fn a_full_sweep_removes_stray_copies_once_reindex_has_read_them_and_leaves_what_is_not_an_instance(
    server: TestServer,
) {
    let file = ct(1, 100);
    assert_eq!(server.store(&[&file]).await.status, 200);
    let kept = server.keys().await;
    let storage = server.storage().await;
    let strays = [key(1, Uuid::now_v7(), 0), key(2, Uuid::now_v7(), 5)];
    let others = ["studies/1.2.1/1.2.1.1/1.2.1.1.3.dcm", "studies/1.2.1/notes.txt", "elsewhere/1.2.1.1.3.dcm"];
    let others = others.map(|key| StorageKey::from_index(key.to_owned()));
    for key in strays.iter().chain(&others) {
        put(&storage, key, file.clone()).await;
    }
    let mut expected: Vec<String> = strays.iter().map(|key| key.as_str().to_owned()).collect();
    expected.sort();
    assert_eq!(sweep(&server, &[]).await, NOTHING, "their leases never were");
    for flags in [&["sweep", "--json", "--full"][..], &["sweep", "--json", "--full", "--dry-run"]] {
        let (status, report) = report(&server.run(flags).await);
        assert_eq!((status, &report["removed"]), (1, &json!(0)), "{report}");
        assert!(expected.iter().any(|key| report["newer_than_index"] == json!(key)), "{report}");
    }
    let (status, found) = report(&server.run(&["reindex", "--json"]).await);
    assert_eq!((status, &found["damaged"]), (1, &json!(2)), "{found}");
    assert_eq!(sweep(&server, &[]).await, NOTHING, "only a person can tell what they are worth");
    let swept = (2, 2 * file.len() as u64, expected);
    assert_eq!(sweep(&server, &["--full", "--dry-run"]).await, swept);
    for key in strays.iter().chain(&others) {
        assert_eq!(storage.exists(key).await.unwrap(), Some(file.len() as u64), "{key:?}");
    }
    assert_eq!(sweep(&server, &["--full"]).await, swept);
    for key in &strays {
        assert_eq!(storage.exists(key).await.unwrap(), None, "{key:?}");
    }
    for key in &others {
        assert_eq!(storage.exists(key).await.unwrap(), Some(file.len() as u64), "{key:?}");
    }
    assert!(kept.iter().all(|key| !swept.2.contains(key)));
    assert_eq!(is_clean(&server).await, 1);
    read_back(&server, 1, &file).await;
    let lines = server.run(&["sweep", "--full"]).await;
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert_eq!(lines, "1 object looked at, 0 removed (0 B); 0 leases had run out\n");
}

async fn a_full_sweep_removes_nothing_where_the_index_is_lost_or_old(mut server: TestServer) {
    let files: Vec<Vec<u8>> = (1..=3).map(|instance| ct(instance, 100)).collect();
    let refuses = async |server: &TestServer, unread: &str| {
        let keys = server.keys().await;
        for flags in [&["sweep", "--json", "--full"][..], &["sweep", "--json", "--full", "--dry-run"]] {
            let (status, report) = report(&server.run(flags).await);
            assert_eq!((status, &report["newer_than_index"]), (1, &json!(unread)), "{report}");
            assert_eq!(server.keys().await, keys);
        }
    };
    assert_eq!(server.store(&files[..1]).await.status, 200);
    // when the index was saved the lease had been given back: nothing but a row tells of it
    server.index().await.execute("delete from leases").await;
    server.save_index().await;
    assert_eq!(server.store(&files[1..2]).await.status, 503, "it goes on under another lease");
    assert_eq!(server.store(&files[1..2]).await.status, 200);
    server.restore_index().await;
    let keys = server.keys().await;
    refuses(&server, &keys[1]).await;
    // lost, while the volume of the objects was not there either, and something was stored since
    server.lose_index().await;
    let storage = server.storage().await;
    let mut objects = Vec::new();
    for key in keys.iter().map(|key| StorageKey::from_index(key.clone())) {
        objects.push(take(&storage, &key).await);
    }
    server.restart().await;
    assert_eq!(server.store(&files[2..]).await.status, 200);
    server.index().await.execute("delete from leases").await;
    give_back(&storage, &StorageKey::from_index(keys[0].clone()), objects.remove(0)).await;
    refuses(&server, &keys[0]).await;
    give_back(&storage, &StorageKey::from_index(keys[1].clone()), objects.remove(0)).await;
    let (status, found) = report(&server.run(&["reindex", "--json"]).await);
    assert_eq!((status, &found["indexed"]), (0, &json!(2)), "{found}");
    assert_eq!(sweep(&server, &["--full"]).await, NOTHING);
    assert_eq!(is_clean(&server).await, 3);
}

async fn a_server_does_not_start_where_the_index_has_never_heard_of_the_objects(mut server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    server.lose_index().await;
    let refused = server.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("isocenter reindex") && error.contains("--database-url"), "{error}");
    assert_eq!(report(&server.run(&["reindex", "--json"]).await).0, 0);
    server.restart().await;
    read_back(&server, 1, &ct(1, 100)).await;
}

async fn a_server_does_not_start_with_the_index_of_another_archive(mut server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    let storage = server.storage().await;
    let key = StorageKey::from_index(server.keys().await.remove(0));
    let object = take(&storage, &key).await;
    let instance = key.instance_object().unwrap().instance;
    // as if the other archive had been stored by another server
    let strange = StorageKey::instance(&instance, Uuid::now_v7(), 0);
    give_back(&storage, &strange, object.clone()).await;
    server.kill();
    server.index().await.execute("delete from leases").await;
    let refused = server.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("of which the index knows nothing"), "{error}");
    // its own objects, and a strange one among them
    give_back(&storage, &key, object).await;
    server.restart().await;
    read_back(&server, 1, &ct(1, 100)).await;
}

async fn a_copy_stays_while_the_object_beside_which_it_was_left_is_not_whole(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    let storage = server.storage().await;
    let original = StorageKey::from_index(server.keys().await.remove(0));
    let copy = key(1, Uuid::now_v7(), 0);
    let object = take(&storage, &original).await;
    give_back(&storage, &original, object.clone()).await;
    give_back(&storage, &copy, object.clone()).await;
    assert_eq!(report(&server.run(&["reindex", "--json"]).await).1["left_over"], json!(1));
    // lost after it was found whole, or what an older index names
    put(&storage, &original, vec![7; object.0.len()]).await;
    for flags in [&[][..], &["--full"]] {
        assert_eq!(sweep(&server, flags).await, NOTHING);
    }
    assert_eq!(report(&server.run(&["reindex", "--json"]).await).1["indexed"], json!(1));
    assert_eq!(server.keys().await, [copy.as_str()]);
    assert_eq!(is_clean(&server).await, 1);
    read_back(&server, 1, &ct(1, 100)).await;
    assert!(server.index().await.query("select location from left_objects").await.is_empty());
}

async fn what_reindex_could_not_read_is_never_removed(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    let lease = Uuid::now_v7();
    let unread = key(2, lease, 0);
    put(&server.storage().await, &unread, ct(2, 100)).await;
    let mut index = server.index().await;
    index.execute(&format!("insert into lapsed_leases (id, lapsed_at) values ('{lease}', 1)")).await;
    let values = format!("values ('{}', 5, 100, 1)", unread.as_str());
    index.execute(&format!("insert into left_objects (location, kind, bytes, left_at) {values}")).await;
    for flags in [&[][..], &["--full"]] {
        assert_eq!(sweep(&server, flags).await, NOTHING);
    }
    assert_eq!(server.keys().await.len(), 2);
}

async fn what_was_found_damaged_and_is_whole_again_stays(mut server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100), ct(2, 100)]).await.status, 200);
    let storage = server.storage().await;
    let key = StorageKey::from_index(server.keys().await.remove(0));
    let whole = take(&storage, &key).await;
    // cut, with the receipt of what was stored
    give_back(&storage, &key, (whole.0[..300].to_vec(), whole.1)).await;
    server.lose_index().await;
    let (status, found) = report(&server.run(&["reindex", "--json"]).await);
    assert_eq!((status, &found["damaged"]), (1, &json!(1)), "{found}");
    // put back from elsewhere
    storage.remove(&key).await.unwrap();
    give_back(&storage, &key, whole).await;
    assert_eq!(sweep(&server, &["--full"]).await, NOTHING);
    assert_eq!(report(&server.run(&["reindex", "--json"]).await).1["indexed"], json!(1));
    server.restart().await;
    read_back(&server, 1, &ct(1, 100)).await;
    assert_eq!(is_clean(&server).await, 2);
}

async fn what_was_deleted_is_not_erased_where_no_object_tells_of_the_delete(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100), ct(2, 100)]).await.status, 200);
    let path = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1";
    for instance in [1, 2] {
        assert_eq!(server.send("DELETE", &format!("{path}.{instance}"), &[], "").await.status, 204);
    }
    let mut index = server.index().await;
    index.execute("update instances set hidden_at = 1 where hidden = 1").await;
    // as it is when one was taken back after the index was saved
    let first = index.query("select uuid from deletions order by id").await.remove(0);
    let told = StorageKey::deletion(Uuid::try_parse(&first).unwrap());
    server.storage().await.remove(&told).await.unwrap();
    let (status, swept) = report(&server.run(&["sweep", "--json"]).await);
    assert_eq!((status, &swept["erased"], &swept["failed"]), (1, &json!(1), &json!(1)), "{swept}");
    assert_eq!(server.run(&["restore", "1.2.1.1.1"]).await.status.code(), Some(0));
    read_back(&server, 1, &ct(1, 100)).await;
    assert_eq!(sweep(&server, &[]).await, NOTHING);
    assert_eq!(is_clean(&server).await, 1);
}

async fn commands_go_by_the_settings_of_the_servers_unless_they_have_their_own(mut server: TestServer) {
    const WINDOW: &str = "ISOCENTER_STORE_UNDO_WINDOW";
    server.restart_with(&[(WINDOW, "0s")]).await;
    server.restart_with(&[(WINDOW, "30d")]).await;
    assert_eq!(server.store(&[ct(1, 100), ct(2, 100)]).await.status, 200);
    let path = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";
    assert_eq!(server.send("DELETE", path, &[], "").await.status, 204);
    // eight days ago: the window unless set otherwise is seven
    server.index().await.execute("update instances set hidden_at = hidden_at - 691200000 where hidden = 1").await;
    for (own, erased, warned) in [(&[][..], 0, false), (&[(WINDOW, "30d")], 0, false), (&[(WINDOW, "7d")], 1, true)] {
        server.set(own);
        let swept = server.run(&["sweep", "--json"]).await;
        let told = String::from_utf8(swept.stderr.clone()).unwrap();
        assert_eq!(told.contains("`store.undo_window` is set otherwise"), warned, "{own:?}: {told}");
        assert_eq!(report(&swept).1["erased"], json!(erased), "{own:?}");
    }
}

async fn the_object_of_a_hidden_row_stays(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100), ct(2, 100)]).await.status, 200);
    let keys = server.keys().await;
    let mut index = server.index().await;
    index.execute("update instances set hidden = 1 where sop_instance_uid = '1.2.1.1.1'").await;
    server.lets_leases_run_out().await;
    assert_eq!(sweep(&server, &["--full"]).await, NOTHING);
    assert_eq!(server.keys().await, keys);
}

async fn a_sweep_that_was_cut_off_is_continued_and_two_at_once_do_no_harm(server: TestServer) {
    let file = ct(1, 100);
    assert_eq!(server.store(&[&file]).await.status, 200);
    let kept = server.keys().await;
    let storage = server.storage().await;
    let (taken, run_out) = (Uuid::now_v7(), Uuid::now_v7());
    for number in 0..20 {
        put(&storage, &key(number, taken, 0), file.clone()).await;
        put(&storage, &key(number, run_out, 0), file.clone()).await;
    }
    let mut index = server.index().await;
    // as another sweep left it that ended between its two transactions
    index.execute(&format!("insert into lapsed_leases (id, lapsed_at) values ('{taken}', 1)")).await;
    index
        .execute(&format!("insert into leases (id, started_at, term, expires_at) values ('{run_out}', 1, 1, 2)"))
        .await;
    let (first, second) = tokio::join!(sweep(&server, &[]), sweep(&server, &[]));
    let mut swept: Vec<String> = first.2.into_iter().chain(second.2).collect();
    swept.sort();
    swept.dedup();
    assert_eq!(swept.len(), 40);
    assert_eq!(server.keys().await, kept);
    assert_eq!(leases(&server).await, (1, 0), "only that of the server is left");
    assert_eq!(is_clean(&server).await, 1);
}

async fn a_sweep_removes_nothing_where_the_index_never_heard_of_the_lease_of_an_object(mut server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    let mut index = server.index().await;
    let lease = Uuid::try_parse(&index.query("select id from leases").await.remove(0)).unwrap();
    drop(index);
    put(&server.storage().await, &key(2, lease, 1_000_000), ct(2, 100)).await;
    server.save_index().await;
    // another lease, of which the index that was saved knows nothing
    server.restart().await;
    assert_eq!(server.store(&[ct(3, 100)]).await.status, 200);
    let keys = server.keys().await;
    server.restore_index().await;
    server.lets_leases_run_out().await;
    let newer = keys.iter().find(|key| key.contains("/1.2.1.1.3.")).unwrap();
    for flags in [&["sweep", "--json"][..], &["sweep", "--json", "--dry-run"], &["sweep", "--json"]] {
        let (status, report) = report(&server.run(flags).await);
        assert_eq!(
            (status, &report["removed"], &report["newer_than_index"]),
            (1, &json!(0), &json!(newer)),
            "{report}"
        );
        assert_eq!(server.keys().await, keys);
    }
    let text = String::from_utf8(server.run(&["sweep"]).await.stdout).unwrap();
    assert!(text.contains("isocenter reindex") && text.contains(newer), "{text}");
    // what is no instance gets no row, and only a full sweep removes it then
    let (status, reindexed) = report(&server.run(&["reindex", "--json"]).await);
    assert_eq!((status, &reindexed["indexed"], &reindexed["damaged"]), (1, &json!(1), &json!(1)), "{reindexed}");
    server.restart().await;
    assert_eq!(sweep(&server, &[]).await, NOTHING);
    assert_eq!(sweep(&server, &["--full"]).await.0, 1);
    assert_eq!(is_clean(&server).await, 2);
    read_back(&server, 3, &ct(3, 100)).await;
}

async fn neither_sweep_nor_reindex_runs_beside_the_other(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    let stray = key(2, Uuid::now_v7(), 0);
    put(&server.storage().await, &stray, ct(2, 100)).await;
    let mut index = server.index().await;
    for (work, blocked) in [
        (Work::Reindex, &["sweep"][..]),
        (Work::Reindex, &["sweep", "--full"]),
        (Work::Reindex, &["reindex"]),
        (Work::Sweep, &["reindex"]),
    ] {
        let hour = 3_600_000;
        let far = "cast(4102444800000 as bigint)";
        let lease = work.new_lease();
        let values = format!("values ('{lease}', {far} - {hour}, {hour}, {far})");
        index.execute(&format!("insert into leases (id, started_at, term, expires_at) {values}")).await;
        let output = server.run(blocked).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains("try again") | error.contains("isocenter reindex"),
            "{error}"
        );
        assert_eq!(server.keys().await.len(), 2);
        // a sweep that was killed is not waited for; what a run of `reindex` left half done must be brought to its end
        index.execute(&format!("update leases set expires_at = 0 where id = '{lease}'")).await;
        let cut_off = usize::from(work == Work::Reindex);
        let output = server.run(&["sweep"]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.success(), error.contains("was cut off")), (cut_off == 0, cut_off == 1), "{error}");
        assert_eq!(leases(&server).await, (1, cut_off));
        assert!(server.run(&["sweep", "--dry-run"]).await.status.success());
        index.execute(&format!("delete from lapsed_leases where id = '{lease}'")).await;
        assert_eq!(server.run(&["sweep"]).await.status.code(), Some(0));
    }
    let (status, report) = report(&server.run(&["sweep", "--json", "--full"]).await);
    assert_eq!((status, &report["newer_than_index"]), (1, &json!(stray.as_str())), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_left_alone_for_as_long_as_the_sweep_says() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let database = TestDatabase::create(backend).await;
        let catalogue = database.open().await;
        let store = ObjectStorage::memory_with(&StorageSettings::default());
        let lease = long_ago();
        put(&store, &key(1, lease, 0), ct(1, 100)).await;
        catalogue.take_lease(lease, Duration::from_hours(1)).await.unwrap();
        database
            .execute("update leases set started_at = started_at - 10800000, expires_at = expires_at - 10800000")
            .await;
        for (hours, removed) in [(3, 0), (1, 1)] {
            let mut strays = 0;
            let options = SweepOptions { full: false, dry_run: false, grace: Duration::from_hours(hours) };
            let told = |event| strays += u64::from(matches!(event, Event::Stray(_)));
            let swept = isocenter::archive::sweep::sweep(&catalogue, &store, options, told).await.unwrap();
            assert_eq!((strays, swept.leases, swept.newer), (removed, removed, None), "{backend:?}: {hours} hours");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reindex_that_was_killed_is_known_once_its_lease_has_run_out() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let database = TestDatabase::create(backend).await;
        let catalogue = database.open().await;
        let store = ObjectStorage::memory_with(&StorageSettings::default());
        catalogue.take_lease(Work::Reindex.new_lease(), Duration::from_hours(1)).await.unwrap();
        // one that stored is left alone for the whole time
        catalogue.take_lease(long_ago(), Duration::from_hours(1)).await.unwrap();
        let options = SweepOptions { full: false, dry_run: false, grace: Duration::from_hours(7 * 24) };
        let sweep = async || isocenter::archive::sweep::sweep(&catalogue, &store, options, |_| {}).await;
        assert!(sweep().await.unwrap_err().to_string().contains("if it was killed"), "{backend:?}");
        database.execute("update leases set expires_at = expires_at - 3600001").await;
        assert!(sweep().await.unwrap_err().to_string().contains("run it again"), "{backend:?}");
        assert!(!catalogue.under_way(Work::Reindex).await.unwrap(), "{backend:?}");
        assert_eq!(database.query("select id from leases").await.len(), 1, "{backend:?}");
        let [run] = catalogue.lapsed_leases().await.unwrap()[..] else {
            panic!("{backend:?}: what was cut off is known")
        };
        assert!(run.is_of_work() && catalogue.was_reindex_cut_off().await.unwrap(), "{backend:?}");
        // as a run does that comes to its end
        catalogue.forget_lapsed_lease(run.id).await.unwrap();
        assert_eq!(sweep().await.unwrap().leases, 0, "{backend:?}");
    }
}

async fn what_is_left_of_a_cut_or_damaged_object_goes_when_the_instance_comes_again(server: TestServer) {
    let files = [ct(1, 100), ct(2, 100)];
    assert_eq!(server.store(&files).await.status, 200);
    let keys = server.keys().await;
    let storage = server.storage().await;
    let mut damaged = files[0].clone();
    damaged.last_mut().map(|byte| *byte ^= 1).unwrap();
    for left in [&files[0][..300], &damaged, &[]] {
        let first = server.keys().await.into_iter().find(|key| *key != keys[1]).unwrap();
        let first = StorageKey::from_index(first);
        put(&storage, &first, left.to_vec()).await;
        assert_eq!(server.store(&files).await.status, 200);
        assert_eq!(storage.exists(&first).await.unwrap(), None, "{} bytes", left.len());
        let now = server.keys().await;
        assert!(now.len() == 2 && now.contains(&keys[1]), "{now:?}");
        assert_eq!(is_clean(&server).await, 2);
        read_back(&server, 1, &files[0]).await;
    }
}

async fn objects_whose_lease_is_gone_stay_while_reindex_may_make_their_rows(server: TestServer) {
    for (number, reindexing) in [(1, false), (2, true)] {
        let mut lock = server.index().await;
        let text = match &lock {
            Session::Sqlite(_) => "begin immediate",
            Session::Postgres(_) => "begin; lock table leases in access exclusive mode",
        };
        // the process has its lease before the lock
        assert_eq!(server.store(&[ct(10, 100)]).await.status, 200);
        lock.execute(text).await;
        let late = [ct(number, 100)];
        let (answer, ()) = tokio::join!(server.store(&late), async {
            server.keys_when(2).await;
            lock.execute("delete from leases").await;
            if reindexing {
                let far = "cast(4102444800000 as bigint)";
                let lease = Work::Reindex.new_lease();
                let values = format!("values ('{lease}', {far}, 3600000, {far})");
                lock.execute(&format!("insert into leases (id, started_at, term, expires_at) {values}")).await;
            }
            lock.execute("commit").await;
        });
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(server.keys().await.len(), if reindexing { 2 } else { 1 });
        assert_eq!(server.instances_counted().await, 1);
    }
}

async fn what_tells_of_a_deletion_that_never_came_about_goes_with_any_sweep_that_looks(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 100)]).await.status, 200);
    let storage = server.storage().await;
    let day = Uuid::new_v7(Timestamp::from_unix(NoContext, 1_700_000_000, 0));
    let [old, new] = [day, long_ago()].map(StorageKey::deletion);
    for stray in [false, true] {
        for key in [&old, &new] {
            let told = json!({
                "study": "1.2", "at": 0, "who": "", "reason": "",
                "objects": { "studies/1.2/3.4/5.6.0192e4a0b7c87d3e9f00aabbccddeeff.0.dcm": 0 },
            });
            put(&storage, key, told.to_string().into_bytes()).await;
        }
        let lease = Uuid::now_v7();
        if stray {
            put(&storage, &key(2, lease, 0), ct(2, 100)).await;
        }
        let mut index = server.index().await;
        index.execute(&format!("insert into lapsed_leases (id, lapsed_at) values ('{lease}', 1)")).await;
        assert_eq!(sweep(&server, &["--dry-run"]).await.0, u64::from(stray));
        assert!(storage.exists(&old).await.unwrap().is_some(), "a dry run removes nothing");
        assert_eq!(sweep(&server, &[]).await.0, u64::from(stray));
        assert_eq!(storage.exists(&old).await.unwrap(), None);
        assert!(storage.exists(&new).await.unwrap().is_some(), "its delete may come about still");
    }
}
