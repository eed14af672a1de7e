//! The real binary: what it says in one line and how it ends when it cannot do what it is told.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary in an empty folder and without settings in its environment.
pub(crate) fn isocenter(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isocenter"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ISOCENTER_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it and expects one line of error and exit status 2.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = isocenter(folder, arguments).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(error.starts_with("error: ") && error.ends_with('\n') && error.lines().count() == 1, "{error}");
    error
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_taken_port_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = refused(folder.path(), &["serve", "--listen", &address.to_string()]);
    assert!(error.contains(&format!("port {} of 127.0.0.1 is taken", address.port())), "{error}");
    assert!(error.contains("--listen"), "{error}");
    assert!(!folder.path().join("isocenter-data").exists(), "the data folder was touched");
}

#[test]
fn a_folder_that_cannot_be_made_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let error = refused(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--data-dir", "file/data"]);
    assert!(error.contains("cannot create the data folder `file/data`") && error.contains("--data-dir"), "{error}");
}

#[test]
fn an_unknown_setting_is_told_with_the_one_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), "[server]\nlisten_address = \"x\"\nlisen = \"y\"\n").unwrap();
    let error = refused(folder.path(), &["--config", "settings.toml"]);
    assert!(error.contains("unknown setting `server.lis"), "{error}");
    std::fs::write(folder.path().join("settings.toml"), "[databse]\nurl = \"sqlite://x\"\n").unwrap();
    let error = refused(folder.path(), &["serve", "--config", "settings.toml"]);
    assert!(
        error.contains("unknown setting `databse.url` in `settings.toml`; did you mean `database.url`?"),
        "{error}"
    );
}

#[test]
fn an_open_address_needs_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path(), &["--listen", "0.0.0.0:0"]);
    assert!(error.contains("without authentication") && error.contains("--allow-anonymous"), "{error}");
    assert!(!folder.path().join("isocenter-data").exists());
}

#[test]
fn a_bad_value_names_its_flag_or_variable() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path(), &["--database-url", "mysql://me:secret@host"]);
    assert!(error.contains("`--database-url`") && !error.contains("secret"), "{error}");
    let output = isocenter(folder.path(), &["serve"]).env("ISOCENTER_STORAGE_URL", "ftp://x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`ISOCENTER_STORAGE_URL`"));
}

#[test]
fn a_mistake_in_the_command_is_told_once_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let error = refused(folder.path(), &["store", "--to", "http://", "file"]);
    assert!(error.contains("`--to http://`"), "{error}");
    let error = refused(folder.path(), &["config", "--storage-url", "s3://KEY:SECRET@b/p"]);
    assert!(error.contains("`--storage-url`: `s3://KEY:***@b/p` must be"), "{error}");
    let output = isocenter(folder.path(), &["sample", "file/x"]).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("name a folder") && error.matches("os error").count() == 1, "{error}");
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, table) in [("a.db", "studies"), ("b.db", "_sqlx_migrations"), ("c.db", "songs")] {
        make_table(&folder.path().join(name), table);
        let url = format!("sqlite://{name}");
        for command in [&["migrate"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let error = refused(folder.path(), &[command, &["--database-url", &url]].concat());
            assert!(error.contains("not an index of isocenter") && error.contains("--database-url"), "{error}");
        }
    }
}

fn make_table(file: &Path, table: &str) {
    use sqlx::ConnectOptions as _;

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        let statement = sqlx::AssertSqlSafe(format!("create table {table} (version integer)"));
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    });
}

#[test]
fn wrong_usage_ends_with_status_two() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--lisen", "x"][..], &["fly"], &["serve", "--allow-anonymous=maybe"]] {
        let output = isocenter(folder.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: "));
    }
}

#[test]
fn help_and_version_teach() {
    let folder = tempfile::tempdir().unwrap();
    let help = ok(&isocenter(folder.path(), &["--help"]).output().unwrap());
    for word in ["Examples:", "ISOCENTER_", "serve", "migrate", "config", "Exit status"] {
        assert!(help.contains(word), "{word}");
    }
    let version = ok(&isocenter(folder.path(), &["--version"]).output().unwrap());
    assert_eq!(version, concat!("isocenter ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_settings_are_printed_with_their_sources_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.toml"), "[limits]\ninstance_size = \"1 GiB\"\n").unwrap();
    let output = isocenter(folder.path(), &["config", "--config", "settings.toml", "--listen", "127.0.0.1:9"])
        .env("ISOCENTER_DATABASE_URL", "postgres://me:secret@host/db")
        .output()
        .unwrap();
    let printed = ok(&output);
    for line in [
        "listen = \"127.0.0.1:9\"  # --listen",
        "url = \"postgres://me:***@host/db\"  # ISOCENTER_DATABASE_URL",
        "instance_size = \"1 GiB\"  # settings.toml",
        "level = \"info\"  # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    assert!(!printed.contains("secret"));
}

#[test]
fn the_first_index_is_made_by_a_server_and_there_is_nothing_to_migrate() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = isocenter(folder.path(), &["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    // The process is waited for below, so its id is still its own.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(ok(&isocenter(folder.path(), &["migrate"]).output().unwrap()).contains("nothing to do"));
    // an archive without objects, but one with an index
    ok(&isocenter(folder.path(), &["reindex"]).output().unwrap());
}

#[test]
fn a_mistyped_data_folder_stays_unmade() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.sqlite3"), b"").unwrap();
    for command in [&["reindex"][..], &["verify"], &["sweep"], &["restore", "1.2"], &["migrate"]] {
        let error = refused(folder.path(), &[command, &["--data-dir", "typo/data"]].concat());
        assert!(error.contains("there is no archive in `typo/data`") && error.contains("--data-dir"), "{error}");
        assert_eq!(error.contains("isocenter serve"), matches!(command[0], "migrate" | "reindex"), "{error}");
        let empty = ["--data-dir", "typo", "--database-url", "sqlite://empty.sqlite3"];
        let error = refused(folder.path(), &[command, &empty].concat());
        assert!(error.contains("there is no archive in ") && error.contains("empty.sqlite3"), "{error}");
    }
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| !name.to_string_lossy().starts_with("empty.sqlite3"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_server_tells_where_it_listens_and_ends_well_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = isocenter(folder.path(), &["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut banner = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut banner).unwrap();
    let url = banner.trim_end().split(' ').next_back().unwrap();
    let port = url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.strip_suffix("/dicom-web"));
    assert!(port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0)), "{banner}");
    // The process is waited for below, so its id is still its own.
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for line in text(&output.stderr).lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("without a terminal every line of the log is JSON");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["isocenter-data"], "the server writes nothing elsewhere");
}
