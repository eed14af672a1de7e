//! Writes DICOM JSON (PS3.18 Annex F): the metadata of an instance, and single attributes in the same form.
//!
//! It is written once, at ingest. What lies outside of the header is named by BulkDataURI, as the path within the instance
//! (`bulkdata/7FE00010`); [`splice_base`] puts the base before it when the metadata are served.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::dicom::attribute_set::{AttributeSetBuilder, write_key};
use crate::dicom::bulk::{BulkIndexBuilder, BulkKind, BulkValue};
use crate::dicom::entry::AttributeSet;
use crate::dicom::frames::FrameIndex;
use crate::dicom::header::{Content, Dataset, Element, Header};
use crate::dicom::read::{self, effective_charset};
use crate::dicom::text::{CharacterSet, split};
use crate::dicom::values::{PersonName, unpad, write_json_number};
use crate::dicom::vr;

/// The member that names bulk data, up to where the base goes. It cannot be part of a string, in which quotes are escaped.
pub(super) const BULK_DATA_MEMBER: &[u8] = b"\"BulkDataURI\":\"";

/// The largest whole number that every reader of JSON keeps exactly (2^53 - 1).
const LARGEST_EXACT: u64 = (1 << 53) - 1;

/// What is kept of an instance to answer for its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// One JSON object.
    pub json: Vec<u8>,
    /// Where the value of each BulkDataURI lies; see [`crate::dicom::bulk::find`].
    pub bulk: Vec<u8>,
}

/// The metadata of an instance, its transfer syntax added as Available Transfer Syntax UID (0008,3002) where it is not there.
pub fn write_metadata(header: &Header) -> Metadata {
    write_metadata_within(header, usize::MAX).unwrap_or_default()
}

/// The same, given up when it comes to more than about `most` bytes.
pub fn write_metadata_within(header: &Header, most: usize) -> Option<Metadata> {
    let mut writer = Writer::new(header, Some(BulkIndexBuilder::default()));
    writer.most = most;
    writer.out.reserve(16 * 1024);
    writer.out.push(b'{');
    writer.root(|_| true, |_, _, _| {});
    writer.out.push(b'}');
    let bulk = writer.bulk.map(BulkIndexBuilder::finish).unwrap_or_default();
    (writer.out.len() <= most).then_some(Metadata { json: writer.out, bulk })
}

/// The attributes of the root data set that are wanted, each as [`write_metadata`] writes it; those with bulk data are left out.
pub fn attribute_set(header: &Header, wanted: impl Fn(Tag) -> bool) -> AttributeSet {
    let mut set = AttributeSetBuilder::default();
    let mut writer = Writer::new(header, None);
    writer.root(wanted, |tag, start, out| {
        // `start` is past the key and its colon
        if let Some(fragment) = out.get(start..) {
            set.fragment(tag, fragment);
        }
        out.clear();
    });
    set.build()
}

/// Appends stored metadata with the base before each BulkDataURI, as in `/dicom-web/studies/S/series/E/instances/I/`, and a
/// suffix behind it, as in `?v=2`.
pub fn splice_base(json: &[u8], base: &str, suffix: &str, out: &mut Vec<u8>) {
    out.reserve(json.len() + 4 * base.len());
    let mut copied = 0;
    for found in memchr::memmem::find_iter(json, BULK_DATA_MEMBER) {
        let end = found + BULK_DATA_MEMBER.len();
        out.extend_from_slice(json.get(copied..end).unwrap_or(&[]));
        write_escaped(out, base);
        copied = end;
        if !suffix.is_empty() {
            // a path of bulk data has no quote
            let uri = json.get(end..).unwrap_or(&[]);
            let uri = uri.get(..memchr::memchr(b'"', uri).unwrap_or(0)).unwrap_or(&[]);
            out.extend_from_slice(uri);
            write_escaped(out, suffix);
            copied += uri.len();
        }
    }
    out.extend_from_slice(json.get(copied..).unwrap_or(&[]));
}

/// Writes one header. Recursion is as deep as sequences nest, which the parser bounds.
struct Writer<'a> {
    header: &'a Header,
    out: Vec<u8>,
    /// Without an index, elements of bulk data are left out.
    bulk: Option<BulkIndexBuilder>,
    /// The items that enclose what is written: sequence, and number from 1.
    path: Vec<(Tag, u32)>,
    /// When the output is longer than this, nothing more is added: it is given up.
    most: usize,
}

/// The value of the element could not be written, as there is no index for its bulk data.
struct LeftOut;

