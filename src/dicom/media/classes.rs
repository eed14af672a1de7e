//! What the SOP classes need beside the bytes: attributes of Type 1 with the value that is true of any such instance, and those of
//! Type 2 empty (PS3.3 A.8, A.32, A.45, B; the modules are those of Annex C).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};

/// An attribute that a module needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) value: Otherwise,
}

/// What it gets when the client gave nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Otherwise {
    /// Type 2: present without a value; one that the client sent empty stays.
    Empty,
    /// Type 1: a text.
    Text(&'static str),
    /// Type 1: one item with a code.
    Code { value: &'static str, scheme: &'static str, meaning: &'static str },
}

/// One SOP class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    pub(super) uid: &'static str,
    pub(super) modality: &'static str,
    pub(super) frames: Frames,
    pub(super) modules: &'static [&'static [Needed]],
}

/// How a class treats frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// One, without Number of Frames.
    Single,
    /// Number of Frames always.
    Many,
    /// None: a document.
    None,
}

const fn empty(tag: Tag, vr: VR) -> Needed {
    Needed { tag, vr, value: Otherwise::Empty }
}

const fn text(tag: Tag, vr: VR, value: &'static str) -> Needed {
    Needed { tag, vr, value: Otherwise::Text(value) }
}

/// A code of Type 1 that only the client knows: SNOMED CT has one that says so, and the context groups may be extended.
const fn unknown(tag: Tag) -> Needed {
    code(tag, "261665006", "Unknown")
}

const fn code(tag: Tag, value: &'static str, meaning: &'static str) -> Needed {
    Needed { tag, vr: VR::SQ, value: Otherwise::Code { value, scheme: "SCT", meaning } }
}

