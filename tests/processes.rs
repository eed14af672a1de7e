//! Processes that share an index and an object store serve each other's uploads, from the moment of the answer on.

use futures_util::future::join_all;

use dicom_core::VR;

use crate::support::binary::{Binary, JSON};
use crate::support::generate::{Elements, Syntax};
use crate::support::server::{BackEnds, TestServer};

fn ct(series: usize, number: usize) -> Vec<u8> {
    let uid = format!("1.2.{series}.{number}");
    let ct = Elements::ct("1.2", &format!("1.2.{series}"), &uid);
    ct.text(0x0020, 0x0013, VR::IS, &number.to_string()).part10(Syntax::Explicit)
}

async fn assert_serves(server: &Binary, series: usize, number: usize) {
    let path = format!("/studies/1.2/series/1.2.{series}/instances/1.2.{series}.{number}");
    let whole = server.read(&path, "application/dicom; transfer-syntax=*").await;
    assert!(whole.status == 200 && whole.body == ct(series, number), "{path}: {}", whole.status);
    let metadata = server.read(&format!("{path}/metadata"), JSON).await;
    assert_eq!(metadata.json()[0]["00200013"]["Value"][0], number);
    assert_eq!(server.read(&format!("{path}/frames/1"), "application/octet-stream").await.body.len(), 16);
    assert_eq!(server.search(&format!("/instances?SOPInstanceUID=1.2.{series}.{number}")).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_serve_each_others_uploads() {
    let first = TestServer::start(BackEnds::Shared).await;
    let second = first.another().await;
    let servers: [&Binary; 2] = [&first, &second];
    for number in 0..6 {
        let (one, other) = (servers[number % 2], servers[(number + 1) % 2]);
        assert_eq!(one.store(&[ct(1, number)]).await.status, 200);
        assert_serves(other, 1, number).await;
        assert_eq!(other.store(&[ct(1, number)]).await.status, 200, "the other knows it as identical");
        let study = &other.search("/studies").await[0];
        assert_eq!(study["00201208"]["Value"][0], number + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_store_into_the_same_series_at_once() {
    let first = TestServer::start(BackEnds::Shared).await;
    let second = first.another().await;
    let servers: [&Binary; 2] = [&first, &second];
    let uploads = (0..40).map(|n| {
        // each instance is sent to both, in requests that overlap
        let files = [ct(n % 3, n / 2), ct(n % 3, n / 2 + 1)];
        async move { servers[n % 2].store(&files).await.status }
    });
    let statuses = join_all(uploads).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let distinct: std::collections::BTreeSet<(usize, usize)> =
        (0..40).flat_map(|n| [(n % 3, n / 2), (n % 3, n / 2 + 1)]).collect();
    for server in servers {
        assert_eq!(server.instances_counted().await, distinct.len());
        assert_eq!(server.search("/instances?limit=1000").await.len(), distinct.len());
        assert_eq!(server.search("/studies").await[0]["00201206"]["Value"][0], 3);
    }
    assert_eq!(first.objects(), distinct.len(), "what lost a race left no object");
    for (series, number) in distinct {
        assert_serves(&second, series, number).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_later_serves_what_is_there() {
    for back_ends in BackEnds::ALL {
        let mut server = TestServer::start(back_ends).await;
        assert_eq!(server.store(&[ct(1, 1), ct(2, 2)]).await.status, 200);
        server.restart().await;
        assert_serves(&server, 1, 1).await;
        assert_serves(&server, 2, 2).await;
    }
}
