//! Changing attributes of an instance as it streams in, by rules, with what they were before in the Original Attributes Sequence
//! (0400,0561) ([PS3.3 C.12.1.1.9](https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.12.html)).
//!
//! The stream is held until all attributes have come that rules may name, which is before pixel data. If no rule changes
//! anything, it passes byte for byte; otherwise it goes on as a file in Explicit VR Little Endian.

mod rule;

pub use rule::{Action, Rule};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::{Tag, VR};

use crate::dicom::attributes;
use crate::dicom::events::{ElementHeader, Limits, ParseError, Sink};
use crate::dicom::held::Held;
use crate::dicom::permitted;
use crate::dicom::recast::{ORIGINAL_ATTRIBUTES, Recast, Replacement, original_attributes_item};
use crate::dicom::stream::{Front, Stream};
use crate::dicom::text::CharacterSet;
use crate::dicom::transfer_syntax::{self, Encoding};
use crate::dicom::uid::{InstanceUid, SopClassUid};

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);

/// Largest value of an attribute that a rule names.
const MOST_VALUE: usize = 64 << 10;
/// Most bytes that are held until the attributes have come.
const MOST_HELD: usize = 64 << 20;
/// Bytes that the parser takes at a time.
const SLICE: usize = 8 << 10;
/// Bytes that are rewritten at a time where deflate makes up to a thousand times as many of them.
const DEFLATED_SLICE: usize = 1 << 10;

/// Why a stream cannot be coerced. Its texts fit an LO, if the name of the attribute is not a long one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoercionError {
    /// A value of a rule cannot be written.
    #[error("a coerced value cannot be written in the character set")]
    CharacterSet,
    /// A rule made of a value what the attribute cannot hold, as by a prefix that makes it too long.
    #[error("a rule makes a value that {0} cannot hold")]
    NotPermitted(String),
    /// Attributes that rules name come too late.
    #[error("attributes out of order cannot be coerced")]
    OutOfOrder,
    /// Attributes that rules name are too large, or too much comes before the last of them.
    #[error("attributes too large to be coerced")]
    TooLarge,
    /// The stream cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// Changes one stream.
#[derive(Debug)]
pub struct Coercer {
    rules: Arc<[Rule]>,
    /// The time of the change as DT, and who makes it.
    at: String,
    stream: Stream,
    scan: Scan,
    state: State,
    /// What came and has not gone on.
    held: Held,
    /// The stream is over.
    over: bool,
    changed: Vec<String>,
}

#[derive(Debug)]
enum State {
    /// Until the attributes are known.
    Holding,
    /// Nothing is changed.
    Passing,
    /// The rest goes through this.
    Recasting(Box<Recast>),
}

impl Coercer {
    /// Begins a stream. `at` is the time as DT.
    #[must_use]
    pub fn new(rules: Arc<[Rule]>, limits: Limits, at: String) -> Self {
        let wanted =
            rules.iter().flat_map(|rule| std::iter::once(rule.tag).chain(rule.when.iter().map(|(tag, _)| *tag)));
        let scan = Scan { wanted: wanted.chain([CHARACTER_SET, SOP_CLASS, SOP_INSTANCE]).collect(), ..Scan::default() };
        let stream = Stream::new(limits);
        let (state, held) = (State::Holding, Held::default());
        Self { rules, at, stream, scan, state, held, over: false, changed: Vec::new() }
    }

    /// Bytes of memory that are held.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// What stands before the data set, once it has come.
    pub fn front(&self) -> Option<&Front> {
        self.stream.front()
    }

    /// Whether a little of the stream may be much of its data set: it is deflated, or that is not known yet.
    pub fn may_inflate(&self) -> bool {
        let Some(front) = self.stream.front() else { return true };
        front.meta.transfer_syntax.as_ref().is_some_and(|syntax| Encoding::of(syntax).deflated)
    }

