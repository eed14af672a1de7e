//! Tests of the readers on real files and on bytes made by hand, and of the attributes that come of them.

use std::collections::HashMap;
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use proptest::sample::Index;

use super::derive::{Derived, Known, Value, merge};
use super::error::MediaError;
use super::{Kind, Media, MediaReader};

/// File, last parts of the transfer syntax, Photometric Interpretation, Bits Stored, ratio and method.
const IMAGES: &[(&str, &str, &str, u16, Option<&str>)] = &[
    ("photo.jpg", "4.50", "YBR_FULL_422", 8, Some("ISO_10918_1")),
    ("photo_444.jpg", "4.50", "YBR_FULL_422", 8, Some("ISO_10918_1")),
    ("rgb.jpg", "4.50", "RGB", 8, Some("ISO_10918_1")),
    ("grey.jpg", "4.50", "MONOCHROME2", 8, Some("ISO_10918_1")),
    ("grey_12_bits.jpg", "4.51", "MONOCHROME2", 12, Some("ISO_10918_1")),
    ("lossless_16_bits.jpg", "4.70", "MONOCHROME2", 16, None),
    ("lossless_other_predictor.jpg", "4.57", "MONOCHROME2", 8, None),
    ("grey.jls", "4.80", "MONOCHROME2", 16, None),
    ("near.jls", "4.81", "MONOCHROME2", 8, Some("ISO_14495_1")),
    ("colour.jls", "4.80", "RGB", 8, None),
    ("lossless.j2k", "4.90", "YBR_RCT", 8, None),
    ("lossy.j2k", "4.91", "YBR_ICT", 8, Some("ISO_15444_1")),
    ("grey_16_bits.j2k", "4.90", "MONOCHROME2", 16, None),
    ("lossless.jp2", "4.90", "YBR_RCT", 8, None),
    ("lossless.jhc", "4.201", "YBR_RCT", 8, None),
    ("lossy.jhc", "4.203", "YBR_ICT", 8, Some("ISO_15444_15")),
    ("lossless.jxl", "4.110", "RGB", 8, None),
    ("grey_16_bits.jxl", "4.110", "MONOCHROME2", 16, None),
    ("lossy.jxl", "4.112", "XYB", 8, Some("ISO_18181_1")),
    ("recompressed.jxl", "4.111", "YBR_FULL_422", 8, Some("ISO_18181_1")),
    ("grey_16_bits.rle", "5", "MONOCHROME2", 16, None),
    ("colour.rle", "5", "RGB", 8, None),
];

const VIDEOS: &[(&str, &str, u16, &str)] = &[
    ("h264.mp4", "4.102", 8, "ISO_14496_10"),
    ("h264_header_first.mp4", "4.102", 8, "ISO_14496_10"),
    ("h264_fragments.mp4", "4.102", 8, "ISO_14496_10"),
    ("h264_main.mp4", "4.102", 8, "ISO_14496_10"),
    ("h265.mp4", "4.107", 8, "ISO_23008_2"),
    ("h265_10_bits.mp4", "4.108", 10, "ISO_23008_2"),
    ("mpeg2.m2v", "4.100", 8, "ISO_13818_2"),
    ("mpeg2.mpg", "4.100", 8, "ISO_13818_2"),
    ("mpeg2.ts", "4.100", 8, "ISO_13818_2"),
];

const REFUSED: &[(&str, MediaError)] = &[
    ("progressive.jpg", MediaError::NoSyntax("progressive jpeg")),
    ("cmyk.jpg", MediaError::NoPlace("four colour components")),
    ("h264_level_5.mp4", MediaError::NoSyntax("h.264 over level 4.2")),
    ("h264_422.mp4", MediaError::NoSyntax("this h.264 profile")),
    ("mpeg1.mpg", MediaError::NoSyntax("mpeg-1 video")),
];

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/media").join(name)).unwrap()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap() {
        "jpg" => "image/jpeg",
        "jls" => "image/jls",
        "j2k" | "jp2" => "image/jp2",
        "jhc" => "image/jphc",
        "jxl" => "image/jxl",
        "rle" => "image/dicom-rle",
        "mp4" => "video/mp4",
        "pdf" => "application/pdf",
        _ => "video/mpeg",
    }
}

fn read(media_type: &str, bytes: &[u8]) -> Result<Media, MediaError> {
    read_as(media_type, None, bytes)
}

