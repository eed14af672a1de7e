//! Makes rows for objects that have none, when the index is lost or older than the objects.
//!
//! An object says all that its rows need, its receipt when it came, and the objects of deletions what was hidden. Of several
//! contents under one UID they count in the order of their receipt, by the same rules as when they are stored, whatever has a row
//! already. Instances that have rows are passed over, so a run that was cut off is continued by the next one, and servers may run
//! beside it, but no sweep: it would remove an object while this makes its row. Beside a run, and after one that was cut off until
//! another has come to its end, nothing is deleted, taken back or swept.
//!
//! Leases that have run out are taken first, since an index from a backup knows those of processes that ended long ago. What lies
//! under a lease that is held is left alone and told of.
//!
//! What is left without a row is noted in the index (`left_objects`): sweeps remove the copies that nothing needs, full sweeps
//! also what is damaged, no instance or of another content. Leases that had run out are forgotten at the end: whatever lies under
//! them has a row now or is noted.
//!
//! A copy of what has a row is only needless if the object of that row is whole; if not, the row names the copy from then on.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::archive::agree::{Agreed, agree};
use crate::archive::describe::{Describer, Object};
use crate::archive::events::{self, Events};
use crate::archive::heal::{Again, Healer};
use crate::archive::lease::{Lease, Leases};
use crate::archive::limits::IngestLimits;
use crate::archive::policy::Policy;
use crate::archive::reread::{Reread, reread};
use crate::catalogue::{
    Catalogue, EndedLease, Inserted, Left, LeftObject, NewInstance, NotInserted, Occasion, Rules, Work, taken_at,
};
use crate::config::{Duplicates, OtherPatient, StoreSettings};
use crate::dicom::uid::{InstanceKey, InstanceUid, SeriesUid, StudyUid};
use crate::error::{Error, Result};
use crate::store::keys::{InstanceObject, StorageKey};
use crate::store::{ObjectStorage, Receipt};

/// Objects about which the index is asked at once.
const BATCH: usize = 500;
/// Instances whose rows are written at once.
const ROWS: usize = 64;
/// For how long after its last sign of life a run is waited for.
const TERM: Duration = Duration::from_mins(5);
/// How it is noted where a row comes from.
const SOURCE: &str = "reindex";

/// What became of an object.
#[derive(Debug)]
pub struct Reindexed {
    /// Where it is.
    pub key: StorageKey,
    /// Its size.
    pub bytes: u64,
    /// How it came out.
    pub fate: Fate,
}

/// How an object came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has a row now.
    Indexed {
        /// It is hidden, as it was deleted.
        hidden: bool,
        /// Nothing told whether it is whole, but for its own form.
        without_receipt: bool,
    },
    /// It had one already.
    Known,
    /// The same content has a row: this one is left over.
    LeftOver,
    /// Another content has the place.
    Different,
    /// Another content that was received later took its place.
    Superseded,
    /// A process may be about to make its row, as its lease is held.
    Held,
    /// It does not have the bytes that were stored.
    Damaged,
    /// It cannot be an instance, in words.
    Unusable(String),
    /// The store did not hand it out.
    Unread,
}

/// Refuses work that an index cannot bear that is being made anew, or was half made when a run was cut off. The lease of one that
/// was killed is taken once it has run out.
///
/// # Errors
/// What to do then; or the index is unavailable.
pub async fn expect_whole_index(catalogue: &Catalogue) -> Result<()> {
    let why = "deletes, restores and sweeps wait for it";
    let mut under_way = catalogue.under_way(Work::Reindex).await?;
    if under_way {
        for ended in catalogue.expired_leases(Duration::ZERO).await?.into_iter().filter(EndedLease::is_of_work) {
            catalogue.lapse_lease(ended.id).await?;
        }
        under_way = catalogue.under_way(Work::Reindex).await?;
    }
    if under_way {
        return Err(Error::unavailable(
            "the index is being made anew by `isocenter reindex`; try again when it has ended; if it was killed, run it again some \
             minutes later, to its end",
            why,
        ));
    }
    if catalogue.was_reindex_cut_off().await? {
        return Err(Error::unavailable(
            "`isocenter reindex` was cut off before the index was whole; run it again, to its end",
            why,
        ));
    }
    Ok(())
}

