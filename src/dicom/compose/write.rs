//! A data set and the bulk data that it names → the pieces of a Part 10 file in Explicit VR Little Endian.
//!
//! The same description makes the same bytes, so that what is sent again is known for the same. Text is UTF-8, whatever
//! the client's (0008,0005) says, as JSON and XML are.

use std::ops::Range;

use dicom_core::{Tag, VR};

use crate::dicom::compose::budget::Budget;
use crate::dicom::compose::derived::describe;
use crate::dicom::compose::encapsulate::{EXTENDED_LENGTHS, EXTENDED_OFFSETS, Frames};
use crate::dicom::compose::error::{ComposeError, Fault};
use crate::dicom::compose::model::{Dataset, Element, Value};
use crate::dicom::compose::value::is_text;
use crate::dicom::explicit::{
    ITEM, ITEM_DELIMITER, LONGEST_SHORT, SEQUENCE_DELIMITER, UNDEFINED, front, padding, put_header, put_item,
};
use crate::dicom::identity::{SOP_CLASS_UID, SOP_INSTANCE_UID};
use crate::dicom::media::error::MediaError;
use crate::dicom::media::{Kind, Media};
use crate::dicom::transfer_syntax::{self, Encoding};
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use crate::dicom::vr::{self, PIXEL_DATA};

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
/// What the service says of what it has, not the instance of itself (PS3.18 10.4.1.1.2).
const AVAILABLE_TRANSFER_SYNTAX_UID: Tag = Tag(0x0008, 0x3002);
const ENCAPSULATED_DOCUMENT: Tag = Tag(0x0042, 0x0011);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
/// Values from this length on are handed on instead of copied.
const LARGE: usize = 64 << 10;
const UTF_8: &[u8] = b"ISO_IR 192";

/// A part of the request that holds bulk data.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its bytes.
    pub length: u64,
    /// All of them are ASCII.
    pub ascii: bool,
    /// What they are.
    pub form: Form,
}

/// What the bytes of a part are.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A value as it is, little endian; frames one after the other.
    Plain,
    /// A compressed frame, a video or a document, of a media type that says what it is.
    Media(Media),
    /// One compressed frame of which nothing is known but its transfer syntax.
    Frame(TransferSyntaxUid),
    /// Of a media type that says what it is, which it is not.
    Broken(MediaError),
    /// Something of a media type that no pixel data can have.
    Other,
}

impl Part {
    /// What its bytes are compressed by, and which of them are the code stream, if it is an image or a video.
    fn frame(&self) -> Option<(TransferSyntaxUid, Range<u64>)> {
        match &self.form {
            Form::Frame(syntax) => Some((syntax.clone(), 0..self.length)),
            Form::Media(media) if media.kind() != Kind::Document => {
                Some((TransferSyntaxUid::parse(media.transfer_syntax()).ok()?, media.fragment()))
            }
            Form::Plain | Form::Media(_) | Form::Broken(_) | Form::Other => None,
        }
    }
}

/// The bulk data of a request.
pub trait Bulk {
    /// The parts that a URI of the metadata names, in order.
    fn named(&self, uri: &str) -> &[usize];
    /// A part by its number.
    fn part(&self, number: usize) -> Option<&Part>;
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes of a part.
    Part {
        /// Its number.
        number: usize,
        /// Which of its bytes.
        range: Range<u64>,
    },
}

/// Makes a file of a data set, whose bulk data count in the budget.
///
/// # Errors
/// What of it cannot be written, or has no bulk data, or too much of them.
pub fn compose(mut dataset: Dataset, bulk: &dyn Bulk, budget: &mut Budget) -> Result<Vec<Piece>, ComposeError> {
    // first of all: what follows walks all parts that an attribute names, and makes pieces of them
    budget.take(&dataset, bulk)?;
    dataset.remove(AVAILABLE_TRANSFER_SYNTAX_UID);
    describe_media(&mut dataset, bulk)?;
    let frames = match dataset.get(PIXEL_DATA) {
        Some(Element { vr, value: Value::Bulk(uri) }) => pixel_data(*vr, uri, bulk)?,
        _ => None,
    };
    let mut extended = false;
    if let Some(frames) = &frames {
        extended = frames.describe(&mut dataset)?;
    } else {
        dataset.remove(EXTENDED_OFFSETS);
        dataset.remove(EXTENDED_LENGTHS);
    }
    let native = || transfer_syntax::of(Encoding::EXPLICIT_LITTLE);
    let syntax = frames.as_ref().map_or_else(native, |frames| frames.transfer_syntax.clone());
    let text = |tag| dataset.text(tag).ok_or(ComposeError::Identity(tag));
    let sop_class = SopClassUid::parse(text(SOP_CLASS_UID)?).map_err(|_| ComposeError::Identity(SOP_CLASS_UID))?;
    let instance = InstanceUid::parse(text(SOP_INSTANCE_UID)?).map_err(|_| ComposeError::Identity(SOP_INSTANCE_UID))?;
    name_character_set(&mut dataset, bulk);
    let out = front(&sop_class, &instance, &syntax);
    let mut writer = Writer { bulk, syntax, extended, pieces: Vec::new(), out };
    writer.dataset(dataset)?;
    writer.flush();
    Ok(writer.pieces)
}

