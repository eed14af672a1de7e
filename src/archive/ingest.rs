//! The only way in: a stream of bytes → object and rows → [`InstanceOutcome`].
//!
//! Every chunk goes to the parser, the digest and the object store in one pass. The objects of a request are made durable
//! together and their rows are committed in few transactions; an answer is given after the commit. Whatever interrupts a
//! request before its commit leaves objects that no row names, which their guards remove at once, or a later sweep
//! does, by the lease of the process, when that is gone too.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::runtime::Handle;

use crate::archive::commit::commit;
use crate::archive::describe::{Describer, Object};
use crate::archive::digest::Digest;
use crate::archive::lease::{Lease, Leases};
use crate::archive::limits::IngestLimits;
use crate::archive::memory::{Memory, Share};
use crate::archive::outcome::{InstanceOutcome, Refusal};
use crate::archive::policy::Policy;
use crate::catalogue::{Catalogue, NewInstance};
use crate::clock::{self, Rising};
use crate::config::Duplicates;
use crate::dicom::coerce::Coercer;
use crate::dicom::header::HeaderReader;
use crate::dicom::reasons::FailureReason;
use crate::dicom::uid::{InstanceUid, StudyUid};
use crate::error::{Error, Result};
use crate::store::spool::Spool;
use crate::store::{ObjectStorage, Receipt, Staged, Upload};

/// Bytes that the parser takes at a time: deflate makes up to a thousand times as many of them.
const SLICE_BYTES: usize = 8 << 10;
/// What the metadata of a request may hold whatever the others do.
const PAYLOAD_ALLOWANCE: usize = 512 << 10;

/// The door: cheap to clone, shared by all protocols.
#[derive(Clone)]
pub struct Ingest(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) catalogue: Catalogue,
    pub(super) store: ObjectStorage,
    pub(super) limits: IngestLimits,
    pub(super) policy: Arc<Policy>,
    pub(super) describer: Describer,
    payloads: Memory,
    pub(super) leases: Leases,
    /// The times of receipt. An index that is made anew takes several contents under one UID in their order.
    received: Rising,
    /// Commits run here, so that a client that goes away cannot stop one half-way.
    runtime: Handle,
}

impl Ingest {
    /// Joins an index and an object store; called on the runtime that outlives the requests.
    #[must_use]
    pub fn new(catalogue: Catalogue, store: ObjectStorage, limits: IngestLimits, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let describer = Describer::new(limits.metadata_bytes, limits.memory, Arc::clone(&policy));
        let payloads = Memory::new(limits.payload_memory, PAYLOAD_ALLOWANCE);
        let leases = Leases::new(catalogue.clone(), limits.lease);
        let received = Rising::default();
        let runtime = Handle::current();
        Self(Arc::new(Shared { catalogue, store, limits, policy, describer, payloads, leases, received, runtime }))
    }

    /// Begins a storing request; instances of another study than `study` are refused.
    ///
    /// # Errors
    /// The index is unavailable.
    pub async fn begin(&self, study: Option<StudyUid>, source: String) -> Result<Ingestion> {
        Ok(Ingestion {
            lease: self.0.leases.current().await?,
            shared: Arc::clone(&self.0),
            study,
            source,
            outcomes: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_metadata: 0,
            came: HashMap::new(),
        })
    }

    /// Ends storing, when all requests have ended and the object store is settled.
    pub async fn close(&self) {
        self.0.leases.end(self.0.store.left_nothing()).await;
    }
}

/// One storing request under way.
pub struct Ingestion {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    study: Option<StudyUid>,
    source: String,
    /// One per part, in order; `None` while the part waits in the batch.
    outcomes: Vec<Option<InstanceOutcome>>,
    /// With the number of the part, which is that of its outcome.
    batch: Vec<(usize, Prepared)>,
    batch_bytes: u64,
    batch_metadata: usize,
    /// The received digest of each UID that came, where a later content takes the place of an earlier one.
    came: HashMap<InstanceUid, [u8; 32]>,
}

/// What becomes of the bytes of an instance after it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Read, as others may follow in the same body.
    Read,
    /// Never asked for.
    Left,
}

