//! The metadata of a header: valid DICOM JSON whatever the file holds, and an index that knows each of its bulk data.
//!
//! Input: the file.

use isocenter::dicom::bulk::{self, BulkPath};
use isocenter::dicom::entry::{AttributeSet, IndexEntry};
use isocenter::dicom::header::Header;
use isocenter::dicom::json::{splice_base, write_metadata, write_metadata_within};
use serde_json::Value;

use super::model;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Ok(header) = super::header::read(&[data]) else { return };
    let metadata = write_metadata(&header);
    let array = [b"[", &metadata.json[..], b"]"].concat();
    model::assert_well_formed(&array);
    let object: Value = serde_json::from_slice(&metadata.json).expect("well formed");
    for uri in model::bulk_data_uris(&object) {
        assert_found(&header, &metadata.bulk, &uri, data.len() as u64);
    }
    let mut spliced = Vec::new();
    splice_base(&metadata.json, "http://a.b/\"c\"/", "", &mut spliced);
    let spliced: Value = serde_json::from_slice(&spliced).expect("well formed with its base");
    assert_eq!(model::bulk_data_uris(&spliced).len(), model::bulk_data_uris(&object).len());
    for most in [0, metadata.json.len().saturating_sub(1), metadata.json.len()] {
        let within = write_metadata_within(&header, most);
        assert!(within.is_none_or(|within| within == metadata && within.json.len() <= most), "within {most}");
    }
    let entry = IndexEntry::from_header(&header).expect("a header with an identity");
    for set in [&entry.study.attributes, &entry.series.attributes, &entry.instance.attributes] {
        assert_attributes(set, &object);
    }
}

/// The path leads to a value within the file.
fn assert_found(header: &Header, index: &[u8], uri: &str, length: u64) {
    let path = uri.strip_prefix("bulkdata/").expect("a path within the instance");
    let path = BulkPath::parse(path).expect("a path");
    let value = bulk::find(index, &path).expect("a whole index").expect("in the index");
    assert_eq!(value.deflated, header.encoding.deflated);
    let end = value.extent.position.checked_add(value.extent.length).expect("a position");
    assert!(value.deflated || end <= length, "{value:?} of {length}");
}

/// What the index keeps is what the metadata say.
fn assert_attributes(set: &AttributeSet, object: &Value) {
    let mut rest = &set.0[..];
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let tag = format!("{a:02X}{b:02X}{c:02X}{d:02X}");
        let attribute: Value = serde_json::from_slice(&after[..length]).expect("well formed");
        assert_agree(&attribute, &object[&tag], &tag);
        rest = &after[length..];
    }
    assert!(rest.is_empty(), "half an attribute");
}

/// The same, but for what came as UN, which the index has by the VR of the dictionary, and bulk data, which it leaves out.
fn assert_agree(kept: &Value, whole: &Value, tag: &str) {
    match (kept["Value"].as_array(), whole["Value"].as_array()) {
        _ if whole["vr"] == "UN" => {}
        (Some(kept), Some(whole)) if kept.iter().all(Value::is_object) && kept.len() == whole.len() => {
            kept.iter().zip(whole).for_each(|(kept, whole)| assert_member(kept, whole, tag));
        }
        _ => assert_eq!(kept, whole, "{tag}"),
    }
}

/// The same of an item, which has attributes, or of a person name, which has texts.
fn assert_member(kept: &Value, whole: &Value, tag: &str) {
    let (Some(kept), Some(whole)) = (kept.as_object(), whole.as_object()) else { panic!("{tag}") };
    assert!(kept.keys().all(|name| whole.contains_key(name)), "{tag}");
    for (name, whole) in whole {
        match kept.get(name) {
            Some(kept) if kept.is_object() => assert_agree(kept, whole, name),
            Some(kept) => assert_eq!(kept, whole, "{tag}: {name}"),
            // by the VR of the dictionary it may be numbers that JSON does not have
            None => assert!(whole["BulkDataURI"].is_string() || whole["vr"] == "UN", "{tag}: {name} is missing"),
        }
    }
}
