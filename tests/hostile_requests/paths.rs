//! Rows about paths and query strings.

use super::{Row, get};

/// The rows.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    // as a study, in the path of its metadata
    for (uid, status) in [
        ("..", 400),
        ("../../../etc/passwd", 404),
        ("%2e%2e", 400),
        ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", 400),
        ("1.2%2f..%2f1.2", 400),
        ("1.2%00", 400),
        ("1.2%0d%0aSet-Cookie:x", 400),
        ("%20", 400),
        ("1.2%20", 400),
        ("1..2", 400),
        (".1", 400),
        ("1.", 400),
        ("1.2.a", 400),
        ("-1", 400),
        ("1.2;x=y", 400),
        ("%c0%ae%c0%ae", 400),
        ("%e0%80%ae", 400),
        ("%ff", 400),
        ("%EF%BC%91", 400),
        ("1%2E2", 200),
        ("%252e", 400),
        ("%", 400),
        ("%1", 400),
        ("%zz", 400),
        ("1.2%2500", 400),
        ("*", 400),
        ("'; drop table studies; --", 400),
        ("01.2", 404),
        ("1.02", 404),
        ("1.2\u{e9}", 400),
    ] {
        rows.push(Row::raw(format!("the study `{uid}`"), get(&format!("/dicom-web/studies/{uid}/metadata")), status));
    }
    for (length, status) in [(64, 404), (65, 400), (10_000, 400)] {
        let uid = "1".repeat(length);
        rows.push(Row::raw(
            format!("a UID of {length} digits"),
            get(&format!("/dicom-web/studies/{uid}/metadata")),
            status,
        ));
    }
    for (target, status) in [
        ("/dicom-web//studies", 404),
        ("//dicom-web/studies", 404),
        ("/dicom-web/./studies", 404),
        ("/dicom-web/studies//metadata", 404),
        ("/dicom-web/studies/1.2//series", 404),
        ("/dicom-web/../health/live", 404),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/0", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/-1", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/4294967296", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/4294967295", 404),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/1,,1", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/%31", 200),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata/../../x", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata/7FE0001", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata/00880200/99999999999/7FE00010", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1?v=1&v=1", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1?v=1&x=y&%76=2", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1?v=%ff", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1?v", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1?v=%31", 200),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/metadata?v=1&v=2", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/1?v=1&v=2", 400),
        ("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata/7FE00010?v=1&v=2", 400),
        ("/dicom-web/studies/1.2/metadata?accept=application/json&accept=application/json", 400),
        ("/dicom-web/studies?accept=application/json&accept=application/json", 400),
        ("/dicom-web/studies?limit=1&limit=2", 400),
        ("/dicom-web/studies?offset=1&offset=1", 400),
        ("/dicom-web/studies?fuzzymatching=false&fuzzymatching=false", 400),
        ("/dicom-web/studies?charset=utf-8&charset=utf-8", 400),
        ("/dicom-web/studies?limit=-1", 400),
        ("/dicom-web/studies?limit=0", 400),
        ("/dicom-web/studies?limit=99999999999999999999", 200),
        ("/dicom-web/studies?offset=18446744073709551615", 200),
        ("/dicom-web/studies?PatientID=%00", 400),
        ("/dicom-web/studies?PatientID=%ff", 400),
        ("/dicom-web/studies?PatientID=%", 400),
        ("/dicom-web/studies?StudyDate=20240101-20240102-20240103", 400),
        ("/dicom-web/studies?%00=1", 400),
        ("/dicom-web/studies?PatientName=%27%3B%20drop%20table%20studies%3B%20--", 200),
        ("/dicom-web/studies?includefield=99999999", 200),
        ("/dicom-web/studies?=", 200),
        ("/dicom-web/studies?&&&&", 200),
    ] {
        rows.push(Row::raw(target, get(target), status).or(if status == 200 { 204 } else { status }));
    }
    let stars = format!("/dicom-web/studies?PatientName={}", "*a".repeat(500));
    rows.push(Row::raw("a wildcard of 500 stars", get(&stars), 200).or(204));
    let list = format!("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/{}", vec!["1"; 20_000].join(","));
    rows.push(Row::raw("a list of 20,000 frames", get(&list), 400));
    let repeated = format!("/dicom-web/studies?{}", "PatientID=1&".repeat(300));
    rows.push(Row::raw("300 parameters", get(&repeated), 400));
    rows
}
