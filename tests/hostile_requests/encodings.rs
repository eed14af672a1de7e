//! Rows about compression: of the body (`Content-Encoding`), and of data sets (deflated transfer syntaxes).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use super::part10::{front, small};
use super::{NOT_UNDERSTOOD, RELATED, Row, good, parts, post};
use crate::support::generate::Syntax;

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [bodies(), datasets()].into_iter().flatten().collect()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn bodies() -> Vec<Row> {
    let body = parts(&[good(1)]);
    let (packed, half) = (gzip(&body), body.len() / 2);
    let row = |what: &str, encoding: &str, body: &[u8], status: u16| {
        Row::raw(what, post(&[("Content-Type", RELATED), ("Content-Encoding", encoding)], body), status)
    };
    let mut wrong = packed.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 0xff;
    let mut checksum = packed.clone();
    let at = checksum.len() - 6;
    checksum[at] ^= 0xff;
    // a header that names a file of a megabyte and says nothing
    let named = [&b"\x1f\x8b\x08\x08\0\0\0\0\0\x03"[..], &vec![b'x'; 1 << 20]].concat();
    let bomb = gzip(&[&b"--b\r\nContent-Type: application/dicom\r\n\r\n"[..], &vec![0; 64 << 20]].concat());
    let preamble_bomb = gzip(&vec![b'x'; 64 << 20]);
    vec![
        row("gzip", "gzip", &packed, 200),
        row("gzip of several members", "gzip", &[gzip(&body[..half]), gzip(&body[half..])].concat(), 200),
        row("gzip of several members, one of them empty", "gzip", &[gzip(b""), packed.clone()].concat(), 200),
        row("gzip and garbage", "gzip", &[&packed[..], b"garbage"].concat(), 400).or(200),
        row("gzip that is cut off", "gzip", &packed[..packed.len() - 9], 400),
        row("gzip without its checksum", "gzip", &packed[..packed.len() - 8], 400).or(200),
        row("gzip that is damaged", "gzip", &wrong, 400),
        row("gzip with a wrong checksum", "gzip", &checksum, 400).or(200),
        row("gzip that is none", "gzip", &body, 400),
        row("gzip of nothing", "gzip", b"", 400),
        row("gzip of an empty body", "gzip", &gzip(b""), 400),
        row("gzip of gzip", "gzip", &gzip(&packed), 400),
        row("gzip with a file name of 1 MiB", "gzip", &named, 400),
        row("a gzip bomb in a part", "gzip", &bomb, 400),
        row("a gzip bomb before the first part", "gzip", &preamble_bomb, 400),
        row("gzip twice", "gzip, gzip", &gzip(&packed), 415),
        row("plain after all", "identity", &body, 200),
        row("not said to be gzip", "identity", &packed, 400),
        row("deflate", "deflate", &body, 415),
        row("br", "br", &body, 415),
        row("zstd", "zstd", &body, 415),
        row("an encoding that nobody knows", "x-unknown", &body, 415),
        row("1,000 encodings", &vec!["identity"; 1_000].join(","), &body, 200),
        Row::raw(
            "two encodings in two lines",
            post(&[("Content-Type", RELATED), ("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")], &packed),
            415,
        ),
        Row::store(
            "gzip in a part",
            RELATED,
            {
                let head = "--b\r\nContent-Type: application/dicom\r\nContent-Encoding: gzip\r\n\r\n";
                [head.as_bytes(), &gzip(&good(1)), b"\r\n--b--\r\n"].concat()
            },
            409,
        )
        .because(&[NOT_UNDERSTOOD]),
    ]
}

fn datasets() -> Vec<Row> {
    let plain = small("1.2.3.70").dataset(Syntax::Explicit);
    let packed = deflate(&plain);
    let file = |dataset: &[u8]| [&front(Syntax::Deflated)[..], dataset].concat();
    let pixels = |length: u32| [&b"\xe0\x7f\x10\x00OB\0\0"[..], &length.to_le_bytes()].concat();
    let zeros = vec![0; 64 << 20];
    let bomb = deflate(&[&plain[..], &pixels(64 << 20), &zeros].concat());
    let other = small("1.2.3.75").dataset(Syntax::Explicit);
    let inside = deflate(&[&other[..], &pixels(u32::try_from(bomb.len()).unwrap()), &bomb].concat());
    let padded = deflate(&small("1.2.3.74").dataset(Syntax::Explicit));
    let cut = &packed[..packed.len() - 2];
    let zlib = [&b"\x78\x9c"[..], &packed].concat();
    vec![
        Row::file("a deflated data set", file(&packed), 200),
        Row::file("a deflated data set and bytes after it", file(&[&padded[..], b"\0\0garbage"].concat()), 200),
        Row::file("a deflated data set that is cut off", file(cut), 409),
        Row::file("a deflated data set that is not deflated", file(&plain), 409),
        Row::file("a deflated data set with the header of zlib", file(&zlib), 409),
        Row::file("a deflated data set in gzip", file(&gzip(&plain)), 409),
        Row::file("a deflated data set of nothing", file(b""), 409),
        Row::file("a deflated data set that inflates to nothing", file(&deflate(b"")), 409),
        Row::file("a deflated data set twice", file(&deflate(&packed)), 409),
        Row::file("a deflate bomb", file(&bomb), 409),
        Row::file("a deflate bomb in a value", file(&inside), 200),
        Row::file("a deflate stream without end", file(&b"\0\0\0\xff\xff".repeat(200_000)), 409),
    ]
}
