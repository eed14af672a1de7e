//! STOW-RS over HTTP: statuses, reasons, what is kept and what is not.

use std::io::Write as _;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use dicom_core::VR;

use crate::support::binary::JSON;
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::multipart;
use crate::support::server::{BackEnds, TestServer, on_both_stacks};

const DICOM: &str = "multipart/related; type=\"application/dicom\"; boundary=b";
const AS_STORED: &str = "application/dicom; transfer-syntax=*";

on_both_stacks!(
    what_was_stored_is_referenced_with_its_urls,
    the_status_says_whether_all_some_or_none_was_stored,
    an_instance_of_another_study_than_the_path_is_refused,
    a_request_that_is_no_storing_request_is_refused_before_anything_is_stored,
    every_legal_boundary_is_understood,
    a_client_that_goes_away_leaves_nothing,
    one_of_many_uploads_of_the_same_instance_is_kept,
    one_of_many_contents_under_one_uid_is_kept,
    a_request_of_many_instances_is_stored_whole,
    what_is_stored_is_told_when_the_rest_of_the_request_cannot_be_read,
    an_instance_may_be_the_body_itself,
    a_body_may_be_compressed_by_gzip,
    the_answer_is_in_xml_when_that_is_preferred,
);

fn ct(number: u32) -> Elements {
    Elements::ct("1.2", "1.2.3", &format!("1.2.3.{number}"))
}

fn file(number: u32) -> Vec<u8> {
    ct(number).part10(Syntax::Explicit)
}

/// Another content under the UID of [`file`].
fn other(number: u32) -> Vec<u8> {
    ct(number).text(0x0008, 0x103e, VR::LO, "other").part10(Syntax::Explicit)
}

async fn what_was_stored_is_referenced_with_its_urls(server: TestServer) {
    let answer = server.store(&[file(1)]).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, JSON));
    let study = format!("{}/studies/1.2", server.root());
    let expected = json!({
        "00081190": {"vr": "UR", "Value": [&study]},
        "00081199": {"vr": "SQ", "Value": [{
            "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
            "00081155": {"vr": "UI", "Value": ["1.2.3.1"]},
            "00081190": {"vr": "UR", "Value": [format!("{study}/series/1.2.3/instances/1.2.3.1")]},
        }]},
    });
    assert_eq!(answer.json(), expected);
    let mut again = expected.clone();
    again["00081199"]["Value"][0]["00000902"] = json!({"vr": "LO", "Value": ["already stored"]});
    assert_eq!(server.store(&[file(1)]).await.json(), again, "the identical instance again");
    assert_eq!(server.store_below("/1.2", &[file(1)]).await.json(), again, "and below its study");
    assert_eq!(server.read(&answer.retrieve_urls()[0], AS_STORED).await.body, file(1));
    assert_eq!((server.objects(), server.instances_counted().await), (1, 1));
}

async fn the_status_says_whether_all_some_or_none_was_stored(server: TestServer) {
    let garbage = b"this is no DICOM".to_vec();
    let truncated = file(9)[..file(9).len() - 3].to_vec();
    let without = |element| ct(8).without(0x0020, element).part10(Syntax::Explicit);
    // in this order: what is stored stays
    for (what, parts, status, reasons, stored) in [
        ("one", vec![file(1)], 200, vec![], 1),
        ("the same and one more", vec![file(1), file(2)], 200, vec![], 2),
        ("one twice in a request", vec![file(3), file(3)], 200, vec![], 3),
        ("two contents under one UID in a request", vec![file(4), other(4)], 202, vec![0x0111], 4),
        ("another content under a known UID", vec![other(1)], 409, vec![0x0111], 4),
        ("a good one and garbage", vec![file(5), garbage.clone()], 202, vec![0xC000], 5),
        ("garbage and a known one", vec![garbage.clone(), file(5)], 202, vec![0xC000], 5),
        ("garbage", vec![garbage], 409, vec![0xC000], 5),
        ("an empty part", vec![Vec::new()], 409, vec![0xC000], 5),
        ("a truncated one", vec![truncated], 409, vec![0xC000], 5),
        ("without study", vec![without(0x000d)], 409, vec![0xC000], 5),
        ("without series", vec![without(0x000e)], 409, vec![0xC000], 5),
        ("all kinds", vec![other(2), without(0x000d), file(6)], 202, vec![0x0111, 0xC000], 6),
    ] {
        let answer = server.store(&parts).await;
        assert_eq!((answer.status, answer.failure_reasons()), (status, reasons), "{what}: {}", answer.text());
        let json = answer.json();
        for (tag, sequence) in json.as_object().unwrap() {
            assert!(sequence["vr"] != "SQ" || !sequence["Value"].as_array().unwrap().is_empty(), "{what}: {tag}");
        }
        assert_eq!((server.objects(), server.instances_counted().await), (stored, stored), "{what}");
    }
    // what came first under a UID is what is kept
    for number in [1, 2, 4] {
        let path = format!("/studies/1.2/series/1.2.3/instances/1.2.3.{number}");
        assert!(server.read(&path, AS_STORED).await.body == file(number), "instance {number}");
    }
}

