//! [`ErrorKind`] on HTTP: status, headers and a body of `application/problem+json` (RFC 9457, PS3.18 8.5).
//!
//! A 4xx tells the client what was wrong. A 5xx tells nothing but the id of the request, under which the log has the cause,
//! and which instance it is whose bytes are lost: who asked for a whole study could not find out.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::error::{Error, ErrorKind};

/// The media type of error bodies.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// After so many seconds a client may try again.
const RETRY_AFTER_SECONDS: &str = "5";

/// The status of a kind of error.
#[must_use]
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        // Nobody reads the answer to a client that went away.
        ErrorKind::BadRequest | ErrorKind::ClientGone => StatusCode::BAD_REQUEST,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Gone => StatusCode::GONE,
        ErrorKind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Configuration | ErrorKind::Lost | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An [`Error`] as the answer to a request. Handlers return it; `?` converts.
pub struct HttpError {
    error: Error,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The result of a handler.
pub type HttpResult<T = HttpResponse> = Result<T, HttpError>;

impl HttpError {
    /// An answer to a method that the resource does not have; `allow` lists those that it has.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        let message = format!("the resource does not have this method; it has {allow}");
        Self::from(Error::new(ErrorKind::MethodNotAllowed, message)).with_header(ALLOW, allow)
    }

    /// The same with one more header; a value that cannot be one is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// The error itself.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The answer, with the id of the request if it is known.
    #[must_use]
    pub fn response(&self, request_id: Option<&str>) -> HttpResponse {
        let status = status(self.error.kind());
        let mut problem = json!({
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.detail(status, request_id),
        });
        if let (Some(id), Some(fields)) = (request_id, problem.as_object_mut()) {
            fields.insert("requestId".to_owned(), id.into());
        }
        let mut response = HttpResponse::build(status);
        response.content_type(PROBLEM_JSON).insert_header((CACHE_CONTROL, "no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        response.body(problem.to_string())
    }

    fn detail(&self, status: StatusCode, request_id: Option<&str>) -> String {
        if !status.is_server_error() {
            return self.error.message().to_owned();
        }
        let what = match self.error.kind() {
            ErrorKind::Unavailable => "the archive is unavailable at the moment; try again later",
            ErrorKind::Lost => self.error.message(),
            _ => "the server failed",
        };
        match request_id {
            Some(id) => format!("{what}; the log of the server has the cause under request `{id}`"),
            None => what.to_owned(),
        }
    }

    /// Writes the error to the log, once, where it is answered.
    ///
    /// Messages of 4xx errors quote what the client sent, which may name a patient, so only their kind is written.
    pub fn log(&self, request_id: &str) {
        let kind = self.error.kind();
        if status(kind).is_server_error() {
            tracing::error!(request_id, ?kind, error = ?self.error, "request failed");
        } else if kind == ErrorKind::ClientGone {
            tracing::info!(request_id, "client went away");
        } else {
            tracing::debug!(request_id, ?kind, "request refused");
        }
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self { error, headers: Vec::new() }
    }
}

impl fmt::Debug for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for HttpError {
    fn status_code(&self) -> StatusCode {
        status(self.error.kind())
    }

    fn error_response(&self) -> HttpResponse {
        self.response(None)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use futures_util::FutureExt;

    use super::*;

    fn body(response: HttpResponse) -> serde_json::Value {
        let bytes = to_bytes(response.into_body()).now_or_never().unwrap().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_client_error_tells_what_was_wrong() {
        let response = HttpError::from(Error::bad_request("the limit `x` is no number")).response(Some("r1"));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers().get("content-type").unwrap(), PROBLEM_JSON);
        let problem = body(response);
        assert_eq!(problem["title"], "Bad Request");
        assert_eq!(problem["status"], 400);
        assert_eq!(problem["detail"], "the limit `x` is no number");
        assert_eq!(problem["requestId"], "r1");
    }

    #[test]
    fn a_server_error_tells_nothing_but_where_to_look() {
        let error = Error::internal("row 7 of table x is broken").caused_by("secret");
        let problem = body(HttpError::from(error).response(Some("r1")));
        assert_eq!(problem["detail"], "the server failed; the log of the server has the cause under request `r1`");
        let error = Error::new(ErrorKind::Lost, "the object of `1.2` is missing").caused_by("secret");
        let response = HttpError::from(error).response(Some("r1"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let detail = "the object of `1.2` is missing; the log of the server has the cause under request `r1`";
        assert_eq!(body(response)["detail"], detail);
        let error = Error::unavailable("postgres://user:password@host is away", "refused");
        let response = HttpError::from(error).response(None);
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), RETRY_AFTER_SECONDS);
        assert_eq!(body(response)["detail"], "the archive is unavailable at the moment; try again later");
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let response = HttpError::method_not_allowed("GET, HEAD").error_response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, HEAD");
    }
}
