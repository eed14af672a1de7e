//! JPEG 2000 and HTJ2K as they come: a bare code stream, or one in the boxes of a JP2 or JPH file (ITU T.800 Annex I).
//!
//! Pixel Data holds the bare code stream (PS3.5 A.4.4), so the boxes are left out; what they say of colours is kept.

use super::Found;
use super::boxes::{self, BoxHeader};
use super::codestream::{Codestream, Wrapper};
use super::error::MediaError;
use super::feed::{End, Numbers, Scan, Step};

const SIGNATURE: [u8; 12] = *b"\0\0\0\x0CjP  \r\n\x87\n";

/// Finds the code stream and follows it.
#[derive(Debug, Default)]
pub(super) struct Jpeg2000Reader {
    stage: Stage,
    codestream: Codestream,
    colours: Wrapper,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Start,
    Boxes,
    /// Begin, and where the box ends if it says.
    Stream(u64, Option<u64>),
}

impl Scan for Jpeg2000Reader {
    fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        match self.stage {
            Stage::Stream(..) if self.codestream.is_passed() => Ok(Step::Rest),
            Stage::Start if window.starts_with(&[0xFF, 0x4F]) => {
                self.stage = Stage::Stream(0, None);
                self.codestream.step(at, window)
            }
            Stage::Start if !window.starts_with(&[0, 0]) => Err(MediaError::Not("jpeg 2000")),
            Stage::Start if window.len() < SIGNATURE.len() => Ok(Step::Look(SIGNATURE.len())),
            Stage::Start if window != SIGNATURE => Err(MediaError::Not("jpeg 2000")),
            Stage::Start => {
                self.stage = Stage::Boxes;
                Ok(Step::Skip { bytes: SIGNATURE.len() as u64, look: boxes::HEADER })
            }
            Stage::Boxes => self.boxed(at, window),
            Stage::Stream(_, limit) => match self.codestream.step(at, window)? {
                // a last tile part without a length ends where the box does
                Step::Pass { look, .. } if limit.is_some() => {
                    Ok(Step::Pass { bytes: limit.unwrap_or(u64::MAX).saturating_sub(at), look })
                }
                step => Ok(step),
            },
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.codestream.pass(bytes);
    }
}

impl Jpeg2000Reader {
    fn boxed(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let Some(header) = BoxHeader::read(window)? else { return Ok(Step::Look(16)) };
        let inside = Step::Skip { bytes: header.header as u64, look: boxes::HEADER };
        match &header.kind {
            b"jp2h" => return Ok(inside),
            b"jp2c" => {
                let begin = at.saturating_add(header.header as u64);
                self.stage = Stage::Stream(begin, header.content.map(|content| begin.saturating_add(content)));
                return Ok(Step::Skip { bytes: header.header as u64, look: 2 });
            }
            b"pclr" => return Err(MediaError::NoPlace("a palette of the wrapper")),
            b"colr" if window.len() < header.header.saturating_add(7) && header.content >= Some(7) => {
                return Ok(Step::Look(header.header.saturating_add(7)));
            }
            b"colr" if header.content >= Some(7) => {
                self.colours = match (window.u8(header.header)?, window.u32(header.header.saturating_add(3))?) {
                    (1, 16) => Wrapper::Rgb,
                    (1, 18) => Wrapper::Ycc,
                    _ => self.colours,
                };
            }
            _ => {}
        }
        // a box without an end that is not the code stream
        header.whole().map(|bytes| Step::Skip { bytes, look: boxes::HEADER }).ok_or(MediaError::Absent("code stream"))
    }

    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        let Stage::Stream(begin, limit) = self.stage else {
            return Err(if end.total < 12 { MediaError::Not("jpeg 2000") } else { MediaError::Truncated });
        };
        let limit = limit.unwrap_or(end.total);
        let after = self.codestream.end(limit.min(end.total)).ok_or(MediaError::Truncated)?;
        let length = after.checked_sub(begin).ok_or(MediaError::Malformed)?;
        let (syntax, content) = self.codestream.describe(self.colours, length)?;
        Ok((syntax, begin..after, content))
    }
}
