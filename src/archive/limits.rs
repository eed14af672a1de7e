//! What storing may cost before it is refused or committed.

use std::time::Duration;

use crate::dicom::header::HeaderLimits;

/// Bounds of what one request and one instance may ask for.
#[derive(Clone, Debug)]
pub struct IngestLimits {
    /// Largest instance in bytes.
    pub instance_bytes: u64,
    /// Bounds of the parser and of held values.
    pub header: HeaderLimits,
    /// Instances that are made durable and committed together.
    pub batch_instances: usize,
    /// Bytes of objects after which a batch is committed.
    pub batch_bytes: u64,
    /// Bytes of metadata after which a batch is committed: unlike the objects they wait in memory.
    pub batch_metadata: usize,
    /// Largest metadata of an instance, as JSON.
    pub metadata_bytes: usize,
    /// Bytes of memory for what the headers of all uploads hold beyond an allowance for each.
    pub memory: usize,
    /// Bytes of memory for the metadata that all requests send as JSON or XML, beyond an allowance for each.
    pub payload_memory: usize,
    /// How long after its end, or when it is cut off from the index, a process keeps its objects from the sweep.
    pub lease: Duration,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            instance_bytes: 16 << 30,
            header: HeaderLimits::default(),
            batch_instances: 64,
            batch_bytes: 256 << 20,
            batch_metadata: 4 << 20,
            metadata_bytes: 96 << 20,
            memory: 128 << 20,
            payload_memory: 192 << 20,
            lease: Duration::from_hours(1),
        }
    }
}
