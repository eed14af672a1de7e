//! The outcomes of a storing request → status code and response data set: a pure function
//! ([PS3.18 10.5.3](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.5.3.html)).

use std::fmt::Write as _;

use dicom_dictionary_std::tags;
use serde_json::{Value, json};

use crate::archive::outcome::{InstanceOutcome, Refusal, Warning};
use crate::dicom::uid::{InstanceKey, StudyUid};
use crate::dicom::xml;
use crate::dicomweb::store_payload::Form;

/// The answer to a storing request.
#[derive(Debug, PartialEq)]
pub struct StoreResponse {
    /// HTTP status.
    pub status: u16,
    /// The data set.
    pub body: Vec<u8>,
    /// The URL of the one study in which something was stored.
    pub location: Option<String>,
}

/// Shapes the answer; `root` is the absolute URL of the DICOMweb service without a slash at its end,
/// `study` the study of the request's path.
#[must_use]
pub(super) fn store_response(
    outcomes: &[InstanceOutcome],
    study: Option<&StudyUid>,
    root: &str,
    form: Form,
) -> StoreResponse {
    let [mut failed, mut referenced, mut other] = [const { Items { count: 0, text: String::new() } }; 3];
    let (mut first, mut several) = (study, false);
    for outcome in outcomes {
        match outcome {
            InstanceOutcome::Stored { key, sop_class, already, warnings, original } => {
                let mut item = stored(key, sop_class, *already, warnings, root);
                if let Some(original) = original {
                    item["04000561"] = json!({"vr": "SQ", "Value": [original]});
                }
                referenced.append(form, &item);
                several |= *first.get_or_insert(&key.study) != &key.study;
            }
            InstanceOutcome::Refused(refusal) if refusal.sop_instance.is_some() => {
                failed.append(form, &refused(refusal));
            }
            InstanceOutcome::Refused(refusal) => other.append(form, &failure(refusal)),
        }
    }
    // Retrieve URL (0008,1190) names the one study that the request was about.
    let one = first.filter(|_| !several && referenced.count > 0);
    let location = one.map(|study| format!("{root}/studies/{study}"));
    let body = body(form, location.as_deref(), [failed, referenced, other]);
    StoreResponse { status: status(outcomes), body, location }
}

/// Items of a sequence, written one by one: a tree of a hundred thousand takes hundreds of megabytes.
struct Items {
    count: usize,
    text: String,
}

impl Items {
    fn append(&mut self, form: Form, item: &Value) {
        self.count += 1;
        match form {
            Form::Xml => xml::item(&mut self.text, self.count, item),
            Form::Json => {
                let comma = if self.count > 1 { "," } else { "" };
                // writing to memory cannot fail
                let _ = write!(self.text, "{comma}{item}");
            }
        }
    }
}

/// The data set; its three sequences are of type 1C: absent when empty.
fn body(form: Form, location: Option<&str>, sequences: [Items; 3]) -> Vec<u8> {
    let tags = [tags::FAILED_SOP_SEQUENCE, tags::REFERENCED_SOP_SEQUENCE, tags::OTHER_FAILURES_SEQUENCE];
    let sequences = tags.into_iter().zip(sequences).filter(|(_, items)| items.count > 0);
    match form {
        Form::Json => {
            let url = location.map(|location| format!("\"00081190\":{}", url(location)));
            let sequences = sequences.map(|(tag, Items { text, .. })| {
                format!("\"{:04X}{:04X}\":{{\"vr\":\"SQ\",\"Value\":[{text}]}}", tag.group(), tag.element())
            });
            let members: Vec<String> = url.into_iter().chain(sequences).collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        }
        Form::Xml => {
            let mut text = String::new();
            if let Some(location) = location {
                xml::attributes(&mut text, &json!({"00081190": url(location)}));
            }
            for (tag, items) in sequences {
                xml::attribute(&mut text, tag, "SQ", &items.text);
            }
            xml::document(&text)
        }
    }
}

/// 200 all stored and nothing to be said; 202 some, or with a warning; 409 none, for reasons of their own; 503 none, but it may work later.
fn status(outcomes: &[InstanceOutcome]) -> u16 {
    let stored = outcomes.iter().filter(|outcome| matches!(outcome, InstanceOutcome::Stored { .. })).count();
    let warned = outcomes
        .iter()
        .any(|outcome| matches!(outcome, InstanceOutcome::Stored { warnings, .. } if !warnings.is_empty()));
    let transient =
        outcomes.iter().any(|outcome| matches!(outcome, InstanceOutcome::Refused(refusal) if refusal.transient));
    match stored {
        0 if transient => 503,
        0 => 409,
        all if all == outcomes.len() && !warned => 200,
        _ => 202,
    }
}

