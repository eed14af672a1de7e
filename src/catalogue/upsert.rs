//! The rows of studies, series and instances: inserted when new, counted in when not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::MAIN_PARTITION;
use super::dialect::Dialect;
use super::insert::{Guess, Prepared};
use super::instances::{encoding_name, form_name};
use super::metadata::{Dictionaries, Dictionary};
use super::rows::{Column, Insert, Kind};
use super::sql::{Row, Statement, Value};
use super::storing::New;
use super::transaction::{Step, Transaction};
use crate::clock;
use crate::dicom::entry::{IndexEntry, NameEntry, bounded};
use crate::dicom::uid::{InstanceKey, SeriesUid, StudyUid};
use crate::error::{Error, Result};

/// The dictionaries that the series of the new instances have.
pub(super) type Found = Vec<(InstanceKey, i64, Arc<Dictionary>)>;

/// Inserts the studies and series that the new instances need, or counts them in, and says which steps remain to be done.
pub(super) async fn insert_new(
    transaction: &mut Transaction,
    cache: &Dictionaries,
    new: &New<'_>,
) -> Result<(Vec<Step>, Found)> {
    if new.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let dialect = transaction.dialect();
    let now = clock::unix_millis();
    let mut statements = studies(new, now).statements(dialect)?;
    let of_studies = statements.len();
    statements.append(&mut series(new, now).statements(dialect)?);
    let mut rows = transaction.fetch_each(statements).await?;
    let series_rows: Vec<Row> = rows.drain(of_studies..).flatten().collect();
    let studies = stored_studies(rows.into_iter().flatten())?;
    let mut series = stored_series(&series_rows, new, &studies)?;
    let mut steps = add_to_studies(&studies, &series);
    let found = choose_dictionaries(transaction, cache, &mut series, &mut steps).await?;
    insert_instances(dialect, &series, &mut steps)?;
    Ok((steps, found))
}

/// A study as it stands after the upsert.
struct Study {
    uid: String,
    modalities: String,
}

/// By id.
type Studies = HashMap<i64, Study>;

const STUDY_COLUMNS: &[Column] = &[
    ("partition_id", Kind::Integer),
    ("study_uid", Kind::Text),
    ("patient_id", Kind::Text),
    ("patient_name", Kind::Text),
    ("patient_name_ideographic", Kind::Text),
    ("patient_name_phonetic", Kind::Text),
    ("patient_birth_date", Kind::Text),
    ("patient_sex", Kind::Text),
    ("study_date", Kind::Text),
    ("study_time", Kind::Integer),
    ("accession_number", Kind::Text),
    ("study_id", Kind::Text),
    ("study_description", Kind::Text),
    ("referring_physician_name", Kind::Text),
    ("referring_physician_name_ideographic", Kind::Text),
    ("referring_physician_name_phonetic", Kind::Text),
    ("instance_count", Kind::Integer),
    ("attributes", Kind::Bytes),
    ("created_at", Kind::Integer),
    ("updated_at", Kind::Integer),
];

/// Inserts the studies that are new, and counts in those that are not. The attributes are those of the first instance stored.
fn studies(new: &New<'_>, now: i64) -> Insert {
    let mut rows = Vec::with_capacity(new.len());
    for (uid, series) in new {
        let Some(first) = series.values().flat_map(BTreeMap::values).next() else { continue };
        let instances: usize = series.values().map(BTreeMap::len).sum();
        rows.push(study_row(uid, &first.new.entry, count(instances), now));
    }
    Insert {
        table: "studies",
        columns: STUDY_COLUMNS,
        tail: "on conflict (partition_id, study_uid) do update set \
               instance_count = studies.instance_count + excluded.instance_count, updated_at = excluded.updated_at \
               returning id, study_uid, modalities",
        rows,
    }
}

