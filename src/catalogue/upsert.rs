//! The rows of studies, series and instances: inserted when new, counted in when not.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::MAIN_PARTITION;
use super::columns::{
    INSTANCE_COLUMNS, Place, SERIES_COLUMNS, STUDY_COLUMNS, count, instance_row, line, series_row, stored_text,
    study_row,
};
use super::dialect::Dialect;
use super::hidden::{Hidden, recount_series, recount_study};
use super::insert::Guess;
use super::metadata::{Dictionaries, Dictionary};
use super::rows::{Column, Insert, Kind};
use super::sql::{Row, Statement, Value};
use super::storing::{Arrival, MovedUp, New, OfSeries, OfStudy, Replaced};
use super::telling::{Of, Told, told};
use super::transaction::{Step, Transaction};
use crate::clock;
use crate::dicom::entry::{SeriesEntry, StudyEntry};
use crate::dicom::uid::{InstanceKey, InstanceUid};
use crate::error::{Error, Result};

/// What remains to be done after studies and series are there, and what was found out about them.
#[derive(Default)]
pub(super) struct Upserted {
    pub(super) steps: Vec<Step>,
    /// The dictionaries that the series of the new instances have.
    pub(super) dictionaries: Vec<(InstanceKey, i64, Arc<Dictionary>)>,
    /// The new instances whose Patient ID is not that of their study.
    pub(super) strangers: HashSet<InstanceUid>,
}

/// Inserts the studies and series that the new instances need, or counts them in, and says which steps remain to be done.
pub(super) async fn insert_new(
    transaction: &mut Transaction,
    cache: &Dictionaries,
    new: &New<'_>,
    replaced: &[Replaced],
    moved_up: &[MovedUp],
) -> Result<Upserted> {
    if new.is_empty() {
        return Ok(Upserted::default());
    }
    let dialect = transaction.dialect();
    let now = clock::unix_millis();
    let mut statements = studies(dialect, new, now).statements(dialect)?;
    let of_studies = statements.len();
    statements.append(&mut series(new, now).statements(dialect)?);
    let mut rows = transaction.fetch_each(statements).await?;
    let series_rows: Vec<Row> = rows.drain(of_studies..).flatten().collect();
    let studies = stored_studies(rows.into_iter().flatten())?;
    let mut series = stored_series(&series_rows, new, &studies)?;
    let told = tell_anew(transaction, cache, new, &studies, &series, replaced).await?;
    let strangers = strangers(new, &studies, &told);
    let mut steps = hide(replaced, now);
    steps.extend(moved_up.iter().map(move_up));
    steps.extend(add_to_studies(&studies, &series));
    steps.extend(refresh(&told, now));
    let dictionaries = choose_dictionaries(transaction, cache, &mut series, &mut steps).await?;
    insert_instances(dialect, &series, &mut steps, now)?;
    steps.extend(give_back(replaced, &series, now));
    let mut of_replaced: BTreeSet<i64> = replaced.iter().map(|one| one.study).collect();
    if replaced.iter().any(|one| one.back.is_some()) {
        of_replaced.extend(studies.keys());
    }
    steps.extend(of_replaced.into_iter().map(|study| recount_study(dialect, study, now).into()));
    Ok(Upserted { steps, dictionaries, strangers })
}

/// Takes what is replaced out of sight, before its place is taken.
fn hide(replaced: &[Replaced], now: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lost: BTreeMap<i64, i64> = BTreeMap::new();
    for one in replaced {
        let hide = Statement::new("update instances set hidden = $1, hidden_at = $2 where id = $3 and hidden = 0");
        let statement = hide.with(one.hidden.code()).with(now).with(one.id);
        steps.push(Step { statement, changes: Some(1) });
        *lost.entry(one.series).or_default() += 1;
    }
    steps.extend(lost.into_iter().map(|(series, instances)| {
        let lose = "update series set instance_count = instance_count - $1, version = version + 1 where id = $2";
        Statement::new(lose).with(instances).with(series).into()
    }));
    steps
}

/// Makes room among the versions that a deletion hides.
fn move_up(up: &MovedUp) -> Step {
    let text = "update instances set version = version + 1 where partition_id = $1 and sop_instance_uid = $2 \
                and hidden <> 0 and deletion_id = $3 and version >= $4";
    let statement = Statement::new(text).with(MAIN_PARTITION).with(up.uid.as_str());
    statement.with(up.deletion).with(up.from).into()
}

