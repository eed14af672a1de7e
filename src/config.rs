//! The settings of the server by section: default < file < environment < flags, checked once.
//!
//! What each setting is called, where it comes from and how it is read stands in one table, `config/table.rs`;
//! this file owns the types, `config/load.rs` the layers.

mod load;
mod mask;
mod table;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use load::{Loaded, Source};
pub use mask::masked;
pub use units::{format_duration, format_size, parse_duration, parse_size};

use crate::error::{Error, Result};

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything lies that has no place of its own.
    pub data_dir: PathBuf,
    /// Listening and answering.
    pub server: ServerSettings,
    /// The index; `None` is `index.sqlite3` in the data folder.
    pub database_url: Option<DatabaseUrl>,
    /// How the index is used.
    pub database: DatabaseSettings,
    /// The objects; `None` is `objects` in the data folder.
    pub storage_url: Option<StorageUrl>,
    /// How the object store is used.
    pub storage: StorageSettings,
    /// What clients may send.
    pub limits: LimitSettings,
    /// What is stored, and what becomes of what is deleted.
    pub store: StoreSettings,
    /// The log.
    pub log: LogSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./isocenter-data"),
            server: ServerSettings::default(),
            database_url: None,
            database: DatabaseSettings::default(),
            storage_url: None,
            storage: StorageSettings::default(),
            limits: LimitSettings::default(),
            store: StoreSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Config {
    /// Where the index is.
    #[must_use]
    pub fn database_url(&self) -> DatabaseUrl {
        self.database_url.clone().unwrap_or_else(|| DatabaseUrl::Sqlite(self.data_dir.join("index.sqlite3")))
    }

    /// Where the objects are.
    #[must_use]
    pub fn storage_url(&self) -> StorageUrl {
        self.storage_url.clone().unwrap_or_else(|| StorageUrl::Folder(self.data_dir.join("objects")))
    }

    /// Whether anything lies in the data folder.
    #[must_use]
    pub fn uses_data_dir(&self) -> bool {
        self.database_url.is_none() || self.storage_url.is_none()
    }

    /// Refuses an address that others reach while nobody is asked who they are.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Configuration`], saying how to allow it.
    pub fn check_listener(&self) -> Result<()> {
        let address = self.server.listen;
        if address.ip().to_canonical().is_loopback() || self.server.allow_anonymous {
            return Ok(());
        }
        Err(Error::configuration(format!(
            "refusing to listen on `{address}` without authentication, because whoever reaches it could read and change \
             the archive; pass `--allow-anonymous` to allow that, or `--listen 127.0.0.1:{}`",
            address.port()
        )))
    }
}

/// Listening and answering.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The URL by which clients reach the server, where that is another than the listener's.
    pub public_url: Option<PublicUrl>,
    /// Answer everyone on an address that is not loopback.
    pub allow_anonymous: bool,
    /// Threads that answer requests.
    pub workers: usize,
    /// How long the head of a request may take.
    pub request_timeout: Duration,
    /// How long a body may stand still, in either direction.
    pub idle_timeout: Duration,
    /// Bytes per second that the body of a request must come to while it is waited for; 0 for any.
    pub least_rate: u64,
    /// Over how much waiting that is averaged.
    pub rate_window: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
    /// How long running requests may take at shutdown.
    pub shutdown_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            allow_anonymous: false,
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
            least_rate: 1 << 10,
            rate_window: Duration::from_mins(1),
            keep_alive: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

/// What clients may send.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// Bytes of one instance.
    pub instance_size: u64,
    /// Bytes of the body of one request.
    pub request_size: u64,
    /// How long the body of one request may take to come.
    pub request_time: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { instance_size: 16 << 30, request_size: 256 << 30, request_time: Duration::from_hours(24) }
    }
}

/// What is stored, and what becomes of what is deleted.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Another content under a known SOP Instance UID.
    pub duplicates: Duplicates,
    /// An instance whose Patient ID is not that of its study.
    pub other_patient: OtherPatient,
    /// Keywords or tags of attributes that an instance must have, with a value.
    pub required_attributes: Vec<String>,
    /// SOP Class UIDs that are stored; empty: all.
    pub sop_classes: Vec<String>,
    /// How long a delete can be taken back; so long the bytes are kept.
    pub undo_window: Duration,
    /// Rules that change attributes of what is stored, in the order in which they are applied.
    pub coercion: Vec<CoercionSetting>,
    /// How often a server removes what is to be erased and what killed processes left; zero: never.
    pub sweep_interval: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            duplicates: Duplicates::Reject,
            other_patient: OtherPatient::Warn,
            required_attributes: Vec::new(),
            sop_classes: Vec::new(),
            undo_window: Duration::from_hours(7 * 24),
            coercion: Vec::new(),
            sweep_interval: Duration::from_hours(1),
        }
    }
}

/// A rule that changes an attribute of what is stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoercionSetting {
    /// Its keyword or tag.
    pub attribute: String,
    /// What is done to it.
    pub action: CoercionAction,
    /// For `set`, `default` and `prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// For `map`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Only where these attributes have these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, String>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoercionAction {
    /// The attribute has the value.
    Set,
    /// It has the value where it has none.
    Default,
    /// A value that is listed becomes another.
    Map,
    /// A value that does not begin with it gets it in front.
    Prefix,
    /// It is left out.
    Remove,
}

/// What becomes of another content under a known SOP Instance UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// It is refused.
    Reject,
    /// What is stored stays; the new one is dropped with a warning.
    Ignore,
    /// It takes the place of what is stored, which can be taken back for a while.
    Replace,
    /// It takes the place of what is stored, which stays readable as an older version.
    Versions,
}

