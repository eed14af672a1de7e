//! The query string of a search → [`SearchQuery`], or 400 naming the parameter.
//!
//! What a client may send ([PS3.18 8.3.4](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_8.3.4.html)):
//! attributes by keyword, tag or path, `includefield`, `limit`, `offset`, `fuzzymatching`. Names that are not supported
//! are ignored with a warning, values that are not of the VR are refused. Errors and warnings name parameters, never values.

use std::collections::BTreeSet;

use dicom_core::{Tag, VR};

use crate::dicom::attributes;
use crate::dicom::query::{
    Condition, Include, NameGroups, Page, SearchKey, SearchQuery, Test, is_universal, name_groups,
};
use crate::dicom::uid::{Level, SeriesUid, StudyUid};
use crate::dicom::values::{fold, matchable, parse_date_range, parse_integer, parse_time_range};
use crate::dicomweb::path::form_decode;
use crate::error::{Error, Result};

/// Longest query string: a thousand UIDs fit.
const MAX_QUERY: usize = 256 * 1024;
/// Most parameters in one.
const MAX_PARAMETERS: usize = 200;
/// Longest value of a text attribute, in bytes; as much of a stored value is compared.
const MAX_TEXT: usize = crate::dicom::entry::MAX_COMPARED;
/// Most entries in one list of values.
const MAX_LIST: usize = 10_000;
/// Most names in `includefield`.
const MAX_INCLUDED: usize = 1_000;
/// Most names that a warning lists.
const MAX_WARNED: usize = 8;

/// The text of [PS3.18 8.3.4.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_8.3.4.2.html).
const NO_FUZZY_MATCHING: &str =
    "The fuzzymatching parameter is not supported. Only literal matching has been performed.";

/// A search and what the client should be told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedQuery {
    /// The search.
    pub query: SearchQuery,
    /// Texts for `Warning: 299`, in ASCII.
    pub warnings: Vec<String>,
}

/// Parses the query string (without `?`) of a search at this level, below what the path names.
///
/// # Errors
/// 400 for a value that is not of its VR, a repeated parameter, bad percent-encoding, or more than the stated bounds.
pub fn parse(level: Level, study: Option<StudyUid>, series: Option<SeriesUid>, text: &str) -> Result<ParsedQuery> {
    if text.len() > MAX_QUERY {
        return Err(Error::bad_request(format!("the query string is longer than {MAX_QUERY} bytes")));
    }
    let mut parser = Parser::new(SearchQuery { study, series, ..SearchQuery::all(level) });
    let mut count = 0_usize;
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        count += 1;
        if count > MAX_PARAMETERS {
            return Err(Error::bad_request(format!("the query string has more than {MAX_PARAMETERS} parameters")));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name =
            form_decode(name).ok_or_else(|| Error::bad_request("a parameter name is not percent-encoded UTF-8"))?;
        let value =
            form_decode(value).ok_or_else(|| refused(&name, "must be percent-encoded UTF-8 without NUL characters"))?;
        parser.parameter(&name, &value)?;
    }
    Ok(parser.finish())
}

fn refused(name: &str, wanted: &str) -> Error {
    Error::bad_request(format!("parameter `{}` {wanted}", printable(name)))
}

/// A name as it may be shown: cut, and without anything that is in no name.
fn printable(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '?' };
    name.chars().take(64).map(letter).collect()
}

struct Parser {
    query: SearchQuery,
    /// Names of parameters and tags of attributes that were seen.
    names: BTreeSet<&'static str>,
    attributes: BTreeSet<Tag>,
    include: BTreeSet<Tag>,
    include_all: bool,
    included: usize,
    /// Study Date and Study Time as ranges: (from, to) each.
    date_range: Option<(Option<String>, Option<String>)>,
    time_range: Option<(Option<i64>, Option<i64>)>,
    ignored: Vec<String>,
    unknown_fields: Vec<String>,
    warnings: Vec<String>,
}

