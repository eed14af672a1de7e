//! Writing a stored object as a Part 10 file that every reader understands, as it streams.
//!
//! [`Reencoder`] makes Explicit VR Little Endian of any encoding; [`Refront`] gives a file that lacks its preamble or file meta
//! information both, and leaves the data set alone.

use dicom_core::{Tag, VR};

use crate::dicom::events::{Bound, ElementHeader, Limits, ParseError, Sink};
use crate::dicom::fragments::{DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA, pixel_word};
use crate::dicom::header::Form;
use crate::dicom::stream::{FrontReader, Stream};
use crate::dicom::transfer_syntax::{self, Encoding};
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use crate::dicom::vr::{self, PIXEL_DATA};

/// Implementation Class UID (0002,0012) of what Isocenter writes.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.125788572428104419415420247667832822135";
/// Implementation Version Name (0002,0013) of what Isocenter writes.
pub const IMPLEMENTATION_VERSION_NAME: &str = "ISOCENTER_0_1";

const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
pub(super) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(super) const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);
pub(super) const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);
pub(super) const UNDEFINED: u32 = u32::MAX;
/// The longest value with a length of 16 bits, which is even.
pub(super) const LONGEST_SHORT: u32 = 0xFFFE;

/// How a stored object leaves as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// Byte for byte.
    AsStored,
    /// Through [`Refront`].
    Refront,
    /// Through [`Reencoder`].
    Reencode,
}

/// How an object of this form and encoding leaves.
#[must_use]
pub fn export(form: Form, encoding: Encoding, transfer_syntax: &TransferSyntaxUid) -> Export {
    // compared with what is named: a file whose data set is encoded otherwise would mislead its readers
    let honest = encoding == Encoding::of(transfer_syntax);
    match form {
        _ if !encoding.explicit || encoding.big_endian || !honest => Export::Reencode,
        Form::Part10 => Export::AsStored,
        Form::NoPreamble | Form::Bare => Export::Refront,
    }
}

/// The transfer syntax that the file of an object of this one names after [`Reencoder`].
#[must_use]
pub fn reencoded_syntax(transfer_syntax: &TransferSyntaxUid) -> TransferSyntaxUid {
    if Encoding::of(transfer_syntax) == Encoding::EXPLICIT_LITTLE {
        // encapsulated pixel data in a data set that is implicit against the rules keeps its name
        transfer_syntax.clone()
    } else {
        transfer_syntax::of(Encoding::EXPLICIT_LITTLE)
    }
}

/// Preamble, `DICM` and file meta information (PS3.10 7.1).
#[must_use]
pub fn front(sop_class: &SopClassUid, instance: &InstanceUid, transfer_syntax: &TransferSyntaxUid) -> Vec<u8> {
    let mut group = Vec::with_capacity(320);
    put_header(&mut group, Tag(2, 1), VR::OB, 2);
    group.extend([0, 1]);
    for (element, vr, text) in [
        (0x0002, VR::UI, sop_class.as_str()),
        (0x0003, VR::UI, instance.as_str()),
        (0x0010, VR::UI, transfer_syntax.as_str()),
        (0x0012, VR::UI, IMPLEMENTATION_CLASS_UID),
        (0x0013, VR::SH, IMPLEMENTATION_VERSION_NAME),
    ] {
        let length = u32::try_from(text.len()).expect("UIDs have up to 64 characters");
        put_header(&mut group, Tag(2, element), vr, length + length % 2);
        group.extend_from_slice(text.as_bytes());
        group.extend(padding(vr, length));
    }
    let mut out = vec![0; 128];
    out.extend_from_slice(b"DICM");
    put_header(&mut out, Tag(2, 0), VR::UL, 4);
    out.extend(u32::try_from(group.len()).expect("six short elements").to_le_bytes());
    out.append(&mut group);
    out
}

/// Gives a stored object without preamble or file meta information both, and passes its data set on unchanged.
#[derive(Debug)]
pub struct Refront {
    reader: Option<FrontReader>,
    front: Vec<u8>,
}

