//! WADO-RS metadata of a study, a series or an instance
//! ([PS3.18 10.4.1.1.2](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.4.html)).
//!
//! The JSON of each instance was finished when it was stored; here it is decompressed, gets the base of its
//! BulkDataURIs, and is joined to an array as it streams.

use actix_web::HttpRequest;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::app::App;
use crate::catalogue::InstanceMetadata;
use crate::dicom::json;
use crate::dicom::uid::Level;
use crate::dicomweb::accept::{Accept, Resource};
use crate::dicomweb::{path, respond, urls};
use crate::error::{Error, Result};
use crate::http::error::HttpResult;

/// Bytes of an answer that are gathered before they are sent.
const CHUNK_BYTES: usize = 128 << 10;

/// `GET …/metadata` at all three levels.
pub async fn metadata(request: HttpRequest, app: Data<App>) -> HttpResult {
    let scope = path::scope(&request)?;
    let representation = Accept::of(&request)?.negotiate(Resource::Json)?;
    let root = urls::path(&app);
    let version = path::version(&request)?.filter(|_| scope.level() == Level::Instance);
    let rows = app.retrieve.metadata(&scope, version).await?;
    let suffix = version.map(|version| format!("?v={version}")).unwrap_or_default();
    Ok(respond::ok().content_type(representation.content_type()).streaming(array(rows, root, suffix)))
}

/// The objects of `rows` as one JSON array.
fn array(
    rows: BoxStream<'static, Result<InstanceMetadata>>,
    root: String,
    suffix: String,
) -> BoxStream<'static, Result<Bytes>> {
    let start = (rows, (root, suffix), Some(b'['));
    stream::try_unfold(start, |(mut rows, (root, suffix), separator)| async move {
        let Some(mut separator) = separator else { return Ok(None) };
        let mut out = Vec::with_capacity(CHUNK_BYTES + (32 << 10));
        while out.len() < CHUNK_BYTES {
            let Some(row) = rows.next().await else {
                out.push(b']');
                return Ok(Some((Bytes::from(out), (rows, (root, suffix), None))));
            };
            let InstanceMetadata { key, json } = row?;
            out.push(separator);
            separator = b',';
            let base = format!("{root}/studies/{}/series/{}/instances/{}/", key.study, key.series, key.instance);
            json::splice_base(&json, &base, &suffix, &mut out);
        }
        Ok::<_, Error>(Some((Bytes::from(out), (rows, (root, suffix), Some(separator)))))
    })
    .boxed()
}