/// An instance that was there before is a success like any other; the comment is for people and our own client.
///
/// Warning Reason (0008,1196) has one value: of several warnings the first, and all in words.
fn stored(key: &InstanceKey, sop_class: &str, already: bool, warnings: &[Warning], root: &str) -> Value {
    let mut item = json!({
        "00081150": uid(Some(sop_class)),
        "00081155": uid(Some(key.instance.as_str())),
        "00081190": url(&format!("{root}/studies/{}/series/{}/instances/{}", key.study, key.series, key.instance)),
    });
    let mut comments: Vec<String> = warnings.iter().map(|warning| comment(&warning.comment)).collect();
    if let Some(first) = warnings.first() {
        item["00081196"] = json!({"vr": "US", "Value": [first.reason.code()]});
    } else if already {
        comments.push("already stored".to_owned());
    }
    if !comments.is_empty() {
        item["00000902"] = json!({"vr": "LO", "Value": comments});
    }
    item
}

/// As much of a text as an LO holds, cut between words where one ends in its second half.
fn comment(text: &str) -> String {
    const MOST: usize = 64;
    const ELLIPSIS: &str = "...";
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    // with the character that follows, which tells whether a word ends there
    let mut kept: String = text.chars().take(MOST - ELLIPSIS.len() + 1).collect();
    match kept.rfind(' ').filter(|at| *at >= MOST / 2) {
        Some(end) => kept.truncate(end),
        None => drop(kept.pop()),
    }
    format!("{}{ELLIPSIS}", kept.trim_end_matches([' ', ',', ';', ':']))
}

fn refused(refusal: &Refusal) -> Value {
    let mut item = failure(refusal);
    item["00081150"] = uid(refusal.sop_class.as_deref());
    item["00081155"] = uid(refusal.sop_instance.as_deref());
    item
}

/// Failure Reason (0008,1197) as a number, and in words in Error Comment (0000,0902), an LO of at most 64 characters.
fn failure(refusal: &Refusal) -> Value {
    json!({
        "00000902": {"vr": "LO", "Value": [comment(&refusal.comment)]},
        "00081197": {"vr": "US", "Value": [refusal.reason.code()]},
    })
}

fn uid(text: Option<&str>) -> Value {
    match text {
        Some(text) => json!({"vr": "UI", "Value": [text]}),
        None => json!({"vr": "UI"}),
    }
}

