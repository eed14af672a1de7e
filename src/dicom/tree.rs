//! From events to the tree of a header: which values are held and which left, the order of elements, the memory they take.

use std::ops::Range;

use dicom_core::Tag;

use crate::dicom::events::{Bound, ElementHeader, ParseError, Sink};
use crate::dicom::fragments::{DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA, FrameScanner};
use crate::dicom::header::{Content, Dataset, Element, Extent, HeaderLimits};
use crate::dicom::identity;
use crate::dicom::vr::{self, PIXEL_DATA};

/// One bit for each of the four UIDs.
const ALL_IDENTIFIERS: u8 = 0b1111;

/// Builds the tree from the events.
#[derive(Debug)]
pub(super) struct TreeBuilder {
    limits: HeaderLimits,
    scanner: FrameScanner,
    arena: Vec<u8>,
    /// Data sets being built, the root first; each but the root in a sequence that is the last element of the one before it.
    levels: Vec<Dataset>,
    /// The open element when its value is held: where that begins.
    held: Option<usize>,
    /// Bytes that the tree takes.
    tree: usize,
    /// Which UIDs of the root have come.
    identifiers: u8,
    /// Where the value of each of them lies that came first.
    first: [Option<Range<usize>>; 4],
    /// One of them came again with another value.
    ambiguous: bool,
    position: u64,
}

impl TreeBuilder {
    pub(super) fn new(limits: HeaderLimits) -> Self {
        let limits = HeaderLimits { bytes: limits.bytes.min(u32::MAX as usize), ..limits };
        Self {
            limits,
            scanner: FrameScanner::default(),
            arena: Vec::new(),
            levels: vec![Dataset::default()],
            held: None,
            tree: 0,
            identifiers: 0,
            first: [const { None }; 4],
            ambiguous: false,
            position: 0,
        }
    }

    /// The root as far as it has come, and the held values.
    pub(super) fn root(&self) -> Option<(&Dataset, &[u8])> {
        Some((self.levels.first()?, &self.arena))
    }

    /// Bytes of memory that are held so far.
    pub(super) fn held_bytes(&self) -> usize {
        self.tree + self.arena.len() + self.scanner.held_bytes()
    }

    /// Whether all four UIDs of an instance have come since this last was so.
    pub(super) fn identified(&mut self) -> bool {
        let all = self.identifiers == ALL_IDENTIFIERS;
        if all {
            self.identifiers = 0;
        }
        all
    }

    /// Whether a UID of the root came twice with different values: the instance may have been named by the first already.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// The root in order, the held values, and what was seen of the frames.
    pub(super) fn finish(mut self) -> (Dataset, Vec<u8>, FrameScanner) {
        let mut root = self.levels.pop().unwrap_or_default();
        order(&mut root);
        (root, self.arena, self.scanner)
    }

    fn in_root(&self) -> bool {
        self.levels.len() == 1
    }

    fn last(&mut self) -> Option<&mut Element> {
        self.levels.last_mut().and_then(|dataset| dataset.elements.last_mut())
    }

    fn charge(&mut self, tree: usize, arena: usize) -> Result<(), ParseError> {
        self.tree += tree;
        if self.tree + self.arena.len() + arena > self.limits.bytes {
            return Err(ParseError::limit(self.position, Bound::Attributes));
        }
        Ok(())
    }

    /// Whether a value is held or left; refused when it is neither to be left nor of bearable length.
    fn holds(&self, header: &ElementHeader, length: u32) -> Result<bool, ParseError> {
        if self.in_root() && matches!(header.tag, PIXEL_DATA | FLOAT_PIXEL_DATA | DOUBLE_FLOAT_PIXEL_DATA) {
            Ok(false)
        } else if vr::is_binary(header.vr) {
            Ok(length <= self.limits.binary)
        } else if vr::may_be_bulk(header.vr) {
            Ok(length <= self.limits.text)
        } else if length <= self.limits.value {
            Ok(true)
        } else {
            Err(ParseError::limit(header.position, Bound::Value))
        }
    }