    /// The attributes that were changed, as the rules name them.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// The next bytes; what goes on of them is to be pulled.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), CoercionError> {
        if !self.scan.failed {
            for slice in chunk.chunks(SLICE) {
                match self.stream.push(slice, &mut self.scan) {
                    // whoever reads it next says so
                    Err(_) if self.scan.refused.is_none() => {
                        self.scan.failed = true;
                        break;
                    }
                    Err(_) | Ok(()) => {}
                }
                if let Some(refused) = self.scan.refused.clone() {
                    return Err(refused);
                }
            }
        }
        self.held.push(chunk);
        if matches!(self.state, State::Holding) {
            if self.scan.complete || self.scan.failed {
                self.decide()?;
            } else if self.held.len() > MOST_HELD {
                return Err(CoercionError::TooLarge);
            }
        }
        self.check_original()
    }

    /// The next piece that goes on, which may be empty; none until more is pushed, or the stream is over. A piece is made of so
    /// little of the stream that it fits into memory whatever is in it.
    pub fn pull(&mut self) -> Result<Option<Bytes>, CoercionError> {
        let most = if self.may_inflate() { DEFLATED_SLICE } else { usize::MAX };
        match &mut self.state {
            State::Holding => return Ok(None),
            State::Passing => return Ok(self.held.take(usize::MAX)),
            State::Recasting(recast) => {
                if let Some(slice) = self.held.take(most) {
                    return Ok(Some(recast.push(&slice)?));
                }
            }
        }
        if self.over
            && let State::Recasting(recast) = std::mem::replace(&mut self.state, State::Passing)
        {
            return Ok(Some(recast.finish()?));
        }
        Ok(None)
    }

    /// The stream is over; what is left is to be pulled.
    pub fn finish(&mut self) -> Result<(), CoercionError> {
        self.over = true;
        if matches!(self.state, State::Holding) {
            // a short stream may be known only now
            if self.stream.finish(&mut self.scan).is_err() {
                self.scan.failed = true;
            }
            if let Some(refused) = self.scan.refused.clone() {
                return Err(refused);
            }
            self.decide()?;
        }
        self.check_original()
    }

    /// All that rules may ask for is known.
    fn decide(&mut self) -> Result<(), CoercionError> {
        let recast = if self.scan.failed { None } else { self.recast()? };
        self.state = recast.map_or(State::Passing, |recast| State::Recasting(Box::new(recast)));
        Ok(())
    }

    /// A file with one Original Attributes Sequence after the other would get an item in each: kilobytes for a few bytes.
    fn check_original(&self) -> Result<(), CoercionError> {
        match self.state {
            State::Recasting(_) if self.scan.originals > 1 => Err(CoercionError::OutOfOrder),
            _ => Ok(()),
        }
    }

    /// What the rest goes through, if a rule changes anything.
    fn recast(&mut self) -> Result<Option<Recast>, CoercionError> {
        let charset = CharacterSet::parse(self.scan.raw(CHARACTER_SET));
        let mut values = Values { scan: &self.scan, charset, changed: BTreeMap::new() };
        for rule in self.rules.iter() {
            values.apply(rule);
        }
        let Values { changed, charset, .. } = values;
        if changed.is_empty() {
            return Ok(None);
        }
        let mut replacements = BTreeMap::new();
        let mut before = Vec::new();
        for (tag, (rule, text)) in &changed {
            if text.as_ref().is_some_and(|text| permitted::check(rule.vr, text).is_err()) {
                return Err(CoercionError::NotPermitted(rule.name.clone()));
            }
            let bytes = text.as_ref().map(|text| encode(text, rule.vr, charset)).transpose()?;
            // letters that the file has no character set for would be guessed at; what it had already is its own guess
            let foreign = bytes.as_ref().is_some_and(|bytes| !bytes.is_ascii()) && self.scan.raw(*tag).is_ascii();
            if foreign && charset == CharacterSet::default() {
                return Err(CoercionError::CharacterSet);
            }
            replacements.insert(*tag, bytes.map(|bytes| Replacement { vr: rule.vr, bytes }));
            before.push((*tag, rule.vr, self.scan.raw(*tag).to_vec()));
        }
        self.changed = changed.values().map(|(rule, _)| rule.name.clone()).collect();
        let uid = |tag: Tag| {
            let new = replacements.get(&tag).and_then(Option::as_ref).map(|replacement| &replacement.bytes);
            let raw = new.map_or_else(|| self.scan.raw(tag), Vec::as_slice);
            std::str::from_utf8(raw).unwrap_or_default().trim_matches([' ', '\0']).to_owned()
        };
        let (class, instance) = (SopClassUid::parse(&uid(SOP_CLASS)), InstanceUid::parse(&uid(SOP_INSTANCE)));
        let (Ok(class), Ok(instance)) = (class, instance) else {
            // whoever reads it next says what is missing
            self.changed.clear();
            return Ok(None);
        };
        let named = self.stream.front().and_then(|front| front.meta.transfer_syntax.clone());
        let stored = named.unwrap_or_else(|| transfer_syntax::of(self.stream.encoding()));
        let original = original_attributes_item(&before, &self.at);
        Ok(Some(Recast::new(&class, &instance, &stored, replacements, original)))
    }
}

