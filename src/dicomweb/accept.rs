//! What the client accepts against what a resource can be: one decision, or 406 with the list of what can be had
//! ([PS3.18 8.7](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_8.7.html), RFC 9110 12.5.1).
//!
//! Reading the header is liberal: entries that nobody understands are dropped, a missing one asks for the default. The `accept`
//! query parameter takes its place: somebody wrote it for this very request, so what cannot be read or made of it is refused.
//! The decision is a pure function of the entries and the resource; the tables are in [`frame_media_type`] and `offers`.

use std::cmp::Reverse;

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT, HeaderMap};

use crate::dicom::transfer_syntax::{EXPLICIT_LITTLE, TransferSyntaxChoice};
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicomweb::path;
use crate::error::{Error, ErrorKind, Result};
use crate::http::media_type::{MediaType, quote, split_outside_quotes};

/// DICOM JSON (PS3.18 F.2).
pub const DICOM_JSON: &str = "application/dicom+json";
/// The Native DICOM Model in XML (PS3.18 F.3).
pub const DICOM_XML: &str = "application/dicom+xml";
/// A Part 10 file.
pub const DICOM: &str = "application/dicom";
/// Bytes without further meaning.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// What is asked for, as far as its representations depend on it.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// Metadata, search results.
    Json,
    /// One data set about a transaction: the response to a store.
    Response,
    /// Whole instances; `one` when the URL names a single instance.
    Instances {
        /// The URL names a single instance.
        one: bool,
    },
    /// Frames as they are stored; big endian and deflated ones leave as little endian bytes.
    Frames {
        /// The transfer syntax of the instance.
        stored: &'a TransferSyntaxUid,
        /// The pixel data is native (not encapsulated).
        native: bool,
        /// The URL names a single frame.
        one: bool,
    },
    /// Values named by a BulkDataURI.
    Bulk {
        /// Their media type where it is known (`application/pdf`), else [`OCTET_STREAM`].
        media_type: &'a str,
        /// The URL names a single value.
        one: bool,
    },
}

/// What the answer is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Representation {
    /// The media type of the body, or of each part.
    pub media_type: String,
    /// `multipart/related` or a single part.
    pub multipart: bool,
    /// The transfer syntaxes that will do, best first, never empty. For frames exactly one: that of the bytes.
    pub transfer_syntaxes: Vec<TransferSyntaxChoice>,
}

impl Representation {
    /// The Content-Type of frames: the type with the transfer syntax of the bytes; without one just the type.
    #[must_use]
    pub fn content_type(&self) -> String {
        match self.transfer_syntaxes.first() {
            Some(TransferSyntaxChoice::Named(uid)) => with_transfer_syntax(&self.media_type, uid.as_str()),
            Some(TransferSyntaxChoice::Default | TransferSyntaxChoice::Any) | None => self.media_type.clone(),
        }
    }
}

/// `media_type; transfer-syntax=uid`, as PS3.18 8.7.3.5.2 wants it of every part.
#[must_use]
pub fn with_transfer_syntax(media_type: &str, uid: &str) -> String {
    format!("{media_type}; transfer-syntax={uid}")
}