async fn an_instance_of_another_study_than_the_path_is_refused(server: TestServer) {
    let answer = server.store_below("/1.9", &[file(1)]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xC000]));
    server.is_left_empty().await;
    let here = Elements::ct("1.9", "1.9.3", "1.9.3.1").part10(Syntax::Explicit);
    let answer = server.store_below("/1.9", &[file(1), here]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (202, vec![0xC000]));
    assert_eq!(answer.json()["00081190"]["Value"][0], format!("{}/studies/1.9", server.root()));
    assert_eq!(server.search("/instances").await.len(), 1);
    // a known UID in another study is a different instance under it
    let moved = Elements::ct("1.8", "1.9.3", "1.9.3.1").part10(Syntax::Explicit);
    let answer = server.store(&[moved]).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0x0111]));
}

async fn a_request_that_is_no_storing_request_is_refused_before_anything_is_stored(server: TestServer) {
    let part = |head: &str| [format!("--b\r\n{head}\r\n").as_bytes(), &file(1), b"\r\n--b--\r\n"].concat();
    let whole = part("Content-Type: application/dicom\r\n");
    let unclosed = whole[..whole.len() - 9].to_vec();
    // what is wanted is looked at before the body, which would be refused for another reason
    let unread = b"no delimiter".to_vec();
    for (what, path, content_type, accept, body, status) in [
        ("nothing", "/studies", DICOM, JSON, Vec::new(), 400),
        ("no parts", "/studies", DICOM, JSON, b"--b--\r\n".to_vec(), 400),
        ("no delimiter", "/studies", DICOM, JSON, file(1), 400),
        ("no end", "/studies", DICOM, JSON, unclosed, 400),
        ("no boundary", "/studies", "multipart/related; type=\"application/dicom\"", JSON, whole.clone(), 400),
        (
            "an empty boundary",
            "/studies",
            "multipart/related; type=\"application/dicom\"; boundary=\"\"",
            JSON,
            whole.clone(),
            400,
        ),
        ("no media type", "/studies", "", JSON, whole.clone(), 415),
        ("a form", "/studies", "multipart/form-data; boundary=b", JSON, whole.clone(), 415),
        ("another type", "/studies", "multipart/related; type=\"image/jpeg\"; boundary=b", JSON, whole.clone(), 415),
        (
            "JSON without metadata",
            "/studies",
            "multipart/related; type=\"application/dicom+json\"; boundary=b",
            JSON,
            whole.clone(),
            400,
        ),
        ("a picture wanted", "/studies", DICOM, "image/jpeg", whole.clone(), 406),
        ("a picture wanted by parameter", "/studies?accept=image/jpeg", DICOM, JSON, whole.clone(), 406),
        ("a picture wanted by parameter", "/studies/1.2?accept=image/jpeg", DICOM, "*/*", unread.clone(), 406),
        ("no media type wanted", "/studies?accept=picture", DICOM, JSON, unread.clone(), 400),
        ("something unreadable wanted", "/studies?accept=%ff", DICOM, JSON, unread.clone(), 400),
        ("JSON wanted twice", "/studies?accept=application/json&accept=application/json", DICOM, JSON, unread, 400),
        ("an empty instance", "/studies", "application/dicom", JSON, Vec::new(), 409),
        ("a part for an instance", "/studies", "application/dicom", JSON, whole.clone(), 409),
        ("nothing wanted", "/studies", DICOM, "application/dicom+json;q=0", whole.clone(), 406),
        ("a bad study", "/studies/1..2", DICOM, JSON, whole.clone(), 400),
        ("a part of another type", "/studies", DICOM, JSON, part("Content-Type: text/plain\r\n"), 409),
    ] {
        let mut headers = vec![("accept", accept)];
        headers.extend((!content_type.is_empty()).then_some(("content-type", content_type)));
        let answer = server.send("POST", path, &headers, body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(status != 400 || !path.contains("accept") || answer.text().contains("`accept`"), "{what}");
        let expected = if status == 409 { JSON } else { "application/problem+json" };
        assert_eq!(answer.content_type, expected, "{what}");
        assert!(server.search("/instances").await.is_empty(), "{what}");
    }
    server.is_left_empty().await;
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = server.send(method, "/studies", &[], "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.header("allow").unwrap().contains("POST"), "{method}");
    }
    assert_eq!(server.send("POST", "/studies/1.2/metadata", &[], "").await.status, 405);
    // what a part does not say, the request has said
    for (number, head) in
        ["", "Content-Type: APPLICATION/DICOM\r\n", "content-type:application/dicom;x=y\r\n"].iter().enumerate()
    {
        let answer = server.send("POST", "/studies", &[("content-type", DICOM)], part(head)).await;
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
    }
}

/// An archive whose disk lost an object, or a part of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_object_is_gone_or_cut_is_stored_again_when_it_is_sent_again() {
    let server = TestServer::start(BackEnds::Local).await;
    for number in [1, 2, 3] {
        assert_eq!(server.store(&[file(number)]).await.status, 200);
    }
    let path = |number| {
        let named = |name: &String| name.contains(&format!("/1.2.3.{number}."));
        server.data().join("objects").join(server.files().into_iter().find(named).unwrap())
    };
    let (gone, cut, whole) = (path(1), path(2), path(3));
    std::fs::remove_file(&gone).unwrap();
    std::fs::write(&cut, &file(2)[..300]).unwrap();
    let answer = server.store(&[file(1), file(2), file(3)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for number in [1, 2, 3] {
        let url = format!("/studies/1.2/series/1.2.3/instances/1.2.3.{number}");
        assert!(server.read(&url, AS_STORED).await.body == file(number), "instance {number}");
    }
    assert_eq!(path(3), whole, "what was whole stays where it is");
    assert_eq!(server.instances_counted().await, 3);
}

/// As when a volume is not mounted: to go on would lose nothing, but nobody would find what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_on_an_index_whose_objects_are_all_missing() {
    let mut server = TestServer::start(BackEnds::Local).await;
    assert_eq!(server.store(&[file(1)]).await.status, 200);
    server.kill();
    let (objects, aside) = (server.data().join("objects"), server.data().join("aside"));
    std::fs::rename(&objects, &aside).unwrap();
    let mut serve = std::process::Command::new(env!("CARGO_BIN_EXE_isocenter"));
    let refused = serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(server.data()).output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("mount the volume that is missing"), "{error}");
    std::fs::remove_dir_all(&objects).unwrap();
    std::fs::rename(&aside, &objects).unwrap();
    assert_eq!(server.another().await.instances_counted().await, 1);
}

