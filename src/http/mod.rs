//! What all HTTP surfaces share: routes, errors, bodies, checks of the request. Knows no DICOM transaction.

pub mod body;
pub mod connection;
pub mod encoding;
pub mod error;
pub mod guard;
pub mod health;
pub mod media_type;
pub mod multipart;
pub mod observe;
pub mod routes;
pub(crate) mod stall;
