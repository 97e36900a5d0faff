//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks, read clocks and write files as they like")]
#![expect(clippy::unwrap_used, reason = "what a test is built with must be there")]

mod access;
mod away;
mod harness;
mod mirror;
mod origins;
mod passing;
mod pull;
mod tags;
