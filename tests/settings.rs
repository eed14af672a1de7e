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
    ] {
        let error = refused(settings);
        assert!(error.contains(words) && !error.contains("secret"), "{error}");
    }
    accepted(&[("ISOCENTER_LISTEN", "0.0.0.0:0"), ("ISOCENTER_ALLOW_ANONYMOUS", "yes")]);
    let bucket = [("ISOCENTER_STORAGE_URL", "s3://bucket"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    // whoever writes `http://` means it
    accepted(&bucket);
}

#[test]
fn a_variable_that_nobody_reads_is_refused_with_the_one_that_was_meant() {
    for (name, meant) in [
        ("ISOCENTER_DATABSE_URL", "did you mean `ISOCENTER_DATABASE_URL`?"),
        ("ISOCENTER_LOG_LEVEL", "did you mean `ISOCENTER_LOG`?"),
        ("ISOCENTER_SERVER_LISTEN", "did you mean `ISOCENTER_LISTEN`?"),
        ("ISOCENTER_PORT", "`isocenter config` prints all settings"),
        ("ISOCENTER_COLOUR", "`isocenter config` prints all settings"),
    ] {
        let error = refused(&[(name, "9000")]);
        assert!(error.contains(&format!("unknown variable `{name}`")) && error.contains(meant), "{error}");
    }
    // what orchestrators make of services by the names `isocenter` and `isocenter-web`, and what tests and benchmarks take
    accepted(&[
        ("ISOCENTER_SERVICE_HOST", "10.0.0.7"),
        ("ISOCENTER_SERVICE_PORT", "8080"),
        ("ISOCENTER_SERVICE_PORT_HTTP", "8080"),
        ("ISOCENTER_PORT", "tcp://10.0.0.7:8080"),
        ("ISOCENTER_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("ISOCENTER_PORT_8080_TCP_PROTO", "tcp"),
        ("ISOCENTER_PORT_8080_TCP_PORT", "8080"),
        ("ISOCENTER_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("ISOCENTER_WEB_SERVICE_HOST", "10.0.0.8"),
        ("ISOCENTER_WEB_PORT_80_TCP_ADDR", "10.0.0.8"),
        ("ISOCENTER_TEST_CORPUS", "none"),
        ("ISOCENTER_BENCH_PROFILE", "release"),
    ]);
}

#[test]
fn a_rule_may_declare_a_character_set_but_not_change_it() {
    const NOT_RECODED: &str = "the texts of the instance are not recoded";
    for (rules, words) in [
        ("[{ attribute = 'SpecificCharacterSet', action = 'set', value = 'ISO_IR 192' }]", NOT_RECODED),
        ("[{ attribute = '00080005', action = 'prefix', value = 'ISO_IR ' }]", NOT_RECODED),
        ("[{ attribute = 'SpecificCharacterSet', action = 'remove' }]", NOT_RECODED),
        (
            "[{ attribute = 'SpecificCharacterSet', action = 'map', values = { 'ISO_IR 6' = 'ISO_IR 100' } }]",
            NOT_RECODED,
        ),
        ("[{ attribute = 'SpecificCharacterSet', action = 'default', value = 'UTF-8' }]", "`ISO_IR 192`"),
        ("[{ attribute = 'SpecificCharacterSet', action = 'default', value = 'ISO_IR 999' }]", "`ISO_IR 999`"),
        (
            "[{ attribute = 'PatientID', action = 'prefix', value = 'H-' },
              { attribute = 'SpecificCharacterSet', action = 'default', value = 'ISO_IR 100' }]",
            "rule 2 for `SpecificCharacterSet`: it must stand before",
        ),
    ] {
        let error = refused(&[("ISOCENTER_STORE_COERCION", rules)]);
        assert!(error.contains("setting `store.coercion`: rule ") && error.contains(words), "{error}");
        assert!(words != NOT_RECODED || error.contains("`default`"), "{error}");
    }
    for set in ["ISO_IR 100", "ISO_IR 192", "GB18030", r"\ISO 2022 IR 87", r"ISO 2022 IR 13\ISO 2022 IR 87", ""] {
        accepted(&[(
            "ISOCENTER_STORE_COERCION",
            &format!("[{{ attribute = 'SpecificCharacterSet', action = 'default', value = '{set}' }}]"),
        )]);
    }
}

#[test]
fn a_rule_whose_value_its_attribute_cannot_hold_is_refused() {
    let (long, longer) = ("N".repeat(64), "N".repeat(65));
    for (attribute, value, holds) in [
        ("StudyDate", "yesterday", "a date"),
        ("StudyDate", "2026.01.31", "a date"),
        ("StudyDate", "20260231", "a date"),
        ("StudyTime", "noon", "a time"),
        ("AcquisitionDateTime", "2026-01-31", "a date and time"),
        ("PatientSex", "f", "capital letters"),
        ("Modality", "SEVENTEENLETTERSX", "capital letters"),
        ("StudyInstanceUID", "1.2.x", "a UID"),
        ("StudyInstanceUID", "1..2", "a UID"),
        ("PatientID", &longer, "64 characters"),
        ("OtherPatientIDs", &format!("A\\{longer}"), "64 characters"),
        ("PatientID", "A\u{7}", "64 characters"),
        ("AccessionNumber", "SEVENTEEN LETTERS", "16 characters"),
        ("SeriesNumber", "one", "a whole number"),
        ("SeriesNumber", "2147483648", "a whole number"),
        ("PatientWeight", "70 kg", "a number"),
        ("PatientAge", "42", "`042Y`"),
        ("PatientName", "A^B^C^D^E^F", "five components"),
        ("PatientName", &longer, "64 characters"),
        ("StationAETitle", "SEVENTEENLETTERSX", "16 characters"),
    ] {
        for action in
            ["action = 'set', value = V", "action = 'default', value = V", "action = 'map', values = { A = V }"]
        {
            let action = action.replace('V', &toml::Value::from(value).to_string());
            let rules = format!(
                "[{{ attribute = 'StudyID', action = 'set', value = '1' }}, {{ attribute = '{attribute}', {action} }}]"
            );
            let error = isocenter_config(&rules).unwrap_err();
            assert!(error.contains(&format!("setting `store.coercion`: rule 2 for `{attribute}`: ")), "{error}");
            assert!(error.contains(holds), "{error}");
        }
    }
    assert!(
        refused(&[("ISOCENTER_STORE_COERCION", "[{ attribute = 'StudyDate', action = 'set', value = 'yesterday' }]")])
            .contains("`yesterday`")
    );
    for (attribute, prefix, fits) in [
        ("PatientID", long.as_str(), false),
        ("PatientID", "H-", true),
        ("StudyDate", "2026", false),
        ("PatientSex", "x", false),
        ("StudyInstanceUID", "1.2.", true),
        ("StudyInstanceUID", "u", false),
        ("SeriesNumber", "1", true),
        ("PatientName", "Dr ", true),
    ] {
        let rules = format!("[{{ attribute = '{attribute}', action = 'prefix', value = '{prefix}' }}]");
        assert_eq!(isocenter_config(&rules).is_ok(), fits, "{attribute} {prefix}");
    }
    for (attribute, value) in [
        ("StudyDate", "20260131"),
        ("StudyDate", ""),
        ("StudyTime", "0830"),
        ("StudyTime", "083000.123"),
        ("AcquisitionDateTime", "20260131083000.5+0100"),
        ("ImageType", r"ORIGINAL\PRIMARY"),
        ("PatientSex", "F"),
        ("PatientID", &long),
        ("PatientName", "Yamada^Tarou=\u{5c71}\u{7530}^\u{592a}\u{90ce}"),
        ("SeriesNumber", "+12"),
        ("PatientWeight", "7.05E1"),
        ("PatientAge", "042Y"),
        ("AdditionalPatientHistory", "one\ntwo\\three"),
    ] {
        let value = toml::Value::from(value);
        let rules = format!("[{{ attribute = '{attribute}', action = 'set', value = {value} }}]");
        isocenter_config(&rules).unwrap();
    }
}

/// What `config` says of rules.
fn isocenter_config(rules: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let output = isocenter(folder.path(), &["config"]).env("ISOCENTER_STORE_COERCION", rules).output().unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