async fn an_instance_may_be_the_body_itself(server: TestServer) {
    let content_type = [("content-type", "Application/DICOM; transfer-syntax=1.2.840.10008.1.2")];
    let answer = server.send("POST", "/studies/1.2", &content_type, file(1)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let study = format!("{}/studies/1.2", server.root());
    assert_eq!((answer.header("location"), answer.header("content-location")), (Some(&*study), Some(&*study)));
    // what the file says of its transfer syntax counts, not what the header says
    assert_eq!(server.read(&answer.retrieve_urls()[0], AS_STORED).await.body, file(1));
    let answer = server.send("POST", "/studies/1.9", &content_type, file(2)).await;
    assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0xC000]), "of another study");
    assert_eq!((answer.header("location"), answer.header("content-location")), (None, None));
}

async fn a_body_may_be_compressed_by_gzip(server: TestServer) {
    let gzip = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let (multipart, body) = multipart::write(&[file(1), file(2)]);
    let compressed = gzip(&body);
    let cut = compressed[..compressed.len() - 100].to_vec();
    let cases = [
        (&*multipart, "gzip", cut, 400, 0),
        (&*multipart, "gzip", body.clone(), 400, 0),
        (&*multipart, "br", compressed.clone(), 415, 0),
        (&*multipart, "gzip, gzip", gzip(&compressed), 415, 0),
        (&*multipart, "gzip", compressed, 200, 2),
        (&*multipart, "identity", body, 200, 2),
        ("application/dicom", "X-GZIP", gzip(&file(3)), 200, 3),
    ];
    for (sent, (content_type, encoding, body, status, stored)) in cases.into_iter().enumerate() {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let answer = server.send("POST", "/studies", &headers, body).await;
        assert_eq!(answer.status, status, "{sent}: {}", answer.text());
        assert_eq!(answer.header("accept-encoding"), (status == 415).then_some("gzip"), "{sent}");
        assert_eq!(server.instances_counted().await, stored, "{sent}");
    }
    let path = "/studies/1.2/series/1.2.3/instances/1.2.3.2";
    assert_eq!(server.read(path, AS_STORED).await.body, file(2));
}

