//! Values as they are compared: dates, times, numbers, person names, padding, folding of names and wildcards.
//!
//! All functions take text that is already UTF-8 (see [`crate::dicom::text`]) and tolerate what real files hold:
//! padding, the colons and dots of ACR-NEMA, zero fractions in integers. What is not a value of the VR gives `None`.

use std::fmt::Write as _;

use dicom_core::VR;
use unicode_normalization::UnicodeNormalization;

/// Two dates YYYYMMDD, both included; `None` is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DateRange {
    /// First day.
    pub from: Option<String>,
    /// Last day.
    pub to: Option<String>,
}

/// Two times in microseconds since midnight, both included; `None` is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// First moment.
    pub from: Option<i64>,
    /// Last moment.
    pub to: Option<i64>,
}

/// A DT value; missing components are the first of their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// YYYYMMDD.
    pub date: String,
    /// Microseconds since midnight.
    pub time: i64,
    /// Minutes east of UTC, where the value says so.
    pub offset_minutes: Option<i32>,
}

/// The component groups of a PN value (PS3.5 6.2.1), without padding; empty where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersonName<'a> {
    /// Single-byte form.
    pub alphabetic: &'a str,
    /// Ideographic form.
    pub ideographic: &'a str,
    /// Phonetic form.
    pub phonetic: &'a str,
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A DA value as YYYYMMDD; `YYYY.MM.DD` of ACR-NEMA is accepted (PS3.5 6.2). The day must exist.
pub fn parse_date(text: &str) -> Option<String> {
    let text = trim(text);
    let compact = match text.as_bytes() {
        [_, _, _, _, b'.', _, _, b'.', _, _] => text.replace('.', ""),
        _ => text.to_owned(),
    };
    if compact.len() != 8 {
        return None;
    }
    let year = digits(compact.get(..4)?)?;
    let month = digits(compact.get(4..6)?)?;
    let day = digits(compact.get(6..)?)?;
    (1..=days_in_month(year, month)).contains(&day).then_some(compact)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    }
}

/// A TM value in microseconds since midnight; `HH:MM:SS` of ACR-NEMA is accepted, and second 60 (PS3.5 6.2).
pub fn parse_time(text: &str) -> Option<i64> {
    time_span(text).map(|(first, _)| first)
}

/// The first and the last microsecond that a TM value may mean: `1030` is not precise to the second (PS3.5 6.2).
fn time_span(text: &str) -> Option<(i64, i64)> {
    let text = trim(text);
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let compact = match whole.as_bytes() {
        [_, _, b':', _, _] | [_, _, b':', _, _, b':', _, _] => whole.replace(':', ""),
        _ => whole.to_owned(),
    };
    if !matches!(compact.len(), 2 | 4 | 6) || (fraction.is_some() && compact.len() != 6) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| compact.get(range).map_or(Some(0), digits);
    let (hour, minute, second) = (part(0..2)?, part(2..4)?, part(4..6)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, unit) = match fraction {
        Some(fraction) => fraction_of_second(fraction)?,
        None => match compact.len() {
            2 => (0, HOUR),
            4 => (0, MINUTE),
            _ => (0, SECOND),
        },
    };
    let first = hour * HOUR + minute * MINUTE + second * SECOND + micros;
    Some((first, first + unit - 1))
}

/// Microseconds of a fraction of 1 to 6 digits, and the unit of its last digit.
fn fraction_of_second(text: &str) -> Option<(i64, i64)> {
    let missing = 6_usize.checked_sub(text.len())?;
    let value = digits(text)?;
    let unit = (0..missing).fold(1, |unit, _| unit * 10);
    Some((value * unit, unit))
}

/// A DT value: `YYYY[MM[DD[HH[MM[SS[.F]]]]]][±ZZXX]` (PS3.5 6.2).
pub fn parse_date_time(text: &str) -> Option<DateTime> {
    let text = trim(text);
    let (moment, offset_minutes) = match text.rfind(['+', '-']) {
        Some(sign) => (text.get(..sign)?, Some(utc_offset(text.get(sign..)?)?)),
        None => (text, None),
    };
    let date = match moment.len() {
        4 => format!("{moment}0101"),
        6 => format!("{moment}01"),
        _ => moment.get(..8)?.to_owned(),
    };
    let time = match moment.get(8..) {
        None | Some("") => 0,
        Some(time) if !time.contains(':') => parse_time(time)?,
        Some(_) => return None,
    };
    Some(DateTime { date: parse_date(&date)?, time, offset_minutes })
}

