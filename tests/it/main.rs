//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks, read clocks and write files as they like")]

mod access;
mod away;
mod harness;
mod mirror;
mod origins;
mod passing;
mod pull;
mod tags;
