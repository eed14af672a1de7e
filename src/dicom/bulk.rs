//! Bulk data by path: how a BulkDataURI names an element, and the compact index of where its value lies.
//!
//! The index is a run of entries: length of the entry, number of enclosing items, for each the tag of the sequence and the
//! item's number, the tag, the VR, a byte of flags, position and length. Numbers are LEB128, tags 4 bytes big endian.

use std::fmt;

use dicom_core::{Tag, VR};

use crate::dicom::header::Extent;
use crate::dicom::varint;
use crate::error::{Error, Result};

const ENCAPSULATED: u8 = 0x10;
const DEFLATED: u8 = 0x20;
const SWAP: u8 = 0x0F;

/// Which element of an instance: `7FE00010`, or within items `00880200/1/7FE00010`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkPath {
    /// The enclosing items, outermost first: sequence, and number from 1.
    items: Vec<(Tag, u32)>,
    tag: Tag,
}

/// Where a value lies, and how to make its bytes little endian and whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkValue {
    /// Value representation.
    pub vr: VR,
    /// Bytes of the stored object, of the inflated data set when `deflated`.
    pub extent: Extent,
    /// What is found there.
    pub kind: BulkKind,
    /// The extent counts in the inflated data set.
    pub deflated: bool,
}

/// What is found in an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkKind {
    /// The value.
    Plain {
        /// Bytes to swap together; 1 for none.
        swap: u8,
    },
    /// Fragments, each an item with its header of 8 bytes, the Basic Offset Table first (PS3.5 A.4).
    Encapsulated,
}

impl BulkPath {
    /// Reads what follows `bulkdata/` in a URL: tags of 8 hexadecimal digits, between them items from 1.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = || {
            Error::bad_request(
                "the path of `bulkdata` must be `tag[/item/tag]…`, tags as 8 hexadecimal digits, items from 1",
            )
        };
        let mut items = Vec::new();
        let mut parts = text.split('/');
        loop {
            let tag = parts.next().and_then(parse_tag).ok_or_else(refused)?;
            let Some(item) = parts.next() else { return Ok(Self { items, tag }) };
            items.push((tag, parse_item(item).ok_or_else(refused)?));
        }
    }

    /// Pixel Data (7FE0,0010) of the root data set.
    #[must_use]
    pub fn pixel_data() -> Self {
        Self::root(Tag(0x7FE0, 0x0010))
    }

    /// An element of the root data set.
    pub fn root(tag: Tag) -> Self {
        Self { items: Vec::new(), tag }
    }
}

impl fmt::Display for BulkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (tag, item) in &self.items {
            write!(f, "{:04X}{:04X}/{item}/", tag.group(), tag.element())?;
        }
        write!(f, "{:04X}{:04X}", self.tag.group(), self.tag.element())
    }
}

fn parse_tag(text: &str) -> Option<Tag> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let half = |range| u16::from_str_radix(text.get(range)?, 16).ok();
    Some(Tag(half(0..4)?, half(4..8)?))
}

