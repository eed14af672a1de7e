//! JPEG XL: a bare code stream, or one in boxes (ISO 18181-2;
//! [PS3.5 8.2.15](https://dicom.nema.org/medical/dicom/current/output/chtml/part05/sect_8.2.15.html)).
//!
//! The boxes stay: the one that restores a recompressed JPEG lies beside the code stream.

use super::boxes::{self, BoxHeader};
use super::error::MediaError;
use super::feed::{End, Scan, Step};
use super::jxl_header::{self, FrameCoding};
use super::picture::{Colour, Loss, Picture, Syntax, size};
use super::{Content, Found};

const LOSSLESS: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.110", also: &["1.2.840.10008.1.2.4.112"] };
const RECOMPRESSED: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.111", also: &["1.2.840.10008.1.2.4.112"] };
const ANY: Syntax = Syntax::only("1.2.840.10008.1.2.4.112");
/// The headers do not tell.
const UNTOLD: Syntax =
    Syntax { uid: "1.2.840.10008.1.2.4.112", also: &["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111"] };

const SIGNATURE: [u8; 12] = *b"\0\0\0\x0CJXL \r\n\x87\n";
/// The headers are far shorter, but for a colour profile, before which reading stops.
const HEADER_LIMIT: usize = 1024;
const STREAM: [u8; 2] = [0xFF, 0x0A];

/// Finds the code stream and keeps its begin.
#[derive(Debug, Default)]
pub(super) struct JpegXlReader {
    stage: Stage,
    /// The first bytes of the code stream, from as many boxes as they lie in.
    head: Vec<u8>,
    /// Bytes of a box of the code stream that come next.
    part: u64,
    /// The code stream reaches to the end.
    open: bool,
    restores_jpeg: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Start,
    Boxes,
}

impl Scan for JpegXlReader {
    fn step(&mut self, _at: u64, window: &[u8]) -> Result<Step, MediaError> {
        if self.part > 0 {
            return Ok(Step::Pass { bytes: std::mem::take(&mut self.part), look: boxes::HEADER });
        }
        match self.stage {
            Stage::Start if window == STREAM => {
                self.open = true;
                Ok(Step::Pass { bytes: u64::MAX, look: 1 })
            }
            Stage::Start if !window.starts_with(&[0, 0]) => Err(MediaError::Not("jpeg xl")),
            Stage::Start if window.len() < SIGNATURE.len() => Ok(Step::Look(SIGNATURE.len())),
            Stage::Start if window != SIGNATURE => Err(MediaError::Not("jpeg xl")),
            Stage::Start => {
                self.stage = Stage::Boxes;
                Ok(Step::Skip { bytes: SIGNATURE.len() as u64, look: boxes::HEADER })
            }
            Stage::Boxes => self.next_box(window),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let missing = HEADER_LIMIT.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(bytes.get(..missing).unwrap_or_default());
    }
}

impl JpegXlReader {
    fn next_box(&mut self, window: &[u8]) -> Result<Step, MediaError> {
        let Some(header) = BoxHeader::read(window)? else { return Ok(Step::Look(16)) };
        // parts of the code stream are numbered in four bytes
        let before = match &header.kind {
            b"jxlc" => 0,
            b"jxlp" => 4,
            kind => {
                self.restores_jpeg |= kind == b"jbrd";
                // the last box may reach to the end
                return Ok(header.whole().map_or(Step::Rest, |bytes| Step::Skip { bytes, look: boxes::HEADER }));
            }
        };
        self.open = header.content.is_none();
        self.part = match header.content {
            Some(content) => content.checked_sub(before).ok_or(MediaError::Malformed)?,
            None => u64::MAX,
        };
        let look = if self.part == 0 { boxes::HEADER } else { 1 };
        Ok(Step::Skip { bytes: (header.header as u64).saturating_add(before), look })
    }

    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        if self.head.is_empty() && end.total < SIGNATURE.len() as u64 {
            return Err(MediaError::Not("jpeg xl"));
        }
        if end.short && !self.open {
            return Err(MediaError::Truncated);
        }
        let Some(headers) = self.head.strip_prefix(&STREAM) else {
            return Err(if self.head.len() < 2 { MediaError::Truncated } else { MediaError::Not("jpeg xl") });
        };
        let header = jxl_header::read(headers).ok_or(MediaError::Truncated)??;
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
