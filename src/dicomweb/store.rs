//! STOW-RS: stores the instances of a request
//! ([PS3.18 10.5](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.5.html)).

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::app::App;
use crate::archive::ingest::Ingestion;
use crate::archive::outcome::Refusal;
use crate::dicom::reasons::FailureReason;
use crate::dicomweb::accept::{Accept, DICOM, Resource};
use crate::dicomweb::store_response::store_response;
use crate::dicomweb::{path, urls};
use crate::error::{Error, ErrorKind, Result};
use crate::http::body::Body;
use crate::http::error::HttpResult;
use crate::http::media_type::MediaType;
use crate::http::multipart::{Multipart, PartHeaders};

/// `POST /studies` and `POST /studies/{study}`.
pub async fn store(request: HttpRequest, app: Data<App>, body: Body) -> HttpResult {
    let study = request.match_info().get(path::STUDY).is_some().then(|| path::study(&request)).transpose()?;
    let representation = Accept::of(&request).negotiate(Resource::Json)?;
    let content_type = content_type(&request)?;
    let mut parts = Multipart::new(&content_type, body)?;
    let mut ingestion = app.ingest.begin(study.clone(), "stow-rs".to_owned()).await?;
    if !take_parts(&mut parts, &mut ingestion).await? {
        return Err(Error::bad_request(
            "the body has no parts; it must have one `application/dicom` part per instance",
        )
        .into());
    }
    let outcomes = ingestion.finish().await;
    let answer = store_response(&outcomes, study.as_ref(), &urls::absolute(&request, &app));
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((RETRY_AFTER, "10"));
    }
    Ok(response.content_type(representation.content_type()).body(answer.body))
}

/// The Content-Type, which must be `multipart/related` of `application/dicom`.
fn content_type(request: &HttpRequest) -> Result<String> {
    let unsupported = || {
        let message = "the body must be `multipart/related; type=\"application/dicom\"` with a boundary";
        Error::new(ErrorKind::UnsupportedMediaType, message)
    };
    let text = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(unsupported)?;
    let media_type = MediaType::parse(text).ok_or_else(unsupported)?;
    let root = media_type.parameter("type").map_or(DICOM.to_owned(), str::to_ascii_lowercase);
    if media_type.essence != "multipart/related" || root != DICOM {
        return Err(unsupported());
    }
    Ok(text.to_owned())
}

/// Most parts of one request: each costs memory until the answer, however few bytes it has.
const MOST_PARTS: u64 = 100_000;

/// Hands every part to the archive; false when there is none.
async fn take_parts<S>(parts: &mut Multipart<S>, ingestion: &mut Ingestion) -> Result<bool>
where
    S: Stream<Item = Result<Bytes>> + Unpin,
{
    let mut any = false;
    while let Some(part) = parts.next_part().await? {
        any = true;
        let accepted = is_dicom(part.headers());
        if parts.parts() > MOST_PARTS {
            let message = format!("the body has more than {MOST_PARTS} parts; send them in several requests");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let mut body = stream::poll_fn(|context| parts.poll_chunk(context).map(Result::transpose));
        if accepted {
            ingestion.instance(&mut body).await?;
        } else {
            while let Some(chunk) = body.next().await {
                chunk?;
            }
            ingestion.refuse(Refusal {
                sop_class: None,
                sop_instance: None,
                reason: FailureReason::CannotUnderstand,
                comment: "the media type of the part must be `application/dicom`".to_owned(),
                transient: false,
            });
        }
    }
    Ok(any)
}

/// A part without a media type is taken for what the request announced.
fn is_dicom(headers: &PartHeaders) -> bool {
    match headers.get("content-type") {
        None => true,
        Some(_) => headers.content_type().is_some_and(|media_type| {
            media_type.essence == DICOM || media_type.essence == crate::dicomweb::accept::OCTET_STREAM
        }),
    }
}
