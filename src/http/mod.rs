//! Words of HTTP that no crate has, or none reads as strictly as a cache must: no clock, no I/O, no state.

pub mod cache_status;
pub mod conditional;
pub mod headers;
pub mod range;
