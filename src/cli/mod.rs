//! (to come)

pub mod ca;
