//! Request bodies on their way in: counted, limited, cut when they stand still.

use std::cell::Cell;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::{FromRequest, HttpRequest};
use bytes::Bytes;
use futures_util::Stream;

use crate::error::{Error, ErrorKind, Result};
use crate::http::stall::{Pace, Watch};

/// The body of a request as a stream: what a handler takes to read it.
pub struct Body(Payload);

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(_: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(payload.take())))
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context).map(|item| item.map(|chunk| chunk.map_err(error)))
    }
}

/// What can go wrong while a body arrives.
fn error(error: PayloadError) -> Error {
    match error {
        PayloadError::EncodingCorrupted => {
            Error::bad_request("the body is not in the encoding that its headers name").caused_by(error)
        }
        PayloadError::Overflow => too_large(),
        PayloadError::UnknownLength => Error::bad_request("the length of the body is not known"),
        PayloadError::Io(ref cause) if cause.kind() == io::ErrorKind::TimedOut => Error::new(
            ErrorKind::RequestTimeout,
            "the body came too slowly, took too long, or did not come at all for too long",
        ),
        // `Incomplete`, a broken connection, a reset stream.
        other => Error::new(ErrorKind::ClientGone, "the client went away").caused_by(other.to_string()),
    }
}

/// The answer to a request whose body is over the limit.
pub(crate) fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "the body is larger than a request may be; send it in several requests")
}

/// What is known of a body while and after it is read.
#[derive(Default)]
pub(crate) struct Progress {
    received: Cell<u64>,
    ended: Cell<bool>,
}

impl Progress {
    /// Bytes that arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether all of it was read.
    pub(crate) fn ended(&self) -> bool {
        self.ended.get()
    }
}

/// A body as it comes from the connection, under its limits.
pub(crate) struct Watched {
    payload: Payload,
    progress: Rc<Progress>,
    most: u64,
    /// Time in which nobody reads does not count against the client.
    watch: Watch,
}

impl Watched {
    /// Puts a body under limits. A request without one stays as it is.
    pub(crate) fn wrap(payload: Payload, most: u64, pace: Pace) -> (Payload, Rc<Progress>) {
        let progress = Rc::new(Progress::default());
        if matches!(payload, Payload::None) {
            progress.ended.set(true);
            return (payload, progress);
        }
        let watched = Self { payload, progress: Rc::clone(&progress), most, watch: Watch::new(pace) };
        (Payload::Stream { payload: Box::pin(watched) }, progress)
    }
}

impl Stream for Watched {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Poll::Ready(item) = Pin::new(&mut this.payload).poll_next(context) else {
            return this.watch.poll(context).map(|()| Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))));
        };
        this.watch.moved(item.as_ref().and_then(|item| item.as_ref().ok()).map_or(0, |chunk| chunk.len() as u64));
        match &item {
            Some(Ok(chunk)) => {
                let received = this.progress.received().saturating_add(chunk.len() as u64);
                this.progress.received.set(received);
                if received > this.most {
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
            }
            Some(Err(_)) => {}
            None => this.progress.ended.set(true),
        }
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{StreamExt, stream};

    use super::*;

    fn payload(chunks: Vec<&'static [u8]>, then_stall: bool) -> Payload {
        let chunks = stream::iter(chunks).map(|chunk| Ok(Bytes::from_static(chunk)));
        let rest = if then_stall { stream::pending().boxed_local() } else { stream::empty().boxed_local() };
        Payload::Stream { payload: Box::pin(chunks.chain(rest)) }
    }

    fn pace(idle: Duration) -> Pace {
        Pace { idle, least_rate: 0, window: idle, longest: Duration::from_mins(1) }
    }

    #[test]
    fn errors_of_a_body_have_their_kinds() {
        let io = |kind: io::ErrorKind| PayloadError::Io(kind.into());
        let cases = [
            (PayloadError::Incomplete(None), ErrorKind::ClientGone),
            (io(io::ErrorKind::ConnectionReset), ErrorKind::ClientGone),
            (io(io::ErrorKind::TimedOut), ErrorKind::RequestTimeout),
            (PayloadError::Overflow, ErrorKind::TooLarge),
            (PayloadError::EncodingCorrupted, ErrorKind::BadRequest),
            (PayloadError::UnknownLength, ErrorKind::BadRequest),
        ];
        for (cause, kind) in cases {
            assert_eq!(error(cause).kind(), kind);
        }
    }

    #[tokio::test]
    async fn a_body_is_counted_to_its_end() {
        let (payload, progress) = Watched::wrap(payload(vec![b"abc", b"de"], false), 5, pace(Duration::from_secs(9)));
        let chunks: Vec<_> = Body(payload).map(Result::unwrap).collect().await;
        assert_eq!(chunks.concat(), b"abcde");
        assert_eq!((progress.received(), progress.ended()), (5, true));
        assert!(Watched::wrap(Payload::None, 0, pace(Duration::ZERO)).1.ended());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let (payload, progress) = Watched::wrap(payload(vec![b"abc", b"de"], false), 4, pace(Duration::from_secs(9)));
        let last = Body(payload).skip(1).next().await.unwrap();
        assert_eq!(last.expect_err("too large").kind(), ErrorKind::TooLarge);
        assert!(!progress.ended());
    }

    #[tokio::test]
    async fn a_body_that_stands_still_is_cut() {
        let (payload, _) = Watched::wrap(payload(vec![b"abc"], true), 9, pace(Duration::from_millis(1)));
        let mut body = Body(payload);
        assert!(body.next().await.unwrap().is_ok());
        assert_eq!(body.next().await.unwrap().expect_err("cut").kind(), ErrorKind::RequestTimeout);
    }
}
