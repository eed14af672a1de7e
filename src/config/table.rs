//! The table of all settings: name in the file, environment variable, flag, how it is read, how it is shown.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::{CoercionSetting, Config, DatabaseUrl, Duplicates, LogFormat, OtherPatient, PublicUrl, StorageUrl, masked};

/// One setting.
pub(super) struct Setting {
    /// In the file, with its section: `server.listen`.
    pub(super) key: &'static str,
    /// Environment variable.
    pub(super) variable: &'static str,
    /// Flag, where it has one.
    pub(super) flag: Option<&'static str>,
    /// Reads its text into the settings.
    pub(super) read: fn(&mut Config, &str) -> Result<(), String>,
    /// Its value as TOML, secrets masked; `None` when it is not set and has no default.
    pub(super) show: fn(&Config) -> Option<String>,
}

macro_rules! setting {
    ($key:literal, $variable:literal, $flag:expr, $field:ident $(. $more:ident)*, $parse:expr, $show:expr) => {
        Setting {
            key: $key,
            variable: $variable,
            flag: $flag,
            read: |config, text| {
                config.$field$(.$more)* = $parse(text)?;
                Ok(())
            },
            show: |config| $show(&config.$field$(.$more)*),
        }
    };
}

/// All settings in the order in which they are shown; those of a section stand together.
pub(super) static SETTINGS: &[Setting] = &[
    setting!("data_dir", "ISOCENTER_DATA_DIR", Some("--data-dir"), data_dir, path, |value: &PathBuf| {
        quoted(&value.display())
    }),
    setting!("server.listen", "ISOCENTER_LISTEN", Some("--listen"), server.listen, address, quoted),
    setting!(
        "server.public_url",
        "ISOCENTER_PUBLIC_URL",
        Some("--public-url"),
        server.public_url,
        |text: &str| PublicUrl::parse(text).map(Some),
        |value: &Option<PublicUrl>| value.as_ref().and_then(|url| quoted(&url.as_str()))
    ),
    setting!(
        "server.allow_anonymous",
        "ISOCENTER_ALLOW_ANONYMOUS",
        Some("--allow-anonymous"),
        server.allow_anonymous,
        boolean,
        plain
    ),
    setting!("server.workers", "ISOCENTER_SERVER_WORKERS", None, server.workers, |text| whole(text, 1, 1024), plain),
    setting!(
        "server.request_timeout",
        "ISOCENTER_SERVER_REQUEST_TIMEOUT",
        None,
        server.request_timeout,
        timer,
        duration
    ),
    setting!(
        "server.idle_timeout",
        "ISOCENTER_SERVER_IDLE_TIMEOUT",
        None,
        server.idle_timeout,
        positive_duration,
        duration
    ),
    setting!("server.least_rate", "ISOCENTER_SERVER_LEAST_RATE", None, server.least_rate, |text| size(text, 0), bytes),
    setting!(
        "server.rate_window",
        "ISOCENTER_SERVER_RATE_WINDOW",
        None,
        server.rate_window,
        positive_duration,
        duration
    ),
    setting!("server.keep_alive", "ISOCENTER_SERVER_KEEP_ALIVE", None, server.keep_alive, timer, duration),
    setting!(
        "server.shutdown_timeout",
        "ISOCENTER_SERVER_SHUTDOWN_TIMEOUT",
        None,
        server.shutdown_timeout,
        parse_duration,
        duration
    ),
    Setting {
        key: "database.url",
        variable: "ISOCENTER_DATABASE_URL",
        flag: Some("--database-url"),
        read: |config, text| {
            config.database_url = Some(DatabaseUrl::parse(text)?);
            Ok(())
        },
        show: |config| quoted(&config.database_url()),
    },
    setting!(
        "database.connections",
        "ISOCENTER_DATABASE_CONNECTIONS",
        None,
        database.connections,
        |text| whole(text, 1, 10_000),
        plain
    ),
    setting!(
        "database.acquire_timeout",
        "ISOCENTER_DATABASE_ACQUIRE_TIMEOUT",
        None,
        database.acquire_timeout,
        positive_duration,
        duration
    ),
    setting!(
        "database.statement_timeout",
        "ISOCENTER_DATABASE_STATEMENT_TIMEOUT",
        None,
        database.statement_timeout,
        positive_duration,
        duration
    ),
    Setting {
        key: "storage.url",
        variable: "ISOCENTER_STORAGE_URL",
        flag: Some("--storage-url"),
        read: |config, text| {
            config.storage_url = Some(StorageUrl::parse(text)?);
            Ok(())
        },
        show: |config| quoted(&config.storage_url()),
    },
    setting!(
        "storage.upload_buffer",
        "ISOCENTER_STORAGE_UPLOAD_BUFFER",
        None,
        storage.upload_buffer_bytes,
        |text| size(text, 8 << 20),
        bytes
    ),
    setting!(
        "storage.part_size",
        "ISOCENTER_STORAGE_PART_SIZE",
        None,
        storage.part_bytes,
        // S3 takes no smaller part but the last.
        |text| size(text, 5 << 20),
        bytes
    ),
    setting!(
        "limits.instance_size",
        "ISOCENTER_LIMITS_INSTANCE_SIZE",
        None,
        limits.instance_size,
        |text| size(text, 1),
        bytes
    ),
    setting!(
        "limits.request_size",
        "ISOCENTER_LIMITS_REQUEST_SIZE",
        None,
        limits.request_size,
        |text| size(text, 1),
        bytes
    ),
    setting!(
        "limits.request_time",
        "ISOCENTER_LIMITS_REQUEST_TIME",
        None,
        limits.request_time,
        positive_duration,
        duration
    ),
    setting!(
        "store.duplicates",
        "ISOCENTER_STORE_DUPLICATES",
        None,
        store.duplicates,
        |text| one_of(text, DUPLICATES),
        |value| name_of(value, DUPLICATES)
    ),
    setting!(
        "store.other_patient",
        "ISOCENTER_STORE_OTHER_PATIENT",
        None,
        store.other_patient,
        |text| one_of(text, OTHER_PATIENT),
        |value| name_of(value, OTHER_PATIENT)
    ),
    setting!(
        "store.required_attributes",
        "ISOCENTER_STORE_REQUIRED_ATTRIBUTES",
        None,
        store.required_attributes,
        list,
        show_list
    ),
    setting!("store.sop_classes", "ISOCENTER_STORE_SOP_CLASSES", None, store.sop_classes, list, show_list),
    setting!("store.coercion", "ISOCENTER_STORE_COERCION", None, store.coercion, rules, show_rules),
    setting!("store.undo_window", "ISOCENTER_STORE_UNDO_WINDOW", None, store.undo_window, parse_duration, duration),
    setting!(
        "store.sweep_interval",
        "ISOCENTER_STORE_SWEEP_INTERVAL",
        None,
        store.sweep_interval,
        parse_duration,
        duration
    ),
    setting!("log.format", "ISOCENTER_LOG_FORMAT", None, log.format, log_format, |value: &LogFormat| {
        quoted(&match value {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }),
    setting!("log.level", "ISOCENTER_LOG", None, log.level, log_level, quoted),
];

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it must name a folder".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        format!("`{}` must be an address and a port such as `127.0.0.1:8080` or `[::1]:8080`", masked(text))
    })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("`{text}` must be `true` or `false`")),
    }
}