fn read_as(media_type: &str, syntax: Option<&str>, bytes: &[u8]) -> Result<Media, MediaError> {
    let mut reader = MediaReader::of(media_type, syntax).unwrap();
    reader.push(bytes);
    reader.finish()
}

fn file(name: &str) -> Result<Media, MediaError> {
    read(media_type(name), &data(name))
}

fn syntax(last: &str) -> String {
    format!("1.2.840.10008.1.2.{last}")
}

/// What a client said, as texts; an empty text is an attribute without a value.
#[derive(Default)]
struct Said(HashMap<Tag, String>);

impl Known for Said {
    fn has(&self, tag: Tag) -> bool {
        self.0.contains_key(&tag)
    }

    fn text(&self, tag: Tag) -> Option<&str> {
        self.0.get(&tag).map(String::as_str).filter(|text| !text.is_empty())
    }
}

fn said<const N: usize>(attributes: [(Tag, &str); N]) -> Said {
    Said(attributes.map(|(tag, text)| (tag, text.to_owned())).into())
}

fn sized(name: &str) -> Said {
    if name.contains(".rle") { said([(tags::ROWS, "24"), (tags::COLUMNS, "32")]) } else { Said::default() }
}

fn value(derived: &[Derived], tag: Tag) -> Option<&Value> {
    derived.iter().find(|derived| derived.tag == tag).map(|derived| &derived.value)
}

fn text(derived: &[Derived], tag: Tag) -> Option<&str> {
    match value(derived, tag)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn number(derived: &[Derived], tag: Tag) -> Option<u16> {
    match value(derived, tag)? {
        Value::Numbers(numbers) => numbers.first().copied(),
        _ => None,
    }
}

#[test]
fn an_image_of_each_kind_says_its_syntax_and_pixels() {
    for &(name, last, photometric, bits, method) in IMAGES {
        let media = file(name).unwrap();
        assert_eq!(media.kind(), Kind::Image, "{name}");
        assert_eq!(media.transfer_syntax(), syntax(last), "{name}");
        let known = sized(name);
        let derived = merge(&[media], &known).unwrap();
        if !name.contains(".rle") {
            assert_eq!(number(&derived, tags::ROWS), Some(24), "{name}");
            assert_eq!(number(&derived, tags::COLUMNS), Some(32), "{name}");
        }
        assert_eq!(text(&derived, tags::PHOTOMETRIC_INTERPRETATION), Some(photometric), "{name}");
        let samples = if photometric == "MONOCHROME2" { 1 } else { 3 };
        assert_eq!(number(&derived, tags::SAMPLES_PER_PIXEL), Some(samples), "{name}");
        assert_eq!(number(&derived, tags::PLANAR_CONFIGURATION), (samples == 3).then_some(0), "{name}");
        assert_eq!(number(&derived, tags::BITS_STORED), Some(bits), "{name}");
        assert_eq!(number(&derived, tags::HIGH_BIT), Some(bits - 1), "{name}");
        assert_eq!(number(&derived, tags::BITS_ALLOCATED), Some(if bits > 8 { 16 } else { 8 }), "{name}");
        assert_eq!(number(&derived, tags::PIXEL_REPRESENTATION), Some(0), "{name}");
        assert_eq!(text(&derived, tags::LOSSY_IMAGE_COMPRESSION_METHOD), method, "{name}");
        assert_eq!(text(&derived, tags::LOSSY_IMAGE_COMPRESSION_RATIO).is_some(), method.is_some(), "{name}");
        let lossy = if method.is_some() { "01" } else { "00" };
        assert_eq!(text(&derived, tags::LOSSY_IMAGE_COMPRESSION), Some(lossy), "{name}");
    }
}

#[test]
fn a_video_of_each_kind_says_its_syntax_frames_and_time() {
    for &(name, last, bits, method) in VIDEOS {
        let media = file(name).unwrap();
        assert_eq!((media.kind(), media.fragment()), (Kind::Video, 0..data(name).len() as u64), "{name}");
        assert_eq!(media.transfer_syntax(), syntax(last), "{name}");
        let derived = merge(&[media], &Said::default()).unwrap();
        for (tag, wanted) in [(tags::ROWS, 48), (tags::COLUMNS, 64), (tags::BITS_STORED, bits)] {
            assert_eq!(number(&derived, tag), Some(wanted), "{name}");
        }
        for (tag, wanted) in [
            (tags::NUMBER_OF_FRAMES, "6"),
            (tags::FRAME_TIME, "40"),
            (tags::CINE_RATE, "25"),
            (tags::PHOTOMETRIC_INTERPRETATION, "YBR_PARTIAL_420"),
            (tags::LOSSY_IMAGE_COMPRESSION_METHOD, method),
            (tags::SOP_CLASS_UID, uids::VIDEO_PHOTOGRAPHIC_IMAGE_STORAGE),
            (tags::MODALITY, "XC"),
        ] {
            assert_eq!(text(&derived, tag), Some(wanted), "{name}");
        }
        assert_eq!(value(&derived, tags::FRAME_INCREMENT_POINTER), Some(&Value::Tags(vec![tags::FRAME_TIME])));
    }
}

#[test]
fn what_has_no_transfer_syntax_is_refused_by_name() {
    for &(name, error) in REFUSED {
        assert_eq!(file(name), Err(error), "{name}");
    }
}

#[test]
fn bytes_of_another_kind_are_refused() {
    for (media_type, what) in [
        ("image/jpeg", "jpeg"),
        ("image/jp2", "jpeg 2000"),
        ("image/jxl", "jpeg xl"),
        ("image/dicom-rle", "rle"),
        ("video/mpeg", "mpeg video"),
        ("application/pdf", "pdf"),
    ] {
        let text = b"these are letters, enough of them to look at more than the first sixty-four bytes of it";
        assert_eq!(read(media_type, text), Err(MediaError::Not(what)), "{media_type}");
        assert!(matches!(read(media_type, b""), Err(MediaError::Not(_))), "{media_type}");
    }
    assert!(MediaReader::of("application/octet-stream", None).is_none());
    assert!(MediaReader::of("Image/JPEG; transfer-syntax=x", None).is_some());
}

#[test]
fn the_wrapper_and_what_follows_the_image_are_left_out() {
    let jp2 = data("lossless.jp2");
    let media = read("image/jp2", &jp2).unwrap();
    let bare =
        jp2[usize::try_from(media.fragment().start).unwrap()..usize::try_from(media.fragment().end).unwrap()].to_vec();
    assert!(bare.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) && bare.ends_with(&[0xFF, 0xD9]));
    for (media_type, bytes) in [("image/jp2", bare), ("image/jpeg", data("photo.jpg"))] {
        let whole = bytes.len() as u64;
        assert_eq!(read(media_type, &bytes).unwrap().fragment(), 0..whole);
        let followed = [bytes.as_slice(), &[0, 0, 7, 0xFF, 0xD9]].concat();
        assert_eq!(read(media_type, &followed).unwrap().fragment(), 0..whole);
    }
}

