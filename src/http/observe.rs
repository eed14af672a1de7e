//! What happens around every request: it is admitted, gets an id, is counted and timed, and leaves one line in the log.
//!
//! The line tells method, route, status, duration, bytes and id; never the query string, which may name a patient.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse};
use bytes::Bytes;
use tracing::Instrument;

use crate::clock::Stopwatch;
use crate::error::{Error, ErrorKind};
use crate::http::body::{Progress, Watched};
use crate::http::connection::{Activity, UnderWay};
use crate::http::error::HttpError;
use crate::http::guard::Guard;
use crate::http::routes::{Matched, Permission, RouteMetrics};
use crate::http::stall::Pace;

/// The header of the id.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Rc<str>);

impl RequestId {
    /// The id that the client or a proxy gave, if it is sane; otherwise a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let sane = |text: &&str| {
            (1..=128).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(sane);
        Self(given.map_or_else(|| format!("{:016x}", rand::random::<u64>()).into(), Rc::from))
    }
}

/// What the observer knows for all requests of a worker.
pub(crate) struct Observer {
    pub(crate) guard: Guard,
    pub(crate) pace: Pace,
    /// Counts what no route took.
    pub(crate) unmatched: RouteMetrics,
}

/// Lets a request through and watches it to the last byte of its answer.
pub(crate) async fn observe(
    observer: Rc<Observer>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Observed>, actix_web::Error> {
    let id = RequestId::of(request.headers());
    let head_only = request.method() == Method::HEAD;
    let (payload, progress) = Watched::wrap(request.take_payload(), observer.guard.request_size, observer.pace);
    request.set_payload(payload);
    let mut record = Record {
        id: id.clone(),
        method: request.method().clone(),
        started: Stopwatch::start(),
        status: 0,
        progress,
        sent: 0,
        complete: false,
        matched: None,
        unmatched: observer.unmatched.clone(),
        _under_way: request.conn_data::<Rc<Activity>>().map(Activity::begin),
    };
    let admitted = observer.guard.admit(request.head());
    let response = if let Err(error) = admitted {
        request.into_response(answer(&error.into(), &id))
    } else {
        request.extensions_mut().insert(id.clone());
        let span = tracing::info_span!("request", id = &*id.0);
        let response = next.call(request).instrument(span).await?.map_into_boxed_body();
        record.matched = response.request().extensions_mut().remove::<Matched>();
        problem(response, &id)
    };
    Ok(finish(response, record, head_only))
}

/// Logs an error where it is answered.
fn answer(error: &HttpError, id: &RequestId) -> HttpResponse {
    error.log(&id.0);
    error.response(Some(&id.0))
}

/// An answer that is an error tells the id of the request.
fn problem(response: ServiceResponse<BoxBody>, id: &RequestId) -> ServiceResponse<BoxBody> {
    let Some(error) = response.response().error() else { return response };
    if let Some(error) = error.as_error::<HttpError>() {
        let answer = answer(error, id);
        return response.into_response(answer);
    }
    let status = response.status();
    // Of the framework itself: a query or a path that it could not read.
    let error = if status.is_server_error() {
        Error::internal("the framework failed").caused_by(error.to_string())
    } else {
        Error::bad_request("the request cannot be read")
    };
    let answer = answer(&error.into(), id);
    response.into_response(answer)
}

fn finish(mut response: ServiceResponse<BoxBody>, mut record: Record, head_only: bool) -> ServiceResponse<Observed> {
    record.status = response.status().as_u16();
    let head = response.response_mut().head_mut();
    if let Ok(value) = HeaderValue::from_str(&record.id.0) {
        head.headers.insert(X_REQUEST_ID, value);
    }
    // What is left of a refused body is not worth reading; the connection is closed after a short drain.
    if !record.progress.ended() && record.status >= 400 {
        head.set_connection_type(actix_http::ConnectionType::Close);
    }
    response.map_body(|_, body| {
        let size = body.size();
        record.complete = head_only || matches!(size, BodySize::None | BodySize::Sized(0));
        Observed { body: if head_only { None } else { Some(body) }, size, broken: None, record }
    })
}

/// The body of an answer, counted.
pub(crate) struct Observed {
    /// None for an answer to HEAD, which has the headers of GET but sends nothing (RFC 9110 9.3.2).
    body: Option<BoxBody>,
    size: BodySize,
    /// Why the body breaks off, until the connection is told.
    broken: Option<Box<dyn std::error::Error>>,
    record: Record,
}

impl MessageBody for Observed {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let item = ready!(Pin::new(body).poll_next(context));
        match item {
            Some(Ok(chunk)) => {
                this.record.sent = this.record.sent.saturating_add(chunk.len() as u64);
                // A body of a known size may be dropped after its last byte without being asked for more.
                this.record.complete = this.size == BodySize::Sized(this.record.sent);
                Poll::Ready(Some(Ok(chunk)))
            }
            Some(Err(error)) => {
                this.record.broken(&*error);
                // A body that fails ends the connection with all that is not sent yet, which may be the status itself. One that
                // waits lets it be sent, so that the client sees a message that is cut and not none.
                this.broken = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                this.record.complete = true;
                Poll::Ready(None)
            }
        }
    }
}

/// Everything about one request; written when it is dropped, that is after the last byte or when the client is gone.
struct Record {
    id: RequestId,
    method: Method,
    started: Stopwatch,
    status: u16,
    progress: Rc<Progress>,
    sent: u64,
    complete: bool,
    matched: Option<Matched>,
    unmatched: RouteMetrics,
    /// Tells the connection that the request is under way.
    _under_way: Option<UnderWay>,
}

impl Record {
    /// An answer broke off after its status was sent; the connection is closed, so the client sees it too.
    fn broken(&self, error: &(dyn std::error::Error + 'static)) {
        let request_id = &*self.id.0;
        if error.downcast_ref::<Error>().map(Error::kind) == Some(ErrorKind::ClientGone) {
            tracing::info!(request_id, "client went away");
        } else {
            tracing::error!(request_id, error = ?Chain(error), "answer broke off");
        }
    }
}

/// An error and its causes in one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(error) = self.0.downcast_ref::<Error>() {
            return std::fmt::Debug::fmt(error, f);
        }
        write!(f, "{}", self.0)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let received = self.progress.received();
        let metrics = self.matched.as_ref().map_or(&self.unmatched, |matched| &matched.metrics);
        metrics.record(self.status, elapsed, received, self.sent);
        let spec = self.matched.as_ref().map(|matched| matched.spec);
        let milliseconds = elapsed.as_micros() as f64 / 1000.0;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "isocenter::access",
                    request_id = &*self.id.0,
                    method = self.method.as_str(),
                    route = spec.map_or("-", |spec| spec.name),
                    status = self.status,
                    milliseconds,
                    received,
                    sent = self.sent,
                    complete = self.complete,
                    "request"
                )
            };
        }
        // Probes come every few seconds and tell nothing.
        if spec.is_some_and(|spec| spec.permission == Permission::Open) { line!(debug) } else { line!(info) }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        let id = |value: &'static str| {
            let request = TestRequest::default().insert_header((X_REQUEST_ID, value)).to_http_request();
            RequestId::of(request.headers()).0.to_string()
        };
        assert_eq!(id("abc-1.2_3"), "abc-1.2_3");
        for bad in ["", "a b", "a\"b", "é"] {
            assert_ne!(id(bad), bad);
            assert_eq!(id(bad).len(), 16);
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
