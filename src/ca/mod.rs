//! The certificate authority: a root that is made or loaded once ([`Root`]), a leaf for every host
//! that is intercepted ([`Leaves`]), and where clients want the root ([`install`]).
//!
//! 1. `root`: `ca.crt` and `ca.key` are loaded, or made at the first start; whatever could make a
//!    client refuse later is checked now: is it a CA, does the key match, dates, name constraints,
//!    a leaf on trial through webpki.
//! 2. `sign`: the root's key, the one signature it makes, and the certificates that get it.
//! 3. `constraints`: X.509 name constraints, so that a stolen key forges registries and nothing
//!    else.
//! 4. `leaf`: certificate, key and TLS configuration of one host, made on demand and kept in
//!    memory.
//! 5. `own`: seawall's own names, and the operator's certificate for them.
//! 6. `install`: the trust stores of systems and clients.
//!
//! The folder `ca/` of the repository explains it to operators.

mod constraints;
mod files;
pub mod install;
mod leaf;
pub mod own;
mod root;
mod sign;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::fs::FsError;
use crate::http::origin::Host;

pub use leaf::Leaves;
pub use own::OwnTls;
pub use root::Root;

/// What the configuration says of the certificate authority.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where ca.crt and ca.key are.
    pub dir: PathBuf,
    /// What the root may sign for: every host of every registry and `[ca] names`. A root that is
    /// narrower is refused.
    pub permitted: Vec<Permitted>,
    /// Whether that is written into a root that is made here.
    pub constrained: bool,
    /// Days that a leaf is good for; at least one. Never longer than the root.
    pub leaf_days: u32,
}

/// Which protocol is chosen of those that a client offers (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preferred {
    /// One connection for all layers.
    #[default]
    H2,
    /// A connection for each layer, and less CPU per byte. Under seawall's own names always: Go
    /// offers h2 to a proxy that it reaches over TLS, and then sends it a CONNECT of HTTP/1.1
    /// (net/http, `addTLS`).
    H1,
}

/// A part of the name space that a root may sign for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Permitted {
    /// A name and all below it, without a leading dot.
    Dns(String),
    /// One IP address.
    Ip(IpAddr),
}

impl fmt::Display for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Permitted::Dns(name) => f.write_str(name),
            Permitted::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// Why there is no root or no leaf. Says what to do, and with which file. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file is there, or may be, and this user may not read it.
    #[error(
        "{error}: {user} may not read the CA that is there. Run it as root (`sudo`), or as the user to whom the file belongs; \
         if seawall itself runs as {user}, give it the file (`chown`)"
    )]
    Closed {
        /// Which file.
        error: FsError,
        /// Who runs this.
        user: String,
    },
    /// One of the two files is there.
    #[error(
        "{present} is there but {missing} is not: put it back (from a backup, or the .old files of `seawall ca renew`), \
         or move {present} away and let seawall make a new root, which every client must then be made to trust"
    )]
    HalfMade {
        /// What was found.
        present: PathBuf,
        /// What was not.
        missing: PathBuf,
    },
    /// Not a certificate that can sign leaves.
    #[error("{path} cannot be used as a CA: {why}")]
    Certificate {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// Not a private key.
    #[error("{path} cannot be used as the CA's key: {why}")]
    Key {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong and what to do.
        why: &'static str,
    },
    /// The key is not that of the certificate.
    #[error("{key} is not the key of the first certificate in {certificate}: put the two that belong together there")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Before or after the time it is good for.
    #[error("{path} {why}")]
    Dates {
        /// The file of the certificate.
        path: PathBuf,
        /// When, and what to do.
        why: String,
    },
    /// Something that is to be intercepted is outside the name constraints of the root.
    #[error("the name constraints of {path} do not allow {name}: {remedy}")]
    Outside {
        /// The certificate's file.
        path: PathBuf,
        /// What is not covered.
        name: Permitted,
        /// What to do.
        remedy: &'static str,
    },
    /// A leaf was asked for a host that the root may not sign for.
    #[error(
        "the root's name constraints do not allow {0}: name it in [ca] names, run `seawall ca renew`, and install the new root"
    )]
    NotPermitted(Host),
    /// Not something that a certificate can be constrained to.
    #[error("{0:?} is no DNS name: write `[ca] names` and registry hosts without scheme, port, `*` and leading dot")]
    BadName(String),
    /// The root came from someone else, so seawall does not replace it.
    #[error(
        "{0} was not made by seawall, so `seawall ca renew` leaves it alone: ask those who signed it for a new one, or move it and its key away first"
    )]
    NotOurs(PathBuf),
    /// A certificate could not be written.
    #[error("cannot make a certificate: {0}")]
    Mint(#[from] rcgen::Error),
    /// A TLS configuration could not be made.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A leaf without a host name.
    #[error("a certificate needs a name")]
    Nameless,
    /// The operator's certificate for seawall's own names.
    #[error("tls.certificate_file {0} {1}")]
    Own(PathBuf, String),
    /// No trust store is known for this system.
    #[error(
        "no trust store that seawall knows below {0}: install `ca-certificates`, or copy the output of `seawall ca show --pem` to where this system wants it"
    )]
    NoStore(PathBuf),
}

impl CaError {
    /// Of one of the root's files.
    fn of_file(error: FsError) -> CaError {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => CaError::Closed { error, user: crate::fs::user() },
            _ => CaError::Fs(error),
        }
    }
}
