//! Every row of the index against its object: whether it is there, whole and undamaged, and whether what the row holds of it
//! can be read.
//!
//! Rows come page by page and objects as streams, several at once, so memory does not grow with the archive. What
//! seems wrong is looked at again together with its row: an instance that is removed or replaced meanwhile is no finding.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dicom_core::Tag;
use futures_util::StreamExt as _;
use serde::de::IgnoredAny;

use crate::archive::reread::digest_of;
use crate::catalogue::{Catalogue, IndexedRow, InstanceRow, RowRange};
use crate::dicom::bulk::{self, BulkPath};
use crate::dicom::frames::{self, FRAMES_PER_BLOCK, FrameBlock, FrameExtent, Located};
use crate::dicom::uid::StudyUid;
use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectStorage;
use crate::store::keys::StorageKey;

/// How often a row is looked at that changes while its object is compared.
const LOOKS: u32 = 4;
/// Pauses before an object is asked for again when the store failed.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];
/// So many objects in succession that could not be read mean that the store is away.
const AWAY: u32 = 20;
/// Of frame indexes that are lists, all of so many frames are looked at; of others the first and the last.
const FEW_FRAMES: u32 = 64;

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Only the instances of this study.
    pub study: Option<StudyUid>,
    /// Objects that are read at once.
    pub parallel: usize,
    /// Objects are not read: only whether they are there and how large they are.
    pub quick: bool,
}

/// A row that was compared with its object.
#[derive(Debug)]
pub struct Checked {
    /// The row.
    pub row: IndexedRow,
    /// Bytes of the object that were read or, where objects are not read, that it has.
    pub bytes: u64,
    /// What is wrong, if anything.
    pub problems: Vec<Problem>,
}

/// What may be wrong with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The object is not there.
    Missing,
    /// The object has another size than the row says.
    WrongSize {
        /// What the row says.
        expected: u64,
        /// What the object has.
        found: u64,
    },
    /// The object has other bytes than were stored.
    Damaged,
    /// A part of the row cannot be read.
    Unreadable(RowPart),
    /// The store did not hand out the object, so nothing is known.
    Unchecked,
}

/// Parts of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPart {
    /// Its columns.
    Columns,
    /// The storage key, which is not one of this instance.
    StorageKey,
    /// Where the frames are.
    FrameIndex,
    /// The metadata.
    Metadata,
    /// Where bulk data are.
    BulkData,
}

/// A comparison of index and objects.
pub struct Verify {
    comparer: Arc<Comparer>,
    range: RowRange,
    parallel: usize,
}

struct Comparer {
    catalogue: Catalogue,
    store: ObjectStorage,
    quick: bool,
}

impl Verify {
    /// Begins with the rows that there are now.
    ///
    /// # Errors
    /// `BadRequest` when there is no such study, `Unavailable` when the index is.
    pub async fn begin(catalogue: &Catalogue, store: &ObjectStorage, options: &VerifyOptions) -> Result<Self> {
        let range = catalogue.row_range(options.study.as_ref()).await?;
        let range = range.ok_or_else(|| Error::bad_request("the index has no study with the UID of `--study`"))?;
        let comparer = Comparer { catalogue: catalogue.clone(), store: store.clone(), quick: options.quick };
        Ok(Self { comparer: Arc::new(comparer), range, parallel: options.parallel.max(1) })
    }

    /// About how many instances will be compared.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.range.instances
    }

    /// Compares all of them, telling of each as it is done, in no order.
    ///
    /// # Errors
    /// `Unavailable` when index or store is, which leaves the rest unchecked.
    pub async fn run(self, mut tell: impl FnMut(Checked)) -> Result<()> {
        let comparisons = self.comparer.catalogue.rows(&self.range).map(|row| {
            let comparer = Arc::clone(&self.comparer);
            async move {
                let row = row?;
                // a task of its own, so that several processors compute digests
                let task = tokio::spawn(async move { comparer.check(row).await });
                task.await.map_err(|error| Error::internal("comparing an instance panicked").caused_by(error))?
            }
        });
        let mut comparisons = pin!(comparisons.buffer_unordered(self.parallel));
        let mut away = 0;
        while let Some(checked) = comparisons.next().await {
            let Some(checked) = checked? else { continue };
            away = if checked.problems.contains(&Problem::Unchecked) { away + 1 } else { 0 };
            tell(checked);
            if away >= AWAY {
                return Err(Error::unavailable("the object store is unavailable", "too many objects in succession"));
            }
        }
        Ok(())
    }
}

impl Comparer {
    /// Compares a row with its object, again while the row changes meanwhile; nothing if it is gone.
    async fn check(&self, mut row: IndexedRow) -> Result<Option<Checked>> {
        let mut looks = 1;
        loop {
            let (bytes, problems) = self.look(&row).await?;
            if problems.is_empty() {
                return Ok(Some(Checked { row, bytes, problems }));
            }
            match self.catalogue.row(row.id).await? {
                None => return Ok(None),
                Some(now) if now != row && looks < LOOKS => row = now,
                Some(_) => return Ok(Some(Checked { row, bytes, problems })),
            }
            looks += 1;
        }
    }

