//! What the DICOM JSON model demands of every object (PS3.18 Annex F), and how to look at answers in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The objects of an array by their SOP Instance UID, or by how that is written where it is no UI.
pub fn by_uid(array: &Value) -> BTreeMap<String, Value> {
    let uid = |object: &Value| {
        let attribute = &object["00080018"];
        attribute["Value"][0].as_str().map_or_else(|| attribute.to_string(), str::to_owned)
    };
    array.as_array().unwrap().iter().map(|object| (uid(object), object.clone())).collect()
}

/// Panics with the first rule that is broken.
pub fn assert_well_formed(json: &[u8]) {
    if let Some(broken) = first_fault(json) {
        panic!("{broken}");
    }
}

/// The first rule that an array of data sets breaks.
pub fn first_fault(json: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(json) else { return Some("not UTF-8".to_owned()) };
    let Ok(Value::Array(objects)) = serde_json::from_str(text) else { return Some("not an array".to_owned()) };
    // a map does not tell in which order members came
    let mut last: Vec<String> = Vec::new();
    let mut depth = 0_usize;
    let mut bytes = text.char_indices();
    while let Some((at, character)) = bytes.next() {
        match character {
            '{' | '[' => {
                depth += 1;
                last.resize(depth + 1, String::new());
                last[depth].clear();
            }
            '}' | ']' => depth -= 1,
            '"' => {
                let mut escaped = false;
                let end = bytes.find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                })?;
                let (key, after) = (&text[at + 1..end.0], &text[end.0 + 1..]);
                if after.starts_with(':') && key.len() == 8 {
                    if last[depth].as_str() >= key {
                        return Some(format!("{key} after {}", last[depth]));
                    }
                    key.clone_into(&mut last[depth]);
                }
            }
            _ => {}
        }
    }
    objects.iter().find_map(|object| dataset(object.as_object()?))
}

fn dataset(object: &Map<String, Value>) -> Option<String> {
    object.iter().find_map(|(tag, attribute)| {
        let hex = tag.len() == 8 && tag.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        if !hex || tag.starts_with("0002") || tag.ends_with("0000") {
            return Some(format!("{tag} is no attribute of a data set"));
        }
        let vr = attribute["vr"].as_str().filter(|vr| vr.len() == 2);
        let forms =
            ["Value", "InlineBinary", "BulkDataURI"].iter().filter(|form| attribute.get(**form).is_some()).count();
        let members = attribute.as_object().map_or(0, Map::len);
        let empty = attribute["Value"].as_array().is_some_and(Vec::is_empty);
        if vr.is_none() || forms > 1 || members != 1 + forms || empty {
            return Some(format!("{tag} is {vr:?} with {forms} forms of value and {members} members"));
        }
        let items = attribute["Value"].as_array().filter(|_| vr == Some("SQ"));
        items?.iter().find_map(|item| dataset(item.as_object()?)).map(|fault| format!("{tag}: {fault}"))
    })
}

/// All BulkDataURIs of a data set.
pub fn bulk_data_uris(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in object.as_object().into_iter().flat_map(Map::values) {
        found.extend(attribute["BulkDataURI"].as_str().map(str::to_owned));
        if attribute["vr"] == "SQ" {
            found.extend(attribute["Value"].as_array().into_iter().flatten().flat_map(bulk_data_uris));
        }
    }
    found
}
