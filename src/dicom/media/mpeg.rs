//! What MPEG-2 video comes in: program streams, transport streams, or nothing (ITU H.222.0 2.4, 2.5).

use super::Found;
use super::elementary::Elementary;
use super::error::MediaError;
use super::feed::{End, Numbers, Scan, Step};

const PACKET: usize = 188;
const SYNC: u8 = 0x47;

/// Takes the first video stream out of the packets.
#[derive(Debug, Default)]
pub(super) struct MpegReader {
    form: Form,
    video: Elementary,
    sound: bool,
    /// Bytes of a packet of the video that come next.
    payload: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Unknown,
    Elementary,
    /// The stream identifier of the video.
    Program(Option<u8>),
    /// The packet identifier of the video.
    Transport(Option<u16>),
}

impl Scan for MpegReader {
    fn step(&mut self, _at: u64, window: &[u8]) -> Result<Step, MediaError> {
        match self.form {
            Form::Unknown => self.begin(window),
            Form::Elementary => Ok(Step::Rest),
            Form::Program(video) => self.program(window, video),
            Form::Transport(video) => self.transport(window, video),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.video.push(bytes);
    }
}

impl MpegReader {
    fn begin(&mut self, window: &[u8]) -> Result<Step, MediaError> {
        match *window {
            [0, 0, 1, 0xB3, ..] => {
                self.form = Form::Elementary;
                Ok(Step::Pass { bytes: u64::MAX, look: 1 })
            }
            [0, 0, 1, 0xBA, ..] => {
                self.form = Form::Program(None);
                self.program(window, None)
            }
            [SYNC, ..] => {
                self.form = Form::Transport(None);
                Ok(Step::Look(PACKET))
            }
            _ => Err(MediaError::Not("mpeg video")),
        }
    }

    /// One pack header or packet (2.5.3).
    fn program(&mut self, window: &[u8], video: Option<u8>) -> Result<Step, MediaError> {
        const LOOK: usize = 6;
        if self.payload > 0 {
            return Ok(Step::Pass { bytes: std::mem::take(&mut self.payload), look: LOOK });
        }
        match (window.u32(0)?, window.len()) {
            (0x0000_01BA, ..14) => return Ok(Step::Look(14)),
            (0x0000_01BA, _) if window.u8(4)? & 0xC0 != 0x40 => return Err(MediaError::NoSyntax("mpeg-1 video")),
            (0x0000_01BA, _) => {
                let bytes = 14 + u64::from(window.u8(13)? & 7);
                return Ok(Step::Skip { bytes, look: LOOK });
            }
            (0x0000_01B9, _) => return Ok(Step::Rest),
            // padding between packets
            (0x0000_0000..=0x0000_00FF, _) => return Ok(Step::Skip { bytes: 1, look: LOOK }),
            (0x0000_01BB..=0x0000_01FF, _) => {}
            _ => return Err(MediaError::Malformed),
        }
        let stream = window.u8(3)?;
        let length = u64::from(window.u16(4)?);
        self.sound |= matches!(stream, 0xC0..=0xDF | 0xBD);
        if !matches!(stream, 0xE0..=0xEF) || video.is_some_and(|video| video != stream) {
            return Ok(Step::Skip { bytes: 6 + length, look: LOOK });
        }
        if window.len() < 9 {
            return Ok(Step::Look(9));
        }
        if window.u8(6)? & 0xC0 != 0x80 {
            return Err(MediaError::NoSyntax("mpeg-1 video"));
        }
        self.form = Form::Program(Some(stream));
        let header = 9 + u64::from(window.u8(8)?);
        self.payload = (6 + length).checked_sub(header).ok_or(MediaError::Malformed)?;
        Ok(Step::Skip { bytes: header, look: if self.payload == 0 { LOOK } else { 1 } })
    }

    /// One packet of 188 bytes (2.4.3).
    fn transport(&mut self, window: &[u8], video: Option<u16>) -> Result<Step, MediaError> {
        let next = Ok(Step::Skip { bytes: PACKET as u64, look: PACKET });
        if window.u8(0)? != SYNC {
            return Err(MediaError::Malformed);
        }
        let (flags, control) = (window.u16(1)?, window.u8(3)?);
        let begins = flags & 0x4000 != 0;
        let identifier = flags & 0x1FFF;
        let skip = match control >> 4 & 3 {
            1 => 4,
            3 => 5 + usize::from(window.u8(4)?),
            _ => return next,
        };
        let Some(payload) = window.get(skip..) else { return Err(MediaError::Malformed) };
        if begins && payload.starts_with(&[0, 0, 1]) {
            let stream = payload.u8(3)?;
            self.sound |= matches!(stream, 0xC0..=0xDF | 0xBD);
            if matches!(stream, 0xE0..=0xEF) && video.is_none_or(|video| video == identifier) {
                self.form = Form::Transport(Some(identifier));
                let header = 9 + usize::from(payload.u8(8)?);
                self.video.push(payload.get(header..).unwrap_or_default());
            }
        } else if video == Some(identifier) && !begins {
            self.video.push(payload);
        }
        next
    }

    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        if end.short && matches!(self.form, Form::Program(_)) {
            return Err(MediaError::Truncated);
        }
        let length = end.total;
        let (syntax, content) = self.video.describe(self.sound, length)?;
        Ok((syntax, 0..length, content))
    }
}