/// Sets what the parts of the instance's image, video or document say of it.
fn describe_media(dataset: &mut Dataset, bulk: &dyn Bulk) -> Result<(), ComposeError> {
    for tag in [PIXEL_DATA, ENCAPSULATED_DOCUMENT] {
        let Some(Element { value: Value::Bulk(uri), .. }) = dataset.get(tag) else { continue };
        let mut media = Vec::new();
        for part in bulk.named(uri).iter().filter_map(|number| bulk.part(*number)) {
            match &part.form {
                // an image can be a document, but no document an image
                Form::Media(found) if (tag == ENCAPSULATED_DOCUMENT) == (found.kind() == Kind::Document) => {
                    media.push(found.clone());
                }
                Form::Broken(error) => return Err(ComposeError::Media(*error)),
                Form::Media(_) | Form::Plain | Form::Frame(_) | Form::Other => {}
            }
        }
        if !media.is_empty() {
            describe(dataset, &media)?;
        }
    }
    Ok(())
}

/// The frames of pixel data whose parts are compressed; `None` for native ones.
fn pixel_data(vr: VR, uri: &str, bulk: &dyn Bulk) -> Result<Option<Frames>, ComposeError> {
    let fault = |fault| ComposeError::attribute(PIXEL_DATA, vr, fault);
    let mut found: Option<Frames> = None;
    let mut plain = 0_usize;
    for number in bulk.named(uri) {
        let part = bulk.part(*number).ok_or_else(|| fault(Fault::NoPart))?;
        if part.form == Form::Plain {
            plain += 1;
            continue;
        }
        let (transfer_syntax, range) = part.frame().ok_or_else(|| fault(Fault::MediaType))?;
        let frames =
            found.get_or_insert_with(|| Frames { transfer_syntax: transfer_syntax.clone(), frames: Vec::new() });
        if frames.transfer_syntax != transfer_syntax {
            return Err(fault(Fault::Parts));
        }
        frames.frames.push((*number, range));
    }
    match found {
        Some(_) if plain > 0 => Err(fault(Fault::Parts)),
        None if plain == 0 => Err(fault(Fault::NoPart)),
        found => Ok(found),
    }
}

/// Says that text is UTF-8 where there is more than ASCII, or where the client named a character set: here and in items.
fn name_character_set(dataset: &mut Dataset, bulk: &dyn Bulk) {
    if !is_ascii(dataset, bulk) {
        set_utf_8(dataset);
    }
    rename_character_sets(dataset);
}

fn set_utf_8(dataset: &mut Dataset) {
    dataset.set(SPECIFIC_CHARACTER_SET, Element { vr: VR::CS, value: Value::Bytes(UTF_8.to_vec()) });
}

fn rename_character_sets(dataset: &mut Dataset) {
    if dataset.get(SPECIFIC_CHARACTER_SET).is_some() {
        set_utf_8(dataset);
    }
    for (_, element) in dataset.iter_mut() {
        if let Value::Items(items) = &mut element.value {
            items.iter_mut().for_each(rename_character_sets);
        }
    }
}

fn is_ascii(dataset: &Dataset, bulk: &dyn Bulk) -> bool {
    dataset.iter().all(|(_, element)| match &element.value {
        Value::Bytes(bytes) => !is_text(element.vr) || bytes.is_ascii(),
        Value::Items(items) => items.iter().all(|item| is_ascii(item, bulk)),
        Value::Bulk(uri) => {
            let ascii = |number: &usize| bulk.part(*number).is_none_or(|part| part.ascii);
            !is_text(element.vr) || bulk.named(uri).iter().all(ascii)
        }
    })
}

