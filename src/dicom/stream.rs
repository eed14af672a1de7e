//! The front of a stream: preamble, file meta information, and what the data set after them is encoded as; then its tokens.
//!
//! Read are Part 10 files, files that lack the preamble or the file meta information, and bare data sets that are unmistakable.

use dicom_core::dictionary::DataDictionary;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use crate::dicom::events::{Bound, Limits, ParseError, Sink};
use crate::dicom::header::Form;
use crate::dicom::inflate::Inflate;
use crate::dicom::tokens::{Claim, Parser};
use crate::dicom::transfer_syntax::Encoding;
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicom::vr::{self, Named};

/// Most bytes before the data set: private file meta information may be large, but not larger.
const FRONT_LIMIT: usize = 1024 * 1024;
/// Bytes taken at a time while the front is not complete.
const STEP: usize = 4096;
const PREAMBLE: usize = 128;

/// What the file meta information says, as far as it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMeta {
    /// Transfer Syntax UID (0002,0010), when it is a UID.
    pub transfer_syntax: Option<TransferSyntaxUid>,
    /// Media Storage SOP Class UID (0002,0002), unchecked.
    pub sop_class: Option<Box<str>>,
    /// Media Storage SOP Instance UID (0002,0003), unchecked. The data set wins where it differs.
    pub sop_instance: Option<Box<str>>,
}

/// What comes before the data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// How the bytes came.
    pub form: Form,
    /// The file meta information.
    pub meta: FileMeta,
    /// First byte of the data set in the file, of the deflate stream for deflated ones.
    pub dataset: u64,
}

/// A stream being read: the front, then events of the data set.
#[derive(Debug)]
pub struct Stream {
    limits: Limits,
    phase: Phase,
    front: Option<Front>,
}

#[derive(Debug)]
enum Phase {
    Front(FrontReader),
    Plain(Parser),
    Deflated(Box<Inflate>, Parser),
    Failed(ParseError),
}

impl Stream {
    /// Begins to read.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, phase: Phase::Front(FrontReader::default()), front: None }
    }

    /// What came before the data set, once that has begun.
    #[must_use]
    pub fn front(&self) -> Option<&Front> {
        self.front.as_ref()
    }

    /// How the data set is really encoded, once its first element is known.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match &self.phase {
            Phase::Plain(parser) | Phase::Deflated(_, parser) => parser.encoding(),
            Phase::Front(_) | Phase::Failed(_) => Encoding::EXPLICIT_LITTLE,
        }
    }

    /// The next bytes, any number of them. After an error every call repeats it.
    pub fn push<S: Sink>(&mut self, chunk: &[u8], sink: &mut S) -> Result<(), ParseError> {
        let result = self.advance(chunk, sink);
        if let Err(error) = &result {
            self.phase = Phase::Failed(error.clone());
        }
        result
    }

    /// The stream is over; says whether the data set is complete.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), ParseError> {
        if let Phase::Front(reader) = &mut self.phase {
            let (front, beginning) = reader.finish()?;
            self.begin(front, &beginning, sink)?;
        }
        match &self.phase {
            Phase::Plain(parser) => parser.finish(),
            Phase::Deflated(inflate, parser) => inflate.finish().and_then(|()| parser.finish()),
            Phase::Failed(error) => Err(error.clone()),
            // `begin` left it
            Phase::Front(_) => Err(ParseError::NotDicom),
        }
    }

    fn advance<S: Sink>(&mut self, mut chunk: &[u8], sink: &mut S) -> Result<(), ParseError> {
        if let Phase::Front(reader) = &mut self.phase {
            let Some((front, beginning)) = reader.push(&mut chunk)? else { return Ok(()) };
            self.begin(front, &beginning, sink)?;
        }
        self.feed(chunk, sink)
    }

    /// Leaves the front for the data set and its beginning.
    fn begin<S: Sink>(&mut self, front: Front, beginning: &[u8], sink: &mut S) -> Result<(), ParseError> {
        let claim = front.meta.transfer_syntax.as_ref().map_or(Claim::Unknown, |uid| Claim::Said(Encoding::of(uid)));
        self.phase = if matches!(claim, Claim::Said(Encoding { deflated: true, .. })) {
            Phase::Deflated(Box::new(Inflate::new(self.limits)), Parser::new(claim, 0, self.limits))
        } else {
            Phase::Plain(Parser::new(claim, front.dataset, self.limits))
        };
        self.front = Some(front);
        self.feed(beginning, sink)
    }

    fn feed<S: Sink>(&mut self, chunk: &[u8], sink: &mut S) -> Result<(), ParseError> {
        match &mut self.phase {
            Phase::Plain(parser) => parser.push(chunk, sink),
            Phase::Deflated(inflate, parser) => inflate.push(chunk, |piece| parser.push(piece, sink)),
            Phase::Failed(error) => Err(error.clone()),
            Phase::Front(_) => Ok(()),
        }
    }
}

