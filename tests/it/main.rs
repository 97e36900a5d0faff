//! The integration tests, one binary.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests spawn tasks, read clocks, write files and panic as they like"
)]

mod bad;
mod door;
mod harness;
mod layers;
mod pull;
mod serve;
