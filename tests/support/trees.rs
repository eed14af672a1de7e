//! Whether two files say the same: their elements, and the bytes of their values, wherever these lie.

use dicom_core::{Tag, VR};
use isocenter::dicom::header::{Content, Dataset, Element, Header, HeaderLimits, HeaderReader};

/// A file with what is read of it.
pub struct File {
    /// What the server's own parser makes of it.
    pub header: Header,
    /// What positions count in: the file, or the inflated data set.
    content: Vec<u8>,
}

impl File {
    /// Reads a file; `None` when it cannot be read. It comes in chunks of an odd size, so that every boundary comes up.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = HeaderReader::new(HeaderLimits::default());
        bytes.chunks(1021).try_for_each(|chunk| reader.push(chunk)).ok()?;
        let header = reader.finish_anonymous().ok()?;
        let content = if header.encoding.deflated {
            inflated(&bytes[usize::try_from(header.dataset_position).unwrap()..])
        } else {
            bytes.to_vec()
        };
        Some(Self { header, content })
    }

    /// The value of an element, little endian, as it leaves the server.
    pub fn value(&self, element: &Element) -> Vec<u8> {
        let start = usize::try_from(element.extent.position).unwrap();
        let mut bytes = match element.content {
            Content::Held(_) => return self.header.value(element).to_vec(),
            Content::Items(_) => return Vec::new(),
            Content::Left | Content::Fragments => {
                self.content[start..start + usize::try_from(element.extent.length).unwrap()].to_vec()
            }
        };
        if self.header.encoding.big_endian {
            for word in bytes.chunks_exact_mut(self.word(element)) {
                word.reverse();
            }
        }
        bytes
    }

    /// Bytes that are swapped together: wide pixels as wholes, whatever the VR.
    fn word(&self, element: &Element) -> usize {
        let bits = self.header.dataset.get(Tag(0x0028, 0x0100)).map(|bits| self.header.value(bits).to_vec());
        match bits.as_deref() {
            Some([32, 0]) if element.tag == Tag(0x7fe0, 0x0010) => 4,
            _ => word(element.vr),
        }
    }
}

/// Bytes of a number of a VR that may lie outside of the header (PS3.5 7.3).
fn word(vr: VR) -> usize {
    match vr {
        VR::OW | VR::US | VR::SS => 2,
        VR::OF | VR::OL | VR::UL | VR::SL | VR::FL => 4,
        VR::OD | VR::OV | VR::UV | VR::SV | VR::FD => 8,
        _ => 1,
    }
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(bytes), &mut out).unwrap();
    out
}

/// The first difference of two files but for their encoding, as the path of an element and what differs.
pub fn difference(one: &File, other: &File) -> Option<String> {
    datasets(one, &one.header.dataset, other, &other.header.dataset, "")
}

fn datasets(one: &File, left: &Dataset, other: &File, right: &Dataset, path: &str) -> Option<String> {
    let elements = |dataset: &Dataset| -> Vec<Element> {
        // group lengths say how it was encoded
        dataset.elements.iter().filter(|element| element.tag.element() != 0).cloned().collect()
    };
    let (left, right) = (elements(left), elements(right));
    let tags = |elements: &[Element]| elements.iter().map(|element| element.tag).collect::<Vec<Tag>>();
    if tags(&left) != tags(&right) {
        let stray = left.iter().zip(&right).find(|(left, right)| left.tag != right.tag).map(|(left, _)| left.tag);
        return Some(format!("{path}: {} elements and {}, first at {stray:?}", left.len(), right.len()));
    }
    left.iter().zip(&right).find_map(|(left, right)| {
        let path = format!("{path}{}", left.tag);
        match (&left.content, &right.content) {
            (Content::Items(left), Content::Items(right)) if left.len() == right.len() => {
                left.iter().zip(right).find_map(|(left, right)| datasets(one, left, other, right, &path))
            }
            (Content::Items(_), _) | (_, Content::Items(_)) => Some(format!("{path}: items")),
            _ if left.vr != right.vr => Some(format!("{path}: {} and {}", left.vr, right.vr)),
            _ => (!same(&one.value(left), &other.value(right))).then(|| format!("{path}: values")),
        }
    })
}

/// Odd lengths are padded when written anew.
fn same(left: &[u8], right: &[u8]) -> bool {
    left == right
        || (left.len() % 2 == 1
            && right.split_last().is_some_and(|(pad, rest)| rest == left && matches!(pad, 0 | b' ')))
}
