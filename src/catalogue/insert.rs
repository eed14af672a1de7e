//! Storing instances, before and around the transaction: metadata is compressed on a guess, and what lost a race is run again.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Catalogue;
use super::database::Database;
use super::deletions::Deletion;
use super::failure::is_conflict;
use super::metadata::{Dictionaries, Dictionary};
use super::storing::store;
use super::writer::Coming;
use crate::config::{Duplicates, OtherPatient, StoreSettings};
use crate::dicom::entry::IndexEntry;
use crate::dicom::frames::StoredFrames;
use crate::dicom::header::Form;
use crate::dicom::transfer_syntax::Encoding;
use crate::dicom::uid::{SeriesUid, StudyUid, TransferSyntaxUid};
use crate::error::{Error, Result};

/// An instance whose object is durable and whose rows are to be written.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Its columns.
    pub entry: IndexEntry,
    /// Transfer Syntax UID of the stored object.
    pub transfer_syntax: TransferSyntaxUid,
    /// How its data set is really encoded.
    pub encoding: Encoding,
    /// How the stored object begins.
    pub form: Form,
    /// The storage key of the object.
    pub location: String,
    /// Bytes of the object.
    pub size: u64,
    /// BLAKE3 of the object.
    pub digest: [u8; 32],
    /// BLAKE3 of the bytes as received; recognises a re-send.
    pub received_digest: [u8; 32],
    /// Time of receipt, milliseconds since 1970-01-01 UTC.
    pub received_at: i64,
    /// Who sent it and how.
    pub source: String,
    /// Its file name where known.
    pub file_name: Option<String>,
    /// Its metadata as DICOM JSON.
    pub metadata: Vec<u8>,
    /// Where its frames are.
    pub frames: StoredFrames,
    /// How many frames it has.
    pub number_of_frames: u32,
    /// Where the values named by its BulkDataURIs lie.
    pub bulk: Vec<u8>,
    /// The deletion that hid its object before there was this index: its row is hidden from the first, and stands in no other's way.
    pub deletion: Option<Arc<Deletion>>,
}

/// How the storing of one instance came out. The same content under another study or series is another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inserted {
    /// A new row.
    New(Patient),
    /// A new row, which took the place of another content under this SOP Instance UID.
    Replaced(Patient),
    /// The same content (received digest equal) is stored already: nothing changed.
    Identical,
    /// Another content is stored under this SOP Instance UID: nothing changed.
    Different,
    /// The same, and the rules say that this is well.
    Ignored,
    /// Another content is stored under this SOP Instance UID that was received later: nothing changed.
    Older,
    /// A new row, which is an older version of what is stored under this SOP Instance UID.
    Below,
    /// The study is of another patient, which the rules do not allow: nothing changed.
    OtherPatient,
}

/// Whether the Patient ID of an instance is that of its study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Patient {
    /// It is.
    Same,
    /// It is another, and the rules say that this is worth a word.
    Other,
}

/// What the index does with instances that do not fit to what it has.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// With another content under a known SOP Instance UID.
    pub duplicates: Duplicates,
    /// With an instance whose Patient ID is not that of its study.
    pub other_patient: OtherPatient,
    /// Why instances come.
    pub occasion: Occasion,
}

/// Why instances come to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A client stores them, the last one last.
    Stored,
    /// Their objects were found, in any order: contents under one UID count in the order of their receipt.
    Found,
    /// The object of the same content was lost, and this one takes its place.
    Lost,
}

impl Default for Rules {
    fn default() -> Self {
        let StoreSettings { duplicates, other_patient, .. } = StoreSettings::default();
        Self { duplicates, other_patient, occasion: Occasion::Stored }
    }
}

/// Why the rows of a batch are not, or may not be, written.
#[derive(Debug)]
pub enum NotInserted {
    /// Nothing was committed.
    Failed(Error),
    /// Nothing was committed, nor ever will be under this lease: it ran out, and objects under it may be erased.
    LeaseGone,
    /// The commit was under way when the database failed: either all of it came about or nothing, and nobody can tell.
    InDoubt(Error),
}

impl From<Error> for NotInserted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl NotInserted {
    /// What failed.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::Failed(error) | Self::InDoubt(error) => error,
            Self::LeaseGone => {
                Error::unavailable("the archive was cut off for too long; try again", "the lease is gone")
            }
        }
    }
}

/// How often a transaction that lost against another is run again.
const TRIES: u32 = 8;
/// Metadata of more bytes than this is compressed off the threads that serve requests.
const COMPRESS_INLINE_BYTES: usize = 64 << 10;

impl Catalogue {
    /// Says that instances will be inserted soon, when their objects are durable, so that others may be committed with them.
    #[must_use]
    pub fn announce(&self) -> Coming {
        self.0.writer.as_ref().map(super::writer::Queue::announce).unwrap_or_default()
    }

