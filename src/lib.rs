//! Isocenter: a DICOMweb archive in one binary.
//!
//! # Layers
//!
//! A module imports from lower layers only; `tests/tidy.rs` checks it.
//!
//! | layer | modules | what they own |
//! |---|---|---|
//! | 0 | [`error`], [`clock`], [`config`], [`telemetry`] | error kinds, time, settings, logs and metric names |
//! | 0 | [`dicom`] | what DICOM means: byte stream, attributes, values, queries, DICOM JSON. Pure |
//! | 1 | [`catalogue`] | the index, on SQLite or PostgreSQL: the only SQL |
//! | 1 | [`store`] | bytes at rest, in a folder or a bucket: the only object access |
//! | 2 | [`archive`] | the way in and the way out, shared by all protocols; comparing index and objects |
//! | 3 | [`app`] | one value of each dependency |
//! | 4 | [`http`], [`dicomweb`] | HTTP, and PS3.18 on it with one file per transaction |
//! | 5 | [`serve`], [`cli`] | putting it together |
//!
//! # Invariants
//!
//! 1. The bytes that came are the object, unchanged; everything else is derived from them.
//! 2. Everything that reading needs is computed once, when an instance is stored.
//! 3. The row is the only proof that an instance exists. It is committed after the object is durable, and success is
//!    answered after the commit. A crash leaves at most an object without a row.
//! 4. Bodies are streams: memory does not grow with the size of a file or a request.
//! 5. Untrusted bytes meet bounds before anything is allocated or nested for them.
//! 6. No value of a data set is logged.
//!
//! # The three hot paths
//!
//! *Upload → rows:* [`dicomweb::store`] → [`http::multipart`] → [`archive::ingest`], where every chunk goes to the parser
//! ([`dicom::header`]), the digest and the object store in one pass → [`store::ObjectStorage::make_durable`] →
//! [`catalogue::Catalogue::insert_instances`] → [`dicomweb::store_response`].
//!
//! Metadata with bulk data take a turn before: `dicomweb::store_payload` reads the whole request, [`dicom::compose`] makes files of
//! it, and these go the same way.
//!
//! *Query string → DICOM JSON:* [`dicomweb::search`] → [`dicomweb::query`] → [`dicom::query::SearchQuery`] →
//! [`catalogue::search`] → rows written as they come, from JSON made when they were stored.
//!
//! *Frame → bytes:* [`dicomweb::frames`] → [`archive::retrieve`]: one row, [`dicom::frames`] → one ranged read of
//! [`store`] → the response.

pub mod app;
pub mod archive;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dicom;
pub mod dicomweb;
pub mod error;
pub mod http;
pub mod serve;
pub mod store;
pub mod telemetry;