/// Collects the bytes before the data set and reads them.
#[derive(Debug, Default)]
pub struct FrontReader {
    buffer: Vec<u8>,
    /// Set once it is known where the file meta information begins.
    meta: Option<MetaReader>,
}

/// Where the reading of the file meta information is.
#[derive(Debug)]
struct MetaReader {
    form: Form,
    /// The next element of the group in the buffer.
    at: usize,
    /// Elements without VR, as some writers do.
    implicit: bool,
    found: FileMeta,
}

impl FrontReader {
    /// Takes bytes off a chunk until the front is complete; then gives it, with those bytes of the data set that were taken.
    pub fn push(&mut self, chunk: &mut &[u8]) -> Result<Option<(Front, Vec<u8>)>, ParseError> {
        while !chunk.is_empty() {
            let (now, later) = chunk.split_at(chunk.len().min(STEP));
            self.buffer.extend_from_slice(now);
            *chunk = later;
            if let Some(front) = self.read(false)? {
                return Ok(Some(self.split(front)));
            }
            if self.buffer.len() > FRONT_LIMIT {
                return Err(ParseError::limit(self.length(), Bound::FileMeta));
            }
        }
        Ok(None)
    }

    /// The stream is over: a front that is complete now, and the short data set after it.
    pub fn finish(&mut self) -> Result<(Front, Vec<u8>), ParseError> {
        match self.read(true)? {
            Some(front) => Ok(self.split(front)),
            None => Err(ParseError::Truncated(self.length())),
        }
    }

    fn split(&mut self, front: Front) -> (Front, Vec<u8>) {
        let mut beginning = std::mem::take(&mut self.buffer);
        // the data set begins inside the buffer
        beginning.drain(..beginning.len().min(usize::try_from(front.dataset).unwrap_or(usize::MAX)));
        (front, beginning)
    }

    fn length(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// The front, once it is complete; `last` when no more bytes come.
    fn read(&mut self, last: bool) -> Result<Option<Front>, ParseError> {
        if self.meta.is_none() {
            if self.buffer.len() < PREAMBLE + 4 && !last {
                return Ok(None);
            }
            let Some(start) = self.start(last)? else { return Ok(None) };
            self.meta = Some(start);
        }
        match &mut self.meta {
            Some(meta) => meta.read(&self.buffer, last),
            None => Ok(None),
        }
    }

    /// Finds out what the stream begins with.
    fn start(&self, last: bool) -> Result<Option<MetaReader>, ParseError> {
        let (form, at) = if self.buffer.get(PREAMBLE..PREAMBLE + 4) == Some(b"DICM") {
            (Form::Part10, PREAMBLE + 4)
        } else if self.buffer.starts_with(b"DICM") {
            (Form::NoPreamble, 4)
        } else if self.buffer.starts_with(&[2, 0]) && self.buffer.get(3) == Some(&0) {
            (Form::NoPreamble, 0)
        } else if is_dataset(&self.buffer) {
            (Form::Bare, 0)
        } else {
            return Err(ParseError::NotDicom);
        };
        let rest = self.buffer.get(at..).unwrap_or_default();
        if rest.len() < 8 {
            // nothing after `DICM`, or too little to tell
            return if last { Err(ParseError::Truncated(self.length())) } else { Ok(None) };
        }
        let implicit = !vr::looks_named([rest[4], rest[5]]);
        Ok(Some(MetaReader { form, at, implicit, found: FileMeta::default() }))
    }
}

impl MetaReader {
    /// Reads elements of group 0002 until another group comes. The group length is not believed: it is wrong too often.
    fn read(&mut self, buffer: &[u8], last: bool) -> Result<Option<Front>, ParseError> {
        loop {
            let rest = buffer.get(self.at..).unwrap_or_default();
            let group = rest.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
            if group.is_some_and(|group| group != 2) || (last && rest.is_empty()) {
                let form = match self.form {
                    Form::Part10 if self.found.transfer_syntax.is_none() => Form::NoPreamble,
                    form => form,
                };
                return Ok(Some(Front { form, meta: self.found.clone(), dataset: self.at as u64 }));
            }
            match self.element(rest)? {
                Some(length) => self.at += length,
                None if last => return Err(ParseError::Truncated(buffer.len() as u64)),
                None => return Ok(None),
            }
        }
    }

