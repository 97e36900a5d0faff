//! Decisions: pure functions of what is known; `now` is an argument.

pub mod access;
pub mod address;
pub mod addressee;
pub mod admission;
pub mod breaker;
pub mod budget;
pub mod client_certificate;
pub mod clients;
pub mod distinct;
pub mod extents;
pub mod freshness;
pub mod growth;
pub mod guard;
pub mod heads;
pub mod intercept;
pub mod line;
pub mod mirror;
pub mod no_proxy;
pub mod offline_token;
pub mod operator;
pub mod quota;
pub mod redirect;
pub mod registry;
pub mod repeats;
pub mod repositories;
pub mod retry;
pub mod segments;
pub mod series;
pub mod sound;
pub mod stamp;
pub mod top;
pub mod users;
pub mod verdict;

pub use registry as chain;
