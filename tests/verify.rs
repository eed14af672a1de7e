//! `isocenter verify`: a whole archive is clean, and every kind of damage is found and named.

use std::path::Path;
use std::process::Output;

use bytes::Bytes;
use dicom_core::VR;
use futures_util::TryStreamExt as _;
use isocenter::store::keys::StorageKey;
use isocenter::store::{ObjectStorage, Receipt, Stored};
use serde_json::{Value, json};

use crate::support::binary::command;
use crate::support::generate::{Elements, Syntax, Value as Pixels};
use crate::support::server::{BackEnds, TestServer, on_both_stacks};

on_both_stacks!(
    a_clean_archive_verifies_clean,
    an_index_that_knows_none_of_the_objects_is_not_called_clean,
    every_kind_of_damage_is_found_and_named,
    only_the_study_that_was_asked_for_is_verified,
    instances_that_come_meanwhile_are_no_finding,
);

/// The report of a command with `--json`, and its exit status.
pub fn report(output: &Output) -> (i32, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_slice(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{text}\n{error}")))
}

/// Verifies and expects that nothing is wrong; how many instances there are.
pub async fn is_clean(server: &TestServer) -> u64 {
    let (status, report) = report(&server.run(&["verify", "--json"]).await);
    assert_eq!((status, &report["findings"]), (0, &json!([])), "{report}");
    assert_eq!(report["complete"], json!(true));
    report["instances"].as_u64().unwrap()
}

fn ct(study: u32, instance: u32) -> Vec<u8> {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.1"));
    Elements::ct(&study, &series, &format!("{series}.{instance}")).part10(Syntax::Explicit)
}

/// A file of so many frames of one fragment each.
fn encapsulated(study: u32, instance: u32, frames: usize) -> Vec<u8> {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.1"));
    let frames = vec![&b"\xff\xd8\xff\xd9"[..]; frames];
    Elements::ct(&study, &series, &format!("{series}.{instance}")).encapsulated(&frames).part10(Syntax::JPEG)
}

/// A file of so many native frames.
fn native(study: u32, instance: u32, frames: u16) -> Vec<u8> {
    let (study, series) = (format!("1.2.{study}"), format!("1.2.{study}.1"));
    Elements::ct(&study, &series, &format!("{series}.{instance}"))
        .text(0x0028, 0x0008, VR::IS, &frames.to_string())
        .with(0x7fe0, 0x0010, VR::OW, Pixels::Words((0..frames * 8).collect()))
        .part10(Syntax::Explicit)
}

/// The only object whose key has this text.
async fn key_of(server: &TestServer, text: &str) -> StorageKey {
    let keys: Vec<String> = server.keys().await.into_iter().filter(|key| key.contains(text)).collect();
    let [key] = keys.as_slice() else { panic!("{text}: {keys:?}") };
    StorageKey::from_index(key.clone())
}

async fn content(storage: &ObjectStorage, key: &StorageKey) -> Vec<u8> {
    storage.read(key).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
}

/// Puts an object there, in the place of another if need be.
pub async fn put(storage: &ObjectStorage, key: &StorageKey, content: Vec<u8>) {
    storage.remove(key).await.unwrap();
    let mut upload = storage.begin().await.unwrap();
    upload.name(key.clone());
    upload.write(Bytes::from(content)).await.unwrap();
    let receipt = Receipt { received_at: 0, received_digest: [0; 32], digest: [0; 32] };
    let staged = upload.finish(receipt).await.unwrap();
    storage.make_durable(vec![staged]).await.unwrap().into_iter().for_each(Stored::keep);
}

async fn an_index_that_knows_none_of_the_objects_is_not_called_clean(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 1)]).await.status, 200);
    is_clean(&server).await;
    let mut index = server.index().await;
    for table in ["frame_blocks", "instances", "series", "metadata_dictionaries", "studies", "leases"] {
        index.execute(&format!("delete from {table}")).await;
    }
    let output = server.run(&["verify"]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("isocenter reindex"), "{error}");
}

async fn a_clean_archive_verifies_clean(server: TestServer) {
    assert_eq!(is_clean(&server).await, 0);
    let mut files: Vec<Vec<u8>> = (0..3).map(|instance| ct(1, instance)).collect();
    for (number, syntax) in (10..).zip(Syntax::NATIVE) {
        files.push(Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{number}")).part10(syntax));
    }
    // few frames stay in the row, more are in blocks
    files.extend([encapsulated(2, 1, 3), encapsulated(2, 2, 5000), native(2, 3, 200)]);
    let stored = server.store(&files).await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    for mode in [&["verify"][..], &["verify", "--quick"], &["verify", "--parallel", "1"]] {
        let output = server.run(mode).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.starts_with("10 instances checked, ") && said.ends_with(": nothing is wrong\n"), "{said}");
    }
}

