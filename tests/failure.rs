//! Faults from outside while the real server works: database, bucket, disk, clients and clock fail, and come back.
//!
//! Whatever fails, the answer says that it can be tried again; what was acknowledged is there, what is there is whole, and
//! when the fault is over everything can be sent again, without a restart.

mod bucket;
mod clients;
mod clock;
mod database;
mod disk;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use dicom_core::VR;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::binary::{Answer, Binary};
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::server::TestServer;
use crate::verify::is_clean;

const ANY: &str = "application/dicom; transfer-syntax=*";
/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Clients that store at the same time.
const CLIENTS: usize = 4;
/// The failure reason of what can be tried again: Refused, out of resources.
const OUT_OF_RESOURCES: u16 = 0xA700;

/// All that was sent, and how often which answer came.
#[derive(Default)]
struct Sender {
    /// By SOP Instance UID.
    sent: Mutex<BTreeMap<String, Sent>>,
    requests: AtomicU32,
    answers: watch::Sender<BTreeMap<u16, usize>>,
}

struct Sent {
    path: String,
    request: u32,
    file: Vec<u8>,
    acknowledged: bool,
}

impl Sender {
    /// Stores new instances with so many bytes of pixel data each by one request; its status.
    async fn store(&self, server: &Binary, sizes: &[usize]) -> u16 {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let files: Vec<_> = (0..).zip(sizes).map(|(number, size)| self.instance(request, number, *size)).collect();
        let answer = timeout(PATIENCE, server.store(&files)).await.expect("an answer in time");
        for url in acknowledged(&answer) {
            let uid = url.rsplit('/').next().unwrap();
            self.sent.lock().unwrap().get_mut(uid).unwrap().acknowledged = true;
        }
        self.answers.send_modify(|answers| *answers.entry(answer.status).or_default() += 1);
        answer.status
    }

    /// Makes an instance in a series that requests share.
    fn instance(&self, request: u32, number: u32, size: usize) -> Vec<u8> {
        let (study, series) = (format!("2.25.{}", request % 5 + 1), format!("2.25.{}.1", request % 5 + 1));
        let uid = format!("{series}.{request}.{number}");
        let pixels = Value::Bytes((0..=250).cycle().skip(number as usize).take(size).collect());
        let file = Elements::ct(&study, &series, &uid).with(0x7fe0, 0x0010, VR::OW, pixels).part10(Syntax::Explicit);
        let path = format!("/studies/{study}/series/{series}/instances/{uid}");
        self.sent.lock().unwrap().insert(uid, Sent { path, request, file: file.clone(), acknowledged: false });
        file
    }

    /// Stores from several clients while something happens.
    async fn store_while(&self, server: &Binary, sizes: &[&[usize]], happens: impl Future<Output = ()>) {
        let over = AtomicBool::new(false);
        let client = |client: usize| {
            let mut sizes = sizes.iter().cycle().skip(client);
            let over = &over;
            async move {
                while !over.load(Ordering::Relaxed) {
                    self.store(server, sizes.next().unwrap()).await;
                }
            }
        };
        let happens = async {
            happens.await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all((0..CLIENTS).map(client)), happens);
    }

    /// Waits for so many more answers of a status.
    async fn hears(&self, status: u16, more: usize) {
        let mut answers = self.answers.subscribe();
        let count = |answers: &BTreeMap<u16, usize>| answers.get(&status).copied().unwrap_or_default();
        let until = count(&answers.borrow()) + more;
        let heard = timeout(PATIENCE, answers.wait_for(|answers| count(answers) >= until)).await;
        assert!(heard.is_ok(), "{more} more answers of {status}; there were {:?}", *self.answers.borrow());
    }

    /// Expects that the archive is well after a fault, as it stands and when everything is sent again.
    async fn finds_all_well(&self, server: &TestServer) {
        server.is_ready().await;
        let found = self.found_whole(server).await;
        let mut requests: BTreeMap<u32, BTreeSet<bool>> = BTreeMap::new();
        for (uid, sent) in &*self.sent.lock().unwrap() {
            assert!(found.contains(uid) || !sent.acknowledged, "{uid} was acknowledged and is lost");
            requests.entry(sent.request).or_default().insert(found.contains(uid));
        }
        let half: Vec<_> = requests.iter().filter(|(_, stored)| stored.len() > 1).collect();
        assert!(half.is_empty(), "half visible: {half:?}");
        let files: Vec<Vec<u8>> = self.sent.lock().unwrap().values().map(|sent| sent.file.clone()).collect();
        for files in files.chunks(8) {
            let answer = server.store(files).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let found = self.found_whole(server).await;
        assert_eq!(found.len(), files.len());
        println!("answers: {:?}; {} instances sent", *self.answers.borrow(), files.len());
        // what a fault kept from being removed is removed at the latest when the lease has run out
        server.lets_leases_run_out().await;
        assert_eq!(server.run(&["sweep"]).await.status.code(), Some(0));
        assert_eq!(server.keys().await.len(), files.len(), "objects without rows are gone");
        assert_eq!(is_clean(server).await, files.len() as u64);
    }

    /// The UIDs of what is there, which is what was sent.
    async fn found_whole(&self, server: &TestServer) -> BTreeSet<String> {
        let listed = server.search("/instances?limit=5000").await;
        let uid = |dataset: &serde_json::Value| dataset["00080018"]["Value"][0].as_str().unwrap().to_owned();
        let found: BTreeSet<String> = listed.iter().map(uid).collect();
        for uid in &found {
            let (path, file) = {
                let sent = self.sent.lock().unwrap();
                (sent[uid].path.clone(), sent[uid].file.clone())
            };
            let read = server.read(&path, ANY).await;
            assert!(read.status == 200 && read.body == file, "{uid}: {}", read.status);
        }
        assert_eq!(server.instances_counted().await, found.len(), "the counters agree with the instances");
        assert_eq!(is_clean(server).await, found.len() as u64);
        found
    }
}

/// The URLs of what an answer acknowledges; anything else than success is to be a refusal that can be tried again.
fn acknowledged(answer: &Answer) -> Vec<String> {
    let reasons = answer.failure_reasons();
    assert!(reasons.iter().all(|reason| *reason == OUT_OF_RESOURCES), "{}", answer.text());
    match answer.status {
        200 | 202 => answer.retrieve_urls(),
        503 => {
            assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
            Vec::new()
        }
        other => panic!("status {other}: {}", answer.text()),
    }
}

/// Expects the answer to a request that cannot be served now.
fn is_refused_for_now(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
}
