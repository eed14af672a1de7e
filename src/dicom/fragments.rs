//! Which bytes make which frame: follows the pixel data of the root as it streams and builds the frame index from what it saw.
//!
//! Frames of encapsulated pixel data are told apart by the first of these that fits (PS3.5 A.4, PS3.3 C.7.6.3.1.8):
//!
//! 1. the Extended Offset Table, 2. the Basic Offset Table (offsets that wrapped at 32 bits are unwrapped), when they have an
//!    entry for each frame and every entry is the begin of a fragment;
//! 3. as many fragments as frames: one each; 4. a single frame: all fragments; 5. RLE: one fragment is one frame (PS3.5 A.4.2);
//! 6. code streams that begin with a start marker after one that ended with an end marker, or either of them alone;
//! 7. otherwise as many frames as code streams were found, at most the number said, the last with all that is left; without any
//!    marker one fragment each, likewise.

use dicom_core::{Tag, VR};

use crate::dicom::events::{Bound, ElementHeader, ParseError};
use crate::dicom::frames::{EncapsulatedFrames, FrameIndex, NativeFrames};
use crate::dicom::transfer_syntax;
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicom::varint;
use crate::dicom::vr::{self, PIXEL_DATA};

/// Float Pixel Data.
pub(crate) const FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0, 0x0008);
/// Double Float Pixel Data.
pub(crate) const DOUBLE_FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0, 0x0009);
const EXTENDED_OFFSET_TABLE: Tag = Tag(0x7FE0, 0x0001);
/// An offset table over this many bytes is not kept, and the frames are found without it.
const TABLE_LIMIT: usize = 16 * 1024 * 1024;
/// Most bytes of notes on fragments, three to five each.
const NOTES_LIMIT: usize = 32 * 1024 * 1024;
/// Of each fragment the first bytes are looked at,
const HEAD: usize = 4;
/// and the last: the end marker and its padding.
const TAIL: usize = 10;

/// The attributes of the root that frames are computed from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PixelAttributes {
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    pub(crate) samples: u64,
    pub(crate) bits_allocated: u64,
    /// Photometric Interpretation is YBR_FULL_422 or YBR_PARTIAL_422.
    pub(crate) chroma_halved: bool,
    pub(crate) number_of_frames: NumberOfFrames,
}

/// Number of Frames (0028,0008).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NumberOfFrames {
    /// Absent or empty: one.
    #[default]
    Absent,
    /// A number of at least 1.
    Said(u32),
    /// Something else: found out from the pixel data.
    Wrong,
}

impl NumberOfFrames {
    /// Reads the value of the attribute; of several the first.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let text = value.split(|byte| *byte == b'\\').next().unwrap_or_default();
        match std::str::from_utf8(text).map(|text| text.trim_matches([' ', '\0'])) {
            Ok("") => Self::Absent,
            Ok(text) => text.parse().ok().filter(|number| *number >= 1).map_or(Self::Wrong, Self::Said),
            Err(_) => Self::Wrong,
        }
    }

    fn or(self, found: u32) -> u32 {
        match self {
            Self::Absent => 1,
            Self::Said(number) => number,
            Self::Wrong => found,
        }
    }
}

/// Follows the root data set.
#[derive(Debug, Default)]
pub(crate) struct FrameScanner {
    pixels: Pixels,
    extended: Table,
    basic: Table,
    open: Open,
}

#[derive(Debug, Default)]
enum Pixels {
    #[default]
    None,
    Native(ElementHeader),
    Encapsulated(Notes),
}

/// An offset table as it streams; emptied and closed when it grows too long.
#[derive(Debug, Default)]
struct Table {
    bytes: Vec<u8>,
    closed: bool,
}

impl Table {
    fn add(&mut self, piece: &[u8]) {
        if self.closed || self.bytes.len() + piece.len() > TABLE_LIMIT {
            self.bytes = Vec::new();
            self.closed = true;
        } else {
            self.bytes.extend_from_slice(piece);
        }
    }
}

