//! Why there is no connection.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::policy::guard::Refusal;

/// How far dialling came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its addresses were asked for, or it was dialled.
    Connect,
    /// The TLS handshake was under way.
    Tls,
}

/// Why there is no connection. Printed, it is fit for a client to read.
#[derive(Debug)]
pub enum DialError {
    /// A URL without a host that can be dialled.
    NoHost(String),
    /// No address.
    Resolve {
        /// Of whom.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Only addresses that nobody may make seawall dial.
    Refused {
        /// Who has them.
        host: String,
        /// The first of them.
        refusal: Refusal,
    },
    /// Only addresses of seawall itself.
    Loop {
        /// Who has them.
        host: String,
        /// The first of them.
        address: SocketAddr,
    },
    /// Nobody listens there, or it cannot be reached.
    Connect {
        /// Where to.
        host: String,
        /// The first address's answer.
        source: io::Error,
    },
    /// The handshake failed: an untrusted certificate, another name, no TLS.
    Tls {
        /// With whom.
        host: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It took too long.
    Timeout {
        /// Where to.
        host: String,
        /// At what.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::NoHost(url) => write!(f, "{url:?} names no host"),
            DialError::Resolve { host, source } => write!(f, "{host} cannot be resolved: {source}"),
            DialError::Refused { host, refusal } => write!(f, "{host} is refused: {refusal}"),
            DialError::Loop { host, address } => {
                write!(f, "{host} is {address}, which is seawall itself: set upstream.nameservers or upstream.hosts")
            }
            DialError::Connect { host, source } => write!(f, "{host} cannot be reached: {source}"),
            DialError::Tls { host, source } => write!(f, "TLS with {host} failed: {}", root_cause(source.as_ref())),
            DialError::Timeout { host, phase, after } => {
                let what = match phase {
                    Phase::Connect => "accept a connection",
                    Phase::Tls => "finish its TLS handshake",
                };
                write!(f, "{host} did not {what} within {}", humantime::format_duration(*after))
            }
        }
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            DialError::Resolve { source, .. } | DialError::Connect { source, .. } => Some(source),
            DialError::Refused { refusal, .. } => Some(refusal),
            DialError::Tls { source, .. } => Some(source.as_ref()),
            DialError::NoHost(_) | DialError::Loop { .. } | DialError::Timeout { .. } => None,
        }
    }
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The reason in an error of hyper's client, if dialling was the reason.
pub fn dial_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a DialError> {
    chain(error).find_map(|cause| cause.downcast_ref::<DialError>())
}
