//! The JPEG 2000 code stream, with or without the high-throughput block coder: main and tile-part headers
//! (ITU T.800 Annex A, T.814; PS3.5 8.2.4, 8.2.14, A.4.4, A.4.11).

use super::Content;
use super::error::MediaError;
use super::feed::{Numbers, Step};
use super::picture::{Colour, Loss, Picture, Syntax, size};

const LOSSLESS: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.90", also: &["1.2.840.10008.1.2.4.91"] };
const LOSSY: Syntax = Syntax::only("1.2.840.10008.1.2.4.91");
const HT_LOSSLESS: Syntax = Syntax { uid: "1.2.840.10008.1.2.4.201", also: &["1.2.840.10008.1.2.4.203"] };
const HT_RPCL: Syntax =
    Syntax { uid: "1.2.840.10008.1.2.4.202", also: &["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.203"] };
/// In the order of resolutions, but without the lengths or levels that are asked for: its maker may call it so.
const HT_RESOLUTIONS: Syntax =
    Syntax { uid: "1.2.840.10008.1.2.4.201", also: &["1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"] };
const HT_LOSSY: Syntax = Syntax::only("1.2.840.10008.1.2.4.203");

const SOC: u16 = 0xFF4F;
const CAP: u16 = 0xFF50;
const SIZ: u16 = 0xFF51;
const COD: u16 = 0xFF52;
const COC: u16 = 0xFF53;
const TLM: u16 = 0xFF55;
const QCD: u16 = 0xFF5C;
const QCC: u16 = 0xFF5D;
const POC: u16 = 0xFF5F;
const SOT: u16 = 0xFF90;
const SOD: u16 = 0xFF93;
const EOC: u16 = 0xFFD9;

/// The progression by resolution, position, component, layer.
const RPCL: u8 = 2;

/// Follows the markers of one code stream.
#[derive(Debug, Default)]
pub(super) struct Codestream {
    begun: bool,
    shape: Option<Shape>,
    coding: Option<Coding>,
    quantised: bool,
    has_quantisation: bool,
    high_throughput: bool,
    lengths_of_tiles: bool,
    progression_changes: bool,
    /// The tile part whose header is read.
    tile: Option<TilePart>,
    tiles: bool,
    /// The last two bytes of a last tile part without a length.
    tail: [u8; 2],
    open: bool,
    /// Position after the end marker.
    end: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum TilePart {
    /// Up to this position.
    Until(u64),
    /// Up to the end marker of the code stream.
    Open,
}

#[derive(Debug)]
struct Shape {
    rows: u64,
    columns: u64,
    components: u16,
    bits: u8,
    signed: bool,
}

#[derive(Debug)]
struct Coding {
    progression: u8,
    components_transformed: bool,
    levels: u8,
    reversible: bool,
}

impl Codestream {
    /// The next marker; a window of two bytes at least. `Rest` after the end marker.
    pub(super) fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError> {
        let marker = window.u16(0)?;
        if !self.begun {
            self.begun = marker == SOC;
            return if self.begun { Ok(Step::Skip { bytes: 2, look: 2 }) } else { Err(MediaError::Not("jpeg 2000")) };
        }
        match marker {
            EOC => {
                self.end = Some(at.saturating_add(2));
                return Ok(Step::Rest);
            }
            SOD => return self.data(at),
            _ => {}
        }
        if window.len() < 4 {
            return Ok(Step::Look(4));
        }
        let length = usize::from(window.u16(2)?);
        let known = matches!(marker, SIZ | CAP | COD | COC | QCD | QCC | SOT);
        let whole = length.saturating_add(2);
        match (marker >> 8, length) {
            (0xFF, 2..) if known && window.len() < whole => return Ok(Step::Look(whole)),
            (0xFF, 2..) => {}
            _ => return Err(MediaError::Malformed),
        }
        self.segment(marker, window, at)?;
        Ok(Step::Skip { bytes: whole as u64, look: 2 })
    }

