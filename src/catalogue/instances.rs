//! Reading instances: one by its UIDs, or all of a study or series in the order in which they are shown, in batches.

use std::collections::VecDeque;

use futures_util::{Stream, TryStreamExt, stream};
use uuid::Uuid;

use super::database::Database;
use super::insert::NotInserted;
use super::leases;
use super::left::{Left, LeftObject};
use super::metadata::{Stored, decompress_each, take_run};
use super::sql::{Row, Statement};
use super::{Catalogue, MAIN_PARTITION};
use crate::dicom::header::Form;
use crate::dicom::transfer_syntax::Encoding;
use crate::dicom::uid::{InstanceKey, InstanceUid, Scope, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid};
use crate::error::{Error, Result};

/// The row of an instance; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub i64);

/// What is needed to hand out a stored instance or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Its row.
    pub id: InstanceId,
    /// Its UIDs.
    pub key: InstanceKey,
    /// SOP Class UID.
    pub sop_class: SopClassUid,
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
    /// Time of receipt, milliseconds since 1970-01-01 UTC.
    pub received_at: i64,
    /// How many frames it has.
    pub number_of_frames: u32,
    /// Where they are: [`crate::dicom::frames::StoredFrames::head`].
    pub frames: Vec<u8>,
    /// The version of its series; it goes up with every change of the series or its instances.
    pub series_version: i64,
}

/// The metadata of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceMetadata {
    /// Its UIDs.
    pub key: InstanceKey,
    /// DICOM JSON: one object.
    pub json: Vec<u8>,
}

/// Most instances per batch.
const BATCH: i64 = 500;
/// Instances of the first batch of metadata, before their size is known.
const FIRST_METADATA_BATCH: i64 = 16;
/// Bytes of JSON that a batch of metadata should come to, and most that are decompressed at once.
pub(super) const METADATA_BATCH_BYTES: usize = 2 << 20;

/// The columns of [`InstanceRow`] but the key's and the series'.
pub(super) const COLUMNS: &str = "i.id, i.sop_instance_uid, i.sop_class_uid, i.transfer_syntax_uid, i.encoding, i.form, i.location, \
                       i.size, i.digest, i.received_at, i.number_of_frames, i.frames";

