//! Value representations: which one a tag has where the stream names none, how long their lengths are, how wide their words.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

/// Pixel Data.
pub const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// What the two bytes after the tag of an explicit element are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A VR of the standard.
    Known(VR),
    /// Two capital letters that are no VR: read with a length of 16 bits.
    Unknown,
    /// Not a VR: the element is implicit, as some writers do inside sequences.
    Absent,
}

/// Reads the VR field of an explicit element.
#[must_use]
pub fn named(bytes: [u8; 2]) -> Named {
    match (VR::from_binary(bytes), bytes) {
        (Some(vr), _) => Named::Known(vr),
        // compared as text: "AA" <= vr <= "ZZ"
        (None, [first, second]) if *b"AA" <= [first, second] && [first, second] <= *b"ZZ" => Named::Unknown,
        (None, _) => Named::Absent,
    }
}

/// Whether both bytes are capital letters, as those of every VR are.
#[must_use]
pub fn looks_named(bytes: [u8; 2]) -> bool {
    bytes.iter().all(u8::is_ascii_uppercase)
}

/// Whether explicit elements of this VR have a length of 32 bits (PS3.5 7.1.2).
#[must_use]
pub fn has_long_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
            | VR::SQ
            | VR::SV
            | VR::UC
            | VR::UN
            | VR::UR
            | VR::UT
            | VR::UV
    )
}

/// Whether values are bytes without a text or number that metadata would show.
#[must_use]
pub fn is_binary(vr: VR) -> bool {
    matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
}

/// Whether a value may be replaced by a BulkDataURI in metadata (PS3.18 8.7.3.5.2).
#[must_use]
pub fn may_be_bulk(vr: VR) -> bool {
    is_binary(vr)
        || matches!(
            vr,
            VR::DS
                | VR::FL
                | VR::FD
                | VR::IS
                | VR::LT
                | VR::SL
                | VR::SS
                | VR::ST
                | VR::SV
                | VR::UC
                | VR::UL
                | VR::US
                | VR::UT
                | VR::UV
        )
}

/// Bytes that change places together between big and little endian (PS3.5 7.3); 1 for none. An attribute tag is two words.
#[must_use]
pub fn word(vr: VR) -> u8 {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// Turns the words of a value around; bytes that make no whole word stay.
pub fn swap(value: &mut [u8], word: u8) {
    match word {
        2 => value.as_chunks_mut::<2>().0.iter_mut().for_each(|word| word.reverse()),
        4 => value.as_chunks_mut::<4>().0.iter_mut().for_each(|word| word.reverse()),
        8 => value.as_chunks_mut::<8>().0.iter_mut().for_each(|word| word.reverse()),
        _ => {}
    }
}

/// What decides the VR of an ambiguous attribute, as known where it stands in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Pixel Representation (0028,0103) of this data set, else of the nearest one around it, is 1.
    pub signed: bool,
    /// LUT Descriptor (0028,3002) of this data set says that the table has one entry.
    pub single_entry: bool,
}

impl Context {
    /// The context in which an item of a data set begins.
    #[must_use]
    pub fn inside(self) -> Self {
        Self { single_entry: false, ..self }
    }
}

/// The VR of a tag where the stream names none: the dictionary's; UN for what is unknown or private, LO for private
/// creators (PS3.5 7.8.1), UL for group lengths. Of two possible ones what is written in implicit VR: OW rather than OB (PS3.5 A.1),
/// US or SS by Pixel Representation, US or OW by the size of the LUT.
#[must_use]
pub fn of_tag(tag: Tag, context: Context) -> VR {
    if tag.1 == 0 {
        return VR::UL;
    }
    if tag.0 % 2 == 1 {
        return if (0x10..=0xFF).contains(&tag.1) { VR::LO } else { VR::UN };
    }
    match StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::vr) {
        None => VR::UN,
        Some(VirtualVr::Exact(vr)) => vr,
        Some(VirtualVr::Xs) if context.signed => VR::SS,
        Some(VirtualVr::Xs) => VR::US,
        Some(VirtualVr::Lt) if context.single_entry => VR::US,
        // `VirtualVr` may grow
        Some(_) => VR::OW,
    }
}

/// The VR that a tag can only have: the dictionary's, LO for private creators; `None` where it depends on other attributes
/// or nobody knows. What may be OB or OW is OW, which both can be read as (PS3.5 A.1).
#[must_use]
pub fn only_of_tag(tag: Tag) -> Option<VR> {
    if tag.0 % 2 == 1 {
        return (0x10..=0xFF).contains(&tag.1).then_some(VR::LO);
    }
    match StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::vr)? {
        VirtualVr::Exact(vr) => Some(vr),
        VirtualVr::Ox | VirtualVr::Px => Some(VR::OW),
        // `VirtualVr` may grow
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_without_a_named_vr_has_that_of_the_dictionary() {
        let signed = Context { signed: true, single_entry: false };
        let single = Context { signed: false, single_entry: true };
        for (tag, context, vr) in [
            (Tag(0x0010, 0x0010), Context::default(), VR::PN),
            (Tag(0x0008, 0x0000), Context::default(), VR::UL),
            (Tag(0x0009, 0x0010), Context::default(), VR::LO),
            (Tag(0x0009, 0x0001), Context::default(), VR::UN),
            (Tag(0x0009, 0x1001), Context::default(), VR::UN),
            (Tag(0x0008, 0x9999), Context::default(), VR::UN),
            (Tag(0x0028, 0x0106), Context::default(), VR::US),
            (Tag(0x0028, 0x0106), signed, VR::SS),
            (Tag(0x0028, 0x3006), Context::default(), VR::OW),
            (Tag(0x0028, 0x3006), single, VR::US),
            (Tag(0x6002, 0x3000), Context::default(), VR::OW),
            (Tag(0x6001, 0x3000), Context::default(), VR::UN),
            (Tag(0x5004, 0x3000), Context::default(), VR::OW),
            (PIXEL_DATA, Context::default(), VR::OW),
        ] {
            assert_eq!(of_tag(tag, context), vr, "{tag:?}");
        }
    }

    #[test]
    fn words_are_turned_around_and_rests_stay() {
        for (word, before, after) in [
            (2, &[1_u8, 2, 3, 4, 5][..], &[2_u8, 1, 4, 3, 5][..]),
            (4, &[1, 2, 3, 4, 5], &[4, 3, 2, 1, 5]),
            (8, &[1, 2, 3, 4, 5, 6, 7, 8], &[8, 7, 6, 5, 4, 3, 2, 1]),
            (1, &[1, 2], &[1, 2]),
        ] {
            let mut value = before.to_vec();
            swap(&mut value, word);
            assert_eq!(value, after);
        }
    }
}