    fn segment(&mut self, marker: u16, window: &[u8], at: u64) -> Result<(), MediaError> {
        if self.shape.is_none() && marker != SIZ {
            return Err(MediaError::Malformed);
        }
        match marker {
            SIZ => self.shape(window)?,
            // the fifteenth part of the standard says that blocks are coded its way (T.814 A.3)
            CAP => self.high_throughput |= window.u32(4)? & 0x0002_0000 != 0,
            COD => self.coding(window)?,
            COC => {
                let width = self.component_width();
                let transform = window.u8(4_usize.saturating_add(width).saturating_add(5))?;
                if let Some(coding) = &mut self.coding {
                    coding.reversible &= transform == 1;
                }
            }
            QCD => self.quantisation(window.u8(4)?),
            QCC => self.quantisation(window.u8(4_usize.saturating_add(self.component_width()))?),
            TLM => self.lengths_of_tiles = true,
            POC => self.progression_changes = true,
            SOT => {
                let length = window.u32(6)?;
                self.tiles = true;
                self.tile = Some(match length {
                    0 => TilePart::Open,
                    1..14 => return Err(MediaError::Malformed),
                    _ => TilePart::Until(at.saturating_add(length.into())),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Width of a component index in COC and QCC.
    fn component_width(&self) -> usize {
        if self.shape.as_ref().is_some_and(|shape| shape.components > 256) { 2 } else { 1 }
    }

    fn shape(&mut self, window: &[u8]) -> Result<(), MediaError> {
        if self.shape.is_some() {
            return Err(MediaError::Malformed);
        }
        if window.u16(4)? & 0x8000 != 0 {
            return Err(MediaError::NoPlace("jpeg 2000 part 2 extensions"));
        }
        let side = |end, begin| Ok(u64::from(window.u32(end)?.saturating_sub(window.u32(begin)?)));
        let components = window.u16(38)?;
        let listed = window.from(40)?.chunks_exact(3).take(components.into());
        let Some(first) = listed.clone().next().filter(|_| listed.len() == usize::from(components)) else {
            return Err(MediaError::Malformed);
        };
        if listed.clone().any(|component| component.get(1..) != Some(&[1, 1])) {
            return Err(MediaError::NoPlace("subsampled components"));
        }
        if listed.clone().any(|component| component != first) {
            return Err(MediaError::NoPlace("components of different depth"));
        }
        let depth = first.u8(0)?;
        let bits = (depth & 0x7F).saturating_add(1);
        if bits > 38 {
            return Err(MediaError::Malformed);
        }
        let (columns, rows) = (side(6, 14)?, side(10, 18)?);
        self.shape = Some(Shape { rows, columns, components, bits, signed: depth & 0x80 != 0 });
        Ok(())
    }

    fn coding(&mut self, window: &[u8]) -> Result<(), MediaError> {
        let reversible = window.u8(13)? == 1;
        self.high_throughput |= window.u8(12)? & 0x40 != 0;
        match &mut self.coding {
            // that of a tile
            Some(coding) => {
                coding.reversible &= reversible;
                self.progression_changes |= coding.progression != window.u8(5)?;
            }
            None => {
                self.coding = Some(Coding {
                    progression: window.u8(5)?,
                    components_transformed: window.u8(8)? != 0,
                    levels: window.u8(9)?,
                    reversible,
                });
            }
        }
        Ok(())
    }

    fn quantisation(&mut self, style: u8) {
        self.has_quantisation = true;
        self.quantised |= style & 0x1F != 0;
    }

    /// Passes over the data of a tile part.
    fn data(&mut self, at: u64) -> Result<Step, MediaError> {
        match self.tile.take().ok_or(MediaError::Malformed)? {
            TilePart::Until(end) => {
                let bytes = end.checked_sub(at).filter(|bytes| *bytes >= 2).ok_or(MediaError::Malformed)?;
                Ok(Step::Skip { bytes, look: 2 })
            }
            TilePart::Open => {
                self.open = true;
                Ok(Step::Pass { bytes: u64::MAX, look: 2 })
            }
        }
    }

    /// Bytes of a last tile part without a length.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        match bytes {
            [] => {}
            [only] => self.tail = [self.tail[1], *only],
            [.., before, last] => self.tail = [*before, *last],
        }
    }

    /// The last tile part had no length: nothing is read after it.
    pub(super) fn is_passed(&self) -> bool {
        self.open
    }

    /// Position after the end marker, where the stream is whole; `limit` is where the wrapper or the part ends.
    pub(super) fn end(&self, limit: u64) -> Option<u64> {
        if self.open { (self.tail == EOC.to_be_bytes()).then_some(limit) } else { self.end.filter(|end| *end <= limit) }
    }

    pub(super) fn describe(&self, colours: Wrapper, length: u64) -> Result<(Syntax, Content), MediaError> {
        let (Some(shape), Some(coding), true, true) = (&self.shape, &self.coding, self.has_quantisation, self.tiles)
        else {
            return Err(MediaError::Malformed);
        };
        let reversible = coding.reversible && !self.quantised;
        let (rows, columns) = size(shape.rows, shape.columns)?;
        let colour = match (shape.components, coding.components_transformed, colours) {
            (1, ..) => Colour::GREY,
            (3, true, _) if coding.reversible => Colour::certain("YBR_RCT"),
            (3, true, _) => Colour::certain("YBR_ICT"),
            (3, false, Wrapper::Ycc) => Colour::certain("YBR_FULL"),
            (3, false, Wrapper::Rgb) => Colour::certain("RGB"),
            (3, false, Wrapper::Untold) => Colour::RGB,
            (2 | 4, ..) => return Err(MediaError::NoPlace("an alpha channel")),
            _ => return Err(MediaError::NoPlace("this number of components")),
        };
        let method = if self.high_throughput { "ISO_15444_15" } else { "ISO_15444_1" };
        let picture = Picture {
            size: Some((rows, columns)),
            samples: Some(shape.components),
            bits: Some(shape.bits.into()),
            segments: 0,
            signed: shape.signed,
            colour,
            loss: (!reversible).then_some(Loss { method }),
            length,
        };
        let syntax = match (self.high_throughput, reversible) {
            (false, true) => LOSSLESS,
            (false, false) => LOSSY,
            (true, false) => HT_LOSSY,
            (true, true) if self.is_progressive(coding, rows.max(columns)) => HT_RPCL,
            (true, true) if coding.progression == RPCL => HT_RESOLUTIONS,
            (true, true) => HT_LOSSLESS,
        };
        Ok((syntax, Content::Image(picture)))
    }

    /// Whether the stream keeps what HTJ2K Lossless RPCL asks for
    /// ([PS3.5 10.18](https://dicom.nema.org/medical/dicom/current/output/chtml/part05/sect_10.18.html)).
    fn is_progressive(&self, coding: &Coding, longest: u16) -> bool {
        let smallest = u32::from(longest).div_ceil(1_u32.checked_shl(coding.levels.into()).unwrap_or(u32::MAX));
        coding.progression == RPCL && !self.progression_changes && self.lengths_of_tiles && smallest <= 64
    }
}

/// What the wrapper says of the colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wrapper {
    #[default]
    Untold,
    Rgb,
    Ycc,
}
