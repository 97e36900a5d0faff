//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks, read clocks and write files as they like")]
#![expect(clippy::unwrap_used, reason = "what tests share is test code too")]

mod disk;
mod flight;
mod flight_breaks;
mod flight_ranges;
mod harness;
mod offline;
mod pull;
