//! Documents of the Native DICOM Model as clients write them, well and badly.

use dicom_core::Tag;
use proptest::prelude::{Just, Strategy as _, any, prop_oneof, proptest};

use super::*;

fn parse(body: &str) -> Result<Dataset, ComposeError> {
    read(format!("<NativeDicomModel>{body}</NativeDicomModel>").as_bytes(), Limits::default(), &mut Known::default())
}

fn bytes(text: &[u8]) -> Value {
    Value::Bytes(text.to_vec())
}

fn one(body: &str) -> Result<(VR, Value), ComposeError> {
    parse(body).map(|dataset| {
        let (_, element) = dataset.into_elements().pop().unwrap();
        (element.vr, element.value)
    })
}

#[test]
fn each_form_of_value_becomes_the_bytes_of_its_vr() {
    for (body, expected) in [
        (r#"<DicomAttribute tag="00080060" vr="CS"/>"#, (VR::CS, bytes(b""))),
        (r#"<DicomAttribute tag="00080060"><Value number="1">CT</Value></DicomAttribute>"#, (VR::CS, bytes(b"CT"))),
        (
            "<!-- a --><d:DicomAttribute xmlns:d='x' d:tag='00080008' vr='CS'>\n <Value number='1'>A</Value>\
             <Value number='3'><![CDATA[B&]]>&lt;&#67;</Value> </d:DicomAttribute>",
            (VR::CS, bytes(b"A\\\\B&<C")),
        ),
        ("<DicomAttribute tag='00280010' vr='US'><Value>512</Value></DicomAttribute>", (VR::US, bytes(&[0, 2]))),
        (
            "<DicomAttribute tag='00104000' vr='LT'><Value number='1'>  a\r\nb&#13; </Value></DicomAttribute>",
            (VR::LT, bytes(b"  a\nb\r ")),
        ),
        (
            "<DicomAttribute tag='00100010' vr='PN'><PersonName number='1'><Alphabetic><FamilyName>A</FamilyName>\
             <NamePrefix>P</NamePrefix></Alphabetic><Phonetic><GivenName>g</GivenName></Phonetic></PersonName></DicomAttribute>",
            (VR::PN, bytes(b"A^^^P==^g")),
        ),
        (
            "<DicomAttribute tag='7FE00010' vr='OW'><InlineBinary>AAEC\nAw==</InlineBinary></DicomAttribute>",
            (VR::OW, bytes(&[0, 1, 2, 3])),
        ),
        (
            "<DicomAttribute tag='7FE00010' vr='OW'><BulkData uri='http://h/a?b&amp;c'/></DicomAttribute>",
            (VR::OW, Value::Bulk("http://h/a?b&c".to_owned())),
        ),
        (
            "<DicomAttribute tag='7FE00010' vr='OW'><BulkData uuid='1-2'/></DicomAttribute>",
            (VR::OW, Value::Bulk("1-2".to_owned())),
        ),
        (
            "<DicomAttribute tag='00081140' vr='SQ'><Item number='1'/><Item number='2'></Item></DicomAttribute>",
            (VR::SQ, Value::Items(vec![Dataset::default(); 2])),
        ),
    ] {
        assert_eq!(one(body), Ok(expected), "{body}");
    }
    let private =
        "<DicomAttribute tag='00090001' vr='LO' privateCreator='ACME'><Value number='1'>x</Value></DicomAttribute>";
    let dataset = parse(private).unwrap();
    assert_eq!((dataset.text(Tag(9, 0x10)), dataset.text(Tag(9, 0x1001))), (Some("ACME"), Some("x")));
}

#[test]
fn what_is_no_document_of_the_model_is_refused() {
    let attribute = |content: &str| format!("<DicomAttribute tag='00080060' vr='CS'>{content}</DicomAttribute>");
    for (body, expected) in [
        (attribute("x"), "text stands where the model has elements"),
        (attribute("<Other/>"), "`00080060` CS: a value is of the wrong type"),
        (attribute("<Item/>"), "`00080060` CS: a value is of the wrong type"),
        (attribute("<Value>a<b/></Value>"), "an element stands where the model has text"),
        (attribute("<Value>&secret;</Value>"), "a reference names no character of XML"),
        (
            attribute("<Value number='2'>a</Value><Value number='2'>b</Value>"),
            "`00080060` CS: is not described as the model asks",
        ),
        (attribute("<Value number='x'>a</Value>"), "`00080060` CS: is not described as the model asks"),
        (attribute("<Value number='4294967295000'>a</Value>"), "the metadata of the instance are too large"),
        (attribute("<Value>a</Value><BulkData uri='b'/>"), "`00080060` CS: has more than one form of value"),
        (attribute("<BulkData uri='b'/><Value>a</Value>"), "`00080060` CS: has more than one form of value"),
        (attribute("<BulkData/>"), "`00080060` CS: is not described as the model asks"),
        ("<DicomAttribute vr='CS'/>".to_owned(), "a `DicomAttribute` has no `tag` of eight hexadecimal digits"),
        ("<DicomAttribute tag='00091001'/>".to_owned(), "`00091001`: has no `vr`, and the dictionary has not one"),
        (attribute("") + &attribute(""), "`00080060` CS: is there twice"),
        ("<Value>a</Value>".to_owned(), "something else than a `DicomAttribute` stands in a data set"),
        ("<DicomAttribute>".to_owned(), "a `DicomAttribute` has no `tag` of eight hexadecimal digits"),
        ("<DicomAttribute tag='00080060' vr='CS'>".to_owned(), "the XML is not well formed"),
    ] {
        let error = parse(&body).expect_err(&body).to_string();
        assert!(error.starts_with(expected), "{body}: {error}");
    }
    for document in [
        "",
        "<a/>",
        "<NativeDicomModel/><NativeDicomModel/>",
        "<!DOCTYPE NativeDicomModel [<!ENTITY a 'aaaa'>]><NativeDicomModel/>",
        "<?xml version='1.0' encoding='ISO-8859-1'?><NativeDicomModel/>",
        "<NativeDicomModel>",
        "text",
    ] {
        assert!(read(document.as_bytes(), Limits::default(), &mut Known::default()).is_err(), "{document}");
    }
    let whole = "\u{feff}<?xml version='1.0' encoding='utf-8'?>\n<!-- --><n:NativeDicomModel xmlns:n='x'/>\n";
    assert_eq!(read(whole.as_bytes(), Limits::default(), &mut Known::default()), Ok(Dataset::default()));
}

#[test]
fn nesting_and_memory_are_bounded() {
    let nested = |levels: usize| {
        "<DicomAttribute tag='00081140' vr='SQ'><Item>".repeat(levels) + &"</Item></DicomAttribute>".repeat(levels)
    };
    let most = Limits::default().depth;
    assert!(parse(&nested(most)).is_ok());
    assert_eq!(parse(&nested(most + 1)), Err(ComposeError::TooDeep(most)));
    assert_eq!(parse(&nested(10_000)), Err(ComposeError::TooDeep(most)));
    let limits = Limits { bytes: 100_000, ..Limits::default() };
    let many = format!("<NativeDicomModel {}/>", "a='b' ".repeat(1000));
    assert!(read(many.as_bytes(), limits, &mut Known::default()).is_ok(), "the root says nothing that is read");
    for body in [
        format!("<DicomAttribute {}/>", "a='b' ".repeat(100_000)),
        format!("<DicomAttribute tag='00081140' vr='SQ'>{}</DicomAttribute>", "<Item/>".repeat(5000)),
        format!("<DicomAttribute tag='00080060' vr='CS'><Value>{}</Value></DicomAttribute>", "a".repeat(200_000)),
        format!("<DicomAttribute tag='00080060' vr='CS'>{}</DicomAttribute>", "<Value>a</Value>".repeat(200_000)),
    ] {
        let document = format!("<NativeDicomModel>{body}</NativeDicomModel>");
        assert!(read(document.as_bytes(), limits, &mut Known::default()).is_err(), "{}", &body[..60]);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_with_an_error(
        pieces in proptest::collection::vec(prop_oneof![
            Just("<NativeDicomModel>"), Just("</NativeDicomModel>"), Just("<DicomAttribute tag='00081140' vr='SQ'>"),
            Just("<DicomAttribute tag='00090001' vr='PN' privateCreator='a'>"), Just("</DicomAttribute>"), Just("<Item number='1'>"),
            Just("</Item>"), Just("<Value number='9'>"), Just("</Value>"), Just("<PersonName>"), Just("</PersonName>"), Just("&amp;"),
            Just("<![CDATA["), Just("]]>"), Just("&#x10FFFF;"), Just("<!DOCTYPE a>"), Just("<?a?>"), Just("<!--"), Just("-->"), Just("x"),
        ], 0..40).prop_map(|pieces| pieces.concat()),
        any in any::<Vec<u8>>(),
    ) {
        for text in [pieces.as_bytes(), &any] {
            drop(read(text, Limits::default(), &mut Known::default()));
        }
    }
}