async fn every_kind_of_damage_is_found_and_named(server: TestServer) {
    let files: Vec<Vec<u8>> = (1..=8).map(|instance| ct(1, instance)).chain([encapsulated(1, 9, 5000)]).collect();
    assert_eq!(server.store(&files).await.status, 200);
    let storage = server.storage().await;
    let mut keys = Vec::new();
    for instance in 1..=9 {
        keys.push(key_of(&server, &format!("/1.2.1.1.{instance}.")).await);
    }
    storage.remove(&keys[0]).await.unwrap();
    let mut cut = content(&storage, &keys[1]).await;
    cut.truncate(cut.len() - 2);
    put(&storage, &keys[1], cut).await;
    let mut flipped = content(&storage, &keys[2]).await;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    put(&storage, &keys[2], flipped).await;
    let mut index = server.index().await;
    for (instance, change) in [
        (4, "metadata = substr(metadata, 1, length(metadata) - 1)"),
        (5, "frames = substr(frames, 1, 1)"),
        (6, "encoding = 'morse'"),
        (7, "location = replace(location, '/1.2.1.1.7.', '/1.2.1.1.8.')"),
        (8, "bulk = substr(metadata, 1, 3)"),
    ] {
        index.execute(&format!("update instances set {change} where sop_instance_uid = '1.2.1.1.{instance}'")).await;
    }
    index.execute("delete from frame_blocks where block = 1").await;

    let (status, full) = report(&server.run(&["verify", "--json"]).await);
    assert_eq!(status, 1);
    let expected = [
        json!({ "problem": "missing" }),
        json!({ "problem": "wrong_size", "expected_bytes": files[1].len(), "found_bytes": files[1].len() - 2 }),
        json!({ "problem": "damaged" }),
        json!({ "problem": "unreadable", "part": "metadata" }),
        json!({ "problem": "unreadable", "part": "frame index" }),
        json!({ "problem": "unreadable", "part": "columns" }),
        json!({ "problem": "unreadable", "part": "storage key" }),
        json!({ "problem": "unreadable", "part": "bulk data" }),
        json!({ "problem": "unreadable", "part": "frame index" }),
    ];
    let named = |number: usize, finding: &Value| {
        let instance = number + 1;
        let key = keys[number].as_str().replace("/1.2.1.1.7.", "/1.2.1.1.8.");
        let mut named =
            json!({ "study": "1.2.1", "series": "1.2.1.1", "instance": format!("1.2.1.1.{instance}"), "key": key });
        named.as_object_mut().unwrap().extend(finding.as_object().unwrap().clone());
        named
    };
    let expected: Vec<Value> = expected.iter().enumerate().map(|(number, finding)| named(number, finding)).collect();
    let sorted = |report: &Value| {
        let mut findings = report["findings"].as_array().unwrap().clone();
        findings.sort_by_key(|finding| finding["instance"].to_string());
        findings
    };
    assert_eq!(sorted(&full), expected);
    assert_eq!(full["instances"], json!(9));
    let counts = ["missing", "wrong_size", "damaged", "unreadable", "unchecked"].map(|kind| full[kind].as_u64());
    assert_eq!(counts, [1, 1, 1, 6, 0].map(Some));

    let (status, quick) = report(&server.run(&["verify", "--json", "--quick"]).await);
    assert_eq!(status, 1);
    let visible: Vec<Value> = expected.iter().filter(|finding| finding["problem"] != "damaged").cloned().collect();
    assert_eq!(sorted(&quick), visible, "objects were not read");

    let lines = server.run(&["verify"]).await;
    let lines = String::from_utf8(lines.stdout).unwrap();
    let missing = format!("missing: study 1.2.1 series 1.2.1.1 instance 1.2.1.1.1: {}", keys[0].as_str());
    assert!(lines.lines().any(|line| line == missing), "{lines}");
    assert!(lines.ends_with("1 missing, 1 wrong size, 1 damaged, 6 unreadable\n"), "{lines}");
    assert!(!lines.contains("Phantom") && !full.to_string().contains("Phantom"), "the name of the patient");
}

