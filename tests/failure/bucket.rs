//! The bucket answers with errors, is cut off in the middle of bodies, falls silent, and comes back.

use s3s::S3ErrorCode;

use super::{ANY, Sender, is_refused_for_now};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{BackEnds, TestServer};

/// More than goes to the bucket in one request here.
const LARGE: usize = 6 << 20;
const ALWAYS: usize = usize::MAX;

/// A server whose way to the bucket can fail, and that does not wait for long.
async fn behind_a_network() -> (TestServer, Proxy) {
    let mut server = TestServer::start(BackEnds::Shared).await;
    let proxy = Proxy::start(server.s3().endpoint.strip_prefix("http://").unwrap()).await;
    let endpoint = format!("http://{}", proxy.address);
    let settings =
        [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_READ_TIMEOUT", "1s"), ("ISOCENTER_STORAGE_PART_SIZE", "5MiB")];
    server.restart_with(&settings).await;
    (server, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_bucket_are_refusals_that_can_be_tried_again() {
    let (server, _proxy) = behind_a_network().await;
    let sender = Sender::default();
    let faults = &server.s3().faults;
    type Errors<'a> = &'a [(&'static str, S3ErrorCode)];
    let cases: [(Errors<'_>, u16, u16); 4] = [
        (&[("put_object", S3ErrorCode::SlowDown), ("create_multipart_upload", S3ErrorCode::InternalError)], 503, 503),
        (&[("put_object", S3ErrorCode::AccessDenied)], 503, 503),
        (&[("upload_part", S3ErrorCode::ServiceUnavailable)], 200, 503),
        (&[("complete_multipart_upload", S3ErrorCode::InternalError)], 200, 503),
    ];
    for (errors, of_small, of_large) in cases {
        for (operation, code) in errors {
            faults.set(operation, code.clone(), ALWAYS);
        }
        let (small, large) = tokio::join!(sender.store(&server, &[100, 5000]), sender.store(&server, &[LARGE, 7]));
        assert_eq!((small, large), (of_small, of_large), "{errors:?}");
        faults.clear();
    }
    // what passes by itself is not noticed
    for operation in ["put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload"] {
        faults.set(operation, S3ErrorCode::SlowDown, 1);
    }
    assert_eq!(sender.store(&server, &[LARGE, 100]).await, 200);
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_cut_off_refuses_or_is_silent_costs_nothing_but_refusals() {
    let (server, proxy) = behind_a_network().await;
    let sender = Sender::default();
    let faults = async {
        sender.hears(200, 4).await;
        for _ in 0..3 {
            proxy.cut_all();
            sender.hears(200, 2).await;
        }
        let before = proxy.cuts();
        proxy.cut_next(Cut::Request(1 << 20), 3);
        sender.hears(200, 6).await;
        assert!(proxy.cuts() > before, "an upload was cut in its middle");
        proxy.cut_next(Cut::Answer(0), 3);
        sender.hears(200, 4).await;
        proxy.refuse().await;
        sender.hears(503, 3).await;
        proxy.accept();
        sender.hears(200, 4).await;
        proxy.silence();
        sender.hears(503, 3).await;
        proxy.speak();
        sender.hears(200, 4).await;
    };
    sender.store_while(&server, &[&[1000, 70_000], &[LARGE], &[300]], faults).await;
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_it_was_cut_and_is_never_short() {
    let (server, proxy) = behind_a_network().await;
    let sender = Sender::default();
    assert_eq!(sender.store(&server, &[LARGE]).await, 200);
    let (path, file) =
        sender.sent.lock().unwrap().values().map(|sent| (sent.path.clone(), sent.file.clone())).next().unwrap();
    for times in [1, 2] {
        let before = proxy.cuts();
        proxy.cut_next(Cut::Answer(2 << 20), times);
        let read = server.read(&path, ANY).await;
        assert!(read.status == 200 && read.body == file, "{times} cuts: {}", read.status);
        assert_eq!(proxy.cuts() - before, times);
    }
    proxy.cut_next(Cut::Answer(4000), ALWAYS);
    let answer = server.get(&path, ANY).await;
    // it has begun when the first of the bytes have come
    let short = match answer.status().as_u16() {
        200 => answer.bytes().await.is_ok(),
        status => status != 503,
    };
    assert!(!short, "a body that ends too early does not end well");
    proxy.cut_next(Cut::Answer(0), 0);
    for code in [S3ErrorCode::SlowDown, S3ErrorCode::InternalError, S3ErrorCode::AccessDenied] {
        server.s3().faults.set("get_object", code.clone(), ALWAYS);
        is_refused_for_now(&server.read(&path, ANY).await);
        server.s3().faults.set("get_object", code, 1);
        let _ = server.read(&path, ANY).await;
    }
    proxy.silence();
    is_refused_for_now(&server.read(&path, ANY).await);
    proxy.speak();
    server.s3().faults.clear();
    sender.finds_all_well(&server).await;
}