    async fn look(&self, row: &IndexedRow) -> Result<(u64, Vec<Problem>)> {
        let Some(content) = &row.content else { return Ok((0, vec![Problem::Unreadable(RowPart::Columns)])) };
        let mut problems: Vec<Problem> =
            self.unreadable_parts(content).await?.into_iter().map(Problem::Unreadable).collect();
        let key = StorageKey::from_index(row.location.clone());
        if key.instance_object().is_none_or(|object| object.instance != content.key) {
            problems.push(Problem::Unreadable(RowPart::StorageKey));
            return Ok((0, problems));
        }
        let (bytes, problem) = self.object(&key, content).await;
        problems.extend(problem);
        Ok((bytes, problems))
    }

    async fn unreadable_parts(&self, row: &InstanceRow) -> Result<Vec<RowPart>> {
        let mut parts = Vec::new();
        if !self.has_readable_frames(row).await? {
            parts.push(RowPart::FrameIndex);
        }
        // gone: the row is looked at again anyway if something else is wrong
        let Some(rest) = self.catalogue.row_parts(row.id).await? else { return Ok(parts) };
        let is_object = |json: &[u8]| json.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(json).is_ok();
        if !rest.metadata.as_deref().is_some_and(is_object) {
            parts.push(RowPart::Metadata);
        }
        // a path that no index has, so that all of it is read
        if bulk::find(&rest.bulk, &BulkPath::root(Tag(0, 0))).is_err() {
            parts.push(RowPart::BulkData);
        }
        Ok(parts)
    }

    /// Whether every frame, or of many the first and the last, is found within the object.
    async fn has_readable_frames(&self, row: &InstanceRow) -> Result<bool> {
        // the answer to a number that no frame has is how many there are
        let Ok(Located::Beyond(count)) = frames::locate(&row.frames, u32::MAX) else { return Ok(false) };
        if count == 0 {
            return Ok(true);
        }
        if let Ok(Located::InBlock(_)) = frames::locate(&row.frames, 1) {
            return self.has_readable_blocks(row, count).await;
        }
        let within = |number| match frames::locate(&row.frames, number) {
            Ok(Located::Frame(extent)) => is_within(&extent, row.size),
            Ok(Located::InBlock(_) | Located::Beyond(_)) | Err(_) => false,
        };
        Ok(if count <= FEW_FRAMES { (1..=count).all(within) } else { within(1) && within(count) })
    }

    async fn has_readable_blocks(&self, row: &InstanceRow, count: u32) -> Result<bool> {
        for block in 0..count.div_ceil(FRAMES_PER_BLOCK) {
            let first = block * FRAMES_PER_BLOCK + 1;
            let last = first.saturating_add(FRAMES_PER_BLOCK - 1).min(count);
            let bytes = match self.catalogue.frame_block(row.id, block).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Internal => return Ok(false),
                Err(error) => return Err(error),
            };
            let Ok(mut frames) = FrameBlock::new(bytes) else { return Ok(false) };
            if !(first..=last).all(|number| frames.find(number).is_ok_and(|extent| is_within(&extent, row.size))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compares the object, again after a pause when the store fails.
    async fn object(&self, key: &StorageKey, row: &InstanceRow) -> (u64, Option<Problem>) {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.compare(key, row).await {
                Ok(compared) => return compared,
                Err(error) => {
                    let Some(pause) = pauses.next() else {
                        tracing::error!(key = key.as_str(), ?error, "an object could not be read");
                        return (0, Some(Problem::Unchecked));
                    };
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn compare(&self, key: &StorageKey, row: &InstanceRow) -> Result<(u64, Option<Problem>)> {
        let wrong_size = |found| Problem::WrongSize { expected: row.size, found };
        let read = if self.quick { Ok(None) } else { digest_of(&self.store, key).await.map(Some) };
        let error = match read {
            Ok(Some((size, _))) if size != row.size => return Ok((size, Some(wrong_size(size)))),
            Ok(Some((size, digest))) => return Ok((size, (digest != row.digest).then_some(Problem::Damaged))),
            Ok(None) => None,
            Err(error) if error.kind() == ErrorKind::Lost => Some(error),
            Err(error) => return Err(error),
        };
        Ok(match self.store.exists(key).await? {
            None => (0, Some(Problem::Missing)),
            Some(size) if size != row.size => (size, Some(wrong_size(size))),
            Some(size) => (size, error.map(|_| Problem::Damaged)),
        })
    }
}

/// Positions in deflated data sets count in what is inflated of them, so they say nothing about the object.
fn is_within(extent: &FrameExtent, size: u64) -> bool {
    extent.is_deflated() || extent.position.checked_add(extent.length).is_some_and(|end| end <= size)
}
