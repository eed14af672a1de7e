//! Where the frames of an instance lie in its object: found as the stream passes, kept in a compact form, looked up by number.

use bytes::Bytes;

use crate::dicom::{varint, vr};

/// Frames per block of the stored index: a frame request reads one block.
pub const FRAMES_PER_BLOCK: u32 = 4096;

/// The index of all frames of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameIndex {
    /// No pixel data, or frames that cannot be addressed: a video, or an image without its dimensions.
    None,
    /// Native pixel data: frame n by arithmetic.
    Native(NativeFrames),
    /// Encapsulated pixel data: one range per frame.
    Encapsulated(EncapsulatedFrames),
}

/// The rule of native pixel data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeFrames {
    /// First byte of the pixel data value.
    pub position: u64,
    /// Bytes of the value.
    pub length: u64,
    /// Bits of one frame: Rows × Columns × Samples per Pixel × Bits Allocated.
    pub frame_bits: u64,
    /// How many frames.
    pub frames: u32,
    /// Bytes to swap together when the stored order is big endian; 1 when nothing is to be swapped.
    pub swap: u8,
    /// Offsets count in the inflated data set.
    pub deflated: bool,
}

/// The frames of encapsulated pixel data, packed: they follow each other, so that the lengths of the fragments say all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncapsulatedFrames {
    /// First byte of the first fragment's value.
    pub position: u64,
    /// How many frames.
    pub frames: u32,
    /// A varint for each fragment: its length, doubled, plus 1 unless it is the last of its frame.
    pub(crate) packed: Vec<u8>,
}

/// One encapsulated frame: consecutive fragments, each after an item header of 8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncapsulatedFrame {
    /// First byte of the first fragment's value.
    pub position: u64,
    /// Bytes of each fragment.
    pub fragments: Vec<u32>,
}

/// The index as the catalogue keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFrames {
    /// In the instance's row: a rule, or the frames themselves when they are few.
    pub head: Vec<u8>,
    /// Otherwise blocks of [`FRAMES_PER_BLOCK`] frames, numbered from 0.
    pub blocks: Vec<Vec<u8>>,
}

/// Where to find a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Here it is.
    Frame(FrameExtent),
    /// In the block of this number: read that and ask [`find_in_block`].
    InBlock(u32),
    /// There is no such frame; this many exist.
    Beyond(u32),
}

/// One frame as ranges of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameExtent {
    /// First byte to read.
    pub position: u64,
    /// Bytes to read, item headers between fragments included.
    pub length: u64,
    /// How to make the frame of what was read.
    pub shape: FrameShape,
}

/// How the bytes read become the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameShape {
    /// Native bytes.
    Native {
        /// The frame begins at this bit of what was read, once its words are swapped (0 is the least significant of the first byte).
        first_bit: u8,
        /// Bits of the frame.
        bits: u64,
        /// Bytes to swap together; 1 for none.
        swap: u8,
        /// The range counts in the inflated data set.
        deflated: bool,
    },
    /// Fragments of these lengths, 8 bytes of item header between each two.
    Encapsulated(Vec<u32>),
}

/// A stored frame index that does not make sense, or bytes that do not fit it: a damaged archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored frame index is damaged")]
pub struct Corrupt;

const VERSION: u8 = 1;
const KIND_NONE: u8 = 0;
const KIND_NATIVE: u8 = 1;
const KIND_INLINE: u8 = 2;
const KIND_BLOCKS: u8 = 3;
/// Up to so many encapsulated frames, in up to so many bytes, are kept in the head.
const INLINE_FRAMES: u32 = 32;
const INLINE_BYTES: usize = 512;
/// The item header between two fragments.
const ITEM_HEADER: u32 = 8;

impl FrameIndex {
    /// How many frames can be addressed.
    #[must_use]
    pub fn frames(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Native(native) => native.frames,
            Self::Encapsulated(encapsulated) => encapsulated.frames,
        }
    }

    /// The index as the catalogue keeps it.
    #[must_use]
    pub fn store(&self) -> StoredFrames {
        let mut head = vec![VERSION];
        let mut blocks = Vec::new();
        match self {
            Self::None => head.push(KIND_NONE),
            Self::Native(native) => {
                head.push(KIND_NATIVE);
                for number in [native.position, native.length, native.frame_bits, u64::from(native.frames)] {
                    varint::put(&mut head, number);
                }
                head.extend([native.swap, u8::from(native.deflated)]);
            }
            Self::Encapsulated(all) if all.frames <= INLINE_FRAMES && all.packed.len() <= INLINE_BYTES => {
                head.push(KIND_INLINE);
                varint::put(&mut head, u64::from(all.frames));
                varint::put(&mut head, all.position);
                head.extend_from_slice(&all.packed);
            }
            Self::Encapsulated(all) => {
                head.push(KIND_BLOCKS);
                varint::put(&mut head, u64::from(all.frames));
                blocks = all.blocks();
            }
        }
        StoredFrames { head, blocks }
    }
}

