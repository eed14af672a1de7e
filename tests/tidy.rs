//! The house rules that a script can see: layers, homes of crates, module comments, banned calls, lengths.
//!
//! Reads the sources as text, with comments and literals blanked, and names file and line of each violation.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::tidy_source::{Source, expand, words};

/// What a module may import, itself aside; a path allows all below it. `*` allows everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &["error"]),
    ("config", &["error"]),
    ("telemetry", &["error", "clock", "config"]),
    ("cache", &["error", "clock", "telemetry"]),
    ("dicom", &["error"]),
    ("pixels", &["dicom", "config", EVERYWHERE]),
    ("catalogue", &["dicom", "config", EVERYWHERE]),
    ("store", &["dicom::uid", "config", EVERYWHERE]),
    ("auth", &["config", EVERYWHERE]),
    ("audit", &["auth", "dicom::uid", "catalogue", EVERYWHERE]),
    ("archive", &["dicom", "pixels", "catalogue", "store", "audit", "config", EVERYWHERE]),
    ("worklist", &["dicom", "catalogue", "audit", EVERYWHERE]),
    ("jobs", &["dicom", "pixels", "catalogue", "store", "auth", "audit", "archive", "worklist", "config", EVERYWHERE]),
    (
        "app",
        &[
            "dicom",
            "pixels",
            "catalogue",
            "store",
            "auth",
            "audit",
            "archive",
            "worklist",
            "jobs",
            "config",
            EVERYWHERE,
        ],
    ),
    ("http", &["app", "auth", "audit", "config", EVERYWHERE]),
    (
        "dicomweb",
        &[
            "http",
            "app",
            "archive",
            "worklist",
            "catalogue",
            "dicom",
            "pixels",
            "jobs::queue",
            "auth::Permission",
            "config",
            // the alias for a stream of pieces, which `archive::retrieve` hands through
            "store::ByteStream",
            // where the bulk data of a request wait for its metadata
            "store::spool",
            EVERYWHERE,
        ],
    ),
    ("admin", &["http", "app", "jobs", "catalogue", "auth::Permission", "config", EVERYWHERE]),
    ("ui", &["http", "app", "jobs", "catalogue", EVERYWHERE]),
    ("dimse", &["app", "auth", "audit", "archive", "catalogue", "dicom", EVERYWHERE]),
    ("serve", &["*"]),
    ("cli", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// Stands for the modules that every layer from 0 `pixels` on may import.
const EVERYWHERE: &str = "error|clock|telemetry|cache";

/// Crates that have a home, and the modules that are it.
const CRATE_HOMES: &[(&str, &[&str])] = &[
    ("sqlx", &["catalogue"]),
    ("object_store", &["store"]),
    ("actix_web", &["http", "dicomweb", "admin", "ui", "serve"]),
    // `config` reads URLs with its parser
    ("actix_http", &["http", "dicomweb", "admin", "ui", "serve", "config"]),
    ("dicom_ul", &["dimse"]),
    ("reqwest", &["cli"]),
];

/// Calls that are banned outside tests, the modules where they belong, and what to write instead.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("println!", &["cli", "main"], "log with `tracing`; only commands print"),
    ("print!", &["cli", "main"], "log with `tracing`; only commands print"),
    ("eprintln!", &["cli", "main"], "log with `tracing`; only commands print"),
    (".unwrap()", &[], "handle the case, or `expect` with the reason why it cannot happen"),
    ("env::var", &["config"], "take the setting from `Config`"),
    ("OffsetDateTime::now", &["clock"], "ask `clock::now`"),
    ("SystemTime::now", &["clock"], "ask `clock::now`"),
    ("Utc::now", &["clock"], "ask `clock::now`"),
    ("std::time::Instant", &["clock"], "use `clock::Stopwatch`, or the timers of tokio, which tests can step"),
    ("::*;", &[], "name what is imported"),
    ("unsafe_code", &["store"], "there is one `unsafe` call, in `store::folder`"),
];

/// Tests in which time has to pass, and why.
const MAY_SLEEP: &[(&str, &str)] = &[("tests/durability.rs", "the server is killed at a random moment")];