#[test]
fn an_image_or_video_that_was_cut_off_is_refused() {
    for name in ["photo.jpg", "near.jls", "lossless.j2k", "lossless.jp2", "lossy.jhc", "h264.mp4"] {
        let bytes = data(name);
        for end in 0..bytes.len() - 1 {
            assert!(read(media_type(name), &bytes[..end]).is_err(), "{name} to {end}");
        }
    }
    // a program stream may end after any packet, but not in one
    assert_eq!(read("video/mpeg", &data("mpeg2.mpg")[..200]), Err(MediaError::Truncated));
    let pdf = data("report.pdf");
    assert_eq!(read("application/pdf", &pdf[..pdf.len() - 8]), Err(MediaError::Truncated));
}

#[test]
fn a_named_transfer_syntax_decides_only_what_the_bytes_leave_open() {
    for (name, last, allowed) in [
        ("photo.jpg", "4.50", true),
        ("photo.jpg", "4.51", true),
        ("photo.jpg", "4.70", false),
        ("lossless_16_bits.jpg", "4.57", true),
        ("lossless_other_predictor.jpg", "4.70", false),
        ("lossless.j2k", "4.91", true),
        ("lossy.j2k", "4.90", false),
        ("lossless.jhc", "4.203", true),
        ("lossy.jhc", "4.202", false),
        ("lossy.jxl", "4.110", false),
        ("h264.mp4", "4.103", true),
        ("h264.mp4", "4.102.1", true),
        ("h264.mp4", "4.107", false),
        ("h265_10_bits.mp4", "4.107", false),
        ("mpeg2.m2v", "4.101", true),
    ] {
        let found = read_as(media_type(name), Some(&syntax(last)), &data(name));
        if allowed {
            assert_eq!(found.unwrap().transfer_syntax(), syntax(last), "{name}");
        } else {
            assert_eq!(found, Err(MediaError::TransferSyntax), "{name} {last}");
        }
    }
    let pdf = read_as("application/pdf", Some("1.2.840.10008.1.2.1"), &data("report.pdf")).unwrap();
    assert_eq!(pdf.transfer_syntax(), "1.2.840.10008.1.2.1");
}

