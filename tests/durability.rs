//! The real binary, killed while it stores: nothing acknowledged is lost, nothing half-stored is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dicom_core::VR;
use futures_util::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value as Json;
use sqlx::ConnectOptions as _;
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::support::binary::{Binary, JSON, client};
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::multipart;
use crate::support::server::{BackEnds, TestServer};
use crate::verify::is_clean;

/// Clients that store at the same time.
const CLIENTS: u64 = 8;
/// Requests at once when all is read back.
const READERS: usize = 8;

/// One instance that a client sent.
#[derive(Clone, Debug)]
struct Sent {
    study: String,
    series: String,
    /// Client and number of the request.
    request: (u64, u64),
    digest: blake3::Hash,
    acknowledged: bool,
}

/// Every instance that was ever sent, by its SOP Instance UID.
type Ledger = BTreeMap<String, Sent>;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_during_uploads_lose_nothing_and_leave_nothing_half_stored() {
    let mut server = killed_while_storing(BackEnds::Local, 50).await;
    server.kill();
    assert_eq!(integrity(&server.data().join("index.sqlite3")).await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_during_uploads_lose_nothing_in_postgresql_and_s3() {
    killed_while_storing(BackEnds::Shared, 15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_comes_twice_in_one_request_is_stored_once_and_read_back() {
    let image = |uid: &str, number: u16| Elements::ct("2.25.1", "2.25.1.1", uid).number(0x0028, 0x0107, number);
    let [twin, first, second] = [("2.25.1.2", 1), ("2.25.1.3", 1), ("2.25.1.3", 2)]
        .map(|(uid, number)| image(uid, number).part10(Syntax::Explicit));
    for back_ends in BackEnds::ALL {
        let server = TestServer::start(back_ends).await;
        let answer = server.store(&[&twin, &twin, &first, &second]).await;
        assert_eq!((answer.status, answer.failure_reasons()), (202, vec![0x0111]), "{back_ends:?}");
        assert_eq!(server.instances_counted().await, 2, "{back_ends:?}");
        for (uid, file) in [("2.25.1.2", &twin), ("2.25.1.3", &first)] {
            let path = format!("/studies/2.25.1/series/2.25.1.1/instances/{uid}");
            let read = server.read(&path, "application/dicom; transfer-syntax=*").await;
            assert_eq!((read.status, &read.body), (200, file), "{back_ends:?}: {uid}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_at_its_first_start_starts_again() {
    let mut random = StdRng::seed_from_u64(8);
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Binary::spawn(folder.path(), &[]);
        // Before, while and after it makes its folders and its database.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
        server.kill();
        let mut server = Binary::start(folder.path()).await;
        let (uid, sent, file) = instance((0, 0), 0, 1 << 10);
        assert_eq!(server.store(&[file]).await.status, 200);
        everything_listed_reads_back(&server, &BTreeMap::from([(uid.clone(), sent)]), &BTreeSet::from([uid])).await;
        server.kill();
        assert_eq!(integrity(&folder.path().join("index.sqlite3")).await, "ok");
    }
}

/// Kills the server so many times while it stores, then reads everything back.
async fn killed_while_storing(back_ends: BackEnds, kills: u32) -> TestServer {
    let mut server = TestServer::start(back_ends).await;
    let mut random = StdRng::seed_from_u64(7);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    for round in 0..kills {
        let (heard, mut answers) = mpsc::unbounded_channel();
        let clients = (0..CLIENTS).map(|client| u64::from(round) * CLIENTS + client);
        let client = |seed| tokio::spawn(store_until_killed(server.root(), ledger.clone(), heard.clone(), seed));
        let clients: Vec<_> = clients.map(client).collect();
        // The moment of the kill is what this test is random about: after so many answers, however fast the machine
        // is, and a little later.
        for _ in 0..random.random_range(0..=10) {
            answers.recv().await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        server.kill();
        for client in clients {
            client.await.unwrap();
        }
        server.restart().await;
    }
    let ledger = ledger.lock().unwrap().clone();
    let acknowledged = ledger.values().filter(|sent| sent.acknowledged).count();
    let found = what_is_listed(&server).await;
    println!(
        "{back_ends:?}: {kills} kills, {} instances sent, {acknowledged} acknowledged, {} found",
        ledger.len(),
        found.len()
    );
    assert!(acknowledged > 0, "no upload was ever acknowledged, so nothing was tested");
    for (uid, sent) in &ledger {
        assert!(found.contains(uid) || !sent.acknowledged, "{uid} was acknowledged and is lost");
    }
    requests_are_stored_as_a_whole(&ledger, &found);
    everything_listed_reads_back(&server, &ledger, &found).await;
    assert_eq!(server.instances_counted().await, found.len(), "the counters of the studies agree with their instances");
    assert_eq!(is_clean(&server).await, found.len() as u64);
    server.lets_leases_run_out().await;
    assert_eq!(server.run(&["sweep"]).await.status.code(), Some(0));
    assert_eq!(server.keys().await.len(), found.len(), "what the killed servers left is gone");
    assert_eq!(is_clean(&server).await, found.len() as u64);
    server
}

/// Stores requests of one to five instances until the server is gone.
async fn store_until_killed(root: String, ledger: Arc<Mutex<Ledger>>, heard: UnboundedSender<()>, seed: u64) {
    let client = client();
    let mut random = StdRng::seed_from_u64(seed);
    for request in 0.. {
        let mut files = Vec::new();
        let mut uids = Vec::new();
        for number in 0..random.random_range(1..=5) {
            // now and then one that does not stay in memory until its end
            let kibibytes = if random.random_ratio(1, 20) { 3 << 10 } else { random.random_range(1..200) };
            let (uid, sent, file) = instance((seed, request), number, kibibytes << 10);
            ledger.lock().unwrap().insert(uid.clone(), sent);
            uids.push(uid);
            files.push(file);
        }
        let (content_type, body) = multipart::write(&files);
        let post = client.post(format!("{root}/studies")).header("content-type", content_type).body(body);
        // An answer that was cut off after its head acknowledges all the same.
        let Ok(answer) = post.send().await else { return };
        assert_eq!(answer.status(), 200);
        for uid in &uids {
            ledger.lock().unwrap().get_mut(uid).unwrap().acknowledged = true;
        }
        let _ = heard.send(());
    }
}

/// A CT of a series that all requests of a client share, in a study that clients share, with so many bytes of pixel data.
fn instance(request: (u64, u64), number: u64, size: usize) -> (String, Sent, Vec<u8>) {
    let seed = request.0;
    let (study, series) = (format!("2.25.{}", seed % 40 + 1), format!("2.25.{}.1", seed + 1));
    let uid = format!("2.25.{}.{}.{number}", seed + 1, request.1);
    let pixels = Value::Bytes(vec![u8::try_from(number).unwrap(); size]);
    let file = Elements::ct(&study, &series, &uid).with(0x7fe0, 0x0010, VR::OW, pixels).part10(Syntax::Explicit);
    (uid, Sent { study, series, request, digest: blake3::hash(&file), acknowledged: false }, file)
}

/// The UIDs of all instances that a search finds.
async fn what_is_listed(server: &Binary) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let page = server.search(&format!("/instances?limit=500&offset={}", found.len())).await;
        let before = found.len();
        found.extend(page.iter().map(uid));
        assert_eq!(found.len(), before + page.len(), "a search lists no instance twice");
        if page.len() < 500 {
            return found;
        }
    }
}

/// The rows of one of these requests are written by one transaction.
fn requests_are_stored_as_a_whole(ledger: &Ledger, found: &BTreeSet<String>) {
    let mut requests: BTreeMap<(u64, u64), BTreeSet<bool>> = BTreeMap::new();
    for (uid, sent) in ledger {
        requests.entry(sent.request).or_default().insert(found.contains(uid));
    }
    for (request, stored) in requests {
        assert_eq!(stored.len(), 1, "request {request:?} is half visible");
    }
}

/// Every instance that has a row has its whole object, and the metadata of every series are those of its instances.
async fn everything_listed_reads_back(server: &Binary, ledger: &Ledger, found: &BTreeSet<String>) {
    let mut all: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for uid in found {
        let sent = ledger.get(uid).unwrap_or_else(|| panic!("{uid} was never sent"));
        all.entry((&sent.study, &sent.series)).or_default().insert(uid.clone());
    }
    let read = all.into_iter().map(|((study, series), uids)| async move {
        let path = format!("/studies/{study}/series/{series}");
        let metadata = server.read(&format!("{path}/metadata"), JSON).await;
        assert_eq!(metadata.status, 200, "{path}");
        let described: BTreeSet<String> = metadata.json().as_array().unwrap().iter().map(uid).collect();
        assert_eq!(described, uids, "{path}");
        for uid in uids {
            let answer = server.read(&format!("{path}/instances/{uid}"), "application/dicom; transfer-syntax=*").await;
            assert_eq!(answer.status, 200, "{uid} has a row and no object");
            assert_eq!(blake3::hash(&answer.body), ledger[&uid].digest, "{uid} reads back as it was sent");
        }
    });
    stream::iter(read).buffer_unordered(READERS).collect::<Vec<()>>().await;
}

fn uid(dataset: &Json) -> String {
    dataset["00080018"]["Value"][0].as_str().unwrap().to_owned()
}

/// What SQLite says of its file.
async fn integrity(file: &Path) -> String {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = options.connect().await.unwrap();
    sqlx::query_scalar("pragma integrity_check").fetch_one(&mut connection).await.unwrap()
}
