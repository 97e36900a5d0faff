//! seawall (the architecture page comes here)

pub mod http;
pub mod oci;

pub mod error;
pub mod policy;

pub mod clock;
pub mod fs;
pub mod ledger;
pub mod metrics;
pub mod task;

pub mod ca;
pub mod index;
pub mod store;
pub mod upstream;

pub mod cache;

pub mod admin;

pub mod proxy;

pub mod config;

pub mod daemon;

pub mod cli;
