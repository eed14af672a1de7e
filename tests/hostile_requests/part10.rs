//! Rows about what the instance itself is: file meta information, elements, sequences, pixel data, frames, UIDs.

use dicom_core::VR;

use super::{NOT_UNDERSTOOD, RELATED, Row, good, parts};
use crate::support::generate::{Elements, Syntax, Value};

const UNDEFINED: u32 = u32::MAX;
const ITEM: [u8; 4] = [0xfe, 0xff, 0x00, 0xe0];
const ITEM_END: [u8; 8] = [0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0];
const SEQUENCE_END: [u8; 8] = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
/// Request Attributes Sequence, Pixel Data, Text Value, and a private element, as they stand in explicit little endian.
const SEQUENCE: [u8; 6] = *b"\x40\x00\x75\x02SQ";
const PIXELS: [u8; 6] = *b"\xe0\x7f\x10\x00OB";
const TEXT: [u8; 6] = *b"\x40\x00\x60\xa1UT";
const PRIVATE: [u8; 6] = *b"\x41\x00\x10\x10UN";

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [fronts(), cuts(), lengths(), nesting(), fragments(), frames(), uids(), texts()].into_iter().flatten().collect()
}

/// As little as an instance may hold.
pub(super) fn small(uid: &str) -> Elements {
    Elements::default()
        .text(0x0008, 0x0016, VR::UI, "1.2.840.10008.5.1.4.1.1.2")
        .text(0x0008, 0x0018, VR::UI, uid)
        .text(0x0020, 0x000d, VR::UI, "1.2")
        .text(0x0020, 0x000e, VR::UI, "1.2.3")
}

/// Preamble and file meta information.
pub(super) fn front(syntax: Syntax) -> Vec<u8> {
    let all = small("1.2.3.70");
    let file = all.part10(syntax);
    file[..file.len() - all.dataset(syntax).len()].to_vec()
}

/// A small instance whose data set goes on with these bytes.
fn tail(number: u32, bytes: &[u8]) -> Vec<u8> {
    [&small(&format!("1.2.3.8.{number}")).part10(Syntax::Explicit)[..], bytes].concat()
}

/// The header of an element of a VR with a long length.
fn long(head: [u8; 6], length: u32) -> Vec<u8> {
    [&head[..], &[0, 0], &length.to_le_bytes()].concat()
}

fn item(length: u32) -> Vec<u8> {
    [ITEM, length.to_le_bytes()].concat()
}

fn fronts() -> Vec<Row> {
    let file = good(20);
    let meta = |bytes: &[u8]| [&[0; 128], &b"DICM"[..], bytes].concat();
    let group = |length: u32| [&b"\x02\0\0\0UL\x04\0"[..], &length.to_le_bytes()].concat();
    let mut lying = file.clone();
    lying[140..144].copy_from_slice(&0xffff_ffff_u32.to_le_bytes());
    let mut short = good(21);
    short[140..144].copy_from_slice(&3_u32.to_le_bytes());
    let syntax = |number: u32, uid: &'static str| small(&format!("1.2.3.71.{number}")).part10(Syntax::Named(uid));
    let large = [&b"\x02\0\x02\x01OB\0\0"[..], &(2_u32 << 20).to_le_bytes(), &vec![7; 2 << 20]].concat();
    let mut doubled = file[..132].to_vec();
    doubled.extend(&file[..]);
    vec![
        Row::file("no DICOM: text", b"this is no DICOM", 409),
        Row::file("no DICOM: a page", [&b"<html>"[..], &[b' '; 1000]].concat(), 409),
        Row::file("no DICOM: a picture", [&b"\x89PNG\r\n\x1a\n"[..], &[0; 1000]].concat(), 409),
        Row::file("no DICOM: zeros", [0; 10_000], 409),
        Row::file("no DICOM: a megabyte of FF", vec![0xff; 1 << 20], 409),
        Row::file("one byte", b"\x08", 409),
        Row::file("nothing but a preamble", [0; 128], 409),
        Row::file("nothing but a preamble and DICM", meta(b""), 409),
        Row::file("DICM in the wrong place", [&[0; 127], &b"DICM"[..], &file[132..]].concat(), 409),
        Row::file("DICM twice", &doubled, 409),
        Row::file("a group length of 4 GiB - 1", &lying, 200),
        Row::file("a group length that is too short", &short, 200),
        Row::file("file meta information that ends in its first element", meta(&group(100)), 409),
        Row::file("file meta information of 2 MiB", meta(&[&group(2 << 20)[..], &large].concat()), 409),
        Row::file(
            "file meta information with an element of 4 GiB",
            meta(&long(*b"\x02\0\x02\x01OB", 0xffff_fffe)),
            409,
        ),
        Row::file("file meta information of undefined length", meta(&long(*b"\x02\0\x02\x01OB", UNDEFINED)), 409),
        Row::file("file meta information without a data set", front(Syntax::Explicit), 409),
        Row::file("a transfer syntax that is none", syntax(1, "../../etc"), 200),
        Row::file("a transfer syntax that nobody knows", syntax(2, "1.2.3.4.5"), 200),
        Row::file("a transfer syntax with a NUL inside", syntax(3, "1.2.840\x0010008.1.2"), 200),
        Row::file("a transfer syntax of 200 digits", syntax(4, Box::leak("1".repeat(200).into_boxed_str())), 200),
        Row::file(
            "implicit, but said to be explicit",
            [&front(Syntax::Explicit)[..], &small("1.2.3.72").dataset(Syntax::Implicit)].concat(),
            200,
        ),
        Row::file(
            "big endian, but said to be little endian",
            [&front(Syntax::Explicit)[..], &small("1.2.3.73").dataset(Syntax::BigEndian)].concat(),
            200,
        ),
    ]
}

