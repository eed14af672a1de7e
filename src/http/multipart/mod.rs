//! `multipart/related` in and out, streaming, with limits (PS3.18 8.6.1.2, RFC 2046 5.1, RFC 2387).
//!
//! In: [`Multipart`] hands out slices of the chunks that came from the network; nothing is copied but the few bytes
//! around the end of a chunk. Out: [`MultipartWriter`] makes the bytes between the parts, [`MultipartBody`] a whole body.

mod headers;
mod reader;
mod writer;

pub use headers::PartHeaders;
pub use reader::{Limits, Multipart, Part};
pub use writer::{MultipartBody, MultipartWriter, OutgoingPart, PartHead};
