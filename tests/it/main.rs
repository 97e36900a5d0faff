//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks, read clocks and write files as they like")]
#![expect(clippy::unwrap_used, reason = "what tests share is test code too")]

mod access;
mod account;
mod away;
mod bad;
mod daemon;
mod disk;
mod door;
mod flight;
mod flight_breaks;
mod flight_ranges;
mod harness;
mod layers;
mod mirror;
mod offline;
mod origins;
mod passing;
mod pull;
mod repositories;
mod secrets;
mod serve;
mod serve_hard;
mod tags;
