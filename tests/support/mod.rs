//! What the tests share: servers to talk to, files to store, databases, buckets, the corpus.

#![allow(dead_code, reason = "what one suite does not need yet, another does")]

pub mod binary;
pub mod corpus;
pub mod database;
pub mod generate;
pub mod model;
pub mod multipart;
pub mod proxy;
pub mod raw;
pub mod s3;
pub mod s3_keys;
pub mod server;
pub mod trees;