impl Catalogue {
    /// The instance of these UIDs; none when it is unknown, hidden, or in another series or study. With a version it is that
    /// one, be it the newest or an older one that is kept.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn locate(&self, key: &InstanceKey, version: Option<u32>) -> Result<Option<InstanceRow>> {
        let mut statement = Statement::default();
        // older versions are in the index of hidden rows
        let halves: &[&str] = if version.is_some() { &["= 0", "= 3 and i.hidden <> 0"] } else { &["= 0"] };
        for (number, hidden) in halves.iter().enumerate() {
            statement.push(if number == 0 { "select " } else { " union all select " }).push(COLUMNS);
            statement.push(
                ", s.version from instances i \
                 join series s on s.id = i.series_id join studies t on t.id = i.study_id where i.partition_id = ",
            );
            statement.push_bind(MAIN_PARTITION).push(" and i.hidden ").push(hidden);
            statement.push(" and i.sop_instance_uid = ").push_bind(key.instance.as_str());
            statement.push(" and s.series_uid = ").push_bind(key.series.as_str());
            statement.push(" and t.study_uid = ").push_bind(key.study.as_str());
            if let Some(version) = version {
                statement.push(" and i.version = ").push_bind(i64::from(version));
            }
        }
        match self.database().read_optional(statement).await? {
            Some(row) => instance(&row, &key.study, &key.series, row.integer(12)?).map(Some),
            None => Ok(None),
        }
    }

    /// Names another object of the same content for an instance, if its row still names the one `from`; false if not. The object
    /// must be durable and be stored under a lease that is held.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn relocate(&self, key: &InstanceKey, from: &str, to: &str, lease: Uuid) -> Result<bool> {
        let text = "update instances set location = $1 where partition_id = $2 and sop_instance_uid = $3 and hidden = 0 \
                    and location = $4 returning id";
        let statement = Statement::new(text).with(to).with(MAIN_PARTITION).with(key.instance.as_str()).with(from);
        let left = LeftObject { location: from.to_owned(), bytes: 0, kind: Left::Damaged }.note();
        let database = self.database().clone();
        let relocate = async move {
            let mut transaction = database.begin().await?;
            // before the row, as in every commit: a sweep that takes the lease waits for it, or this finds the lease gone
            let held = leases::held(database.dialect(), vec![lease.to_string()]);
            let rows = transaction.fetch_each(vec![held, statement]).await?;
            if rows.iter().any(Vec::is_empty) {
                return Ok(false);
            }
            // what is left of the old one has no row from now on
            transaction.commit_with(vec![left.into()]).await.map_err(NotInserted::into_error)?;
            Ok(true)
        };
        self.database().spawn(relocate).await
    }

    /// The instances of a scope by series number (missing last), series UID, instance number (missing last) and UID.
    /// Read in batches, so that a study of any size streams. An empty stream: there is nothing there.
    pub fn instances(&self, scope: &Scope) -> impl Stream<Item = Result<InstanceRow>> + Send + 'static {
        let walk = Walk { database: self.database().clone(), plan: Plan::Unread(scope.clone()), batch: BATCH };
        stream::try_unfold(walk, |mut walk| async {
            let Some((rows, series)) = walk.next(COLUMNS).await? else { return Ok::<_, Error>(None) };
            let rows =
                in_order(&rows, &series, 12, |row, series| instance(row, &series.study, &series.uid, series.version))?;
            Ok(Some((stream::iter(rows.into_iter().map(Ok)), walk)))
        })
        .try_flatten()
    }

    /// The metadata of a scope's instances, in the order of [`Catalogue::instances`], read in batches bounded by size.
    pub fn metadata(&self, scope: &Scope) -> impl Stream<Item = Result<InstanceMetadata>> + Send + 'static {
        let walk =
            Walk { database: self.database().clone(), plan: Plan::Unread(scope.clone()), batch: FIRST_METADATA_BATCH };
        let dictionaries = self.0.dictionaries.clone();
        stream::try_unfold((walk, VecDeque::new()), move |(mut walk, mut waiting)| {
            let dictionaries = dictionaries.clone();
            async move {
                while waiting.is_empty() {
                    let columns = "i.sop_instance_uid, i.dictionary_id, i.metadata";
                    let Some((rows, series)) = walk.next(columns).await? else { return Ok::<_, Error>(None) };
                    waiting = stored_metadata(&rows, &series)?;
                    walk.adapt(&waiting)?;
                }
                let run = take_run(&walk.database, &dictionaries, &mut waiting, METADATA_BATCH_BYTES).await?;
                let (stored, found) = (run.stored, run.dictionaries);
                let plain = walk.database.compute(move || decompress_each(&stored, &found, |plain| plain)).await?;
                let batch = run.of.into_iter().zip(plain).map(|(key, json)| Ok(InstanceMetadata { key, json }));
                Ok(Some((stream::iter(batch), (walk, waiting))))
            }
        })
        .try_flatten()
    }

    /// A block of an instance's frame index ([`crate::dicom::frames::StoredFrames::blocks`]).
    ///
    /// # Errors
    /// `Internal` when there is none, since the head of the index says so.
    pub async fn frame_block(&self, instance: InstanceId, block: u32) -> Result<Vec<u8>> {
        let statement = Statement::new("select frames from frame_blocks where instance_id = $1 and block = $2");
        let row = self.database().read_optional(statement.with(instance.0).with(i64::from(block))).await?;
        Ok(row.ok_or_else(|| Error::internal("a block of a frame index is missing"))?.bytes(0)?.to_vec())
    }

    /// Where the values named by an instance's BulkDataURIs lie.
    ///
    /// # Errors
    /// `Internal` when the row is gone.
    pub async fn bulk_index(&self, instance: InstanceId) -> Result<Vec<u8>> {
        let statement = Statement::new("select bulk from instances where id = $1").with(instance.0);
        let row = self.database().read_optional(statement).await?;
        Ok(row.ok_or_else(|| Error::internal("the row of an instance is missing"))?.bytes(0)?.to_vec())
    }
}

/// A series whose instances are to be read.
struct SeriesPlan {
    study: StudyUid,
    id: i64,
    uid: SeriesUid,
    version: i64,
    instances: i64,
}

/// Where a walk over a scope stands.
enum Plan {
    Unread(Scope),
    Reading {
        series: VecDeque<SeriesPlan>,
        /// Number and UID of the last instance read of the first series.
        after: Option<(i64, String)>,
        /// Only this instance of it.
        only: Option<InstanceUid>,
    },
}

/// Reads the instances of a scope in batches: small series together, large ones in portions, each off the index
/// `instances_series`. A study is never sorted as a whole, so the first instance comes fast and memory is bounded.
struct Walk {
    database: Database,
    plan: Plan,
    /// Most instances of the next batch.
    batch: i64,
}

/// A missing Instance Number comes last: the expression of the index `instances_series`.
const NUMBER: &str = "coalesce(i.instance_number, 9223372036854775807)";

