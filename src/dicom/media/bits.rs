//! Bits in both orders: most significant first with Exp-Golomb codes (H.264 and H.265), least significant first (JPEG XL).

/// Most significant bit first.
#[derive(Debug)]
pub(super) struct HighBits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> HighBits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at = self.at.checked_add(1)?;
        Some(bit == 1)
    }

    /// At most 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        (0..count.min(32)).try_fold(0_u32, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    /// An unsigned Exp-Golomb code (ITU H.264 9.1).
    pub(super) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0_u32;
        while !self.bit()? {
            zeros = zeros.checked_add(1).filter(|zeros| *zeros < 32)?;
        }
        let rest = self.take(zeros)?;
        Some((1_u32 << zeros).wrapping_sub(1).wrapping_add(rest))
    }
}

/// Least significant bit first (ISO 18181-1 Annex B).
#[derive(Debug)]
pub(super) struct LowBits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> LowBits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at = self.at.checked_add(1)?;
        Some(bit == 1)
    }

    /// At most 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        (0..count.min(32)).try_fold(0_u32, |value, place| Some(value | u32::from(self.bit()?) << place))
    }

    /// One of four: an offset and a number of bits.
    pub(super) fn choice(&mut self, choices: [(u32, u32); 4]) -> Option<u32> {
        let (offset, bits) = *choices.get(usize::try_from(self.take(2)?).ok()?)?;
        offset.checked_add(self.take(bits)?)
    }

    /// A number of an enumeration.
    pub(super) fn enumerated(&mut self) -> Option<u32> {
        self.choice([(0, 0), (1, 0), (2, 4), (18, 6)])
    }

    /// Goes on at the next whole byte.
    pub(super) fn align(&mut self) {
        self.at = self.at.div_ceil(8).saturating_mul(8);
    }
}
