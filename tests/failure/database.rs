//! PostgreSQL goes away, falls silent, loses its answers, and comes back.

use super::{Sender, is_refused_for_now};
use crate::support::binary::JSON;
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{BackEnds, TestServer};

/// Requests of small instances, and of one that does not stay in memory.
const SIZES: &[&[usize]] = &[&[1000, 70_000], &[300], &[3 << 20, 10]];

/// How whole studies are asked for.
const STUDY: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";

/// A server whose way to PostgreSQL can fail, and that does not wait for long.
async fn behind_a_network() -> (TestServer, Proxy) {
    let mut server = TestServer::start(BackEnds::Shared).await;
    let url = server.postgres_url();
    let start = url.find('@').map_or(url.find("://").unwrap() + 3, |at| at + 1);
    let end = start + url[start..].find('/').unwrap();
    let proxy = Proxy::start(&url[start..end]).await;
    let url = format!("{}{}{}", &url[..start], proxy.address, &url[end..]);
    let settings = [
        ("ISOCENTER_DATABASE_URL", url.as_str()),
        ("ISOCENTER_DATABASE_ACQUIRE_TIMEOUT", "1s"),
        ("ISOCENTER_DATABASE_STATEMENT_TIMEOUT", "2s"),
    ];
    server.restart_with(&settings).await;
    (server, proxy)
}

/// Nothing is told of what cannot be known.
async fn reads_are_refused(server: &TestServer) {
    for path in ["/studies", "/studies/2.25.1/metadata"] {
        is_refused_for_now(&server.read(path, JSON).await);
    }
    is_refused_for_now(&server.read("/studies/2.25.1", STUDY).await);
    is_refused_for_now(&server.send("DELETE", "/studies/2.25.1", &[], "").await);
    assert!(server.is_alive().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_cut_off_refuses_or_is_silent_costs_nothing_but_refusals() {
    let (server, proxy) = behind_a_network().await;
    let sender = Sender::default();
    let faults = async {
        sender.hears(200, 4).await;
        for _ in 0..3 {
            proxy.cut_all();
            sender.hears(200, 4).await;
        }
        proxy.refuse().await;
        sender.hears(503, 3).await;
        reads_are_refused(&server).await;
        proxy.accept();
        sender.hears(200, 4).await;
        // connections stay open, and nothing comes back by them ever again
        for _ in 0..2 {
            proxy.silence();
            sender.hears(503, 3).await;
            reads_are_refused(&server).await;
            proxy.speak();
            sender.hears(200, 4).await;
        }
    };
    sender.store_while(&server, SIZES, faults).await;
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_leaves_all_or_nothing_and_can_be_sent_again() {
    let (server, proxy) = behind_a_network().await;
    let sender = Sender::default();
    assert_eq!(sender.store(&server, &[100, 200]).await, 200);
    for (cut, there) in [(Cut::BeforeCommit, 0), (Cut::AfterCommit, 3)] {
        let before = server.instances_counted().await;
        proxy.cut_next(cut, 1);
        assert_eq!(sender.store(&server, &[100, 2 << 20, 5]).await, 503, "{cut:?}");
        assert_eq!(server.instances_counted().await - before, there, "{cut:?}");
    }
    let faults = async {
        for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
            let before = proxy.cuts();
            proxy.cut_next(cut, 5);
            sender.hears(503, 5).await;
            sender.hears(200, 4).await;
            assert_eq!(proxy.cuts() - before, 5, "{cut:?}");
        }
    };
    sender.store_while(&server, SIZES, faults).await;
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_whose_commit_is_cut_is_done_as_a_whole_or_not_and_can_be_sent_again() {
    let (server, proxy) = behind_a_network().await;
    let sender = Sender::default();
    for (cut, then) in [(Cut::BeforeCommit, 204), (Cut::AfterCommit, 410)] {
        assert_eq!(sender.store(&server, &[100, 200, 300]).await, 200);
        let study = format!("/studies/2.25.{}", sender.requests.load(std::sync::atomic::Ordering::Relaxed));
        proxy.cut_next(cut, 1);
        is_refused_for_now(&server.send("DELETE", &study, &[], "").await);
        let left = server.search(&format!("{study}/instances")).await.len();
        assert_eq!(left, if then == 204 { 3 } else { 0 }, "{cut:?}");
        assert_eq!(server.send("DELETE", &study, &[], "").await.status, then, "{cut:?}");
        assert_eq!(server.read(&study, STUDY).await.status, 410, "{cut:?}");
    }
    assert_eq!(crate::verify::is_clean(&server).await, 6, "what is hidden is whole too");
}
