//! Is it alive, can it work, what does it do: for orchestrators and for Prometheus.

use actix_web::http::Method;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::Error;
use crate::http::error::HttpResult;
use crate::http::routes::{Permission, RouteSpec};
use crate::telemetry;

/// Health, metrics, and the page at the root.
pub static ROUTES: &[RouteSpec] = &[
    RouteSpec {
        method: Method::GET,
        pattern: "/health/live",
        permission: Permission::Open,
        name: "health_live",
        clause: "",
        handler: || web::to(live),
    },
    RouteSpec {
        method: Method::GET,
        pattern: "/health/ready",
        permission: Permission::Open,
        name: "health_ready",
        clause: "",
        handler: || web::to(ready),
    },
    RouteSpec {
        method: Method::GET,
        pattern: "/metrics",
        permission: Permission::Open,
        name: "metrics",
        clause: "",
        handler: || web::to(metrics_page),
    },
    RouteSpec {
        method: Method::GET,
        pattern: "/",
        permission: Permission::Open,
        name: "root",
        clause: "",
        handler: || web::to(root),
    },
];

/// The process answers.
async fn live() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(json!({ "status": "alive" }))
}

/// Database and store answer too; otherwise 503, naming the one that does not.
async fn ready(app: web::Data<App>) -> HttpResponse {
    let mut parts = Map::new();
    let mut healthy = true;
    for (name, state) in app.readiness().await.iter() {
        healthy &= state.is_ok();
        parts.insert((*name).to_owned(), if state.is_ok() { "ok" } else { "failed" }.into());
    }
    parts.insert("status".to_owned(), if healthy { "ready" } else { "unavailable" }.into());
    let mut response = if healthy { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header((CACHE_CONTROL, "no-store")).json(Value::Object(parts))
}

/// The metrics in the text format of Prometheus.
async fn metrics_page() -> HttpResult {
    let page = telemetry::render().ok_or_else(|| Error::internal("no recorder of metrics is installed"))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(page))
}

/// Where things are, for someone who opens the address.
async fn root() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "isocenter",
        "version": env!("CARGO_PKG_VERSION"),
        "dicomweb": "/dicom-web",
        "health": "/health/ready",
        "metrics": "/metrics",
    }))
}