/// Reads the objects of an archive and writes the rows that are missing.
pub struct Reindex {
    shared: Arc<Shared>,
    leases: Leases,
    rules: Rules,
    parallel: usize,
}

struct Shared {
    store: ObjectStorage,
    catalogue: Catalogue,
    describer: Describer,
    limits: IngestLimits,
}

impl Reindexed {
    /// What is noted in the index of an object without a row.
    fn left(&self) -> Option<LeftObject> {
        let kind = match self.fate {
            // what is under a lease that is held is none of ours
            Fate::Indexed { .. } | Fate::Known | Fate::Held => return None,
            Fate::LeftOver | Fate::Superseded => Left::Needless,
            // only a person can tell what they are worth
            Fate::Different => Left::Different,
            Fate::Unusable(_) => Left::Useless,
            Fate::Damaged => Left::Damaged,
            Fate::Unread => Left::Unread,
        };
        Some(LeftObject { location: self.key.as_str().to_owned(), bytes: self.bytes, kind })
    }
}

/// An object that was listed.
#[derive(Clone, Debug)]
struct Candidate {
    key: StorageKey,
    bytes: u64,
    object: InstanceObject,
}

/// An object that was read.
struct Read {
    candidate: Candidate,
    row: NewInstance,
    without_receipt: bool,
}

/// What a run goes by.
struct Prepared {
    /// Leases that had run out before it began.
    lapsed: Vec<EndedLease>,
    events: Events,
}

impl Reindex {
    /// Prepares to read so many objects at once.
    ///
    /// # Errors
    /// Never with the settings that a server accepts.
    pub fn new(catalogue: Catalogue, store: ObjectStorage, settings: &StoreSettings, parallel: usize) -> Result<Self> {
        let limits = IngestLimits { instance_bytes: u64::MAX, ..IngestLimits::default() };
        // what is stored was let in: only the order of contents under one UID depends on the settings
        let everything = StoreSettings { duplicates: settings.duplicates, ..StoreSettings::default() };
        let describer = Describer::new(limits.metadata_bytes, limits.memory, Arc::new(Policy::new(&everything)?));
        let leases = Leases::named(catalogue.clone(), TERM, || Work::Reindex.new_lease());
        let duplicates = match settings.duplicates {
            Duplicates::Ignore => Duplicates::Reject,
            other => other,
        };
        let rules = Rules { duplicates, other_patient: OtherPatient::Accept, occasion: Occasion::Found };
        Ok(Self {
            shared: Arc::new(Shared { store, catalogue, describer, limits }),
            leases,
            rules,
            parallel: parallel.max(1),
        })
    }

    /// Reads all objects and tells of each.
    ///
    /// # Errors
    /// A sweep is under way, or index or store is unavailable; what was done stays done.
    pub async fn run(&self, mut tell: impl FnMut(Reindexed)) -> Result<Agreed> {
        // all rows are written under this one: once it is lost a sweep may be under way
        let lease = self.leases.current().await?;
        let (ran, cut_off) = match self.prepare(&lease).await {
            Ok(prepared) => {
                let ran = self.run_under(&lease, prepared, &mut tell).await;
                let cut_off = ran.is_err();
                (ran, cut_off)
            }
            Err(error) => (Err(error), false),
        };
        let id = lease.id;
        drop(lease);
        // half an index must be known for one: deletes would name half of what they are to hide
        if cut_off && let Err(error) = self.shared.catalogue.abandon_lease(id).await {
            tracing::warn!(lease = %id, ?error, "the lease of a run that was cut off is left to run out");
        }
        self.leases.end(!cut_off).await;
        ran
    }

