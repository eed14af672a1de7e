//! Rows about the message itself: request line, header fields, lengths, transfer codings, methods (RFC 9112).

use super::{CLOSED, RELATED, Row, get, good, head, parts, post};

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    [heads(), lengths(), chunked(), expectations(), methods(), hosts()].into_iter().flatten().collect()
}

fn heads() -> Vec<Row> {
    let with = |headers: &str| format!("GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let many = |count: usize| with(&(0..count).map(|number| format!("X-{number}: x\r\n")).collect::<Vec<_>>().concat());
    vec![
        Row::raw("a header of 1 MiB", with(&format!("X: {}\r\n", "x".repeat(1 << 20))), 431).or(400).or(CLOSED),
        Row::raw("90 headers", many(90), 200),
        Row::raw("200 headers", many(200), 431).or(400).or(CLOSED),
        Row::raw("10,000 headers", many(10_000), 431).or(400).or(CLOSED),
        Row::raw("a target of 100 KiB", get(&format!("/dicom-web/studies?{}", "a".repeat(100 << 10))), 414).or(400),
        Row::raw("a target of 1 MiB", get(&format!("/{}", "a".repeat(1 << 20))), 431),
        Row::raw("a header without a colon", with("nonsense\r\n"), 400),
        Row::raw("a header name with a space", with("X y: z\r\n"), 400),
        Row::raw("a space before the colon", with("X : z\r\n"), 400),
        Row::raw("a folded header", with("X: a\r\n b\r\n"), 400),
        Row::raw("a NUL in a header", with("X: a\0b\r\n"), 400),
        Row::raw("a lone CR in a header", with("X: a\rb\r\n"), 400),
        Row::raw("an empty header name", with(": a\r\n"), 400),
        Row::raw(
            "a header that is not UTF-8",
            [with("").trim_end().as_bytes(), b"\r\nX: \xff\xfe\r\n\r\n"].concat(),
            200,
        ),
        Row::raw(
            "an Accept that is not UTF-8",
            [with("").trim_end().as_bytes(), b"\r\nAccept: \xff\r\n\r\n"].concat(),
            406,
        ),
        Row::raw("a request id that would forge a line of the log", with("X-Request-Id: a b\"}{\r\n"), 200),
        Row::raw("a version of the future", "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400).or(505).or(CLOSED),
        Row::raw("HTTP/0.9", "GET /dicom-web/studies\r\n", 400).and_ends(),
        Row::raw("no request line", "\r\n\r\n\r\n\r\n", CLOSED).or(400).and_ends(),
        Row::raw("a target that is no URI", "GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        Row::raw("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400)
            .or(CLOSED)
            .and_ends(),
        Row::raw(
            "a DICOM association",
            [b"\x01\x00\x00\x00\x00\xcd\x00\x01\x00\x00".to_vec(), vec![b' '; 200]].concat(),
            400,
        )
        .or(CLOSED)
        .and_ends(),
        Row::raw("an HTTP/2 preface and noise", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnoise, no frames".to_vec(), CLOSED)
            .and_ends(),
        Row::raw("an upgrade to anything", with("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"), 200)
            .and_ends(),
        Row::raw("half a head", "GET /dicom-web/studies HTTP/1.1\r\nHost: loc", CLOSED).or(400).and_ends(),
    ]
}

fn lengths() -> Vec<Row> {
    let body = parts(&[good(1)]);
    let with = |headers: &str| {
        let head = format!("{}Content-Type: {RELATED}\r\n{headers}\r\n", head());
        [head.as_bytes(), &body].concat()
    };
    let length = body.len();
    vec![
        Row::raw("no length at all", with(""), 400).and_ends(),
        Row::raw("two lengths", with(&format!("Content-Length: {length}\r\nContent-Length: 3\r\n")), 400),
        Row::raw(
            "the same length twice",
            with(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n")),
            400,
        )
        .or(200),
        Row::raw("a list of lengths", with(&format!("Content-Length: {length}, {length}\r\n")), 400),
        Row::raw("a negative length", with("Content-Length: -1\r\n"), 400),
        Row::raw("a length with a sign", with(&format!("Content-Length: +{length}\r\n")), 400),
        Row::raw("a length in hexadecimal", with("Content-Length: 0x10\r\n"), 400),
        Row::raw("a length of words", with("Content-Length: many\r\n"), 400),
        Row::raw("a length over 64 bits", with("Content-Length: 99999999999999999999999\r\n"), 400),
        Row::raw("a length over the limit", with("Content-Length: 18446744073709551615\r\n"), 413),
        Row::raw(
            "a length that is too long, of which the epilogue is missing",
            with(&format!("Content-Length: {}\r\n", length + 10)),
            200,
        )
        .and_ends(),
        Row::raw("a length that cuts the closing delimiter", with(&format!("Content-Length: {}\r\n", length - 4)), 400)
            .and_ends(),
        Row::raw("a length of zero before a body", with("Content-Length: 0\r\n"), 400).and_ends(),
        Row::raw(
            "both length and chunks",
            with(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")),
            400,
        ),
        Row::raw("a smuggled request", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), 400),
        Row::raw("an unknown transfer coding", with("Transfer-Encoding: gzip\r\n"), 400).or(501),
        Row::raw("chunked, but not last", with("Transfer-Encoding: chunked, gzip\r\n"), 400).or(501),
        Row::raw("chunked twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        Row::raw("chunked in disguise", with("Transfer-Encoding: xchunked\r\n"), 400).or(501),
        Row::raw(
            "a body with GET",
            {
                let head =
                    format!("GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
                [head.as_bytes(), &body].concat()
            },
            200,
        ),
    ]
}

fn chunked() -> Vec<Row> {
    let with = |chunks: &[u8]| {
        let head = format!("{}Content-Type: {RELATED}\r\nTransfer-Encoding: chunked\r\n\r\n", head());
        [head.as_bytes(), chunks].concat()
    };
    let body = parts(&[good(1)]);
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let bytewise: Vec<u8> = body.chunks(1).flat_map(chunk).collect();
    let whole = chunk(&body);
    // lines that go on with the one before, as many as the headers of a part may have
    let folded = format!("--b\r\nX: y\r\n{}", " \r\n".repeat(5_000));
    let folded: Vec<u8> = [folded.as_bytes(), &body[5..]].concat().chunks(1).flat_map(chunk).collect();
    let extension =
        [format!("{:x};x={}\r\n", body.len(), "y".repeat(2 << 20)).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let short_extension = [format!("{:x};x=\"y\"\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    vec![
        Row::raw("chunks of one byte", with(&[&bytewise[..], b"0\r\n\r\n"].concat()), 200),
        Row::raw("15 kB of headers of a part in chunks of one byte", with(&[&folded[..], b"0\r\n\r\n"].concat()), 200),
        Row::raw("chunks, each byte in a packet", with(&[&whole[..], b"0\r\n\r\n"].concat()), 200).cut(7),
        Row::raw("a chunk size that is no number", with(b"zz\r\nx\r\n0\r\n\r\n"), 400).or(CLOSED),
        Row::raw("a chunk size with a sign", with(b"-1\r\nx\r\n0\r\n\r\n"), 400).or(CLOSED),
        Row::raw("a chunk size over 64 bits", with(b"fffffffffffffffff\r\nx\r\n0\r\n\r\n"), 400).or(CLOSED),
        Row::raw("a chunk of 16 exabytes", with(b"fffffffffffffff0\r\nx\r\n0\r\n\r\n"), 400).or(CLOSED).and_ends(),
        Row::raw("a chunk that is longer than it says", with(b"3\r\n--b--\r\n0\r\n\r\n"), 400).or(CLOSED),
        Row::raw("a chunk that is shorter than it says", with(&[&b"fff\r\n"[..], &body[..100]].concat()), 400)
            .and_ends(),
        Row::raw("no last chunk", with(&whole), 200).or(400).or(CLOSED).and_ends(),
        Row::raw("nothing but the last chunk", with(b"0\r\n\r\n"), 400),
        Row::raw("a chunk extension of 2 MiB", with(&extension), 200).or(400).or(CLOSED),
        Row::raw("a chunk extension", with(&short_extension), 200),
        Row::raw("a chunk size with line feeds alone", with(b"3\nabc\n0\n\n"), 400).or(CLOSED),
        Row::raw("trailers", with(&[&whole[..], b"0\r\nX: y\r\n\r\n"].concat()), 200).or(400).or(CLOSED),
    ]
}

fn expectations() -> Vec<Row> {
    let body = parts(&[good(1)]);
    vec![
        Row::raw("Expect: 100-continue", post(&[("Content-Type", RELATED), ("Expect", "100-continue")], &body), 200),
        Row::raw("Expect: miracles", post(&[("Content-Type", RELATED), ("Expect", "miracles")], &body), 417).or(200),
        Row::raw(
            "Expect twice",
            post(&[("Content-Type", RELATED), ("Expect", "100-continue"), ("Expect", "x")], &body),
            200,
        )
        .or(417),
        Row::raw(
            "Expect before a body that is too large",
            format!(
                "{}Content-Type: {RELATED}\r\nContent-Length: 999999999999999\r\nExpect: 100-continue\r\n\r\n",
                head()
            ),
            413,
        ),
        Row::raw(
            "Expect of another host",
            "POST /dicom-web/studies HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            421,
        ),
    ]
}

fn methods() -> Vec<Row> {
    let method = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    };
    vec![
        Row::raw("a method that nobody knows", method("FROBNICATE", "/dicom-web/studies"), 405),
        Row::raw("a method in lower case", method("get", "/dicom-web/studies"), 405).or(400),
        Row::raw("a method with signs", method("G<E>T", "/dicom-web/studies"), 400),
        Row::raw("a method of 10,000 letters", method(&"M".repeat(10_000), "/dicom-web/studies"), 405)
            .or(400)
            .or(CLOSED),
        Row::raw("DELETE of what is not there", method("DELETE", "/dicom-web/studies/1.2.999"), 404),
        Row::raw("DELETE of all studies", method("DELETE", "/dicom-web/studies"), 405),
        Row::raw(
            "DELETE of a frame",
            method("DELETE", "/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/1"),
            405,
        ),
        Row::raw("DELETE with a parameter", method("DELETE", "/dicom-web/studies/1.2?before=20200101"), 400),
        Row::raw("PUT of a study", method("PUT", "/dicom-web/studies/1.2"), 405),
        Row::raw("TRACE", method("TRACE", "/dicom-web/studies"), 405),
        Row::raw("CONNECT", "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n", 404).or(400).or(405).or(421),
        Row::raw("OPTIONS *", method("OPTIONS", "*"), 404).or(400).or(405),
        Row::raw("POST to a search", post(&[("Content-Type", RELATED)], &parts(&[good(1)])), 200),
        Row::raw("POST to an instance", method("POST", "/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1"), 405),
    ]
}

fn hosts() -> Vec<Row> {
    let to = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    let studies = "/dicom-web/studies";
    vec![
        Row::raw("no Host", to(studies, ""), 400),
        Row::raw("an empty Host", to(studies, "Host: \r\n"), 400),
        Row::raw("two Hosts", to(studies, "Host: localhost\r\nHost: localhost\r\n"), 400),
        Row::raw("another Host", to(studies, "Host: evil.example\r\n"), 421),
        Row::raw("a Host with a path", to(studies, "Host: localhost/x\r\n"), 421).or(400),
        Row::raw("a Host with a user", to(studies, "Host: a@localhost\r\n"), 421).or(400),
        Row::raw("a Host with a wrong port", to(studies, "Host: localhost:99999\r\n"), 400),
        Row::raw("a Host that is not UTF-8", b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n".to_vec(), 400),
        Row::raw("an absolute target", to("http://localhost/dicom-web/studies", "Host: localhost\r\n"), 200),
        Row::raw(
            "an absolute target of another host",
            to("http://evil.example/dicom-web/studies", "Host: localhost\r\n"),
            421,
        ),
        Row::raw(
            "an absolute target with a user",
            to("http://a:b@localhost/dicom-web/studies", "Host: localhost\r\n"),
            200,
        )
        .or(400)
        .or(421),
        Row::raw("HTTP/1.0 without Host", "GET /dicom-web/studies HTTP/1.0\r\n\r\n", 200),
        Row::raw(
            "HTTP/1.0 with chunks",
            "POST /dicom-web/studies HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        )
        .or(415),
        Row::raw(
            "a page of another origin",
            post(&[("Content-Type", RELATED), ("Origin", "https://evil.example")], b""),
            403,
        ),
        Row::raw(
            "forwarded headers of a stranger",
            to(studies, "Host: localhost\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"),
            200,
        ),
    ]
}
