//! Transfer syntaxes: how a data set is encoded, and what the server can do with each.

use crate::dicom::uid::TransferSyntaxUid;

/// Implicit VR Little Endian.
pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Deflated Explicit VR Little Endian.
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR Big Endian (retired).
pub const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";

/// The transfer syntax that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferSyntaxChoice {
    /// None is named: Explicit VR Little Endian where it can be made.
    Default,
    /// `*`: as stored.
    Any,
    /// This one.
    Named(TransferSyntaxUid),
}

/// How the bytes of a data set are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// Each element names its VR.
    pub explicit: bool,
    /// The most significant byte comes first.
    pub big_endian: bool,
    /// The data set after the file meta information is one raw deflate stream (PS3.5 A.5).
    pub deflated: bool,
}

impl Encoding {
    /// Explicit VR Little Endian, as which unknown syntaxes are read (PS3.5 A.4).
    pub const EXPLICIT_LITTLE: Self = Self { explicit: true, big_endian: false, deflated: false };
    /// Implicit VR Little Endian.
    pub const IMPLICIT_LITTLE: Self = Self { explicit: false, big_endian: false, deflated: false };
    /// Explicit VR Big Endian.
    pub const EXPLICIT_BIG: Self = Self { explicit: true, big_endian: true, deflated: false };
    /// Deflated Explicit VR Little Endian.
    pub const DEFLATED: Self = Self { explicit: true, big_endian: false, deflated: true };

    /// The encoding of a transfer syntax; unknown ones are explicit little endian, as all that are still being defined.
    #[must_use]
    pub fn of(uid: &TransferSyntaxUid) -> Self {
        match uid.as_str() {
            IMPLICIT_LITTLE => Self::IMPLICIT_LITTLE,
            EXPLICIT_BIG => Self::EXPLICIT_BIG,
            // JPIP Referenced Deflate and JPIP HTJ2K Referenced Deflate are deflated data sets too (PS3.5 A.6, A.9).
            DEFLATED | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205" => Self::DEFLATED,
            _ => Self::EXPLICIT_LITTLE,
        }
    }
}

/// The transfer syntax that names an encoding of native pixel data, for streams that name none.
#[must_use]
pub fn of(encoding: Encoding) -> TransferSyntaxUid {
    let text = match encoding {
        Encoding { deflated: true, .. } => DEFLATED,
        Encoding { explicit: false, .. } => IMPLICIT_LITTLE,
        Encoding { big_endian: true, .. } => EXPLICIT_BIG,
        Encoding { .. } => EXPLICIT_LITTLE,
    };
    TransferSyntaxUid::parse(text).expect("the constants above are UIDs")
}

/// Whether pixel data is encapsulated: in all syntaxes but those that are an encoding of the data set alone (PS3.5 A.4).
#[must_use]
pub fn is_encapsulated(uid: &TransferSyntaxUid) -> bool {
    !matches!(uid.as_str(), IMPLICIT_LITTLE | EXPLICIT_LITTLE | DEFLATED | EXPLICIT_BIG)
}

/// Whether pixel data is a video, one stream over all fragments (PS3.5 8.2.5 to 8.2.8, 8.2.10 to 8.2.13).
#[must_use]
pub fn is_video(uid: &TransferSyntaxUid) -> bool {
    let Some(rest) = uid.as_str().strip_prefix("1.2.840.10008.1.2.4.10") else { return false };
    // 100 to 108, and their fragmentable forms 100.1 to 106.1
    matches!(rest.as_bytes(), [b'0'..=b'8'] | [b'0'..=b'8', b'.', b'1'])
}

/// Whether pixel data is RLE Lossless (PS3.5 A.4.2).
#[must_use]
pub fn is_rle(uid: &TransferSyntaxUid) -> bool {
    uid.as_str() == "1.2.840.10008.1.2.5"
}
