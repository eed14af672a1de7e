//! BLAKE3 of a stream. The function hashes many kilobytes at once if they begin at a multiple of as many, and takes up to
//! twice as long over pieces as they come from a socket, so those are cut anew.

/// Bytes that are hashed together: what the widest vector instructions take.
const BLOCK: usize = 16 << 10;

/// The digest of what came so far.
pub(super) struct Digest {
    hasher: blake3::Hasher,
    /// The beginning of a block.
    held: Vec<u8>,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), held: Vec::new() }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, mut piece: &[u8]) {
        if !self.held.is_empty() {
            let (end, rest) = piece.split_at(piece.len().min(BLOCK.saturating_sub(self.held.len())));
            self.held.extend_from_slice(end);
            if self.held.len() < BLOCK {
                return;
            }
            self.hasher.update(&self.held);
            self.held.clear();
            piece = rest;
        }
        let (blocks, rest) = piece.split_at(piece.len() - piece.len() % BLOCK);
        self.hasher.update(blocks);
        self.held.extend_from_slice(rest);
    }

    /// The digest of all of it.
    pub(super) fn finish(mut self) -> [u8; 32] {
        *self.hasher.update(&self.held).finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(sizes in proptest::collection::vec(0..3 * BLOCK, 0..8)) {
            let bytes: Vec<u8> = (0..sizes.iter().sum()).map(|number: usize| number.to_le_bytes()[0]).collect();
            let (mut digest, mut rest) = (Digest::new(), bytes.as_slice());
            for size in sizes {
                let (piece, after) = rest.split_at(size);
                digest.update(piece);
                rest = after;
            }
            prop_assert_eq!(digest.finish(), *blake3::hash(&bytes).as_bytes());
        }
    }
}
