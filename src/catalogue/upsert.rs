//! The rows of studies, series and instances: inserted when new, counted in when not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::MAIN_PARTITION;
use super::database::Transaction;
use super::failure::Raced;
use super::insert::{Guess, Prepared};
use super::instances::{encoding_name, form_name};
use super::metadata::{Dictionaries, Dictionary};
use super::rows::{Column, Insert, Kind};
use super::sql::{Statement, Value};
use super::storing::New;
use crate::clock;
use crate::dicom::entry::{IndexEntry, NameEntry};
use crate::dicom::uid::{InstanceKey, SeriesUid, StudyUid};
use crate::error::{Error, Result};

/// The dictionaries that the series of the new instances have.
pub(super) type Found = Vec<(InstanceKey, i64, Arc<Dictionary>)>;

/// Inserts what is new, with the studies and series that it needs.
pub(super) async fn insert_new(transaction: &mut Transaction, cache: &Dictionaries, new: &New<'_>) -> Result<Found> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let now = clock::unix_millis();
    let studies = upsert_studies(transaction, new, now).await?;
    let mut series = upsert_series(transaction, new, &studies, now).await?;
    add_to_studies(transaction, &studies, &series).await?;
    let found = choose_dictionaries(transaction, cache, &mut series).await?;
    insert_instances(transaction, &series).await?;
    Ok(found)
}