impl Parser {
    fn new(query: SearchQuery) -> Self {
        Self {
            query,
            names: BTreeSet::new(),
            attributes: BTreeSet::new(),
            include: BTreeSet::new(),
            include_all: false,
            included: 0,
            date_range: None,
            time_range: None,
            ignored: Vec::new(),
            unknown_fields: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "includefield" => self.include(value),
            "limit" => {
                self.once("limit")?;
                let limit = whole_number(name, value)?;
                if limit == 0 {
                    return Err(refused(name, "must be a whole number from 1"));
                }
                self.query.page = Page { limit: Some(limit), ..self.query.page };
                Ok(())
            }
            "offset" => {
                self.once("offset")?;
                self.query.page = Page { offset: whole_number(name, value)?, ..self.query.page };
                Ok(())
            }
            "fuzzymatching" => {
                self.once("fuzzymatching")?;
                self.option(name, value, NO_FUZZY_MATCHING)
            }
            "emptyvaluematching" => {
                self.once("emptyvaluematching")?;
                self.option(name, value, "The emptyvaluematching parameter is not supported and has been ignored.")
            }
            "multiplevaluematching" => {
                self.once("multiplevaluematching")?;
                self.option(name, value, "The multiplevaluematching parameter is not supported and has been ignored.")
            }
            // these choose the representation (PS3.18 8.3.3)
            "accept" => self.once("accept"),
            "charset" => self.once("charset"),
            attribute => self.attribute(attribute, value),
        }
    }

    fn once(&mut self, name: &'static str) -> Result<()> {
        if self.names.insert(name) { Ok(()) } else { Err(refused(name, "may be given only once")) }
    }

    fn option(&mut self, name: &str, value: &str, warning: &str) -> Result<()> {
        match value {
            "true" => self.warnings.push(warning.to_owned()),
            "false" => {}
            _ => return Err(refused(name, "must be `true` or `false`")),
        }
        Ok(())
    }

