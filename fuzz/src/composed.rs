//! What both forms of metadata have to hold: what composes is a file that says the same, every time.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dicom_core::Tag;
use isocenter::dicom::compose::{
    self, Amount, Budget, Bulk, ComposeError, Dataset, Element, Form, Known, Limits, Part, Piece, Value,
};
use isocenter::dicom::header::{Header, HeaderError, HeaderLimits, HeaderReader};
use isocenter::dicom::json::write_metadata;
use isocenter::dicom::media::MediaReader;
use isocenter::dicom::media::error::MediaError;
use isocenter::dicom::transfer_syntax;
use isocenter::dicom::uid::TransferSyntaxUid;
use isocenter::dicom::xml;

use super::model;

const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
/// Small enough to be met, and what others read that nest not as deep as we do.
pub const LIMITS: Limits = Limits { depth: 32, bytes: 256 << 10 };

/// Small enough to be met by some text of that size.
const MOST: Amount = Amount { parts: 100, bytes: 4 << 20 };

/// Bulk data of a request, by the URIs that name them.
#[derive(Default)]
pub struct Parts {
    parts: Vec<(Part, Vec<u8>)>,
    names: BTreeMap<String, Vec<usize>>,
}

impl Parts {
    /// Adds a part.
    pub fn push(&mut self, uri: &str, form: Form, bytes: &[u8]) {
        let part = Part { length: bytes.len() as u64, ascii: bytes.is_ascii(), form };
        self.names.entry(uri.to_owned()).or_default().push(self.parts.len());
        self.parts.push((part, bytes.to_vec()));
    }

    fn media(&mut self, uri: &str, media_type: &str, bytes: &[u8]) {
        let mut reader = MediaReader::of(media_type, None).expect("a known media type");
        reader.push(bytes);
        self.push(uri, Form::Media(reader.finish().expect("a good file")), bytes);
    }

    /// The file that pieces make; each piece of a part lies in it.
    pub fn file(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut file = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => file.extend_from_slice(bytes),
                Piece::Part { number, range } => {
                    let range =
                        usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
                    file.extend_from_slice(&self.parts[*number].1[range]);
                }
            }
        }
        file
    }
}

impl Bulk for Parts {
    fn named(&self, uri: &str) -> &[usize] {
        self.names.get(uri).map_or(&[], Vec::as_slice)
    }

    fn part(&self, number: usize) -> Option<&Part> {
        self.parts.get(number).map(|(part, _)| part)
    }
}

/// One part of each kind, under names that are easily found.
static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let mut parts = Parts::default();
    let frame = |uid| Form::Frame(TransferSyntaxUid::parse(uid).expect("a UID"));
    parts.push("p", Form::Plain, &[1, 2, 3, 4]);
    parts.push("odd", Form::Plain, "caf\u{e9}".as_bytes());
    parts.push("j", frame("1.2.840.10008.1.2.4.50"), &[1, 2, 3]);
    parts.push("j", frame("1.2.840.10008.1.2.4.50"), &[4, 5]);
    parts.push("mix", frame("1.2.840.10008.1.2.4.50"), &[1, 2]);
    parts.push("mix", frame("1.2.840.10008.1.2.5"), &[1, 2]);
    parts.push("b", Form::Broken(MediaError::Truncated), &[1]);
    parts.push("o", Form::Other, &[1]);
    parts.media("i", "image/jpeg", include_bytes!("../../tests/data/media/photo.jpg"));
    parts.media("g", "image/jpeg", include_bytes!("../../tests/data/media/grey.jpg"));
    parts.media("g", "image/jpeg", include_bytes!("../../tests/data/media/grey.jpg"));
    parts.media("r", "image/dicom-rle", include_bytes!("../../tests/data/media/colour.rle"));
    parts.media("v", "video/mp4", include_bytes!("../../tests/data/media/h264.mp4"));
    parts.media("d", "application/pdf", include_bytes!("../../tests/data/media/report.pdf"));
    parts
});