/// Functions known to be over the limit, as `file::name` with their lines: they may shrink, not grow.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];
/// Files known to be over the limit, with their lines without tests: they may shrink, not grow.
const LONG_FILES: &[(&str, usize)] = &[("src/http/multipart/reader.rs", 557)];
const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 500;

#[test]
fn every_source_file_keeps_the_house_rules() {
    let files = [rust_files("src"), rust_files("tests"), rust_files("benches")].concat();
    assert!(files.len() > 20, "the sources were not found");
    let sources: Vec<(&String, String)> = files.iter().map(|path| (path, read(path))).collect();
    let tests: Vec<String> =
        sources.iter().flat_map(|(path, text)| Source::new(path, text, false).test_files()).collect();
    let judge = |(path, text): &(&String, String)| violations(path, text, tests.contains(path));
    let found: Vec<String> = sources.iter().flat_map(judge).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn both_databases_have_the_same_migrations() {
    let [sqlite, postgres] = ["migrations/sqlite", "migrations/postgres"].map(|folder| {
        let mut names: Vec<_> =
            fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    });
    assert!(!sqlite.is_empty());
    assert_eq!(sqlite, postgres);
}

#[test]
fn every_row_of_the_support_table_names_a_test_that_exists() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else { return };
    let (rows, found) = unproven_rows(&readme, |path| fs::read_to_string(root().join(path)).ok());
    assert!(rows > 0, "README.md has no table with a column for the test");
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// All that is wrong with one file, as `path:line: what`; `test` says that it is a module of tests only.
fn violations(path: &str, text: &str, test: bool) -> Vec<String> {
    let source = Source::new(path, text, test);
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push((1, "the first line has to be a `//!` comment that says what the file owns".to_owned()));
    }
    for (line, code) in source.lines() {
        if code.contains("#[ignore") {
            found.push((line, "`#[ignore]`: assert today's answer and say why instead".to_owned()));
        }
        let stays_awake = !path.starts_with("tests/support/") && MAY_SLEEP.iter().all(|(known, _)| *known != path);
        if path.starts_with("tests/") && stays_awake && !words(code, "sleep").is_empty() {
            found.push((line, "`sleep`: step the clock or wait for an event".to_owned()));
        }
        if path.starts_with("src/") && !source.is_test(line) {
            found.extend(wrong_crates(source.module(), code).into_iter().map(|what| (line, what)));
            found.extend(banned_calls(source.module(), code).into_iter().map(|what| (line, what)));
            if !words(code, &source.way_to_the_crate()).is_empty() {
                found.push((line, "`super::` reaches the crate: write `crate::…`, so that the layer shows".to_owned()));
            }
        }
    }
    if path.starts_with("src/") {
        let imports = source.crate_paths().into_iter().filter(|(line, _)| !source.is_test(*line));
        found.extend(imports.filter_map(|(line, import)| Some((line, wrong_import(source.module(), &import)?))));
        found.extend(long_functions(path, &source));
        let (lines, limit) = (source.own_lines(), known(LONG_FILES, path, FILE_LINES));
        if lines > limit {
            found.push((1, format!("{lines} lines without tests, {limit} are the limit: look for the second concept")));
        }
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect()
}

/// Why `module` may not import `crate::import`, if so.
fn wrong_import(module: &str, import: &str) -> Option<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return Some(format!("module `{module}` is not in the layer table of tests/tidy.rs"));
    };
    let below = |path: &str| import == path || import.strip_prefix(path).is_some_and(|rest| rest.starts_with("::"));
    let fits = below(module) || allowed.iter().flat_map(|path| path.split('|')).any(|path| path == "*" || below(path));
    (!fits).then(|| format!("`{module}` may not import `crate::{import}`: see the layer table in tests/tidy.rs"))
}

fn wrong_crates(module: &str, code: &str) -> Vec<String> {
    let away = CRATE_HOMES.iter().filter(|(_, homes)| !homes.contains(&module) && module != "lib");
    away.filter(|(name, _)| words(code, name).into_iter().any(|at| code[at + name.len()..].starts_with("::")))
        .map(|(name, homes)| format!("crate `{name}` belongs in {}", homes.join(", ")))
        .collect()
}

