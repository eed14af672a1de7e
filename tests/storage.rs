//! One suite over memory, a folder and a real S3 server.

use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use isocenter::config::{StorageSettings, StorageUrl};
use isocenter::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use isocenter::error::{ErrorKind, Result};
use isocenter::store::keys::StorageKey;
use isocenter::store::{ByteStream, ObjectStorage, Receipt, Staged, Stored, Upload};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use uuid::Uuid;

const MIB: usize = 1 << 20;

/// A storage and what it lives in.
struct Place {
    name: &'static str,
    storage: ObjectStorage,
    server: Option<S3Server>,
    folder: Option<TempDir>,
}

impl Place {
    async fn assert_empty(&self) {
        self.storage.settle().await;
        let left: Vec<_> = self.storage.list("").try_collect().await.unwrap();
        assert!(left.is_empty(), "{}: {left:?}", self.name);
        if let Some(server) = &self.server {
            assert_eq!(server.files(), Vec::<String>::new(), "{}", self.name);
        }
        if let Some(folder) = &self.folder {
            let inside =
                |path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
            assert_eq!(inside(folder.path().to_owned()), ["staging"], "{}", self.name);
            for entry in std::fs::read_dir(folder.path().join("staging")).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    assert!(inside(entry.path()).is_empty(), "{}", self.name);
                }
            }
        }
        assert_eq!(self.storage.held_bytes(), 0, "{}", self.name);
    }
}

/// The three back ends, each empty.
async fn places(settings: &StorageSettings) -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = ObjectStorage::open(&StorageUrl::Folder(folder.path().to_owned()), settings).await.unwrap();
    let server = S3Server::start().await;
    let in_bucket = bucket(&server, settings).await.unwrap();
    vec![
        Place { name: "memory", storage: ObjectStorage::memory_with(settings), server: None, folder: None },
        Place { name: "folder", storage: in_folder, server: None, folder: Some(folder) },
        Place { name: "bucket", storage: in_bucket, server: Some(server), folder: None },
    ]
}

async fn bucket(server: &S3Server, settings: &StorageSettings) -> Result<ObjectStorage> {
    let access = server.environment().map(|(name, value)| (name.to_lowercase(), value));
    let access: Vec<_> = access.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    ObjectStorage::open_bucket(BUCKET, "some/prefix", &access, settings).await
}

fn key(number: u32) -> StorageKey {
    let key = InstanceKey {
        study: StudyUid::parse("1.2.3").unwrap(),
        series: SeriesUid::parse(&format!("1.2.3.{}", number % 3)).unwrap(),
        instance: InstanceUid::parse(&format!("1.2.3.4.{number}")).unwrap(),
    };
    StorageKey::instance(&key, Uuid::now_v7(), 0)
}

