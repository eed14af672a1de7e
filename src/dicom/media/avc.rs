//! H.264 and H.265: profile, level and picture format of the decoder configuration in an MP4 file, and the transfer syntax that
//! goes with them (ISO 14496-15 5.3.3, 8.3.3; ITU H.264 7.3.2.1, Annex A; PS3.5 8.2.7 to 8.2.11).

use super::bits::HighBits;
use super::error::MediaError;
use super::feed::Numbers;
use super::picture::Syntax;

const HIGH_41: Syntax = Syntax {
    uid: "1.2.840.10008.1.2.4.102",
    also: &[
        "1.2.840.10008.1.2.4.102.1",
        // whether a stream keeps the rules of Blu-ray discs, only its maker knows
        "1.2.840.10008.1.2.4.103",
        "1.2.840.10008.1.2.4.103.1",
        "1.2.840.10008.1.2.4.104",
        "1.2.840.10008.1.2.4.104.1",
        "1.2.840.10008.1.2.4.105",
        "1.2.840.10008.1.2.4.105.1",
    ],
};
const HIGH_42: Syntax = Syntax {
    uid: "1.2.840.10008.1.2.4.104",
    also: &["1.2.840.10008.1.2.4.104.1", "1.2.840.10008.1.2.4.105", "1.2.840.10008.1.2.4.105.1"],
};
const STEREO_42: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.106", also: &["1.2.840.10008.1.2.4.106.1"] };
const HEVC_MAIN: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.107", also: &["1.2.840.10008.1.2.4.108"] };
const HEVC_MAIN_10: Syntax = Syntax::only("1.2.840.10008.1.2.4.108");

/// What a decoder configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) syntax: Syntax,
    pub(super) method: &'static str,
    pub(super) bits: u16,
}

/// Reads an AVC decoder configuration record.
pub(super) fn h264(record: &[u8]) -> Result<Coded, MediaError> {
    let (profile, constraints, level) = (record.u8(1)?, record.u8(2)?, record.u8(3)?);
    let syntax = match (profile, level) {
        // a decoder of the High profile reads the Main profile, and streams that say that it may (H.264 A.2.4)
        (100 | 77, ..=41) => HIGH_41,
        (100 | 77, ..=42) => HIGH_42,
        (66 | 88, ..=42) if constraints & 0x40 != 0 => {
            if level <= 41 {
                HIGH_41
            } else {
                HIGH_42
            }
        }
        (128, ..=42) => STEREO_42,
        (66 | 77 | 88 | 100 | 128, 43..) => return Err(MediaError::NoSyntax("h.264 over level 4.2")),
        _ => return Err(MediaError::NoSyntax("this h.264 profile")),
    };
    // parameter sets may also come with the pictures
    if record.u8(5)? & 0x1F != 0 {
        let length = record.u16(6)?;
        let set = record.from(8)?.get(..length.into()).ok_or(MediaError::Malformed)?;
        if !is_plain(set).ok_or(MediaError::Malformed)? {
            return Err(MediaError::NoSyntax("h.264 other than 8 bits of 4:2:0"));
        }
    }
    Ok(Coded { syntax, method: "ISO_14496_10", bits: 8 })
}

/// Whether a sequence parameter set says 4:2:0 with 8 bits, as all but the high profiles do without saying.
fn is_plain(set: &[u8]) -> Option<bool> {
    let payload = unescape(set.get(1..)?);
    let mut bits = HighBits::new(&payload);
    let profile = bits.take(8)?;
    bits.take(16)?;
    bits.golomb()?;
    if !matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        return Some(true);
    }
    let format = bits.golomb()?;
    if format == 3 {
        bits.bit()?;
    }
    let depths = [bits.golomb()?, bits.golomb()?];
    Some(format == 1 && depths == [0, 0])
}

/// Takes out the bytes that keep start codes away (H.264 7.4.1). Sets are short: only the begin is wanted.
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let mut out = Vec::with_capacity(bytes.len().min(64));
    for &byte in bytes.iter().take(64) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Reads an HEVC decoder configuration record.
pub(super) fn h265(record: &[u8]) -> Result<Coded, MediaError> {
    let profile = record.u8(1)? & 0x1F;
    let compatible = |profile: u32| record.u32(2).map(|flags| flags >> (31 - profile) & 1 == 1);
    let (main, main_10) = (profile == 1 || compatible(1)?, profile == 2 || compatible(2)?);
    // 30 times the number of the level
    if record.u8(12)? > 153 {
        return Err(MediaError::NoSyntax("h.265 over level 5.1"));
    }
    let format = record.u8(16)? & 3;
    let depths = [record.u8(17)? & 7, record.u8(18)? & 7];
    let (syntax, bits) = match depths {
        [0, 0] if main => (HEVC_MAIN, 8),
        [0, 0] if main_10 => (HEVC_MAIN_10, 8),
        [luma @ 0..=2, 0..=2] if main_10 => (HEVC_MAIN_10, 8 + u16::from(luma)),
        _ => return Err(MediaError::NoSyntax("this h.265 profile")),
    };
    if format != 1 {
        return Err(MediaError::NoSyntax("h.265 other than 4:2:0"));
    }
    Ok(Coded { syntax, method: "ISO_23008_2", bits })
}
