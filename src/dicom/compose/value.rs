//! Values of the model → bytes of an element, by the type that its VR asks for (PS3.18 F.2.3, PS3.5 6.2).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use dicom_core::{Tag, VR};

use crate::dicom::compose::error::Fault;
use crate::dicom::compose::model::tag_of;
use crate::dicom::vr::{self, PIXEL_DATA};

/// Longest value of a DS (PS3.5 6.2).
const LONGEST_DECIMAL: usize = 16;

/// In text of any character set it is the beginning of a sequence that selects another one (PS3.5 6.1.2.5).
const ESCAPE: char = '\u{1b}';

/// Base64 with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The values of one attribute, one after the other.
#[derive(Debug)]
pub(super) struct Values {
    vr: VR,
    out: Vec<u8>,
    count: usize,
    missing: bool,
}

impl Values {
    pub(super) fn new(vr: VR) -> Self {
        Self { vr, out: Vec::new(), count: 0, missing: false }
    }

    /// Bytes that the values take so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// A value that is missing in its place.
    pub(super) fn null(&mut self) -> Result<(), Fault> {
        self.begin()?;
        self.missing = true;
        Ok(())
    }

    /// A value given as text.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Fault> {
        if is_text(self.vr) {
            if text.contains(ESCAPE) {
                return Err(Fault::Escape);
            }
            self.begin()?;
            self.out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        // numbers may come as text where a double would not hold them, or where a client does not know better
        match (self.vr, text.trim()) {
            (VR::AT, text) => {
                let tag = tag_of(text).ok_or(Fault::Type)?;
                self.tag(tag)
            }
            (_, "") => self.null(),
            (_, text) => self.numeric(text, true),
        }
    }

    /// A value given as a number.
    pub(super) fn number(&mut self, literal: &str) -> Result<(), Fault> {
        match self.vr {
            VR::IS => {
                self.begin()?;
                self.out.extend_from_slice(integer_text(literal).as_bytes());
                Ok(())
            }
            VR::DS => {
                self.begin()?;
                self.out.extend_from_slice(decimal_text(literal).as_bytes());
                Ok(())
            }
            _ => self.numeric(literal, false),
        }
    }

    /// A person's name by its groups: alphabetic, ideographic, phonetic (PS3.18 F.2.2).
    pub(super) fn name(&mut self, groups: [&str; 3]) -> Result<(), Fault> {
        if self.vr != VR::PN {
            return Err(Fault::Type);
        }
        let [alphabetic, ideographic, phonetic] = groups;
        // what is behind the third group is of it
        if groups.iter().any(|group| group.contains('\\')) || alphabetic.contains('=') || ideographic.contains('=') {
            return Err(Fault::Group);
        }
        if [alphabetic, ideographic, phonetic].iter().any(|group| group.contains(ESCAPE)) {
            return Err(Fault::Escape);
        }
        self.begin()?;
        let used = groups.iter().rposition(|group| !group.is_empty()).map_or(0, |last| last + 1);
        for (number, group) in groups.iter().take(used).enumerate() {
            if number > 0 {
                self.out.push(b'=');
            }
            self.out.extend_from_slice(group.as_bytes());
        }
        Ok(())
    }

    /// All values, without padding.
    pub(super) fn finish(self) -> Result<Vec<u8>, Fault> {
        // text has a place for what is missing, numbers have not
        if self.missing && !is_text(self.vr) && !self.out.is_empty() { Err(Fault::Missing) } else { Ok(self.out) }
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.count = self.count.saturating_add(1);
        if self.count > 1 && is_text(self.vr) {
            if has_one_value(self.vr) {
                return Err(Fault::Several);
            }
            self.out.push(b'\\');
        }
        Ok(())
    }

    fn tag(&mut self, tag: Tag) -> Result<(), Fault> {
        self.begin()?;
        self.out.extend(tag.group().to_le_bytes());
        self.out.extend(tag.element().to_le_bytes());
        Ok(())
    }

    fn numeric(&mut self, text: &str, named: bool) -> Result<(), Fault> {
        self.begin()?;
        let out = &mut self.out;
        match self.vr {
            VR::US => out.extend(integer::<u16>(text)?.to_le_bytes()),
            VR::SS => out.extend(integer::<i16>(text)?.to_le_bytes()),
            VR::UL => out.extend(integer::<u32>(text)?.to_le_bytes()),
            VR::SL => out.extend(integer::<i32>(text)?.to_le_bytes()),
            VR::UV => out.extend(integer::<u64>(text)?.to_le_bytes()),
            VR::SV => out.extend(integer::<i64>(text)?.to_le_bytes()),
            VR::FL => {
                let number: f32 = text.parse().map_err(|_| Fault::Number)?;
                out.extend(
                    Some(number).filter(|number| named || number.is_finite()).ok_or(Fault::Number)?.to_le_bytes(),
                );
            }
            VR::FD => {
                let number: f64 = text.parse().map_err(|_| Fault::Number)?;
                out.extend(
                    Some(number).filter(|number| named || number.is_finite()).ok_or(Fault::Number)?.to_le_bytes(),
                );
            }
            _ => return Err(Fault::Type),
        }
        Ok(())
    }
}

