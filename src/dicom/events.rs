//! What the push parser tells and what stops it: events, the header of an element, bounds, errors.

use dicom_core::{Tag, VR};

/// Bounds of what one stream may make the parser do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deepest nesting of sequences.
    pub depth: usize,
    /// Most elements, items and fragments together.
    pub elements: u64,
    /// Most bytes of inflated data set per byte of deflated input, once over 16 MiB.
    pub inflation: u64,
    /// Most bytes of inflated data set.
    pub inflated: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // deflate reaches 1032:1 with nothing but zeros, which real images never do once over 16 MiB
        Self { depth: 64, elements: 16_000_000, inflation: 1000, inflated: u64::MAX }
    }
}

/// What is told about an element before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementHeader {
    /// Group and element.
    pub tag: Tag,
    /// The VR as named in the stream, or as the dictionary has it where the stream names none.
    pub vr: VR,
    /// Bytes of value; `None` is undefined length (sequences and encapsulated pixel data only).
    pub length: Option<u32>,
    /// Values below it have their most significant byte first.
    pub big_endian: bool,
    /// Where the value begins: bytes from the start of the file, of the inflated data set for deflated ones.
    pub position: u64,
}

/// Receives the stream as events. Values are in the byte order of the stream.
pub trait Sink {
    /// An element whose value follows as [`Sink::value`] pieces until [`Sink::element_end`].
    fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError>;
    /// The next piece of the value of the open element or fragment; never empty.
    fn value(&mut self, piece: &[u8]) -> Result<(), ParseError>;
    /// The value is complete.
    fn element_end(&mut self) -> Result<(), ParseError>;
    /// A sequence begins; items follow.
    fn sequence(&mut self, header: &ElementHeader) -> Result<(), ParseError>;
    /// An item of the open sequence begins.
    fn item(&mut self) -> Result<(), ParseError>;
    /// The open item ends.
    fn item_end(&mut self) -> Result<(), ParseError>;
    /// The open sequence ends.
    fn sequence_end(&mut self) -> Result<(), ParseError>;
    /// Encapsulated pixel data begins; fragments follow, the first being the Basic Offset Table (PS3.5 A.4).
    fn fragments(&mut self, header: &ElementHeader) -> Result<(), ParseError>;
    /// A fragment begins: where its value lies and how long it is.
    fn fragment(&mut self, position: u64, length: u32) -> Result<(), ParseError>;
    /// The fragment is complete.
    fn fragment_end(&mut self) -> Result<(), ParseError>;
    /// Encapsulated pixel data ends; `position` is the first byte after its delimiter.
    fn fragments_end(&mut self, position: u64) -> Result<(), ParseError>;
}

/// Why a stream cannot be stored. No variant carries a value of the data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No preamble, and nothing that looks like a data set.
    #[error("not DICOM")]
    NotDicom,
    /// The stream ends inside something.
    #[error("truncated at byte {0}")]
    Truncated(u64),
    /// Something impossible in the stream.
    #[error("malformed at byte {position}: {what}")]
    Malformed {
        /// Bytes from the start of the stream.
        position: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A bound of [`Limits`] is exceeded.
    #[error("over the limit at byte {position}: {what}")]
    Limit {
        /// Bytes from the start of the stream.
        position: u64,
        /// Which bound.
        what: &'static str,
    },
}
