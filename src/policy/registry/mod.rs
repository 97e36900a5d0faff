//! The registries seawall knows: what is configured of each, where one is found by host or name, and in which order it and its other sources are asked.

mod chain;
mod site;

pub use chain::*;
pub use site::*;
