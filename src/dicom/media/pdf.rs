//! PDF: that it is one, and whole (ISO 32000-1 7.5.2, 7.5.5).

use super::error::MediaError;
use super::feed::{End, Scan, Step};
use super::picture::Syntax;
use super::{Content, Found};
use crate::dicom::transfer_syntax::EXPLICIT_LITTLE;

/// The end marker stands within this many last bytes, as readers have always looked for it there.
const TAIL: usize = 1024;
const END: &[u8] = b"%%EOF";

/// Looks at the first and the last bytes.
#[derive(Debug, Default)]
pub(super) struct PdfReader {
    begun: bool,
    tail: Vec<u8>,
}

impl Scan for PdfReader {
    fn step(&mut self, _at: u64, window: &[u8]) -> Result<Step, MediaError> {
        self.begun = window == b"%PDF-";
        if self.begun { Ok(Step::Pass { bytes: u64::MAX, look: 1 }) } else { Err(MediaError::Not("pdf")) }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let news = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default();
        let old = self.tail.len().saturating_add(news.len()).saturating_sub(TAIL).min(self.tail.len());
        self.tail.drain(..old);
        self.tail.extend_from_slice(news);
    }
}

impl PdfReader {
    pub(super) fn finish(self, end: &End) -> Result<Found, MediaError> {
        if !self.begun {
            return Err(MediaError::Not("pdf"));
        }
        if memchr::memmem::find(&self.tail, END).is_none() {
            return Err(MediaError::Truncated);
        }
        if end.total >= u64::from(u32::MAX) {
            return Err(MediaError::TooLong);
        }
        Ok((Syntax::only(EXPLICIT_LITTLE), 0..end.total, Content::Document))
    }
}