    /// Takes one element; its whole length, or `None` when bytes are missing.
    fn element(&mut self, rest: &[u8]) -> Result<Option<usize>, ParseError> {
        let Some(head) = rest.first_chunk::<8>() else { return Ok(None) };
        let named = if self.implicit { Named::Absent } else { vr::named([head[4], head[5]]) };
        let (header, length) = match named {
            Named::Known(vr) if vr::has_long_length(vr) => {
                let Some(head) = rest.first_chunk::<12>() else { return Ok(None) };
                (12, u32::from_le_bytes([head[8], head[9], head[10], head[11]]))
            }
            Named::Known(_) | Named::Unknown => (8, u32::from(u16::from_le_bytes([head[6], head[7]]))),
            Named::Absent => (8, u32::from_le_bytes([head[4], head[5], head[6], head[7]])),
        };
        let position = self.at as u64;
        if length as usize > FRONT_LIMIT {
            return Err(ParseError::limit(position, Bound::FileMeta));
        }
        let end = header + length as usize;
        let Some(value) = rest.get(header..end) else { return Ok(None) };
        self.take(u16::from_le_bytes([head[2], head[3]]), value);
        Ok(Some(end))
    }

    fn take(&mut self, element: u16, value: &[u8]) {
        let text = || std::str::from_utf8(value).ok().map(|text| text.trim_matches([' ', '\0']));
        match element {
            0x0002 => self.found.sop_class = text().map(Into::into),
            0x0003 => self.found.sop_instance = text().map(Into::into),
            0x0010 => self.found.transfer_syntax = text().and_then(|text| TransferSyntaxUid::parse(text).ok()),
            _ => {}
        }
    }
}

/// Whether a stream without any marker begins with an element as data sets do: a known VR in a low even group of either
/// byte order, or without VR a standard attribute of a low group with a length that such an attribute may have.
fn is_dataset(buffer: &[u8]) -> bool {
    let Some(head) = buffer.first_chunk::<8>() else { return false };
    let little = Tag(u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
    let big = Tag(u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
    let low = |tag: Tag| (0x0008..0x0100).contains(&tag.0) && tag.0.is_multiple_of(2);
    let known = |tag: Tag| tag.1 == 0 || StandardDataDictionary.by_tag(tag).is_some();
    match vr::named([head[4], head[5]]) {
        Named::Known(_) => (low(little) && known(little)) || (low(big) && known(big)),
        Named::Unknown => false,
        Named::Absent => {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let possible = match vr::of_tag(little, vr::Context::default()) {
                VR::SQ => length == u32::MAX || length < 0x100_0000,
                VR::UL => length == 4,
                _ => length <= 0x4000,
            };
            low(little) && little.0 <= 0x0028 && known(little) && possible
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use dicom_core::{Tag, VR};
    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use crate::dicom::events::{Bound, Limits, ParseError};
    use crate::dicom::header::{Form, Header, HeaderError, HeaderLimits, HeaderReader};
    use crate::dicom::identity::IdentityError;
    use crate::dicom::inflate::Inflater;
    use crate::dicom::samples::{self, BIG, EXPLICIT, IMPLICIT, Layout, Writer};
    use crate::dicom::transfer_syntax::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, Encoding, IMPLICIT_LITTLE};
    use crate::dicom::uid::UidError;

    fn read(file: &[u8], piece: usize) -> Result<Header, HeaderError> {
        let mut reader = HeaderReader::new(HeaderLimits::default());
        for chunk in file.chunks(piece) {
            reader.push(chunk)?;
        }
        reader.finish()
    }

    fn dataset(layout: Layout) -> Vec<u8> {
        Writer::new(layout).put(Tag(0x0008, 0x0005), VR::CS, b"ISO_IR 100").identity().done()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_form_and_encoding_is_found_out() {
        let implicit_meta = {
            let mut meta = Writer::new(IMPLICIT);
            meta.put(Tag(2, 0x0010), VR::UI, b"1.2.840.10008.1.2.1\0");
            [vec![0; 128], b"DICM".to_vec(), meta.done()].concat()
        };
        let wrong_length = {
            let mut front = samples::part10(EXPLICIT_LITTLE);
            front[140..144].copy_from_slice(&7_u32.to_le_bytes());
            front
        };
        let part10 = samples::part10;
        let (little, big, implicit) = (dataset(EXPLICIT), dataset(BIG), dataset(IMPLICIT));
        for (what, front, data, form, syntax, encoding) in [
            ("little", part10(EXPLICIT_LITTLE), &little, Form::Part10, EXPLICIT_LITTLE, Encoding::EXPLICIT_LITTLE),
            ("big", part10(EXPLICIT_BIG), &big, Form::Part10, EXPLICIT_BIG, Encoding::EXPLICIT_BIG),
            ("implicit", part10(IMPLICIT_LITTLE), &implicit, Form::Part10, IMPLICIT_LITTLE, Encoding::IMPLICIT_LITTLE),
            ("deflated", part10(DEFLATED), &deflate(&little), Form::Part10, DEFLATED, Encoding::DEFLATED),
            ("lie", part10(EXPLICIT_LITTLE), &implicit, Form::Part10, EXPLICIT_LITTLE, Encoding::IMPLICIT_LITTLE),
            ("big lie", part10(EXPLICIT_LITTLE), &big, Form::Part10, EXPLICIT_LITTLE, Encoding::EXPLICIT_BIG),
            ("little lie", part10(EXPLICIT_BIG), &little, Form::Part10, EXPLICIT_BIG, Encoding::EXPLICIT_LITTLE),
            ("private", part10("1.2.3"), &little, Form::Part10, "1.2.3", Encoding::EXPLICIT_LITTLE),
            ("wrong length", wrong_length, &little, Form::Part10, EXPLICIT_LITTLE, Encoding::EXPLICIT_LITTLE),
            ("implicit meta", implicit_meta, &little, Form::Part10, EXPLICIT_LITTLE, Encoding::EXPLICIT_LITTLE),
            (
                "no preamble",
                part10(IMPLICIT_LITTLE).split_off(132),
                &implicit,
                Form::NoPreamble,
                IMPLICIT_LITTLE,
                Encoding::IMPLICIT_LITTLE,
            ),
            (
                "no preamble but DICM",
                part10(EXPLICIT_LITTLE).split_off(128),
                &little,
                Form::NoPreamble,
                EXPLICIT_LITTLE,
                Encoding::EXPLICIT_LITTLE,
            ),
            (
                "no meta",
                [vec![0; 128], b"DICM".to_vec()].concat(),
                &big,
                Form::NoPreamble,
                EXPLICIT_BIG,
                Encoding::EXPLICIT_BIG,
            ),
            ("bare little", Vec::new(), &little, Form::Bare, EXPLICIT_LITTLE, Encoding::EXPLICIT_LITTLE),
            ("bare big", Vec::new(), &big, Form::Bare, EXPLICIT_BIG, Encoding::EXPLICIT_BIG),
            ("bare implicit", Vec::new(), &implicit, Form::Bare, IMPLICIT_LITTLE, Encoding::IMPLICIT_LITTLE),
        ] {
            let file = [&front[..], data].concat();
            for piece in [1, 5, 4096] {
                let header = read(&file, piece).unwrap();
                assert_eq!(header.form, form, "{what}");
                assert_eq!(header.transfer_syntax.as_str(), syntax, "{what}");
                assert_eq!(header.encoding, encoding, "{what}");
                assert_eq!(header.dataset_position, front.len() as u64, "{what}");
                assert_eq!(header.identity().unwrap().key.instance.as_str(), "1.2.3.4", "{what}");
            }
        }
    }

    #[test]
    fn what_is_not_dicom_is_told_from_what_is_cut() {
        let whole = [samples::part10(EXPLICIT_LITTLE), dataset(EXPLICIT)].concat();
        for (what, bytes, expected) in [
            ("nothing", Vec::new(), ParseError::NotDicom),
            ("zeros", vec![0; 1000], ParseError::NotDicom),
            ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), ParseError::NotDicom),
            ("text", b"This is no image. ".repeat(20), ParseError::NotDicom),
            ("XML", b"<?xml version=\"1.0\"?><a/>".to_vec(), ParseError::NotDicom),
            ("preamble", whole[..132].to_vec(), ParseError::Truncated(132)),
            ("meta", whole[..150].to_vec(), ParseError::Truncated(150)),
            ("deflated", [samples::part10(DEFLATED), vec![0x4B, 0x4C]].concat(), ParseError::Truncated(1)),
        ] {
            assert_eq!(read(&bytes, 100).unwrap_err(), HeaderError::Parse(expected), "{what}");
        }
        for end in 0..whole.len() {
            assert!(read(&whole[..end], 64).is_err(), "{end}");
        }
        assert!(read(&whole, 64).is_ok());
    }

    #[test]
    fn a_missing_uid_is_told_from_a_bad_one() {
        let file = |study: &[u8], series: bool| {
            samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
                writer.put(Tag(8, 0x16), VR::UI, b"1.2").put(Tag(8, 0x18), VR::UI, b"1.2").put(
                    Tag(0x20, 0xD),
                    VR::UI,
                    study,
                );
                if series {
                    writer.put(Tag(0x20, 0xE), VR::UI, b"1.2");
                }
            })
        };
        let study = Tag(0x20, 0xD);
        for (file, expected) in [
            (file(b"1.2", false), IdentityError::Missing { tag: Tag(0x20, 0xE) }),
            (file(b" \0", true), IdentityError::Missing { tag: study }),
            (file(b"1.a ", true), IdentityError::Invalid { tag: study, error: UidError::Character }),
            (file(&[b'1'; 80], true), IdentityError::Invalid { tag: study, error: UidError::TooLong }),
        ] {
            assert_eq!(read(&file, 50).unwrap_err(), HeaderError::Identity(expected));
        }
        assert_eq!(IdentityError::Missing { tag: study }.to_string(), "`StudyInstanceUID` is missing");
    }

    #[test]
    fn bombs_and_endless_fronts_are_refused() {
        // far over 1000:1: a value of zeros
        let zeros = Writer::new(EXPLICIT).head(Tag(9, 0x1001), VR::OB, 0xFFFF_FFFE).raw(&vec![0; 30 << 20]).done();
        let file = [samples::part10(DEFLATED), deflate(&zeros)].concat();
        assert!(matches!(read(&file, 1000), Err(HeaderError::Parse(ParseError::Limit { what: Bound::Inflated, .. }))));
        let mut meta = samples::part10(EXPLICIT_LITTLE);
        meta.extend(Writer::new(EXPLICIT).put(Tag(2, 0x0102), VR::OB, &vec![0; 60_000]).done().repeat(20));
        assert!(matches!(read(&meta, 1000), Err(HeaderError::Parse(ParseError::Limit { what: Bound::FileMeta, .. }))));
    }

    #[test]
    fn a_range_of_a_deflated_object_is_what_inflating_all_gives() {
        let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let object = [samples::part10(DEFLATED), deflate(&data), vec![0]].concat();
        for (start, end) in [(0, 10), (5, 5), (70_000, 200_001), (399_990, 400_000)] {
            let mut inflater = Inflater::new(start..end, Limits::default());
            let mut out = Vec::new();
            for chunk in object.chunks(777) {
                inflater.push(chunk, &mut out).unwrap();
            }
            inflater.finish(&mut out).unwrap();
            assert_eq!(out, data[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]);
        }
        let bounded = Limits { inflated: 300_000, ..Limits::default() };
        let mut inflater = Inflater::new(0..400_000, bounded);
        assert!(matches!(inflater.push(&object, &mut Vec::new()), Err(ParseError::Limit { .. })));
        let mut inflater = Inflater::new(0..400_001, Limits::default());
        inflater.push(&object, &mut Vec::new()).unwrap();
        assert_eq!(inflater.finish(&mut Vec::new()), Err(ParseError::Truncated(400_000)));
    }
}