/// Writes the data set. Recursion is as deep as sequences nest, which reading has bounded.
struct Writer<'a> {
    bulk: &'a dyn Bulk,
    syntax: TransferSyntaxUid,
    /// The Extended Offset Table is there.
    extended: bool,
    pieces: Vec<Piece>,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.out)));
        }
    }

    fn dataset(&mut self, dataset: Dataset) -> Result<(), ComposeError> {
        let wide = dataset.number(BITS_ALLOCATED).is_some_and(|bits| bits > 8);
        for (tag, Element { vr, value }) in dataset.into_elements() {
            // native pixel data of more than 8 bits are words (PS3.5 8.1.2)
            let vr = if tag == PIXEL_DATA && (vr == VR::UN || wide) { VR::OW } else { vr };
            match value {
                Value::Bytes(bytes) => self.bytes(tag, vr, bytes)?,
                Value::Items(items) => self.items(tag, items)?,
                Value::Bulk(uri) => self.bulk(tag, vr, &uri)?,
            }
        }
        Ok(())
    }

    /// The header of a value; its length with padding.
    fn head(&mut self, tag: Tag, vr: VR, length: u64) -> Result<u32, ComposeError> {
        let even = length.checked_add(length % 2).and_then(|even| u32::try_from(even).ok());
        let even = even.filter(|even| *even != UNDEFINED);
        let even = even.ok_or_else(|| ComposeError::attribute(tag, vr, Fault::TooLong))?;
        // too long for a length of 16 bits (PS3.5 6.2.2)
        let vr = if even > LONGEST_SHORT && !vr::has_long_length(vr) { VR::UN } else { vr };
        put_header(&mut self.out, tag, vr, even);
        Ok(even)
    }

    fn bytes(&mut self, tag: Tag, vr: VR, bytes: Vec<u8>) -> Result<(), ComposeError> {
        let length = bytes.len() as u64;
        let even = self.head(tag, vr, length)?;
        if bytes.len() < LARGE {
            self.out.extend_from_slice(&bytes);
        } else {
            self.flush();
            self.pieces.push(Piece::Bytes(bytes));
        }
        self.pad(vr, even, length);
        Ok(())
    }

    fn pad(&mut self, vr: VR, even: u32, length: u64) {
        if u64::from(even) > length {
            // of an odd length
            self.out.extend(padding(vr, 1));
        }
    }

    fn items(&mut self, tag: Tag, items: Vec<Dataset>) -> Result<(), ComposeError> {
        put_header(&mut self.out, tag, VR::SQ, UNDEFINED);
        for item in items {
            put_item(&mut self.out, ITEM, UNDEFINED);
            self.dataset(item)?;
            put_item(&mut self.out, ITEM_DELIMITER, 0);
        }
        put_item(&mut self.out, SEQUENCE_DELIMITER, 0);
        Ok(())
    }

    fn bulk(&mut self, tag: Tag, vr: VR, uri: &str) -> Result<(), ComposeError> {
        if tag == PIXEL_DATA
            && let Some(frames) = pixel_data(vr, uri, self.bulk)?
        {
            return self.frames(vr, &frames);
        }
        let fault = |fault| ComposeError::attribute(tag, vr, fault);
        let mut parts = Vec::new();
        let mut length = 0_u64;
        for number in self.bulk.named(uri) {
            let part = self.bulk.part(*number).ok_or_else(|| fault(Fault::NoPart))?;
            let range = match &part.form {
                Form::Media(media) if tag == ENCAPSULATED_DOCUMENT && media.kind() == Kind::Document => {
                    media.fragment()
                }
                _ => 0..part.length,
            };
            let bytes = range.end.saturating_sub(range.start);
            length = length.checked_add(bytes).ok_or_else(|| fault(Fault::TooLong))?;
            parts.push((*number, range));
        }
        if parts.is_empty() {
            return Err(fault(Fault::NoPart));
        }
        let even = self.head(tag, vr, length)?;
        for (number, range) in parts {
            self.part(number, range);
        }
        self.pad(vr, even, length);
        Ok(())
    }

    fn part(&mut self, number: usize, range: Range<u64>) {
        self.flush();
        if !range.is_empty() {
            self.pieces.push(Piece::Part { number, range });
        }
    }

    /// Encapsulated pixel data: of the root, or of an icon in the same transfer syntax (PS3.5 A.4).
    fn frames(&mut self, vr: VR, frames: &Frames) -> Result<(), ComposeError> {
        if frames.transfer_syntax != self.syntax {
            return Err(ComposeError::attribute(PIXEL_DATA, vr, Fault::Parts));
        }
        put_header(&mut self.out, PIXEL_DATA, VR::OB, UNDEFINED);
        let table = frames.basic_offsets(self.extended);
        let length = u32::try_from(table.len()).map_err(|_| ComposeError::attribute(PIXEL_DATA, vr, Fault::TooLong))?;
        put_item(&mut self.out, ITEM, length);
        self.out.extend(table);
        for (number, range) in frames.fragments()? {
            let length = range.end.saturating_sub(range.start);
            let even = u32::try_from(length + length % 2);
            let even = even.map_err(|_| ComposeError::attribute(PIXEL_DATA, vr, Fault::TooLong))?;
            put_item(&mut self.out, ITEM, even);
            self.part(number, range);
            self.pad(VR::OB, even, length);
        }
        put_item(&mut self.out, SEQUENCE_DELIMITER, 0);
        Ok(())
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