async fn the_answer_is_in_xml_when_that_is_preferred(server: TestServer) {
    let send = |number, accept| {
        let headers = [("content-type", "application/dicom"), ("accept", accept)];
        let server = &server;
        async move { server.send("POST", "/studies", &headers, file(number)).await }
    };
    let answer = send(1, "application/dicom+json;q=0.5, application/dicom+xml").await;
    assert_eq!((answer.status, &*answer.content_type), (200, "application/dicom+xml"));
    let item = "<DicomAttribute tag=\"00081155\" vr=\"UI\" keyword=\"ReferencedSOPInstanceUID\">\
                <Value number=\"1\">1.2.3.1</Value></DicomAttribute>";
    assert!(String::from_utf8(answer.body.clone()).unwrap().contains(item), "{}", answer.text());
    let by_parameter = "/studies?accept=application/dicom%2Bxml";
    let headers = [("content-type", "application/dicom"), ("accept", JSON)];
    let answer = server.send("POST", by_parameter, &headers, file(1)).await;
    assert_eq!((answer.status, &*answer.content_type), (200, "application/dicom+xml"));
    for accept in ["*/*", "application/dicom+xml;q=0.9, application/json"] {
        assert_eq!(send(2, accept).await.content_type, JSON, "{accept}");
    }
}

async fn every_legal_boundary_is_understood(server: TestServer) {
    let longest = "x".repeat(70);
    let quoted = |boundary: &str| format!("Multipart/Related;TYPE=\"Application/DICOM\";Boundary=\"{boundary}\"");
    let bare = |boundary: &str| format!("multipart/related; type=application/dicom; boundary={boundary}");
    for (number, (boundary, content_type)) in (1_u32..).zip([
        ("b", bare("b")),
        ("b", quoted("b")),
        ("----WebKitFormBoundary7MA4YWxkTrZu0gW", bare("----WebKitFormBoundary7MA4YWxkTrZu0gW")),
        ("'()+_,-./:=?", quoted("'()+_,-./:=?")),
        ("a b", quoted("a b")),
        ("=_0f1.2:x=", quoted("=_0f1.2:x=")),
        (&longest, bare(&longest)),
        ("0", bare("0")),
        ("--", bare("--")),
    ]) {
        // data that looks like the delimiter for some bytes, at every turn
        let near = format!("\r\n--{boundary}x\r\n--{boundary}-\r\n--{}\r\n-", &boundary[..boundary.len() - 1]);
        let traps = Value::Bytes([near.as_bytes(), b"\r\n\r\n--\r\n"].concat());
        let file = ct(number).with(0x0009, 0x1010, VR::OB, traps).part10(Syntax::Explicit);
        for (preamble, padding, line_end, epilogue) in
            [("", "", "", "\r\n"), ("preamble\r\n", " \t", "\r\n", "\r\nepilogue"), ("\r\n", "", "\r\n", "")]
        {
            let head = format!("{preamble}--{boundary}{padding}\r\nContent-Type: application/dicom{line_end}\r\n");
            let head = if line_end.is_empty() { head + "\r\n" } else { head };
            let tail = format!("\r\n--{boundary}--{epilogue}");
            let body = [head.as_bytes(), &file, tail.as_bytes()].concat();
            let answer = server.send("POST", "/studies", &[("content-type", &content_type)], body).await;
            assert_eq!(answer.status, 200, "{content_type} after {preamble:?}: {}", answer.text());
            let back = server.read(&answer.retrieve_urls()[0], AS_STORED).await;
            assert!(back.body == file, "{content_type} after {preamble:?}");
        }
    }
}

