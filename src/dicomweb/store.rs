//! STOW-RS: stores the instances of a request
//! ([PS3.18 10.5](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.5.html)).

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_LOCATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::app::App;
use crate::archive::ingest::Ingestion;
use crate::archive::outcome::Refusal;
use crate::dicom::reasons::FailureReason;
use crate::dicomweb::accept::{Accept, DICOM, DICOM_XML, OCTET_STREAM, Resource};
use crate::dicomweb::store_payload::{self, Form};
use crate::dicomweb::store_response::store_response;
use crate::dicomweb::{path, urls};
use crate::error::{Error, ErrorKind, Result};
use crate::http::body::Body;
use crate::http::encoding::{Decoded, Encoding};
use crate::http::error::{HttpError, HttpResult};
use crate::http::media_type::MediaType;
use crate::http::multipart::{Multipart, PartHeaders};

/// `POST /studies` and `POST /studies/{study}`.
pub async fn store(request: HttpRequest, app: Data<App>, body: Body) -> HttpResult {
    let study = request.match_info().get(path::STUDY).is_some().then(|| path::study(&request)).transpose()?;
    let representation = Accept::of(&request)?.negotiate(Resource::Response)?;
    let payload = Payload::of(&request)?;
    let encoding =
        Encoding::of(request.headers()).map_err(|error| HttpError::from(error).with_header(ACCEPT_ENCODING, "gzip"))?;
    let body = Decoded::new(body, encoding, app.config.limits.request_size);
    let mut ingestion = app.ingest.begin(study.clone(), "stow-rs".to_owned()).await?;
    if let Err(error) = take(payload, body, &request, &app, &mut ingestion).await {
        if !ingestion.has_stored() {
            return Err(error.into());
        }
        // what is stored has to be told: the client would take an error for nothing
        ingestion.refuse(rest(&error));
    }
    let outcomes = ingestion.finish().await;
    let form = if representation.media_type == DICOM_XML { Form::Xml } else { Form::Json };
    let answer = store_response(&outcomes, study.as_ref(), &urls::absolute(&request, &app), form);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((RETRY_AFTER, "10"));
    }
    if let Some(location) = &answer.location {
        response.insert_header((LOCATION, location.as_str())).insert_header((CONTENT_LOCATION, location.as_str()));
    }
    Ok(response.content_type(representation.content_type()).body(answer.body))
}

/// Hands all of the request's payload to the archive.
async fn take(
    payload: Payload,
    mut body: Decoded<Body>,
    request: &HttpRequest,
    app: &App,
    ingestion: &mut Ingestion,
) -> Result<()> {
    match payload {
        Payload::Metadata { form } => {
            store_payload::Payload::new(form, request, app, ingestion).take_body(&mut body, ingestion).await
        }
        Payload::Described { form, content_type } => {
            let metadata = store_payload::Payload::new(form, request, app, ingestion);
            metadata.take_parts(&mut Multipart::new(&content_type, body)?, ingestion).await
        }
        Payload::Instance => ingestion.instance(&mut body).await,
        Payload::Instances { content_type } => {
            if take_parts(&mut Multipart::new(&content_type, body)?, ingestion).await? {
                return Ok(());
            }
            let message = "the body has no parts; it must have one `application/dicom` part per instance";
            Err(Error::bad_request(message))
        }
    }
}

/// What becomes of that part of a request which could not be read, after others were stored.
fn rest(error: &Error) -> Refusal {
    let (reason, transient) = match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Lost | ErrorKind::Internal => (FailureReason::OutOfResources, true),
        ErrorKind::TooLarge => (FailureReason::OutOfResources, false),
        _ => (FailureReason::CannotUnderstand, false),
    };
    let comment = format!("the rest of the request could not be read: {}", error.message());
    Refusal { sop_class: None, sop_instance: None, reason, comment, transient }
}

/// What a request holds.
enum Payload {
    /// One instance: the body itself.
    Instance,
    /// A part for each instance.
    Instances { content_type: String },
    /// Metadata without bulk data: the body itself.
    Metadata { form: Form },
    /// Metadata, and parts of bulk data.
    Described { form: Form, content_type: String },
}

impl Payload {
    /// By the Content-Type.
    fn of(request: &HttpRequest) -> Result<Self> {
        let unsupported = || {
            let message = "the body must be `multipart/related` with a boundary and a `type` of `application/dicom`, \
                           `application/dicom+json` or `application/dicom+xml`, or one of these by itself";
            Error::new(ErrorKind::UnsupportedMediaType, message)
        };
        let text = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(unsupported)?;
        let media_type = MediaType::parse(text).ok_or_else(unsupported)?;
        let root = media_type.parameter("type").map_or(DICOM.to_owned(), str::to_ascii_lowercase);
        let content_type = text.to_owned();
        match (media_type.essence.as_str(), Form::of(&media_type.essence), Form::of(&root)) {
            (DICOM, ..) => Ok(Self::Instance),
            (_, Some(form), _) => Ok(Self::Metadata { form }),
            ("multipart/related", None, Some(form)) => Ok(Self::Described { form, content_type }),
            ("multipart/related", None, None) if root == DICOM => Ok(Self::Instances { content_type }),
            _ => Err(unsupported()),
        }
    }
}

/// Most parts of one request: each costs memory until the answer, however few bytes it has.
pub(super) const MOST_PARTS: u64 = 100_000;

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
        Some(_) => headers
            .content_type()
            .is_some_and(|media_type| media_type.essence == DICOM || media_type.essence == OCTET_STREAM),
    }
}
