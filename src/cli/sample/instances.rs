//! The studies: which instances there are, and the attributes that their IODs demand
//! ([PS3.3 A](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/chapter_A.html)).

use super::dataset::DataSet;
use super::document::pdf;
use super::phantom::{Head, Noise, Tissue, Vector};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use std::path::PathBuf;
use uuid::Builder;

/// What is to be made; the same plan makes the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Other seeds make other patients.
    pub seed: u64,
    /// Studies, each of one patient.
    pub studies: u32,
    /// Slices of the CT series.
    pub slices: u32,
    /// Rows and columns of a CT slice.
    pub size: u16,
}

/// A file of a sample.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Where it belongs, relative to the folder of the sample.
    pub path: PathBuf,
    /// The Part 10 file.
    pub bytes: Vec<u8>,
}

/// Frames of the colour instance.
const FRAMES: u16 = 24;
/// Width and height that the scanner sees, in millimetres.
const FIELD: f64 = 250.0;
/// Height of the head that is scanned, in millimetres.
const HEIGHT: f64 = 180.0;
/// What a CT slice holds where the scanner measured nothing.
const PADDING: i16 = -2000;
/// What is taken from a stored value to get Hounsfield units.
const OFFSET: i16 = 1024;
/// Given names; the family name says that none of them was ever born.
const NAMES: [&str; 8] = ["Ada", "Björn", "Chloé", "Dmitri", "Esra", "Farid", "Grete", "Hugo"];

/// The series of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    Ct,
    Mr,
    Colour,
    Report,
}

impl Series {
    const ALL: [Self; 4] = [Self::Ct, Self::Mr, Self::Colour, Self::Report];

    fn instances(self, plan: &Plan) -> u32 {
        match self {
            Self::Ct => plan.slices,
            Self::Mr => plan.slices.div_ceil(2),
            Self::Colour | Self::Report => 1,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Ct => "ct",
            Self::Mr => "mr",
            Self::Colour => "colour",
            Self::Report => "report",
        }
    }
}

impl Plan {
    /// How many instances there are.
    #[must_use]
    pub fn instances(&self) -> u64 {
        let each: u64 = Series::ALL.iter().map(|series| u64::from(series.instances(self))).sum();
        each * u64::from(self.studies)
    }

    /// Makes the instances one by one.
    pub fn iter(&self) -> impl Iterator<Item = Instance> + use<> {
        let plan = *self;
        (1..=plan.studies).flat_map(move |number| {
            let study = Study::new(plan, number);
            Series::ALL.into_iter().flat_map(move |series| {
                let study = study.clone();
                (1..=series.instances(&plan)).map(move |instance| study.instance(series, instance))
            })
        })
    }
}

#[derive(Clone)]
struct Study {
    plan: Plan,
    number: u32,
    seed: u64,
    head: std::sync::Arc<Head>,
    /// The attributes of the patient and the study.
    common: DataSet,
    date: String,
}

impl Study {
    fn new(plan: Plan, number: u32) -> Self {
        let mut noise = Noise::new(plan.seed);
        for _ in 0..number {
            noise = Noise::new(noise.bits());
        }
        let seed = noise.bits();
        let mut below = |limit: u64| noise.bits() % limit;
        let date = format!("2024{:02}{:02}", 1 + below(12), 1 + below(28));
        let birth = 1930 + below(80);
        let born = format!("{birth}{:02}{:02}", 1 + below(12), 1 + below(28));
        let sex = if below(2) == 0 { "F" } else { "M" };
        let name = NAMES.get(number as usize % NAMES.len()).copied().unwrap_or_default();
        let mut common = DataSet::default();
        common
            .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
            .text(tags::PATIENT_NAME, &format!("Phantom^{name}"))
            .text(tags::PATIENT_ID, &format!("SAMPLE-{}-{number}", plan.seed))
            .text(tags::PATIENT_BIRTH_DATE, &born)
            .text(tags::PATIENT_SEX, sex)
            .text(tags::PATIENT_AGE, &format!("{:03}Y", 2023 - birth))
            .text(tags::STUDY_INSTANCE_UID, &uid(&[plan.seed, number.into()]))
            .text(tags::STUDY_DATE, &date)
            .text(tags::STUDY_TIME, "093000")
            .text(tags::REFERRING_PHYSICIAN_NAME, "Nobody^Refers")
            .text(tags::STUDY_ID, &number.to_string())
            .text(tags::ACCESSION_NUMBER, &format!("{:08X}", seed >> 32))
            .text(tags::STUDY_DESCRIPTION, "Synthetic head")
            .text(tags::MANUFACTURER, "Isocenter")
            .text(tags::MANUFACTURER_MODEL_NAME, "Sample")
            .text(tags::INSTITUTION_NAME, "Nowhere")
            .text(tags::SOFTWARE_VERSIONS, env!("CARGO_PKG_VERSION"))
            .text(tags::DEVICE_SERIAL_NUMBER, "1");
        Self { plan, number, seed, head: std::sync::Arc::new(Head::new(seed)), common, date }
    }