fn url(text: &str) -> Value {
    json!({"vr": "UR", "Value": [text]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::reasons::{FailureReason, WarningReason};
    use crate::dicom::uid::{InstanceUid, SeriesUid};

    fn stored(already: bool) -> InstanceOutcome {
        let key = InstanceKey {
            study: StudyUid::parse("1.2").unwrap(),
            series: SeriesUid::parse("1.2.3").unwrap(),
            instance: InstanceUid::parse("1.2.3.4").unwrap(),
        };
        InstanceOutcome::Stored {
            key,
            sop_class: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            already,
            warnings: Vec::new(),
            original: None,
        }
    }

    fn answer(outcomes: &[InstanceOutcome]) -> StoreResponse {
        store_response(outcomes, None, "http://h/dicom-web", Form::Json)
    }

    fn dataset(outcomes: &[InstanceOutcome]) -> Value {
        serde_json::from_slice(&answer(outcomes).body).unwrap()
    }

    #[test]
    fn the_data_set_says_the_same_in_xml() {
        let outcomes = [
            stored(false),
            refused(FailureReason::CannotUnderstand, None),
            warned(),
            refused(FailureReason::DuplicateInstance, Some("1.2")),
        ];
        for outcomes in [&outcomes[..], &outcomes[..1], &outcomes[1..2], &[]] {
            let answer = store_response(outcomes, None, "http://h/dicom-web", Form::Xml);
            assert_eq!(String::from_utf8(answer.body), String::from_utf8(xml::write(&dataset(outcomes))));
        }
    }

    fn refused(reason: FailureReason, sop_instance: Option<&str>) -> InstanceOutcome {
        InstanceOutcome::Refused(Refusal {
            sop_class: None,
            sop_instance: sop_instance.map(str::to_owned),
            transient: reason == FailureReason::OutOfResources,
            reason,
            comment: "why".to_owned(),
        })
    }

    fn warned() -> InstanceOutcome {
        let mut outcome = stored(false);
        if let InstanceOutcome::Stored { warnings, original, .. } = &mut outcome {
            for (reason, comment) in
                [(WarningReason::Coerced, "changed: PatientID"), (WarningReason::Mismatch, "other")]
            {
                warnings.push(Warning { reason, comment: comment.to_owned() });
            }
            *original = Some(json!({"04000565": {"vr": "CS", "Value": ["COERCE"]}}));
        }
        outcome
    }

    #[test]
    fn a_warning_stands_with_its_instance() {
        let dataset = dataset(&[warned()]);
        let item = &dataset["00081199"]["Value"][0];
        assert_eq!(item["00081196"], json!({"vr": "US", "Value": [0xB000]}));
        assert_eq!(item["00000902"], json!({"vr": "LO", "Value": ["changed: PatientID", "other"]}));
        assert_eq!(item["04000561"]["Value"][0]["04000565"]["Value"][0], "COERCE");
    }

    #[test]
    fn a_comment_that_is_too_long_ends_between_words() {
        let word = "w".repeat(64);
        for (text, expected) in [
            ("short", "short"),
            (word.as_str(), word.as_str()),
            (&format!("{word}w"), &format!("{}...", "w".repeat(61))),
            (
                "the series is of another study in the index, where it has seventeen instances",
                "the series is of another study in the index, where it has...",
            ),
            (
                "the series is of another study in the archive, where it is, 17 times",
                "the series is of another study in the archive, where it is...",
            ),
            // letters count, not bytes
            (&"\u{fc}".repeat(64), &"\u{fc}".repeat(64)),
        ] {
            assert_eq!(comment(text), expected);
            assert!(comment(text).chars().count() <= 64);
        }
    }

    #[test]
    fn the_status_follows_from_the_outcomes() {
        let [good, again] = [stored(false), stored(true)];
        let bad = refused(FailureReason::CannotUnderstand, None);
        let full = refused(FailureReason::OutOfResources, Some("1.2"));
        let warned = warned();
        for (outcomes, expected) in [
            (vec![good.clone()], 200),
            (vec![again.clone()], 200),
            (vec![good.clone(), again], 200),
            (vec![warned.clone()], 202),
            (vec![good.clone(), warned.clone()], 202),
            (vec![warned, bad.clone()], 202),
            (vec![good.clone(), bad.clone()], 202),
            (vec![good, full.clone()], 202),
            (vec![bad.clone()], 409),
            (vec![full.clone()], 503),
            (vec![bad, full], 503),
        ] {
            assert_eq!(answer(&outcomes).status, expected, "{outcomes:?}");
        }
    }

    #[test]
    fn the_data_set_has_a_sequence_only_where_it_has_items() {
        let all_stored = answer(&[stored(false)]);
        assert_eq!(
            dataset(&[stored(false)]),
            json!({
                "00081190": {"vr": "UR", "Value": ["http://h/dicom-web/studies/1.2"]},
                "00081199": {"vr": "SQ", "Value": [{
                    "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
                    "00081155": {"vr": "UI", "Value": ["1.2.3.4"]},
                    "00081190": {"vr": "UR", "Value": ["http://h/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.4"]},
                }]},
            })
        );
        assert_eq!(all_stored.location.as_deref(), Some("http://h/dicom-web/studies/1.2"));
        let again = dataset(&[stored(true)]);
        assert_eq!(again["00081199"]["Value"][0]["00000902"]["Value"][0], "already stored");
        let outcomes =
            [refused(FailureReason::DuplicateInstance, Some("1.2")), refused(FailureReason::CannotUnderstand, None)];
        let nothing_stored = answer(&outcomes);
        assert_eq!(nothing_stored.location, None);
        assert_eq!(
            dataset(&outcomes),
            json!({
                "00081198": {"vr": "SQ", "Value": [{
                    "00000902": {"vr": "LO", "Value": ["why"]},
                    "00081150": {"vr": "UI"},
                    "00081155": {"vr": "UI", "Value": ["1.2"]},
                    "00081197": {"vr": "US", "Value": [0x0111]},
                }]},
                "0008119A": {"vr": "SQ", "Value": [{
                    "00000902": {"vr": "LO", "Value": ["why"]},
                    "00081197": {"vr": "US", "Value": [0xC000]},
                }]},
            })
        );
    }
}
