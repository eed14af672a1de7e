//! Databases for tests: a SQLite file, or a database of its own in a PostgreSQL cluster.
//!
//! `ISOCENTER_TEST_POSTGRES` names a running cluster by the URL of a superuser; without it a cluster is started from
//! Debian's binaries, once per process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use isocenter::catalogue::Catalogue;
use isocenter::config::{DatabaseSettings, DatabaseUrl, Secret};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// The two back ends of the suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A database of one test, removed with it.
pub struct TestDatabase {
    pub url: DatabaseUrl,
    name: Option<String>,
    _folder: Option<TempDir>,
}

impl TestDatabase {
    /// An empty database.
    pub async fn create(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = DatabaseUrl::Sqlite(folder.path().join("index.sqlite3"));
                Self { url, name: None, _folder: Some(folder) }
            }
            Backend::Postgres => {
                let name = format!("isocenter_{}", uuid::Uuid::new_v4().simple());
                administrate(&format!("create database {name} encoding 'UTF8' template template0")).await;
                let url = DatabaseUrl::Postgres(Secret::new(postgres_url(&name)));
                Self { url, name: Some(name), _folder: None }
            }
        }
    }

    /// A SQLite file that another owns.
    pub fn at(path: PathBuf) -> Self {
        Self { url: DatabaseUrl::Sqlite(path), name: None, _folder: None }
    }

    /// A migrated catalogue over it.
    pub async fn open(&self) -> Catalogue {
        let catalogue = Catalogue::open(&self.url, &DatabaseSettings::default()).await.expect("the database opens");
        catalogue.migrate().await.expect("the migrations apply");
        catalogue
    }

    /// A connection past the catalogue.
    pub async fn connect(&self) -> Session {
        match &self.url {
            DatabaseUrl::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                Session::Sqlite(SqliteConnection::connect_with(&options).await.expect("the file opens"))
            }
            DatabaseUrl::Postgres(url) => {
                Session::Postgres(PgConnection::connect(url.expose()).await.expect("PostgreSQL answers"))
            }
        }
    }

    /// Runs statements past the catalogue.
    pub async fn execute(&self, text: &str) {
        self.connect().await.execute(text).await;
    }

    /// The rows of a query past the catalogue, columns joined by spaces. All columns must be texts.
    pub async fn query(&self, text: &str) -> Vec<String> {
        self.connect().await.query(text).await
    }
}

/// A connection past the catalogue.
pub enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Session {
    /// Runs statements.
    pub async fn execute(&mut self, text: &str) {
        let text = AssertSqlSafe(text.to_owned());
        let done = match self {
            Self::Sqlite(connection) => sqlx::raw_sql(text).execute(connection).await.map(|_| ()),
            Self::Postgres(connection) => sqlx::raw_sql(text).execute(connection).await.map(|_| ()),
        };
        done.expect("the statements run");
    }

    /// The rows of a query, columns joined by spaces. All columns must be texts.
    pub async fn query(&mut self, text: &str) -> Vec<String> {
        let text = AssertSqlSafe(text.to_owned());
        match self {
            Self::Sqlite(connection) => {
                connection.fetch_all(text).await.expect("the query runs").iter().map(texts).collect()
            }
            Self::Postgres(connection) => {
                connection.fetch_all(text).await.expect("the query runs").iter().map(texts).collect()
            }
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        // dropping is not async, and the runtime of the test may be ending
        let drop_database = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(administrate(&format!("drop database if exists {name} with (force)")));
        };
        let _ = std::thread::spawn(drop_database).join();
    }
}

fn texts<R: sqlx::Row>(row: &R) -> String
where
    usize: sqlx::ColumnIndex<R>,
    String: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    (0..row.len()).map(|column| row.get::<String, _>(column)).collect::<Vec<_>>().join(" ")
}

/// Runs a statement as the superuser of the cluster.
pub async fn administrate(statement: &str) {
    let mut connection = PgConnection::connect(&postgres_url("postgres")).await.expect("PostgreSQL answers");
    connection.execute(AssertSqlSafe(statement.to_owned())).await.expect("the statement runs");
}

/// The URL of a database in the cluster of the tests.
pub fn postgres_url(database: &str) -> String {
    static URL: OnceLock<String> = OnceLock::new();
    let url = URL.get_or_init(|| std::env::var("ISOCENTER_TEST_POSTGRES").unwrap_or_else(|_| start_cluster()));
    let (address, query) = url.split_once('?').map_or((url.as_str(), String::new()), |(a, q)| (a, format!("?{q}")));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    format!("{}/{database}{query}", &address[..end])
}

/// Starts a cluster in a temporary folder; its URL. A shell stops and removes it when this process ends, however it ends:
/// then the shell's input is closed.
fn start_cluster() -> String {
    static KEPT_OPEN: Mutex<Option<Child>> = Mutex::new(None);
    let binaries = binaries();
    let folder = tempfile::Builder::new().prefix("isocenter-postgres-").tempdir().expect("a temporary folder").keep();
    let user = server_user();
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).expect("the folder can be given away");
    }
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let script = r#"
        trap '' INT
        "$1/initdb" -E UTF8 --locale=C.UTF-8 -A trust -U postgres -N -D "$2/data" >"$2/log" 2>&1 || exit 1
        "$1/postgres" -D "$2/data" -k "$2" -p "$3" -c listen_addresses=127.0.0.1 -c max_connections=300 >>"$2/log" 2>&1 &
        until "$1/pg_isready" -q -h 127.0.0.1 -p "$3" || ! kill -0 $!; do sleep 0.05; done
        echo ready
        read -r _
        kill -QUIT $! && wait $!
        rm -rf "$2"
    "#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(&binaries).arg(&folder).arg(port.to_string());
    command.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let mut shell = command.spawn().expect("a shell starts");
    let mut answer = String::new();
    let output = shell.stdout.take().expect("its output is piped");
    BufReader::new(output).read_line(&mut answer).expect("the shell answers");
    assert_eq!(answer.trim(), "ready", "PostgreSQL did not start; see {}/log", folder.display());
    *KEPT_OPEN.lock().expect("nobody panicked here") = Some(shell);
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// The newest binaries of Debian's packages.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).collect();
    found.sort();
    found.pop().expect(
        "no PostgreSQL in /usr/lib/postgresql: install the package `postgresql`, or name a running cluster by \
         ISOCENTER_TEST_POSTGRES=postgres://superuser@host:port/postgres",
    )
}

/// PostgreSQL refuses to run as root: then it runs as the user that Debian's package made.
fn server_user() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find(|line| line.starts_with("postgres:")).filter(|_| root)?;
    let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}
