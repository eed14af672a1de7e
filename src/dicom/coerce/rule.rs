//! What a rule of coercion may be: which attribute it changes, to what, and when.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use super::{CHARACTER_SET, SOP_INSTANCE};
use crate::dicom::recast::ORIGINAL_ATTRIBUTES;
use crate::dicom::text::CharacterSet;
use crate::dicom::{attributes, permitted, vr};

/// Study, Series and SOP Instance UID.
const IDENTITY: [Tag; 3] = [Tag(0x0020, 0x000D), Tag(0x0020, 0x000E), SOP_INSTANCE];

/// What a rule does to its attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It has this value.
    Set(String),
    /// It has this value where it has none.
    Default(String),
    /// A value that is listed becomes another.
    Map(BTreeMap<String, String>),
    /// A value begins with this.
    Prefix(String),
    /// It is left out.
    Remove,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) tag: Tag,
    pub(super) vr: VR,
    pub(super) name: String,
    pub(super) action: Action,
    pub(super) when: Vec<(Tag, String)>,
}

impl Rule {
    /// Whether it declares the character set in which those after it read and write.
    #[must_use]
    pub fn declares_character_set(&self) -> bool {
        self.tag == CHARACTER_SET
    }

    /// A rule for an attribute by keyword or tag, where others have these values.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(attribute: &str, action: Action, when: &[(String, String)]) -> Result<Self, String> {
        let (tag, vr) = known(attribute)?;
        if tag == CHARACTER_SET {
            check_character_set(&action)?;
        }
        if IDENTITY.contains(&tag) && !matches!(action, Action::Map(_) | Action::Prefix(_)) {
            return Err(
                "a UID tells one from another, so a rule must not give the same to many; use `map` or `prefix`"
                    .to_owned(),
            );
        }
        action.check(vr)?;
        let when = when.iter().map(|(name, value)| Ok((known(name)?.0, value.clone())));
        Ok(Self { tag, vr, name: attribute.to_owned(), action, when: when.collect::<Result<_, String>>()? })
    }
}

impl Action {
    /// Refuses values that an attribute of this VR cannot hold.
    fn check(&self, vr: VR) -> Result<(), String> {
        let fits = |value: &String| {
            permitted::check(vr, value)
                .map_err(|accepted| format!("`{value}` is no value of its VR {}, which is {accepted}", vr.to_string()))
        };
        match self {
            Self::Set(value) | Self::Default(value) => fits(value),
            Self::Map(values) => values.values().try_for_each(fits),
            // nothing begins with what cannot go on
            Self::Prefix(_) if matches!(vr, VR::AS | VR::DA | VR::DT | VR::TM) => {
                Err(format!("a value of its VR {} cannot have a prefix; use `set`, `default` or `map`", vr.to_string()))
            }
            Self::Prefix(prefix) => permitted::check(vr, &format!("{prefix}1")).map_err(|accepted| {
                format!("no value of its VR {} begins with `{prefix}`; it is {accepted}", vr.to_string())
            }),
            Self::Remove => Ok(()),
        }
    }
}

/// Refuses another character set than the one in which the texts are: nothing is known of the bytes of most of them.
fn check_character_set(action: &Action) -> Result<(), String> {
    match action {
        Action::Default(value) if value.is_empty() || CharacterSet::is_defined(value) => Ok(()),
        Action::Default(value) => Err(format!(
            "`{value}` is no Specific Character Set of the standard, such as `ISO_IR 100` (Latin 1) or `ISO_IR 192` (UTF-8)"
        )),
        _ => Err(
            "the texts of the instance are not recoded, so they would be read wrongly in another character set; use \
                  `default` to declare the one of senders that name none, or have the sender name its own"
                .to_owned(),
        ),
    }
}

/// An attribute that rules may name: a text of the root data set that comes early.
fn known(name: &str) -> Result<(Tag, VR), String> {
    let found = attributes::find(name).filter(|found| found.vr != VR::UN);
    let found = found
        .ok_or_else(|| format!("`{name}` is no attribute; name it by keyword (`PatientID`) or tag (`00100020`)"))?;
    let usable = !vr::is_binary(found.vr) && vr::word(found.vr) == 1 && found.vr != VR::SQ && found.vr != VR::AT;
    if !usable || found.tag >= ORIGINAL_ATTRIBUTES || found.tag.0 < 0x0008 {
        return Err(format!("`{name}` cannot be changed by a rule: it must be a text of a group from 0008 to 03FF"));
    }
    Ok((found.tag, found.vr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn rules_name_texts_that_come_before_pixel_data() {
        for name in
            ["PatientId", "PixelData", "Rows", "ReferencedStudySequence", "00020010", "04000565", "00091001", ""]
        {
            assert!(Rule::new(name, Action::Remove, &[]).is_err(), "{name}");
        }
        assert!(Rule::new("PatientID", Action::Remove, &[(text("Rows"), text("1"))]).is_err());
    }

    #[test]
    fn no_rule_gives_many_instances_the_same_uid() {
        for name in ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"] {
            for action in [Action::Set(text("1.2")), Action::Default(text("1.2")), Action::Remove] {
                assert!(Rule::new(name, action, &[]).unwrap_err().contains("`map` or `prefix`"), "{name}");
            }
            let map = Action::Map([(text("1.2"), text("1.3"))].into());
            assert!(Rule::new(name, map, &[]).is_ok() && Rule::new(name, Action::Prefix(text("9.")), &[]).is_ok());
        }
    }
}
