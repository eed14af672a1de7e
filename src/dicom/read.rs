//! Reads single attributes of a header as text and numbers: decoded, without padding, the way they are compared.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use crate::dicom::header::{Dataset, Element, Header};
use crate::dicom::text::{CharacterSet, split};
use crate::dicom::values::{matchable, parse_date, parse_integer, parse_time};

/// A data set or an item of a header, with the character set that is in force there.
///
/// Absent, empty and over-long (not held) values are `None`. An element of VR UN is read as the dictionary has it.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    header: &'a Header,
    dataset: &'a Dataset,
    charset: CharacterSet,
}

/// Single values, wherever they come from.
pub(super) trait Values {
    /// The first value as text, decoded and without padding; the whole value of the text VRs. Numbers are written in decimal. None
    /// that is empty.
    fn string(&self, tag: Tag) -> Option<String>;

    /// The first value as a whole number, of IS and of the binary VRs.
    fn int(&self, tag: Tag) -> Option<i64> {
        parse_integer(&self.string(tag)?)
    }

    /// The first value as a date YYYYMMDD.
    fn date(&self, tag: Tag) -> Option<String> {
        parse_date(&self.string(tag)?)
    }

    /// The first value as a time in microseconds since midnight.
    fn time(&self, tag: Tag) -> Option<i64> {
        parse_time(&self.string(tag)?)
    }

    /// The first name, its groups still in one text; take it apart with [`crate::dicom::values::PersonName::parse`].
    fn person_name(&self, tag: Tag) -> Option<String> {
        self.string(tag).filter(|name| !name.trim_matches(['=', '^', ' ']).is_empty())
    }
}

impl Values for Reader<'_> {
    fn string(&self, tag: Tag) -> Option<String> {
        self.strings(tag).into_iter().next().filter(|value| !value.is_empty())
    }
}

impl<'a> Reader<'a> {
    /// Reads the root data set.
    pub fn new(header: &'a Header) -> Self {
        Self::within(header, &header.dataset, CharacterSet::default())
    }

    fn within(header: &'a Header, dataset: &'a Dataset, inherited: CharacterSet) -> Self {
        Self { header, dataset, charset: effective_charset(header, dataset, inherited) }
    }

    /// The element itself.
    pub fn element(&self, tag: Tag) -> Option<&'a Element> {
        self.dataset.get(tag)
    }

    /// All values as text, empty ones in between included; nothing when all are empty.
    pub fn strings(&self, tag: Tag) -> Vec<String> {
        let Some(element) = self.element(tag) else { return Vec::new() };
        let vr = vr_of(element);
        let raw = self.header.value(element);
        let values: Vec<String> = match numbers(vr, raw) {
            Some(numbers) => numbers.into_iter().map(|number| number.to_string()).collect(),
            None if is_text(vr) => {
                let text = self.charset.decode(vr, raw);
                split(vr, &text).map(|value| matchable(vr, value).to_owned()).collect()
            }
            None => Vec::new(),
        };
        if values.iter().all(String::is_empty) { Vec::new() } else { values }
    }

    /// The items of a sequence.
    pub fn items(&self, tag: Tag) -> impl Iterator<Item = Reader<'a>> {
        let (header, charset) = (self.header, self.charset);
        self.dataset.items(tag).iter().map(move |item| Reader::within(header, item, charset))
    }
}

/// The character set in force in a data set or item: its own, else that of what it is in (PS3.5 7.5.3).
pub(crate) fn effective_charset(header: &Header, dataset: &Dataset, inherited: CharacterSet) -> CharacterSet {
    match dataset.get(tags::SPECIFIC_CHARACTER_SET) {
        Some(element) => CharacterSet::parse(header.value(element)),
        None => inherited,
    }
}

/// The VR by which a value is read.
pub(crate) fn vr_of(element: &Element) -> VR {
    if element.vr != VR::UN {
        return element.vr;
    }
    StandardDataDictionary.by_tag(element.tag).map_or(VR::UN, |entry| entry.vr().relaxed())
}

fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    )
}

