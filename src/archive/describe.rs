//! The end of a header → all that the rows of the instance need: index entry, metadata, frame index.
//!
//! Large headers are described away from the threads that serve requests, and one at a time, as it takes as much memory again.

use std::sync::Arc;

use crate::archive::memory::Memory;
use crate::archive::policy::Policy;
use crate::catalogue::NewInstance;
use crate::dicom::entry::IndexEntry;
use crate::dicom::frames::StoredFrames;
use crate::dicom::header::{Form, HeaderReader};
use crate::dicom::json::{self, Metadata};
use crate::dicom::reasons::FailureReason;
use crate::dicom::transfer_syntax::Encoding;
use crate::dicom::uid::TransferSyntaxUid;
use crate::store::keys::StorageKey;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// What the header of an upload may hold whatever the others do; ordinary ones hold some kilobytes.
const ALLOWANCE: usize = 1 << 20;

/// All that the rows of an instance take from its header.
pub(super) struct Described {
    pub(super) transfer_syntax: TransferSyntaxUid,
    pub(super) encoding: Encoding,
    pub(super) form: Form,
    pub(super) metadata: Metadata,
    pub(super) frames: StoredFrames,
    pub(super) number_of_frames: u32,
    pub(super) entry: IndexEntry,
}

/// What a row says of the object.
pub(super) struct Object<'a> {
    pub(super) location: &'a StorageKey,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    pub(super) received_digest: [u8; 32],
    pub(super) received_at: i64,
    pub(super) source: &'a str,
}

/// Describes headers; one for all uploads.
#[derive(Debug)]
pub(super) struct Describer {
    /// What the headers of all uploads hold.
    pub(super) memory: Memory,
    /// Largest metadata of an instance, as JSON.
    most: usize,
    policy: Arc<Policy>,
    /// For large headers.
    turn: Semaphore,
}

/// Why a header gives no rows: the reason, and in words.
pub(super) type Unusable = (FailureReason, String);

impl Describer {
    /// One for metadata of at most `most` bytes each, and headers that hold at most `memory` bytes together.
    pub(super) fn new(most: usize, memory: usize, policy: Arc<Policy>) -> Self {
        Self { memory: Memory::new(memory, ALLOWANCE), most, policy, turn: Semaphore::new(1) }
    }

    /// Describes a header whose stream is over.
    pub(super) async fn describe(&self, header: HeaderReader, runtime: &Handle) -> Result<Described, Unusable> {
        let most = self.most;
        if header.held_bytes() <= ALLOWANCE {
            return Described::new(header, most, &self.policy);
        }
        let policy = Arc::clone(&self.policy);
        let _turn = self.turn.acquire().await;
        let failed = |_| (FailureReason::OutOfResources, "the archive failed to read the header".to_owned());
        runtime.spawn_blocking(move || Described::new(header, most, &policy)).await.map_err(failed)?
    }
}

impl Described {
    fn new(header: HeaderReader, most: usize, policy: &Policy) -> Result<Self, Unusable> {
        let header = header.finish().map_err(|error| (FailureReason::CannotUnderstand, error.to_string()))?;
        policy.check_header(&header)?;
        let entry =
            IndexEntry::from_header(&header).map_err(|error| (FailureReason::CannotUnderstand, error.to_string()))?;
        let metadata = json::write_metadata_within(&header, most)
            .ok_or_else(|| (FailureReason::OutOfResources, format!("the metadata come to more than {most} bytes")))?;
        Ok(Self {
            transfer_syntax: header.transfer_syntax,
            encoding: header.encoding,
            form: header.form,
            metadata,
            frames: header.frames.store(),
            number_of_frames: header.number_of_frames,
            entry,
        })
    }

    /// The row of an instance whose header this is.
    pub(super) fn into_row(self, object: &Object<'_>) -> NewInstance {
        NewInstance {
            transfer_syntax: self.transfer_syntax,
            encoding: self.encoding,
            form: self.form,
            location: object.location.as_str().to_owned(),
            size: object.size,
            digest: object.digest,
            received_digest: object.received_digest,
            received_at: object.received_at,
            source: object.source.to_owned(),
            file_name: None,
            metadata: self.metadata.json,
            bulk: self.metadata.bulk,
            frames: self.frames,
            number_of_frames: self.number_of_frames,
            entry: self.entry,
            deletion: None,
        }
    }

    /// Bytes that it takes, but for what is small.
    pub(super) fn memory(&self) -> usize {
        let frames: usize = self.frames.blocks.iter().map(Vec::len).sum();
        self.metadata.json.len() + self.metadata.bulk.len() + frames
    }
}
