//! DICOM JSON as XML: the Native DICOM Model
//! ([PS3.19 A.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part19/chapter_A.html), PS3.18 F.3).

use std::fmt::Write as _;

use base64::Engine as _;
use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_dictionary_std::StandardDataDictionary;
use serde_json::{Map, Value};

/// What every document begins with.
const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
     <NativeDicomModel xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">";

/// The components of a group of a person's name, in their order.
const COMPONENTS: [&str; 5] = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"];

/// Writes a data set given as DICOM JSON. What is no attribute in it is left out.
#[must_use]
pub fn write(dataset: &Value) -> Vec<u8> {
    let mut text = String::new();
    attributes(&mut text, dataset);
    document(&text)
}

/// The document of these attributes.
#[must_use]
pub fn document(attributes: &str) -> Vec<u8> {
    [HEAD, attributes, "</NativeDicomModel>\n"].concat().into_bytes()
}

/// Writes an attribute whose content is written already.
pub fn attribute(text: &mut String, tag: Tag, vr: &str, content: &str) {
    open(text, tag, vr, None);
    text.push_str(content);
    text.push_str("</DicomAttribute>");
}

/// Writes an item of a sequence, whose first has the number 1.
pub fn item(text: &mut String, number: usize, dataset: &Value) {
    push(text, format_args!("<Item number=\"{number}\">"));
    attributes(text, dataset);
    text.push_str("</Item>");
}

/// Writes the attributes of a data set.
pub fn attributes(text: &mut String, dataset: &Value) {
    let Some(dataset) = dataset.as_object() else { return };
    for (name, attribute) in dataset {
        let Ok(number) = u32::from_str_radix(name, 16) else { continue };
        let vr = attribute["vr"].as_str().unwrap_or("UN");
        open(text, Tag((number >> 16) as u16, (number & 0xffff) as u16), vr, creator(dataset, number));
        content(text, vr, attribute);
        text.push_str("</DicomAttribute>");
    }
}

fn open(text: &mut String, tag: Tag, vr: &str, creator: Option<&str>) {
    let (group, element) = (tag.group(), tag.element());
    push(text, format_args!("<DicomAttribute tag=\"{group:04X}{element:04X}\" vr=\"{}\"", escaped(vr)));
    if let Some(entry) = StandardDataDictionary.by_tag(tag).filter(|_| group.is_multiple_of(2)) {
        push(text, format_args!(" keyword=\"{}\"", entry.alias()));
    } else if let Some(creator) = creator {
        push(text, format_args!(" privateCreator=\"{}\"", escaped(creator)));
    }
    text.push('>');
}

/// Who reserved the block of a private attribute (PS3.5 7.8.1).
fn creator(dataset: &Map<String, Value>, tag: u32) -> Option<&str> {
    let (group, block) = (tag >> 16, (tag >> 8) & 0xff);
    if group.is_multiple_of(2) || block < 0x10 {
        return None;
    }
    let creator = dataset.get(&format!("{group:04X}{block:04X}"))?;
    // one text; other things that stand in its place are no names, and would be taken for those of other blocks
    match creator["Value"].as_array()?.as_slice() {
        [name] if creator["vr"] == "LO" => name.as_str(),
        _ => None,
    }
}

