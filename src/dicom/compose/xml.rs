//! Reads the Native DICOM Model, one document per instance (PS3.19 A.1, PS3.18 8.7.3.2): what [`crate::dicom::xml`] writes.
//!
//! Names count without their prefix, so a document may be in its namespace or in none. There is no document type, and no
//! entity but the five of XML itself. What the model does not know is refused: to pass over it would lose it.

use std::borrow::Cow;

use dicom_core::{Tag, VR};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::dicom::compose::error::{ComposeError, Fault};
use crate::dicom::compose::json::{empty, vr_of};
use crate::dicom::compose::model::{
    Dataset, Element, Known, Limits, Meter, Value, is_left_out, is_no_attribute, tag_of,
};
use crate::dicom::compose::private::{Attribute, with_blocks};
use crate::dicom::compose::value::{Values, inline_binary, may_be_sequence};

/// Attributes of one element of XML; the model has four at most.
const MOST_ATTRIBUTES: usize = 16;
/// The groups of a person's name, in their order.
const GROUPS: [&[u8]; 3] = [b"Alphabetic", b"Ideographic", b"Phonetic"];
/// The components of a group, in their order.
const COMPONENTS: [&[u8]; 5] = [b"FamilyName", b"GivenName", b"MiddleName", b"NamePrefix", b"NameSuffix"];

/// Reads one instance; `known` is told which one it is even when it is refused.
///
/// # Errors
/// It is not a document of the model, or costs more than `limits`.
pub fn read(text: &[u8], limits: Limits, known: &mut Known) -> Result<Dataset, ComposeError> {
    let text = std::str::from_utf8(text)
        .map_err(|error| ComposeError::Syntax { position: error.valid_up_to(), what: "the XML is not UTF-8" })?;
    let mut xml = quick_xml::Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    xml.config_mut().expand_empty_elements = true;
    let mut reader = Reader { xml, meter: Meter::new(limits), known };
    reader.document()
}

/// Reads elements of the model. Recursion is as deep as sequences nest, which is bounded.
struct Reader<'a, 'k> {
    xml: quick_xml::Reader<&'a [u8]>,
    meter: Meter,
    known: &'k mut Known,
}

/// What an element says in its attributes.
#[derive(Default)]
struct Said<'a> {
    tag: Option<Cow<'a, str>>,
    vr: Option<Cow<'a, str>>,
    creator: Option<Cow<'a, str>>,
    number: Option<Cow<'a, str>>,
    uri: Option<Cow<'a, str>>,
}

