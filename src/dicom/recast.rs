//! A file in Explicit VR Little Endian with some attributes of its root replaced, and an item more in the Original Attributes
//! Sequence (0400,0561) that says what they were.

use std::collections::BTreeMap;

use bytes::Bytes;
use dicom_core::{Tag, VR};

use crate::dicom::events::{ElementHeader, Limits, ParseError, Sink};
use crate::dicom::explicit::{
    ITEM, ITEM_DELIMITER, LONGEST_SHORT, SEQUENCE_DELIMITER, UNDEFINED, Writer, front, padding, put_header, put_item,
    reencoded_syntax,
};
use crate::dicom::stream::Stream;
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use crate::dicom::vr;

/// Original Attributes Sequence.
pub(super) const ORIGINAL_ATTRIBUTES: Tag = Tag(0x0400, 0x0561);
/// Modified Attributes Sequence.
const MODIFIED_ATTRIBUTES: Tag = Tag(0x0400, 0x0550);

/// What an attribute is replaced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) vr: VR,
    pub(super) bytes: Vec<u8>,
}

/// Writes the file as the stream comes.
#[derive(Debug)]
pub(super) struct Recast {
    stream: Stream,
    splicer: Splicer,
}

impl Recast {
    /// The file will name this instance. Attributes whose replacement is none are left out; `original` is an item made by
    /// [`original_attributes_item`].
    pub(super) fn new(
        sop_class: &SopClassUid,
        instance: &InstanceUid,
        stored: &TransferSyntaxUid,
        replacements: BTreeMap<Tag, Option<Replacement>>,
        original: Vec<u8>,
    ) -> Self {
        let mut pending: BTreeMap<Tag, Vec<u8>> = BTreeMap::new();
        for (tag, replacement) in &replacements {
            let mut element = Vec::new();
            if let Some(Replacement { vr, bytes }) = replacement {
                put_element(&mut element, *tag, *vr, bytes);
            }
            pending.insert(*tag, element);
        }
        let mut sequence = Vec::new();
        put_header(&mut sequence, ORIGINAL_ATTRIBUTES, VR::SQ, UNDEFINED);
        sequence.extend_from_slice(&original);
        put_item(&mut sequence, SEQUENCE_DELIMITER, 0);
        pending.insert(ORIGINAL_ATTRIBUTES, sequence);
        let writer = Writer::beginning(front(sop_class, instance, &reencoded_syntax(stored)));
        let replaced = replacements.into_keys().collect();
        let splicer = Splicer { writer, pending, replaced, original, depth: 0, appends: false, dropping: None };
        // as in every reading of an instance; the bounds of the first one hold
        Self { stream: Stream::new(Limits::default()), splicer }
    }

    /// The next bytes of the instance; those of the file.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Bytes, ParseError> {
        self.stream.push(chunk, &mut self.splicer)?;
        Ok(Bytes::from(std::mem::take(self.splicer.writer.written())))
    }

    /// The instance is over.
    pub(super) fn finish(mut self) -> Result<Bytes, ParseError> {
        self.stream.finish(&mut self.splicer)?;
        self.splicer.before(None);
        Ok(Bytes::from(std::mem::take(self.splicer.writer.written())))
    }
}

/// An item of the Original Attributes Sequence: the attributes as they were, and when they were changed (DT).
pub(super) fn original_attributes_item(before: &[(Tag, VR, Vec<u8>)], at: &str) -> Vec<u8> {
    let mut item = Vec::new();
    put_item(&mut item, ITEM, UNDEFINED);
    put_header(&mut item, MODIFIED_ATTRIBUTES, VR::SQ, UNDEFINED);
    put_item(&mut item, ITEM, UNDEFINED);
    for (tag, vr, bytes) in before {
        put_element(&mut item, *tag, *vr, bytes);
    }
    put_item(&mut item, ITEM_DELIMITER, 0);
    put_item(&mut item, SEQUENCE_DELIMITER, 0);
    // Attribute Modification DateTime, Modifying System, Source of Previous Values, Reason for the Attribute Modification
    put_element(&mut item, Tag(0x0400, 0x0562), VR::DT, at.as_bytes());
    put_element(&mut item, Tag(0x0400, 0x0563), VR::LO, b"ISOCENTER");
    put_element(&mut item, Tag(0x0400, 0x0564), VR::LO, b"");
    put_element(&mut item, Tag(0x0400, 0x0565), VR::CS, b"COERCE");
    put_item(&mut item, ITEM_DELIMITER, 0);
    item
}

