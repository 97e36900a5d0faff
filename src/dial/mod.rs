//! From a host name to a connection: straight, or through the [`parent`] proxy, to addresses that the guard lets pass.

pub mod connect;
pub mod connector;
pub mod error;
pub mod loops;
pub mod nameserver;
pub mod own;
pub mod parent;
pub mod resolve;
pub mod settings;
pub mod stream;
pub mod tls;

pub use settings::{Fixed, Settings};
