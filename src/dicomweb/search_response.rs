//! One match of a search → one JSON object of the answer.
//!
//! Of each level that the answer covers it has the required attributes, empty where unknown, what is computed, and what was
//! asked for ([PS3.18 10.6.3.3](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.6.3.3.html)).

use std::borrow::Cow;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::catalogue::search::Match;
use crate::dicom::attribute_set::write_object;
use crate::dicom::attributes::{self, empty_json};
use crate::dicom::entry::AttributeSet;
use crate::dicom::json::{splice_base, write_string};
use crate::dicom::query::{Include, SearchQuery};
use crate::dicom::uid::Level;

/// An attribute of the answer.
type Attribute<'a> = (Tag, Cow<'a, [u8]>);

/// Writes the matches of one search.
#[derive(Clone, Debug)]
pub struct MatchWriter {
    level: Level,
    /// The DICOMweb root as the client sees it, without a slash at the end.
    base: String,
    study: Wanted,
    series: Wanted,
    instance: Wanted,
}

/// What of a level goes into the answer.
#[derive(Clone, Debug)]
struct Wanted {
    /// Always, empty where unknown; computed ones too.
    required: bool,
    /// All that is known.
    all: bool,
    /// These where known, ascending.
    tags: Vec<Tag>,
}

impl Wanted {
    fn new(query: &SearchQuery, level: Level) -> Self {
        let named = match level {
            Level::Study => query.study.is_some(),
            Level::Series => query.series.is_some(),
            Level::Instance => false,
        };
        let required = query.level == level || (query.level > level && !named);
        let mut tags = match &query.include {
            Include::Tags(tags) => tags.clone(),
            Include::All => Vec::new(),
        };
        if required {
            tags.extend(attributes::required(level));
            tags.extend(attributes::required_if_known(level));
        }
        tags.sort_unstable();
        tags.dedup();
        Self { required, all: required && query.include == Include::All, tags }
    }

    fn has(&self, tag: Tag) -> bool {
        self.all || self.tags.binary_search(&tag).is_ok()
    }

    /// A computed attribute is there whenever its level is.
    fn computes(&self, tag: Tag) -> bool {
        self.required || self.has(tag)
    }

    fn add<'a>(&self, level: Level, set: &'a AttributeSet, out: &mut Vec<Attribute<'a>>) {
        out.extend(set.iter().filter(|(tag, _)| self.has(*tag)).map(|(tag, json)| (tag, Cow::Borrowed(json))));
        if self.required {
            // of the same tag the first counts, so these are only seen where the set has none
            out.extend(attributes::required(level).iter().map(|tag| (*tag, empty_json(attributes::vr_of(*tag)))));
        }
    }
}

impl MatchWriter {
    /// For the matches of this search; `base` is the DICOMweb root as the client sees it, as in
    /// `https://host/dicom-web`.
    #[must_use]
    pub fn new(query: &SearchQuery, base: &str) -> Self {
        Self {
            level: query.level,
            base: base.trim_end_matches('/').to_owned(),
            study: Wanted::new(query, Level::Study),
            series: Wanted::new(query, Level::Series),
            instance: Wanted::new(query, Level::Instance),
        }
    }

