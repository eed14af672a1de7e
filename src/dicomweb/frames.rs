//! WADO-RS frames, as stored
//! ([PS3.18 10.4.1.1.6](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.4.html)).

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::app::App;
use crate::archive::retrieve::{Body, FramePieces, Retrieve};
use crate::catalogue::InstanceRow;
use crate::dicomweb::accept::{Accept, Resource};
use crate::dicomweb::{path, respond, urls};
use crate::error::{Error, Result};
use crate::http::error::HttpResult;
use crate::http::multipart::{MultipartWriter, PartHead};
use crate::store::ByteStream;

/// Frames that are looked up together when all are wanted: a quarter of a block of the index.
const FRAMES_AT_ONCE: u32 = 1_024;

/// `GET …/frames/{list}`.
pub async fn frames(request: HttpRequest, app: Data<App>) -> HttpResult {
    let key = path::instance(&request)?;
    let numbers = path::frames(&request)?;
    let row = app.retrieve.locate(&key, path::version(&request)?).await?;
    Ok(answer(&request, &app, &row, &numbers).await?)
}

/// These frames of an instance, in the representation that the client accepts.
pub async fn answer(request: &HttpRequest, app: &App, row: &InstanceRow, numbers: &[u32]) -> Result<HttpResponse> {
    // Whether there are such frames comes first: an instance without any has no representation to negotiate.
    let frames = app.retrieve.frames(row, numbers).await?;
    let resource = Resource::Frames { stored: &row.transfer_syntax, native: frames.native, one: numbers.len() == 1 };
    let representation = Accept::of(request)?.negotiate(resource)?;
    let content_type = representation.content_type();
    let mut response = respond::ok();
    if !representation.multipart {
        response.content_type(content_type);
        let length = frames.lengths.first().copied();
        let bytes = frames.begin().await?.map_ok(|(_, piece)| piece).boxed();
        return Ok(respond::bytes(&mut response, Body { length, bytes }));
    }
    let heads = Heads::new(request, app, row, content_type);
    let heads: Vec<_> =
        numbers.iter().zip(&frames.lengths).map(|(number, length)| heads.of(*number, *length)).collect();
    let writer = MultipartWriter::new(&representation.media_type);
    response.content_type(writer.content_type());
    let length = writer.length_of(&heads);
    let mut close = writer.clone();
    for head in &heads {
        drop(close.part(head));
    }
    let close = stream::once(async move { Ok(close.close()) });
    let bytes = interleave(writer, heads, frames.begin().await?).chain(close).boxed();
    Ok(respond::bytes(&mut response, Body { length, bytes }))
}

/// All frames of an instance. When they are many, they are looked up as the answer goes out, whose length then is not
/// known before.
pub async fn answer_all(request: &HttpRequest, app: &App, row: &InstanceRow) -> Result<HttpResponse> {
    let (first, rest) = (1..=row.number_of_frames.min(FRAMES_AT_ONCE), row.number_of_frames > FRAMES_AT_ONCE);
    let first: Vec<u32> = first.collect();
    if !rest {
        return answer(request, app, row, &first).await;
    }
    let native = app.retrieve.frames(row, &[1]).await?.native;
    let representation =
        Accept::of(request)?.negotiate(Resource::Frames { stored: &row.transfer_syntax, native, one: false })?;
    let heads = Heads::new(request, app, row, representation.content_type());
    let writer = MultipartWriter::new(&representation.media_type);
    let mut response = respond::ok();
    response.content_type(writer.content_type());
    let walk = Walk { retrieve: app.retrieve.clone(), row: row.clone(), heads, writer, next: 1 };
    let (first, walk) = walk.step().await?;
    let rest = stream::try_unfold(walk, |walk| async move {
        let Some(walk) = walk else { return Ok::<_, Error>(None) };
        walk.step().await.map(Some)
    });
    Ok(response.streaming(first.chain(rest.try_flatten()).boxed()))
}

/// All frames of an instance on their way out.
struct Walk {
    retrieve: Retrieve,
    row: InstanceRow,
    heads: Heads,
    writer: MultipartWriter,
    /// The frame that comes next.
    next: u32,
}

impl Walk {
    /// The next parts; gives itself back unless they were the last, whose end they then have.
    async fn step(mut self) -> Result<(ByteStream, Option<Self>)> {
        let last = self.next.saturating_add(FRAMES_AT_ONCE - 1).min(self.row.number_of_frames);
        let numbers: Vec<u32> = (self.next..=last).collect();
        let frames = self.retrieve.frames(&self.row, &numbers).await?;
        let heads: Vec<_> =
            numbers.iter().zip(&frames.lengths).map(|(number, length)| self.heads.of(*number, *length)).collect();
        let writer = self.writer.clone();
        if let Some(head) = heads.first() {
            drop(self.writer.part(head));
        }
        let parts = interleave(writer, heads, frames.begin().await?);
        if last == self.row.number_of_frames {
            let close = self.writer.close();
            return Ok((parts.chain(stream::once(async move { Ok(close) })).boxed(), None));
        }
        self.next = last.saturating_add(1);
        Ok((parts, Some(self)))
    }
}

/// What the parts of an answer have in their heads.
struct Heads {
    content_type: String,
    /// The URL of the instance.
    base: String,
}

impl Heads {
    fn new(request: &HttpRequest, app: &App, row: &InstanceRow, content_type: String) -> Self {
        let (root, key) = (urls::absolute(request, app), &row.key);
        let base = format!("{root}/studies/{}/series/{}/instances/{}", key.study, key.series, key.instance);
        Self { content_type, base }
    }

    fn of(&self, number: u32, length: u64) -> PartHead {
        PartHead {
            content_type: self.content_type.clone(),
            location: Some(format!("{}/frames/{number}", self.base)),
            length: Some(length),
        }
    }
}

/// Part heads between the pieces of the frames.
fn interleave(mut writer: MultipartWriter, heads: Vec<PartHead>, frames: FramePieces) -> ByteStream {
    let mut begun = None;
    frames
        .map_ok(move |(index, piece)| {
            let head = (begun != Some(index)).then(|| writer.part(&heads[index]));
            begun = Some(index);
            stream::iter(head.into_iter().chain([piece]).filter(|bytes| !bytes.is_empty()).map(Ok))
        })
        .try_flatten()
        .boxed()
}
