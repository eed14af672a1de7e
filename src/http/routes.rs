//! Route tables: what a surface offers, under which permission, counted under which name. The only way to register a handler.
//!
//! ```
//! use actix_web::http::Method;
//! use actix_web::{App, HttpResponse, web};
//! use isocenter::http::routes::{Permission, RouteSpec, mount};
//!
//! async fn hello() -> HttpResponse {
//!     HttpResponse::Ok().body("hello")
//! }
//!
//! static ROUTES: &[RouteSpec] = &[RouteSpec {
//!     method: Method::GET,
//!     pattern: "/hello",
//!     permission: Permission::Open,
//!     name: "hello",
//!     clause: "",
//!     handler: || web::to(hello),
//! }];
//! let app = App::new().configure(|config| mount(config, "/api", ROUTES));
//! # drop(app);
//! ```

use std::fmt;

use actix_web::dev::ServiceRequest;
use actix_web::guard;
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpMessage, HttpResponse, Route, web};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::error::Error;
use crate::http::error::HttpError;
use crate::telemetry;

/// What a caller must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Find and read what is stored.
    Read,
    /// Store new instances.
    Store,
    /// Delete what is stored.
    Edit,
    /// Look after the server.
    Admin,
    /// Nothing: holds no patient data.
    Open,
}

/// One route: everything about it that is not in its handler.
pub struct RouteSpec {
    /// GET answers HEAD too.
    pub method: Method,
    /// Below the root of the surface, with parameters in braces: `/studies/{study}`. A slash at the end of a URL is tolerated.
    pub pattern: &'static str,
    /// What a caller must be allowed to do.
    pub permission: Permission,
    /// The name in metrics and logs.
    pub name: &'static str,
    /// The clause of PS3.18, empty for our own.
    pub clause: &'static str,
    /// Makes the route: `|| web::to(handler)`.
    pub handler: fn() -> Route,
}

impl fmt::Debug for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.pattern, self.name)
    }
}

/// Registers a table below a root. Patterns are tried in the order of the table.
pub fn mount(config: &mut web::ServiceConfig, root: &str, routes: &'static [RouteSpec]) {
    for (index, spec) in routes.iter().enumerate() {
        if routes[..index].iter().any(|earlier| earlier.pattern == spec.pattern) {
            continue;
        }
        let path = format!("{root}{}", spec.pattern);
        let path = path.trim_end_matches('/');
        let mut resource = web::resource([if path.is_empty() { "/" } else { path }.to_owned(), format!("{path}/")]);
        let mut allow = Vec::new();
        for spec in routes.iter().filter(|other| other.pattern == spec.pattern) {
            allow.push(spec.method.as_str());
            if spec.method == Method::GET {
                allow.push(Method::HEAD.as_str());
            }
            resource = resource.route(observed(spec));
        }
        let allow = allow.join(", ");
        config.service(resource.default_service(web::to(move || {
            let error = HttpError::method_not_allowed(&allow);
            async move { Err::<HttpResponse, _>(error) }
        })));
    }
}

/// Answers what no table has.
pub async fn not_found() -> Result<HttpResponse, HttpError> {
    Err(Error::not_found("there is nothing at this path; DICOMweb is at `/dicom-web`").into())
}

/// The route of a spec, which tells the observer of the request what it is.
fn observed(spec: &'static RouteSpec) -> Route {
    let metrics = RouteMetrics::new(spec.name);
    let route = (spec.handler)();
    let route = match spec.method {
        Method::GET => route.guard(guard::Any(guard::Get()).or(guard::Head())),
        _ => route.guard(guard::Method(spec.method.clone())),
    };
    route.wrap(from_fn(move |request: ServiceRequest, next: Next<_>| {
        request.extensions_mut().insert(Matched::new(spec, metrics.clone()));
        next.call(request)
    }))
}

