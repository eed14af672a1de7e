//! Writes `multipart/related` answers (PS3.18 8.6.1.2).
//!
//! Part headers are written by hand, because the most used viewer compares `Content-Type:` by case, and HTTP libraries
//! print header names in lower case.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use crate::error::Error;
use crate::http::media_type::quote;

/// The headers of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartHead {
    /// With its parameters, `transfer-syntax` included.
    pub content_type: String,
    /// The URI of what is in the part.
    pub location: Option<String>,
    /// Its length in bytes where it is known before.
    pub length: Option<u64>,
}

/// Makes what stands between the parts of one answer.
#[derive(Clone, Debug)]
pub struct MultipartWriter {
    boundary: String,
    content_type: String,
    first: bool,
}

impl MultipartWriter {
    /// A writer for parts of this media type, with a new random boundary.
    #[must_use]
    pub fn new(part_type: &str) -> Self {
        // 128 random bits occur in no data by chance, and nobody can store data that holds them.
        let boundary = format!("isocenter-{:032x}", rand::random::<u128>());
        // RFC 2387 3.1: the type parameter holds the media type of the root part, quoted for its slash.
        let content_type = format!("multipart/related; type={}; boundary={boundary}", quote(part_type));
        Self { boundary, content_type, first: true }
    }

    /// The Content-Type of the answer.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The delimiter before a part and its headers.
    #[must_use]
    pub fn part(&mut self, head: &PartHead) -> Bytes {
        let mut text = String::with_capacity(256);
        // The line end before a delimiter belongs to it; the first one needs none (RFC 2046 5.1.1).
        text.push_str(if std::mem::take(&mut self.first) { "--" } else { "\r\n--" });
        text.push_str(&self.boundary);
        text.push_str("\r\nContent-Type: ");
        text.push_str(&head.content_type);
        if let Some(length) = head.length {
            // Writing to a string does not fail.
            let _ = write!(text, "\r\nContent-Length: {length}");
        }
        if let Some(location) = &head.location {
            text.push_str("\r\nContent-Location: ");
            text.push_str(location);
        }
        text.push_str("\r\n\r\n");
        Bytes::from(text)
    }

    /// What ends the body.
    #[must_use]
    pub fn close(&self) -> Bytes {
        let line_end = if self.first { "" } else { "\r\n" };
        Bytes::from(format!("{line_end}--{}--\r\n", self.boundary))
    }

    /// How long the whole body will be; `None` unless all lengths are known.
    #[must_use]
    pub fn length_of<'a>(&self, heads: impl IntoIterator<Item = &'a PartHead>) -> Option<u64> {
        let mut writer = self.clone();
        let mut total: u64 = 0;
        for head in heads {
            total = total.checked_add(writer.part(head).len() as u64)?.checked_add(head.length?)?;
        }
        total.checked_add(writer.close().len() as u64)
    }
}

/// A part on its way out.
pub struct OutgoingPart<B> {
    /// Its headers.
    pub head: PartHead,
    /// Its bytes.
    pub body: B,
}

/// The bytes of a multipart body whose parts come one by one; an error ends it without the closing delimiter.
pub struct MultipartBody<P, B> {
    writer: MultipartWriter,
    parts: P,
    current: Option<B>,
    ended: bool,
}

impl<P, B> MultipartBody<P, B>
where
    P: Stream<Item = Result<OutgoingPart<B>, Error>> + Unpin,
    B: Stream<Item = Result<Bytes, Error>> + Unpin,
{
    /// A body of these parts.
    #[must_use]
    pub fn new(writer: MultipartWriter, parts: P) -> Self {
        Self { writer, parts, current: None, ended: false }
    }
}

