//! Rows of storing requests that are metadata in XML: entities, encodings, and what is not the Native DICOM Model.

use super::metadata::uid;
use super::{NOT_UNDERSTOOD, Row};

const TOO_LARGE: u16 = 0xA700;
pub(super) const XML: &str = "application/dicom+xml";
const OPEN: &str = "<NativeDicomModel>";
const CLOSE: &str = "</NativeDicomModel>";

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [documents(), entities(), encodings(), models(), sizes()].into_iter().flatten().collect()
}

fn body(what: &str, body: impl AsRef<[u8]>, status: u16) -> Row {
    let row = Row::store(format!("XML: {what}"), XML, body, status);
    if status == 409 { row.because(&[NOT_UNDERSTOOD]) } else { row }
}

/// The attributes that each instance has.
fn identity(what: &str) -> String {
    let values = [
        ("00080016", "1.2.840.10008.5.1.4.1.1.7"),
        ("00080018", &uid(what)),
        ("0020000D", "1.2"),
        ("0020000E", "1.2.3"),
    ];
    let attribute = |(tag, value)| {
        format!(r#"<DicomAttribute tag="{tag}" vr="UI"><Value number="1">{value}</Value></DicomAttribute>"#)
    };
    values.map(attribute).concat()
}

/// A document with more attributes.
fn document(what: &str, more: &str) -> String {
    format!("{OPEN}{}{more}{CLOSE}", identity(what))
}

fn with(what: &str, more: &str, status: u16) -> Row {
    body(what, document(what, more), status)
}

fn attribute(inside: &str) -> String {
    format!(r#"<DicomAttribute tag="00081030" vr="LO">{inside}</DicomAttribute>"#)
}

fn documents() -> Vec<Row> {
    let good = document("documents", "");
    let mut rows: Vec<Row> = [
        "",
        " ",
        "text",
        "<",
        "<a",
        "<a>",
        "</a>",
        "<a></b>",
        "<NativeDicomModel>",
        "<NativeDicomModel",
        "</NativeDicomModel>",
        "<!--",
        "<![CDATA[",
        "<?",
        "<?xml",
        "<!",
        "&",
        "&lt;",
        "<html/>",
        "<nativedicommodel/>",
        "<NativeDicomModel/>",
        "[{}]",
        "\u{0}",
        "<NativeDicomModel/><NativeDicomModel/>",
        "<NativeDicomModel/>x",
        "x<NativeDicomModel/>",
        "<a><NativeDicomModel/></a>",
        "<NativeDicomModel a=b/>",
        "<NativeDicomModel a/>",
        "<NativeDicomModel><a/></NativeDicomModel>",
        "<NativeDicomModel>x</NativeDicomModel>",
        "<![CDATA[<NativeDicomModel/>]]>",
    ]
    .into_iter()
    .map(|wrong| body(&format!("none: {wrong:?}"), wrong, 409))
    .collect();
    rows.extend([
        body("twice the document", format!("{good}{good}"), 409),
        body("a document cut off", &good[..good.len() - 9], 409),
        body("no namespace", document("no namespace", ""), 200),
        // names count without their prefix: clients write one, none, or another
        body(
            "another namespace",
            document("another namespace", "").replacen(OPEN, "<NativeDicomModel xmlns=\"urn:evil\">", 1),
            200,
        ),
        body("a prefix that nobody declares", document("a prefix", "").replace("Value", "no:Value"), 200),
        body(
            "a schema from elsewhere",
            document("a schema", "").replacen(
                OPEN,
                "<NativeDicomModel xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"x file:///etc/passwd\">",
                1,
            ),
            200,
        ),
        body("a style sheet", format!("<?xml-stylesheet href=\"file:///etc/passwd\"?>{}", document("a style", "")), 200),
        with("an inclusion", "<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>", 409),
        with("comments and processing instructions", "<!-- < & --><?a <b> ?>", 200),
        with("an instruction and a comment in a value", &attribute("<Value>a<?b c?>d<!-- e -->f</Value>"), 200),
        with("CDATA in a value", &attribute("<Value><![CDATA[</Value><a>]]>]]&gt;</Value>"), 200),
        with("CDATA between attributes", "<![CDATA[ ]]>", 409),
        with("text between attributes", "x", 409),
        with("elements in a value", &attribute("<Value><b>x</b></Value>"), 409),
    ]);
    rows
}

fn entities() -> Vec<Row> {
    let doctype = |definitions: &str, value: &str| {
        format!(
            "<!DOCTYPE NativeDicomModel [{definitions}]>{}",
            document("entities", &attribute(&format!("<Value>{value}</Value>")))
        )
    };
    let laughs: String = (1..20)
        .map(|level| format!("<!ENTITY l{level} \"{}\">", format!("&l{};", level - 1).repeat(10)))
        .collect::<Vec<_>>()
        .concat();
    let mut rows = vec![
        body("a billion laughs", doctype(&format!("<!ENTITY l0 \"ha\">{laughs}"), "&l19;"), 409),
        body("an entity of itself", doctype("<!ENTITY a \"&b;\"><!ENTITY b \"&a;\">", "&a;"), 409),
        body("an external entity", doctype("<!ENTITY a SYSTEM \"file:///etc/passwd\">", "&a;"), 409),
        body("an external entity over the network", doctype("<!ENTITY a SYSTEM \"http://127.0.0.1:1/\">", "&a;"), 409),
        body("a parameter entity", doctype("<!ENTITY % a SYSTEM \"file:///etc/passwd\"> %a;", "x"), 409),
        body(
            "an entity of 1 MiB",
            doctype(&format!("<!ENTITY a \"{}\">", "a".repeat(1 << 20)), &"&a;".repeat(1_000)),
            409,
        ),
        body("a document type of nothing", "<!DOCTYPE NativeDicomModel><NativeDicomModel/>", 409),
        body("a document type of another file", "<!DOCTYPE a SYSTEM \"file:///dev/zero\"><NativeDicomModel/>", 409),
        body("a document type inside", document("inside", "<!DOCTYPE a>"), 409),
        body("a document type that does not end", "<!DOCTYPE a [", 409),
    ];
    for (value, status) in [
        ("&a;", 409),
        ("&nbsp;", 409),
        ("&;", 409),
        ("& ", 409),
        ("&lt", 409),
        ("&#0;", 409),
        ("&#xD800;", 409),
        ("&#x110000;", 409),
        ("&#99999999999999999999;", 409),
        ("&#-1;", 409),
        ("&#x;", 409),
        ("&#;", 409),
        ("&lt;&gt;&amp;&quot;&apos;&#65;&#x42;", 200),
    ] {
        rows.push(with(&format!("a reference {value}"), &attribute(&format!("<Value>{value}</Value>")), status));
        if status == 409 {
            let named =
                format!("<DicomAttribute tag=\"00111001\" vr=\"LO\" keyword=\"a\" privateCreator=\"{value}\"/>");
            rows.push(with(&format!("a reference in a name {value}"), &named, status));
        }
    }
    rows.push(with("100,000 references", &attribute(&format!("<Value>{}</Value>", "&#x41;".repeat(100_000))), 200));
    rows
}

fn encodings() -> Vec<Row> {
    let good = document("encodings", "");
    let declared = |encoding: &str| format!("<?xml version=\"1.0\" encoding=\"{encoding}\"?>{good}");
    let wide = |unit: fn(u16) -> [u8; 2]| declared("UTF-16").encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let mut rows: Vec<Row> = [
        ("UTF-8", 200),
        ("utf-8", 200),
        ("US-ASCII", 200),
        ("ISO-8859-1", 409),
        ("UTF-16", 409),
        ("UTF-7", 409),
        ("EBCDIC", 409),
        ("IBM037", 409),
        ("", 409),
        ("x-user-defined", 409),
        ("../../x", 409),
    ]
    .into_iter()
    .map(|(encoding, status)| body(&format!("the encoding `{encoding}`"), declared(encoding), status))
    .collect();
    rows.extend([
        body("UTF-16, little endian", wide(u16::to_le_bytes), 409),
        body("UTF-16, big endian, marked", [&b"\xfe\xff"[..], &wide(u16::to_be_bytes)].concat(), 409),
        body("a byte order mark", format!("\u{feff}{good}"), 200),
        body("a byte that is no UTF-8", [good.as_bytes(), b"<!-- \xff -->"].concat(), 409),
        body("XML 1.1", declared("UTF-8").replacen("1.0", "1.1", 1), 200),
        body("XML of the future", declared("UTF-8").replacen("1.0", "9.9", 1), 200),
        body("two declarations", format!("<?xml version=\"1.0\"?>{}", declared("UTF-8")), 200),
    ]);
    rows
}

fn models() -> Vec<Row> {
    let value = "<Value number=\"1\">a</Value>";
    let mut rows = Vec::new();
    for (what, more, status) in [
        ("no tag", "<DicomAttribute vr='LO'/>", 409),
        ("no VR that is known", "<DicomAttribute tag='00111001'/>", 409),
        ("a tag that is none", "<DicomAttribute tag='1' vr='LO'/>", 409),
        ("the tag of an item", "<DicomAttribute tag='FFFEE000' vr='LO'/>", 409),
        (
            "a tag of file meta information",
            "<DicomAttribute tag='00020010' vr='UI'><Value>1.2</Value></DicomAttribute>",
            200,
        ),
        ("an attribute twice", "<DicomAttribute tag='00100020' vr='LO'/><DicomAttribute tag='00100020' vr='LO'/>", 409),
        ("two tags", "<DicomAttribute tag='00100020' tag='00100021' vr='LO'/>", 200),
        ("a name of another prefix", "<DicomAttribute a:tag='00100020' vr='LO'/>", 200),
    ] {
        rows.push(with(what, more, status));
    }
    for (inside, status) in [
        ("<Value number='0'>a</Value>".to_owned(), 409),
        ("<Value number='-1'>a</Value>".to_owned(), 409),
        ("<Value number='x'>a</Value>".to_owned(), 409),
        ("<Value number='2'>a</Value><Value number='1'>b</Value>".to_owned(), 409),
        ("<Value number='1'>a</Value><Value number='1'>b</Value>".to_owned(), 409),
        ("<Value number='3'>a</Value>".to_owned(), 200),
        (format!("{value}<InlineBinary>YQ==</InlineBinary>"), 409),
        (format!("<InlineBinary>YQ==</InlineBinary>{value}"), 409),
        ("<InlineBinary>!</InlineBinary>".to_owned(), 409),
        ("<InlineBinary><a/></InlineBinary>".to_owned(), 409),
        ("<BulkData/>".to_owned(), 409),
        ("<BulkData uri='p'>x</BulkData>".to_owned(), 409),
        ("<BulkData uri='p'/><BulkData uri='p'/>".to_owned(), 409),
        ("<Item number='1'/>".to_owned(), 409),
        ("<Other/>".to_owned(), 409),
        ("<PersonName number='1'/>".to_owned(), 409),
        ("x".to_owned(), 409),
    ] {
        rows.push(with(&format!("a text of {inside}"), &attribute(&inside), status));
    }
    for (inside, status) in [
        ("<PersonName/>", 200),
        ("<PersonName><Alphabetic/></PersonName>", 200),
        ("<PersonName>A^B</PersonName>", 409),
        ("<PersonName><Alphabetic>A</Alphabetic></PersonName>", 409),
        ("<PersonName><Other/></PersonName>", 409),
        ("<PersonName><Alphabetic><Other/></Alphabetic></PersonName>", 409),
        ("<PersonName><Alphabetic><FamilyName>A=B^C\\D</FamilyName></Alphabetic></PersonName>", 409),
    ] {
        let more = format!("<DicomAttribute tag='00100010' vr='PN'>{inside}</DicomAttribute>");
        rows.push(with(&format!("a name of {inside}"), &more, status));
    }
    let creators: String = (0..300)
        .map(|number| format!("<DicomAttribute tag='00110001' vr='LO' privateCreator='C{number}'/>"))
        .collect::<Vec<_>>()
        .concat();
    rows.extend([
        with("a creator of a standard attribute", "<DicomAttribute tag='00100020' vr='LO' privateCreator='A'/>", 200),
        with("more creators than a group has blocks", &creators, 409),
        with("values in a sequence", "<DicomAttribute tag='00081140' vr='SQ'><Value>a</Value></DicomAttribute>", 409),
        with(
            "an item that is missing",
            "<DicomAttribute tag='00081140' vr='SQ'><Item number='9'/></DicomAttribute>",
            409,
        ),
    ]);
    rows
}

fn sizes() -> Vec<Row> {
    let nested = |levels: usize| {
        let open = "<DicomAttribute tag='00081140' vr='SQ'><Item number='1'>".repeat(levels);
        format!("{open}{}", "</Item></DicomAttribute>".repeat(levels))
    };
    let names: String = (0..10_000).map(|number| format!(" a{number}='b'")).collect::<Vec<_>>().concat();
    vec![
        with("sequences 64 deep", &nested(64), 200),
        with("sequences 65 deep", &nested(65), 409),
        with("sequences 10,000 deep", &nested(10_000), 409),
        body("10,000 elements in each other", format!("{OPEN}{}", "<a>".repeat(10_000)), 409),
        body(
            "1,000,000 elements in each other",
            format!("{OPEN}{}", "<DicomAttribute tag='00081140' vr='SQ'><Item>".repeat(40_000)),
            409,
        ),
        with("10,000 attributes of one element", &format!("<DicomAttribute{names} tag='00100020' vr='LO'/>"), 409),
        with("a name of 1 MiB", &format!("<{}/>", "a".repeat(1 << 20)), 409),
        with(
            "a name of an attribute of 1 MiB",
            &format!("<DicomAttribute {}='b' tag='00100020' vr='LO'/>", "a".repeat(1 << 20)),
            200,
        ),
        with("a comment of 8 MiB", &format!("<!--{}-->", " ".repeat(8 << 20)), 200),
        with("500,000 comments", &"<!---->".repeat(500_000), 200),
        with("the last value of 18 quintillions", &attribute("<Value number='18446744073709551615'>a</Value>"), 409)
            .because(&[TOO_LARGE]),
        with("the value behind 18 quintillions", &attribute("<Value number='18446744073709551616'>a</Value>"), 409),
        with(
            "the last number of 4 billions",
            "<DicomAttribute tag='00280010' vr='US'><Value number='4294967295'>1</Value></DicomAttribute>",
            409,
        )
        .because(&[TOO_LARGE]),
    ]
}