    /// Finds out whether a run may begin, and what it goes by. Nothing has changed yet.
    async fn prepare(&self, lease: &Lease) -> Result<Prepared> {
        let catalogue = &self.shared.catalogue;
        for ended in catalogue.expired_leases(Duration::ZERO).await? {
            catalogue.lapse_lease(ended.id).await?;
        }
        // asked after the own lease was taken: the others ask in the same order, so that one of the two gives way
        for (work, why) in [(Work::Sweep, "a sweep"), (Work::Reindex, "another `isocenter reindex`")] {
            if catalogue.is_under_way_beside(work, lease.id).await? {
                return Err(Error::unavailable(
                    format!("{why} is under way; try again when it has ended, or some minutes after it was killed"),
                    "what has no row would be judged twice",
                ));
            }
        }
        let lapsed = catalogue.lapsed_leases().await?;
        Ok(Prepared { lapsed, events: Events::read(&self.shared.store, self.rules.duplicates).await? })
    }

    async fn run_under(
        &self,
        lease: &Lease,
        Prepared { lapsed, events }: Prepared,
        tell: &mut impl FnMut(Reindexed),
    ) -> Result<Agreed> {
        let catalogue = &self.shared.catalogue;
        catalogue.forget_all_left().await?;
        let agreed = agree(lease.id, catalogue, &self.shared.store, &events).await?;
        // what a run that was cut off has not come to
        let all = lapsed.iter().any(EndedLease::is_of_work);
        let mut changed: Option<StudyUid> = None;
        let mut series = pin!(by_series(self.shared.store.list("studies")));
        while let Some(objects) = series.try_next().await? {
            let Some(study) = objects.first().map(|first| first.object.instance.study.clone()) else { continue };
            if let Some(before) = changed.take_if(|before| *before != study) {
                catalogue.describe_anew(&before).await?;
            }
            let (mut left, mut indexed) = (Vec::new(), all);
            let mut note = |one: Reindexed| {
                left.extend(one.left());
                indexed |= matches!(one.fate, Fate::Indexed { .. });
                tell(one);
            };
            self.series(lease, objects, &events, &mut note).await?;
            if !left.is_empty() {
                catalogue.leave(&left).await?;
            }
            if indexed {
                changed = Some(study);
            }
        }
        if let Some(last) = changed {
            catalogue.describe_anew(&last).await?;
        }
        // a sweep may have taken the own one when nothing was left to write
        catalogue.forget_lapsed_lease(lease.id).await?;
        for ended in lapsed {
            catalogue.forget_lapsed_lease(ended.id).await?;
        }
        Ok(agreed)
    }

    /// The objects of a series: first those that are alone under their UID, many at once, then the others in the order in which
    /// they came.
    async fn series(
        &self,
        lease: &Lease,
        objects: Vec<Candidate>,
        events: &Events,
        tell: &mut impl FnMut(Reindexed),
    ) -> Result<()> {
        let mut unknown = Vec::new();
        for batch in objects.chunks(BATCH) {
            unknown.extend(self.unknown(batch, tell).await?);
        }
        let mut of_instance: BTreeMap<InstanceUid, Vec<Candidate>> = BTreeMap::new();
        for one in unknown {
            of_instance.entry(one.object.instance.instance.clone()).or_default().push(one);
        }
        let (alone, several): (Vec<_>, Vec<_>) = of_instance.into_values().partition(|objects| objects.len() == 1);
        let reads = stream::iter(alone.into_iter().flatten()).map(|one| self.read(one)).buffer_unordered(self.parallel);
        let mut batches = pin!(reads.chunks(ROWS));
        while let Some(batch) = batches.next().await {
            self.write(lease, batch.into_iter().collect::<Result<Vec<_>>>()?, events, tell).await?;
        }
        for objects in several {
            let mut reads = stream::iter(objects).map(|one| self.read(one)).buffered(self.parallel);
            let mut read = Vec::new();
            while let Some(one) = reads.try_next().await? {
                read.push(one);
            }
            read.sort_by_key(|one| match one {
                Ok(read) => (read.row.received_at, read.candidate.object.lease, read.candidate.object.number),
                Err(told) => (0, Uuid::nil(), told.bytes),
            });
            for one in read {
                self.write(lease, vec![one], events, tell).await?;
            }
        }
        Ok(())
    }