impl Refront {
    /// The file will name this instance and the transfer syntax that it is stored in.
    #[must_use]
    pub fn new(sop_class: &SopClassUid, instance: &InstanceUid, transfer_syntax: &TransferSyntaxUid) -> Self {
        Self { reader: Some(FrontReader::default()), front: front(sop_class, instance, transfer_syntax) }
    }

    /// The next bytes of the object; the file's are appended to `out`.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), ParseError> {
        if let Some(reader) = &mut self.reader {
            let Some((_, beginning)) = reader.push(&mut chunk)? else { return Ok(()) };
            self.reader = None;
            out.append(&mut self.front);
            out.extend_from_slice(&beginning);
        }
        out.extend_from_slice(chunk);
        Ok(())
    }

    /// The object is over.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), ParseError> {
        if let Some(mut reader) = self.reader.take() {
            let (_, beginning) = reader.finish()?;
            out.append(&mut self.front);
            out.extend_from_slice(&beginning);
        }
        Ok(())
    }
}

/// Makes a Part 10 file in Explicit VR Little Endian of an object of any encoding.
///
/// Sequences and items are written with undefined length, so that nothing has to be known before it is written. Group lengths
/// are left out, as are elements of groups 0000 and 0002, which are no part of a data set. Values of odd length are padded.
/// A value that is too long for a length of 16 bits gets VR UN (PS3.5 6.2.2).
#[derive(Debug)]
pub struct Reencoder {
    stream: Stream,
    writer: Writer,
}

impl Reencoder {
    /// The file will name this instance and, instead of the stored one, the transfer syntax of [`reencoded_syntax`].
    #[must_use]
    pub fn new(sop_class: &SopClassUid, instance: &InstanceUid, stored: &TransferSyntaxUid, limits: Limits) -> Self {
        let writer = Writer::beginning(front(sop_class, instance, &reencoded_syntax(stored)));
        Self { stream: Stream::new(limits), writer }
    }

    /// The next bytes of the object; the file's are appended to `out`: about as many, and a few for each element.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), ParseError> {
        let result = self.stream.push(chunk, &mut self.writer);
        out.append(&mut self.writer.out);
        result
    }

    /// The object is over.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), ParseError> {
        let result = self.stream.finish(&mut self.writer);
        out.append(&mut self.writer.out);
        result
    }
}

/// Writes the events.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    open: Value,
    /// Bits Allocated of the root and of each open item.
    bits: Vec<u16>,
    root_bits: u16,
}

/// The open value.
#[derive(Debug, Default)]
struct Value {
    tag: Option<Tag>,
    vr: Option<VR>,
    big_endian: bool,
    length: u32,
    /// It is not written.
    dropped: bool,
    /// Bytes to swap together.
    word: u8,
    /// The beginning of a word whose rest is still to come.
    carry: [u8; 8],
    carried: usize,
    /// The first two bytes.
    head: [u8; 2],
    seen: usize,
}

impl Writer {
    /// A writer that has written this.
    pub(super) fn beginning(out: Vec<u8>) -> Self {
        Self { out, ..Self::default() }
    }

