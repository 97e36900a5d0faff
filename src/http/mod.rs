//! Words of HTTP: parse and print, no clock, no I/O.

pub mod cache_status;
pub mod conditional;
pub mod headers;
pub mod origin;
pub mod range;
pub mod via;
pub mod warnings;