    fn include(&mut self, value: &str) -> Result<()> {
        for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            self.included += 1;
            if self.included > MAX_INCLUDED {
                return Err(refused("includefield", &format!("may name at most {MAX_INCLUDED} attributes")));
            }
            // of a path the whole sequence is returned, which holds the attribute
            let root = field.split('.').next().unwrap_or(field);
            match attributes::find(root) {
                _ if field == "all" => self.include_all = true,
                Some(known) => self.include_tag(known.tag),
                None => self.unknown_fields.push(printable(field)),
            }
        }
        Ok(())
    }

    /// Attributes of a lower level are not returned, and nobody is told (PS3.18 10.6.3.3.1).
    fn include_tag(&mut self, tag: Tag) {
        if attributes::level_of(tag) <= self.query.level && tag.group() > 0x0002 {
            self.include.insert(tag);
        }
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<()> {
        let Some(known) = attributes::find(name) else {
            self.ignored.push(printable(name));
            return Ok(());
        };
        if !self.attributes.insert(known.tag) {
            return Err(refused(name, "is given more than once"));
        }
        self.include_tag(known.tag);
        match SearchKey::of(known.tag) {
            Some(key) if key.level() <= self.query.level => self.condition(key, name, value),
            // universal matching only asks for the attribute
            None if is_universal(value.trim()) => Ok(()),
            Some(_) | None => {
                self.ignored.push(printable(name));
                Ok(())
            }
        }
    }

    fn condition(&mut self, key: SearchKey, name: &str, value: &str) -> Result<()> {
        let value = matchable(key.vr(), value);
        if is_universal(value) {
            return Ok(());
        }
        let test = match key.vr() {
            VR::UI => uids(name, value)?,
            VR::DA => self.dates(key, name, value)?,
            VR::TM => self.times(key, name, value)?,
            VR::IS => Some(Test::Integer(parse_integer(value).ok_or_else(|| refused(name, "must be a whole number"))?)),
            VR::PN => person_name(name, value)?,
            _ if key == SearchKey::ModalitiesInStudy => modalities(name, value)?,
            _ => Some(text(name, value)?),
        };
        self.query.conditions.extend(test.map(|test| Condition { key, test }));
        Ok(())
    }

    fn dates(&mut self, key: SearchKey, name: &str, value: &str) -> Result<Option<Test>> {
        let range = parse_date_range(value).ok_or_else(|| {
            refused(name, "must be a date `YYYYMMDD` or a range of dates `from-to`, `from-` or `-to`")
        })?;
        if range.from.is_none() && range.to.is_none() {
            return Ok(None);
        }
        if key == SearchKey::StudyDate && value.contains('-') {
            self.date_range = Some((range.from.clone(), range.to.clone()));
        }
        Ok(Some(Test::Dates(range.from, range.to)))
    }

    fn times(&mut self, key: SearchKey, name: &str, value: &str) -> Result<Option<Test>> {
        let range = parse_time_range(value).ok_or_else(|| {
            refused(name, "must be a time `HHMMSS.FFFFFF` or a range of times `from-to`, `from-` or `-to`")
        })?;
        if range.from.is_none() && range.to.is_none() {
            return Ok(None);
        }
        if key == SearchKey::StudyTime && value.contains('-') {
            self.time_range = Some((range.from, range.to));
        }
        Ok(Some(Test::Times(range.from, range.to)))
    }

    fn finish(mut self) -> ParsedQuery {
        self.combine_date_and_time();
        self.query.include =
            if self.include_all { Include::All } else { Include::Tags(self.include.into_iter().collect()) };
        if !self.ignored.is_empty() {
            let warning =
                format!("These parameters are not supported here and have been ignored: {}", list(&self.ignored));
            self.warnings.push(warning);
        }
        if !self.unknown_fields.is_empty() {
            let warning = format!("These values of includefield are not known: {}", list(&self.unknown_fields));
            self.warnings.push(warning);
        }
        ParsedQuery { query: self.query, warnings: self.warnings }
    }

    /// A range of dates and one of times together are one interval, from the first date at the first time to the last
    /// date at the last time ([PS3.4 C.2.2.2.5.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_C.2.2.2.5.html)).
    fn combine_date_and_time(&mut self) {
        let (Some(dates), Some(times)) = (self.date_range.take(), self.time_range.take()) else { return };
        let from = dates.0.map(|date| (date, times.0.unwrap_or(0)));
        let to = dates.1.map(|date| (date, times.1.unwrap_or(i64::MAX)));
        self.query.conditions.retain(|condition| !matches!(condition.key, SearchKey::StudyDate | SearchKey::StudyTime));
        self.query.conditions.push(Condition { key: SearchKey::StudyDateTime, test: Test::Moments(from, to) });
    }
}

fn list(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_WARNED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_WARNED {
        text.push_str(", and others");
    }
    text
}

fn whole_number(name: &str, value: &str) -> Result<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // more than an i64 counts is more than there can be
    let number = value.parse::<u64>().unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs());
    if digits { Ok(number) } else { Err(refused(name, "must be a whole number")) }
}

/// A list of UIDs; viewers join them with backslashes too.
fn uids(name: &str, value: &str) -> Result<Option<Test>> {
    let mut uids: Vec<String> = Vec::new();
    for uid in entries(name, value)? {
        if StudyUid::parse(uid).is_err() {
            return Err(refused(name, "must be a UID or a list of UIDs separated by commas"));
        }
        uids.push(uid.to_owned());
    }
    Ok(any_of(uids))
}

/// A list of modalities, or one pattern; what separates them is not in a Code String.
fn modalities(name: &str, value: &str) -> Result<Option<Test>> {
    let modalities = entries(name, value)?;
    match modalities.as_slice() {
        [pattern] if is_universal(pattern) => Ok(None),
        [pattern] => text(name, pattern).map(Some),
        several if several.iter().any(|modality| modality.contains(['*', '?'])) => {
            Err(refused(name, "takes wildcards in a single value only, not in a list"))
        }
        several => Ok(any_of(several.iter().map(|&modality| modality.to_owned()).collect())),
    }
}

