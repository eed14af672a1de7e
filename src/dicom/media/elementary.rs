//! The MPEG-2 video stream itself: sequence and picture headers among its start codes
//! (ITU H.262 6.2; PS3.5 8.2.5, 8.2.6).

use super::Content;
use super::error::MediaError;
use super::picture::{Colour, Film, Loss, Picture, Syntax, size};

const MAIN_LEVEL: Syntax = Syntax {
    uid: "1.2.840.10008.1.2.4.100",
    also: &["1.2.840.10008.1.2.4.100.1", "1.2.840.10008.1.2.4.101", "1.2.840.10008.1.2.4.101.1"],
};
const HIGH_LEVEL: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.101", also: &["1.2.840.10008.1.2.4.101.1"] };

const PICTURE: u8 = 0x00;
const SEQUENCE: u8 = 0xB3;
const EXTENSION: u8 = 0xB5;

/// Counts pictures and keeps the first sequence header.
#[derive(Debug, Default)]
pub(super) struct Elementary {
    /// The last two bytes before the next piece.
    tail: [u8; 2],
    /// A start code prefix was seen, its last byte comes next.
    prefixed: bool,
    /// The header that is collected: its start code, its bytes, how many are wanted.
    header: (u8, Vec<u8>, usize),
    sequence: Option<[u8; 8]>,
    extension: Option<[u8; 6]>,
    pictures: u64,
    fields: u64,
}

impl Elementary {
    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.prefixed {
                self.prefixed = false;
                self.start(first);
                bytes = rest;
                self.tail = [0xFF, first];
                continue;
            }
            let wanted = self.header.2.saturating_sub(self.header.1.len());
            if wanted > 0 {
                let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
                self.header.1.extend_from_slice(now);
                self.remember(now);
                bytes = rest;
                if now.len() == wanted {
                    self.collected();
                }
                continue;
            }
            bytes = self.next_prefix(bytes);
        }
    }

    /// Goes on after the next 00 00 01.
    fn next_prefix<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for at in memchr::memchr_iter(1, bytes) {
            let before = |back: usize| match at.checked_sub(back) {
                Some(at) => bytes.get(at).copied(),
                None => self.tail.get((2 + at).saturating_sub(back)).copied(),
            };
            if before(1) == Some(0) && before(2) == Some(0) {
                self.prefixed = true;
                return bytes.get(at.saturating_add(1)..).unwrap_or_default();
            }
        }
        self.remember(bytes);
        &[]
    }

    fn remember(&mut self, bytes: &[u8]) {
        match bytes {
            [] => {}
            [only] => self.tail = [self.tail[1], *only],
            [.., before, last] => self.tail = [*before, *last],
        }
    }

    fn start(&mut self, code: u8) {
        let wanted = match code {
            SEQUENCE => 8,
            EXTENSION => 1,
            PICTURE => {
                self.pictures = self.pictures.saturating_add(1);
                0
            }
            _ => 0,
        };
        self.header = (code, Vec::new(), wanted);
    }

    fn collected(&mut self) {
        let (code, bytes, wanted) = &mut self.header;
        match (*code, bytes.as_slice()) {
            (SEQUENCE, bytes) => self.sequence = self.sequence.or(bytes.try_into().ok()),
            // which extension it is says how long it is
            (_, [first]) => match first >> 4 {
                1 if self.extension.is_none() => *wanted = 6,
                8 => *wanted = 3,
                _ => {}
            },
            (_, [_, _, third]) => {
                let structure = third & 3;
                self.fields = self.fields.saturating_add(u64::from(structure == 1 || structure == 2));
            }
            (_, bytes) => self.extension = bytes.try_into().ok(),
        }
    }

    pub(super) fn describe(&self, sound: bool, length: u64) -> Result<(Syntax, Content), MediaError> {
        let sequence = self.sequence.ok_or(MediaError::Absent("mpeg-2 video sequence"))?;
        let [level, second, third, _, _, rate] = self.extension.ok_or(MediaError::NoSyntax("mpeg-1 video"))?;
        // profile and level lie across the first two bytes
        let (profile, level) = (level & 0x07, second >> 4);
        let syntax = match (level & 0x08, profile, level) {
            (_, 4 | 5, 8 | 10) => MAIN_LEVEL,
            (_, 4 | 5, 4 | 6) => HIGH_LEVEL,
            _ => return Err(MediaError::NoSyntax("this mpeg-2 profile and level")),
        };
        if second >> 1 & 3 != 1 {
            return Err(MediaError::NoSyntax("mpeg-2 other than 4:2:0"));
        }
        let [a, b, c, d, ..] = sequence;
        let columns = u64::from(a) << 4 | u64::from(b >> 4) | u64::from(second & 1) << 13 | u64::from(third >> 7) << 12;
        let rows = u64::from(b & 0x0F) << 8 | u64::from(c) | u64::from(third >> 5 & 3) << 12;
        // two fields are one frame
        let frames = self.pictures.saturating_sub(self.fields).saturating_add(self.fields.div_ceil(2));
        let frames = u32::try_from(frames).ok().filter(|frames| *frames > 0);
        let picture = Picture {
            size: Some(size(rows, columns)?),
            samples: Some(3),
            bits: Some(8),
            segments: 0,
            signed: false,
            colour: Colour::certain("YBR_PARTIAL_420"),
            loss: Some(Loss { method: "ISO_13818_2" }),
            length,
        };
        let film = Film {
            frames: frames.ok_or(MediaError::Absent("frame in the video"))?,
            frame_time: frame_time(d & 0x0F, rate)?,
            sound,
        };
        Ok((syntax, Content::Video(picture, film)))
    }
}

/// Milliseconds from frame to frame: the table of H.262 6.3.3, and the factors of the extension.
fn frame_time(code: u8, extension: u8) -> Result<f64, MediaError> {
    let (frames, seconds) = match code {
        1 => (24_000, 1001),
        2 => (24, 1),
        3 => (25, 1),
        4 => (30_000, 1001),
        5 => (30, 1),
        6 => (50, 1),
        7 => (60_000, 1001),
        8 => (60, 1),
        _ => return Err(MediaError::Absent("frame rate in the video")),
    };
    let factor = f64::from((extension & 0x1F) + 1) / f64::from((extension >> 5 & 3) + 1);
    Ok(1000.0 * f64::from(seconds) * factor / f64::from(frames))
}
