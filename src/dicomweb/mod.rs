//! PS3.18 on the wire: one file per transaction, and here the table of all routes.

pub mod accept;
pub mod bulkdata;
pub mod delete;
pub mod frames;
pub mod metadata;
pub mod path;
pub mod query;
mod respond;
pub mod retrieve;
pub mod search;
pub mod search_response;
pub mod store;
mod store_payload;
pub mod store_response;
pub mod urls;

use actix_web::http::Method;
use actix_web::{Route, web};

use crate::http::routes::{Permission, RouteSpec};

const STORE: &str = "PS3.18 10.5";
const SEARCH: &str = "PS3.18 10.6";
const RETRIEVE: &str = "PS3.18 10.4.1.1.1";
const METADATA: &str = "PS3.18 10.4.1.1.2";
const BULK_DATA: &str = "PS3.18 10.4.1.1.5";
const FRAMES: &str = "PS3.18 10.4.1.1.6";

/// The routes of the standard, below [`urls::ROOT`].
pub static ROUTES: &[RouteSpec] = &[
    store("/studies", || web::to(self::store::store)),
    store("/studies/{study}", || web::to(self::store::store)),
    search("/studies", "search_studies", || web::to(self::search::studies)),
    search("/series", "search_series", || web::to(self::search::series)),
    search("/instances", "search_instances", || web::to(self::search::instances)),
    search("/studies/{study}/series", "search_series", || web::to(self::search::series)),
    search("/studies/{study}/instances", "search_instances", || web::to(self::search::instances)),
    search("/studies/{study}/series/{series}/instances", "search_instances", || web::to(self::search::instances)),
    read("/studies/{study}/metadata", "study_metadata", METADATA, || web::to(self::metadata::metadata)),
    read("/studies/{study}/series/{series}/metadata", "series_metadata", METADATA, || {
        web::to(self::metadata::metadata)
    }),
    read("/studies/{study}/series/{series}/instances/{instance}/metadata", "instance_metadata", METADATA, || {
        web::to(self::metadata::metadata)
    }),
    read("/studies/{study}", "retrieve_study", RETRIEVE, || web::to(self::retrieve::retrieve)),
    read("/studies/{study}/series/{series}", "retrieve_series", RETRIEVE, || web::to(self::retrieve::retrieve)),
    read("/studies/{study}/series/{series}/instances/{instance}", "retrieve_instance", RETRIEVE, || {
        web::to(self::retrieve::retrieve)
    }),
    read("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}", "retrieve_frames", FRAMES, || {
        web::to(self::frames::frames)
    }),
    read(
        "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{bulkdata:.*}",
        "retrieve_bulkdata",
        BULK_DATA,
        || web::to(self::bulkdata::bulk_data),
    ),
    delete("/studies/{study}", "delete_study"),
    delete("/studies/{study}/series/{series}", "delete_series"),
    delete("/studies/{study}/series/{series}/instances/{instance}", "delete_instance"),
];

const fn store(pattern: &'static str, handler: fn() -> Route) -> RouteSpec {
    RouteSpec { method: Method::POST, pattern, permission: Permission::Store, name: "store", clause: STORE, handler }
}

/// Not of the standard.
const fn delete(pattern: &'static str, name: &'static str) -> RouteSpec {
    let handler = || web::to(self::delete::delete);
    RouteSpec { method: Method::DELETE, pattern, permission: Permission::Edit, name, clause: "", handler }
}

const fn search(pattern: &'static str, name: &'static str, handler: fn() -> Route) -> RouteSpec {
    read(pattern, name, SEARCH, handler)
}

const fn read(pattern: &'static str, name: &'static str, clause: &'static str, handler: fn() -> Route) -> RouteSpec {
    RouteSpec { method: Method::GET, pattern, permission: Permission::Read, name, clause, handler }
}
