//! Encapsulated pixel data of frames that are parts of a request: one fragment each, and where each begins (PS3.5 A.4).

use std::ops::Range;

use dicom_core::{Tag, VR};

use crate::dicom::compose::error::{ComposeError, Fault};
use crate::dicom::compose::model::{Dataset, Element, Value};
use crate::dicom::transfer_syntax;
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicom::vr::PIXEL_DATA;

/// Extended Offset Table.
pub(super) const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
/// Extended Offset Table Lengths.
pub(super) const EXTENDED_LENGTHS: Tag = Tag(0x7FE0, 0x0002);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
/// The longest fragment: its length is even and not that which means undefined.
const LONGEST: u64 = 0xFFFF_FFFE;

/// The frames of an instance in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) transfer_syntax: TransferSyntaxUid,
    /// Of each, the part that it is, and the bytes of that.
    pub(super) frames: Vec<(usize, Range<u64>)>,
}

impl Frames {
    /// Pieces of parts that are fragments, in order.
    ///
    /// # Errors
    /// A frame is too long to be one fragment, as the offset tables ask for; a video may be of several.
    pub(super) fn fragments(&self) -> Result<Vec<(usize, Range<u64>)>, ComposeError> {
        let mut fragments = Vec::with_capacity(self.frames.len());
        for (part, range) in &self.frames {
            let mut start = range.start;
            while range.end.saturating_sub(start) > LONGEST {
                if !self.is_one_stream() {
                    return Err(ComposeError::attribute(PIXEL_DATA, VR::OB, Fault::TooLong));
                }
                fragments.push((*part, start..start + LONGEST));
                start += LONGEST;
            }
            fragments.push((*part, start..range.end));
        }
        Ok(fragments)
    }

    /// Whether the frames lie in one stream whose places nobody tells (PS3.5 8.2.5 and following).
    fn is_one_stream(&self) -> bool {
        // JPEG 2000 Part 2 may hold several frames in a code stream (PS3.5 8.2.4)
        transfer_syntax::is_video(&self.transfer_syntax)
            || matches!(self.transfer_syntax.as_str(), "1.2.840.10008.1.2.4.92" | "1.2.840.10008.1.2.4.93")
    }

    /// The Basic Offset Table; empty where the frames are not fragments, or where the extended one is there instead.
    pub(super) fn basic_offsets(&self, extended: bool) -> Vec<u8> {
        if extended || self.is_one_stream() {
            return Vec::new();
        }
        let offset = |offset: u64| u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes();
        self.offsets().into_iter().flat_map(offset).collect()
    }

    /// Sets the attributes of the data set that follow from the frames; whether the extended tables are among them.
    ///
    /// # Errors
    /// The data set has another number of frames.
    pub(super) fn describe(&self, dataset: &mut Dataset) -> Result<bool, ComposeError> {
        let wanted = dataset.remove(EXTENDED_OFFSETS).is_some();
        dataset.remove(EXTENDED_LENGTHS);
        if self.is_one_stream() {
            return Ok(false);
        }
        let number = dataset.text(NUMBER_OF_FRAMES).map(|text| text.parse::<usize>().ok());
        match number {
            Some(number) if number != Some(self.frames.len()) => {
                return Err(ComposeError::attribute(PIXEL_DATA, VR::OB, Fault::Parts));
            }
            None if self.frames.len() > 1 => {
                let value = Value::Bytes(self.frames.len().to_string().into_bytes());
                dataset.set(NUMBER_OF_FRAMES, Element { vr: VR::IS, value });
            }
            _ => {}
        }
        let offsets = self.offsets();
        let extended = wanted || offsets.last().is_some_and(|last| *last > u64::from(u32::MAX));
        if extended {
            let table = |numbers: Vec<u64>| {
                let value = Value::Bytes(numbers.into_iter().flat_map(u64::to_le_bytes).collect());
                Element { vr: VR::OV, value }
            };
            dataset.set(EXTENDED_OFFSETS, table(offsets));
            dataset.set(EXTENDED_LENGTHS, table(self.frames.iter().map(|(_, range)| even(range)).collect()));
        }
        Ok(extended)
    }

    /// Of each frame, the bytes from the first fragment's header to its own.
    fn offsets(&self) -> Vec<u64> {
        let mut next = 0_u64;
        let place = |(_, range): &(usize, Range<u64>)| {
            let offset = next;
            next = next.saturating_add(8).saturating_add(even(range));
            offset
        };
        self.frames.iter().map(place).collect()
    }
}

/// The length of a fragment with its padding.
fn even(range: &Range<u64>) -> u64 {
    let length = range.end.saturating_sub(range.start);
    length.saturating_add(length % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(syntax: &str, lengths: &[u64]) -> Frames {
        let frames = lengths.iter().enumerate().map(|(part, length)| (part, 0..*length)).collect();
        Frames { transfer_syntax: TransferSyntaxUid::parse(syntax).unwrap(), frames }
    }

    const JPEG: &str = "1.2.840.10008.1.2.4.50";
    const MPEG4: &str = "1.2.840.10008.1.2.4.102";

    #[test]
    fn each_frame_is_a_fragment_whose_place_is_told() {
        let mut dataset = Dataset::default();
        let frames = frames(JPEG, &[3, 4, 5]);
        assert_eq!(frames.describe(&mut dataset), Ok(false));
        assert_eq!(dataset.text(NUMBER_OF_FRAMES), Some("3"));
        assert_eq!(frames.basic_offsets(false), [0_u32, 12, 24].map(u32::to_le_bytes).concat());
        assert_eq!(frames.fragments(), Ok(vec![(0, 0..3), (1, 0..4), (2, 0..5)]));
    }

    #[test]
    fn offsets_beyond_32_bits_are_told_by_the_extended_tables() {
        let mut dataset = Dataset::default();
        let frames = frames(JPEG, &[LONGEST, 1, 1]);
        assert_eq!(frames.describe(&mut dataset), Ok(true));
        assert!(frames.basic_offsets(true).is_empty());
        let table = |tag| match &dataset.get(tag).unwrap().value {
            Value::Bytes(bytes) => {
                bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(table(EXTENDED_OFFSETS), [0, LONGEST + 8, LONGEST + 18]);
        assert_eq!(table(EXTENDED_LENGTHS), [LONGEST, 2, 2]);
    }

    #[test]
    fn a_frame_is_one_fragment_and_a_video_as_many_as_it_needs() {
        assert!(frames(JPEG, &[LONGEST + 1]).fragments().is_err());
        let video = frames(MPEG4, &[2 * LONGEST + 1]);
        assert_eq!(
            video.fragments(),
            Ok(vec![(0, 0..LONGEST), (0, LONGEST..2 * LONGEST), (0, 2 * LONGEST..2 * LONGEST + 1)])
        );
        assert!(video.basic_offsets(false).is_empty());
    }

    #[test]
    fn a_number_of_frames_that_is_not_that_of_the_parts_is_refused() {
        let with = |number: &str| {
            let value = Value::Bytes(number.as_bytes().to_vec());
            Dataset::new(vec![(NUMBER_OF_FRAMES, Element { vr: VR::IS, value })]).unwrap()
        };
        assert!(frames(JPEG, &[1, 1]).describe(&mut with("3")).is_err());
        assert!(frames(JPEG, &[1]).describe(&mut with("3")).is_err());
        assert_eq!(frames(JPEG, &[1, 1]).describe(&mut with("2 ")), Ok(false));
        assert_eq!(frames(MPEG4, &[1]).describe(&mut with("250")), Ok(false));
    }
}
