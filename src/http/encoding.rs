//! Request bodies that come compressed (`Content-Encoding`, RFC 9110 8.4): decoded as they stream, in bounded memory.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use futures_util::Stream;

use crate::error::{Error, ErrorKind, Result};
use crate::http::body::too_large;

/// Compressed bytes that are decoded at a time: they may become a thousand times as many.
const SLICE_BYTES: usize = 1 << 10;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// By gzip.
    Gzip,
}

impl Encoding {
    /// Of a request.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedMediaType`] for any other (RFC 9110 15.5.16).
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let unsupported = || {
            let message = "the body has a `Content-Encoding` other than `gzip`; send it without or with that";
            Error::new(ErrorKind::UnsupportedMediaType, message)
        };
        let mut found = Self::Identity;
        for line in headers.get_all(CONTENT_ENCODING) {
            for coding in line.to_str().map_err(|_| unsupported())?.split(',').map(str::trim) {
                match coding.to_ascii_lowercase().as_str() {
                    "" | "identity" => {}
                    "gzip" | "x-gzip" if found == Self::Identity => found = Self::Gzip,
                    _ => return Err(unsupported()),
                }
            }
        }
        Ok(found)
    }
}

/// A body without its encoding.
pub enum Decoded<S> {
    /// As it came.
    Plain(S),
    /// Decoded on the way.
    Gzip(Box<Gzip<S>>),
}

impl<S> Decoded<S> {
    /// Decodes a body, which may come to at most so many bytes.
    pub fn new(body: S, encoding: Encoding, most: u64) -> Self {
        match encoding {
            Encoding::Identity => Self::Plain(body),
            Encoding::Gzip => {
                let decoder = Some(MultiGzDecoder::new(Vec::new()));
                Self::Gzip(Box::new(Gzip { body, decoder, compressed: Bytes::new(), left: most }))
            }
        }
    }
}

/// A gzip body being decoded.
pub struct Gzip<S> {
    body: S,
    /// None after the end.
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    compressed: Bytes,
    /// Bytes that may still come out.
    left: u64,
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Stream for Decoded<S> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::Plain(body) => Pin::new(body).poll_next(context),
            Self::Gzip(gzip) => gzip.poll(context).map(Result::transpose),
        }
    }
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Gzip<S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Poll::Ready(Ok(None)) };
            if self.compressed.is_empty() {
                let Some(chunk) = ready!(Pin::new(&mut self.body).poll_next(context)).transpose()? else {
                    let rest = self.decoder.take().map(MultiGzDecoder::finish).transpose().map_err(damaged)?;
                    return Poll::Ready(self.count(rest.unwrap_or_default()));
                };
                self.compressed = chunk;
                continue;
            }
            let slice = self.compressed.split_to(self.compressed.len().min(SLICE_BYTES));
            decoder.write_all(slice.chunk()).map_err(damaged)?;
            let plain = std::mem::take(decoder.get_mut());
            if !plain.is_empty() {
                return Poll::Ready(self.count(plain));
            }
        }
    }

    fn count(&mut self, plain: Vec<u8>) -> Result<Option<Bytes>> {
        self.left = self.left.checked_sub(plain.len() as u64).ok_or_else(too_large)?;
        Ok((!plain.is_empty()).then(|| plain.into()))
    }
}

fn damaged(error: std::io::Error) -> Error {
    Error::bad_request("the body is not valid gzip, as its `Content-Encoding` says it is, or it is truncated")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use actix_web::http::header::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::{TryStreamExt as _, stream};
    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    async fn decode(pieces: Vec<Vec<u8>>, most: u64) -> Result<Vec<u8>> {
        let body = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
        let chunks: Vec<Bytes> = Decoded::new(body, Encoding::Gzip, most).try_collect().await?;
        Ok(chunks.concat())
    }

    #[test]
    fn only_gzip_is_understood() {
        let cases = [
            (&[][..], Some(Encoding::Identity)),
            (&["identity"], Some(Encoding::Identity)),
            (&["GZip"], Some(Encoding::Gzip)),
            (&["identity, x-gzip"], Some(Encoding::Gzip)),
            (&["gzip", "gzip"], None),
            (&["br"], None),
            (&["deflate, gzip"], None),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            let found = Encoding::of(&headers);
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{lines:?}");
            assert!(found.is_ok() || found.is_err_and(|error| error.kind() == ErrorKind::UnsupportedMediaType));
        }
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back_however_it_is_cut(
            members in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 1..3),
            cut in 1_usize..5000,
        ) {
            let plain = members.concat();
            let compressed: Vec<u8> = members.iter().flat_map(|member| gzip(member)).collect();
            let pieces = compressed.chunks(cut).map(<[u8]>::to_vec).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(decode(pieces, plain.len() as u64)).unwrap(), plain);
        }
    }

    #[tokio::test]
    async fn a_truncated_or_damaged_body_is_refused() {
        let compressed = gzip(&vec![7; 100_000]);
        let mut wrong = compressed.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0xff;
        for body in [compressed[..compressed.len() - 1].to_vec(), wrong, b"not gzip at all".to_vec()] {
            let error = decode(vec![body], u64::MAX).await.expect_err("not whole");
            assert_eq!(error.kind(), ErrorKind::BadRequest);
        }
    }

    #[tokio::test]
    async fn a_bomb_is_cut_at_the_limit_and_never_held() {
        let bomb = gzip(&vec![0; 32 << 20]);
        assert!(bomb.len() < 200_000);
        let body = stream::iter([Ok(Bytes::from(bomb.clone()))]);
        let mut decoded = Decoded::new(body, Encoding::Gzip, u64::MAX);
        while let Some(chunk) = decoded.try_next().await.unwrap() {
            assert!(chunk.len() <= SLICE_BYTES * 1100, "{} bytes at once", chunk.len());
        }
        assert_eq!(decode(vec![bomb], 1 << 20).await.expect_err("too large").kind(), ErrorKind::TooLarge);
    }
}