fn whole<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    let value = text.trim().parse::<u64>().ok().filter(|value| (least..=most).contains(value));
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("`{text}` must be a whole number from {least} to {most}"))
}

fn size(text: &str, least: u64) -> Result<u64, String> {
    let value = parse_size(text)?;
    if value < least { Err(format!("`{text}` must be at least {}", format_size(least))) } else { Ok(value) }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let value = parse_duration(text)?;
    if value.is_zero() { Err(format!("`{text}` must be longer than nothing")) } else { Ok(value) }
}

/// A time that is measured by a clock of half a second: a shorter one might never ring.
fn timer(text: &str) -> Result<Duration, String> {
    let value = parse_duration(text)?;
    if value < Duration::from_secs(1) { Err(format!("`{text}` must be at least 1s")) } else { Ok(value) }
}

/// The words of a setting and what they mean.
type Words<T> = &'static [(&'static str, T)];

const DUPLICATES: Words<Duplicates> = &[
    ("reject", Duplicates::Reject),
    ("ignore", Duplicates::Ignore),
    ("replace", Duplicates::Replace),
    ("versions", Duplicates::Versions),
];

const OTHER_PATIENT: Words<OtherPatient> =
    &[("accept", OtherPatient::Accept), ("warn", OtherPatient::Warn), ("reject", OtherPatient::Reject)];

fn one_of<T: Copy>(text: &str, words: Words<T>) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("`{text}` must be one of {}", known.join(", "))
    })
}

fn name_of<T: PartialEq>(value: &T, words: Words<T>) -> Option<String> {
    words.iter().find(|(_, known)| known == value).and_then(|(word, _)| quoted(word))
}

/// Texts between commas or blanks; the file may have them as an array too.
#[allow(clippy::unnecessary_wraps, reason = "the shape of a column of the table")]
fn list(text: &str) -> Result<Vec<String>, String> {
    let words = text.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}

fn show_list(value: &impl AsRef<[String]>) -> Option<String> {
    plain(&toml::Value::from(value.as_ref().to_vec()))
}

/// Rules as TOML has them in one line.
fn rules(text: &str) -> Result<Vec<CoercionSetting>, String> {
    const EXPECTED: &str = "a rule has an `attribute`, an `action` (`set`, `default`, `map`, `prefix` or `remove`), and a `value`, \
                            `values` or `when`: [{ attribute = \"PatientID\", action = \"prefix\", value = \"H-\" }]";
    #[derive(serde::Deserialize)]
    struct Rules {
        rules: Vec<CoercionSetting>,
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let read = toml::from_str::<Rules>(&format!("rules = {text}"));
    read.map(|read| read.rules).map_err(|error| format!("{}; {EXPECTED}", error.message().replace('\n', " ")))
}

fn show_rules(value: &impl AsRef<[CoercionSetting]>) -> Option<String> {
    toml::Value::try_from(value.as_ref()).ok().map(|value| value.to_string())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` must be `auto`, `human` or `json`")),
    }
}

/// A level, or levels by module. The parser of filters takes any other word for the name of a module of which everything is
/// wanted, so a misspelled level would silence the log.
fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let has_level = |directive: &str| {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known))
    };
    let known = text.split(',').all(has_level);
    match text.parse::<tracing_subscriber::filter::EnvFilter>() {
        Ok(_) if known => Ok(text.to_owned()),
        _ => Err(format!(
            "`{text}` must be `off`, `error`, `warn`, `info`, `debug` or `trace`, or have one for each module such as \
             `warn,isocenter=debug`"
        )),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the shape of a column of the table")]
fn plain(value: &impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn quoted(value: &impl ToString) -> Option<String> {
    plain(&toml::Value::String(value.to_string()))
}

fn duration(value: &Duration) -> Option<String> {
    quoted(&format_duration(*value))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape of a column of the table")]
fn bytes(value: &u64) -> Option<String> {
    quoted(&format_size(*value))
}