/// A JPEG of one component, 5 rows and 7 columns.
fn jpeg(sof: u8, segments: &[&[u8]], scan: [u8; 3]) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8];
    for segment in segments {
        bytes.extend_from_slice(segment);
    }
    bytes.extend_from_slice(&[0xFF, sof, 0, 11, 8, 0, 5, 0, 7, 1, 1, 0x11, 0]);
    bytes.extend_from_slice(&[0xFF, 0xDA, 0, 8, 1, 1, 0, scan[0], scan[1], scan[2]]);
    // stuffed bytes, a restart and fill bytes lie in the scan
    bytes.extend_from_slice(&[1, 0xFF, 0, 2, 0xFF, 0xD0, 3, 0xFF, 0xFF, 0xD9]);
    bytes
}

#[test]
fn the_process_of_a_jpeg_decides_its_syntax() {
    for (sof, scan, wanted) in [
        (0xC0, [0, 63, 0], Ok("4.50")),
        (0xC1, [0, 63, 0], Ok("4.51")),
        (0xC2, [0, 0, 0], Err(MediaError::NoSyntax("progressive jpeg"))),
        (0xC3, [1, 0, 0], Ok("4.70")),
        (0xC3, [7, 0, 0], Ok("4.57")),
        (0xC6, [0, 0, 0], Err(MediaError::NoSyntax("hierarchical jpeg"))),
        (0xC9, [0, 0, 0], Err(MediaError::NoSyntax("arithmetic coded jpeg"))),
        (0xF7, [0, 0, 0], Ok("4.80")),
        (0xF7, [3, 0, 0], Ok("4.81")),
    ] {
        let found = read("image/jpeg", &jpeg(sof, &[], scan)).map(|media| media.transfer_syntax().to_owned());
        assert_eq!(found, wanted.map(syntax), "{sof:X}");
    }
    let cut = merge(&[read("image/jpeg", &jpeg(0xC3, &[], [1, 0, 2])).unwrap()], &Said::default()).unwrap();
    assert_eq!(text(&cut, tags::LOSSY_IMAGE_COMPRESSION), Some("01"), "a point transform loses bits");
    let transformed = jpeg(0xF7, &[b"\xFF\xE8\0\x07mrfx\x01"], [0, 0, 0]);
    assert_eq!(read("image/jls", &transformed), Err(MediaError::NoSyntax("a jpeg-ls colour transform")));
}

#[test]
fn the_lines_of_a_jpeg_may_come_after_its_scan() {
    let mut bytes = jpeg(0xC0, &[], [0, 63, 0]);
    let rows = bytes.windows(2).position(|two| two == [0xFF, 0xC0]).unwrap() + 5;
    bytes[rows..rows + 2].copy_from_slice(&[0, 0]);
    assert_eq!(read("image/jpeg", &bytes), Err(MediaError::Size));
    bytes.truncate(bytes.len() - 3);
    bytes.extend_from_slice(&[0xFF, 0xDC, 0, 4, 0, 9, 0xFF, 0xD9]);
    let derived = merge(&[read("image/jpeg", &bytes).unwrap()], &Said::default()).unwrap();
    assert_eq!(number(&derived, tags::ROWS), Some(9));
}

#[test]
fn the_last_tile_part_may_have_no_length() {
    let mut bytes = data("lossless.j2k");
    let length = bytes.windows(2).position(|two| two == [0xFF, 0x90]).unwrap() + 6;
    bytes[length..length + 4].fill(0);
    assert_eq!(read("image/jp2", &bytes).unwrap().fragment(), 0..bytes.len() as u64);
    bytes.pop();
    assert_eq!(read("image/jp2", &bytes), Err(MediaError::Truncated));
    // in a box of a known length, with another box behind it
    let mut boxed = data("lossless.jp2");
    let length = boxed.windows(2).position(|two| two == [0xFF, 0x90]).unwrap() + 6;
    boxed[length..length + 4].fill(0);
    let stream = boxed.windows(4).position(|four| four == b"jp2c").unwrap();
    let whole = u32::try_from(boxed.len() - stream + 4).unwrap();
    boxed[stream - 4..stream].copy_from_slice(&whole.to_be_bytes());
    let end = boxed.len() as u64;
    boxed.extend_from_slice(b"\0\0\0\x09free!");
    assert_eq!(read("image/jp2", &boxed).unwrap().fragment(), stream as u64 + 4..end);
}