/// An element with its padding.
fn put_element(out: &mut Vec<u8>, tag: Tag, vr: VR, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(LONGEST_SHORT);
    let vr = if length > LONGEST_SHORT && !vr::has_long_length(vr) { VR::UN } else { vr };
    put_header(out, tag, vr, length + length % 2);
    out.extend_from_slice(bytes);
    out.extend(padding(vr, length));
}

/// Writes the events, but for what is replaced.
#[derive(Debug)]
struct Splicer {
    writer: Writer,
    /// What is written before the first element of a higher tag; empty where an attribute is left out.
    pending: BTreeMap<Tag, Vec<u8>>,
    replaced: Vec<Tag>,
    /// The item to append.
    original: Vec<u8>,
    /// Sequences that are open.
    depth: usize,
    /// The open sequence of the root is the Original Attributes Sequence, which gets an item more.
    appends: bool,
    /// Nothing is written while so many sequences are open, or more.
    dropping: Option<usize>,
}

impl Splicer {
    /// Writes what comes before an element of the root, or all that is left.
    fn before(&mut self, tag: Option<Tag>) {
        while let Some(first) = self.pending.first_entry()
            && tag.is_none_or(|tag| *first.key() <= tag)
        {
            // a sequence that is there already gets an item instead
            if tag != Some(ORIGINAL_ATTRIBUTES) || *first.key() != ORIGINAL_ATTRIBUTES {
                self.writer.written().extend_from_slice(first.get());
            }
            first.remove();
        }
    }

    /// Whether what begins here is written.
    fn begins(&mut self, tag: Tag) -> bool {
        if self.depth == 0 {
            self.before(Some(tag));
            if self.replaced.contains(&tag) {
                self.dropping = Some(0);
            }
        }
        self.dropping.is_none()
    }

    /// Whether what ends here was written.
    fn ends(&mut self) -> bool {
        let written = self.dropping.is_none();
        if self.dropping == Some(self.depth) {
            self.dropping = None;
        }
        written
    }
}

impl Sink for Splicer {
    fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        if self.begins(header.tag) { self.writer.element(header) } else { Ok(()) }
    }

    fn value(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if self.dropping.is_none() { self.writer.value(piece) } else { Ok(()) }
    }

    fn element_end(&mut self) -> Result<(), ParseError> {
        if self.ends() { self.writer.element_end() } else { Ok(()) }
    }

    fn sequence(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        let written = self.begins(header.tag);
        self.appends |= self.depth == 0 && header.tag == ORIGINAL_ATTRIBUTES;
        self.depth += 1;
        if written { self.writer.sequence(header) } else { Ok(()) }
    }

    fn item(&mut self) -> Result<(), ParseError> {
        if self.dropping.is_none() { self.writer.item() } else { Ok(()) }
    }

    fn item_end(&mut self) -> Result<(), ParseError> {
        if self.dropping.is_none() { self.writer.item_end() } else { Ok(()) }
    }

    fn sequence_end(&mut self) -> Result<(), ParseError> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 && std::mem::take(&mut self.appends) {
            self.writer.written().extend_from_slice(&self.original);
        }
        if self.ends() { self.writer.sequence_end() } else { Ok(()) }
    }

    fn fragments(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        let written = self.begins(header.tag);
        self.depth += 1;
        if written { self.writer.fragments(header) } else { Ok(()) }
    }

    fn fragment(&mut self, position: u64, length: u32) -> Result<(), ParseError> {
        if self.dropping.is_none() { self.writer.fragment(position, length) } else { Ok(()) }
    }

    fn fragment_end(&mut self) -> Result<(), ParseError> {
        if self.dropping.is_none() { self.writer.fragment_end() } else { Ok(()) }
    }

    fn fragments_end(&mut self, position: u64) -> Result<(), ParseError> {
        self.depth = self.depth.saturating_sub(1);
        if self.ends() { self.writer.fragments_end(position) } else { Ok(()) }
    }
}
