//! DICOM JSON as clients write it, well and badly.

use proptest::prelude::{Just, Strategy as _, any, prop_oneof, proptest};

use super::*;

fn parse(text: &str) -> Result<Dataset, ComposeError> {
    read(text.as_bytes(), Limits::default(), &mut Known::default())
}

fn bytes(text: &[u8]) -> Value {
    Value::Bytes(text.to_vec())
}

/// The one attribute of an object.
fn one(text: &str) -> Result<(VR, Value), ComposeError> {
    parse(text).map(|dataset| {
        let (_, element) = dataset.into_elements().pop().unwrap();
        (element.vr, element.value)
    })
}

#[test]
fn instances_are_the_objects_of_an_array_or_one_that_stands_alone() {
    let found = |text: &str| {
        instances(text.as_bytes(), 100)
            .map(|ranges| ranges.iter().map(|range| text[range.clone()].to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(found("[{\"a\":1} , {},3]"), Ok(vec!["{\"a\":1}".to_owned(), "{}".to_owned(), "3".to_owned()]));
    assert_eq!(found("\u{feff} {\"a\":[]} "), Ok(vec!["{\"a\":[]}".to_owned()]));
    assert_eq!(found("[]"), Ok(Vec::new()));
    for wrong in ["", "null", "\"a\"", "[{}", "[{}]]", "[{\"a\"}]", "{} {}", "[{},]"] {
        assert!(matches!(found(wrong), Err(ComposeError::Syntax { .. })), "{wrong}");
    }
    assert!(instances(b"[\"\xff\"]", 100).is_err());
    assert!(matches!(found(&"[".repeat(100_000)), Err(ComposeError::TooDeep(_))));
    assert_eq!(found(&format!("[{}{{}}]", "{},".repeat(99))).map(|found| found.len()), Ok(100));
    assert_eq!(found(&format!("[{}{{}}]", "{},".repeat(100))), Err(ComposeError::TooMany(100)));
}

#[test]
fn each_form_of_value_becomes_the_bytes_of_its_vr() {
    let date = (VR::DA, bytes(b"20240229"));
    for (text, expected) in [
        (r#"{"00080020":{"vr":"DA","Value":["20240229"]}}"#, date.clone()),
        // members in any order, with more of them, and without what the dictionary knows
        (r#"{"00080020":{"Value":["20240229"],"vr":"DA","keyword":"StudyDate"}}"#, date.clone()),
        (r#"{"00080020":{"Value":["20240229"]}}"#, date.clone()),
        (r#"{"00080020":{"vr":"??","Value":["20240229"]}}"#, date),
        (r#"{"00080020":{"vr":"DA"}}"#, (VR::DA, bytes(b""))),
        (r#"{"00080020":{"vr":"DA","Value":[]}}"#, (VR::DA, bytes(b""))),
        (r#"{"00080020":{"vr":"DA","Value":null}}"#, (VR::DA, bytes(b""))),
        (r#"{"00080008":{"vr":"CS","Value":["A",null,"C"]}}"#, (VR::CS, bytes(b"A\\\\C"))),
        (r#"{"00280010":{"vr":"US","Value":[512]}}"#, (VR::US, bytes(&[0, 2]))),
        (r#"{"00200013":{"vr":"IS","Value":[7,"8"]}}"#, (VR::IS, bytes(b"7\\8"))),
        (
            r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B","Phonetic":"C"},null,{"Ideographic":null}]}}"#,
            (VR::PN, bytes(b"A^B==C\\\\")),
        ),
        (r#"{"00100010":{"vr":"PN","Value":["A^B"]}}"#, (VR::PN, bytes(b"A^B"))),
        (r#"{"00200062":{"vr":"AT","Value":["00080018"]}}"#, (VR::AT, bytes(&[8, 0, 0x18, 0]))),
        (r#"{"7fe00010":{"vr":"OW","InlineBinary":"AAECAw=="}}"#, (VR::OW, bytes(&[0, 1, 2, 3]))),
        (r#"{"7FE00010":{"InlineBinary":"AAEC","vr":"OB"}}"#, (VR::OB, bytes(&[0, 1, 2]))),
        (r#"{"7FE00010":{"BulkDataURI":"a/b?\u0063"}}"#, (VR::OW, Value::Bulk("a/b?c".to_owned()))),
        (r#"{"00090010":{"Value":["ACME"]}}"#, (VR::LO, bytes(b"ACME"))),
        (r#"{"00081140":{"vr":"SQ"}}"#, (VR::SQ, Value::Items(Vec::new()))),
        (r#"{"00081140":{"vr":"SQ","Value":[{},null]}}"#, (VR::SQ, Value::Items(vec![Dataset::default(); 2]))),
    ] {
        assert_eq!(one(text), Ok(expected), "{text}");
    }
    let items = "{\"Value\":[{},null,{\"00080060\":{\"vr\":\"CS\"}}]";
    for (rest, read) in [(",\"vr\":\"SQ\"}", true), ("}", true), (",\"vr\":\"LO\"}", false)] {
        let found = one(&format!("{{\"00091001\":{items}{rest}}}"));
        assert_eq!(
            found.is_ok_and(|(vr, value)| vr == VR::SQ && matches!(value, Value::Items(items) if items.len() == 3)),
            read
        );
    }
    assert_eq!(parse(r#"{"00020010":{"vr":"UI","Value":["1"]},"00080000":5}"#), Ok(Dataset::default()), "left out");
}

#[test]
fn what_cannot_be_written_is_refused_with_its_tag_and_never_its_value() {
    for (text, expected) in [
        (r#"{"00080020":5}"#, "`00080020`: is not described as the model asks"),
        (r#"{"00080020":{"vr":5}}"#, "`00080020`: is not described as the model asks"),
        (r#"{"00080020":{"vr":"DA","vr":"DA"}}"#, "`00080020`: is not described as the model asks"),
        (r#"{"00080020":{"vr":"DA","Value":"20240229"}}"#, "`00080020` DA: is not described as the model asks"),
        (r#"{"7FE00010":{"vr":"OB","InlineBinary":["AAEC"]}}"#, "`7FE00010` OB: is not described as the model asks"),
        (
            r#"{"00081140":{"InlineBinary":[{"00080060":{"vr":"CS"}}]}}"#,
            "`00081140` SQ: is not described as the model asks",
        ),
        (r#"{"7FE00010":{"vr":"OB","InlineBinary":"="}}"#, "`7FE00010` OB: is not base64"),
        (r#"{"00080020":{"vr":"DA","Value":[true]}}"#, "`00080020` DA: a value is of the wrong type"),
        (r#"{"00080020":{"vr":"DA","Value":[["x"]]}}"#, "`00080020` DA: a value is of the wrong type"),
        (r#"{"00080020":{"vr":"DA","Value":[{"Alphabetic":"x"}]}}"#, "`00080020` DA: a value is of the wrong type"),
        (r#"{"00100010":{"vr":"PN","Value":[{"Family":"x"}]}}"#, "`00100010` PN: a value is of the wrong type"),
        (
            r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A=B"}]}}"#,
            r"`00100010` PN: a component group holds `=` or `\`",
        ),
        (
            r#"{"00100010":{"vr":"PN","Value":[{"Phonetic":"A\\B"}]}}"#,
            r"`00100010` PN: a component group holds `=` or `\`",
        ),
        (r#"{"00100010":{"vr":"PN","Value":["A\u001b$B"]}}"#, "`00100010` PN: a text holds an escape character"),
        (
            r#"{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A\u001b$B"}]}}"#,
            "`00100010` PN: a text holds an escape character",
        ),
        (r#"{"00104000":{"vr":"LT","Value":["A\u001b$B"]}}"#, "`00104000` LT: a text holds an escape character"),
        (r#"{"00280010":{"vr":"US","Value":["SECRET"]}}"#, "`00280010` US: a value is no number of its range"),
        (r#"{"00280010":{"vr":"US","Value":[1,null]}}"#, "`00280010` US: a value is missing among others"),
        (r#"{"00280106":{"Value":[1]}}"#, "`00280106`: has no `vr`, and the dictionary has not one"),
        (r#"{"00091001":{"vr":"","Value":["x"]}}"#, "`00091001`: has no `vr`, and the dictionary has not one"),
        (r#"{"7FE00010":{"vr":"OW","Value":[1]}}"#, "`7FE00010` OW: a value is of the wrong type"),
        (
            r#"{"7FE00010":{"vr":"OW","InlineBinary":"","BulkDataURI":""}}"#,
            "`7FE00010`: has more than one form of value",
        ),
        (r#"{"7FE00010":{"vr":"SQ","Value":[{}]}}"#, "`7FE00010` SQ: a value is of the wrong type"),
        (r#"{"00081140":{"vr":"SQ","BulkDataURI":"x"}}"#, "`00081140` SQ: a value is of the wrong type"),
        (r#"{"00081140":{"vr":"SQ","Value":["x"]}}"#, "`00081140` SQ: a value is of the wrong type"),
        (r#"{"FFFEE000":{"vr":"OB"}}"#, "`FFFEE000`: is no attribute of a data set"),
        (r#"{"00100020":{"vr":"LO"},"00080060":{"vr":"CS"},"00100020":{"vr":"LO"}}"#, "`00100020` LO: is there twice"),
        (r#"{"PatientID":{"vr":"LO"}}"#, "a member is not named by a tag of eight hexadecimal digits at byte 1"),
        (r#"{"0010 020":{"vr":"LO"}}"#, "a member is not named by a tag of eight hexadecimal digits at byte 1"),
        ("[]", "an object of attributes is missing at byte 0"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert_eq!(error, expected, "{text}");
    }
}

/// `levels` sequences, one in the other; the VR before its value or behind it.
fn nested(levels: usize, vr_first: bool) -> String {
    let (open, close) = if vr_first {
        (r#"{"00081140":{"vr":"SQ","Value":["#, "]}}")
    } else {
        (r#"{"00081140":{"Value":["#, r#"],"vr":"SQ"}}"#)
    };
    open.repeat(levels) + "{}" + &close.repeat(levels)
}

#[test]
fn sequences_nest_as_deep_as_files_may_and_no_deeper() {
    for vr_first in [true, false] {
        let most = Limits::default().depth;
        assert!(parse(&nested(most, vr_first)).is_ok());
        assert_eq!(parse(&nested(most + 1, vr_first)), Err(ComposeError::TooDeep(most)));
        for levels in [1000, 10_000] {
            let text = nested(levels, vr_first);
            assert!(matches!(parse(&text), Err(ComposeError::TooDeep(_))), "{levels}");
            assert_eq!(instances(text.as_bytes(), 100).is_ok(), levels == 1000, "{levels}");
        }
    }
}

#[test]
fn memory_is_bounded_whatever_the_text_is_made_of() {
    let limits = Limits { bytes: 100_000, ..Limits::default() };
    let attributes: Vec<String> = (0..5000).map(|n| format!("\"0008{n:04X}\":{{\"vr\":\"LO\"}}")).collect();
    for text in [
        format!("{{{}}}", attributes.join(",")),
        format!(r#"{{"00081140":{{"vr":"SQ","Value":[{}{{}}]}}}}"#, "{},".repeat(5000)),
        format!(r#"{{"00280010":{{"vr":"FD","Value":[{}0]}}}}"#, "0,".repeat(20_000)),
        format!(r#"{{"00280010":{{"vr":"LO","Value":[{}null]}}}}"#, "null,".repeat(200_000)),
        format!(r#"{{"00280010":{{"vr":"OB","InlineBinary":"{}"}}}}"#, "AAAA".repeat(50_000)),
        format!(r#"{{"00280010":{{"vr":"OB","BulkDataURI":"{}"}}}}"#, "AAAA".repeat(50_000)),
    ] {
        assert_eq!(
            read(text.as_bytes(), limits, &mut Known::default()),
            Err(ComposeError::TooLarge),
            "{}",
            &text[..60]
        );
        assert!(parse(&text).is_ok());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_with_an_error(
        pieces in proptest::collection::vec(prop_oneof![
            Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\"vr\""), Just("\"SQ\""), Just("\"LO\""),
            Just("\"Value\""), Just("\"00081140\""), Just("\"InlineBinary\""), Just("null"), Just("1"), Just("\"\\uD800\""),
            Just("{\"00081140\":{\"vr\":\"SQ\",\"Value\":["), Just("]}}"),
        ], 0..40).prop_map(|pieces| pieces.concat()),
        any in any::<Vec<u8>>(),
    ) {
        for text in [pieces.as_bytes(), &any] {
            let whole = read(text, Limits::default(), &mut Known::default()).is_ok();
            let found = instances(text, usize::MAX);
            // what is read as an instance is one
            assert!(!whole || found.is_ok_and(|found| found.len() == 1));
        }
    }
}
