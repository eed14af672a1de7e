//! Rows about what a body is said to be: media types, boundaries, single instances, empty bodies.

use super::{NOT_UNDERSTOOD, RELATED, Row, good, head, parts, post};

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [media_types(), boundaries(), single()].into_iter().flatten().collect()
}

fn media_types() -> Vec<Row> {
    let body = parts(&[good(1)]);
    let mut rows = vec![
        Row::raw("no media type", post(&[], &body), 415),
        Row::raw("two media types", post(&[("Content-Type", RELATED), ("Content-Type", "text/plain")], &body), 200)
            .or(400)
            .or(415),
        Row::raw(
            "a media type that is not UTF-8",
            {
                let head = format!("{}Content-Length: {}\r\n", head(), body.len());
                [head.as_bytes(), b"Content-Type: multipart/related; boundary=\xff\r\n\r\n", &body].concat()
            },
            415,
        ),
    ];
    for (content_type, status) in [
        ("", 415),
        ("multipart", 415),
        ("multipart/", 415),
        ("/related; boundary=b", 415),
        ("multipart/form-data; boundary=b", 415),
        ("multipart/mixed; boundary=b", 415),
        ("multipart/related; type=text/html; boundary=b", 415),
        ("multipart/related; type=\"application/dicom", 400),
        ("multipart/related; boundary=b", 200),
        ("multipart/related;;;;boundary=b;;;type=application/dicom", 200),
        ("MULTIPART/RELATED; TYPE=APPLICATION/DICOM; BOUNDARY=b", 200),
        // each part has its own transfer syntax, and that of its file counts
        ("multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.50; boundary=b", 200),
        ("multipart/related; type=\"application/dicom; transfer-syntax=1.2\"; boundary=b", 415),
        ("application/octet-stream", 415),
        ("application/dicom+jpeg", 415),
        ("text/html", 415),
    ] {
        rows.push(Row::store(format!("Content-Type: {content_type}"), content_type, &body, status));
    }
    let long = format!("multipart/related; x=\"{}\"; boundary=b", "y".repeat(50_000));
    rows.push(Row::store("a media type of 50 kB", &long, &body, 200).or(431).or(400));
    let many = format!("multipart/related; {} boundary=b", "a=b; ".repeat(5_000));
    rows.push(Row::store("a media type of 5,000 parameters", &many, &body, 200).or(431).or(400));
    rows
}

/// A body with another boundary.
fn bound(boundary: &str) -> Vec<u8> {
    let part = "Content-Type: application/dicom\r\n\r\n";
    [format!("--{boundary}\r\n{part}").as_bytes(), &good(1), format!("\r\n--{boundary}--\r\n").as_bytes()].concat()
}

fn boundaries() -> Vec<Row> {
    let typed = |parameter: &str| format!("multipart/related; type=\"application/dicom\"{parameter}");
    let (seventy, longer, longest) = ("b".repeat(70), "b".repeat(71), "b".repeat(257));
    [
        ("missing", "", "b", 400),
        ("empty", "; boundary=", "b", 400),
        ("empty in quotes", "; boundary=\"\"", "b", 400),
        ("of blanks", "; boundary=\"   \"", "b", 400),
        ("70 characters", &format!("; boundary={seventy}"), &seventy, 200),
        // RFC 2046 ends at 70, but some clients do not
        ("71 characters", &format!("; boundary={longer}"), &longer, 200),
        ("257 characters", &format!("; boundary={longest}"), &longest, 400),
        ("an open quote", "; boundary=\"b", "b", 200),
        ("single quotes", "; boundary='b'", "'b'", 200),
        ("single quotes that are none", "; boundary='b'", "b", 400),
        ("spaces inside", "; boundary=\"b c\"", "b c", 200),
        ("spaces inside, not quoted", "; boundary=b c", "b c", 200),
        ("a space at its end", "; boundary=\"b \"", "b ", 400),
        ("an escaped quote", "; boundary=\"b\\\"c\"", "b\"c", 200),
        ("twice", "; boundary=b; boundary=c", "b", 200),
        ("twice, the second used", "; boundary=b; boundary=c", "c", 400),
        ("with its dashes", "; boundary=--b", "b", 400),
        ("another than in the body", "; boundary=c", "b", 400),
        ("longer than in the body", "; boundary=bb", "b", 400),
        ("a beginning of that in the body", "; boundary=b", "bb", 400),
        ("of dashes", "; boundary=----", "----", 200),
        ("of signs", "; boundary=\"'()+_,-./:=?\"", "'()+_,-./:=?", 200),
        ("not ASCII", "; boundary=\"b\u{e9}\"", "b\u{e9}", 415),
        ("a tab", "; boundary=\"b\tc\"", "b\tc", 400),
    ]
    .into_iter()
    .map(|(what, parameter, used, status)| {
        let row = Row::store(format!("a boundary: {what}"), &typed(parameter), bound(used), status);
        // header values that are not ASCII are refused by the one or the other
        if status == 415 { row.or(400) } else { row }
    })
    .collect()
}

fn single() -> Vec<Row> {
    let file = good(1);
    vec![
        Row::store("an instance as the body", "application/dicom", &file, 200),
        Row::store(
            "an instance as the body in another transfer syntax",
            "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50",
            &file,
            200,
        ),
        Row::store("an empty instance", "application/dicom", b"", 409).because(&[NOT_UNDERSTOOD]),
        Row::store("a multipart body as an instance", "application/dicom", parts(&[&file]), 409)
            .because(&[NOT_UNDERSTOOD]),
        Row::store("an instance as a multipart body", RELATED, &file, 400),
        Row::store("an instance cut off", "application/dicom", &file[..file.len() - 1], 409).because(&[NOT_UNDERSTOOD]),
        Row::store("two instances in one", "application/dicom", [&file[..], &good(2)].concat(), 409)
            .because(&[NOT_UNDERSTOOD]),
        Row::store("an empty multipart body", RELATED, b"", 400),
        Row::store("nothing but the closing delimiter", RELATED, b"--b--\r\n", 400),
        Row::store("one empty part", RELATED, b"--b\r\n\r\n--b--\r\n", 409).because(&[NOT_UNDERSTOOD]),
        Row::store("one empty part without a line between", RELATED, b"--b\r\n--b--\r\n", 400),
    ]
}