    /// Those of these objects that have no row and that no process is about to give one.
    async fn unknown(&self, batch: &[Candidate], tell: &mut impl FnMut(Reindexed)) -> Result<Vec<Candidate>> {
        let catalogue = &self.shared.catalogue;
        // asked after the objects were listed and before their rows: whoever was about to write one has done so or still holds it
        let leases = batch.iter().map(|one| one.object.lease).collect();
        let held = catalogue.leases_held(&leases).await?;
        let instances = batch.iter().map(|one| one.object.instance.instance.clone()).collect::<HashSet<_>>();
        let named = catalogue.locations_of(&instances).await?;
        let mut unknown = Vec::new();
        for one in batch {
            if named.contains(one.key.as_str()) {
                tell(Reindexed { key: one.key.clone(), bytes: one.bytes, fate: Fate::Known });
            } else if held.contains(&one.object.lease) {
                tell(Reindexed { key: one.key.clone(), bytes: one.bytes, fate: Fate::Held });
            } else {
                unknown.push(one.clone());
            }
        }
        Ok(unknown)
    }

    /// Reads an object in a task of its own, so that several processors compute digests.
    async fn read(&self, candidate: Candidate) -> Result<Result<Read, Reindexed>> {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move { shared.read(candidate).await });
        task.await.map_err(|error| Error::internal("reading an object panicked").caused_by(error))
    }

    async fn write(
        &self,
        lease: &Lease,
        batch: Vec<Result<Read, Reindexed>>,
        events: &Events,
        tell: &mut impl FnMut(Reindexed),
    ) -> Result<()> {
        let mut read = Vec::new();
        for one in batch {
            match one {
                Ok(mut one) => {
                    // hidden as it gets its row: whoever stores it again in between must not be told that it is there
                    let received_at = (!one.without_receipt).then_some(one.row.received_at);
                    let instance = &one.candidate.object.instance.instance;
                    let fate = match events.fate(&one.row.location, instance, received_at) {
                        events::Fate::Left => Some(Fate::LeftOver),
                        // only a person can tell: the clocks of two servers may differ
                        events::Fate::Superseded => Some(Fate::Different),
                        events::Fate::Deleted(deletion) => {
                            one.row.deletion = Some(deletion);
                            None
                        }
                        events::Fate::Shown(_) | events::Fate::Late | events::Fate::Unknown => None,
                    };
                    if let Some(fate) = fate {
                        tell(Reindexed { key: one.candidate.key, bytes: one.candidate.bytes, fate });
                        continue;
                    }
                    read.push(one);
                }
                Err(told) => tell(told),
            }
        }
        if read.is_empty() {
            return Ok(());
        }
        let catalogue = &self.shared.catalogue;
        let (objects, rows): (Vec<_>, Vec<_>) = read
            .into_iter()
            .map(|one| {
                let about = (one.without_receipt, one.row.deletion.is_some(), one.row.digest);
                ((one.candidate, about), one.row)
            })
            .unzip();
        let inserted = catalogue.insert_instances(lease.id, self.rules, rows, catalogue.announce()).await;
        let inserted = inserted.map_err(NotInserted::into_error)?;
        for ((candidate, (without_receipt, hidden, digest)), inserted) in objects.into_iter().zip(inserted) {
            let fate = match inserted {
                Inserted::New(_) | Inserted::Replaced(_) | Inserted::Below => Fate::Indexed { hidden, without_receipt },
                Inserted::Identical if hidden => Fate::LeftOver,
                Inserted::Identical => match self.is_needed(lease, &candidate, digest).await {
                    Ok(true) => Fate::Indexed { hidden, without_receipt },
                    Ok(false) => Fate::LeftOver,
                    Err(error) => {
                        tracing::warn!(key = candidate.key.as_str(), ?error, "whether a copy is needed cannot be told");
                        Fate::Unread
                    }
                },
                Inserted::Older => Fate::Superseded,
                Inserted::Different | Inserted::Ignored | Inserted::OtherPatient => Fate::Different,
            };
            tell(Reindexed { key: candidate.key, bytes: candidate.bytes, fate });
        }
        Ok(())
    }

    /// Whether the object of the row that has this content is lost or damaged: the row names this one then.
    async fn is_needed(&self, lease: &Lease, candidate: &Candidate, digest: [u8; 32]) -> Result<bool> {
        let Shared { store, catalogue, describer, limits } = &*self.shared;
        let healer = Healer { catalogue, store, describer, header: limits.header, lease: lease.id };
        let Candidate { key, bytes, object } = candidate;
        let again = Again { key: &object.instance, object: key, size: *bytes, digest, source: SOURCE };
        healer.takes_the_place(&again).await
    }
}

