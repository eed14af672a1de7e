//! Tables of attributes: what can be searched for, at which level each is, and what every answer holds.

use std::borrow::Cow;

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use crate::dicom::query::SearchKey;
use crate::dicom::uid::Level;

macro_rules! search_keys {
    ($($key:ident, $tag:ident, $keyword:literal, $vr:ident, $level:ident, $column:literal;)*) => {
        impl SearchKey {
            /// All keys that a client can name, that is all but [`SearchKey::StudyDateTime`].
            pub const ALL: &[Self] = &[$(Self::$key),*];

            /// Group and element.
            #[must_use]
            pub const fn tag(self) -> Tag {
                match self {
                    $(Self::$key => tags::$tag,)*
                    Self::StudyDateTime => tags::STUDY_DATE,
                }
            }

            /// The keyword of PS3.6.
            #[must_use]
            pub const fn keyword(self) -> &'static str {
                match self {
                    $(Self::$key => $keyword,)*
                    Self::StudyDateTime => "StudyDate and StudyTime",
                }
            }

            /// The VR, which decides how values are read and compared.
            #[must_use]
            pub const fn vr(self) -> VR {
                match self {
                    $(Self::$key => VR::$vr,)*
                    Self::StudyDateTime => VR::DT,
                }
            }

            /// The level whose entity has the attribute.
            #[must_use]
            pub const fn level(self) -> Level {
                match self {
                    $(Self::$key => Level::$level,)*
                    Self::StudyDateTime => Level::Study,
                }
            }

            /// The column of the index that holds it; the alphabetic one for names.
            #[must_use]
            pub const fn column(self) -> &'static str {
                match self {
                    $(Self::$key => $column,)*
                    Self::StudyDateTime => "study_date",
                }
            }
        }
    };
}

search_keys! {
    PatientId, PATIENT_ID, "PatientID", LO, Study, "patient_id";
    PatientName, PATIENT_NAME, "PatientName", PN, Study, "patient_name";
    PatientBirthDate, PATIENT_BIRTH_DATE, "PatientBirthDate", DA, Study, "patient_birth_date";
    PatientSex, PATIENT_SEX, "PatientSex", CS, Study, "patient_sex";
    StudyInstanceUid, STUDY_INSTANCE_UID, "StudyInstanceUID", UI, Study, "study_uid";
    StudyDate, STUDY_DATE, "StudyDate", DA, Study, "study_date";
    StudyTime, STUDY_TIME, "StudyTime", TM, Study, "study_time";
    AccessionNumber, ACCESSION_NUMBER, "AccessionNumber", SH, Study, "accession_number";
    StudyId, STUDY_ID, "StudyID", SH, Study, "study_id";
    StudyDescription, STUDY_DESCRIPTION, "StudyDescription", LO, Study, "study_description";
    ReferringPhysicianName, REFERRING_PHYSICIAN_NAME, "ReferringPhysicianName", PN, Study, "referring_physician_name";
    ModalitiesInStudy, MODALITIES_IN_STUDY, "ModalitiesInStudy", CS, Study, "modalities";
    SeriesInstanceUid, SERIES_INSTANCE_UID, "SeriesInstanceUID", UI, Series, "series_uid";
    Modality, MODALITY, "Modality", CS, Series, "modality";
    SeriesNumber, SERIES_NUMBER, "SeriesNumber", IS, Series, "series_number";
    SeriesDescription, SERIES_DESCRIPTION, "SeriesDescription", LO, Series, "series_description";
    BodyPartExamined, BODY_PART_EXAMINED, "BodyPartExamined", CS, Series, "body_part_examined";
    SeriesDate, SERIES_DATE, "SeriesDate", DA, Series, "series_date";
    SeriesTime, SERIES_TIME, "SeriesTime", TM, Series, "series_time";
    PerformedProcedureStepStartDate, PERFORMED_PROCEDURE_STEP_START_DATE, "PerformedProcedureStepStartDate", DA, Series,
        "performed_procedure_step_start_date";
    PerformedProcedureStepStartTime, PERFORMED_PROCEDURE_STEP_START_TIME, "PerformedProcedureStepStartTime", TM, Series,
        "performed_procedure_step_start_time";
    SopInstanceUid, SOP_INSTANCE_UID, "SOPInstanceUID", UI, Instance, "sop_instance_uid";
    SopClassUid, SOP_CLASS_UID, "SOPClassUID", UI, Instance, "sop_class_uid";
    InstanceNumber, INSTANCE_NUMBER, "InstanceNumber", IS, Instance, "instance_number";
}

