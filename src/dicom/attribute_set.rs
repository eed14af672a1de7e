//! Attributes as finished DICOM JSON: made, read, merged into answers, and picked out of stored metadata.

use dicom_core::{Tag, VR};

use crate::dicom::entry::AttributeSet;
use crate::dicom::json::{write_hex, write_string};

/// Makes an [`AttributeSet`]; attributes may come in any order, of several with the same tag the first counts.
#[derive(Clone, Debug, Default)]
pub struct AttributeSetBuilder {
    attributes: Vec<(Tag, Vec<u8>)>,
}

impl AttributeSetBuilder {
    /// Finished JSON: `{"vr":"LO","Value":["…"]}`.
    pub fn fragment(&mut self, tag: Tag, json: &[u8]) -> &mut Self {
        self.attributes.push((tag, json.to_vec()));
        self
    }

    /// Texts of a VR other than PN; empty ones are null, and when there are none the attribute is empty.
    pub fn strings<'a>(&mut self, tag: Tag, vr: VR, values: impl IntoIterator<Item = &'a str>) -> &mut Self {
        let mut json = open(vr);
        let mut between: &[u8] = b",\"Value\":[";
        for value in values {
            json.extend_from_slice(between);
            between = b",";
            if value.is_empty() {
                json.extend_from_slice(b"null");
            } else {
                write_string(&mut json, value);
            }
        }
        if between == b"," {
            json.push(b']');
        }
        json.push(b'}');
        self.attributes.push((tag, json));
        self
    }

    /// One number.
    pub fn integer(&mut self, tag: Tag, vr: VR, value: i64) -> &mut Self {
        let mut json = open(vr);
        json.extend_from_slice(b",\"Value\":[");
        json.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        json.extend_from_slice(b"]}");
        self.attributes.push((tag, json));
        self
    }

    /// An attribute without a value.
    pub fn empty(&mut self, tag: Tag, vr: VR) -> &mut Self {
        let mut json = open(vr);
        json.push(b'}');
        self.attributes.push((tag, json));
        self
    }

    /// The set.
    pub fn build(&mut self) -> AttributeSet {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.sort_by_key(|(tag, _)| *tag);
        attributes.dedup_by_key(|(tag, _)| *tag);
        let mut bytes = Vec::with_capacity(attributes.iter().map(|(_, json)| 8 + json.len()).sum());
        for (tag, json) in attributes {
            // an attribute that does not fit 4 GiB is not of a header
            let Ok(length) = u32::try_from(json.len()) else { continue };
            bytes.extend_from_slice(&tag.group().to_be_bytes());
            bytes.extend_from_slice(&tag.element().to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&json);
        }
        AttributeSet(bytes)
    }
}

fn open(vr: VR) -> Vec<u8> {
    let mut json = Vec::with_capacity(48);
    json.extend_from_slice(b"{\"vr\":\"");
    json.extend_from_slice(vr.to_string().as_bytes());
    json.push(b'"');
    json
}

impl AttributeSet {
    /// Each tag with its JSON, ascending. Damaged bytes end the iteration.
    pub fn iter(&self) -> impl Iterator<Item = (Tag, &[u8])> + Clone {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (&[g0, g1, e0, e1, l0, l1, l2, l3], after) = rest.split_first_chunk::<8>()?;
            let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).ok()?;
            let (json, after) = after.split_at_checked(length)?;
            rest = after;
            Some((Tag(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1])), json))
        })
    }

    /// The JSON of one attribute.
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.iter().take_while(|(found, _)| *found <= tag).find(|(found, _)| *found == tag).map(|(_, json)| json)
    }
}

/// Appends one JSON object of attributes from several sources, ascending by tag; of several with the same tag the first given counts.
pub fn write_object<'a>(out: &mut Vec<u8>, attributes: impl IntoIterator<Item = (Tag, &'a [u8])>) {
    let mut attributes: Vec<(Tag, &[u8])> = attributes.into_iter().collect();
    // stable, and quick on runs that are in order already
    attributes.sort_by_key(|(tag, _)| *tag);
    attributes.dedup_by_key(|(tag, _)| *tag);
    out.reserve(attributes.iter().map(|(_, json)| json.len() + 12).sum::<usize>() + 2);
    out.push(b'{');
    for (tag, json) in attributes {
        write_key(out, tag);
        out.extend_from_slice(json);
    }
    out.push(b'}');
}

/// The key of a member with its colon, and the comma before it unless an object has just begun.
pub(crate) fn write_key(out: &mut Vec<u8>, tag: Tag) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
    out.push(b'"');
    write_hex(out, tag);
    out.extend_from_slice(b"\":");
}

/// The attributes of these tags at the top level of a stored metadata object, ascending, without parsing their values.
/// Something that we have not written ends the iteration.
pub fn pick<'a>(json: &'a [u8], wanted: &[Tag]) -> impl Iterator<Item = (Tag, &'a [u8])> {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let last = wanted.last().copied();
    let mut wanted = wanted.into_iter().peekable();
    members(json).take_while(move |(tag, _)| Some(*tag) <= last).filter_map(move |(tag, fragment)| {
        while wanted.next_if(|next| *next < tag).is_some() {}
        wanted.next_if_eq(&tag).map(|_| (tag, fragment))
    })
}

