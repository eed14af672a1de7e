//! MP4 files, whole or in fragments: the boxes that describe the first video track, wherever they stand (ISO 14496-12).

use super::avc::{self, Coded};
use super::boxes::{self, BoxHeader};
use super::error::MediaError;
use super::feed::{End, Numbers, Scan, Step};
use super::picture::{Colour, Film, Loss, Picture, size};
use super::{Content, Found};

const TRACK_LIMIT: usize = 64;
/// Bytes of a visual sample entry before the boxes in it.
const VISUAL_ENTRY: usize = 86;

/// Walks the boxes; those that hold others are entered.
#[derive(Debug, Default)]
pub(super) struct Mp4Reader {
    tracks: Vec<Track>,
    /// Defaults of fragments: track, duration of a sample.
    defaults: Vec<(u32, u32)>,
    /// The track of the fragment that is read, and its duration of a sample if it says.
    fragment: (u32, u32),
    media: bool,
    /// Where the boxes say that the file ends.
    reach: u64,
}

#[derive(Debug, Default)]
struct Track {
    number: u32,
    handler: [u8; 4],
    timescale: u32,
    duration: u64,
    samples: u64,
    /// Samples in fragments, and the duration of the first of them.
    fragmented: u64,
    sample_duration: u32,
    entry: Option<Result<Entry, MediaError>>,
}

/// The sample entry of a video.
#[derive(Clone, Copy, Debug)]
struct Entry {
    coded: Coded,
    rows: u16,
    columns: u16,
}

impl Scan for Mp4Reader {
    fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let Some(header) = BoxHeader::read(window)? else { return Ok(Step::Look(16)) };
        self.reach = self.reach.max(header.whole().map_or(0, |whole| at.saturating_add(whole)));
        let wanted = match &header.kind {
            b"moov" | b"mdia" | b"minf" | b"stbl" | b"mvex" | b"moof" | b"traf" => {
                return Ok(Step::Skip { bytes: header.header as u64, look: boxes::HEADER });
            }
            b"trak" => {
                if self.tracks.len() >= TRACK_LIMIT {
                    return Err(MediaError::Limit);
                }
                self.tracks.push(Track::default());
                return Ok(Step::Skip { bytes: header.header as u64, look: boxes::HEADER });
            }
            b"mdat" => {
                self.media = true;
                0
            }
            b"stsd" | b"tkhd" | b"mdhd" | b"hdlr" | b"trex" | b"tfhd" => header.window()?,
            // of these the begin suffices
            b"stsz" | b"stz2" => header.header.saturating_add(12).min(header.window()?),
            b"trun" => header.header.saturating_add(20).min(header.window()?),
            _ => 0,
        };
        if window.len() < wanted {
            return Ok(Step::Look(wanted));
        }
        if wanted > 0 {
            let content = window.get(header.header..wanted).ok_or(MediaError::Malformed)?;
            self.leaf(header.kind, content)?;
        }
        // the last box may reach to the end
        Ok(header.whole().map_or(Step::Rest, |bytes| Step::Skip { bytes, look: boxes::HEADER }))
    }
}

impl Mp4Reader {
    fn leaf(&mut self, kind: [u8; 4], content: &[u8]) -> Result<(), MediaError> {
        match &kind {
            b"trex" if self.defaults.len() < TRACK_LIMIT => {
                self.defaults.push((content.u32(4)?, content.u32(12)?));
                return Ok(());
            }
            b"tfhd" => {
                self.fragment = (content.u32(4)?, fragment_duration(content)?.unwrap_or_default());
                return Ok(());
            }
            b"trun" => return self.run(content),
            _ => {}
        }
        let Some(track) = self.tracks.last_mut() else { return Ok(()) };
        let long = content.u8(0)? == 1;
        match &kind {
            b"tkhd" => track.number = content.u32(if long { 20 } else { 12 })?,
            b"mdhd" if long => (track.timescale, track.duration) = (content.u32(20)?, content.u64(24)?),
            b"mdhd" => (track.timescale, track.duration) = (content.u32(12)?, content.u32(16)?.into()),
            b"hdlr" => track.handler = content.u32(8)?.to_be_bytes(),
            b"stsz" | b"stz2" => track.samples = content.u32(8)?.into(),
            b"stsd" => track.entry = visual(content),
            _ => {}
        }
        Ok(())
    }

