//! The headers of a JPEG XL code stream: size, image metadata, the begin of the first frame (ISO 18181-1 Annexes A to F).

use super::bits::LowBits;
use super::error::MediaError;

/// What the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) bits: u32,
    pub(super) grey: bool,
    /// Colours are in the XYB space, which is lossy.
    pub(super) xyb: bool,
    /// How the first frame is coded; `None` behind a colour profile, which is compressed itself.
    pub(super) frame: Option<FrameCoding>,
}

/// How a frame is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameCoding {
    /// Without transform: the values themselves.
    Modular,
    /// With the cosine transforms that JPEG has too.
    VarDct,
}

/// Reads the headers that follow the two bytes of the signature; `None` where they end too early.
pub(super) fn read(bytes: &[u8]) -> Option<Result<Header, MediaError>> {
    let mut bits = LowBits::new(bytes);
    let (rows, columns) = size(&mut bits)?;
    let mut metadata = match metadata(&mut bits)? {
        Ok(metadata) => metadata,
        Err(error) => return Some(Err(error)),
    };
    let plain = bits.bit()?;
    if metadata.followed && plain {
        bits.align();
        metadata.frame = Some(frame(&mut bits)?);
    }
    let Metadata { bits, grey, xyb, frame, .. } = metadata;
    Some(Ok(Header { rows, columns, bits, grey, xyb, frame }))
}

#[derive(Debug)]
struct Metadata {
    bits: u32,
    grey: bool,
    xyb: bool,
    frame: Option<FrameCoding>,
    /// The first frame follows directly.
    followed: bool,
}

fn size(bits: &mut LowBits) -> Option<(u32, u32)> {
    let small = bits.bit()?;
    let rows = length(bits, small)?;
    let columns = match bits.take(3)? {
        0 => length(bits, small)?,
        ratio => {
            let (wide, high) = [(1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)]
                .get(usize::try_from(ratio).ok()?.checked_sub(1)?)
                .copied()?;
            u32::try_from(u64::from(rows) * wide / high).ok()?
        }
    };
    Some((rows, columns))
}

fn length(bits: &mut LowBits, small: bool) -> Option<u32> {
    if small { Some((bits.take(5)? + 1) * 8) } else { bits.choice([(1, 9), (1, 13), (1, 18), (1, 30)]) }
}

fn metadata(bits: &mut LowBits) -> Option<Result<Metadata, MediaError>> {
    let mut found = Metadata { bits: 8, grey: false, xyb: true, frame: None, followed: true };
    if bits.bit()? {
        return Some(Ok(found));
    }
    let extra = bits.bit()?;
    if extra {
        if bits.take(3)? != 0 {
            return Some(Err(MediaError::NoPlace("an orientation")));
        }
        if bits.bit()? {
            size(bits)?;
        }
        let [preview, animation] = [bits.bit()?, bits.bit()?];
        if preview || animation {
            return Some(Err(MediaError::NoPlace("an animation or preview")));
        }
    }
    if bits.bit()? {
        return Some(Err(MediaError::NoPlace("floating point samples")));
    }
    found.bits = bits.choice([(8, 0), (10, 0), (12, 0), (1, 6)])?;
    bits.bit()?;
    if bits.choice([(0, 0), (1, 0), (2, 4), (1, 12)])? != 0 {
        return Some(Err(MediaError::NoPlace("an alpha channel")));
    }
    found.xyb = bits.bit()?;
    let profile = colours(bits, &mut found)?;
    if extra && !bits.bit()? {
        // tone mapping: four numbers of 16, 16, 1, 16 bits
        bits.take(32)?;
        bits.take(17)?;
    }
    let extensions = bits.choice([(0, 0), (1, 4), (17, 8), (0, 32)])?;
    found.followed = !profile && extensions == 0;
    Some(Ok(found))
}

/// The colour encoding; whether a compressed profile follows.
fn colours(bits: &mut LowBits, found: &mut Metadata) -> Option<bool> {
    if bits.bit()? {
        return Some(false);
    }
    let profile = bits.bit()?;
    let space = bits.enumerated()?;
    found.grey = space == 1;
    if profile {
        return Some(true);
    }
    const CUSTOM: u32 = 2;
    if space != 2 {
        if bits.enumerated()? == CUSTOM {
            chromaticity(bits)?;
        }
        if space != 1 && bits.enumerated()? == CUSTOM {
            for _ in 0..3 {
                chromaticity(bits)?;
            }
        }
        if bits.bit()? {
            bits.take(24)?;
        } else {
            bits.enumerated()?;
        }
    }
    bits.enumerated()?;
    Some(false)
}

fn chromaticity(bits: &mut LowBits) -> Option<()> {
    for _ in 0..2 {
        bits.choice([(0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21)])?;
    }
    Some(())
}

fn frame(bits: &mut LowBits) -> Option<FrameCoding> {
    if bits.bit()? {
        return Some(FrameCoding::VarDct);
    }
    bits.take(2)?;
    Some(if bits.bit()? { FrameCoding::Modular } else { FrameCoding::VarDct })
}
