//! Every file of the corpus, read back in every form: elements, metadata, bulk data, search.

use std::collections::BTreeMap;

use dicom_core::Tag;
use isocenter::dicom::header::{Content, Dataset, Form, Header};
use serde_json::Value;

use crate::support::binary::JSON;
use crate::support::corpus::{Corpus, CorpusFile, report};
use crate::support::model;
use crate::support::server::{BackEnds, TestServer};
use crate::support::trees::{self, File};

const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
const MODALITY: Tag = Tag(0x0008, 0x0060);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);

/// Files that are stored in their group, each with its URL, on a server of the group's own.
async fn stored<'a>(
    corpus: &Corpus,
    server: &TestServer,
    files: &[&'a CorpusFile],
) -> Vec<(&'a CorpusFile, Vec<u8>, String)> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.expected_in_group().is_stored()) {
        let bytes = corpus.read(&file.path);
        let urls = server.store(&[&bytes]).await.retrieve_urls();
        let [url] = &urls[..] else { panic!("{} is not stored", file.path) };
        found.push((*file, bytes, url.clone()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_says_the_same_as_what_came() {
    let Some(corpus) = Corpus::find() else { return report("elements", 0) };
    let mut wrong = Vec::new();
    let mut checked = 0;
    for files in corpus.groups().into_values() {
        let server = TestServer::start(BackEnds::Local).await;
        for (file, bytes, url) in stored(&corpus, &server, &files).await {
            checked += 1;
            let Some(sent) = File::read(&bytes) else { continue };
            for accept in ["application/dicom", "application/dicom; transfer-syntax=*"] {
                let answer = server.read(&url, accept).await;
                let Some(got) =
                    File::read(&answer.body).filter(|got| answer.status == 200 && got.header.form == Form::Part10)
                else {
                    wrong.push(format!("{}, {accept}: status {}", file.path, answer.status));
                    continue;
                };
                wrong.extend(trees::difference(&sent, &got).map(|what| format!("{}, {accept}: {what}", file.path)));
                let named = format!("application/dicom; transfer-syntax={}", got.header.transfer_syntax);
                if answer.content_type != named {
                    wrong.push(format!("{}: {} holds {named}", file.path, answer.content_type));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    report("elements", checked);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_are_well_formed_and_their_bulk_data_resolve() {
    let Some(corpus) = Corpus::find() else { return report("metadata", 0) };
    let mut wrong = Vec::new();
    let (mut checked, mut values) = (0, 0);
    for back_ends in BackEnds::ALL {
        for files in corpus.groups().into_values() {
            let server = TestServer::start(back_ends).await;
            let stored = stored(&corpus, &server, &files).await;
            let mut studies = BTreeMap::<String, BTreeMap<String, Value>>::new();
            for (file, bytes, url) in &stored {
                checked += usize::from(back_ends == BackEnds::Local);
                let answer = server.read(&format!("{url}/metadata"), JSON).await;
                if let Some(fault) = model::first_fault(&answer.body) {
                    wrong.push(format!("{}: {fault}", file.path));
                    continue;
                }
                let sent = File::read(bytes).unwrap();
                for uri in model::bulk_data_uris(&answer.json()[0]) {
                    values += 1;
                    wrong.extend(wrong_value(&server, &sent, &uri).await.map(|what| format!("{}: {what}", file.path)));
                }
                let study = url.split("/series/").next().unwrap().to_owned();
                studies.entry(study).or_default().extend(model::by_uid(&answer.json()));
            }
            for (study, instances) in studies {
                let whole = server.read(&format!("{study}/metadata"), JSON).await;
                if model::by_uid(&whole.json()) != instances {
                    wrong.push(format!("the metadata of {study} are not those of its instances"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("{values} values of bulk data");
    report("metadata", checked);
}

/// Whether a BulkDataURI leads to the bytes of the element that it names.
async fn wrong_value(server: &TestServer, sent: &File, uri: &str) -> Option<String> {
    let answer = server.read(&server.url(uri), "*/*").await;
    let path = uri.split("/bulkdata/").nth(1).unwrap();
    if answer.status != 200 {
        return Some(format!("{path}: status {}", answer.status));
    }
    let parts = answer.parts();
    let element = find(&sent.header, path)?;
    if matches!(element.content, Content::Fragments) {
        // frames or one code stream: their bytes are those of the fragments, which `corpus` holds to pixels.tsv
        // of nothing but an empty table and the delimiter there is nothing to send
        let nothing = element.extent.length <= 16;
        return parts.iter().any(|part| part.body.is_empty() != nothing).then(|| format!("{path}: an empty part"));
    }
    let fits = parts.len() == 1 && parts[0].body == sent.value(element);
    (!fits).then(|| format!("{path}: {} bytes of {}", parts[0].body.len(), element.extent.length))
}

/// The element of a path of tags and items.
fn find<'a>(header: &'a Header, path: &str) -> Option<&'a isocenter::dicom::header::Element> {
    let mut dataset: &Dataset = &header.dataset;
    let mut names = path.split('/');
    loop {
        let number = u32::from_str_radix(names.next()?, 16).ok()?;
        let tag = Tag(u16::try_from(number >> 16).ok()?, u16::try_from(number & 0xffff).ok()?);
        let Some(item) = names.next() else { return dataset.get(tag) };
        dataset = dataset.items(tag).get(item.parse::<usize>().ok()? - 1)?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_the_headers_say() {
    let Some(corpus) = Corpus::find() else { return report("searches", 0) };
    let mut checked = 0;
    for back_ends in BackEnds::ALL {
        let server = TestServer::start(back_ends).await;
        let files: Vec<&CorpusFile> = corpus.files.iter().filter(|file| file.group == 1).collect();
        let stored = stored(&corpus, &server, &files).await;
        checked = stored.len();
        // of each study what its first instance says
        let (mut patients, mut modalities, mut dates) =
            (BTreeMap::<String, Vec<String>>::new(), Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for (_, bytes, url) in &stored {
            let study = url.split("/studies/").nth(1).unwrap().split('/').next().unwrap().to_owned();
            // as it stands in the file, whatever VR it claims
            let header = File::read(bytes).unwrap().header;
            let text = |tag: Tag| {
                let value = header.dataset.get(tag).map_or(&[][..], |element| header.value(element));
                String::from_utf8_lossy(value).trim_matches([' ', '\0']).to_owned()
            };
            if text(MODALITY) == "CT" && !modalities.contains(&study) {
                modalities.push(study.clone());
            }
            if !seen.contains(&study) {
                seen.push(study.clone());
                if text(STUDY_DATE).len() == 8 && ("20000101".."20100101").contains(&text(STUDY_DATE).as_str()) {
                    dates.push(study.clone());
                }
                patients.entry(text(PATIENT_ID)).or_default().push(study);
            }
            let uid = url.rsplit('/').next().unwrap();
            assert_eq!(server.search(&format!("/instances?SOPInstanceUID={uid}")).await.len(), 1, "{uid}");
        }
        let of = async |query: &str| {
            let found = server.search(&format!("/studies?limit=1000&{query}")).await;
            let mut uids: Vec<String> =
                found.iter().map(|study| study["0020000D"]["Value"][0].as_str().unwrap().to_owned()).collect();
            uids.sort();
            uids
        };
        for expected in [&mut modalities, &mut dates, &mut seen].into_iter().chain(patients.values_mut()) {
            expected.sort();
        }
        assert_eq!(of("ModalitiesInStudy=CT").await, modalities);
        assert_eq!(of("StudyDate=20000101-20091231").await, dates);
        assert_eq!(of("").await, seen);
        for (patient, studies) in
            patients.iter().filter(|(id, _)| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            assert_eq!(of(&format!("PatientID={patient}")).await, *studies);
        }
        assert!(!modalities.is_empty() && !dates.is_empty());
    }
    report("searches", checked);
}
