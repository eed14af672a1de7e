//! Use cases that several doors share: storing, retrieving, comparing index and objects. No protocol's status codes here.

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
pub mod sweep;
pub mod verify;