fn stored_studies(rows: impl Iterator<Item = Row>) -> Result<Studies> {
    rows.map(|row| Ok((row.integer(0)?, Study { uid: row.text(1)?.to_owned(), modalities: row.text(2)?.to_owned() })))
        .collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A text as both databases take it, whatever the file held.
fn text(value: Option<&String>) -> Value {
    line(value.map(|value| bounded(value)))
}

/// A text of any length. PostgreSQL refuses NUL.
fn line(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |value| Value::Text(value.replace('\0', "")))
}

/// The three groups of a name; those that are empty are null.
fn name(name: Option<&NameEntry>) -> [Value; 3] {
    let group = |pick: fn(&NameEntry) -> &String| text(name.map(pick).filter(|group| !group.is_empty()));
    [group(|name| &name.alphabetic), group(|name| &name.ideographic), group(|name| &name.phonetic)]
}

fn study_row(uid: &StudyUid, entry: &IndexEntry, instances: i64, now: i64) -> Vec<Value> {
    let study = &entry.study;
    let [patient, patient_ideographic, patient_phonetic] = name(study.patient_name.as_ref());
    let [physician, physician_ideographic, physician_phonetic] = name(study.referring_physician_name.as_ref());
    vec![
        MAIN_PARTITION.into(),
        uid.as_str().into(),
        text(study.patient_id.as_ref()),
        patient,
        patient_ideographic,
        patient_phonetic,
        text(study.patient_birth_date.as_ref()),
        text(study.patient_sex.as_ref()),
        text(study.study_date.as_ref()),
        study.study_time.into(),
        text(study.accession_number.as_ref()),
        text(study.study_id.as_ref()),
        text(study.study_description.as_ref()),
        physician,
        physician_ideographic,
        physician_phonetic,
        instances.into(),
        study.attributes.0.as_slice().into(),
        now.into(),
        now.into(),
    ]
}

/// A series as it stands after the upsert, with its new instances.
struct Series<'a> {
    id: i64,
    study_id: i64,
    /// It was inserted by this transaction.
    fresh: bool,
    modality: Option<&'a String>,
    dictionary: Option<i64>,
    instances: Vec<(&'a Prepared, Option<Vec<u8>>)>,
}

const SERIES_COLUMNS: &[Column] = &[
    ("study_id", Kind::StudyId),
    ("series_uid", Kind::Text),
    ("version", Kind::Integer),
    ("modality", Kind::Text),
    ("series_number", Kind::Integer),
    ("series_description", Kind::Text),
    ("body_part_examined", Kind::Text),
    ("series_date", Kind::Text),
    ("series_time", Kind::Integer),
    ("performed_procedure_step_start_date", Kind::Text),
    ("performed_procedure_step_start_time", Kind::Integer),
    ("instance_count", Kind::Integer),
    ("attributes", Kind::Bytes),
    ("created_at", Kind::Integer),
    ("updated_at", Kind::Integer),
];

fn series_row(study: &StudyUid, uid: &SeriesUid, entry: &IndexEntry, instances: i64, now: i64) -> Vec<Value> {
    let series = &entry.series;
    vec![
        study.as_str().into(),
        uid.as_str().into(),
        1.into(),
        text(series.modality.as_ref()),
        series.series_number.into(),
        text(series.series_description.as_ref()),
        text(series.body_part_examined.as_ref()),
        text(series.series_date.as_ref()),
        series.series_time.into(),
        text(series.performed_procedure_step_start_date.as_ref()),
        series.performed_procedure_step_start_time.into(),
        instances.into(),
        series.attributes.0.as_slice().into(),
        now.into(),
        now.into(),
    ]
}

