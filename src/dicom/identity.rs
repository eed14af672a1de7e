//! Which instance a data set is: the UIDs that every stored instance must have.

use dicom_core::Tag;

use crate::dicom::header::{Dataset, value};
use crate::dicom::stream::FileMeta;
use crate::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, SopClassUid, StudyUid, UidError};

pub(super) const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
pub(super) const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
pub(super) const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
pub(super) const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);

/// What every stored instance must say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Study, series and instance.
    pub key: InstanceKey,
    /// SOP Class UID.
    pub sop_class: SopClassUid,
}

/// Why a data set has no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// There is no such attribute, or it is empty.
    #[error("`{}` is missing", uid_name(*tag))]
    Missing {
        /// Which.
        tag: Tag,
    },
    /// Its value is not a UID.
    #[error("`{}` {error}", uid_name(*tag))]
    Invalid {
        /// Which.
        tag: Tag,
        /// What is wrong with it.
        error: UidError,
    },
    /// A UID came twice with different values.
    #[error("two different identities")]
    Ambiguous,
}

fn uid_name(tag: Tag) -> &'static str {
    match tag {
        SOP_CLASS_UID => "SOPClassUID",
        SOP_INSTANCE_UID => "SOPInstanceUID",
        STUDY_INSTANCE_UID => "StudyInstanceUID",
        SERIES_INSTANCE_UID => "SeriesInstanceUID",
        _ => "UID",
    }
}

/// A UID without what it was padded with.
pub(super) fn unpadded(value: &[u8]) -> &[u8] {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = value.iter().position(|byte| !padding(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// Reads the UIDs of a root, whether its elements are in order already or not.
///
/// A data set without SOP Class UID has the Media Storage SOP Class UID of its file meta information.
pub(super) fn identify(root: &Dataset, arena: &[u8], meta: &FileMeta) -> Result<Identity, IdentityError> {
    let text = |tag: Tag| {
        let element = root.elements.iter().rfind(|element| element.tag == tag).ok_or(IdentityError::Missing { tag })?;
        let text = std::str::from_utf8(unpadded(value(arena, element)))
            .map_err(|_| IdentityError::Invalid { tag, error: UidError::Character })?;
        if text.is_empty() { Err(IdentityError::Missing { tag }) } else { Ok(text) }
    };
    let invalid = |tag: Tag| move |error| IdentityError::Invalid { tag, error };
    Ok(Identity {
        key: InstanceKey {
            study: StudyUid::parse(text(STUDY_INSTANCE_UID)?).map_err(invalid(STUDY_INSTANCE_UID))?,
            series: SeriesUid::parse(text(SERIES_INSTANCE_UID)?).map_err(invalid(SERIES_INSTANCE_UID))?,
            instance: InstanceUid::parse(text(SOP_INSTANCE_UID)?).map_err(invalid(SOP_INSTANCE_UID))?,
        },
        sop_class: match (text(SOP_CLASS_UID), &meta.sop_class) {
            (Err(IdentityError::Missing { .. }), Some(class)) => SopClassUid::parse(class),
            (class, _) => SopClassUid::parse(class?),
        }
        .map_err(invalid(SOP_CLASS_UID))?,
    })
}