/// Cut behind each of so many interesting bytes.
fn cuts() -> Vec<Row> {
    let file = Elements::ct("1.2", "1.2.3", "1.2.3.90")
        .with(0x0008, 0x1140, VR::SQ, Value::Items(vec![small("1.2.9")], true))
        .encapsulated(&[&[1; 30], &[2; 31]])
        .part10(Syntax::JPEG);
    let end = file.len();
    let pixels = memchr::memmem::find(&file, &PIXELS).unwrap();
    let sequence = memchr::memmem::find(&file, b"\x08\0\x40\x11SQ").unwrap();
    let points =
        [1, 127, 128, 131, 132, 136, 140, 143, 144, 150, sequence + 4, sequence + 8, sequence + 12, sequence + 20];
    let later =
        [pixels, pixels + 2, pixels + 8, pixels + 12, pixels + 20, pixels + 24, pixels + 40, end - 8, end - 4, end - 1];
    points
        .into_iter()
        .chain(later)
        .map(|at| (at, Row::file(format!("cut behind byte {at} of {end}"), &file[..at], 409)))
        // the end of an element is the end of a data set without the rest
        .map(
            |(at, row)| {
                if at == pixels || at == sequence { Row { status: vec![200], reasons: vec![], ..row } } else { row }
            },
        )
        .collect()
}

fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for (number, length) in
        [0xffff_fffe, 0xffff_fffd, 0x8000_0000, 0x7fff_ffff, 3_000_001, 1_001].into_iter().enumerate()
    {
        for (what, head) in
            [("Pixel Data", PIXELS), ("a text", TEXT), ("a private value", PRIVATE), ("a sequence", SEQUENCE)]
        {
            let number = u32::try_from(number).unwrap();
            rows.push(Row::file(
                format!("{what} of {length} bytes that do not come"),
                tail(number, &long(head, length)),
                409,
            ));
        }
    }
    let odd = tail(10, b"\x10\0\x10\0PN\x03\0A^B");
    let undefined = |head| tail(11, &long(head, UNDEFINED));
    rows.extend([
        Row::file("a value of odd length", &odd, 200),
        Row::file("a value of 16 bits that does not come", tail(12, b"\x10\0\x10\0PN\xff\xffA"), 409),
        Row::file("a text of undefined length", undefined(TEXT), 409),
        Row::file("a private value of undefined length", undefined(PRIVATE), 409),
        Row::file("a VR that nobody knows", tail(13, b"\x10\0\x10\0ZZ\x02\0AB"), 200).or(409),
        Row::file("a VR of NULs", tail(14, b"\x10\0\x10\0\0\0\x02\0AB"), 409).or(200),
        Row::file(
            "elements in no order",
            tail(15, b"\x10\0\x20\0LO\x02\0AB\x08\0\x60\0CS\x02\0CT\x08\0\x05\0CS\x02\0  "),
            200,
        ),
        Row::file("an element 1,000 times", tail(16, &b"\x10\0\x20\0LO\x02\0AB".repeat(1_000)), 200),
        Row::file("200,000 elements", tail(17, &many_elements(200_000)), 200),
        Row::file("garbage after the data set", tail(18, &[0xff; 100]), 409),
        Row::file("zeros after the data set", tail(19, &vec![0; 100_000]), 200),
        Row::file("a group of file meta information in the data set", tail(20, b"\x02\0\x10\0UI\x02\x001\0"), 200),
        Row::file(
            "a value of 2 MiB in a VR that may not be bulk data",
            tail(21, &[&long(*b"\x40\x00\x75\xfeUR", 2 << 20)[..], &vec![b'a'; 2 << 20]].concat()),
            409,
        ),
    ]);
    rows
}