/// Inserts the series that are new, counts in those that are not, and steps their versions.
fn series(new: &New<'_>, now: i64) -> Insert {
    let mut rows = Vec::new();
    for (study, series) in new {
        for (uid, instances) in series {
            let Some(first) = instances.values().next() else { continue };
            rows.push(series_row(study, uid, &first.new.entry, count(instances.len()), now));
        }
    }
    Insert {
        table: "series",
        columns: SERIES_COLUMNS,
        tail: "on conflict (study_id, series_uid) do update set version = series.version + 1, \
               instance_count = series.instance_count + excluded.instance_count, updated_at = excluded.updated_at \
               returning id, study_id, series_uid, version, dictionary_id",
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
        let first = instances.values().next().ok_or_else(missing)?;
        stored.push(Series {
            id: row.integer(0)?,
            study_id,
            fresh: row.integer(3)? == 1,
            modality: first.new.entry.series.modality.as_ref(),
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
) -> Result<Found> {
    let mut found = Vec::new();
    let mut rows = Vec::new();
    for series in &mut *series {
        let Some((first, _)) = series.instances.first() else { continue };
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

const INSTANCE_COLUMNS: &[Column] = &[
    ("partition_id", Kind::Integer),
    ("study_id", Kind::Integer),
    ("series_id", Kind::Integer),
    ("sop_instance_uid", Kind::Text),
    ("sop_class_uid", Kind::Text),
    ("instance_number", Kind::Integer),
    ("transfer_syntax_uid", Kind::Text),
    ("encoding", Kind::Text),
    ("form", Kind::Text),
    ("location", Kind::Text),
    ("size", Kind::Integer),
    ("digest", Kind::Bytes),
    ("received_digest", Kind::Bytes),
    ("received_at", Kind::Integer),
    ("source", Kind::Text),
    ("file_name", Kind::Text),
    ("number_of_frames", Kind::Integer),
    ("attributes", Kind::Bytes),
    ("dictionary_id", Kind::Integer),
    ("metadata", Kind::Bytes),
    ("frames", Kind::Bytes),
    ("bulk", Kind::Bytes),
];

fn instance_row(series: &Series<'_>, one: &Prepared, again: Option<&Vec<u8>>) -> Result<Vec<Value>> {
    let new = &one.new;
    let key = &new.entry.key;
    let size = i64::try_from(new.size).map_err(|error| Error::internal("an object is too large").caused_by(error))?;
    Ok(vec![
        MAIN_PARTITION.into(),
        series.study_id.into(),
        series.id.into(),
        key.instance.as_str().into(),
        new.entry.sop_class.as_str().into(),
        new.entry.instance.instance_number.into(),
        new.transfer_syntax.as_str().into(),
        encoding_name(new.encoding).into(),
        form_name(new.form).into(),
        new.location.as_str().into(),
        size.into(),
        new.digest.as_slice().into(),
        new.received_digest.as_slice().into(),
        new.received_at.into(),
        line(Some(&new.source)),
        line(new.file_name.as_deref()),
        i64::from(new.number_of_frames).into(),
        new.entry.instance.attributes.0.as_slice().into(),
        series.dictionary.into(),
        again.unwrap_or(&one.compressed).as_slice().into(),
        new.frames.head.as_slice().into(),
        new.bulk.as_slice().into(),
    ])
}

/// Inserts the instances by the order of their UIDs, and the blocks of their frame indexes.
fn insert_instances(dialect: Dialect, series: &[Series<'_>], steps: &mut Vec<Step>) -> Result<()> {
    let mut sorted: Vec<(&Series<'_>, &Prepared, Option<&Vec<u8>>)> = series
        .iter()
        .flat_map(|series| series.instances.iter().map(move |(one, again)| (series, *one, again.as_ref())))
        .collect();
    sorted.sort_unstable_by(|a, b| a.1.new.entry.key.instance.cmp(&b.1.new.entry.key.instance));
    let rows =
        sorted.iter().map(|(series, one, again)| instance_row(series, one, *again)).collect::<Result<Vec<_>>>()?;
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
    let mut rows = Vec::new();
    for (_, one, _) in sorted {
        let uid = one.new.entry.key.instance.as_str();
        let blocks = (0..).zip(&one.new.frames.blocks);
        rows.extend(blocks.map(|(number, block)| vec![uid.into(), Value::Integer(number), block.as_slice().into()]));
    }
    let columns = &[("instance_id", Kind::InstanceId), ("block", Kind::Integer), ("frames", Kind::Bytes)];
    let blocks = Insert { table: "frame_blocks", columns, tail: "", rows };
    steps.extend(blocks.statements(dialect)?.into_iter().map(Step::from));
    Ok(())
}
