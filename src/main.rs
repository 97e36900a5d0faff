//! seawall: args, run, exit code. The rest is the library; its first page is `src/lib.rs`.

use std::process::ExitCode;

use clap::Parser as _;
use seawall::cli::Cli;

// Chunks are reused, not given back to the kernel between two reads: up to half the CPU per byte
// served.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Every configuration names its provider; this is for a library that does not. It fails only if
    // one is there already.
    let _ = rustls::crypto::CryptoProvider::clone(&seawall::tls::provider()).install_default();
    Cli::parse().run()
}
