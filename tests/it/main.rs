//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks, read clocks and write files as they like")]

mod bad;
mod door;
mod harness;
mod layers;
mod pull;
mod serve;
