//! QIDO-RS: searches for studies, series and instances
//! ([PS3.18 10.6](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.6.html)).

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderValue, WARNING};
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::app::App;
use crate::catalogue::search::Match;
use crate::dicom::uid::Level;
use crate::dicomweb::accept::{Accept, Resource};
use crate::dicomweb::search_response::MatchWriter;
use crate::dicomweb::{path, query, respond, urls};
use crate::error::{Error, Result};
use crate::http::error::HttpResult;

/// Bytes of an answer that are gathered before they are sent.
const CHUNK_BYTES: usize = 64 << 10;

/// `GET /studies`.
pub async fn studies(request: HttpRequest, app: Data<App>) -> HttpResult {
    search(&request, &app, Level::Study).await
}

/// `GET /series` and `GET /studies/{study}/series`.
pub async fn series(request: HttpRequest, app: Data<App>) -> HttpResult {
    search(&request, &app, Level::Series).await
}

/// `GET /instances`, `GET /studies/{study}/instances` and `GET /studies/{study}/series/{series}/instances`.
pub async fn instances(request: HttpRequest, app: Data<App>) -> HttpResult {
    search(&request, &app, Level::Instance).await
}

async fn search(request: &HttpRequest, app: &App, level: Level) -> HttpResult {
    let parameters = request.match_info();
    let study = parameters.get(path::STUDY).is_some().then(|| path::study(request)).transpose()?;
    let series = parameters.get(path::SERIES).is_some().then(|| path::series(request)).transpose()?;
    let parsed = query::parse(level, study, series.map(|(_, series)| series), request.query_string())?;
    let representation = Accept::of(request)?.negotiate(Resource::Json)?;
    let found = app.catalogue.search(&parsed.query).await?;
    let root = urls::absolute(request, app);
    let mut response = respond::ok();
    let more = (found.additional > 0)
        .then(|| format!("There are {} additional results that can be requested", found.additional));
    for text in parsed.warnings.into_iter().chain(more) {
        // RFC 9111 no longer defines Warning, but PS3.18 8.3.4.4 gives this form.
        if let Ok(value) = HeaderValue::from_str(&format!("299 {root}: {text}")) {
            response.append_header((WARNING, value));
        }
    }
    let writer = MatchWriter::new(&parsed.query, &root);
    Ok(response.content_type(representation.content_type()).streaming(array(found.matches, writer)))
}

/// The matches as one JSON array.
fn array(matches: BoxStream<'static, Result<Match>>, writer: MatchWriter) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((matches, writer, Some(b'[')), |(mut matches, writer, separator)| async move {
        let Some(mut separator) = separator else { return Ok(None) };
        let mut out = Vec::with_capacity(CHUNK_BYTES + (8 << 10));
        while out.len() < CHUNK_BYTES {
            let Some(found) = matches.next().await else {
                if separator == b'[' {
                    out.push(b'[');
                }
                out.push(b']');
                return Ok(Some((Bytes::from(out), (matches, writer, None))));
            };
            out.push(separator);
            separator = b',';
            writer.write(&found?, &mut out);
        }
        Ok::<_, Error>(Some((Bytes::from(out), (matches, writer, Some(separator)))))
    })
    .boxed()
}