/// Gives those their place back that came later than what was inserted into it, and that becomes an older version.
fn give_back(replaced: &[Replaced], series: &[Series<'_>], now: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut recounted = BTreeSet::new();
    for (one, uid, version) in replaced.iter().filter_map(|one| one.back.as_ref().map(|(uid, at)| (one, uid, *at))) {
        let up = "update instances set version = version + 1 \
                  where partition_id = $1 and sop_instance_uid = $2 and hidden = 3 and hidden <> 0 and version >= $3";
        let up = Statement::new(up).with(MAIN_PARTITION).with(uid.as_str()).with(version);
        let below = "update instances set hidden = $1, hidden_at = $2, version = $3 \
                     where partition_id = $4 and sop_instance_uid = $5 and hidden = 0";
        let below = Statement::new(below).with(Hidden::Kept.code()).with(now).with(version);
        let below = below.with(MAIN_PARTITION).with(uid.as_str());
        let back = Statement::new("update instances set hidden = 0, hidden_at = null where id = $1").with(one.id);
        steps.extend([up, below, back].map(Step::from));
        recounted.insert(one.series);
    }
    if !recounted.is_empty() {
        recounted.extend(series.iter().map(|series| series.id));
    }
    steps.extend(recounted.into_iter().map(|series| recount_series(series, now).into()));
    steps
}

/// The new instances whose Patient ID is not that of their study.
fn strangers(new: &New<'_>, studies: &Studies, told: &Tellings) -> HashSet<InstanceUid> {
    let mut strangers = HashSet::new();
    for (id, study) in studies {
        let Some((_, of_study)) = new.iter().find(|(uid, _)| uid.as_str() == study.uid) else { continue };
        let patient = |entry: &StudyEntry| stored_text(entry.patient_id.as_ref());
        let of_all = told.studies.get(id).map_or_else(|| study.patient_id.clone(), patient);
        for ((uid, _), arrival) in of_study.values().flatten().filter(|(_, arrival)| arrival.shows()) {
            if patient(&arrival.one.new.entry.study) != of_all {
                strangers.insert(InstanceUid::clone(uid));
            }
        }
    }
    strangers
}

/// A study as it stands after the upsert.
struct Study {
    uid: String,
    modalities: String,
    instances: i64,
    /// It was inserted by this transaction.
    inserted: bool,
    patient_id: Option<String>,
}

/// By id.
type Studies = HashMap<i64, Study>;

/// Inserts the studies that are new, and counts in those that are not. The attributes are those of the instance received first.
///
/// Whether a study was inserted shows by its times, which are equal then and, whatever the clock says, never after an update.
fn studies(dialect: Dialect, new: &New<'_>, now: i64) -> Insert {
    let mut rows = Vec::with_capacity(new.len());
    for (uid, series) in new {
        let Some(first) = foremost(series.values().flat_map(BTreeMap::values)) else { continue };
        rows.push(study_row(uid.as_str(), &first.one.new.entry.study, instances(series), now));
    }
    Insert {
        table: "studies",
        columns: STUDY_COLUMNS,
        tail: match dialect {
            Dialect::Sqlite => {
                "on conflict (partition_id, study_uid) do update set \
                 instance_count = studies.instance_count + excluded.instance_count, \
                 updated_at = max(excluded.updated_at, studies.created_at + 1) \
                 returning id, study_uid, modalities, instance_count, created_at, patient_id, updated_at"
            }
            Dialect::Postgres => {
                "on conflict (partition_id, study_uid) do update set \
                 instance_count = studies.instance_count + excluded.instance_count, \
                 updated_at = greatest(excluded.updated_at, studies.created_at + 1) \
                 returning id, study_uid, modalities, instance_count, created_at, patient_id, updated_at"
            }
        },
        rows,
    }
}

/// How many instances can be seen.
fn instances(series: &OfStudy<'_>) -> i64 {
    series.values().map(shown).sum()
}

fn shown(series: &OfSeries<'_>) -> i64 {
    count(series.values().filter(|arrival| arrival.shows()).count())
}

/// The instance of a study or series that tells of it: the one received first of those that can be seen, if any can; by the same
/// order as in [`super::telling`].
fn foremost<'a, 'b>(arrivals: impl Iterator<Item = &'b Arrival<'a>>) -> Option<Arrival<'a>>
where
    'a: 'b,
{
    let order = |arrival: &&Arrival<'a>| {
        let new = &arrival.one.new;
        (!arrival.shows(), new.received_at, &new.location)
    };
    arrivals.min_by(|a, b| order(a).cmp(&order(b))).copied()
}

