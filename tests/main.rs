//! Every integration test in one binary: it links once, which on two cores saves more time than anything else could.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too: they fail at once, and say what ran"
)]

mod bulkdata;
mod catalogue;
mod cli;
mod corpus;
mod corpus_read;
mod delete;
mod deletions;
mod durability;
mod failure;
mod frames;
mod fuzz_seeds;
mod hostile;
mod hostile_requests;
mod lease;
mod lost;
mod metadata;
mod openapi;
mod policies;
mod processes;
mod reindex;
mod retrieve;
mod sample;
mod search;
mod serve;
mod settings;
mod shutdown;
mod storage;
mod store;
mod store_command;
mod store_metadata;
mod support;
mod sweep;
mod tidy;
mod tidy_source;
mod verify;
