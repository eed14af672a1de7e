//! What the catalogue keeps of an instance in columns, at patient, study, series and instance level.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::dicom::attribute_set::AttributeSetBuilder;
use crate::dicom::attributes;
use crate::dicom::header::Header;
use crate::dicom::identity::{Identity, IdentityError};
use crate::dicom::json::attribute_set;
use crate::dicom::read::{Reader, Values};
use crate::dicom::uid::{InstanceKey, Level, SopClassUid};
use crate::dicom::values::{PersonName, fold};

/// Most bytes of a text that are compared; no VR that can be a condition allows a fourth of it, and an entry of an
/// index of PostgreSQL may not have more than 2,700 bytes.
pub const MAX_COMPARED: usize = 1024;

/// Longest attribute that is kept for answers, as JSON: a page holds a thousand studies. Longer ones are in the metadata.
const MAX_KEPT: usize = 8 * 1024;

/// Most bytes of the attributes of one level together: a search holds thousands of them at once. Those that do not fit
/// any more are in the metadata.
const MAX_KEPT_TOGETHER: usize = 16 * 1024;

/// The columns of one instance, made from its header once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The three UIDs.
    pub key: InstanceKey,
    /// SOP Class UID.
    pub sop_class: SopClassUid,
    /// Patient and study.
    pub study: StudyEntry,
    /// Series.
    pub series: SeriesEntry,
    /// Instance.
    pub instance: InstanceEntry,
}

/// Patient and study. Texts are UTF-8 without padding; `None` when absent, empty or not a valid value of the VR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StudyEntry {
    /// Patient ID (0010,0020).
    pub patient_id: Option<String>,
    /// Patient's Name (0010,0010).
    pub patient_name: Option<NameEntry>,
    /// Patient's Birth Date (0010,0030) as YYYYMMDD.
    pub patient_birth_date: Option<String>,
    /// Patient's Sex (0010,0040).
    pub patient_sex: Option<String>,
    /// Study Date (0008,0020) as YYYYMMDD.
    pub study_date: Option<String>,
    /// Study Time (0008,0030) in microseconds since midnight.
    pub study_time: Option<i64>,
    /// Accession Number (0008,0050).
    pub accession_number: Option<String>,
    /// Study ID (0020,0010).
    pub study_id: Option<String>,
    /// Study Description (0008,1030).
    pub study_description: Option<String>,
    /// Referring Physician's Name (0008,0090).
    pub referring_physician_name: Option<NameEntry>,
    /// All attributes of patient and study level, for answers.
    pub attributes: AttributeSet,
}

/// Series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesEntry {
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// Series Number (0020,0011).
    pub series_number: Option<i64>,
    /// Series Description (0008,103E).
    pub series_description: Option<String>,
    /// Body Part Examined (0018,0015).
    pub body_part_examined: Option<String>,
    /// Series Date (0008,0021) as YYYYMMDD.
    pub series_date: Option<String>,
    /// Series Time (0008,0031) in microseconds since midnight.
    pub series_time: Option<i64>,
    /// Performed Procedure Step Start Date (0040,0244) as YYYYMMDD.
    pub performed_procedure_step_start_date: Option<String>,
    /// Performed Procedure Step Start Time (0040,0245) in microseconds since midnight.
    pub performed_procedure_step_start_time: Option<i64>,
    /// All attributes of series level, for answers.
    pub attributes: AttributeSet,
}

/// Instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceEntry {
    /// Instance Number (0020,0013).
    pub instance_number: Option<i64>,
    /// The attributes of an instance that every answer holds (Rows, Columns, Bits Allocated, Number of Frames and so on).
    pub attributes: AttributeSet,
}

/// A person name in the forms that matching needs, one per component group; empty where the group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameEntry {
    /// Alphabetic, folded by [`crate::dicom::values::fold`].
    pub alphabetic: String,
    /// Ideographic, folded.
    pub ideographic: String,
    /// Phonetic, folded.
    pub phonetic: String,
}

/// Attributes as finished DICOM JSON, ascending by tag, so that an answer is put together without parsing.
///
/// As bytes: for each attribute the tag (4 bytes, big endian), the length (4 bytes, big endian) and the JSON of the
/// attribute, `{"vr":"LO","Value":["…"]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeSet(pub Vec<u8>);