#[test]
fn a_tile_that_is_not_reversible_makes_the_image_lossy() {
    let mut bytes = data("lossless.j2k");
    let tile = bytes.windows(2).position(|two| two == [0xFF, 0x90]).unwrap();
    // quantisation of its own, and the length of the tile part with it
    let own = [0xFF, 0x5C, 0, 4, 0x42, 0];
    let length = u32::from_be_bytes(bytes[tile + 6..tile + 10].try_into().unwrap()) + 6;
    bytes[tile + 6..tile + 10].copy_from_slice(&length.to_be_bytes());
    bytes.splice(tile + 12..tile + 12, own);
    assert_eq!(read("image/jp2", &bytes).unwrap().transfer_syntax(), syntax("4.91"));
}

#[test]
fn the_order_of_resolutions_with_lengths_of_tiles_has_a_syntax_of_its_own() {
    let mut bytes = data("lossless.jhc");
    let coding = bytes.windows(2).position(|two| two == [0xFF, 0x52]).unwrap();
    bytes[coding + 5] = 2;
    assert!(!bytes.windows(2).any(|two| two == [0xFF, 0x55]), "there are no lengths yet");
    let found = |bytes: &[u8], named| read_as("image/jphc", named, bytes).unwrap().transfer_syntax();
    let named = syntax("4.202");
    assert_eq!(found(&bytes, None), syntax("4.201"));
    assert_eq!(found(&bytes, Some(&named)), named);
    bytes.splice(coding..coding, [0xFF, 0x55, 0, 8, 0, 0x40, 0, 0, 0, 99]);
    assert_eq!(found(&bytes, None), named);
}

#[test]
fn fields_are_halves_of_frames() {
    let mut bytes = vec![0, 0, 1, 0xB3, 0x2D, 0x02, 0x40, 0x34, 0xFF, 0xFF, 0xE0, 0];
    bytes.extend_from_slice(&[0, 0, 1, 0xB5, 0x14, 0x82, 0, 1, 0, 0]);
    for structure in [1, 2, 3, 3] {
        bytes.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, 1, 0xB5, 0x8F, 0xFF, 0xF0 | structure, 0, 0]);
    }
    let media = read("video/mpeg", &bytes).unwrap();
    assert_eq!(media.transfer_syntax(), syntax("4.100"));
    let derived = merge(&[media], &Said::default()).unwrap();
    assert_eq!(text(&derived, tags::NUMBER_OF_FRAMES), Some("3"));
    assert_eq!(text(&derived, tags::FRAME_TIME), Some("33.366666667"));
    assert_eq!((number(&derived, tags::COLUMNS), number(&derived, tags::ROWS)), (Some(720), Some(576)));
}

#[test]
fn a_photograph_a_video_and_a_report_get_a_sop_class() {
    for (names, class, modality) in [
        (&["photo.jpg"][..], uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE, "XC"),
        (&["grey.jls"], uids::SECONDARY_CAPTURE_IMAGE_STORAGE, "OT"),
        (&["photo.jpg", "photo.jpg"], uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE, "OT"),
        (&["grey.jpg"; 3], uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE, "OT"),
        (&["grey.jls"; 2], uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE, "OT"),
        (&["h264.mp4"], uids::VIDEO_PHOTOGRAPHIC_IMAGE_STORAGE, "XC"),
        (&["report.pdf"], uids::ENCAPSULATED_PDF_STORAGE, "DOC"),
    ] {
        let parts: Vec<Media> = names.iter().map(|name| file(name).unwrap()).collect();
        let derived = merge(&parts, &Said::default()).unwrap();
        assert_eq!(text(&derived, tags::SOP_CLASS_UID), Some(class), "{names:?}");
        assert_eq!(text(&derived, tags::MODALITY), Some(modality), "{names:?}");
        assert!(derived.is_sorted_by(|one, next| one.tag < next.tag), "{names:?}");
    }
}

