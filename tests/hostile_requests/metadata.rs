//! Rows of storing requests whose parts are metadata and bulk data.

use super::Row;

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    // Here belong the rows of `application/dicom+json` and `application/dicom+xml` requests: broken documents, metadata that
    // name no or foreign bulk data, bulk data that nothing names, and Content-Location tricks.
    Vec::new()
}
