//! A search as a value: level, conditions, what to return, which page; and its evaluation in memory.
//!
//! QIDO-RS and C-FIND build it, the catalogue turns it into SQL; [`SearchQuery::matches`] is the oracle of that SQL.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::dicom::attributes;
use crate::dicom::entry::{InstanceEntry, NameEntry, SeriesEntry, StudyEntry};
use crate::dicom::uid::{InstanceUid, Level, SeriesUid, SopClassUid, StudyUid};
use crate::dicom::values::wildcard;

/// A parsed search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery {
    /// What is searched for.
    pub level: Level,
    /// Only in this study, when the path names one.
    pub study: Option<StudyUid>,
    /// Only in this series of it.
    pub series: Option<SeriesUid>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What to return beyond the required attributes.
    pub include: Include,
    /// Which part of the matches.
    pub page: Page,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// On which attribute.
    pub key: SearchKey,
    /// What must hold.
    pub test: Test,
}

/// The attributes that can be conditions; `dicom/attributes.rs` has tag, VR and level of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the standard's keyword")]
pub enum SearchKey {
    PatientId,
    PatientName,
    PatientBirthDate,
    PatientSex,
    StudyInstanceUid,
    StudyDate,
    StudyTime,
    /// Study Date and Study Time as one moment (PS3.4 C.2.2.2.5.1); made by the parser, not by a client.
    StudyDateTime,
    AccessionNumber,
    StudyId,
    StudyDescription,
    ReferringPhysicianName,
    ModalitiesInStudy,
    SeriesInstanceUid,
    Modality,
    SeriesNumber,
    SeriesDescription,
    BodyPartExamined,
    SeriesDate,
    SeriesTime,
    PerformedProcedureStepStartDate,
    PerformedProcedureStepStartTime,
    SopInstanceUid,
    SopClassUid,
    InstanceNumber,
}

/// What must hold of the attribute's value. An absent or empty value satisfies none of them;
/// universal matching is the absence of a condition.
///
/// A test fits the VR of its key: `Name` for PN, `Integer` for IS, `Dates` for DA, `Times` for TM, `Moments` for
/// [`SearchKey::StudyDateTime`], the first three for all others. One that does not fit is satisfied by nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Equal to the text, both without padding.
    Text(String),
    /// Any of these texts (UIDs; modalities of a study).
    AnyOf(Vec<String>),
    /// Matches a pattern of `*` (any run) and `?` (one character); there is no escape.
    Wildcard(String),
    /// A person name: each component group of the key must match the same group of the value, a key without `=` any group.
    /// Already folded; may hold `*` and `?`.
    Name(String),
    /// An integer string, by value.
    Integer(i64),
    /// Between two dates YYYYMMDD, both included; `None` is open.
    Dates(Option<String>, Option<String>),
    /// Between two times in microseconds since midnight, both included.
    Times(Option<i64>, Option<i64>),
    /// Between two moments (date, microseconds), both included; a study without time counts as midnight.
    Moments(Option<(String, i64)>, Option<(String, i64)>),
}

/// What to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Include {
    /// The required attributes and these, ascending.
    Tags(Vec<Tag>),
    /// Everything that is known at the level.
    All,
}

/// Which part of the matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many; `None` is the server's default.
    pub limit: Option<u64>,
    /// Skip so many.
    pub offset: u64,
}

/// An entity that may match, with all that lies above it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Study Instance UID.
    pub study_uid: &'a StudyUid,
    /// The study.
    pub study: &'a StudyEntry,
    /// The modalities of all its series.
    pub modalities: &'a [String],
    /// The series, below study level.
    pub series: Option<(&'a SeriesUid, &'a SeriesEntry)>,
    /// The instance, at instance level.
    pub instance: Option<(&'a InstanceUid, &'a SopClassUid, &'a InstanceEntry)>,
}

