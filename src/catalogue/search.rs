//! A [`SearchQuery`] → rows of the index, as they come.
//!
//! Rows are read in batches, each by a statement of its own that continues after the last row of the one before, so that
//! a slow client holds no connection and rows that come in between neither hide nor repeat others.

use std::collections::{HashMap, VecDeque};

use dicom_core::Tag;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::Catalogue;
use super::instances::METADATA_BATCH_BYTES;
use super::metadata::{Stored, decompress_each, take_run};
use super::search_plan::{Plan, Term};
use super::sql::{Row, Statement, Value};
use crate::dicom::attribute_set::{AttributeSetBuilder, pick};
use crate::dicom::entry::AttributeSet;
use crate::dicom::query::SearchQuery;
use crate::dicom::uid::{InstanceUid, Level, SeriesUid, SopClassUid, StudyUid, UidError};
use crate::error::{Error, Result};

/// Matches of a search above study level that names no limit (see DESIGN, "Pages").
pub const DEFAULT_LIMIT: u64 = 1_000;
/// Rows that are read before the answer begins: the usual page with the row that tells whether there are more.
const FIRST_BATCH: u64 = DEFAULT_LIMIT + 1;
/// Rows of each further batch.
const BATCH: u64 = 4_096;
/// Instances of which metadata are read at once, unless they are large.
const METADATA_BATCH: usize = 64;
/// And before their size is known.
const FIRST_METADATA_BATCH: usize = 16;

/// What a search found.
pub struct Found {
    /// How many more there are after this page.
    pub additional: u64,
    /// The matches of the page, in order.
    pub matches: BoxStream<'static, Result<Match>>,
}

/// One match: the UIDs down to its level, and the attributes of the levels that the answer needs
/// ([`SearchQuery::answers_with`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Study Instance UID.
    pub study_uid: StudyUid,
    /// The study.
    pub study: Option<StudyMatch>,
    /// Series Instance UID, below study level.
    pub series_uid: Option<SeriesUid>,
    /// The series.
    pub series: Option<SeriesMatch>,
    /// The instance, at instance level.
    pub instance: Option<InstanceMatch>,
}

/// What an answer may say of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StudyMatch {
    /// Attributes of patient and study.
    pub attributes: AttributeSet,
    /// Distinct modalities of its series, ascending.
    pub modalities: Vec<String>,
    /// How many series it has.
    pub series: u64,
    /// How many instances.
    pub instances: u64,
}

/// What an answer may say of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesMatch {
    /// Attributes of the series.
    pub attributes: AttributeSet,
    /// How many instances it has.
    pub instances: u64,
}

/// What an answer may say of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceMatch {
    /// SOP Instance UID.
    pub uid: InstanceUid,
    /// SOP Class UID.
    pub sop_class: SopClassUid,
    /// Its attributes that are kept beside the metadata.
    pub attributes: AttributeSet,
    /// Those that were asked for and only the metadata have; BulkDataURIs in them are as stored
    /// ([`crate::dicom::json::splice_base`]).
    pub picked: AttributeSet,
}

impl Catalogue {
    /// Searches. The first rows are there when this returns; the rest is read as the matches are taken.
    ///
    /// # Errors
    /// `Unavailable` when the database is.
    pub async fn search(&self, query: &SearchQuery) -> Result<Found> {
        let search = Search::new(self.clone(), query);
        let mut batch = search.batch(&Position::Start).await?;
        let additional = match search.limit {
            Some(limit) if batch.full => search.additional(limit).await?,
            _ => 0,
        };
        if let Some(limit) = search.limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            batch.matches.truncate(limit);
            batch.ids.truncate(limit);
        }
        let mut picking = Picking::default();
        let first = search.advance(&mut batch, &mut picking).await?.unwrap_or_default();
        Ok(Found { additional, matches: search.stream(first, batch, picking) })
    }
}

/// A search under way.
struct Search {
    catalogue: Catalogue,
    query: SearchQuery,
    limit: Option<u64>,
    /// The answer has attributes of the study.
    study: bool,
    /// The answer has attributes of the series.
    series: bool,
    /// What is to be picked out of the metadata.
    metadata: Vec<Tag>,
}

/// Where a batch begins.
enum Position {
    Start,
    /// After the row with these values of the order's terms; so many have been handed out.
    After(Vec<Value>, u64),
}

struct Batch {
    matches: VecDeque<Match>,
    /// Their rows, when metadata are to be picked from.
    ids: VecDeque<i64>,
    /// It has all the rows that were asked for, so that there may be more.
    full: bool,
    /// Where the next begins; there is none after the last.
    next: Option<Position>,
}

