//! Bytes of a stream that wait until it is known what becomes of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces under this size are copied together: a list of tiny ones takes many times the memory of their bytes.
const SMALL: usize = 4 << 10;
/// Where copying together ends.
const BLOCK: usize = 64 << 10;

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    whole: VecDeque<Bytes>,
    /// What came after those.
    tail: BytesMut,
    length: usize,
}

impl Held {
    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds bytes at the end.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.length = self.length.saturating_add(chunk.len());
        if chunk.len() < SMALL {
            self.tail.extend_from_slice(&chunk);
            if self.tail.len() >= BLOCK {
                self.end_tail();
            }
        } else {
            self.end_tail();
            self.whole.push_back(chunk);
        }
    }

    /// Takes up to `most` bytes off the front; none when there are none.
    pub(super) fn take(&mut self, most: usize) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.end_tail();
        }
        let first = self.whole.front_mut()?;
        let taken = first.split_to(most.min(first.len()));
        if first.is_empty() {
            self.whole.pop_front();
        }
        self.length = self.length.saturating_sub(taken.len());
        Some(taken)
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.whole.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_in_the_order_in_which_they_came(
            lengths in vec(0_usize..10_000, 0..40),
            most in 1_usize..20_000,
        ) {
            let mut held = Held::default();
            let mut expected = Vec::new();
            for (length, byte) in lengths.iter().zip(0..) {
                expected.extend(vec![byte; *length]);
                held.push(Bytes::from(vec![byte; *length]));
            }
            prop_assert_eq!(held.len(), expected.len());
            let mut found = Vec::new();
            while let Some(piece) = held.take(most) {
                prop_assert!(!piece.is_empty() && piece.len() <= most);
                found.extend_from_slice(&piece);
                prop_assert_eq!(held.len(), expected.len() - found.len());
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn tiny_pieces_are_few_blocks() {
        let mut held = Held::default();
        (0..300_000_usize).for_each(|_| held.push(Bytes::from_static(b"x")));
        assert_eq!((held.whole.len(), held.len()), (4, 300_000));
    }
}
