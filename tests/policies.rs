//! What the settings say of instances that are stored: duplicates, other patients, required attributes, SOP classes.

use dicom_core::VR;
use isocenter::archive::ingest::Ingest;
use isocenter::archive::limits::IngestLimits;
use isocenter::archive::outcome::InstanceOutcome;
use isocenter::archive::policy::Policy;
use isocenter::config::{DatabaseSettings, Duplicates, StoreSettings};
use serde_json::{Value, json};

use crate::support::binary::{Answer, JSON, number};
use crate::support::generate::{Elements, Syntax, Value as Pixels};
use crate::support::server::{TestServer, on_both_stacks};
use crate::verify::is_clean;

on_both_stacks!(
    a_different_instance_under_a_known_uid_is_treated_as_the_settings_say,
    what_is_ignored_is_answered_with_what_stays_only_in_the_same_series,
    older_versions_stay_readable_by_their_number,
    a_replacement_may_lie_in_another_study_and_the_counters_follow,
    a_replaced_instance_shows_its_new_attributes_everywhere,
    twenty_clients_that_replace_one_instance_leave_one_visible,
    another_patient_is_stored_with_a_warning_unless_the_settings_say_otherwise,
    an_instance_must_have_the_required_attributes_and_an_accepted_class,
    rules_change_attributes_and_keep_what_they_were,
    a_character_set_that_a_rule_declares_is_that_of_the_texts,
    what_a_rule_makes_of_a_value_fits_its_attribute,
    an_instance_whose_object_is_lost_is_stored_again_by_the_rules_of_today,
    what_was_complete_last_is_the_last_to_have_been_received,
);

const ANY: &str = "application/dicom; transfer-syntax=*";
const PATH: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";
const DUPLICATES: &str = "ISOCENTER_STORE_DUPLICATES";
const OTHER_PATIENT: &str = "ISOCENTER_STORE_OTHER_PATIENT";

/// An instance of a study by the content of its pixels.
fn of_study(study: &str, pixel: u8) -> Elements {
    Elements::ct(study, &format!("{study}.1"), "1.2.1.1.1").with(
        0x7fe0,
        0x0010,
        VR::OW,
        Pixels::Bytes(vec![pixel; 2048]),
    )
}

fn ct(pixel: u8) -> Vec<u8> {
    of_study("1.2.1", pixel).part10(Syntax::Explicit)
}

/// Status, warnings and failures.
type Told = (u16, Vec<u64>, Vec<u16>);

fn told(answer: &Answer) -> Told {
    let json = answer.json();
    let stored = json["00081199"]["Value"].as_array().cloned().unwrap_or_default();
    let warnings = stored.iter().filter_map(|item| item["00081196"]["Value"][0].as_u64()).collect();
    (answer.status, warnings, answer.failure_reasons())
}