/// What a condition looks at; absent and empty values are not made into one.
enum Value<'a> {
    Text(&'a str),
    Texts(&'a [String]),
    Name(&'a NameEntry),
    Number(i64),
    Moment(&'a str, i64),
}

impl SearchQuery {
    /// The search for everything at this level.
    #[must_use]
    pub fn all(level: Level) -> Self {
        Self {
            level,
            study: None,
            series: None,
            conditions: Vec::new(),
            include: Include::Tags(Vec::new()),
            page: Page::default(),
        }
    }

    /// Whether the entity lies below the parents and satisfies every condition.
    #[must_use]
    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        self.study.as_ref().is_none_or(|uid| uid == candidate.study_uid)
            && self.series.as_ref().is_none_or(|uid| candidate.series.is_some_and(|(series, _)| series == uid))
            && self.conditions.iter().all(|condition| condition.holds(candidate))
    }

    /// Whether answers hold attributes of this level: those of the level asked for, of the levels above it that the
    /// path does not name ([PS3.18 10.6.3.3](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.6.3.3.html)),
    /// and of those from which something is to be included.
    #[must_use]
    pub fn answers_with(&self, level: Level) -> bool {
        let named = match level {
            Level::Study => self.study.is_some(),
            Level::Series => self.series.is_some(),
            Level::Instance => false,
        };
        let included = match &self.include {
            Include::All => false,
            Include::Tags(tags) => tags.iter().any(|tag| attributes::level_of(*tag) == level && !is_uid_of_path(*tag)),
        };
        level == self.level || (level < self.level && (!named || included))
    }

    /// What is to be returned that only the metadata of the instances hold.
    #[must_use]
    pub fn from_metadata(&self) -> Vec<Tag> {
        match &self.include {
            Include::Tags(tags) if self.level == Level::Instance => tags
                .iter()
                .copied()
                .filter(|tag| attributes::level_of(*tag) == Level::Instance && !is_computed_of_instance(*tag))
                .filter(|tag| attributes::kept(Level::Instance).binary_search(tag).is_err())
                .collect(),
            Include::Tags(_) | Include::All => Vec::new(),
        }
    }
}

/// Every answer has the UIDs of its path, so that asking for them needs nothing more.
fn is_uid_of_path(tag: Tag) -> bool {
    matches!(tag, tags::STUDY_INSTANCE_UID | tags::SERIES_INSTANCE_UID)
}

fn is_computed_of_instance(tag: Tag) -> bool {
    matches!(tag, tags::SOP_CLASS_UID | tags::SOP_INSTANCE_UID | tags::INSTANCE_AVAILABILITY | tags::RETRIEVE_URL)
}

impl Condition {
    fn holds(&self, candidate: &Candidate<'_>) -> bool {
        self.key.value(candidate).is_some_and(|value| self.test.accepts(self.key.vr(), &value))
    }
}

impl SearchKey {
    fn value<'a>(self, candidate: &Candidate<'a>) -> Option<Value<'a>> {
        match self.level() {
            Level::Study => self.value_of_study(candidate),
            Level::Series => self.value_of_series(candidate.series?),
            Level::Instance => self.value_of_instance(candidate.instance?),
        }
    }

    fn value_of_study<'a>(self, candidate: &Candidate<'a>) -> Option<Value<'a>> {
        let study = candidate.study;
        match self {
            Self::StudyInstanceUid => Some(Value::Text(candidate.study_uid.as_str())),
            Self::ModalitiesInStudy => Some(Value::Texts(candidate.modalities)),
            Self::PatientId => text(study.patient_id.as_ref()),
            Self::PatientName => study.patient_name.as_ref().map(Value::Name),
            Self::PatientBirthDate => text(study.patient_birth_date.as_ref()),
            Self::PatientSex => text(study.patient_sex.as_ref()),
            Self::StudyDate => text(study.study_date.as_ref()),
            Self::StudyTime => study.study_time.map(Value::Number),
            Self::StudyDateTime => Some(Value::Moment(study.study_date.as_deref()?, study.study_time.unwrap_or(0))),
            Self::AccessionNumber => text(study.accession_number.as_ref()),
            Self::StudyId => text(study.study_id.as_ref()),
            Self::StudyDescription => text(study.study_description.as_ref()),
            Self::ReferringPhysicianName => study.referring_physician_name.as_ref().map(Value::Name),
            _ => None,
        }
    }

    fn value_of_series<'a>(self, (uid, series): (&'a SeriesUid, &'a SeriesEntry)) -> Option<Value<'a>> {
        match self {
            Self::SeriesInstanceUid => Some(Value::Text(uid.as_str())),
            Self::Modality => text(series.modality.as_ref()),
            Self::SeriesNumber => series.series_number.map(Value::Number),
            Self::SeriesDescription => text(series.series_description.as_ref()),
            Self::BodyPartExamined => text(series.body_part_examined.as_ref()),
            Self::SeriesDate => text(series.series_date.as_ref()),
            Self::SeriesTime => series.series_time.map(Value::Number),
            Self::PerformedProcedureStepStartDate => text(series.performed_procedure_step_start_date.as_ref()),
            Self::PerformedProcedureStepStartTime => series.performed_procedure_step_start_time.map(Value::Number),
            _ => None,
        }
    }

    fn value_of_instance<'a>(
        self,
        (uid, sop_class, instance): (&'a InstanceUid, &'a SopClassUid, &'a InstanceEntry),
    ) -> Option<Value<'a>> {
        match self {
            Self::SopInstanceUid => Some(Value::Text(uid.as_str())),
            Self::SopClassUid => Some(Value::Text(sop_class.as_str())),
            Self::InstanceNumber => instance.instance_number.map(Value::Number),
            _ => None,
        }
    }
}

