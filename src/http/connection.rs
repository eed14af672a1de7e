//! Connections of clients: a client that stops reading is cut, so that it cannot hold an answer for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::Protocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

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

/// A TCP connection whose writes must go on.
pub(crate) struct Connection {
    stream: TcpStream,
    stall: Stall,
}

impl Connection {
    /// Takes a connection and finds out which protocol it speaks.
    pub(crate) async fn accept(
        stream: TcpStream,
        first_byte: Duration,
        idle: Duration,
    ) -> io::Result<(Self, Protocol)> {
        stream.set_nodelay(true)?;
        let mut start = [0; HTTP2_PREFACE.len()];
        let peeked = timeout(first_byte, stream.peek(&mut start)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        // No method of HTTP/1 begins like the preface.
        let http2 = peeked > 2 && HTTP2_PREFACE.starts_with(&start[..peeked]);
        let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        Ok((Self { stream, stall: Stall::new(idle) }, protocol))
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
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(first: &[u8]) -> (TcpStream, io::Result<(Connection, Protocol)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(first).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (client, Connection::accept(stream, Duration::from_millis(20), Duration::from_millis(20)).await)
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