/// A complete instance whose rows are not written yet.
pub(super) struct Prepared {
    pub(super) staged: Staged,
    pub(super) row: NewInstance,
    /// The memory that the row takes.
    pub(super) share: Share,
    /// The names of the attributes that were changed.
    pub(super) changed: Vec<String>,
}

impl Ingestion {
    /// Takes in one instance, reading `body` to its end even when the instance is refused early.
    ///
    /// # Errors
    /// The body's own error; the caller then drops the ingestion, which removes what is not committed.
    pub async fn instance<S>(&mut self, body: &mut S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        self.take(body, Rest::Read).await
    }

    /// Takes in one instance that is made on the way: of one that is refused no more is made.
    ///
    /// # Errors
    /// As [`Ingestion::instance`].
    pub async fn composed<S>(&mut self, body: &mut S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        self.take(body, Rest::Left).await
    }

    async fn take<S>(&mut self, body: &mut S, rest: Rest) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        let part = self.outcomes.len();
        match self.receive(body, rest).await?.and_then(|prepared| self.is_meant(prepared)) {
            Ok(prepared) => {
                self.outcomes.push(None);
                self.batch_bytes += prepared.row.size;
                self.batch_metadata += prepared.row.metadata.len();
                self.batch.push((part, prepared));
            }
            Err(refusal) => self.outcomes.push(Some(InstanceOutcome::Refused(refusal))),
        }
        let limits = &self.shared.limits;
        if self.batch.len() >= limits.batch_instances
            || self.batch_bytes >= limits.batch_bytes
            || self.batch_metadata >= limits.batch_metadata
        {
            self.flush().await;
        }
        Ok(())
    }

    /// Refuses a second content under one UID, whatever batch the first is in: nobody can tell which of two is meant.
    fn is_meant(&mut self, prepared: Prepared) -> Result<Prepared, Refusal> {
        let NewInstance { entry, received_digest, .. } = &prepared.row;
        let replaces = matches!(self.shared.policy.rules.duplicates, Duplicates::Replace | Duplicates::Versions);
        if !replaces || self.came.entry(entry.key.instance.clone()).or_insert(*received_digest) == received_digest {
            return Ok(prepared);
        }
        Err(Refusal {
            sop_class: Some(entry.sop_class.to_string()),
            sop_instance: Some(entry.key.instance.to_string()),
            reason: FailureReason::DuplicateInstance,
            comment: "another instance of the request has this UID".to_owned(),
            transient: false,
        })
    }

    /// Largest instance in bytes.
    #[must_use]
    pub fn instance_bytes(&self) -> u64 {
        self.shared.limits.instance_bytes
    }

    /// A place for bytes of the request that are needed once all of it has come.
    #[must_use]
    pub fn spool(&self) -> Spool {
        self.shared.store.spool()
    }

    /// A share of the memory for metadata that are not a file yet.
    #[must_use]
    pub fn payload_memory(&self) -> Share {
        self.shared.payloads.share()
    }

    /// Counts a part that is not offered as DICOM at all, or cannot be made an instance.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.outcomes.push(Some(InstanceOutcome::Refused(refusal)));
    }

    /// Whether an instance of the request is stored already, so that its outcomes have to be told.
    #[must_use]
    pub fn has_stored(&self) -> bool {
        self.outcomes.iter().flatten().any(|outcome| matches!(outcome, InstanceOutcome::Stored { .. }))
    }

    /// Commits what is left and gives the outcome of every part in order.
    pub async fn finish(mut self) -> Vec<InstanceOutcome> {
        self.flush().await;
        std::mem::take(&mut self.outcomes).into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect()
    }

    /// Reads one instance: outer error for the body's, inner for the instance's.
    async fn receive<S>(&self, body: &mut S, rest: Rest) -> Result<Result<Prepared, Refusal>>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        let mut reader = Reception::new(self);
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if let Err(refusal) = reader.receive(self, chunk).await {
                drop(reader);
                while rest == Rest::Read
                    && let Some(chunk) = body.next().await
                {
                    chunk?;
                }
                return Ok(Err(refusal));
            }
        }
        Ok(reader.finish(self).await)
    }

    /// Makes the batch durable and commits its rows, out of reach of a client that goes away.
    async fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.batch_metadata = 0;
        if batch.is_empty() {
            return;
        }
        let (shared, lease) = (Arc::clone(&self.shared), Arc::clone(&self.lease));
        let commit = self.shared.runtime.spawn(async move { commit(&shared, &lease, batch).await });
        for (part, outcome) in commit.await.unwrap_or_default() {
            self.outcomes[part] = Some(outcome);
        }
        // there is another one when this was retired meanwhile; without one the next commit says so
        if let Ok(lease) = self.shared.leases.current().await {
            self.lease = lease;
        }
    }
}