/// What the rules make of the values.
struct Values<'a> {
    scan: &'a Scan,
    /// In which texts are read and written: what the file declares, or a rule in its place.
    charset: CharacterSet,
    /// By tag: the last rule that changed it, and the text; none if it is left out.
    changed: BTreeMap<Tag, (&'a Rule, Option<String>)>,
}

impl<'a> Values<'a> {
    /// The text of an attribute as it stands, without padding; none if there is no such attribute.
    fn text(&self, tag: Tag, vr: VR) -> Option<String> {
        if let Some((_, text)) = self.changed.get(&tag) {
            return text.clone();
        }
        let raw = self.scan.values.get(&tag)?;
        Some(self.charset.decode(vr, raw).trim_matches([' ', '\0']).to_owned())
    }

    fn apply(&mut self, rule: &'a Rule) {
        let holds = |(tag, wanted): &(Tag, String)| {
            let text = self.text(*tag, attributes::vr_of(*tag)).unwrap_or_default();
            text == *wanted
        };
        if !rule.when.iter().all(holds) {
            return;
        }
        let now = self.text(rule.tag, rule.vr);
        let text = now.as_deref().unwrap_or_default();
        let new = match &rule.action {
            Action::Set(value) => Some(value.clone()),
            Action::Default(value) if text.is_empty() => Some(value.clone()),
            Action::Map(values) => match values.get(text) {
                Some(value) if now.is_some() => Some(value.clone()),
                _ => return,
            },
            Action::Prefix(prefix) if !text.is_empty() && !text.starts_with(prefix.as_str()) => {
                Some(format!("{prefix}{text}"))
            }
            Action::Remove => None,
            Action::Default(_) | Action::Prefix(_) => return,
        };
        if new != now {
            if rule.tag == CHARACTER_SET {
                self.charset = CharacterSet::parse(new.as_deref().unwrap_or_default().as_bytes());
            }
            self.changed.insert(rule.tag, (rule, new));
        }
    }
}

/// A text in a character set, if it is the same text when read again.
fn encode(text: &str, vr: VR, charset: CharacterSet) -> Result<Vec<u8>, CoercionError> {
    let latin = || text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect::<Option<Vec<u8>>>();
    let candidates = [Some(text.as_bytes().to_vec()), latin()];
    let reads_back = |bytes: &Vec<u8>| charset.decode(vr, bytes) == text;
    candidates.into_iter().flatten().find(reads_back).ok_or(CoercionError::CharacterSet)
}

