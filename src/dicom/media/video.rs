//! A video: told from its first bytes which container it is, whatever its media type says.

use super::Found;
use super::boxes;
use super::error::MediaError;
use super::feed::{End, Scan, Step};
use super::mp4::Mp4Reader;
use super::mpeg::MpegReader;

/// Boxes with which files of the MP4 family begin.
const FIRST_BOXES: [&[u8; 4]; 8] = [b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"];

/// Chooses the reader.
#[derive(Debug, Default)]
pub(super) enum VideoReader {
    #[default]
    Unknown,
    Mp4(Mp4Reader),
    Mpeg(MpegReader),
}

impl Scan for VideoReader {
    fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        if matches!(self, Self::Unknown) {
            let kind = window.get(4..boxes::HEADER);
            *self = if FIRST_BOXES.iter().any(|known| kind == Some(known.as_slice())) {
                Self::Mp4(Mp4Reader::default())
            } else {
                Self::Mpeg(MpegReader::default())
            };
        }
        match self {
            Self::Unknown => Err(MediaError::Malformed),
            Self::Mp4(reader) => reader.step(at, window),
            Self::Mpeg(reader) => reader.step(at, window),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Self::Mpeg(reader) = self {
            reader.pass(bytes);
        }
    }
}

impl VideoReader {
    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        match self {
            Self::Unknown => Err(MediaError::Not("a video")),
            Self::Mp4(reader) => reader.finish(end),
            Self::Mpeg(reader) => reader.finish(end),
        }
    }
}