fn text(value: Option<&String>) -> Option<Value<'_>> {
    value.map(|text| Value::Text(text))
}

impl Test {
    /// Whether the test can be made of attributes of this VR.
    #[must_use]
    pub fn fits(&self, vr: VR) -> bool {
        match self {
            Self::Text(_) | Self::AnyOf(_) | Self::Wildcard(_) => {
                !matches!(vr, VR::PN | VR::IS | VR::DA | VR::TM | VR::DT)
            }
            Self::Name(_) => vr == VR::PN,
            Self::Integer(_) => vr == VR::IS,
            Self::Dates(..) => vr == VR::DA,
            Self::Times(..) => vr == VR::TM,
            Self::Moments(..) => vr == VR::DT,
        }
    }

    fn accepts(&self, vr: VR, value: &Value<'_>) -> bool {
        self.fits(vr)
            && match value {
                Value::Text(text) => self.accepts_text(text),
                Value::Texts(texts) => texts.iter().any(|text| self.accepts_text(text)),
                Value::Name(name) => self.accepts_name(name),
                Value::Number(number) => self.accepts_number(*number),
                Value::Moment(date, time) => self.accepts_moment((date, *time)),
            }
    }

    fn accepts_text(&self, value: &str) -> bool {
        if value.is_empty() {
            return false;
        }
        match self {
            Self::Text(wanted) => wanted == value,
            Self::AnyOf(wanted) => wanted.iter().any(|wanted| wanted == value),
            Self::Wildcard(pattern) => wildcard(pattern, value),
            Self::Dates(from, to) => within(value, from.as_deref(), to.as_deref()),
            Self::Name(_) | Self::Integer(_) | Self::Times(..) | Self::Moments(..) => false,
        }
    }

    fn accepts_name(&self, name: &NameEntry) -> bool {
        let Self::Name(key) = self else { return false };
        let groups = [name.alphabetic.as_str(), &name.ideographic, &name.phonetic];
        let matches = |pattern: &str, group: &str| !group.is_empty() && wildcard(pattern, group);
        match name_groups(key) {
            NameGroups::Any(pattern) => groups.iter().any(|group| matches(pattern, group)),
            NameGroups::Each(patterns) => patterns
                .iter()
                .zip(groups)
                .all(|(pattern, group)| pattern.is_none_or(|pattern| matches(pattern, group))),
        }
    }

    fn accepts_number(&self, value: i64) -> bool {
        match self {
            Self::Integer(wanted) => *wanted == value,
            Self::Times(from, to) => within(value, *from, *to),
            Self::Text(_)
            | Self::AnyOf(_)
            | Self::Wildcard(_)
            | Self::Name(_)
            | Self::Dates(..)
            | Self::Moments(..) => false,
        }
    }

    fn accepts_moment(&self, value: (&str, i64)) -> bool {
        let Self::Moments(from, to) = self else { return false };
        within(value, from.as_ref().map(borrowed), to.as_ref().map(borrowed))
    }
}

fn borrowed((date, time): &(String, i64)) -> (&str, i64) {
    (date, *time)
}

fn within<T: PartialOrd + Copy>(value: T, from: Option<T>, to: Option<T>) -> bool {
    from.is_none_or(|from| from <= value) && to.is_none_or(|to| value <= to)
}

