//! Rows as they are, readable or not, for whoever compares the index with the objects.

use std::collections::{HashSet, VecDeque};

use futures_util::{Stream, TryStreamExt, stream};
use uuid::Uuid;

use super::instances::{COLUMNS, InstanceId, InstanceRow, instance};
use super::metadata::{Stored, decompress_each, take_run};
use super::sql::{Row, Statement};
use super::{Catalogue, MAIN_PARTITION};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::error::{Error, ErrorKind, Result};

/// Rows that are read at once.
const PAGE: i64 = 500;

/// The rows that there were at some moment, of all studies or of one.
#[derive(Clone, Debug)]
pub struct RowRange {
    last: i64,
    study: Option<i64>,
    /// About how many, by the counters of the studies.
    pub instances: u64,
}

/// A row of the index, be it readable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedRow {
    /// Which it is.
    pub id: InstanceId,
    /// Its study, if that is a UID.
    pub study: Option<StudyUid>,
    /// Its series, if that is a UID.
    pub series: Option<SeriesUid>,
    /// Its SOP Instance UID, if that is a UID.
    pub instance: Option<InstanceUid>,
    /// The storage key of the object.
    pub location: String,
    /// What it says, if that can be read; without the version of the series, which others change.
    pub content: Option<InstanceRow>,
}

/// The parts of a row that are not read with it.
#[derive(Debug)]
pub struct RowParts {
    /// DICOM JSON, if it could be decompressed.
    pub metadata: Option<Vec<u8>>,
    /// Where the values named by BulkDataURIs lie.
    pub bulk: Vec<u8>,
}

impl Catalogue {
    /// The rows that there are now, hidden ones included but for those that are being erased; none when there is no such study.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn row_range(&self, study: Option<&StudyUid>) -> Result<Option<RowRange>> {
        let last = Statement::new("select coalesce(max(id), 0) from instances");
        let last = self.database().read_optional(last).await?.map_or(Ok(0), |row| row.integer(0))?;
        let Some(study) = study else {
            let count = Statement::new("select cast(coalesce(sum(instance_count), 0) as bigint) from studies");
            let instances = self.database().read_optional(count).await?.map_or(Ok(0), |row| row.count(0))?;
            return Ok(Some(RowRange { last, study: None, instances }));
        };
        let find = "select id, instance_count from studies where partition_id = $1 and study_uid = $2";
        let find = Statement::new(find).with(MAIN_PARTITION).with(study.as_str());
        let Some(row) = self.database().read_optional(find).await? else { return Ok(None) };
        Ok(Some(RowRange { last, study: Some(row.integer(0)?), instances: row.count(1)? }))
    }

    /// The rows of a range, read page by page.
    pub fn rows(&self, range: &RowRange) -> impl Stream<Item = Result<IndexedRow>> + Send + 'static {
        let (database, range) = (self.database().clone(), range.clone());
        stream::try_unfold((database, range, 0), |(database, range, after)| async move {
            let mut statement = select();
            statement
                .push(" where i.hidden <> 4 and i.id > ")
                .push_bind(after)
                .push(" and i.id <= ")
                .push_bind(range.last);
            if let Some(study) = range.study {
                statement.push(" and i.study_id = ").push_bind(study);
            }
            statement.push(" order by i.id limit ").push_bind(PAGE);
            let rows = database.read_all(statement).await?;
            let rows = rows.iter().map(indexed_row).collect::<Result<Vec<_>>>()?;
            let Some(after) = rows.last().map(|row| row.id.0) else { return Ok::<_, Error>(None) };
            Ok(Some((stream::iter(rows.into_iter().map(Ok)), (database, range, after))))
        })
        .try_flatten()
    }

    /// A row as it is now; none when it is gone or about to go.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn row(&self, id: InstanceId) -> Result<Option<IndexedRow>> {
        let mut statement = select();
        statement.push(" where i.hidden <> 4 and i.id = ").push_bind(id.0);
        self.database().read_optional(statement).await?.as_ref().map(indexed_row).transpose()
    }

    /// The deletions among these that the index knows.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn known_deletions(&self, deletions: &[Uuid]) -> Result<HashSet<Uuid>> {
        let uuids: Vec<String> = deletions.iter().map(Uuid::to_string).collect();
        let text = format!("select uuid from deletions where uuid {}", self.database().dialect().any(1));
        let rows = self.database().read_all(Statement::new(text).with(uuids)).await?;
        Ok(rows.iter().filter_map(|row| row.text(0).ok().and_then(|text| Uuid::try_parse(text).ok())).collect())
    }

    /// Whether an event is known, a deletion or what took one back.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn knows_event(&self, event: Uuid) -> Result<bool> {
        let known =
            Statement::new("select 1 from deletions where uuid = $1 union all select 1 from restores where uuid = $1");
        Ok(self.database().read_optional(known.with(event.to_string())).await?.is_some())
    }

    /// The rest of a row; none when it is gone.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn row_parts(&self, id: InstanceId) -> Result<Option<RowParts>> {
        let statement = Statement::new("select dictionary_id, metadata, bulk from instances where id = $1").with(id.0);
        let Some(row) = self.database().read_optional(statement).await? else { return Ok(None) };
        let stored = Stored { dictionary: row.optional_integer(0)?, bytes: row.bytes(1)?.to_vec() };
        let metadata = match self.plain_metadata(stored).await {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::Internal => None,
            Err(error) => return Err(error),
        };
        Ok(Some(RowParts { metadata, bulk: row.bytes(2)?.to_vec() }))
    }

    async fn plain_metadata(&self, stored: Stored) -> Result<Option<Vec<u8>>> {
        let mut waiting = VecDeque::from([((), stored)]);
        let run = take_run(self.database(), &self.0.dictionaries, &mut waiting, 0).await?;
        let plain = move || decompress_each(&run.stored, &run.dictionaries, |plain| plain);
        Ok(self.database().compute(plain).await?.pop())
    }

    /// The storage keys of all objects that rows of these SOP Instance UIDs name, hidden rows included.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn locations_of(&self, instances: &HashSet<InstanceUid>) -> Result<HashSet<String>> {
        let any = self.database().dialect().any(2);
        // each half reads the partial index that has its rows
        let half = |hidden: &str| {
            format!("select location from instances where partition_id = $1 and {hidden} and sop_instance_uid {any}")
        };
        let text = format!("{} union all {}", half("hidden = 0"), half("hidden <> 0"));
        let uids: Vec<String> = instances.iter().map(ToString::to_string).collect();
        let rows = self.database().read_all(Statement::new(text).with(MAIN_PARTITION).with(uids)).await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }
}

fn select() -> Statement {
    Statement::new(format!(
        "select {COLUMNS}, t.study_uid, s.series_uid from instances i \
         join series s on s.id = i.series_id join studies t on t.id = i.study_id"
    ))
}

fn indexed_row(row: &Row) -> Result<IndexedRow> {
    let (study, series) = (StudyUid::parse(row.text(12)?).ok(), SeriesUid::parse(row.text(13)?).ok());
    let content = study.as_ref().zip(series.as_ref()).and_then(|(study, series)| instance(row, study, series, 0).ok());
    Ok(IndexedRow {
        id: InstanceId(row.integer(0)?),
        instance: InstanceUid::parse(row.text(1)?).ok(),
        location: row.text(6)?.to_owned(),
        study,
        series,
        content,
    })
}
