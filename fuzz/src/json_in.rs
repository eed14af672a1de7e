//! Metadata in DICOM JSON: refused, or made into files that say the same.
//!
//! Input: the text.

use isocenter::dicom::compose::json;
use serde_json::Value;

use super::composed;

/// Instances of a text.
const MOST: usize = 100;
/// Instances of which files are made.
const MOST_FILES: usize = 8;

/// Checks one input.
pub fn run(data: &[u8]) {
    let Ok(found) = json::instances(data, MOST) else { return };
    let bare = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    // which takes neither numbers beyond a double nor deep nesting
    if let Err(error) = serde_json::from_slice::<Value>(bare) {
        let told = error.to_string();
        assert!(told.starts_with("number out of range") || told.starts_with("recursion limit"), "{told}");
    }
    assert!(found.len() <= MOST);
    assert!(found.is_sorted_by(|one, next| one.end <= next.start), "instances overlap");
    for range in found.into_iter().take(MOST_FILES) {
        composed::check(json::read, &data[range]);
    }
}