fn entries<'a>(name: &str, value: &'a str) -> Result<Vec<&'a str>> {
    let entries: Vec<&str> =
        value.split([',', '\\']).map(str::trim).filter(|entry| !entry.is_empty()).take(MAX_LIST + 1).collect();
    if entries.len() > MAX_LIST {
        return Err(refused(name, &format!("may list at most {MAX_LIST} values")));
    }
    Ok(entries)
}

fn any_of(mut values: Vec<String>) -> Option<Test> {
    values.sort_unstable();
    values.dedup();
    (!values.is_empty()).then_some(Test::AnyOf(values))
}

fn person_name(name: &str, value: &str) -> Result<Option<Test>> {
    bounded(name, value)?;
    let key = fold(&squeeze(value));
    let universal = match name_groups(&key) {
        NameGroups::Any(pattern) => is_universal(pattern),
        NameGroups::Each(patterns) => patterns.iter().all(Option::is_none),
    };
    Ok((!universal).then_some(Test::Name(key)))
}

fn text(name: &str, value: &str) -> Result<Test> {
    bounded(name, value)?;
    Ok(if value.contains(['*', '?']) { Test::Wildcard(squeeze(value)) } else { Test::Text(value.to_owned()) })
}

fn bounded(name: &str, value: &str) -> Result<()> {
    if value.len() <= MAX_TEXT { Ok(()) } else { Err(refused(name, &format!("is longer than {MAX_TEXT} bytes"))) }
}