    /// Appends the JSON object of a match.
    pub fn write(&self, found: &Match, out: &mut Vec<u8>) {
        let url = self.retrieve_url(found);
        let mut all: Vec<Attribute<'_>> = Vec::with_capacity(48);
        all.push((tags::INSTANCE_AVAILABILITY, Cow::Borrowed(br#"{"vr":"CS","Value":["ONLINE"]}"#)));
        all.push((tags::RETRIEVE_URL, strings(VR::UR, [url.as_str()])));
        all.push((tags::STUDY_INSTANCE_UID, strings(VR::UI, [found.study_uid.as_str()])));
        if let Some(uid) = &found.series_uid {
            all.push((tags::SERIES_INSTANCE_UID, strings(VR::UI, [uid.as_str()])));
        }
        self.add_instance(found, &url, &mut all);
        self.add_series(found, &mut all);
        self.add_study(found, &mut all);
        write_object(out, all.iter().map(|(tag, json)| (*tag, json.as_ref())));
    }

    fn retrieve_url(&self, found: &Match) -> String {
        let mut url = format!("{}/studies/{}", self.base, found.study_uid);
        if let Some(series) = &found.series_uid {
            url.push_str("/series/");
            url.push_str(series.as_str());
        }
        if let Some(instance) = &found.instance {
            url.push_str("/instances/");
            url.push_str(instance.uid.as_str());
        }
        url
    }

    fn add_instance<'a>(&self, found: &'a Match, url: &str, all: &mut Vec<Attribute<'a>>) {
        let Some(instance) = found.instance.as_ref().filter(|_| self.level == Level::Instance) else { return };
        all.push((tags::SOP_CLASS_UID, strings(VR::UI, [instance.sop_class.as_str()])));
        all.push((tags::SOP_INSTANCE_UID, strings(VR::UI, [instance.uid.as_str()])));
        let base = format!("{url}/");
        for (tag, stored) in instance.picked.iter() {
            let mut json = Vec::new();
            splice_base(stored, &base, "", &mut json);
            all.push((tag, Cow::Owned(json)));
        }
        self.instance.add(Level::Instance, &instance.attributes, all);
    }

    fn add_series<'a>(&self, found: &'a Match, all: &mut Vec<Attribute<'a>>) {
        let Some(series) = &found.series else { return };
        if self.series.computes(tags::NUMBER_OF_SERIES_RELATED_INSTANCES) {
            all.push((tags::NUMBER_OF_SERIES_RELATED_INSTANCES, count(series.instances)));
        }
        self.series.add(Level::Series, &series.attributes, all);
    }

    fn add_study<'a>(&self, found: &'a Match, all: &mut Vec<Attribute<'a>>) {
        let Some(study) = &found.study else { return };
        for (tag, number) in [
            (tags::NUMBER_OF_STUDY_RELATED_SERIES, study.series),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, study.instances),
        ] {
            if self.study.computes(tag) {
                all.push((tag, count(number)));
            }
        }
        if self.study.computes(tags::MODALITIES_IN_STUDY) {
            let modalities = study.modalities.iter().map(String::as_str);
            all.push((tags::MODALITIES_IN_STUDY, strings(VR::CS, modalities)));
        }
        self.study.add(Level::Study, &study.attributes, all);
    }
}

/// Texts as the JSON of an attribute; without any it is empty.
fn strings<'a>(vr: VR, values: impl IntoIterator<Item = &'a str>) -> Cow<'static, [u8]> {
    let mut json = format!(r#"{{"vr":"{}""#, vr.to_string()).into_bytes();
    let mut between: &[u8] = br#","Value":["#;
    for value in values {
        json.extend_from_slice(between);
        write_string(&mut json, value);
        between = b",";
    }
    json.extend_from_slice(if between == b"," { b"]}" } else { b"}" });
    Cow::Owned(json)
}

