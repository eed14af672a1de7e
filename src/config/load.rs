//! Puts the layers together: default < file < environment < flags. The only reader of the environment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Config;
use super::table::{SETTINGS, Setting};
use crate::error::{Error, Result};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The settings file.
    File,
    /// An environment variable.
    Environment,
    /// The command line.
    Flag,
    /// A server of the archive.
    Archive,
}

/// The settings on which the commands that look after an archive and its servers have to agree.
const SHARED: [&str; 2] = ["store.duplicates", "store.undo_window"];

/// The settings and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    file: Option<PathBuf>,
    sources: BTreeMap<&'static str, Source>,
}

/// The environment variable that names the file.
const FILE_VARIABLE: &str = "ISOCENTER_CONFIG";
/// What every variable starts with.
const PREFIX: &str = "ISOCENTER_";

impl Loaded {
    /// Reads the settings of this process: the file that `--config` or `ISOCENTER_CONFIG` names, the environment, and flags as
    /// pairs of name and text.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Configuration`] naming the setting and what would be accepted.
    pub fn from_process(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self::from_layers(file, &environment, flags)
    }

    /// The same with an environment of one's own.
    ///
    /// # Errors
    /// As [`Loaded::from_process`].
    pub fn from_layers(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        flags: &[(&str, String)],
    ) -> Result<Self> {
        let file = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
        check_variables(environment)?;
        let mut loaded = Self { config: Config::default(), file, sources: BTreeMap::new() };
        if let Some(file) = loaded.file.clone() {
            loaded.read_file(&file)?;
        }
        for setting in SETTINGS {
            if let Some(text) = environment.get(setting.variable) {
                loaded.apply(setting, text, Source::Environment, setting.variable)?;
            }
        }
        for (flag, text) in flags {
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.flag == Some(flag)) {
                loaded.apply(setting, text, Source::Flag, flag)?;
            }
        }
        Ok(loaded)
    }

    /// Takes what servers of the archive are set to ([`Config::shared`]) where nothing else is said here; the names of those of
    /// which something else is.
    ///
    /// # Errors
    /// A value that this version cannot read.
    pub fn adopt(&mut self, servers: &BTreeMap<String, String>) -> Result<Vec<&'static str>> {
        let own = self.config.shared();
        let mut others = Vec::new();
        for setting in shared() {
            match servers.get(setting.key) {
                Some(text) if own.get(setting.key) != Some(text) => {
                    if self.source(setting.key) == Source::Default {
                        self.apply(
                            setting,
                            text,
                            Source::Archive,
                            &format!("{} of the archive's servers", setting.key),
                        )?;
                    } else {
                        others.push(setting.key);
                    }
                }
                Some(_) | None => {}
            }
        }
        Ok(others)
    }

    fn read_file(&mut self, file: &Path) -> Result<()> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| {
            Error::configuration(format!("cannot read the settings file `{shown}`: {error}")).caused_by(error)
        })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            let message = error.message().replace('\n', " ");
            Error::configuration(format!("the settings file `{shown}` is not TOML at line {line}: {message}"))
        })?;
        for (key, text) in flatten(&table, file)? {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                let hint = nearest(&key, SETTINGS.iter().map(|setting| setting.key)).map_or_else(
                    || "`isocenter config` prints all".to_owned(),
                    |known| format!("did you mean `{known}`?"),
                );
                return Err(Error::configuration(format!("unknown setting `{key}` in `{shown}`; {hint}")));
            };
            self.apply(setting, &text, Source::File, &format!("{key} in {shown}"))?;
        }
        Ok(())
    }

    fn apply(&mut self, setting: &Setting, text: &str, source: Source, origin: &str) -> Result<()> {
        (setting.read)(&mut self.config, text)
            .map_err(|reason| Error::configuration(format!("setting `{origin}`: {reason}")))?;
        self.sources.insert(setting.key, source);
        Ok(())
    }

    /// Where a setting came from, by its name in the file.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).copied().unwrap_or(Source::Default)
    }

    /// The effective settings as TOML with their sources, secrets masked.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (own, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
            if own != section {
                section = own;
                // Writing to a string does not fail.
                let _ = write!(text, "\n[{section}]\n");
            }
            let origin = self.origin(setting);
            let _ = match (setting.show)(&self.config) {
                Some(value) => writeln!(text, "{name} = {value}  # {origin}"),
                None => writeln!(text, "# {name} is not set"),
            };
        }
        text
    }

    fn origin(&self, setting: &Setting) -> String {
        match self.source(setting.key) {
            Source::Default => "default".to_owned(),
            Source::File => self.file.as_ref().map_or_else(String::new, |file| file.display().to_string()),
            Source::Environment => setting.variable.to_owned(),
            Source::Flag => setting.flag.unwrap_or_default().to_owned(),
            Source::Archive => "servers of the archive".to_owned(),
        }
    }
}