fn stored_studies(rows: impl Iterator<Item = Row>) -> Result<Studies> {
    let study = |row: Row| {
        let study = Study {
            uid: row.text(1)?.to_owned(),
            modalities: row.text(2)?.to_owned(),
            instances: row.integer(3)?,
            inserted: row.integer(4)? == row.integer(6)?,
            patient_id: row.optional_text(5)?.map(str::to_owned),
        };
        Ok((row.integer(0)?, study))
    };
    rows.map(study).collect()
}

/// What studies and series are told by from now on, where that changes; by id.
#[derive(Default)]
struct Tellings {
    studies: BTreeMap<i64, StudyEntry>,
    series: BTreeMap<i64, SeriesEntry>,
}

/// Studies and series are told by new instances where they had none that can be seen. Where some are replaced, what is left and
/// what comes tell by the order in which they were received: what was deleted or replaced is not to show in them.
async fn tell_anew(
    transaction: &mut Transaction,
    cache: &Dictionaries,
    new: &New<'_>,
    studies: &Studies,
    series: &[Series<'_>],
    replaced: &[Replaced],
) -> Result<Tellings> {
    let mut tellings = Tellings::default();
    let gone: Vec<&Replaced> = replaced.iter().filter(|one| one.back.is_none()).collect();
    let mut firsts: (BTreeMap<i64, Arrival<'_>>, BTreeMap<i64, Arrival<'_>>) = Default::default();
    for (id, study) in studies {
        let Some((_, of_study)) = new.iter().find(|(uid, _)| uid.as_str() == study.uid) else { continue };
        let Some(first) = foremost(of_study.values().flat_map(BTreeMap::values)).filter(Arrival::shows) else {
            continue;
        };
        firsts.0.insert(*id, first);
        if study.instances == instances(of_study) && !study.inserted {
            tellings.studies.insert(*id, first.one.new.entry.study.clone());
        }
    }
    for series in series {
        let Some(first) = foremost(series.instances.iter().map(|(one, _)| one)).filter(Arrival::shows) else {
            continue;
        };
        firsts.1.insert(series.id, first);
        if series.fresh && !series.inserted {
            tellings.series.insert(series.id, first.one.new.entry.series.clone());
        }
    }
    let but: Vec<i64> = gone.iter().map(|one| one.id).collect();
    for id in gone.iter().map(|one| one.study).collect::<BTreeSet<_>>() {
        let left = told(transaction, cache, Of::Study(id), &but).await?;
        let left = left.filter(|left| is_before(left, firsts.0.get(&id))).map(|left| left.study);
        let first = firsts.0.get(&id).map(|first| first.one.new.entry.study.clone());
        tellings.studies.extend(left.or(first).map(|entry| (id, entry)));
    }
    for id in gone.iter().map(|one| one.series).collect::<BTreeSet<_>>() {
        let left = told(transaction, cache, Of::Series(id), &but).await?;
        let left = left.filter(|left| is_before(left, firsts.1.get(&id))).map(|left| left.series);
        let first = firsts.1.get(&id).map(|first| first.one.new.entry.series.clone());
        tellings.series.extend(left.or(first).map(|entry| (id, entry)));
    }
    Ok(tellings)
}

/// Whether what is left was received before what comes.
fn is_before(left: &Told, first: Option<&Arrival<'_>>) -> bool {
    first.is_none_or(|first| {
        let new = &first.one.new;
        (left.received_at, &left.location) < (new.received_at, &new.location)
    })
}

fn refresh(told: &Tellings, now: i64) -> Vec<Step> {
    let of_studies = told.studies.iter();
    let of_studies = of_studies.map(|(id, entry)| update("studies", STUDY_COLUMNS, study_row("", entry, 0, now), *id));
    let of_series = told.series.iter();
    let of_series =
        of_series.map(|(id, entry)| update("series", SERIES_COLUMNS, series_row("", "", entry, 0, now), *id));
    of_studies.chain(of_series).map(Step::from).collect()
}

/// Columns that do not tell of an instance's attributes.
const OWN_COLUMNS: &[&str] =
    &["partition_id", "study_uid", "study_id", "series_uid", "version", "instance_count", "created_at"];

/// Sets the columns of a row that come from attributes.
pub(super) fn update(table: &'static str, columns: &[Column], row: Vec<Value>, id: i64) -> Statement {
    let mut statement = Statement::new(format!("update {table} set "));
    let mut separator = "";
    for ((name, kind), value) in columns.iter().zip(row) {
        // the column `study_id` of a study is its Study ID, that of a series its study
        if !OWN_COLUMNS.contains(name) || (*name == "study_id" && *kind == Kind::Text) {
            statement.push(separator).push(name).push(" = ").push_bind(value);
            separator = ", ";
        }
    }
    statement.push(" where id = ").push_bind(id);
    statement
}

/// A series as it stands after the upsert, with its new instances.
struct Series<'a> {
    id: i64,
    study_id: i64,
    /// It was inserted by this transaction.
    inserted: bool,
    /// There is something to be seen of it, and there was nothing before.
    fresh: bool,
    modality: Option<&'a String>,
    dictionary: Option<i64>,
    instances: Vec<(Arrival<'a>, Option<Vec<u8>>)>,
}

/// Inserts the series that are new, counts in those that are not, and steps their versions.
fn series(new: &New<'_>, now: i64) -> Insert {
    let mut rows = Vec::new();
    for (study, series) in new {
        for (uid, instances) in series {
            let Some(first) = foremost(instances.values()) else { continue };
            rows.push(series_row(study.as_str(), uid.as_str(), &first.one.new.entry.series, shown(instances), now));
        }
    }
    Insert {
        table: "series",
        columns: SERIES_COLUMNS,
        tail: "on conflict (study_id, series_uid) do update set version = series.version + 1, \
               instance_count = series.instance_count + excluded.instance_count, updated_at = excluded.updated_at \
               returning id, study_id, series_uid, version, dictionary_id, instance_count",
        rows,
    }
}

fn stored_series<'a>(rows: &[Row], new: &New<'a>, studies: &Studies) -> Result<Vec<Series<'a>>> {
    let missing = || Error::internal("an upsert returned less than it was given");
    let mut given: HashMap<(&str, &str), _> = HashMap::new();
    for (study, series) in new {
        given.extend(series.iter().map(|(uid, instances)| ((study.as_str(), uid.as_str()), instances)));
    }
    let mut stored = Vec::with_capacity(given.len());
    for row in rows {
        let study_id = row.integer(1)?;
        let study = studies.get(&study_id).ok_or_else(missing)?;
        let instances = given.remove(&(study.uid.as_str(), row.text(2)?)).ok_or_else(missing)?;
        let first = foremost(instances.values()).ok_or_else(missing)?;
        let shown = shown(instances);
        stored.push(Series {
            id: row.integer(0)?,
            study_id,
            inserted: row.integer(3)? == 1,
            fresh: shown > 0 && row.integer(5)? == shown,
            modality: first.one.new.entry.series.modality.as_ref(),
            dictionary: row.optional_integer(4)?,
            instances: instances.values().map(|one| (*one, None)).collect(),
        });
    }
    if given.is_empty() { Ok(stored) } else { Err(missing()) }
}