impl Walk {
    /// The next rows, of the given columns followed by the series' id, the number and the UID; not in order across series.
    async fn next(&mut self, columns: &str) -> Result<Option<(Vec<Row>, Vec<SeriesPlan>)>> {
        loop {
            if let Plan::Unread(scope) = &self.plan {
                let only = if let Scope::Instance(key) = scope { Some(key.instance.clone()) } else { None };
                self.plan = Plan::Reading { series: read_plan(&self.database, scope).await?, after: None, only };
            }
            let Plan::Reading { series, after, only } = &mut self.plan else { continue };
            let Some(first) = series.pop_front() else { return Ok(None) };
            let mut together = vec![first];
            let mut planned = together.iter().map(|series| series.instances).sum::<i64>();
            while after.is_none() && only.is_none() {
                match series.front() {
                    Some(next) if planned.saturating_add(next.instances) <= self.batch => {
                        planned = planned.saturating_add(next.instances);
                        together.extend(series.pop_front());
                    }
                    _ => break,
                }
            }
            let rows = self.database.read_all(self.statement(columns, &together)).await?;
            let Plan::Reading { series, after, .. } = &mut self.plan else { continue };
            *after = None;
            if together.len() == 1 && i64::try_from(rows.len()).unwrap_or(i64::MAX) >= self.batch {
                let (first, last) = (together.pop(), rows.last());
                if let (Some(first), Some(last)) = (first, last) {
                    let position = columns.split(',').count();
                    *after = Some((last.integer(position + 1)?, last.text(position + 2)?.to_owned()));
                    together.push(first.again());
                    series.push_front(first);
                }
            }
            if !rows.is_empty() {
                return Ok(Some((rows, together)));
            }
        }
    }

    fn statement(&self, columns: &str, together: &[SeriesPlan]) -> Statement {
        let mut statement = Statement::new(format!(
            "select {columns}, i.series_id, {NUMBER}, i.sop_instance_uid from instances i where i.hidden = 0 and "
        ));
        if let [single] = together {
            statement.push("i.series_id = ").push_bind(single.id);
            if let Plan::Reading { after: Some((number, uid)), .. } = &self.plan {
                let (number, uid) = (statement.bind(*number), statement.bind(uid.as_str()));
                // SQLite finds the place in the index by the first condition, PostgreSQL by the second
                statement.push(&format!(
                    " and {NUMBER} >= ${number} and ({NUMBER}, i.sop_instance_uid) > (${number}, ${uid})"
                ));
            }
            if let Plan::Reading { only: Some(only), .. } = &self.plan {
                statement.push(" and i.partition_id = ").push_bind(MAIN_PARTITION);
                statement.push(" and i.sop_instance_uid = ").push_bind(only.as_str());
            }
            statement.push(&format!(" order by {NUMBER}, i.sop_instance_uid limit ")).push_bind(self.batch);
        } else {
            // without a limit: the counts of the plan bound it
            let ids = statement.bind(together.iter().map(|series| series.id).collect::<Vec<_>>());
            let any = self.database.dialect().any(ids);
            statement.push(&format!("i.series_id {any} order by i.series_id, {NUMBER}, i.sop_instance_uid"));
        }
        statement
    }

    /// Makes the next batch of metadata about as large as batches should be.
    fn adapt(&mut self, batch: &VecDeque<(InstanceKey, Stored)>) -> Result<()> {
        let bytes = batch.iter().try_fold(0_usize, |sum, (_, one)| Ok(sum.saturating_add(one.plain_size()?)))?;
        let average = bytes.checked_div(batch.len()).unwrap_or_default().max(1);
        self.batch = i64::try_from(METADATA_BATCH_BYTES / average).unwrap_or(BATCH).clamp(4, BATCH);
        Ok(())
    }
}

impl SeriesPlan {
    fn again(&self) -> Self {
        Self {
            study: self.study.clone(),
            id: self.id,
            uid: self.uid.clone(),
            version: self.version,
            instances: self.instances,
        }
    }
}

/// The series of a scope in order.
async fn read_plan(database: &Database, scope: &Scope) -> Result<VecDeque<SeriesPlan>> {
    let mut statement = Statement::new(
        "select s.id, s.series_uid, s.version, s.instance_count from series s join studies t on t.id = s.study_id \
         where t.partition_id = $1 and t.study_uid = $2",
    )
    .with(MAIN_PARTITION)
    .with(scope.study().as_str());
    let series = match scope {
        Scope::Study(_) => None,
        Scope::Series(_, series) => Some(series),
        Scope::Instance(key) => Some(&key.series),
    };
    if let Some(series) = series {
        statement.push(" and s.series_uid = ").push_bind(series.as_str());
    }
    statement.push(" order by coalesce(s.series_number, 9223372036854775807), s.series_uid");
    let rows = database.read_all(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(SeriesPlan {
                study: scope.study().clone(),
                id: row.integer(0)?,
                uid: SeriesUid::parse(row.text(1)?).map_err(damaged)?,
                version: row.integer(2)?,
                instances: row.integer(3)?,
            })
        })
        .collect()
}