/// What becomes of an instance whose Patient ID is not that of its study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherPatient {
    /// It is stored.
    Accept,
    /// It is stored with a warning.
    Warn,
    /// It is refused.
    Reject,
}

/// The log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// From which level, by module: `info`, `warn,isocenter=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Where the index is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file, created when missing.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Secret),
}

impl DatabaseUrl {
    /// Reads `sqlite://path` or `postgres://…`.
    ///
    /// # Errors
    /// Says what would be accepted, without quoting what may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "must be `sqlite://path` or `postgres://user:password@host/database`";
        if let Some(path) = text.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        match text.split_once("://") {
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
                Ok(Self::Postgres(Secret::new(text.to_owned())))
            }
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

/// As a URL, its password masked.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(&masked(url.expose())),
        }
    }
}

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageUrl {
    /// A folder, created when missing.
    Folder(PathBuf),
    /// A bucket that exists, and a prefix without slashes at its ends (may be empty).
    S3 {
        /// Its name.
        bucket: String,
        /// What every key starts with.
        prefix: String,
    },
}

impl StorageUrl {
    /// Reads `file:///path` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// Says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("`{}` must be `file:///path` or `s3://bucket/prefix`", masked(text));
        if let Some(path) = text.strip_prefix("file://") {
            let path = Path::new(path);
            // `file://folder` would name a host; a relative path is told by its leading dot.
            let usable = path.is_absolute() || path.starts_with(".") || path.starts_with("..");
            return if usable { Ok(Self::Folder(path.to_owned())) } else { Err(expected()) };
        }
        let rest = text.strip_prefix("s3://").ok_or_else(expected)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named = !bucket.is_empty()
            && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !named {
            return Err(expected());
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The URL by which clients reach the server: scheme, host, port, prefix; no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    text: String,
    authority_end: usize,
}

impl PublicUrl {
    /// Reads `http(s)://host[:port][/prefix]`.
    ///
    /// # Errors
    /// Says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("`{}` must be `https://host/prefix` without user and query", masked(text));
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let scheme = scheme.to_ascii_lowercase();
        let plain =
            |text: &str, more: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
        if !matches!(scheme.as_str(), "http" | "https")
            || authority.is_empty()
            || !plain(authority, b".-_:[]")
            || !plain(path, b"/.-_~%")
        {
            return Err(expected());
        }
        let origin = format!("{scheme}://{}", authority.to_ascii_lowercase());
        let text = format!("{origin}{}", path.trim_end_matches('/'));
        Ok(Self { text, authority_end: origin.len() })
    }

    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host and port, as browsers write an `Origin`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.text[..self.authority_end]
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.origin().split_once("://").map_or("", |(_, authority)| authority)
    }

    /// What every path starts with; empty or with a leading slash.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.text[self.authority_end..]
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The index database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Most connections (PostgreSQL), most readers (SQLite).
    pub connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long one statement may run.
    pub statement_timeout: Duration,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self { connections: 16, acquire_timeout: Duration::from_secs(10), statement_timeout: Duration::from_mins(1) }
    }
}

/// The object store.
#[derive(Clone, Debug)]
pub struct StorageSettings {
    /// Bytes of all uploads together that may be held in memory.
    pub upload_buffer_bytes: u64,
    /// Largest piece handed to the back end at once; the part size of S3 multipart uploads.
    pub part_bytes: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { upload_buffer_bytes: 64 << 20, part_bytes: 8 << 20 }
    }
}

/// Whether an address means every address of the machine.
#[must_use]
pub fn is_wildcard(address: IpAddr) -> bool {
    address.to_canonical().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_urls_are_read_and_shown_without_their_password() {
        let cases = [
            ("sqlite://a/b.db", "sqlite://a/b.db"),
            ("sqlite:///abs/b.db", "sqlite:///abs/b.db"),
            ("postgres://host/db", "postgres://host/db"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("postgresql://me:pa@ss:word@host:5432/db", "postgresql://me:***@host:5432/db"),
            ("postgres:///db?host=/run&user=me&password=secret", "postgres:///db?host=/run&user=me&password=***"),
        ];
        for (text, shown) in cases {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
        }
        for text in ["", "sqlite://", "mysql://host", "postgres://", "/path", "host secret"] {
            let error = DatabaseUrl::parse(text).expect_err(text);
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn storage_urls_are_read_and_shown() {
        let cases = [
            ("file:///data/x", "file:///data/x"),
            ("file://./x", "file://./x"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ];
        for (text, shown) in cases {
            assert_eq!(StorageUrl::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "file://", "file://x", "s3://", "s3:///x", "s3://a b/x", "http://x", "/data"] {
            assert!(StorageUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn public_urls_come_apart() {
        let url = PublicUrl::parse("https://PACS.example:8443/isocenter/").unwrap();
        assert_eq!(url.as_str(), "https://pacs.example:8443/isocenter");
        assert_eq!(url.origin(), "https://pacs.example:8443");
        assert_eq!((url.authority(), url.prefix()), ("pacs.example:8443", "/isocenter"));
        assert_eq!(PublicUrl::parse("http://x/").unwrap().prefix(), "");
        for text in ["", "x", "/x", "ftp://x", "https://", "https://x?y", "https://x/#y", "https://me@x"] {
            assert!(PublicUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_loopback_is_listened_on_without_a_word() {
        let refused = |listen: &str, allow_anonymous| {
            let mut config = Config::default();
            config.server.listen = listen.parse().unwrap();
            config.server.allow_anonymous = allow_anonymous;
            config.check_listener().is_err()
        };
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(!refused(address, false), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[fe80::1]:1"] {
            assert!(refused(address, false), "{address}");
            assert!(!refused(address, true), "{address}");
        }
    }
}
