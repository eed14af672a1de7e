//! Use cases that several doors share: storing, retrieving, comparing index and objects. No protocol's status codes here.

mod agree;
mod begun;
mod commit;
pub mod delete;
mod describe;
mod digest;
pub mod erase;
mod events;
mod heal;
pub mod ingest;
mod lease;
pub mod limits;
pub mod memory;
mod object_reader;
pub mod outcome;
pub mod policy;
pub mod reindex;
mod reread;
pub mod retrieve;
mod rewritten;
pub mod shared_settings;
pub mod sweep;
pub mod verify;