impl Search {
    fn new(catalogue: Catalogue, query: &SearchQuery) -> Self {
        let top = query.study.is_none();
        Self {
            limit: query.page.limit.or(top.then_some(DEFAULT_LIMIT)),
            study: query.answers_with(Level::Study),
            series: query.answers_with(Level::Series),
            metadata: query.from_metadata(),
            query: query.clone(),
            catalogue,
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan::new(&self.query, self.catalogue.database().dialect())
    }

    /// The matches after the first ones.
    fn stream(self, first: Vec<Match>, batch: Batch, picking: Picking) -> BoxStream<'static, Result<Match>> {
        let rest = stream::try_unfold((self, batch, picking), |(search, mut batch, mut picking)| async move {
            let matches = search.advance(&mut batch, &mut picking).await?;
            Ok(matches.map(|matches| (matches, (search, batch, picking))))
        });
        let first = stream::once(async { Ok::<_, Error>(first) });
        first.chain(rest).map_ok(|matches| stream::iter(matches).map(Ok)).try_flatten().boxed()
    }

    /// The next matches, ready to be handed out; none at the end.
    async fn advance(&self, batch: &mut Batch, picking: &mut Picking) -> Result<Option<Vec<Match>>> {
        while batch.matches.is_empty() && picking.waiting.is_empty() {
            let Some(position) = batch.next.take() else { return Ok(None) };
            *batch = self.batch(&position).await?;
        }
        if self.metadata.is_empty() {
            return Ok(Some(std::mem::take(&mut batch.matches).into()));
        }
        self.pick(batch, picking).await.map(Some)
    }

    async fn batch(&self, position: &Position) -> Result<Batch> {
        let database = self.catalogue.database();
        let (wanted, taken) = match position {
            // one more than the page, to know whether it is the last
            Position::Start => (self.limit.map_or(FIRST_BATCH, |limit| limit.saturating_add(1).min(FIRST_BATCH)), 0),
            Position::After(_, taken) => {
                (self.limit.map_or(BATCH, |limit| limit.saturating_sub(*taken).min(BATCH)), *taken)
            }
        };
        let rows = database.read_all(self.select(position, wanted)).await?;
        let read = rows.len() as u64;
        let total = taken.saturating_add(read);
        let ended = read < wanted || self.limit.is_some_and(|limit| total >= limit);
        let next = match rows.last() {
            Some(row) if !ended => Some(Position::After(self.values(row)?, total)),
            _ => None,
        };
        let (matches, ids) = self.matches(&rows)?;
        Ok(Batch { matches, ids, full: read == wanted, next })
    }

    fn select(&self, position: &Position, limit: u64) -> Statement {
        let plan = self.plan();
        let mut statement = Statement::new("select ");
        statement.push(&self.columns(&plan).join(", "));
        plan.push_from(&mut statement);
        if let Position::After(values, _) = position {
            plan.push_after(&mut statement, values);
        }
        plan.push_order(&mut statement);
        statement.push(" limit ").push_bind(signed(limit));
        if matches!(position, Position::Start) && self.query.page.offset > 0 {
            statement.push(" offset ").push_bind(signed(self.query.page.offset));
        }
        statement
    }

    /// How many matches come after the page.
    async fn additional(&self, limit: u64) -> Result<u64> {
        let mut statement = Statement::default();
        self.plan().push_count(&mut statement);
        let counted = self.catalogue.database().read_optional(statement).await?;
        let total = counted.as_ref().map_or(Ok(0), |row| row.count(0))?;
        Ok(total.saturating_sub(self.query.page.offset).saturating_sub(limit))
    }

