//! Rows of storing requests that are metadata in DICOM JSON: broken documents, broken models.

use super::{NOT_UNDERSTOOD, Row};

/// Out of resources: more than one instance may cost.
pub(super) const TOO_LARGE: u16 = 0xA700;
pub(super) const JSON: &str = "application/dicom+json";

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [grammar(), depths(), instances(), tags(), members(), values(), uids()].into_iter().flatten().collect()
}

/// A UID that follows from a text, so that each row has its own.
pub(super) fn uid(what: &str) -> String {
    let number = what.bytes().fold(7_u64, |number, byte| number.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("1.2.3.77.{number}")
}

/// An instance of a UID with more attributes.
pub(super) fn instance(uid: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        r#"{{"00080016":{{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]}},"00080018":{{"vr":"UI","Value":["{uid}"]}},
        "0020000D":{{"vr":"UI","Value":["1.2"]}},"0020000E":{{"vr":"UI","Value":["1.2.3"]}}{comma}{more}}}"#
    )
}

/// A body of JSON.
fn body(what: impl Into<String>, body: impl AsRef<[u8]>, status: u16) -> Row {
    let row = Row::store(what, JSON, body, status);
    if status == 409 { row.because(&[NOT_UNDERSTOOD]) } else { row }
}

/// One instance with more attributes.
fn with(what: &str, more: &str, status: u16) -> Row {
    body(format!("JSON: {what}"), format!("[{}]", instance(&uid(what), more)), status)
}

