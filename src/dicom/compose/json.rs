//! Reads DICOM JSON (PS3.18 Annex F): finds the instances of a request, and reads them one at a time.
//!
//! Two passes, so that no more than one instance is held in another form than as text: [`instances`] checks the grammar
//! of the whole and tells where each object lies, [`read`] makes a data set of one of them. What is wrong with the
//! grammar concerns the request, what is wrong with the model concerns the instance.

use std::ops::Range;

use dicom_core::{Tag, VR};

use crate::dicom::compose::error::{ComposeError, Fault};
use crate::dicom::compose::lexer::Lexer;
use crate::dicom::compose::model::{
    Dataset, Element, Known, Limits, Meter, Value, is_left_out, is_no_attribute, tag_of,
};
use crate::dicom::compose::value::{Values, inline_binary, may_be_sequence};
use crate::dicom::vr;

/// Where the instances of a text lie: the elements of one array, or one object that stands alone.
///
/// # Errors
/// The text is not UTF-8 or not JSON, or something else than an array or an object, or there are more than `most`.
pub fn instances(text: &[u8], most: usize) -> Result<Vec<Range<usize>>, ComposeError> {
    let text = std::str::from_utf8(text)
        .map_err(|error| ComposeError::Syntax { position: error.valid_up_to(), what: "the JSON is not UTF-8" })?;
    let mut lexer = Lexer::new(text);
    if text.starts_with('\u{feff}') {
        lexer = lexer.from('\u{feff}'.len_utf8());
    }
    let mut found = Vec::new();
    let mut take = |lexer: &mut Lexer<'_>| {
        lexer.peek();
        let start = lexer.position();
        lexer.skip()?;
        found.push(start..lexer.position());
        Ok(())
    };
    match lexer.peek() {
        Some(b'{') => take(&mut lexer)?,
        Some(b'[') => {
            lexer.expect(b'[', "an array is missing")?;
            let mut first = true;
            let mut count = 0_usize;
            while lexer.another(&mut first, b']')? {
                count += 1;
                if count > most {
                    return Err(ComposeError::TooMany(most));
                }
                take(&mut lexer)?;
            }
        }
        _ => return Err(lexer.error("an array of instances is missing")),
    }
    lexer.end()?;
    Ok(found)
}

/// Reads one instance; `known` is told which one it is even when it is refused.
///
/// # Errors
/// It is not an object of the model, or costs more than `limits`.
pub fn read(text: &[u8], limits: Limits, known: &mut Known) -> Result<Dataset, ComposeError> {
    let text = std::str::from_utf8(text)
        .map_err(|error| ComposeError::Syntax { position: error.valid_up_to(), what: "the JSON is not UTF-8" })?;
    let mut reader = Reader { meter: Meter::new(limits), known };
    let mut lexer = Lexer::new(text);
    let dataset = reader.dataset(&mut lexer, 0)?;
    lexer.end()?;
    Ok(dataset)
}

/// Reads objects of the model. Recursion is as deep as sequences nest, which is bounded.
struct Reader<'k> {
    meter: Meter,
    known: &'k mut Known,
}

/// What the object of an attribute holds: where its value begins, if that cannot be read yet.
#[derive(Default)]
struct Members<'a> {
    vr: Option<VR>,
    named: bool,
    value: Option<Value>,
    /// Whether it is InlineBinary, and the text from there on.
    later: Option<(bool, Lexer<'a>)>,
}