impl SearchKey {
    /// The key of this tag.
    #[must_use]
    pub fn of(tag: Tag) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.tag() == tag)
    }
}

/// A standard attribute as a client named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Group and element.
    pub tag: Tag,
    /// VR of PS3.6; where it allows several, the likeliest.
    pub vr: VR,
}

/// Looks up a keyword (case counts) or a tag of eight hexadecimal digits (case does not).
/// Tags that the dictionary does not know are known as UN.
#[must_use]
pub fn find(name: &str) -> Option<Known> {
    if let Some(tag) = parse_tag(name) {
        return Some(Known { tag, vr: vr_of(tag) });
    }
    let entry = StandardDataDictionary.by_name(name)?;
    Some(Known { tag: entry.tag(), vr: entry.vr().relaxed() })
}

fn parse_tag(text: &str) -> Option<Tag> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(tag_of(number))
}

/// A tag from its 32 bits, group first.
#[must_use]
pub const fn tag_of(number: u32) -> Tag {
    let [group_high, group_low, element_high, element_low] = number.to_be_bytes();
    Tag(u16::from_be_bytes([group_high, group_low]), u16::from_be_bytes([element_high, element_low]))
}

/// The VR of PS3.6, UN for what it does not know.
#[must_use]
pub fn vr_of(tag: Tag) -> VR {
    StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// The attribute without a value in DICOM JSON, `{"vr":"LO"}` ([PS3.18 F.2.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_F.2.2.html)).
#[must_use]
pub fn empty_json(vr: VR) -> Cow<'static, [u8]> {
    match vr {
        VR::CS => Cow::Borrowed(br#"{"vr":"CS"}"#),
        VR::DA => Cow::Borrowed(br#"{"vr":"DA"}"#),
        VR::IS => Cow::Borrowed(br#"{"vr":"IS"}"#),
        VR::LO => Cow::Borrowed(br#"{"vr":"LO"}"#),
        VR::PN => Cow::Borrowed(br#"{"vr":"PN"}"#),
        VR::SH => Cow::Borrowed(br#"{"vr":"SH"}"#),
        VR::TM => Cow::Borrowed(br#"{"vr":"TM"}"#),
        other => Cow::Owned(format!(r#"{{"vr":"{}"}}"#, other.to_string()).into_bytes()),
    }
}

/// The level whose entity has this attribute; what belongs neither to patient, study nor series belongs to the instance.
#[must_use]
pub fn level_of(tag: Tag) -> Level {
    if STUDY_COMPUTED.contains(&tag) || STUDY.binary_search(&tag).is_ok() {
        Level::Study
    } else if SERIES_COMPUTED.contains(&tag) || SERIES.binary_search(&tag).is_ok() {
        Level::Series
    } else {
        Level::Instance
    }
}

/// What is kept of an instance for the answers of this level, ascending by tag.
#[must_use]
pub const fn kept(level: Level) -> &'static [Tag] {
    match level {
        Level::Study => STUDY,
        Level::Series => SERIES,
        Level::Instance => INSTANCE,
    }
}

/// What an answer of this level always holds, empty where unknown, ascending by tag; computed attributes apart.
///
/// [PS3.18 Tables 10.6.3-3, -4 and -5](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.6.3.3.html);
/// Study Description and Series Description because viewers count on them.
#[must_use]
pub const fn required(level: Level) -> &'static [Tag] {
    match level {
        Level::Study => &[
            tags::STUDY_DATE,
            tags::STUDY_TIME,
            tags::ACCESSION_NUMBER,
            tags::REFERRING_PHYSICIAN_NAME,
            tags::STUDY_DESCRIPTION,
            tags::PATIENT_NAME,
            tags::PATIENT_ID,
            tags::PATIENT_BIRTH_DATE,
            tags::PATIENT_SEX,
            tags::STUDY_ID,
        ],
        Level::Series => &[tags::MODALITY, tags::SERIES_DESCRIPTION, tags::SERIES_NUMBER],
        Level::Instance => &[tags::INSTANCE_NUMBER],
    }
}

/// What an answer of this level holds wherever the data do, ascending by tag.
#[must_use]
pub const fn required_if_known(level: Level) -> &'static [Tag] {
    match level {
        Level::Study => &[tags::SPECIFIC_CHARACTER_SET, tags::TIMEZONE_OFFSET_FROM_UTC],
        Level::Series => &[
            tags::SPECIFIC_CHARACTER_SET,
            tags::TIMEZONE_OFFSET_FROM_UTC,
            tags::PERFORMED_PROCEDURE_STEP_START_DATE,
            tags::PERFORMED_PROCEDURE_STEP_START_TIME,
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
        ],
        Level::Instance => &[
            tags::SPECIFIC_CHARACTER_SET,
            tags::TIMEZONE_OFFSET_FROM_UTC,
            tags::NUMBER_OF_FRAMES,
            tags::ROWS,
            tags::COLUMNS,
            tags::BITS_ALLOCATED,
        ],
    }
}

const STUDY_COMPUTED: &[Tag] = &[
    tags::MODALITIES_IN_STUDY,
    tags::STUDY_INSTANCE_UID,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
];

const SERIES_COMPUTED: &[Tag] = &[tags::SERIES_INSTANCE_UID, tags::NUMBER_OF_SERIES_RELATED_INSTANCES];

/// The modules Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study
/// ([PS3.3 C.7.1 and C.7.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.7.2.html)), what requests leave at
/// the root of a data set, and of SOP Common what tells how to read it.
const STUDY: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::CONSULTING_PHYSICIAN_NAME,
    tags::CONSULTING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::STUDY_DESCRIPTION,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::PHYSICIANS_OF_RECORD,
    tags::PHYSICIANS_OF_RECORD_IDENTIFICATION_SEQUENCE,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::PHYSICIANS_READING_STUDY_IDENTIFICATION_SEQUENCE,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::REFERENCED_PATIENT_SEQUENCE,
    tags::PATIENT_NAME,
    tags::PERSON_NAMES_TO_USE_SEQUENCE,
    tags::THIRD_PERSON_PRONOUNS_SEQUENCE,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::TYPE_OF_PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::SOURCE_PATIENT_GROUP_IDENTIFICATION_SEQUENCE,
    tags::GROUP_OF_PATIENTS_IDENTIFICATION_SEQUENCE,
    tags::SUBJECT_RELATIVE_POSITION_IN_IMAGE,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_BIRTH_TIME,
    tags::PATIENT_BIRTH_DATE_IN_ALTERNATIVE_CALENDAR,
    tags::PATIENT_DEATH_DATE_IN_ALTERNATIVE_CALENDAR,
    tags::PATIENT_ALTERNATIVE_CALENDAR,
    tags::PATIENT_SEX,
    tags::GENDER_IDENTITY_SEQUENCE,
    tags::SEX_PARAMETERS_FOR_CLINICAL_USE_CATEGORY_SEQUENCE,
    tags::QUALITY_CONTROL_SUBJECT,
    tags::STRAIN_DESCRIPTION,
    tags::STRAIN_NOMENCLATURE,
    tags::STRAIN_STOCK_SEQUENCE,
    tags::STRAIN_ADDITIONAL_INFORMATION,
    tags::STRAIN_CODE_SEQUENCE,
    tags::GENETIC_MODIFICATIONS_SEQUENCE,
    // Other Patient IDs, retired and still in use
    Tag(0x0010, 0x1000),
    tags::OTHER_PATIENT_NAMES,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::PATIENT_AGE,
    tags::PATIENT_SIZE,
    tags::PATIENT_SIZE_CODE_SEQUENCE,
    tags::PATIENT_BODY_MASS_INDEX,
    tags::MEASURED_AP_DIMENSION,
    tags::MEASURED_LATERAL_DIMENSION,
    tags::PATIENT_WEIGHT,
    tags::REFERENCED_PATIENT_PHOTO_SEQUENCE,
    tags::MEDICAL_ALERTS,
    tags::ALLERGIES,
    // Ethnic Group, retired
    Tag(0x0010, 0x2160),
    tags::ETHNIC_GROUP_CODE_SEQUENCE,
    tags::ETHNIC_GROUPS,
    tags::OCCUPATION,
    tags::SMOKING_STATUS,
    tags::ADDITIONAL_PATIENT_HISTORY,
    tags::PREGNANCY_STATUS,
    tags::LAST_MENSTRUAL_DATE,
    tags::PATIENT_SPECIES_DESCRIPTION,
    tags::PATIENT_SPECIES_CODE_SEQUENCE,
    tags::PATIENT_SEX_NEUTERED,
    tags::PATIENT_BREED_DESCRIPTION,
    tags::PATIENT_BREED_CODE_SEQUENCE,
    tags::BREED_REGISTRATION_SEQUENCE,
    tags::RESPONSIBLE_PERSON,
    tags::RESPONSIBLE_PERSON_ROLE,
    tags::RESPONSIBLE_ORGANIZATION,
    tags::PATIENT_COMMENTS,
    tags::CLINICAL_TRIAL_SPONSOR_NAME,
    tags::CLINICAL_TRIAL_PROTOCOL_ID,
    tags::CLINICAL_TRIAL_PROTOCOL_NAME,
    tags::ISSUER_OF_CLINICAL_TRIAL_PROTOCOL_ID,
    tags::OTHER_CLINICAL_TRIAL_PROTOCOL_I_DS_SEQUENCE,
    tags::CLINICAL_TRIAL_SITE_ID,
    tags::CLINICAL_TRIAL_SITE_NAME,
    tags::ISSUER_OF_CLINICAL_TRIAL_SITE_ID,
    tags::CLINICAL_TRIAL_SUBJECT_ID,
    tags::ISSUER_OF_CLINICAL_TRIAL_SUBJECT_ID,
    tags::CLINICAL_TRIAL_SUBJECT_READING_ID,
    tags::ISSUER_OF_CLINICAL_TRIAL_SUBJECT_READING_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_DESCRIPTION,
    tags::LONGITUDINAL_TEMPORAL_OFFSET_FROM_EVENT,
    tags::LONGITUDINAL_TEMPORAL_EVENT_TYPE,
    tags::CLINICAL_TRIAL_TIME_POINT_TYPE_CODE_SEQUENCE,
    tags::ISSUER_OF_CLINICAL_TRIAL_TIME_POINT_ID,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::CLINICAL_TRIAL_PROTOCOL_ETHICS_COMMITTEE_NAME,
    tags::CLINICAL_TRIAL_PROTOCOL_ETHICS_COMMITTEE_APPROVAL_NUMBER,
    tags::CONSENT_FOR_CLINICAL_TRIAL_USE_SEQUENCE,
    tags::STUDY_ID,
    tags::REQUESTING_PHYSICIAN,
    tags::REQUESTING_SERVICE,
    tags::REQUESTING_SERVICE_CODE_SEQUENCE,
    tags::REQUESTED_PROCEDURE_DESCRIPTION,
    tags::REASON_FOR_VISIT,
    tags::REASON_FOR_VISIT_CODE_SEQUENCE,
    tags::ADMISSION_ID,
    tags::ISSUER_OF_ADMISSION_ID_SEQUENCE,
    tags::SPECIAL_NEEDS,
    tags::SERVICE_EPISODE_ID,
    tags::SERVICE_EPISODE_DESCRIPTION,
    tags::ISSUER_OF_SERVICE_EPISODE_ID_SEQUENCE,
    tags::PATIENT_STATE,
    tags::REASON_FOR_PERFORMED_PROCEDURE_CODE_SEQUENCE,
];

/// The modules General Series, Clinical Trial Series, General Equipment, Frame of Reference and Synchronization
/// ([PS3.3 C.7.3 to C.7.5](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.7.3.html)).
const SERIES: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::SERIES_DATE,
    tags::SERIES_TIME,
    tags::MODALITY,
    tags::PRESENTATION_INTENT_TYPE,
    tags::MANUFACTURER,
    tags::INSTITUTION_NAME,
    tags::INSTITUTION_ADDRESS,
    tags::INSTITUTION_CODE_SEQUENCE,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::STATION_NAME,
    tags::SERIES_DESCRIPTION,
    tags::SERIES_DESCRIPTION_CODE_SEQUENCE,
    tags::INSTITUTIONAL_DEPARTMENT_NAME,
    tags::INSTITUTIONAL_DEPARTMENT_TYPE_CODE_SEQUENCE,
    tags::PERFORMING_PHYSICIAN_NAME,
    tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::OPERATORS_NAME,
    tags::OPERATOR_IDENTIFICATION_SEQUENCE,
    tags::MANUFACTURER_MODEL_NAME,
    tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE,
    tags::RELATED_SERIES_SEQUENCE,
    tags::ANATOMICAL_ORIENTATION_TYPE,
    tags::CLINICAL_TRIAL_COORDINATING_CENTER_NAME,
    tags::CLINICAL_TRIAL_SERIES_ID,
    tags::CLINICAL_TRIAL_SERIES_DESCRIPTION,
    tags::ISSUER_OF_CLINICAL_TRIAL_SERIES_ID,
    tags::BODY_PART_EXAMINED,
    tags::DEVICE_SERIAL_NUMBER,
    tags::DEVICE_UID,
    tags::GANTRY_ID,
    tags::UDI_SEQUENCE,
    tags::MANUFACTURER_DEVICE_CLASS_UID,
    tags::SOFTWARE_VERSIONS,
    tags::PROTOCOL_NAME,
    tags::SPATIAL_RESOLUTION,
    tags::TRIGGER_SOURCE_OR_TYPE,
    tags::SYNCHRONIZATION_TRIGGER,
    tags::DATE_OF_LAST_CALIBRATION,
    tags::TIME_OF_LAST_CALIBRATION,
    tags::DATE_TIME_OF_LAST_CALIBRATION,
    tags::DATE_OF_MANUFACTURE,
    tags::DATE_OF_INSTALLATION,
    tags::PATIENT_POSITION,
    tags::SERIES_NUMBER,
    tags::FRAME_OF_REFERENCE_UID,
    tags::LATERALITY,
    tags::SYNCHRONIZATION_FRAME_OF_REFERENCE_UID,
    tags::POSITION_REFERENCE_INDICATOR,
    tags::SMALLEST_PIXEL_VALUE_IN_SERIES,
    tags::LARGEST_PIXEL_VALUE_IN_SERIES,
    tags::PERFORMED_PROCEDURE_STEP_START_DATE,
    tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    tags::PERFORMED_PROCEDURE_STEP_END_DATE,
    tags::PERFORMED_PROCEDURE_STEP_END_TIME,
    tags::PERFORMED_PROCEDURE_STEP_ID,
    tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION,
    tags::PERFORMED_PROTOCOL_CODE_SEQUENCE,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
    tags::COMMENTS_ON_THE_PERFORMED_PROCEDURE_STEP,
    tags::TREATMENT_SESSION_UID,
];

/// What tells images and documents apart; everything else of an instance comes from its metadata.
const INSTANCE: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::IMAGE_TYPE,
    tags::ACQUISITION_DATE,
    tags::CONTENT_DATE,
    tags::ACQUISITION_TIME,
    tags::CONTENT_TIME,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::ACQUISITION_NUMBER,
    tags::INSTANCE_NUMBER,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::CONCEPT_NAME_CODE_SEQUENCE,
    tags::COMPLETION_FLAG,
    tags::VERIFICATION_FLAG,
    tags::DOCUMENT_TITLE,
    tags::CONTENT_LABEL,
    tags::CONTENT_DESCRIPTION,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_ascending_and_required_attributes_are_kept() {
        for level in [Level::Study, Level::Series, Level::Instance] {
            for table in [kept(level), required(level), required_if_known(level)] {
                assert!(table.is_sorted_by(|a, b| a < b), "{level:?}");
            }
            for tag in required(level).iter().chain(required_if_known(level)) {
                assert!(kept(level).contains(tag), "{tag} at {level:?}");
            }
        }
    }

    #[test]
    fn keys_have_the_tag_keyword_and_vr_of_the_dictionary() {
        for key in SearchKey::ALL {
            let known = find(key.keyword()).unwrap();
            assert_eq!((known.tag, known.vr), (key.tag(), key.vr()), "{key:?}");
            assert_eq!(SearchKey::of(key.tag()), Some(*key));
            assert_eq!(find(&format!("{:04x}{:04X}", key.tag().0, key.tag().1)), Some(known));
        }
    }

    #[test]
    fn keys_are_at_the_level_that_keeps_them() {
        for key in SearchKey::ALL {
            assert_eq!(level_of(key.tag()), key.level(), "{key:?}");
        }
    }

    #[test]
    fn names_are_keywords_by_case_or_eight_hex_digits() {
        for (name, tag) in [
            ("PatientID", Some(tags::PATIENT_ID)),
            ("patientid", None),
            ("0008103e", Some(tags::SERIES_DESCRIPTION)),
            ("0008103E", Some(tags::SERIES_DESCRIPTION)),
            ("00091001", Some(Tag(0x0009, 0x1001))),
            ("0010,0020", None),
            ("+0100020", None),
            ("", None),
        ] {
            assert_eq!(find(name).map(|known| known.tag), tag, "{name}");
        }
        assert_eq!(vr_of(Tag(0x0009, 0x1001)), VR::UN);
    }
}
