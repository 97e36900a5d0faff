//! Decisions: pure functions of what is known; `now` is an argument.

pub mod guard;
pub mod intercept;
pub mod registry;