/// The route that a request took, from its start to the last byte of its answer.
pub(crate) struct Matched {
    pub(crate) spec: &'static RouteSpec,
    pub(crate) metrics: RouteMetrics,
}

impl Matched {
    fn new(spec: &'static RouteSpec, metrics: RouteMetrics) -> Self {
        metrics.in_flight.increment(1);
        Self { spec, metrics }
    }
}

impl Drop for Matched {
    fn drop(&mut self) {
        self.metrics.in_flight.decrement(1);
    }
}

/// The measures of one route, looked up once.
#[derive(Clone)]
pub(crate) struct RouteMetrics {
    /// By class of status, from 1xx.
    answers: [Counter; 5],
    seconds: Histogram,
    received: Counter,
    sent: Counter,
    in_flight: Gauge,
}

impl RouteMetrics {
    /// The measures of a route name.
    pub(crate) fn new(route: &'static str) -> Self {
        let answers = ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .map(|status| counter!(telemetry::HTTP_REQUESTS, "route" => route, "status" => status));
        Self {
            answers,
            seconds: histogram!(telemetry::HTTP_SECONDS, "route" => route),
            received: counter!(telemetry::HTTP_RECEIVED, "route" => route),
            sent: counter!(telemetry::HTTP_SENT, "route" => route),
            in_flight: gauge!(telemetry::HTTP_IN_FLIGHT, "route" => route),
        }
    }

    /// Counts one finished request.
    pub(crate) fn record(&self, status: u16, elapsed: std::time::Duration, received: u64, sent: u64) {
        let class = usize::from(status / 100).clamp(1, self.answers.len()) - 1;
        self.answers[class].increment(1);
        self.seconds.record(elapsed.as_secs_f64());
        self.received.increment(received);
        self.sent.increment(sent);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::http::header::ALLOW;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpRequest};

    use super::*;

    async fn echo(request: HttpRequest) -> HttpResponse {
        HttpResponse::Ok().body(request.match_info().get("id").unwrap_or("none").to_owned())
    }

    async fn made() -> HttpResponse {
        HttpResponse::Created().finish()
    }

    static ROUTES: &[RouteSpec] = &[
        spec(Method::GET, "/things", || web::to(echo)),
        spec(Method::GET, "/things/{id}", || web::to(echo)),
        spec(Method::POST, "/things", || web::to(made)),
        spec(Method::DELETE, "/things/{id}/parts", || web::to(made)),
    ];

    const fn spec(method: Method, pattern: &'static str, handler: fn() -> Route) -> RouteSpec {
        RouteSpec { method, pattern, permission: Permission::Read, name: "test", clause: "", handler }
    }

    #[actix_web::test]
    async fn a_table_answers_its_methods_and_refuses_the_others() {
        let app = App::new().configure(|config| mount(config, "/root", ROUTES)).default_service(web::to(not_found));
        let app = init_service(app).await;
        let cases = [
            (Method::GET, "/root/things", 200, ""),
            (Method::GET, "/root/things/", 200, ""),
            (Method::HEAD, "/root/things/7", 200, ""),
            (Method::POST, "/root/things", 201, ""),
            (Method::DELETE, "/root/things/7/parts", 201, ""),
            (Method::DELETE, "/root/things", 405, "GET, HEAD, POST"),
            (Method::POST, "/root/things/7", 405, "GET, HEAD"),
            (Method::GET, "/root/things/7/parts", 405, "DELETE"),
            (Method::GET, "/root", 404, ""),
            (Method::GET, "/root/things/7/8", 404, ""),
            (Method::POST, "/things", 404, ""),
        ];
        for (method, path, status, allow) in cases {
            let response = call_service(&app, TestRequest::with_uri(path).method(method.clone()).to_request()).await;
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{method} {path}");
            let found = response.headers().get(ALLOW).map_or("", |value| value.to_str().unwrap());
            assert_eq!(found, allow, "{method} {path}");
        }
    }
}
