//! Makes DICOM files in every encoding, independent of the server's own writer.

use std::collections::BTreeMap;
use std::io::Write as _;

use dicom_core::{Tag, VR};

/// How a file is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Implicit VR Little Endian.
    Implicit,
    /// Explicit VR Little Endian.
    Explicit,
    /// Explicit VR Big Endian.
    BigEndian,
    /// Deflated Explicit VR Little Endian.
    Deflated,
    /// Explicit VR Little Endian under the name of another transfer syntax, for encapsulated pixel data.
    Named(&'static str),
}

impl Syntax {
    /// The native ones.
    pub const NATIVE: [Self; 4] = [Self::Implicit, Self::Explicit, Self::BigEndian, Self::Deflated];
    /// JPEG Baseline, for encapsulated pixel data.
    pub const JPEG: Self = Self::Named("1.2.840.10008.1.2.4.50");

    /// Its UID.
    pub fn uid(self) -> &'static str {
        match self {
            Self::Implicit => "1.2.840.10008.1.2",
            Self::Explicit => "1.2.840.10008.1.2.1",
            Self::BigEndian => "1.2.840.10008.1.2.2",
            Self::Deflated => "1.2.840.10008.1.2.1.99",
            Self::Named(uid) => uid,
        }
    }
}

/// The value of an element, before it has a byte order.
#[derive(Clone, Debug)]
pub enum Value {
    /// Padded with a space, with NUL for UI.
    Text(String),
    /// Written as it is, padded with NUL.
    Bytes(Vec<u8>),
    /// US, SS, OW.
    Words(Vec<u16>),
    /// UL, SL, OL.
    Longs(Vec<u32>),
    /// A sequence, of undefined length (as are its items) when the flag is set.
    Items(Vec<Elements>, bool),
    /// A sequence whose writer did not know it for one: of undefined length under VR UN, and inside Implicit VR Little
    /// Endian whatever is around it (PS3.5 6.2.2).
    Unknown(Vec<Elements>),
    /// Encapsulated pixel data: Basic Offset Table, fragments.
    Fragments(Vec<u32>, Vec<Vec<u8>>),
}

/// A data set.
#[derive(Clone, Debug, Default)]
pub struct Elements(BTreeMap<Tag, (VR, Value)>);

impl Elements {
    /// Sets an element.
    #[must_use]
    pub fn with(mut self, group: u16, element: u16, vr: VR, value: Value) -> Self {
        self.0.insert(Tag(group, element), (vr, value));
        self
    }

    /// Sets a text.
    #[must_use]
    pub fn text(self, group: u16, element: u16, vr: VR, text: &str) -> Self {
        self.with(group, element, vr, Value::Text(text.to_owned()))
    }

    /// Sets a number of 16 bits.
    #[must_use]
    pub fn number(self, group: u16, element: u16, number: u16) -> Self {
        self.with(group, element, VR::US, Value::Words(vec![number]))
    }

    /// Removes an element.
    #[must_use]
    pub fn without(mut self, group: u16, element: u16) -> Self {
        self.0.remove(&Tag(group, element));
        self
    }

    /// A CT image of 4 × 2 pixels in 16 bits, with all that the index keeps.
    pub fn ct(study: &str, series: &str, instance: &str) -> Self {
        Self::default()
            .text(0x0008, 0x0016, VR::UI, "1.2.840.10008.5.1.4.1.1.2")
            .text(0x0008, 0x0018, VR::UI, instance)
            .text(0x0008, 0x0020, VR::DA, "20240229")
            .text(0x0008, 0x0030, VR::TM, "131415.5")
            .text(0x0008, 0x0050, VR::SH, "A-1")
            .text(0x0008, 0x0060, VR::CS, "CT")
            .text(0x0008, 0x0090, VR::PN, "Curie^Marie")
            .text(0x0008, 0x1030, VR::LO, "Head without contrast")
            .text(0x0008, 0x103e, VR::LO, "axial")
            .text(0x0010, 0x0010, VR::PN, "Phantom^Head")
            .text(0x0010, 0x0020, VR::LO, "P-1")
            .text(0x0010, 0x0030, VR::DA, "19700101")
            .text(0x0010, 0x0040, VR::CS, "O")
            .text(0x0020, 0x000d, VR::UI, study)
            .text(0x0020, 0x000e, VR::UI, series)
            .text(0x0020, 0x0010, VR::SH, "1")
            .text(0x0020, 0x0011, VR::IS, "1")
            .text(0x0020, 0x0013, VR::IS, "1")
            .number(0x0028, 0x0002, 1)
            .text(0x0028, 0x0004, VR::CS, "MONOCHROME2")
            .number(0x0028, 0x0010, 2)
            .number(0x0028, 0x0011, 4)
            .number(0x0028, 0x0100, 16)
            .number(0x0028, 0x0101, 12)
            .number(0x0028, 0x0102, 11)
            .number(0x0028, 0x0103, 0)
            .with(0x7fe0, 0x0010, VR::OW, Value::Words((0..8).map(|n| n * 0x0101).collect()))
    }

    /// The same image with frames that are fragments: one fragment each, a filled Basic Offset Table.
    #[must_use]
    pub fn encapsulated(self, frames: &[&[u8]]) -> Self {
        let mut offset = 0;
        let mut offsets = Vec::new();
        for frame in frames {
            offsets.push(offset);
            offset += 8 + u32::try_from(frame.len().next_multiple_of(2)).unwrap();
        }
        let fragments = frames.iter().map(|frame| frame.to_vec()).collect();
        self.text(0x0028, 0x0008, VR::IS, &frames.len().to_string()).with(
            0x7fe0,
            0x0010,
            VR::OB,
            Value::Fragments(offsets, fragments),
        )
    }

