//! The program: chooses allocator and cryptography, and hands over to the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Without a provider TLS fails when it is used, not when it is compiled. Another one is installed only if this was called twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    isocenter::cli::run()
}
