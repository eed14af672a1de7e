//! Use cases that several doors share: storing, retrieving. No protocol's status codes here.

mod describe;
mod digest;
mod heal;
pub mod ingest;
mod lease;
pub mod limits;
mod memory;
mod object_reader;
pub mod outcome;
pub mod retrieve;
