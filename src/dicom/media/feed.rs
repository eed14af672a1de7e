//! From pieces of any size to the windows that a scanner asks for, so that a result never depends on how bytes arrived.

use super::error::MediaError;

/// Longest window that a scanner may ask for.
pub(super) const WINDOW_LIMIT: usize = 65_537;

/// Reads one format.
pub(super) trait Scan {
    /// Looks at a window of exactly as many bytes as were asked for, at position `at` of the part.
    fn step(&mut self, at: u64, window: &[u8]) -> Result<Step, MediaError>;

    /// Takes bytes that [`Step::Pass`] announced, in pieces of any size.
    fn pass(&mut self, _bytes: &[u8]) {}
}

/// What a scanner wants next; `look` is the length of the window after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A longer window at the same place.
    Look(usize),
    /// Passing over bytes.
    Skip { bytes: u64, look: usize },
    /// Passing over bytes, then on to the next 0xFF.
    Mark { bytes: u64, look: usize },
    /// Bytes are handed to `pass`.
    Pass { bytes: u64, look: usize },
    /// Nothing more.
    Rest,
}

/// How the bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// How many there were.
    pub(super) total: u64,
    /// Bytes that were to be passed over did not come.
    pub(super) short: bool,
}

/// Holds the begin of a window until the rest of it has come.
#[derive(Debug)]
pub(super) struct Feed {
    held: Vec<u8>,
    /// Position of the window.
    at: u64,
    total: u64,
    next: Next,
    look: usize,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Window,
    Skip(u64),
    Pass(u64),
    SkipToMark(u64),
    Mark,
    Rest,
}

impl Feed {
    pub(super) fn new(look: usize) -> Self {
        Self { held: Vec::new(), at: 0, total: 0, next: Next::Window, look }
    }

    pub(super) fn end(&self) -> End {
        let short = matches!(self.next, Next::Skip(_) | Next::Pass(_) | Next::SkipToMark(_) | Next::Mark);
        End { total: self.total, short }
    }

    /// Hands bytes to the scanner.
    pub(super) fn push(&mut self, scan: &mut dyn Scan, bytes: &[u8]) -> Result<(), MediaError> {
        self.total = self.total.saturating_add(bytes.len() as u64);
        self.take(scan, bytes)
    }

    fn take(&mut self, scan: &mut dyn Scan, mut bytes: &[u8]) -> Result<(), MediaError> {
        while !bytes.is_empty() {
            bytes = match self.next {
                Next::Rest => return Ok(()),
                Next::Window if self.held.is_empty() && bytes.len() >= self.look => {
                    let window = bytes.get(..self.look).unwrap_or_default();
                    let step = scan.step(self.at, window)?;
                    self.go(step, window.len())?;
                    bytes
                }
                Next::Window => self.hold(scan, bytes)?,
                Next::Skip(count) => {
                    let (_, rest, left) = self.advance(bytes, count);
                    self.next = if left == 0 { Next::Window } else { Next::Skip(left) };
                    rest
                }
                Next::Pass(count) => {
                    let (passed, rest, left) = self.advance(bytes, count);
                    scan.pass(passed);
                    self.next = if left == 0 { Next::Window } else { Next::Pass(left) };
                    rest
                }
                Next::SkipToMark(count) => {
                    let (_, rest, left) = self.advance(bytes, count);
                    self.next = if left == 0 { Next::Mark } else { Next::SkipToMark(left) };
                    rest
                }
                Next::Mark => {
                    let found = memchr::memchr(0xFF, bytes);
                    let (_, rest, _) = self.advance(bytes, found.unwrap_or(bytes.len()) as u64);
                    if found.is_some() {
                        self.next = Next::Window;
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    /// Fills the held window; once it is whole, the scanner sees it and what it leaves is read again.
    fn hold<'a>(&mut self, scan: &mut dyn Scan, bytes: &'a [u8]) -> Result<&'a [u8], MediaError> {
        let missing = self.look.saturating_sub(self.held.len()).min(bytes.len());
        let (now, rest) = bytes.split_at(missing);
        self.held.extend_from_slice(now);
        if self.held.len() >= self.look {
            let step = scan.step(self.at, &self.held)?;
            self.go(step, self.held.len())?;
            if !matches!(self.next, Next::Window) {
                let held = std::mem::take(&mut self.held);
                self.take(scan, &held)?;
            }
        }
        Ok(rest)
    }

    /// Splits off as many bytes as are wanted and there; the third is how many are still wanted.
    fn advance<'a>(&mut self, bytes: &'a [u8], wanted: u64) -> (&'a [u8], &'a [u8], u64) {
        let here = usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes.len());
        self.at = self.at.saturating_add(here as u64);
        let (now, rest) = bytes.split_at(here);
        (now, rest, wanted.saturating_sub(here as u64))
    }

    fn go(&mut self, step: Step, seen: usize) -> Result<(), MediaError> {
        let (next, look) = match step {
            Step::Look(look) | Step::Skip { bytes: 0, look } if look > seen => (Next::Window, look),
            // a window that does not grow would be looked at for ever
            Step::Look(_) | Step::Skip { bytes: 0, .. } | Step::Mark { bytes: 0, .. } | Step::Pass { bytes: 0, .. } => {
                return Err(MediaError::Malformed);
            }
            Step::Skip { bytes, look } => (Next::Skip(bytes), look),
            Step::Mark { bytes, look } => (Next::SkipToMark(bytes), look),
            Step::Pass { bytes, look } => (Next::Pass(bytes), look),
            Step::Rest => {
                self.held = Vec::new();
                (Next::Rest, 1)
            }
        };
        if look > WINDOW_LIMIT || look == 0 {
            return Err(MediaError::Limit);
        }
        (self.next, self.look) = (next, look);
        Ok(())
    }
}

/// Big-endian numbers of a window, all of which may be missing.
pub(super) trait Numbers {
    fn u8(&self, at: usize) -> Result<u8, MediaError>;
    fn u16(&self, at: usize) -> Result<u16, MediaError>;
    fn u32(&self, at: usize) -> Result<u32, MediaError>;
    fn u64(&self, at: usize) -> Result<u64, MediaError>;
    /// Everything from a position on.
    fn from(&self, at: usize) -> Result<&[u8], MediaError>;
}

impl Numbers for [u8] {
    fn u8(&self, at: usize) -> Result<u8, MediaError> {
        self.get(at).copied().ok_or(MediaError::Malformed)
    }

    fn u16(&self, at: usize) -> Result<u16, MediaError> {
        self.from(at)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)).ok_or(MediaError::Malformed)
    }

    fn u32(&self, at: usize) -> Result<u32, MediaError> {
        self.from(at)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(MediaError::Malformed)
    }

    fn u64(&self, at: usize) -> Result<u64, MediaError> {
        self.from(at)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(MediaError::Malformed)
    }

    fn from(&self, at: usize) -> Result<&[u8], MediaError> {
        self.get(at..).ok_or(MediaError::Malformed)
    }
}
