//! The S3 server of the tests as a process of its own: prints the variables that lead to it, and ends when its input does.
//!
//! `cargo run --example s3_server`

#![allow(missing_docs, dead_code, clippy::unwrap_used, clippy::print_stdout, reason = "a tool for tests")]

#[path = "../tests/support"]
mod support {
    pub mod s3;
    pub mod s3_keys;
}

use std::io::Read as _;

use support::s3;

#[tokio::main]
async fn main() {
    let server = s3::S3Server::start().await;
    for (name, value) in server.environment() {
        println!("{name}={value}");
    }
    println!("AWS_ALLOW_HTTP=true");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}
