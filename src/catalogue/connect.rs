//! Opening the database: the settings of each connection, and what the operator is told when it cannot be opened.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqlitePool};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::database::{Database, Pools};
use super::failure::is_busy;
use crate::clock::Stopwatch;
use crate::config::{DatabaseSettings, DatabaseUrl, Secret};
use crate::error::{Error, Result};

/// Statements that stay prepared per connection; the texts are few, but inserts come in portions and searches in many forms.
const PREPARED: usize = 256;
/// For how long an opening connection waits that found a lock on the file.
const BUSY: Duration = Duration::from_millis(20);
/// A connection to PostgreSQL that lay idle for longer is tried before it is used, so that a restart of the server costs nobody an error.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Connects, and says in one line what to do when that fails.
pub(super) async fn connect(url: &DatabaseUrl, settings: &DatabaseSettings) -> Result<Database> {
    let (pools, place) = match url {
        DatabaseUrl::Sqlite(path) => (sqlite(path, settings).await?, path.display().to_string()),
        DatabaseUrl::Postgres(url) => postgres(url, settings).await?,
    };
    Ok(database_of(pools, &place, settings))
}

/// The same for who only reads: a file that may not be written is opened as it lies there.
pub(super) async fn connect_to_read(url: &DatabaseUrl, settings: &DatabaseSettings) -> Result<Database> {
    match url {
        DatabaseUrl::Sqlite(path) if is_read_only(path) => {
            Ok(database_of(sqlite_to_read(path, settings).await?, &path.display().to_string(), settings))
        }
        _ => connect(url, settings).await,
    }
}

fn database_of(pools: Pools, place: &str, settings: &DatabaseSettings) -> Database {
    Database {
        pools,
        place: place.into(),
        runtime: Handle::current(),
        statement_timeout: settings.statement_timeout,
        patience: settings.statement_timeout.saturating_add(settings.acquire_timeout),
    }
}

/// Whether a file is there that may be read and not written.
fn is_read_only(path: &Path) -> bool {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(path);
    opened
        .is_err_and(|error| matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
}

/// Pools that only read a file which nobody may write here. A write-ahead log is read by its index in shared memory; where there is
/// neither, as the last process that wrote has closed the file, nothing changes it, and SQLite is told so, for it would want to
/// make both.
async fn sqlite_to_read(path: &Path, settings: &DatabaseSettings) -> Result<Pools> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        Path::new(&name).exists()
    };
    // of an archive that lives, one of the two is there
    let merged = !beside("-wal") && !beside("-shm");
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(merged)
        .busy_timeout(settings.acquire_timeout)
        .statement_cache_capacity(PREPARED)
        .pragma("temp_store", "memory")
        .pragma("query_only", "on")
        .disable_statement_logging();
    // tried at once, so that it can be said what is wrong
    let tried = async {
        let mut connection = options.connect().await?;
        sqlx::query("select count(*) from sqlite_schema").execute(&mut connection).await?;
        connection.close().await
    };
    tried.await.map_err(|error| not_readable(path, merged, error))?;
    let pool = |connections: u32| {
        SqlitePoolOptions::new()
            .acquire_timeout(settings.acquire_timeout)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .max_connections(connections)
            .connect_lazy_with(options.clone())
    };
    Ok(Pools::Sqlite { writer: pool(1), readers: pool(settings.connections.max(1)) })
}

fn not_readable(path: &Path, merged: bool, error: sqlx::Error) -> Error {
    let hint = if merged {
        "check that it is a SQLite database"
    } else {
        "its write-ahead log `-wal` was not merged, which takes a copy that may be written, or one of an archive whose servers had stopped"
    };
    Error::configuration(format!("cannot read the index `{}` ({error}); {hint}", path.display())).caused_by(error)
}