impl<P, B> Stream for MultipartBody<P, B>
where
    P: Stream<Item = Result<OutgoingPart<B>, Error>> + Unpin,
    B: Stream<Item = Result<Bytes, Error>> + Unpin,
{
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(body) = &mut this.current {
                match ready!(Pin::new(body).poll_next(context)) {
                    Some(Err(error)) => {
                        this.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    // An empty chunk would end a chunked answer.
                    Some(Ok(chunk)) if chunk.is_empty() => continue,
                    Some(Ok(chunk)) => return Poll::Ready(Some(Ok(chunk))),
                    None => this.current = None,
                }
            }
            match ready!(Pin::new(&mut this.parts).poll_next(context)) {
                Some(Ok(OutgoingPart { head, body })) => {
                    this.current = Some(body);
                    return Poll::Ready(Some(Ok(this.writer.part(&head))));
                }
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.ended = true;
                    return Poll::Ready(Some(Ok(this.writer.close())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;
    use crate::http::multipart::Multipart;

    fn head(content_type: &str, location: Option<&str>, length: Option<u64>) -> PartHead {
        PartHead { content_type: content_type.to_owned(), location: location.map(str::to_owned), length }
    }

    #[test]
    fn part_headers_are_spelled_as_viewers_compare_them() {
        let mut writer = MultipartWriter::new("image/jp2");
        let boundary = writer.boundary.clone();
        assert!(boundary.len() <= 70);
        assert_eq!(writer.content_type(), format!("multipart/related; type=\"image/jp2\"; boundary={boundary}"));
        let first = writer.part(&head("image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90", Some("/f/1"), Some(3)));
        assert_eq!(
            first,
            format!(
                "--{boundary}\r\nContent-Type: image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90\r\nContent-Length: 3\r\n\
                 Content-Location: /f/1\r\n\r\n"
            )
        );
        let second = writer.part(&head("a/b", None, None));
        assert_eq!(second, format!("\r\n--{boundary}\r\nContent-Type: a/b\r\n\r\n"));
        assert_eq!(writer.close(), format!("\r\n--{boundary}--\r\n"));
    }

    #[test]
    fn boundaries_do_not_repeat() {
        assert_ne!(MultipartWriter::new("a/b").boundary, MultipartWriter::new("a/b").boundary);
    }

    #[test]
    fn what_is_written_is_read_back_and_has_the_stated_length() {
        for count in [0, 1, 3] {
            let heads: Vec<_> = (0..count).map(|n| head("a/b", Some("/x"), Some(n))).collect();
            let writer = MultipartWriter::new("a/b");
            let (content_type, length) = (writer.content_type().to_owned(), writer.length_of(&heads));
            let parts = heads.into_iter().map(|head| {
                let bytes = Bytes::from(vec![b'-'; usize::try_from(head.length.unwrap()).unwrap()]);
                Ok(OutgoingPart { head, body: stream::iter([Ok(Bytes::new()), Ok(bytes)]) })
            });
            let body = MultipartBody::new(writer, stream::iter(parts));
            let chunks: Vec<_> = body.map(Result::unwrap).collect().now_or_never().unwrap();
            assert_eq!(length, Some(chunks.concat().len() as u64));
            let run = async {
                let body = stream::iter(chunks.into_iter().map(Ok::<_, Error>));
                let mut multipart = Multipart::new(&content_type, body).unwrap();
                let mut sizes = Vec::new();
                while let Some(mut part) = multipart.next_part().await.unwrap() {
                    let mut size = 0;
                    while let Some(chunk) = part.next_chunk().await.unwrap() {
                        size += chunk.len() as u64;
                    }
                    sizes.push(size);
                }
                sizes
            };
            assert_eq!(run.now_or_never().unwrap(), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_leaves_the_body_without_its_end() {
        let parts = stream::iter([
            Ok(OutgoingPart { head: head("a/b", None, None), body: stream::iter([Err(Error::internal("lost"))]) }),
            Ok(OutgoingPart { head: head("a/b", None, None), body: stream::iter([Ok(Bytes::from_static(b"x"))]) }),
        ]);
        let body: Vec<_> = MultipartBody::new(MultipartWriter::new("a/b"), parts).collect().now_or_never().unwrap();
        assert_eq!(body.len(), 2);
        assert!(body[1].is_err());
    }
}
