//! Rows of storing requests whose parts are metadata and bulk data: names of parts, and images that are none.

use super::metadata::{JSON, TOO_LARGE, instance, uid};
use super::native_model::XML;
use super::{NOT_UNDERSTOOD, Row, good};

/// No part of the request has the bulk data.
const NO_PART: u16 = 0xA922;
/// No transfer syntax can hold it.
const NO_SYNTAX: u16 = 0xC122;
const DESCRIBED: &str = "multipart/related; type=\"application/dicom+json\"; boundary=b";
const OCTETS: &str = "application/octet-stream";

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [names(), missing(), orders(), counts(), pictures(), contradictions(), headers()].into_iter().flatten().collect()
}

/// A part with its headers.
fn part(headers: &str, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [b"--b\r\n", headers.as_bytes(), b"\r\n\r\n", bytes.as_ref(), b"\r\n"].concat()
}

fn located(media_type: &str, location: &str, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    part(&format!("Content-Type: {media_type}\r\nContent-Location: {location}"), bytes)
}

fn described(metadata: &str) -> Vec<u8> {
    part(&format!("Content-Type: {JSON}"), format!("[{metadata}]"))
}

fn request(what: &str, parts: &[Vec<u8>], status: u16) -> Row {
    let row = Row::store(format!("bulk data: {what}"), DESCRIBED, [&parts.concat()[..], b"--b--\r\n"].concat(), status);
    if status == 409 { row.because(&[NOT_UNDERSTOOD]) } else { row }
}

/// Pixel data of 1 × 2 pixels in 8 bits.
fn pixels(what: &str, uri: &str) -> String {
    let uri = serde_json::Value::from(uri);
    sized(what, 1, 2, &format!("\"BulkDataURI\":{uri}"))
}