    /// In the order in which [`Columns`] takes them, the terms of the order last.
    fn columns(&self, plan: &Plan<'_>) -> Vec<&'static str> {
        let mut columns = vec!["st.study_uid"];
        if self.study {
            columns.extend(["st.attributes", "st.modalities", "st.series_count", "st.instance_count"]);
        }
        if self.query.level >= Level::Series {
            columns.push("se.series_uid");
        }
        if self.series {
            columns.extend(["se.attributes", "se.instance_count"]);
        }
        if self.query.level == Level::Instance {
            columns.extend(["i.sop_instance_uid", "i.sop_class_uid", "i.attributes"]);
        }
        if !self.metadata.is_empty() {
            columns.push("i.id");
        }
        columns.extend(plan.terms().iter().map(|term| term.expression));
        columns
    }

    /// The values of the order's terms.
    fn values(&self, row: &Row) -> Result<Vec<Value>> {
        let plan = self.plan();
        let terms = plan.terms();
        let first = self.columns(&plan).len() - terms.len();
        let value = |(column, term): (usize, &Term)| {
            Ok(if term.text { Value::from(row.text(column)?) } else { Value::from(row.integer(column)?) })
        };
        (first..).zip(terms).map(value).collect()
    }

    /// The matches, and their rows when metadata are to be picked from.
    fn matches(&self, rows: &[Row]) -> Result<(VecDeque<Match>, VecDeque<i64>)> {
        let mut matches = VecDeque::with_capacity(rows.len());
        let mut ids = VecDeque::new();
        for row in rows {
            let mut columns = Columns { row, next: 0 };
            matches.push_back(self.read(&mut columns)?);
            if !self.metadata.is_empty() {
                ids.push_back(columns.integer()?);
            }
        }
        Ok((matches, ids))
    }

    fn read(&self, columns: &mut Columns<'_>) -> Result<Match> {
        let study_uid = columns.uid(StudyUid::parse)?;
        let study = if self.study { Some(columns.study()?) } else { None };
        let below_study = self.query.level >= Level::Series;
        let series_uid = if below_study { Some(columns.uid(SeriesUid::parse)?) } else { None };
        let series = if self.series { Some(columns.series()?) } else { None };
        let instance = if self.query.level == Level::Instance { Some(columns.instance()?) } else { None };
        Ok(Match { study_uid, study, series_uid, series, instance })
    }

    /// The next matches with the attributes that only the metadata hold: as many as can be held at once.
    async fn pick(&self, batch: &mut Batch, picking: &mut Picking) -> Result<Vec<Match>> {
        let inner = &self.catalogue.0;
        if picking.waiting.is_empty() {
            self.read_metadata(batch, picking).await?;
        }
        let run = take_run(&inner.database, &inner.dictionaries, &mut picking.waiting, METADATA_BATCH_BYTES).await?;
        let (mut matches, stored, dictionaries) = (run.of, run.stored, run.dictionaries);
        let tags = self.metadata.clone();
        let work = move || decompress_each(&stored, &dictionaries, |json| picked_set(&json, &tags));
        let picked = inner.database.compute(work).await?;
        for (found, picked) in matches.iter_mut().zip(picked) {
            if let Some(instance) = &mut found.instance {
                instance.picked = picked;
            }
        }
        Ok(matches)
    }

    /// Reads the metadata of the batch's next matches. Where the row is gone the match stays out: it was removed since.
    async fn read_metadata(&self, batch: &mut Batch, picking: &mut Picking) -> Result<()> {
        let count = picking.batch.min(batch.matches.len()).min(batch.ids.len());
        let ids: Vec<i64> = batch.ids.drain(..count).collect();
        let database = &self.catalogue.0.database;
        let mut statement = Statement::new("select id, dictionary_id, metadata from instances where id ");
        let number = statement.bind(ids.clone());
        statement.push(&database.dialect().any(number));
        let mut stored = HashMap::with_capacity(count);
        let mut bytes = 0_usize;
        for row in database.read_all(statement).await? {
            let one = Stored { dictionary: row.optional_integer(1)?, bytes: row.bytes(2)?.to_vec() };
            bytes = bytes.saturating_add(one.bytes.len());
            stored.insert(row.integer(0)?, one);
        }
        let average = bytes.checked_div(count).unwrap_or_default().max(1);
        picking.batch = (METADATA_BATCH_BYTES / average).clamp(1, METADATA_BATCH);
        let matches = batch.matches.drain(..count).zip(ids);
        picking.waiting.extend(matches.filter_map(|(found, id)| Some((found, stored.remove(&id)?))));
        Ok(())
    }
}

/// Matches whose metadata are read but not looked into yet.
struct Picking {
    waiting: VecDeque<(Match, Stored)>,
    /// How many to read next.
    batch: usize,
}

impl Default for Picking {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), batch: FIRST_METADATA_BATCH }
    }
}

/// The attributes of these tags that the metadata hold.
fn picked_set(json: &[u8], tags: &[Tag]) -> AttributeSet {
    let mut set = AttributeSetBuilder::default();
    for (tag, fragment) in pick(json, tags) {
        set.fragment(tag, fragment);
    }
    set.build()
}

/// PostgreSQL and SQLite count in 64 bits with sign.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Takes the columns of a row from left to right.
struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl Columns<'_> {
    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn integer(&mut self) -> Result<i64> {
        let column = self.advance();
        self.row.integer(column)
    }

    fn count(&mut self) -> Result<u64> {
        let column = self.advance();
        self.row.count(column)
    }

    fn uid<T>(&mut self, parse: fn(&str) -> std::result::Result<T, UidError>) -> Result<T> {
        let column = self.advance();
        parse(self.row.text(column)?).map_err(|error| Error::internal("the index holds a bad UID").caused_by(error))
    }

    fn attributes(&mut self) -> Result<AttributeSet> {
        let column = self.advance();
        Ok(AttributeSet(self.row.bytes(column)?.to_vec()))
    }

    fn modalities(&mut self) -> Result<Vec<String>> {
        let column = self.advance();
        let text = self.row.text(column)?;
        Ok(text.split('\\').filter(|modality| !modality.is_empty()).map(str::to_owned).collect())
    }

    fn study(&mut self) -> Result<StudyMatch> {
        Ok(StudyMatch {
            attributes: self.attributes()?,
            modalities: self.modalities()?,
            series: self.count()?,
            instances: self.count()?,
        })
    }

    fn series(&mut self) -> Result<SeriesMatch> {
        Ok(SeriesMatch { attributes: self.attributes()?, instances: self.count()? })
    }

    fn instance(&mut self) -> Result<InstanceMatch> {
        Ok(InstanceMatch {
            uid: self.uid(InstanceUid::parse)?,
            sop_class: self.uid(SopClassUid::parse)?,
            attributes: self.attributes()?,
            picked: AttributeSet::default(),
        })
    }
}