impl<'a> Writer<'a> {
    fn new(header: &'a Header, bulk: Option<BulkIndexBuilder>) -> Self {
        Self { header, out: Vec::new(), bulk, path: Vec::new(), most: usize::MAX }
    }

    /// The root data set; `each` learns of every attribute with the position in the output where its object begins.
    fn root(&mut self, wanted: impl Fn(Tag) -> bool, mut each: impl FnMut(Tag, usize, &mut Vec<u8>)) {
        let header = self.header;
        let charset = effective_charset(header, &header.dataset, CharacterSet::default());
        let mut syntax = Some(tags::AVAILABLE_TRANSFER_SYNTAX_UID).filter(|&tag| wanted(tag));
        for element in &header.dataset.elements {
            match syntax.map(|tag| tag.cmp(&element.tag)) {
                Some(Ordering::Less) => {
                    self.transfer_syntax(&mut each);
                    syntax = None;
                }
                Some(Ordering::Equal) => syntax = None,
                Some(Ordering::Greater) | None => {}
            }
            if wanted(element.tag)
                && let Some(start) = self.element(element, charset)
            {
                each(element.tag, start, &mut self.out);
            }
        }
        if syntax.is_some() {
            self.transfer_syntax(&mut each);
        }
    }

    fn transfer_syntax(&mut self, each: &mut impl FnMut(Tag, usize, &mut Vec<u8>)) {
        let tag = tags::AVAILABLE_TRANSFER_SYNTAX_UID;
        let start = self.key(tag);
        self.vr(VR::UI);
        self.out.extend_from_slice(b",\"Value\":[");
        write_string(&mut self.out, self.header.transfer_syntax.as_str());
        self.out.extend_from_slice(b"]}");
        each(tag, start, &mut self.out);
    }

    fn item(&mut self, item: &Dataset, inherited: CharacterSet) {
        let charset = effective_charset(self.header, item, inherited);
        self.out.push(b'{');
        for element in &item.elements {
            self.element(element, charset);
        }
        self.out.push(b'}');
    }

    /// A member of the object that is open; where its value begins, unless it was left out.
    fn element(&mut self, element: &Element, charset: CharacterSet) -> Option<usize> {
        if is_excluded(element.tag) || self.out.len() > self.most {
            return None;
        }
        let before = self.out.len();
        let start = self.key(element.tag);
        if self.attribute(element, charset).is_err() {
            self.out.truncate(before);
            return None;
        }
        self.out.push(b'}');
        Some(start)
    }

    /// The comma, where one is due, and the key of a member; the position after its colon.
    fn key(&mut self, tag: Tag) -> usize {
        write_key(&mut self.out, tag);
        self.out.len()
    }

    fn vr(&mut self, vr: VR) {
        self.out.extend_from_slice(b"{\"vr\":\"");
        self.out.extend_from_slice(vr.to_string().as_bytes());
        self.out.push(b'"');
    }

    /// Metadata say what the data set says. An answer to a search is of our own making: what came as UN there has the VR of the
    /// dictionary, by which it was found too.
    fn vr_of(&self, element: &Element) -> VR {
        match (&self.bulk, read::vr_of(element)) {
            (Some(_), _) | (None, VR::SQ) => element.vr,
            (None, vr) => vr,
        }
    }

    fn attribute(&mut self, element: &Element, charset: CharacterSet) -> Result<(), LeftOut> {
        match &element.content {
            Content::Items(items) => {
                self.vr(VR::SQ);
                self.items(element.tag, items, charset);
                Ok(())
            }
            Content::Fragments => {
                self.vr(element.vr);
                self.bulk_data(element, BulkKind::Encapsulated)
            }
            Content::Left => {
                self.vr(element.vr);
                self.plain_bulk_data(element)
            }
            Content::Held(_) => {
                let raw = self.header.value(element);
                if element.tag == tags::SPECIFIC_CHARACTER_SET {
                    // whatever it was, and if it was empty: what is written is UTF-8
                    self.vr(VR::CS);
                    self.out.extend_from_slice(b",\"Value\":[\"ISO_IR 192\"]");
                    return Ok(());
                }
                let vr = self.vr_of(element);
                self.vr(vr);
                if raw.is_empty() {
                    return Ok(());
                }
                if is_pixel_data(element.tag) || is_not_a_number(vr, raw) {
                    return self.plain_bulk_data(element);
                }
                self.held(vr, raw, charset);
                Ok(())
            }
        }
    }

    fn items(&mut self, tag: Tag, items: &[Dataset], charset: CharacterSet) {
        if items.is_empty() {
            return;
        }
        self.out.extend_from_slice(b",\"Value\":[");
        for (number, item) in (1..).zip(items) {
            if number > 1 {
                self.out.push(b',');
            }
            self.path.push((tag, number));
            self.item(item, charset);
            self.path.pop();
        }
        self.out.push(b']');
    }