    fn add(&mut self, header: &ElementHeader, content: Content, length: u64) -> Result<(), ParseError> {
        self.position = header.position;
        self.charge(size_of::<Element>(), 0)?;
        let extent = Extent { position: header.position, length };
        if let Some(dataset) = self.levels.last_mut() {
            let ElementHeader { tag, vr, big_endian, .. } = *header;
            dataset.elements.push(Element { tag, vr, extent, big_endian, content });
        }
        Ok(())
    }

    /// Notes the UIDs of the root as they come; `value` is where the one of this tag lies.
    fn identify(&mut self, tag: Tag, value: Range<usize>) {
        let which = match tag {
            identity::SOP_CLASS_UID => 0,
            identity::SOP_INSTANCE_UID => 1,
            identity::STUDY_INSTANCE_UID => 2,
            identity::SERIES_INSTANCE_UID => 3,
            _ => return,
        };
        self.identifiers |= 1 << which;
        let text = |value: &Range<usize>| identity::unpadded(self.arena.get(value.clone()).unwrap_or_default());
        match &self.first[which] {
            Some(first) => self.ambiguous |= text(first) != text(&value),
            None => self.first[which] = Some(value),
        }
    }
}

impl Sink for TreeBuilder {
    fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        let length = header.length.unwrap_or(0);
        let held = self.holds(header, length)?;
        let content = if held {
            self.held = Some(self.arena.len());
            Content::Held(0..0)
        } else {
            Content::Left
        };
        if self.in_root() {
            self.scanner.element(header);
        }
        self.add(header, content, u64::from(length))
    }

    fn value(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if self.held.is_some() {
            self.charge(0, piece.len())?;
            self.arena.extend_from_slice(piece);
        }
        if self.in_root() {
            self.scanner.value(piece);
        }
        Ok(())
    }

    fn element_end(&mut self) -> Result<(), ParseError> {
        let Some(start) = self.held.take() else {
            if self.in_root() {
                self.scanner.element_end();
            }
            return Ok(());
        };
        let end = self.arena.len();
        let Some(element) = self.last() else { return Ok(()) };
        // the arena is bounded by `u32::MAX`
        let held = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        element.content = Content::Held(held(start)..held(end));
        let Element { tag, vr, big_endian, .. } = *element;
        if big_endian {
            vr::swap(&mut self.arena[start..], vr::word(vr));
        }
        if self.in_root() {
            self.identify(tag, start..end);
            self.scanner.element_end();
        }
        Ok(())
    }

    fn sequence(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        self.add(header, Content::Items(Vec::new()), 0)
    }

    fn item(&mut self) -> Result<(), ParseError> {
        self.charge(size_of::<Dataset>(), 0)?;
        self.levels.push(Dataset::default());
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), ParseError> {
        if let Some(mut item) = self.levels.pop() {
            order(&mut item);
            if let Some(Element { content: Content::Items(items), .. }) = self.last() {
                items.push(item);
            }
        }
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn fragments(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        if self.in_root() {
            self.scanner.fragments(header);
        }
        self.add(header, Content::Fragments, 0)
    }

    fn fragment(&mut self, position: u64, length: u32) -> Result<(), ParseError> {
        self.position = position;
        if self.in_root() {
            let tag = self.last().map_or(PIXEL_DATA, |element| element.tag);
            self.scanner.fragment(tag, position, length);
        }
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), ParseError> {
        if self.in_root() { self.scanner.fragment_end(self.position) } else { Ok(()) }
    }

    fn fragments_end(&mut self, position: u64) -> Result<(), ParseError> {
        if let Some(element) = self.last() {
            element.extent.length = position.saturating_sub(element.extent.position);
        }
        Ok(())
    }
}

/// Puts the elements in order, of several of one tag the last; few streams need it.
fn order(dataset: &mut Dataset) {
    let elements = &mut dataset.elements;
    if elements.is_sorted_by(|one, other| one.tag < other.tag) {
        return;
    }
    elements.reverse();
    elements.sort_by_key(|element| element.tag);
    elements.dedup_by_key(|element| element.tag);
}