impl IndexEntry {
    /// Takes from a header all that the catalogue keeps.
    ///
    /// # Errors
    /// When one of the four UIDs is missing or is not a UID.
    pub fn from_header(header: &Header) -> Result<Self, IdentityError> {
        let Identity { key, sop_class } = header.identity()?;
        let source = Parsed { header, reader: Reader::new(header) };
        Ok(Self {
            key,
            sop_class,
            study: StudyEntry::read(&source),
            series: SeriesEntry::read(&source),
            instance: InstanceEntry {
                instance_number: source.int(tags::INSTANCE_NUMBER),
                attributes: kept(&source, Level::Instance),
            },
        })
    }
}

/// What entries are made of.
pub(super) trait Source: Values {
    /// These attributes as JSON, without bulk data; `wanted` is ascending.
    fn attributes(&self, wanted: &[Tag]) -> AttributeSet;
}

/// A header that was read.
struct Parsed<'a> {
    header: &'a Header,
    reader: Reader<'a>,
}

impl Values for Parsed<'_> {
    fn string(&self, tag: Tag) -> Option<String> {
        self.reader.string(tag)
    }
}

impl Source for Parsed<'_> {
    fn attributes(&self, wanted: &[Tag]) -> AttributeSet {
        attribute_set(self.header, |tag| wanted.binary_search(&tag).is_ok())
    }
}

impl StudyEntry {
    pub(super) fn read(reader: &impl Source) -> Self {
        Self {
            patient_id: compared(reader, tags::PATIENT_ID),
            patient_name: name(reader, tags::PATIENT_NAME),
            patient_birth_date: reader.date(tags::PATIENT_BIRTH_DATE),
            patient_sex: compared(reader, tags::PATIENT_SEX),
            study_date: reader.date(tags::STUDY_DATE),
            study_time: reader.time(tags::STUDY_TIME),
            accession_number: compared(reader, tags::ACCESSION_NUMBER),
            study_id: compared(reader, tags::STUDY_ID),
            study_description: compared(reader, tags::STUDY_DESCRIPTION),
            referring_physician_name: name(reader, tags::REFERRING_PHYSICIAN_NAME),
            attributes: kept(reader, Level::Study),
        }
    }
}

impl SeriesEntry {
    pub(super) fn read(reader: &impl Source) -> Self {
        Self {
            modality: compared(reader, tags::MODALITY),
            series_number: reader.int(tags::SERIES_NUMBER),
            series_description: compared(reader, tags::SERIES_DESCRIPTION),
            body_part_examined: compared(reader, tags::BODY_PART_EXAMINED),
            series_date: reader.date(tags::SERIES_DATE),
            series_time: reader.time(tags::SERIES_TIME),
            performed_procedure_step_start_date: reader.date(tags::PERFORMED_PROCEDURE_STEP_START_DATE),
            performed_procedure_step_start_time: reader.time(tags::PERFORMED_PROCEDURE_STEP_START_TIME),
            attributes: kept(reader, Level::Series),
        }
    }
}

impl NameEntry {
    /// Folds each component group of a PN value; nothing when all are empty.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let groups = PersonName::parse(value);
        let folded = |group: &str| bounded(&fold(group)).to_owned();
        let name = Self {
            alphabetic: folded(groups.alphabetic),
            ideographic: folded(groups.ideographic),
            phonetic: folded(groups.phonetic),
        };
        (name != Self::default()).then_some(name)
    }
}

fn name(reader: &impl Source, tag: Tag) -> Option<NameEntry> {
    NameEntry::new(&reader.person_name(tag)?)
}

/// The first value as it is compared: PostgreSQL holds no NUL in a text.
fn compared(reader: &impl Source, tag: Tag) -> Option<String> {
    let mut value = reader.string(tag)?;
    value.retain(|letter| letter != '\0');
    value.truncate(bounded(&value).len());
    (!value.is_empty()).then_some(value)
}

/// The text, cut to what is compared at the border of a character.
pub fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_COMPARED)).unwrap_or(text)
}