async fn a_client_that_goes_away_leaves_nothing(server: TestServer) {
    let large = ct(2).with(0x7fe0, 0x0010, VR::OW, Value::Bytes(vec![1; 9 << 20])).part10(Syntax::Explicit);
    let (content_type, body) = multipart::write(&[file(1), large]);
    let address = server.url("").replace("http://", "");
    let head = |framing: &str| {
        format!(
            "POST /dicom-web/studies HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
        )
    };
    for (what, sent) in
        [("in the first part", 300), ("in the second part", 8 << 20), ("before the end", body.len() - 5)]
    {
        for framing in ["length", "chunks"] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let (framing_header, frame) = match framing {
                "length" => (format!("Content-Length: {}", body.len()), String::new()),
                _ => ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n", body.len())),
            };
            stream.write_all(head(&framing_header).as_bytes()).await.unwrap();
            stream.write_all(frame.as_bytes()).await.unwrap();
            stream.write_all(&body[..sent]).await.unwrap();
            drop(stream);
            server.is_left_empty().await;
            assert!(server.search("/instances").await.is_empty(), "gone {what}, {framing}");
        }
    }
    assert!(server.search("/studies").await.is_empty());
    assert_eq!(server.store(&[file(1)]).await.status, 200, "the same can be stored later");
}

async fn one_of_many_uploads_of_the_same_instance_is_kept(server: TestServer) {
    let answers = join_all((0..20).map(|_| async { server.store(&[file(1)]).await })).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "all have what they sent stored");
    assert_eq!((server.objects(), server.instances_counted().await), (1, 1));
    assert_eq!(server.search("/studies").await[0]["00201206"]["Value"][0], 1);
    let back = server.read(&answers[0].retrieve_urls()[0], AS_STORED).await;
    assert!(back.body == file(1));
}

async fn one_of_many_contents_under_one_uid_is_kept(server: TestServer) {
    let content = |n: u32| ct(1).text(0x0008, 0x103e, VR::LO, &format!("content {n}")).part10(Syntax::Explicit);
    let contents: Vec<Vec<u8>> = (0..20).map(content).collect();
    let answers = join_all(contents.iter().map(|file| async { server.store(std::slice::from_ref(file)).await })).await;
    let won: Vec<usize> = (0..20).filter(|&n| answers[n].status == 200).collect();
    assert_eq!(won.len(), 1, "one was first");
    for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != won[0]) {
        assert_eq!((answer.status, answer.failure_reasons()), (409, vec![0x0111]), "client {n}");
    }
    assert_eq!((server.objects(), server.instances_counted().await), (1, 1));
    let back = server.read(&answers[won[0]].retrieve_urls()[0], AS_STORED).await;
    assert!(back.body == contents[won[0]], "the content that was acknowledged is the one that is kept");
}

async fn a_request_of_many_instances_is_stored_whole(server: TestServer) {
    // more than are committed together, in several series, and no two studies alike
    let instance = |n: u32| {
        let (study, series) = (format!("1.2.{}", n % 3), format!("1.2.{}.{}", n % 3, n % 7));
        Elements::ct(&study, &series, &format!("1.2.3.{n}")).text(0x0020, 0x0013, VR::IS, &n.to_string())
    };
    let files: Vec<Vec<u8>> = (0..150).map(|n| instance(n).part10(Syntax::Explicit)).collect();
    let answer = server.store(&files).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let urls = answer.retrieve_urls();
    assert_eq!(urls.len(), 150);
    for (n, url) in urls.iter().enumerate() {
        assert!(url.ends_with(&format!("/instances/1.2.3.{n}")), "answers are in the order of the parts");
    }
    assert!(answer.json().get("00081190").is_none(), "no single study to retrieve");
    assert_eq!((server.objects(), server.instances_counted().await), (150, 150));
    let studies = server.search("/studies").await;
    assert!(studies.iter().all(|study| study["00201206"]["Value"][0] == 7 && study["00201208"]["Value"][0] == 50));
}

async fn what_is_stored_is_told_when_the_rest_of_the_request_cannot_be_read(server: TestServer) {
    let mut kept = 0;
    // 64 parts are committed together; before that nothing is stored
    for (first, parts, status) in [(0, 10, 400), (100, 70, 202)] {
        let files: Vec<Vec<u8>> = (first..first + parts).map(file).collect();
        let (content_type, mut body) = multipart::write(&files);
        body.truncate(body.len() - 100);
        let answer = server.send("POST", "/studies", &[("content-type", &content_type)], body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 202 {
            // the last is the part that is cut
            kept += parts as usize - 1;
            assert_eq!(answer.retrieve_urls().len(), kept);
            assert_eq!(answer.failure_reasons(), [0xC000]);
            let comment = &answer.json()["0008119A"]["Value"][0]["00000902"]["Value"][0];
            assert!(comment.as_str().unwrap().starts_with("the rest of the request could not be read"), "{comment}");
        }
        assert_eq!(
            (server.keys_when(kept).await.len(), server.instances_counted().await),
            (kept, kept),
            "{parts} parts"
        );
    }
}