    fn plain_bulk_data(&mut self, element: &Element) -> Result<(), LeftOut> {
        let width = match &self.header.frames {
            // as its frames have it: by the pixel, where that is wider than the word of the VR
            FrameIndex::Native(native) if self.path.is_empty() && is_pixel_data(element.tag) => native.swap,
            _ if element.big_endian => vr::word(element.vr),
            _ => 1,
        };
        if element.extent.length == 0 { Ok(()) } else { self.bulk_data(element, BulkKind::Plain { swap: width }) }
    }

    fn bulk_data(&mut self, element: &Element, kind: BulkKind) -> Result<(), LeftOut> {
        let bulk = self.bulk.as_mut().ok_or(LeftOut)?;
        let deflated = self.header.encoding.deflated;
        bulk.push(&self.path, element.tag, &BulkValue { vr: element.vr, extent: element.extent, kind, deflated });
        self.out.push(b',');
        self.out.extend_from_slice(BULK_DATA_MEMBER);
        self.out.extend_from_slice(b"bulkdata/");
        for &(tag, item) in &self.path {
            write_hex(&mut self.out, tag);
            self.out.push(b'/');
            self.out.extend_from_slice(itoa::Buffer::new().format(item).as_bytes());
            self.out.push(b'/');
        }
        write_hex(&mut self.out, element.tag);
        self.out.push(b'"');
        Ok(())
    }

    /// A held value that is not empty.
    fn held(&mut self, vr: VR, raw: &[u8], charset: CharacterSet) {
        match vr {
            VR::OB | VR::OW | VR::OF | VR::OD | VR::OL | VR::OV | VR::UN => self.inline_binary(raw),
            // a sequence is never held; there is nothing to say of it
            VR::SQ => {}
            VR::US => self.numbers(raw, |out, bytes| write_integer(out, u16::from_le_bytes(bytes))),
            VR::SS => self.numbers(raw, |out, bytes| write_integer(out, i16::from_le_bytes(bytes))),
            VR::UL => self.numbers(raw, |out, bytes| write_integer(out, u32::from_le_bytes(bytes))),
            VR::SL => self.numbers(raw, |out, bytes| write_integer(out, i32::from_le_bytes(bytes))),
            VR::UV => self.numbers(raw, |out, bytes| {
                let value = u64::from_le_bytes(bytes);
                write_long(out, value <= LARGEST_EXACT, value);
            }),
            VR::SV => self.numbers(raw, |out, bytes| {
                let value = i64::from_le_bytes(bytes);
                write_long(out, value.unsigned_abs() <= LARGEST_EXACT, value);
            }),
            VR::FL => self.numbers(raw, |out, bytes| {
                out.extend_from_slice(ryu::Buffer::new().format(f32::from_le_bytes(bytes)).as_bytes());
            }),
            VR::FD => self.numbers(raw, |out, bytes| {
                out.extend_from_slice(ryu::Buffer::new().format(f64::from_le_bytes(bytes)).as_bytes());
            }),
            VR::AT => self.numbers(raw, |out, [g0, g1, e0, e1]: [u8; 4]| {
                out.push(b'"');
                write_hex(out, Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1])));
                out.push(b'"');
            }),
            VR::IS | VR::DS => self.strings(vr, raw, charset, |out, value| {
                if !write_json_number(value.as_bytes(), out) {
                    write_string(out, value);
                }
            }),
            VR::PN => self.strings(vr, raw, charset, write_person_name),
            VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DT
            | VR::LO
            | VR::LT
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT => self.strings(vr, raw, charset, write_string),
        }
    }

    fn inline_binary(&mut self, raw: &[u8]) {
        self.out.extend_from_slice(b",\"InlineBinary\":\"");
        let start = self.out.len();
        // four characters for each three bytes begun
        self.out.resize(start + raw.len().div_ceil(3) * 4, 0);
        let written = self.out.get_mut(start..).and_then(|room| BASE64.encode_slice(raw, room).ok()).unwrap_or(0);
        self.out.truncate(start + written);
        self.out.push(b'"');
    }

    /// Values of a fixed width; what does not fill one is not a value.
    fn numbers<const N: usize>(&mut self, raw: &[u8], write: impl Fn(&mut Vec<u8>, [u8; N])) {
        let (values, _) = raw.as_chunks::<N>();
        if values.is_empty() {
            return;
        }
        self.out.extend_from_slice(b",\"Value\":[");
        for (index, &value) in values.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(&mut self.out, value);
        }
        self.out.push(b']');
    }

    /// Values of text; empty ones are null (PS3.18 F.2.5), and when all are, there is no Value.
    fn strings(&mut self, vr: VR, raw: &[u8], charset: CharacterSet, write: impl Fn(&mut Vec<u8>, &str)) {
        let text = charset.decode(vr, raw);
        let before = self.out.len();
        let mut something = false;
        self.out.extend_from_slice(b",\"Value\":[");
        for (index, value) in split(vr, &text).map(|value| unpad(vr, value)).enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            if value.is_empty() || (vr == VR::PN && PersonName::parse(value).is_empty()) {
                self.out.extend_from_slice(b"null");
            } else {
                write(&mut self.out, value);
                something = true;
            }
        }
        if something {
            self.out.push(b']');
        } else {
            self.out.truncate(before);
        }
    }
}

