//! The one error type: a kind to branch on, a message for the client, a source for the log.
//!
//! Each protocol maps [`ErrorKind`] to its own status in one exhaustive match
//! (`http/error.rs`, `dicomweb/store_response.rs`), so a new kind does not compile until all have an answer.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// What a caller can do about an error. Knows no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or asks for something that cannot be.
    BadRequest,
    /// A page of a foreign origin tried to change something.
    Forbidden,
    /// The resource does not exist.
    NotFound,
    /// The resource was deleted.
    Gone,
    /// None of the representations that the client accepts can be made.
    NotAcceptable,
    /// The method is not allowed on this resource.
    MethodNotAllowed,
    /// The client did not finish its request in time.
    RequestTimeout,
    /// The request conflicts with what is stored.
    Conflict,
    /// The request or a part of it is over a limit.
    TooLarge,
    /// The payload is of a type that is not supported.
    UnsupportedMediaType,
    /// The request was made for another host.
    Misdirected,
    /// The database, the object store or a resource is unavailable or full; it may work later.
    Unavailable,
    /// The client went away; nobody reads the answer.
    ClientGone,
    /// The settings are wrong; raised at start only.
    Configuration,
    /// The object store answers, but has lost bytes of what the index has. The message names the instance where that is known.
    Lost,
    /// A defect or a damaged archive.
    Internal,
}

type Source = Box<dyn StdError + Send + Sync>;

/// An error with a message that may be shown to the client.
///
/// The message is lower case without a full stop, names the offending parameter in backticks and says what would be accepted.
/// It never holds dataset values.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a source.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// The same error, with the cause that goes to the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A malformed request.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// A resource that does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A back end that is away or full; `message` names which, the source says why.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, source: impl Into<Source>) -> Self {
        Self::new(ErrorKind::Unavailable, message).caused_by(source)
    }

    /// Settings that cannot work; `message` says what to do.
    pub fn configuration(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// The object store answers, but has lost bytes.
    pub fn lost(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Lost, message)
    }

    /// A defect or damage; `message` goes to the log only.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The kind to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
