//! From a host name to a connection: straight, or through the [`parent`] proxy, to addresses that
//! the guard lets pass.
//!
//! The files in layers; each uses those above it alone:
//!
//! - [`error`]: why there is no connection, and what an operator can do · [`replay`]: bytes read
//!   ahead are read again · [`stream`]: a connection · [`own`]: seawall's own addresses ·
//!   [`nameserver`]: a name server as an operator writes it
//! - [`tls`]: roots and client certificates · [`parent`]: CONNECT and SOCKS · [`resolve`]: names to
//!   addresses
//! - [`settings`] · [`connect`]: the one way out, with its guard · [`connector`]: the same, and
//!   TLS, for hyper's client
//! - [`loops`]: names of registries that lead back here

pub mod connect;
pub mod connector;
pub mod error;
pub mod loops;
pub mod nameserver;
pub mod own;
pub mod parent;
pub mod replay;
pub mod resolve;
pub mod settings;
pub mod stream;
pub mod tls;

pub use settings::{Fixed, Settings};
