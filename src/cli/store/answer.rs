//! What the response dataset of STOW-RS says about each file
//! ([PS3.18 I.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_I.2.html)).
//!
//! The dataset names instances by their UIDs, and parts that it could not read not at all; which part was meant is not
//! said. So a file is found by its UIDs; the rest by its order, if that leaves no doubt. Where doubt is left the file is
//! sent again alone, which works with every server.

use super::report::Outcome;
use serde_json::Value;

const REFERENCED_SOP_SEQUENCE: &str = "00081199";
const FAILED_SOP_SEQUENCE: &str = "00081198";
const OTHER_FAILURES_SEQUENCE: &str = "0008119A";
const REFERENCED_SOP_INSTANCE_UID: &str = "00081155";
const FAILURE_REASON: &str = "00081197";
const WARNING_REASON: &str = "00081196";
const ERROR_COMMENT: &str = "00000902";

#[derive(Debug)]
struct Entry {
    sequence: &'static str,
    uid: Option<String>,
    outcome: Outcome,
}

impl Entry {
    fn is_failure(&self) -> bool {
        self.sequence != REFERENCED_SOP_SEQUENCE
    }

    /// Whether it can be about a file that may be named by these UIDs; none if they are not known. That something else is
    /// stored does not say that the file is.
    fn may_be(&self, uids: &[String]) -> bool {
        self.is_failure() || uids.is_empty() || self.uid.as_ref().is_none_or(|uid| uids.contains(uid))
    }
}

fn another() -> Outcome {
    Outcome::Failed("the server says that it stored another instance than the one in the file".to_owned())
}

/// Whether it is a data set in DICOM JSON, or a list of such
/// ([PS3.18 F.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_F.2.html)).
pub fn is_dataset(value: &Value) -> bool {
    let is_tag = |name: &String| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_one = |value: &Value| {
        value.as_object().is_some_and(|object| object.iter().all(|(name, value)| is_tag(name) && value.is_object()))
    };
    value.as_array().map_or_else(|| is_one(value), |list| list.iter().all(is_one))
}

/// The outcome of each file of a request, in their order; `None` where the answer leaves it open.
///
/// `files` are the SOP Instance UIDs by which each may be named.
pub fn assign(dataset: &Value, files: &[Vec<String>]) -> Vec<Option<Outcome>> {
    let mut entries: Vec<Entry> = [REFERENCED_SOP_SEQUENCE, FAILED_SOP_SEQUENCE, OTHER_FAILURES_SEQUENCE]
        .into_iter()
        .flat_map(|sequence| items(dataset, sequence).iter().map(move |item| entry(sequence, item)))
        .collect();
    if let [uids] = files {
        // all that is said is said about it; a failure counts more
        let entry = entries.into_iter().max_by_key(|entry| (entry.is_failure(), entry.may_be(uids)));
        return vec![entry.map(|entry| if entry.may_be(uids) { entry.outcome } else { another() })];
    }
    let mut outcomes: Vec<Option<Outcome>> = files.iter().map(|uids| by_uids(uids, files, &mut entries)).collect();
    let open: Vec<_> = outcomes.iter_mut().zip(files).filter(|(outcome, _)| outcome.is_none()).collect();
    let of_one_kind = entries.windows(2).all(|pair| match pair {
        [one, other] => one.sequence == other.sequence && one.uid.is_none() == other.uid.is_none(),
        _ => true,
    });
    let in_order =
        open.len() == entries.len() && open.iter().zip(&entries).all(|((_, uids), entry)| entry.may_be(uids));
    if in_order && of_one_kind {
        for ((outcome, _), entry) in open.into_iter().zip(entries) {
            *outcome = Some(entry.outcome);
        }
    }
    outcomes
}

/// Takes the entry of a file, if file and entry are the only ones with their UID.
fn by_uids(uids: &[String], files: &[Vec<String>], entries: &mut Vec<Entry>) -> Option<Outcome> {
    let is_it = |entry: &Entry| entry.uid.as_ref().is_some_and(|uid| uids.contains(uid));
    let named = entries.iter().filter(|entry| is_it(entry)).count();
    let position = entries.iter().position(is_it)?;
    let uid = entries.get(position)?.uid.as_ref()?;
    let claimed = files.iter().filter(|uids| uids.contains(uid)).count();
    (named == 1 && claimed == 1).then(|| entries.remove(position).outcome)
}

fn items<'a>(dataset: &'a Value, sequence: &str) -> &'a [Value] {
    // some servers answer with a list of one dataset
    let dataset = dataset.get(0).unwrap_or(dataset);
    dataset.get(sequence).and_then(|element| element.get("Value")).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entry(sequence: &'static str, item: &Value) -> Entry {
    let first = |tag| item.get(tag).and_then(|element| element.get("Value")).and_then(|values| values.get(0));
    let text = |tag| first(tag).and_then(Value::as_str).map(str::to_owned);
    let number = |tag| first(tag).and_then(code);
    let comment = text(ERROR_COMMENT);
    let outcome = if sequence == REFERENCED_SOP_SEQUENCE {
        match number(WARNING_REASON) {
            Some(reason) => Outcome::Warned { reason, comment },
            None if comment.as_deref().is_some_and(|comment| comment.starts_with("already")) => Outcome::Present,
            None => Outcome::Stored,
        }
    } else {
        Outcome::Refused { reason: number(FAILURE_REASON), comment }
    };
    let uid = text(REFERENCED_SOP_INSTANCE_UID).map(|uid| uid.trim_matches([' ', '\0']).to_owned());
    Entry { sequence, uid, outcome }
}

/// A US value; some servers write numbers as text.
fn code(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok()
}