#[test]
fn a_report_is_described_and_its_length_is_that_of_its_bytes() {
    let derived = merge(&[file("report.pdf").unwrap()], &Said::default()).unwrap();
    assert_eq!(value(&derived, tags::ENCAPSULATED_DOCUMENT_LENGTH), Some(&Value::Long(1005)));
    assert_eq!(text(&derived, tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT), Some("application/pdf"));
    assert_eq!(text(&derived, tags::BURNED_IN_ANNOTATION), Some("YES"));
    assert_eq!(value(&derived, tags::DOCUMENT_TITLE), Some(&Value::Empty));
    assert_eq!(value(&derived, tags::CONCEPT_NAME_CODE_SEQUENCE), Some(&Value::Empty));
    assert_eq!(value(&derived, tags::ROWS), None);
    let other = said([(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, "text/xml")]);
    let error = MediaError::Differs(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT);
    assert_eq!(merge(&[file("report.pdf").unwrap()], &other), Err(error));
}

#[test]
fn what_the_client_said_stays_and_is_not_set_again() {
    let known = said([
        (tags::SOP_CLASS_UID, uids::VL_ENDOSCOPIC_IMAGE_STORAGE),
        (tags::PATIENT_NAME, "Doe^Jane"),
        (tags::PATIENT_ID, ""),
        (tags::ROWS, "24"),
        (tags::BITS_ALLOCATED, " 8 "),
        (tags::IMAGE_TYPE, "DERIVED\\SECONDARY"),
        (tags::LOSSY_IMAGE_COMPRESSION, "01"),
        (tags::LOSSY_IMAGE_COMPRESSION_RATIO, "10\\3"),
        (tags::PHOTOMETRIC_INTERPRETATION, "YBR_FULL_422"),
        (tags::IMAGE_LATERALITY, "L"),
    ]);
    let derived = merge(&[file("photo.jpg").unwrap()], &known).unwrap();
    assert!(derived.iter().all(|derived| !known.has(derived.tag)));
    assert_eq!(text(&derived, tags::MODALITY), Some("ES"));
    assert_eq!(value(&derived, tags::LATERALITY), None);
    assert_eq!(value(&derived, tags::PATIENT_BIRTH_DATE), Some(&Value::Empty));
    assert_eq!(value(&derived, tags::LOSSY_IMAGE_COMPRESSION_METHOD), None, "ratio and method belong together");
}