/// Counts new series in their studies, and adds their modalities.
fn add_to_studies(studies: &Studies, series: &[Series<'_>]) -> Vec<Step> {
    let mut grown: BTreeMap<&str, (i64, &Study, Vec<&Series<'_>>)> = BTreeMap::new();
    for series in series.iter().filter(|series| series.fresh) {
        let Some(study) = studies.get(&series.study_id) else { continue };
        grown.entry(&study.uid).or_insert_with(|| (series.study_id, study, Vec::new())).2.push(series);
    }
    let update = |(id, study, fresh): (i64, &Study, Vec<&Series<'_>>)| {
        let mut modalities: Vec<&str> = study.modalities.split('\\').collect();
        modalities.extend(fresh.iter().filter_map(|series| series.modality).map(String::as_str));
        modalities.retain(|modality| !modality.is_empty());
        modalities.sort_unstable();
        modalities.dedup();
        Statement::new("update studies set series_count = series_count + $1, modalities = $2 where id = $3")
            .with(count(fresh.len()))
            .with(line(Some(&modalities.join("\\"))))
            .with(id)
            .into()
    };
    grown.into_values().map(update).collect()
}

/// Gives series without a dictionary one, and compresses again what was compressed against another.
async fn choose_dictionaries(
    transaction: &mut Transaction,
    cache: &Dictionaries,
    series: &mut [Series<'_>],
    steps: &mut Vec<Step>,
) -> Result<Vec<(InstanceKey, i64, Arc<Dictionary>)>> {
    let mut found = Vec::new();
    let mut rows = Vec::new();
    for series in &mut *series {
        let Some((first, _)) = series.instances.first() else { continue };
        let first = first.one;
        let key = first.new.entry.key.clone();
        let dictionary = match (series.dictionary, &first.guess) {
            (Some(id), _) => {
                if let Some(dictionary) = cache.get(id) {
                    dictionary
                } else {
                    let rows = transaction.fetch_each(vec![Dictionaries::statement(id)]).await?;
                    Dictionaries::read(&rows.into_iter().flatten().collect::<Vec<_>>())?
                }
            }
            (None, guess) => {
                let dictionary = match guess {
                    Guess::First(dictionary) => Arc::clone(dictionary),
                    Guess::Known(_) => Arc::new(Dictionary::of(&first.new.metadata)),
                };
                // its id is that of the series: no question to the database, and no second one by another process
                rows.push(vec![series.id.into(), dictionary.pack()?.into()]);
                dictionary
            }
        };
        let id = series.dictionary.unwrap_or(series.id);
        for (one, again) in &mut series.instances {
            let one = one.one;
            let right = match &one.guess {
                Guess::Known(guess) => series.dictionary == Some(*guess),
                Guess::First(guess) => series.dictionary.is_none() && Arc::ptr_eq(guess, &dictionary),
            };
            if !right {
                *again = dictionary.compress([one.new.metadata.as_slice()])?.pop();
            }
        }
        found.push((key, id, dictionary));
    }
    if !rows.is_empty() {
        let chosen: Vec<i64> =
            series.iter().filter(|series| series.dictionary.is_none()).map(|series| series.id).collect();
        let columns = &[("id", Kind::Integer), ("content", Kind::Bytes)];
        let dialect = transaction.dialect();
        let insert = Insert { table: "metadata_dictionaries", columns, tail: "", rows };
        steps.extend(insert.statements(dialect)?.into_iter().map(Step::from));
        let text = format!("update series set dictionary_id = id where id {}", dialect.any(1));
        steps.push(Statement::new(text).with(chosen).into());
        for series in series {
            series.dictionary = series.dictionary.or(Some(series.id));
        }
    }
    Ok(found)
}

/// Inserts the instances by the order of their UIDs, and the blocks of their frame indexes.
fn insert_instances(dialect: Dialect, series: &[Series<'_>], steps: &mut Vec<Step>, now: i64) -> Result<()> {
    let mut sorted: Vec<(&Series<'_>, Arrival<'_>, Option<&Vec<u8>>)> = series
        .iter()
        .flat_map(|series| series.instances.iter().map(move |(one, again)| (series, *one, again.as_ref())))
        .collect();
    sorted.sort_unstable_by(|a, b| a.1.one.new.entry.key.instance.cmp(&b.1.one.new.entry.key.instance));
    let rows = sorted
        .iter()
        .map(|(series, arrival, again)| {
            let place = Place { study: series.study_id, series: series.id, dictionary: series.dictionary };
            instance_row(&place, *arrival, again.unwrap_or(&arrival.one.compressed), now)
        })
        .collect::<Result<Vec<_>>>()?;
    // SQLite's writer has seen what is stored, and nobody writes beside it
    let (tail, changes) = match dialect {
        Dialect::Sqlite => ("", None),
        Dialect::Postgres => (
            "on conflict (partition_id, sop_instance_uid) where hidden = 0 do nothing",
            u64::try_from(sorted.len()).ok(),
        ),
    };
    let insert = Insert { table: "instances", columns: INSTANCE_COLUMNS, tail, rows };
    steps.extend(insert.statements(dialect)?.into_iter().map(|statement| Step { statement, changes }));
    insert_frame_blocks(dialect, sorted.into_iter().map(|(_, arrival, _)| arrival), steps)
}

fn insert_frame_blocks<'a>(
    dialect: Dialect,
    arrivals: impl Iterator<Item = Arrival<'a>>,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let mut rows = Vec::new();
    for arrival in arrivals {
        let one = arrival.one;
        let uid = one.new.entry.key.instance.as_str();
        let blocks = (0_i64..).zip(&one.new.frames.blocks);
        if !arrival.shows() {
            // the UID alone finds what can be seen
            let text = "insert into frame_blocks (instance_id, block, frames) select id, $1, $2 from instances \
                        where partition_id = $3 and sop_instance_uid = $4 and location = $5 and hidden <> 0";
            steps.extend(blocks.map(|(number, block)| {
                let insert = Statement::new(text).with(number).with(block.as_slice()).with(MAIN_PARTITION);
                Step::from(insert.with(uid).with(one.new.location.as_str()))
            }));
            continue;
        }
        rows.extend(blocks.map(|(number, block)| vec![uid.into(), Value::Integer(number), block.as_slice().into()]));
    }
    let columns = &[("instance_id", Kind::InstanceId), ("block", Kind::Integer), ("frames", Kind::Bytes)];
    let blocks = Insert { table: "frame_blocks", columns, tail: "", rows };
    steps.extend(blocks.statements(dialect)?.into_iter().map(Step::from));
    Ok(())
}
