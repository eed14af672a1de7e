//! The entries of a study and a series made again, from the stored metadata of an instance.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::{Tag, VR};
use serde_json::Value;

use crate::dicom::attribute_set::{AttributeSetBuilder, pick};
use crate::dicom::attributes;
use crate::dicom::entry::{AttributeSet, SeriesEntry, Source, StudyEntry};
use crate::dicom::header::{Header, HeaderLimits, HeaderReader};
use crate::dicom::json::{BULK_DATA_MEMBER, attribute_set};
use crate::dicom::read::{Reader, Values};
use crate::dicom::uid::Level;
use crate::dicom::values::matchable;

/// The study and the series of which an instance tells that has these metadata: the same as its header told of, but for texts
/// that came as UN in a character set other than UTF-8.
#[must_use]
pub fn stored_entries(metadata: &[u8]) -> (StudyEntry, SeriesEntry) {
    let stored = StoredMetadata { json: metadata, unknown: unknown(metadata) };
    (StudyEntry::read(&stored), SeriesEntry::read(&stored))
}

/// Metadata as a row holds them.
struct StoredMetadata<'a> {
    json: &'a [u8],
    /// What they hold as UN, to be read by the dictionary.
    unknown: Option<Header>,
}

/// The elements of VR UN that entries are made of, as a header of their own.
fn unknown(json: &[u8]) -> Option<Header> {
    let mut wanted = [attributes::kept(Level::Study), attributes::kept(Level::Series)].concat();
    wanted.sort_unstable();
    let mut bytes = Vec::new();
    for (tag, fragment) in pick(json, &wanted).filter(|(_, fragment)| fragment.starts_with(UNKNOWN)) {
        let attribute: Value = serde_json::from_slice(fragment).ok()?;
        let value = match attribute.get("InlineBinary") {
            Some(value) => STANDARD.decode(value.as_str()?).ok()?,
            None if attribute.get("BulkDataURI").is_some() => continue,
            None => Vec::new(),
        };
        if bytes.is_empty() {
            bytes.extend_from_slice(b"\x08\0\x05\0CS\x0a\0ISO_IR 192");
        }
        bytes.extend([tag.group().to_le_bytes(), tag.element().to_le_bytes(), *b"UN", [0, 0]].concat());
        bytes.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(value);
    }
    let mut reader = HeaderReader::new(HeaderLimits::default());
    reader.push(&bytes).ok()?;
    reader.finish_anonymous().ok()
}

/// How an attribute of VR UN begins.
const UNKNOWN: &[u8] = b"{\"vr\":\"UN\"";

impl Values for StoredMetadata<'_> {
    fn string(&self, tag: Tag) -> Option<String> {
        let (_, fragment) = pick(self.json, &[tag]).next()?;
        if fragment.starts_with(UNKNOWN) {
            return Reader::new(self.unknown.as_ref()?).string(tag);
        }
        let attribute: Value = serde_json::from_slice(fragment).ok()?;
        let vr = attribute.get("vr")?.as_str()?.parse::<VR>().ok()?;
        let text = match attribute.get("Value")?.get(0)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Object(groups) => {
                let group = |name: &str| groups.get(name).and_then(Value::as_str).unwrap_or_default();
                let name = ["Alphabetic", "Ideographic", "Phonetic"].map(group).join("=");
                name.trim_end_matches('=').to_owned()
            }
            Value::Null | Value::Bool(_) | Value::Array(_) => return None,
        };
        Some(matchable(vr, &text).to_owned()).filter(|text| !text.is_empty())
    }
}

