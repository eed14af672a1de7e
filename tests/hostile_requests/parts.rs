//! Rows about the parts of a multipart body: delimiters, headers of parts, nesting.

use super::{NOT_UNDERSTOOD, PART, RELATED, Row, good, parts};

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [delimiters(), headers(), contents()].into_iter().flatten().collect()
}

fn delimiters() -> Vec<Row> {
    let file = good(1);
    let body = parts(&[&file]);
    let join = |pieces: &[&[u8]]| pieces.concat();
    let lines = |text: &[u8]| memchr::memmem::find(text, b"\r\n\r\n").unwrap();
    let head = lines(&body);
    // LF alone around the same file
    let bare = join(&[b"--b\nContent-Type: application/dicom\n\n", &file, b"\n--b--\n"]);
    let mixed = join(&[b"--b\r\nContent-Type: application/dicom\r\n\r\n", &file, b"\n--b--\r\n"]);
    let again = file.iter().copied().chain(*b"\r\n--bx\r\n--b-\r\n--").collect::<Vec<u8>>();
    let before = |bytes: &[u8]| join(&[bytes, b"\r\n", &body]);
    let row = |what: &str, body: Vec<u8>, status: u16| Row::store(what, RELATED, body, status);
    vec![
        row("LF alone", bare, 200),
        row("LF alone before the closing delimiter", mixed, 400),
        row("no closing delimiter", body[..body.len() - 7].to_vec(), 400),
        row("a closing delimiter without its dashes", join(&[&body[..body.len() - 4], b"\r\n"]), 400),
        row("a closing delimiter with half of its dashes", join(&[&body[..body.len() - 3], b"\r\n"]), 400),
        row("a closing delimiter without a line end", body[..body.len() - 2].to_vec(), 200),
        row("a body that ends within the headers of a part", body[..head].to_vec(), 400),
        row("a body that ends within a delimiter", b"--".to_vec(), 400),
        row("a preamble", before(b"This is a message in MIME format"), 200),
        row("a preamble that looks like a delimiter", before(b"--bb\r\n --b\r\n-b\r\n--"), 200),
        row("a preamble of 60 KiB", before(&vec![b'x'; 60 << 10]), 200),
        row("a preamble of 4 MiB", before(&vec![b'x'; 4 << 20]), 400),
        row("a preamble of 1,000,000 lines", before(&b"\r\n".repeat(1_000_000)), 400),
        row("an epilogue", join(&[&body, b"whatever\r\n--b\r\n\r\nno part"]), 200),
        row("an epilogue of 1 MiB", join(&[&body, &vec![b'x'; 1 << 20]]), 200),
        row("blanks after a delimiter", join(&[b"--b  \t ", &body[3..]]), 200),
        row("300 blanks after a delimiter", join(&[b"--b", &[b' '; 300], &body[3..]]), 400),
        row("a word after a delimiter", join(&[b"--b word", &body[3..]]), 400),
        row("data that nearly are a delimiter", parts(&[&again]), 409).because(&[NOT_UNDERSTOOD]),
        row("every byte by itself", body.clone(), 200).cut(1),
        row("two bodies in one, cut within the delimiters", join(&[&body[..body.len() - 7], &body]), 200).cut(11),
        row("1,000 empty parts", join(&[&b"--b\r\n\r\n".repeat(1_000), b"--b--\r\n"]), 409)
            .because(&[NOT_UNDERSTOOD; 1_000]),
    ]
}