fn utc_offset(text: &str) -> Option<i32> {
    let (sign, hours, minutes) = (text.get(..1)?, text.get(1..3)?, text.get(3..)?);
    if minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    // -12:00 to +14:00 (PS3.5 6.2)
    if hours > 14 || minutes > 59 {
        return None;
    }
    let minutes = i32::try_from(hours * 60 + minutes).ok()?;
    Some(if sign == "-" { -minutes } else { minutes })
}

/// A range of dates `a-b`, `a-`, `-b` (PS3.4 C.2.2.2.5); one date is a range of one day, `-` is every date.
pub fn parse_date_range(text: &str) -> Option<DateRange> {
    let text = trim(text);
    let bound = |text: &str| if trim(text).is_empty() { Some(None) } else { parse_date(text).map(Some) };
    match text.split_once('-') {
        Some((from, to)) => Some(DateRange { from: bound(from)?, to: bound(to)? }),
        None => parse_date(text).map(|day| DateRange { from: Some(day.clone()), to: Some(day) }),
    }
}

/// A range of times, as of dates. A bound of less than full precision includes all that it may mean:
/// `-11` ends at 11:59:59.999999, and `1030` alone is that minute.
pub fn parse_time_range(text: &str) -> Option<TimeRange> {
    let text = trim(text);
    let bound = |text: &str| if trim(text).is_empty() { Some(None) } else { time_span(text).map(Some) };
    let (from, to) = if let Some((from, to)) = text.split_once('-') {
        (bound(from)?, bound(to)?)
    } else {
        let span = time_span(text)?;
        (Some(span), Some(span))
    };
    Some(TimeRange { from: from.map(|span| span.0), to: to.map(|span| span.1) })
}

/// An IS value; a fraction of zeros is tolerated, as `1.0` and `1.000000` are found in files.
pub fn parse_integer(text: &str) -> Option<i64> {
    let text = trim(text);
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

/// Writes the number of an IS or DS value as JSON has it, and says whether it is one: a decimal, without its padding,
/// that a double holds to 17 significant digits (`1.000000` is 1, `+1` is 1; `1,5` and 9007199254740993 stay text).
pub fn write_json_number(text: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(decimal) = Decimal::parse(text) else { return false };
    if !decimal.fits_double() {
        return false;
    }
    if decimal.negative {
        out.push(b'-');
    }
    out.extend_from_slice(if decimal.whole.is_empty() { b"0" } else { decimal.whole });
    if !decimal.fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(decimal.fraction);
    }
    if decimal.exponent != 0 {
        out.push(b'e');
        out.extend_from_slice(itoa::Buffer::new().format(decimal.exponent).as_bytes());
    }
    true
}

/// A decimal number in parts, without the zeros that say nothing.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let text = trim_bytes(text);
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = leading_digits(text);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => leading_digits(rest),
            _ => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => std::str::from_utf8(rest).ok()?.parse::<i32>().ok()?,
            _ => return None,
        };
        let zeros = whole.iter().take_while(|&&digit| digit == b'0').count();
        let kept = fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        Some(Self { negative, whole: whole.get(zeros..)?, fraction: fraction.get(..kept)?, exponent })
    }

    /// Whether the double next to it, printed with 17 significant digits, is the number again.
    fn fits_double(&self) -> bool {
        // any 15 digits do
        if self.whole.len() + self.fraction.len() <= 15 && self.exponent == 0 {
            return true;
        }
        let all = || self.whole.iter().chain(self.fraction).copied();
        let leading = all().take_while(|&digit| digit == b'0').count();
        let trailing = all().rev().take_while(|&digit| digit == b'0').count();
        let significant: Vec<u8> = all().take(all().count().saturating_sub(trailing)).skip(leading).collect();
        if significant.is_empty() {
            return true;
        }
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let power = (whole(self.whole.len()) - whole(leading) - 1).saturating_add(i64::from(self.exponent));
        // below 1e-307 a double keeps less than its precision
        if significant.len() > 17 || !(-307..=307).contains(&power) {
            return false;
        }
        significant.len() <= 15 || survives(&significant, power)
    }
}