/// Runs of `*` say no more than one.
fn squeeze(pattern: &str) -> String {
    let mut squeezed = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        if letter != '*' || !squeezed.ends_with('*') {
            squeezed.push(letter);
        }
    }
    squeezed
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;

    fn studies(text: &str) -> Result<ParsedQuery> {
        parse(Level::Study, None, None, text)
    }

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    fn one_of(values: &[&str]) -> Test {
        Test::AnyOf(texts(values))
    }

    fn dates(from: &str, to: &str) -> Test {
        let bound = |date: &str| (!date.is_empty()).then(|| date.to_owned());
        Test::Dates(bound(from), bound(to))
    }

    const MINUTE: i64 = 60_000_000;

    #[test]
    fn a_value_becomes_the_test_of_its_vr() {
        let text = |value: &str| Test::Text(value.to_owned());
        let pattern = |value: &str| Test::Wildcard(value.to_owned());
        let name = |value: &str| Test::Name(value.to_owned());
        for (query, key, test) in [
            ("PatientID=A1", SearchKey::PatientId, text("A1")),
            ("00100020=A1", SearchKey::PatientId, text("A1")),
            ("0008103e=x", SearchKey::SeriesDescription, text("x")),
            ("PatientID=%20A1+", SearchKey::PatientId, text("A1")),
            ("PatientID=a%2525", SearchKey::PatientId, text("a%25")),
            ("PatientID=a%26b%3Dc", SearchKey::PatientId, text("a&b=c")),
            ("PatientID=a=b", SearchKey::PatientId, text("a=b")),
            ("StudyDescription=A%2CB", SearchKey::StudyDescription, text("A,B")),
            ("StudyDescription=A,B", SearchKey::StudyDescription, text("A,B")),
            ("StudyDescription=%25_%5B%5C%27", SearchKey::StudyDescription, text("%_[\\'")),
            ("AccessionNumber=A-1", SearchKey::AccessionNumber, text("A-1")),
            ("AccessionNumber=A-*", SearchKey::AccessionNumber, pattern("A-*")),
            ("StudyID=**a***?*", SearchKey::StudyId, pattern("*a*?*")),
            ("PatientName=M%C3%9CLLER^J%3F*", SearchKey::PatientName, name("muller^j?*")),
            ("PatientName=Smith+John", SearchKey::PatientName, name("smith john")),
            ("PatientName=Doe^John^^^", SearchKey::PatientName, name("doe^john")),
            ("PatientName=%3D%E5%B1%B1*", SearchKey::PatientName, name("=山*")),
            ("ReferringPhysicianName=A", SearchKey::ReferringPhysicianName, name("a")),
            ("StudyDate=20200101", SearchKey::StudyDate, dates("20200101", "20200101")),
            ("StudyDate=20200101-", SearchKey::StudyDate, dates("20200101", "")),
            ("StudyDate=-20201231", SearchKey::StudyDate, dates("", "20201231")),
            ("PatientBirthDate=19700101-19801231", SearchKey::PatientBirthDate, dates("19700101", "19801231")),
            ("StudyTime=1030", SearchKey::StudyTime, Test::Times(Some(630 * MINUTE), Some(631 * MINUTE - 1))),
            ("StudyTime=1000-", SearchKey::StudyTime, Test::Times(Some(600 * MINUTE), None)),
            ("ModalitiesInStudy=CT", SearchKey::ModalitiesInStudy, text("CT")),
            ("ModalitiesInStudy=CT%2CMR", SearchKey::ModalitiesInStudy, one_of(&["CT", "MR"])),
            ("ModalitiesInStudy=MR%5CCT,CT", SearchKey::ModalitiesInStudy, one_of(&["CT", "MR"])),
            ("ModalitiesInStudy=C*", SearchKey::ModalitiesInStudy, pattern("C*")),
            ("StudyInstanceUID=1.2", SearchKey::StudyInstanceUid, one_of(&["1.2"])),
            ("StudyInstanceUID=1.3,,1.2%5C1.3,", SearchKey::StudyInstanceUid, one_of(&["1.2", "1.3"])),
            ("SeriesNumber=%2B05", SearchKey::SeriesNumber, Test::Integer(5)),
            ("InstanceNumber=-1", SearchKey::InstanceNumber, Test::Integer(-1)),
            ("SOPClassUID=1.2.840", SearchKey::SopClassUid, one_of(&["1.2.840"])),
        ] {
            let parsed = parse(Level::Instance, None, None, query).expect(query);
            assert_eq!(parsed.query.conditions, [Condition { key, test }], "{query}");
            assert_eq!(parsed.query.include, Include::Tags(vec![key.tag()]), "{query}");
            assert!(parsed.warnings.is_empty(), "{query}");
        }
    }

    #[test]
    fn universal_keys_ask_for_the_attribute_alone() {
        for query in [
            "PatientID=",
            "PatientID",
            "PatientID=*",
            "PatientID=+**+",
            "PatientName=*",
            "PatientName=*%3D*",
            "PatientName=%5E%5E",
            "StudyDate=",
            "StudyDate=-",
            "StudyDate=*",
            "StudyTime=-",
            "StudyInstanceUID=,",
            "StudyInstanceUID=*",
            "ModalitiesInStudy=,",
            "ModalitiesInStudy=*",
            "PatientComments=",
        ] {
            let parsed = studies(query).expect(query);
            assert!(parsed.query.conditions.is_empty(), "{query}");
            assert!(parsed.warnings.is_empty(), "{query}");
            let Include::Tags(tags) = parsed.query.include else { panic!("{query}") };
            assert_eq!(tags.len(), 1, "{query}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_the_name_of_their_parameter() {
        let long = format!("PatientID={}", "x".repeat(MAX_TEXT + 1));
        let many = format!("StudyInstanceUID={}", "1,".repeat(MAX_LIST + 1));
        let included = format!("includefield={}", "PatientID,".repeat(MAX_INCLUDED + 1));
        for (query, name) in [
            ("StudyDate=2020", "StudyDate"),
            ("StudyDate=20200101-20200102-20200103", "StudyDate"),
            ("StudyDate=2020-01-01", "StudyDate"),
            ("StudyDate=202001*", "StudyDate"),
            ("00080020=tomorrow", "00080020"),
            ("StudyTime=25", "StudyTime"),
            ("StudyInstanceUID=1.2.x", "StudyInstanceUID"),
            ("StudyInstanceUID=1.2,*", "StudyInstanceUID"),
            ("StudyInstanceUID=1..2", "StudyInstanceUID"),
            ("PatientID=1&PatientID=2", "PatientID"),
            ("PatientID=1&00100020=1", "00100020"),
            ("PatientID=%zz", "PatientID"),
            ("PatientID=%4", "PatientID"),
            ("PatientID=%ff", "PatientID"),
            ("PatientID=a%00b", "PatientID"),
            ("ModalitiesInStudy=CT,M*", "ModalitiesInStudy"),
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=", "limit"),
            ("limit=ten", "limit"),
            ("limit=1.5", "limit"),
            ("limit=1&limit=1", "limit"),
            ("limit=1&offset=2&offset=2", "offset"),
            ("fuzzymatching=true&fuzzymatching=true", "fuzzymatching"),
            ("accept=application/json&accept=application/json", "accept"),
            ("charset=utf-8&charset=utf-8", "charset"),
            ("offset=-1", "offset"),
            ("offset=%2B1", "offset"),
            ("fuzzymatching=maybe", "fuzzymatching"),
            ("fuzzymatching=", "fuzzymatching"),
            ("emptyvaluematching=1", "emptyvaluematching"),
            (&long, "PatientID"),
            (&many, "StudyInstanceUID"),
            (&included, "includefield"),
        ] {
            let error = studies(query).expect_err(query);
            assert!(error.message().contains(&format!("`{name}`")), "{query}: {error}");
            assert_eq!(error.kind(), crate::error::ErrorKind::BadRequest, "{query}");
        }
        let error = parse(Level::Series, None, None, "SeriesNumber=one").expect_err("a word");
        assert_eq!(error.message(), "parameter `SeriesNumber` must be a whole number");
    }

    #[test]
    fn what_is_not_supported_is_ignored_and_named_without_its_value() {
        for (query, names) in [
            ("patientname=secret", "patientname"),
            ("Modality=secret", "Modality"),
            ("PatientComments=secret", "PatientComments"),
            (
                "RequestAttributesSequence.ScheduledProcedureStepID=secret",
                "RequestAttributesSequence.ScheduledProcedureStepID",
            ),
            ("00400275.00400009=secret", "00400275.00400009"),
            ("00231001=secret&00230010=secret", "00231001, 00230010"),
            ("TimezoneOffsetFromUTC=secret", "TimezoneOffsetFromUTC"),
            ("a%0d%0aX:%22=secret", "a??X??"),
        ] {
            let parsed = studies(query).expect(query);
            assert!(parsed.query.conditions.is_empty(), "{query}");
            let wanted = format!("These parameters are not supported here and have been ignored: {names}");
            assert_eq!(parsed.warnings, [wanted], "{query}");
        }
    }

    #[test]
    fn fuzzy_matching_is_literal_with_the_warning_of_the_standard() {
        let parsed = studies("PatientName=x&fuzzymatching=true").unwrap();
        assert_eq!(
            parsed.warnings,
            ["The fuzzymatching parameter is not supported. Only literal matching has been performed."]
        );
        assert_eq!(parsed.query.conditions.len(), 1);
        assert!(studies("fuzzymatching=false&accept=application/json&charset=utf-8&&").unwrap().warnings.is_empty());
        assert_eq!(studies("emptyvaluematching=true&multiplevaluematching=true").unwrap().warnings.len(), 2);
    }

    #[test]
    fn a_range_of_dates_with_a_range_of_times_is_one_interval() {
        let of = |query: &str| studies(query).expect(query).query.conditions;
        let moments = |from: Option<(&str, i64)>, to: Option<(&str, i64)>| {
            let own = |(date, time): (&str, i64)| (date.to_owned(), time);
            vec![Condition { key: SearchKey::StudyDateTime, test: Test::Moments(from.map(own), to.map(own)) }]
        };
        assert_eq!(
            of("StudyTime=1000-1100&StudyDate=20200101-20200102"),
            moments(Some(("20200101", 600 * MINUTE)), Some(("20200102", 661 * MINUTE - 1)))
        );
        assert_eq!(
            of("StudyDate=20200101-20200102&StudyTime=1000-"),
            moments(Some(("20200101", 600 * MINUTE)), Some(("20200102", i64::MAX)))
        );
        assert_eq!(of("StudyDate=20200101-&StudyTime=-1000"), moments(Some(("20200101", 0)), None));
        assert_eq!(of("StudyDate=20200101-20200102&StudyTime=1000").len(), 2);
        assert_eq!(of("StudyDate=20200101&StudyTime=1000-1100").len(), 2);
        assert_eq!(of("StudyDate=-&StudyTime=1000-1100").len(), 1);
    }

    #[test]
    fn fields_of_the_level_and_above_are_included() {
        let include = |level, query: &str| parse(level, None, None, query).expect(query).query.include;
        assert_eq!(
            include(Level::Study, "includefield=00081030%2C00080060,PatientID&includefield=00100030,"),
            Include::Tags(vec![tags::STUDY_DESCRIPTION, tags::PATIENT_ID, tags::PATIENT_BIRTH_DATE])
        );
        assert_eq!(
            include(Level::Series, "includefield=SeriesDescription,PatientID,Rows"),
            Include::Tags(vec![tags::SERIES_DESCRIPTION, tags::PATIENT_ID])
        );
        assert_eq!(
            include(Level::Instance, "includefield=00400275.00400009,00091001"),
            Include::Tags(vec![Tag(0x0009, 0x1001), tags::REQUEST_ATTRIBUTES_SEQUENCE])
        );
        assert_eq!(include(Level::Study, "includefield=PatientID,all"), Include::All);
        let parsed = studies("includefield=patientid").unwrap();
        assert_eq!(parsed.warnings, ["These values of includefield are not known: patientid"]);
    }

    #[test]
    fn the_requests_of_ohif_are_understood() {
        let fields = "includefield=00081030%2C00080060%2C00080090%2C00100030";
        for (query, conditions) in [
            (format!("limit=101&offset=0&fuzzymatching=true&{fields}"), 0),
            (
                format!(
                    "PatientName=*x*&00100020=*x*&AccessionNumber=*x*&StudyDescription=*x*&ModalitiesInStudy=CT%2CMR&limit=101&offset=0&fuzzymatching=true&{fields}&StudyDate=19700102-20260101"
                ),
                6,
            ),
            (format!("limit=101&offset=0&fuzzymatching=true&{fields}&StudyInstanceUID=1.2%5C1.3"), 1),
            (format!("00100020=PID&limit=101&offset=0&fuzzymatching=true&{fields}"), 1),
        ] {
            let parsed = studies(&query).expect(&query);
            assert_eq!(parsed.query.conditions.len(), conditions, "{query}");
            assert_eq!(parsed.query.page, Page { limit: Some(101), offset: 0 });
            assert_eq!(parsed.warnings, [NO_FUZZY_MATCHING]);
        }
    }

    #[test]
    fn thousands_of_uids_are_one_condition() {
        let uids: Vec<String> = (1..5_000).map(|number| format!("1.2.{number}")).collect();
        let parsed = studies(&format!("StudyInstanceUID={}", uids.join("%2C"))).unwrap();
        let [Condition { test: Test::AnyOf(values), .. }] = parsed.query.conditions.as_slice() else { panic!() };
        assert_eq!(values.len(), uids.len());
        assert!(studies(&"x".repeat(MAX_QUERY + 1)).is_err());
        assert!(studies(&"x&".repeat(MAX_PARAMETERS + 1)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wild_query_strings_never_panic_and_every_test_fits_its_key(text in any::<String>(), pairs in "([A-Za-z0-9]{1,4}|PatientName|StudyDate|StudyTime|limit|StudyInstanceUID|=|&|%|\\*|\\?|-|\\^|,|\\\\){0,30}") {
            for query in [text, pairs] {
                let Ok(parsed) = parse(Level::Instance, None, None, &query) else { continue };
                for condition in &parsed.query.conditions {
                    assert!(condition.test.fits(condition.key.vr()), "{condition:?}");
                }
                assert!(parsed.warnings.iter().all(|warning| warning.bytes().all(|byte| (0x20..0x7f).contains(&byte))));
            }
        }
    }
}