    /// What is written and not taken yet.
    pub(super) fn written(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn bits(&mut self) -> &mut u16 {
        self.bits.last_mut().unwrap_or(&mut self.root_bits)
    }

    fn word(&mut self, header: &ElementHeader) -> u8 {
        match header.tag {
            _ if !header.big_endian => 1,
            PIXEL_DATA => pixel_word(header.vr, u64::from(*self.bits())),
            FLOAT_PIXEL_DATA => pixel_word(header.vr, 32),
            DOUBLE_FLOAT_PIXEL_DATA => pixel_word(header.vr, 64),
            _ => vr::word(header.vr),
        }
    }

    /// Swaps whole words and keeps the beginning of the next.
    fn swapped(&mut self, mut piece: &[u8]) {
        let word = usize::from(self.open.word);
        if self.open.carried > 0 {
            let take = (word - self.open.carried).min(piece.len());
            self.open.carry[self.open.carried..self.open.carried + take].copy_from_slice(&piece[..take]);
            self.open.carried += take;
            piece = &piece[take..];
            if self.open.carried < word {
                return;
            }
            self.out.extend(self.open.carry[..word].iter().rev());
            self.open.carried = 0;
        }
        let (whole, rest) = piece.split_at(piece.len() - piece.len() % word);
        let start = self.out.len();
        self.out.extend_from_slice(whole);
        vr::swap(&mut self.out[start..], self.open.word);
        self.open.carry[..rest.len()].copy_from_slice(rest);
        self.open.carried = rest.len();
    }
}

impl Sink for Writer {
    fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        let length = header.length.unwrap_or(0);
        let dropped = header.tag.1 == 0 || matches!(header.tag.0, 0 | 2);
        self.open = Value {
            tag: Some(header.tag),
            vr: Some(header.vr),
            big_endian: header.big_endian,
            length,
            dropped,
            word: self.word(header),
            ..Value::default()
        };
        if !dropped {
            let vr = if length > LONGEST_SHORT && !vr::has_long_length(header.vr) { VR::UN } else { header.vr };
            let Some(even) = length.checked_add(length % 2).filter(|even| *even != UNDEFINED) else {
                return Err(ParseError::limit(header.position, Bound::Value));
            };
            put_header(&mut self.out, header.tag, vr, even);
        }
        Ok(())
    }

    fn value(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        for byte in piece.iter().take(2_usize.saturating_sub(self.open.seen)) {
            self.open.head[self.open.seen] = *byte;
            self.open.seen += 1;
        }
        if self.open.dropped {
            return Ok(());
        }
        if self.open.word > 1 {
            self.swapped(piece);
        } else {
            self.out.extend_from_slice(piece);
        }
        Ok(())
    }

    fn element_end(&mut self) -> Result<(), ParseError> {
        let value = std::mem::take(&mut self.open);
        if value.tag == Some(BITS_ALLOCATED) && value.seen == 2 {
            *self.bits() =
                if value.big_endian { u16::from_be_bytes(value.head) } else { u16::from_le_bytes(value.head) };
        }
        if !value.dropped {
            self.out.extend_from_slice(&value.carry[..value.carried]);
            self.out.extend(padding(value.vr.unwrap_or(VR::UN), value.length));
        }
        Ok(())
    }

    fn sequence(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        put_header(&mut self.out, header.tag, VR::SQ, UNDEFINED);
        Ok(())
    }

    fn item(&mut self) -> Result<(), ParseError> {
        self.bits.push(0);
        put_item(&mut self.out, ITEM, UNDEFINED);
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), ParseError> {
        self.bits.pop();
        put_item(&mut self.out, ITEM_DELIMITER, 0);
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), ParseError> {
        put_item(&mut self.out, SEQUENCE_DELIMITER, 0);
        Ok(())
    }

    fn fragments(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        // only these may have undefined length (PS3.5 7.1.2)
        let vr = if matches!(header.vr, VR::OB | VR::OW | VR::UN) { header.vr } else { VR::OB };
        put_header(&mut self.out, header.tag, vr, UNDEFINED);
        Ok(())
    }

    fn fragment(&mut self, position: u64, length: u32) -> Result<(), ParseError> {
        let Some(even) = length.checked_add(length % 2).filter(|even| *even != UNDEFINED) else {
            return Err(ParseError::limit(position, Bound::Fragment));
        };
        self.open = Value { length, word: 1, vr: Some(VR::OB), ..Value::default() };
        put_item(&mut self.out, ITEM, even);
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), ParseError> {
        self.element_end()
    }

    fn fragments_end(&mut self, _position: u64) -> Result<(), ParseError> {
        put_item(&mut self.out, SEQUENCE_DELIMITER, 0);
        Ok(())
    }
}

/// What makes the length of a value even (PS3.5 6.2).
pub(super) fn padding(vr: VR, length: u32) -> Option<u8> {
    let zero = vr == VR::UI || vr::is_binary(vr) || vr::word(vr) > 1;
    (length % 2 == 1).then_some(if zero { 0 } else { b' ' })
}

fn put_tag(out: &mut Vec<u8>, tag: Tag) {
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
}

pub(super) fn put_item(out: &mut Vec<u8>, tag: Tag, length: u32) {
    put_tag(out, tag);
    out.extend(length.to_le_bytes());
}

