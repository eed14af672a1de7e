//! Files made of metadata and bulk data: what is written reads back as what was described.

use std::collections::{BTreeMap, BTreeSet};

use dicom_dictionary_std::tags;
use proptest::prelude::{ProptestConfig, any, proptest};
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::dicom::bulk::{self, BulkKind, BulkPath};
use crate::dicom::compose::Amount;
use crate::dicom::compose::model::{Known, Limits};
use crate::dicom::compose::{json as reader, xml as xml_reader};
use crate::dicom::frames::FrameIndex;
use crate::dicom::header::Header;
use crate::dicom::samples::{self, EXPLICIT};
use crate::dicom::transfer_syntax::EXPLICIT_LITTLE;
use crate::dicom::{corpus, json as writer, xml as xml_writer};

/// Parts by the URIs that name them.
#[derive(Default)]
struct Parts {
    parts: Vec<(Part, Vec<u8>)>,
    names: BTreeMap<String, Vec<usize>>,
}

impl Parts {
    fn with(mut self, uri: &str, form: Form, bytes: &[u8]) -> Self {
        self.push(uri, form, bytes.to_vec());
        self
    }

    fn push(&mut self, uri: &str, form: Form, bytes: Vec<u8>) {
        let part = Part { length: bytes.len() as u64, ascii: bytes.is_ascii(), form };
        self.names.entry(uri.to_owned()).or_default().push(self.parts.len());
        self.parts.push((part, bytes));
    }

    fn file(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut file = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => file.extend_from_slice(bytes),
                Piece::Part { number, range } => {
                    let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    file.extend_from_slice(&self.parts[*number].1[range]);
                }
            }
        }
        file
    }
}

impl Bulk for Parts {
    fn named(&self, uri: &str) -> &[usize] {
        self.names.get(uri).map_or(&[], Vec::as_slice)
    }

    fn part(&self, number: usize) -> Option<&Part> {
        self.parts.get(number).map(|(part, _)| part)
    }
}

fn frame(syntax: &str) -> Form {
    Form::Frame(TransferSyntaxUid::parse(syntax).unwrap())
}

const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// Metadata of an instance with more attributes.
fn described(more: &Json) -> Dataset {
    let mut object = json!({
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.4"]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
    });
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    reader::read(object.to_string().as_bytes(), Limits::default(), &mut Known::default()).unwrap()
}

fn composed(dataset: Dataset, parts: &dyn Bulk) -> Result<Vec<Piece>, ComposeError> {
    let boundless = Amount { parts: usize::MAX, bytes: u64::MAX };
    compose(dataset, parts, &mut Budget::new(boundless, boundless))
}

fn made(more: &Json, parts: &Parts) -> Result<Header, ComposeError> {
    let pieces = composed(described(more), parts)?;
    Ok(corpus::read(&parts.file(&pieces), usize::MAX).unwrap())
}

fn metadata(header: &Header) -> Json {
    serde_json::from_slice(&writer::write_metadata(header).json).unwrap()
}

#[test]
fn a_file_has_its_front_and_its_attributes_in_order_with_even_lengths() {
    let more = json!({
        "00020010": {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.50"]},
        "00083002": {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.50"]},
        "00080060": {"vr": "CS", "Value": ["OT "]},
        "00081140": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["abc"]}}, {}]},
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00091001": {"vr": "UN", "InlineBinary": "AAEC"},
    });
    let parts = Parts::default();
    let pieces = composed(described(&more), &parts).unwrap();
    assert_eq!(pieces, composed(described(&more), &parts).unwrap(), "the same every time");
    let file = parts.file(&pieces);
    assert!(file.starts_with(&[0; 128]) && file[128..132] == *b"DICM" && file.len() % 2 == 0);
    let header = corpus::read(&file, usize::MAX).unwrap();
    assert_eq!(header.transfer_syntax.as_str(), EXPLICIT_LITTLE);
    assert_eq!(header.meta.sop_instance.as_deref(), Some("1.2.3.4"));
    assert!(header.dataset.elements.is_sorted_by_key(|element| element.tag));
    assert!(header.dataset.elements.iter().all(|element| element.extent.length % 2 == 0));
    let metadata = metadata(&header);
    assert_eq!(metadata["00083002"]["Value"][0], EXPLICIT_LITTLE, "what the server says");
    assert_eq!(metadata["00091001"]["InlineBinary"], "AAECAA==", "with its padding");
    assert_eq!(metadata["00081140"]["Value"], more["00081140"]["Value"]);
}

