//! Reads a multipart body part by part without holding any of them.
//!
//! Liberal where the content stays unambiguous: quoted or bare boundary, preamble and epilogue, transport padding, the
//! first delimiter without a line end before it, parts without headers, LF instead of CRLF when the first delimiter
//! ends so. A body that ends without its closing delimiter is an error: a truncated upload must not look complete.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use memchr::memmem::Finder;

use crate::error::{Error, ErrorKind, Result};
use crate::http::multipart::headers::{PartHeaders, add_header, boundary_of};

/// What a body may cost before it is refused.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the headers of one part.
    pub header_bytes: usize,
    /// Headers of one part.
    pub headers: usize,
    /// Bytes before the first delimiter.
    pub preamble_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header_bytes: 16 << 10, headers: 64, preamble_bytes: 64 << 10 }
    }
}

/// Blanks tolerated after a delimiter (transport padding).
const LONGEST_PADDING: usize = 256;
/// How much of what follows the closing delimiter is read, so that the connection can be used again.
const LONGEST_EPILOGUE: usize = 64 << 10;
/// How much of the next chunk is put behind the held end of the one before, so that a delimiter across both is seen.
const JOIN: usize = 1 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble { line_start: bool },
    /// After a delimiter line.
    Headers,
    /// In the data of a part; `start` until its first byte was looked at.
    Data { start: bool },
    /// After the closing delimiter.
    Epilogue,
    /// At the end of the body, or after an error.
    End,
}

/// What follows the text of a delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// A line end: a part follows. So many bytes, and whether it was a bare LF.
    Part { length: usize, bare: bool },
    /// The closing delimiter.
    Close,
    /// Something else: it was data that looks like a delimiter.
    Data,
    /// Not to be said without more bytes.
    Unknown,
}