async fn sqlite(path: &Path, settings: &DatabaseSettings) -> Result<Pools> {
    let file = path.to_owned();
    let prepared = tokio::task::spawn_blocking(move || create_file(&file)).await;
    prepared
        .map_err(|error| Error::internal("creating the index panicked").caused_by(error))?
        .map_err(|(place, error)| cannot_write(&place, error))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(settings.acquire_timeout)
        .statement_cache_capacity(PREPARED)
        // pages are not mapped: reads gain nothing measurable by it, an error of the disk would kill the process, and its memory would
        // look to grow with the index; each connection keeps little, the system caches the rest
        .pragma("temp_store", "memory")
        // a checkpoint every 16 MiB instead of 4, and no log kept that a burst blew up
        .pragma("wal_autocheckpoint", "4096")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging();
    let pool = || {
        SqlitePoolOptions::new()
            .acquire_timeout(settings.acquire_timeout)
            // a connection to a file does not go stale
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let one = options.clone().pragma("cache_size", "-8192").thread_name(|_| "index-writer".to_owned());
    let waited = Stopwatch::start();
    let writer: SqlitePool = loop {
        match pool().max_connections(1).connect_with(one.clone()).await {
            // of two that begin the log of a new file at the same time one is refused at once: they would wait for each other
            Err(error) if is_busy(&error) && waited.elapsed() < settings.acquire_timeout => sleep(BUSY).await,
            opened => break opened.map_err(|error| not_an_index(path, error))?,
        }
    };
    let readers = pool().max_connections(settings.connections.max(1)).connect_lazy_with(
        options.pragma("cache_size", "-512").pragma("query_only", "on").thread_name(|n| format!("index-reader-{n}")),
    );
    Ok(Pools::Sqlite { writer, readers })
}

/// Creates the file and its folders where they are missing, for the eyes of this user alone, and makes their names durable.
fn create_file(path: &Path) -> std::result::Result<(), (PathBuf, io::Error)> {
    let path = std::path::absolute(path).map_err(|error| (path.to_owned(), error))?;
    let Some(folder) = path.parent() else { return Ok(()) };
    create_folder(folder)?;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let fresh = !path.exists();
    options.open(&path).map_err(|error| (path.clone(), error))?;
    if fresh {
        sync_folder(folder).map_err(|error| (folder.to_owned(), error))?;
    }
    Ok(())
}

fn create_folder(folder: &Path) -> std::result::Result<(), (PathBuf, io::Error)> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(folder);
    if parent != folder {
        create_folder(parent)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        // another process was faster
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err((folder.to_owned(), error)),
        Ok(()) => sync_folder(parent).map_err(|error| (parent.to_owned(), error)),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn cannot_write(place: &Path, error: io::Error) -> Error {
    Error::configuration(format!(
        "cannot create or write `{}` for the index ({error}); check its permissions or choose another place with `--data-dir` or `--database-url`",
        place.display()
    ))
    .caused_by(error)
}

fn not_an_index(path: &Path, error: sqlx::Error) -> Error {
    Error::configuration(format!(
        "cannot open the index `{}` ({error}); check that it is a SQLite database and that this user may write it and its folder",
        path.display()
    ))
    .caused_by(error)
}

/// Refuses an address that nothing could be reached by.
pub(super) fn check(url: &DatabaseUrl) -> Result<()> {
    match url {
        DatabaseUrl::Sqlite(_) => Ok(()),
        DatabaseUrl::Postgres(url) => postgres_address(url).map(drop),
    }
}

fn postgres_address(url: &Secret) -> Result<PgConnectOptions> {
    // the cause is not kept: it may quote the address with its password
    PgConnectOptions::from_str(url.expose()).map_err(|_| {
        Error::configuration(
            "`--database-url` is not an address of PostgreSQL; write `postgres://user:password@host:port/database`",
        )
    })
}

async fn postgres(url: &Secret, settings: &DatabaseSettings) -> Result<(Pools, String)> {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let options = postgres_address(url)?
        .application_name("isocenter")
        .statement_cache_capacity(PREPARED)
        .options([
            ("statement_timeout", milliseconds(settings.statement_timeout)),
            ("idle_in_transaction_session_timeout", milliseconds(settings.statement_timeout)),
            ("synchronous_commit", "on".to_owned()),
        ])
        .disable_statement_logging();
    let place = match options.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    check_postgres(&place, &options, settings).await?;
    let place = format!("{place}/{}", database(&options));
    let tried_for = settings.acquire_timeout / 4;
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections.max(1))
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(move |connection, about| {
            Box::pin(async move {
                if about.idle_for > TRUSTED_FOR {
                    let late = |_| sqlx::Error::PoolTimedOut;
                    // there is time for another connection when this one is silent
                    tokio::time::timeout(tried_for, connection.ping()).await.map_err(late)??;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options);
    Ok((Pools::Postgres(pool), place))
}

/// One connection outside of the pool, which would only say after its time limit that it has none.
async fn check_postgres(place: &str, options: &PgConnectOptions, settings: &DatabaseSettings) -> Result<()> {
    let mut connection = match tokio::time::timeout(settings.acquire_timeout, options.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(refused(place, options, error)),
        Err(_) => return Err(unreachable_at(place)),
    };
    let encoding: String = sqlx::query_scalar("select current_setting('server_encoding')")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| refused(place, options, error))?;
    if encoding != "UTF8" {
        return Err(Error::configuration(format!(
            "the database `{}` at {place} has the encoding {encoding}; isocenter needs UTF8, create one with `createdb -E UTF8 -T template0`",
            database(options)
        )));
    }
    // the server notices by itself if this does not arrive
    let _ = connection.close().await;
    Ok(())
}

fn database(options: &PgConnectOptions) -> &str {
    options.get_database().unwrap_or(options.get_username())
}

fn unreachable_at(place: &str) -> Error {
    Error::configuration(format!(
        "the index database at {place} cannot be reached; check that PostgreSQL runs there and that `--database-url` names its host and port"
    ))
}

fn refused(place: &str, options: &PgConnectOptions, error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    let user = options.get_username();
    let name = database(options);
    match code.as_deref() {
        // invalid_authorization_specification, invalid_password
        Some("28000" | "28P01") => Error::configuration(format!(
            "PostgreSQL at {place} refused the user `{user}`; check user and password in `--database-url`"
        )),
        // invalid_catalog_name
        Some("3D000") => Error::configuration(format!(
            "PostgreSQL at {place} has no database `{name}`; create it with `createdb -E UTF8 -T template0 {name}`"
        )),
        Some(_) => Error::configuration(format!("PostgreSQL at {place} refused the connection: {error}")),
        None => unreachable_at(place),
    }
    .caused_by(error)
}
