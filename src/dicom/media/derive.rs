//! From the parts of one instance to the attributes that it lacks: what the bytes say, and what its SOP class needs.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};

use super::classes::{self, Class, EVERY, Frames, Needed, Otherwise};
use super::error::MediaError;
use super::picture::{Film, Picture};
use super::{Content, Media};

/// Most frames that are numbered as pages: their numbers fill one short element (PS3.5 7.1.2).
const NUMBERED_PAGES: usize = 10_000;

/// What the client said of the instance.
pub trait Known {
    /// Whether the attribute is there, with or without a value.
    fn has(&self, tag: Tag) -> bool;
    /// Its value as text, several values with backslashes between; `None` for what has none, as sequences.
    fn text(&self, tag: Tag) -> Option<&str>;
}

/// An attribute to set, in place of one that the client gave under the same tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// Its tag.
    pub tag: Tag,
    /// Its value representation.
    pub vr: VR,
    /// Its value.
    pub value: Value,
}

/// The value of a derived attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Empty,
    /// A text VR; several values with backslashes between.
    Text(String),
    /// US.
    Numbers(Vec<u16>),
    /// UL.
    Long(u32),
    /// AT.
    Tags(Vec<Tag>),
    /// SQ, each item in the order of tags.
    Items(Vec<Vec<Derived>>),
}

/// The attributes to set so that the parts become one instance; several parts are the frames of one image, in order.
///
/// Rows, Columns, Samples per Pixel, Bits Allocated, Bits Stored, Number of Frames and Lossy Image Compression that contradict the
/// bytes are refused: mixed-up images are worse than a refusal. Photometric Interpretation, Planar Configuration and High Bit
/// are put right. Nothing is said of a patient, other than empty attributes of Type 2.
pub fn merge(parts: &[Media], known: &dyn Known) -> Result<Vec<Derived>, MediaError> {
    let first = parts.first().ok_or(MediaError::NoPart)?;
    let mut merged = Merged { known, set: Vec::new() };
    match &first.content {
        Content::Image(picture) => merged.image(picture, parts)?,
        Content::Video(..) | Content::Document if parts.len() > 1 => return Err(MediaError::Several),
        Content::Video(picture, film) => merged.video(picture, film)?,
        Content::Document => merged.document(first)?,
    }
    merged.set.sort_by_key(|derived| derived.tag);
    Ok(merged.set)
}

struct Merged<'a> {
    known: &'a dyn Known,
    set: Vec<Derived>,
}