/// A number of related entities; numbers, not strings, as viewers add them up.
fn count(number: u64) -> Cow<'static, [u8]> {
    Cow::Owned(format!(r#"{{"vr":"IS","Value":[{number}]}}"#).into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue::search::{InstanceMatch, SeriesMatch, StudyMatch};
    use crate::dicom::attribute_set::AttributeSetBuilder;
    use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid};

    fn found(level: Level) -> Match {
        let study = AttributeSetBuilder::default()
            .strings(tags::SPECIFIC_CHARACTER_SET, VR::CS, ["ISO_IR 192"])
            .strings(tags::PATIENT_ID, VR::LO, ["P\"1"])
            .strings(tags::PATIENT_COMMENTS, VR::LT, ["long"])
            .build();
        let series = AttributeSetBuilder::default()
            .strings(tags::MODALITY, VR::CS, ["CT"])
            .strings(tags::BODY_PART_EXAMINED, VR::CS, ["HEAD"])
            .build();
        let instance = AttributeSetBuilder::default()
            .integer(tags::ROWS, VR::US, 5)
            .strings(tags::IMAGE_TYPE, VR::CS, ["ORIGINAL"])
            .build();
        let picked = AttributeSetBuilder::default()
            .fragment(tags::PIXEL_DATA, br#"{"vr":"OW","BulkDataURI":"bulkdata/7FE00010"}"#)
            .build();
        Match {
            study_uid: StudyUid::parse("1").unwrap(),
            study: Some(StudyMatch { attributes: study, modalities: vec!["CT".into()], series: 1, instances: 2 }),
            series_uid: (level > Level::Study).then(|| SeriesUid::parse("2").unwrap()),
            series: (level > Level::Study).then_some(SeriesMatch { attributes: series, instances: 2 }),
            instance: (level == Level::Instance).then(|| InstanceMatch {
                uid: InstanceUid::parse("3").unwrap(),
                sop_class: SopClassUid::parse("4").unwrap(),
                attributes: instance,
                picked,
            }),
        }
    }

    /// The object, after a check that its keys ascend.
    fn written(query: &SearchQuery, found: &Match) -> Value {
        let mut out = Vec::new();
        MatchWriter::new(query, "http://h/dicom-web/").write(found, &mut out);
        let keys: Vec<Tag> = crate::dicom::attribute_set::members(&out).map(|(tag, _)| tag).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        serde_json::from_slice(&out).unwrap()
    }

    fn query(level: Level, study: bool, series: bool, include: Include) -> SearchQuery {
        SearchQuery {
            study: study.then(|| StudyUid::parse("1").unwrap()),
            series: series.then(|| SeriesUid::parse("2").unwrap()),
            include,
            ..SearchQuery::all(level)
        }
    }

    #[test]
    fn a_study_has_its_required_attributes_even_where_they_are_unknown() {
        let answer = written(&query(Level::Study, false, false, Include::Tags(vec![])), &found(Level::Study));
        assert_eq!(
            answer,
            json!({
                "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
                "00080020": {"vr": "DA"},
                "00080030": {"vr": "TM"},
                "00080050": {"vr": "SH"},
                "00080056": {"vr": "CS", "Value": ["ONLINE"]},
                "00080061": {"vr": "CS", "Value": ["CT"]},
                "00080090": {"vr": "PN"},
                "00081030": {"vr": "LO"},
                "00081190": {"vr": "UR", "Value": ["http://h/dicom-web/studies/1"]},
                "00100010": {"vr": "PN"},
                "00100020": {"vr": "LO", "Value": ["P\"1"]},
                "00100030": {"vr": "DA"},
                "00100040": {"vr": "CS"},
                "0020000D": {"vr": "UI", "Value": ["1"]},
                "00200010": {"vr": "SH"},
                "00201206": {"vr": "IS", "Value": [1]},
                "00201208": {"vr": "IS", "Value": [2]},
            })
        );
    }

    #[test]
    fn an_answer_has_the_levels_that_the_path_does_not_name_and_what_was_asked_for() {
        let none = || Include::Tags(vec![]);
        let key = |tag: Tag| format!("{:04X}{:04X}", tag.0, tag.1);
        // (query, attributes that are there, attributes that are not)
        for (query, there, missing) in [
            (
                query(Level::Study, false, false, Include::Tags(vec![tags::PATIENT_COMMENTS])),
                vec![tags::PATIENT_COMMENTS],
                vec![tags::MODALITY, tags::ROWS],
            ),
            (query(Level::Study, false, false, Include::All), vec![tags::PATIENT_COMMENTS], vec![]),
            (
                query(Level::Series, false, false, none()),
                vec![
                    tags::PATIENT_ID,
                    tags::MODALITIES_IN_STUDY,
                    tags::MODALITY,
                    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
                ],
                vec![tags::PATIENT_COMMENTS, tags::BODY_PART_EXAMINED],
            ),
            (
                query(Level::Series, true, false, none()),
                vec![tags::STUDY_INSTANCE_UID, tags::MODALITY, tags::SERIES_NUMBER],
                vec![tags::PATIENT_ID, tags::MODALITIES_IN_STUDY, tags::STUDY_DATE],
            ),
            (
                query(Level::Series, true, false, Include::Tags(vec![tags::MODALITIES_IN_STUDY, tags::PATIENT_ID])),
                vec![tags::PATIENT_ID, tags::MODALITIES_IN_STUDY, tags::MODALITY],
                vec![tags::STUDY_DATE, tags::NUMBER_OF_STUDY_RELATED_SERIES],
            ),
            (
                query(Level::Instance, false, false, none()),
                vec![tags::PATIENT_ID, tags::MODALITY, tags::ROWS, tags::SOP_CLASS_UID, tags::INSTANCE_NUMBER],
                vec![tags::IMAGE_TYPE, tags::PATIENT_COMMENTS],
            ),
            (
                query(Level::Instance, true, false, none()),
                vec![tags::MODALITY, tags::ROWS],
                vec![tags::PATIENT_ID, tags::NUMBER_OF_STUDY_RELATED_INSTANCES],
            ),
            (
                query(Level::Instance, true, true, Include::All),
                vec![tags::IMAGE_TYPE, tags::SERIES_INSTANCE_UID],
                vec![tags::PATIENT_ID, tags::MODALITY, tags::PATIENT_COMMENTS],
            ),
        ] {
            let answer = written(&query, &found(query.level));
            for tag in there {
                assert!(answer.get(key(tag)).is_some(), "{tag} of {query:?}");
            }
            for tag in missing {
                assert!(answer.get(key(tag)).is_none(), "{tag} of {query:?}");
            }
        }
    }

    #[test]
    fn an_instance_is_retrieved_at_its_url_and_its_bulk_data_below_it() {
        let include = Include::Tags(vec![tags::PIXEL_DATA]);
        let answer = written(&query(Level::Instance, true, true, include), &found(Level::Instance));
        let url = "http://h/dicom-web/studies/1/series/2/instances/3";
        assert_eq!(answer["00081190"]["Value"][0], url);
        assert_eq!(answer["7FE00010"]["BulkDataURI"], format!("{url}/bulkdata/7FE00010"));
        assert_eq!(answer["00080016"]["Value"][0], "4");
    }
}
