//! Why metadata give no file. Texts name the attribute and what is wrong with it, never a value.

use std::fmt;

use dicom_core::{Tag, VR};

use crate::dicom::media::error::MediaError;
use crate::dicom::reasons::FailureReason;

/// Why metadata give no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// The text breaks the grammar of JSON or XML, or what the model says of its structure.
    #[error("{what} at byte {position}")]
    Syntax {
        /// Where: bytes from the start of the text.
        position: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// An attribute cannot be written.
    #[error("{}: {fault}", Named(*.tag, *.vr))]
    Attribute {
        /// Which one.
        tag: Tag,
        /// Its VR, where that is known.
        vr: Option<VR>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Sequences nest too deep.
    #[error("sequences nest deeper than {0} levels")]
    TooDeep(usize),
    /// There are more instances than a text may have.
    #[error("the text has more than {0} instances")]
    TooMany(usize),
    /// The data set takes more memory than it may.
    #[error("the metadata of the instance are too large")]
    TooLarge,
    /// It takes more of the bulk data of the request than it may.
    #[error("{0}")]
    Excess(Excess),
    /// The bytes of its parts cannot be pixel data or a document.
    #[error("{0}")]
    Media(MediaError),
    /// There is no usable UID.
    #[error("`{}` is missing or no UID", Hex(*.0))]
    Identity(Tag),
}

/// Which bound on bulk data is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// The instance names too many parts.
    #[error("more than {0} parts beyond one per attribute")]
    InstanceParts(usize),
    /// All instances name too many parts.
    #[error("more than {0} parts beyond one per attribute in the request")]
    RequestParts(usize),
    /// An instance would be too large.
    #[error("the bulk data are over the instance limit of {0} bytes")]
    InstanceBytes(u64),
    /// All instances would be too large.
    #[error("the bulk data are over the request limit of {0} bytes")]
    RequestBytes(u64),
}

/// What is wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It occurs twice in its data set.
    #[error("is there twice")]
    Duplicate,
    /// The tag is that of an item or of a delimiter.
    #[error("is no attribute of a data set")]
    NoAttribute,
    /// It is not an object with a VR and one value.
    #[error("is not described as the model asks")]
    Structure,
    /// More than one of Value, InlineBinary and BulkDataURI.
    #[error("has more than one form of value")]
    Forms,
    /// No VR is named, and the dictionary knows none or several.
    #[error("has no `vr`, and the dictionary has not one")]
    NoVr,
    /// The value is not of the type that the VR asks for.
    #[error("a value is of the wrong type")]
    Type,
    /// A number does not fit.
    #[error("a value is no number of its range")]
    Number,
    /// A value is missing among numbers.
    #[error("a value is missing among others")]
    Missing,
    /// Several values of a VR that has one.
    #[error("has several values of a VR that has one")]
    Several,
    /// A group of a name holds what stands between groups or names.
    #[error("a component group holds `=` or `\\`")]
    Group,
    /// A text holds an escape character, which announces another character set and is never one of the text.
    #[error("a text holds an escape character")]
    Escape,
    /// The text is not base64.
    #[error("is not base64")]
    Base64,
    /// Bytes that do not make whole numbers.
    #[error("has bytes that make no whole values")]
    Width,
    /// Longer than an element can be.
    #[error("is longer than an element can be")]
    TooLong,
    /// No part of the request has the bulk data.
    #[error("no part of the request has its bulk data")]
    NoPart,
    /// The parts are of several media types or cannot be those of one value.
    #[error("its parts do not go together")]
    Parts,
    /// The media type of the part cannot be pixel data.
    #[error("pixel data cannot be of the media type of its part")]
    MediaType,
    /// A private block has no creator or there is no room for it.
    #[error("has no private creator or no free block")]
    Creator,
}

impl ComposeError {
    /// An attribute that cannot be written.
    pub(super) fn attribute(tag: Tag, vr: impl Into<Option<VR>>, fault: Fault) -> Self {
        Self::Attribute { tag, vr: vr.into(), fault }
    }

    /// The reason as the standard numbers it.
    #[must_use]
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Attribute { fault: Fault::NoPart, .. } => FailureReason::MissingBulkData,
            Self::Attribute { fault: Fault::MediaType, .. } | Self::Media(MediaError::NoSyntax(_)) => {
                FailureReason::TransferSyntaxNotSupported
            }
            Self::TooLarge | Self::TooMany(_) | Self::Excess(_) => FailureReason::OutOfResources,
            Self::Media(_) | Self::Syntax { .. } | Self::Attribute { .. } | Self::TooDeep(_) | Self::Identity(_) => {
                FailureReason::CannotUnderstand
            }
        }
    }
}

/// A tag as the model writes it.
struct Hex(Tag);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}{:04X}", self.0.group(), self.0.element())
    }
}

/// A tag and, where it is known, its VR.
struct Named(Tag, Option<VR>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", Hex(self.0))?;
        self.1.map_or(Ok(()), |vr| write!(f, " {vr}"))
    }
}