/// File meta information and group lengths are no part of the model (PS3.18 F.2.2).
fn is_excluded(tag: Tag) -> bool {
    tag.group() == 0x0002 || tag.element() == 0x0000
}

/// Pixel data in any of its three forms, of icons too.
fn is_pixel_data(tag: Tag) -> bool {
    matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA)
}

/// Holds a NaN or an infinity, for which JSON has no number.
fn is_not_a_number(vr: VR, raw: &[u8]) -> bool {
    match vr {
        VR::FL => raw.as_chunks().0.iter().any(|&bytes| !f32::from_le_bytes(bytes).is_finite()),
        VR::FD => raw.as_chunks().0.iter().any(|&bytes| !f64::from_le_bytes(bytes).is_finite()),
        _ => false,
    }
}

fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number of 64 bits, as text where JavaScript would round it.
fn write_long(out: &mut Vec<u8>, exact: bool, value: impl itoa::Integer) {
    if exact {
        write_integer(out, value);
    } else {
        out.push(b'"');
        write_integer(out, value);
        out.push(b'"');
    }
}

/// The non-empty component groups (PS3.18 F.2.2).
fn write_person_name(out: &mut Vec<u8>, value: &str) {
    let name = PersonName::parse(value);
    let mut between = b'{';
    for (group, text) in [
        (&b"\"Alphabetic\":"[..], name.alphabetic),
        (b"\"Ideographic\":", name.ideographic),
        (b"\"Phonetic\":", name.phonetic),
    ] {
        if !text.is_empty() {
            out.push(between);
            out.extend_from_slice(group);
            write_string(out, text);
            between = b',';
        }
    }
    out.push(b'}');
}

/// Eight upper-case hexadecimal digits.
pub(crate) fn write_hex(out: &mut Vec<u8>, tag: Tag) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let number = u32::from(tag.group()) << 16 | u32::from(tag.element());
    let digit = |shift: u32| DIGITS[(number >> shift & 0xF) as usize];
    out.extend_from_slice(&[28, 24, 20, 16, 12, 8, 4, 0].map(digit));
}