/// Bytes that differ at every place.
fn content(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

fn receipt(content: &[u8]) -> Receipt {
    Receipt { received_at: 1_700_000_000_123, received_digest: [9; 32], digest: *blake3::hash(content).as_bytes() }
}

async fn write_all(upload: &mut Upload, content: &Bytes, chunk: usize) {
    let mut rest = content.clone();
    while !rest.is_empty() {
        upload.write(rest.split_to(chunk.min(rest.len()))).await.unwrap();
    }
}

async fn stage(storage: &ObjectStorage, key: &StorageKey, content: &Bytes, chunk: usize) -> Staged {
    let mut upload = storage.begin().await.unwrap();
    upload.name(key.clone());
    write_all(&mut upload, content, chunk).await;
    upload.finish(receipt(content)).await.unwrap()
}

async fn store(storage: &ObjectStorage, key: &StorageKey, content: &Bytes, chunk: usize) {
    let staged = stage(storage, key, content, chunk).await;
    storage.make_durable(vec![staged]).await.unwrap().into_iter().for_each(Stored::keep);
}

async fn collect(stream: Result<ByteStream>) -> Result<Vec<u8>> {
    stream?
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_size_come_back_as_they_went_in() {
    let bytes = content(20 * MIB, 1);
    let sizes = [
        (0, 1),
        (1, 1),
        (64 * 1024 - 1, 1000),
        (64 * 1024, 4096),
        (64 * 1024 + 1, 65_536),
        (MIB, 65_537),
        (MIB + 1, MIB + 1),
        (8 * MIB - 1, 300_000),
        (8 * MIB, 8 * MIB),
        (8 * MIB + 1, 65_536),
        (20 * MIB, 77_777),
    ];
    for place in places(&StorageSettings::default()).await {
        for (number, (size, chunk)) in (0..).zip(sizes) {
            let (key, content) = (key(number), bytes.slice(20 * MIB - size..));
            store(&place.storage, &key, &content, chunk).await;
            assert_eq!(place.storage.exists(&key).await.unwrap(), Some(size as u64), "{}", place.name);
            assert!(collect(place.storage.read(&key).await).await.unwrap() == content, "{} {size}", place.name);
            assert_eq!(place.storage.receipt(&key).await.unwrap(), Some(receipt(&content)), "{} {size}", place.name);
        }
        let mut listed: Vec<u64> =
            place.storage.list("studies/1.2.3").map_ok(|(_, size)| size).try_collect().await.unwrap();
        listed.sort_unstable();
        let mut expected = sizes.map(|(size, _)| size as u64);
        expected.sort_unstable();
        assert_eq!(listed, expected, "{}", place.name);
        assert!(place.storage.list("studies/1.2").next().await.is_none(), "{}: a prefix is whole names", place.name);
        let keys: Vec<_> = place.storage.list("").map_ok(|(key, _)| key).try_collect().await.unwrap();
        for key in keys {
            place.storage.remove(&key).await.unwrap();
            place.storage.remove(&key).await.expect("removing twice is no error");
            assert_eq!(place.storage.exists(&key).await.unwrap(), None, "{}", place.name);
            assert_eq!(place.storage.receipt(&key).await.unwrap(), None, "{}", place.name);
        }
        place.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_has_exactly_its_bytes_or_is_an_error() {
    for place in places(&StorageSettings::default()).await {
        let size = 9 * MIB + 7;
        let (key, content) = (key(1), content(size, 5));
        store(&place.storage, &key, &content, MIB).await;
        for (start, end) in
            [(0, 1), (0, size), (size - 1, size), (100, 100 + 3 * MIB), (MIB, 2 * MIB), (5, 5), (size, size)]
        {
            let range = start as u64..end as u64;
            let streamed = collect(place.storage.read_range(&key, range.clone()).await).await.unwrap();
            assert!(streamed == content[start..end], "{} {range:?}", place.name);
            let whole = place.storage.read_bytes(&key, range.clone()).await.unwrap();
            assert!(whole == content[start..end], "{} {range:?}", place.name);
        }
        let size = size as u64;
        for range in [0..size + 1, size - 1..size + 1, size..size + 1, size + 5..size + 9, size + 1..size + 1] {
            let error = place.storage.read_bytes(&key, range.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Lost, "{} {range:?}: {error:?}", place.name);
            let error = collect(place.storage.read_range(&key, range.clone()).await).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Lost, "{} {range:?}: {error:?}", place.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_missing_is_damage() {
    for place in places(&StorageSettings::default()).await {
        let key = key(1);
        assert_eq!(place.storage.exists(&key).await.unwrap(), None);
        for error in [
            collect(place.storage.read(&key).await).await.unwrap_err(),
            collect(place.storage.read_range(&key, 0..1).await).await.unwrap_err(),
            place.storage.read_bytes(&key, 0..1).await.unwrap_err(),
            place.storage.read_bytes(&key, 0..0).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.message()), (ErrorKind::Lost, "object missing"), "{}", place.name);
        }
        let outside = StorageKey::from_index("../etc/passwd".to_owned());
        assert_eq!(place.storage.read(&outside).await.err().unwrap().kind(), ErrorKind::Internal);
        place.storage.probe().await.unwrap();
        place.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_at_any_stage_leaves_nothing() {
    let bytes = content(20 * MIB, 3);
    for place in places(&StorageSettings::default()).await {
        for size in [0, 1000, 2 * MIB, 20 * MIB] {
            let content = bytes.slice(..size);
            let unnamed = async || {
                let mut upload = place.storage.begin().await.unwrap();
                write_all(&mut upload, &content, 100_000).await;
                upload
            };
            let named = async || {
                let mut upload = place.storage.begin().await.unwrap();
                upload.name(key(1));
                write_all(&mut upload, &content, 100_000).await;
                upload
            };
            drop(unnamed().await);
            drop(named().await);
            assert_eq!(unnamed().await.finish(receipt(&content)).await.unwrap_err().kind(), ErrorKind::Internal);
            drop(stage(&place.storage, &key(2), &content, MIB).await);
            let staged = vec![
                stage(&place.storage, &key(3), &content, MIB).await,
                stage(&place.storage, &key(4), &content, MIB).await,
            ];
            drop(place.storage.make_durable(staged).await.unwrap());
            // begun and not waited for
            let staged = vec![stage(&place.storage, &key(5), &content, MIB).await];
            let _ = futures_util::FutureExt::now_or_never(place.storage.make_durable(staged));
            place.assert_empty().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_removes_the_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let url = StorageUrl::Folder(folder.path().to_owned());
    let storage = ObjectStorage::open(&url, &StorageSettings::default()).await.unwrap();
    let content = content(1000, 1);
    let (first, second) = (key(1), key(2));
    // a folder stands where the second object should be
    std::fs::create_dir_all(folder.path().join(second.as_str())).unwrap();
    let staged = vec![stage(&storage, &first, &content, 500).await, stage(&storage, &second, &content, 500).await];
    let error = storage.make_durable(staged).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    storage.settle().await;
    assert_eq!(storage.exists(&first).await.unwrap(), None);
    assert!(storage.list("").next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_made_durable_at_once() {
    for place in places(&StorageSettings::default()).await {
        let mut staged = Vec::new();
        let mut expected = Vec::new();
        for number in 0..100 {
            let (key, content) = (key(number), content(1000 * number as usize, u64::from(number)));
            staged.push(stage(&place.storage, &key, &content, 10_000).await);
            expected.push((key, content));
        }
        let stored = place.storage.make_durable(staged).await.unwrap();
        assert_eq!(
            stored.iter().map(|stored| stored.key().clone()).collect::<Vec<_>>(),
            expected.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()
        );
        stored.into_iter().for_each(Stored::keep);
        place.storage.settle().await;
        for (key, content) in expected {
            assert!(collect(place.storage.read(&key).await).await.unwrap() == content, "{}", place.name);
            assert_eq!(place.storage.receipt(&key).await.unwrap(), Some(receipt(&content)), "{}", place.name);
        }
        assert!(place.storage.make_durable(Vec::new()).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_given_late_is_soon_enough() {
    let bytes = content(31 * MIB, 1);
    for place in places(&StorageSettings::default()).await {
        for (before, after) in [(0, 1000), (1000, 0), (10 * MIB, 0), (10 * MIB, 11 * MIB), (30 * MIB, 1000)] {
            let (key, content) = (key(7), bytes.slice(..before + after));
            let mut upload = place.storage.begin().await.unwrap();
            write_all(&mut upload, &content.slice(..before), 100_000).await;
            upload.name(key.clone());
            write_all(&mut upload, &content.slice(before..), 100_000).await;
            let staged = upload.finish(receipt(&content)).await.unwrap();
            place.storage.make_durable(vec![staged]).await.unwrap().into_iter().for_each(Stored::keep);
            assert!(
                collect(place.storage.read(&key).await).await.unwrap() == content,
                "{} {before} {after}",
                place.name
            );
            place.storage.remove(&key).await.unwrap();
        }
        place.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_share_a_small_budget_without_blocking_each_other() {
    let budget = 12 * MIB as u64;
    let settings = StorageSettings { upload_buffer_bytes: budget, part_bytes: 5 * MIB as u64 };
    let bytes = content(8 * MIB, 1);
    for place in places(&settings).await {
        let most = Arc::new(AtomicU64::new(0));
        // these hold what they have and never go on
        let idle = join_all((0..40).map(|number| {
            let (storage, content) = (place.storage.clone(), bytes.slice(..900_000));
            async move {
                let mut upload = storage.begin().await.unwrap();
                upload.name(key(1000 + number));
                write_all(&mut upload, &content, 100_000).await;
                upload
            }
        }))
        .await;
        let uploads = (0..32).map(|number| {
            let (storage, most) = (place.storage.clone(), Arc::clone(&most));
            let content = bytes.slice(number as usize * 1000..7 * MIB);
            tokio::spawn(async move {
                let key = key(number);
                let mut upload = storage.begin().await.unwrap();
                let mut rest = content.clone();
                while !rest.is_empty() {
                    if rest.len() < 4 * MIB {
                        upload.name(key.clone());
                    }
                    upload.write(rest.split_to(rest.len().min(65_536))).await.unwrap();
                    most.fetch_max(storage.held_bytes(), Ordering::Relaxed);
                }
                let staged = upload.finish(receipt(&content)).await.unwrap();
                let stored = storage.make_durable(vec![staged]).await.unwrap();
                stored.into_iter().for_each(Stored::keep);
                assert!(collect(storage.read(&key).await).await.unwrap() == content);
            })
        });
        for upload in join_all(uploads).await {
            upload.unwrap();
        }
        drop(idle);
        let most = most.load(Ordering::Relaxed);
        assert!(most > 0 && most <= budget, "{}: {most}", place.name);
        place.storage.settle().await;
        assert_eq!(place.storage.held_bytes(), 0);
    }
}

#[tokio::test]
async fn an_object_is_never_finished_without_bytes_of_a_write_that_was_given_up() {
    let settings = StorageSettings { upload_buffer_bytes: 10 * MIB as u64, part_bytes: 5 * MIB as u64 };
    let content = content(MIB, 1);
    for place in places(&settings).await {
        let mut upload = place.storage.begin().await.unwrap();
        upload.name(key(1));
        // a write that needs not wait cannot be given up
        let mut writes = (0..100).map(|_| futures_util::FutureExt::now_or_never(upload.write(content.clone())));
        let given_up = writes.any(|written| written.is_none());
        assert!(given_up, "{}: so much is not written without waiting once", place.name);
        assert_eq!(upload.write(content.clone()).await.unwrap_err().kind(), ErrorKind::Internal, "{}", place.name);
        assert_eq!(upload.finish(receipt(&content)).await.unwrap_err().kind(), ErrorKind::Internal, "{}", place.name);
        place.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_folder_is_made_with_its_parents() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let path = std::path::PathBuf::from(folder.path().file_name().unwrap()).join("new/objects");
    let storage = ObjectStorage::open(&StorageUrl::Folder(path.clone()), &StorageSettings::default()).await.unwrap();
    let content = content(1000, 1);
    store(&storage, &key(1), &content, 500).await;
    assert!(collect(storage.read(&key(1)).await).await.is_err(), "another attempt has another key");
    assert_eq!(storage.list("studies").count().await, 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_storages_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let url = StorageUrl::Folder(folder.path().to_owned());
    let settings = StorageSettings::default();
    let one = ObjectStorage::open(&url, &settings).await.unwrap();
    let content = content(3 * MIB, 1);
    let mut upload = one.begin().await.unwrap();
    write_all(&mut upload, &content, MIB).await;
    let two = ObjectStorage::open(&url, &settings).await.expect("what another process receives is not touched");
    let uploads = (0..60).map(|number| {
        let storage = if number % 2 == 0 { one.clone() } else { two.clone() };
        let content = content.slice(..1000);
        tokio::spawn(async move {
            // the same folders are made and removed all the time
            let key = key(number);
            let staged = stage(&storage, &key, &content, 1000).await;
            let stored = storage.make_durable(vec![staged]).await.unwrap();
            assert!(collect(storage.read(&key).await).await.unwrap() == content);
            assert_eq!(storage.receipt(&key).await.unwrap(), Some(receipt(&content)));
            drop(stored);
        })
    });
    for upload in join_all(uploads).await {
        upload.unwrap();
    }
    let key = key(1);
    upload.name(key.clone());
    let staged = upload.finish(receipt(&content)).await.unwrap();
    one.make_durable(vec![staged]).await.unwrap().into_iter().for_each(Stored::keep);
    one.settle().await;
    two.settle().await;
    assert!(collect(two.read(&key).await).await.unwrap() == content);
    assert_eq!(two.list("").count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_used_says_what_to_do() {
    let settings = StorageSettings::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = ObjectStorage::open(&StorageUrl::Folder(file.join("below")), &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.message().contains("--data-dir") && error.message().contains("Not a directory"), "{error}");

    let server = S3Server::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let endpoint = server.endpoint.as_str();
    for (endpoint, bucket, secret, expected) in [
        (endpoint, "nowhere", SECRET_KEY, "there is no bucket `nowhere`"),
        (endpoint, BUCKET, "wrong", "the credentials are refused"),
        (nobody.as_str(), BUCKET, SECRET_KEY, "does not answer; check AWS_ENDPOINT_URL"),
    ] {
        let access =
            [("aws_endpoint_url", endpoint), ("aws_access_key_id", ACCESS_KEY), ("aws_secret_access_key", secret)];
        let error = ObjectStorage::open_bucket(bucket, "", &access, &settings).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains(expected) && !error.message().contains('\n'), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_goes_away_is_unavailable() {
    let server = S3Server::start().await;
    let storage = bucket(&server, &StorageSettings::default()).await.unwrap();
    drop(server);
    let content = content(1000, 1);
    let staged = stage(&storage, &key(1), &content, 1000).await;
    assert_eq!(storage.make_durable(vec![staged]).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_storage_serves_runtimes_of_one_thread_that_come_and_go() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    let places = runtime.block_on(places(&StorageSettings::default()));
    for place in &places {
        let content = content(9 * MIB, 1);
        for round in 1..=2 {
            // As in the archive no key is used again: what was dropped may be removed a little later.
            let (key, dropped) = (key(round), key(round + 2));
            let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            worker.block_on(async {
                store(&place.storage, &key, &content, MIB).await;
                assert!(collect(place.storage.read(&key).await).await.unwrap() == content, "{}", place.name);
                place.storage.remove(&key).await.unwrap();
                drop(stage(&place.storage, &dropped, &content, MIB).await);
            });
        }
        runtime.block_on(place.assert_empty());
    }
}