#[test]
fn an_attribute_that_contradicts_the_bytes_is_named() {
    for (name, tag, text) in [
        ("photo.jpg", tags::ROWS, "25"),
        ("photo.jpg", tags::COLUMNS, "wide"),
        ("photo.jpg", tags::SAMPLES_PER_PIXEL, "1"),
        ("photo.jpg", tags::BITS_ALLOCATED, "16"),
        ("photo.jpg", tags::BITS_STORED, "9"),
        ("photo.jpg", tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2"),
        ("photo.jpg", tags::LOSSY_IMAGE_COMPRESSION, "00"),
        ("photo.jpg", tags::NUMBER_OF_FRAMES, "2"),
        ("grey.jls", tags::PHOTOMETRIC_INTERPRETATION, "RGB"),
        ("grey.jls", tags::BITS_STORED, "17"),
        ("h264.mp4", tags::NUMBER_OF_FRAMES, "7"),
    ] {
        let found = merge(&[file(name).unwrap()], &said([(tag, text)]));
        assert_eq!(found, Err(MediaError::Differs(tag)), "{name} {text}");
    }
}

#[test]
fn colours_that_the_bytes_are_sure_of_are_put_right_and_others_left() {
    for (name, given, wanted) in [
        ("photo.jpg", "RGB", Some("YBR_FULL_422")),
        ("photo_444.jpg", "YBR_FULL", None),
        ("rgb.jpg", "YBR_FULL_422", Some("RGB")),
        ("lossless.j2k", "RGB", Some("YBR_RCT")),
        ("colour.jls", "YBR_FULL", None),
        ("colour.jls", "YBR_ICT", Some("RGB")),
        ("grey.jls", "MONOCHROME1", None),
        ("grey.jpg", "PALETTE COLOR", None),
    ] {
        let derived = merge(&[file(name).unwrap()], &said([(tags::PHOTOMETRIC_INTERPRETATION, given)])).unwrap();
        assert_eq!(text(&derived, tags::PHOTOMETRIC_INTERPRETATION), wanted, "{name} {given}");
    }
}

#[test]
fn fewer_bits_may_be_used_than_a_stream_has_room_for() {
    let known = said([(tags::BITS_STORED, "12"), (tags::PIXEL_REPRESENTATION, "1")]);
    let derived = merge(&[file("lossless_16_bits.jpg").unwrap()], &known).unwrap();
    assert_eq!((number(&derived, tags::BITS_STORED), number(&derived, tags::HIGH_BIT)), (None, Some(11)));
    assert_eq!(value(&derived, tags::PIXEL_REPRESENTATION), None, "jpeg does not tell signed from unsigned");
}

#[test]
fn run_lengths_need_the_size_and_fit_the_samples() {
    let media = file("colour.rle").unwrap();
    assert_eq!(merge(std::slice::from_ref(&media), &Said::default()), Err(MediaError::Missing(tags::ROWS)));
    let sizes = [(tags::ROWS, "24"), (tags::COLUMNS, "32")];
    let known = said([sizes[0], sizes[1], (tags::SAMPLES_PER_PIXEL, "2")]);
    assert_eq!(merge(std::slice::from_ref(&media), &known), Err(MediaError::Differs(tags::SAMPLES_PER_PIXEL)));
    let known = said([sizes[0], sizes[1], (tags::PLANAR_CONFIGURATION, "1")]);
    assert_eq!(value(&merge(&[media], &known).unwrap(), tags::PLANAR_CONFIGURATION), None);
}

#[test]
fn several_parts_are_frames_when_they_are_alike() {
    let parts = ["photo.jpg", "photo_444.jpg", "photo.jpg"].map(|name| file(name).unwrap());
    let derived = merge(&parts, &Said::default()).unwrap();
    assert_eq!(text(&derived, tags::NUMBER_OF_FRAMES), Some("3"));
    assert_eq!(text(&derived, tags::PAGE_NUMBER_VECTOR), Some("1\\2\\3"));
    assert_eq!(value(&derived, tags::FRAME_INCREMENT_POINTER), Some(&Value::Tags(vec![tags::PAGE_NUMBER_VECTOR])));
    let timed = merge(&parts, &said([(tags::FRAME_TIME, "33")])).unwrap();
    assert_eq!(value(&timed, tags::FRAME_INCREMENT_POINTER), Some(&Value::Tags(vec![tags::FRAME_TIME])));
    for other in ["grey.jpg", "rgb.jpg", "lossless.j2k", "h264.mp4", "report.pdf"] {
        let parts = ["photo.jpg", other].map(|name| file(name).unwrap());
        assert_eq!(merge(&parts, &Said::default()), Err(MediaError::Mixed), "{other}");
    }
    for name in ["h264.mp4", "report.pdf"] {
        let parts = [name, name].map(|name| file(name).unwrap());
        assert_eq!(merge(&parts, &Said::default()), Err(MediaError::Several), "{name}");
    }
    assert_eq!(merge(&[], &Said::default()), Err(MediaError::NoPart));
}

#[test]
fn nothing_is_said_of_a_patient() {
    for name in IMAGES.iter().map(|image| image.0).chain(["h264.mp4", "report.pdf"]) {
        let derived = merge(&[file(name).unwrap()], &sized(name)).unwrap();
        for derived in derived.iter().filter(|derived| derived.tag.group() == 0x0010) {
            assert_eq!(derived.value, Value::Empty, "{name} {}", derived.tag);
        }
    }
}

#[test]
fn a_class_that_is_not_known_gets_only_what_the_bytes_say_and_empty_attributes() {
    let known = said([(tags::SOP_CLASS_UID, uids::CT_IMAGE_STORAGE)]);
    let derived = merge(&[file("grey.jls").unwrap()], &known).unwrap();
    assert_eq!(value(&derived, tags::MODALITY), None);
    assert_eq!(value(&derived, tags::IMAGE_TYPE), None);
    assert_eq!(number(&derived, tags::ROWS), Some(24));
    assert_eq!(value(&derived, tags::STUDY_ID), Some(&Value::Empty));
}

#[test]
fn the_clock_of_an_eye_photograph_is_its_own_and_always_the_same() {
    let known = |instance: &str| {
        let class = (tags::SOP_CLASS_UID, uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE);
        said([class, (tags::SOP_INSTANCE_UID, instance)])
    };
    let uid = |instance: &str| {
        let derived = merge(&[file("photo.jpg").unwrap()], &known(instance)).unwrap();
        text(&derived, tags::SYNCHRONIZATION_FRAME_OF_REFERENCE_UID).unwrap().to_owned()
    };
    assert_eq!(uid("1.2.3"), uid("1.2.3"));
    assert_ne!(uid("1.2.3"), uid("1.2.4"));
    assert!(uid("1.2.3").starts_with("2.25.") && uid("1.2.3").len() <= 44);
}

#[test]
fn messages_are_short_and_lower_case() {
    let errors = REFUSED.iter().map(|refused| refused.1).chain([
        MediaError::Truncated,
        MediaError::Malformed,
        MediaError::Limit,
        MediaError::Not("mpeg video"),
        MediaError::NoSyntax("h.264 other than 8 bits of 4:2:0"),
        MediaError::NoPlace("jpeg 2000 part 2 extensions"),
        MediaError::NoPlace("samples of more than 16 bits"),
        MediaError::Absent("frame rate in the video"),
        MediaError::Size,
        MediaError::TransferSyntax,
        MediaError::Mixed,
        MediaError::NoPart,
        MediaError::Several,
        MediaError::Differs(tags::PHOTOMETRIC_INTERPRETATION),
        MediaError::Differs(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT),
        MediaError::Missing(tags::SAMPLES_PER_PIXEL),
        MediaError::TooLong,
    ]);
    for message in errors.map(|error| error.to_string()) {
        assert!(message.len() <= 64, "{message}");
        assert!(message.starts_with(|first: char| first.is_lowercase() || first == '`'), "{message}");
        assert!(!message.ends_with('.'), "{message}");
    }
}

/// All files by turns.
fn all() -> Vec<&'static str> {
    let images = IMAGES.iter().map(|image| image.0);
    let videos = VIDEOS.iter().map(|video| video.0);
    images.chain(videos).chain(REFUSED.iter().map(|refused| refused.0)).chain(["report.pdf"]).collect()
}