/// What is known of the fragments.
#[derive(Debug, Default)]
struct Notes {
    /// The first item is the Basic Offset Table.
    begun: bool,
    /// Value of the first fragment.
    position: u64,
    count: u32,
    /// For each a varint: length, then a bit for a start marker and one for an end marker.
    packed: Vec<u8>,
}

/// What the value pieces belong to.
#[derive(Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Extended,
    Basic,
    Fragment(Ends),
}

/// Both ends of the open fragment.
#[derive(Debug, Default)]
struct Ends {
    length: u32,
    head: [u8; HEAD],
    head_length: usize,
    tail: [u8; TAIL],
    tail_length: usize,
}

impl FrameScanner {
    /// Bytes of memory that are held.
    pub(crate) fn held_bytes(&self) -> usize {
        let notes = match &self.pixels {
            Pixels::None | Pixels::Native(_) => 0,
            Pixels::Encapsulated(notes) => notes.packed.len(),
        };
        self.extended.bytes.len() + self.basic.bytes.len() + notes
    }

    pub(crate) fn element(&mut self, header: &ElementHeader) {
        match header.tag {
            PIXEL_DATA | FLOAT_PIXEL_DATA | DOUBLE_FLOAT_PIXEL_DATA => self.pixels = Pixels::Native(*header),
            EXTENDED_OFFSET_TABLE => {
                self.extended = Table::default();
                self.open = Open::Extended;
            }
            _ => {}
        }
    }

    pub(crate) fn value(&mut self, piece: &[u8]) {
        match &mut self.open {
            Open::Nothing => {}
            Open::Extended => self.extended.add(piece),
            Open::Basic => self.basic.add(piece),
            Open::Fragment(ends) => ends.add(piece),
        }
    }

    pub(crate) fn element_end(&mut self) {
        self.open = Open::Nothing;
    }

    pub(crate) fn fragments(&mut self, header: &ElementHeader) {
        if header.tag == PIXEL_DATA {
            self.basic = Table::default();
            self.pixels = Pixels::Encapsulated(Notes::default());
        }
        self.open = Open::Nothing;
    }

    pub(crate) fn fragment(&mut self, tag: Tag, position: u64, length: u32) {
        let Pixels::Encapsulated(notes) = &mut self.pixels else { return };
        if tag != PIXEL_DATA {
            return;
        }
        if notes.begun {
            if notes.count == 0 {
                notes.position = position;
            }
            self.open = Open::Fragment(Ends { length, ..Ends::default() });
        } else {
            notes.begun = true;
            self.open = Open::Basic;
        }
    }

    pub(crate) fn fragment_end(&mut self, position: u64) -> Result<(), ParseError> {
        let open = std::mem::take(&mut self.open);
        if let (Open::Fragment(ends), Pixels::Encapsulated(notes)) = (open, &mut self.pixels) {
            notes.count += 1;
            let marks = u64::from(ends.starts()) << 1 | u64::from(ends.ends());
            varint::put(&mut notes.packed, u64::from(ends.length) << 2 | marks);
            if notes.packed.len() > NOTES_LIMIT {
                return Err(ParseError::limit(position, Bound::Fragments));
            }
        }
        Ok(())
    }

    /// The index, and how many frames there are, addressable or not.
    pub(crate) fn finish(
        self,
        attributes: &PixelAttributes,
        syntax: &TransferSyntaxUid,
        deflated: bool,
    ) -> (FrameIndex, u32) {
        match self.pixels {
            Pixels::None => (FrameIndex::None, 0),
            Pixels::Native(header) => match native(&header, attributes, deflated) {
                Some(native) => (FrameIndex::Native(native), native.frames),
                None => (FrameIndex::None, attributes.number_of_frames.or(1)),
            },
            // PS3.5 A.5: a deflated data set holds native pixel data only
            Pixels::Encapsulated(_) if deflated || transfer_syntax::is_video(syntax) => {
                (FrameIndex::None, attributes.number_of_frames.or(1))
            }
            Pixels::Encapsulated(notes) => {
                let tables = [offsets::<8>(&self.extended.bytes), offsets::<4>(&self.basic.bytes)];
                let index = encapsulated(&notes, &tables, attributes.number_of_frames, transfer_syntax::is_rle(syntax));
                let frames = index.frames;
                (FrameIndex::Encapsulated(index), frames)
            }
        }
    }
}

