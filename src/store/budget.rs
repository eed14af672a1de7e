//! The memory of all uploads together: one budget of bytes, and the list of pieces that is counted by it.
//!
//! Half of the budget may be *kept*: bytes that wait for more of their object before they are worth a write. Keeping never
//! waits; an upload that gets no share writes out at once what it has. The other half is for bytes that *move*: they
//! are on their way to the disk or the network and are given back when that ends. Only this half is waited for, and
//! whoever holds a part of it never waits for more, so uploads cannot block each other, and a hundred idle clients that
//! hold half an object each cannot take the half that moves.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pieces under this size are copied together: many tiny ones would cost more in bookkeeping than in bytes.
const SMALL_PIECE: usize = 4 << 10;
/// Where copying together ends.
const TAIL: usize = 64 << 10;

/// Bytes of all uploads that may be in memory.
#[derive(Clone, Debug)]
pub struct Budget {
    kept: Arc<Semaphore>,
    moving: Arc<Semaphore>,
    keepable: usize,
    movable: usize,
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Budget {
    /// A budget of `bytes`, of which at least `largest` can move at once.
    #[must_use]
    pub fn new(bytes: u64, largest: usize) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(u32::MAX as usize);
        let movable = (bytes / 2).max(largest).min(u32::MAX as usize);
        let keepable = bytes.saturating_sub(movable);
        Self { kept: Arc::new(Semaphore::new(keepable)), moving: Arc::new(Semaphore::new(movable)), keepable, movable }
    }

    /// A share for bytes that wait for more of their object, if one is free.
    #[must_use]
    pub fn try_keep(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.kept).try_acquire_many_owned(bytes).ok().map(Share)
    }

    /// A share for bytes that are written right away; waits for it. The caller must hold no other share of this kind.
    pub async fn moving(&self, bytes: usize) -> Share {
        let bytes = u32::try_from(bytes.min(self.movable)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.moving).acquire_many_owned(bytes).await;
        Share(permit.expect("the semaphore is never closed"))
    }

    /// The most that can move at once.
    #[must_use]
    pub fn most_moving(&self) -> usize {
        self.movable
    }

    /// Whether less than half of what may be kept is.
    #[must_use]
    pub fn is_roomy(&self) -> bool {
        self.kept.available_permits() > self.keepable / 2
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        let free = self.kept.available_permits() + self.moving.available_permits();
        (self.keepable + self.movable).saturating_sub(free) as u64
    }
}

/// Bytes of one object in the order of arrival, with the shares of the budget that they use.
#[derive(Debug, Default)]
pub struct Pieces {
    whole: Vec<Bytes>,
    tail: BytesMut,
    length: usize,
    share: Vec<Share>,
}

impl Pieces {
    /// Adds bytes and the share that counts them.
    pub fn push(&mut self, piece: Bytes, share: Share) {
        self.length = self.length.saturating_add(piece.len());
        match self.share.last_mut() {
            Some(last) if Arc::ptr_eq(last.0.semaphore(), share.0.semaphore()) => last.0.merge(share.0),
            _ => self.share.push(share),
        }
        if piece.len() < SMALL_PIECE {
            self.tail.extend_from_slice(&piece);
            if self.tail.len() >= TAIL {
                self.whole.push(self.tail.split().freeze());
            }
        } else {
            if !self.tail.is_empty() {
                self.whole.push(self.tail.split().freeze());
            }
            self.whole.push(piece);
        }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces and the shares, which must live as long as the pieces.
    #[must_use]
    pub fn into_parts(mut self) -> (Vec<Bytes>, Vec<Share>) {
        if !self.tail.is_empty() {
            self.whole.push(self.tail.split().freeze());
        }
        (self.whole, self.share)
    }

    /// Writes all of it in as few calls as possible.
    pub fn write_to(self, file: &mut impl Write) -> io::Result<()> {
        /// What one call takes on Linux (`IOV_MAX`).
        const SLICES: usize = 1024;
        let (pieces, _share) = self.into_parts();
        let mut left: VecDeque<Bytes> = pieces.into();
        while !left.is_empty() {
            let slices: Vec<IoSlice<'_>> = left.iter().take(SLICES).map(|piece| IoSlice::new(piece)).collect();
            let mut written = match file.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while let Some(first) = left.front_mut() {
                if first.len() > written {
                    let _ = first.split_to(written);
                    break;
                }
                written -= first.len();
                left.pop_front();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let budget = Budget::new(1 << 20, 1 << 10);
        let mut pieces = Pieces::default();
        let mut expected = Vec::new();
        for (index, size) in [1usize, 10, 5000, 0, 3, 70_000, 4095, 4096, 2].into_iter().enumerate() {
            let piece = vec![u8::try_from(index).unwrap(); size];
            expected.extend_from_slice(&piece);
            pieces.push(piece.into(), budget.try_keep(size).unwrap());
        }
        assert_eq!(pieces.len(), expected.len());
        assert_eq!(budget.held(), expected.len() as u64);
        let mut written = Vec::new();
        pieces.write_to(&mut written).unwrap();
        assert_eq!(written, expected);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_is_kept_leaves_room_for_what_moves() {
        let budget = Budget::new(100, 10);
        let kept = budget.try_keep(50).unwrap();
        assert!(budget.try_keep(1).is_none());
        assert!(!budget.is_roomy());
        let moving = futures_util::FutureExt::now_or_never(budget.moving(50)).expect("the other half is free");
        assert_eq!(budget.held(), 100);
        assert!(futures_util::FutureExt::now_or_never(budget.moving(1)).is_none());
        drop((kept, moving));
        assert_eq!(budget.held(), 0);
    }
}