/// Reads one instance from a text.
pub type Read = fn(&[u8], Limits, &mut Known) -> Result<Dataset, ComposeError>;

/// Checks one instance.
pub fn check(read: Read, text: &[u8]) {
    let mut known = Known::default();
    let dataset = match read(text, LIMITS, &mut known) {
        Ok(dataset) => dataset,
        Err(error) => {
            assert!(error.to_string().len() < 200, "a short reason");
            return;
        }
    };
    assert!(held(&dataset) <= LIMITS.bytes, "{} bytes are held", held(&dataset));
    let again = read(text, LIMITS, &mut Known::default()).expect("as before");
    assert_eq!(again, dataset);
    let said = [SOP_CLASS_UID, SOP_INSTANCE_UID].map(|tag| dataset.text(tag).map(str::to_owned));
    let composed = compose::compose(dataset, &*PARTS, &mut budget());
    assert_eq!(compose::compose(again, &*PARTS, &mut budget()), composed, "not the same every time");
    if let Ok(pieces) = composed {
        assert_within(&pieces);
        assert_file(&PARTS.file(&pieces), &known, said);
    }
}

/// What an instance may take of the parts.
pub fn budget() -> Budget {
    Budget::new(MOST, MOST)
}

/// No more is made of the parts than the budget has.
fn assert_within(pieces: &[Piece]) {
    let part = |piece: &Piece| match piece {
        Piece::Part { range, .. } => range.end - range.start,
        Piece::Bytes(_) => 0,
    };
    assert!(pieces.iter().map(part).sum::<u64>() <= MOST.bytes);
}

/// Bytes that a data set takes.
fn held(dataset: &Dataset) -> usize {
    let value = |element: &Element| match &element.value {
        Value::Bytes(bytes) => bytes.len(),
        Value::Bulk(uri) => uri.len(),
        Value::Items(items) => items.iter().map(|item| size_of::<Dataset>() + held(item)).sum(),
    };
    dataset.iter().map(|(tag, element)| size_of_val(&tag) + size_of::<Element>() + value(element)).sum()
}

/// A file is read, and is the instance that the metadata said.
fn assert_file(file: &[u8], known: &Known, [class, instance]: [Option<String>; 2]) {
    assert!(file.len().is_multiple_of(2), "{} bytes", file.len());
    let header = match header(file) {
        Ok(header) => header,
        // the study or the series is missing or no UID, which is for the archive to say
        Err(HeaderError::Identity(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let identity = header.identity().expect("an identity");
    // a part may tell the class where the metadata do not
    assert!(class.is_none_or(|class| class == identity.sop_class.as_str()));
    assert_eq!(instance.as_deref(), Some(identity.key.instance.as_str()));
    assert_eq!(known.sop_instance, instance, "known however the reading ends");
    assert!(transfer_syntax::is_encapsulated(&header.transfer_syntax) || header.transfer_syntax.as_str() == NATIVE);
    assert_metadata(&header);
}

const NATIVE: &str = "1.2.840.10008.1.2.1";

/// What is written of a file is read again, in both forms.
fn assert_metadata(header: &Header) {
    let json = write_metadata(header).json;
    let array = [b"[", &json[..], b"]"].concat();
    model::assert_well_formed(&array);
    let found = compose::json::instances(&array, 1).expect("an array of one");
    assert_eq!(found, std::slice::from_ref(&(1..array.len() - 1)));
    let limits = Limits::default();
    compose::json::read(&json, limits, &mut Known::default()).unwrap_or_else(|error| panic!("JSON: {error}"));
    let object = serde_json::from_slice(&json).expect("well formed");
    let document = xml::write(&object);
    compose::xml::read(&document, limits, &mut Known::default()).unwrap_or_else(|error| panic!("XML: {error}"));
}

/// Reads a file.
pub fn header(file: &[u8]) -> Result<Header, HeaderError> {
    let mut reader = HeaderReader::new(HeaderLimits::default());
    reader.push(file)?;
    reader.finish()
}
