//! RLE Lossless: a header of 64 bytes that names its segments, and nothing of the image (PS3.5 Annex G).

use super::error::MediaError;
use super::feed::{End, Scan, Step};
use super::picture::{Colour, Picture, Syntax};
use super::{Content, Found};

/// Bytes of the header.
pub(super) const HEADER: usize = 64;

/// Reads the header.
#[derive(Debug, Default)]
pub(super) struct RleReader {
    segments: u16,
    /// Begin of the last segment.
    last: u32,
}

impl Scan for RleReader {
    fn step(&mut self, _at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let mut words = window.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        let count = words.next().unwrap_or_default();
        let offsets: Vec<u32> = words.collect();
        let used = usize::try_from(count).ok().and_then(|count| offsets.get(..count)).ok_or(MediaError::Not("rle"))?;
        let ascending = used.is_sorted_by(|one, next| one < next);
        let rest_is_zero = offsets.iter().skip(used.len()).all(|offset| *offset == 0);
        if used.first() != Some(&64) || !ascending || !rest_is_zero {
            return Err(MediaError::Not("rle"));
        }
        self.segments = u16::try_from(count).unwrap_or_default();
        self.last = used.last().copied().unwrap_or_default();
        Ok(Step::Rest)
    }
}

impl RleReader {
    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        if self.segments == 0 {
            return Err(MediaError::Not("rle"));
        }
        if u64::from(self.last) >= end.total {
            return Err(MediaError::Truncated);
        }
        let picture = Picture {
            size: None,
            samples: None,
            bits: None,
            segments: self.segments,
            signed: false,
            colour: Colour::RGB,
            loss: None,
            length: end.total,
        };
        Ok((Syntax::only("1.2.840.10008.1.2.5"), 0..end.total, Content::Image(picture)))
    }
}
