//! What the columns of studies, series and instances hold, from the entry of an instance.

use super::MAIN_PARTITION;
use super::hidden::Hidden;
use super::instances::{encoding_name, form_name};
use super::rows::{Column, Kind};
use super::sql::Value;
use super::storing::Arrival;
use crate::dicom::entry::{NameEntry, SeriesEntry, StudyEntry, bounded};
use crate::error::{Error, Result};

pub(super) const STUDY_COLUMNS: &[Column] = &[
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

pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A text as both databases take it, whatever the file held.
fn text(value: Option<&String>) -> Value {
    line(value.map(|value| bounded(value)))
}

/// A text as it comes back from its column.
pub(super) fn stored_text(value: Option<&String>) -> Option<String> {
    value.map(|value| bounded(value).replace('\0', ""))
}

/// A text of any length. PostgreSQL refuses NUL.
pub(super) fn line(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |value| Value::Text(value.replace('\0', "")))
}

/// The three groups of a name; those that are empty are null.
fn name(name: Option<&NameEntry>) -> [Value; 3] {
    let group = |pick: fn(&NameEntry) -> &String| text(name.map(pick).filter(|group| !group.is_empty()));
    [group(|name| &name.alphabetic), group(|name| &name.ideographic), group(|name| &name.phonetic)]
}

pub(super) fn study_row(uid: &str, study: &StudyEntry, instances: i64, now: i64) -> Vec<Value> {
    let [patient, patient_ideographic, patient_phonetic] = name(study.patient_name.as_ref());
    let [physician, physician_ideographic, physician_phonetic] = name(study.referring_physician_name.as_ref());
    vec![
        MAIN_PARTITION.into(),
        uid.into(),
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

pub(super) const SERIES_COLUMNS: &[Column] = &[
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

pub(super) fn series_row(study: &str, uid: &str, series: &SeriesEntry, instances: i64, now: i64) -> Vec<Value> {
    vec![
        study.into(),
        uid.into(),
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

pub(super) const INSTANCE_COLUMNS: &[Column] = &[
    ("partition_id", Kind::Integer),
    ("study_id", Kind::Integer),
    ("series_id", Kind::Integer),
    ("sop_instance_uid", Kind::Text),
    ("version", Kind::Integer),
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
    ("hidden", Kind::Integer),
    ("hidden_at", Kind::Integer),
    ("deletion_id", Kind::Integer),
];

/// Where the row of an instance belongs.
pub(super) struct Place {
    pub(super) study: i64,
    pub(super) series: i64,
    pub(super) dictionary: Option<i64>,
}

/// `metadata` are compressed against the dictionary of the place.
pub(super) fn instance_row(place: &Place, arrival: Arrival<'_>, metadata: &[u8], now: i64) -> Result<Vec<Value>> {
    let Arrival { one, version, deletion } = arrival;
    let hidden = if deletion.is_some() { Hidden::Deleted } else { Hidden::No };
    let new = &one.new;
    let key = &new.entry.key;
    let size = i64::try_from(new.size).map_err(|error| Error::internal("an object is too large").caused_by(error))?;
    Ok(vec![
        MAIN_PARTITION.into(),
        place.study.into(),
        place.series.into(),
        key.instance.as_str().into(),
        version.into(),
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
        place.dictionary.into(),
        metadata.into(),
        new.frames.head.as_slice().into(),
        new.bulk.as_slice().into(),
        hidden.code().into(),
        // who has made an index anew must have the time to take it back
        deletion.map(|_| now).into(),
        deletion.into(),
    ])
}
