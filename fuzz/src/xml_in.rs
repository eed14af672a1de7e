//! Metadata in the Native DICOM Model: refused, or made into files that say the same.
//!
//! Input: the document.

use isocenter::dicom::compose::xml;

use super::composed;

/// Checks one input.
pub fn run(data: &[u8]) {
    composed::check(xml::read, data);
}
