//! JPEG and JPEG-LS: marker segments, and the end of the image
//! ([ITU T.81](https://www.w3.org/Graphics/JPEG/itu-t81.pdf) Annex B, ITU T.87 Annex C; PS3.5 8.2.1, 8.2.3).

use super::error::MediaError;
use super::feed::{End, Numbers, Scan, Step};
use super::picture::{Colour, Loss, Picture, Syntax, size};
use super::{Content, Found};

const BASELINE: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.50", also: &["1.2.840.10008.1.2.4.51"] };
const EXTENDED: Syntax = Syntax::only("1.2.840.10008.1.2.4.51");
const LOSSLESS: Syntax = Syntax::only("1.2.840.10008.1.2.4.57");
const LOSSLESS_SV1: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.70", also: &["1.2.840.10008.1.2.4.57"] };
const LS_LOSSLESS: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.80", also: &["1.2.840.10008.1.2.4.81"] };
const LS_NEAR: Syntax = Syntax::only("1.2.840.10008.1.2.4.81");

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DNL: u8 = 0xDC;
const APP0: u8 = 0xE0;
const APP8: u8 = 0xE8;
const APP14: u8 = 0xEE;
const SOF_LS: u8 = 0xF7;

/// Follows the markers of one image.
#[derive(Debug, Default)]
pub(super) struct JpegReader {
    begun: bool,
    /// Between the header of a scan and the next marker.
    in_scan: bool,
    frame: Option<Frame>,
    scans: Scans,
    jfif: bool,
    /// Transform flag of an Adobe segment.
    adobe: Option<u8>,
    /// Position after the end marker.
    end: Option<u64>,
}

/// The frame header.
#[derive(Debug)]
struct Frame {
    process: Process,
    bits: u8,
    rows: u16,
    columns: u16,
    components: u8,
    /// Component identifiers are the letters R, G, B.
    named_rgb: bool,
    /// Some component has fewer samples than another.
    subsampled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Baseline,
    Extended,
    Lossless,
    LosslessLs,
}

/// What the headers of the scans said.
#[derive(Debug, Default)]
struct Scans {
    seen: bool,
    /// A predictor other than the first.
    other_predictor: bool,
    /// JPEG-LS: a difference is allowed. JPEG: bits were cut off before prediction.
    lossy: bool,
}

impl Scan for JpegReader {
    fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let marker = match (self.begun, window.u8(0)?, window.u8(1)?) {
            (false, 0xFF, SOI) => {
                self.begun = true;
                return Ok(Step::Skip { bytes: 2, look: 2 });
            }
            (false, ..) => return Err(MediaError::Not("jpeg")),
            (true, 0xFF, marker) => marker,
            (true, ..) => return Err(MediaError::Malformed),
        };
        if marker == 0xFF {
            // any number of fill bytes may stand before a marker (T.81 B.1.1.2)
            return Ok(if self.in_scan { Step::Mark { bytes: 1, look: 2 } } else { Step::Skip { bytes: 1, look: 2 } });
        }
        if self.in_scan && (marker < 0xC0 || matches!(marker, 0xD0..=0xD7)) {
            return Ok(Step::Mark { bytes: 2, look: 2 });
        }
        self.in_scan = false;
        match marker {
            EOI => {
                self.end = Some(at.saturating_add(2));
                return Ok(Step::Rest);
            }
            0x01 => return Ok(Step::Skip { bytes: 2, look: 2 }),
            0x00 | SOI | 0xD0..=0xD7 => return Err(MediaError::Malformed),
            _ => {}
        }
        self.segment(marker, window)
    }
}

impl JpegReader {
    fn segment(&mut self, marker: u8, window: &[u8]) -> Result<Step, MediaError> {
        if window.len() < 4 {
            return Ok(Step::Look(4));
        }
        let length = usize::from(window.u16(2)?);
        if length < 2 {
            return Err(MediaError::Malformed);
        }
        let whole = length.saturating_add(2);
        let of_interest = matches!(marker, 0xC0..=0xCF | SOS | DNL | APP0 | APP8 | APP14 | SOF_LS);
        if of_interest && window.len() < whole {
            return Ok(Step::Look(whole));
        }
        let content = window.from(4)?;
        match marker {
            // Huffman and arithmetic tables, and the length of hierarchical extensions, lie among the frame headers
            0xC4 | 0xCC | 0xC8 => {}
            0xC0..=0xCF | SOF_LS => self.frame(marker, content)?,
            SOS => {
                self.scan(content)?;
                self.in_scan = true;
                return Ok(Step::Mark { bytes: whole as u64, look: 2 });
            }
            DNL => self.lines(content)?,
            APP0 => self.jfif |= content.starts_with(b"JFIF\0"),
            APP8 if content.starts_with(b"mrfx") && content.get(4).is_some_and(|transform| *transform != 0) => {
                return Err(MediaError::NoSyntax("a jpeg-ls colour transform"));
            }
            APP14 if content.starts_with(b"Adobe") => self.adobe = content.get(11).copied(),
            _ => {}
        }
        Ok(Step::Skip { bytes: whole as u64, look: 2 })
    }