fn parse_item(text: &str) -> Option<u32> {
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Collects the entries of an index.
#[derive(Clone, Debug, Default)]
pub struct BulkIndexBuilder {
    bytes: Vec<u8>,
    entry: Vec<u8>,
}

impl BulkIndexBuilder {
    /// Adds a value.
    pub fn push(&mut self, items: &[(Tag, u32)], tag: Tag, value: &BulkValue) {
        self.entry.clear();
        write_path(&mut self.entry, items, tag);
        self.entry.extend_from_slice(value.vr.to_string().as_bytes());
        let kind = match value.kind {
            BulkKind::Plain { swap } => swap & SWAP,
            BulkKind::Encapsulated => ENCAPSULATED,
        };
        self.entry.push(kind | if value.deflated { DEFLATED } else { 0 });
        varint::put(&mut self.entry, value.extent.position);
        varint::put(&mut self.entry, value.extent.length);
        varint::put(&mut self.bytes, self.entry.len() as u64);
        self.bytes.extend_from_slice(&self.entry);
    }

    /// The index.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The value of a path; `None` where the metadata have no BulkDataURI of it. Fails on a damaged index.
pub fn find(bulk: &[u8], path: &BulkPath) -> Result<Option<BulkValue>> {
    let mut wanted = Vec::new();
    write_path(&mut wanted, &path.items, path.tag);
    let mut rest = bulk;
    while !rest.is_empty() {
        let entry = take_entry(&mut rest).ok_or_else(damaged)?;
        if let Some(value) = entry.strip_prefix(wanted.as_slice()) {
            return read_value(value).map(Some).ok_or_else(damaged);
        }
    }
    Ok(None)
}

fn damaged() -> Error {
    Error::internal("the index of bulk data is damaged")
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::take(rest)?).ok()?;
    let (entry, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(entry)
}

fn read_value(mut rest: &[u8]) -> Option<BulkValue> {
    let (vr, after) = rest.split_at_checked(2)?;
    let vr = VR::from_binary([*vr.first()?, *vr.get(1)?])?;
    let (&flags, after) = after.split_first()?;
    rest = after;
    let extent = Extent { position: varint::take(&mut rest)?, length: varint::take(&mut rest)? };
    let kind = if flags & ENCAPSULATED == 0 { BulkKind::Plain { swap: flags & SWAP } } else { BulkKind::Encapsulated };
    rest.is_empty().then_some(BulkValue { vr, extent, kind, deflated: flags & DEFLATED != 0 })
}

/// A path in a form of which none is the beginning of another.
fn write_path(out: &mut Vec<u8>, items: &[(Tag, u32)], tag: Tag) {
    varint::put(out, items.len() as u64);
    for &(tag, item) in items {
        write_tag(out, tag);
        varint::put(out, item.into());
    }
    write_tag(out, tag);
}

fn write_tag(out: &mut Vec<u8>, tag: Tag) {
    out.extend_from_slice(&tag.group().to_be_bytes());
    out.extend_from_slice(&tag.element().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};
    use dicom_dictionary_std::tags;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{BulkIndexBuilder, BulkKind, BulkPath, BulkValue, find};
    use crate::dicom::header::Extent;
    use crate::error::ErrorKind;

    #[test]
    fn a_path_is_tags_with_items_from_1_between() {
        for (text, wanted) in [
            ("7FE00010", Some("7FE00010")),
            ("7fe00010", Some("7FE00010")),
            ("00880200/1/7FE00010", Some("00880200/1/7FE00010")),
            ("00880200/4294967295/7FE00010", Some("00880200/4294967295/7FE00010")),
            ("", None),
            ("7FE0001", None),
            ("7FE0001g", None),
            ("+FE00010", None),
            ("(7FE0,0010)", None),
            ("00880200/1", None),
            ("00880200/1/", None),
            ("00880200/0/7FE00010", None),
            ("00880200/01/7FE00010", None),
            ("00880200/+1/7FE00010", None),
            ("00880200/4294967296/7FE00010", None),
            ("00880200//7FE00010", None),
            ("7FE00010/", None),
            ("/7FE00010", None),
            ("00880200/7FE00010", None),
            ("７FE00010", None),
        ] {
            match BulkPath::parse(text) {
                Ok(path) => assert_eq!(Some(path.to_string().as_str()), wanted, "{text}"),
                Err(error) => {
                    assert_eq!(wanted, None, "{text}");
                    assert_eq!(error.kind(), ErrorKind::BadRequest);
                }
            }
        }
    }

    #[test]
    fn a_damaged_index_is_an_error_and_an_absent_path_is_none() {
        let mut builder = BulkIndexBuilder::default();
        let value = BulkValue {
            vr: VR::OW,
            extent: Extent { position: 300, length: 1 << 40 },
            kind: BulkKind::Plain { swap: 2 },
            deflated: true,
        };
        builder.push(&[(tags::ICON_IMAGE_SEQUENCE, 2)], tags::PIXEL_DATA, &value);
        let bytes = builder.finish();
        let path = BulkPath::parse("00880200/2/7FE00010").unwrap();
        assert_eq!(find(&bytes, &path).unwrap(), Some(value));
        assert_eq!(find(&bytes, &BulkPath::root(tags::PIXEL_DATA)).unwrap(), None);
        assert_eq!(find(&[], &path).unwrap(), None);
        for end in 1..bytes.len() {
            assert_eq!(find(&bytes[..end], &path).unwrap_err().kind(), ErrorKind::Internal, "{end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_put_in_is_found(entries in proptest::collection::vec((any::<u32>(), 1_u32.., any::<u32>(), any::<u64>(), any::<u64>(), any::<bool>()), 1..20)) {
            let tag = |number: u32| Tag((number >> 16) as u16, (number & 0xFFFF) as u16);
            let mut builder = BulkIndexBuilder::default();
            let mut first = std::collections::HashMap::new();
            for (sequence, item, element, position, length, encapsulated) in entries {
                let kind = if encapsulated { BulkKind::Encapsulated } else { BulkKind::Plain { swap: 1 } };
                let value = BulkValue { vr: VR::OB, extent: Extent { position, length }, kind, deflated: false };
                let items = if encapsulated { vec![] } else { vec![(tag(sequence), item)] };
                builder.push(&items, tag(element), &value);
                let path = BulkPath { items, tag: tag(element) };
                first.entry(path.to_string()).or_insert(value);
            }
            let bytes = builder.finish();
            for (path, value) in first {
                assert_eq!(find(&bytes, &BulkPath::parse(&path).unwrap()).unwrap(), Some(value));
            }
        }

        #[test]
        fn wild_bytes_never_panic(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            let _ = find(&bytes, &BulkPath::root(tags::PIXEL_DATA));
            let _ = BulkPath::parse(&text);
        }
    }
}