/// A JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// The inside of a JSON string (RFC 8259 section 7).
fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control & 0xF)]);
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};
    use dicom_dictionary_std::tags;
    use proptest::prelude::{ProptestConfig, any, proptest};
    use serde_json::{Value, json};

    use super::{BULK_DATA_MEMBER, attribute_set, splice_base, write_metadata, write_string};
    use crate::dicom::attribute_set::members;
    use crate::dicom::bulk::{BulkKind, BulkPath, BulkValue, find};
    use crate::dicom::corpus;
    use crate::dicom::frames::FrameIndex;
    use crate::dicom::header::{Content, Dataset, Element, Extent, Form, Header};
    use crate::dicom::samples::{self, BIG, IMPLICIT, UNDEFINED, Writer};
    use crate::dicom::stream::FileMeta;
    use crate::dicom::transfer_syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE, Encoding};
    use crate::dicom::uid::TransferSyntaxUid;
    use crate::dicom::vr;

    struct Build(Header);

    impl Build {
        fn new() -> Self {
            Self(Header {
                form: Form::Part10,
                transfer_syntax: TransferSyntaxUid::parse(EXPLICIT_LITTLE).unwrap(),
                encoding: Encoding::EXPLICIT_LITTLE,
                meta: FileMeta::default(),
                dataset_position: 0,
                dataset: Dataset::default(),
                frames: FrameIndex::None,
                number_of_frames: 0,
                arena: Vec::new(),
            })
        }

        fn held(&mut self, tag: Tag, vr: VR, value: &[u8]) -> Element {
            let start = self.0.arena.len();
            self.0.arena.extend_from_slice(value);
            let content = Content::Held(u32::try_from(start).unwrap()..u32::try_from(self.0.arena.len()).unwrap());
            let extent = Extent { position: start as u64, length: value.len() as u64 };
            Element { tag, vr, extent, big_endian: self.0.encoding.big_endian, content }
        }

        fn with(mut self, tag: Tag, vr: VR, value: &[u8]) -> Self {
            let element = self.held(tag, vr, value);
            self.0.dataset.elements.push(element);
            self
        }

        fn push(mut self, tag: Tag, vr: VR, content: Content) -> Self {
            let extent = Extent { position: 1000, length: 500 };
            let big_endian = self.0.encoding.big_endian;
            self.0.dataset.elements.push(Element { tag, vr, extent, big_endian, content });
            self
        }

        fn text(&self) -> String {
            String::from_utf8(write_metadata(&self.0).json).unwrap()
        }

        fn json(&self) -> Value {
            let mut json: Value = serde_json::from_str(&self.text()).unwrap();
            json.as_object_mut().unwrap().remove("00083002");
            json
        }
    }

    #[test]
    fn each_vr_has_the_form_of_annex_f() {
        for (vr, raw, wanted) in [
            (VR::LO, &b"a\\\\b "[..], json!({"vr": "LO", "Value": ["a", null, "b"]})),
            (VR::LO, b"", json!({"vr": "LO"})),
            (VR::LO, b"  ", json!({"vr": "LO"})),
            (VR::LO, b"\\", json!({"vr": "LO"})),
            (VR::LO, b" a\\", json!({"vr": "LO", "Value": [" a", null]})),
            (VR::LT, b"  a\\b\r\n \0", json!({"vr": "LT", "Value": ["  a\\b\r\n"]})),
            (VR::UI, b"1.2.3\0", json!({"vr": "UI", "Value": ["1.2.3"]})),
            (VR::IS, b" +12\\x\\\\1.5e1", json!({"vr": "IS", "Value": [12, "x", null, 15.0]})),
            (VR::DS, b"1.000000\\1,5 \\-.5", json!({"vr": "DS", "Value": [1, "1,5", -0.5]})),
            (VR::PN, b"Doe^J =\xc3\xa9= ", json!({"vr": "PN", "Value": [{"Alphabetic": "Doe^J", "Ideographic": "é"}]})),
            (VR::PN, b"A\\\\==x", json!({"vr": "PN", "Value": [{"Alphabetic": "A"}, null, {"Phonetic": "x"}]})),
            (VR::PN, b"==", json!({"vr": "PN"})),
            (VR::AT, b"\x08\x00\x18\x00\xe0\x7f\x10\x00", json!({"vr": "AT", "Value": ["00080018", "7FE00010"]})),
            (VR::US, b"\xff\xff\x01\x00", json!({"vr": "US", "Value": [65535, 1]})),
            (VR::SS, b"\xff\xff", json!({"vr": "SS", "Value": [-1]})),
            (VR::US, b"\xff", json!({"vr": "US"})),
            (VR::UL, b"\xff\xff\xff\xff", json!({"vr": "UL", "Value": [4_294_967_295_u32]})),
            (VR::SL, b"\xfe\xff\xff\xff", json!({"vr": "SL", "Value": [-2]})),
            (VR::UV, &u64::MAX.to_le_bytes(), json!({"vr": "UV", "Value": ["18446744073709551615"]})),
            (VR::UV, &((1_u64 << 53) - 1).to_le_bytes(), json!({"vr": "UV", "Value": [9_007_199_254_740_991_u64]})),
            (VR::SV, &i64::MIN.to_le_bytes(), json!({"vr": "SV", "Value": ["-9223372036854775808"]})),
            (VR::SV, &(-5_i64).to_le_bytes(), json!({"vr": "SV", "Value": [-5]})),
            (VR::FL, &0.1_f32.to_le_bytes(), json!({"vr": "FL", "Value": [0.1]})),
            (VR::FD, &221.364_006_400_108_34_f64.to_le_bytes(), json!({"vr": "FD", "Value": [221.364_006_400_108_34]})),
            (VR::OB, b"\x00\x01\x02\x03", json!({"vr": "OB", "InlineBinary": "AAECAw=="})),
            (VR::OB, b"", json!({"vr": "OB"})),
            (VR::UN, b"ab", json!({"vr": "UN", "InlineBinary": "YWI="})),
        ] {
            let build = Build::new().with(Tag(0x0009, 0x1001), vr, raw);
            assert_eq!(build.json(), json!({ "00091001": wanted }));
        }
    }

    #[test]
    fn keys_are_upper_case_and_file_meta_and_group_lengths_are_left_out() {
        let build = Build::new()
            .with(Tag(0x0002, 0x0010), VR::UI, b"1.2")
            .with(Tag(0x0008, 0x0000), VR::UL, &[0; 4])
            .with(Tag(0x0009, 0x0010), VR::LO, b"ACME")
            .with(Tag(0x0009, 0x10FF), VR::LO, b"x")
            .with(tags::ROWS, VR::US, &[2, 0]);
        assert_eq!(
            build.text(),
            concat!(
                r#"{"00083002":{"vr":"UI","Value":["1.2.840.10008.1.2.1"]},"00090010":{"vr":"LO","Value":["ACME"]},"#,
                r#""000910FF":{"vr":"LO","Value":["x"]},"00280010":{"vr":"US","Value":[2]}}"#
            )
        );
    }

    #[test]
    fn the_transfer_syntax_is_added_in_its_place_unless_the_file_names_one() {
        assert_eq!(Build::new().text(), r#"{"00083002":{"vr":"UI","Value":["1.2.840.10008.1.2.1"]}}"#);
        let own = Build::new().with(tags::AVAILABLE_TRANSFER_SYNTAX_UID, VR::UI, b"1.2.3\0");
        assert_eq!(own.text(), r#"{"00083002":{"vr":"UI","Value":["1.2.3"]}}"#);
        let before =
            Build::new().with(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"").with(tags::SOP_INSTANCE_UID, VR::UI, b"1");
        assert!(before.text().ends_with(r#","00083002":{"vr":"UI","Value":["1.2.840.10008.1.2.1"]}}"#));
    }

    #[test]
    fn text_is_in_utf_8_by_the_character_set_of_its_item_and_says_so() {
        let mut build = Build::new();
        let own = vec![
            build.held(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 144"),
            build.held(tags::PATIENT_ID, VR::LO, b"\xbb "),
        ];
        let inheriting = vec![build.held(tags::PATIENT_ID, VR::LO, b"\xe9 ")];
        let items = [own, inheriting, vec![]].map(|elements| Dataset { elements });
        let build = build
            .with(tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100")
            .push(tags::REFERENCED_SERIES_SEQUENCE, VR::UN, Content::Items(items.to_vec()))
            .push(tags::REFERENCED_STUDY_SEQUENCE, VR::SQ, Content::Items(vec![]))
            .with(tags::PATIENT_ID, VR::LO, b"\xe9\"\x01 ");
        let utf8 = json!({"vr": "CS", "Value": ["ISO_IR 192"]});
        assert_eq!(
            build.json(),
            json!({
                "00080005": utf8,
                "00081110": {"vr": "SQ"},
                "00081115": {"vr": "SQ", "Value": [
                    {"00080005": utf8, "00100020": {"vr": "LO", "Value": ["Л"]}},
                    {"00100020": {"vr": "LO", "Value": ["é"]}},
                    {},
                ]},
                "00100020": {"vr": "LO", "Value": ["é\"\u{1}"]},
            })
        );
    }

    #[test]
    fn what_is_not_held_is_found_by_the_uri_that_names_it() {
        let mut build = Build::new();
        build.0.encoding = Encoding::EXPLICIT_BIG;
        let icon = Dataset { elements: vec![build.held(tags::PIXEL_DATA, VR::OW, &[1, 2])] };
        let nan = f32::NAN.to_le_bytes();
        let build = build
            .push(tags::ICON_IMAGE_SEQUENCE, VR::SQ, Content::Items(vec![Dataset::default(), icon]))
            .with(Tag(0x0009, 0x1001), VR::FL, &nan)
            .push(Tag(0x5400, 0x0110), VR::OW, Content::Left)
            .push(tags::PIXEL_DATA, VR::OB, Content::Fragments);
        let metadata = write_metadata(&build.0);
        let mut json = Vec::new();
        splice_base(&metadata.json, "/dicom-web/x/", "", &mut json);
        let json: Value = serde_json::from_slice(&json).unwrap();
        let uri = |value: &Value| value["BulkDataURI"].as_str().unwrap().to_owned();
        let found = |value: &Value| {
            let path = uri(value).strip_prefix("/dicom-web/x/bulkdata/").map(BulkPath::parse).unwrap().unwrap();
            find(&metadata.bulk, &path).unwrap().unwrap()
        };
        assert_eq!(uri(&json["00880200"]["Value"][1]["7FE00010"]), "/dicom-web/x/bulkdata/00880200/2/7FE00010");
        let left = Extent { position: 1000, length: 500 };
        for (value, vr, extent, kind) in [
            (&json["7FE00010"], VR::OB, left, BulkKind::Encapsulated),
            (&json["54000110"], VR::OW, left, BulkKind::Plain { swap: 2 }),
            (&json["00091001"], VR::FL, Extent { position: 2, length: 4 }, BulkKind::Plain { swap: 4 }),
            (
                &json["00880200"]["Value"][1]["7FE00010"],
                VR::OW,
                Extent { position: 0, length: 2 },
                BulkKind::Plain { swap: 2 },
            ),
        ] {
            assert_eq!(found(value), BulkValue { vr, extent, kind, deflated: false });
        }
    }

    #[test]
    fn values_of_a_big_endian_file_leave_little_endian_whatever_order_their_sequence_has() {
        let words: Vec<u8> = (0..=255).cycle().take(2000).collect();
        let values = |writer: &mut Writer| {
            writer
                .put(tags::ROWS, VR::US, &[2, 1])
                .put(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, &words)
                .put(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, &[1, 2, 3, 4])
                .put(tags::VECTOR_GRID_DATA, VR::OF, &words)
                .put(tags::REAL_WORLD_VALUE_INTERCEPT, VR::FD, &f64::NAN.to_le_bytes())
                .bytes
                .clone()
        };
        let file = samples::file(EXPLICIT_BIG, BIG, |writer| {
            writer.identity().head(tags::ICON_IMAGE_SEQUENCE, VR::SQ, UNDEFINED).item(UNDEFINED);
            writer.raw(&values(&mut Writer::new(BIG))).end_item().end_sequence();
            // PS3.5 6.2.2: the sequence that UN hides is implicit little endian, the items and delimiters of it too
            writer.head(Tag(0x0099, 0x1001), VR::UN, UNDEFINED);
            let mut hidden = Writer::new(IMPLICIT);
            let inner = values(&mut Writer::new(IMPLICIT));
            hidden.item(UNDEFINED).raw(&inner).head(tags::ICON_IMAGE_SEQUENCE, VR::SQ, UNDEFINED).item(UNDEFINED);
            hidden.raw(&inner).end_item().end_sequence().end_item().end_sequence();
            writer.raw(&hidden.done()).head(Tag(0x0099, 0x1002), VR::SQ, UNDEFINED).item(UNDEFINED);
            writer.raw(&values(&mut Writer::new(BIG))).end_item().end_sequence();
        });
        let metadata = write_metadata(&corpus::read(&file, 100).unwrap());
        let json: Value = serde_json::from_slice(&metadata.json).unwrap();
        let nan = f64::NAN.to_le_bytes();
        for path in ["00880200/1/", "00991001/1/", "00991001/1/00880200/1/", "00991002/1/"] {
            let parts: Vec<&str> = path.split_terminator('/').collect();
            let item = parts.iter().step_by(2).fold(&json, |object, sequence| &object[sequence]["Value"][0]);
            assert_eq!(item["00280010"]["Value"], json!([0x0102]), "{path}");
            assert_eq!(item["00281202"]["InlineBinary"], "AQIDBA==", "{path}");
            for (tag, expected) in [("00281201", &words[..]), ("00640009", &words), ("00409224", &nan)] {
                assert_eq!(item[tag]["BulkDataURI"], format!("bulkdata/{path}{tag}"));
                let value = find(&metadata.bulk, &BulkPath::parse(&format!("{path}{tag}")).unwrap()).unwrap().unwrap();
                let start = usize::try_from(value.extent.position).unwrap();
                let mut bytes = file[start..start + usize::try_from(value.extent.length).unwrap()].to_vec();
                let BulkKind::Plain { swap } = value.kind else { panic!("{path}{tag}") };
                vr::swap(&mut bytes, swap);
                assert!(bytes == expected, "{path}{tag}: swapped by {swap}");
            }
        }
    }

    #[test]
    fn an_attribute_set_has_what_is_wanted_as_metadata_have_it_without_bulk_data() {
        let mut build = Build::new();
        let item = Dataset {
            elements: vec![build.held(tags::PIXEL_DATA, VR::OW, &[1, 2]), build.held(tags::ROWS, VR::US, &[1, 0])],
        };
        let build = build
            .with(tags::MODALITY, VR::CS, b"CT")
            .with(tags::PATIENT_ID, VR::LO, b"1 ")
            .push(tags::ICON_IMAGE_SEQUENCE, VR::SQ, Content::Items(vec![item]))
            .push(tags::PIXEL_DATA, VR::OW, Content::Left);
        let all = attribute_set(&build.0, |_| true);
        let written = write_metadata(&build.0).json;
        for (tag, fragment) in all.iter().filter(|(tag, _)| *tag != tags::ICON_IMAGE_SEQUENCE) {
            assert!(members(&written).any(|member| member == (tag, fragment)), "{tag}");
        }
        assert_eq!(all.iter().count(), 4);
        assert_eq!(
            all.get(tags::ICON_IMAGE_SEQUENCE),
            Some(&br#"{"vr":"SQ","Value":[{"00280010":{"vr":"US","Value":[1]}}]}"#[..])
        );
        let some = attribute_set(&build.0, |tag| tag == tags::PATIENT_ID);
        assert_eq!(some.iter().collect::<Vec<_>>(), [(tags::PATIENT_ID, &br#"{"vr":"LO","Value":["1"]}"#[..])]);
    }

    #[test]
    fn metadata_of_the_corpus_are_json_and_their_bulk_data_lie_in_the_file() {
        let (mut files, mut uris) = (0, 0);
        for (path, file) in corpus::files() {
            let Ok(header) = corpus::read(&file, file.len()) else { continue };
            files += 1;
            let metadata = write_metadata(&header);
            let json: Value = serde_json::from_slice(&metadata.json).unwrap_or_else(|error| panic!("{path}: {error}"));
            let keys: Vec<Tag> = members(&metadata.json).map(|(tag, _)| tag).collect();
            assert_eq!(keys.len(), json.as_object().unwrap().len(), "{path}");
            assert!(keys.is_sorted_by(|one, next| one < next), "{path}");
            let all = attribute_set(&header, |_| true);
            for (tag, fragment) in
                all.iter().filter(|(tag, _)| json[hex(*tag)]["vr"] != "SQ" && json[hex(*tag)]["vr"] != "UN")
            {
                assert!(members(&metadata.json).any(|member| member == (tag, fragment)), "{path}: {tag}");
            }
            let mut found = Vec::new();
            collect_uris(&json, &mut found);
            uris += found.len();
            for uri in found {
                let path_of_value = BulkPath::parse(uri.strip_prefix("bulkdata/").unwrap()).unwrap();
                let value = find(&metadata.bulk, &path_of_value).unwrap().unwrap_or_else(|| panic!("{path}: {uri}"));
                let end = value.extent.position.checked_add(value.extent.length).unwrap();
                assert!(value.deflated || end <= file.len() as u64, "{path}: {uri}");
            }
        }
        println!("metadata of {files} corpus files, {uris} bulk data");
    }

    fn hex(tag: Tag) -> String {
        format!("{:04X}{:04X}", tag.group(), tag.element())
    }

    fn collect_uris(json: &Value, found: &mut Vec<String>) {
        match json {
            Value::Object(members) => {
                if let Some(uri) = members.get("BulkDataURI") {
                    found.push(uri.as_str().unwrap().to_owned());
                }
                members.values().for_each(|value| collect_uris(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect_uris(value, found)),
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_survives_as_a_json_string(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn no_text_passes_for_the_member_of_bulk_data(before in any::<String>(), after in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &format!("{before}\"BulkDataURI\":\"{after}"));
            write_string(&mut out, &format!("{before}\\\"BulkDataURI\\\":\\\"{after}"));
            assert!(memchr::memmem::find(&out, BULK_DATA_MEMBER).is_none());
        }

        #[test]
        fn wild_values_give_valid_json(values in proptest::collection::vec((any::<(u16, u16)>(), 0_usize..32, any::<Vec<u8>>()), 0..8)) {
            let vrs = [VR::AE, VR::AS, VR::AT, VR::CS, VR::DA, VR::DS, VR::DT, VR::FL, VR::FD, VR::IS, VR::LO, VR::LT, VR::OB, VR::OD,
                VR::OF, VR::OL, VR::OV, VR::OW, VR::PN, VR::SH, VR::SL, VR::SQ, VR::SS, VR::ST, VR::SV, VR::TM, VR::UC, VR::UI,
                VR::UL, VR::UN, VR::UR, VR::US];
            let mut build = Build::new();
            for ((group, element), vr, raw) in values {
                build = build.with(Tag(group, element), vrs[vr], &raw);
            }
            let metadata = write_metadata(&build.0);
            let json: Value = serde_json::from_slice(&metadata.json).unwrap();
            assert_eq!(members(&metadata.json).count(), json.as_object().unwrap().len());
            for (tag, value) in json.as_object().unwrap() {
                assert!(value["vr"].is_string() && value.as_object().unwrap().len() <= 2);
                if !value["BulkDataURI"].is_null() {
                    assert!(find(&metadata.bulk, &BulkPath::parse(tag).unwrap()).unwrap().is_some());
                }
            }
        }
    }
}