fn banned_calls(module: &str, code: &str) -> Vec<String> {
    let mut code = code.to_owned();
    // `use std::time::{Duration, Instant}` names `std::time::Instant`
    if let Some(imports) = code.trim().strip_prefix("use ").map(str::to_owned) {
        expand(&imports, "", &mut |path| code = format!("{code} {path}"));
    }
    let stands = |call: &str| {
        if call.starts_with(char::is_alphabetic) { !words(&code, call).is_empty() } else { code.contains(call) }
    };
    let broken = BANNED.iter().filter(|(call, homes, _)| !homes.contains(&module) && stands(call));
    broken.map(|(call, _, instead)| format!("`{call}`: {instead}")).collect()
}

fn long_functions(path: &str, source: &Source) -> Vec<(usize, String)> {
    let functions = source.functions().into_iter().filter(|(lines, _)| !source.is_test(lines.start));
    let judged = functions.filter_map(|(lines, name): (Range<usize>, String)| {
        let limit = known(LONG_FUNCTIONS, &format!("{path}::{name}"), FUNCTION_LINES);
        (lines.len() > limit)
            .then(|| (lines.start, format!("`{name}` has {} lines, {limit} are the limit: split it", lines.len())))
    });
    judged.collect()
}

fn known(list: &[(&str, usize)], name: &str, otherwise: usize) -> usize {
    list.iter().find(|(known, _)| *known == name).map_or(otherwise, |(_, lines)| *lines)
}

/// The number of rows in tables whose header has a column for the test, and which of them name none that exists.
fn unproven_rows(readme: &str, file: impl Fn(&str) -> Option<String>) -> (usize, Vec<String>) {
    let (mut inside, mut rows, mut found) = (false, 0, Vec::new());
    let mut previous_is_row = false;
    for (number, line) in readme.lines().enumerate() {
        let is_row = line.trim_start().starts_with('|');
        if is_row && !previous_is_row {
            inside = line.to_lowercase().split('|').any(|cell| cell.contains("test") || cell.contains("proved by"));
        } else if is_row && inside && !line.contains("---") {
            rows += 1;
            let named: Vec<&str> =
                line.split('`').filter(|part| part.starts_with("tests/") || part.starts_with("src/")).collect();
            if named.is_empty() {
                found.push(format!("README.md:{}: the row names no test", number + 1));
            }
            for name in named.into_iter().filter(|name| !test_exists(name, &file)) {
                found.push(format!("README.md:{}: there is no test `{name}`", number + 1));
            }
        }
        previous_is_row = is_row;
    }
    (rows, found)
}

