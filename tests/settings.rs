//! Settings that are refused before anything is opened, by `serve` and `config` alike.

use crate::cli::{isocenter, text};

/// What `config` and `serve` say of settings in the environment: one line, the same of both.
fn refused(settings: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let tell = |command: &str| {
        let output = isocenter(folder.path(), &[command]).envs(settings.iter().copied()).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command} with {settings:?}: {error}");
        assert!(output.stdout.is_empty() && error.starts_with("error: ") && error.lines().count() == 1, "{error}");
        error
    };
    let config = tell("config");
    assert_eq!(config, tell("serve"));
    assert!(!folder.path().join("isocenter-data").exists());
    config
}

fn accepted(settings: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = isocenter(folder.path(), &["config"]).envs(settings.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{settings:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn config_refuses_what_serve_refuses() {
    for (settings, words) in [
        (&[("ISOCENTER_LISTEN", "0.0.0.0:0")][..], "without authentication"),
        (&[("ISOCENTER_STORE_SOP_CLASSES", "1.2,CT")], "setting `store.sop_classes`: `CT`"),
        (&[("ISOCENTER_STORE_REQUIRED_ATTRIBUTES", "PatientId")], "setting `store.required_attributes`: `PatientId`"),
        (&[("ISOCENTER_DATABASE_URL", "postgres://me:secret@host:port/db")], "`--database-url` is not an address"),
        (&[("ISOCENTER_STORAGE_URL", "s3://bucket"), ("AWS_ALLOW_HTTP", "perhaps")], "check the AWS_* variables"),
        (
            &[("ISOCENTER_STORAGE_URL", "s3://bucket"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")],
            "AWS_ALLOW_HTTP=true",
        ),
    ] {
        let error = refused(settings);
        assert!(error.contains(words) && !error.contains("secret"), "{error}");
    }
    accepted(&[("ISOCENTER_LISTEN", "0.0.0.0:0"), ("ISOCENTER_ALLOW_ANONYMOUS", "yes")]);
    let bucket = [("ISOCENTER_STORAGE_URL", "s3://bucket"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    accepted(&[&bucket[..], &[("AWS_ALLOW_HTTP", "true")]].concat());
}