    /// Writes the rows of instances whose objects are durable, in one transaction. On `Ok` they are durable too.
    ///
    /// Says for each, in order, how it came out. `coming` is from [`Catalogue::announce`].
    ///
    /// A future that is dropped before its commit began leaves nothing. One that is dropped later leaves either all of the
    /// batch or nothing, and cannot tell which: a caller that erases objects on the way out must not be dropped here,
    /// but run in a task of its own.
    ///
    /// # Errors
    /// `Unavailable` when the database is, or when the lease is gone.
    pub async fn insert_instances(
        &self,
        lease: Uuid,
        rules: Rules,
        instances: Vec<NewInstance>,
        coming: Coming,
    ) -> Result<Vec<Inserted>, NotInserted> {
        let batch = self.prepare(lease, rules, instances).await?;
        if let Some(writer) = &self.0.writer {
            return writer.insert(batch, coming).await;
        }
        let (database, dictionaries) = (self.0.database.clone(), self.0.dictionaries.clone());
        let insert = async move { Ok(insert(&database, &dictionaries, &batch).await) };
        // the task ends without an answer when the server does
        self.0.database.spawn(insert).await.map_err(NotInserted::InDoubt)?
    }

    /// Does what needs no transaction: above all compressing the metadata, against the dictionary that the series most
    /// likely has, or will have when this batch is its first.
    async fn prepare(&self, lease: Uuid, rules: Rules, instances: Vec<NewInstance>) -> Result<Batch> {
        let dictionaries = self.0.dictionaries.clone();
        let bytes: usize = instances.iter().map(|instance| instance.metadata.len()).sum();
        let work = move || compress(instances, &dictionaries);
        let instances = if bytes > COMPRESS_INLINE_BYTES { self.0.database.compute(work).await? } else { work()? };
        Ok(Batch { lease: lease.to_string(), rules, instances })
    }
}

/// Runs the transaction of a batch, and again when another process was faster.
async fn insert(database: &Database, dictionaries: &Dictionaries, batch: &Batch) -> Result<Vec<Inserted>, NotInserted> {
    let mut tries = 1;
    loop {
        let stored = match database.begin().await {
            Ok(transaction) => store(transaction, dictionaries, &[batch], || true).await,
            Err(error) => return Err(error.into()),
        };
        match stored {
            Ok(stored) => {
                let stored = stored.unwrap_or_default();
                stored.remember(dictionaries);
                return stored.outcomes.into_iter().next().unwrap_or(Err(NotInserted::LeaseGone));
            }
            Err(NotInserted::Failed(error)) if tries < TRIES && is_conflict(&error) => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The instances of one call.
pub(super) struct Batch {
    pub(super) lease: String,
    pub(super) rules: Rules,
    pub(super) instances: Vec<Prepared>,
}

/// An instance with its metadata compressed on a guess.
pub(super) struct Prepared {
    pub(super) new: NewInstance,
    pub(super) guess: Guess,
    pub(super) compressed: Vec<u8>,
}

/// Against what the metadata was compressed. The transaction finds out whether it was right.
pub(super) enum Guess {
    /// The dictionary of the series as last heard of.
    Known(i64),
    /// The metadata of the first instance of the series in this batch.
    First(Arc<Dictionary>),
}

fn compress(instances: Vec<NewInstance>, dictionaries: &Dictionaries) -> Result<Vec<Prepared>> {
    type Group = (Option<i64>, Arc<Dictionary>, Vec<usize>);
    let mut series: HashMap<(&StudyUid, &SeriesUid), Group> = HashMap::new();
    for (number, instance) in instances.iter().enumerate() {
        let key = &instance.entry.key;
        let group = series.entry((&key.study, &key.series)).or_insert_with(|| match dictionaries.of_series(key) {
            Some((id, dictionary)) => (Some(id), dictionary, Vec::new()),
            None => (None, Arc::new(Dictionary::of(&instance.metadata)), Vec::new()),
        });
        group.2.push(number);
    }
    let mut done: Vec<Option<(Guess, Vec<u8>)>> = std::iter::repeat_with(|| None).take(instances.len()).collect();
    for (id, dictionary, members) in series.into_values() {
        let plain = members.iter().filter_map(|number| instances.get(*number)).map(|one| one.metadata.as_slice());
        for (number, compressed) in members.iter().zip(dictionary.compress(plain)?) {
            let guess = id.map_or_else(|| Guess::First(Arc::clone(&dictionary)), Guess::Known);
            if let Some(slot) = done.get_mut(*number) {
                *slot = Some((guess, compressed));
            }
        }
    }
    let prepared = instances.into_iter().zip(done).map(|(new, done)| {
        let (guess, compressed) = done.ok_or_else(|| Error::internal("an instance belongs to no series"))?;
        Ok(Prepared { new, guess, compressed })
    });
    prepared.collect()
}