    fn instance(&self, series: Series, instance: u32) -> Instance {
        let mut set = self.common.clone();
        let id = |instance: u32| uid(&[self.plan.seed, self.number.into(), series as u64 + 1, instance.into()]);
        let class = match series {
            Series::Ct => uids::CT_IMAGE_STORAGE,
            Series::Mr => uids::MR_IMAGE_STORAGE,
            Series::Colour => uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
            Series::Report => uids::ENCAPSULATED_PDF_STORAGE,
        };
        set.text(tags::SOP_CLASS_UID, class)
            .text(tags::SOP_INSTANCE_UID, &id(instance))
            .text(tags::SERIES_INSTANCE_UID, &id(0))
            .number(tags::SERIES_NUMBER, series as u16 + 1)
            .number(tags::INSTANCE_NUMBER, instance)
            .text(tags::SERIES_DATE, &self.date)
            .text(tags::SERIES_TIME, &format!("093{}00", series as u16))
            .text(tags::CONTENT_DATE, &self.date)
            .text(tags::CONTENT_TIME, &format!("09{:02}00", 30 + series as u16));
        match series {
            Series::Ct => self.ct(&mut set, instance),
            Series::Mr => self.mr(&mut set, instance),
            Series::Colour => self.colour(&mut set),
            Series::Report => self.report(&mut set),
        }
        let study = format!("study-{:0width$}", self.number, width = digits(self.plan.studies));
        let width = digits(series.instances(&self.plan));
        let path = [study, series.folder().to_owned(), format!("{instance:0width$}.dcm")].iter().collect();
        Instance { path, bytes: set.to_file() }
    }

    /// [CT Image IOD](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.3.html): axial, from the feet up.
    fn ct(&self, set: &mut DataSet, instance: u32) {
        let size = self.plan.size;
        let spacing = FIELD / f64::from(size);
        let thickness = HEIGHT / f64::from(self.plan.slices);
        let corner = (spacing - FIELD) / 2.0;
        let height = (f64::from(instance) - 0.5) * thickness - HEIGHT / 2.0;
        let plane = Plane { corner: [corner, corner, height], across: [1.0, 0.0, 0.0], down: [0.0, 1.0, 0.0], spacing };
        self.plane(set, &plane, thickness);
        grey(set, size, 16, true);
        set.text(tags::MODALITY, "CT")
            .text(tags::SERIES_DESCRIPTION, "Head axial")
            .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\AXIAL")
            .number(tags::SLICE_LOCATION, format!("{height:.3}"))
            .bytes(tags::PIXEL_PADDING_VALUE, VR::SS, PADDING.to_le_bytes().to_vec())
            .number(tags::RESCALE_INTERCEPT, -OFFSET)
            .number(tags::RESCALE_SLOPE, 1)
            .text(tags::RESCALE_TYPE, "HU")
            .text(tags::WINDOW_CENTER, "40\\500")
            .text(tags::WINDOW_WIDTH, "80\\2000")
            .text(tags::WINDOW_CENTER_WIDTH_EXPLANATION, "BRAIN\\BONE")
            .number(tags::KVP, 120)
            .number(tags::X_RAY_TUBE_CURRENT, 250)
            .number(tags::EXPOSURE_TIME, 1000)
            .text(tags::CONVOLUTION_KERNEL, "STANDARD")
            .number(tags::ACQUISITION_NUMBER, 1);
        let mut noise = Noise::new(self.seed ^ u64::from(instance));
        let radius = f64::from(size) / 2.0;
        let pixels = self.pixels(&plane, size, |tissue, column, row| {
            let (x, y) = (f64::from(column) + 0.5 - radius, f64::from(row) + 0.5 - radius);
            if x * x + y * y > radius * radius {
                return PADDING;
            }
            (tissue.hounsfield() + OFFSET + noise.around_zero(4)).max(0)
        });
        set.bytes(tags::PIXEL_DATA, VR::OW, pixels);
    }

