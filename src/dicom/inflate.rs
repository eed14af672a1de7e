//! Inflating a deflated data set as it streams, within fixed memory and a bounded ratio (PS3.5 A.5).

use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};

use crate::dicom::events::{Bound, Flaw, Limits, ParseError};
use crate::dicom::stream::FrontReader;

/// Bytes inflated at a time.
const WINDOW: usize = 32 * 1024;
/// Below this many inflated bytes any ratio goes.
const FREE: u64 = 16 * 1024 * 1024;

/// A raw deflate stream being inflated.
#[derive(Debug)]
pub struct Inflate {
    decoder: Decompress,
    output: Box<[u8]>,
    limits: Limits,
    consumed: u64,
    produced: u64,
    ended: bool,
}

impl Inflate {
    /// Inflates within these limits: the ratio counts once over 16 MiB.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            decoder: Decompress::new(false),
            output: vec![0; WINDOW].into_boxed_slice(),
            limits,
            consumed: 0,
            produced: 0,
            ended: false,
        }
    }

    /// Inflates a chunk; `each` gets the pieces of the data set.
    pub fn push(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        loop {
            if self.ended {
                // a padding byte is expected (PS3.5 A.5), checksums of other formats are found; none belongs to the data set
                return Ok(());
            }
            let (read, written) = self.step(chunk)?;
            chunk = &chunk[read..];
            let blown_up = self.produced > FREE && self.produced / self.limits.inflation.max(1) > self.consumed;
            if blown_up || self.produced > self.limits.inflated {
                return Err(ParseError::limit(self.produced, Bound::Inflated));
            }
            if written > 0 {
                each(&self.output[..written])?;
            } else if !self.ended && (chunk.is_empty() || read == 0) {
                return Ok(());
            }
        }
    }

    fn step(&mut self, chunk: &[u8]) -> Result<(usize, usize), ParseError> {
        let (before_in, before_out) = (self.decoder.total_in(), self.decoder.total_out());
        let status = self
            .decoder
            .decompress(chunk, &mut self.output, FlushDecompress::None)
            .map_err(|_| ParseError::malformed(self.produced, Flaw::NotDeflate))?;
        self.ended = matches!(status, Status::StreamEnd);
        let read = self.decoder.total_in() - before_in;
        let written = self.decoder.total_out() - before_out;
        self.consumed += read;
        self.produced += written;
        // both are at most the length of a slice
        let fits = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
        Ok((fits(read), fits(written)))
    }

    /// The input is over; says whether the deflate stream is.
    pub fn finish(&self) -> Result<(), ParseError> {
        if self.ended { Ok(()) } else { Err(ParseError::Truncated(self.produced)) }
    }

    /// How many bytes came out so far.
    #[must_use]
    pub fn produced(&self) -> u64 {
        self.produced
    }
}

/// Reads a range of the inflated data set while it is fed with a stored deflated object from its first byte.
#[derive(Debug)]
pub struct Inflater {
    front: Option<FrontReader>,
    inflate: Inflate,
    range: Range<u64>,
}

impl Inflater {
    /// A reader of `range` of the data set.
    #[must_use]
    pub fn new(range: Range<u64>, limits: Limits) -> Self {
        Self { front: Some(FrontReader::default()), inflate: Inflate::new(limits), range }
    }

    /// The next bytes of the object; what they hold of the range is appended to `out`.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), ParseError> {
        if let Some(front) = &mut self.front {
            let Some((_, beginning)) = front.push(&mut chunk)? else { return Ok(()) };
            self.front = None;
            self.inflate(&beginning, out)?;
        }
        self.inflate(chunk, out)
    }

    fn inflate(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), ParseError> {
        if self.is_complete() {
            return Ok(());
        }
        let mut position = self.inflate.produced();
        let range = self.range.clone();
        self.inflate.push(chunk, |piece| {
            let length = piece.len() as u64;
            let from = range.start.clamp(position, position + length) - position;
            let to = range.end.clamp(position, position + length) - position;
            // both are at most the length of the piece
            let fits = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
            out.extend_from_slice(piece.get(fits(from)..fits(to)).unwrap_or_default());
            position += length;
            Ok(())
        })
    }

    /// The object is over; says whether the whole range came out.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ParseError> {
        if let Some(mut front) = self.front.take() {
            let (_, beginning) = front.finish()?;
            self.inflate(&beginning, out)?;
        }
        if self.is_complete() { Ok(()) } else { Err(ParseError::Truncated(self.inflate.produced())) }
    }

    /// Whether the whole range came out: nothing more needs to be fed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.inflate.produced() >= self.range.end
    }
}