pub(super) fn put_header(out: &mut Vec<u8>, tag: Tag, vr: VR, length: u32) {
    // what has the group of items and delimiters is read as they are, without a VR (PS3.5 7.5)
    if tag.group() == ITEM.group() {
        return put_item(out, tag, length);
    }
    put_tag(out, tag);
    out.extend(vr.to_bytes());
    if vr::has_long_length(vr) {
        out.extend([0, 0]);
        out.extend(length.to_le_bytes());
    } else {
        // longer ones have been made UN
        out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use dicom_core::{Tag, VR};
    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::{Export, Reencoder, Refront, export, front, reencoded_syntax};
    use crate::dicom::events::{Limits, ParseError};
    use crate::dicom::header::{Content, Dataset, Form, Header, HeaderLimits, HeaderReader};
    use crate::dicom::samples::{self, BIG, EXPLICIT, IMPLICIT, Layout, UNDEFINED, Writer};
    use crate::dicom::transfer_syntax::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, Encoding, IMPLICIT_LITTLE};
    use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
    use crate::dicom::vr::PIXEL_DATA;

    fn syntax(text: &str) -> TransferSyntaxUid {
        TransferSyntaxUid::parse(text).unwrap()
    }

    fn class() -> SopClassUid {
        SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap()
    }

    fn instance() -> InstanceUid {
        InstanceUid::parse("1.2.3.4").unwrap()
    }

    fn read(file: &[u8]) -> Header {
        let mut reader = HeaderReader::new(HeaderLimits::default());
        reader.push(file).unwrap();
        reader.finish_anonymous().unwrap()
    }

    fn reencode(file: &[u8], stored: &str, piece: usize) -> Result<Vec<u8>, ParseError> {
        let mut out = Vec::new();
        let mut reencoder = Reencoder::new(&class(), &instance(), &syntax(stored), Limits::default());
        for chunk in file.chunks(piece) {
            reencoder.push(chunk, &mut out)?;
        }
        reencoder.finish(&mut out)?;
        Ok(out)
    }

    /// Tags, VRs and values; group lengths left out.
    fn view(header: &Header, file: &[u8], dataset: &Dataset) -> Vec<String> {
        let mut lines = Vec::new();
        for element in dataset.elements.iter().filter(|element| element.tag.1 != 0) {
            let start = usize::try_from(element.extent.position).unwrap();
            let value = match &element.content {
                Content::Items(items) => {
                    format!("{:?}", items.iter().map(|item| view(header, file, item)).collect::<Vec<_>>())
                }
                Content::Held(_) => format!("{:?}", header.value(element)),
                Content::Left | Content::Fragments => {
                    format!("{:?}", &file[start..start + usize::try_from(element.extent.length).unwrap()])
                }
            };
            lines.push(format!("{} {} {value}", element.tag, element.vr));
        }
        lines
    }

    /// A bit of everything, in any layout.
    fn dataset(layout: Layout) -> Vec<u8> {
        let nested = Writer::new(layout)
            .put(Tag(0x0028, 0x0103), VR::US, &[1, 0])
            .put(Tag(0x0028, 0x0106), VR::SS, &[1, 2])
            .done();
        let defined = Writer::new(layout).item(u32::try_from(nested.len()).unwrap()).raw(&nested).done();
        let mut writer = Writer::new(layout);
        writer
            .put(Tag(0x0008, 0x0000), VR::UL, &[9, 0, 0, 0])
            .identity()
            .put(Tag(0x0009, 0x0010), VR::LO, b"OURS")
            .put(Tag(0x0009, 0x1001), VR::UN, &[1, 2, 3, 4])
            .put(Tag(0x0028, 0x0100), VR::US, &[16, 0])
            .put(Tag(0x0028, 0x0103), VR::US, &[0, 0])
            .put(Tag(0x0028, 0x1052), VR::DS, b"-1024 ")
            .put(Tag(0x0028, 0x9002), VR::UL, &[1, 2, 3, 4])
            .put(Tag(0x0028, 0x9099), VR::US, &[1, 0, 2, 0])
            .put(Tag(0x0040, 0x0440), VR::SQ, &defined)
            .head(Tag(0x0040, 0xA730), VR::SQ, UNDEFINED)
            .item(UNDEFINED)
            .put(Tag(0x0040, 0xA30A), VR::DS, b"")
            .put(Tag(0x0040, 0xA161), VR::FD, &[1, 2, 3, 4, 5, 6, 7, 8])
            .put(Tag(0x0020, 0x9165), VR::AT, &[1, 2, 3, 4])
            .end_item()
            .item(0)
            .end_sequence();
        writer.done()
    }

    #[test]
    fn every_encoding_becomes_the_same_explicit_little_endian_file() {
        let pixels: Vec<u8> = (0..=255).collect();
        let turned: Vec<u8> = pixels.chunks(2).flat_map(|word| [word[1], word[0]]).collect();
        let with = |layout, pixels: &[u8]| {
            let pixels = Writer::new(layout).head(PIXEL_DATA, VR::OW, 256).raw(pixels).done();
            [dataset(layout), pixels].concat()
        };
        let little = with(EXPLICIT, &pixels);
        let mut deflate = DeflateEncoder::new(samples::part10(DEFLATED), Compression::fast());
        deflate.write_all(&little).unwrap();
        let expected = [samples::part10(EXPLICIT_LITTLE), little.clone()].concat();
        let expected_header = read(&expected);
        let expected_view = view(&expected_header, &expected, &expected_header.dataset);
        let mut files = Vec::new();
        for (what, stored, file) in [
            ("little", EXPLICIT_LITTLE, expected.clone()),
            ("bare", EXPLICIT_LITTLE, little.clone()),
            ("implicit", IMPLICIT_LITTLE, [samples::part10(IMPLICIT_LITTLE), with(IMPLICIT, &pixels)].concat()),
            (
                "implicit in truth",
                EXPLICIT_LITTLE,
                [samples::part10(EXPLICIT_LITTLE), with(IMPLICIT, &pixels)].concat(),
            ),
            ("big", EXPLICIT_BIG, [samples::part10(EXPLICIT_BIG), with(BIG, &turned)].concat()),
            ("deflated", DEFLATED, deflate.finish().unwrap()),
        ] {
            for piece in [1, 3, 7, 100_000] {
                let out = reencode(&file, stored, piece).unwrap();
                let header = read(&out);
                assert_eq!(header.form, Form::Part10, "{what}");
                assert_eq!(header.transfer_syntax.as_str(), EXPLICIT_LITTLE, "{what}");
                assert_eq!(header.encoding, Encoding::EXPLICIT_LITTLE, "{what}");
                assert_eq!(header.meta.sop_instance.as_deref(), Some("1.2.3.4"), "{what}");
                assert_eq!(view(&header, &out, &header.dataset), expected_view, "{what}");
                files.push(out);
            }
        }
        files.dedup();
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn lengths_that_do_not_fit_are_made_to() {
        let long = vec![b'1'; 70_000];
        let file = samples::file(IMPLICIT_LITTLE, IMPLICIT, |writer| {
            writer.put(Tag(0x0010, 0x0020), VR::LO, b"odd").put(Tag(0x0028, 0x3006), VR::OW, &[1, 2, 3]).put(
                Tag(0x3006, 0x0050),
                VR::DS,
                &long,
            );
        });
        let out = reencode(&file, IMPLICIT_LITTLE, 999).unwrap();
        let header = read(&out);
        let values: Vec<_> =
            header.dataset.elements.iter().map(|element| (element.vr, element.extent.length)).collect();
        assert_eq!(values, [(VR::LO, 4), (VR::OW, 4), (VR::UN, 70_000)]);
        assert_eq!(header.value(&header.dataset.elements[0]), b"odd ");
        assert_eq!(header.value(&header.dataset.elements[1]), [1, 2, 3, 0]);
    }

    #[test]
    fn what_has_the_group_of_items_does_not_make_the_rest_unreadable() {
        let file = samples::file(IMPLICIT_LITTLE, IMPLICIT, |writer| {
            writer.identity().put(Tag(0xFFFE, 0xE0F9), VR::UN, b"").put(Tag(0xFFFE, 0xE0FA), VR::UN, b"ab");
            writer.put(PIXEL_DATA, VR::OW, &[1, 2]);
        });
        let out = reencode(&file, IMPLICIT_LITTLE, 7).unwrap();
        let (before, after) = (read(&file), read(&out));
        assert_eq!(view(&after, &out, &after.dataset), view(&before, &file, &before.dataset));
    }

    #[test]
    fn memory_does_not_grow_with_a_value() {
        let head = Writer::new(BIG).head(Tag(0x0009, 0x1001), VR::OW, 1 << 30).done();
        let mut reencoder = Reencoder::new(&class(), &instance(), &syntax(EXPLICIT_BIG), Limits::default());
        let mut out = Vec::new();
        reencoder.push(&[samples::part10(EXPLICIT_BIG), head].concat(), &mut out).unwrap();
        for _ in 0..100 {
            out.clear();
            reencoder.push(&[0; 10_001], &mut out).unwrap();
            assert!((10_000..=10_002).contains(&out.len()));
        }
        assert!(matches!(reencoder.finish(&mut out), Err(ParseError::Truncated(_))));
    }

    #[test]
    fn a_missing_front_is_added_and_the_data_set_left_alone() {
        let data = dataset(EXPLICIT);
        let jpeg = "1.2.840.10008.1.2.4.50";
        for (what, stored) in [
            ("bare", data.clone()),
            ("no preamble", [&samples::part10(jpeg)[132..], &data].concat()),
            ("no meta", [&[0; 128], &b"DICM"[..], &data].concat()),
        ] {
            for piece in [1, 100, 100_000] {
                let mut out = Vec::new();
                let mut refront = Refront::new(&class(), &instance(), &syntax(jpeg));
                for chunk in stored.chunks(piece) {
                    refront.push(chunk, &mut out).unwrap();
                }
                refront.finish(&mut out).unwrap();
                assert_eq!(out, [front(&class(), &instance(), &syntax(jpeg)), data.clone()].concat(), "{what}");
            }
        }
        let front = front(&class(), &instance(), &syntax(jpeg));
        assert_eq!(front[140..144], u32::try_from(front.len() - 144).unwrap().to_le_bytes());
    }

    #[test]
    fn objects_leave_as_they_are_only_when_they_are_honest_files() {
        let jpeg = "1.2.840.10008.1.2.4.50";
        for (form, encoding, named, expected) in [
            (Form::Part10, Encoding::EXPLICIT_LITTLE, EXPLICIT_LITTLE, Export::AsStored),
            (Form::Part10, Encoding::EXPLICIT_LITTLE, jpeg, Export::AsStored),
            (Form::Part10, Encoding::DEFLATED, DEFLATED, Export::AsStored),
            (Form::Part10, Encoding::IMPLICIT_LITTLE, IMPLICIT_LITTLE, Export::Reencode),
            (Form::Part10, Encoding::EXPLICIT_BIG, EXPLICIT_BIG, Export::Reencode),
            (Form::Part10, Encoding::IMPLICIT_LITTLE, EXPLICIT_LITTLE, Export::Reencode),
            (Form::Part10, Encoding::EXPLICIT_LITTLE, IMPLICIT_LITTLE, Export::Reencode),
            (Form::NoPreamble, Encoding::EXPLICIT_LITTLE, jpeg, Export::Refront),
            (Form::Bare, Encoding::EXPLICIT_LITTLE, EXPLICIT_LITTLE, Export::Refront),
            (Form::Bare, Encoding::IMPLICIT_LITTLE, IMPLICIT_LITTLE, Export::Reencode),
        ] {
            assert_eq!(export(form, encoding, &syntax(named)), expected, "{form:?} {encoding:?} {named}");
        }
        for (named, expected) in [
            (IMPLICIT_LITTLE, EXPLICIT_LITTLE),
            (EXPLICIT_BIG, EXPLICIT_LITTLE),
            (DEFLATED, EXPLICIT_LITTLE),
            (jpeg, jpeg),
        ] {
            assert_eq!(reencoded_syntax(&syntax(named)).as_str(), expected);
        }
    }
}