fn headers() -> Vec<Row> {
    let file = good(1);
    let with = |headers: &[u8]| [b"--b\r\n", headers, b"\r\n\r\n", &file[..], b"\r\n--b--\r\n"].concat();
    let typed = |headers: &str| with(format!("Content-Type: application/dicom\r\n{headers}").as_bytes());
    let row = |what: &str, body: Vec<u8>, status: u16| Row::store(what, RELATED, body, status);
    let many = |count: usize| (0..count).map(|number| format!("X-{number}: y")).collect::<Vec<_>>().join("\r\n");
    let mut rows = vec![
        row("60 headers", typed(&many(60)), 200),
        row("65 headers", typed(&many(65)), 413),
        row("10,000 headers", typed(&many(10_000)), 413),
        row("a header of 15 KiB", typed(&format!("X: {}", "y".repeat(15 << 10))), 200),
        row("a header of 17 KiB", typed(&format!("X: {}", "y".repeat(17 << 10))), 413),
        row("a header of 4 MiB", typed(&format!("X: {}", "y".repeat(4 << 20))), 413),
        row("a header without a colon", typed("nonsense"), 400),
        row("a header without a name", typed(": x"), 200),
        row("a header with a NUL", typed("X: a\0b"), 200),
        row("a header that is not UTF-8", with(b"X: \xff\xfe\r\nContent-Type: application/dicom"), 200),
        row("a folded header", with(b"Content-Type:\r\n application/dicom"), 200),
        row("100,000 folded lines", typed(&format!("X: y\r\n{}", " z\r\n".repeat(100_000))), 413),
        row("a fold before any header", with(b" folded\r\nContent-Type: application/dicom"), 400),
        row("a fold before any header, with a colon", with(b" X: y\r\nContent-Type: application/dicom"), 200),
        row("spaces before the colon", with(b"Content-Type : application/dicom"), 200),
        row("LF alone between headers", with(b"Content-Type: application/dicom\nX: y"), 200),
        row("no empty line", [b"--b\r\n", &file[..], b"\r\n--b--\r\n"].concat(), 400).or(413),
        row("a Content-Length that is too short", typed("Content-Length: 3"), 200),
        row("a Content-Length that is too long", typed("Content-Length: 99999999999999999999"), 200),
        row("a Content-Length of words", typed("Content-Length: many"), 200),
        row("a Transfer-Encoding", typed("Transfer-Encoding: chunked"), 200),
        row("a Content-Location that looks like a path", typed("Content-Location: ../../../../etc/passwd"), 200),
        row("a Content-Location of another server", typed("Content-Location: http://evil.example/x"), 200),
        row("two Content-Locations", typed("Content-Location: a\r\nContent-Location: b"), 200),
        row(
            "a Content-Disposition that looks like a path",
            typed("Content-Disposition: attachment; filename=\"../../x.dcm\""),
            200,
        ),
    ];
    for (content_type, status) in [
        ("application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50", 200),
        ("application/dicom; transfer-syntax=../..", 200),
        ("APPLICATION/DICOM", 200),
        ("application/octet-stream", 200),
        ("application/dicom\0", 409),
        ("application", 409),
        ("", 409),
        ("text/html", 409),
        ("multipart/related; boundary=c", 409),
    ] {
        let body = with(format!("Content-Type: {content_type}").as_bytes());
        let row = row(&format!("a part of type `{content_type:?}`"), body, status);
        rows.push(if status == 409 { row.because(&[NOT_UNDERSTOOD]) } else { row });
    }
    let twice = with(b"Content-Type: application/dicom\r\nContent-Type: text/html");
    rows.push(row("two types of a part", twice, 200));
    let twice = with(b"Content-Type: text/html\r\nContent-Type: application/dicom");
    rows.push(row("two types of a part, the first another", twice, 409).because(&[NOT_UNDERSTOOD]));
    rows
}

fn contents() -> Vec<Row> {
    let row = |what: &str, body: Vec<u8>, status: u16| Row::store(what, RELATED, body, status);
    let inner = b"--c\r\nContent-Type: application/dicom\r\n\r\nx\r\n--c--".to_vec();
    let nested = b"--b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n".to_vec();
    // an inner boundary that begins like the outer one
    let tricky = "--b\r\nContent-Type: multipart/related; boundary=bb\r\n\r\n--bb\r\n\r\nx\r\n--bb--\r\n--b--\r\n";
    let garbage = b"garbage".to_vec();
    vec![
        row("a multipart body in a part", [nested, inner.clone(), b"\r\n--b--\r\n".to_vec()].concat(), 409)
            .because(&[NOT_UNDERSTOOD]),
        row("a multipart body taken for a file", parts(&[inner]), 409).because(&[NOT_UNDERSTOOD]),
        row("a boundary in a part that begins like the outer one", tricky.as_bytes().to_vec(), 409)
            .because(&[NOT_UNDERSTOOD]),
        row("garbage beside a good part", parts(&[garbage.clone(), good(1)]), 202).because(&[NOT_UNDERSTOOD]),
        row("a good part, then a body that ends", [PART.as_bytes(), &good(1), b"\r\n--b\r\n"].concat(), 400),
        row("the same instance 50 times", parts(&vec![good(1); 50]), 200),
        row("1,000 times garbage", parts(&vec![garbage; 1_000]), 409).because(&[NOT_UNDERSTOOD; 1_000]),
    ]
}
