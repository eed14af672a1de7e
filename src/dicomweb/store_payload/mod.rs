//! Storing from metadata in JSON or XML with bulk data in parts of their own
//! ([PS3.18 10.5.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.5.html), 8.7.3).
//!
//! The whole request is read before the first instance is made: metadata stay in memory, under a bound over all requests,
//! and bulk data go to a [spool](crate::store::spool). Then the instances are made one at a time, in the order of the
//! metadata, and each goes through [`Ingestion::instance`] as any other.

mod bulk_parts;
mod reference;

use std::ops::Range;
use std::sync::Arc;

use actix_web::HttpRequest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::app::App;
use crate::archive::ingest::Ingestion;
use crate::archive::memory::Share;
use crate::archive::outcome::Refusal;
use crate::dicom::compose::{self, Amount, Budget, ComposeError, Known, Limits, Piece};
use crate::dicom::reasons::FailureReason;
use crate::dicomweb::accept::{DICOM, DICOM_JSON, DICOM_XML};
use crate::dicomweb::store::MOST_PARTS;
use crate::dicomweb::store_payload::bulk_parts::{BulkParts, Incoming};
use crate::dicomweb::urls;
use crate::error::{Error, ErrorKind, Result};
use crate::http::media_type::MediaType;
use crate::http::multipart::{Multipart, PartHeaders};
use crate::store::ByteStream;

/// Most instances that the metadata of a request may describe: the answer has an entry for each, however few bytes it took.
const MOST_INSTANCES: usize = 10_000;

/// Most bytes of metadata in a request.
const MOST_METADATA: usize = 64 << 20;
/// Metadata up to this length are read where the request is served, longer ones on a thread for it.
const SHORT: usize = 64 << 10;
/// Metadata are collected in pieces of so many bytes.
const BLOCK: usize = 1 << 20;
/// Memory that making an instance takes for each byte of its metadata, as far as it goes beyond a little.
const MEMORY_PER_BYTE: usize = 8;
/// Parts that the attributes of an instance may name beyond one for each, and beyond all parts of the request once.
const MOST_REUSED: usize = 1_000;
/// The same over all instances of a request: each is a piece to read and to write.
const MOST_NAMED: usize = 1_000_000;

/// What metadata are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One array of all instances (PS3.18 Annex F).
    Json,
    /// A document for each instance (PS3.19 A.1).
    Xml,
}

impl Form {
    /// By a media type.
    pub(super) fn of(essence: &str) -> Option<Self> {
        match essence {
            DICOM_JSON => Some(Self::Json),
            DICOM_XML => Some(Self::Xml),
            _ => None,
        }
    }

    /// The same, and the names that clients use which do not know better.
    fn of_part(essence: &str) -> Option<Self> {
        match essence {
            "application/json" => Some(Self::Json),
            "application/xml" | "text/xml" => Some(Self::Xml),
            _ => Self::of(essence),
        }
    }
}

/// A storing request of this kind while it is read.
pub(super) struct Payload {
    form: Form,
    share: Share,
    metadata: Vec<(Form, Bytes)>,
    /// Bytes of all of them.
    length: usize,
    bulk: Incoming,
    /// Most bytes of bulk data in all instances together: what a request without any that is named twice could send.
    most_bulk: u64,
}

impl Payload {
    /// One whose Content-Type names this form.
    pub(super) fn new(form: Form, request: &HttpRequest, app: &App, ingestion: &Ingestion) -> Self {
        let path = request.path();
        let base = format!("{}{}", urls::absolute(request, app), path.strip_prefix(urls::ROOT).unwrap_or(path));
        let bulk = Incoming::new(ingestion.spool(), base);
        let most_bulk = app.config.limits.request_size;
        Self { form, share: ingestion.payload_memory(), metadata: Vec::new(), length: 0, bulk, most_bulk }
    }