/// The media type of encapsulated frames of a transfer syntax (PS3.18 Table 8.7.3-5, Supplements 232, 235, 244)
/// and the older names by which clients ask for it.
#[must_use]
pub fn frame_media_type(stored: &TransferSyntaxUid) -> (&'static str, &'static [&'static str]) {
    let Some(suffix) = stored.as_str().strip_prefix("1.2.840.10008.1.2.") else { return (OCTET_STREAM, &[]) };
    match suffix {
        "4.50" | "4.51" => ("image/jpeg", &["image/jpg", "image/dicom+jpeg"]),
        "4.57" | "4.70" => ("image/jpeg", &["image/jpg", "image/dicom+jpeg", "image/jll", "image/dicom+jll"]),
        "4.80" | "4.81" => ("image/jls", &["image/x-jls", "image/dicom+jls", "image/dicom+jpeg-ls"]),
        "4.90" | "4.91" => ("image/jp2", &["image/dicom+jp2", "image/dicom-jp2"]),
        "4.92" | "4.93" => ("image/jpx", &["image/dicom+jpx", "image/dicom-jpx"]),
        "5" => ("image/dicom-rle", &["image/x-dicom-rle", "image/dicom+rle", "image/x-rle"]),
        "4.201" | "4.202" | "4.203" => ("image/jphc", &["image/jph", "image/x-jphc"]),
        "4.110" | "4.111" | "4.112" => ("image/jxl", &[]),
        "8.1" => ("application/x-deflate", &[]),
        "4.100" | "4.100.1" | "4.101" | "4.101.1" => ("video/mpeg", &[]),
        "4.102" | "4.102.1" | "4.103" | "4.103.1" | "4.104" | "4.104.1" | "4.105" | "4.105.1" | "4.106" | "4.106.1"
        | "4.107" | "4.108" => ("video/mp4", &[]),
        _ => (OCTET_STREAM, &[]),
    }
}

/// What the client accepts.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    /// Of the header; `None` when there is none, or an empty one.
    header: Option<Vec<Entry>>,
    /// Of the `accept` query parameter; `None` when there is none, or an empty one.
    parameter: Option<Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    essence: String,
    /// The `type` parameter of a multipart entry, in lower case.
    root: Option<String>,
    syntax: TransferSyntaxChoice,
    /// In thousandths.
    quality: u16,
}

impl Accept {
    /// Of a request: its Accept header lines and its `accept` query parameter.
    ///
    /// # Errors
    /// [`ErrorKind::BadRequest`] when the parameter is no list of media types or is given twice.
    pub fn of(request: &HttpRequest) -> Result<Self> {
        Self::from_parts(request.headers(), request.query_string())
    }

    /// Of header lines and a query string.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn from_parts(headers: &HeaderMap, query: &str) -> Result<Self> {
        let lines: Vec<_> = headers.get_all(ACCEPT).map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        Self::parse((!lines.is_empty()).then(|| lines.join(",")).as_deref(), query)
    }

    /// Of the joined header lines and the query string.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn parse(header: Option<&str>, query: &str) -> Result<Self> {
        let header = header.filter(|text| !text.trim().is_empty());
        let header = header.map(|text| split_outside_quotes(text, b',').filter_map(entry).collect());
        Ok(Self { header, parameter: parameter(query)? })
    }

    /// The best representation of a resource that the client accepts.
    ///
    /// The query parameter wins over the header, which pages and viewers often cannot choose. The header does not make up for
    /// one that asks for what cannot be made: where PS3.18 8.7.8.1 falls back to it, a client that asked for one thing by name
    /// would get another with 200.
    ///
    /// # Errors
    /// [`ErrorKind::NotAcceptable`], naming what could be had.
    pub fn negotiate(&self, resource: Resource<'_>) -> Result<Representation> {
        let offers = offers(resource);
        let asked = self.parameter.as_ref().or(self.header.as_ref());
        let found = match (asked, offers.first()) {
            (Some(entries), _) => best(entries, &offers),
            (None, first) => first.map(|first| first.representation(vec![TransferSyntaxChoice::Default])),
        };
        found.ok_or_else(|| {
            not_acceptable(&offers, if self.parameter.is_some() { " by parameter `accept`" } else { "" })
        })
    }
}

/// What the `accept` parameter of a query string asks for: a list of media types (PS3.18 8.3.3.1), which stands there once.
fn parameter(query: &str) -> Result<Option<Vec<Entry>>> {
    let Some(text) = path::single(query, "accept")? else { return Ok(None) };
    let text = with_plus(&text);
    let entries = split_outside_quotes(&text, b',').filter(|text| !text.trim().is_empty()).map(entry);
    let entries: Vec<_> = entries.collect::<Option<_>>().ok_or_else(|| {
        Error::bad_request("parameter `accept` must be media types as in the Accept header, separated by commas")
    })?;
    Ok((!entries.is_empty()).then_some(entries))
}