/// What is wrong with the grammar concerns the request.
fn grammar() -> Vec<Row> {
    let good = format!("[{}]", instance("1.2.3.77", ""));
    let wide = |unit: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let text = |text: &str| format!(r#"[{{"00104000":{{"vr":"LT","Value":["{text}"]}}}}]"#);
    let mut rows = vec![
        body("JSON: a byte order mark", format!("\u{feff}{good}"), 200),
        body("JSON: two byte order marks", format!("\u{feff}\u{feff}{good}"), 400),
        body("JSON: UTF-16, little endian", wide(u16::to_le_bytes), 400),
        body("JSON: UTF-16, big endian, marked", [&b"\xfe\xff"[..], &wide(u16::to_be_bytes)].concat(), 400),
        body("JSON: no UTF-8", b"[{\"00104000\":{\"vr\":\"LT\",\"Value\":[\"\xff\"]}}]", 400),
        body("JSON: an overlong zero", b"[{\"00104000\":{\"vr\":\"LT\",\"Value\":[\"\xc0\x80\"]}}]", 400),
        body("JSON: a surrogate in UTF-8", b"[{\"00104000\":{\"vr\":\"LT\",\"Value\":[\"\xed\xa0\x80\"]}}]", 400),
        body("JSON: a lone high surrogate", text(r"\ud800"), 400),
        body("JSON: a lone low surrogate", text(r"\udc00"), 400),
        body("JSON: surrogates in the wrong order", text(r"\udc00\ud800"), 400),
        body("JSON: half an escape", text(r"\u12"), 400),
        body("JSON: an escape of no digits", text(r"\u+123"), 400),
        body("JSON: an escape that JSON has not", text(r"\x41"), 400),
        body("JSON: a NUL in a string", text("\0"), 400),
        body("JSON: a line feed in a string", text("\n"), 400),
        body("JSON: 64 MiB and a little of blanks", vec![b' '; (64 << 20) + 9], 413),
        body("JSON: 4 MiB of blanks", vec![b' '; 4 << 20], 400),
    ];
    for wrong in [
        "",
        " ",
        "null",
        "5",
        "true",
        "\"text\"",
        "[",
        "{",
        "[{",
        "[}",
        "[{}",
        "[{]",
        "[,]",
        "[{},]",
        "[{},,{}]",
        "[{}] x",
        "[{}][{}]",
        "{}{}",
        "[{},{}",
        "NaN",
        "[NaN]",
        "[{\"00280010\":{\"vr\":\"US\",\"Value\":[NaN]}}]",
        "[{\"00280010\":{\"vr\":\"US\",\"Value\":[-Infinity]}}]",
        "[{'00080018':{}}]",
        "[{00080018:{}}]",
        "[{\"00080018\"}]",
        "[{\"00080018\":}]",
        "[{\"00080018\":{},}]",
        "[/* c */{}]",
        "[{}] // c",
        "[01]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[+1]",
        "[0x10]",
        "[1_000]",
        "[tru]",
        "[nulll]",
        "[\"a]",
        "[undefined]",
        "\u{0}",
        "[]\u{0}",
        "<xml/>",
        "--b\r\n\r\n[]\r\n--b--\r\n",
    ] {
        rows.push(body(format!("JSON that is none: {wrong:?}"), wrong, 400));
    }
    rows
}

fn depths() -> Vec<Row> {
    let nested = |levels: usize| {
        let open = r#""00081140":{"vr":"SQ","Value":[{"#.repeat(levels);
        format!("{open}{}", "}]}".repeat(levels))
    };
    let unnamed = |levels: usize| {
        let open = r#""00081140":{"Value":[{},null,{"#.repeat(levels);
        format!("{open}{}", "}]}".repeat(levels))
    };
    let closed = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    vec![
        body("JSON: 10,000 open brackets", "[".repeat(10_000), 400),
        body("JSON: 10,000 closed brackets", closed(10_000), 400),
        body("JSON: 5,000,000 open brackets", "[".repeat(5_000_000), 400),
        body("JSON: 100,000 open objects", "{\"a\":".repeat(100_000), 400),
        body("JSON: 4,000 closed brackets", closed(4_000), 409),
        with("sequences 64 deep", &nested(64), 200),
        with("sequences 65 deep", &nested(65), 409),
        with("sequences 1,000 deep", &nested(1_000), 409),
        with("sequences 10,000 deep", &nested(10_000), 400),
        with("sequences without a VR 64 deep", &unnamed(64), 200),
        with("sequences without a VR 1,000 deep", &unnamed(1_000), 409),
        with("4,000 brackets in what is passed over", &format!("\"00020010\":{}", closed(4_000)), 200),
    ]
}

fn instances() -> Vec<Row> {
    let many = |count: usize, one: &str| format!("[{}]", vec![one; count].join(","));
    let same = instance("1.2.3.78", "");
    let mut rows = vec![
        body("JSON: no instances", "[]", 400),
        body("JSON: an instance that stands alone", instance("1.2.3.79", ""), 200),
        body("JSON: an object of nothing", "{}", 409),
        body("JSON: the same instance 50 times", many(50, &same), 200),
        body("JSON: 10,000 objects of nothing", many(10_000, "{}"), 409).because(&vec![NOT_UNDERSTOOD; 10_000]),
        body("JSON: 10,001 objects of nothing", many(10_001, "{}"), 413),
        body("JSON: garbage beside a good instance", format!("[{{}},{}]", instance("1.2.3.80", "")), 202)
            .because(&[NOT_UNDERSTOOD]),
    ];
    for wrong in ["null", "5", "\"text\"", "[]", "[[[]]]", "true", "1e400", "{\"\":{}}", "{\"a\":1}"] {
        rows.push(body(format!("JSON: an instance that is none: {wrong}"), format!("[{wrong}]"), 409));
    }
    rows
}

fn tags() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        "",
        "1",
        "0008001",
        "000800188",
        "0008,0018",
        "(0008,0018)",
        "0008001G",
        "PatientName",
        "+0080018",
        " 0080018",
        "\\u0000",
        "FFFEE000",
        "FFFEE00D",
        "FFFEE0DD",
        "FFFFFFFF",
        "00010010",
        "00030010",
        "\u{662}\u{662}\u{662}\u{662}",
    ]
    .into_iter()
    .map(|tag| with(&format!("a tag that is none: {tag:?}"), &format!(r#""{tag}":{{"vr":"LO","Value":["a"]}}"#), 409))
    .collect();
    rows.extend(["00000002", "00020010", "0002FFFF", "00080000", "7FE00000", "00090000"].into_iter().map(|tag| {
        // PS3.18 F.2.2 has none of them, and says nothing of who sends them all the same
        with(&format!("a tag that is left out: {tag}"), &format!(r#""{tag}":{{"vr":"UL","Value":["a",{{}}]}}"#), 200)
    }));
    let twice = r#""00100020":{"vr":"LO","Value":["a"]},"00100020":{"vr":"LO","Value":["a"]}"#;
    let cases = r#""0010002a":{"vr":"LO"},"0010002A":{"vr":"LO"}"#;
    let item = format!(r#""00081140":{{"vr":"SQ","Value":[{{{twice}}}]}}"#);
    let all = (0..60_000).map(|number| format!(r#""0011{number:04X}":{{"vr":"LO"}}"#)).collect::<Vec<_>>().join(",");
    let many =
        (0..60_000).rev().map(|number| format!(r#""0011{number:04X}":{{"vr":"SQ"}}"#)).collect::<Vec<_>>().join(",");
    rows.extend([
        with("an attribute twice", twice, 409),
        with("an attribute twice, in other cases", cases, 409),
        with("an attribute twice in an item", &item, 409),
        with("another SOP Instance UID", r#""00080018":{"vr":"UI","Value":["1.2.3.81"]}"#, 409),
        with("60,000 attributes", &all, 200),
        with("60,000 sequences, backwards", &many, 200),
    ]);
    rows
}

/// Objects of attributes that are not as the model has them.
fn members() -> Vec<Row> {
    [
        "5",
        "null",
        "[]",
        "\"a\"",
        "{}",
        r#"{"vr":5}"#,
        r#"{"vr":null}"#,
        r#"{"vr":["LO"]}"#,
        r#"{"vr":"LO","vr":"LO"}"#,
        r#"{"vr":"LO","Value":"a"}"#,
        r#"{"vr":"LO","Value":5}"#,
        r#"{"vr":"LO","Value":{}}"#,
        r#"{"vr":"LO","Value":[[]]}"#,
        r#"{"vr":"LO","Value":[true]}"#,
        r#"{"vr":"LO","Value":[{}]}"#,
        r#"{"vr":"LO","Value":["a"],"Value":["b"]}"#,
        r#"{"vr":"LO","Value":["a"],"InlineBinary":"YQ=="}"#,
        r#"{"vr":"LO","InlineBinary":"YQ==","BulkDataURI":"p"}"#,
        r#"{"vr":"OB","InlineBinary":5}"#,
        r#"{"vr":"OB","InlineBinary":["YQ=="]}"#,
        r#"{"vr":"OB","InlineBinary":"!!"}"#,
        r#"{"vr":"OB","InlineBinary":"Y"}"#,
        r#"{"vr":"OB","InlineBinary":"YQ==YQ=="}"#,
        r#"{"vr":"OB","InlineBinary":"-_8="}"#,
        r#"{"vr":"OB","Value":["YQ=="]}"#,
        r#"{"vr":"US","InlineBinary":"YWFh"}"#,
        r#"{"vr":"SQ","InlineBinary":"YQ=="}"#,
        r#"{"vr":"SQ","Value":["a"]}"#,
        r#"{"vr":"SQ","Value":[5]}"#,
        r#"{"vr":"SQ","Value":[[]]}"#,
        r#"{"vr":"SQ","BulkDataURI":"p"}"#,
        r#"{"vr":"SQ","Value":[{"00080018":5}]}"#,
        r#"{"vr":"LO","Value":[{"00080018":{"vr":"UI"}}]}"#,
        r#"{"vr":"LO","BulkDataURI":5}"#,
        r#"{"vr":"LO","BulkDataURI":null}"#,
        r#"{"vr":"LO","BulkDataURI":["p"]}"#,
        r#"{"Value":["a"]}"#,
        r#"{"vr":"XX","Value":["a"]}"#,
        r#"{"vr":"lo","Value":["a"]}"#,
        r#"{"vr":"","Value":["a"]}"#,
    ]
    .into_iter()
    .map(|object| with(&format!("an attribute of {object}"), &format!("\"00111001\":{object}"), 409))
    .collect()
}

fn values() -> Vec<Row> {
    let digits = "9".repeat(100_000);
    let letters = |count: usize| "QUJD".repeat(count / 4);
    let mut rows = Vec::new();
    for (vr, value, status) in [
        ("US", "65536", 409),
        ("US", "-1", 409),
        ("US", "1.5", 409),
        ("US", "1e400", 409),
        ("US", "\"seven\"", 409),
        ("US", "null,1", 409),
        ("SS", "-32769", 409),
        ("UL", "4294967296", 409),
        ("UV", "18446744073709551616", 409),
        ("SV", "\"-9223372036854775809\"", 409),
        ("UL", &digits, 409),
        ("FL", "1e39", 409),
        ("FD", "1e400", 409),
        ("FD", &digits, 409),
        ("FD", "\"NaN\",\"-inf\"", 200),
        ("FD", "\"nancy\"", 409),
        ("FD", "1e-400", 200),
        ("IS", "1e400", 200),
        ("DS", &digits, 200),
        ("IS", &digits, 200),
        ("AT", "5", 409),
        ("AT", "\"PatientName\"", 409),
        ("LO", "5", 409),
        ("LT", "\"a\",\"b\"", 409),
        ("UI", "\"\\u0000\\u0000\"", 200),
        ("LO", "\"\\u0000\\u001b$B\\u0007\"", 409),
        ("CS", "\"\u{202e}\u{1f4a3}\"", 200),
        ("PN", "5", 409),
        ("PN", "\"A^B\"", 200),
        ("PN", "[]", 409),
        ("PN", "{}", 200),
        ("PN", "null,{}", 200),
        ("PN", r#"{"Alphabetic":5}"#, 409),
        ("PN", r#"{"Alphabetic":["A"]}"#, 409),
        ("PN", r#"{"Alphabetic":{"FamilyName":"A"}}"#, 409),
        ("PN", r#"{"alphabetic":"A"}"#, 409),
        ("PN", r#"{"Alphabetic":"A","Alphabetic":"B"}"#, 200),
        ("PN", r#"{"Alphabetic":"A\\B=C=D=E^F^G^H^I^J"}"#, 409),
    ] {
        let what = format!("{vr} of {}", value.chars().take(40).collect::<String>());
        rows.push(with(&what, &format!(r#""00111001":{{"vr":"{vr}","Value":[{value}]}}"#), status));
    }
    let inline = |vr: &str, count: usize| format!(r#""00111001":{{"vr":"{vr}","InlineBinary":"{}"}}"#, letters(count));
    let zeros = |vr: &str| format!(r#""00111001":{{"vr":"{vr}","Value":[{}0]}}"#, "0,".repeat(2_000_000));
    let empty = format!(r#""00081140":{{"vr":"SQ","Value":[{}{{}}]}}"#, "{},".repeat(500_000));
    rows.extend([
        with("20 MiB of base64", &inline("OB", 20 << 20), 200),
        with("4 MiB of base64 for numbers", &inline("US", 4 << 20), 200),
        with("4 MiB of base64 with a blank", &inline("OB", 4 << 20).replacen("QUJD", "QUJD ", 1), 200),
        with("2,000,000 numbers", &zeros("FD"), 200),
        with("2,000,000 decimals", &zeros("DS"), 200),
        with("500,000 empty items", &empty, 409).because(&[TOO_LARGE]),
    ]);
    rows
}

fn uids() -> Vec<Row> {
    let long = "1".repeat(65);
    let mut rows = Vec::new();
    for uid in [
        "",
        " ",
        "1..2",
        ".1",
        "1.",
        "a",
        "../../etc/passwd",
        "1.2\\\\1.3",
        "1.2/1.3",
        "1.2\\u00001.3",
        "\u{661}.2",
        &long,
    ] {
        let text = format!("[{}]", instance(uid, ""));
        rows.push(body(format!("JSON: a SOP Instance UID {uid:?}"), text, 409));
    }
    let replaced = |from: &str, to: &str| format!("[{}]", instance(&uid(to), "").replacen(from, to, 1));
    for (what, text) in [
        ("a SOP Class UID that is none", replaced("1.2.840.10008.5.1.4.1.1.7", "CT Image Storage")),
        ("no SOP Class UID", replaced("00080016", "00080017")),
        (
            "a SOP Instance UID in base64",
            replaced(r#""00080018":{"vr":"UI","Value":["#, r#""00080018":{"vr":"OB","Value":["#),
        ),
        ("a SOP Instance UID of numbers", replaced(r#""00080018":{"vr":"UI""#, r#""00080018":{"vr":"US""#)),
        ("a SOP Instance UID as a sequence", replaced(r#""00080018":{"vr":"UI""#, r#""00080018":{"vr":"SQ""#)),
        ("a Study Instance UID that is none", replaced(r#"["1.2"]"#, r#"["../.."]"#)),
        ("no Study Instance UID", replaced("0020000D", "00200010")),
        ("no Series Instance UID", replaced("0020000E", "00200010")),
    ] {
        rows.push(body(format!("JSON: {what}"), text, 409));
    }
    rows
}
