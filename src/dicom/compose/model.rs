//! A data set as a client describes it: values as they will be written, but for bulk data, which is named.

use dicom_core::{Tag, VR};

use crate::dicom::compose::error::{ComposeError, Fault};
use crate::dicom::identity::{SOP_CLASS_UID, SOP_INSTANCE_UID};
use crate::dicom::uid::InstanceUid;

/// What describing one instance may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deepest nesting of sequences: what the reader of files takes.
    pub depth: usize,
    /// Bytes of memory for one data set.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 64, bytes: 64 << 20 }
    }
}

/// Attributes, ascending by tag, each tag once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    elements: Vec<(Tag, Element)>,
}

/// An attribute without its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Value representation.
    pub vr: VR,
    /// What it holds.
    pub value: Value,
}

/// Which instance it is, as far as that was read; known however the reading ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// SOP Class UID.
    pub sop_class: Option<String>,
    /// SOP Instance UID.
    pub sop_instance: Option<String>,
}

impl Known {
    /// Looks at an attribute of the root.
    pub(super) fn note(&mut self, tag: Tag, element: &Element) {
        let place = match tag {
            SOP_CLASS_UID => &mut self.sop_class,
            SOP_INSTANCE_UID => &mut self.sop_instance,
            _ => return,
        };
        if let Value::Bytes(bytes) = &element.value
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            *place = InstanceUid::parse(text.trim_matches([' ', '\0'])).ok().map(|uid| uid.to_string());
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// As it will be written: text in UTF-8, numbers in little endian, without padding.
    Bytes(Vec<u8>),
    /// A sequence.
    Items(Vec<Dataset>),
    /// Elsewhere: the URI as the client wrote it.
    Bulk(String),
}

impl Dataset {
    /// Puts attributes in order.
    ///
    /// # Errors
    /// One of them is there twice.
    pub(super) fn new(mut elements: Vec<(Tag, Element)>) -> Result<Self, ComposeError> {
        if !elements.is_sorted_by(|(one, _), (other, _)| one < other) {
            elements.sort_by_key(|(tag, _)| *tag);
            let twice = elements.windows(2).find(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
            if let Some([(tag, element), _]) = twice {
                return Err(ComposeError::attribute(*tag, element.vr, Fault::Duplicate));
            }
        }
        Ok(Self { elements })
    }

    /// An attribute.
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&Element> {
        let at = self.elements.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        self.elements.get(at).map(|(_, element)| element)
    }

    /// Sets an attribute.
    pub fn set(&mut self, tag: Tag, element: Element) {
        match self.elements.binary_search_by_key(&tag, |(tag, _)| *tag) {
            Ok(at) => self.elements[at].1 = element,
            Err(at) => self.elements.insert(at, (tag, element)),
        }
    }

    /// Removes an attribute.
    pub fn remove(&mut self, tag: Tag) -> Option<Element> {
        let at = self.elements.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        Some(self.elements.remove(at).1)
    }

    /// The one text of an attribute without its padding; `None` when it is missing or empty.
    #[must_use]
    pub fn text(&self, tag: Tag) -> Option<&str> {
        let Value::Bytes(bytes) = &self.get(tag)?.value else { return None };
        let text = std::str::from_utf8(bytes).ok()?.trim_matches([' ', '\0']);
        (!text.is_empty()).then_some(text)
    }

    /// The first number of an attribute of 16 bits.
    #[must_use]
    pub fn number(&self, tag: Tag) -> Option<u16> {
        let Value::Bytes(bytes) = &self.get(tag)?.value else { return None };
        bytes.first_chunk().map(|number| u16::from_le_bytes(*number))
    }

    /// All attributes in order.
    pub fn iter(&self) -> impl Iterator<Item = (Tag, &Element)> {
        self.elements.iter().map(|(tag, element)| (*tag, element))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Tag, &mut Element)> {
        self.elements.iter_mut().map(|(tag, element)| (*tag, element))
    }

    pub(super) fn into_elements(self) -> Vec<(Tag, Element)> {
        self.elements
    }
}

/// What attributes are read and may cost; shared by both forms of metadata.
#[derive(Debug)]
pub(super) struct Meter {
    depth: usize,
    left: usize,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Self { depth: limits.depth, left: limits.bytes }
    }

    /// Takes memory for so many bytes.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), ComposeError> {
        self.left = self.left.checked_sub(bytes).ok_or(ComposeError::TooLarge)?;
        Ok(())
    }

    /// Takes memory for an attribute.
    pub(super) fn element(&mut self, value: &Value) -> Result<(), ComposeError> {
        // a vector that grows has room for as many again
        self.charge(2 * size_of::<(Tag, Element)>())?;
        match value {
            Value::Bulk(uri) => self.charge(uri.capacity()),
            // charged as they come, and item by item
            Value::Bytes(_) | Value::Items(_) => Ok(()),
        }
    }

    /// Takes memory for an item.
    pub(super) fn item(&mut self) -> Result<(), ComposeError> {
        self.charge(4 * size_of::<Dataset>())
    }

    /// Whether a data set may lie at this depth, 0 being the root.
    pub(super) fn enter(&self, depth: usize) -> Result<(), ComposeError> {
        if depth > self.depth { Err(ComposeError::TooDeep(self.depth)) } else { Ok(()) }
    }
}

/// Whether an attribute belongs to the file and not to the data set, or says only how long a group is (PS3.18 F.2.2).
pub(super) fn is_left_out(tag: Tag) -> bool {
    matches!(tag.group(), 0x0000 | 0x0002) || tag.element() == 0x0000
}

/// Whether a tag is one that no data set can hold: items and delimiters, and groups that are not for use (PS3.5 7.1).
pub(super) fn is_no_attribute(tag: Tag) -> bool {
    matches!(tag.group(), 0x0001 | 0x0003 | 0x0005 | 0x0007 | 0xFFFE | 0xFFFF)
}

/// A tag of eight hexadecimal digits.
pub(super) fn tag_of(text: &str) -> Option<Tag> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(Tag((number >> 16) as u16, (number & 0xFFFF) as u16))
}