/// Patient, General Study, General Series, General Equipment.
pub(super) const EVERY: &[Needed] = &[
    empty(tags::STUDY_DATE, VR::DA),
    empty(tags::STUDY_TIME, VR::TM),
    empty(tags::ACCESSION_NUMBER, VR::SH),
    empty(tags::MANUFACTURER, VR::LO),
    empty(tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    empty(tags::PATIENT_NAME, VR::PN),
    empty(tags::PATIENT_ID, VR::LO),
    empty(tags::PATIENT_BIRTH_DATE, VR::DA),
    empty(tags::PATIENT_SEX, VR::CS),
    empty(tags::STUDY_ID, VR::SH),
    empty(tags::SERIES_NUMBER, VR::IS),
    empty(tags::INSTANCE_NUMBER, VR::IS),
];

/// General Image.
const IMAGE: &[Needed] = &[empty(tags::PATIENT_ORIENTATION, VR::CS)];

/// VL Image, Acquisition Context.
const VISIBLE_LIGHT: &[Needed] =
    &[text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY"), empty(tags::ACQUISITION_CONTEXT_SEQUENCE, VR::SQ)];

/// The region of a video, which has to be told (PS3.3 C.8.12.1): nobody told it.
const REGION: &[Needed] = &[unknown(tags::ANATOMIC_REGION_SEQUENCE)];

/// SC Equipment: what came over the network is a file of some workstation.
const SECONDARY: &[Needed] = &[text(tags::CONVERSION_TYPE, VR::CS, "WSD")];

/// Whether there is writing in the pixels nobody has looked; that there is, is the answer that keeps a patient safe.
const ANNOTATED: &[Needed] = &[text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")];

/// Ophthalmic Photography Image, Ocular Region Imaged and Acquisition Parameters. Which eye it is only the client knows.
const OPHTHALMIC: &[Needed] = &[
    text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY"),
    text(tags::INSTANCE_NUMBER, VR::IS, "1"),
    // Synchronization
    text(tags::SYNCHRONIZATION_TRIGGER, VR::CS, "NO TRIGGER"),
    text(tags::ACQUISITION_TIME_SYNCHRONIZED, VR::CS, "N"),
    code(tags::ANATOMIC_REGION_SEQUENCE, "81745001", "Eye"),
    empty(tags::PATIENT_EYE_MOVEMENT_COMMANDED, VR::CS),
    empty(tags::REFRACTIVE_STATE_SEQUENCE, VR::SQ),
    empty(tags::EMMETROPIC_MAGNIFICATION, VR::FL),
    empty(tags::INTRA_OCULAR_PRESSURE, VR::FL),
    empty(tags::HORIZONTAL_FIELD_OF_VIEW, VR::FL),
    empty(tags::PUPIL_DILATED, VR::CS),
    unknown(tags::ACQUISITION_DEVICE_TYPE_CODE_SEQUENCE),
    empty(tags::ILLUMINATION_TYPE_CODE_SEQUENCE, VR::SQ),
    empty(tags::LIGHT_PATH_FILTER_TYPE_STACK_CODE_SEQUENCE, VR::SQ),
    empty(tags::IMAGE_PATH_FILTER_TYPE_STACK_CODE_SEQUENCE, VR::SQ),
    empty(tags::LENSES_CODE_SEQUENCE, VR::SQ),
    empty(tags::DETECTOR_TYPE, VR::CS),
];

/// Encapsulated Document Series, Encapsulated Document.
const DOCUMENT: &[Needed] = &[
    text(tags::SERIES_NUMBER, VR::IS, "1"),
    text(tags::INSTANCE_NUMBER, VR::IS, "1"),
    empty(tags::CONTENT_DATE, VR::DA),
    empty(tags::CONTENT_TIME, VR::TM),
    empty(tags::ACQUISITION_DATE_TIME, VR::DT),
    empty(tags::DOCUMENT_TITLE, VR::ST),
    empty(tags::CONCEPT_NAME_CODE_SEQUENCE, VR::SQ),
];

const VL: &[&[Needed]] = &[IMAGE, VISIBLE_LIGHT];
const VL_FILM: &[&[Needed]] = &[IMAGE, VISIBLE_LIGHT, REGION];
const PAGES: &[&[Needed]] = &[IMAGE, SECONDARY, ANNOTATED];

/// The classes that are completed; for all others only what the bytes say is set.
const CLASSES: &[Class] = &[
    vl(uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE, "XC"),
    vl(uids::VL_ENDOSCOPIC_IMAGE_STORAGE, "ES"),
    vl(uids::VL_MICROSCOPIC_IMAGE_STORAGE, "GM"),
    vl(uids::VL_SLIDE_COORDINATES_MICROSCOPIC_IMAGE_STORAGE, "SM"),
    film(uids::VIDEO_PHOTOGRAPHIC_IMAGE_STORAGE, "XC"),
    film(uids::VIDEO_ENDOSCOPIC_IMAGE_STORAGE, "ES"),
    film(uids::VIDEO_MICROSCOPIC_IMAGE_STORAGE, "GM"),
    Class {
        uid: uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        modality: "OT",
        frames: Frames::Single,
        modules: &[IMAGE, SECONDARY],
    },
    pages(uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE),
    pages(uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE),
    pages(uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE),
    pages(uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE),
    Class {
        uid: uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE,
        modality: "OP",
        frames: Frames::Many,
        modules: &[OPHTHALMIC, IMAGE, ANNOTATED],
    },
    Class {
        uid: uids::ENCAPSULATED_PDF_STORAGE,
        modality: "DOC",
        frames: Frames::None,
        modules: &[DOCUMENT, SECONDARY, ANNOTATED],
    },
];

const fn vl(uid: &'static str, modality: &'static str) -> Class {
    Class { uid, modality, frames: Frames::Single, modules: VL }
}

const fn film(uid: &'static str, modality: &'static str) -> Class {
    Class { uid, modality, frames: Frames::Many, modules: VL_FILM }
}

const fn pages(uid: &'static str) -> Class {
    Class { uid, modality: "OT", frames: Frames::Many, modules: PAGES }
}

/// The class of a UID, if it is completed.
pub(super) fn class(uid: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.uid == uid)
}