    fn frame(&mut self, marker: u8, content: &[u8]) -> Result<(), MediaError> {
        let process = match marker {
            0xC0 => Process::Baseline,
            0xC1 => Process::Extended,
            0xC3 => Process::Lossless,
            SOF_LS => Process::LosslessLs,
            // those of the standard for them are retired (PS3.6 Annex A)
            0xC2 => return Err(MediaError::NoSyntax("progressive jpeg")),
            0xC5..=0xC7 => return Err(MediaError::NoSyntax("hierarchical jpeg")),
            _ => return Err(MediaError::NoSyntax("arithmetic coded jpeg")),
        };
        if self.frame.is_some() {
            return Err(MediaError::NoSyntax("several images in one jpeg"));
        }
        let components = content.u8(5)?;
        let listed: Vec<&[u8]> = content.from(6)?.chunks_exact(3).take(components.into()).collect();
        if components == 0 || listed.len() != usize::from(components) {
            return Err(MediaError::Malformed);
        }
        let factors = |component: &&[u8]| component.get(1).copied();
        self.frame = Some(Frame {
            process,
            bits: content.u8(0)?,
            rows: content.u16(1)?,
            columns: content.u16(3)?,
            components,
            named_rgb: listed.iter().map(|component| component.first().copied()).eq(b"RGB".iter().copied().map(Some)),
            subsampled: listed.iter().any(|component| factors(component) != listed.first().and_then(factors)),
        });
        Ok(())
    }

    fn scan(&mut self, content: &[u8]) -> Result<(), MediaError> {
        let Some(frame) = &self.frame else { return Err(MediaError::Malformed) };
        let after = usize::from(content.u8(0)?).saturating_mul(2).saturating_add(1);
        let (first, last) = (content.u8(after)?, content.u8(after.saturating_add(2))?);
        self.scans.seen = true;
        match frame.process {
            Process::Baseline | Process::Extended => {}
            Process::Lossless => {
                self.scans.other_predictor |= first != 1;
                self.scans.lossy |= last & 0x0F != 0;
            }
            Process::LosslessLs => self.scans.lossy |= first != 0,
        }
        Ok(())
    }

    /// The number of lines, when the frame header left it open (T.81 B.2.5).
    fn lines(&mut self, content: &[u8]) -> Result<(), MediaError> {
        let lines = content.u16(0)?;
        match &mut self.frame {
            Some(frame) if frame.rows == 0 || frame.rows == lines => frame.rows = lines,
            _ => return Err(MediaError::Malformed),
        }
        Ok(())
    }

    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        let (Some(after), Some(frame), true) = (self.end, &self.frame, self.scans.seen) else {
            return Err(if end.total < 2 { MediaError::Not("jpeg") } else { MediaError::Truncated });
        };
        let (syntax, method) = self.syntax(frame)?;
        let picture = Picture {
            size: Some(size(frame.rows.into(), frame.columns.into())?),
            samples: Some(frame.components.into()),
            bits: Some(frame.bits.into()),
            segments: 0,
            signed: false,
            colour: self.colour(frame)?,
            loss: method.map(|method| Loss { method }),
            length: after,
        };
        Ok((syntax, 0..after, Content::Image(picture)))
    }

    fn syntax(&self, frame: &Frame) -> Result<(Syntax, Option<&'static str>), MediaError> {
        let lossy = self.scans.lossy;
        Ok(match (frame.process, frame.bits) {
            (Process::Baseline, 8) => (BASELINE, Some("ISO_10918_1")),
            (Process::Extended, 8 | 12) => (EXTENDED, Some("ISO_10918_1")),
            (Process::Lossless, 2..=16) => {
                let syntax = if self.scans.other_predictor { LOSSLESS } else { LOSSLESS_SV1 };
                (syntax, lossy.then_some("ISO_10918_1"))
            }
            (Process::LosslessLs, 2..=16) => {
                (if lossy { LS_NEAR } else { LS_LOSSLESS }, lossy.then_some("ISO_14495_1"))
            }
            _ => return Err(MediaError::Malformed),
        })
    }

    /// Colour as decoders guess it: an Adobe segment, JFIF, the names of the components, in that order.
    ///
    /// What is YCbCr is labelled YBR_FULL_422 in lossy JPEG whichever way the chroma was sampled, as PS3.5 Table 8.2.1-1
    /// knows no other.
    fn colour(&self, frame: &Frame) -> Result<Colour, MediaError> {
        match frame.components {
            1 => return Ok(Colour::GREY),
            3 => {}
            4 => return Err(MediaError::NoPlace("four colour components")),
            _ => return Err(MediaError::NoPlace("this number of components")),
        }
        let lossy = matches!(frame.process, Process::Baseline | Process::Extended);
        let ybr = Colour::certain(if lossy { "YBR_FULL_422" } else { "YBR_FULL" });
        Ok(match (self.adobe, self.jfif) {
            (Some(0), _) => Colour::certain("RGB"),
            (Some(1), _) | (None, true) => ybr,
            _ if frame.named_rgb => Colour::certain("RGB"),
            _ if lossy && frame.subsampled => ybr,
            _ if lossy => Colour { certain: false, ..ybr },
            _ => Colour::RGB,
        })
    }
}
