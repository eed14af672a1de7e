//! Connections of clients: one that stops reading is cut, so that it cannot hold an answer for ever, and so is one on which no
//! request is under way for long, whatever it sends meanwhile.

use std::cell::Cell;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::Protocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::http::stall::Stall;

/// How HTTP/2 without TLS begins (RFC 9113 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";

/// Where the server listens: data of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address that it got.
    pub address: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// How patient a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// With a client that has said nothing yet.
    pub(crate) first_byte: Duration,
    /// With one that reads nothing of what is written to it.
    pub(crate) idle: Duration,
    /// With one that has no request under way.
    pub(crate) between: Duration,
}

/// Which requests of a connection are under way.
#[derive(Debug)]
pub(crate) struct Activity {
    requests: Cell<u32>,
    /// When the last one ended.
    ended: Cell<Instant>,
}

impl Activity {
    /// A request begins, and ends when what is returned is dropped.
    pub(crate) fn begin(self: &Rc<Self>) -> UnderWay {
        self.requests.set(self.requests.get().saturating_add(1));
        UnderWay(Rc::clone(self))
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Rc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get().saturating_sub(1));
        self.0.ended.set(Instant::now());
    }
}

/// A TCP connection whose writes must go on, and that must have requests.
///
/// The protocol below watches the head of the first request alone; later ones could take for ever to come, and so could what is
/// left of a chunked body that was refused.
pub(crate) struct Connection {
    stream: TcpStream,
    stall: Stall,
    activity: Rc<Activity>,
    between: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Connection {
    /// Takes a connection and finds out which protocol it speaks.
    pub(crate) async fn accept(stream: TcpStream, patience: Patience) -> io::Result<(Self, Protocol)> {
        stream.set_nodelay(true)?;
        let mut start = [0; HTTP2_PREFACE.len()];
        let peeked =
            timeout(patience.first_byte, stream.peek(&mut start)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        // No method of HTTP/1 begins like the preface.
        let http2 = peeked > 2 && HTTP2_PREFACE.starts_with(&start[..peeked]);
        let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        let now = Instant::now();
        let activity = Rc::new(Activity { requests: Cell::new(0), ended: Cell::new(now) });
        let (stall, between) = (Stall::new(patience.idle), patience.between);
        let timer = Box::pin(sleep_until(now + between));
        Ok((Self { stream, stall, activity, between, timer }, protocol))
    }

    /// What its requests tell it that they begin and end.
    pub(crate) fn activity(&self) -> Rc<Activity> {
        Rc::clone(&self.activity)
    }

    /// Ready when no request has been under way for too long.
    fn poll_forsaken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let since = if self.activity.requests.get() > 0 { now } else { self.activity.ended.get() };
            if since + self.between <= now {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(since + self.between);
        }
        Poll::Pending
    }

    /// Passes a write through, and gives up when it waits for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall.clear();
            return written;
        }
        self.stall.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_forsaken(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(first: &[u8]) -> (TcpStream, io::Result<(Connection, Protocol)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(first).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let short = Duration::from_millis(20);
        let patience = Patience { first_byte: short, idle: short, between: short };
        (client, Connection::accept(stream, patience).await)
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_cut_whatever_it_sends() {
        let (mut client, accepted) = pair(b"GET").await;
        let (mut connection, _) = accepted.unwrap();
        let mut read = [0; 8];
        let request = connection.activity().begin();
        assert_eq!(connection.read(&mut read).await.unwrap(), 3);
        let waited = timeout(Duration::from_millis(60), connection.read(&mut read)).await;
        assert!(waited.is_err(), "a request is under way: nothing comes, and no error");
        drop(request);
        let error = loop {
            client.write_all(b"x").await.unwrap();
            if let Err(error) = connection.read(&mut read).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_tells_its_protocol_by_its_first_bytes() {
        assert_eq!(pair(b"GET / HTTP/1.1\r\n").await.1.unwrap().1, Protocol::Http1);
        assert_eq!(pair(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.1.unwrap().1, Protocol::Http2);
        assert_eq!(pair(b"P").await.1.unwrap().1, Protocol::Http1);
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_cut() {
        assert_eq!(pair(b"").await.1.err().unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_is_cut() {
        let (client, accepted) = pair(b"GET").await;
        let (mut connection, _) = accepted.unwrap();
        let endless = vec![0; 64 << 20];
        let error = connection.write_all(&endless).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
