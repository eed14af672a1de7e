//! The only way in: a stream of bytes → object and rows → [`InstanceOutcome`].
//!
//! Every chunk goes to the parser, the digest and the object store in one pass. The objects of a request are made durable
//! together and their rows are committed in few transactions; an answer is given after the commit. Whatever interrupts a
//! request before its commit leaves objects that no row names, which their guards remove at once, or a later sweep
//! does, by the lease of the process, when that is gone too.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::runtime::Handle;

use crate::archive::describe::{Describer, Object};
use crate::archive::digest::Digest;
use crate::archive::heal;
use crate::archive::lease::{Lease, Leases};
use crate::archive::limits::IngestLimits;
use crate::archive::memory::Share;
use crate::archive::outcome::{InstanceOutcome, Refusal, Warning};
use crate::archive::policy::Policy;
use crate::catalogue::{Catalogue, Inserted, NewInstance, NotInserted, Patient};
use crate::clock;
use crate::dicom::header::HeaderReader;
use crate::dicom::reasons::{FailureReason, WarningReason};
use crate::dicom::uid::{InstanceKey, InstanceUid, StudyUid};
use crate::error::{Error, Result};
use crate::store::{ObjectStorage, Receipt, Staged, Stored, Upload};

/// Bytes that the parser takes at a time: deflate makes up to a thousand times as many of them.
const SLICE_BYTES: usize = 8 << 10;

/// The door: cheap to clone, shared by all protocols.
#[derive(Clone)]
pub struct Ingest(Arc<Shared>);

struct Shared {
    catalogue: Catalogue,
    store: ObjectStorage,
    limits: IngestLimits,
    policy: Arc<Policy>,
    describer: Describer,
    leases: Leases,
    /// Commits run here, so that a client that goes away cannot stop one half-way.
    runtime: Handle,
}

impl Ingest {
    /// Joins an index and an object store; called on the runtime that outlives the requests.
    #[must_use]
    pub fn new(catalogue: Catalogue, store: ObjectStorage, limits: IngestLimits, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let describer = Describer::new(limits.metadata_bytes, limits.memory, Arc::clone(&policy));
        let leases = Leases::new(catalogue.clone(), limits.lease);
        Self(Arc::new(Shared { catalogue, store, limits, policy, describer, leases, runtime: Handle::current() }))
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
            received_at: clock::unix_millis(),
            outcomes: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_metadata: 0,
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
    received_at: i64,
    /// One per part, in order; `None` while the part waits in the batch.
    outcomes: Vec<Option<InstanceOutcome>>,
    /// With the number of the part, which is that of its outcome.
    batch: Vec<(usize, Prepared)>,
    batch_bytes: u64,
    batch_metadata: usize,
}

/// A complete instance whose rows are not written yet.
struct Prepared {
    staged: Staged,
    row: NewInstance,
    /// The memory that the row takes.
    share: Share,
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
        let part = self.outcomes.len();
        match self.receive(body).await? {
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

    /// Counts a part that is not offered as DICOM at all.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.outcomes.push(Some(InstanceOutcome::Refused(refusal)));
    }

    /// Commits what is left and gives the outcome of every part in order.
    pub async fn finish(mut self) -> Vec<InstanceOutcome> {
        self.flush().await;
        std::mem::take(&mut self.outcomes).into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect()
    }

    /// Reads one instance: outer error for the body's, inner for the instance's.
    async fn receive<S>(&self, body: &mut S) -> Result<Result<Prepared, Refusal>>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        let mut reader = Reception::new(self);
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if let Err(refusal) = reader.push(self, chunk).await {
                drop(reader);
                while let Some(rest) = body.next().await {
                    rest?;
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
            upload: None,
            size: 0,
            named: false,
        }
    }

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
            if !self.share.resize(self.header.held_bytes()) {
                return Err(Refusal::busy(self.known()));
            }
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
        let row = described.into_row(&Object {
            location: &location,
            size: self.size,
            digest,
            received_digest: digest,
            received_at: ingestion.received_at,
            source: &ingestion.source,
        });
        let receipt = Receipt { received_at: ingestion.received_at, received_digest: digest, digest };
        match upload.finish(receipt).await {
            Ok(staged) => Ok(Prepared { staged, row, share: self.share }),
            Err(error) => Err(Refusal::unavailable(known, &error)),
        }
    }