/// A multipart body being read.
pub struct Multipart<S> {
    body: S,
    limits: Limits,
    /// `\r\n--boundary`.
    finder: Finder<'static>,
    boundary: String,
    /// Line ends are LF: the first delimiter line ended so.
    bare: bool,
    state: State,
    /// Bytes not looked at yet, and what follows them before the body is asked again.
    buffer: Bytes,
    rest: Bytes,
    ended: bool,
    received: u64,
    skipped: usize,
    parts: u64,
    /// The headers of the part that have come, and the bytes of their lines.
    fields: Vec<(String, String)>,
    header_bytes: usize,
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Multipart<S> {
    /// Starts to read a body of this Content-Type.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedMediaType`] when it is no multipart type, [`ErrorKind::BadRequest`] without a usable boundary.
    pub fn new(content_type: &str, body: S) -> Result<Self> {
        Ok(Self::with_boundary(boundary_of(content_type)?, body))
    }

    fn with_boundary(boundary: String, body: S) -> Self {
        let finder = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        Self {
            body,
            limits: Limits::default(),
            finder,
            boundary,
            bare: false,
            state: State::Preamble { line_start: true },
            buffer: Bytes::new(),
            rest: Bytes::new(),
            ended: false,
            received: 0,
            skipped: 0,
            parts: 0,
            fields: Vec::new(),
            header_bytes: 0,
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Bytes received from the client so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Parts begun so far.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.parts
    }

    /// The next part; what is left of the one before is read and dropped. `None` after the last one, and for a body
    /// without a single byte ([`Multipart::parts`] tells whether there was any).
    ///
    /// # Errors
    /// A body that is truncated or not multipart, part headers over the limits, or what the body itself reports.
    pub async fn next_part(&mut self) -> Result<Option<Part<'_, S>>> {
        while self.next_chunk().await?.is_some() {}
        let headers = std::future::poll_fn(|context| self.poll_headers(context)).await?;
        Ok(headers.map(|headers| Part { headers, multipart: self }))
    }

    /// More data of the current part, `None` at its end.
    ///
    /// # Errors
    /// As [`Multipart::next_part`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// More data of the current part, `None` at its end.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let State::Data { start } = self.state else { return Poll::Ready(Ok(None)) };
            match self.scan_data(start) {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => return Poll::Ready(Ok(Some(chunk))),
                None => {
                    let filled = ready!(self.poll_fill(context));
                    self.need(filled)?;
                }
            }
        }
    }

    fn poll_headers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<PartHeaders>>> {
        loop {
            let progress = match self.state {
                // `next_part` has read the data before.
                State::End | State::Data { .. } => return Poll::Ready(Ok(None)),
                State::Epilogue => {
                    ready!(self.poll_epilogue(context));
                    continue;
                }
                State::Preamble { line_start } => self.scan_preamble(line_start),
                State::Headers => match self.scan_headers() {
                    Ok(Some(headers)) => return Poll::Ready(Ok(Some(headers))),
                    Ok(None) => Ok(false),
                    Err(error) => Err(error),
                },
            };
            match progress {
                Ok(true) => {}
                Ok(false) => {
                    let filled = ready!(self.poll_fill(context));
                    if self.ended && self.received == 0 && filled.is_ok() {
                        self.state = State::End;
                    } else {
                        self.need(filled)?;
                    }
                }
                Err(error) => {
                    self.state = State::End;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Reads what follows the closing delimiter and drops it; what happens there changes nothing any more.
    fn poll_epilogue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.buffer.clear();
        loop {
            self.skipped = self.skipped.saturating_add(self.rest.len());
            self.rest.clear();
            if self.ended || self.skipped > LONGEST_EPILOGUE {
                break;
            }
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(_)) | None => self.ended = true,
            }
        }
        self.state = State::End;
        Poll::Ready(())
    }

    /// Checks what a fill brought: an error, or an end where more had to come.
    fn need(&mut self, filled: Result<bool>) -> Result<()> {
        let error = match filled {
            Ok(true) => return Ok(()),
            // A closing delimiter right at the end of the body is decided by that end.
            Ok(false) if self.close_at_end() => return Ok(()),
            Ok(false) if matches!(self.state, State::Preamble { .. }) => {
                Error::bad_request(format!("the body has no delimiter `--{}`", self.boundary))
            }
            Ok(false) => Error::bad_request(format!(
                "the body is truncated: it ends before the closing delimiter `--{}--`",
                self.boundary
            )),
            Err(error) => error,
        };
        self.state = State::End;
        Err(error)
    }

    /// Whether the held bytes are decided now that the body has ended.
    fn close_at_end(&mut self) -> bool {
        let delimiter = match self.state {
            State::Preamble { line_start: true } | State::Data { start: true } => &self.finder.needle()[2..],
            State::Data { .. } if self.bare => &self.finder.needle()[1..],
            State::Data { .. } => self.finder.needle(),
            State::Preamble { .. } | State::Headers | State::Epilogue | State::End => return false,
        };
        let closed = self.buffer.strip_prefix(delimiter).is_some_and(|tail| tail == b"--");
        if closed {
            self.state = State::End;
        }
        closed
    }

    /// Puts more bytes behind those that are held. `false` at the end of the body.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<bool>> {
        while self.rest.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(false));
            }
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(chunk)) => {
                    self.received = self.received.saturating_add(chunk.len() as u64);
                    self.rest = chunk;
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(error));
                }
                None => self.ended = true,
            }
        }
        if self.buffer.is_empty() {
            self.buffer = std::mem::take(&mut self.rest);
        } else {
            let joined = self.rest.split_to(self.rest.len().min(JOIN.max(self.buffer.len())));
            let mut buffer = BytesMut::with_capacity(self.buffer.len() + joined.len());
            buffer.extend_from_slice(&self.buffer);
            buffer.extend_from_slice(&joined);
            self.buffer = buffer.freeze();
        }
        Poll::Ready(Ok(true))
    }

    /// Data up to the next delimiter, possibly none; `None` when more bytes are needed to say anything.
    fn scan_data(&mut self, start: bool) -> Option<Bytes> {
        if self.buffer.is_empty() {
            return None;
        }
        if start {
            // An empty part: the line end after its headers is also the one of the delimiter (RFC 2046 5.1.1).
            match starts_with(&self.buffer, &self.finder.needle()[2..]) {
                Some(true) => match tail(&self.buffer[self.finder.needle().len() - 2..], self.bare) {
                    Tail::Unknown => return None,
                    Tail::Data => {}
                    found => return self.take_delimiter(0, self.finder.needle().len() - 2, found),
                },
                Some(false) => {}
                None => return None,
            }
            self.state = State::Data { start: false };
        }
        let skip = usize::from(self.bare);
        let mut from = 0;
        while let Some(found) = self.find(from) {
            let length = self.finder.needle().len() - skip;
            match tail(&self.buffer[found + length..], self.bare) {
                Tail::Unknown => return self.take_data(found),
                Tail::Data => from = found + 1,
                delimiter => return self.take_delimiter(found, length, delimiter),
            }
        }
        self.take_data(self.held_from(from))
    }

    fn find(&self, from: usize) -> Option<usize> {
        let haystack = &self.buffer[from..];
        let found = if self.bare {
            memchr::memmem::find(haystack, &self.finder.needle()[1..])
        } else {
            self.finder.find(haystack)
        };
        found.map(|at| from + at)
    }

    /// Where the end of the buffer begins to look like a delimiter.
    fn held_from(&self, from: usize) -> usize {
        let delimiter = &self.finder.needle()[usize::from(self.bare)..];
        let window = self.buffer.len().saturating_sub(delimiter.len() - 1).max(from);
        memchr::memchr_iter(delimiter[0], &self.buffer[window..])
            .map(|at| window + at)
            .find(|&at| delimiter.starts_with(&self.buffer[at..]))
            .unwrap_or(self.buffer.len())
    }

    fn take_data(&mut self, length: usize) -> Option<Bytes> {
        (length > 0).then(|| self.buffer.split_to(length))
    }

    /// Takes the data before a delimiter and the delimiter itself.
    #[allow(clippy::unnecessary_wraps, reason = "the callers return it as it is")]
    fn take_delimiter(&mut self, at: usize, length: usize, tail: Tail) -> Option<Bytes> {
        let data = self.buffer.split_to(at);
        self.buffer.advance(length);
        self.after_delimiter(tail);
        Some(data)
    }

    fn after_delimiter(&mut self, tail: Tail) {
        if let Tail::Part { length, .. } = tail {
            self.buffer.advance(length);
            self.state = State::Headers;
        } else {
            self.state = State::Epilogue;
            self.skipped = 0;
        }
    }

    /// Looks for the first delimiter. `true` when it was found.
    fn scan_preamble(&mut self, mut line_start: bool) -> Result<bool> {
        loop {
            if line_start {
                let delimiter = &self.finder.needle()[2..];
                match starts_with(&self.buffer, delimiter) {
                    Some(true) => match tail(&self.buffer[delimiter.len()..], true) {
                        Tail::Unknown => return Ok(false),
                        Tail::Data => {}
                        found => {
                            self.buffer.advance(self.finder.needle().len() - 2);
                            self.bare = matches!(found, Tail::Part { bare: true, .. });
                            self.after_delimiter(found);
                            return Ok(true);
                        }
                    },
                    Some(false) => {}
                    None => return Ok(false),
                }
            }
            let line = memchr::memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |at| at + 1);
            line_start = line > 0 && self.buffer[line - 1] == b'\n';
            self.skipped = self.skipped.saturating_add(line);
            self.buffer.advance(line);
            self.state = State::Preamble { line_start };
            if self.skipped > self.limits.preamble_bytes {
                return Err(Error::bad_request(format!(
                    "the body has no delimiter `--{}` in its first {} bytes",
                    self.boundary, self.limits.preamble_bytes
                )));
            }
            if self.buffer.is_empty() {
                return Ok(false);
            }
        }
    }

    /// The headers of a part once all of them are there. Each line is taken as it comes, so that headers in many small pieces
    /// cost no more than whole ones.
    fn scan_headers(&mut self) -> Result<Option<PartHeaders>> {
        while let Some(end) = memchr::memchr(b'\n', &self.buffer) {
            self.header_bytes = self.header_bytes.saturating_add(end + 1);
            if self.header_bytes > self.limits.header_bytes {
                break;
            }
            let line = self.buffer.split_to(end + 1);
            let line = &line[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                self.header_bytes = 0;
                self.state = State::Data { start: true };
                self.parts += 1;
                return Ok(Some(PartHeaders { fields: std::mem::take(&mut self.fields) }));
            }
            add_header(&mut self.fields, line)?;
            if self.fields.len() > self.limits.headers {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("a part has more than {} headers", self.limits.headers),
                ));
            }
        }
        if self.header_bytes.saturating_add(self.buffer.len()) > self.limits.header_bytes {
            let message = format!("the headers of a part are longer than {} bytes", self.limits.header_bytes);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(None)
    }
}

