//! What a compressed image, a video or a document says of itself, and the attributes that follow from it.
//!
//! A client may describe an instance in DICOM JSON or XML and send its pixel data or document as it is, as `image/jpeg`,
//! `video/mp4` or `application/pdf`
//! ([PS3.18 8.7.3](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_8.7.3.html),
//! [10.5.1](https://dicom.nema.org/medical/dicom/current/output/chtml/part18/sect_10.5.html)). Then the server names the
//! transfer syntax and fills in what only the bytes know. [`MediaReader`] follows one part as it streams and keeps small
//! headers only; [`derive::merge`] makes the attributes of one instance from the parts that are its frames.
//!
//! ```
//! use isocenter::dicom::media::{Kind, MediaReader};
//!
//! let mut reader = MediaReader::of("application/pdf", None).unwrap();
//! reader.push(b"%PDF-1.7\n");
//! reader.push(b"...\n%%EOF\n");
//! let media = reader.finish().unwrap();
//! assert_eq!(media.kind(), Kind::Document);
//! assert_eq!(media.fragment(), 0..19);
//! ```

use std::ops::Range;

mod avc;
mod bits;
mod boxes;
mod classes;
mod codestream;
pub mod derive;
mod elementary;
pub mod error;
mod feed;
mod jpeg;
mod jpeg2000;
mod jpegxl;
mod jxl_header;
mod mp4;
mod mpeg;
mod pdf;
mod picture;
mod rle;
mod video;

use error::MediaError;
use feed::{Feed, Scan};
use picture::{Film, Picture, Syntax};

/// Reads one part in pieces of any size, and keeps no more than 64 KiB of it.
#[derive(Debug)]
pub struct MediaReader {
    feed: Feed,
    format: Format,
    /// The transfer syntax that the part's Content-Type names.
    named: Option<String>,
    failed: Option<MediaError>,
}

/// The reader of each family of formats.
#[derive(Debug)]
enum Format {
    Jpeg(jpeg::JpegReader),
    Jpeg2000(Box<jpeg2000::Jpeg2000Reader>),
    JpegXl(jpegxl::JpegXlReader),
    Rle(rle::RleReader),
    Video(Box<video::VideoReader>),
    Pdf(pdf::PdfReader),
}

/// What one part turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    syntax: &'static str,
    fragment: Range<u64>,
    content: Content,
}

/// Which kind of thing a part is, and so where its bytes belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One frame of encapsulated Pixel Data (7FE0,0010).
    Image,
    /// All frames of encapsulated Pixel Data, one stream.
    Video,
    /// The value of Encapsulated Document (0042,0011).
    Document,
}

/// What each kind knows.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Image(Picture),
    Video(Picture, Film),
    Document,
}

impl MediaReader {
    /// The reader for a media type, of which parameters are ignored; `None` where the server derives nothing.
    ///
    /// `transfer_syntax` is the parameter of the same name: it decides where the bytes allow several, and is refused where
    /// they contradict it.
    #[must_use]
    pub fn of(media_type: &str, transfer_syntax: Option<&str>) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let format = match essence.as_str() {
            // PS3.18 Table 8.7.3-5; the second names are those of earlier editions
            "image/jpeg" | "image/jls" | "image/x-jls" | "image/dicom+jpeg" | "image/dicom+jpeg-ls" => {
                Format::Jpeg(jpeg::JpegReader::default())
            }
            "image/jp2" | "image/jpx" | "image/jphc" | "image/jph" | "image/j2c" | "image/dicom+jp2"
            | "image/dicom+jpx" => Format::Jpeg2000(Box::default()),
            "image/jxl" => Format::JpegXl(jpegxl::JpegXlReader::default()),
            "image/dicom-rle" | "image/dicom+rle" | "image/x-dicom-rle" => Format::Rle(rle::RleReader::default()),
            "video/mp4" | "video/mpeg" | "video/mpeg2" | "video/h265" | "video/h264" => Format::Video(Box::default()),
            "application/pdf" => Format::Pdf(pdf::PdfReader::default()),
            _ => return None,
        };
        let named = transfer_syntax.map(|uid| uid.trim_matches(['"', ' ', '\0']).to_owned());
        Some(Self { feed: Feed::new(format.first_look()), format, named, failed: None })
    }

    /// Takes the next bytes. What is wrong with them is kept for [`finish`](Self::finish).
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.feed.push(self.format.scan(), bytes).err();
        }
    }

    /// What is wrong already, so that the rest need not be sent.
    #[must_use]
    pub fn failure(&self) -> Option<MediaError> {
        self.failed
    }

    /// What the part is, once all bytes have come.
    pub fn finish(self) -> Result<Media, MediaError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let end = self.feed.end();
        let (syntax, fragment, content) = match self.format {
            Format::Jpeg(reader) => reader.finish(&end)?,
            Format::Jpeg2000(reader) => reader.finish(&end)?,
            Format::JpegXl(reader) => reader.finish(&end)?,
            Format::Rle(reader) => reader.finish(&end)?,
            Format::Video(reader) => reader.finish(&end)?,
            Format::Pdf(reader) => reader.finish(&end)?,
        };
        let syntax = match (&self.named, &content) {
            // the transfer syntax of a document is that of the data set around it
            (None, _) | (Some(_), Content::Document) => syntax.uid,
            (Some(named), _) => syntax.named(named).ok_or(MediaError::TransferSyntax)?,
        };
        Ok(Media { syntax, fragment, content })
    }
}

impl Format {
    fn scan(&mut self) -> &mut dyn Scan {
        match self {
            Self::Jpeg(reader) => reader,
            Self::Jpeg2000(reader) => reader.as_mut(),
            Self::JpegXl(reader) => reader,
            Self::Rle(reader) => reader,
            Self::Video(reader) => reader.as_mut(),
            Self::Pdf(reader) => reader,
        }
    }

    /// How many bytes tell what it is.
    fn first_look(&self) -> usize {
        match self {
            Self::Jpeg(_) | Self::Jpeg2000(_) | Self::JpegXl(_) => 2,
            Self::Rle(_) => rle::HEADER,
            Self::Video(_) => 8,
            Self::Pdf(_) => 5,
        }
    }
}

impl Media {
    /// Where the bytes of the part belong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.content {
            Content::Image(_) => Kind::Image,
            Content::Video(..) => Kind::Video,
            Content::Document => Kind::Document,
        }
    }

    /// The transfer syntax of the instance: for an image or a video that of its Pixel Data, for a document Explicit VR
    /// Little Endian.
    #[must_use]
    pub fn transfer_syntax(&self) -> &'static str {
        self.syntax
    }

    /// Which bytes of the part are the frame, the video or the document: a wrapper around a code stream and what follows
    /// its end are left out.
    #[must_use]
    pub fn fragment(&self) -> Range<u64> {
        self.fragment.clone()
    }
}

/// What the readers hand over: syntax, fragment, content.
type Found = (Syntax, Range<u64>, Content);

#[cfg(test)]
mod tests;