impl Reader<'_> {
    fn dataset(&mut self, lexer: &mut Lexer<'_>, depth: usize) -> Result<Dataset, ComposeError> {
        self.meter.enter(depth)?;
        lexer.expect(b'{', "an object of attributes is missing")?;
        let mut elements = Vec::new();
        let mut first = true;
        while lexer.another(&mut first, b'}')? {
            let unknown = lexer.error("a member is not named by a tag of eight hexadecimal digits");
            let tag = tag_of(&lexer.key()?).ok_or(unknown)?;
            if is_no_attribute(tag) {
                return Err(ComposeError::attribute(tag, None, Fault::NoAttribute));
            }
            if is_left_out(tag) {
                lexer.skip()?;
                continue;
            }
            let element = self.attribute(lexer, tag, depth)?;
            if depth == 0 {
                self.known.note(tag, &element);
            }
            self.meter.element(&element.value)?;
            elements.push((tag, element));
        }
        Dataset::new(elements)
    }

    fn attribute(&mut self, lexer: &mut Lexer<'_>, tag: Tag, depth: usize) -> Result<Element, ComposeError> {
        let fault = |fault| ComposeError::attribute(tag, None, fault);
        if lexer.peek() != Some(b'{') {
            return Err(fault(Fault::Structure));
        }
        lexer.expect(b'{', "an attribute is missing")?;
        let mut members = Members::default();
        let mut first = true;
        while lexer.another(&mut first, b'}')? {
            let key = lexer.key()?;
            match &*key {
                "vr" if members.named => return Err(fault(Fault::Structure)),
                "vr" => {
                    members.named = true;
                    members.vr = vr_of(tag, string(lexer).ok_or_else(|| fault(Fault::Structure))??.as_ref());
                }
                "Value" | "InlineBinary" | "BulkDataURI" => {
                    if members.value.is_some() || members.later.is_some() {
                        return Err(fault(Fault::Forms));
                    }
                    self.member(lexer, &key, tag, &mut members, depth)?;
                }
                // what other writers add, such as the keyword, says nothing that the tag does not
                _ => lexer.skip()?,
            }
        }
        let vr = match (members.vr, &members.value) {
            (Some(vr), _) => vr,
            (None, Some(Value::Items(_))) => VR::SQ,
            (None, _) => vr_of(tag, "").ok_or_else(|| fault(Fault::NoVr))?,
        };
        if let Some((inline, mut later)) = members.later {
            members.value = Some(self.value(&mut later, inline, tag, vr, depth)?);
        }
        let value = members.value.unwrap_or_else(|| empty(vr));
        if (vr == VR::SQ) != matches!(value, Value::Items(_)) || vr == VR::SQ && !may_be_sequence(tag) {
            return Err(ComposeError::attribute(tag, vr, Fault::Type));
        }
        Ok(Element { vr, value })
    }

    /// A member that has the value. It is read when the VR is known: after this object, if need be.
    fn member<'a>(
        &mut self,
        lexer: &mut Lexer<'a>,
        key: &str,
        tag: Tag,
        members: &mut Members<'a>,
        depth: usize,
    ) -> Result<(), ComposeError> {
        match (key, members.vr) {
            ("BulkDataURI", _) => {
                let uri = string(lexer).ok_or_else(|| ComposeError::attribute(tag, members.vr, Fault::Structure))??;
                members.value = Some(Value::Bulk(uri.into_owned()));
            }
            (_, Some(vr)) => members.value = Some(self.value(lexer, key == "InlineBinary", tag, vr, depth)?),
            // whatever the VR: and what lies in items is not read twice
            ("Value", None) if holds_items(lexer.clone()) => {
                members.value = Some(self.value(lexer, false, tag, VR::SQ, depth)?);
            }
            (_, None) => {
                members.later = Some((key == "InlineBinary", lexer.clone()));
                lexer.skip()?;
            }
        }
        Ok(())
    }

    /// The value of Value or InlineBinary.
    fn value(
        &mut self,
        lexer: &mut Lexer<'_>,
        inline: bool,
        tag: Tag,
        vr: VR,
        depth: usize,
    ) -> Result<Value, ComposeError> {
        let fault = |fault| ComposeError::attribute(tag, vr, fault);
        match lexer.peek() {
            Some(b'"') if inline => {
                let bytes = inline_binary(vr, &lexer.string()?).map_err(fault)?;
                self.meter.charge(bytes.len())?;
                Ok(Value::Bytes(bytes))
            }
            Some(b'[') if inline => Err(fault(Fault::Structure)),
            Some(b'[') if vr == VR::SQ => self.items(lexer, tag, depth).map(Value::Items),
            Some(b'[') => self.values(lexer, tag, vr).map(Value::Bytes),
            Some(b'n') => {
                lexer.word()?;
                Ok(empty(vr))
            }
            _ => Err(fault(Fault::Structure)),
        }
    }

    fn items(&mut self, lexer: &mut Lexer<'_>, tag: Tag, depth: usize) -> Result<Vec<Dataset>, ComposeError> {
        lexer.expect(b'[', "an array is missing")?;
        let mut items = Vec::new();
        let mut first = true;
        while lexer.another(&mut first, b']')? {
            self.meter.item()?;
            items.push(match lexer.peek() {
                Some(b'{') => self.dataset(lexer, depth + 1)?,
                // an item without attributes (PS3.18 F.2.5)
                Some(b'n') => {
                    lexer.word()?;
                    Dataset::default()
                }
                _ => return Err(ComposeError::attribute(tag, VR::SQ, Fault::Type)),
            });
        }
        Ok(items)
    }

    fn values(&mut self, lexer: &mut Lexer<'_>, tag: Tag, vr: VR) -> Result<Vec<u8>, ComposeError> {
        let fault = |fault| ComposeError::attribute(tag, vr, fault);
        lexer.expect(b'[', "an array is missing")?;
        let mut values = Values::new(vr);
        let mut first = true;
        while lexer.another(&mut first, b']')? {
            let before = values.len();
            match lexer.peek() {
                Some(b'"') => values.text(&lexer.string()?).map_err(fault)?,
                Some(b'n') => {
                    lexer.word()?;
                    values.null().map_err(fault)?;
                }
                Some(b'{') => name(lexer, &mut values).map_err(|error| error.unwrap_or_else(fault))?,
                Some(b'-' | b'0'..=b'9') => values.number(lexer.number()?).map_err(fault)?,
                _ => return Err(fault(Fault::Type)),
            }
            self.meter.charge(values.len() - before)?;
        }
        values.finish().map_err(fault)
    }
}

