//! Decisions: pure functions of what is known; `now` is an argument.

pub mod access;
pub mod admission;
pub mod freshness;
pub mod guard;
pub mod intercept;
pub mod mirror;
pub mod redirect;
pub mod registry;
pub mod repositories;
pub mod retry;