/// The outcome of a part whose commit ended without one: a defect, and the client may try again.
fn lost() -> InstanceOutcome {
    InstanceOutcome::Refused(Refusal {
        sop_class: None,
        sop_instance: None,
        reason: FailureReason::OutOfResources,
        comment: "the archive failed to store the instance".to_owned(),
        transient: true,
    })
}

/// An instance while its bytes arrive.
struct Reception {
    /// Its object, as the lease counts them.
    object: u64,
    header: HeaderReader,
    /// The memory that the header takes.
    share: Share,
    digest: Digest,
    /// What changes attributes on the way, if the settings say so, and the digest of what came.
    coercion: Option<Box<(Coercer, Digest)>>,
    upload: Option<Upload>,
    size: u64,
    named: bool,
}

impl Reception {
    fn new(ingestion: &Ingestion) -> Self {
        let IngestLimits { mut header, instance_bytes, .. } = ingestion.shared.limits;
        header.parser.inflated = header.parser.inflated.min(instance_bytes);
        Self {
            object: ingestion.lease.next(),
            header: HeaderReader::new(header),
            share: ingestion.shared.describer.memory.share(),
            digest: Digest::new(),
            coercion: ingestion.shared.policy.coercer(header.parser).map(|coercer| Box::new((coercer, Digest::new()))),
            upload: None,
            size: 0,
            named: false,
        }
    }

    /// Takes bytes as they came.
    async fn receive(&mut self, ingestion: &Ingestion, mut chunk: Bytes) -> Result<(), Refusal> {
        if self.coercion.is_none() {
            return self.push(ingestion, chunk).await;
        }
        while let Some((coercer, received)) = self.coercion.as_deref_mut()
            && !chunk.is_empty()
        {
            let most = if coercer.may_inflate() { SLICE_BYTES } else { chunk.len() };
            let slice = chunk.split_to(most.min(chunk.len()));
            received.update(&slice);
            if let Err(error) = coercer.push(slice) {
                return Err(self.refusal(FailureReason::CannotUnderstand, error.to_string()));
            }
            self.pass_on(ingestion).await?;
        }
        Ok(())
    }

