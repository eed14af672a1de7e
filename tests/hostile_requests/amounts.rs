//! Little that is sent and becomes much: deflated files that rules change, parts that many instances name.

use std::cell::Cell;

use bytes::Bytes;
use dicom_core::VR;
use futures_util::future::join_all;
use futures_util::stream;
use isocenter::archive::ingest::Ingest;
use isocenter::archive::limits::IngestLimits;
use isocenter::archive::outcome::InstanceOutcome;
use isocenter::archive::policy::Policy;
use isocenter::config::{StorageSettings, StoreSettings};
use isocenter::dicom::uid::StudyUid;
use isocenter::store::ObjectStorage;

use super::good;
use super::metadata::{JSON, instance};
use crate::support::binary::Answer;
use crate::support::database::{Backend, TestDatabase};
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::server::{BackEnds, TestServer};

/// What the process may take in these tests: some 40 MiB that it always takes, the upload buffers, a piece for each upload.
const MOST_MEMORY: u64 = 128 << 20;
/// What a bomb inflates to.
const INFLATED: usize = 384 << 20;
const RULES: &str = "[{ attribute = 'PatientID', action = 'set', value = 'N' }]";

/// Zeros with so much noise in between that their ratio is one that is taken.
fn nearly_zeros(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut noise = 7_u64;
    for chunk in bytes.chunks_exact_mut(64 << 10) {
        for part in chunk[..16].chunks_exact_mut(8) {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            part.copy_from_slice(&noise.to_le_bytes());
        }
    }
    bytes
}

/// A deflated file with much in an element.
fn bomb(instance: usize, group: u16, element: u16, length: usize) -> Vec<u8> {
    let uid = format!("1.2.3.{instance}");
    let value = Value::Bytes(nearly_zeros(length));
    let file = Elements::ct("1.2", "1.2.3", &uid).with(group, element, VR::OB, value).part10(Syntax::Deflated);
    assert!(file.len() * 500 < length, "{} bytes for {length}", file.len());
    file
}

async fn coercing() -> TestServer {
    let mut server = TestServer::start(BackEnds::Local).await;
    server.restart_with(&[("ISOCENTER_STORE_COERCION", RULES)]).await;
    assert_eq!(server.store(&[good(1)]).await.status, 202);
    server
}

fn is_within_memory(server: &TestServer) {
    let peak = server.peak_memory();
    println!("{} MiB at most", peak >> 20);
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deflate_bomb_that_is_held_for_a_rule_is_never_whole_in_memory() {
    let server = coercing().await;
    let answer = server.store(&[bomb(2, 0x0009, 0x1010, INFLATED)]).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(server.search("/instances?PatientID=N").await.len(), 2);
    is_within_memory(&server);
}

#[tokio::test(flavor = "multi_thread")]
async fn deflate_bombs_that_a_rule_changes_on_their_way_are_never_whole_in_memory() {
    const CLIENTS: usize = 6;
    let server = coercing().await;
    let files: Vec<Vec<u8>> =
        (2..2 + CLIENTS).map(|instance| bomb(instance, 0x7fe0, 0x0010, INFLATED / CLIENTS)).collect();
    for answer in join_all(files.iter().map(|file| server.store(std::slice::from_ref(file)))).await {
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    assert_eq!(server.search("/instances?PatientID=N").await.len(), 1 + CLIENTS);
    is_within_memory(&server);
}

/// A request of instances with more attributes each, and a part of so many bytes under the name `p`.
async fn described(server: &TestServer, instances: &[String], length: usize) -> Answer {
    let instances = instances.join(",");
    let head = format!("--b\r\nContent-Type: {JSON}\r\n\r\n[{instances}]\r\n--b\r\nContent-Location: p\r\n\r\n");
    let body = [head.as_bytes(), &vec![7; length], b"\r\n--b--\r\n"].concat();
    let content_type = format!("multipart/related; type=\"{JSON}\"; boundary=b");
    server.send("POST", "/studies", &[("content-type", &content_type), ("accept", JSON)], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_named_again_and_again_counts_each_time() {
    let mut server = TestServer::start(BackEnds::Local).await;
    let limits = [("ISOCENTER_LIMITS_REQUEST_SIZE", "1 MiB"), ("ISOCENTER_LIMITS_INSTANCE_SIZE", "700 KiB")];
    server.restart_with(&limits).await;
    let named = |number: usize, times: usize| {
        let items = vec![r#"{"00420011":{"vr":"OB","BulkDataURI":"p"}}"#; times].join(",");
        instance(&format!("1.2.3.{number}"), &format!(r#""00081140":{{"vr":"SQ","Value":[{items}]}}"#))
    };
    // three times 300 KiB fit into a request, and twice into an instance
    let instances = [named(1, 1), named(2, 3), named(3, 2), named(4, 1), named(5, 0)];
    let answer = described(&server, &instances, 300 << 10).await;
    assert_eq!((answer.status, answer.failure_reasons()), (202, vec![0xA700, 0xA700]), "{}", answer.text());
    let failed = answer.json()["00081198"]["Value"].as_array().unwrap().clone();
    let told: Vec<_> = failed
        .iter()
        .map(|item| (item["00081155"]["Value"][0].as_str().unwrap(), item["00000902"]["Value"][0].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("1.2.3.2", "the bulk data are over the instance limit of 716800 bytes"),
            ("1.2.3.4", "the bulk data are over the request limit of 1048576 bytes"),
        ]
    );
    assert_eq!((server.objects(), server.instances_counted().await), (3, 3));
    // the next request begins anew
    assert_eq!(described(&server, &[named(4, 1)], 300 << 10).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_made_instance_that_is_refused_no_more_is_made() {
    let database = TestDatabase::create(Backend::Sqlite).await;
    let store = ObjectStorage::memory_with(&StorageSettings::default());
    let policy = Policy::new(&StoreSettings::default()).unwrap();
    let ingest = Ingest::new(database.open().await, store, IngestLimits::default(), policy);
    for (made, expected) in [(true, 1), (false, 100)] {
        let mut ingestion = ingest.begin(Some(StudyUid::parse("9.9").unwrap()), "test".to_owned()).await.unwrap();
        let asked = Cell::new(0);
        let file = Bytes::from([&good(1)[..], &[0; 64]].concat());
        let mut chunks = stream::iter((0..100).map(|_| {
            asked.set(asked.get() + 1);
            Ok(file.clone())
        }));
        if made {
            ingestion.composed(&mut chunks).await.unwrap();
        } else {
            // others may come after it in the same body
            ingestion.instance(&mut chunks).await.unwrap();
        }
        let outcome = ingestion.finish().await.remove(0);
        assert!(matches!(&outcome, InstanceOutcome::Refused(_)), "{outcome:?}");
        assert_eq!(asked.get(), expected, "made: {made}");
    }
}