fn many_elements(count: u32) -> Vec<u8> {
    let tag = |number: u32| (0x0021 + 2 * (number / 60_000), 0x1000 + number % 60_000);
    (0..count)
        .map(tag)
        .flat_map(|(group, element)| {
            let [group, element] = [group, element].map(|half| u16::try_from(half).unwrap().to_le_bytes());
            [&group[..], &element, b"LO\0\0"].concat()
        })
        .collect()
}

/// Sequences inside each other.
fn nested(depth: u32, defined: bool, closed: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for level in (0..depth).rev() {
        let inside = level * 20;
        bytes.extend(long(SEQUENCE, if defined { inside + 8 } else { UNDEFINED }));
        bytes.extend(item(if defined { inside } else { UNDEFINED }));
    }
    if closed && !defined {
        bytes.extend([ITEM_END, SEQUENCE_END].concat().repeat(depth as usize));
    }
    bytes
}

fn nesting() -> Vec<Row> {
    let mut rows = Vec::new();
    for (depth, status) in [(30, 200), (1_000, 409), (10_000, 409), (1_000_000, 409)] {
        for (defined, closed) in [(true, true), (false, true), (false, false)] {
            let what = format!("{depth} levels, defined: {defined}, closed: {closed}");
            let status = if closed { status } else { 409 };
            rows.push(Row::file(what, tail(100 + u32::from(defined), &nested(depth, defined, closed)), status));
        }
    }
    let sequence = |content: &[u8]| {
        long(SEQUENCE, u32::try_from(content.len()).unwrap())
            .into_iter()
            .chain(content.iter().copied())
            .collect::<Vec<u8>>()
    };
    let open = |content: &[u8]| [&long(SEQUENCE, UNDEFINED)[..], content].concat();
    rows.extend([
        // nothing is left of the sequence for them, so they are empty
        Row::file("an item that is longer than its sequence", tail(110, &sequence(&item(100))), 200),
        Row::file("items that overlap", tail(111, &sequence(&[item(20), item(20), item(0)].concat())), 409),
        Row::file("an item of 4 GiB in a sequence of 8 bytes", tail(112, &sequence(&item(0xffff_fffe))), 200),
        Row::file("an element in place of an item", tail(113, &sequence(b"\x10\0\x20\0LO\0\0")), 409),
        Row::file("an item without a sequence", tail(114, &item(0)), 409),
        Row::file("a delimiter of an item without an item", tail(115, &ITEM_END), 200),
        Row::file("a delimiter of a sequence without a sequence", tail(116, &SEQUENCE_END), 200),
        Row::file("a delimiter of a length", tail(117, &open(b"\xfe\xff\xdd\xe0\x04\0\0\0abcd")), 409),
        Row::file(
            "a sequence without its delimiter",
            tail(118, &open(&[item(UNDEFINED), ITEM_END.to_vec()].concat())),
            409,
        ),
        Row::file(
            "an item without its delimiter",
            tail(119, &open(&[&item(UNDEFINED)[..], &SEQUENCE_END].concat())),
            409,
        ),
        Row::file("100,000 items", tail(120, &sequence(&item(0).repeat(100_000))), 200),
        Row::file("a sequence whose length cuts an item header", tail(121, &long(SEQUENCE, 4)), 409),
    ]);
    rows
}