impl Ends {
    fn add(&mut self, piece: &[u8]) {
        for byte in piece.iter().take(HEAD - self.head_length) {
            self.head[self.head_length] = *byte;
            self.head_length += 1;
        }
        let last = &piece[piece.len().saturating_sub(TAIL)..];
        let keep = self.tail_length.min(TAIL - last.len());
        self.tail.copy_within(self.tail_length - keep..self.tail_length, 0);
        self.tail[keep..keep + last.len()].copy_from_slice(last);
        self.tail_length = keep + last.len();
    }

    /// Whether a code stream begins here: JPEG and JPEG-LS, JPEG 2000, JPEG XL, or one of the latter two in boxes.
    fn starts(&self) -> bool {
        let head = &self.head[..self.head_length];
        head.starts_with(&[0xFF, 0xD8, 0xFF])
            || head.starts_with(&[0xFF, 0x4F, 0xFF, 0x51])
            || head.starts_with(&[0xFF, 0x0A])
            || head.starts_with(&[0, 0, 0, 0x0C])
    }

    /// Whether a code stream ends here: EOI of JPEG and JPEG-LS, EOC of JPEG 2000, padding after it or not.
    fn ends(&self) -> bool {
        let mut tail = &self.tail[..self.tail_length];
        while let [before @ .., 0 | 0xFF] = tail {
            tail = before;
        }
        tail.ends_with(&[0xFF, 0xD9])
    }
}

/// The rule of native frames; `None` without dimensions. Only whole frames that are there count: a value that is too short
/// has fewer than said, one that is longer has padding.
fn native(header: &ElementHeader, attributes: &PixelAttributes, deflated: bool) -> Option<NativeFrames> {
    let bits = match header.tag {
        FLOAT_PIXEL_DATA => 32,
        DOUBLE_FLOAT_PIXEL_DATA => 64,
        _ => attributes.bits_allocated,
    };
    // PS3.3 C.7.6.3.1.2: of YBR_FULL_422 two samples are stored for each pixel
    let samples = if attributes.chroma_halved && attributes.samples == 3 { 2 } else { attributes.samples };
    // four numbers of 16 bits
    let frame_bits = attributes.rows * attributes.columns * samples * bits;
    let length = u64::from(header.length?);
    let whole = (length * 8).checked_div(frame_bits)?;
    let rest = length * 8 % frame_bits;
    let whole = u32::try_from(whole).unwrap_or(u32::MAX);
    let fitting = if rest < 16 { whole.max(1) } else { 1 };
    Some(NativeFrames {
        position: header.position,
        length,
        frame_bits,
        frames: attributes.number_of_frames.or(fitting).min(whole),
        swap: if header.big_endian { pixel_word(header.vr, bits) } else { 1 },
        deflated,
    })
}

/// Bytes to swap together in big endian pixel data: the pixel where it is wider than the word of the VR, as all
/// implementations have it, else that word (8 bits in OW are swapped by two, PS3.5 A.3 and 8.1).
pub(crate) fn pixel_word(vr: VR, bits: u64) -> u8 {
    let word = vr::word(vr);
    match bits {
        _ if word == 1 => 1,
        32 => word.max(4),
        64 => word.max(8),
        _ => word,
    }
}

/// The numbers of an offset table of `N` bytes each, little endian, unwrapped.
fn offsets<const N: usize>(table: &[u8]) -> Vec<u64> {
    let wrap = if N == 4 { 1_u64 << 32 } else { 0 };
    let mut base = 0;
    let mut last = 0;
    let numbers = table.as_chunks::<N>().0.iter().map(|bytes| {
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        if number < last {
            base += wrap;
        }
        last = number;
        base + number
    });
    numbers.collect()
}

