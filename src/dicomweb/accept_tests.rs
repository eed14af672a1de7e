//! The negotiation as a table: what clients send, and what they get.

use super::*;
use crate::dicom::transfer_syntax::{DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE};

const RLE: &str = "1.2.840.10008.1.2.5";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
const JLS: &str = "1.2.840.10008.1.2.4.80";
const JP2: &str = "1.2.840.10008.1.2.4.90";
const JPX: &str = "1.2.840.10008.1.2.4.92";
const HTJ2K: &str = "1.2.840.10008.1.2.4.201";
const MPEG4: &str = "1.2.840.10008.1.2.4.102";
const DEFLATED_FRAME: &str = "1.2.840.10008.1.2.8.1";
const PRIVATE: &str = "1.2.3.4";

fn uid(text: &str) -> TransferSyntaxUid {
    TransferSyntaxUid::parse(text).unwrap()
}

/// An answer in short: `mp` or `sp`, the media type, the transfer syntaxes; `406` otherwise.
fn answer(header: Option<&str>, query: &str, resource: Resource<'_>) -> String {
    match Accept::parse(header, query).and_then(|accept| accept.negotiate(resource)) {
        Ok(found) => {
            let form = if found.multipart { "mp" } else { "sp" };
            let syntaxes: Vec<_> = found
                .transfer_syntaxes
                .iter()
                .map(|choice| match choice {
                    TransferSyntaxChoice::Default => "-",
                    TransferSyntaxChoice::Any => "*",
                    TransferSyntaxChoice::Named(uid) => uid.as_str().trim_start_matches("1.2.840.10008."),
                })
                .collect();
            format!("{form} {} {}", found.media_type, syntaxes.join(" "))
        }
        Err(error) => match error.kind() {
            ErrorKind::NotAcceptable => "406".to_owned(),
            ErrorKind::BadRequest => "400".to_owned(),
            kind => panic!("{kind:?}"),
        },
    }
}

const JSON: &str = "sp application/dicom+json -";
const OHIF_FRAMES: &str = "multipart/related; type=application/octet-stream; transfer-syntax=*";
const OHIF_TILES: &str = "multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.80, \
    multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.81, \
    multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.90, \
    multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.91, \
    multipart/related; type=\"image/jpx\"; transfer-syntax=1.2.840.10008.1.2.4.92, \
    multipart/related; type=\"image/jpx\"; transfer-syntax=1.2.840.10008.1.2.4.93, \
    multipart/related; type=\"application/octet-stream\"; transfer-syntax=*, \
    multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50";
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

#[test]
fn metadata_and_search_answer_dicom_json() {
    let cases: &[(Option<&str>, &str)] = &[
        (None, JSON),
        (Some(""), JSON),
        (Some("*/*"), JSON),
        (Some("application/*"), JSON),
        (Some("application/dicom+json"), JSON),
        (Some("Application/DICOM+JSON"), JSON),
        (Some("application/json"), JSON),
        (Some("application/json, text/plain, */*"), JSON),
        (Some("application/dicom+json; charset=utf-8"), JSON),
        (Some("application/dicom+json;, */*;q=0.1"), JSON),
        (Some(",, ;application/dicom+json"), "406"),
        (Some(",, ,application/dicom+json"), JSON),
        (Some("application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*"), JSON),
        (Some("application/dicom+json; transfer-syntax=*"), JSON),
        (Some("multipart/related; type=\"application/dicom+xml\"; q=0.2, application/dicom+json; q=0.9"), JSON),
        (Some("application/dicom+json;q=0"), "406"),
        (Some("application/dicom+json;q=0, */*"), "406"),
        (Some("application/dicom+json;q=nonsense"), JSON),
        (Some(BROWSER), JSON),
        (Some("multipart/related; type=\"application/dicom+xml\""), "406"),
        (Some("image/png"), "406"),
        (Some("nonsense"), "406"),
    ];
    for (header, expected) in cases {
        assert_eq!(answer(*header, "", Resource::Json), *expected, "{header:?}");
    }
}