/// Pixel Data of undefined length are read as fragments whatever their VR says (PS3.5 A.4), so they are never a sequence.
pub(super) fn may_be_sequence(tag: Tag) -> bool {
    tag != PIXEL_DATA
}

/// The bytes of InlineBinary; blanks in it, as XML may have them, say nothing.
pub(super) fn inline_binary(vr: VR, text: &str) -> Result<Vec<u8>, Fault> {
    if vr == VR::SQ {
        return Err(Fault::Type);
    }
    let decoded = if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let dense: String = text.split_ascii_whitespace().collect();
        BASE64.decode(dense)
    } else {
        BASE64.decode(text)
    };
    let bytes = decoded.map_err(|_| Fault::Base64)?;
    if !vr::is_binary(vr) && bytes.len() % usize::from(vr::word(vr)) != 0 {
        return Err(Fault::Width);
    }
    Ok(bytes)
}

/// Whether values are text, separated by backslashes where there may be several.
pub(super) fn is_text(vr: VR) -> bool {
    !vr::is_binary(vr) && vr::word(vr) == 1 && vr != VR::SQ
}

/// Text in which a backslash is a character like any other (PS3.5 6.2).
fn has_one_value(vr: VR) -> bool {
    matches!(vr, VR::LT | VR::ST | VR::UT | VR::UR)
}

/// A whole number, however it is written: `5`, `5.0`, `5e0`.
fn integer<T: std::str::FromStr + TryFrom<i64>>(text: &str) -> Result<T, Fault> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    whole(text).and_then(|number| T::try_from(number).ok()).ok_or(Fault::Number)
}

/// A number with a fraction or an exponent that is whole all the same, as far as doubles are exact.
fn whole(text: &str) -> Option<i64> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.fract() == 0.0 && number.abs() < 9e15)?;
    // exact: it is whole and small enough
    #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    Some(number as i64)
}

/// A number as an IS; what is not whole stays as it is written, as a file might hold it.
fn integer_text(literal: &str) -> String {
    match literal.parse::<i64>() {
        Ok(_) => literal.to_owned(),
        Err(_) => whole(literal).map_or_else(|| literal.to_owned(), |number| number.to_string()),
    }
}