/// Puts fragments together to frames.
fn encapsulated(notes: &Notes, tables: &[Vec<u64>], said: NumberOfFrames, rle: bool) -> EncapsulatedFrames {
    let count = notes.count;
    for table in tables {
        let entries = u32::try_from(table.len()).unwrap_or(u32::MAX);
        if entries > 0
            && said.or(entries) == entries
            && let Some(found) = by_offsets(notes, table)
        {
            return found;
        }
    }
    let streams = by_start_and_end(notes).filter(|begins| *begins).count();
    let frames = said.or(if rle { count } else { u32::try_from(streams).unwrap_or(count).max(1) });
    if frames == 1 && !rle {
        return group(notes, 1, std::iter::once(true).chain(std::iter::repeat(false)));
    }
    if frames == count || rle {
        return group(notes, frames, std::iter::repeat(true));
    }
    let expected = frames as usize;
    if streams == expected {
        group(notes, frames, by_start_and_end(notes))
    } else if by_start(notes).filter(|begins| *begins).count() == expected {
        group(notes, frames, by_start(notes))
    } else if by_end(notes).filter(|begins| *begins).count() == expected {
        group(notes, frames, by_end(notes))
    } else if streams > 1 {
        group(notes, frames, by_start_and_end(notes))
    } else {
        group(notes, frames, std::iter::repeat(true))
    }
}

/// The notes one by one: length, start marker, end marker.
fn each(notes: &Notes) -> impl Iterator<Item = (u32, bool, bool)> + '_ {
    let mut packed = &notes.packed[..];
    // what was packed here can be taken
    std::iter::from_fn(move || {
        let note = varint::take(&mut packed)?;
        Some((u32::try_from(note >> 2).ok()?, note & 2 != 0, note & 1 != 0))
    })
}

fn by_start(notes: &Notes) -> impl Iterator<Item = bool> + '_ {
    each(notes).enumerate().map(|(at, (_, starts, _))| at == 0 || starts)
}

fn by_end(notes: &Notes) -> impl Iterator<Item = bool> + '_ {
    let mut ended = true;
    each(notes).map(move |(_, _, ends)| std::mem::replace(&mut ended, ends))
}

fn by_start_and_end(notes: &Notes) -> impl Iterator<Item = bool> + '_ {
    let mut ended = true;
    each(notes).map(move |(_, starts, ends)| std::mem::replace(&mut ended, ends) && starts)
}

/// Frames by their offsets from the first fragment's item header; `None` unless each is where a fragment begins.
fn by_offsets(notes: &Notes, offsets: &[u64]) -> Option<EncapsulatedFrames> {
    let mut next = offsets.iter().copied().peekable();
    let mut at = 0_u64;
    let mut matched = 0_usize;
    for (length, ..) in each(notes) {
        if next.next_if_eq(&at).is_some() {
            matched += 1;
        } else if matched == 0 {
            return None;
        }
        at += u64::from(length) + 8;
    }
    if matched != offsets.len() {
        return None;
    }
    let mut next = offsets.iter().copied().peekable();
    let mut at = 0_u64;
    let begins = each(notes).map(move |(length, ..)| {
        let begins = next.next_if_eq(&at).is_some();
        at += u64::from(length) + 8;
        begins
    });
    Some(group(notes, u32::try_from(offsets.len()).ok()?, begins))
}