/// All members at the top level of a stored metadata object.
pub fn members(json: &[u8]) -> impl Iterator<Item = (Tag, &[u8])> {
    let mut rest = json;
    std::iter::from_fn(move || {
        let ([b'{' | b',', b'"', key @ .., b'"', b':'], after) = rest.split_first_chunk::<12>()? else { return None };
        let tag = read_hex(*key)?;
        let (fragment, after) = after.split_at_checked(object_length(after)?)?;
        rest = after;
        Some((tag, fragment))
    })
}

fn read_hex(key: [u8; 8]) -> Option<Tag> {
    let mut number = 0_u32;
    for digit in key {
        number = number << 4 | char::from(digit).to_digit(16)?;
    }
    Some(Tag((number >> 16) as u16, (number & 0xFFFF) as u16))
}

/// Bytes of the JSON object at the beginning.
fn object_length(json: &[u8]) -> Option<usize> {
    let mut depth = 0_u32;
    let mut position = 0;
    loop {
        match json.get(position)? {
            b'"' => position = string_end(json, position + 1)?,
            b'{' => depth = depth.checked_add(1)?,
            b'}' if depth <= 1 => return (depth == 1).then_some(position + 1),
            b'}' => depth -= 1,
            _ => {}
        }
        position += 1;
    }
}

/// The position of the quote that ends the string. Most are so short that a vectorised search would only cost.
fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let near = json.get(start..)?.iter().take(16).position(|byte| matches!(byte, b'"' | b'\\'));
    let mut position = match near {
        Some(offset) => start + offset,
        None => start + memchr::memchr2(b'"', b'\\', json.get(start..)?)?,
    };
    while json.get(position)? == &b'\\' {
        position += 2;
        position += memchr::memchr2(b'"', b'\\', json.get(position..)?)?;
    }
    Some(position)
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};
    use dicom_dictionary_std::tags;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{AttributeSetBuilder, members, pick, write_object};
    use crate::dicom::entry::AttributeSet;

    #[test]
    fn an_object_is_merged_ascending_and_the_first_of_a_tag_counts() {
        let study = AttributeSetBuilder::default()
            .strings(tags::STUDY_INSTANCE_UID, VR::UI, ["1.2"])
            .strings(tags::STUDY_DESCRIPTION, VR::LO, ["a\"b\\"])
            .empty(tags::ACCESSION_NUMBER, VR::SH)
            .strings(tags::IMAGE_TYPE, VR::CS, ["A", "", "B"])
            .strings(tags::MODALITIES_IN_STUDY, VR::CS, [])
            .build();
        let computed = AttributeSetBuilder::default()
            .integer(tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS, 3)
            .strings(tags::STUDY_INSTANCE_UID, VR::UI, ["9"])
            .build();
        let mut out = b"[".to_vec();
        write_object(&mut out, study.iter().chain(computed.iter()));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"[{"00080008":{"vr":"CS","Value":["A",null,"B"]},"00080050":{"vr":"SH"},"00080061":{"vr":"CS"},"#,
                r#""00081030":{"vr":"LO","Value":["a\"b\\"]},"0020000D":{"vr":"UI","Value":["1.2"]},"00201206":{"vr":"IS","Value":[3]}}"#
            )
        );
        assert_eq!(study.get(tags::ACCESSION_NUMBER), Some(&b"{\"vr\":\"SH\"}"[..]));
        assert_eq!(study.get(tags::PATIENT_ID), None);
        let mut empty = Vec::new();
        write_object(&mut empty, []);
        assert_eq!(empty, b"{}");
    }

    #[test]
    fn members_are_picked_whatever_their_strings_hold() {
        let json = br#"{"00080005":{"vr":"CS","Value":["}\"{"]},"00081115":{"vr":"SQ","Value":[{"00080018":{"vr":"UI"}},{}]},"00280010":{"vr":"US","Value":[5]}}"#;
        let text = |(tag, json): (Tag, &[u8])| (tag, String::from_utf8(json.to_vec()).unwrap());
        assert_eq!(members(json).count(), 3);
        assert_eq!(
            pick(json, &[tags::ROWS, tags::SOP_INSTANCE_UID, tags::SPECIFIC_CHARACTER_SET])
                .map(text)
                .collect::<Vec<_>>(),
            [
                (tags::SPECIFIC_CHARACTER_SET, r#"{"vr":"CS","Value":["}\"{"]}"#.to_owned()),
                (tags::ROWS, r#"{"vr":"US","Value":[5]}"#.to_owned()),
            ]
        );
        assert_eq!(members(b"{}").count(), 0);
        assert_eq!(members(b"").count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_built_is_read_back_and_picked(values in proptest::collection::btree_map(any::<(u16, u16)>(), any::<String>(), 0..12)) {
            let mut builder = AttributeSetBuilder::default();
            for (&(group, element), value) in values.iter().rev() {
                builder.strings(Tag(group, element), VR::LO, [value.as_str()]);
            }
            let set = builder.build();
            let read: Vec<Tag> = set.iter().map(|(tag, _)| tag).collect();
            assert_eq!(read, values.keys().map(|&(group, element)| Tag(group, element)).collect::<Vec<_>>());
            let mut json = Vec::new();
            write_object(&mut json, set.iter());
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
            assert!(members(&json).eq(set.iter()));
            assert!(pick(&json, &read).eq(set.iter()));
        }

        #[test]
        fn wild_bytes_never_panic(bytes in any::<Vec<u8>>(), json in "[\\{\\}\",:\\\\0-9A]{0,60}") {
            let _ = AttributeSet(bytes.clone()).iter().count();
            let _ = members(&bytes).count();
            let _ = members(json.as_bytes()).count();
        }
    }
}
