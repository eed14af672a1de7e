//! HTTP by hand: bytes on a socket and what comes back, for requests that no client would send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::support::binary::number;

/// How long a server may take for anything here on a busy machine; a hanging one fails the test and not the run.
const PATIENCE: Duration = Duration::from_mins(2);

/// A connection to a server.
pub struct Raw {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// What was read and is not used yet.
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Default)]
pub struct RawAnswer {
    /// HTTP status; 0 when the connection ended without an answer.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Raw {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Self {
        let (reader, writer) = TcpStream::connect(address).await.unwrap().into_split();
        Self { reader, writer, read: Vec::new() }
    }

    /// Sends bytes in these pieces and reads one answer, which may come before all of them are sent. With `half_close`
    /// nothing more is sent afterwards.
    pub async fn exchange(&mut self, pieces: &[&[u8]], half_close: bool) -> RawAnswer {
        let Self { reader, writer, read } = self;
        let send = async {
            for piece in pieces {
                // a server that has refused may have closed
                if writer.write_all(piece).await.is_err() {
                    return;
                }
            }
            if half_close {
                let _ = writer.shutdown().await;
            }
        };
        let receive = answer(reader, read);
        let both = async {
            tokio::pin!(send, receive);
            tokio::select! {
                answer = &mut receive => answer,
                () = &mut send => receive.await,
            }
        };
        timeout(PATIENCE, both).await.expect("an answer in time")
    }

    /// Sends bytes; false when the other side is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok()
    }

    /// Sends a byte whenever none has come back for a moment, until an answer or the end comes.
    pub async fn drip(&mut self, byte: u8, moment: Duration) -> RawAnswer {
        let Self { reader, writer, read } = self;
        let receive = answer(reader, read);
        let dripping = async {
            tokio::pin!(receive);
            loop {
                match timeout(moment, &mut receive).await {
                    Ok(answer) => return answer,
                    // the answer tells that it is gone
                    Err(_) => drop(writer.write_all(&[byte]).await),
                }
            }
        };
        timeout(PATIENCE, dripping).await.expect("an answer in time")
    }

    /// Whether the server closes the connection, whatever it still sends before.
    pub async fn closes(mut self) -> bool {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.reader.read_to_end(&mut rest)).await.is_ok()
    }
}

impl RawAnswer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Whether the server says that the connection goes on.
    pub fn keeps_alive(&self) -> bool {
        self.status != 0 && self.header("connection") != Some("close") && !self.head.starts_with("http/1.0")
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(400).collect()
    }

    /// The failure reasons of an answer to storing; none for other bodies.
    pub fn failure_reasons(&self) -> Vec<u16> {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let items = ["00081198", "0008119A"].map(|tag| json[tag]["Value"].as_array().cloned().unwrap_or_default());
        items.iter().flatten().map(|item| u16::try_from(number(item, "00081197")).unwrap()).collect()
    }
}

/// Reads one answer; interim ones are passed over.
async fn answer(reader: &mut OwnedReadHalf, read: &mut Vec<u8>) -> RawAnswer {
    loop {
        let Some(end) = fill(reader, read, |read| memchr::memmem::find(read, b"\r\n\r\n").map(|at| at + 4)).await
        else {
            return RawAnswer::default();
        };
        let head: Vec<u8> = read.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut found = RawAnswer { status, head, body: Vec::new() };
        if status / 100 == 1 {
            continue;
        }
        let length = found.header("content-length").and_then(|length| length.parse::<usize>().ok());
        if let Some(length) = length {
            // a body that is cut off shows by its length
            let _ = fill(reader, read, |read| (read.len() >= length).then_some(length)).await;
            found.body = read.drain(..length.min(read.len())).collect();
        } else if found.header("transfer-encoding") == Some("chunked") {
            let end = fill(reader, read, |read| memchr::memmem::find(read, b"\r\n0\r\n\r\n").map(|at| at + 7)).await;
            found.body = read.drain(..end.unwrap_or(read.len())).collect();
        }
        return found;
    }
}

/// Reads until something is there; `None` when the connection ends before.
async fn fill(reader: &mut OwnedReadHalf, read: &mut Vec<u8>, there: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    loop {
        if let Some(found) = there(read) {
            return Some(found);
        }
        match reader.read_buf(read).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
