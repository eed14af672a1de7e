//! Images, videos and documents: how a part is cut changes nothing, and what is found lies in it and makes a file.
//!
//! Input: a byte for the media type, a byte that says how to cut and what a client said, the part.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};
use isocenter::dicom::compose::{self, Form, Known as Identified};
use isocenter::dicom::media::derive::{Derived, Known, Value, merge};
use isocenter::dicom::media::error::MediaError;
use isocenter::dicom::media::{Kind, Media, MediaReader};

use super::composed::{self, LIMITS, Parts};

const TYPES: [&str; 7] =
    ["image/jpeg", "image/jp2", "image/jxl", "image/dicom-rle", "video/mp4", "application/pdf", "image/jphc"];
/// What a client may name; most of them contradict the bytes.
const SYNTAXES: [Option<&str>; 4] =
    [None, Some("1.2.840.10008.1.2.4.50"), Some("1.2.840.10008.1.2.4.202"), Some("1.2.840.10008.1.2.4.91")];
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);

/// Checks one input.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = super::first(data) else { return };
    let Some((seed, part)) = super::first(rest) else { return };
    let media_type = TYPES[usize::from(kind & 0x0F) % TYPES.len()];
    let syntax = SYNTAXES[usize::from(kind >> 4 & 3)];
    let whole = read(media_type, syntax, &[part]);
    for cut in [1, seed] {
        assert_eq!(read(media_type, syntax, &super::chunks(cut, part)), whole, "cut by {cut}");
    }
    let Ok(media) = whole else { return };
    let fragment = media.fragment();
    assert!(fragment.start <= fragment.end && fragment.end <= part.len() as u64, "{fragment:?} of {}", part.len());
    assert_eq!(media.kind() == Kind::Document, media_type == "application/pdf");
    for said in [Said::default(), Said::sized(), Said::odd(seed)] {
        for parts in [&[media.clone()][..], &[media.clone(), media.clone()], &[]] {
            if let Ok(derived) = merge(parts, &said) {
                assert_derived(&derived);
            }
        }
    }
    assert_composes(media, part);
}

fn read(media_type: &str, syntax: Option<&str>, chunks: &[&[u8]]) -> Result<Media, MediaError> {
    let mut reader = MediaReader::of(media_type, syntax).expect("a known media type");
    for chunk in chunks {
        reader.push(chunk);
    }
    let failed = reader.failure();
    let found = reader.finish();
    assert!(failed.is_none_or(|error| found == Err(error)));
    found
}

/// What a client said.
#[derive(Default)]
struct Said(BTreeMap<Tag, String>);

impl Said {
    fn sized() -> Self {
        Self([(ROWS, "24".to_owned()), (COLUMNS, "32".to_owned())].into())
    }

    /// Contradictions of many kinds.
    fn odd(seed: u8) -> Self {
        let tags = [
            Tag(0x0008, 0x0016),
            Tag(0x0008, 0x0018),
            Tag(0x0028, 0x0002),
            Tag(0x0028, 0x0004),
            Tag(0x0028, 0x0006),
            Tag(0x0028, 0x0008),
            ROWS,
            COLUMNS,
            Tag(0x0028, 0x0100),
            Tag(0x0028, 0x0101),
            Tag(0x0028, 0x2110),
            Tag(0x0018, 0x1063),
        ];
        let texts = ["", "0", "1", "3", "8", "65535", "-1", "RGB", "1.2.840.10008.5.1.4.1.1.77.1.5.1", "MONOCHROME2"];
        let mut state = u32::from(seed);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        let mut said = BTreeMap::new();
        for tag in tags {
            if next() % 4 == 0 {
                said.insert(tag, texts[next() % texts.len()].to_owned());
            }
        }
        Self(said)
    }
}

impl Known for Said {
    fn has(&self, tag: Tag) -> bool {
        self.0.contains_key(&tag)
    }

    fn text(&self, tag: Tag) -> Option<&str> {
        self.0.get(&tag).map(String::as_str)
    }
}

/// In order, each once, in the form that its VR asks for.
fn assert_derived(derived: &[Derived]) {
    assert!(derived.is_sorted_by(|one, next| one.tag < next.tag), "not in order");
    for Derived { tag, vr, value } in derived {
        match value {
            Value::Numbers(numbers) => assert!(*vr == VR::US && !numbers.is_empty(), "{tag}"),
            Value::Long(_) => assert_eq!(*vr, VR::UL, "{tag}"),
            Value::Tags(_) => assert_eq!(*vr, VR::AT, "{tag}"),
            Value::Items(items) => assert!(*vr == VR::SQ && !items.is_empty(), "{tag}"),
            Value::Text(text) if matches!(*vr, VR::DS | VR::CS) => {
                assert!(text.split('\\').all(|text| text.len() <= 16), "{tag}: {text}");
                let finite = |text: &str| text.parse().is_ok_and(|number: f64| number.is_finite());
                assert!(*vr == VR::CS || text.split('\\').all(finite), "{tag}: {text}");
            }
            Value::Empty | Value::Text(_) => {}
        }
    }
}

/// With its metadata it makes a file, or is refused.
fn assert_composes(media: Media, bytes: &[u8]) {
    let document = media.kind() == Kind::Document;
    let tag = if document { "00420011" } else { "7FE00010" };
    let native = "1.2.840.10008.1.2.1";
    let syntax = if document { native } else { media.transfer_syntax() }.to_owned();
    let text = format!(
        r#"{{"00080018":{{"vr":"UI","Value":["1.2.3.4"]}},"0020000D":{{"vr":"UI","Value":["1.2"]}},"0020000E":
        {{"vr":"UI","Value":["1.2.3"]}},"{tag}":{{"vr":"OB","BulkDataURI":"p"}}}}"#
    );
    let dataset = compose::json::read(text.as_bytes(), LIMITS, &mut Identified::default()).expect("good metadata");
    let mut parts = Parts::default();
    parts.push("p", Form::Media(media), bytes);
    if let Ok(pieces) = compose::compose(dataset, &parts, &mut composed::budget()) {
        let header = composed::header(&parts.file(&pieces)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(header.transfer_syntax.as_str(), syntax);
    }
}