/// What a reason means, in a few words
/// ([PS3.18 I.2.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_I.2.2.html)).
pub fn meaning(reason: u16) -> &'static str {
    match reason {
        0x0110 => "processing failure",
        0x0111 => "another instance is stored under its UID",
        0x0112 => "no such instance",
        0x0122 => "SOP class not accepted",
        0x0124 => "not authorized",
        0xA700..=0xA7FF => "out of resources",
        0xA900..=0xA9FF | 0xB007 => "data set does not match its SOP class",
        0xB000 => "attributes were changed",
        0xB006 => "elements were discarded",
        0xC122 => "transfer syntax not accepted",
        0xC000..=0xCFFF => "cannot be understood",
        _ => "other reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(uid: Option<&str>, reason: Option<(&str, u16)>) -> Value {
        let mut item = json!({});
        if let Some(uid) = uid {
            item[REFERENCED_SOP_INSTANCE_UID] = json!({"vr": "UI", "Value": [uid]});
        }
        if let Some((tag, reason)) = reason {
            item[tag] = json!({"vr": "US", "Value": [reason]});
        }
        item
    }

    fn dataset(stored: Vec<Value>, failed: Vec<Value>, other: Vec<Value>) -> Value {
        let mut dataset = json!({});
        for (tag, items) in
            [(REFERENCED_SOP_SEQUENCE, stored), (FAILED_SOP_SEQUENCE, failed), (OTHER_FAILURES_SEQUENCE, other)]
        {
            if !items.is_empty() {
                dataset[tag] = json!({"vr": "SQ", "Value": items});
            }
        }
        dataset
    }

    fn refused(reason: u16) -> Outcome {
        Outcome::Refused { reason: Some(reason), comment: None }
    }

    /// The UIDs of each file, apart by spaces.
    fn files(files: &[&str]) -> Vec<Vec<String>> {
        files.iter().map(|uids| uids.split_whitespace().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn files_are_found_by_their_uids_in_any_order() {
        let answer = dataset(
            vec![item(Some("3"), None), item(Some("1"), Some((WARNING_REASON, 0xB000)))],
            vec![item(Some("2"), Some((FAILURE_REASON, 0x0111)))],
            vec![item(None, Some((FAILURE_REASON, 0xC000)))],
        );
        assert_eq!(
            assign(&answer, &files(&["1", "", "9 2", "3 8"])),
            [
                Some(Outcome::Warned { reason: 0xB000, comment: None }),
                Some(refused(0xC000)),
                Some(refused(0x0111)),
                Some(Outcome::Stored)
            ]
        );
        assert_eq!(assign(&json!([answer]), &files(&["1", "", "2", "3"])).iter().flatten().count(), 4);
    }

    #[test]
    fn what_cannot_be_told_apart_is_left_open() {
        // two parts under one UID, one stored and one refused: which is not said
        let answer =
            dataset(vec![item(Some("1"), None)], vec![item(Some("1"), Some((FAILURE_REASON, 0x0111)))], vec![]);
        assert_eq!(assign(&answer, &files(&["1", "1"])), [None, None]);
        // both stored: nothing to tell apart
        let answer = dataset(vec![item(Some("1"), None), item(Some("1"), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &files(&["1", "1"])), [Some(Outcome::Stored), Some(Outcome::Stored)]);
        // an answer that says too little
        let answer = dataset(vec![item(Some("1"), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &files(&["1", "2", ""])), [Some(Outcome::Stored), None, None]);
        assert_eq!(assign(&json!("nonsense"), &files(&["1", "2"])), [None, None]);
    }

    #[test]
    fn one_file_takes_whatever_is_said() {
        let answer = dataset(vec![], vec![item(Some("other"), Some((FAILURE_REASON, 0xA700)))], vec![]);
        assert_eq!(assign(&answer, &files(&["1"])), [Some(refused(0xA700))]);
        assert_eq!(assign(&json!({}), &files(&["1"])), [None]);
        // how a server names what it made of a file whose UID is not known cannot be known either
        let answer = dataset(vec![item(Some("other"), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &files(&[""])), [Some(Outcome::Stored)]);
        let answer = dataset(vec![item(None, None)], vec![], vec![]);
        assert_eq!(assign(&answer, &files(&["1"])), [Some(Outcome::Stored)]);
        let answer = dataset(vec![item(Some("other"), None), item(Some("2 "), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &files(&["1 2"])), [Some(Outcome::Stored)]);
    }

    #[test]
    fn that_another_instance_is_stored_does_not_say_that_the_file_is() {
        let answer = dataset(vec![item(Some("other"), None)], vec![], vec![]);
        let outcomes = assign(&answer, &files(&["1 2"]));
        assert!(
            matches!(&outcomes[..], [Some(Outcome::Failed(why))] if why.contains("another instance")),
            "{outcomes:?}"
        );
        let answer = dataset(vec![item(Some("8"), None), item(Some("9"), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &files(&["1", "2"])), [None, None]);
        assert_eq!(assign(&answer, &files(&["1", ""])), [None, None]);
        assert_eq!(assign(&answer, &files(&["", ""])), [Some(Outcome::Stored), Some(Outcome::Stored)]);
    }

    #[test]
    fn only_tags_with_elements_make_a_data_set() {
        let element = json!({"vr": "UR", "Value": ["http://x"]});
        for (value, is) in [
            (json!({ "00081190": element.clone() }), true),
            (json!([{ "0008119A": element.clone() }]), true),
            (json!({}), true),
            (json!([]), true),
            (json!({ "message": "welcome" }), false),
            (json!({ "00081190": "http://x" }), false),
            (json!({ "00081190": element.clone(), "status": element }), false),
            (json!([1]), false),
            (json!("stored"), false),
            (json!(null), false),
        ] {
            assert_eq!(is_dataset(&value), is, "{value}");
        }
    }
}