async fn a_different_instance_under_a_known_uid_is_treated_as_the_settings_say(mut server: TestServer) {
    assert_eq!(server.store(&[ct(0)]).await.status, 200);
    let cases: [(&str, Told, u8, usize); 4] = [
        ("reject", (409, vec![], vec![0x0111]), 0, 1),
        ("ignore", (202, vec![0xB006], vec![]), 0, 1),
        ("replace", (200, vec![], vec![]), 3, 2),
        ("versions", (200, vec![], vec![]), 4, 3),
    ];
    for (number, (policy, expected, visible, objects)) in (1..).zip(cases) {
        server.restart_with(&[(DUPLICATES, policy)]).await;
        let answer = server.store(&[ct(number)]).await;
        assert_eq!(told(&answer), expected, "{policy}");
        assert!(server.read(PATH, ANY).await.body == ct(visible), "{policy}");
        assert_eq!(server.instances_counted().await, 1, "{policy}");
        assert_eq!(server.keys_when(objects).await.len(), objects, "{policy}");
        // the same again is no other
        let again = server.store(&[ct(visible)]).await;
        assert_eq!(
            (again.status, again.json()["00081199"]["Value"][0]["00000902"]["Value"][0].clone()),
            (200, json!("already stored"))
        );
        is_clean(&server).await;
    }
    // within a request nobody can tell which of two is meant
    let both = server.store(&[ct(5), ct(6)]).await;
    assert_eq!(told(&both), (202, vec![], vec![0x0111]));
    assert!(server.read(PATH, ANY).await.body == ct(5));
    // nor when others lie between them, so many that the first is committed when the second comes
    let others = (0..70).map(|n| Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.4.{n}")).part10(Syntax::Explicit));
    let many: Vec<Vec<u8>> = std::iter::once(ct(7)).chain(others).chain([ct(8)]).collect();
    assert_eq!(told(&server.store(&many).await), (202, vec![], vec![0x0111]));
    assert!(server.read(PATH, ANY).await.body == ct(7));
}

async fn what_is_ignored_is_answered_with_what_stays_only_in_the_same_series(mut server: TestServer) {
    assert_eq!(server.store(&[ct(0)]).await.status, 200);
    server.restart_with(&[(DUPLICATES, "ignore")]).await;
    let elsewhere = Elements::ct("1.2.1", "1.2.9", "1.2.1.1.1").part10(Syntax::Explicit);
    let answer = server.store(&[elsewhere]).await;
    assert_eq!(told(&answer), (409, vec![], vec![0x0111]), "no URL of the answer could be read");
    assert!(server.read(PATH, ANY).await.body == ct(0));
}

async fn older_versions_stay_readable_by_their_number(mut server: TestServer) {
    server.restart_with(&[(DUPLICATES, "versions")]).await;
    for pixel in [1, 2, 3] {
        assert_eq!(server.store(&[ct(pixel)]).await.status, 200);
    }
    for pixel in [1_u8, 2, 3] {
        let read = server.read(&format!("{PATH}?v={pixel}"), ANY).await;
        assert_eq!(read.status, 200, "{pixel}");
        assert!(read.body == ct(pixel));
        let frame = server.read(&format!("{PATH}/frames/1?v={pixel}"), "application/octet-stream").await;
        assert!(frame.body.iter().all(|byte| *byte == pixel));
        // the metadata of a version lead to its own bulk data
        let metadata = server.read(&format!("{PATH}/metadata?v={pixel}"), JSON).await.json();
        let uri = metadata[0]["7FE00010"]["BulkDataURI"].as_str().unwrap().to_owned();
        assert!(uri.ends_with(&format!("?v={pixel}")), "{uri}");
        let bulk = server.read(&server.url(&uri), "application/octet-stream").await;
        assert_eq!(bulk.status, 200);
        assert!(bulk.body.iter().all(|byte| *byte == pixel));
    }
    assert!(server.read(PATH, ANY).await.body == ct(3));
    for (version, status) in [("4", 404), ("0", 400), ("x", 400), ("-1", 400)] {
        assert_eq!(server.read(&format!("{PATH}?v={version}"), ANY).await.status, status, "{version}");
    }
    // a delete takes all of them, and gives all of them back
    assert_eq!(server.send("DELETE", PATH, &[], "").await.status, 204);
    for version in [1, 2, 3] {
        assert_eq!(server.read(&format!("{PATH}?v={version}"), ANY).await.status, 410);
    }
    let restored = server.run(&["restore", "1.2.1.1.1"]).await;
    assert!(String::from_utf8_lossy(&restored.stdout).contains("1 instance restored"));
    assert!(server.read(PATH, ANY).await.body == ct(3));
    assert!(server.read(&format!("{PATH}?v=1"), ANY).await.body == ct(1));
    is_clean(&server).await;
}

async fn a_replacement_may_lie_in_another_study_and_the_counters_follow(mut server: TestServer) {
    server.restart_with(&[(DUPLICATES, "replace")]).await;
    let other = Elements::ct("1.2.1", "1.2.1.1", "1.2.1.1.2").part10(Syntax::Explicit);
    assert_eq!(server.store(&[ct(1), other]).await.status, 200);
    assert_eq!(server.store(&[of_study("1.2.5", 2).part10(Syntax::Explicit)]).await.status, 200);
    let counts = async |study: &str| {
        let found = server.search(&format!("/studies?StudyInstanceUID={study}")).await;
        found.first().map(|study| (number(study, "00201206"), number(study, "00201208")))
    };
    assert_eq!((counts("1.2.1").await, counts("1.2.5").await), (Some((1, 1)), Some((1, 1))));
    assert_eq!(server.read(PATH, ANY).await.status, 404);
    assert_eq!(server.read("/studies/1.2.5/series/1.2.5.1/instances/1.2.1.1.1", ANY).await.status, 200);
    // what replaces the last instance of a study leaves none
    let last = Elements::ct("1.2.6", "1.2.6.1", "1.2.1.1.2").part10(Syntax::Explicit);
    assert_eq!(server.store(&[last]).await.status, 200);
    assert_eq!(counts("1.2.1").await, None);
    assert_eq!(server.search("/series").await.len(), 2);
    is_clean(&server).await;
}

async fn a_replaced_instance_shows_its_new_attributes_everywhere(mut server: TestServer) {
    server.restart_with(&[(DUPLICATES, "replace")]).await;
    assert_eq!(server.store(&[ct(1)]).await.status, 200);
    let corrected = of_study("1.2.1", 1)
        .text(0x0010, 0x0020, VR::LO, "CORRECTED")
        .text(0x0010, 0x0010, VR::PN, "New^Name")
        .text(0x0008, 0x103e, VR::LO, "new series");
    assert_eq!(server.store(&[corrected.part10(Syntax::Explicit)]).await.status, 200);
    assert_eq!(server.search("/studies?PatientID=CORRECTED&PatientName=New*").await.len(), 1);
    let series = server.search("/studies/1.2.1/series").await.remove(0);
    assert_eq!(series["0008103E"]["Value"][0], "new series");
    let metadata = server.read(&format!("{PATH}/metadata"), JSON).await.json();
    assert_eq!(metadata[0]["00100020"]["Value"][0], "CORRECTED");
}

async fn twenty_clients_that_replace_one_instance_leave_one_visible(mut server: TestServer) {
    for (policy, statuses, versions) in [("replace", 200, 21), ("reject", 409, 1)] {
        server.restart_with(&[(DUPLICATES, policy)]).await;
        let path = if policy == "replace" { "1.2.1" } else { "1.2.7" };
        let file = |pixel| {
            let instance = format!("{path}.1.1");
            Elements::ct(path, &format!("{path}.1"), &instance)
                .with(0x7fe0, 0x0010, VR::OW, Pixels::Bytes(vec![pixel; 2048]))
                .part10(Syntax::Explicit)
        };
        assert_eq!(server.store(&[file(0)]).await.status, 200);
        let files: Vec<_> = (1..=20).map(file).collect();
        let stores = files.iter().map(|file| server.store(std::slice::from_ref(file)));
        for answer in futures_util::future::join_all(stores).await {
            assert_eq!(answer.status, statuses, "{policy}: {}\n{}", answer.text(), server.log());
        }
        let visible = server.read(&format!("/studies/{path}/series/{path}.1/instances/{path}.1.1"), ANY).await.body;
        assert!(files.contains(&visible) || (policy == "reject" && visible == file(0)), "{policy}");
        let mut index = server.index().await;
        let query = format!(
            "select cast(version as text) from instances where sop_instance_uid = '{path}.1.1' order by version"
        );
        let stored = index.query(&query).await;
        assert_eq!(stored.len(), versions, "{policy}: {stored:?}");
        assert_eq!(server.search(&format!("/studies/{path}/instances")).await.len(), 1);
        is_clean(&server).await;
    }
}

async fn another_patient_is_stored_with_a_warning_unless_the_settings_say_otherwise(mut server: TestServer) {
    let of = |instance: u32, patient: &str| {
        let ct = Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{instance}"));
        ct.text(0x0010, 0x0020, VR::LO, patient).part10(Syntax::Explicit)
    };
    assert_eq!(told(&server.store(&[of(1, "A"), of(2, "A ")]).await), (200, vec![], vec![]));
    assert_eq!(told(&server.store(&[of(3, "B")]).await), (202, vec![0xB007], vec![]));
    assert_eq!(told(&server.store(&[of(4, "A"), of(5, "")]).await), (202, vec![0xB007], vec![]));
    server.restart_with(&[(OTHER_PATIENT, "reject")]).await;
    assert_eq!(told(&server.store(&[of(6, "A"), of(7, "B")]).await), (202, vec![], vec![0x0110]));
    assert_eq!(told(&server.store(&[of(7, "B")]).await), (409, vec![], vec![0x0110]));
    // of a new study the first one counts
    let new = |instance: u32, patient: &str| {
        let ct = Elements::ct("1.2.3", "1.2.3.1", &format!("1.2.3.1.{instance}"));
        ct.text(0x0010, 0x0020, VR::LO, patient).part10(Syntax::Explicit)
    };
    let answer = server.store(&[new(2, "X"), new(1, "Y"), new(3, "X")]).await;
    assert_eq!(told(&answer), (202, vec![], vec![0x0110]));
    assert_eq!(server.search("/studies/1.2.3/instances").await.len(), 2);
    server.restart_with(&[(OTHER_PATIENT, "accept")]).await;
    assert_eq!(told(&server.store(&[of(7, "B")]).await), (200, vec![], vec![]));
    // one that takes the place of another patient's, in a study of its own patient
    let moved = |patient: &str, study: &str| {
        let ct = Elements::ct(study, &format!("{study}.1"), "1.2.1.1.1");
        ct.text(0x0010, 0x0020, VR::LO, patient).part10(Syntax::Explicit)
    };
    let replace = (DUPLICATES, "replace");
    server.restart_with(&[(OTHER_PATIENT, "reject"), replace]).await;
    assert_eq!(told(&server.store(&[moved("C", "1.2.4")]).await), (409, vec![], vec![0x0110]));
    assert_eq!(told(&server.store(&[moved("A", "1.2.5")]).await), (200, vec![], vec![]), "of the same patient");
    server.restart_with(&[replace]).await;
    assert_eq!(told(&server.store(&[moved("C", "1.2.4")]).await), (202, vec![0xB007], vec![]));
    server.restart_with(&[(OTHER_PATIENT, "accept"), replace]).await;
    assert_eq!(told(&server.store(&[moved("A", "1.2.1")]).await), (200, vec![], vec![]));
    assert_eq!(server.search("/studies/1.2.1/instances").await.len(), 7);
    is_clean(&server).await;
}

async fn an_instance_must_have_the_required_attributes_and_an_accepted_class(mut server: TestServer) {
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    server
        .restart_with(&[
            ("ISOCENTER_STORE_REQUIRED_ATTRIBUTES", "PatientID, 00080020"),
            ("ISOCENTER_STORE_SOP_CLASSES", CT),
        ])
        .await;
    let ct = |instance: u32| Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{instance}"));
    let full = |instance| ct(instance).text(0x0010, 0x0020, VR::LO, "A").text(0x0008, 0x0020, VR::DA, "20260101");
    let files = [
        full(1),
        full(2).without(0x0010, 0x0020),
        full(3).text(0x0010, 0x0020, VR::LO, ""),
        full(4).without(0x0008, 0x0020),
        full(5).text(0x0008, 0x0016, VR::UI, "1.2.840.10008.5.1.4.1.1.4"),
    ];
    let files: Vec<_> = files.iter().map(|file| file.part10(Syntax::Explicit)).collect();
    let answer = server.store(&files).await;
    assert_eq!(told(&answer), (202, vec![], vec![0x0120, 0x0120, 0x0120, 0x0122]));
    let failed: Vec<Value> = answer.json()["00081198"]["Value"].as_array().unwrap().clone();
    assert_eq!(failed[0]["00000902"]["Value"][0], "`PatientID` is missing or empty");
    assert_eq!(server.objects(), 1);
    is_clean(&server).await;
}

async fn rules_change_attributes_and_keep_what_they_were(mut server: TestServer) {
    const RULES: &str = r#"[
        { attribute = "PatientID", action = "prefix", value = "H-", when = { Modality = "CT" } },
        { attribute = "IssuerOfPatientID", action = "default", value = "HOSPITAL" },
        { attribute = "InstitutionName", action = "map", values = { "Old" = "New" } },
    ]"#;
    server.restart_with(&[("ISOCENTER_STORE_COERCION", RULES), (OTHER_PATIENT, "reject")]).await;
    let ct = |instance: u32| {
        Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{instance}"))
            .text(0x0008, 0x0060, VR::CS, "CT")
            .text(0x0010, 0x0020, VR::LO, "A")
            .text(0x0008, 0x0080, VR::LO, if instance == 1 { "Old" } else { "Else" })
    };
    let encodings = [Syntax::Explicit, Syntax::Implicit, Syntax::BigEndian, Syntax::Deflated];
    for (instance, syntax) in (1..).zip(encodings) {
        let file = ct(instance).part10(syntax);
        let answer = server.store(std::slice::from_ref(&file)).await;
        assert_eq!(told(&answer), (202, vec![0xB000], vec![]), "{syntax:?}: {}", answer.text());
        let item = answer.json()["00081199"]["Value"][0].clone();
        let names = item["00000902"]["Value"][0].as_str().unwrap().to_owned();
        assert_eq!(names.contains("InstitutionName"), instance == 1, "{names}");
        let original = &item["04000561"]["Value"][0];
        assert_eq!(original["04000550"]["Value"][0]["00100020"]["Value"][0], "A");
        assert_eq!(original["04000565"]["Value"][0], "COERCE");
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.{instance}");
        let metadata = server.read(&format!("{path}/metadata"), JSON).await.json();
        assert_eq!(
            (&metadata[0]["00100020"]["Value"][0], &metadata[0]["00100021"]["Value"][0]),
            (&json!("H-A"), &json!("HOSPITAL"))
        );
        assert_eq!(&metadata[0]["04000561"]["Value"][0], original);
        assert_eq!(metadata[0]["00080080"]["Value"][0], if instance == 1 { "New" } else { "Else" });
        // pixel data are what they were
        let plain =
            Elements::ct("1.2.9", "1.2.9.1", &format!("1.2.9.1.{instance}")).text(0x0010, 0x0020, VR::LO, "H-B");
        let plain = plain.text(0x0010, 0x0021, VR::LO, "I").part10(syntax);
        assert_eq!(told(&server.store(std::slice::from_ref(&plain)).await).0, 200);
        let frame = async |path: &str| server.read(&format!("{path}/frames/1"), "application/octet-stream").await.body;
        let other = frame(&format!("/studies/1.2.9/series/1.2.9.1/instances/1.2.9.1.{instance}")).await;
        assert!(frame(&path).await == other);
        // what no rule changes is stored as it came
        let read = server.read(&format!("/studies/1.2.9/series/1.2.9.1/instances/1.2.9.1.{instance}"), ANY).await;
        assert!(read.body == plain || matches!(syntax, Syntax::Implicit | Syntax::BigEndian), "{syntax:?}");
        // what is sent again is recognised by what was sent
        let again = server.store(std::slice::from_ref(&file)).await;
        assert_eq!(told(&again), (200, vec![], vec![]));
    }
    assert_eq!(server.search("/studies?PatientID=H-A").await.len(), 1);
    let greek = ct(9).text(0x0008, 0x0005, VR::CS, "ISO_IR 126").part10(Syntax::Explicit);
    server
        .restart_with(&[("ISOCENTER_STORE_COERCION", "[{ attribute = 'PatientID', action = 'set', value = 'ö' }]")])
        .await;
    let refused = server.store(&[greek]).await;
    assert_eq!(told(&refused), (409, vec![], vec![0xC000]));
    let failed = &refused.json()["00081198"]["Value"][0];
    assert!(failed["00081155"]["Value"][0].as_str().is_some_and(|uid| uid.starts_with("1.2.")), "{failed}");
    is_clean(&server).await;
    // the same UIDs under the same digests, from the objects alone
    server.lose_index().await;
    let output = server.run(&["reindex"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    server.restart_with(&[("ISOCENTER_STORE_COERCION", RULES), (OTHER_PATIENT, "reject")]).await;
    assert_eq!(told(&server.store(&[ct(1).part10(Syntax::Explicit)]).await), (200, vec![], vec![]));
}

async fn a_character_set_that_a_rule_declares_is_that_of_the_texts(mut server: TestServer) {
    const NAME: &str = "\u{418}\u{432}\u{430}\u{43d}";
    let rules = format!(
        "[{{ attribute = 'SpecificCharacterSet', action = 'default', value = 'ISO_IR 144' }},
          {{ attribute = 'PatientID', action = 'prefix', value = 'H-', when = {{ PatientName = '{NAME}' }} }}]"
    );
    server.restart_with(&[("ISOCENTER_STORE_COERCION", &rules), (OTHER_PATIENT, "accept")]).await;
    // a name in ISO 8859-5, in files of which two do not say so, one does, and one says what is not so
    let named = |instance: u32| {
        let name = Pixels::Bytes(vec![0xB8, 0xD2, 0xD0, 0xDD]);
        let file = Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{instance}")).with(0x0010, 0x0010, VR::PN, name);
        file.text(0x0010, 0x0020, VR::LO, "A")
    };
    let files = [
        named(1).without(0x0008, 0x0005),
        named(2).text(0x0008, 0x0005, VR::CS, ""),
        named(3).text(0x0008, 0x0005, VR::CS, "ISO_IR 144"),
        named(4).text(0x0008, 0x0005, VR::CS, "ISO_IR 100"),
    ];
    for (instance, file) in (1..).zip(files) {
        let answer = server.store(&[file.part10(Syntax::Explicit)]).await;
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.{instance}/metadata");
        let metadata = server.read(&path, JSON).await.json();
        let found = (&metadata[0]["00100010"]["Value"][0]["Alphabetic"], &metadata[0]["00100020"]["Value"][0]);
        if instance == 4 {
            assert_eq!((answer.status, found), (200, (&json!("\u{b8}\u{d2}\u{d0}\u{dd}"), &json!("A"))));
        } else {
            assert_eq!((answer.status, found), (202, (&json!(NAME), &json!("H-A"))), "{instance}");
        }
    }
    assert_eq!(server.search("/studies?PatientName=%D0%98%D0%B2%D0%B0%D0%BD").await.len(), 1);
    is_clean(&server).await;
}

async fn what_a_rule_makes_of_a_value_fits_its_attribute(mut server: TestServer) {
    let rules = format!("[{{ attribute = 'PatientID', action = 'prefix', value = '{}' }}]", "P".repeat(60));
    server.restart_with(&[("ISOCENTER_STORE_COERCION", &rules), (OTHER_PATIENT, "accept")]).await;
    for (id, status) in [("1234", 202), ("12345", 409)] {
        let file = Elements::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{id}")).text(0x0010, 0x0020, VR::LO, id);
        let answer = server.store(&[file.part10(Syntax::Explicit)]).await;
        assert_eq!(answer.status, status, "{id}");
        if status == 409 {
            assert_eq!(answer.failure_reasons(), [0xC000]);
            assert!(answer.text().contains("a rule makes a value that PatientID cannot hold"), "{}", answer.text());
        }
    }
    is_clean(&server).await;
}

async fn an_instance_whose_object_is_lost_is_stored_again_by_the_rules_of_today(mut server: TestServer) {
    const RULES: &str = "ISOCENTER_STORE_COERCION";
    let rule = |prefix: &str| format!(r#"[{{ attribute = "PatientID", action = "prefix", value = "{prefix}" }}]"#);
    let file = of_study("1.2.1", 7).text(0x0010, 0x0020, VR::LO, "A").part10(Syntax::Explicit);
    let settings = [rule("H-"), rule("LONGER-"), String::new(), rule("H-"), rule("H-")];
    for (number, rules) in settings.iter().enumerate() {
        let rules: Vec<(&'static str, &str)> =
            vec![(RULES, rules.as_str())].into_iter().filter(|(_, rules)| !rules.is_empty()).collect();
        server.restart_with(&rules).await;
        let storage = server.storage().await;
        for key in server.keys().await {
            storage.remove(&isocenter::store::keys::StorageKey::from_index(key)).await.unwrap();
        }
        assert!(server.store(std::slice::from_ref(&file)).await.status < 300, "{number}");
        assert_eq!(is_clean(&server).await, 1, "{number}");
        assert_eq!(server.instances_counted().await, 1, "{number}");
        let expected = ["H-A", "LONGER-A", "A", "H-A", "H-A"][number];
        let metadata = server.read(&format!("{PATH}/metadata"), JSON).await.json();
        assert_eq!(metadata[0]["00100020"]["Value"][0], expected, "{number}");
        let frame = server.read(&format!("{PATH}/frames/1"), "application/octet-stream").await;
        assert!(frame.status == 200 && frame.body.iter().all(|byte| *byte == 7), "{number}: {}", frame.status);
        assert_eq!(server.keys().await.len(), 1, "{number}");
    }
    assert_eq!(server.run(&["sweep"]).await.status.code(), Some(0));
    assert_eq!(server.keys().await.len(), 1, "what is erased are the rows of what was lost");
    assert_eq!(is_clean(&server).await, 1);
}

async fn what_was_complete_last_is_the_last_to_have_been_received(server: TestServer) {
    // past the server, so that a request can be begun and wait
    let catalogue =
        isocenter::catalogue::Catalogue::open(&server.database_url(), &DatabaseSettings::default()).await.unwrap();
    let settings = StoreSettings { duplicates: Duplicates::Versions, ..StoreSettings::default() };
    let policy = Policy::new(&settings).unwrap();
    let ingest = Ingest::new(catalogue, server.storage().await, IngestLimits::default(), policy);
    let slow = ingest.begin(None, "slow".to_owned()).await.unwrap();
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_millis(2) {}
    let fast = ingest.begin(None, "fast".to_owned()).await.unwrap();
    for (mut ingestion, pixel) in [(fast, 1), (slow, 2)] {
        ingestion.instance(&mut futures_util::stream::iter([Ok(bytes::Bytes::from(ct(pixel)))])).await.unwrap();
        assert!(matches!(ingestion.finish().await[0], InstanceOutcome::Stored { .. }));
    }
    ingest.close().await;
    let rows = server.index().await.query("select source from instances order by received_at, version").await;
    assert_eq!(rows, ["fast", "slow"]);
    assert!(server.read(PATH, ANY).await.body == ct(2));
}