    /// Stores what the coercer lets go on, each piece before the next one is made: all of them together may be a thousand
    /// times as large as what came.
    async fn pass_on(&mut self, ingestion: &Ingestion) -> Result<(), Refusal> {
        self.hold()?;
        while let Some((coercer, _)) = self.coercion.as_deref_mut() {
            let inflates = coercer.may_inflate();
            let piece = match coercer.pull() {
                Ok(piece) => piece,
                Err(error) => return Err(self.refusal(FailureReason::CannotUnderstand, error.to_string())),
            };
            if inflates {
                // even what came to nothing may have been megabytes: others have their turn
                tokio::task::yield_now().await;
            }
            match piece {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => self.push(ingestion, piece).await?,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes the memory for what is held: the header, and what the coercer has not let go on yet.
    fn hold(&mut self) -> Result<(), Refusal> {
        let waiting = self.coercion.as_ref().map_or(0, |coercion| coercion.0.held_bytes());
        if self.share.resize(self.header.held_bytes().saturating_add(waiting)) {
            Ok(())
        } else {
            Err(Refusal::busy(self.known()))
        }
    }

    /// Takes bytes as they are stored.
    async fn push(&mut self, ingestion: &Ingestion, chunk: Bytes) -> Result<(), Refusal> {
        self.size += chunk.len() as u64;
        let limit = ingestion.shared.limits.instance_bytes;
        if self.size > limit {
            let comment = format!("the instance is larger than the limit of {limit} bytes");
            return Err(self.refusal(FailureReason::OutOfResources, comment));
        }
        for slice in chunk.chunks(SLICE_BYTES) {
            if let Err(error) = self.header.push(slice) {
                return Err(self.refusal(FailureReason::CannotUnderstand, error.to_string()));
            }
            self.hold()?;
            if self.header.is_deflated() {
                // This slice may have been megabytes: others have their turn.
                tokio::task::yield_now().await;
            }
        }
        self.digest.update(&chunk);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => match ingestion.shared.store.begin().await {
                Ok(upload) => self.upload.insert(upload),
                Err(error) => return Err(self.unavailable(&error)),
            },
        };
        if !self.named
            && let Some(identity) = self.header.identity()
        {
            upload.name(ingestion.lease.key(&identity.key, self.object));
            self.named = true;
            if ingestion.study.as_ref().is_some_and(|study| *study != identity.key.study) {
                let comment = "the instance belongs to another study than the request names".to_owned();
                return Err(self.refusal(FailureReason::CannotUnderstand, comment));
            }
            if let Err((reason, comment)) = ingestion.shared.policy.check_class(&identity.sop_class) {
                return Err(self.refusal(reason, comment));
            }
        }
        let written = match &mut self.upload {
            Some(upload) => upload.write(chunk).await,
            None => Ok(()),
        };
        written.map_err(|error| self.unavailable(&error))
    }

    async fn finish(mut self, ingestion: &Ingestion) -> Result<Prepared, Refusal> {
        if let Some((coercer, _)) = self.coercion.as_deref_mut() {
            if let Err(error) = coercer.finish() {
                return Err(self.refusal(FailureReason::CannotUnderstand, error.to_string()));
            }
            self.pass_on(ingestion).await?;
        }
        let (changed, received) = match self.coercion.take() {
            None => (Vec::new(), None),
            Some(coercion) => (coercion.0.changed().to_vec(), Some(coercion.1.finish())),
        };
        let known = self.known();
        let refuse = |reason, comment| Refusal { reason, comment, ..known.clone() };
        let Some(mut upload) = self.upload.take() else {
            return Err(refuse(FailureReason::CannotUnderstand, "the part is empty".to_owned()));
        };
        let shared = &ingestion.shared;
        let described = shared.describer.describe(self.header, &shared.runtime).await;
        let described = described.map_err(|(reason, comment)| refuse(reason, comment))?;
        if !self.share.resize(described.memory()) {
            return Err(Refusal::busy(known));
        }
        let location = ingestion.lease.key(&described.entry.key, self.object);
        upload.name(location.clone());
        let digest = self.digest.finish();
        // now that it is complete: a request that began first may be committed last
        let received_at = shared.received.at(clock::unix_millis());
        let row = described.into_row(&Object {
            location: &location,
            size: self.size,
            digest,
            received_digest: received.unwrap_or(digest),
            received_at,
            source: &ingestion.source,
        });
        let receipt = Receipt { received_at, received_digest: row.received_digest, digest };
        match upload.finish(receipt).await {
            Ok(staged) => Ok(Prepared { staged, row, share: self.share, changed }),
            Err(error) => Err(Refusal::unavailable(known, &error)),
        }
    }

    /// A refusal that carries as much identity as has been read.
    fn known(&self) -> Refusal {
        // what a coercer refuses has not come to the header
        let front = self.header.front().or_else(|| self.coercion.as_ref()?.0.front());
        let (sop_class, sop_instance) = match (self.header.identity(), front) {
            (Some(identity), _) => (Some(identity.sop_class.to_string()), Some(identity.key.instance.to_string())),
            (None, Some(front)) => (uid(front.meta.sop_class.as_deref()), uid(front.meta.sop_instance.as_deref())),
            (None, None) => (None, None),
        };
        let comment = String::new();
        Refusal { sop_class, sop_instance, reason: FailureReason::CannotUnderstand, comment, transient: false }
    }

    fn refusal(&self, reason: FailureReason, comment: String) -> Refusal {
        Refusal { reason, comment, ..self.known() }
    }

    fn unavailable(&self, error: &Error) -> Refusal {
        Refusal::unavailable(self.known(), error)
    }
}

/// A text of the file meta information, if it is a UID.
fn uid(text: Option<&str>) -> Option<String> {
    text.and_then(|text| InstanceUid::parse(text).ok()).map(|uid| uid.to_string())
}
