//! JPEG XL: a bare code stream, or one in boxes (ISO 18181-2;
//! [PS3.5 8.2.15](https://dicom.nema.org/medical/dicom/current/output/chtml/part05/sect_8.2.15.html)).
//!
//! The boxes stay: the one that restores a recompressed JPEG lies beside the code stream.

use super::boxes::{self, BoxHeader};
use super::error::MediaError;
use super::feed::{End, Scan, Step};
use super::jxl_header::{self, FrameCoding, Header};
use super::picture::{Colour, Loss, Picture, Syntax, size};
use super::{Content, Found};

const LOSSLESS: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.110", also: &["1.2.840.10008.1.2.4.112"] };
const RECOMPRESSED: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.111", also: &["1.2.840.10008.1.2.4.112"] };
const ANY: Syntax = Syntax::only("1.2.840.10008.1.2.4.112");
/// The headers do not tell.
const UNTOLD: Syntax =
    Syntax { uid: "1.2.840.10008.1.2.4.112", also: &["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111"] };

const SIGNATURE: [u8; 12] = *b"\0\0\0\x0CJXL \r\n\x87\n";
const HEADER_LIMIT: usize = 1024;
const STREAM: [u8; 2] = [0xFF, 0x0A];

/// Finds the code stream and reads its headers.
#[derive(Debug, Default)]
pub(super) struct JpegXlReader {
    stage: Stage,
    /// Where the box of the code stream ends; `None` for a bare one or one to the end.
    limit: Option<u64>,
    boxed: bool,
    header: Option<Header>,
    restores_jpeg: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Start,
    Boxes,
    Stream,
}

impl Scan for JpegXlReader {
    fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        match self.stage {
            Stage::Start if window == STREAM => {
                self.stage = Stage::Stream;
                Ok(Step::Look(8))
            }
            Stage::Start if !window.starts_with(&[0, 0]) => Err(MediaError::Not("jpeg xl")),
            Stage::Start if window.len() < SIGNATURE.len() => Ok(Step::Look(SIGNATURE.len())),
            Stage::Start if window != SIGNATURE => Err(MediaError::Not("jpeg xl")),
            Stage::Start => {
                (self.stage, self.boxed) = (Stage::Boxes, true);
                Ok(Step::Skip { bytes: SIGNATURE.len() as u64, look: boxes::HEADER })
            }
            Stage::Boxes => self.next_box(at, window),
            Stage::Stream => self.stream(at, window),
        }
    }
}

impl JpegXlReader {
    fn next_box(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let Some(header) = BoxHeader::read(window)? else { return Ok(Step::Look(16)) };
        // parts are numbered in four bytes
        let before = match &header.kind {
            b"jxlc" => Some(0),
            b"jxlp" => Some(4),
            b"jbrd" => {
                self.restores_jpeg = true;
                None
            }
            _ => None,
        };
        match (before, header.whole()) {
            (Some(before), whole) if self.header.is_none() => {
                self.stage = Stage::Stream;
                self.limit = whole.map(|whole| at.saturating_add(whole));
                Ok(Step::Skip { bytes: (header.header as u64).saturating_add(before), look: 8 })
            }
            (_, Some(bytes)) => Ok(Step::Skip { bytes, look: boxes::HEADER }),
            (_, None) => Ok(Step::Rest),
        }
    }

    /// Reads the headers from a window that grows until they are whole.
    fn stream(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let Some(bytes) = window.strip_prefix(&STREAM) else { return Err(MediaError::Not("jpeg xl")) };
        match jxl_header::read(bytes) {
            None if window.len() >= HEADER_LIMIT => return Err(MediaError::Limit),
            None => return Ok(Step::Look(window.len().saturating_add(4))),
            Some(header) => self.header = Some(header?),
        }
        let Some(limit) = self.limit else { return Ok(Step::Rest) };
        self.stage = Stage::Boxes;
        let bytes = limit.checked_sub(at).filter(|bytes| *bytes >= window.len() as u64).ok_or(MediaError::Malformed)?;
        Ok(Step::Skip { bytes, look: boxes::HEADER })
    }

    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        let header = match self.header {
            Some(header) if !end.short => header,
            None if end.total < 12 && !matches!(self.stage, Stage::Stream) => return Err(MediaError::Not("jpeg xl")),
            _ => return Err(MediaError::Truncated),
        };
        let lossy = Some(Loss { method: "ISO_18181_1" });
        let (syntax, loss) = match (header.xyb, header.frame) {
            (false, _) if self.restores_jpeg => (RECOMPRESSED, lossy),
            (true, _) => (ANY, lossy),
            (false, Some(FrameCoding::Modular)) => (LOSSLESS, None),
            // a recompressed JPEG without what restores it, or a colour profile before the first frame
            (false, _) => (UNTOLD, lossy),
        };
        let colour = match (header.grey, header.xyb) {
            (true, _) => Colour::GREY,
            (false, true) => Colour::certain("XYB"),
            (false, false) if self.restores_jpeg => Colour { photometric: "YBR_FULL_422", certain: false },
            (false, false) => Colour::RGB,
        };
        let picture = Picture {
            size: Some(size(header.rows.into(), header.columns.into())?),
            samples: Some(if header.grey { 1 } else { 3 }),
            bits: u16::try_from(header.bits).ok().filter(|bits| (1..=16).contains(bits)),
            segments: 0,
            signed: false,
            colour,
            loss,
            length: end.total,
        };
        if picture.bits.is_none() {
            return Err(MediaError::NoPlace("samples of more than 16 bits"));
        }
        Ok((syntax, 0..end.total, Content::Image(picture)))
    }
}
