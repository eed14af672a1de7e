//! What a retrieval answers when the object store has lost bytes, or is away: a status that says so wherever none was sent
//! yet, and otherwise a message that is cut where they are missing, never one that seems whole or none at all.

use bytes::Bytes;
use dicom_core::VR;
use futures_util::StreamExt as _;
use isocenter::store::keys::StorageKey;
use serde_json::Value as Json;

use crate::support::binary::{Answer, Binary};
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::server::{TestServer, on_both_stacks};

on_both_stacks!(
    a_lost_object_is_told_of_before_the_answer_begins,
    an_answer_whose_later_parts_are_lost_is_cut_after_the_first,
    a_store_that_is_away_is_unavailable_to_every_retrieval,
    what_is_damaged_and_cannot_be_rewritten_is_told_of,
);

const SERIES: &str = "/studies/1.2/series/1.2.3";
const MULTIPART: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
const FILE: &str = "application/dicom; transfer-syntax=*";
const OCTETS: &str = "application/octet-stream";
/// Frames of the instance of many: more than are looked up at once.
const MANY: u32 = 1500;

/// All that can be had of the bytes of an instance: what follows its URL, and what is accepted.
type Resources = Vec<(&'static str, &'static str)>;

/// Instances by the last number of their UIDs.
fn resources() -> Vec<(u32, Vec<u8>, Resources)> {
    let many: Vec<Vec<u8>> = (0..MANY).map(|n| n.to_le_bytes().repeat(2)).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let whole = [("", FILE), ("", "application/dicom"), ("", "*/*")];
    let plain = [
        ("/frames/1", "*/*"),
        ("/frames/1", OCTETS),
        ("/bulkdata/7FE00010", "*/*"),
        ("/bulkdata/7FE00010", OCTETS),
        ("/bulkdata/00091010", OCTETS),
    ];
    let fragments = [("/frames/1", "*/*"), ("/frames/2,1", "*/*"), ("/bulkdata/7FE00010", "*/*")];
    let native = |uid: u32| ct(uid).part10(Syntax::Explicit);
    vec![
        (1, native(1), [&whole[..], &plain].concat()),
        (2, ct(2).part10(Syntax::Implicit), [&whole[..], &plain].concat()),
        (3, ct(3).part10(Syntax::Deflated), [&whole[..], &plain].concat()),
        (4, ct(4).encapsulated(&[&[1; 30], &[2; 31]]).part10(Syntax::JPEG), [&whole[..], &fragments].concat()),
        (5, ct(5).encapsulated(&many).part10(Syntax::JPEG), [&whole[..], &fragments].concat()),
    ]
}

fn ct(number: u32) -> Elements {
    Elements::ct("1.2", "1.2.3", &format!("1.2.3.{number}")).text(0x0009, 0x0010, VR::LO, "PRIVATE").with(
        0x0009,
        0x1010,
        VR::OB,
        Value::Bytes((0..=250).cycle().take(70_000).collect()),
    )
}

fn path(number: u32) -> String {
    format!("{SERIES}/instances/1.2.3.{number}")
}

/// What may become of an object.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Gone,
    Cut,
}

/// Loses the bytes of the object of an instance, past the server.
async fn lose(server: &TestServer, number: u32, loss: Loss) {
    let storage = server.storage().await;
    let keys = server.keys().await;
    let key = keys.into_iter().find(|key| key.contains(&format!("/1.2.3.{number}."))).unwrap();
    let key = StorageKey::from_index(key);
    storage.remove(&key).await.unwrap();
    if let Loss::Cut = loss {
        storage.put(&key, Bytes::from_static(b"a few of them")).await.unwrap().keep();
    }
}

/// An answer to a request that may have none.
async fn answer(server: &Binary, path: &str, accept: &str) -> Result<Answer, String> {
    let request = server.client().get(format!("{}{path}", server.root())).header("accept", accept);
    match request.send().await {
        Ok(response) => Ok(Answer::of(response).await),
        Err(error) => Err(format!("{path}, {accept}: no answer: {error:?}")),
    }
}

/// Expects the answer of an archive that has lost an instance.
fn tells_of_the_loss(what: &str, answer: &Answer, uid: &str) {
    assert_eq!(answer.status, 500, "{what}: {}", answer.text());
    assert_eq!(answer.content_type, "application/problem+json", "{what}");
    let problem: Json = answer.json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("`{uid}`")), "{what}: {detail}");
    assert!(!answer.text().contains("Phantom") && !answer.text().contains("P-1"), "{what}: a patient is named");
}

