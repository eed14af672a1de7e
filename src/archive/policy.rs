//! What is stored at all by the operator's settings: which SOP classes, with which attributes.

use std::collections::HashSet;
use std::sync::Arc;

use dicom_core::Tag;

use crate::catalogue::{Occasion, Rules};
use crate::clock;
use crate::config::{CoercionAction, CoercionSetting, StoreSettings};
use crate::dicom::attributes;
use crate::dicom::coerce::{Action, Coercer, Rule};
use crate::dicom::events::Limits;
use crate::dicom::header::{Content, Header};
use crate::dicom::reasons::FailureReason;
use crate::dicom::uid::SopClassUid;
use crate::error::{Error, Result};

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What the index does with instances that do not fit to what it has.
    pub rules: Rules,
    /// By tag, with the name by which an answer calls it.
    required: Vec<(Tag, String)>,
    /// Rules that change attributes.
    pub(super) coercion: Arc<[Rule]>,
    /// None: all.
    sop_classes: Option<HashSet<SopClassUid>>,
}

impl Policy {
    /// Reads the settings.
    ///
    /// # Errors
    /// A configuration error that names the attribute or SOP class that is none.
    pub fn new(settings: &StoreSettings) -> Result<Self> {
        let required = settings.required_attributes.iter().map(|text| {
            attributes::find(text).map(|known| (known.tag, text.clone())).ok_or_else(|| {
                Error::configuration(format!(
                    "setting `store.required_attributes`: `{text}` is no attribute; name it by keyword (`PatientID`) or tag (`00100020`)"
                ))
            })
        });
        let class = |text: &String| {
            SopClassUid::parse(text)
                .map_err(|error| Error::configuration(format!("setting `store.sop_classes`: `{text}` {error}")))
        };
        let sop_classes = settings.sop_classes.iter().map(class).collect::<Result<HashSet<_>>>()?;
        Ok(Self {
            rules: Rules {
                duplicates: settings.duplicates,
                other_patient: settings.other_patient,
                occasion: Occasion::Stored,
            },
            coercion: coercion(&settings.coercion)?,
            required: required.collect::<Result<_>>()?,
            sop_classes: Some(sop_classes).filter(|classes| !classes.is_empty()),
        })
    }

    /// What changes the attributes of an instance that comes now, if anything may.
    pub(super) fn coercer(&self, limits: Limits) -> Option<Coercer> {
        if self.coercion.is_empty() {
            return None;
        }
        let now = clock::now();
        let (hour, minute, second) = now.time().as_hms();
        let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
        let at = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}+0000");
        Some(Coercer::new(Arc::clone(&self.coercion), limits, at))
    }

    /// Whether instances of this class are stored.
    pub(super) fn check_class(&self, class: &SopClassUid) -> Result<(), (FailureReason, String)> {
        match &self.sop_classes {
            Some(classes) if !classes.contains(class) => {
                Err((FailureReason::SopClassNotSupported, "instances of this SOP class are not stored here".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether an instance has what it must have.
    pub(super) fn check_header(&self, header: &Header) -> Result<(), (FailureReason, String)> {
        let missing = |tag: &Tag| {
            header.dataset.get(*tag).is_none_or(|element| match &element.content {
                Content::Held(_) => header.value(element).iter().all(|byte| matches!(byte, b' ' | 0)),
                Content::Items(items) => items.is_empty(),
                Content::Left | Content::Fragments => false,
            })
        };
        match self.required.iter().find(|(tag, _)| missing(tag)) {
            Some((_, name)) => Err((FailureReason::MissingAttribute, format!("`{name}` is missing or empty"))),
            None => Ok(()),
        }
    }
}

/// The rules, checked.
fn coercion(settings: &[CoercionSetting]) -> Result<Arc<[Rule]>> {
    let mut rules: Vec<Rule> = Vec::with_capacity(settings.len());
    for (number, setting) in (1_usize..).zip(settings) {
        let wrong = |what: &str| {
            Error::configuration(format!("setting `store.coercion`: rule {number} for `{}`: {what}", setting.attribute))
        };
        let made = rule(setting).map_err(|what| wrong(&what))?;
        if made.declares_character_set() && rules.iter().any(|rule| !rule.declares_character_set()) {
            return Err(wrong("it must stand before the rules for other attributes, which read their texts by it"));
        }
        rules.push(made);
    }
    Ok(rules.into())
}

fn rule(setting: &CoercionSetting) -> Result<Rule, String> {
    let value = || setting.value.clone().ok_or("its action needs a `value`");
    let action = match setting.action {
        CoercionAction::Set => Action::Set(value()?),
        CoercionAction::Default => Action::Default(value()?),
        CoercionAction::Prefix => Action::Prefix(value()?),
        CoercionAction::Map if setting.values.is_empty() => return Err("its action needs `values`".to_owned()),
        CoercionAction::Map => Action::Map(setting.values.clone()),
        CoercionAction::Remove => Action::Remove,
    };
    let when: Vec<(String, String)> = setting.when.clone().into_iter().collect();
    Rule::new(&setting.attribute, action, &when)
}
