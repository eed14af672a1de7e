//! Private attributes of the Native DICOM Model: they name their creator, and may leave the block open (PS3.19 A.1.6).

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use crate::dicom::compose::error::{ComposeError, Fault};
use crate::dicom::compose::model::{Element, Value};

/// Blocks that a group has for private creators (PS3.5 7.8.1).
const BLOCKS: std::ops::RangeInclusive<u16> = 0x10..=0xFF;

/// An attribute as it is described.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) tag: Tag,
    pub(super) creator: Option<String>,
    pub(super) element: Element,
}

/// Gives each private attribute that names its creator the block of that, and adds creators that are not there.
pub(super) fn with_blocks(attributes: Vec<Attribute>) -> Result<Vec<(Tag, Element)>, ComposeError> {
    let mut blocks = Blocks::default();
    if attributes.iter().any(|attribute| attribute.creator.is_some()) {
        for Attribute { tag, creator, element } in &attributes {
            blocks.note(*tag, creator.is_some(), element);
        }
    }
    let mut elements = Vec::with_capacity(attributes.len());
    for Attribute { tag, creator, element } in attributes {
        let tag = match creator {
            Some(creator) if tag.group() % 2 == 1 => blocks.place(tag, element.vr, &creator)?,
            _ => tag,
        };
        elements.push((tag, element));
    }
    elements.extend(blocks.added);
    Ok(elements)
}

/// The private blocks of a data set.
#[derive(Debug, Default)]
struct Blocks {
    /// Of group and block the creator; none where elements are there without one.
    known: BTreeMap<(u16, u16), Option<String>>,
    added: Vec<(Tag, Element)>,
}

impl Blocks {
    fn note(&mut self, tag: Tag, named: bool, element: &Element) {
        let (group, number) = (tag.group(), tag.element());
        if group % 2 == 0 || (named && number <= 0xFF) {
            return;
        }
        if BLOCKS.contains(&number) {
            if let Value::Bytes(text) = &element.value {
                let creator = String::from_utf8_lossy(text).trim().to_owned();
                self.known.insert((group, number), Some(creator));
            }
        } else {
            self.known.entry((group, number >> 8)).or_default();
        }
    }

    /// The tag of an attribute in the block of its creator.
    fn place(&mut self, tag: Tag, vr: VR, creator: &str) -> Result<Tag, ComposeError> {
        let fault = || ComposeError::attribute(tag, vr, Fault::Creator);
        let creator = creator.trim();
        let (group, number) = (tag.group(), tag.element());
        if number > 0xFF {
            let block = number >> 8;
            return match self.known.get_mut(&(group, block)) {
                Some(Some(known)) if known == creator => Ok(tag),
                Some(none @ None) if BLOCKS.contains(&block) => {
                    *none = Some(creator.to_owned());
                    self.add(group, block, creator);
                    Ok(tag)
                }
                _ => Err(fault()),
            };
        }
        let mut of_group = self.known.range((group, 0)..=(group, u16::MAX));
        let block = if let Some(((_, block), _)) = of_group.find(|(_, name)| name.as_deref() == Some(creator)) {
            *block
        } else {
            let block =
                BLOCKS.into_iter().find(|block| !self.known.contains_key(&(group, *block))).ok_or_else(fault)?;
            self.known.insert((group, block), Some(creator.to_owned()));
            self.add(group, block, creator);
            block
        };
        Ok(Tag(group, block << 8 | number))
    }

    fn add(&mut self, group: u16, block: u16, creator: &str) {
        let value = Value::Bytes(creator.as_bytes().to_vec());
        self.added.push((Tag(group, block), Element { vr: VR::LO, value }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(tag: Tag, creator: Option<&str>, text: &str) -> Attribute {
        let element = Element { vr: VR::LO, value: Value::Bytes(text.as_bytes().to_vec()) };
        Attribute { tag, creator: creator.map(str::to_owned), element }
    }

    fn tags(attributes: Vec<Attribute>) -> Result<Vec<(u16, u16)>, ComposeError> {
        let mut tags: Vec<_> = with_blocks(attributes)?.iter().map(|(tag, _)| (tag.group(), tag.element())).collect();
        tags.sort_unstable();
        Ok(tags)
    }

    #[test]
    fn attributes_come_into_the_block_of_their_creator() {
        let creator = |block, name| attribute(Tag(9, block), None, name);
        let of = |element, name| attribute(Tag(9, element), Some(name), "v");
        for (attributes, expected) in [
            (vec![creator(0x10, "A"), of(0x1001, "A")], Some(vec![(9, 0x10), (9, 0x1001)])),
            (vec![of(0x1001, "A")], Some(vec![(9, 0x10), (9, 0x1001)])),
            (
                vec![of(0x01, "A"), of(0x02, "A"), of(0x01, "B")],
                Some(vec![(9, 0x10), (9, 0x11), (9, 0x1001), (9, 0x1002), (9, 0x1101)]),
            ),
            (
                vec![creator(0x10, "A"), of(0x20, "B"), of(0x10, "A")],
                Some(vec![(9, 0x10), (9, 0x11), (9, 0x1010), (9, 0x1120)]),
            ),
            (
                vec![attribute(Tag(9, 0x1001), None, "v"), of(0x01, "A")],
                Some(vec![(9, 0x11), (9, 0x1001), (9, 0x1101)]),
            ),
            (vec![creator(0x10, "A"), of(0x1001, "B")], None),
            (vec![of(0x0101, "B")], None),
            (vec![attribute(Tag(8, 0x60), Some("A"), "v")], Some(vec![(8, 0x60)])),
        ] {
            let found = tags(attributes);
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{found:?}");
        }
    }

    #[test]
    fn a_group_without_a_free_block_takes_no_more_creators() {
        let all = |count: u16| (0..count).map(|n| attribute(Tag(9, 1), Some(&n.to_string()), "v")).collect();
        assert_eq!(tags(all(240)).map(|tags| tags.len()), Ok(480));
        assert!(tags(all(241)).is_err());
    }
}