/// Makes something of each row, series by series in the order of the plan. `column` has the id of the series.
fn in_order<T>(
    rows: &[Row],
    plan: &[SeriesPlan],
    column: usize,
    make: impl Fn(&Row, &SeriesPlan) -> Result<T>,
) -> Result<Vec<T>> {
    let mut made = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.integer(column)?;
        let place = plan.iter().position(|series| series.id == id);
        let place = place.ok_or_else(|| Error::internal("a row of a series that was not asked for"))?;
        if let Some(series) = plan.get(place) {
            made.push((place, make(row, series)?));
        }
    }
    // within a series the rows are in order already
    made.sort_by_key(|(place, _)| *place);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

/// The instances of a batch with their metadata as stored.
fn stored_metadata(rows: &[Row], series: &[SeriesPlan]) -> Result<VecDeque<(InstanceKey, Stored)>> {
    let read = |row: &Row, series: &SeriesPlan| {
        let instance = InstanceUid::parse(row.text(0)?).map_err(damaged)?;
        let key = InstanceKey { study: series.study.clone(), series: series.uid.clone(), instance };
        Ok((key, Stored { dictionary: row.optional_integer(1)?, bytes: row.bytes(2)?.to_vec() }))
    };
    in_order(rows, series, 3, read).map(VecDeque::from)
}

/// The instance of a row that begins with [`COLUMNS`].
pub(super) fn instance(row: &Row, study: &StudyUid, series: &SeriesUid, series_version: i64) -> Result<InstanceRow> {
    Ok(InstanceRow {
        id: InstanceId(row.integer(0)?),
        key: InstanceKey {
            study: study.clone(),
            series: series.clone(),
            instance: InstanceUid::parse(row.text(1)?).map_err(damaged)?,
        },
        sop_class: SopClassUid::parse(row.text(2)?).map_err(damaged)?,
        transfer_syntax: TransferSyntaxUid::parse(row.text(3)?).map_err(damaged)?,
        encoding: encoding(row.text(4)?)?,
        form: form(row.text(5)?)?,
        location: row.text(6)?.to_owned(),
        size: row.count(7)?,
        digest: row.bytes(8)?.try_into().map_err(damaged)?,
        received_at: row.integer(9)?,
        number_of_frames: row.integer(10)?.try_into().map_err(damaged)?,
        frames: row.bytes(11)?.to_vec(),
        series_version,
    })
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("the row of an instance is damaged").caused_by(cause)
}

/// Encodings by the name in their column. The last four occur only in files that are not what they say.
const ENCODINGS: [(&str, Encoding); 8] = [
    ("explicit", Encoding::EXPLICIT_LITTLE),
    ("implicit", Encoding::IMPLICIT_LITTLE),
    ("big", Encoding::EXPLICIT_BIG),
    ("deflated", Encoding::DEFLATED),
    ("implicit-big", Encoding { explicit: false, big_endian: true, deflated: false }),
    ("implicit-deflated", Encoding { explicit: false, big_endian: false, deflated: true }),
    ("big-deflated", Encoding { explicit: true, big_endian: true, deflated: true }),
    ("implicit-big-deflated", Encoding { explicit: false, big_endian: true, deflated: true }),
];

pub(super) fn encoding_name(encoding: Encoding) -> &'static str {
    ENCODINGS.iter().find(|(_, known)| *known == encoding).map_or("explicit", |(name, _)| name)
}

fn encoding(name: &str) -> Result<Encoding> {
    let known = ENCODINGS.iter().find(|(known, _)| *known == name);
    known.map(|(_, encoding)| *encoding).ok_or_else(|| damaged("its encoding is unknown"))
}

pub(super) fn form_name(form: Form) -> &'static str {
    match form {
        Form::Part10 => "part10",
        Form::NoPreamble => "no-preamble",
        Form::Bare => "bare",
    }
}

fn form(name: &str) -> Result<Form> {
    match name {
        "part10" => Ok(Form::Part10),
        "no-preamble" => Ok(Form::NoPreamble),
        "bare" => Ok(Form::Bare),
        _ => Err(damaged("its form is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_and_form_has_a_name_of_its_own() {
        for number in 0..8_u8 {
            let wanted = Encoding { explicit: number & 1 == 0, big_endian: number & 2 != 0, deflated: number & 4 != 0 };
            assert_eq!(encoding(encoding_name(wanted)).unwrap(), wanted);
        }
        for wanted in [Form::Part10, Form::NoPreamble, Form::Bare] {
            assert_eq!(form(form_name(wanted)).unwrap(), wanted);
        }
        assert!(encoding("middle").is_err());
        assert!(form("").is_err());
    }
}
