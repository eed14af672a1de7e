//! A small writer of Part 10 files in Explicit VR Little Endian.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use std::collections::BTreeMap;
use std::fmt::Display;

/// The implementation that wrote a file, as a UID made from a UUID ([PS3.5 B.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part05/sect_B.2.html)).
const IMPLEMENTATION: &str = "2.25.213428041690541863021741269106894137641";

/// Elements by their tags.
#[derive(Clone, Debug, Default)]
pub struct DataSet(BTreeMap<Tag, (VR, Vec<u8>)>);

impl DataSet {
    /// Sets an element of any VR with text values, several separated by `\`; an empty text is an element without a value.
    pub fn text(&mut self, tag: Tag, value: &str) -> &mut Self {
        let vr = StandardDataDictionary.by_tag(tag).and_then(|entry| entry.vr().exact()).unwrap_or(VR::UN);
        self.bytes(tag, vr, value.as_bytes().to_vec())
    }

    /// Sets elements without values: type 2, unknown.
    pub fn empty(&mut self, tags: &[Tag]) -> &mut Self {
        for tag in tags {
            self.text(*tag, "");
        }
        self
    }

    /// Sets an element to a whole number as text.
    pub fn number(&mut self, tag: Tag, value: impl Display) -> &mut Self {
        self.text(tag, &value.to_string())
    }

    /// Sets an element to decimal numbers, DS.
    pub fn decimals(&mut self, tag: Tag, values: &[f64]) -> &mut Self {
        let texts: Vec<String> = values.iter().map(|value| decimal(*value)).collect();
        self.text(tag, &texts.join("\\"))
    }

    /// Sets an element to a number, US.
    pub fn short(&mut self, tag: Tag, value: u16) -> &mut Self {
        self.bytes(tag, VR::US, value.to_le_bytes().to_vec())
    }

    /// Sets an element to a sequence.
    pub fn items(&mut self, tag: Tag, items: &[Self]) -> &mut Self {
        let mut value = Vec::new();
        for item in items {
            let mut bytes = Vec::new();
            item.write_to(&mut bytes);
            value.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
            value.extend_from_slice(&length_of(&bytes).to_le_bytes());
            value.extend_from_slice(&bytes);
        }
        self.bytes(tag, VR::SQ, value)
    }

    /// Sets an element to bytes.
    pub fn bytes(&mut self, tag: Tag, vr: VR, mut value: Vec<u8>) -> &mut Self {
        if value.len() % 2 == 1 {
            value.push(if matches!(vr, VR::UI | VR::OB | VR::UN) { 0 } else { b' ' });
        }
        self.0.insert(tag, (vr, value));
        self
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        for (tag, (vr, value)) in &self.0 {
            out.extend_from_slice(&tag.group().to_le_bytes());
            out.extend_from_slice(&tag.element().to_le_bytes());
            out.extend_from_slice(&vr.to_bytes());
            let long = matches!(vr, VR::OB | VR::OW | VR::SQ | VR::UN | VR::UT | VR::UC | VR::UR);
            if long {
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&length_of(value).to_le_bytes());
            } else {
                let length = u16::try_from(value.len()).expect("short values are made here and are short");
                out.extend_from_slice(&length.to_le_bytes());
            }
            out.extend_from_slice(value);
        }
    }

    /// A Part 10 file with this data set, which names its class and instance.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut meta = Self::default();
        meta.bytes(tags::FILE_META_INFORMATION_VERSION, VR::OB, vec![0, 1])
            .text(tags::TRANSFER_SYNTAX_UID, uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .text(tags::IMPLEMENTATION_CLASS_UID, IMPLEMENTATION)
            .text(tags::IMPLEMENTATION_VERSION_NAME, "ISOCENTER_SAMPLE");
        for (from, to) in [
            (tags::SOP_CLASS_UID, tags::MEDIA_STORAGE_SOP_CLASS_UID),
            (tags::SOP_INSTANCE_UID, tags::MEDIA_STORAGE_SOP_INSTANCE_UID),
        ] {
            let (vr, uid) = self.0.get(&from).cloned().unwrap_or((VR::UI, Vec::new()));
            meta.bytes(to, vr, uid);
        }
        let mut elements = Vec::new();
        meta.write_to(&mut elements);
        let size = self.0.values().map(|(_, value)| value.len() + 12).sum::<usize>();
        let mut file = Vec::with_capacity(size + elements.len() + 160);
        file.resize(128, 0);
        file.extend_from_slice(b"DICM");
        file.extend_from_slice(&[0x02, 0, 0, 0, b'U', b'L', 4, 0]);
        file.extend_from_slice(&length_of(&elements).to_le_bytes());
        file.extend_from_slice(&elements);
        self.write_to(&mut file);
        file
    }
}

fn length_of(value: &[u8]) -> u32 {
    u32::try_from(value.len()).expect("sizes are limited by the command line to values under 4 GiB")
}

/// A decimal string of at most 16 characters.
fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-0.5, "-0.5"),
            (250.0 / 512.0, "0.488281"),
            (-124.755_859_375, "-124.755859"),
        ] {
            assert_eq!(decimal(value), text);
        }
    }

    #[test]
    fn elements_are_written_in_order_and_padded() {
        let mut set = DataSet::default();
        set.text(tags::PATIENT_ID, "abc")
            .short(tags::ROWS, 2)
            .text(tags::SOP_INSTANCE_UID, "1.2")
            .empty(&[tags::PATIENT_NAME]);
        let mut item = DataSet::default();
        item.text(tags::CODE_VALUE, "1");
        set.items(tags::CONCEPT_NAME_CODE_SEQUENCE, &[item]);
        let mut bytes = Vec::new();
        set.write_to(&mut bytes);
        let expected = [
            b"\x08\0\x18\0UI\x04\x001.2\0".as_slice(),
            b"\x10\0\x10\0PN\0\0",
            b"\x10\0\x20\0LO\x04\0abc ",
            b"\x28\0\x10\0US\x02\0\x02\0",
            b"\x40\0\x43\xA0SQ\0\0\x12\0\0\0\xFE\xFF\0\xE0\x0A\0\0\0\x08\0\0\x01SH\x02\x001 ",
        ];
        assert_eq!(bytes, expected.concat());
    }
}