/// Whether `d.ddd × 10^power` is what its double prints as.
fn survives(significant: &[u8], power: i64) -> bool {
    let mut text = String::with_capacity(32);
    for (place, &digit) in significant.iter().enumerate() {
        text.push_str(if place == 1 { "." } else { "" });
        text.push(char::from(digit));
    }
    // writing to a string cannot fail
    let _ = write!(text, "e{power}");
    let Ok(double) = text.parse::<f64>() else { return false };
    text.clear();
    let _ = write!(text, "{double:.16e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return false };
    let printed = mantissa.trim_end_matches('0').bytes().filter(|&byte| byte != b'.');
    printed.eq(significant.iter().copied()) && exponent.parse() == Ok(power)
}

fn leading_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

impl<'a> PersonName<'a> {
    /// Splits a value at `=`; what follows a third group is not of the standard and is left out.
    pub fn parse(text: &'a str) -> Self {
        let mut groups = text.split('=').map(trim_end);
        let mut next = || groups.next().unwrap_or("");
        Self { alphabetic: next(), ideographic: next(), phonetic: next() }
    }

    /// No group holds anything.
    pub fn is_empty(&self) -> bool {
        self.alphabetic.is_empty() && self.ideographic.is_empty() && self.phonetic.is_empty()
    }
}

/// A value without its padding, as it is shown: trailing spaces and NULs go; leading spaces go where they
/// can mean nothing (AE, and the numbers, dates and UIDs, whose repertoires have no leading space).
pub fn unpad(vr: VR, text: &str) -> &str {
    match vr {
        VR::AE | VR::DS | VR::IS | VR::UI | VR::DA | VR::TM | VR::DT | VR::AS => trim(text),
        _ => trim_end(text),
    }
}

/// A value without anything that is insignificant in matching (PS3.5 6.2): leading spaces too, except of the text VRs.
pub fn matchable(vr: VR, text: &str) -> &str {
    match vr {
        VR::LT | VR::ST | VR::UT | VR::UC | VR::UR => trim_end(text),
        _ => trim(text),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\0'])
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

/// Bytes without spaces and NULs around them.
pub(crate) fn trim_bytes(text: &[u8]) -> &[u8] {
    let padding = |byte: &u8| matches!(byte, b' ' | b'\0');
    let start = text.iter().position(|byte| !padding(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or(&[])
}

/// The number that a text of nothing but digits is.
fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A name as it is compared: without case, diacritics, forms of width, padding and NULs; runs of spaces are one, none
/// stand beside `^` and `=`, and a group does not end in `^`. `*` and `?` stay what they are, so keys fold like values,
/// and folding the groups of a name one by one gives the same.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    if text.is_ascii() {
        for letter in text.bytes() {
            push_folded(&mut folded, char::from(letter.to_ascii_lowercase()));
        }
    } else {
        let plain: String = text.chars().flat_map(fold_char).collect();
        for letter in plain.nfc() {
            push_folded(&mut folded, letter);
        }
    }
    end_group(&mut folded);
    folded
}

/// Appends, with the rules of spaces and of the ends of groups.
fn push_folded(folded: &mut String, letter: char) {
    match letter {
        '=' => {
            end_group(folded);
            folded.push('=');
        }
        '^' => {
            while folded.ends_with(' ') {
                folded.pop();
            }
            folded.push('^');
        }
        letter if letter.is_whitespace() => {
            if !folded.is_empty() && !folded.ends_with([' ', '^', '=']) {
                folded.push(' ');
            }
        }
        letter if letter.is_control() => {}
        letter => folded.push(letter),
    }
}

fn end_group(folded: &mut String) {
    while folded.ends_with([' ', '^']) {
        folded.pop();
    }
}

/// One character as what it is compared by: decomposed, without marks, in lower case.
fn fold_char(letter: char) -> impl Iterator<Item = char> {
    let mut letters: Vec<char> = Vec::with_capacity(4);
    for part in std::iter::once(letter).nfkd() {
        match part {
            // a form of width must not become a wildcard
            '*' | '?' | '^' | '=' if part != letter => {
                letters.clear();
                letters.push(letter);
                break;
            }
            mark if is_diacritic(mark) => {}
            // letters with a stroke, and pairs, that do not decompose
            'ß' | 'ẞ' => letters.extend(['s', 's']),
            'æ' | 'Æ' => letters.extend(['a', 'e']),
            'œ' | 'Œ' => letters.extend(['o', 'e']),
            'þ' | 'Þ' => letters.extend(['t', 'h']),
            'ø' | 'Ø' => letters.push('o'),
            'ł' | 'Ł' => letters.push('l'),
            'đ' | 'Đ' | 'ð' | 'Ð' => letters.push('d'),
            'ħ' | 'Ħ' => letters.push('h'),
            'ŧ' | 'Ŧ' => letters.push('t'),
            'ı' | 'İ' => letters.push('i'),
            'ĸ' => letters.push('k'),
            'ŋ' | 'Ŋ' => letters.push('n'),
            'ς' => letters.push('σ'),
            // apostrophes and hyphens as typewriters have them
            '\u{2018}' | '\u{2019}' | '\u{02BC}' | '\u{02BB}' | '\u{00B4}' => letters.push('\''),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => letters.push('-'),
            other => letters.extend(other.to_lowercase().filter(|part| !is_diacritic(*part))),
        }
    }
    letters.into_iter()
}

/// Marks that may be left out in writing. Vowel signs of Thai or Devanagari and the voicing of kana are letters, not these.
fn is_diacritic(letter: char) -> bool {
    matches!(letter,
        '\u{0300}'..='\u{036F}' | '\u{0483}'..='\u{0487}' | '\u{0591}'..='\u{05BD}' | '\u{05BF}' | '\u{05C1}'..='\u{05C5}' | '\u{05C7}'
        | '\u{0610}'..='\u{061A}' | '\u{064B}'..='\u{065F}' | '\u{0670}' | '\u{06D6}'..='\u{06DC}' | '\u{06DF}'..='\u{06E4}'
        | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}

/// Whether the text matches the pattern: `*` is any run of characters, `?` any one; there is no escape (PS3.4 C.2.2.2.4).
///
/// Only the last `*` is ever tried again, so the time is at most the product of the lengths.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = pattern.clone();
        let mut rest = text.clone();
        match (ahead.next(), rest.next()) {
            (Some('*'), _) => {
                pattern = ahead;
                retry = Some((pattern.clone(), text.clone()));
                if pattern.as_str().is_empty() {
                    return true;
                }
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = ahead;
                text = rest;
            }
            (None, None) => return true,
            _ => {
                let Some((after_star, from)) = &mut retry else { return false };
                if from.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = from.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{
        DateRange, DateTime, PersonName, TimeRange, fold, matchable, parse_date, parse_date_range, parse_date_time,
        parse_integer, parse_time, parse_time_range, unpad, wildcard, write_json_number,
    };
    use dicom_core::VR;

    #[test]
    fn a_date_has_to_exist() {
        for (text, wanted) in [
            ("20240229", Some("20240229")),
            ("20230229", None),
            ("19000229", None),
            ("20000229", Some("20000229")),
            ("2024.02.29", Some("20240229")),
            (" 20240101 \0", Some("20240101")),
            ("2024-01-01", None),
            ("20241301", None),
            ("20240100", None),
            ("20240431", None),
            ("202401", None),
            ("2024010a", None),
            ("+2240101", None),
            ("２０２４0101", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_time_is_microseconds_since_midnight() {
        for (text, wanted) in [
            ("10", Some(36_000_000_000)),
            ("1030", Some(37_800_000_000)),
            ("103000.123", Some(37_800_123_000)),
            ("103000.123456 ", Some(37_800_123_456)),
            ("10:30:00", Some(37_800_000_000)),
            ("10:30:00.5", Some(37_800_500_000)),
            ("10:30", Some(37_800_000_000)),
            ("235960", Some(86_400_000_000)),
            ("24", None),
            ("1060", None),
            ("103061", None),
            ("103000.", None),
            ("103000.1234567", None),
            ("1030.5", None),
            ("103", None),
            ("10 30", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_date_time_may_lack_its_end_and_name_its_offset() {
        let of = |date: &str, time, offset_minutes| Some(DateTime { date: date.to_owned(), time, offset_minutes });
        for (text, wanted) in [
            ("2024", of("20240101", 0, None)),
            ("202403", of("20240301", 0, None)),
            ("20240315", of("20240315", 0, None)),
            ("2024031510", of("20240315", 36_000_000_000, None)),
            ("20240315103000.5-0500", of("20240315", 37_800_500_000, Some(-300))),
            ("2024+1400", of("20240101", 0, Some(840))),
            ("20240315103000+9", None),
            ("20240230", None),
            ("20240315-0560", None),
            ("2024031", None),
            ("", None),
        ] {
            assert_eq!(parse_date_time(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_range_is_open_where_it_names_no_end() {
        let of = |from: Option<&str>, to: Option<&str>| {
            Some(DateRange { from: from.map(str::to_owned), to: to.map(str::to_owned) })
        };
        for (text, wanted) in [
            ("20240101-20240131", of(Some("20240101"), Some("20240131"))),
            ("20240101 - 20240131", of(Some("20240101"), Some("20240131"))),
            ("20240101-", of(Some("20240101"), None)),
            ("-20240131", of(None, Some("20240131"))),
            ("20240101", of(Some("20240101"), Some("20240101"))),
            ("-", of(None, None)),
            ("", None),
            ("2024-01-01", None),
            ("20240101-x", None),
            ("2024*", None),
        ] {
            assert_eq!(parse_date_range(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_upper_bound_includes_all_that_its_precision_leaves_open() {
        let of = |from, to| Some(TimeRange { from, to });
        for (text, wanted) in [
            ("10-11", of(Some(36_000_000_000), Some(43_199_999_999))),
            ("1000-1100", of(Some(36_000_000_000), Some(39_659_999_999))),
            ("-103000.12", of(None, Some(37_800_129_999))),
            ("-103000.123456", of(None, Some(37_800_123_456))),
            ("1030", of(Some(37_800_000_000), Some(37_859_999_999))),
            ("10-", of(Some(36_000_000_000), None)),
            ("-", of(None, None)),
            ("25-", None),
            ("", None),
        ] {
            assert_eq!(parse_time_range(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_integer_may_have_a_fraction_of_zeros() {
        for (text, wanted) in [
            ("1", Some(1)),
            (" +12 ", Some(12)),
            ("-7\0", Some(-7)),
            ("1.0", Some(1)),
            ("1.5", None),
            ("1e3", None),
            ("", None),
            ("-", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_integer(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_decimal_becomes_a_json_number_of_the_same_value_or_stays_text() {
        for (text, wanted) in [
            ("1.000000", Some("1")),
            ("+1", Some("1")),
            (" 12", Some("12")),
            ("-0.50 ", Some("-0.5")),
            (".5", Some("0.5")),
            ("5.", Some("5")),
            ("007", Some("7")),
            ("000", Some("0")),
            ("-0", Some("-0")),
            ("1E5", Some("1e5")),
            ("1.5e-07", Some("1.5e-7")),
            ("1e+3", Some("1e3")),
            ("9007199254740992", Some("9007199254740992")),
            ("9007199254740993", None),
            ("0.10000000000000001", Some("0.10000000000000001")),
            ("0.30000000000000001", None),
            ("123456789012345678", None),
            ("0.000000000000000000012345", Some("0.000000000000000000012345")),
            ("1e308", None),
            ("1e-400", None),
            ("0e999", Some("0e999")),
            ("1,5", None),
            ("N/A", None),
            ("", None),
            (".", None),
            ("-", None),
            ("1e", None),
            ("1 2", None),
            ("NaN", None),
            ("inf", None),
            ("0x10", None),
        ] {
            let mut out = Vec::new();
            let number = write_json_number(text.as_bytes(), &mut out);
            assert_eq!(number.then(|| String::from_utf8(out).unwrap()).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_person_name_has_three_groups_without_padding() {
        let of = |alphabetic, ideographic, phonetic| PersonName { alphabetic, ideographic, phonetic };
        for (text, wanted) in [
            ("Doe^John ", of("Doe^John", "", "")),
            ("Yamada^Tarou =山田^太郎=やまだ^たろう\0", of("Yamada^Tarou", "山田^太郎", "やまだ^たろう")),
            ("=山田", of("", "山田", "")),
            ("a=b=c=d", of("a", "b", "c")),
            ("Doe^^^^", of("Doe^^^^", "", "")),
            ("", of("", "", "")),
        ] {
            assert_eq!(PersonName::parse(text), wanted, "{text}");
        }
        assert!(PersonName::parse(" = ").is_empty());
    }

    #[test]
    fn leading_spaces_of_text_are_significant_and_of_names_are_not() {
        assert_eq!(unpad(VR::LT, "  indented \0"), "  indented");
        assert_eq!(matchable(VR::LT, "  indented "), "  indented");
        assert_eq!(unpad(VR::LO, " A "), " A");
        assert_eq!(matchable(VR::LO, " A "), "A");
        assert_eq!(unpad(VR::UI, "1.2\0"), "1.2");
    }

    #[test]
    fn folding_leaves_what_a_name_is_compared_by() {
        for (text, wanted) in [
            ("MÜLLER^Jörg^^Dr. ", "muller^jorg^^dr."),
            ("Doe^John^^^", "doe^john"),
            ("  Doe   ^  John ", "doe^john"),
            ("Straße", "strasse"),
            ("Łukasz Sørensen Đorđe", "lukasz sorensen dorde"),
            ("Dıñçer İpek", "dincer ipek"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("σίσυφος", "σισυφοσ"),
            ("ФЁДОР Й", "федор и"),
            ("Ｙａｍａｄａ", "yamada"),
            ("ﾔﾏﾀﾞ", "ヤマダ"),
            ("김희중", "김희중"),
            ("O\u{2019}Brien", "o'brien"),
            ("Doe^ = 山田^ =x", "doe=山田=x"),
            ("D*e^J?hn*", "d*e^j?hn*"),
            ("a＊b", "a＊b"),
            ("a\0b", "ab"),
            ("", ""),
            ("^^^", ""),
        ] {
            assert_eq!(fold(text), wanted, "{text}");
        }
    }

    #[test]
    fn wildcards_count_characters() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
            ("?", "é", true),
            ("M?ller", "Müller", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*b*", "abc", true),
            ("a**?c", "abc", true),
            ("a.c", "abc", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(wildcard(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let text = "a".repeat(2_000);
        assert!(!wildcard(&format!("{}b", "a*".repeat(500)), &text));
    }

    fn slow_wildcard(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|skip| slow_wildcard(rest, &text[skip..])),
            [wanted, rest @ ..] => {
                text.first().is_some_and(|found| wanted == &'?' || wanted == found) && slow_wildcard(rest, &text[1..])
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_matcher_agrees_with_the_definition(pattern in "[ab*?]{0,7}", text in "[abc]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(wildcard(&pattern, &text), slow_wildcard(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn folding_twice_changes_nothing(text in any::<String>()) {
            let once = fold(&text);
            assert_eq!(fold(&once), once);
        }

        #[test]
        fn folding_goes_group_by_group(text in any::<String>(), other in any::<String>()) {
            let whole = fold(&format!("{text}={other}"));
            let parts: Vec<String> = format!("{text}={other}").split('=').map(fold).collect();
            assert_eq!(whole, parts.join("="));
        }

        #[test]
        fn nothing_panics_on_wild_text(text in any::<String>()) {
            let _ = (parse_date(&text), parse_time(&text), parse_date_time(&text), parse_date_range(&text));
            let _ = (parse_time_range(&text), parse_integer(&text), PersonName::parse(&text));
        }

        #[test]
        fn a_json_number_has_the_value_of_its_text(text in "[+-]?[0-9]{0,9}(\\.[0-9]{0,9})?([eE][+-]?[0-9]{1,3})?") {
            let mut out = Vec::new();
            if write_json_number(text.as_bytes(), &mut out) {
                let ours: f64 = serde_json::from_slice(&out).unwrap();
                assert_eq!(ours.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }

        #[test]
        fn a_time_written_is_the_time_read(micros in 0_i64..86_400_000_000) {
            let seconds = micros / 1_000_000;
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let text = format!("{hour:02}{minute:02}{second:02}.{:06}", micros % 1_000_000);
            assert_eq!(parse_time(&text), Some(micros));
        }
    }
}