impl<'a> Reader<'a, '_> {
    fn error(&self, what: &'static str) -> ComposeError {
        ComposeError::Syntax { position: usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX), what }
    }

    fn event(&mut self) -> Result<Event<'a>, ComposeError> {
        let event = self.xml.read_event().map_err(|_| self.error("the XML is not well formed"))?;
        match &event {
            Event::DocType(_) => Err(self.error("the XML has a document type")),
            Event::Decl(declaration) => {
                let named = declaration.encoding().transpose().map_err(|_| self.error("the XML is not well formed"))?;
                let known =
                    |name: &[u8]| [&b"utf-8"[..], b"us-ascii"].iter().any(|known| name.eq_ignore_ascii_case(known));
                if named.is_none_or(|name| known(&name)) { Ok(event) } else { Err(self.error("the XML is not UTF-8")) }
            }
            _ => Ok(event),
        }
    }

    fn document(&mut self) -> Result<Dataset, ComposeError> {
        let mut dataset = None;
        loop {
            match self.event()? {
                Event::Eof => break,
                Event::Start(start) if dataset.is_none() && start.local_name().as_ref() == b"NativeDicomModel" => {
                    dataset = Some(self.dataset(0)?);
                }
                Event::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {}
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
                _ => return Err(self.error("the document is not a `NativeDicomModel`")),
            }
        }
        dataset.ok_or_else(|| self.error("the document is not a `NativeDicomModel`"))
    }

    /// The next element inside of the open one; `None` at the end of that.
    fn child(&mut self) -> Result<Option<BytesStart<'a>>, ComposeError> {
        loop {
            match self.event()? {
                Event::Start(start) => return Ok(Some(start)),
                Event::End(_) => return Ok(None),
                Event::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {}
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => return Err(self.error("the XML ends too early")),
                _ => return Err(self.error("text stands where the model has elements")),
            }
        }
    }

    /// The text of the open element.
    fn text(&mut self) -> Result<Cow<'a, str>, ComposeError> {
        let mut text = Cow::Borrowed("");
        loop {
            let piece = match self.event()? {
                Event::Text(piece) => piece.xml10_content().map_err(|_| self.error("the XML is not UTF-8"))?,
                Event::CData(piece) => piece.xml10_content().map_err(|_| self.error("the XML is not UTF-8"))?,
                Event::GeneralRef(reference) => Cow::Owned(self.referenced(&reference)?.to_string()),
                Event::Comment(_) | Event::PI(_) => continue,
                Event::End(_) => return Ok(text),
                _ => return Err(self.error("an element stands where the model has text")),
            };
            self.meter.charge(piece.len())?;
            if text.is_empty() {
                text = piece;
            } else {
                text.to_mut().push_str(&piece);
            }
        }
    }

    fn referenced(&self, reference: &BytesRef<'_>) -> Result<char, ComposeError> {
        let unknown = || self.error("a reference names no character of XML");
        match &reference[..] {
            b"lt" => Ok('<'),
            b"gt" => Ok('>'),
            b"amp" => Ok('&'),
            b"quot" => Ok('"'),
            b"apos" => Ok('\''),
            _ => reference.resolve_char_ref().ok().flatten().ok_or_else(unknown),
        }
    }

    /// Nothing more may come in the open element.
    fn nothing(&mut self) -> Result<(), ComposeError> {
        match self.child()? {
            None => Ok(()),
            Some(_) => Err(self.error("an element stands where the model has none")),
        }
    }

    fn said<'e>(&self, start: &'e BytesStart<'a>) -> Result<Said<'e>, ComposeError> {
        let mut said = Said::default();
        let mut attributes = start.attributes();
        // it would compare each with all before it
        attributes.with_checks(false);
        for (count, attribute) in attributes.enumerate() {
            let attribute = attribute.map_err(|_| self.error("the XML is not well formed"))?;
            if count >= MOST_ATTRIBUTES {
                return Err(self.error("an element has too many attributes"));
            }
            let place = match attribute.key.local_name().as_ref() {
                b"tag" => &mut said.tag,
                b"vr" => &mut said.vr,
                b"privateCreator" => &mut said.creator,
                b"number" => &mut said.number,
                // a UUID names bulk data of the model's other use, between processes
                b"uri" | b"uuid" => &mut said.uri,
                _ => continue,
            };
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            *place = Some(value.map_err(|_| self.error("the XML is not well formed"))?);
        }
        Ok(said)
    }

    fn dataset(&mut self, depth: usize) -> Result<Dataset, ComposeError> {
        self.meter.enter(depth)?;
        let mut attributes = Vec::new();
        while let Some(start) = self.child()? {
            if start.local_name().as_ref() != b"DicomAttribute" {
                return Err(self.error("something else than a `DicomAttribute` stands in a data set"));
            }
            let said = self.said(&start)?;
            let tag = said.tag.as_deref().and_then(tag_of);
            let tag = tag.ok_or_else(|| self.error("a `DicomAttribute` has no `tag` of eight hexadecimal digits"))?;
            if is_no_attribute(tag) {
                return Err(ComposeError::attribute(tag, None, Fault::NoAttribute));
            }
            let creator = said.creator.as_deref().map(str::to_owned);
            let vr = match said.vr.as_deref() {
                Some(named) => vr_of(tag, named),
                None => vr_of(tag, ""),
            };
            let vr = vr.ok_or_else(|| ComposeError::attribute(tag, None, Fault::NoVr))?;
            if vr == VR::SQ && !may_be_sequence(tag) {
                return Err(ComposeError::attribute(tag, vr, Fault::Type));
            }
            let value = self.value(tag, vr, depth)?;
            if !is_left_out(tag) {
                self.meter.element(&value)?;
                self.meter.charge(creator.as_ref().map_or(0, String::len))?;
                let element = Element { vr, value };
                if depth == 0 {
                    self.known.note(tag, &element);
                }
                attributes.push(Attribute { tag, creator, element });
            }
        }
        Dataset::new(with_blocks(attributes)?)
    }

    /// The content of an attribute, to its end.
    fn value(&mut self, tag: Tag, vr: VR, depth: usize) -> Result<Value, ComposeError> {
        let fault = |fault| ComposeError::attribute(tag, vr, fault);
        let mut values = Values::new(vr);
        let mut items = Vec::new();
        let mut whole = None;
        let mut count = 0_u64;
        while let Some(start) = self.child()? {
            let said = self.said(&start)?;
            let name = start.local_name();
            let several = matches!(name.as_ref(), b"Value" | b"PersonName" | b"Item");
            // values are all of one kind, and bulk data stands alone
            if whole.is_some() || (!several && count > 0) {
                return Err(fault(Fault::Forms));
            }
            let before = values.len();
            if several {
                let number = said.number.as_deref().map_or(Some(count + 1), |text| text.trim().parse().ok());
                let number = number.filter(|number| *number > count).ok_or_else(|| fault(Fault::Structure))?;
                self.missing(&mut values, vr, number - count - 1)
                    .map_err(|error| error.unwrap_or_else(|| fault(Fault::Missing)))?;
                count = number;
            }
            match name.as_ref() {
                b"Item" if vr == VR::SQ => {
                    self.meter.item()?;
                    items.push(self.dataset(depth + 1)?);
                }
                b"Value" if vr != VR::SQ => values.text(&self.text()?).map_err(fault)?,
                b"PersonName" if vr != VR::SQ => self.person_name(&mut values, tag)?,
                b"InlineBinary" => whole = Some(Value::Bytes(inline_binary(vr, &self.text()?).map_err(fault)?)),
                b"BulkData" if vr != VR::SQ => {
                    let uri = said.uri.as_deref().ok_or_else(|| fault(Fault::Structure))?.to_owned();
                    self.nothing()?;
                    whole = Some(Value::Bulk(uri));
                }
                _ => return Err(fault(Fault::Type)),
            }
            self.meter.charge(values.len() - before)?;
        }
        match whole {
            Some(value) => Ok(value),
            None if vr == VR::SQ => Ok(Value::Items(items)),
            None if count == 0 => Ok(empty(vr)),
            None => values.finish().map(Value::Bytes).map_err(fault),
        }
    }

    /// Values that the numbers of those around them tell to be missing; the inner error is that of memory.
    fn missing(&mut self, values: &mut Values, vr: VR, count: u64) -> Result<(), Option<ComposeError>> {
        if vr == VR::SQ {
            return if count == 0 { Ok(()) } else { Err(None) };
        }
        for _ in 0..count {
            self.meter.charge(1).map_err(Some)?;
            values.null().map_err(|_| None)?;
        }
        Ok(())
    }

    fn person_name(&mut self, values: &mut Values, tag: Tag) -> Result<(), ComposeError> {
        let fault = |fault| ComposeError::attribute(tag, VR::PN, fault);
        let mut groups = [const { String::new() }; 3];
        while let Some(start) = self.child()? {
            let place = GROUPS.iter().position(|group| *group == start.local_name().as_ref());
            let group = place.and_then(|place| groups.get_mut(place)).ok_or_else(|| fault(Fault::Structure))?;
            *group = self.name_group(tag)?;
        }
        values.name(groups.each_ref().map(String::as_str)).map_err(fault)
    }

    fn name_group(&mut self, tag: Tag) -> Result<String, ComposeError> {
        let mut components: [Cow<'a, str>; 5] = [const { Cow::Borrowed("") }; 5];
        while let Some(start) = self.child()? {
            let place = COMPONENTS.iter().position(|component| *component == start.local_name().as_ref());
            let component = place.and_then(|place| components.get_mut(place));
            let component = component.ok_or_else(|| ComposeError::attribute(tag, VR::PN, Fault::Structure))?;
            *component = self.text()?;
        }
        let used = components.iter().rposition(|component| !component.is_empty()).map_or(0, |last| last + 1);
        Ok(components.get(..used).unwrap_or_default().join("^"))
    }
}

#[cfg(test)]
#[path = "xml_tests.rs"]
mod tests;
