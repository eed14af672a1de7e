//! WADO-RS retrieval of whole studies, series and instances
//! ([PS3.18 10.4.1.1.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.4.html)).

use actix_web::HttpRequest;
use actix_web::web::Data;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::app::App;
use crate::archive::retrieve::{OpenInstance, Retrieve};
use crate::catalogue::InstanceRow;
use crate::dicom::transfer_syntax::TransferSyntaxChoice;
use crate::dicom::uid::Level;
use crate::dicomweb::accept::{Accept, DICOM, Resource, with_transfer_syntax};
use crate::dicomweb::{path, respond, urls};
use crate::error::{Error, ErrorKind, Result};
use crate::http::error::HttpResult;
use crate::http::multipart::{MultipartBody, MultipartWriter, OutgoingPart, PartHead};
use crate::store::ByteStream;

/// `GET` of a study, a series or an instance.
pub async fn retrieve(request: HttpRequest, app: Data<App>) -> HttpResult {
    let scope = path::scope(&request)?;
    let one = scope.level() == Level::Instance;
    let representation = Accept::of(&request)?.negotiate(Resource::Instances { one })?;
    let choices = representation.transfer_syntaxes;
    let mut rows = app.retrieve.instances(&scope, path::version(&request)?).await?;
    // At least one instance must fit and its bytes be there, so that the status is right before the body begins.
    let first = next_that_fits(&mut rows, &choices).await?;
    let opened = app.retrieve.open(&first, &choices).await?.ok_or_else(cannot_be_made)?;
    if !representation.multipart {
        let content_type = with_transfer_syntax(DICOM, opened.transfer_syntax.as_str());
        return Ok(respond::bytes(respond::ok().content_type(content_type), opened.body));
    }
    let writer = MultipartWriter::new(DICOM);
    let mut response = respond::ok();
    response.content_type(writer.content_type());
    let root = urls::absolute(&request, &app);
    let first = part(&first, opened, &root);
    let parts = stream::iter([Ok(first)]).chain(parts(app.retrieve.clone(), rows, choices, root)).boxed();
    Ok(response.streaming(MultipartBody::new(writer, parts)))
}

async fn next_that_fits(
    rows: &mut BoxStream<'static, Result<InstanceRow>>,
    choices: &[TransferSyntaxChoice],
) -> Result<InstanceRow> {
    while let Some(row) = rows.next().await {
        let row = row?;
        if Retrieve::leaves_as(&row, choices).is_some() {
            return Ok(row);
        }
    }
    Err(cannot_be_made())
}

fn cannot_be_made() -> Error {
    let message = "no accepted transfer syntax can be made of what is stored; accept \
                   `multipart/related; type=\"application/dicom\"; transfer-syntax=*` to get it as it is";
    Error::new(ErrorKind::NotAcceptable, message)
}

/// One part for each instance that can be made in an accepted transfer syntax.
fn parts(
    retrieve: Retrieve,
    rows: BoxStream<'static, Result<InstanceRow>>,
    choices: Vec<TransferSyntaxChoice>,
    root: String,
) -> BoxStream<'static, Result<OutgoingPart<ByteStream>>> {
    let choices: std::sync::Arc<[TransferSyntaxChoice]> = choices.into();
    let root: std::sync::Arc<str> = root.into();
    rows.then(move |row| {
        let (retrieve, choices, root) = (retrieve.clone(), choices.clone(), root.clone());
        async move {
            let row = row?;
            let opened = retrieve.open(&row, &choices).await?;
            Ok(opened.map(|opened| part(&row, opened, &root)))
        }
    })
    .filter_map(|part| async move { part.transpose() })
    .boxed()
}

/// An instance as a part.
fn part(row: &InstanceRow, opened: OpenInstance, root: &str) -> OutgoingPart<ByteStream> {
    let key = &row.key;
    let location = format!("{root}/studies/{}/series/{}/instances/{}", key.study, key.series, key.instance);
    let head = PartHead {
        content_type: with_transfer_syntax(DICOM, opened.transfer_syntax.as_str()),
        location: Some(location),
        length: opened.body.length,
    };
    OutgoingPart { head, body: opened.body.bytes }
}