#[test]
fn instances_answer_multipart_unless_one_is_asked_for_alone() {
    let cases: &[(Option<&str>, bool, &str)] = &[
        (None, true, "mp application/dicom -"),
        (None, false, "mp application/dicom -"),
        (Some("*/*"), true, "mp application/dicom -"),
        (Some("multipart/*"), true, "mp application/dicom -"),
        (Some("application/*"), false, "mp application/dicom -"),
        (Some("application/*"), true, "sp application/dicom -"),
        (Some("multipart/related"), false, "mp application/dicom -"),
        (Some("multipart/related; type=application/dicom"), true, "mp application/dicom -"),
        (Some("multipart/related; type=\"application/dicom\""), false, "mp application/dicom -"),
        (Some("Multipart/Related;TYPE=\"Application/DICOM\""), false, "mp application/dicom -"),
        (Some("multipart/related; type=\"application/*\""), false, "mp application/dicom -"),
        // dicomweb-client (Python), whole instances.
        (Some("multipart/related; type=\"application/dicom\"; transfer-syntax=*"), true, "mp application/dicom *"),
        (Some("multipart/related; type=\"application/dicom\"; transfer-syntax=\"*\""), true, "mp application/dicom *"),
        (
            Some("multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
            false,
            "mp application/dicom 1.2.1",
        ),
        (
            Some("multipart/related; type=application/dicom; transfer-syntax=\"1.2.840.10008.1.2.1\""),
            false,
            "mp application/dicom 1.2.1",
        ),
        (
            Some("multipart/related; type=application/dicom; Transfer-Syntax=1.2.840.10008.1.2.4.90"),
            false,
            "mp application/dicom 1.2.4.90",
        ),
        (
            Some(
                "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1, multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90; q=1.0, multipart/related; type=application/dicom; transfer-syntax=*; q=0.1",
            ),
            false,
            "mp application/dicom 1.2.1 1.2.4.90 *",
        ),
        (
            Some(
                "multipart/related; type=application/dicom; transfer-syntax=*; q=0.1, multipart/related; type=application/dicom; q=0.9",
            ),
            false,
            "mp application/dicom - *",
        ),
        (Some("multipart/related; type=application/dicom; transfer-syntax=1.2.*"), false, "406"),
        (Some("application/dicom"), true, "sp application/dicom -"),
        (Some("application/dicom; transfer-syntax=*"), true, "sp application/dicom *"),
        (Some("application/dicom"), false, "406"),
        (Some("application/dicom, */*"), true, "sp application/dicom -"),
        (
            Some("application/dicom;q=0.5, multipart/related;type=application/dicom;q=0.9"),
            true,
            "mp application/dicom -",
        ),
        (Some("application/dicom;q=0, */*"), true, "mp application/dicom -"),
        (Some("multipart/related;type=application/dicom;q=0, */*"), true, "sp application/dicom -"),
        (Some("image/jpeg, multipart/related; type=\"application/dicom\""), true, "mp application/dicom -"),
        (Some("multipart/related; type=\"application/octet-stream\""), true, "406"),
        (Some("application/dicom+json"), true, "406"),
        (Some("application/octet-stream"), true, "406"),
    ];
    for (header, one, expected) in cases {
        assert_eq!(answer(*header, "", Resource::Instances { one: *one }), *expected, "{header:?} {one}");
    }
}

#[test]
fn frames_answer_their_stored_bytes_under_their_own_type() {
    let native = "mp application/octet-stream 1.2.1";
    let mp =
        |media_type: &str, syntax: &str| format!("mp {media_type} {}", syntax.trim_start_matches("1.2.840.10008."));
    let single = |media_type: &str, syntax: &str| mp(media_type, syntax).replace("mp ", "sp ");
    let octets =
        |syntax: &str| format!("multipart/related; type=\"application/octet-stream\"; transfer-syntax=\"{syntax}\"");
    let cases: Vec<(Option<String>, &str, bool, String)> = vec![
        // Native pixel data leaves as Explicit VR Little Endian whatever it is stored in.
        (None, EXPLICIT_LITTLE, true, native.into()),
        (Some("*/*".into()), EXPLICIT_LITTLE, true, native.into()),
        (Some(OHIF_FRAMES.into()), EXPLICIT_LITTLE, true, native.into()),
        (Some(OHIF_FRAMES.into()), IMPLICIT_LITTLE, true, native.into()),
        (Some(OHIF_FRAMES.into()), EXPLICIT_BIG, true, native.into()),
        (Some(OHIF_FRAMES.into()), DEFLATED, true, native.into()),
        (Some(OHIF_TILES.into()), EXPLICIT_LITTLE, true, native.into()),
        (Some(octets(EXPLICIT_LITTLE)), IMPLICIT_LITTLE, true, native.into()),
        (Some(octets(IMPLICIT_LITTLE)), IMPLICIT_LITTLE, true, "406".into()),
        (Some("application/octet-stream".into()), EXPLICIT_LITTLE, true, single(OCTET_STREAM, EXPLICIT_LITTLE)),
        (Some("application/octet-stream; transfer-syntax=*".into()), DEFLATED, true, single(OCTET_STREAM, EXPLICIT_LITTLE)),
        (Some("application/octet-stream".into()), EXPLICIT_LITTLE, false, "406".into()),
        (Some("multipart/related; type=image/jls; transfer-syntax=1.2.840.10008.1.2.4.80".into()), EXPLICIT_LITTLE, true, "406".into()),
        (Some("image/jpeg".into()), EXPLICIT_LITTLE, true, "406".into()),
        // Compressed frames.
        (Some(OHIF_FRAMES.into()), JP2, true, mp("image/jp2", JP2)),
        (Some(OHIF_FRAMES.into()), JLS, false, mp("image/jls", JLS)),
        (Some(OHIF_FRAMES.into()), JPEG, true, mp("image/jpeg", JPEG)),
        (Some(OHIF_FRAMES.into()), RLE, true, mp("image/dicom-rle", RLE)),
        (Some(OHIF_FRAMES.into()), HTJ2K, true, mp("image/jphc", HTJ2K)),
        (Some(OHIF_FRAMES.into()), "1.2.840.10008.1.2.4.110", true, mp("image/jxl", "1.2.840.10008.1.2.4.110")),
        (Some(OHIF_FRAMES.into()), MPEG4, true, mp("video/mp4", MPEG4)),
        (Some(OHIF_FRAMES.into()), DEFLATED_FRAME, true, mp("application/x-deflate", DEFLATED_FRAME)),
        (Some(OHIF_FRAMES.into()), PRIVATE, true, mp(OCTET_STREAM, PRIVATE)),
        (Some(OHIF_TILES.into()), JP2, true, mp("image/jp2", JP2)),
        (Some(OHIF_TILES.into()), JPX, true, mp("image/jpx", JPX)),
        (Some(OHIF_TILES.into()), JPEG_LOSSLESS, true, mp("image/jpeg", JPEG_LOSSLESS)),
        (None, JP2, true, mp("image/jp2", JP2)),
        (Some("*/*".into()), JP2, true, mp("image/jp2", JP2)),
        (Some("multipart/related; type=application/octet-stream".into()), JP2, true, mp("image/jp2", JP2)),
        (Some(octets(EXPLICIT_LITTLE)), JP2, true, "406".into()),
        (Some(octets(JP2)), JP2, true, mp("image/jp2", JP2)),
        (Some("application/octet-stream; transfer-syntax=*".into()), JP2, true, single("image/jp2", JP2)),
        (Some("application/*".into()), JP2, true, single("image/jp2", JP2)),
        (Some("multipart/related; type=image/jls; transfer-syntax=1.2.840.10008.1.2.4.80".into()), JLS, true, mp("image/jls", JLS)),
        (Some("multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.81".into()), JLS, true, "406".into()),
        (Some("multipart/related; type=\"image/jls\"".into()), JP2, true, "406".into()),
        (Some("multipart/related; type=\"image/x-jls\"".into()), JLS, true, mp("image/jls", JLS)),
        (Some("multipart/related; type=\"image/x-dicom-rle\"".into()), RLE, true, mp("image/dicom-rle", RLE)),
        (Some("multipart/related; type=\"image/dicom+jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.70".into()), JPEG_LOSSLESS, true, mp("image/jpeg", JPEG_LOSSLESS)),
        (Some("image/*".into()), JP2, true, single("image/jp2", JP2)),
        (Some("multipart/related; type=\"image/*\"; transfer-syntax=*".into()), JP2, false, mp("image/jp2", JP2)),
        (Some("image/jpeg".into()), JPEG, true, single("image/jpeg", JPEG)),
        (Some("image/jpeg".into()), JPEG_LOSSLESS, true, single("image/jpeg", JPEG_LOSSLESS)),
        // dicomweb-client (Python) with several media types.
        (Some("multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50, multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.90".into()), JP2, true, mp("image/jp2", JP2)),
        (Some("multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50, multipart/related; type=\"application/octet-stream\"; transfer-syntax=1.2.840.10008.1.2.1".into()), JP2, true, "406".into()),
        (Some("image/jp2; q=0, */*".into()), JP2, true, mp("image/jp2", JP2)),
        (Some("multipart/related; type=\"application/dicom\"".into()), JP2, true, "406".into()),
    ];
    for (header, stored, one, expected) in &cases {
        let stored = uid(stored);
        let is_native = matches!(stored.as_str(), EXPLICIT_LITTLE | IMPLICIT_LITTLE | EXPLICIT_BIG | DEFLATED);
        let resource = Resource::Frames { stored: &stored, native: is_native, one: *one };
        assert_eq!(answer(header.as_deref(), "", resource), *expected, "{header:?} {stored}");
    }
}

#[test]
fn bulk_data_answers_multipart_or_alone() {
    let cases: &[(Option<&str>, &str, &str)] = &[
        (None, OCTET_STREAM, "mp application/octet-stream -"),
        (Some("multipart/related; type=\"application/octet-stream\""), OCTET_STREAM, "mp application/octet-stream -"),
        (Some("application/octet-stream"), OCTET_STREAM, "sp application/octet-stream -"),
        (Some("application/octet-stream, */*"), OCTET_STREAM, "sp application/octet-stream -"),
        // OHIF, a PDF.
        (
            Some("multipart/related; type=\"application/pdf\", multipart/related; type=\"application/octet-stream\""),
            "application/pdf",
            "mp application/pdf -",
        ),
        (
            Some("multipart/related; type=\"application/pdf\", multipart/related; type=\"application/octet-stream\""),
            OCTET_STREAM,
            "mp application/octet-stream -",
        ),
        (Some("application/pdf"), "application/pdf", "sp application/pdf -"),
        (
            Some("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"),
            OCTET_STREAM,
            "sp application/octet-stream -",
        ),
        (Some("image/png"), OCTET_STREAM, "406"),
    ];
    for (header, media_type, expected) in cases {
        assert_eq!(answer(*header, "", Resource::Bulk { media_type, one: true }), *expected, "{header:?}");
    }
    assert_eq!(
        answer(Some("application/octet-stream"), "", Resource::Bulk { media_type: OCTET_STREAM, one: false }),
        "406"
    );
}

#[test]
fn the_accept_parameter_stands_for_the_header() {
    let instance = Resource::Instances { one: true };
    let cases = [
        (Some("multipart/related; type=\"application/dicom\""), "accept=application/dicom", "sp application/dicom -"),
        (None, "x=1&accept=application%2Fdicom%3B%20transfer-syntax%3D*", "sp application/dicom *"),
        (Some("image/png"), "accept=application/dicom", "sp application/dicom -"),
        (Some("*/*"), "accept=application/dicom", "sp application/dicom -"),
        (Some("application/dicom;q=0"), "accept=application/dicom", "sp application/dicom -"),
        // it can be a list and may have what nobody can make
        (Some("*/*"), "accept=image/png,application/dicom", "sp application/dicom -"),
        (Some("*/*"), "accept=image/png%2C,application/dicom%20;q=0.5,", "sp application/dicom -"),
        (Some("*/*"), "accept=*/*", "mp application/dicom -"),
        (None, "accept=application/dicom;q=0,*/*", "mp application/dicom -"),
        // what cannot be made is not made up for
        (Some("application/dicom"), "accept=image/png", "406"),
        (Some("*/*"), "accept=image/png", "406"),
        (None, "accept=image/png", "406"),
        (Some("image/png"), "accept=image/jpeg", "406"),
        (Some("*/*"), "accept=application/dicom;q=0", "406"),
        // nor is what cannot be read
        (Some("*/*"), "accept=nonsense", "400"),
        (Some("*/*"), "accept=application/dicom,nonsense", "400"),
        (Some("*/*"), "accept=application/dicom;transfer-syntax=1.2.*", "400"),
        (Some("*/*"), "accept=%ff", "400"),
        (Some("*/*"), "accept=application%2", "400"),
        (Some("*/*"), "accept=application/dicom&x=1&accept=application/dicom", "400"),
        // an empty one asks for nothing
        (Some("application/dicom"), "accept=", "sp application/dicom -"),
        (Some("application/dicom"), "accept=%20,", "sp application/dicom -"),
        (Some("application/dicom"), "Accept=image/jpeg&accept", "sp application/dicom -"),
    ];
    for (header, query, expected) in cases {
        assert_eq!(answer(header, query, instance), expected, "{header:?} {query}");
    }
    for query in ["accept=application/dicom%2Bjson", "accept=application/dicom+json", "accept=application/dicom%20json"]
    {
        assert_eq!(answer(Some("image/png"), query, Resource::Json), JSON, "{query}");
    }
}

#[test]
fn several_header_lines_join() {
    let mut headers = HeaderMap::new();
    headers.append(ACCEPT, "image/png".parse().unwrap());
    headers.append(ACCEPT, "application/dicom;q=0.5".parse().unwrap());
    let found = Accept::from_parts(&headers, "").unwrap().negotiate(Resource::Instances { one: true }).unwrap();
    assert_eq!((found.multipart, found.media_type.as_str()), (false, DICOM));
}

#[test]
fn a_refusal_lists_what_there_is() {
    let stored = uid(JP2);
    let error = Accept::parse(Some("text/html"), "")
        .unwrap()
        .negotiate(Resource::Frames { stored: &stored, native: false, one: true })
        .expect_err("text is no frame");
    assert_eq!(
        error.message(),
        "none of the media types accepted can be made; there is \
         `multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.90`, \
         `image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90`"
    );
    let error =
        Accept::parse(None, "accept=text/html").unwrap().negotiate(Resource::Json).expect_err("text is no JSON");
    let there = "none of the media types accepted by parameter `accept` can be made; there is `application/dicom+json`";
    assert_eq!(error.message(), there);
}

#[test]
fn the_content_type_of_frames_names_their_transfer_syntax() {
    let stored = uid(RLE);
    let found = Accept::default().negotiate(Resource::Frames { stored: &stored, native: false, one: true }).unwrap();
    assert_eq!(found.content_type(), "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5");
    let found = Accept::default().negotiate(Resource::Json).unwrap();
    assert_eq!(found.content_type(), DICOM_JSON);
}
