//! What the bytes of compressed images, videos and documents say of themselves, put into the data set.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use crate::dicom::compose::error::ComposeError;
use crate::dicom::compose::model::{Dataset, Element, Value};
use crate::dicom::compose::value::is_text;
use crate::dicom::media::Media;
use crate::dicom::media::derive::{self, Derived, Known, merge};
use crate::dicom::vr;

/// Numbers of so many bytes are looked at as text; longer ones say nothing of an image.
const LONGEST_NUMBERS: usize = 64;

/// Sets the attributes that follow from the parts of an instance.
///
/// # Errors
/// The parts do not go together, or the client says otherwise of them.
pub(super) fn describe(dataset: &mut Dataset, parts: &[Media]) -> Result<(), ComposeError> {
    let derived = merge(parts, &Described::of(dataset)).map_err(ComposeError::Media)?;
    for Derived { tag, vr, value } in derived {
        dataset.set(tag, Element { vr, value: value_of(vr, value)? });
    }
    Ok(())
}

/// What the client said, all of it as text.
struct Described<'a> {
    dataset: &'a Dataset,
    numbers: BTreeMap<Tag, String>,
}

impl<'a> Described<'a> {
    fn of(dataset: &'a Dataset) -> Self {
        let numbers = dataset.iter().filter_map(|(tag, element)| Some((tag, numbers(tag, element)?))).collect();
        Self { dataset, numbers }
    }
}

impl Known for Described<'_> {
    fn has(&self, tag: Tag) -> bool {
        self.dataset.get(tag).is_some()
    }

    fn text(&self, tag: Tag) -> Option<&str> {
        match self.dataset.get(tag) {
            Some(Element { vr, value: Value::Bytes(bytes) }) if is_text(known_vr(tag, *vr)) => {
                Some(std::str::from_utf8(bytes).ok()?.trim_matches([' ', '\0']))
            }
            _ => self.numbers.get(&tag).map(String::as_str),
        }
    }
}

/// The VR of a value, which the dictionary may know where the client did not.
fn known_vr(tag: Tag, named: VR) -> VR {
    if named == VR::UN { vr::only_of_tag(tag).unwrap_or(named) } else { named }
}

/// The numbers of an attribute as decimal text.
fn numbers(tag: Tag, element: &Element) -> Option<String> {
    let Value::Bytes(bytes) = &element.value else { return None };
    if bytes.len() > LONGEST_NUMBERS {
        return None;
    }
    let texts: Vec<String> = match known_vr(tag, element.vr) {
        VR::US => bytes.as_chunks().0.iter().map(|number| u16::from_le_bytes(*number).to_string()).collect(),
        VR::SS => bytes.as_chunks().0.iter().map(|number| i16::from_le_bytes(*number).to_string()).collect(),
        VR::UL => bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number).to_string()).collect(),
        VR::SL => bytes.as_chunks().0.iter().map(|number| i32::from_le_bytes(*number).to_string()).collect(),
        VR::UV => bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number).to_string()).collect(),
        VR::FL => bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number).to_string()).collect(),
        VR::FD => bytes.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number).to_string()).collect(),
        VR::AT => bytes.as_chunks().0.iter().map(|[a, b, c, d]| format!("{b:02X}{a:02X}{d:02X}{c:02X}")).collect(),
        _ => return None,
    };
    Some(texts.join("\\"))
}

fn value_of(vr: VR, value: derive::Value) -> Result<Value, ComposeError> {
    Ok(match value {
        derive::Value::Empty if vr == VR::SQ => Value::Items(Vec::new()),
        derive::Value::Empty => Value::Bytes(Vec::new()),
        derive::Value::Text(text) => Value::Bytes(text.into_bytes()),
        derive::Value::Numbers(numbers) => Value::Bytes(numbers.into_iter().flat_map(u16::to_le_bytes).collect()),
        derive::Value::Long(number) => Value::Bytes(number.to_le_bytes().to_vec()),
        derive::Value::Tags(tags) => {
            let words = tags.into_iter().flat_map(|tag| [tag.group(), tag.element()]);
            Value::Bytes(words.flat_map(u16::to_le_bytes).collect())
        }
        derive::Value::Items(items) => Value::Items(items.into_iter().map(item_of).collect::<Result<_, _>>()?),
    })
}

fn item_of(attributes: Vec<Derived>) -> Result<Dataset, ComposeError> {
    let element = |Derived { tag, vr, value }| Ok((tag, Element { vr, value: value_of(vr, value)? }));
    Dataset::new(attributes.into_iter().map(element).collect::<Result<_, ComposeError>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_said_is_known_as_text_whatever_its_vr() {
        let element = |tag: (u16, u16), vr, bytes: &[u8]| {
            (Tag(tag.0, tag.1), Element { vr, value: Value::Bytes(bytes.to_vec()) })
        };
        let dataset = Dataset::new(vec![
            element((0x0008, 0x0016), VR::UN, b"1.2.3\0"),
            element((0x0008, 0x0060), VR::CS, b"XC "),
            element((0x0020, 0x4000), VR::LT, b""),
            (Tag(0x0008, 0x1140), Element { vr: VR::SQ, value: Value::Items(Vec::new()) }),
            element((0x0028, 0x0009), VR::AT, &[0x18, 0, 0x63, 0x10]),
            element((0x0028, 0x0010), VR::US, &[0, 2]),
            element((0x0028, 0x0011), VR::UN, &[1, 2]),
            element((0x0028, 0x0106), VR::SS, &[0xFE, 0xFF, 1, 0]),
            (Tag(0x7FE0, 0x0010), Element { vr: VR::OW, value: Value::Bulk("x".to_owned()) }),
        ]);
        let dataset = dataset.unwrap();
        let known = Described::of(&dataset);
        for (group, element, has, text) in [
            (0x0008, 0x0016, true, Some("1.2.3")),
            (0x0008, 0x0060, true, Some("XC")),
            (0x0020, 0x4000, true, Some("")),
            (0x0008, 0x1140, true, None),
            (0x0028, 0x0009, true, Some("00181063")),
            (0x0028, 0x0010, true, Some("512")),
            (0x0028, 0x0011, true, Some("513")),
            (0x0028, 0x0106, true, Some("-2\\1")),
            (0x7FE0, 0x0010, true, None),
            (0x0028, 0x0008, false, None),
        ] {
            let tag = Tag(group, element);
            assert_eq!((known.has(tag), known.text(tag)), (has, text), "{tag}");
        }
    }

    #[test]
    fn what_follows_from_the_bytes_is_written_by_its_vr() {
        for (vr, value, expected) in [
            (VR::SQ, derive::Value::Empty, Value::Items(Vec::new())),
            (VR::LO, derive::Value::Empty, Value::Bytes(Vec::new())),
            (VR::CS, derive::Value::Text("A\\B".to_owned()), Value::Bytes(b"A\\B".to_vec())),
            (VR::US, derive::Value::Numbers(vec![1, 0x203]), Value::Bytes(vec![1, 0, 3, 2])),
            (VR::UL, derive::Value::Long(5), Value::Bytes(vec![5, 0, 0, 0])),
            (VR::AT, derive::Value::Tags(vec![Tag(0x0018, 0x1063)]), Value::Bytes(vec![0x18, 0, 0x63, 0x10])),
            (VR::SQ, derive::Value::Items(vec![Vec::new()]), Value::Items(vec![Dataset::default()])),
        ] {
            assert_eq!(value_of(vr, value), Ok(expected), "{vr}");
        }
    }
}