/// Whether `path`, or the function `path::test` of Rust or Python, is there.
fn test_exists(name: &str, file: impl Fn(&str) -> Option<String>) -> bool {
    let (path, test) = name.split_once("::").map_or((name, None), |(path, test)| (path, test.rsplit("::").next()));
    let defined = |text: &str, test: &str| {
        ["fn", "def"].iter().any(|keyword| !words(text, &format!("{keyword} {test}")).is_empty())
    };
    file(path).is_some_and(|text| test.is_none_or(|test| defined(&text, test)))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Paths relative to the root, with slashes, sorted.
fn rust_files(folder: &str) -> Vec<String> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn each_rule_finds_what_breaks_it_and_nothing_else() {
    let long = |lines: usize| format!("//! x\nfn long() {{\n{}}}\n", "    a();\n".repeat(lines));
    for (path, text, expected) in [
        ("src/clock.rs", "use std::fmt;\n", vec!["src/clock.rs:1: the first line"]),
        (
            "src/dicom/json.rs",
            "//! x\nuse crate::store::keys;\n",
            vec!["src/dicom/json.rs:2: `dicom` may not import `crate::store::keys`"],
        ),
        (
            "src/store/s3.rs",
            "//! x\nuse crate::{dicom::{uid, json}, http};\n",
            vec![":2: `store` may not import `crate::dicom::json`", ":2: `store` may not import `crate::http`"],
        ),
        (
            "src/catalogue/mod.rs",
            "//! x\nfn f() -> crate::app::App {}\n",
            vec![":2: `catalogue` may not import `crate::app::App`"],
        ),
        ("src/catalogue/mod.rs", "//! x\nuse super::app;\n", vec![":2: `super::` reaches the crate"]),
        ("src/store/s3.rs", "//! x\nuse super::super::app;\n", vec![":2: `super::` reaches the crate"]),
        ("src/extra.rs", "//! x\nuse crate::error::Error;\n", vec![":2: module `extra` is not in the layer table"]),
        (
            "src/archive/ingest.rs",
            "//! x\nuse sqlx::Row;\nuse actix_web::web;\n",
            vec![":2: crate `sqlx` belongs in catalogue", ":3: crate `actix_web`"],
        ),
        (
            "src/archive/ingest.rs",
            "//! x\nfn f() { g().unwrap(); println!(); }\n",
            vec![":2: `.unwrap()`: handle", ":2: `println!`: log"],
        ),
        (
            "src/http/mod.rs",
            "//! x\nfn f() { std::env::var(\"A\"); std::time::Instant::now(); }\nuse std::time::{Duration, Instant};\n",
            vec![":2: `env::var`", ":2: `std::time::Instant`", ":3: `std::time::Instant`"],
        ),
        ("src/dicom/uid.rs", "//! x\nuse std::fmt::*;\n", vec![":2: `::*;`: name what is imported"]),
        ("src/dicom/uid.rs", &long(70), vec![":2: `long` has 72 lines, 70 are the limit"]),
        (
            "src/dicom/uid.rs",
            &format!("//! x\n{}", "const A: u8 = 1;\n".repeat(500)),
            vec![":1: 501 lines without tests, 500"],
        ),
        (
            "tests/store.rs",
            "//! x\n#[ignore]\nfn f() { std::thread::sleep(d) }\n",
            vec![":2: `#[ignore]`", ":3: `sleep`"],
        ),
    ] {
        let found = violations(path, text, false);
        assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} should say {expected}");
        }
    }
    for (path, text) in [
        ("src/main.rs", "//! x\nuse isocenter::cli;\nfn main() { println!() }\n"),
        ("src/store/s3.rs", "//! x\nuse crate::dicom::uid::StudyUid;\nuse crate::cache;\nuse object_store::path;\n"),
        (
            "src/dicom/uid.rs",
            "//! x\n// crate::http, println! and .unwrap()\nconst A: &str = \"crate::http {\";\nconst B: char = '\"';\n",
        ),
        (
            "src/dicom/uid.rs",
            "//! x\nfn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests {\n    use super::*;\n    fn t() { f(\"\").unwrap() }\n}\n",
        ),
        ("src/dicom/uid.rs", &long(68)),
        ("src/store/folder/durable.rs", "//! x\nuse super::super::Stored;\n"),
        ("src/dicom/uid.rs", "//! x\nuse super::uid;\nfn f() { pinprintln!(); r#\"println!\"# }\n"),
    ] {
        let found = violations(path, text, false);
        assert!(
            found.is_empty(),
            "{}",
            found.iter().fold(String::new(), |mut all, one| {
                let _ = writeln!(all, "{one}");
                all
            })
        );
    }
}

#[test]
fn a_module_for_tests_only_is_known_by_its_declaration() {
    let text = "//! x\npub mod a;\n#[cfg(test)]\nmod corpus;\n#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n";
    assert_eq!(
        Source::new("src/dicom/mod.rs", text, false).test_files(),
        ["src/dicom/corpus.rs", "src/dicom/b_tests.rs"]
    );
    assert_eq!(Source::new("src/cli.rs", text, false).test_files(), ["src/cli/corpus.rs", "src/b_tests.rs"]);
}

#[test]
fn a_row_without_a_test_or_with_a_missing_one_is_found() {
    let readme = "| what | test |\n|---|---|\n| a | `tests/a.rs::it_works` |\n| b | |\n| c | `tests/a.rs::it_fails` |\n\n| other |\n|---|\n| d |\n";
    let (rows, found) = unproven_rows(readme, |path| (path == "tests/a.rs").then(|| "fn it_works() {}".to_owned()));
    assert_eq!(rows, 3);
    assert_eq!(found, ["README.md:4: the row names no test", "README.md:5: there is no test `tests/a.rs::it_fails`"]);
}
