//! Rules over streams: how a file is cut changes nothing, what no rule changes passes byte for byte, what one changes has the
//! new value.
//!
//! Input: a byte for the rules, a byte that says how to cut, the file.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use dicom_core::Tag;
use isocenter::dicom::coerce::{Action, Coercer, CoercionError, Rule};
use isocenter::dicom::events::Limits;
use isocenter::dicom::header::Header;
use isocenter::dicom::json::write_metadata;

use super::composed::header;

const LIMITS: Limits = Limits { depth: 16, elements: 20_000, inflation: 1000, inflated: 4 << 20 };
/// What a kilobyte inflates to, or the whole input in another encoding, and what the rules add.
const MOST_PIECE: usize = 8 << 20;
const AT: &str = "20260102030405";
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);

/// What an attribute is after a change: a text, one that begins with it, or nothing.
#[derive(Clone, Copy, Debug)]
enum After {
    Is(&'static str),
    Begins(&'static str),
    Gone,
}

/// Rules, and what comes of the attribute that the first of them names.
type Case = (Arc<[Rule]>, &'static str, Tag, After);

static CASES: LazyLock<[Case; 8]> = LazyLock::new(|| {
    let text = |text: &str| text.to_owned();
    let rule = |name, action| Rule::new(name, action, &[]).expect("a rule");
    let when = |name, action, other, value| Rule::new(name, action, &[(text(other), text(value))]).expect("a rule");
    let case = |rules: Vec<Rule>, name, tag, after| -> Case { (rules.into(), name, tag, after) };
    let map = [("A1", "B2"), ("DOE", "B2"), ("", "B2")].map(|(a, b)| (text(a), text(b)));
    [
        case(vec![rule("PatientID", Action::Set(text("N")))], "PatientID", PATIENT_ID, After::Is("N")),
        case(vec![rule("PatientID", Action::Prefix(text("H-")))], "PatientID", PATIENT_ID, After::Begins("H-")),
        case(vec![rule("PatientID", Action::Remove)], "PatientID", PATIENT_ID, After::Gone),
        case(vec![rule("PatientID", Action::Map(map.into()))], "PatientID", PATIENT_ID, After::Is("B2")),
        case(vec![rule("IssuerOfPatientID", Action::Default(text("H")))], "IssuerOfPatientID", ISSUER, After::Is("H")),
        case(
            vec![when("PatientID", Action::Set(text("M")), "Modality", "CT")],
            "PatientID",
            PATIENT_ID,
            After::Is("M"),
        ),
        case(
            vec![
                rule("IssuerOfPatientID", Action::Set(text("G\u{f6}"))),
                when("PatientID", Action::Remove, "IssuerOfPatientID", "G\u{f6}"),
            ],
            "PatientID",
            PATIENT_ID,
            After::Gone,
        ),
        case(
            vec![rule("SOPInstanceUID", Action::Prefix(text("9.")))],
            "SOPInstanceUID",
            Tag(8, 0x18),
            After::Begins("9."),
        ),
    ]
});

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = super::first(data) else { return };
    let Some((seed, file)) = super::first(rest) else { return };
    let (rules, name, tag, after) = &CASES[usize::from(kind) % CASES.len()];
    let before = header(file);
    let whole = coerce(rules, &[file]);
    for cut in [1, seed] {
        assert_same(&whole, &coerce(rules, &super::chunks(cut, file)), cut);
    }
    let Ok((out, changed)) = whole else { return };
    if changed.is_empty() {
        assert_eq!(out, file, "nothing changed");
        return;
    }
    // what cannot be read before is refused afterwards or not, as it happens
    if before.is_err() {
        return;
    }
    let header = header(&out).unwrap_or_else(|error| panic!("{error}"));
    if changed.iter().any(|changed| changed == name) {
        assert_after(&header, *tag, *after);
    }
}

fn coerce(rules: &Arc<[Rule]>, chunks: &[&[u8]]) -> Result<(Vec<u8>, Vec<String>), CoercionError> {
    let mut coercer = Coercer::new(Arc::clone(rules), LIMITS, AT.to_owned());
    let mut out = Vec::new();
    let mut pushed = 0;
    for chunk in chunks {
        coercer.push(Bytes::copy_from_slice(chunk))?;
        pushed += chunk.len();
        assert!(coercer.held_bytes() <= pushed);
        drain(&mut coercer, &mut out)?;
    }
    coercer.finish()?;
    drain(&mut coercer, &mut out)?;
    assert_eq!(coercer.held_bytes(), 0, "something stays");
    Ok((out, coercer.changed().to_vec()))
}

/// Takes all that goes on.
fn drain(coercer: &mut Coercer, out: &mut Vec<u8>) -> Result<(), CoercionError> {
    while let Some(piece) = coercer.pull()? {
        assert!(piece.len() <= MOST_PIECE, "a piece of {} bytes", piece.len());
        out.extend_from_slice(&piece);
    }
    Ok(())
}

/// The same bytes, unless both are of no use to whoever reads them next.
fn assert_same(
    one: &Result<(Vec<u8>, Vec<String>), CoercionError>,
    other: &Result<(Vec<u8>, Vec<String>), CoercionError>,
    cut: u8,
) {
    let useful = |found: &Result<(Vec<u8>, Vec<String>), CoercionError>| {
        found.as_ref().ok().filter(|(out, _)| header(out).is_ok()).cloned()
    };
    let (one, other) = (useful(one), useful(other));
    assert!(
        one == other,
        "cut by {cut}: {:?}, {:?}",
        one.map(|(_, changed)| changed),
        other.map(|(_, changed)| changed)
    );
}

fn assert_after(header: &Header, tag: Tag, after: After) {
    let element = header.dataset.get(tag);
    let text = element.map(|element| String::from_utf8_lossy(header.value(element)).into_owned());
    let text = text.as_deref().map(|text| text.trim_matches([' ', '\0']));
    match after {
        After::Is(expected) => assert_eq!(text, Some(expected), "{tag}"),
        After::Begins(expected) => assert!(text.is_some_and(|text| text.starts_with(expected)), "{tag}"),
        After::Gone => assert_eq!(text, None, "{tag}"),
    }
    let json: serde_json::Value = serde_json::from_slice(&write_metadata(header).json).expect("well formed");
    let items = json["04000561"]["Value"].as_array().expect("original attributes");
    assert!(items.last().is_some_and(|item| item["04000565"]["Value"][0] == "COERCE"));
}