/// Collects the values that rules ask for, at the root.
#[derive(Debug, Default)]
struct Scan {
    wanted: BTreeSet<Tag>,
    values: BTreeMap<Tag, Vec<u8>>,
    /// Sequences that are open, and encapsulated pixel data.
    depth: usize,
    open: Option<Tag>,
    /// Original Attributes Sequences at the root.
    originals: u64,
    /// An attribute has come that comes after all that rules may name.
    complete: bool,
    /// The stream cannot be read.
    failed: bool,
    refused: Option<CoercionError>,
}

impl Scan {
    fn raw(&self, tag: Tag) -> &[u8] {
        self.values.get(&tag).map_or(&[], Vec::as_slice)
    }

    fn root(&mut self, tag: Tag, position: u64) -> Result<(), ParseError> {
        if self.depth > 0 {
            return Ok(());
        }
        self.originals = self.originals.saturating_add(u64::from(tag == ORIGINAL_ATTRIBUTES));
        if tag > ORIGINAL_ATTRIBUTES {
            self.complete = true;
        } else if self.complete && self.wanted.contains(&tag) {
            // it is not known any more whether it was looked at
            return self.refuse(CoercionError::OutOfOrder, position);
        }
        Ok(())
    }

    fn refuse(&mut self, why: CoercionError, position: u64) -> Result<(), ParseError> {
        self.refused = Some(why);
        Err(ParseError::Truncated(position))
    }
}

impl Sink for Scan {
    fn element(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        self.root(header.tag, header.position)?;
        self.open = Some(header.tag).filter(|tag| self.depth == 0 && self.wanted.contains(tag));
        if let Some(tag) = self.open {
            if header.length.is_none_or(|length| length as usize > MOST_VALUE) {
                return self.refuse(CoercionError::TooLarge, header.position);
            }
            // the last of a tag counts
            self.values.insert(tag, Vec::new());
        }
        Ok(())
    }

    fn value(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if let Some(value) = self.open.and_then(|tag| self.values.get_mut(&tag)) {
            value.extend_from_slice(piece);
        }
        Ok(())
    }

    fn element_end(&mut self) -> Result<(), ParseError> {
        self.open = None;
        Ok(())
    }

    fn sequence(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        self.root(header.tag, header.position)?;
        self.depth += 1;
        Ok(())
    }