async fn only_the_study_that_was_asked_for_is_verified(server: TestServer) {
    assert_eq!(server.store(&[ct(1, 1), ct(1, 2), ct(2, 1)]).await.status, 200);
    server.storage().await.remove(&key_of(&server, "/1.2.2.1.1.").await).await.unwrap();
    for (study, expected) in [("1.2.1", (0, 2)), ("1.2.2", (1, 1))] {
        let (status, report) = report(&server.run(&["verify", "--json", "--study", study]).await);
        assert_eq!((status, report["instances"].as_u64().unwrap()), expected, "{study}: {report}");
    }
    for (study, why) in [("1.2.3", "no study"), ("1.2.x", "digits and dots")] {
        let output = server.run(&["verify", "--study", study]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.contains(why)), (Some(2), true), "{error}");
    }
}

async fn instances_that_come_meanwhile_are_no_finding(server: TestServer) {
    for round in 0..4 {
        let files: Vec<Vec<u8>> = (0..20).map(|instance| ct(round, instance)).collect();
        let store = async {
            for pair in files.chunks(2) {
                assert_eq!(server.store(pair).await.status, 200);
            }
        };
        let (output, ()) = tokio::join!(server.run(&["verify", "--json"]), store);
        let (status, report) = report(&output);
        assert_eq!((status, &report["findings"]), (0, &json!([])), "{report}");
    }
    assert_eq!(is_clean(&server).await, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_the_store_does_not_hand_out_is_told_apart_from_a_damaged_one() {
    let server = TestServer::start(BackEnds::Local).await;
    assert_eq!(server.store(&[ct(1, 1), ct(1, 2)]).await.status, 200);
    let path = server.data().join("objects").join(key_of(&server, "/1.2.1.1.1.").await.as_str());
    std::fs::remove_file(&path).unwrap();
    // as unreadable as a bad sector, even for root
    std::fs::create_dir(&path).unwrap();
    let (status, report) = report(&server.run(&["verify", "--json"]).await);
    assert_eq!((status, &report["unchecked"], &report["complete"]), (1, &json!(1), &json!(true)), "{report}");
    assert_eq!(report["instances"], json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_may_not_be_written_is_verified() {
    let mut server = TestServer::start(BackEnds::Local).await;
    assert_eq!(server.store(&[ct(1, 1), ct(1, 2)]).await.status, 200);
    let binary = env!("CARGO_BIN_EXE_isocenter");
    // in a namespace of its own, since root writes whatever the permissions are
    let read_only = |copy: &Path| {
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && ! touch \"$1/x\" 2>&- && \
                      exec \"$0\" verify --json --data-dir \"$1\"";
        std::process::Command::new("unshare")
            .args(["-m", "--map-root-user", "sh", "-c", script, binary])
            .arg(copy)
            .output()
    };
    if !std::process::Command::new("unshare")
        .args(["-m", "--map-root-user", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let copies = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let copy = copies.path().join(name);
        let copied = std::process::Command::new("cp").arg("-r").args([&server.data(), &copy]).status().unwrap();
        assert!(copied.success());
        copy
    };
    // of a server that runs, with a log that is not merged; then without the index of that log; then merged
    let unmerged = copy("unmerged");
    let without = copy("without");
    std::fs::remove_file(without.join("index.sqlite3-shm")).unwrap();
    let merged = copy("merged");
    assert_eq!(
        report(&command(copies.path()).args(["verify", "--json", "--data-dir", "merged"]).output().unwrap()).0,
        0
    );
    let logged = |copy: &Path| std::fs::metadata(copy.join("index.sqlite3-wal")).map_or(0, |log| log.len());
    assert!(logged(&unmerged) > 0 && logged(&without) > 0);
    for copy in [&unmerged, &merged] {
        let (status, found) = report(&read_only(copy).unwrap());
        assert_eq!((status, &found["instances"], &found["findings"]), (0, &json!(2), &json!([])), "{copy:?}");
    }
    let output = read_only(&without).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("write-ahead log"), "{error}");
    server.restart().await;
    assert_eq!(is_clean(&server).await, 2);
}

#[test]
fn no_archive_is_made_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["verify", "sweep"] {
        let output = command(folder.path()).arg(name).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("there is no archive in `./isocenter-data`") && error.contains("--data-dir"), "{error}");
        std::fs::write(folder.path().join("empty.sqlite3"), b"").unwrap();
        let output = command(folder.path()).args([name, "--database-url", "sqlite://empty.sqlite3"]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("there is no archive in `empty.sqlite3`"), "{error}");
    }
    assert!(!folder.path().join("isocenter-data").exists());
}

#[test]
fn their_help_teaches() {
    let folder = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("verify", ["Examples:", "--quick", "--study", "wrong size", "Exit status", "digest"]),
        ("sweep", ["Examples:", "--full", "--dry-run", "lease", "Exit status", "backup"]),
    ] {
        let output = command(folder.path()).args([name, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for word in words {
            assert!(help.contains(word), "{name}: {word} in {help}");
        }
    }
}