fn shared() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| SHARED.contains(&setting.key))
}

impl Config {
    /// The settings on which the commands that look after an archive and its servers have to agree, as texts by their names.
    #[must_use]
    pub fn shared(&self) -> BTreeMap<String, String> {
        let text = |setting: &Setting| {
            let shown = (setting.show)(self)?;
            let quoted = format!("value = {shown}").parse::<toml::Table>().ok()?;
            Some((setting.key.to_owned(), quoted.get("value")?.as_str()?.to_owned()))
        };
        shared().filter_map(text).collect()
    }
}

/// The values of a file as texts under their full names.
fn flatten(table: &toml::Table, file: &Path) -> Result<Vec<(String, String)>> {
    let mut flat = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(section) => {
                for (name, value) in section {
                    flat.push((format!("{key}.{name}"), scalar(&format!("{key}.{name}"), value, file)?));
                }
                // A section that is unknown is told even if it is empty.
                if section.is_empty() && !SETTINGS.iter().any(|setting| setting.key.split('.').next() == Some(key)) {
                    flat.push((key.clone(), String::new()));
                }
            }
            value => flat.push((key.clone(), scalar(key, value, file)?)),
        }
    }
    Ok(flat)
}

fn scalar(key: &str, value: &toml::Value, file: &Path) -> Result<String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(value) => Ok(value.to_string()),
        // A table within a section is an unknown name; the caller says so.
        toml::Value::Table(_) => Ok(String::new()),
        toml::Value::Array(items) => match items.iter().map(toml::Value::as_str).collect::<Option<Vec<_>>>() {
            Some(texts) => Ok(texts.join(",")),
            // as it could stand in the line of the setting
            None => Ok(value.to_string()),
        },
        toml::Value::Float(_) | toml::Value::Datetime(_) => Err(Error::configuration(format!(
            "setting `{key}` in `{}` must be a text, a whole number, a truth value or a list",
            file.display()
        ))),
    }
}

/// Refuses variables that nobody reads, as names in the file that nobody knows.
fn check_variables(environment: &BTreeMap<String, String>) -> Result<()> {
    let known = |name: &str| name == FILE_VARIABLE || SETTINGS.iter().any(|setting| setting.variable == name);
    let strange = environment.iter().find(|(name, value)| !known(name) && !is_foreign(name, value));
    let Some((name, _)) = strange else { return Ok(()) };
    let hint = meant(name).map_or_else(
        || "unset it; `isocenter config` prints all settings".to_owned(),
        |meant| format!("did you mean `{meant}`?"),
    );
    Err(Error::configuration(format!("unknown variable `{name}` in the environment; {hint}")))
}

/// The variable that a name is nearest to, also by the name that its setting has in the file.
fn meant(name: &str) -> Option<&'static str> {
    let bare = name.strip_prefix(PREFIX)?;
    let by_key = |setting: &&Setting| setting.key.replace('.', "_").eq_ignore_ascii_case(bare);
    if let Some(setting) = SETTINGS.iter().find(by_key) {
        return Some(setting.variable);
    }
    let known = || SETTINGS.iter().map(|setting| setting.variable).chain([FILE_VARIABLE]);
    let near = nearest(bare, known().filter_map(|name| name.strip_prefix(PREFIX)))?;
    known().find(|known| known.strip_prefix(PREFIX) == Some(near))
}

/// Variables of others: those of our tests and benchmarks, and those that orchestrators make from the name of a service
/// (`ISOCENTER_SERVICE_HOST`, `ISOCENTER_PORT=tcp://10.0.0.7:8080`, `ISOCENTER_PORT_8080_TCP_ADDR`).
fn is_foreign(name: &str, value: &str) -> bool {
    let of_port = |rest: &str| {
        let mut words = rest.split('_');
        let number =
            words.next().is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()));
        let protocol = words.next().is_some_and(|word| matches!(word, "TCP" | "UDP" | "SCTP"));
        number && protocol && matches!(words.next(), None | Some("PROTO" | "PORT" | "ADDR")) && words.next().is_none()
    };
    name.starts_with("ISOCENTER_TEST_")
        || name.starts_with("ISOCENTER_BENCH_")
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)))
        || name.match_indices("_PORT_").any(|(at, found)| name.get(at + found.len()..).is_some_and(of_port))
}

