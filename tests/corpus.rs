//! Every file of the corpus has the outcome that `tests/corpus_expected.tsv` states, and comes back as it was.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use isocenter::dicom::header::{Form, Header, HeaderLimits, HeaderReader};
use isocenter::dicom::transfer_syntax::Encoding;
use sha2::{Digest as _, Sha256};

use crate::support::binary::Answer;
use crate::support::corpus::{Corpus, CorpusFile, CorpusFrame, Expected, report};
use crate::support::server::{BackEnds, TestServer};

const FRAME: &str = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";

#[test]
fn the_header_of_a_file_is_read_exactly_where_the_archive_stores_it() {
    let Some(corpus) = Corpus::find() else { return report("headers", 0) };
    let mut wrong = Vec::new();
    for file in &corpus.files {
        let outcome = header(&corpus.read(&file.path));
        if outcome.is_ok() != file.expected_in_group().is_stored() {
            wrong.push(format!("{}: {:?}", file.path, outcome.err()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    report("headers", corpus.files.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_the_corpus_in_the_order_of_its_paths_has_the_expected_outcomes() {
    let Some(corpus) = Corpus::find() else { return report("outcomes", 0) };
    for back_ends in BackEnds::ALL {
        let server = TestServer::start(back_ends).await;
        let mut wrong = Vec::new();
        for file in &corpus.files {
            let answer = server.store(&[corpus.read(&file.path)]).await;
            assert!(answer.status < 500, "{back_ends:?}: {}: status {}\n{}", file.path, answer.status, server.log());
            wrong.extend(wrong_outcome(file, file.expected, &answer));
        }
        assert_none(back_ends, &wrong);
        let stored = corpus.files.iter().filter(|file| file.expected.is_stored()).count();
        assert_eq!(server.instances_counted().await, stored, "{back_ends:?}");
    }
    report("outcomes", corpus.files.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_comes_back_byte_for_byte_and_frame_by_frame() {
    let Some(corpus) = Corpus::find() else { return report("contents", 0) };
    let mut frames = BTreeMap::<String, Vec<CorpusFrame>>::new();
    for frame in corpus.frames() {
        frames.entry(frame.path.clone()).or_default().push(frame);
    }
    for back_ends in BackEnds::ALL {
        let mut wrong = Vec::new();
        for files in corpus.groups().into_values() {
            let server = TestServer::start(back_ends).await;
            for file in files {
                let bytes = corpus.read(&file.path);
                let answer = server.store(&[&bytes]).await;
                wrong.extend(wrong_outcome(file, file.expected_in_group(), &answer));
                if let [url] = answer.retrieve_urls().as_slice() {
                    wrong.extend(wrong_content(&server, file, url, &bytes).await);
                    for frame in frames.get(&file.path).into_iter().flatten() {
                        wrong.extend(wrong_frame(&server, url, frame).await);
                    }
                }
            }
        }
        assert_none(back_ends, &wrong);
    }
    report("contents", corpus.files.len());
}

fn assert_none(back_ends: BackEnds, wrong: &[String]) {
    assert!(wrong.is_empty(), "{back_ends:?}: {} are wrong:\n{}\n", wrong.len(), wrong.join("\n"));
}

/// The header of a file that comes in chunks of an odd size, so that every boundary comes up.
fn header(bytes: &[u8]) -> Result<Header, String> {
    let mut reader = HeaderReader::new(HeaderLimits::default());
    bytes.chunks(1021).try_for_each(|chunk| reader.push(chunk)).map_err(|error| error.to_string())?;
    reader.finish().map_err(|error| format!("{error:?}"))
}

fn wrong_outcome(file: &CorpusFile, expected: Expected, answer: &Answer) -> Option<String> {
    let reasons = if answer.status < 500 { answer.failure_reasons() } else { Vec::new() };
    let fits = match expected {
        Expected::Stored | Expected::Duplicate => {
            answer.status == 200 && reasons.is_empty() && answer.retrieve_urls().len() == 1
        }
        Expected::Warned(reason) => {
            let warning = answer.json()["00081199"]["Value"][0]["00081196"]["Value"][0].as_u64();
            answer.status == 202 && reasons.is_empty() && warning == Some(u64::from(reason))
        }
        Expected::Refused(reason) => answer.status == 409 && reasons == [reason],
    };
    (!fits).then(|| format!("{}: {expected:?} expected, status {}, reasons {reasons:04X?}", file.path, answer.status))
}

/// An instance leaves as it is where its encoding is explicit little endian and it has file meta information; the rest leaves
/// in explicit little endian with a file meta of its own; encapsulated pixel data in implicit VR keeps its transfer syntax.
async fn wrong_content(server: &TestServer, file: &CorpusFile, url: &str, sent: &[u8]) -> Option<String> {
    let answer = server.read(url, "application/dicom; transfer-syntax=*").await;
    let stored = header(sent).ok()?;
    let as_it_is = stored.form == Form::Part10 && stored.encoding.explicit && !stored.encoding.big_endian;
    let fits =
        answer.status == 200 && if as_it_is { answer.body == sent } else { says_the_same(&stored, &answer.body) };
    (!fits)
        .then(|| format!("{}: status {}, {} bytes of {} sent", file.path, answer.status, answer.body.len(), sent.len()))
}

/// Whether a re-encoded file names the same elements with values that are as long, in explicit little endian.
fn says_the_same(stored: &Header, body: &[u8]) -> bool {
    let Ok(got) = header(body) else { return false };
    let tags = |header: &Header| {
        header.dataset.elements.iter().map(|element| element.tag).filter(|tag| tag.element() != 0).collect::<Vec<_>>()
    };
    got.form == Form::Part10 && got.encoding == Encoding::EXPLICIT_LITTLE && tags(stored) == tags(&got)
}

async fn wrong_frame(server: &TestServer, url: &str, frame: &CorpusFrame) -> Option<String> {
    let expected = frame.sha256_stored.as_ref()?;
    let answer = server.read(&format!("{url}/frames/{}", frame.number), FRAME).await;
    if answer.status != 200 {
        return Some(format!("{} frame {}: status {}", frame.path, frame.number, answer.status));
    }
    let got = sha256(&answer.parts()[0].body);
    (got != *expected).then(|| format!("{} frame {}: other bytes", frame.path, frame.number))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
