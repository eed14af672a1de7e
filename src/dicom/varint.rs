//! Numbers of few bytes in the stored indices: groups of seven bits, the least significant first, all but the last marked (LEB128).

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes a number off the beginning; `None` where there is none, or one of more than 64 bits.
pub(super) fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7F);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{put, take};

    #[test]
    fn numbers_that_are_cut_or_too_wide_are_refused() {
        let widest = [&[0xFF; 9][..], &[1]].concat();
        assert_eq!(take(&mut &widest[..]), Some(u64::MAX));
        for bytes in [&[][..], &[0x80], &widest[..9], &[&[0xFF; 9][..], &[2]].concat(), &[0x80; 11]] {
            assert_eq!(take(&mut &bytes[..]), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_comes_back_and_what_follows_it_stays(number in any::<u64>(), shift in 0..64, rest in any::<Vec<u8>>()) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!(bytes.len(), (64 - number.leading_zeros()).max(1).div_ceil(7) as usize);
            bytes.extend_from_slice(&rest);
            let mut left = &bytes[..];
            assert_eq!(take(&mut left), Some(number));
            assert_eq!(left, rest);
        }
    }
}