fn content(text: &mut String, vr: &str, attribute: &Value) {
    if let Some(uri) = attribute["BulkDataURI"].as_str() {
        push(text, format_args!("<BulkData uri=\"{}\"/>", escaped(uri)));
    }
    if let Some(bytes) = attribute["InlineBinary"].as_str() {
        // base64 in both, so nothing in it needs escaping, if it is that
        let valid = base64::engine::general_purpose::STANDARD.decode(bytes).is_ok();
        push(text, format_args!("<InlineBinary>{}</InlineBinary>", if valid { bytes } else { "" }));
    }
    let values = attribute["Value"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (number, value) in (1..).zip(values) {
        match (vr, value) {
            // the numbers tell that one is missing
            (_, Value::Null) => {}
            ("SQ", dataset) => item(text, number, dataset),
            ("PN", name) => person_name(text, number, name),
            (_, Value::String(value)) => {
                push(text, format_args!("<Value number=\"{number}\">{}</Value>", escaped(value)));
            }
            (_, value) => push(text, format_args!("<Value number=\"{number}\">{value}</Value>")),
        }
    }
}

fn person_name(text: &mut String, number: usize, name: &Value) {
    push(text, format_args!("<PersonName number=\"{number}\">"));
    for group in ["Alphabetic", "Ideographic", "Phonetic"] {
        let Some(value) = name[group].as_str() else { continue };
        push(text, format_args!("<{group}>"));
        for (component, value) in COMPONENTS.iter().zip(value.split('^')).filter(|(_, value)| !value.is_empty()) {
            push(text, format_args!("<{component}>{}</{component}>", escaped(value)));
        }
        push(text, format_args!("</{group}>"));
    }
    text.push_str("</PersonName>");
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    // writing to a string cannot fail
    let _ = text.write_fmt(piece);
}

/// A text as content or attribute value. XML 1.0 has no control characters but tab and line ends, and readers make LF of a CR
/// that is not escaped.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\r' => text.push_str("&#13;"),
            '\t' | '\n' => text.push(letter),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => text.push(char::REPLACEMENT_CHARACTER),
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(dataset: &Value) -> String {
        let text = String::from_utf8(write(dataset)).unwrap();
        text.strip_prefix(HEAD).unwrap().strip_suffix("</NativeDicomModel>\n").unwrap().to_owned()
    }

    #[test]
    fn attributes_become_elements_by_their_kind() {
        let cases = [
            (json!({}), ""),
            (
                json!({"00080060": {"vr": "CS"}}),
                r#"<DicomAttribute tag="00080060" vr="CS" keyword="Modality"></DicomAttribute>"#,
            ),
            (
                json!({"00081197": {"vr": "US", "Value": [272]}}),
                r#"<DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">272</Value></DicomAttribute>"#,
            ),
            (
                json!({"00080008": {"vr": "CS", "Value": ["A", null, "B & <C>\r\u{1}"]}}),
                "<DicomAttribute tag=\"00080008\" vr=\"CS\" keyword=\"ImageType\"><Value number=\"1\">A</Value>\
                 <Value number=\"3\">B &amp; &lt;C&gt;&#13;\u{fffd}</Value></DicomAttribute>",
            ),
            (
                json!({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane^^Dr", "Ideographic": "山田"}]}}),
                "<DicomAttribute tag=\"00100010\" vr=\"PN\" keyword=\"PatientName\"><PersonName number=\"1\"><Alphabetic>\
                 <FamilyName>Doe</FamilyName><GivenName>Jane</GivenName><NamePrefix>Dr</NamePrefix></Alphabetic>\
                 <Ideographic><FamilyName>山田</FamilyName></Ideographic></PersonName></DicomAttribute>",
            ),
            (
                json!({"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}, {}]}}),
                "<DicomAttribute tag=\"00081199\" vr=\"SQ\" keyword=\"ReferencedSOPSequence\"><Item number=\"1\">\
                 <DicomAttribute tag=\"00081155\" vr=\"UI\" keyword=\"ReferencedSOPInstanceUID\"><Value number=\"1\">1.2</Value>\
                 </DicomAttribute></Item><Item number=\"2\"></Item></DicomAttribute>",
            ),
            (
                json!({"7FE00010": {"vr": "OW", "BulkDataURI": "http://h/a?b&c"}, "00420011": {"vr": "OB", "InlineBinary": "AAE="}}),
                "<DicomAttribute tag=\"00420011\" vr=\"OB\" keyword=\"EncapsulatedDocument\"><InlineBinary>AAE=</InlineBinary>\
                 </DicomAttribute><DicomAttribute tag=\"7FE00010\" vr=\"OW\" keyword=\"PixelData\">\
                 <BulkData uri=\"http://h/a?b&amp;c\"/></DicomAttribute>",
            ),
            (
                json!({"00090010": {"vr": "LO", "Value": ["ACME"]}, "00091001": {"vr": "LO", "Value": ["x"]}}),
                "<DicomAttribute tag=\"00090010\" vr=\"LO\"><Value number=\"1\">ACME</Value></DicomAttribute>\
                 <DicomAttribute tag=\"00091001\" vr=\"LO\" privateCreator=\"ACME\"><Value number=\"1\">x</Value></DicomAttribute>",
            ),
        ];
        for (dataset, expected) in cases {
            assert_eq!(body(&dataset), expected, "{dataset}");
        }
    }
}