impl EncapsulatedFrames {
    /// The frames one by one.
    pub fn iter(&self) -> impl Iterator<Item = EncapsulatedFrame> + '_ {
        let mut packed = &self.packed[..];
        let mut position = self.position;
        std::iter::from_fn(move || if packed.is_empty() { None } else { take_frame(&mut packed, &mut position).ok() })
    }

    /// Blocks of frames, each beginning with its position.
    fn blocks(&self) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        let mut rest = &self.packed[..];
        let mut position = self.position;
        while !rest.is_empty() {
            let mut block = Vec::new();
            varint::put(&mut block, position);
            let begin = rest;
            for _ in 0..FRAMES_PER_BLOCK {
                if rest.is_empty() || skip_frame(&mut rest, &mut position).is_err() {
                    break;
                }
            }
            block.extend_from_slice(&begin[..begin.len() - rest.len()]);
            blocks.push(block);
        }
        blocks
    }
}

/// Finds a frame, numbered from 1, by the head of a stored index.
pub fn locate(head: &[u8], number: u32) -> Result<Located, Corrupt> {
    let [VERSION, kind, rest @ ..] = head else { return Err(Corrupt) };
    let mut rest = rest;
    match *kind {
        KIND_NONE => Ok(Located::Beyond(0)),
        KIND_NATIVE => {
            let (position, length) = (take(&mut rest)?, take(&mut rest)?);
            let (frame_bits, frames) = (take(&mut rest)?, take_u32(&mut rest)?);
            let [swap, deflated] = *rest else { return Err(Corrupt) };
            let native = NativeFrames { position, length, frame_bits, frames, swap, deflated: deflated != 0 };
            native.locate(number)
        }
        KIND_INLINE => {
            let (frames, position) = (take_u32(&mut rest)?, take(&mut rest)?);
            if (1..=frames).contains(&number) {
                frame_at(rest, position, number - 1)
            } else {
                Ok(Located::Beyond(frames))
            }
        }
        KIND_BLOCKS => {
            let frames = take_u32(&mut rest)?;
            if (1..=frames).contains(&number) {
                Ok(Located::InBlock((number - 1) / FRAMES_PER_BLOCK))
            } else {
                Ok(Located::Beyond(frames))
            }
        }
        _ => Err(Corrupt),
    }
}

/// Finds a frame in its block; `number` is the frame's in the instance, from 1, as given to [`locate`].
pub fn find_in_block(block: &[u8], number: u32) -> Result<FrameExtent, Corrupt> {
    let mut rest = block;
    let position = take(&mut rest)?;
    match frame_at(rest, position, number.checked_sub(1).ok_or(Corrupt)? % FRAMES_PER_BLOCK)? {
        Located::Frame(extent) => Ok(extent),
        Located::InBlock(_) | Located::Beyond(_) => Err(Corrupt),
    }
}

/// A block of a stored index, walked once from its beginning to its end.
#[derive(Clone, Debug)]
pub struct FrameBlock {
    block: Vec<u8>,
    /// Where the next frame of the block begins in it.
    at: usize,
    /// And in the object.
    position: u64,
    /// Which it is, within the block from 0.
    next: u32,
}

impl FrameBlock {
    /// Opens a block.
    pub fn new(block: Vec<u8>) -> Result<Self, Corrupt> {
        let mut rest = &block[..];
        let position = take(&mut rest)?;
        let at = block.len() - rest.len();
        Ok(Self { block, at, position, next: 0 })
    }

    /// Finds a frame behind the ones asked for before; `number` is the frame's in the instance, as given to [`locate`].
    pub fn find(&mut self, number: u32) -> Result<FrameExtent, Corrupt> {
        let within = number.checked_sub(1).ok_or(Corrupt)? % FRAMES_PER_BLOCK;
        let skip = within.checked_sub(self.next).ok_or(Corrupt)?;
        let mut rest = self.block.get(self.at..).ok_or(Corrupt)?;
        for _ in 0..skip {
            skip_frame(&mut rest, &mut self.position)?;
        }
        let frame = take_frame(&mut rest, &mut self.position)?;
        self.at = self.block.len() - rest.len();
        self.next = within + 1;
        Ok(frame.into())
    }
}

impl From<EncapsulatedFrame> for FrameExtent {
    fn from(frame: EncapsulatedFrame) -> Self {
        let value: u64 = frame.fragments.iter().map(|length| u64::from(*length)).sum();
        let headers = (frame.fragments.len() as u64).saturating_sub(1) * u64::from(ITEM_HEADER);
        let shape = FrameShape::Encapsulated(frame.fragments);
        Self { position: frame.position, length: value + headers, shape }
    }
}

impl NativeFrames {
    /// Arithmetic: whole words around the bits of the frame.
    fn locate(&self, number: u32) -> Result<Located, Corrupt> {
        if !(1..=self.frames).contains(&number) {
            return Ok(Located::Beyond(self.frames));
        }
        let word = u64::from(self.swap.max(1));
        let unit = word * 8;
        let first = u64::from(number - 1).checked_mul(self.frame_bits).ok_or(Corrupt)?;
        let last = first.checked_add(self.frame_bits).ok_or(Corrupt)?;
        let start = first / unit * word;
        // the last word may be cut short by a value of odd length
        let end = (last.div_ceil(unit) * word).min(self.length);
        let length = end.checked_sub(start).filter(|length| *length > 0).ok_or(Corrupt)?;
        let shape = FrameShape::Native {
            first_bit: u8::try_from(first % unit).map_err(|_| Corrupt)?,
            bits: self.frame_bits,
            swap: self.swap,
            deflated: self.deflated,
        };
        Ok(Located::Frame(FrameExtent { position: self.position.checked_add(start).ok_or(Corrupt)?, length, shape }))
    }
}

