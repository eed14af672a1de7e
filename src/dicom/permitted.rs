//! What values of a text VR may be ([PS3.5 6.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part05/sect_6.2.html)):
//! for what the operator's settings write. What comes from elsewhere is taken as it is (see [`crate::dicom::values`]).

use dicom_core::VR;

use crate::dicom::text::split;
use crate::dicom::uid::InstanceUid;
use crate::dicom::values::{parse_date, parse_date_time, parse_time};

/// Whether a text is one or more values of a VR; nothing at all is one of each.
///
/// # Errors
/// What would be, in words.
pub fn check(vr: VR, text: &str) -> Result<(), &'static str> {
    if split(vr, text).all(|value| value.is_empty() || permits(vr, value)) { Ok(()) } else { Err(accepted(vr)) }
}

/// What a VR permits, in words.
fn accepted(vr: VR) -> &'static str {
    match vr {
        VR::AE => "up to 16 characters of ASCII without control characters",
        VR::AS => "an age of three digits and `D`, `W`, `M` or `Y`, such as `042Y`",
        VR::CS => "up to 16 capital letters, digits, spaces and `_`",
        VR::DA => "a date such as `20260131`",
        VR::DS => "a number of up to 16 characters, such as `-1.5` or `2E3`",
        VR::DT => "a date and time such as `20260131083000.5+0100`",
        VR::IS => "a whole number from -2147483648 to 2147483647",
        VR::LO => "up to 64 characters without control characters",
        VR::LT => "up to 10240 characters",
        VR::PN => "up to three groups between `=`, each of up to 64 characters in up to five components between `^`",
        VR::SH => "up to 16 characters without control characters",
        VR::ST => "up to 1024 characters",
        VR::TM => "a time such as `083000.5`",
        VR::UI => "a UID of digits and dots with up to 64 characters",
        VR::UR => "a URI without spaces",
        _ => "text without control characters",
    }
}

/// Whether a value that is not empty may stand in a VR. Padding does not count where it means nothing.
fn permits(vr: VR, value: &str) -> bool {
    let bare = value.trim_matches([' ', '\0']);
    match vr {
        VR::AE => plain(value, 16) && value.is_ascii() && !bare.is_empty(),
        VR::AS => {
            matches!(bare.as_bytes(), [a, b, c, b'D' | b'W' | b'M' | b'Y'] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()))
        }
        VR::CS => plain(value, 16) && value.bytes().all(is_of_code),
        VR::DA => bare.len() == 8 && parse_date(bare).is_some(),
        VR::DS => {
            // what Rust reads as a number is one, but for its words and for what has more places than a DS
            let number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
            bare.len() <= 16 && bare.bytes().all(number) && bare.parse::<f64>().is_ok()
        }
        VR::DT => bare.len() <= 26 && parse_date_time(bare).is_some(),
        VR::IS => bare.len() <= 12 && bare.parse::<i32>().is_ok(),
        VR::LO => plain(value, 64),
        VR::LT => long(value, 10_240),
        VR::PN => is_name(value),
        VR::SH => plain(value, 16),
        VR::ST => long(value, 1024),
        VR::TM => !bare.contains(':') && parse_time(bare).is_some(),
        VR::UI => InstanceUid::parse(bare).is_ok(),
        VR::UR => value.trim_end().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'),
        VR::UT => long(value, usize::MAX),
        VR::UC => plain(value, usize::MAX),
        _ => true,
    }
}

fn is_of_code(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_')
}

/// Characters count, not bytes (PS3.5 6.2).
fn plain(value: &str, most: usize) -> bool {
    value.chars().count() <= most && !value.chars().any(char::is_control)
}

/// Texts of several lines.
fn long(value: &str, most: usize) -> bool {
    let control = |letter: char| letter.is_control() && !matches!(letter, '\t' | '\n' | '\u{c}' | '\r');
    value.chars().count() <= most && !value.chars().any(control)
}

/// PS3.5 6.2.1.
fn is_name(value: &str) -> bool {
    value.split('=').count() <= 3 && value.split('=').all(|group| plain(group, 64) && group.split('^').count() <= 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_their_vr_permits() {
        let (name, long) = ("N".repeat(64), "l".repeat(1025));
        for (vr, good, bad) in [
            (VR::AE, &["STORE_1", "a b"][..], &["SEVENTEENLETTERSX", " ", "\u{fc}"][..]),
            (VR::AS, &["042Y", "003D"], &["42Y", "042", "042y", "0x2Y"]),
            (VR::CS, &["CT", "MR 1_2", "A\\B"], &["ct", "A-B", "SEVENTEENLETTERSX", "A\\b"]),
            (VR::DA, &["20240229"], &["20230229", "2024.02.29", "2024", "20240101-"]),
            (VR::DS, &["1", "-1.5", ".5", "+2E-3", "1\\2"], &["inf", "NaN", "1,5", "1.0000000000000001", "1e"]),
            (VR::DT, &["2024", "202402291200", "20240229120000.123456+0100"], &["2024-02-29", "20240230"]),
            (VR::IS, &["0", "-12", "+12", "2147483647"], &["1.0", "2147483648", "x", "1 2"]),
            (VR::LO, &["a b\u{fc}", &name], &["a\nb", "a\u{1b}b"]),
            (VR::LT, &["a\r\nb\\c", &long], &["a\0b"]),
            (VR::PN, &["A^B^C^D^E", "A=B=C", "A\\B"], &["A^B^C^D^E^F", "A=B=C=D", "A\tB"]),
            (VR::SH, &["sixteen letters."], &["seventeen letters"]),
            (VR::ST, &["a\\b"], &[&long]),
            (VR::TM, &["08", "0830", "083000.123456"], &["8", "08:30", "noon", "250000"]),
            (VR::UI, &["1.2.3", "1.2\\1.3"], &["1.2.", "1.a", "one"]),
            (VR::UR, &["https://h/p?q"], &["a b", "a\\b"]),
            (VR::UC, &["a", &long], &["a\nb"]),
            (VR::UT, &["a\nb\\c"], &["a\u{1}"]),
        ] {
            assert_eq!(check(vr, ""), Ok(()));
            for text in good {
                assert_eq!(check(vr, text), Ok(()), "{vr:?} {text}");
            }
            for text in bad {
                assert!(check(vr, text).is_err(), "{vr:?} {text}");
            }
        }
        assert!(check(VR::LO, &format!("{name}N")).is_err());
        assert!(check(VR::PN, &format!("A={name}N")).is_err());
        assert_eq!(check(VR::LO, &"\u{fc}".repeat(64)), Ok(()));
    }
}