/// A study as it stands after the upsert.
struct Study {
    id: i64,
    modalities: String,
}

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
async fn upsert_studies(transaction: &mut Transaction, new: &New<'_>, now: i64) -> Result<HashMap<String, Study>> {
    let mut rows = Vec::with_capacity(new.len());
    for (uid, series) in new {
        let Some(first) = series.values().flat_map(BTreeMap::values).next() else { continue };
        let instances: usize = series.values().map(BTreeMap::len).sum();
        rows.push(study_row(uid, &first.new.entry, count(instances), now));
    }
    let upsert = Insert {
        table: "studies",
        columns: STUDY_COLUMNS,
        tail: "on conflict (partition_id, study_uid) do update set \
               instance_count = studies.instance_count + excluded.instance_count, updated_at = excluded.updated_at \
               returning study_uid, id, modalities",
        rows,
    };
    let mut studies = HashMap::new();
    for row in upsert.fetch(transaction).await? {
        studies.insert(row.text(0)?.to_owned(), Study { id: row.integer(1)?, modalities: row.text(2)?.to_owned() });
    }
    Ok(studies)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bytes of text that a column keeps: more than any valid value has (64 characters for a component group), and few enough
/// for an index of PostgreSQL, which refuses entries over 2,704 bytes.
const TEXT_BYTES: usize = 1024;

/// A text as both databases take it, whatever the file held.
fn text(value: Option<&String>) -> Value {
    line(value.map(|value| value.get(..value.floor_char_boundary(TEXT_BYTES)).unwrap_or(value)))
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
    study: &'a StudyUid,
    /// It was inserted by this transaction.
    fresh: bool,
    modality: Option<&'a String>,
    dictionary: Option<i64>,
    instances: Vec<(&'a Prepared, Option<Vec<u8>>)>,
}

const SERIES_COLUMNS: &[Column] = &[
    ("study_id", Kind::Integer),
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

fn series_row(study_id: i64, uid: &SeriesUid, entry: &IndexEntry, instances: i64, now: i64) -> Vec<Value> {
    let series = &entry.series;
    vec![
        study_id.into(),
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
async fn upsert_series<'a>(
    transaction: &mut Transaction,
    new: &New<'a>,
    studies: &HashMap<String, Study>,
    now: i64,
) -> Result<Vec<Series<'a>>> {
    let missing = || Error::internal("an upsert returned less than it was given");
    let mut rows = Vec::new();
    let mut places = HashMap::new();
    for (study, series) in new {
        let study_id = studies.get(study.as_str()).ok_or_else(missing)?.id;
        for (uid, instances) in series {
            let Some(first) = instances.values().next() else { continue };
            rows.push(series_row(study_id, uid, &first.new.entry, count(instances.len()), now));
            places.insert((study_id, uid.to_string()), (*study, *first, instances));
        }
    }
    let wanted = rows.len();
    let upsert = Insert {
        table: "series",
        columns: SERIES_COLUMNS,
        tail: "on conflict (study_id, series_uid) do update set version = series.version + 1, \
               instance_count = series.instance_count + excluded.instance_count, updated_at = excluded.updated_at \
               returning id, study_id, series_uid, version, dictionary_id",
        rows,
    };
    let mut stored = Vec::with_capacity(wanted);
    for row in upsert.fetch(transaction).await? {
        let study_id = row.integer(1)?;
        let (study, first, instances) = places.remove(&(study_id, row.text(2)?.to_owned())).ok_or_else(missing)?;
        stored.push(Series {
            id: row.integer(0)?,
            study_id,
            study,
            fresh: row.integer(3)? == 1,
            modality: first.new.entry.series.modality.as_ref(),
            dictionary: row.optional_integer(4)?,
            instances: instances.values().map(|one| (*one, None)).collect(),
        });
    }
    if stored.len() == wanted { Ok(stored) } else { Err(missing()) }
}

/// Counts new series in their studies, and adds their modalities.
async fn add_to_studies(
    transaction: &mut Transaction,
    studies: &HashMap<String, Study>,
    series: &[Series<'_>],
) -> Result<()> {
    let mut grown: BTreeMap<&StudyUid, Vec<&Series<'_>>> = BTreeMap::new();
    for series in series.iter().filter(|series| series.fresh) {
        grown.entry(series.study).or_default().push(series);
    }
    for (uid, fresh) in grown {
        let Some(study) = studies.get(uid.as_str()) else { continue };
        let mut modalities: Vec<&str> = study.modalities.split('\\').collect();
        modalities.extend(fresh.iter().filter_map(|series| series.modality).map(String::as_str));
        modalities.retain(|modality| !modality.is_empty());
        modalities.sort_unstable();
        modalities.dedup();
        let statement =
            Statement::new("update studies set series_count = series_count + $1, modalities = $2 where id = $3")
                .with(count(fresh.len()))
                .with(line(Some(&modalities.join("\\"))))
                .with(study.id);
        transaction.execute(statement).await?;
    }
    Ok(())
}

/// Gives series without a dictionary one, and compresses again what was compressed against another.
async fn choose_dictionaries(
    transaction: &mut Transaction,
    cache: &Dictionaries,
    series: &mut [Series<'_>],
) -> Result<Found> {
    let mut found = Vec::new();
    let mut rows = Vec::new();
    for series in &mut *series {
        let Some((first, _)) = series.instances.first() else { continue };
        let key = first.new.entry.key.clone();
        let dictionary = match (series.dictionary, &first.guess) {
            (Some(id), _) => match cache.get(id) {
                Some(dictionary) => dictionary,
                None => Dictionaries::read(&transaction.fetch_all(Dictionaries::statement(id)).await?)?,
            },
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
        Insert { table: "metadata_dictionaries", columns, tail: "", rows }.execute(transaction).await?;
        let text = format!("update series set dictionary_id = id where id {}", transaction.dialect().any(1));
        transaction.execute(Statement::new(text).with(chosen)).await?;
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
async fn insert_instances(transaction: &mut Transaction, series: &[Series<'_>]) -> Result<()> {
    let mut sorted: Vec<(&Series<'_>, &Prepared, Option<&Vec<u8>>)> = series
        .iter()
        .flat_map(|series| series.instances.iter().map(move |(one, again)| (series, *one, again.as_ref())))
        .collect();
    sorted.sort_unstable_by(|a, b| a.1.new.entry.key.instance.cmp(&b.1.new.entry.key.instance));
    let rows =
        sorted.iter().map(|(series, one, again)| instance_row(series, one, *again)).collect::<Result<Vec<_>>>()?;
    let blocks: HashMap<&str, &Vec<Vec<u8>>> = sorted
        .iter()
        .map(|(_, one, _)| (one.new.entry.key.instance.as_str(), &one.new.frames.blocks))
        .filter(|(_, blocks)| !blocks.is_empty())
        .collect();
    let table = "instances";
    let columns = INSTANCE_COLUMNS;
    if blocks.is_empty() {
        let tail = "on conflict (partition_id, sop_instance_uid) where hidden = 0 do nothing";
        let inserted = Insert { table, columns, tail, rows }.execute(transaction).await?;
        return if inserted == sorted.len() as u64 { Ok(()) } else { Err(Raced::error()) };
    }
    let tail =
        "on conflict (partition_id, sop_instance_uid) where hidden = 0 do nothing returning sop_instance_uid, id";
    let inserted = Insert { table, columns, tail, rows }.fetch(transaction).await?;
    if inserted.len() != sorted.len() {
        return Err(Raced::error());
    }
    let mut rows = Vec::new();
    for row in inserted {
        let Some(blocks) = blocks.get(row.text(0)?) else { continue };
        let id = row.integer(1)?;
        rows.extend(
            (0..)
                .zip(*blocks)
                .map(|(number, block)| vec![Value::Integer(id), Value::Integer(number), Value::Bytes(block.clone())]),
        );
    }
    let columns = &[("instance_id", Kind::Integer), ("block", Kind::Integer), ("frames", Kind::Bytes)];
    Insert { table: "frame_blocks", columns, tail: "", rows }.execute(transaction).await.map(drop)
}