impl FrameExtent {
    /// Bytes of the frame itself.
    #[must_use]
    pub fn frame_length(&self) -> u64 {
        match &self.shape {
            FrameShape::Native { bits, .. } => bits.div_ceil(8),
            FrameShape::Encapsulated(fragments) => fragments.iter().map(|&length| u64::from(length)).sum(),
        }
    }

    /// The range counts in the inflated data set.
    #[must_use]
    pub fn is_deflated(&self) -> bool {
        matches!(self.shape, FrameShape::Native { deflated: true, .. })
    }

    /// Makes the frame of the bytes that were read; nothing is copied when the frame is what was read.
    pub fn shape(&self, read: Bytes) -> Result<Bytes, Corrupt> {
        if read.len() as u64 != self.length {
            return Err(Corrupt);
        }
        match &self.shape {
            FrameShape::Native { first_bit, bits, swap, .. } => {
                native_frame(read, usize::from(*first_bit), *bits, *swap)
            }
            FrameShape::Encapsulated(fragments) => join(read, fragments),
        }
    }
}

fn native_frame(read: Bytes, first_bit: usize, bits: u64, swap: u8) -> Result<Bytes, Corrupt> {
    let bits = usize::try_from(bits).map_err(|_| Corrupt)?;
    let (skip, shift) = (first_bit / 8, first_bit % 8);
    let length = bits.div_ceil(8);
    if shift == 0 && swap <= 1 && bits % 8 == 0 {
        return if skip + length <= read.len() { Ok(read.slice(skip..skip + length)) } else { Err(Corrupt) };
    }
    let mut words = Vec::from(read);
    vr::swap(&mut words, swap);
    let source = words.get(skip..).ok_or(Corrupt)?;
    if source.len() * 8 < shift + bits {
        return Err(Corrupt);
    }
    let mut frame = Vec::with_capacity(length);
    for at in 0..length {
        // bits fill bytes from the least significant (PS3.5 8.1.1)
        let low = source[at] >> shift;
        let high = if shift == 0 { 0 } else { source.get(at + 1).map_or(0, |next| next << (8 - shift)) };
        frame.push(low | high);
    }
    if let (Some(last), used @ 1..) = (frame.last_mut(), bits % 8) {
        *last &= (1 << used) - 1;
    }
    Ok(frame.into())
}

/// Takes the item headers out from between the fragments.
fn join(read: Bytes, fragments: &[u32]) -> Result<Bytes, Corrupt> {
    if fragments.len() <= 1 {
        return Ok(read);
    }
    let mut frame = Vec::with_capacity(read.len());
    let mut at = 0_usize;
    for length in fragments {
        let end = at.checked_add(*length as usize).ok_or(Corrupt)?;
        frame.extend_from_slice(read.get(at..end).ok_or(Corrupt)?);
        at = end + ITEM_HEADER as usize;
    }
    Ok(frame.into())
}

/// The frame `skip` frames further on in a packed list.
fn frame_at(mut packed: &[u8], mut position: u64, skip: u32) -> Result<Located, Corrupt> {
    for _ in 0..skip {
        skip_frame(&mut packed, &mut position)?;
    }
    Ok(Located::Frame(take_frame(&mut packed, &mut position)?.into()))
}

fn take_frame(packed: &mut &[u8], position: &mut u64) -> Result<EncapsulatedFrame, Corrupt> {
    let mut frame = EncapsulatedFrame { position: *position, fragments: Vec::new() };
    loop {
        let (length, more) = take_fragment(packed, position)?;
        frame.fragments.push(length);
        if !more {
            return Ok(frame);
        }
    }
}

fn skip_frame(packed: &mut &[u8], position: &mut u64) -> Result<(), Corrupt> {
    while take_fragment(packed, position)?.1 {}
    Ok(())
}

/// The length of the next fragment and whether its frame goes on; `position` moves to the value of the one after it.
fn take_fragment(packed: &mut &[u8], position: &mut u64) -> Result<(u32, bool), Corrupt> {
    let number = take(packed)?;
    let length = u32::try_from(number >> 1).map_err(|_| Corrupt)?;
    *position = position.checked_add(u64::from(length) + u64::from(ITEM_HEADER)).ok_or(Corrupt)?;
    Ok((length, number & 1 == 1))
}

/// Takes a number off a stored index.
fn take(from: &mut &[u8]) -> Result<u64, Corrupt> {
    varint::take(from).ok_or(Corrupt)
}

fn take_u32(from: &mut &[u8]) -> Result<u32, Corrupt> {
    u32::try_from(take(from)?).map_err(|_| Corrupt)
}
