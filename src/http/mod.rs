//! Words of HTTP: parse and print, no clock, no I/O.

pub mod origin;
