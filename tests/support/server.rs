//! A server over back ends of its own: SQLite and a folder, or PostgreSQL and S3.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt as _;
use isocenter::config::{DatabaseUrl, StorageSettings, StorageUrl};
use isocenter::store::ObjectStorage;
use tempfile::TempDir;

use crate::support::binary::{Binary, launched};
use crate::support::database::{Backend, Session, TestDatabase};
use crate::support::s3::{BUCKET, S3Server};

/// What a server keeps its index and its objects in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEnds {
    /// SQLite and a folder.
    Local,
    /// PostgreSQL and a bucket.
    Shared,
}

impl BackEnds {
    /// Every combination that the tests over HTTP run on.
    pub const ALL: [Self; 2] = [Self::Local, Self::Shared];
}

/// How long a server may take to remove what an interrupted request left.
const CLEANED: Duration = Duration::from_mins(1);
/// The tables of the index, what others refer to first.
const TABLES: [&str; 10] = [
    "studies",
    "metadata_dictionaries",
    "series",
    "deletions",
    "instances",
    "frame_blocks",
    "leases",
    "lapsed_leases",
    "left_objects",
    "restores",
];
/// Those whose rows are numbered by the database.
const NUMBERED: [&str; 4] = ["studies", "series", "deletions", "instances"];
/// Below what the objects lie in the bucket.
const PREFIX: &str = "tests";
/// How the folder names what it notes beside an object.
const RECEIPTS: &str = "receipts";

/// Waits until something holds.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = Instant::now() + CLEANED;
    while !holds().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs each function of a suite on a server over each combination of back ends. They are given a running server.
macro_rules! on_both_stacks {
    ($($test:ident),+ $(,)?) => {
        mod local {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let back_ends = crate::support::server::BackEnds::Local;
                super::$test(crate::support::server::TestServer::start(back_ends).await).await;
            })+
        }
        mod shared {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let back_ends = crate::support::server::BackEnds::Shared;
                super::$test(crate::support::server::TestServer::start(back_ends).await).await;
            })+
        }
    };
}
pub(crate) use on_both_stacks;

/// A running server with an empty archive, removed with it.
pub struct TestServer {
    // dropped in this order: the process before what it works on
    binary: Binary,
    folder: TempDir,
    shared: Option<(TestDatabase, S3Server)>,
    /// Settings by their variables.
    settings: Settings,
    /// The command and its arguments by which the process is started, if not by itself.
    launcher: Vec<String>,
}