    /// Samples of a fragment.
    fn run(&mut self, content: &[u8]) -> Result<(), MediaError> {
        let flags = content.u32(0)?;
        let (number, said) = self.fragment;
        let Some(track) = self.tracks.iter_mut().find(|track| track.number == number) else { return Ok(()) };
        track.fragmented = track.fragmented.saturating_add(content.u32(4)?.into());
        if track.sample_duration == 0 {
            let first = 8 + 4 * usize::from(flags & 1 != 0) + 4 * usize::from(flags & 4 != 0);
            let default = self.defaults.iter().find(|(track, _)| *track == number).map_or(0, |(_, duration)| *duration);
            track.sample_duration = match (flags & 0x100 != 0, said) {
                (true, _) => content.u32(first)?,
                (false, 0) => default,
                (false, said) => said,
            };
        }
        Ok(())
    }

    /// The first video track.
    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        if end.short || end.total < self.reach {
            return Err(MediaError::Truncated);
        }
        let length = end.total;
        let sound = self.tracks.iter().any(|track| track.handler == *b"soun");
        let track =
            self.tracks.iter().find(|track| track.handler == *b"vide").ok_or(MediaError::Absent("video track"))?;
        let Entry { coded, rows, columns } = track.entry.ok_or(MediaError::Malformed)??;
        let frames = track.samples.saturating_add(track.fragmented);
        let frames = u32::try_from(frames).ok().filter(|frames| *frames > 0 && self.media);
        let frames = frames.ok_or(MediaError::Absent("frame in the video"))?;
        let picture = Picture {
            size: Some(size(rows.into(), columns.into())?),
            samples: Some(3),
            bits: Some(coded.bits),
            segments: 0,
            signed: false,
            // PS3.5 8.2.7 to 8.2.11 know no other
            colour: Colour::certain("YBR_PARTIAL_420"),
            loss: Some(Loss { method: coded.method }),
            length,
        };
        let frame_time = track.frame_time().ok_or(MediaError::Absent("frame rate in the video"))?;
        Ok((coded.syntax, 0..length, Content::Video(picture, Film { frames, frame_time, sound })))
    }
}

impl Track {
    /// Milliseconds from frame to frame.
    fn frame_time(&self) -> Option<f64> {
        let ticks = if self.samples > 0 && self.duration > 0 {
            self.duration as f64 / self.samples as f64
        } else {
            f64::from(self.sample_duration)
        };
        let time = ticks * 1000.0 / f64::from(self.timescale);
        (time.is_finite() && time > 0.0).then_some(time)
    }
}

/// The duration of a sample that a track fragment header may tell.
fn fragment_duration(content: &[u8]) -> Result<Option<u32>, MediaError> {
    let flags = content.u32(0)?;
    let at = 8 + 8 * usize::from(flags & 1 != 0) + 4 * usize::from(flags & 2 != 0);
    if flags & 8 == 0 { Ok(None) } else { content.u32(at).map(Some) }
}

/// The first entry of a sample description; `None` when it is not one of a video.
fn visual(content: &[u8]) -> Option<Result<Entry, MediaError>> {
    let (kind, entry) = boxes::children(content.get(8..)?).next()?;
    let (record_kind, read): (_, fn(&[u8]) -> _) = match &kind {
        b"avc1" | b"avc2" | b"avc3" | b"avc4" => (*b"avcC", avc::h264),
        b"hvc1" | b"hev1" => (*b"hvcC", avc::h265),
        b"encv" => return Some(Err(MediaError::NoSyntax("encrypted video"))),
        _ => return Some(Err(MediaError::NoSyntax("this video codec"))),
    };
    // the header of 8 bytes is already off
    let inside = entry.get(VISUAL_ENTRY - boxes::HEADER..)?;
    let record = boxes::children(inside).find(|(kind, _)| *kind == record_kind).map(|(_, record)| record);
    let described = record.ok_or(MediaError::Malformed).and_then(read);
    Some(described.and_then(|coded| Ok(Entry { coded, columns: entry.u16(24)?, rows: entry.u16(26)? })))
}