/// A plus that nobody encoded is a space in a query string: that of `dicom json` is put back.
fn with_plus(text: &str) -> String {
    let mut pieces = text.split("dicom ");
    let mut joined = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let within = piece.starts_with(|letter: char| letter.is_ascii_alphabetic());
        joined.push_str(if within { "dicom+" } else { "dicom " });
        joined.push_str(piece);
    }
    joined
}

fn entry(text: &str) -> Option<Entry> {
    let media = MediaType::parse(text)?;
    let syntax = match media.parameter("transfer-syntax").or_else(|| media.parameter("transfersyntax")) {
        None => TransferSyntaxChoice::Default,
        Some("*") => TransferSyntaxChoice::Any,
        // A text that is no UID names nothing that could be made.
        Some(uid) => TransferSyntaxChoice::Named(TransferSyntaxUid::parse(uid).ok()?),
    };
    let root = media.parameter("type").map(str::to_ascii_lowercase);
    let quality = media.parameter("q").map_or(1000, quality);
    Some(Entry { essence: media.essence, root, syntax, quality })
}

/// A weight in thousandths; what cannot be read counts as if it were absent.
fn quality(text: &str) -> u16 {
    let weight = text.parse::<f32>().ok().filter(|weight| weight.is_finite()).unwrap_or(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000 fits")]
    {
        (weight.clamp(0.0, 1.0) * 1000.0).round() as u16
    }
}

/// One way to represent the resource.
struct Offer<'a> {
    media_type: &'a str,
    aliases: &'static [&'static str],
    multipart: bool,
    /// May be asked for as an octet stream.
    bytes: bool,
    syntax: OfferedSyntax<'a>,
}

/// The transfer syntaxes of an offer.
#[derive(Clone, Copy)]
enum OfferedSyntax<'a> {
    /// The media type has none; the parameter is ignored.
    Ignored,
    /// The instances decide later.
    Open,
    /// The bytes have this one.
    Fixed(&'a str),
    /// The bytes are a little endian value.
    Raw,
}

impl Offer<'_> {
    /// How closely an entry names this offer, `None` if it does not.
    fn matched_by(&self, entry: &Entry) -> Option<u8> {
        let closeness = match (self.multipart, entry.essence.as_str(), &entry.root) {
            (_, "*/*", _) => 0,
            // Wildcards ask for the default of the category, which may be multipart (PS3.18 8.7.5).
            (true, "application/*", _) => 1,
            (true, "multipart/*", _) => 2,
            (true, "multipart/related", None) => 3,
            (true, "multipart/related", Some(root)) => self.names(root)?,
            (true, ..) => return None,
            (false, essence, _) => self.names(essence)?,
        };
        self.admits(&entry.syntax).then_some(closeness)
    }

    fn names(&self, media_type: &str) -> Option<u8> {
        let octets = self.bytes.then_some(OCTET_STREAM);
        if media_type == self.media_type || self.aliases.contains(&media_type) || octets == Some(media_type) {
            return Some(4);
        }
        let kind = media_type.strip_suffix('*')?;
        let within = |known: &str| known.starts_with(kind);
        (kind == "*/" || within(self.media_type) || octets.is_some_and(within)).then_some(2)
    }

    fn admits(&self, syntax: &TransferSyntaxChoice) -> bool {
        match (self.syntax, syntax) {
            (OfferedSyntax::Ignored | OfferedSyntax::Open, _)
            | (_, TransferSyntaxChoice::Default | TransferSyntaxChoice::Any) => true,
            (OfferedSyntax::Fixed(offered), TransferSyntaxChoice::Named(uid)) => uid.as_str() == offered,
            (OfferedSyntax::Raw, TransferSyntaxChoice::Named(uid)) => uid.as_str() == EXPLICIT_LITTLE,
        }
    }

    fn representation(&self, asked: Vec<TransferSyntaxChoice>) -> Representation {
        let transfer_syntaxes = match self.syntax {
            OfferedSyntax::Open => asked,
            OfferedSyntax::Fixed(uid) => {
                vec![TransferSyntaxUid::parse(uid).map_or(TransferSyntaxChoice::Any, TransferSyntaxChoice::Named)]
            }
            OfferedSyntax::Ignored | OfferedSyntax::Raw => vec![TransferSyntaxChoice::Default],
        };
        Representation { media_type: self.media_type.to_owned(), multipart: self.multipart, transfer_syntaxes }
    }

    fn describe(&self) -> String {
        let mut text = self.media_type.to_owned();
        if self.multipart {
            text = format!("multipart/related; type={}", quote(self.media_type));
        }
        if let OfferedSyntax::Fixed(uid) = self.syntax {
            text = with_transfer_syntax(&text, uid);
        }
        text
    }
}