/// The attributes of this level as JSON.
fn kept(source: &impl Source, level: Level) -> AttributeSet {
    let set = source.attributes(attributes::kept(level));
    if set.0.len() <= MAX_KEPT {
        return set;
    }
    let mut builder = AttributeSetBuilder::default();
    let mut bytes = 0;
    for (tag, json) in set.iter().filter(|(_, json)| json.len() <= MAX_KEPT) {
        // a long one leaves the room to those behind it
        let more = bytes + json.len() + 8;
        if more <= MAX_KEPT_TOGETHER {
            bytes = more;
            builder.fragment(tag, json);
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;
    use crate::dicom::header::{HeaderLimits, HeaderReader};

    const UIDS: [(Tag, VR, &[u8]); 4] = [
        (tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.2\0"),
        (tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.1\0"),
        (tags::STUDY_INSTANCE_UID, VR::UI, b"1.2\0"),
        (tags::SERIES_INSTANCE_UID, VR::UI, b"1.2.3\0"),
    ];

    fn header(elements: &[(Tag, VR, &[u8])]) -> Header {
        let mut elements = elements.to_vec();
        elements.sort_by_key(|element| element.0);
        let mut bytes = Vec::new();
        for (tag, vr, value) in elements {
            bytes.extend([tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat());
            bytes.extend(vr.to_bytes());
            if vr == VR::UN {
                bytes.extend([0, 0]);
                bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            } else {
                bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            }
            bytes.extend(value);
        }
        let mut reader = HeaderReader::new(HeaderLimits::default());
        reader.push(&bytes).unwrap();
        reader.finish_anonymous().unwrap()
    }

    fn entry(more: &[(Tag, VR, &[u8])]) -> IndexEntry {
        IndexEntry::from_header(&header(&[&UIDS[..], more].concat())).unwrap()
    }

    #[test]
    fn columns_hold_values_as_they_are_compared() {
        let entry = entry(&[
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192"),
            (tags::PATIENT_ID, VR::LO, b" A\x001 "),
            (tags::PATIENT_NAME, VR::PN, "MÜLLER^Jörg=山田^太郎=".as_bytes()),
            (tags::PATIENT_BIRTH_DATE, VR::DA, b"unknown "),
            (tags::PATIENT_SEX, VR::CS, b"  "),
            (tags::STUDY_DATE, VR::DA, b"2020.01.02"),
            (tags::STUDY_TIME, VR::TM, b"1030"),
            (tags::MODALITY, VR::CS, b"CT\\MR "),
            (tags::SERIES_NUMBER, VR::IS, b"+7"),
            (tags::INSTANCE_NUMBER, VR::IS, b"x "),
            (tags::ROWS, VR::US, &[0, 2]),
        ]);
        assert_eq!(entry.key.series.as_str(), "1.2.3");
        assert_eq!(entry.sop_class.as_str(), "1.2.840.10008.5.1.4.1.1.2");
        let study = &entry.study;
        assert_eq!(study.patient_id.as_deref(), Some("A1"));
        let name = study.patient_name.as_ref().unwrap();
        assert_eq!([name.alphabetic.as_str(), &name.ideographic, &name.phonetic], ["muller^jorg", "山田^太郎", ""]);
        assert_eq!((study.patient_birth_date.as_deref(), study.patient_sex.as_deref()), (None, None));
        assert_eq!(study.study_date.as_deref(), Some("20200102"));
        assert_eq!(study.study_time, Some(37_800_000_000));
        assert_eq!(entry.series.modality.as_deref(), Some("CT"));
        assert_eq!((entry.series.series_number, entry.instance.instance_number), (Some(7), None));
    }

    #[test]
    fn attributes_lie_at_their_level_as_stored() {
        let entry = entry(&[
            (tags::PATIENT_BIRTH_DATE, VR::DA, b"unknown "),
            (tags::MODALITY, VR::CS, b"CT"),
            (tags::ROWS, VR::US, &[0, 2]),
            (tags::WINDOW_CENTER, VR::DS, b"40"),
        ]);
        let all = |set: &AttributeSet| {
            set.iter().map(|(tag, json)| (tag, String::from_utf8(json.to_vec()).unwrap())).collect::<Vec<_>>()
        };
        let one = |tag, json: &str| vec![(tag, json.to_owned())];
        assert_eq!(all(&entry.study.attributes), one(tags::PATIENT_BIRTH_DATE, r#"{"vr":"DA","Value":["unknown"]}"#));
        assert_eq!(all(&entry.series.attributes), one(tags::MODALITY, r#"{"vr":"CS","Value":["CT"]}"#));
        assert_eq!(all(&entry.instance.attributes), one(tags::ROWS, r#"{"vr":"US","Value":[512]}"#));
    }

    #[test]
    fn over_long_values_are_cut_for_comparison_and_left_to_the_metadata() {
        let long = "é".repeat(MAX_KEPT / 2);
        let entry = entry(&[
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192"),
            (tags::PATIENT_ID, VR::LO, long.as_bytes()),
            (tags::PATIENT_NAME, VR::PN, long.as_bytes()),
        ]);
        assert_eq!(entry.study.patient_id.map(|id| id.len()), Some(MAX_COMPARED));
        assert_eq!(entry.study.patient_name.map(|name| name.alphabetic.len()), Some(MAX_COMPARED));
        let kept: Vec<Tag> = entry.study.attributes.iter().map(|(tag, _)| tag).collect();
        assert_eq!(kept, [tags::SPECIFIC_CHARACTER_SET]);
    }

    #[test]
    fn what_came_as_un_is_answered_by_the_vr_of_the_dictionary() {
        let entry = entry(&[
            (tags::PATIENT_ID, VR::UN, b"AB12"),
            (tags::STUDY_DATE, VR::UN, b"20240102"),
            (tags::PATIENT_SEX, VR::UN, b""),
        ]);
        assert_eq!(entry.study.patient_id.as_deref(), Some("AB12"));
        let kept: Vec<String> =
            entry.study.attributes.iter().map(|(_, json)| String::from_utf8_lossy(json).into_owned()).collect();
        assert!(kept.contains(&r#"{"vr":"LO","Value":["AB12"]}"#.to_owned()), "{kept:?}");
        assert!(kept.contains(&r#"{"vr":"DA","Value":["20240102"]}"#.to_owned()), "{kept:?}");
        assert!(kept.contains(&r#"{"vr":"CS"}"#.to_owned()), "{kept:?}");
    }

    #[test]
    fn attributes_of_a_level_are_bounded_together() {
        let long = "x".repeat(MAX_KEPT - 100);
        let names = [tags::PATIENT_ID, tags::STUDY_DESCRIPTION, tags::STUDY_ID, tags::ACCESSION_NUMBER];
        let mut given: Vec<_> = names.into_iter().map(|tag| (tag, VR::LO, long.as_bytes())).collect();
        given.push((tags::PATIENT_SEX, VR::CS, b"F "));
        let kept = entry(&given).study.attributes;
        assert!(kept.0.len() <= MAX_KEPT_TOGETHER);
        let kept: Vec<Tag> = kept.iter().map(|(tag, _)| tag).collect();
        assert_eq!(kept, [tags::ACCESSION_NUMBER, tags::STUDY_DESCRIPTION, tags::PATIENT_SEX]);
    }

    #[test]
    fn an_instance_without_its_uids_is_refused() {
        for (missing, ..) in UIDS {
            let rest: Vec<_> = UIDS.into_iter().filter(|(tag, ..)| *tag != missing).collect();
            assert_eq!(IndexEntry::from_header(&header(&rest)), Err(IdentityError::Missing { tag: missing }));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn columns_are_bounded_without_nul_and_never_empty(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let text = format!("{text} ").repeat(20);
            let entry = entry(&[
                (tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192"),
                (tags::PATIENT_ID, VR::LO, text.get(..text.floor_char_boundary(60_000) & !1).unwrap_or("").as_bytes()),
                (tags::PATIENT_NAME, VR::PN, bytes.get(..bytes.len() & !1).unwrap_or(&[])),
            ]);
            let name = entry.study.patient_name.unwrap_or_default();
            for column in entry.study.patient_id.iter().chain([&name.alphabetic, &name.ideographic, &name.phonetic]) {
                assert!(column.len() <= MAX_COMPARED && !column.contains('\0'));
            }
            assert_ne!(entry.study.patient_id.as_deref(), Some(""));
        }
    }
}
