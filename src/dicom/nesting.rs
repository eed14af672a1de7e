//! What is open while a stream is parsed: the root, items, sequences, encapsulated pixel data; where each ends and how it is encoded.

use crate::dicom::vr::Context;

/// The end of what has no declared end.
pub(super) const OPEN: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Root,
    Item,
    Sequence,
    Fragments,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Position after the last byte, if declared, else [`OPEN`].
    pub(super) end: u64,
    /// The nearest end of a sequence around it or its own.
    pub(super) bound: u64,
    pub(super) explicit: bool,
    pub(super) big_endian: bool,
    /// Its first element, which shows whether VRs are named, is still to come.
    pub(super) first: bool,
    pub(super) context: Context,
}
