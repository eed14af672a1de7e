//! What is known of an image or a video: transfer syntax, size, samples, bits, colour, compression.

use super::error::MediaError;

/// The transfer syntax that follows from the bytes, and those that the client may name instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) uid: &'static str,
    pub(super) also: &'static [&'static str],
}

impl Syntax {
    pub(super) const fn only(uid: &'static str) -> Self {
        Self { uid, also: &[] }
    }

    /// The named syntax, if the bytes allow it.
    pub(super) fn named(&self, uid: &str) -> Option<&'static str> {
        std::iter::once(&self.uid).chain(self.also).find(|known| **known == uid).copied()
    }
}

/// One frame as its bytes describe it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    /// `None` for RLE, which does not tell.
    pub(super) size: Option<(u16, u16)>,
    /// Samples per Pixel; for RLE `None`.
    pub(super) samples: Option<u16>,
    /// Bits Stored; for RLE `None`.
    pub(super) bits: Option<u16>,
    /// RLE segments: samples times bytes.
    pub(super) segments: u16,
    pub(super) signed: bool,
    pub(super) colour: Colour,
    pub(super) loss: Option<Loss>,
    /// Bytes of the compressed form.
    pub(super) length: u64,
}

/// Photometric Interpretation, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour {
    pub(super) photometric: &'static str,
    /// The bytes say so: another value of the client is wrong.
    pub(super) certain: bool,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Lossy Image Compression Method (0028,2114).
    pub(super) method: &'static str,
}

/// What a video has beyond a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Film {
    pub(super) frames: u32,
    /// Milliseconds from frame to frame.
    pub(super) frame_time: f64,
    /// There are sound channels beside the pictures.
    pub(super) sound: bool,
}

impl Colour {
    pub(super) const GREY: Self = Self { photometric: "MONOCHROME2", certain: false };
    pub(super) const RGB: Self = Self { photometric: "RGB", certain: false };

    pub(super) const fn certain(photometric: &'static str) -> Self {
        Self { photometric, certain: true }
    }
}

impl Picture {
    /// Bits Allocated for a number of stored bits, which all codecs restore in whole bytes.
    pub(super) fn allocated(bits: u16) -> u16 {
        bits.max(1).div_ceil(8).saturating_mul(8)
    }
}

/// Rows and Columns, which are US.
pub(super) fn size(rows: u64, columns: u64) -> Result<(u16, u16), MediaError> {
    match (u16::try_from(rows), u16::try_from(columns)) {
        (Ok(rows @ 1..), Ok(columns @ 1..)) => Ok((rows, columns)),
        _ => Err(MediaError::Size),
    }
}