fn sized(what: &str, rows: u32, columns: u32, value: &str) -> String {
    let image = r#""00280002":{"vr":"US","Value":[1]},"00280004":{"vr":"CS","Value":["MONOCHROME2"]},"00280100":{"vr":"US","Value":[8]},
        "00280101":{"vr":"US","Value":[8]},"00280102":{"vr":"US","Value":[7]},"00280103":{"vr":"US","Value":[0]}"#;
    let size = format!(r#""00280010":{{"vr":"US","Value":[{rows}]}},"00280011":{{"vr":"US","Value":[{columns}]}}"#);
    instance(&uid(what), &format!("{image},{size},\"7FE00010\":{{\"vr\":\"OB\",{value}}}"))
}

/// One image whose pixel data are a part.
fn image(what: &str, media_type: &str, bytes: impl AsRef<[u8]>, status: u16) -> Row {
    let metadata = instance(&uid(what), r#""7FE00010":{"vr":"OB","BulkDataURI":"p"}"#);
    request(what, &[described(&metadata), located(media_type, "p", bytes)], status)
}

/// Names that two write alike, and names that lead nowhere.
fn names() -> Vec<Row> {
    let long = format!("p{}", "x".repeat(12_000));
    [
        ("p", "p", 200),
        ("a/../p", "p", 200),
        ("p", "./a/../p", 200),
        ("../../../../../../p", "/p", 200),
        ("http://user:password@localhost/p", "http://user:password@localhost/p", 200),
        ("http://elsewhere.example/p", "http://elsewhere.example/p", 200),
        ("http://user:password@localhost/p", "http://localhost/p", 409),
        ("http://localhost/dicom-web/p", "/dicom-web/p", 409),
        ("//localhost/dicom-web/p", "p", 409),
        ("http://elsewhere.example/dicom-web/p", "p", 409),
        ("p", "%70", 409),
        ("p", "p%00", 409),
        ("%2e%2e/p", "../p", 409),
        ("p", "P", 409),
        ("p", "p#a", 409),
        ("p", "p?a", 409),
        ("p", " p ", 200),
        ("file:///etc/passwd", "file:///etc/passwd", 200),
        ("cid:p", "cid:p", 200),
        ("\"p\"", "p", 409),
        ("<p>", "p", 409),
        ("caf\u{e9}", "caf\u{e9}", 200),
        ("p\0", "p", 409),
        ("p\0", "p\0", 200),
        ("?", "?", 200),
        ("#", "#", 200),
        (&long, &long, 200),
    ]
    .into_iter()
    .map(|(location, uri, status)| {
        let what = format!("a part {location:.40?} for {uri:.40?}");
        let row = request(&what, &[described(&pixels(&what, uri)), located(OCTETS, location, [1, 2])], status);
        if status == 409 { row.because(&[NO_PART]) } else { row }
    })
    .collect()
}

fn missing() -> Vec<Row> {
    let long = "a".repeat(1 << 20);
    let dots = "../".repeat(100_000);
    let mut rows: Vec<Row> = [
        "",
        "p",
        "/",
        "?",
        "#",
        ".",
        "..",
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "//elsewhere.example/p",
        "http://",
        "http://[",
        ":",
        "http://169.254.169.254/latest/meta-data",
        "http://user:password@localhost/",
        "http://localhost/dicom-web/studies/1.2",
        "studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata/7FE00010",
        "data:application/octet-stream;base64,AAE=",
        "cid:",
        "cid:p",
        "javascript:alert(1)",
        "%",
        "%00",
        "%zz",
        "\0",
        "a\r\nX: y",
        "\u{202e}",
        "{}",
        "<script>",
        "C:\\Windows",
        &long,
        &dots,
    ]
    .into_iter()
    .map(|uri| {
        let what = format!("no part for {uri:.60?}");
        Row::store(what.clone(), JSON, format!("[{}]", pixels(&what, uri)), 409).because(&[NO_PART])
    })
    .collect();
    // a part that names itself
    let itself = instance(&uid("itself"), r#""7FE00010":{"vr":"OB","BulkDataURI":"p"}"#);
    rows.push(
        request("metadata that name themselves", &[located(JSON, "p", format!("[{itself}]"))], 409).because(&[NO_PART]),
    );
    rows
}

/// Parts that are too early, too many of a kind, or of no kind.
fn orders() -> Vec<Row> {
    let bulk = || located(OCTETS, "p", [1, 2]);
    let metadata = |what: &str| described(&pixels(what, "p"));
    let headers = |headers: &str| part(headers, [1, 2]);
    let xml = |text: &str| part(&format!("Content-Type: {XML}"), text);
    let mut rows = vec![
        request("before the metadata", &[bulk(), metadata("before")], 200),
        request("no metadata", &[bulk()], 400),
        request("nothing but parts that nothing can name", &[headers("Content-Type: application/octet-stream")], 400),
        request("a part that nothing names", &[metadata("unused"), bulk(), located(OCTETS, "q", b"x")], 200),
        request("a name twice", &[metadata("twice"), bulk(), bulk()], 200),
        request("two metadata of one instance", &[metadata("the same"), metadata("the same"), bulk()], 200),
        request("metadata in JSON and in XML", &[metadata("both"), bulk(), xml("<NativeDicomModel/>")], 202)
            .because(&[NOT_UNDERSTOOD]),
        request("XML that is said to be JSON", &[part(&format!("Content-Type: {JSON}"), "<NativeDicomModel/>")], 400),
        request("JSON that is said to be XML", &[xml("[{}]")], 409),
        request("a file", &[metadata("a file"), bulk(), part("Content-Type: application/dicom", good(1))], 202)
            .because(&[NOT_UNDERSTOOD]),
        request("nothing but a file", &[part("Content-Type: application/dicom", good(1))], 400),
        request("no types at all", &[part("X: y", format!("[{}]", instance(&uid("no types"), "")))], 200),
        request("a page for metadata", &[part("Content-Type: text/html", "<html/>")], 400),
        request(
            "a multipart body in a part",
            &[part("Content-Type: multipart/related; boundary=c", metadata("c"))],
            409,
        )
        .because(&[NO_PART]),
        request("an end within a part", &[metadata("end"), b"--b\r\nContent-Location: p\r\n\r\nxx".to_vec()], 400),
        request("an empty part", &[metadata("empty"), located(OCTETS, "p", b"")], 200),
    ];
    for (what, location, status) in [
        ("two locations", "Content-Location: p\r\nContent-Location: q", 200),
        ("two locations, the second used", "Content-Location: q\r\nContent-Location: p", 409),
        ("a folded location", "Content-Location:\r\n p", 200),
        ("an empty location", "Content-Location:", 409),
        ("no location", "Content-Type: application/octet-stream", 409),
        ("a location in another case", "CONTENT-LOCATION: p", 200),
        ("an identifier instead of a location", "Content-ID: <p>", 409),
        ("a type that is none", "Content-Type: \u{1}\r\nContent-Location: p", 200),
        ("an unknown type", "Content-Type: text/html\r\nContent-Location: p", 409),
        (
            "a transfer syntax that is none",
            "Content-Type: application/octet-stream; transfer-syntax=../..\r\nContent-Location: p",
            200,
        ),
        (
            "a transfer syntax of words that are turned around",
            "Content-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.2\r\nContent-Location: p",
            409,
        ),
        (
            "a transfer syntax that the bytes have not",
            "Content-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.50\r\nContent-Location: p",
            200,
        ),
        ("an encoding of mail", "Content-Transfer-Encoding: base64\r\nContent-Location: p", 200),
    ] {
        let row = request(what, &[metadata(what), headers(location)], status);
        let typed = location.contains("text/html") || location.contains("1.2.2\r");
        rows.push(match status {
            409 if typed => row.because(&[NO_SYNTAX]),
            409 => row.because(&[NO_PART]),
            _ => row,
        });
    }
    rows
}

fn counts() -> Vec<Row> {
    let same = |count: usize| located(OCTETS, "p", b"").repeat(count);
    let each =
        |count: usize| (0..count).flat_map(|number| located(OCTETS, &format!("p{number}"), b"x")).collect::<Vec<_>>();
    let long: Vec<u8> =
        (0..2_000).flat_map(|number| located(OCTETS, &format!("{number}{}", "x".repeat(14_000)), b"")).collect();
    let uses = |count: usize| {
        (0..count).map(|number| pixels(&format!("use {number} of {count}"), "p")).collect::<Vec<_>>().join(",")
    };
    let in_items = |what: &str, attribute: &str| {
        let items = vec![format!("{{{attribute}}}"); 1_000].join(",");
        instance(&uid(what), &format!(r#""00081140":{{"vr":"SQ","Value":[{items}]}}"#))
    };
    let squares = [
        ("documents", r#""00420011":{"vr":"OB","BulkDataURI":"p"}"#),
        ("texts", r#""0040A160":{"vr":"UT","BulkDataURI":"p"}"#),
        ("icons", r#""7FE00010":{"vr":"OB","BulkDataURI":"p"}"#),
    ]
    .map(|(what, attribute)| {
        let metadata = described(&in_items(what, attribute));
        let parts = located(OCTETS, "p", b"x").repeat(20_000);
        request(&format!("1,000 {what} of 20,000 parts each"), &[metadata, parts], 409).because(&[TOO_LARGE])
    });
    let once = in_items("once", r#""00420011":{"vr":"OB","BulkDataURI":"p"}"#);
    let mut rows = vec![
        request("1,000 documents of one part", &[described(&once), located(OCTETS, "p", b"x")], 200),
        // as many parts as a request may name, and five instances more
        request(
            "30 instances of 40,000 parts",
            &[described(&uses(30)), located(OCTETS, "p", b"x").repeat(40_000)],
            202,
        )
        .because(&[TOO_LARGE; 5]),
        request("50,000 parts of one name", &[described(&pixels("50,000", "p")), same(50_000)], 200),
        request("50,000 parts that nothing names", &[described(&pixels("many unused", "p0")), each(50_000)], 200),
        request("100,001 parts", &[described(&pixels("more", "p")), same(100_000)], 413),
        request("2,000 names of 14 kB", &[described(&pixels("long", "p")), long], 409).because(&[NO_PART]),
        request("100 instances of one part", &[described(&uses(100)), located(OCTETS, "p", [1, 2])], 200),
    ];
    rows.extend(squares);
    rows
}

const PHOTO: &[u8] = include_bytes!("../data/media/photo.jpg");
const GREY: &[u8] = include_bytes!("../data/media/grey.jpg");
const JP2: &[u8] = include_bytes!("../data/media/lossless.jp2");
const J2K: &[u8] = include_bytes!("../data/media/lossless.j2k");
const JXL: &[u8] = include_bytes!("../data/media/lossless.jxl");
const RLE: &[u8] = include_bytes!("../data/media/colour.rle");
const MP4: &[u8] = include_bytes!("../data/media/h264.mp4");
const PDF: &[u8] = include_bytes!("../data/media/report.pdf");

/// Bytes that are not what their media type says.
fn pictures() -> Vec<Row> {
    let kinds: [(&str, &[u8]); 8] = [
        ("image/jpeg", PHOTO),
        ("image/jls", include_bytes!("../data/media/grey.jls")),
        ("image/jp2", JP2),
        ("image/jphc", include_bytes!("../data/media/lossless.jhc")),
        ("image/jxl", JXL),
        ("image/dicom-rle", RLE),
        ("video/mp4", MP4),
        ("video/mpeg", include_bytes!("../data/media/mpeg2.mpg")),
    ];
    let mut rows = Vec::new();
    for (media_type, whole) in kinds {
        let wrong: [(&str, &[u8]); 7] = [
            ("nothing", b""),
            ("one byte", &whole[..1]),
            ("text", b"this is no picture"),
            ("zeros", &[0; 5_000]),
            ("FF", &[0xFF; 5_000]),
            ("a page", b"<html><script>alert(1)</script></html>"),
            ("its first bytes", &whole[..20]),
        ];
        for (what, bytes) in wrong {
            // a code stream of JPEG XL does not tell where it ends
            let status = if media_type == "image/jxl" && bytes.len() == 20 { 200 } else { 409 };
            rows.push(image(&format!("{media_type} of {what}"), media_type, bytes, status));
        }
    }
    for (what, bytes) in [("nothing", &b""[..]), ("text", b"no document"), ("a picture", PHOTO), ("zeros", &[0; 5_000])]
    {
        let what = format!("application/pdf of {what}");
        let metadata = instance(&uid(&what), r#""00420011":{"vr":"OB","BulkDataURI":"p"}"#);
        rows.push(request(&what, &[described(&metadata), located("application/pdf", "p", bytes)], 409));
    }
    rows.extend([
        image("a document as pixel data", "application/pdf", PDF, 409).because(&[NO_SYNTAX]),
        image("a page as pixel data", "text/html", b"<html/>", 409).because(&[NO_SYNTAX]),
        image("an image of no transfer syntax", "image/png", b"\x89PNG\r\n\x1a\n", 409).because(&[NO_SYNTAX]),
        image("four colours", "image/jpeg", include_bytes!("../data/media/cmyk.jpg"), 409),
        image("a progressive image", "image/jpeg", include_bytes!("../data/media/progressive.jpg"), 409)
            .because(&[NO_SYNTAX]),
        image("a video of another profile", "video/mp4", include_bytes!("../data/media/h264_422.mp4"), 409)
            .because(&[NO_SYNTAX]),
        image(
            "another transfer syntax than its bytes",
            "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90",
            PHOTO,
            409,
        ),
        image("a transfer syntax that is none", "image/jpeg; transfer-syntax=x", PHOTO, 409),
        image("half a video", "video/mp4", &MP4[..MP4.len() / 2], 409),
    ]);
    rows
}

/// Images that are good, and metadata that say otherwise.
fn contradictions() -> Vec<Row> {
    let uri = r#""BulkDataURI":"p""#;
    let two = |one: &[u8], other: &[u8]| [located("image/jpeg", "p", one), located("image/jpeg", "p", other)].concat();
    let plain = |what: &str, rows: u32, columns: u32, bytes: &[u8], status: u16| {
        request(what, &[described(&sized(what, rows, columns, uri)), located(OCTETS, "p", bytes)], status)
    };
    let frames = |what: &str, count: &str| {
        let more = format!(r#""7FE00010":{{"vr":"OB",{uri}}},"00280008":{{"vr":"IS","Value":["{count}"]}}"#);
        request(what, &[described(&instance(&uid(what), &more)), two(GREY, GREY)], 409)
    };
    let said = |what: &str, more: &str| {
        let more = format!(r#""7FE00010":{{"vr":"OB",{uri}}},{more}"#);
        request(what, &[described(&instance(&uid(what), &more)), located("image/jpeg", "p", PHOTO)], 409)
    };
    vec![
        request(
            "another size than that of the image",
            &[described(&sized("size", 9, 9, uri)), located("image/jpeg", "p", GREY)],
            409,
        ),
        request("frames of two kinds", &[described(&sized("kinds", 24, 32, uri)), two(GREY, PHOTO)], 409),
        request(
            "an image and a document",
            &[
                described(&sized("and", 24, 32, uri)),
                located("image/jpeg", "p", GREY),
                located("application/pdf", "p", PDF),
            ],
            409,
        )
        .because(&[NO_SYNTAX]),
        request(
            "an image and plain bytes",
            &[described(&sized("plain", 24, 32, uri)), located("image/jpeg", "p", GREY), located(OCTETS, "p", b"xx")],
            409,
        ),
        request(
            "two videos",
            &[
                described(&instance(&uid("videos"), &format!("\"7FE00010\":{{\"vr\":\"OB\",{uri}}}"))),
                located("video/mp4", "p", MP4).repeat(2),
            ],
            409,
        ),
        frames("three frames of two", "3"),
        frames("frames that are no number", "many"),
        frames("more frames than numbers", "99999999999999999999"),
        frames("less than no frames", "-2"),
        said("words for rows", r#""00280010":{"vr":"LO","Value":["many"]}"#),
        said("rows in a sequence of others", r#""00280010":{"vr":"UL","Value":[4294967295]}"#),
        said("samples that are none", r#""00280002":{"vr":"US","Value":[0]}"#),
        said("bits of other widths", r#""00280101":{"vr":"US","Value":[65535]}"#),
        said("an image without loss", r#""00282110":{"vr":"CS","Value":["00"]}"#),
        plain("a pixel of four billions", 65_535, 65_535, &[1, 2], 200),
        plain("rows of nothing", 0, 0, &[1, 2], 200),
        plain("more pixels than there are", 1, 1, &[1; 100], 200),
        request("pixel data as a sequence", &[described(&sized("sequence", 1, 2, r#""vr":"SQ","Value":[{}]"#))], 409),
    ]
}

/// Headers that promise more than there is.
fn headers() -> Vec<Row> {
    let put = |bytes: &[u8], find: &[u8], offset: usize, with: &[u8]| {
        let at = memchr::memmem::find(bytes, find).expect("in the file") + offset;
        [&bytes[..at], with, &bytes[at + with.len()..]].concat()
    };
    let huge = [0xFF; 8];
    // SIZ: marker, length, capabilities, then the size
    let size = |bytes: &[u8]| put(bytes, b"\xFF\x51", 6, &huge);
    let frame = |with: &[u8]| put(GREY, b"\xFF\xC0", 5, with);
    let entry = memchr::memmem::rfind(MP4, b"avc1").expect("in the file");
    let other_codec = [&MP4[..entry], b"evil", &MP4[entry + 4..]].concat();
    let before = |kind: &[u8; 4], length: u32| {
        let at = memchr::memmem::find(MP4, kind).expect("in the file") - 4;
        [&MP4[..at], &length.to_be_bytes(), &MP4[at + 4..]].concat()
    };
    let boxes = |kind: &[u8; 4], count: usize| [&8_u32.to_be_bytes()[..], kind].concat().repeat(count);
    // JPEG XL: 2 bytes, then a size of 30 bits each way
    let xl = [&[0xFF, 0x0A][..], &[0xFE; 20]].concat();
    let mut rows = vec![
        image("JPEG 2000 of 18 quintillion pixels", "image/jp2", size(J2K), 409),
        image("JP2 of 18 quintillion pixels", "image/jp2", size(JP2), 409),
        image("JPEG XL of quintillions of pixels", "image/jxl", &xl, 409),
        image("JPEG of no pixels", "image/jpeg", frame(&[0, 0, 0, 0]), 409),
        // DICOM can say so, and what the bytes hold is for whoever decodes them
        image("JPEG of four billion pixels", "image/jpeg", frame(&[0xFF; 4]), 200),
        image("RLE of 16 segments", "image/dicom-rle", [&16_u32.to_le_bytes()[..], &[0; 60]].concat(), 409),
        image("RLE of four billion segments", "image/dicom-rle", [&[0xFF; 4][..], &RLE[4..]].concat(), 409),
        image("RLE of segments behind its end", "image/dicom-rle", [&RLE[..8], &[0xFF; 4], &RLE[12..]].concat(), 409),
        image("MP4 of a codec that nobody has", "video/mp4", other_codec, 409).because(&[NO_SYNTAX]),
        image("MP4 of 100,000 tracks", "video/mp4", [&MP4[..32], &boxes(b"trak", 100_000)].concat(), 409),
        image("MP4 of 1,000,000 boxes", "video/mp4", [&MP4[..32], &boxes(b"free", 1_000_000)].concat(), 409),
        image("MP4 of 1,000,000 boxes in each other", "video/mp4", boxes(b"moov", 1_000_000), 409),
        image("MPEG of 8 MiB of start codes", "video/mpeg", [0, 0, 1].repeat(2_800_000), 409),
        image("JPEG of 8 MiB of marks", "image/jpeg", [&[0xFF, 0xD8][..], &vec![0xFF; 8 << 20]].concat(), 409),
        image(
            "JPEG of 100,000 segments",
            "image/jpeg",
            [&[0xFF, 0xD8][..], &[0xFF, 0xE0, 0, 2].repeat(100_000)].concat(),
            409,
        ),
    ];
    for kind in [b"ftyp", b"moov", b"trak", b"stsd", b"mdat", b"avcC", b"stsz"] {
        for length in [1, 2, 7, 9, 0x7FFF_FFFF, 0xFFFF_FFFF] {
            let name = String::from_utf8_lossy(kind);
            // what holds others is entered, wherever it says that it ends
            let status = if length == 9 && matches!(kind, b"moov" | b"trak") { 200 } else { 409 };
            rows.push(image(
                &format!("MP4 with a box `{name}` of {length} bytes"),
                "video/mp4",
                before(kind, length),
                status,
            ));
        }
    }
    rows
}