/// At most `most` frames, a new one with each fragment that begins one; the last takes what is left.
fn group(notes: &Notes, most: u32, begins: impl Iterator<Item = bool>) -> EncapsulatedFrames {
    let mut frames = 0;
    let mut packed = Vec::with_capacity(notes.packed.len());
    let mut open = None;
    for ((length, ..), begins) in each(notes).zip(begins) {
        let new = frames == 0 || (begins && frames < most);
        if let Some(before) = open.replace(length) {
            varint::put(&mut packed, u64::from(before) << 1 | u64::from(!new));
        }
        frames += u32::from(new);
    }
    if let Some(last) = open {
        varint::put(&mut packed, u64::from(last) << 1);
    }
    EncapsulatedFrames { position: notes.position, frames, packed }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dicom_core::{Tag, VR};

    use crate::dicom::frames::{FrameBlock, FrameIndex, Located, StoredFrames, find_in_block, locate};
    use crate::dicom::header::{Header, HeaderLimits, HeaderReader};
    use crate::dicom::samples::{self, BIG, EXPLICIT, Layout, UNDEFINED, Writer};
    use crate::dicom::vr::PIXEL_DATA;

    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    const RLE: &str = "1.2.840.10008.1.2.5";
    const NATIVE: &str = "1.2.840.10008.1.2.1";
    const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

    fn read(file: &[u8]) -> Header {
        let mut reader = HeaderReader::new(HeaderLimits::default());
        for chunk in file.chunks(11) {
            reader.push(chunk).unwrap();
        }
        reader.finish_anonymous().unwrap()
    }

    fn frame(file: &[u8], stored: &StoredFrames, number: u32) -> Option<Bytes> {
        let extent = match locate(&stored.head, number).unwrap() {
            Located::Frame(extent) => extent,
            Located::InBlock(block) => find_in_block(&stored.blocks[block as usize], number).unwrap(),
            Located::Beyond(_) => return None,
        };
        let start = usize::try_from(extent.position).unwrap();
        let read = &file[start..start + usize::try_from(extent.length).unwrap()];
        Some(extent.shape(Bytes::copy_from_slice(read)).unwrap())
    }

    /// All frames of a file, one by one.
    fn frames(file: &[u8]) -> Vec<Vec<u8>> {
        let header = read(file);
        let stored = header.frames.store();
        assert_eq!(frame(file, &stored, 0), None);
        let frames: Vec<_> =
            (1..).map_while(|number| frame(file, &stored, number)).map(|frame| frame.to_vec()).collect();
        assert_eq!(frames.len(), header.number_of_frames as usize);
        frames
    }

    fn encapsulated(syntax: &str, number: &str, table: &[u32], extended: &[u64], fragments: &[&[u8]]) -> Vec<u8> {
        samples::file(syntax, EXPLICIT, |writer| {
            writer.image(2, 2, 1, 8, number);
            if !extended.is_empty() {
                let bytes: Vec<u8> = extended.iter().flat_map(|offset| offset.to_le_bytes()).collect();
                writer.put(Tag(0x7FE0, 0x0001), VR::OV, &bytes);
            }
            let bytes: Vec<u8> = table.iter().flat_map(|offset| offset.to_le_bytes()).collect();
            writer.head(PIXEL_DATA, VR::OB, UNDEFINED).fragment(&bytes);
            for fragment in fragments {
                writer.fragment(fragment);
            }
            writer.end_sequence();
        })
    }

    #[test]
    fn fragments_make_frames_by_the_first_rule_that_fits() {
        let (a, b, c): (&[u8], &[u8], &[u8]) = (&[1, 2], &[3, 4, 5, 6], &[7, 8]);
        // whole, first and last part of a code stream
        let (whole, first, last): (&[u8], &[u8], &[u8]) =
            (&[0xFF, 0xD8, 0xFF, 1, 0xFF, 0xD9], &[0xFF, 0xD8, 0xFF, 2], &[3, 0xFF, 0xD9, 0]);
        let xl: &[u8] = &[0xFF, 0x0A, 1, 2];
        for (what, syntax, number, table, extended, fragments, expected) in [
            ("basic", JPEG, "2 ", &[0, 10][..], &[][..], &[a, b, c][..], &[&[a][..], &[b, c]][..]),
            ("extended before basic", JPEG, "2 ", &[0, 10], &[0, 22], &[a, b, c], &[&[a, b], &[c]]),
            ("basic of one", JPEG, "", &[0], &[], &[a, b], &[&[a, b]]),
            ("empty, one to one", JPEG, "3 ", &[], &[], &[a, b, c], &[&[a], &[b], &[c]]),
            ("empty, one frame", JPEG, "", &[], &[], &[a, b, c], &[&[a, b, c]]),
            ("one to one in spite of wrong offsets", JPEG, "2 ", &[0, 9], &[], &[a, b], &[&[a], &[b]]),
            ("too few offsets", JPEG, "3 ", &[0, 10], &[], &[a, b, c], &[&[a], &[b], &[c]]),
            ("start and end", JPEG, "2 ", &[], &[], &[whole, first, last], &[&[whole], &[first, last]]),
            ("end alone", JPEG, "2 ", &[], &[], &[a, last, c, last], &[&[a, last], &[c, last]]),
            ("start alone", JPEG, "2 ", &[7, 7], &[], &[xl, a, xl, b], &[&[xl, a], &[xl, b]]),
            ("RLE", RLE, "2 ", &[], &[], &[a, b], &[&[a], &[b]]),
            ("fewer fragments than frames", JPEG, "3 ", &[], &[], &[a, b], &[&[a], &[b]]),
            ("no marker at all", JPEG, "2 ", &[], &[], &[a, b, c], &[&[a], &[b, c]]),
            ("no number, by offsets", JPEG, "x ", &[0, 10], &[], &[a, b, c], &[&[a], &[b, c]]),
            ("no number, by markers", JPEG, "0 ", &[], &[], &[whole, first, last], &[&[whole], &[first, last]]),
            ("no fragment", JPEG, "1 ", &[], &[], &[], &[]),
        ] {
            let file = encapsulated(syntax, number, table, extended, fragments);
            let expected: Vec<Vec<u8>> = expected.iter().map(|parts| parts.concat()).collect();
            assert_eq!(frames(&file), expected, "{what}");
        }
    }

    #[test]
    fn offsets_that_wrapped_are_unwrapped() {
        let table: Vec<u8> = [0_u32, 0xFFFF_FFF0, 0x10, 8].iter().flat_map(|offset| offset.to_le_bytes()).collect();
        assert_eq!(super::offsets::<4>(&table), [0, 0xFFFF_FFF0, 0x1_0000_0010, 0x2_0000_0008]);
        assert_eq!(super::offsets::<8>(&[0xFF; 17]), [u64::MAX, u64::MAX]);
    }

    #[test]
    fn many_frames_are_found_in_blocks() {
        let values: Vec<[u8; 4]> = (0_u32..10_000).map(u32::to_le_bytes).collect();
        let fragments: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        let file = encapsulated(RLE, "10000 ", &[], &[], &fragments);
        let stored = read(&file).frames.store();
        assert_eq!(stored.blocks.len(), 3);
        assert!(stored.head.len() < 8 && stored.blocks.iter().all(|block| block.len() <= 4096 + 10));
        for number in [1, 2, 4096, 4097, 8192, 8193, 10_000] {
            assert_eq!(frame(&file, &stored, number).unwrap(), values[number as usize - 1][..]);
        }
        assert_eq!(locate(&stored.head, 10_001), Ok(Located::Beyond(10_000)));
        for damaged in [&[][..], &[1], &[2, 0], &[1, 9], &stored.head[..2]] {
            assert!(locate(damaged, 1).is_err());
        }
        assert!(find_in_block(&stored.blocks[2][..20], 10_000).is_err());
        let mut walk = FrameBlock::new(stored.blocks[1].clone()).unwrap();
        for number in [4097, 4098, 5000, 8192] {
            assert_eq!(walk.find(number), find_in_block(&stored.blocks[1], number));
        }
        assert!(walk.find(4097).is_err());
    }

    #[test]
    fn videos_have_no_frames_to_address_but_a_number_of_them() {
        for syntax in ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.108"] {
            let header = read(&encapsulated(syntax, "25", &[], &[], &[&[1, 2]]));
            assert_eq!((header.frames, header.number_of_frames), (FrameIndex::None, 25));
        }
    }

    fn native(layout: Layout, image: impl FnOnce(&mut Writer), vr: VR, value: &[u8]) -> Vec<u8> {
        let syntax = if layout.big_endian { BIG_ENDIAN } else { NATIVE };
        samples::file(syntax, layout, |writer| {
            image(writer);
            writer.head(PIXEL_DATA, vr, u32::try_from(value.len()).unwrap()).raw(value);
        })
    }

    #[test]
    fn native_frames_follow_from_the_dimensions() {
        let value: Vec<u8> = (0..12).collect();
        for (what, image, length, expected) in [
            ("one", (2, 3, 1, 8, ""), 6, &[&value[..6]][..]),
            ("two", (2, 3, 1, 8, "2 "), 12, &[&value[..6], &value[6..]]),
            ("colour", (1, 2, 3, 8, "2 "), 12, &[&value[..6], &value[6..]]),
            ("wide", (1, 3, 1, 16, "2 "), 12, &[&value[..6], &value[6..]]),
            ("padded", (1, 5, 1, 8, "1 "), 6, &[&value[..5]]),
            ("long", (1, 2, 1, 8, "2 "), 12, &[&value[..2], &value[2..4]]),
            ("short", (1, 5, 1, 8, "3 "), 12, &[&value[..5], &value[5..10]]),
            ("shorter than one", (3, 5, 1, 8, "3 "), 12, &[]),
            ("no number, exact", (1, 6, 1, 8, "1A"), 12, &[&value[..6], &value[6..]]),
            ("no number, not exact", (1, 4, 1, 8, "-1"), 10, &[&value[..4]]),
            ("huge number", (2, 3, 1, 8, "2147483647"), 12, &[&value[..6], &value[6..]]),
            ("no rows", (0, 3, 1, 8, ""), 12, &[]),
        ] {
            let (rows, columns, samples, bits, number) = image;
            let writer = |writer: &mut Writer| {
                writer.image(rows, columns, samples, bits, number);
            };
            let file = native(EXPLICIT, writer, VR::OB, &value[..length]);
            let header = read(&file);
            let stored = header.frames.store();
            let found: Vec<_> = (1..).map_while(|number| frame(&file, &stored, number)).collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn frames_of_single_bits_begin_at_bit_zero() {
        // three frames of 5 x 5 bits: all set, none set, every other set
        let pattern: u128 = 0x1FF_FFFF | 0b1_0101_0101_0101_0101_0101_0101_u128 << 50;
        let value = &pattern.to_le_bytes()[..10];
        let image = |writer: &mut Writer| {
            writer.image(5, 5, 1, 1, "3 ");
        };
        let expected = [vec![0xFF, 0xFF, 0xFF, 1], vec![0; 4], vec![0x55, 0x55, 0x55, 1]];
        assert_eq!(frames(&native(EXPLICIT, image, VR::OB, value)), expected);
        let swapped: Vec<u8> = value.chunks(2).flat_map(|word| [word[1], word[0]]).collect();
        assert_eq!(frames(&native(BIG, image, VR::OW, &swapped)), expected);
    }

    #[test]
    fn big_endian_frames_are_swapped_by_pixel_or_word() {
        for (what, bits, vr, stored, expected) in [
            ("8 bits in bytes", 8, VR::OB, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]),
            ("8 bits in words", 8, VR::OW, [2, 1, 4, 3, 6, 5, 8, 7], [1, 2, 3, 4, 5, 6, 7, 8]),
            ("16 bits", 16, VR::OW, [2, 1, 4, 3, 6, 5, 8, 7], [1, 2, 3, 4, 5, 6, 7, 8]),
            ("32 bits", 32, VR::OW, [4, 3, 2, 1, 8, 7, 6, 5], [1, 2, 3, 4, 5, 6, 7, 8]),
        ] {
            let columns = 64 / bits;
            let image = |writer: &mut Writer| {
                writer.image(1, columns, 1, bits, "");
            };
            assert_eq!(frames(&native(BIG, image, vr, &stored)), [expected.to_vec()], "{what}");
        }
        // frames of three bytes begin inside words
        let image = |writer: &mut Writer| {
            writer.image(1, 3, 1, 8, "2 ");
        };
        assert_eq!(frames(&native(BIG, image, VR::OW, &[2, 1, 4, 3, 6, 5])), [vec![1, 2, 3], vec![4, 5, 6]]);
    }

    #[test]
    fn halved_chroma_stores_two_samples_a_pixel() {
        let value = [1, 2, 3, 4];
        let image = |writer: &mut Writer| {
            writer.put(Tag(0x0028, 0x0004), VR::CS, b"YBR_FULL_422").image(1, 2, 3, 8, "");
        };
        assert_eq!(frames(&native(EXPLICIT, image, VR::OB, &value)), [value]);
    }
}
