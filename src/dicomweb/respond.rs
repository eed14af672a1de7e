//! What all answers share: caching headers, and streams as bodies with Content-Length where the length is known.

use actix_web::body::SizedStream;
use actix_web::http::header::{CACHE_CONTROL, VARY};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::archive::retrieve::Body;
use crate::error::Error;

/// A successful answer. What it holds is about patients, changes with what is stored, and is negotiated: only the client
/// itself may keep it, and asks again before it uses it.
pub fn ok() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, "private, no-cache")).insert_header((VARY, "Accept"));
    response
}

/// Bytes that are handed to the connection at once. It copies them into its buffer and that to the socket: what fits the
/// cache of a core is copied out of it the second time.
const PIECE_BYTES: usize = 64 << 10;

/// A response of one part.
pub fn bytes(response: &mut HttpResponseBuilder, body: Body) -> HttpResponse {
    let pieces = body.bytes.map_ok(|chunk| stream::iter(slices(chunk)).map(Ok::<_, Error>)).try_flatten();
    match body.length {
        Some(length) => response.body(SizedStream::new(length, Box::pin(pieces))),
        None => response.streaming(Box::pin(pieces)),
    }
}

fn slices(mut chunk: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!chunk.is_empty()).then(|| chunk.split_to(chunk.len().min(PIECE_BYTES))))
}