/// The known name that differs from a text by few letters.
fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    known
        .map(|name| {
            // The right name in the wrong section is near too.
            let moved = if bare(name) == bare(text) { 1 } else { usize::MAX };
            (distance(text, name).min(moved), name)
        })
        .filter(|(distance, name)| *distance <= (name.len() / 4).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    // Names are short; a longer text is near to nothing.
    if left.len() > 100 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Layers {
        file: Option<tempfile::NamedTempFile>,
        environment: BTreeMap<String, String>,
        flags: Vec<(&'static str, String)>,
    }

    fn layers(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Layers {
        let file = (!file.is_empty()).then(|| {
            let named = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(named.path(), file).unwrap();
            named
        });
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Layers { file, environment, flags }
    }

    impl Layers {
        fn load(&self) -> Result<Loaded> {
            Loaded::from_layers(self.file.as_ref().map(tempfile::NamedTempFile::path), &self.environment, &self.flags)
        }

        fn error(&self) -> String {
            let error = self.load().expect_err("refused");
            assert!(!error.message().contains('\n'));
            error.message().to_owned()
        }
    }

    #[test]
    fn flags_win_over_environment_over_file_over_default() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 3\nidle_timeout = \"9s\"\n[limits]\ninstance_size = \"1 GB\"";
        let environment = [("ISOCENTER_LISTEN", "127.0.0.1:2"), ("ISOCENTER_SERVER_WORKERS", "4")];
        let loaded = layers(file, &environment, &[("--listen", "127.0.0.1:3")]).load().unwrap();
        assert_eq!(loaded.config.server.listen.port(), 3);
        assert_eq!(loaded.config.server.workers, 4);
        assert_eq!(loaded.config.server.idle_timeout.as_secs(), 9);
        assert_eq!(loaded.config.limits.instance_size, 1_000_000_000);
        assert_eq!(loaded.config.server.keep_alive, Config::default().server.keep_alive);
        let sources = ["server.listen", "server.workers", "server.idle_timeout", "server.keep_alive"];
        let expected = [Source::Flag, Source::Environment, Source::File, Source::Default];
        assert_eq!(sources.map(|key| loaded.source(key)), expected);
    }

    #[test]
    fn the_environment_can_name_the_file() {
        let mut layers = layers("data_dir = \"/x\"", &[], &[]);
        let path = layers.file.as_ref().unwrap().path().display().to_string();
        layers.environment.insert(FILE_VARIABLE.to_owned(), path);
        let loaded = Loaded::from_layers(None, &layers.environment, &[]).unwrap();
        assert_eq!(loaded.config.data_dir, Path::new("/x"));
    }

    #[test]
    fn unknown_settings_are_refused_with_the_name_that_was_meant() {
        let cases = [
            ("[server]\nlisten_ = \"x\"", "unknown setting `server.listen_`", "did you mean `server.listen`?"),
            ("listen = \"x\"", "unknown setting `listen`", "did you mean `server.listen`?"),
            ("[databse]\nurl = \"x\"", "unknown setting `databse.url`", "did you mean `database.url`?"),
            ("[server]\ncolour = 1", "unknown setting `server.colour`", "`isocenter config` prints all"),
            ("[colour]", "unknown setting `colour`", "prints all"),
            ("[server.listen]\nx = 1", "setting `server.listen", ""),
            ("[server]\nworkers = 1.5", "setting `server.workers`", "whole number"),
            ("[server]\nworkers = 0", "setting `server.workers in ", "from 1 to 1024"),
            ("[server]\nlisten = [", "is not TOML at line 2", ""),
        ];
        for (file, first, second) in cases {
            let error = layers(file, &[], &[]).error();
            assert!(error.contains(first) && error.contains(second), "{file}: {error}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_the_name_of_their_source() {
        let error = layers("", &[("ISOCENTER_LISTEN", "here")], &[]).error();
        assert!(error.starts_with("setting `ISOCENTER_LISTEN`: `here` must be an address and a port"), "{error}");
        let error = layers("", &[], &[("--database-url", "mysql://me:secret@host")]).error();
        assert!(error.starts_with("setting `--database-url`: must be `sqlite://path`"), "{error}");
        assert!(!error.contains("secret"));
        let missing =
            Loaded::from_layers(Some(Path::new("/nowhere/x.toml")), &BTreeMap::new(), &[]).expect_err("missing");
        assert!(missing.message().starts_with("cannot read the settings file `/nowhere/x.toml`"));
    }

    #[test]
    fn a_log_level_that_is_none_is_refused_with_those_that_are() {
        for level in ["loud", "isocenter", "warn,loud", "isocenter=loud", "isocenter=", "", " ", "[span{a=1}]", "="] {
            let error = layers(&format!("[log]\nlevel = \"{level}\""), &[], &[]).error();
            assert!(error.starts_with("setting `log.level in ") && error.contains("`info`"), "{level}: {error}");
        }
        for level in ["info", "OFF", "warn,isocenter=debug", "warn,isocenter::store=Trace", "[span{a=1}]=trace"] {
            let loaded = layers("", &[("ISOCENTER_LOG", level)], &[]).load().unwrap();
            assert_eq!(loaded.config.log.level, level);
        }
    }

    #[test]
    fn no_password_is_quoted() {
        for (flag, url) in [
            ("--storage-url", "s3://KEY:SECRET@b/p"),
            ("--public-url", "http://u:SECRET@h/"),
            ("--database-url", "mysql://u:SECRET@h/"),
            ("--listen", "http://u:SECRET@h/"),
        ] {
            let error = layers("", &[], &[(flag, url)]).error();
            assert!(error.contains(flag) && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn unknown_variables_are_refused_and_foreign_ones_left_alone() {
        for (name, meant) in [
            ("ISOCENTER_DATABSE_URL", "did you mean `ISOCENTER_DATABASE_URL`?"),
            ("ISOCENTER_CONFG", "did you mean `ISOCENTER_CONFIG`?"),
            ("ISOCENTER_LOG_LEVEL", "did you mean `ISOCENTER_LOG`?"),
            ("ISOCENTER_PORT", "unset it"),
            ("ISOCENTER_PORT_8080", "unset it"),
            ("ISOCENTER_", "unset it"),
        ] {
            let error = layers("", &[(name, "9000")], &[]).error();
            assert!(error.contains(&format!("`{name}`")) && error.contains(meant), "{error}");
        }
        let foreign = [
            ("ISOCENTER_SERVICE_HOST", "10.0.0.7"),
            ("ISOCENTER_SERVICE_PORT_HTTP", "8080"),
            ("ISOCENTER_PORT", "tcp://10.0.0.7:8080"),
            ("ISOCENTER_WEB_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("ISOCENTER_TEST_CORPUS", "x"),
        ];
        assert!(layers("", &foreign, &[]).load().is_ok());
    }

    #[test]
    fn what_is_printed_can_be_read_again_and_holds_no_secret() {
        let flags = [("--public-url", "https://x/y"), ("--data-dir", "/d\"q")];
        let loaded = layers("", &[("ISOCENTER_DATABASE_URL", "postgres://me:secret@host/db")], &flags).load().unwrap();
        let printed = loaded.to_toml();
        assert!(!printed.contains("secret"));
        assert!(printed.contains("url = \"postgres://me:***@host/db\"  # ISOCENTER_DATABASE_URL"), "{printed}");
        assert!(printed.contains("public_url = \"https://x/y\"  # --public-url"));
        assert!(printed.contains("shutdown_timeout = \"30s\"  # default"));
        let again = layers(&printed, &[], &[]).load().unwrap();
        assert_eq!(again.config.data_dir, Path::new("/d\"q"));
        assert_eq!(again.config.storage_url(), loaded.config.storage_url());
        assert!(SETTINGS.iter().all(|setting| again.source(setting.key) == Source::File));
    }

    #[test]
    fn the_data_folder_holds_what_has_no_place_of_its_own() {
        let loaded = layers("", &[], &[("--data-dir", "/d")]).load().unwrap();
        assert_eq!(loaded.config.database_url().to_string(), "sqlite:///d/index.sqlite3");
        assert_eq!(loaded.config.storage_url().to_string(), "file:///d/objects");
    }
}
