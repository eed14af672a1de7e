//! The boxes of ISO base media files, JPEG 2000 and JPEG XL containers (ISO 14496-12 4.2).

use super::error::MediaError;
use super::feed::Numbers;

/// Bytes of a header without the long length.
pub(super) const HEADER: usize = 8;

/// The header of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BoxHeader {
    pub(super) kind: [u8; 4],
    /// Bytes of the header.
    pub(super) header: usize,
    /// Bytes of the content; `None` when the box reaches to the end.
    pub(super) content: Option<u64>,
}

impl BoxHeader {
    /// Reads a header; `None` when the window has to be 16 bytes long.
    pub(super) fn read(window: &[u8]) -> Result<Option<Self>, MediaError> {
        let kind = window.u32(4)?.to_be_bytes();
        let (header, whole) = match window.u32(0)? {
            0 => return Ok(Some(Self { kind, header: HEADER, content: None })),
            1 if window.len() < 16 => return Ok(None),
            1 => (16, window.u64(8)?),
            length => (HEADER, u64::from(length)),
        };
        let content = whole.checked_sub(header as u64).ok_or(MediaError::Malformed)?;
        Ok(Some(Self { kind, header, content: Some(content) }))
    }

    /// Header and content.
    pub(super) fn whole(&self) -> Option<u64> {
        self.content.map(|content| content.saturating_add(self.header as u64))
    }

    /// How long a window has to be to see header and content.
    pub(super) fn window(&self) -> Result<usize, MediaError> {
        self.whole().and_then(|whole| usize::try_from(whole).ok()).ok_or(MediaError::Limit)
    }
}

/// The boxes in a piece of memory, one after the other.
pub(super) fn children(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let header = BoxHeader::read(rest).ok().flatten()?;
        let end = header.whole().map_or(Some(rest.len()), |whole| usize::try_from(whole).ok())?;
        let content = rest.get(header.header..end)?;
        rest = rest.get(end..)?;
        Some((header.kind, content))
    })
}