    /// Takes a body that is metadata and nothing else.
    pub(super) async fn take_body<S>(mut self, body: &mut S, ingestion: &mut Ingestion) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        self.metadata(self.form, body).await?;
        self.store(ingestion).await
    }

    /// Takes all parts.
    pub(super) async fn take_parts<S>(mut self, parts: &mut Multipart<S>, ingestion: &mut Ingestion) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        let mut instances_sent = 0_usize;
        while let Some(part) = parts.next_part().await? {
            let kind = self.kind(part.headers());
            let mut receiving = if kind == Kind::Bulk { self.bulk.begin(part.headers()) } else { None };
            if parts.parts() > MOST_PARTS {
                let message = format!("the body has more than {MOST_PARTS} parts; send them in several requests");
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
            let mut body = stream::poll_fn(|context| parts.poll_chunk(context).map(Result::transpose));
            if let Kind::Metadata(form) = kind {
                self.metadata(form, &mut body).await?;
                continue;
            }
            self.hold(0)?;
            while let Some(chunk) = body.next().await {
                let chunk = chunk?;
                if let Some(receiving) = &mut receiving {
                    self.bulk.push(receiving, chunk).await?;
                }
            }
            if let Some(receiving) = receiving {
                self.bulk.end(receiving);
            }
            instances_sent += usize::from(kind == Kind::Instance);
        }
        self.store(ingestion).await?;
        (0..instances_sent).for_each(|_| ingestion.refuse(whole_instance()));
        Ok(())
    }

    /// What a part is by its headers; the first one need not say.
    fn kind(&self, headers: &PartHeaders) -> Kind {
        let essence = headers.content_type().map(|MediaType { essence, .. }| essence);
        match essence.as_deref() {
            None if self.metadata.is_empty() && headers.content_location().is_none() => Kind::Metadata(self.form),
            Some(DICOM) => Kind::Instance,
            Some(essence) if headers.content_location().is_none() => {
                Form::of_part(essence).map_or(Kind::Bulk, Kind::Metadata)
            }
            Some(essence) => Form::of(essence).map_or(Kind::Bulk, Kind::Metadata),
            None => Kind::Bulk,
        }
    }

    /// Takes memory for what is held and so many bytes more.
    fn hold(&mut self, more: usize) -> Result<()> {
        let held = self.length.saturating_add(self.bulk.memory()).saturating_add(more);
        if self.share.resize(held) {
            return Ok(());
        }
        let why = "all memory for metadata is taken by other requests";
        Err(Error::unavailable("too many metadata are being stored; try again later", why))
    }

    async fn metadata<S>(&mut self, form: Form, body: &mut S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes>> + Unpin,
    {
        // a buffer that grows is copied again and again, and what it leaves behind counts as memory of the process
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        let mut length = 0_usize;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            self.length = self.length.saturating_add(chunk.len());
            if self.length > MOST_METADATA {
                let message = format!(
                    "the metadata of a request may have up to {MOST_METADATA} bytes; send them in several requests, and \
                     long values as bulk data"
                );
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
            length = length.saturating_add(chunk.len());
            // all blocks are there while they are put together
            self.hold(length)?;
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                if blocks.last().is_none_or(|block| block.len() >= BLOCK) {
                    let first = blocks.is_empty();
                    blocks.push(Vec::with_capacity(if first { rest.len().min(BLOCK) } else { BLOCK }));
                }
                let Some(block) = blocks.last_mut() else { break };
                let (now, later) = rest.split_at(rest.len().min(BLOCK - block.len()));
                block.extend_from_slice(now);
                rest = later;
            }
        }
        let text = match blocks.len() {
            0 | 1 => blocks.pop().unwrap_or_default(),
            _ => blocks.concat(),
        };
        self.metadata.push((form, text.into()));
        Ok(())
    }

    /// Makes the instances and hands them to the archive, one after the other.
    async fn store(mut self, ingestion: &mut Ingestion) -> Result<()> {
        self.hold(0)?;
        let metadata = std::mem::take(&mut self.metadata);
        let mut instances = Vec::new();
        for (form, text) in metadata {
            instances.extend(found(form, text).await?);
        }
        if instances.is_empty() {
            let message = "the body has no metadata; its first part must be an array of instances in DICOM JSON, or the \
                           instance in the Native DICOM Model";
            return Err(Error::bad_request(message));
        }
        let bulk = Arc::new(self.bulk.finish().await?);
        let most = Amount { parts: bulk.len().saturating_add(MOST_REUSED), bytes: ingestion.instance_bytes() };
        let mut budget = Budget::new(most, Amount { parts: MOST_NAMED, bytes: self.most_bulk });
        for (form, text) in instances {
            let mut work = ingestion.payload_memory();
            let most = Limits::default().bytes;
            let expected = text.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(SHORT).min(most);
            if !work.resize(expected) {
                ingestion.refuse(busy());
                continue;
            }
            let limits = Limits { bytes: expected, ..Limits::default() };
            let made = make(form, text, limits, Arc::clone(&bulk), budget.clone()).await?;
            budget = made.budget;
            match made.pieces {
                Ok(pieces) => ingestion.composed(&mut file(pieces, Arc::clone(&bulk))).await?,
                Err(refusal) => {
                    ingestion.refuse(refusal);
                    // ten thousand refusals wait for nothing
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metadata(Form),
    Bulk,
    /// A file, which has no place here.
    Instance,
}

/// The instances of one text.
async fn found(form: Form, text: Bytes) -> Result<Vec<(Form, Bytes)>> {
    if form == Form::Xml {
        return Ok(vec![(form, text)]);
    }
    let ranges: std::result::Result<Vec<Range<usize>>, ComposeError> = {
        let text = text.clone();
        let most = MOST_INSTANCES;
        aside(text.len(), move || compose::json::instances(&text, most)).await?
    };
    let ranges = ranges.map_err(|error| match error {
        ComposeError::TooMany(most) => {
            let message = format!("the metadata have more than {most} instances; send them in several requests");
            Error::new(ErrorKind::TooLarge, message)
        }
        error => Error::bad_request(format!("the metadata are no DICOM JSON: {error}")),
    })?;
    Ok(ranges.into_iter().map(|range| (form, text.slice(range))).collect())
}

/// What became of the metadata of an instance.
struct Made {
    pieces: std::result::Result<Vec<Piece>, Refusal>,
    /// What is left for those after it.
    budget: Budget,
}

/// Makes a file of an instance.
async fn make(form: Form, text: Bytes, limits: Limits, bulk: Arc<BulkParts>, mut budget: Budget) -> Result<Made> {
    aside(text.len(), move || {
        let mut known = Known::default();
        let read = match form {
            Form::Json => compose::json::read(&text, limits, &mut known),
            Form::Xml => compose::xml::read(&text, limits, &mut known),
        };
        let composed = read.and_then(|dataset| compose::compose(dataset, &*bulk, &mut budget));
        let pieces = composed.map_err(|error| Refusal {
            sop_class: known.sop_class,
            sop_instance: known.sop_instance,
            reason: error.reason(),
            comment: error.to_string(),
            transient: false,
        });
        Made { pieces, budget }
    })
    .await
}

/// Runs what takes time in proportion to a text where it holds up nobody.
async fn aside<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if length <= SHORT {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("reading metadata failed").caused_by(error))
}

/// The bytes of a file.
fn file(pieces: Vec<Piece>, bulk: Arc<BulkParts>) -> ByteStream {
    let streams = pieces.into_iter().map(move |piece| match piece {
        Piece::Bytes(bytes) => stream::once(async move { Ok(Bytes::from(bytes)) }).boxed(),
        Piece::Part { number, range } => match bulk.read(number, range) {
            Ok(bytes) => bytes,
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        },
    });
    stream::iter(streams).flatten().boxed()
}

fn refusal(reason: FailureReason, comment: &str, transient: bool) -> Refusal {
    Refusal { sop_class: None, sop_instance: None, reason, comment: comment.to_owned(), transient }
}

fn whole_instance() -> Refusal {
    refusal(FailureReason::CannotUnderstand, "a file cannot be in a request of metadata", false)
}

fn busy() -> Refusal {
    refusal(FailureReason::OutOfResources, "too many metadata are being stored; try again later", true)
}
