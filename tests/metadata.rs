//! WADO-RS metadata: one object per instance, the same at all levels, in the form of PS3.18 Annex F.

use dicom_core::VR;
use serde_json::{Value as Json, json};

use crate::support::binary::JSON;
use crate::support::generate::{Elements, Syntax, Value};
use crate::support::model;
use crate::support::server::{TestServer, on_both_stacks};

on_both_stacks!(
    metadata_are_the_same_whatever_the_encoding,
    metadata_of_a_study_and_a_series_are_those_of_their_instances,
    accept_headers_and_missing_resources_have_their_status,
);

async fn metadata_are_the_same_whatever_the_encoding(server: TestServer) {
    let item = Elements::default().text(0x0008, 0x0100, VR::SH, "code").with(
        0x0028,
        0x1101,
        VR::US,
        Value::Words(vec![1, 2, 3]),
    );
    let mut seen: Vec<Json> = Vec::new();
    for (number, syntax) in (1..).zip(Syntax::NATIVE) {
        let study = format!("1.2.{number}");
        let file = Elements::ct(&study, "1.2.3", &format!("1.2.3.{number}"))
            .with(0x0008, 0x1140, VR::SQ, Value::Items(vec![item.clone(), Elements::default()], number % 2 == 0))
            .text(0x0010, 0x0010, VR::PN, "Yamada^Tarou=Name^Second=")
            .text(0x0008, 0x0008, VR::CS, "A\\\\B")
            .with(0x0009, 0x1010, VR::OB, Value::Bytes(vec![7; 5000]))
            .text(0x0009, 0x0010, VR::LO, "PRIVATE")
            .part10(syntax);
        assert_eq!(server.store(&[file]).await.status, 200, "{syntax:?}");
        let answer = server.read(&format!("/studies/{study}/metadata"), JSON).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (200, JSON));
        model::assert_well_formed(&answer.body);
        let mut object = answer.json()[0].clone();
        let base = format!("/dicom-web/studies/{study}/series/1.2.3/instances/1.2.3.{number}/bulkdata");
        assert_eq!(object["7FE00010"]["BulkDataURI"], format!("{base}/7FE00010"));
        assert_eq!(object["00083002"]["Value"][0], syntax.uid());
        assert_eq!(object["00100010"]["Value"][0], json!({"Alphabetic": "Yamada^Tarou", "Ideographic": "Name^Second"}));
        assert_eq!(object["00080008"]["Value"], json!(["A", null, "B"]));
        assert_eq!(
            object["00081140"]["Value"],
            json!([{"00080100": {"vr": "SH", "Value": ["code"]}, "00281101": {"vr": "US", "Value": [1, 2, 3]}}, {}])
        );
        for (own, _) in [("00080018", ""), ("0020000D", ""), ("00083002", ""), ("7FE00010", ""), ("00091010", "")] {
            object.as_object_mut().unwrap().remove(own);
        }
        seen.push(object);
    }
    // implicit VR names no VR for private elements, and these were removed
    assert!(seen.iter().all(|object| object["00100020"] == seen[0]["00100020"] && *object == seen[0]), "{seen:?}");
}

async fn metadata_of_a_study_and_a_series_are_those_of_their_instances(server: TestServer) {
    // more than one chunk of an answer
    let instance = |n: u32| {
        let uid = format!("1.2.3.{n}");
        let file = Elements::ct("1.2", &format!("1.2.{}", n % 3), &uid).text(0x0020, 0x0013, VR::IS, &n.to_string());
        file.text(0x0020, 0x4000, VR::LT, &"comment ".repeat(1000)).part10(Syntax::Explicit)
    };
    let files: Vec<_> = (0..60).map(instance).collect();
    assert_eq!(server.store(&files).await.status, 200);
    let study = server.read("/studies/1.2/metadata", JSON).await;
    model::assert_well_formed(&study.body);
    let mut of_study = model::by_uid(&study.json());
    assert_eq!(of_study.len(), 60);
    for series in 0..3 {
        let answer = server.read(&format!("/studies/1.2/series/1.2.{series}/metadata"), JSON).await;
        let of_series = model::by_uid(&answer.json());
        assert_eq!(of_series.len(), 20);
        for (uid, object) in of_series {
            assert_eq!(of_study.remove(&uid), Some(object.clone()), "{uid}");
            let path = format!("/studies/1.2/series/1.2.{series}/instances/{uid}/metadata");
            assert_eq!(server.read(&path, JSON).await.json(), json!([object]), "{uid}");
        }
    }
    assert!(of_study.is_empty());
}

async fn accept_headers_and_missing_resources_have_their_status(server: TestServer) {
    assert_eq!(server.store(&[Elements::ct("1.2", "1.2.3", "1.2.3.4").part10(Syntax::Explicit)]).await.status, 200);
    for (path, accept, status) in [
        ("/studies/1.2/metadata", "application/dicom+json", 200),
        ("/studies/1.2/metadata", "application/json", 200),
        ("/studies/1.2/metadata", "*/*", 200),
        ("/studies/1.2/metadata", "application/*", 200),
        // OHIF
        (
            "/studies/1.2/metadata",
            "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
            200,
        ),
        ("/studies/1.2/metadata", "application/dicom+json;, */*;q=0.1", 200),
        ("/studies/1.2/metadata?accept=application/dicom%2Bjson", "text/html", 200),
        ("/studies/1.2/metadata", "multipart/related; type=\"application/dicom+xml\"", 406),
        ("/studies/1.2/metadata", "application/dicom+json;q=0", 406),
        ("/studies/1.3/metadata", "*/*", 404),
        ("/studies/1.2/series/1.2.4/metadata", "*/*", 404),
        ("/studies/1.2/series/1.2.3/instances/1.2.3.5/metadata", "*/*", 404),
        ("/studies/1.3/series/1.2.3/instances/1.2.3.4/metadata", "*/*", 404),
        ("/studies/-/metadata", "*/*", 400),
    ] {
        let answer = server.read(path, accept).await;
        assert_eq!(answer.status, status, "{path}, {accept}: {}", answer.text());
        assert!(status != 200 || answer.content_type == JSON, "{path}, {accept}");
    }
}