    /// [MR Image IOD](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.4.html): sagittal, from right to left.
    fn mr(&self, set: &mut DataSet, instance: u32) {
        let size = self.plan.size / 2;
        let spacing = FIELD / f64::from(size);
        let width = 160.0;
        let thickness = width / f64::from(Series::Mr.instances(&self.plan));
        let corner = (FIELD - spacing) / 2.0;
        let side = (f64::from(instance) - 0.5) * thickness - width / 2.0;
        let plane = Plane { corner: [side, -corner, corner], across: [0.0, 1.0, 0.0], down: [0.0, 0.0, -1.0], spacing };
        self.plane(set, &plane, thickness);
        grey(set, size, 12, false);
        set.text(tags::MODALITY, "MR")
            .text(tags::SERIES_DESCRIPTION, "Head T1 sagittal")
            .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\OTHER")
            .number(tags::SLICE_LOCATION, format!("{side:.3}"))
            .text(tags::SCANNING_SEQUENCE, "SE")
            .text(tags::SEQUENCE_VARIANT, "NONE")
            .empty(&[tags::SCAN_OPTIONS])
            .text(tags::MR_ACQUISITION_TYPE, "2D")
            .number(tags::REPETITION_TIME, 500)
            .number(tags::ECHO_TIME, 12)
            .number(tags::ECHO_TRAIN_LENGTH, 1)
            .number(tags::MAGNETIC_FIELD_STRENGTH, 1.5)
            .number(tags::WINDOW_CENTER, 450)
            .number(tags::WINDOW_WIDTH, 900)
            .number(tags::ACQUISITION_NUMBER, 1);
        let mut noise = Noise::new(self.seed ^ (u64::from(instance) << 32));
        let pixels = self.pixels(&plane, size, |tissue, _, _| (tissue.signal() + noise.around_zero(12)).max(0));
        set.bytes(tags::PIXEL_DATA, VR::OW, pixels);
    }

    /// [Multi-frame True Color Secondary Capture IOD](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.8.5.html):
    /// colour that spreads through a slice.
    fn colour(&self, set: &mut DataSet) {
        let size = self.plan.size / 2;
        set.text(tags::MODALITY, "OT")
            .text(tags::SERIES_DESCRIPTION, "Colour over time")
            .text(tags::BODY_PART_EXAMINED, "HEAD")
            .text(tags::CONVERSION_TYPE, "SYN")
            .text(tags::IMAGE_TYPE, "DERIVED\\SECONDARY")
            .text(tags::BURNED_IN_ANNOTATION, "NO")
            .text(tags::LOSSY_IMAGE_COMPRESSION, "00")
            .empty(&[tags::PATIENT_ORIENTATION])
            .number(tags::NUMBER_OF_FRAMES, FRAMES)
            .number(tags::FRAME_TIME, 100)
            .bytes(tags::FRAME_INCREMENT_POINTER, VR::AT, vec![0x18, 0x00, 0x63, 0x10])
            .short(tags::SAMPLES_PER_PIXEL, 3)
            .text(tags::PHOTOMETRIC_INTERPRETATION, "RGB")
            .short(tags::PLANAR_CONFIGURATION, 0)
            .short(tags::ROWS, size)
            .short(tags::COLUMNS, size)
            .short(tags::BITS_ALLOCATED, 8)
            .short(tags::BITS_STORED, 8)
            .short(tags::HIGH_BIT, 7)
            .short(tags::PIXEL_REPRESENTATION, 0);
        let spacing = FIELD / f64::from(size);
        let corner = (spacing - FIELD) / 2.0;
        let plane = Plane { corner: [corner, corner, 10.0], across: [1.0, 0.0, 0.0], down: [0.0, 1.0, 0.0], spacing };
        let mut tissues = Vec::new();
        self.each_pixel(&plane, size, |tissue, _, _| tissues.push(tissue));
        let mut pixels = Vec::with_capacity(tissues.len() * 3 * usize::from(FRAMES));
        let center = i64::from(size) / 2;
        for frame in 0..i64::from(FRAMES) {
            let reach = center * frame / i64::from(FRAMES);
            for (row, line) in (0..).zip(tissues.chunks(usize::from(size).max(1))) {
                for (column, tissue) in (0..).zip(line) {
                    let (x, y): (i64, i64) = (column - center, row - center);
                    pixels.extend_from_slice(&colour_of(*tissue, x * x + y * y <= reach * reach));
                }
            }
        }
        set.bytes(tags::PIXEL_DATA, VR::OB, pixels);
    }