    /// A refusal that carries as much identity as has been read.
    fn known(&self) -> Refusal {
        let (sop_class, sop_instance) = match (self.header.identity(), self.header.front()) {
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

/// A part of a batch as its outcome names it.
struct Part {
    number: usize,
    key: InstanceKey,
    sop_class: String,
    _share: Share,
}

/// Makes the objects of a batch durable, then writes their rows in one transaction, then tells the outcomes.
async fn commit(shared: &Shared, lease: &Lease, batch: Vec<(usize, Prepared)>) -> Vec<(usize, InstanceOutcome)> {
    let mut parts = Vec::with_capacity(batch.len());
    let mut staged = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for (number, Prepared { staged: object, row, share }) in batch {
        let sop_class = row.entry.sop_class.to_string();
        parts.push(Part { number, key: row.entry.key.clone(), sop_class, _share: share });
        staged.push(object);
        rows.push(row);
    }
    let coming = shared.catalogue.announce();
    let stored = match shared.store.make_durable(staged).await {
        Ok(stored) => stored,
        Err(error) => {
            // what could not be written could perhaps not be removed either
            shared.leases.retire(lease);
            return unavailable(parts, &error);
        }
    };
    let failure = match shared.catalogue.insert_instances(lease.id, shared.policy.rules, rows, coming).await {
        Ok(inserted) => return settle(shared, lease, parts, stored, inserted).await,
        Err(failure) => failure,
    };
    if !matches!(failure, NotInserted::Failed(_)) {
        shared.leases.retire(lease);
    }
    if matches!(failure, NotInserted::InDoubt(_)) {
        // rows may name the objects, so they must stay: the sweep removes those that none names when the lease has run out
        stored.into_iter().for_each(Stored::keep);
    } else {
        remove(shared, lease, stored).await;
    }
    unavailable(parts, &failure.into_error())
}

/// Keeps the objects that rows name now and removes the others.
async fn settle(
    shared: &Shared,
    lease: &Lease,
    parts: Vec<Part>,
    stored: Vec<Stored>,
    inserted: Vec<Inserted>,
) -> Vec<(usize, InstanceOutcome)> {
    let mut outcomes = Vec::with_capacity(parts.len());
    let mut losers = Vec::new();
    for ((part, object), inserted) in parts.into_iter().zip(stored).zip(inserted) {
        let needed = match inserted {
            Inserted::New(_) | Inserted::Replaced(_) => Ok(true),
            Inserted::Identical => {
                heal::takes_the_place(&shared.catalogue, &shared.store, lease, &part.key, &object).await
            }
            Inserted::Different | Inserted::Ignored | Inserted::OtherPatient => Ok(false),
        };
        match needed {
            Ok(true) => object.keep(),
            Ok(false) => losers.push(object),
            Err(error) => {
                // the row may name it: the sweep finds out
                object.keep();
                shared.leases.retire(lease);
                outcomes.extend(unavailable(vec![part], &error));
                continue;
            }
        }
        outcomes.push((part.number, outcome(part, inserted)));
    }
    remove(shared, lease, losers).await;
    outcomes
}

/// Removes objects that got no row.
async fn remove(shared: &Shared, lease: &Lease, objects: Vec<Stored>) {
    for object in objects {
        if let Err(error) = object.remove().await {
            tracing::warn!(lease = %lease.id, ?error, "an object without a row is left to the sweep");
            shared.leases.retire(lease);
        }
    }
}

fn outcome(part: Part, inserted: Inserted) -> InstanceOutcome {
    let Part { key, sop_class, .. } = part;
    let stored = |already, warning: Option<(WarningReason, &str)>| InstanceOutcome::Stored {
        key: key.clone(),
        sop_class: sop_class.clone(),
        already,
        warnings: warning
            .map(|(reason, comment)| Warning { reason, comment: comment.to_owned() })
            .into_iter()
            .collect(),
    };
    let refused = |reason, comment: &str| {
        InstanceOutcome::Refused(Refusal {
            sop_class: Some(sop_class.clone()),
            sop_instance: Some(key.instance.to_string()),
            reason,
            comment: comment.to_owned(),
            transient: false,
        })
    };
    match inserted {
        Inserted::New(Patient::Same) | Inserted::Replaced(Patient::Same) => stored(false, None),
        Inserted::New(Patient::Other) | Inserted::Replaced(Patient::Other) => {
            stored(false, Some((WarningReason::Mismatch, "the Patient ID is not that of the study")))
        }
        Inserted::Identical => stored(true, None),
        Inserted::Ignored => {
            stored(true, Some((WarningReason::Discarded, "another instance is stored under this UID and stays")))
        }
        Inserted::Different => {
            refused(FailureReason::DuplicateInstance, "another instance is stored under this SOP Instance UID")
        }
        Inserted::OtherPatient => refused(FailureReason::ProcessingFailure, "the Patient ID is not that of the study"),
    }
}

fn unavailable(parts: Vec<Part>, error: &Error) -> Vec<(usize, InstanceOutcome)> {
    let refused = |part: Part| {
        let known = Refusal {
            sop_class: Some(part.sop_class),
            sop_instance: Some(part.key.instance.to_string()),
            reason: FailureReason::OutOfResources,
            comment: String::new(),
            transient: true,
        };
        (part.number, InstanceOutcome::Refused(Refusal::unavailable(known, error)))
    };
    parts.into_iter().map(refused).collect()
}