type Settings = Vec<(&'static str, String)>;

impl TestServer {
    /// Starts one. The S3 server runs on the runtime of the test, which has to be a multi-threaded one.
    pub async fn start(back_ends: BackEnds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = match back_ends {
            BackEnds::Local => None,
            BackEnds::Shared => Some((TestDatabase::create(Backend::Postgres).await, S3Server::start().await)),
        };
        let settings = Settings::new();
        let binary = start(&folder, shared.as_ref(), &settings, &[]).await;
        Self { binary, folder, shared, settings, launcher: Vec::new() }
    }

    /// The S3 server, if there is one.
    pub fn s3(&self) -> &S3Server {
        &self.shared.as_ref().expect("the back ends are shared").1
    }

    /// The URL of the index in PostgreSQL.
    pub fn postgres_url(&self) -> String {
        let (database, _) = self.shared.as_ref().expect("the back ends are shared");
        let DatabaseUrl::Postgres(url) = &database.url else { panic!("a shared index is in PostgreSQL") };
        url.expose().to_owned()
    }

    /// The URL of the index.
    pub fn database_url(&self) -> DatabaseUrl {
        match &self.shared {
            None => DatabaseUrl::Sqlite(self.data().join("index.sqlite3")),
            Some((database, _)) => database.url.clone(),
        }
    }

    /// Waits until it says that it can work.
    pub async fn is_ready(&self) {
        let end = Instant::now() + CLEANED;
        loop {
            let answer = self.client().get(self.url("/health/ready")).send().await.unwrap();
            if answer.status() == 200 {
                return;
            }
            assert!(Instant::now() < end, "{}", answer.text().await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has no temporary file open.
    pub async fn has_no_temporary_file(&self) {
        let end = Instant::now() + CLEANED;
        loop {
            let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
            let named = open.filter_map(|file| std::fs::read_link(file.path()).ok());
            let held: Vec<_> = named.filter(|name| name.to_string_lossy().contains("isocenter-")).collect();
            if held.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{held:?} are open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the process and starts another by a command that gets the binary and its arguments after its own. If that leads into
    /// another mount namespace, so do [`Self::run`] and the paths of [`Self::seen`].
    pub async fn restart_by(&mut self, launcher: &[&str], settings: &[(&'static str, &str)]) {
        self.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
        self.restart_with(settings).await;
    }

    /// Whether it has file systems of its own.
    fn is_apart(&self) -> bool {
        self.launcher.first().is_some_and(|command| command == "unshare")
    }

    /// Waits until the server has said something so many times.
    pub async fn has_logged(&self, text: &str, times: usize) {
        let end = Instant::now() + CLEANED;
        while self.log().matches(text).count() < times {
            assert!(Instant::now() < end, "`{text}` was not said {times} times:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A path as the process sees it.
    pub fn seen(&self, path: &Path) -> PathBuf {
        if self.is_apart() {
            PathBuf::from(format!("/proc/{}/root{}", self.pid(), path.display()))
        } else {
            path.to_owned()
        }
    }

    /// The files in which the object store keeps objects and what belongs to them, those of unfinished uploads included.
    pub fn files(&self) -> Vec<String> {
        let files = match &self.shared {
            Some((_, s3)) => s3.files(),
            None => files_below(&self.seen(&self.data()).join("objects"))
                .into_iter()
                // the mark of a running process
                .filter(|file| !(file.starts_with("staging/") && file.matches('/').count() == 1))
                .collect(),
        };
        // what the server keeps of its settings
        files.into_iter().filter(|file| !file.contains("settings/")).collect()
    }

    /// How many objects are in the store, complete or not.
    pub fn objects(&self) -> usize {
        self.files().iter().filter(|file| !file.ends_with(RECEIPTS)).count()
    }

    /// Waits until the store has no file at all: what a request left behind is removed after its end.
    pub async fn is_left_empty(&self) {
        self.is_left_with(&[]).await;
    }

    /// Waits until the store has these files and no others, named in any order.
    pub async fn is_left_with(&self, expected: &[String]) {
        let expected: BTreeSet<&String> = expected.iter().collect();
        let end = Instant::now() + CLEANED;
        loop {
            let files = self.files();
            let others: Vec<_> = files.iter().filter(|file| !expected.contains(file)).collect();
            assert_eq!(files.len() - others.len(), expected.len(), "a file of {expected:?} is gone");
            if others.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{others:?} were left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The storage keys of all complete objects of instances.
    pub async fn keys(&self) -> Vec<String> {
        listed(&self.storage().await).await
    }

    /// The same, as soon as there are so many.
    pub async fn keys_when(&self, count: usize) -> Vec<String> {
        let storage = self.storage().await;
        let end = Instant::now() + CLEANED;
        loop {
            let keys = listed(&storage).await;
            if keys.len() >= count {
                return keys;
            }
            assert!(Instant::now() < end, "{keys:?} are fewer than {count}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The object store, past the server.
    pub async fn storage(&self) -> ObjectStorage {
        let settings = StorageSettings::default();
        match &self.shared {
            None => ObjectStorage::open(&StorageUrl::Folder(self.seen(&self.data()).join("objects")), &settings).await,
            Some((_, s3)) => {
                let access = s3.environment().map(|(name, value)| (name.to_lowercase(), value));
                let access: Vec<_> = access.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                ObjectStorage::open_bucket(BUCKET, PREFIX, &access, &settings).await
            }
        }
        .unwrap()
    }

    /// Ends the time of all leases, past the server.
    pub async fn lets_leases_run_out(&self) {
        // not long ago: what was stored under them was stored before
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let run_out = format!("update leases set expires_at = {now}");
        if !self.is_apart() {
            return self.index().await.execute(&run_out).await;
        }
        let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])";
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.pid())).args(["python3", "-c", script]);
        let done = command.arg(self.data().join("index.sqlite3")).arg(run_out).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A connection to the index, past the server.
    pub async fn index(&self) -> Session {
        assert!(!self.is_apart(), "SQLite would find the file of the same name outside of the server's namespace");
        match &self.shared {
            None => TestDatabase::at(self.data().join("index.sqlite3")).connect().await,
            Some((database, _)) => database.connect().await,
        }
    }

    /// Runs a command of the binary over the same index and objects, beside the server.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.pid());
        let launcher: &[&str] = if self.is_apart() { &["nsenter", &namespace] } else { &[] };
        let mut command = launched(launcher, folder.path());
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data())
            .envs(environment(self.shared.as_ref(), &self.settings));
        // the S3 server needs the threads of the runtime
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// Another process over the same index and objects.
    pub async fn another(&self) -> Binary {
        start(&self.folder, self.shared.as_ref(), &self.settings, &[]).await
    }

    /// Where its data are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Kills the process and loses its index; the objects stay.
    pub async fn lose_index(&mut self) {
        self.binary.kill();
        match &self.shared {
            None => {
                for file in ["index.sqlite3", "index.sqlite3-wal", "index.sqlite3-shm"] {
                    // the last two may not be there
                    let _ = std::fs::remove_file(self.data().join(file));
                }
            }
            Some((database, _)) => database.execute("drop schema public cascade; create schema public").await,
        }
    }

    /// Keeps a copy of the index, as a backup does.
    pub async fn save_index(&self) {
        let mut index = self.index().await;
        if self.shared.is_none() {
            // there may be one from before
            let _ = std::fs::remove_file(self.saved());
            return index.execute(&format!("vacuum into '{}'", self.saved().display())).await;
        }
        index.execute("drop schema if exists saved cascade; create schema saved").await;
        for table in TABLES {
            index.execute(&format!("create table saved.{table} as table public.{table}")).await;
        }
    }

    /// Kills the process and puts the copy in the place of its index.
    pub async fn restore_index(&mut self) {
        self.binary.kill();
        if self.shared.is_none() {
            self.lose_index().await;
            std::fs::copy(self.saved(), self.data().join("index.sqlite3")).unwrap();
            return;
        }
        let mut index = self.index().await;
        index.execute(&format!("truncate {} cascade", TABLES.join(", "))).await;
        for table in TABLES {
            index.execute(&format!("insert into {table} select * from saved.{table}")).await;
        }
        for table in NUMBERED {
            let next = format!("setval(pg_get_serial_sequence('{table}', 'id'), coalesce(max(id), 0) + 1, false)");
            index.execute(&format!("select {next} from {table}")).await;
        }
    }

    fn saved(&self) -> PathBuf {
        self.folder.path().join("saved.sqlite3")
    }

    /// Kills the process and starts another in its place.
    pub async fn restart(&mut self) {
        self.binary.kill();
        self.binary = start(&self.folder, self.shared.as_ref(), &self.settings, &self.launcher).await;
    }

    /// Kills the process and starts another in its place with settings, given by their variables; commands have them too.
    pub async fn restart_with(&mut self, settings: &[(&'static str, &str)]) {
        self.set(settings);
        self.restart().await;
    }

    /// From the next start on, and for commands.
    pub fn set(&mut self, settings: &[(&'static str, &str)]) {
        self.settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    }
}

impl Deref for TestServer {
    type Target = Binary;

    fn deref(&self) -> &Binary {
        &self.binary
    }
}

async fn listed(storage: &ObjectStorage) -> Vec<String> {
    let listed: Vec<_> = storage.list("studies").try_collect().await.unwrap();
    let mut keys: Vec<String> = listed.into_iter().map(|(key, _)| key.as_str().to_owned()).collect();
    keys.sort();
    keys
}

fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        // it may have been removed since it was listed
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

impl DerefMut for TestServer {
    fn deref_mut(&mut self) -> &mut Binary {
        &mut self.binary
    }
}

async fn start(
    folder: &TempDir,
    shared: Option<&(TestDatabase, S3Server)>,
    settings: &Settings,
    launcher: &[String],
) -> Binary {
    let data = folder.path().join("data");
    let environment = environment(shared, settings);
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
    Binary::start_by(&launcher, &data, &environment).await
}

/// The settings, and the variables that lead to back ends outside of the data folder.
fn environment(shared: Option<&(TestDatabase, S3Server)>, settings: &Settings) -> Vec<(&'static str, String)> {
    let Some((database, s3)) = shared else { return settings.clone() };
    let DatabaseUrl::Postgres(url) = &database.url else { panic!("a shared index is in PostgreSQL") };
    let mut environment: Vec<_> = s3.environment().map(|(name, value)| (name, value.to_owned())).to_vec();
    environment.extend([
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("ISOCENTER_DATABASE_URL", url.expose().to_owned()),
        ("ISOCENTER_STORAGE_URL", format!("s3://{BUCKET}/{PREFIX}")),
    ]);
    // the last one counts
    environment.extend(settings.iter().cloned());
    environment
}