    /// [Encapsulated PDF IOD](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.45.html).
    fn report(&self, set: &mut DataSet) {
        let lines = [
            format!("Study {} of sample {}, of {}.", self.number, self.plan.seed, self.date),
            "This patient does not exist; the head is made of ellipsoids.".to_owned(),
            format!(
                "Findings: {} CT slices, {} MR slices, one lesion.",
                self.plan.slices,
                self.plan.slices.div_ceil(2)
            ),
            "Impression: the archive works.".to_owned(),
        ];
        let document = pdf("Synthetic report", &lines);
        set.text(tags::MODALITY, "DOC")
            .text(tags::SERIES_DESCRIPTION, "Report")
            .text(tags::CONVERSION_TYPE, "WSD")
            .text(tags::BURNED_IN_ANNOTATION, "YES")
            .text(tags::ACQUISITION_DATE_TIME, &format!("{}093000", self.date))
            .text(tags::DOCUMENT_TITLE, "Synthetic report")
            .items(tags::CONCEPT_NAME_CODE_SEQUENCE, &[code("18748-4", "LN", "Diagnostic imaging study")])
            .text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, "application/pdf")
            .bytes(
                tags::ENCAPSULATED_DOCUMENT_LENGTH,
                VR::UL,
                u32::try_from(document.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec(),
            )
            .bytes(tags::ENCAPSULATED_DOCUMENT, VR::OB, document);
    }

    /// Where a slice lies; all of a study lie in one frame of reference.
    fn plane(&self, set: &mut DataSet, plane: &Plane, thickness: f64) {
        set.text(tags::FRAME_OF_REFERENCE_UID, &uid(&[self.plan.seed, self.number.into(), 0]))
            .empty(&[tags::POSITION_REFERENCE_INDICATOR])
            .text(tags::BODY_PART_EXAMINED, "HEAD")
            .text(tags::PATIENT_POSITION, "HFS")
            .decimals(tags::IMAGE_POSITION_PATIENT, &plane.corner)
            .decimals(tags::IMAGE_ORIENTATION_PATIENT, &[plane.across, plane.down].concat())
            .decimals(tags::PIXEL_SPACING, &[plane.spacing, plane.spacing])
            .decimals(tags::SLICE_THICKNESS, &[thickness])
            .decimals(tags::SPACING_BETWEEN_SLICES, &[thickness]);
    }

    fn pixels(&self, plane: &Plane, size: u16, mut value: impl FnMut(Tissue, u16, u16) -> i16) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(usize::from(size) * usize::from(size) * 2);
        self.each_pixel(plane, size, |tissue, column, row| {
            pixels.extend_from_slice(&value(tissue, column, row).to_le_bytes());
        });
        pixels
    }

    fn each_pixel(&self, plane: &Plane, size: u16, mut pixel: impl FnMut(Tissue, u16, u16)) {
        /// Millimetres of one unit of the head.
        const UNIT: f64 = 100.0;
        let mut line = vec![Tissue::Air; usize::from(size)];
        let step = plane.across.map(|across| across * plane.spacing / UNIT);
        for row in 0..size {
            let mut start: Vector = plane.corner;
            for (start, down) in start.iter_mut().zip(plane.down) {
                *start = (*start + down * plane.spacing * f64::from(row)) / UNIT;
            }
            self.head.row(start, step, &mut line);
            for (column, tissue) in (0..size).zip(&line) {
                pixel(*tissue, column, row);
            }
        }
    }
}