/// The patterns of a folded name key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameGroups<'a> {
    /// Any component group may match.
    Any(&'a str),
    /// Each group must match its own pattern; `None` is any value and none at all.
    Each([Option<&'a str>; 3]),
}

/// Takes a folded name key apart; groups that are empty or nothing but `*` ask for nothing.
#[must_use]
pub fn name_groups(key: &str) -> NameGroups<'_> {
    if !key.contains('=') {
        return NameGroups::Any(key);
    }
    let mut groups = key.split('=').map(|group| (!is_universal(group)).then_some(group));
    let mut next = || groups.next().flatten();
    NameGroups::Each([next(), next(), next()])
}

/// Whether a key matches every value and the absence of one: it is empty or nothing but `*`
/// ([PS3.4 C.2.2.2.3](https://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_C.2.2.2.3.html)).
#[must_use]
pub fn is_universal(key: &str) -> bool {
    key.bytes().all(|byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study() -> StudyEntry {
        StudyEntry {
            patient_id: Some("A-1".into()),
            patient_name: Some(NameEntry {
                alphabetic: "yamada^tarou".into(),
                ideographic: "山田^太郎".into(),
                phonetic: String::new(),
            }),
            study_date: Some("20200101".into()),
            study_time: Some(43_200_000_000),
            study_description: Some(String::new()),
            ..StudyEntry::default()
        }
    }

    fn accepts(key: SearchKey, test: Test) -> bool {
        let query = SearchQuery { conditions: vec![Condition { key, test }], ..SearchQuery::all(Level::Study) };
        let uid = StudyUid::parse("1.2").unwrap();
        let modalities = ["CT".to_owned(), "SR".to_owned()];
        query.matches(&Candidate {
            study_uid: &uid,
            study: &study(),
            modalities: &modalities,
            series: None,
            instance: None,
        })
    }

    #[test]
    fn every_test_is_by_the_rule_of_its_vr() {
        let text = |text: &str| Test::Text(text.into());
        let name = |text: &str| Test::Name(text.into());
        let pattern = |text: &str| Test::Wildcard(text.into());
        let any = |texts: &[&str]| Test::AnyOf(texts.iter().map(|&text| text.into()).collect());
        let moment = |date: &str, time| Some((date.to_owned(), time));
        for (key, test, wanted) in [
            (SearchKey::PatientId, text("A-1"), true),
            (SearchKey::PatientId, text("a-1"), false),
            (SearchKey::PatientId, pattern("A?1"), true),
            (SearchKey::PatientId, Test::Name("a-1".into()), false),
            (SearchKey::StudyDescription, pattern("*"), false),
            (SearchKey::StudyId, pattern("*"), false),
            (SearchKey::PatientName, name("yamada*"), true),
            (SearchKey::PatientName, name("山田*"), true),
            (SearchKey::PatientName, name("yamada*=山田^太郎"), true),
            (SearchKey::PatientName, name("=山田^太郎"), true),
            (SearchKey::PatientName, name("=yamada*"), false),
            (SearchKey::PatientName, name("yamada*=*=*"), true),
            (SearchKey::PatientName, name("==?*"), false),
            (SearchKey::ReferringPhysicianName, name("x*"), false),
            (SearchKey::ModalitiesInStudy, any(&["MR", "SR"]), true),
            (SearchKey::ModalitiesInStudy, any(&["MR"]), false),
            (SearchKey::ModalitiesInStudy, pattern("C?"), true),
            (SearchKey::StudyInstanceUid, any(&["1.2", "1.3"]), true),
            (SearchKey::StudyDate, Test::Dates(Some("20200101".into()), None), true),
            (SearchKey::StudyDate, Test::Dates(None, Some("20191231".into())), false),
            (SearchKey::PatientBirthDate, Test::Dates(None, Some("99991231".into())), false),
            (SearchKey::StudyTime, Test::Times(Some(0), Some(43_200_000_000)), true),
            (SearchKey::StudyTime, Test::Times(Some(43_200_000_001), None), false),
            (SearchKey::StudyDateTime, Test::Moments(moment("20200101", 0), moment("20200102", 0)), true),
            (SearchKey::StudyDateTime, Test::Moments(None, moment("20200101", 43_199_999_999)), false),
            (SearchKey::Modality, text("CT"), false),
        ] {
            assert_eq!(accepts(key, test.clone()), wanted, "{key:?} {test:?}");
        }
    }

    #[test]
    fn levels_above_are_answered_where_the_path_does_not_name_them() {
        let study = || Some(StudyUid::parse("1.2").unwrap());
        let of = |level, study, series, include| SearchQuery {
            study,
            series,
            include: Include::Tags(include),
            ..SearchQuery::all(level)
        };
        let levels =
            |query: &SearchQuery| [Level::Study, Level::Series, Level::Instance].map(|level| query.answers_with(level));
        let series = || Some(SeriesUid::parse("1.3").unwrap());
        for (query, wanted) in [
            (of(Level::Study, None, None, vec![]), [true, false, false]),
            (of(Level::Series, None, None, vec![]), [true, true, false]),
            (of(Level::Series, study(), None, vec![]), [false, true, false]),
            (of(Level::Series, study(), None, vec![tags::PATIENT_NAME]), [true, true, false]),
            (of(Level::Series, study(), None, vec![tags::STUDY_INSTANCE_UID]), [false, true, false]),
            (of(Level::Instance, None, None, vec![]), [true, true, true]),
            (of(Level::Instance, study(), None, vec![]), [false, true, true]),
            (of(Level::Instance, study(), series(), vec![]), [false, false, true]),
            (of(Level::Instance, study(), series(), vec![tags::MODALITY]), [false, true, true]),
        ] {
            assert_eq!(levels(&query), wanted, "{query:?}");
        }
    }

    #[test]
    fn metadata_are_read_only_for_what_no_column_holds() {
        let query = |level, tags| SearchQuery { include: Include::Tags(tags), ..SearchQuery::all(level) };
        let tags = vec![tags::SOP_CLASS_UID, tags::IMAGE_TYPE, tags::PATIENT_ID, tags::WINDOW_CENTER];
        assert_eq!(query(Level::Instance, tags.clone()).from_metadata(), [tags::WINDOW_CENTER]);
        assert_eq!(query(Level::Series, tags).from_metadata(), []);
    }
}