/// In pieces of the lengths by turns.
fn in_pieces(media_type: &str, mut bytes: &[u8], lengths: &[usize]) -> Result<Media, MediaError> {
    let mut reader = MediaReader::of(media_type, None).unwrap();
    for length in lengths.iter().cycle() {
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        reader.push(piece);
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    reader.finish()
}

#[test]
fn one_byte_at_a_time_says_the_same() {
    for name in all() {
        assert_eq!(in_pieces(media_type(name), &data(name), &[1]), file(name), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wild_bytes_never_panic_and_pieces_never_matter(
        name in any::<Index>(),
        as_if in any::<Index>(),
        same in 0..10,
        end in any::<Index>(),
        flips in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        lengths in proptest::collection::vec(1_usize..300, 1..5),
    ) {
        let names = all();
        let name = *name.get(&names);
        let as_if = as_if.get(names.as_slice());
        let media_type = media_type(if same > 0 { name } else { as_if });
        let mut bytes = data(name);
        for (at, byte) in flips {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes.truncate(end.index(bytes.len() * 4));
        let whole = read(media_type, &bytes);
        prop_assert_eq!(&in_pieces(media_type, &bytes, &lengths), &whole);
        if let Ok(media) = whole {
            let fragment = media.fragment();
            prop_assert_eq!(fragment.start < fragment.end && fragment.end <= bytes.len() as u64, true);
            let _ = merge(&[media], &sized(name));
        }
    }

    #[test]
    fn lengths_of_boxes_and_segments_never_overflow(
        kind in any::<Index>(),
        length in any::<u32>(),
        long in any::<u64>(),
        rest in any::<Vec<u8>>(),
    ) {
        let kinds = [b"moov", b"trak", b"stsd", b"stsz", b"mdhd", b"trun", b"mdat", b"jp2c", b"jp2h", b"colr", b"jxlp", b"jbrd"];
        let kind = *kind.get(&kinds);
        for begin in [&b"\0\0\0\x08ftyp"[..], b"\0\0\0\x0CjP  \r\n\x87\n", b"\0\0\0\x0CJXL \r\n\x87\n"] {
            let plain = [begin, &length.to_be_bytes(), kind, &rest].concat();
            let large = [begin, &1_u32.to_be_bytes(), kind, &long.to_be_bytes(), &rest].concat();
            for bytes in [plain, large] {
                for media_type in ["video/mp4", "image/jp2", "image/jxl"] {
                    prop_assert_eq!(&in_pieces(media_type, &bytes, &[3, 1, 7]), &read(media_type, &bytes));
                }
            }
        }
    }
}