/// A plane through the patient, in millimetres.
struct Plane {
    corner: Vector,
    across: Vector,
    down: Vector,
    spacing: f64,
}

/// The Image Pixel module of a grey picture.
fn grey(set: &mut DataSet, size: u16, bits: u16, signed: bool) {
    set.short(tags::SAMPLES_PER_PIXEL, 1)
        .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
        .short(tags::ROWS, size)
        .short(tags::COLUMNS, size)
        .short(tags::BITS_ALLOCATED, 16)
        .short(tags::BITS_STORED, bits)
        .short(tags::HIGH_BIT, bits - 1)
        .short(tags::PIXEL_REPRESENTATION, signed.into());
}

fn code(value: &str, scheme: &str, meaning: &str) -> DataSet {
    let mut code = DataSet::default();
    code.text(tags::CODE_VALUE, value).text(tags::CODING_SCHEME_DESIGNATOR, scheme).text(tags::CODE_MEANING, meaning);
    code
}

fn colour_of(tissue: Tissue, reached: bool) -> [u8; 3] {
    let shade = u8::try_from(tissue.signal() / 4).unwrap_or(u8::MAX);
    match (tissue, reached) {
        (Tissue::Lesion, true) => [255, 60, 30],
        (Tissue::Grey, true) => [shade, 150, 40],
        (Tissue::White, true) => [40, shade, 200],
        _ => [shade; 3],
    }
}

/// A UID below 2.25 from a hash of the numbers that make something what it is.
fn uid(numbers: &[u64]) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(b"isocenter sample");
    for number in numbers {
        hash.update(&number.to_le_bytes());
    }
    let mut bytes = [0; 16];
    hash.finalize_xof().fill(&mut bytes);
    format!("2.25.{}", Builder::from_random_bytes(bytes).into_uuid().as_u128())
}

fn digits(number: u32) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const PLAN: Plan = Plan { seed: 7, studies: 2, slices: 5, size: 32 };

    #[test]
    fn the_same_plan_makes_the_same_files_and_another_seed_others() {
        let first: Vec<Instance> = PLAN.iter().collect();
        let second: Vec<Instance> = PLAN.iter().collect();
        assert_eq!(first.len() as u64, PLAN.instances());
        assert!(first.iter().zip(&second).all(|(one, other)| one.path == other.path && one.bytes == other.bytes));
        let paths: HashSet<_> = first.iter().map(|instance| &instance.path).collect();
        assert_eq!(paths.len(), first.len());
        let other: Vec<Instance> = Plan { seed: 8, ..PLAN }.iter().collect();
        assert!(first.iter().zip(&other).all(|(one, other)| one.path == other.path && one.bytes != other.bytes));
    }

    #[test]
    fn every_value_of_pixel_data_has_its_length() {
        for instance in PLAN.iter() {
            let name = instance.path.to_str().unwrap();
            let pixels = match name {
                _ if name.contains("ct/") => 32 * 32 * 2,
                _ if name.contains("mr/") => 16 * 16 * 2,
                _ if name.contains("colour/") => 16 * 16 * 3 * usize::from(FRAMES),
                _ => continue,
            };
            let head = &instance.bytes[instance.bytes.len() - pixels - 12..][..12];
            assert_eq!(
                (&head[..4], &head[8..]),
                (&[0xE0, 0x7F, 0x10, 0][..], &u32::try_from(pixels).unwrap().to_le_bytes()[..]),
                "{name}"
            );
        }
    }

    #[test]
    fn uids_are_valid_and_differ() {
        let uids: HashSet<String> = (0..100).map(|number| uid(&[1, number])).collect();
        assert_eq!(uids.len(), 100);
        for uid in uids {
            assert!(crate::dicom::uid::InstanceUid::parse(&uid).is_ok() && !uid.contains(".0"), "{uid}");
        }
    }
}
