//! Disks that fill up under the objects, the index and temporary files or go away, and a limit on the size of files.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ANY, Sender};
use crate::support::server::{BackEnds, TestServer, until};

/// The disks of index and objects, in MiB.
const SIZE: usize = 48;
/// Gives the server file systems of its own, which are gone with it: for its index, its objects, and its temporary files.
const SMALL_DISKS: &str = r#"
    mount -t tmpfs -o size=48m tmpfs "$1" && mkdir "$1/objects" && mount -t tmpfs -o size=48m tmpfs "$1/objects" &&
    mkdir "$1/temporary" && mount -t tmpfs -o size=1m tmpfs "$1/temporary" &&
    export TMPDIR="$1/temporary" && shift && exec "$@"
"#;

/// A server with small disks; `None` where this user may not mount any.
async fn on_small_disks() -> Option<TestServer> {
    let may_mount = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may_mount {
        println!("skipped: this user may not mount a file system in a namespace of its own, so no disk can be full");
        return None;
    }
    let mut server = TestServer::start(BackEnds::Local).await;
    let data = server.data().display().to_string();
    let launcher = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SMALL_DISKS, "sh", &data];
    server.restart_by(&launcher, &[]).await;
    Some(server)
}

/// Writes a file until there is no room but for so many bytes; where it is.
fn fill(folder: &Path, room: u64) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    let piece = vec![1; 64 << 10];
    while file.write_all(&piece).is_ok() {}
    while file.write_all(&piece[..512]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(room)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_has_no_room_and_takes_it_when_there_is_some() {
    let Some(server) = on_small_disks().await else { return };
    let sender = Sender::default();
    assert_eq!(sender.store(&server, &[1000, 2 << 20]).await, 200);
    let data = server.seen(&server.data());
    for folder in [data.join("objects"), data.clone()] {
        for room in [0, 64 << 10] {
            let filler = fill(&folder, room);
            let before = server.files();
            let statuses = [
                sender.store(&server, &[100 << 10; 8]).await,
                sender.store(&server, &[5 << 20]).await,
                sender.store(&server, &[100 << 10, 3 << 20, 10]).await,
            ];
            if folder.ends_with("objects") {
                assert_eq!(statuses, [503; 3], "{}: {room}", folder.display());
                server.is_left_with(&before).await;
            } else {
                assert!(room > 0 || statuses == [503; 3], "{statuses:?}");
            }
            // whatever is full, what is there can be read
            let path = sender.sent.lock().unwrap().values().find(|sent| sent.acknowledged).unwrap().path.clone();
            assert_eq!(server.read(&path, ANY).await.status, 200);
            assert!(!server.search("/studies").await.is_empty());
            fs::remove_file(filler).unwrap();
            assert_eq!(sender.store(&server, &[1000]).await, 200, "there is room again");
        }
    }
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_fill_the_disk_by_themselves_leave_what_has_room() {
    let Some(server) = on_small_disks().await else { return };
    let sender = Sender::default();
    let filler = fill(&server.seen(&server.data()).join("objects"), 16 << 20);
    sender.store_while(&server, &[&[3 << 20], &[700 << 10, 100]], sender.hears(503, 6)).await;
    let stored = server.instances_counted().await;
    assert!(stored > 0 && stored < SIZE, "{stored}");
    // as much as is sent again, and has to be there twice for a moment
    fs::remove_file(filler).unwrap();
    let sent = std::mem::take(&mut *sender.sent.lock().unwrap());
    let kept = sent.into_iter().filter(|(_, sent)| sent.acknowledged || sent.file.len() < 1 << 20).collect();
    *sender.sent.lock().unwrap() = kept;
    sender.finds_all_well(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_data_without_room_for_temporary_files_are_refused_for_now() {
    let Some(server) = on_small_disks().await else { return };
    let before = server.files();
    for _ in 0..3 {
        let (content_type, body) = super::clients::described(3 << 20);
        let headers = [("content-type", content_type.as_str()), ("accept", crate::support::binary::JSON)];
        let answer = server.send("POST", "/studies", &headers, body).await;
        super::is_refused_for_now(&answer);
        server.has_no_temporary_file().await;
    }
    server.is_left_with(&before).await;
    let (content_type, body) = super::clients::described(100 << 10);
    let headers = [("content-type", content_type.as_str()), ("accept", crate::support::binary::JSON)];
    assert_eq!(server.send("POST", "/studies", &headers, body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_the_size_of_files_is_an_error_and_not_the_end_of_the_server() {
    let mut server = TestServer::start(BackEnds::Local).await;
    // blocks of 512 or of 1024 bytes, as the shell likes
    server.restart_by(&["sh", "-c", "ulimit -f 8192; exec \"$@\"", "sh"], &[]).await;
    let sender = Sender::default();
    for _ in 0..2 {
        assert_eq!(sender.store(&server, &[20 << 20]).await, 503);
        assert_eq!(sender.store(&server, &[1 << 20, 100]).await, 200);
    }
    sender.sent.lock().unwrap().retain(|_, sent| sent.acknowledged);
    sender.finds_all_well(&server).await;
}

/// The status and body of the readiness of a server.
async fn readiness(server: &TestServer) -> (u16, serde_json::Value) {
    let answer = server.client().get(server.url("/health/ready")).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_folder_is_gone_is_not_ready_and_does_not_make_another() {
    let server = TestServer::start(BackEnds::Local).await;
    let sender = Sender::default();
    assert_eq!(sender.store(&server, &[1000]).await, 200);
    let path = sender.sent.lock().unwrap().values().next().unwrap().path.clone();
    let objects = server.data().join("objects");
    let away = objects.with_extension("away");
    for (what, unmounted) in [("moved", false), ("an empty one is there, as where nothing is mounted", true)] {
        fs::rename(&objects, &away).unwrap();
        if unmounted {
            fs::create_dir(&objects).unwrap();
        }
        until(what, async || readiness(&server).await.0 == 503).await;
        let (_, parts) = readiness(&server).await;
        assert_eq!((&parts["store"], &parts["database"]), (&"failed".into(), &"ok".into()), "{what}");
        for size in [1000, 3 << 20] {
            assert_eq!(sender.store(&server, &[size]).await, 503, "{what}");
        }
        super::is_refused_for_now(&server.read(&path, ANY).await);
        assert_eq!(objects.exists(), unmounted, "{what}: nothing is made in its place");
        if unmounted {
            assert_eq!(fs::read_dir(&objects).unwrap().count(), 0, "{what}: nothing is written there");
            fs::remove_dir(&objects).unwrap();
        }
        fs::rename(&away, &objects).unwrap();
        server.is_ready().await;
    }
    sender.finds_all_well(&server).await;
    fs::remove_dir_all(&objects).unwrap();
    until("deleted", async || readiness(&server).await.0 == 503).await;
    assert!(!objects.exists(), "deleted: nothing is made in its place");
}