fn fragments() -> Vec<Row> {
    let encapsulated = |number: u32, content: &[&[u8]]| {
        let image = Elements::ct("1.2", "1.2.3", &format!("1.2.3.9.{number}")).without(0x7fe0, 0x0010);
        let image = image.text(0x0028, 0x0008, VR::IS, "2");
        [&image.part10(Syntax::JPEG)[..], &long(PIXELS, UNDEFINED), &content.concat()].concat()
    };
    let table = |offsets: &[u32]| {
        let bytes: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        [item(u32::try_from(bytes.len()).unwrap()), bytes].concat()
    };
    let fragment = [&item(4)[..], b"abcd"].concat();
    let (two, end) = (fragment.repeat(2), SEQUENCE_END);
    let whole = |number: u32, offsets: &[u32]| encapsulated(number, &[&table(offsets), &two, &end]);
    let many = item(0).repeat(300_000);
    let extended = |number: u32, offsets: &[u64], lengths: &[u64]| {
        let words = |numbers: &[u64]| Value::Bytes(numbers.iter().flat_map(|number| number.to_le_bytes()).collect());
        Elements::ct("1.2", "1.2.3", &format!("1.2.3.9.{number}"))
            .with(0x7fe0, 0x0001, VR::OV, words(offsets))
            .with(0x7fe0, 0x0002, VR::OV, words(lengths))
            .encapsulated(&[&[1; 8], &[2; 8]])
            .part10(Syntax::JPEG)
    };
    vec![
        Row::file("two fragments", whole(1, &[0, 12]), 200),
        Row::file("no fragments at all", encapsulated(2, &[&table(&[]), &end]), 200),
        Row::file("not even an offset table", encapsulated(3, &[&end]), 200),
        Row::file("fragments without an end", encapsulated(4, &[&table(&[]), &two]), 409),
        Row::file("a fragment of 4 GiB", encapsulated(5, &[&table(&[]), &item(0xffff_fffe), &end]), 409),
        Row::file("a fragment of undefined length", encapsulated(6, &[&table(&[]), &item(UNDEFINED), &end]), 409),
        Row::file("a fragment of odd length", encapsulated(7, &[&table(&[]), &item(3), b"abc", &end]), 200).or(409),
        Row::file("an element among fragments", encapsulated(8, &[&table(&[]), b"\x10\0\x20\0LO\0\0", &end]), 409),
        Row::file("an offset table that runs backwards", whole(9, &[12, 0]), 200),
        Row::file("an offset table beyond the end", whole(10, &[0, 0xffff_fff0]), 200),
        Row::file("an offset table into a fragment", whole(11, &[0, 5]), 200),
        Row::file("an offset table of the same offsets", whole(12, &[0, 0]), 200),
        Row::file("an offset table of 100,000 frames", whole(13, &vec![0; 100_000]), 200),
        Row::file("an offset table of three bytes", encapsulated(14, &[&item(3), b"abc", &two, &end]), 200).or(409),
        Row::file("an offset table of 4 GiB", encapsulated(15, &[&item(0xffff_fffc), &two, &end]), 409),
        Row::file("300,000 empty fragments", encapsulated(16, &[&table(&[]), &many, &end]), 200),
        Row::file("an extended offset table beyond the end", extended(17, &[0, u64::MAX], &[8, 8]), 200),
        Row::file("an extended offset table of wild lengths", extended(18, &[0, 16], &[u64::MAX, u64::MAX]), 200),
        Row::file("an extended offset table of too many frames", extended(19, &[0; 5_000], &[8; 5_000]), 200),
        Row::file("an extended offset table without lengths", extended(20, &[0, 16], &[]), 200),
    ]
}

