//! What can be wrong with a part that is to become pixel data or a document.

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;

/// Why attributes could not be derived. The texts are short, and hold nothing of the bytes or of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The bytes end too early.
    #[error("the bytes end before the image, video or document does")]
    Truncated,
    /// A structure contradicts itself.
    #[error("the bytes are malformed")]
    Malformed,
    /// A structure is larger than what is kept in memory.
    #[error("a header is over the limit")]
    Limit,
    /// The part does not begin as its media type says.
    #[error("the bytes are not {0}")]
    Not(&'static str),
    /// A form for which DICOM has no transfer syntax, or none in use.
    #[error("no transfer syntax for {0}")]
    NoSyntax(&'static str),
    /// A feature for which a DICOM image has no place.
    #[error("a dicom image cannot hold {0}")]
    NoPlace(&'static str),
    /// Nothing to store was found.
    #[error("there is no {0}")]
    Absent(&'static str),
    /// Rows or Columns would be 0 or over 65535.
    #[error("rows and columns must be 1 to 65535")]
    Size,
    /// The parameter `transfer-syntax` contradicts the bytes.
    #[error("`transfer-syntax` of the part is not that of its bytes")]
    TransferSyntax,
    /// The parts of one instance are not frames of one image.
    #[error("the parts differ and cannot be frames of one image")]
    Mixed,
    /// No part was given.
    #[error("no part was given")]
    NoPart,
    /// Several parts for one video or document.
    #[error("a video or a document is one part")]
    Several,
    /// An attribute of the client contradicts the bytes.
    #[error("`{}` is not what the bytes say", keyword(*.0))]
    Differs(Tag),
    /// An attribute that the bytes cannot tell was not given.
    #[error("`{}` is missing, and the bytes do not tell it", keyword(*.0))]
    Missing(Tag),
    /// The document does not fit into an element.
    #[error("a document must be shorter than 4 GiB")]
    TooLong,
}

/// What an attribute is called in a message.
fn keyword(tag: Tag) -> &'static str {
    StandardDataDictionary.by_tag(tag).map_or("attribute", DataDictionaryEntry::alias)
}
