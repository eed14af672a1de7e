//! The parts of a request that hold bulk data: kept until the metadata are read, found by the URIs that name them.

use std::collections::HashMap;

use bytes::Bytes;

use crate::dicom::compose::{Bulk, Form, Part};
use crate::dicom::media::MediaReader;
use crate::dicom::transfer_syntax::{self, EXPLICIT_BIG};
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicomweb::accept::OCTET_STREAM;
use crate::dicomweb::store_payload::reference::resolve;
use crate::error::{Error, Result};
use crate::http::multipart::PartHeaders;
use crate::store::ByteStream;
use crate::store::spool::{Spool, Spooled};

/// Deflated Image Frame Compression, whose frames say nothing of themselves.
const DEFLATED_FRAMES: &str = "1.2.840.10008.1.2.8.1";
/// Memory that a part takes beside its bytes and its name, and in the pieces of the instance that is being made.
const PART_BYTES: usize = 512;

/// Bulk data that are coming in: all of them in one spool, one after the other.
pub(super) struct Incoming {
    spool: Spool,
    parts: Vec<Stored>,
    names: HashMap<String, Vec<usize>>,
    /// The URL of the request, which relative names are relative to.
    base: String,
    memory: usize,
}

/// A part and where it lies in the spool.
struct Stored {
    part: Part,
    start: u64,
}

/// A part while it comes in.
pub(super) struct Receiving {
    names: Vec<String>,
    kind: Kind,
    start: u64,
    ascii: bool,
}

/// What the headers of a part say of its bytes.
enum Kind {
    Plain,
    Media(Box<MediaReader>),
    Frame(TransferSyntaxUid),
    Other,
}

/// All bulk data of a request.
pub(super) struct BulkParts {
    spooled: Spooled,
    parts: Vec<Stored>,
    names: HashMap<String, Vec<usize>>,
    base: String,
}

impl Incoming {
    pub(super) fn new(spool: Spool, base: String) -> Self {
        Self { spool, parts: Vec::new(), names: HashMap::new(), base, memory: 0 }
    }

    /// Bytes of memory that names and parts take.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Begins a part, unless nothing can name it.
    pub(super) fn begin(&mut self, headers: &PartHeaders) -> Option<Receiving> {
        let location = headers.content_location().map(|location| resolve(&self.base, location));
        // a URI of the scheme `cid` names a Content-ID (RFC 2392)
        let id = headers.get("content-id").map(|id| format!("cid:{}", id.trim().trim_matches(['<', '>'])));
        let names: Vec<String> = location.into_iter().chain(id).collect();
        if names.is_empty() {
            return None;
        }
        self.memory = names.iter().fold(self.memory, |memory, name| memory.saturating_add(2 * name.len() + PART_BYTES));
        Some(Receiving { names, kind: Kind::of(headers), start: self.spool.len(), ascii: true })
    }

    /// Takes more of a part.
    pub(super) async fn push(&mut self, receiving: &mut Receiving, chunk: Bytes) -> Result<()> {
        receiving.ascii = receiving.ascii && chunk.is_ascii();
        if let Kind::Media(reader) = &mut receiving.kind {
            reader.push(&chunk);
        }
        self.spool.append(chunk).await
    }

    /// Ends a part.
    pub(super) fn end(&mut self, receiving: Receiving) {
        let Receiving { names, kind, start, ascii } = receiving;
        let length = self.spool.len().saturating_sub(start);
        let form = match kind {
            Kind::Plain => Form::Plain,
            Kind::Media(reader) => reader.finish().map_or_else(Form::Broken, Form::Media),
            Kind::Frame(transfer_syntax) => Form::Frame(transfer_syntax),
            Kind::Other => Form::Other,
        };
        for name in names {
            self.names.entry(name).or_default().push(self.parts.len());
        }
        self.parts.push(Stored { part: Part { length, ascii, form }, start });
    }

    /// All parts have come.
    pub(super) async fn finish(self) -> Result<BulkParts> {
        let Self { spool, parts, names, base, .. } = self;
        Ok(BulkParts { spooled: spool.finish().await?, parts, names, base })
    }
}

impl Kind {
    /// By the media type and the transfer syntax that it names (PS3.18 8.7.3.5).
    fn of(headers: &PartHeaders) -> Self {
        let Some(media_type) = headers.content_type() else { return Self::Plain };
        let named = media_type.parameter("transfer-syntax");
        if media_type.essence == "application/x-deflate" {
            return TransferSyntaxUid::parse(DEFLATED_FRAMES).map_or(Self::Other, Self::Frame);
        }
        if media_type.essence != OCTET_STREAM {
            let reader = MediaReader::of(&media_type.essence, named);
            return reader.map_or(Self::Other, |reader| Self::Media(Box::new(reader)));
        }
        match named.and_then(|text| TransferSyntaxUid::parse(text).ok()) {
            Some(uid) if transfer_syntax::is_encapsulated(&uid) => Self::Frame(uid),
            // its words would have to be turned around
            Some(uid) if uid.as_str() == EXPLICIT_BIG => Self::Other,
            Some(_) | None => Self::Plain,
        }
    }
}

impl BulkParts {
    /// How many parts there are.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Bytes of a part.
    pub(super) fn read(&self, number: usize, range: std::ops::Range<u64>) -> Result<ByteStream> {
        let part = self.parts.get(number).ok_or_else(|| Error::internal("a piece names no part"))?;
        let at = |position: u64| part.start.saturating_add(position.min(part.part.length));
        Ok(self.spooled.read(at(range.start)..at(range.end)))
    }
}

impl Bulk for BulkParts {
    fn named(&self, uri: &str) -> &[usize] {
        self.names.get(&resolve(&self.base, uri)).map_or(&[], Vec::as_slice)
    }

    fn part(&self, number: usize) -> Option<&Part> {
        self.parts.get(number).map(|stored| &stored.part)
    }
}