fn frames() -> Vec<Row> {
    let image = |number: u32| Elements::ct("1.2", "1.2.3", &format!("1.2.3.10.{number}"));
    let of = |number: u32, frames: &str| image(number).text(0x0028, 0x0008, VR::IS, frames).part10(Syntax::Explicit);
    let sized = |number: u32, rows: u16, columns: u16, samples: u16, bits: u16| {
        image(number)
            .number(0x0028, 0x0002, samples)
            .number(0x0028, 0x0010, rows)
            .number(0x0028, 0x0011, columns)
            .number(0x0028, 0x0100, bits)
            .text(0x0028, 0x0008, VR::IS, "2147483647")
            .part10(Syntax::Explicit)
    };
    let mut rows: Vec<Row> = ["-1", "0", "2147483647", "99999999999999999999", "1.5", "x", "1\\2", "", " 1 ", "\u{0}"]
        .into_iter()
        .zip(1..)
        .map(|(frames, number)| Row::file(format!("Number of Frames `{frames:?}`"), of(number, frames), 200))
        .collect();
    rows.extend([
        Row::file(
            "Rows times Columns times Samples times Bits over 64 bits",
            sized(20, 65_535, 65_535, 65_535, 65_535),
            200,
        ),
        Row::file("no rows", sized(21, 0, 4, 1, 16), 200),
        Row::file("no bits", sized(22, 2, 4, 1, 0), 200),
        Row::file("one bit", sized(23, 65_535, 65_535, 1, 1), 200),
        Row::file("Rows as text", image(24).text(0x0028, 0x0010, VR::LO, "many").part10(Syntax::Explicit), 200),
        Row::file(
            "Rows as nothing",
            image(25).with(0x0028, 0x0010, VR::US, Value::Words(vec![])).part10(Syntax::Explicit),
            200,
        ),
        Row::file(
            "Rows as a sequence",
            image(26).with(0x0028, 0x0010, VR::SQ, Value::Items(vec![], true)).part10(Syntax::Explicit),
            200,
        ),
        Row::file(
            "Pixel Data as a sequence",
            image(27).with(0x7fe0, 0x0010, VR::SQ, Value::Items(vec![small("1.2")], true)).part10(Syntax::Explicit),
            409,
        )
        .or(200),
        Row::file(
            "Pixel Data in every form",
            {
                image(28)
                    .with(0x7fe0, 0x0008, VR::OF, Value::Longs(vec![0; 8]))
                    .with(0x7fe0, 0x0009, VR::OD, Value::Longs(vec![0; 16]))
                    .part10(Syntax::Explicit)
            },
            200,
        ),
    ]);
    rows
}

fn uids() -> Vec<Row> {
    let mut rows = Vec::new();
    for uid in [
        "../../etc/passwd",
        "1.2%2f3",
        "1..2",
        ".1",
        "1.",
        "1 2",
        "a",
        "",
        "1.2\u{0}3",
        "1.2\n3",
        "\u{ff11}",
        "1.2\\1.3",
    ] {
        for (what, group, element) in [("SOP", 0x0008, 0x0018), ("Study", 0x0020, 0x000d), ("Series", 0x0020, 0x000e)] {
            let file =
                Elements::ct("1.2", "1.2.3", "1.2.3.4").text(group, element, VR::UI, uid).part10(Syntax::Explicit);
            rows.push(Row::file(format!("the {what} Instance UID {uid:?}"), &file, 409));
        }
    }
    let ct = |uid: &str| Elements::ct("1.2", "1.2.3", uid).part10(Syntax::Explicit);
    let longest = format!("1.{}", "2".repeat(62));
    let other = Elements::ct("1.2", "1.2.3", "1.2.3.1").text(0x0008, 0x103e, VR::LO, "other").part10(Syntax::Explicit);
    let twice = |tail: &[u8]| [&ct("1.2.3.60")[..], tail].concat();
    rows.extend([
        Row::file("a UID of 64 characters", ct(&longest), 200),
        Row::file("a UID of 65 characters", ct(&format!("{longest}2")), 409),
        Row::file("a UID of 60,000 characters", ct(&"1".repeat(60_000)), 409),
        Row::file("a UID with leading zeros", ct("1.2.03.4"), 200),
        Row::file("a UID with spaces around it", ct(" 1.2.3.61 "), 200).or(409),
        Row::file("a UID without dots", ct("12345"), 200),
        Row::file("a UID twice with the same value", twice(b"\x20\0\x0d\0UI\x04\x001.2\0"), 200),
        Row::file("a UID twice with different values", twice(b"\x20\0\x0d\0UI\x04\x001.9\0"), 409),
        Row::file("another instance under a known UID", &other, 409).because(&[0x0111]),
        Row::store(
            "two instances under one UID",
            RELATED,
            parts(&[ct("1.2.3.62"), {
                Elements::ct("1.2", "1.2.3", "1.2.3.62").text(0x0008, 0x103e, VR::LO, "x").part10(Syntax::Explicit)
            }]),
            202,
        )
        .because(&[0x0111]),
        Row::raw(
            "an instance of another study than the path",
            {
                let body = parts(&[ct("1.2.3.63")]);
                let request = super::post(&[("Content-Type", RELATED)], &body);
                [&b"POST /dicom-web/studies/1.9 HTTP/1.1"[..], &request[memchr::memchr(b'\r', &request).unwrap()..]]
                    .concat()
            },
            409,
        )
        .because(&[NOT_UNDERSTOOD]),
        Row::file(
            "UIDs within a sequence alone",
            {
                Elements::default()
                    .with(0x0008, 0x1140, VR::SQ, Value::Items(vec![small("1.2.3.4")], false))
                    .part10(Syntax::Explicit)
            },
            409,
        ),
    ]);
    rows
}