impl Source for StoredMetadata<'_> {
    fn attributes(&self, wanted: &[Tag]) -> AttributeSet {
        let known = self.unknown.as_ref().map(|header| attribute_set(header, |tag| wanted.binary_search(&tag).is_ok()));
        let mut set = AttributeSetBuilder::default();
        for (tag, fragment) in pick(self.json, wanted) {
            let fragment = if fragment.starts_with(UNKNOWN) {
                known.as_ref().and_then(|known| known.get(tag))
            } else {
                Some(fragment).filter(|fragment| memchr::memmem::find(fragment, BULK_DATA_MEMBER).is_none())
            };
            if let Some(fragment) = fragment {
                set.fragment(tag, fragment);
            }
        }
        set.build()
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;
    use crate::dicom::corpus;
    use crate::dicom::entry::IndexEntry;
    use crate::dicom::json::write_metadata;
    use crate::dicom::samples;

    /// What differs.
    fn differs(header: &Header) -> Option<String> {
        let entry = IndexEntry::from_header(header).ok()?;
        let told = stored_entries(&write_metadata(header).json);
        let text = |set: &AttributeSet| String::from_utf8_lossy(&set.0).into_owned();
        let sets =
            |study: &StudyEntry, series: &SeriesEntry| text(&study.attributes) + "; " + &text(&series.attributes);
        (told != (entry.study.clone(), entry.series.clone())).then(|| {
            format!("{entry:?}, not {told:?}: {} and {}", sets(&entry.study, &entry.series), sets(&told.0, &told.1))
        })
    }

    #[test]
    fn every_file_tells_the_same_by_its_header_and_by_its_metadata() {
        for (path, file) in corpus::files() {
            if let Ok(header) = corpus::read(&file, 1 << 20) {
                assert_eq!(differs(&header), None, "{path}");
            }
        }
    }

    #[test]
    fn odd_values_tell_the_same_by_header_and_metadata() {
        let name = "=山田^太郎=やまだ^たろう".as_bytes();
        for (patient, physician, time, number, description) in [
            (&b" A\x001 "[..], name, &b"10"[..], &b"+7"[..], &b"a=b^c"[..]),
            (b"A\\B ", b"^^^^", b"1030.5", b"x ", b""),
            (b"\\B ", b"A^B=\\C", b"unknown ", b" 007", b"\"\x01\xff\\u0041"),
            (b"  ", b"M\xc3\xbcller^J==", b"240000", b"99999999999999999999", b" x\0"),
        ] {
            let file = samples::file("1.2.840.10008.1.2.1", samples::EXPLICIT, |writer| {
                writer
                    .put(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192")
                    .put(tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.2\0")
                    .put(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.4\0")
                    .put(tags::STUDY_DATE, VR::DA, b"2020.01.02")
                    .put(tags::STUDY_TIME, VR::TM, time)
                    .put(tags::ACCESSION_NUMBER, VR::UN, b"AB12")
                    .put(tags::MODALITY, VR::CS, b"CT\\MR ")
                    .put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, physician)
                    .put(tags::STUDY_DESCRIPTION, VR::LO, description)
                    .put(tags::PATIENT_ID, VR::LO, patient)
                    .put(tags::STUDY_INSTANCE_UID, VR::UI, b"1.2\0")
                    .put(tags::SERIES_INSTANCE_UID, VR::UI, b"1.2.3\0")
                    .put(tags::SERIES_NUMBER, VR::IS, number);
            });
            assert_eq!(differs(&corpus::read(&file, 1000).unwrap()), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wild_values_tell_the_same_by_header_and_metadata(text in any::<Vec<u8>>(), name in "[A-Z^= \\\\éж山]{0,40}") {
            let file = samples::file("1.2.840.10008.1.2", samples::IMPLICIT, |writer| {
                writer
                    .put(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 192")
                    .put(tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.2\0")
                    .put(tags::SOP_INSTANCE_UID, VR::UI, b"1.2.3.4\0")
                    .put(tags::STUDY_DESCRIPTION, VR::LO, &text)
                    .put(tags::PATIENT_NAME, VR::PN, name.as_bytes())
                    .put(tags::STUDY_INSTANCE_UID, VR::UI, b"1.2\0")
                    .put(tags::SERIES_INSTANCE_UID, VR::UI, b"1.2.3\0");
            });
            if let Ok(header) = corpus::read(&file, 1000) {
                assert_eq!(differs(&header), None);
            }
        }

        #[test]
        fn wild_metadata_never_panic(bytes in any::<Vec<u8>>(), json in "\\{\"00100020\":[\\{\\}\\[\\]\",:0-9VRalue]{0,40}") {
            let _ = stored_entries(&bytes);
            let _ = stored_entries(json.as_bytes());
        }
    }
}
