//! The words of the distribution specification, parsed and printed: no clock, no I/O, no state.
//!
//! Everything here is made of bytes that strangers sent. What a parser returns is right, whoever
//! asks next; what it refuses, it refuses with a value, never with a panic.

pub mod challenge;
pub mod digest;
pub mod error;
pub mod login;
pub mod manifest;
pub mod media_type;
pub mod mount;
pub mod name;
pub mod percent;
pub mod rate_limit;
pub mod route;
mod token;
pub mod token_request;