fn texts() -> Vec<Row> {
    let with = |number: u32, vr: VR, element: u16, text: &str| {
        Elements::ct("1.2", "1.2.3", &format!("1.2.3.11.{number}"))
            .text(0x0010, element, vr, text)
            .part10(Syntax::Explicit)
    };
    let charset = |number: u32, name: &str| {
        let file = Elements::ct("1.2", "1.2.3", &format!("1.2.3.12.{number}")).text(0x0008, 0x0005, VR::CS, name);
        file.text(0x0010, 0x0010, VR::PN, "\u{1b}$B\u{80}\u{ff}\u{1b}(").part10(Syntax::Explicit)
    };
    vec![
        Row::file("a name with NULs", with(1, VR::PN, 0x0010, "A\0B^C\0"), 200),
        Row::file("a name of 50,000 carets", with(2, VR::PN, 0x0010, &"^".repeat(50_000)), 200),
        Row::file("a name of 50,000 equals signs", with(3, VR::PN, 0x0010, &"=".repeat(50_000)), 200),
        Row::file("30,000 values", with(4, VR::LO, 0x0020, &"\\".repeat(30_000)), 200),
        Row::file("a name that is no text", with(5, VR::PN, 0x0010, "\u{1}\u{2}\u{7f}\u{85}\u{2028}"), 200),
        Row::file("a date that is none", with(6, VR::DA, 0x0030, "99999999"), 200),
        Row::file("a character set that nobody knows", charset(1, "NO_SUCH_SET"), 200),
        Row::file(
            "character sets that shift into each other",
            charset(2, "\\ISO 2022 IR 87\\ISO 2022 IR 159\\ISO 2022 IR 149"),
            200,
        ),
        Row::file("UTF-8 that is none", charset(3, "ISO_IR 192"), 200),
        Row::file("a thousand character sets", charset(4, &"ISO_IR 100\\".repeat(1_000)), 200),
        Row::file(
            "numbers that are none",
            {
                Elements::ct("1.2", "1.2.3", "1.2.3.13.1")
                    .text(0x0018, 0x0050, VR::DS, "NaN")
                    .text(0x0018, 0x0088, VR::DS, "1e999999")
                    .text(0x0020, 0x0013, VR::IS, "99999999999999999999")
                    .text(0x0020, 0x0032, VR::DS, "inf\\-inf\\1e-999")
                    .part10(Syntax::Explicit)
            },
            200,
        ),
        Row::file(
            "values that are too short for their VR",
            {
                Elements::ct("1.2", "1.2.3", "1.2.3.13.2")
                    .with(0x0018, 0x9073, VR::FD, Value::Bytes(vec![1, 2, 3]))
                    .with(0x0028, 0x0009, VR::AT, Value::Bytes(vec![1, 2]))
                    .part10(Syntax::Explicit)
            },
            200,
        ),
    ]
}
