//! Deleting studies, series and instances: an extension that most archives have; PS3.18 has no such transaction.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::app::App;
use crate::archive::delete;
use crate::dicomweb::path;
use crate::error::{Error, Result};
use crate::http::error::HttpResult;

/// Most bytes of a reason.
const MOST_REASON: usize = 1024;

/// `DELETE` of a study, a series or an instance, with an optional `reason`.
pub async fn delete(request: HttpRequest, app: Data<App>) -> HttpResult {
    let scope = path::scope(&request)?;
    let reason = reason(request.query_string())?;
    let peer = request.peer_addr().map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string());
    let ingest = app.ingest.clone();
    let delete = async move { delete::delete(&ingest, &scope, &format!("http {peer}"), &reason).await };
    app.to_its_end(delete).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The one parameter that there is. Another one may mean less than everything, so it is not passed over.
fn reason(query: &str) -> Result<String> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        if path::form_decode(name).is_none_or(|name| name != "reason") {
            return Err(Error::bad_request("the only parameter of a delete is `reason`"));
        }
    }
    let reason = path::single(query, "reason")?.unwrap_or_default().into_owned();
    if reason.len() > MOST_REASON {
        return Err(Error::bad_request(format!("the `reason` has more than {MOST_REASON} bytes")));
    }
    Ok(reason)
}