/// The values of a binary VR of whole numbers.
fn numbers(vr: VR, raw: &[u8]) -> Option<Vec<i128>> {
    fn each<const N: usize>(raw: &[u8], read: fn([u8; N]) -> i128) -> Vec<i128> {
        raw.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect()
    }
    Some(match vr {
        VR::US => each(raw, |bytes| u16::from_le_bytes(bytes).into()),
        VR::SS => each(raw, |bytes| i16::from_le_bytes(bytes).into()),
        VR::UL => each(raw, |bytes| u32::from_le_bytes(bytes).into()),
        VR::SL => each(raw, |bytes| i32::from_le_bytes(bytes).into()),
        VR::UV => each(raw, |bytes| u64::from_le_bytes(bytes).into()),
        VR::SV => each(raw, |bytes| i64::from_le_bytes(bytes).into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};
    use dicom_dictionary_std::tags;

    use super::{Reader, Values as _};
    use crate::dicom::frames::FrameIndex;
    use crate::dicom::header::{Content, Dataset, Element, Extent, Form, Header};
    use crate::dicom::stream::FileMeta;
    use crate::dicom::transfer_syntax::{EXPLICIT_LITTLE, Encoding};
    use crate::dicom::uid::TransferSyntaxUid;

    fn held(arena: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) -> Element {
        let start = u32::try_from(arena.len()).unwrap();
        arena.extend_from_slice(value);
        let content = Content::Held(start..u32::try_from(arena.len()).unwrap());
        Element { tag, vr, extent: Extent::default(), big_endian: false, content }
    }

    fn header(arena: Vec<u8>, mut elements: Vec<Element>) -> Header {
        elements.sort_by_key(|element| element.tag);
        Header {
            form: Form::Part10,
            transfer_syntax: TransferSyntaxUid::parse(EXPLICIT_LITTLE).unwrap(),
            encoding: Encoding::EXPLICIT_LITTLE,
            meta: FileMeta::default(),
            dataset_position: 0,
            dataset: Dataset { elements },
            frames: FrameIndex::None,
            number_of_frames: 0,
            arena,
        }
    }

    #[test]
    fn values_come_decoded_and_without_padding() {
        let mut arena = Vec::new();
        let elements = vec![
            held(&mut arena, tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
            held(&mut arena, tags::PATIENT_NAME, VR::PN, b"J\xe9r\xf4me^ "),
            held(&mut arena, tags::PATIENT_ID, VR::UN, b" 12 "),
            held(&mut arena, tags::STUDY_DATE, VR::DA, b"2024.01.02"),
            held(&mut arena, tags::STUDY_TIME, VR::TM, b"10"),
            held(&mut arena, tags::SERIES_NUMBER, VR::IS, b"+7 "),
            held(&mut arena, tags::ROWS, VR::US, &[0, 2]),
            held(&mut arena, tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\\\AXIAL "),
            held(&mut arena, tags::ACCESSION_NUMBER, VR::SH, b"  "),
            held(&mut arena, tags::REFERRING_PHYSICIAN_NAME, VR::PN, b"^^^^"),
        ];
        let header = header(arena, elements);
        let reader = Reader::new(&header);
        assert_eq!(reader.person_name(tags::PATIENT_NAME).as_deref(), Some("Jérôme^"));
        assert_eq!(reader.string(tags::PATIENT_ID).as_deref(), Some("12"));
        assert_eq!(reader.date(tags::STUDY_DATE).as_deref(), Some("20240102"));
        assert_eq!(reader.time(tags::STUDY_TIME), Some(36_000_000_000));
        assert_eq!(reader.int(tags::SERIES_NUMBER), Some(7));
        assert_eq!(reader.int(tags::ROWS), Some(512));
        assert_eq!(reader.strings(tags::IMAGE_TYPE), ["ORIGINAL", "", "AXIAL"]);
        assert_eq!(reader.string(tags::ACCESSION_NUMBER), None);
        assert_eq!(reader.person_name(tags::REFERRING_PHYSICIAN_NAME), None);
        assert_eq!(reader.string(tags::STUDY_ID), None);
    }

    #[test]
    fn an_items_character_set_ends_with_the_item() {
        let mut arena = Vec::new();
        let item = |elements| Dataset { elements };
        let own = item(vec![
            held(&mut arena, tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 144"),
            held(&mut arena, tags::PATIENT_NAME, VR::PN, b"\xbb "),
        ]);
        let inheriting = item(vec![held(&mut arena, tags::PATIENT_NAME, VR::PN, b"\xe9 ")]);
        let elements = vec![
            held(&mut arena, tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100"),
            Element {
                tag: tags::REQUEST_ATTRIBUTES_SEQUENCE,
                vr: VR::SQ,
                extent: Extent::default(),
                big_endian: false,
                content: Content::Items(vec![own, inheriting]),
            },
            held(&mut arena, tags::PATIENT_COMMENTS, VR::LT, b"\xe9 "),
        ];
        let header = header(arena, elements);
        let reader = Reader::new(&header);
        let names: Vec<_> = reader
            .items(tags::REQUEST_ATTRIBUTES_SEQUENCE)
            .filter_map(|item| item.string(tags::PATIENT_NAME))
            .collect();
        assert_eq!(names, ["Л", "é"]);
        assert_eq!(reader.string(tags::PATIENT_COMMENTS).as_deref(), Some("é"));
    }
}