    fn item(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn item_end(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn sequence_end(&mut self) -> Result<(), ParseError> {
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn fragments(&mut self, header: &ElementHeader) -> Result<(), ParseError> {
        self.sequence(header)
    }

    fn fragment(&mut self, _position: u64, _length: u32) -> Result<(), ParseError> {
        Ok(())
    }

    fn fragment_end(&mut self) -> Result<(), ParseError> {
        Ok(())
    }

    fn fragments_end(&mut self, _position: u64) -> Result<(), ParseError> {
        self.sequence_end()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::{Just, any, prop_oneof};
    use proptest::{prop_assert_eq, proptest};

    use super::*;
    use crate::dicom::header::{Header, HeaderLimits, HeaderReader};
    use crate::dicom::json;
    use crate::dicom::samples::{self, BIG, EXPLICIT, IMPLICIT, UNDEFINED};
    use crate::dicom::transfer_syntax::{DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE};
    use crate::dicom::vr::PIXEL_DATA;

    const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
    const ISSUER: Tag = Tag(0x0010, 0x0021);
    const AT: &str = "20260102030405";

    fn rule(attribute: &str, action: Action) -> Rule {
        Rule::new(attribute, action, &[]).unwrap()
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    fn coerce(file: &[u8], rules: &[Rule], piece: usize) -> Result<(Vec<u8>, Vec<String>), CoercionError> {
        let mut coercer = Coercer::new(rules.into(), Limits::default(), AT.to_owned());
        let mut out = Vec::new();
        for chunk in file.chunks(piece) {
            coercer.push(Bytes::copy_from_slice(chunk))?;
            drain(&mut coercer, &mut out)?;
        }
        coercer.finish()?;
        drain(&mut coercer, &mut out)?;
        assert_eq!(coercer.held_bytes(), 0);
        Ok((out, coercer.changed().to_vec()))
    }

    /// Takes all that goes on; the largest piece.
    fn drain(coercer: &mut Coercer, out: &mut Vec<u8>) -> Result<usize, CoercionError> {
        let mut largest = 0;
        while let Some(piece) = coercer.pull()? {
            largest = largest.max(piece.len());
            out.extend_from_slice(&piece);
        }
        Ok(largest)
    }

    fn header(file: &[u8]) -> Header {
        let mut reader = HeaderReader::new(HeaderLimits::default());
        reader.push(file).unwrap();
        reader.finish().unwrap()
    }

    fn metadata(file: &[u8]) -> serde_json::Value {
        serde_json::from_slice(&json::write_metadata(&header(file)).json).unwrap()
    }

    /// A CT of patient `A1` with pixel data, in an encoding.
    fn file(syntax: &str, layout: samples::Layout) -> Vec<u8> {
        samples::file(syntax, layout, |writer| {
            writer.put(Tag(0x0008, 0x0005), VR::CS, b"ISO_IR 100").identity();
            writer.put(PATIENT_ID, VR::LO, b"A1").put(Tag(0x0010, 0x0040), VR::CS, b"F ");
            writer.put(PIXEL_DATA, VR::OW, &[1, 2, 3, 4]);
        })
    }

    fn little() -> Vec<u8> {
        file(EXPLICIT_LITTLE, EXPLICIT)
    }

    #[test]
    fn each_action_changes_what_it_names_and_says_what_it_was() {
        let values: BTreeMap<String, String> = [("A1", "B2"), ("X", "Y")].map(|(a, b)| (text(a), text(b))).into();
        let cases = [
            ("PatientID", Action::Set(text("N")), "00100020", Some("N"), Some("A1")),
            ("00100020", Action::Map(values), "00100020", Some("B2"), Some("A1")),
            ("PatientID", Action::Prefix(text("H-")), "00100020", Some("H-A1"), Some("A1")),
            ("PatientID", Action::Remove, "00100020", None, Some("A1")),
            ("IssuerOfPatientID", Action::Default(text("H")), "00100021", Some("H"), None),
            ("IssuerOfPatientID", Action::Set(text("G\u{f6}")), "00100021", Some("G\u{f6}"), None),
        ];
        for (attribute, action, tag, after, before) in cases {
            let (out, changed) = coerce(&little(), &[rule(attribute, action.clone())], 7).unwrap();
            assert_eq!(changed, [attribute], "{action:?}");
            let json = metadata(&out);
            assert_eq!(json[tag]["Value"][0].as_str(), after, "{action:?}");
            let item = &json["04000561"]["Value"][0];
            let modified = &item["04000550"]["Value"][0];
            assert!(modified.get(tag).is_some(), "{action:?}");
            assert_eq!(modified[tag]["Value"][0].as_str(), before, "{action:?}");
            assert_eq!(modified.as_object().unwrap().len(), 1);
            let told = ["04000562", "04000563", "04000565"].map(|tag| item[tag]["Value"][0].as_str().unwrap());
            assert_eq!(told, [AT, "ISOCENTER", "COERCE"]);
            // everything else is as it was
            let mut others = metadata(&little());
            for tag in [tag, "04000561"] {
                others.as_object_mut().unwrap().remove(tag);
            }
            for (other, value) in others.as_object().unwrap() {
                assert_eq!(&json[other], value, "{other}");
            }
        }
    }

    #[test]
    fn what_no_rule_changes_passes_byte_for_byte() {
        let unmet = Rule::new("PatientID", Action::Set(text("N")), &[(text("Modality"), text("MR"))]).unwrap();
        let rules = [
            rule("PatientID", Action::Set(text("A1"))),
            rule("PatientID", Action::Default(text("N"))),
            rule("PatientID", Action::Map([(text("X"), text("Y"))].into())),
            rule("PatientID", Action::Prefix(text("A"))),
            rule("IssuerOfPatientID", Action::Remove),
            rule("IssuerOfPatientID", Action::Prefix(text("P"))),
            unmet,
        ];
        let garbage = b"nothing that anybody would take for DICOM".repeat(9);
        for file in [little(), file(IMPLICIT_LITTLE, IMPLICIT), file(EXPLICIT_BIG, BIG), garbage, Vec::new()] {
            for piece in [1, 200, 1 << 20] {
                assert_eq!(coerce(&file, &rules, piece).unwrap(), (file.clone(), Vec::new()));
            }
        }
    }

    #[test]
    fn rules_see_what_those_before_them_made() {
        let met = Rule::new("PatientID", Action::Prefix(text("F-")), &[(text("PatientSex"), text("F"))]).unwrap();
        let rules = [
            rule("IssuerOfPatientID", Action::Set(text("I"))),
            met,
            Rule::new("PatientID", Action::Set(text("Z")), &[(text("IssuerOfPatientID"), text("J"))]).unwrap(),
        ];
        let (out, changed) = coerce(&little(), &rules, 64).unwrap();
        assert_eq!(changed, ["PatientID", "IssuerOfPatientID"]);
        let json = metadata(&out);
        assert_eq!((&json["00100020"]["Value"][0], &json["00100021"]["Value"][0]), (&"F-A1".into(), &"I".into()));
    }

    #[test]
    fn an_item_is_appended_to_the_sequence_that_is_there() {
        let with = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
            writer.identity().put(PATIENT_ID, VR::LO, b"A1");
            writer.head(ORIGINAL_ATTRIBUTES, VR::SQ, UNDEFINED).item(UNDEFINED);
            writer.put(Tag(0x0400, 0x0563), VR::LO, b"EARLIER ").end_item().end_sequence();
            writer.put(PIXEL_DATA, VR::OW, &[1, 2]);
        });
        let (out, _) = coerce(&with, &[rule("PatientID", Action::Set(text("N")))], 50).unwrap();
        let json = metadata(&out);
        let systems: Vec<&str> = json["04000561"]["Value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["04000563"]["Value"][0].as_str().unwrap())
            .collect();
        assert_eq!(systems, ["EARLIER", "ISOCENTER"]);
    }

    #[test]
    fn other_encodings_become_explicit_little_endian_with_the_same_values() {
        let rules = [rule("PatientID", Action::Set(text("N")))];
        let expected = coerce(&little(), &rules, 100).unwrap().0;
        for file in [file(IMPLICIT_LITTLE, IMPLICIT), file(EXPLICIT_BIG, BIG)] {
            assert_eq!(coerce(&file, &rules, 33).unwrap().0, expected);
        }
    }

    #[test]
    fn what_cannot_be_coerced_safely_is_refused() {
        let late = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
            writer.identity().put(PIXEL_DATA, VR::OW, &[1, 2]).put(PATIENT_ID, VR::LO, b"A1");
        });
        let large = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
            writer.identity().put(Tag(0x0032, 0x4000), VR::LT, b"A1").head(Tag(0x0020, 0x4000), VR::UN, 70_000);
        });
        let set = [rule("PatientID", Action::Set(text("N")))];
        assert_eq!(coerce(&late, &set, 1000), Err(CoercionError::OutOfOrder));
        let comments = [rule("ImageComments", Action::Remove)];
        assert_eq!(coerce(&large, &comments, 1000), Err(CoercionError::TooLarge));
        let greek = [rule("PatientID", Action::Set(text("\u{3b1}")))];
        assert_eq!(coerce(&little(), &greek, 1000), Err(CoercionError::CharacterSet));
        // without a character set, or with that of ASCII, no other letter has bytes
        for named in [None, Some(&b"ISO_IR 6"[..]), Some(b"\\ISO 2022 IR 87")] {
            let file = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
                if let Some(named) = named {
                    writer.put(CHARACTER_SET, VR::CS, named);
                }
                writer.identity().put(PATIENT_ID, VR::LO, b"A1");
            });
            for (action, expected) in [
                (Action::Set(text("\u{fc}")), false),
                (Action::Prefix(text("\u{dc}-")), false),
                (Action::Set(text("u")), true),
            ] {
                assert_eq!(coerce(&file, &[rule("PatientID", action)], 1000).is_ok(), expected, "{named:?}");
            }
        }
    }

    #[test]
    fn a_second_original_attributes_sequence_is_refused_where_a_rule_changes_something() {
        let file = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
            writer.identity().put(PATIENT_ID, VR::LO, b"A1");
            for _ in 0..2 {
                writer.head(ORIGINAL_ATTRIBUTES, VR::SQ, 0);
            }
            writer.put(PIXEL_DATA, VR::OW, &[1, 2]);
        });
        for piece in [1, 200, usize::MAX] {
            let set = [rule("PatientID", Action::Set(text("N")))];
            assert_eq!(coerce(&file, &set, piece), Err(CoercionError::OutOfOrder));
            let same = [rule("PatientID", Action::Set(text("A1")))];
            assert_eq!(coerce(&file, &same, piece).unwrap().0, file);
        }
    }

    #[test]
    fn no_piece_is_larger_than_a_little_of_the_stream_makes() {
        let zeros = vec![0; 12 << 20];
        let private = Tag(0x0009, 0x1010);
        for tag in [private, PIXEL_DATA] {
            let plain = samples::file(EXPLICIT_LITTLE, EXPLICIT, |writer| {
                writer.identity().put(PATIENT_ID, VR::LO, b"A1").put(tag, VR::OB, &zeros);
            });
            let dataset = &plain[samples::part10(EXPLICIT_LITTLE).len()..];
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(dataset).unwrap();
            let file = [samples::part10(DEFLATED), encoder.finish().unwrap()].concat();
            assert!(file.len() < 16 << 10, "{} bytes", file.len());
            let rules = [rule("PatientID", Action::Set(text("N")))];
            let mut coercer = Coercer::new(rules.into(), Limits::default(), AT.to_owned());
            let (mut out, mut largest) = (Vec::new(), 0);
            for chunk in file.chunks(64 << 10) {
                coercer.push(Bytes::copy_from_slice(chunk)).unwrap();
                largest = largest.max(drain(&mut coercer, &mut out).unwrap());
            }
            coercer.finish().unwrap();
            largest = largest.max(drain(&mut coercer, &mut out).unwrap());
            assert!(out.len() > zeros.len() && largest < 2 << 20, "{largest} of {} bytes", out.len());
            assert_eq!(metadata(&out)["00100020"]["Value"][0], "N");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_stream_make_no_difference(
            piece in 1_usize..600,
            cut in 0_usize..600,
            set in prop_oneof![Just("A1"), Just("N")],
            noise in any::<u8>(),
        ) {
            let mut file = little();
            let place = cut.min(file.len() - 1);
            if cut > 300 {
                file[place] ^= noise;
            } else {
                file.truncate(place);
            }
            let rules = [rule("PatientID", Action::Set(text(set)))];
            let whole = coerce(&file, &rules, usize::MAX);
            let pieces = coerce(&file, &rules, piece);
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
                prop_assert_eq!(whole, pieces);
            }
        }
    }

    #[test]
    fn the_issuer_is_written_where_it_belongs() {
        let (out, _) = coerce(&little(), &[rule("IssuerOfPatientID", Action::Set(text("I")))], 9).unwrap();
        let header = header(&out);
        assert!(header.dataset.elements.is_sorted_by_key(|element| element.tag));
        assert_eq!(header.value(header.dataset.get(ISSUER).unwrap()), b"I ");
    }
}
