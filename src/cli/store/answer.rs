//! What the response dataset of STOW-RS says about each file
//! ([PS3.18 I.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_I.2.html)).
//!
//! The dataset names instances by their UIDs, and parts that it could not read not at all; which part was meant is not
//! said. So a file is found by its UID; the rest by its order, if that leaves no doubt. Where doubt is left the file is
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

/// The outcome of each file of a request, in their order; `None` where the answer leaves it open.
///
/// `uids` are the SOP Instance UIDs as far as they are known.
pub fn assign(dataset: &Value, uids: &[Option<String>]) -> Vec<Option<Outcome>> {
    let mut entries: Vec<Entry> = [REFERENCED_SOP_SEQUENCE, FAILED_SOP_SEQUENCE, OTHER_FAILURES_SEQUENCE]
        .into_iter()
        .flat_map(|sequence| items(dataset, sequence).iter().map(move |item| entry(sequence, item)))
        .collect();
    if let [_] = uids {
        // all that is said is said about it; a failure counts more
        let entry = entries.into_iter().max_by_key(|entry| entry.sequence != REFERENCED_SOP_SEQUENCE);
        return vec![entry.map(|entry| entry.outcome)];
    }
    let mut outcomes: Vec<Option<Outcome>> = uids.iter().map(|uid| by_uid(uid.as_ref(), uids, &mut entries)).collect();
    let open: Vec<&mut Option<Outcome>> = outcomes.iter_mut().filter(|outcome| outcome.is_none()).collect();
    let of_one_kind = entries.windows(2).all(|pair| match pair {
        [one, other] => one.sequence == other.sequence && one.uid.is_none() == other.uid.is_none(),
        _ => true,
    });
    if open.len() == entries.len() && of_one_kind {
        for (outcome, entry) in open.into_iter().zip(entries) {
            *outcome = Some(entry.outcome);
        }
    }
    outcomes
}

/// Takes the entry of a UID, if file and entry are the only ones with it.
fn by_uid(uid: Option<&String>, uids: &[Option<String>], entries: &mut Vec<Entry>) -> Option<Outcome> {
    let uid = uid?;
    let is_it = |entry: &Entry| entry.uid.as_ref() == Some(uid);
    let files = uids.iter().filter(|other| other.as_ref() == Some(uid)).count();
    let named = entries.iter().filter(|entry| is_it(entry)).count();
    if files != 1 || named != 1 {
        return None;
    }
    let position = entries.iter().position(is_it)?;
    Some(entries.remove(position).outcome)
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
    Entry { sequence, uid: text(REFERENCED_SOP_INSTANCE_UID), outcome }
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

/// The SOP Instance UID (0002,0003) of the file meta information at the start of a file.
///
/// File meta information is always explicit little endian ([PS3.10 7.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part10/chapter_7.html)).
pub fn uid_of_file(head: &[u8]) -> Option<String> {
    let mut rest = head.get(128..)?.strip_prefix(b"DICM")?;
    loop {
        let [g0, g1, e0, e1, vr @ .., l0, l1] = rest.first_chunk::<8>()?;
        let tag = (u16::from_le_bytes([*g0, *g1]), u16::from_le_bytes([*e0, *e1]));
        let (start, length) = match vr {
            b"OB" | b"UN" => (12, usize::try_from(u32::from_le_bytes(*rest.get(8..)?.first_chunk()?)).ok()?),
            _ => (8, usize::from(u16::from_le_bytes([*l0, *l1]))),
        };
        let value = rest.get(start..)?.get(..length)?;
        match tag {
            (2, 3) => {
                let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\0', ' ']);
                return (!text.is_empty()).then(|| text.to_owned());
            }
            (2, 0..=2) => rest = rest.get(start..)?.get(length..)?,
            _ => return None,
        }
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

    fn uids(uids: &[&str]) -> Vec<Option<String>> {
        uids.iter().map(|uid| (!uid.is_empty()).then(|| (*uid).to_owned())).collect()
    }

    #[test]
    fn files_are_found_by_their_uids_in_any_order() {
        let answer = dataset(
            vec![item(Some("3"), None), item(Some("1"), Some((WARNING_REASON, 0xB000)))],
            vec![item(Some("2"), Some((FAILURE_REASON, 0x0111)))],
            vec![item(None, Some((FAILURE_REASON, 0xC000)))],
        );
        assert_eq!(
            assign(&answer, &uids(&["1", "", "2", "3"])),
            [
                Some(Outcome::Warned { reason: 0xB000, comment: None }),
                Some(refused(0xC000)),
                Some(refused(0x0111)),
                Some(Outcome::Stored)
            ]
        );
        assert_eq!(assign(&json!([answer]), &uids(&["1", "", "2", "3"])).iter().flatten().count(), 4);
    }

    #[test]
    fn what_cannot_be_told_apart_is_left_open() {
        // two parts under one UID, one stored and one refused: which is not said
        let answer =
            dataset(vec![item(Some("1"), None)], vec![item(Some("1"), Some((FAILURE_REASON, 0x0111)))], vec![]);
        assert_eq!(assign(&answer, &uids(&["1", "1"])), [None, None]);
        // both stored: nothing to tell apart
        let answer = dataset(vec![item(Some("1"), None), item(Some("1"), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &uids(&["1", "1"])), [Some(Outcome::Stored), Some(Outcome::Stored)]);
        // an answer that says too little
        let answer = dataset(vec![item(Some("1"), None)], vec![], vec![]);
        assert_eq!(assign(&answer, &uids(&["1", "2", ""])), [Some(Outcome::Stored), None, None]);
        assert_eq!(assign(&json!("nonsense"), &uids(&["1", "2"])), [None, None]);
    }

    #[test]
    fn one_file_takes_whatever_is_said() {
        let answer = dataset(vec![], vec![item(Some("other"), Some((FAILURE_REASON, 0xA700)))], vec![]);
        assert_eq!(assign(&answer, &uids(&["1"])), [Some(refused(0xA700))]);
        assert_eq!(assign(&json!({}), &uids(&["1"])), [None]);
    }

    #[test]
    fn the_uid_is_read_from_the_file_meta_information() {
        let mut head = vec![0; 128];
        head.extend_from_slice(b"DICM");
        head.extend_from_slice(b"\x02\0\0\0UL\x04\0\x50\0\0\0");
        head.extend_from_slice(b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01");
        head.extend_from_slice(b"\x02\0\x02\0UI\x04\x001.2\0");
        let before = head.len();
        head.extend_from_slice(b"\x02\0\x03\0UI\x06\x001.2.3\0");
        assert_eq!(uid_of_file(&head).as_deref(), Some("1.2.3"));
        for end in 0..head.len() {
            assert_eq!(uid_of_file(&head[..end]), None);
        }
        head.truncate(before);
        head.extend_from_slice(b"\x08\0\x18\0UI\x06\x001.2.3\0");
        assert_eq!(uid_of_file(&head), None);
    }
}