/// What a resource can be, the default first.
fn offers(resource: Resource<'_>) -> Vec<Offer<'_>> {
    let (media_type, aliases, syntax, one): (_, &'static [&'static str], _, _) = match resource {
        Resource::Json => return vec![document(DICOM_JSON, &["application/json"])],
        Resource::Response => {
            let xml = document(DICOM_XML, &["application/xml", "text/xml"]);
            return vec![document(DICOM_JSON, &["application/json"]), xml];
        }
        Resource::Instances { one } => (DICOM, &[], OfferedSyntax::Open, one),
        Resource::Frames { native: true, one, .. } => (OCTET_STREAM, &[], OfferedSyntax::Fixed(EXPLICIT_LITTLE), one),
        Resource::Frames { stored, native: false, one } => {
            let (media_type, aliases) = frame_media_type(stored);
            (media_type, aliases, OfferedSyntax::Fixed(stored.as_str()), one)
        }
        Resource::Bulk { media_type, one } => (media_type, &[], OfferedSyntax::Raw, one),
    };
    // Any bytes may be asked for as an octet stream; frames keep their own name, which tells how to decode them.
    let bytes = matches!(resource, Resource::Frames { .. } | Resource::Bulk { .. });
    let forms: &[bool] = if one { &[true, false] } else { &[true] };
    let offer = |&multipart: &bool| Offer { media_type, aliases, multipart, bytes, syntax };
    forms.iter().map(offer).collect()
}

/// A data set as a text of its own.
fn document<'a>(media_type: &'a str, aliases: &'static [&'static str]) -> Offer<'a> {
    Offer { media_type, aliases, multipart: false, bytes: false, syntax: OfferedSyntax::Ignored }
}

/// The offer with the highest weight; among equals the one that is named most closely, then the server's order.
fn best(entries: &[Entry], offers: &[Offer<'_>]) -> Option<Representation> {
    let ranked = offers.iter().enumerate().filter_map(|(order, offer)| {
        let matches: Vec<_> =
            entries.iter().filter_map(|entry| offer.matched_by(entry).map(|closeness| (closeness, entry))).collect();
        // The most closely matching entries decide, so `x/y;q=0, */*` excludes x/y (RFC 9110 12.5.1).
        let closest = matches.iter().map(|(closeness, _)| *closeness).max()?;
        let mut deciding: Vec<_> =
            matches.iter().filter(|(closeness, entry)| *closeness == closest && entry.quality > 0).collect();
        deciding.sort_by_key(|(_, entry)| Reverse(entry.quality));
        let (_, first) = deciding.first()?;
        let syntaxes = deciding.iter().map(|(_, entry)| entry.syntax.clone()).collect();
        Some(((first.quality, closest, Reverse(order)), offer, syntaxes))
    });
    let (_, offer, syntaxes) = ranked.max_by_key(|(rank, _, _)| *rank)?;
    Some(offer.representation(syntaxes))
}

fn not_acceptable(offers: &[Offer<'_>], by: &str) -> Error {
    let list: Vec<_> = offers.iter().map(|offer| format!("`{}`", offer.describe())).collect();
    Error::new(
        ErrorKind::NotAcceptable,
        format!("none of the media types accepted{by} can be made; there is {}", list.join(", ")),
    )
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