    /// The data set alone.
    pub fn dataset(&self, syntax: Syntax) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, (vr, value)) in &self.0 {
            write_element(&mut out, syntax, *tag, *vr, value);
        }
        if syntax == Syntax::Deflated { deflate(&out) } else { out }
    }

    /// File meta information and data set, without preamble.
    pub fn without_preamble(&self, syntax: Syntax) -> Vec<u8> {
        let identity = |element| match self.0.get(&Tag(0x0008, element)) {
            Some((_, Value::Text(text))) => text.clone(),
            _ => String::new(),
        };
        let meta = Self::default()
            .with(0x0002, 0x0001, VR::OB, Value::Bytes(vec![0, 1]))
            .text(0x0002, 0x0002, VR::UI, &identity(0x0016))
            .text(0x0002, 0x0003, VR::UI, &identity(0x0018))
            .text(0x0002, 0x0010, VR::UI, syntax.uid())
            .text(0x0002, 0x0012, VR::UI, "2.25.1")
            .dataset(Syntax::Explicit);
        let length = Value::Longs(vec![u32::try_from(meta.len()).unwrap()]);
        let mut out = Self::default().with(0x0002, 0x0000, VR::UL, length).dataset(Syntax::Explicit);
        out.extend(meta);
        out.extend(self.dataset(syntax));
        out
    }

    /// A whole file.
    pub fn part10(&self, syntax: Syntax) -> Vec<u8> {
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        out.extend(self.without_preamble(syntax));
        out
    }
}

fn write_element(out: &mut Vec<u8>, syntax: Syntax, tag: Tag, vr: VR, value: &Value) {
    let big = syntax == Syntax::BigEndian;
    let content = encode(syntax, vr, value);
    let undefined = matches!(value, Value::Items(_, true) | Value::Unknown(_) | Value::Fragments(..));
    let length = if undefined { u32::MAX } else { u32::try_from(content.len()).unwrap() };
    out.extend(words(big, &[tag.group(), tag.element()]));
    let long = matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    );
    if syntax == Syntax::Implicit {
        out.extend(longs(big, &[length]));
    } else if long {
        out.extend(vr.to_bytes());
        out.extend([0, 0]);
        out.extend(longs(big, &[length]));
    } else {
        out.extend(vr.to_bytes());
        out.extend(words(big, &[u16::try_from(length).unwrap()]));
    }
    out.extend(content);
}

fn encode(syntax: Syntax, vr: VR, value: &Value) -> Vec<u8> {
    let big = syntax == Syntax::BigEndian;
    let (mut content, pad) = match value {
        Value::Text(text) => (text.clone().into_bytes(), if vr == VR::UI { 0 } else { b' ' }),
        Value::Bytes(bytes) => (bytes.clone(), 0),
        Value::Words(numbers) => (words(big, numbers), 0),
        Value::Longs(numbers) => (longs(big, numbers), 0),
        Value::Items(items, undefined) => (sequence(syntax, items, *undefined), 0),
        Value::Unknown(items) => (sequence(Syntax::Implicit, items, true), 0),
        Value::Fragments(offsets, fragments) => (fragments_of(offsets, fragments), 0),
    };
    if content.len() % 2 == 1 {
        content.push(pad);
    }
    content
}

fn sequence(syntax: Syntax, items: &[Elements], undefined: bool) -> Vec<u8> {
    // what lies inside a deflated data set is deflated with it, not by itself
    let inside = if syntax == Syntax::Deflated { Syntax::Explicit } else { syntax };
    let big = syntax == Syntax::BigEndian;
    let delimiter = |element, length| [words(big, &[0xfffe, element]), longs(big, &[length])].concat();
    let mut out = Vec::new();
    for item in items {
        let content = item.dataset(inside);
        out.extend(delimiter(0xe000, if undefined { u32::MAX } else { u32::try_from(content.len()).unwrap() }));
        out.extend(content);
        if undefined {
            out.extend(delimiter(0xe00d, 0));
        }
    }
    if undefined {
        out.extend(delimiter(0xe0dd, 0));
    }
    out
}

/// Items of encapsulated pixel data and the delimiter after them (PS3.5 A.4).
fn fragments_of(offsets: &[u32], fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let table = longs(false, offsets);
    for content in std::iter::once(&table).chain(fragments) {
        out.extend(words(false, &[0xfffe, 0xe000]));
        out.extend(longs(false, &[u32::try_from(content.len().next_multiple_of(2)).unwrap()]));
        out.extend(content);
        out.resize(out.len() + content.len() % 2, 0);
    }
    out.extend(words(false, &[0xfffe, 0xe0dd, 0, 0]));
    out
}

fn words(big: bool, numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| if big { number.to_be_bytes() } else { number.to_le_bytes() }).collect()
}

fn longs(big: bool, numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| if big { number.to_be_bytes() } else { number.to_le_bytes() }).collect()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    let mut out = encoder.finish().unwrap();
    out.resize(out.len().next_multiple_of(2), 0);
    out
}

#[test]
fn a_generated_file_has_the_length_that_its_parts_add_up_to() {
    let ct = Elements::ct("1.2", "1.2.3", "1.2.3.4");
    for syntax in Syntax::NATIVE {
        let file = ct.part10(syntax);
        assert_eq!(&file[128..132], b"DICM");
        let group_length = u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
        assert_eq!(file.len(), 144 + group_length + ct.dataset(syntax).len(), "{syntax:?}");
    }
    assert_eq!(ct.dataset(Syntax::Explicit).len(), ct.dataset(Syntax::BigEndian).len());
}
