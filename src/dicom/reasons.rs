//! Why an instance was not stored, or was stored with a remark, as the standard numbers it
//! ([PS3.18 I.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/chapter_I.html),
//! [PS3.4 B.2.3](https://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.2.3.html),
//! [PS3.7 C](https://dicom.nema.org/medical/dicom/current/output/chtml/part07/chapter_C.html)).

/// Failure Reason (0008,1197).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// A700H, out of resources: the index or the object store is away or full, or the instance is over a limit.
    OutOfResources,
    /// C000H, cannot understand: not DICOM, truncated, without a usable UID, or of another study than the request's.
    CannotUnderstand,
    /// 0111H, duplicate SOP instance: another content is stored under this UID.
    DuplicateInstance,
    /// 0110H, processing failure: the study is of another patient, and the settings do not allow that.
    ProcessingFailure,
    /// 0120H, missing attribute: one that the settings demand.
    MissingAttribute,
    /// 0122H, SOP class not supported: one that the settings do not list.
    SopClassNotSupported,
    /// A922H, of the range of data sets that do not match their SOP class: metadata name bulk data that no part of the
    /// request has. The standard has no number for it; this is the one that an archive in wide use gives.
    MissingBulkData,
    /// C122H, referenced transfer syntax not supported: pixel data in a media type that is none for them.
    TransferSyntaxNotSupported,
}

impl FailureReason {
    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::OutOfResources => 0xA700,
            Self::CannotUnderstand => 0xC000,
            Self::DuplicateInstance => 0x0111,
            Self::ProcessingFailure => 0x0110,
            Self::MissingAttribute => 0x0120,
            Self::SopClassNotSupported => 0x0122,
            Self::MissingBulkData => 0xA922,
            Self::TransferSyntaxNotSupported => 0xC122,
        }
    }
}

/// Warning Reason (0008,1196).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WarningReason {
    /// B000H, coercion of data elements: attributes were changed by the settings.
    Coerced,
    /// B006H, elements discarded: what is stored stays, this one was dropped.
    Discarded,
    /// B007H, data set does not match: the Patient ID is not that of the study.
    Mismatch,
}

impl WarningReason {
    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Coerced => 0xB000,
            Self::Discarded => 0xB006,
            Self::Mismatch => 0xB007,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FailureReason, WarningReason};

    #[test]
    fn every_reason_has_the_number_of_the_standard() {
        // as decimal numbers, which is how an answer has them
        for (reason, code) in [
            (FailureReason::ProcessingFailure, 272),
            (FailureReason::DuplicateInstance, 273),
            (FailureReason::MissingAttribute, 288),
            (FailureReason::SopClassNotSupported, 290),
            (FailureReason::OutOfResources, 42_752),
            (FailureReason::MissingBulkData, 43_298),
            (FailureReason::CannotUnderstand, 49_152),
            (FailureReason::TransferSyntaxNotSupported, 49_442),
        ] {
            assert_eq!(reason.code(), code, "{reason:?}");
        }
        for (reason, code) in
            [(WarningReason::Coerced, 45_056), (WarningReason::Discarded, 45_062), (WarningReason::Mismatch, 45_063)]
        {
            assert_eq!(reason.code(), code, "{reason:?}");
        }
    }
}