/// Whether an array has an item with an attribute.
fn holds_items(mut lexer: Lexer<'_>) -> bool {
    let mut look = || -> Result<bool, ComposeError> {
        lexer.expect(b'[', "an array is missing")?;
        let mut first = true;
        while lexer.another(&mut first, b']')? {
            if lexer.peek() == Some(b'n') {
                lexer.word()?;
                continue;
            }
            lexer.expect(b'{', "an object is missing")?;
            if lexer.another(&mut true, b'}')? {
                return Ok(tag_of(&lexer.key()?).is_some());
            }
        }
        Ok(false)
    };
    look().unwrap_or(false)
}

/// A person's name as an object of its groups; the inner error is that of the text or that of the model.
fn name(lexer: &mut Lexer<'_>, values: &mut Values) -> Result<(), Result<ComposeError, Fault>> {
    lexer.expect(b'{', "an object is missing").map_err(Ok)?;
    let mut groups = [const { String::new() }; 3];
    let mut first = true;
    while lexer.another(&mut first, b'}').map_err(Ok)? {
        let key = lexer.key().map_err(Ok)?;
        let known = ["Alphabetic", "Ideographic", "Phonetic"].iter().position(|group| *group == key);
        let group = known.and_then(|known| groups.get_mut(known)).ok_or(Err(Fault::Type))?;
        match lexer.peek() {
            Some(b'"') => *group = lexer.string().map_err(Ok)?.into_owned(),
            Some(b'n') => drop(lexer.word().map_err(Ok)?),
            _ => return Err(Err(Fault::Type)),
        }
    }
    values.name(groups.each_ref().map(String::as_str)).map_err(Err)
}

/// A string, if there is one; the inner result is that of reading it.
fn string<'a>(lexer: &mut Lexer<'a>) -> Option<Result<std::borrow::Cow<'a, str>, ComposeError>> {
    (lexer.peek() == Some(b'"')).then(|| lexer.string())
}

/// The VR that is named, else the one that the dictionary has, if it has one.
pub(super) fn vr_of(tag: Tag, named: &str) -> Option<VR> {
    named.parse().ok().or_else(|| vr::only_of_tag(tag))
}

/// No value.
pub(super) fn empty(vr: VR) -> Value {
    if vr == VR::SQ { Value::Items(Vec::new()) } else { Value::Bytes(Vec::new()) }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