impl Shared {
    async fn read(&self, candidate: Candidate) -> Result<Read, Reindexed> {
        let told = |fate| Reindexed { key: candidate.key.clone(), bytes: candidate.bytes, fate };
        let unread = |error: Error| {
            tracing::warn!(key = candidate.key.as_str(), ?error, "an object cannot be read");
            told(Fate::Unread)
        };
        let receipt = self.store.receipt(&candidate.key).await.map_err(unread)?;
        let Reread { digest, size, header } =
            reread(&self.store, &candidate.key, self.limits.header).await.map_err(unread)?;
        // as it came is whole too, whatever became of the other digest in the receipt
        if receipt.is_some_and(|receipt| receipt.digest != digest && receipt.received_digest != digest) {
            return Err(told(Fate::Damaged));
        }
        let header = header.map_err(|why| told(Fate::Unusable(why)))?;
        let described = self.describer.describe(header, &Handle::current()).await;
        let described = described.map_err(|(_, comment)| told(Fate::Unusable(comment)))?;
        if described.entry.key != candidate.object.instance {
            return Err(told(Fate::Unusable("it is not the instance that its key names".to_owned())));
        }
        let assumed = Receipt {
            received_at: taken_at(candidate.object.lease).unwrap_or_default(),
            received_digest: digest,
            digest,
        };
        let Receipt { received_at, received_digest, .. } = receipt.unwrap_or(assumed);
        let object = Object { location: &candidate.key, size, digest, received_digest, received_at, source: SOURCE };
        let row = described.into_row(&object);
        Ok(Read { candidate, row, without_receipt: receipt.is_none() })
    }
}

/// The objects of instances, those of a series together: a listing goes folder by folder.
fn by_series(listing: BoxStream<'static, Result<(StorageKey, u64)>>) -> BoxStream<'static, Result<Vec<Candidate>>> {
    let candidates = listing.try_filter_map(|(key, bytes)| async move {
        Ok(key.instance_object().map(|object| Candidate { key, bytes, object }))
    });
    let of = |candidate: &Candidate| -> (StudyUid, SeriesUid) {
        let InstanceKey { study, series, .. } = &candidate.object.instance;
        (study.clone(), series.clone())
    };
    stream::try_unfold((candidates.boxed().fuse(), None::<Candidate>), move |(mut candidates, first)| async move {
        let mut together: Vec<Candidate> = first.into_iter().collect();
        loop {
            match candidates.try_next().await? {
                None if together.is_empty() => return Ok(None),
                None => return Ok(Some((together, (candidates, None)))),
                Some(next) if together.first().is_some_and(|first| of(first) != of(&next)) => {
                    return Ok::<_, Error>(Some((together, (candidates, Some(next)))));
                }
                Some(next) => together.push(next),
            }
        }
    })
    .boxed()
}
