//! What the push parser tells and what stops it: events, the header of an element, bounds, errors.

use std::fmt;

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
///
/// The text goes into Error Comment (0000,0902), an LO: 64 characters for it and the widest position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No preamble, and nothing that looks like a data set.
    #[error("not DICOM")]
    NotDicom,
    /// The stream ends inside something.
    #[error("truncated at byte {0}")]
    Truncated(u64),
    /// Something impossible in the stream.
    #[error("{what} at byte {position}")]
    Malformed {
        /// Bytes from the start of the stream.
        position: u64,
        /// What is wrong there.
        what: Flaw,
    },
    /// A bound of [`Limits`] is exceeded.
    #[error("{what} over the limit at byte {position}")]
    Limit {
        /// Bytes from the start of the stream.
        position: u64,
        /// Which bound.
        what: Bound,
    },
}

impl ParseError {
    pub(super) fn malformed(position: u64, what: Flaw) -> Self {
        Self::Malformed { position, what }
    }

    pub(super) fn limit(position: u64, what: Bound) -> Self {
        Self::Limit { position, what }
    }
}

/// Makes an enumeration with a text for each, and for tests the list of all.
macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$each])* $variant,)+
        }

        impl $name {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$variant,)+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }
    };
}

texts! {
    /// What is impossible in a stream.
    Flaw {
        /// After the data set come bytes other than zeros.
        Garbage => "garbage after the data set",
        /// An item or delimiter stands where an element should.
        StrayItem => "a stray item or delimiter",
        /// In a sequence stands something else.
        NoItem => "neither item nor delimiter",
        /// In encapsulated pixel data stands something else.
        NoFragment => "neither fragment nor delimiter",
        /// A fragment has undefined length or reaches beyond its sequence.
        FragmentLength => "a fragment of impossible length",
        /// The header of an element, item or delimiter reaches beyond its sequence.
        HeaderOverrun => "a header overruns its sequence",
        /// The value of an element reaches beyond its sequence.
        ElementOverrun => "an element overruns its sequence",
        /// A sequence reaches beyond the one around it.
        SequenceOverrun => "a sequence overruns the outer one",
        /// A sequence of undefined length is still open where the one around it ends.
        NoDelimiter => "a sequence without its delimiter",
        /// The data set names its transfer syntax deflated, but is not.
        NotDeflate => "not a deflate stream",
    }
}

texts! {
    /// What there is too much of.
    Bound {
        /// Sequences in sequences.
        Depth => "nesting of sequences",
        /// Elements, items and fragments together.
        Elements => "number of elements",
        /// Fragments of encapsulated pixel data.
        Fragments => "number of fragments",
        /// A value that cannot be left in the object.
        Value => "length of a value",
        /// A fragment of encapsulated pixel data.
        Fragment => "length of a fragment",
        /// All that is held of a header.
        Attributes => "size of attributes",
        /// File meta information.
        FileMeta => "size of group 0002",
        /// A deflated data set.
        Inflated => "inflated size",
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Flaw, ParseError};
    use crate::dicom::identity::{self, IdentityError};
    use crate::dicom::uid::UidError;

    #[test]
    fn every_reason_fits_the_error_comment_of_a_store_response_at_any_position() {
        let position = u64::MAX;
        let mut texts = vec![ParseError::NotDicom.to_string(), ParseError::Truncated(position).to_string()];
        texts.push(IdentityError::Ambiguous.to_string());
        texts.extend(Flaw::ALL.iter().map(|&what| ParseError::malformed(position, what).to_string()));
        texts.extend(Bound::ALL.iter().map(|&what| ParseError::limit(position, what).to_string()));
        for tag in [
            identity::SOP_CLASS_UID,
            identity::SOP_INSTANCE_UID,
            identity::STUDY_INSTANCE_UID,
            identity::SERIES_INSTANCE_UID,
        ] {
            texts.push(IdentityError::Missing { tag }.to_string());
            for error in [UidError::Empty, UidError::TooLong, UidError::Character, UidError::Component] {
                texts.push(IdentityError::Invalid { tag, error }.to_string());
            }
        }
        for text in texts {
            // Error Comment (0000,0902) is an LO
            assert!(text.chars().count() <= 64, "{text}");
        }
    }
}
