//! The memory that attributes of instances take while they are stored: one bound over all uploads.
//!
//! Files stream, but what a header holds stays until its rows are committed, and a deflated header of tens of megabytes
//! comes in as tens of kilobytes. Each upload has a small allowance of its own, so that ordinary headers never meet the
//! bound, whoever else fills it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on the bytes that all [`Share`]s hold beyond their allowance.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    used: AtomicUsize,
    most: usize,
    /// Bytes of each share that do not count.
    allowance: usize,
}

/// What one upload holds; given back when dropped.
#[derive(Debug)]
pub struct Share {
    memory: Memory,
    /// Bytes that count.
    counted: usize,
}

impl Memory {
    /// A bound of `most` bytes, and so many of each share that do not count.
    #[must_use]
    pub fn new(most: usize, allowance: usize) -> Self {
        Self(Arc::new(Inner { used: AtomicUsize::new(0), most, allowance }))
    }

    /// A share of nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { memory: self.clone(), counted: 0 }
    }
}

impl Share {
    /// Makes it a share of so many bytes; false, and the share as it was, when there is no room for them.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let Inner { used, most, allowance } = &*self.memory.0;
        let wanted = bytes.saturating_sub(*allowance);
        if wanted == self.counted {
            return true;
        }
        if wanted < self.counted {
            used.fetch_sub(self.counted - wanted, Ordering::Relaxed);
        } else {
            let more = wanted - self.counted;
            let room = |used: usize| used.checked_add(more).filter(|used| used <= most);
            if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
                return false;
            }
        }
        self.counted = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_stay_within_the_bound_and_give_back_what_they_held() {
        let memory = Memory::new(100, 10);
        let (mut one, mut other) = (memory.share(), memory.share());
        assert!(one.resize(70) && other.resize(50));
        assert!(!other.resize(51), "60 and 41 beyond the allowances");
        assert!(one.resize(20) && other.resize(100));
        assert!(!one.resize(21));
        drop(other);
        assert!(one.resize(110) && !one.resize(111));
        drop(one);
        assert_eq!(memory.0.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_allowance_is_there_even_when_the_bound_is_met() {
        let memory = Memory::new(0, 10);
        let mut share = memory.share();
        assert!(share.resize(10) && !share.resize(11) && share.resize(3));
    }
}