/// Whether the buffer starts with a text; `None` while it is a shorter beginning of it.
fn starts_with(buffer: &[u8], text: &[u8]) -> Option<bool> {
    if buffer.len() < text.len() && text.starts_with(buffer) { None } else { Some(buffer.starts_with(text)) }
}

/// What follows a delimiter: `--`, or blanks and a line end (RFC 2046 5.1.1); anything else makes it data.
fn tail(bytes: &[u8], bare: bool) -> Tail {
    if let Some(after) = bytes.strip_prefix(b"--") {
        return match after.first() {
            Some(b' ' | b'\t' | b'\r' | b'\n') => Tail::Close,
            Some(_) => Tail::Data,
            None => Tail::Unknown,
        };
    }
    let padding = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match &bytes[padding..] {
        _ if padding > LONGEST_PADDING => Tail::Data,
        [b'\r', b'\n', ..] => Tail::Part { length: padding + 2, bare: false },
        [b'\n', ..] if bare => Tail::Part { length: padding + 1, bare: true },
        [] | [b'\r'] => Tail::Unknown,
        [b'-'] if padding == 0 => Tail::Unknown,
        _ => Tail::Data,
    }
}

/// One part: its headers, and its data as a stream.
pub struct Part<'a, S> {
    headers: PartHeaders,
    multipart: &'a mut Multipart<S>,
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Part<'_, S> {
    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &PartHeaders {
        &self.headers
    }

    /// More of its data, `None` at its end.
    ///
    /// # Errors
    /// As [`Multipart::next_part`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        self.multipart.next_chunk().await
    }
}

impl<S: Stream<Item = Result<Bytes>> + Unpin> Stream for Part<'_, S> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.multipart.poll_chunk(context).map(Result::transpose)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