/// A number as a DS: as it is written where that is short enough, else rounded to what fits.
fn decimal_text(literal: &str) -> String {
    if literal.len() <= LONGEST_DECIMAL {
        return literal.to_owned();
    }
    let Ok(number) = literal.parse::<f64>() else { return literal.to_owned() };
    let fixed = (0..LONGEST_DECIMAL).rev().map(|digits| format!("{number:.digits$}"));
    let exponent = (0..LONGEST_DECIMAL).rev().map(|digits| format!("{number:.digits$e}"));
    let mut shortest = fixed.chain(exponent).filter(|text| text.len() <= LONGEST_DECIMAL);
    // of those that fit, the one that is nearest to the number
    let mut best: Option<(f64, String)> = None;
    for text in shortest.by_ref() {
        let off = text.parse::<f64>().map_or(f64::INFINITY, |rounded| (rounded - number).abs());
        if best.as_ref().is_none_or(|(least, _)| off < *least) {
            best = Some((off, text));
        }
    }
    best.map_or_else(|| literal.to_owned(), |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(vr: VR, literals: &[&str]) -> Result<Vec<u8>, Fault> {
        let mut values = Values::new(vr);
        for literal in literals {
            values.number(literal)?;
        }
        values.finish()
    }

    fn text(vr: VR, texts: &[&str]) -> Result<Vec<u8>, Fault> {
        let mut values = Values::new(vr);
        for text in texts {
            values.text(text)?;
        }
        values.finish()
    }

    #[test]
    fn numbers_are_written_in_the_width_of_their_vr_or_refused() {
        for (vr, literals, expected) in [
            (VR::US, &["512"][..], Ok(vec![0, 2])),
            (VR::US, &["1", "2.0", "3e0"], Ok(vec![1, 0, 2, 0, 3, 0])),
            (VR::US, &["65536"], Err(Fault::Number)),
            (VR::US, &["-1"], Err(Fault::Number)),
            (VR::US, &["1.5"], Err(Fault::Number)),
            (VR::SS, &["-2"], Ok(vec![0xFE, 0xFF])),
            (VR::UL, &["4294967295"], Ok(vec![0xFF; 4])),
            (VR::UV, &["18446744073709551615"], Ok(vec![0xFF; 8])),
            (VR::SV, &["-1"], Ok(vec![0xFF; 8])),
            (VR::FL, &["0.5"], Ok(0.5_f32.to_le_bytes().to_vec())),
            (VR::FL, &["1e39"], Err(Fault::Number)),
            (VR::FD, &["1e39"], Ok(1e39_f64.to_le_bytes().to_vec())),
            (VR::IS, &["1", "2.0", "-3"], Ok(b"1\\2\\-3".to_vec())),
            (VR::DS, &["1.50", "1e3"], Ok(b"1.50\\1e3".to_vec())),
            (VR::DS, &["0.30000000000000004"], Ok(b"0.30000000000000".to_vec())),
            (VR::DS, &["-123456789012345.6789"], Ok(b"-123456789012346".to_vec())),
            (VR::DS, &["-1.2345678901234567e-300"], Ok(b"-1.23456789e-300".to_vec())),
            (VR::LO, &["5"], Err(Fault::Type)),
            (VR::AT, &["5"], Err(Fault::Type)),
            (VR::OB, &["5"], Err(Fault::Type)),
        ] {
            assert_eq!(number(vr, literals), expected, "{vr} {literals:?}");
        }
    }

    #[test]
    fn texts_are_joined_and_numbers_in_text_are_understood() {
        for (vr, texts, expected) in [
            (VR::LO, &["a", "", "c"][..], Ok(b"a\\\\c".to_vec())),
            (VR::LT, &["a\\b"], Ok(b"a\\b".to_vec())),
            (VR::LT, &["a", "b"], Err(Fault::Several)),
            (VR::AT, &["00080018", "7fe00010"], Ok(vec![8, 0, 0x18, 0, 0xE0, 0x7F, 0x10, 0])),
            (VR::AT, &["PatientName"], Err(Fault::Type)),
            (VR::US, &["7"], Ok(vec![7, 0])),
            (VR::US, &["seven"], Err(Fault::Number)),
            (VR::UV, &["18446744073709551615"], Ok(vec![0xFF; 8])),
            (VR::FD, &["-inf"], Ok(f64::NEG_INFINITY.to_le_bytes().to_vec())),
            (VR::FL, &["Infinity"], Ok(f32::INFINITY.to_le_bytes().to_vec())),
            (VR::DS, &["1,5"], Ok(b"1,5".to_vec())),
            (VR::OW, &["AAE="], Err(Fault::Type)),
            (VR::PN, &["A^B=C"], Ok(b"A^B=C".to_vec())),
        ] {
            assert_eq!(text(vr, texts), expected, "{vr} {texts:?}");
        }
        let mut numbers = Values::new(VR::US);
        numbers.null().unwrap();
        assert_eq!(numbers.finish(), Ok(Vec::new()), "nothing but what is missing");
        let mut numbers = Values::new(VR::US);
        numbers.number("1").unwrap();
        numbers.null().unwrap();
        assert_eq!(numbers.finish(), Err(Fault::Missing));
    }

    #[test]
    fn a_name_has_the_groups_up_to_its_last() {
        for (groups, expected) in
            [(["A^B", "", ""], "A^B"), (["A", "", "C"], "A==C"), (["", "B", ""], "=B"), (["", "", ""], "")]
        {
            let mut values = Values::new(VR::PN);
            values.name(groups).unwrap();
            assert_eq!(values.finish(), Ok(expected.as_bytes().to_vec()));
        }
        assert_eq!(Values::new(VR::LO).name(["A", "", ""]), Err(Fault::Type));
    }

    #[test]
    fn inline_binary_is_base64_of_whole_values() {
        assert_eq!(inline_binary(VR::OB, "AAEC"), Ok(vec![0, 1, 2]));
        assert_eq!(inline_binary(VR::OW, " AA\nE= "), Ok(vec![0, 1]));
        assert_eq!(inline_binary(VR::UN, "AAE"), Ok(vec![0, 1]));
        assert_eq!(inline_binary(VR::US, "AAEC"), Err(Fault::Width));
        assert_eq!(inline_binary(VR::OB, "!"), Err(Fault::Base64));
        assert_eq!(inline_binary(VR::SQ, ""), Err(Fault::Type));
    }
}