impl Merged<'_> {
    fn image(&mut self, picture: &Picture, parts: &[Media]) -> Result<(), MediaError> {
        let syntax = parts.first().map(|part| part.syntax);
        let mut bytes = 0_u64;
        for part in parts {
            let Content::Image(frame) = &part.content else { return Err(MediaError::Mixed) };
            let alike = Picture { length: picture.length, loss: picture.loss, ..frame.clone() } == *picture;
            if !alike || Some(part.syntax) != syntax {
                return Err(MediaError::Mixed);
            }
            bytes = bytes.saturating_add(frame.length);
        }
        let frames = u32::try_from(parts.len()).map_err(|_| MediaError::Mixed)?;
        let described = self.pixels(picture)?;
        let loss = parts.iter().find_map(|part| match &part.content {
            Content::Image(frame) => frame.loss,
            Content::Video(..) | Content::Document => None,
        });
        self.compression(loss.map(|loss| loss.method), &described, frames, bytes)?;
        let class = self.class(default_image_class(&described, frames));
        self.frames(class, frames)?;
        match class.map(|class| class.uid) {
            Some(uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE) => self.ophthalmic(&described, parts.len()),
            Some(_) if class.is_some_and(|class| class.frames == Frames::Many) => self.pages(&described, parts.len()),
            _ => {}
        }
        Ok(())
    }

    fn video(&mut self, picture: &Picture, film: &Film) -> Result<(), MediaError> {
        let described = self.pixels(picture)?;
        self.compression(picture.loss.map(|loss| loss.method), &described, film.frames, picture.length)?;
        self.class(uids::VIDEO_PHOTOGRAPHIC_IMAGE_STORAGE);
        self.exactly(tags::NUMBER_OF_FRAMES, film.frames.into())?;
        self.text_if_missing(tags::NUMBER_OF_FRAMES, VR::IS, &film.frames.to_string());
        // Cine and Multi-frame (PS3.3 C.7.6.5, C.7.6.6)
        if !self.has_value(tags::FRAME_TIME_VECTOR) {
            self.text_if_missing(tags::FRAME_TIME, VR::DS, &decimal(film.frame_time));
        }
        self.increment(if self.has_value(tags::FRAME_TIME_VECTOR) {
            tags::FRAME_TIME_VECTOR
        } else {
            tags::FRAME_TIME
        });
        let rate = (1000.0 / film.frame_time).round().clamp(1.0, 1000.0);
        self.text_if_missing(tags::CINE_RATE, VR::IS, &format!("{rate}"));
        if film.sound {
            self.empty_if_absent(tags::MULTIPLEXED_AUDIO_CHANNELS_DESCRIPTION_CODE_SEQUENCE, VR::SQ);
        }
        Ok(())
    }

    fn document(&mut self, part: &Media) -> Result<(), MediaError> {
        let length = part.fragment.end.saturating_sub(part.fragment.start);
        let length = u32::try_from(length).map_err(|_| MediaError::TooLong)?;
        self.class(uids::ENCAPSULATED_PDF_STORAGE);
        if self.value(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT).is_some_and(|mime| mime != "application/pdf") {
            return Err(MediaError::Differs(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT));
        }
        self.text_if_missing(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf");
        self.set(tags::ENCAPSULATED_DOCUMENT_LENGTH, VR::UL, Value::Long(length));
        Ok(())
    }

    /// Image Pixel (PS3.3 C.7.6.3).
    fn pixels(&mut self, picture: &Picture) -> Result<Described, MediaError> {
        let described = self.describe(picture)?;
        let Described { rows, columns, samples, allocated, stored, .. } = described;
        self.number(tags::ROWS, rows)?;
        self.number(tags::COLUMNS, columns)?;
        self.number(tags::SAMPLES_PER_PIXEL, samples)?;
        self.number(tags::BITS_ALLOCATED, allocated)?;
        self.set_if_other(tags::BITS_STORED, stored);
        self.set_if_other(tags::HIGH_BIT, stored.saturating_sub(1));
        if self.unsigned(tags::PIXEL_REPRESENTATION).is_none_or(|value| value > 1) {
            self.set(tags::PIXEL_REPRESENTATION, VR::US, Value::Numbers(vec![picture.signed.into()]));
        }
        if samples > 1 {
            // RLE may hold either order, as its segments are planes (PS3.5 8.2.2)
            let free = picture.segments > 0 && self.unsigned(tags::PLANAR_CONFIGURATION).is_some_and(|value| value < 2);
            if !free {
                self.set_if_other(tags::PLANAR_CONFIGURATION, 0);
            }
        }
        if self.value(tags::PHOTOMETRIC_INTERPRETATION) != Some(described.photometric.as_str()) {
            let photometric = described.photometric.clone();
            self.set(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, Value::Text(photometric));
        }
        Ok(described)
    }

    /// What the bytes say, completed by the client where they are silent.
    fn describe(&self, picture: &Picture) -> Result<Described, MediaError> {
        let (rows, columns) = match picture.size {
            Some(size) => size,
            None => (self.needed(tags::ROWS)?, self.needed(tags::COLUMNS)?),
        };
        let (samples, bits) = match (picture.samples, picture.bits) {
            (Some(samples), Some(bits)) => (samples, bits),
            _ => self.run_lengths(picture.segments)?,
        };
        // a stream may have room for more than is used, as extended JPEG with 12 bits for 10
        let stored = self.number_of(tags::BITS_STORED)?.unwrap_or(bits);
        if stored == 0 || stored > bits {
            return Err(MediaError::Differs(tags::BITS_STORED));
        }
        let allocated = Picture::allocated(bits);
        let photometric = self.photometric(picture, samples)?;
        Ok(Described { rows, columns, samples, allocated, stored, photometric })
    }

    /// Samples per Pixel and bits from the number of RLE segments, one for each byte of each sample (PS3.5 G.2).
    fn run_lengths(&self, segments: u16) -> Result<(u16, u16), MediaError> {
        let samples = match (self.number_of(tags::SAMPLES_PER_PIXEL)?, segments) {
            (Some(samples @ 1..), _) => samples,
            (Some(_), _) => return Err(MediaError::Differs(tags::SAMPLES_PER_PIXEL)),
            (None, 1 | 2) => 1,
            (None, 3 | 6) => 3,
            (None, _) => return Err(MediaError::Missing(tags::SAMPLES_PER_PIXEL)),
        };
        if !segments.is_multiple_of(samples) {
            return Err(MediaError::Differs(tags::SAMPLES_PER_PIXEL));
        }
        Ok((samples, (segments / samples).saturating_mul(8)))
    }

    /// The client's value where the bytes leave it open and it fits their samples, otherwise theirs.
    fn photometric(&self, picture: &Picture, samples: u16) -> Result<String, MediaError> {
        let told = picture.colour.photometric;
        let Some(given) = self.value(tags::PHOTOMETRIC_INTERPRETATION) else {
            return Ok(if samples == 1 { "MONOCHROME2" } else { told }.to_owned());
        };
        let of_one = matches!(given, "MONOCHROME1" | "MONOCHROME2" | "PALETTE COLOR");
        if of_one != (samples == 1) {
            return Err(MediaError::Differs(tags::PHOTOMETRIC_INTERPRETATION));
        }
        let plain = matches!(given, "RGB" | "YBR_FULL" | "YBR_FULL_422");
        // whether the chroma of JPEG is sampled whole or by halves, both names are in use for
        let same = given == "YBR_FULL" && told == "YBR_FULL_422";
        Ok(if of_one || same || plain && !picture.colour.certain { given } else { told }.to_owned())
    }

    /// Lossy Image Compression, its method and ratio (PS3.3 C.7.6.1.1.5).
    fn compression(
        &mut self,
        method: Option<&'static str>,
        image: &Described,
        frames: u32,
        bytes: u64,
    ) -> Result<(), MediaError> {
        let Some(method) = method else {
            // what was lost before, only the client knows
            self.text_if_missing(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00");
            return Ok(());
        };
        if self.value(tags::LOSSY_IMAGE_COMPRESSION).is_some_and(|lossy| lossy != "01") {
            return Err(MediaError::Differs(tags::LOSSY_IMAGE_COMPRESSION));
        }
        self.text_if_missing(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        // they belong together: one entry each for every step of compression
        let given =
            self.has_value(tags::LOSSY_IMAGE_COMPRESSION_RATIO) || self.has_value(tags::LOSSY_IMAGE_COMPRESSION_METHOD);
        if !given {
            let pixels = f64::from(image.rows) * f64::from(image.columns) * f64::from(frames);
            let plain = pixels * f64::from(image.samples) * f64::from(image.allocated / 8);
            let ratio = decimal((plain / bytes.max(1) as f64 * 100.0).round() / 100.0);
            self.set(tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, Value::Text(ratio));
            self.set(tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, Value::Text(method.to_owned()));
        }
        Ok(())
    }

    /// The SOP class, set if missing, with its modality and what its modules need.
    fn class(&mut self, default: &'static str) -> Option<&'static Class> {
        self.text_if_missing(tags::SOP_CLASS_UID, VR::UI, default);
        let class = classes::class(self.value(tags::SOP_CLASS_UID).unwrap_or(default));
        if let Some(class) = class {
            self.text_if_missing(tags::MODALITY, VR::CS, class.modality);
            for needed in class.modules.iter().copied().flatten() {
                self.need(needed);
            }
            if !self.has_value(tags::IMAGE_LATERALITY) {
                self.empty_if_absent(tags::LATERALITY, VR::CS);
            }
        }
        for needed in EVERY {
            self.need(needed);
        }
        class
    }

    fn need(&mut self, needed: &Needed) {
        match needed.value {
            Otherwise::Empty => self.empty_if_absent(needed.tag, needed.vr),
            Otherwise::Text(text) => self.text_if_missing(needed.tag, needed.vr, text),
            Otherwise::Code { value, scheme, meaning } => {
                if !self.known.has(needed.tag) {
                    let item = [
                        (tags::CODE_VALUE, VR::SH, value),
                        (tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
                        (tags::CODE_MEANING, VR::LO, meaning),
                    ];
                    let item = item.map(|(tag, vr, text)| Derived { tag, vr, value: Value::Text(text.to_owned()) });
                    self.set(needed.tag, needed.vr, Value::Items(vec![item.to_vec()]));
                }
            }
        }
    }

    /// Number of Frames (PS3.3 C.7.6.6).
    fn frames(&mut self, class: Option<&Class>, frames: u32) -> Result<(), MediaError> {
        self.exactly(tags::NUMBER_OF_FRAMES, frames.into())?;
        let single = class.is_none_or(|class| class.frames == Frames::Single);
        if !single || frames > 1 {
            self.text_if_missing(tags::NUMBER_OF_FRAMES, VR::IS, &frames.to_string());
        }
        Ok(())
    }

    /// SC Multi-frame Image and Vector (PS3.3 C.8.6.3, C.8.6.4).
    fn pages(&mut self, image: &Described, frames: usize) {
        if image.photometric == "MONOCHROME2" {
            self.text_if_missing(tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY");
            if image.stored > 1 {
                self.text_if_missing(tags::RESCALE_INTERCEPT, VR::DS, "0");
                self.text_if_missing(tags::RESCALE_SLOPE, VR::DS, "1");
                self.text_if_missing(tags::RESCALE_TYPE, VR::LO, "US");
            }
        }
        if frames > 1 {
            self.numbered(frames);
        }
    }

    /// Frames follow each other in time where the client tells how, otherwise as pages.
    fn numbered(&mut self, frames: usize) {
        if self.has_value(tags::FRAME_INCREMENT_POINTER) {
            return;
        }
        let given = [tags::FRAME_TIME, tags::FRAME_TIME_VECTOR].into_iter().find(|tag| self.has_value(*tag));
        match given {
            Some(tag) => self.increment(tag),
            None if frames <= NUMBERED_PAGES => {
                let numbers: Vec<String> = (1..=frames).map(|number| number.to_string()).collect();
                self.text_if_missing(tags::PAGE_NUMBER_VECTOR, VR::IS, &numbers.join("\\"));
                self.increment(tags::PAGE_NUMBER_VECTOR);
            }
            None => {}
        }
    }

    fn increment(&mut self, tag: Tag) {
        if !self.has_value(tags::FRAME_INCREMENT_POINTER) {
            self.set(tags::FRAME_INCREMENT_POINTER, VR::AT, Value::Tags(vec![tag]));
        }
    }

    /// What depends on other attributes in Ophthalmic Photography Image, Multi-frame and Synchronization
    /// (PS3.3 C.8.17.2, C.7.6.6, C.7.4.2).
    fn ophthalmic(&mut self, image: &Described, frames: usize) {
        if image.photometric == "MONOCHROME2" {
            self.text_if_missing(tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY");
        }
        self.numbered(frames);
        if let Some(instance) = self.value(tags::SOP_INSTANCE_UID) {
            let uid = own_time(instance);
            self.text_if_missing(tags::SYNCHRONIZATION_FRAME_OF_REFERENCE_UID, VR::UI, &uid);
        }
    }

    /// US that has to be what the bytes say.
    fn number(&mut self, tag: Tag, number: u16) -> Result<(), MediaError> {
        self.exactly(tag, number.into())?;
        if self.value(tag).is_none() {
            self.set(tag, VR::US, Value::Numbers(vec![number]));
        }
        Ok(())
    }

    /// Fails where the client's number is another.
    fn exactly(&self, tag: Tag, number: u64) -> Result<(), MediaError> {
        match self.value(tag) {
            Some(text) if text.parse() != Ok(number) => Err(MediaError::Differs(tag)),
            _ => Ok(()),
        }
    }

    fn set_if_other(&mut self, tag: Tag, number: u16) {
        if self.unsigned(tag) != Some(number) {
            self.set(tag, VR::US, Value::Numbers(vec![number]));
        }
    }

    fn unsigned(&self, tag: Tag) -> Option<u16> {
        self.value(tag)?.parse().ok()
    }

    /// The client's number, which has to be one if it is there.
    fn number_of(&self, tag: Tag) -> Result<Option<u16>, MediaError> {
        self.value(tag).map(|text| text.parse().map_err(|_| MediaError::Differs(tag))).transpose()
    }

    fn needed(&self, tag: Tag) -> Result<u16, MediaError> {
        self.number_of(tag)?.filter(|number| *number > 0).ok_or(MediaError::Missing(tag))
    }

    fn value(&self, tag: Tag) -> Option<&str> {
        let text = self.known.text(tag)?.trim_matches([' ', '\0']);
        (!text.is_empty()).then_some(text)
    }

    fn has_value(&self, tag: Tag) -> bool {
        self.value(tag).is_some()
    }

    fn text_if_missing(&mut self, tag: Tag, vr: VR, text: &str) {
        if !self.has_value(tag) {
            self.set(tag, vr, Value::Text(text.to_owned()));
        }
    }

    fn empty_if_absent(&mut self, tag: Tag, vr: VR) {
        if !self.known.has(tag) {
            self.set(tag, vr, Value::Empty);
        }
    }

    /// The first one to set an attribute wins: classes are asked before what every instance needs.
    fn set(&mut self, tag: Tag, vr: VR, value: Value) {
        if self.set.iter().all(|derived| derived.tag != tag) {
            self.set.push(Derived { tag, vr, value });
        }
    }
}

/// The Image Pixel attributes as they will be.
#[derive(Clone, Debug)]
struct Described {
    rows: u16,
    columns: u16,
    samples: u16,
    allocated: u16,
    stored: u16,
    photometric: String,
}

/// The class of an image of which the client said nothing.
fn default_image_class(image: &Described, frames: u32) -> &'static str {
    match (frames, image.samples, image.allocated) {
        (1, _, 8) => uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE,
        (1, _, _) => uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        (_, 1, 8) => uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
        (_, 1, _) => uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
        (_, _, _) => uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
    }
}

/// A UID for the clock of one instance, with which nothing else is synchronised. The same instance always gets the same
/// (PS3.5 B.2, RFC 9562 5.8).
fn own_time(instance: &str) -> String {
    let digest = blake3::derive_key("isocenter synchronization frame of reference of an instance", instance.as_bytes());
    let number = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    format!("2.25.{}", uuid::Builder::from_custom_bytes(number.to_be_bytes()).into_uuid().as_u128())
}

/// DS: at most 16 characters (PS3.5 6.2).
fn decimal(number: f64) -> String {
    let mut text = String::new();
    for places in (0..=9).rev() {
        text = format!("{number:.places$}");
        if text.len() <= 16 {
            break;
        }
    }
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
