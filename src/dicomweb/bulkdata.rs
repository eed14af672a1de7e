//! The values that BulkDataURIs of the metadata name
//! ([PS3.18 10.4.1.1.5](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.4.html)).
//!
//! A value leaves as its bytes, little endian. Encapsulated pixel data has no such form: it leaves as its frames, or
//! as one code stream where frames cannot be addressed (video, icons).

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::app::App;
use crate::archive::retrieve::Body;
use crate::catalogue::InstanceRow;
use crate::dicom::bulk::{BulkKind, BulkPath, BulkValue};
use crate::dicomweb::accept::{Accept, OCTET_STREAM, Representation, Resource, frame_media_type, with_transfer_syntax};
use crate::dicomweb::{frames, path, respond, urls};
use crate::error::Result;
use crate::http::error::HttpResult;
use crate::http::multipart::{MultipartBody, MultipartWriter, OutgoingPart, PartHead};

/// `GET …/bulkdata/{path}`.
pub async fn bulk_data(request: HttpRequest, app: Data<App>) -> HttpResult {
    let key = path::instance(&request)?;
    let path = path::bulk_data(&request)?;
    let row = app.retrieve.locate(&key, path::version(&request)?).await?;
    let value = app.retrieve.bulk(&row, &path).await?;
    match value.kind {
        BulkKind::Plain { swap } => plain(&request, &app, &row, &path, &value, swap).await,
        BulkKind::Encapsulated if path == BulkPath::pixel_data() && app.retrieve.has_frames(&row)? => {
            Ok(frames::answer_all(&request, &app, &row).await?)
        }
        BulkKind::Encapsulated => code_stream(&request, &app, &row, &path, &value).await,
    }
}

async fn plain(
    request: &HttpRequest,
    app: &App,
    row: &InstanceRow,
    path: &BulkPath,
    value: &BulkValue,
    swap: u8,
) -> HttpResult {
    let representation = Accept::of(request)?.negotiate(Resource::Bulk { media_type: OCTET_STREAM, one: true })?;
    let body = app.retrieve.value(row, value, swap).await?;
    Ok(single(request, app, row, path, &representation, OCTET_STREAM.to_owned(), body))
}

async fn code_stream(
    request: &HttpRequest,
    app: &App,
    row: &InstanceRow,
    path: &BulkPath,
    value: &BulkValue,
) -> HttpResult {
    let (media_type, _) = frame_media_type(&row.transfer_syntax);
    let representation = Accept::of(request)?.negotiate(Resource::Bulk { media_type, one: true })?;
    let content_type = with_transfer_syntax(media_type, row.transfer_syntax.as_str());
    let body = app.retrieve.code_stream(row, value).await?;
    Ok(single(request, app, row, path, &representation, content_type, body))
}

/// One value as a single part, or as the only part of a multipart answer.
fn single(
    request: &HttpRequest,
    app: &App,
    row: &InstanceRow,
    path: &BulkPath,
    representation: &Representation,
    content_type: String,
    body: Body,
) -> HttpResponse {
    let mut response = respond::ok();
    if !representation.multipart {
        return respond::bytes(response.content_type(content_type), body);
    }
    let (root, key) = (urls::absolute(request, app), &row.key);
    let location =
        format!("{root}/studies/{}/series/{}/instances/{}/bulkdata/{path}", key.study, key.series, key.instance);
    let head = PartHead { content_type, location: Some(location), length: body.length };
    let writer = MultipartWriter::new(&representation.media_type);
    let length = writer.length_of([&head]);
    response.content_type(writer.content_type());
    let part: Result<_> = Ok(OutgoingPart { head, body: body.bytes });
    let bytes = MultipartBody::new(writer, stream::iter([part])).boxed();
    respond::bytes(&mut response, Body { length, bytes })
}
