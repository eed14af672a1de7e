//! What became of one instance that someone wanted to store.

use crate::dicom::reasons::{FailureReason, WarningReason};
use crate::dicom::uid::InstanceKey;
use crate::error::{Error, ErrorKind};

/// The fate of one part of a storing request.
#[derive(Clone, Debug, PartialEq)]
pub enum InstanceOutcome {
    /// Stored now, or stored before with the same content: it is in the archive, durably.
    Stored {
        /// Where it is found.
        key: InstanceKey,
        /// Its SOP Class UID.
        sop_class: String,
        /// The same content was there before.
        already: bool,
        /// What is to be said about it.
        warnings: Vec<Warning>,
        /// Where attributes were changed: the item of its Original Attributes Sequence (0400,0561) as DICOM JSON.
        original: Option<serde_json::Value>,
    },
    /// Not stored; nothing of it is left.
    Refused(Refusal),
}

/// What is to be said about an instance that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The reason as the standard numbers it.
    pub reason: WarningReason,
    /// The same for people; holds no values.
    pub comment: String,
}

/// Why an instance was not stored, and as much of its identity as could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SOP Class UID, where one was read.
    pub sop_class: Option<String>,
    /// SOP Instance UID, where one was read.
    pub sop_instance: Option<String>,
    /// The reason as the standard numbers it.
    pub reason: FailureReason,
    /// The same for people; holds UIDs and positions, never other values.
    pub comment: String,
    /// It may work later: the archive's back ends are away or full.
    pub transient: bool,
}

impl Refusal {
    /// For now: other uploads hold the memory.
    pub(super) fn busy(known: Self) -> Self {
        let comment = "too many large headers are being stored; try again later".to_owned();
        Self { reason: FailureReason::OutOfResources, comment, transient: true, ..known }
    }

    /// The archive failed, not the instance, of which so much is known.
    pub(super) fn unavailable(known: Self, error: &Error) -> Self {
        tracing::error!(error = ?error, "an instance cannot be stored");
        let comment = match error.kind() {
            ErrorKind::Unavailable => error.message().to_owned(),
            _ => "the archive cannot store the instance".to_owned(),
        };
        Self { reason: FailureReason::OutOfResources, comment, transient: true, ..known }
    }
}