async fn a_lost_object_is_told_of_before_the_answer_begins(server: TestServer) {
    for loss in [Loss::Gone, Loss::Cut] {
        for (number, file, resources) in resources() {
            assert_eq!(server.store(&[file]).await.status, 200);
            for (suffix, accept) in &resources {
                let whole = server.read(&format!("{}{suffix}", path(number)), accept).await;
                assert_eq!(whole.status, 200, "{number}{suffix}, {accept}: {}", whole.text());
            }
            lose(&server, number, loss).await;
            for (suffix, accept) in &resources {
                let what = format!("{loss:?}, {number}{suffix}, {accept}");
                let told = answer(&server, &format!("{}{suffix}", path(number)), accept).await.unwrap();
                tells_of_the_loss(&what, &told, &format!("1.2.3.{number}"));
            }
        }
        for scope in ["/studies/1.2", SERIES] {
            for accept in [MULTIPART, "*/*"] {
                let told = answer(&server, scope, accept).await.unwrap();
                tells_of_the_loss(&format!("{loss:?}, all of {scope}, {accept}"), &told, "1.2.3.1");
            }
        }
        assert!(server.log().contains("object missing"), "the log has the cause");
    }
}

async fn what_is_damaged_and_cannot_be_rewritten_is_told_of(server: TestServer) {
    assert_eq!(server.store(&[ct(1).part10(Syntax::Implicit)]).await.status, 200);
    let storage = server.storage().await;
    let key = StorageKey::from_index(server.keys().await.remove(0));
    let size = storage.exists(&key).await.unwrap().unwrap();
    storage.remove(&key).await.unwrap();
    let damaged = vec![0xA5; usize::try_from(size).unwrap()];
    storage.put(&key, damaged.into()).await.unwrap().keep();
    for (accept, path) in [("application/dicom", path(1)), ("*/*", SERIES.to_owned())] {
        tells_of_the_loss(&path, &answer(&server, &path, accept).await.unwrap(), "1.2.3.1");
    }
}

async fn an_answer_whose_later_parts_are_lost_is_cut_after_the_first(server: TestServer) {
    let files: Vec<_> = (1..=3).map(|number| ct(number).part10(Syntax::Explicit)).collect();
    assert_eq!(server.store(&files).await.status, 200);
    lose(&server, 2, Loss::Gone).await;
    for scope in ["/studies/1.2", SERIES] {
        let request = server.client().get(format!("{}{scope}", server.root())).header("accept", MULTIPART);
        let response = request.send().await.expect("the status was sent");
        assert_eq!(response.status(), 200);
        let mut chunks = response.bytes_stream();
        let (mut read, mut broken) = (Vec::new(), false);
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => read.extend_from_slice(&chunk),
                Err(_) => broken = true,
            }
        }
        assert!(broken, "{scope}: the message ends as if it were whole, after {} bytes", read.len());
        assert!(!read.ends_with(b"--\r\n"), "{scope}");
        assert!(memchr::memmem::find(&read, &files[0]).is_some(), "{scope}: the first part is whole");
    }
    lose(&server, 1, Loss::Gone).await;
    tells_of_the_loss("the first", &answer(&server, SERIES, MULTIPART).await.unwrap(), "1.2.3.1");
    assert_eq!(server.read(&path(3), FILE).await.status, 200);
}

async fn a_store_that_is_away_is_unavailable_to_every_retrieval(server: TestServer) {
    let resources = resources();
    for (_, file, _) in &resources {
        assert_eq!(server.store(&[file]).await.status, 200);
    }
    let away = Away::of(&server);
    let scopes = [("/studies/1.2".to_owned(), MULTIPART), (SERIES.to_owned(), MULTIPART)];
    let parts = resources.iter().flat_map(|(number, _, resources)| {
        resources.iter().map(|(suffix, accept)| (format!("{}{suffix}", path(*number)), *accept))
    });
    for (path, accept) in scopes.into_iter().chain(parts) {
        let answer = answer(&server, &path, accept).await.unwrap();
        assert_eq!(answer.status, 503, "{path}, {accept}: {}", answer.text());
        assert_eq!(answer.content_type, "application/problem+json", "{path}");
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
    drop(away);
    assert_eq!(server.read(&path(1), FILE).await.status, 200);
}

/// Objects that cannot be had, until dropped.
enum Away<'a> {
    Folder(std::path::PathBuf),
    Bucket(&'a TestServer),
}

impl<'a> Away<'a> {
    fn of(server: &'a TestServer) -> Self {
        let objects = server.data().join("objects");
        if objects.exists() {
            std::fs::rename(&objects, objects.with_extension("away")).unwrap();
            return Self::Folder(objects);
        }
        server.s3().faults.set("get_object", s3s::S3ErrorCode::AccessDenied, usize::MAX);
        Self::Bucket(server)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        match self {
            Self::Folder(objects) => std::fs::rename(objects.with_extension("away"), objects).unwrap(),
            Self::Bucket(server) => server.s3().faults.clear(),
        }
    }
}
