//! What DICOM means: identifiers, the byte stream, attributes, values, queries, DICOM JSON. Pure: no I/O, no async.

pub mod attribute_set;
pub mod attributes;
pub mod bulk;
pub mod coerce;
pub mod compose;
#[cfg(test)]
mod corpus;
pub mod entry;
pub mod events;
pub mod explicit;
pub mod fragments;
pub mod frames;
pub mod header;
mod held;
pub mod identity;
pub mod inflate;
pub mod json;
pub mod media;
mod nesting;
pub mod permitted;
pub mod query;
pub mod read;
pub mod reasons;
mod recast;
#[cfg(test)]
mod samples;
pub mod stored_entry;
pub mod stream;
pub mod text;
pub mod tokens;
pub mod transfer_syntax;
mod tree;
pub mod uid;
pub mod values;
mod varint;
pub mod vr;
pub mod xml;
