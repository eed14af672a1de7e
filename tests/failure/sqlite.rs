//! The index in SQLite: another program locks it for too long, and it or the folder of objects cannot be written any more.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::Sender;
use crate::support::server::{BackEnds, TestServer};

const PATIENCE: (&str, &str) = ("ISOCENTER_DATABASE_ACQUIRE_TIMEOUT", "300ms");
/// What Debian calls `nobody`.
const NOBODY: &str = "65534";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A server whose user file permissions apply to, which they do not to root.
async fn of_a_common_user() -> TestServer {
    let mut server = TestServer::start(BackEnds::Local).await;
    let data = server.data();
    if fs::metadata(&data).unwrap().uid() == 0 {
        let folder = data.parent().unwrap();
        let owned = std::process::Command::new("chown").args(["-R", NOBODY]).arg(folder).status();
        assert!(owned.is_ok_and(|status| status.success()));
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        // the folder of this process is for its own user, that of the server is not
        let launcher = ["setpriv", &user, &group, "--clear-groups", "--"];
        server.restart_by(&launcher, &[PATIENCE]).await;
    } else {
        server.restart_with(&[PATIENCE]).await;
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_holds_for_too_long_is_a_refusal() {
    let mut server = TestServer::start(BackEnds::Local).await;
    server.restart_with(&[PATIENCE]).await;
    let sender = Sender::default();
    let faults = async {
        sender.hears(200, 4).await;
        for _ in 0..2 {
            let mut other = server.index().await;
            other.execute("begin immediate").await;
            sender.hears(503, 3).await;
            // readers do not wait for writers
            assert!(!server.search("/studies").await.is_empty());
            other.execute("rollback").await;
            sender.hears(200, 4).await;
        }
    };
    sender.store_while(&server, &[&[1000, 70_000], &[300], &[2 << 20, 10]], faults).await;
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_becomes_read_only_is_a_refusal_until_it_can_be_written_again() {
    let server = of_a_common_user().await;
    let sender = Sender::default();
    assert_eq!(sender.store(&server, &[100, 200]).await, 200);
    let data = server.data();
    // what is open stays writable; a failed write makes the server open it anew
    let mut other = server.index().await;
    other.execute("begin immediate").await;
    assert_eq!(sender.store(&server, &[100]).await, 503);
    for file in ["index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"] {
        set_mode(&data.join(file), 0o400);
    }
    other.execute("rollback").await;
    drop(other);
    for _ in 0..3 {
        assert_eq!(sender.store(&server, &[100, 2 << 20]).await, 503);
    }
    for file in ["index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"] {
        // a log that nobody has open any more is gone
        if data.join(file).exists() {
            set_mode(&data.join(file), 0o600);
        }
    }
    assert_eq!(sender.store(&server, &[100]).await, 200);
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_objects_that_cannot_be_written_is_a_refusal_until_it_can() {
    let server = of_a_common_user().await;
    let sender = Sender::default();
    let objects = server.data().join("objects");
    assert_eq!(sender.store(&server, &[100, 200]).await, 200);
    let staging = fs::read_dir(objects.join("staging")).unwrap().map(|entry| entry.unwrap().path());
    let staging = staging.filter(|path| path.is_dir());
    let folders: Vec<_> = staging.chain([objects.join("studies")]).collect();
    let set_all = |mode| {
        for folder in &folders {
            set_mode(folder, mode);
        }
    };
    for _ in 0..2 {
        set_all(0o500);
        assert_eq!(sender.store(&server, &[100, 200]).await, 503, "a new study");
        assert_eq!(sender.store(&server, &[3 << 20]).await, 503, "a large object");
        set_all(0o700);
        assert_eq!(sender.store(&server, &[100, 3 << 20]).await, 200);
    }
    sender.finds_all_well(&server).await;
}