#[test]
fn text_beyond_ascii_is_utf_8_and_said_to_be() {
    let charset = |more: &Json, parts: &Parts| {
        composed(described(more), parts).map(|pieces| {
            let header = corpus::read(&parts.file(&pieces), usize::MAX).unwrap();
            let element = header.dataset.elements.iter().find(|element| element.tag == SPECIFIC_CHARACTER_SET);
            element.map(|element| String::from_utf8(header.value(element).to_vec()).unwrap())
        })
    };
    let name = |name: &str| json!({"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}});
    let none = Parts::default();
    assert_eq!(charset(&name("Doe"), &none), Ok(None));
    assert_eq!(charset(&name("Müller"), &none), Ok(Some("ISO_IR 192".to_owned())));
    let in_item = json!({"00081140": {"vr": "SQ", "Value": [name("山田")]}});
    assert_eq!(charset(&in_item, &none), Ok(Some("ISO_IR 192".to_owned())));
    let latin = json!({"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}});
    assert_eq!(charset(&latin, &none), Ok(Some("ISO_IR 192".to_owned())), "what the client says does not count");
    let bulk = json!({"00081199": {"vr": "SQ", "Value": [{"00420010": {"vr": "UT", "BulkDataURI": "t"}}]}});
    let text = |text: &str| Parts::default().with("t", Form::Plain, text.as_bytes());
    assert_eq!(charset(&bulk, &text("plain")), Ok(None));
    assert_eq!(charset(&bulk, &text("é")), Ok(Some("ISO_IR 192".to_owned())));
    let header = made(&name("Müller"), &none).unwrap();
    assert_eq!(metadata(&header)["00100010"]["Value"][0]["Alphabetic"], "Müller");
}

#[test]
fn pixel_data_are_native_or_frames_by_what_their_parts_are() {
    let pixel = json!({"7FE00010": {"vr": "OB", "BulkDataURI": "p"}, "00280100": {"vr": "US", "Value": [16]}});
    let native = Parts::default().with("p", Form::Plain, &[1, 2, 3, 4]).with("p", Form::Plain, &[5, 6]);
    let header = made(&pixel, &native).unwrap();
    let element = header.dataset.elements.last().unwrap();
    assert_eq!((element.vr, element.extent.length), (VR::OW, 6), "words, one part after the other");
    let jpeg = Parts::default().with("p", frame(JPEG), &[1, 2, 3]).with("p", frame(JPEG), &[4, 5]);
    let header = made(&pixel, &jpeg).unwrap();
    assert_eq!((header.transfer_syntax.as_str(), header.number_of_frames), (JPEG, 2));
    let FrameIndex::Encapsulated(frames) = &header.frames else { panic!("{:?}", header.frames) };
    let lengths: Vec<_> = frames.iter().map(|frame| frame.fragments).collect();
    assert_eq!(lengths, [vec![4], vec![2]]);
    let extended = json!({"7FE00001": {"vr": "OV", "BulkDataURI": "old"}});
    let mut with_tables = pixel.clone();
    with_tables.as_object_mut().unwrap().extend(extended.as_object().unwrap().clone());
    let header = made(&with_tables, &jpeg).unwrap();
    assert_eq!(metadata(&header)["7FE00001"]["InlineBinary"], "AAAAAAAAAAAMAAAAAAAAAA==");
    for (what, parts, fault) in [
        ("none", Parts::default(), Fault::NoPart),
        ("a web page", Parts::default().with("p", Form::Other, &[1]), Fault::MediaType),
        ("two syntaxes", Parts::default().with("p", frame(JPEG), &[1]).with("p", frame("1.2"), &[1]), Fault::Parts),
        ("both kinds", Parts::default().with("p", frame(JPEG), &[1]).with("p", Form::Plain, &[1]), Fault::Parts),
    ] {
        let error = made(&pixel, &parts).expect_err(what);
        assert_eq!(error, ComposeError::attribute(PIXEL_DATA, VR::OB, fault), "{what}");
    }
}

#[test]
fn what_cannot_be_an_element_is_refused_or_becomes_unknown() {
    let text = "x".repeat(70_000);
    let header = made(&json!({"00104000": {"vr": "LT", "Value": [text]}}), &Parts::default()).unwrap();
    assert_eq!(header.dataset.elements[2].vr, VR::UN, "too long for a length of 16 bits");
    struct Huge(Part);
    impl Bulk for Huge {
        fn named(&self, _: &str) -> &[usize] {
            &[0]
        }
        fn part(&self, _: usize) -> Option<&Part> {
            Some(&self.0)
        }
    }
    for (length, fits) in [(0xFFFF_FFFE, true), (0xFFFF_FFFF, false), (u64::MAX, false)] {
        let huge = Huge(Part { length, ascii: true, form: Form::Plain });
        let more = json!({"7FE00010": {"vr": "OW", "BulkDataURI": "p"}});
        assert_eq!(composed(described(&more), &huge).is_ok(), fits, "{length}");
    }
    for tag in ["00080016", "00080018"] {
        for uid in [json!({"vr": "UI"}), json!({"vr": "UI", "Value": ["x"]})] {
            let error = composed(described(&json!({tag: uid})), &Parts::default()).expect_err("no UID");
            assert!(matches!(error, ComposeError::Identity(_)));
        }
    }
}

/// The values that the BulkDataURIs of metadata name, as parts of a request.
fn parts_of(header: &Header, file: &[u8], index: &[u8], object: &Map<String, Json>, parts: &mut Parts) {
    for attribute in object.values() {
        if let Some(items) = attribute["Value"].as_array().filter(|_| attribute["vr"] == "SQ") {
            items.iter().filter_map(Json::as_object).for_each(|item| parts_of(header, file, index, item, parts));
        }
        let Some(uri) = attribute["BulkDataURI"].as_str() else { continue };
        let path = BulkPath::parse(uri.strip_prefix("bulkdata/").unwrap()).unwrap();
        let value = bulk::find(index, &path).unwrap().unwrap();
        let mut bytes = corpus::range(header, file, value.extent.position, value.extent.length);
        match value.kind {
            BulkKind::Plain { swap } => {
                vr::swap(&mut bytes, swap);
                parts.push(uri, Form::Plain, bytes);
            }
            BulkKind::Encapsulated => {
                for fragment in fragments(header, &bytes, path == BulkPath::pixel_data()) {
                    parts.push(uri, frame(header.transfer_syntax.as_str()), fragment);
                }
            }
        }
    }
}

/// The frames of encapsulated pixel data, or all fragments as one.
fn fragments(header: &Header, bytes: &[u8], root: bool) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let mut rest = bytes;
    while let [_, _, 0, 0xE0, a, b, c, d, after @ ..] = rest {
        let (value, after) = after.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        items.push(value.to_vec());
        rest = after;
    }
    let mut items = items.into_iter().skip(1);
    match &header.frames {
        FrameIndex::Encapsulated(frames) if root => {
            frames.iter().map(|frame| items.by_ref().take(frame.fragments.len()).flatten().collect()).collect()
        }
        _ => vec![items.flatten().collect()],
    }
}

/// What must be the same: all but what says how the file is encoded.
fn comparable(metadata: &Json) -> Json {
    let mut metadata = metadata.clone();
    let object = metadata.as_object_mut().unwrap();
    for tag in ["00083002", "7FE00001", "7FE00002"] {
        object.remove(tag);
    }
    if let Some(pixel) = object.get_mut("7FE00010") {
        pixel["vr"] = json!("OW");
    }
    metadata
}

/// Sends the metadata and bulk data of a file back in both forms; what differs.
fn round_trip(file: &[u8]) -> Result<(), String> {
    let header = corpus::read(file, usize::MAX).map_err(|error| error.to_string())?;
    let stored = writer::write_metadata(&header);
    let before: Json = serde_json::from_slice(&stored.json).unwrap();
    let mut parts = Parts::default();
    parts_of(&header, file, &stored.bulk, before.as_object().unwrap(), &mut parts);
    let from_json = reader::read(&stored.json, Limits::default(), &mut Known::default())
        .map_err(|error| format!("JSON: {error}"))?;
    let from_xml = xml_reader::read(&xml_writer::write(&before), Limits::default(), &mut Known::default())
        .map_err(|error| format!("XML: {error}"))?;
    for (form, dataset) in [("JSON", from_json), ("XML", from_xml)] {
        let pieces = composed(dataset, &parts).map_err(|error| format!("{form}: {error}"))?;
        let again = parts.file(&pieces);
        let header = corpus::read(&again, usize::MAX).map_err(|error| format!("{form}: {error}"))?;
        let stored = writer::write_metadata(&header);
        let after: Json = serde_json::from_slice(&stored.json).unwrap();
        let (mut before, mut after) = (comparable(&before), comparable(&after));
        if form == "XML" {
            as_xml_has_it(&mut before);
            as_xml_has_it(&mut after);
        }
        if let Some(different) = first_difference(&before, &after) {
            return Err(format!("{form}: {different} differs"));
        }
        let mut parts_again = Parts::default();
        parts_of(&header, &again, &stored.bulk, after.as_object().unwrap(), &mut parts_again);
        let padded = |parts: &Parts| -> Vec<Vec<u8>> {
            let even = |bytes: &Vec<u8>| {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len().next_multiple_of(2), 0);
                bytes
            };
            parts.parts.iter().map(|(_, bytes)| even(bytes)).collect()
        };
        if padded(&parts) != padded(&parts_again) {
            return Err(format!("{form}: bulk data differ"));
        }
    }
    Ok(())
}

/// XML has a person's name by its five components and says nothing of empty ones at the end, nor of values at the end that are
/// missing; a number has no fixed text.
fn as_xml_has_it(value: &mut Json) {
    match value {
        Json::Object(object) => {
            object.values_mut().for_each(as_xml_has_it);
            for group in ["Alphabetic", "Ideographic", "Phonetic"] {
                if let Some(Json::String(name)) = object.get_mut(group) {
                    name.truncate(name.trim_end_matches('^').len());
                    if name.is_empty() {
                        object.remove(group);
                    }
                }
            }
            if object.get("vr").is_some_and(|vr| vr != "SQ")
                && let Some(Json::Array(values)) = object.get_mut("Value")
            {
                while values.last().is_some_and(|value| value.is_null() || *value == json!({})) {
                    values.pop();
                }
                if values.is_empty() {
                    object.remove("Value");
                }
            }
        }
        Json::Array(values) => values.iter_mut().for_each(as_xml_has_it),
        Json::Number(number) => *value = json!(number.as_f64()),
        _ => {}
    }
}

fn first_difference(one: &Json, other: &Json) -> Option<String> {
    let tags: BTreeSet<&String> = one.as_object()?.keys().chain(other.as_object()?.keys()).collect();
    tags.into_iter().find(|tag| one.get(tag.as_str()) != other.get(tag.as_str())).cloned()
}

#[test]
fn what_is_served_can_be_stored_again_in_both_forms() {
    // what a file says that neither form can, or that is not DICOM
    let mut differ = Vec::new();
    let mut same = 0;
    for (path, file) in corpus::files() {
        let identified = corpus::read(&file, usize::MAX).is_ok_and(|header| header.identity().is_ok());
        if path.starts_with("broken/") || !identified {
            continue;
        }
        match round_trip(&file) {
            Ok(()) => same += 1,
            Err(why) => differ.push((path, why)),
        }
    }
    println!("{same} corpus files come back as they were");
    assert_eq!(differ, Vec::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_values_come_back_as_they_were_served(
        text in "[ -\\[\\]-~]{0,40}",
        person in "[A-Za-z]{1,6}(\\^[A-Z]{1,4}){0,3}(=[a-z]{1,3}){0,2}",
        decimals in proptest::collection::vec(-1e6_f64..1e6, 0..4),
        words in proptest::collection::vec(any::<u16>(), 0..5),
        doubles in proptest::collection::vec(any::<f64>(), 0..3),
        binary in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let decimals: Vec<String> = decimals.iter().map(|number| format!("{number:.4}")).collect();
        let little: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let even = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(2), b' ');
            bytes
        };
        let file = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
            writer
                .identity()
                .put(tags::PATIENT_NAME, VR::PN, &even(person.as_bytes()))
                .put(tags::PATIENT_COMMENTS, VR::LT, &even(text.as_bytes()))
                .put(tags::IMAGE_POSITION_PATIENT, VR::DS, &even(decimals.join("\\").as_bytes()))
                .put(tags::SIMPLE_FRAME_LIST, VR::UL, &even(&little)[..little.len() / 4 * 4])
                .put(tags::SELECTOR_FD_VALUE, VR::FD, &doubles.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())
                .put(PIXEL_DATA, VR::OW, &even(&binary));
        });
        assert_eq!(round_trip(&file), Ok(()));
    }
}
