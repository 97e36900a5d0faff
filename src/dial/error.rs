//! Why there is no connection.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::http::origin::Host;
use crate::policy::guard::Refusal;

/// What an operator can do about a registry's name that leads back to seawall.
pub const ADVICE: &str =
    "set upstream.nameservers to a resolver that is not overridden, or upstream.hosts to true addresses";

/// How far dialling came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its addresses were asked for, or it was dialled.
    Connect,
    /// The TLS handshake was under way.
    Tls,
    /// The parent proxy was connected to, and asked for the host.
    Parent,
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
        host: Host,
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
    /// The parent proxy itself cannot be reached.
    ParentAway {
        /// Where it should be.
        parent: String,
        /// Why.
        source: Box<DialError>,
    },
    /// The parent proxy is there, and gives no connection.
    Parent {
        /// Where it is.
        parent: String,
        /// Why.
        source: ParentError,
    },
    /// It took too long.
    Timeout {
        /// Where to; of [`Phase::Parent`], the parent.
        host: String,
        /// At what.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
}

/// Why the parent proxy gave no connection.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// RFC 9110 15.5.8.
    #[error("wants other credentials: check upstream.proxy")]
    Credentials,
    /// It had the very same CONNECT before.
    #[error("is seawall itself: upstream.proxy must be another")]
    Itself,
    /// Its status and the text of it, or what its SOCKS reply means.
    #[error("refused a connection to {host}: {said}")]
    Said {
        /// To whom.
        host: String,
        /// In its words.
        said: String,
    },
    /// It went away, or speaks something else.
    #[error("gave no connection to {host}: {source}")]
    Broken {
        /// To whom.
        host: String,
        /// What came instead.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is no TLS server, or not who it should be.
    #[error("failed the TLS handshake: {0}")]
    Tls(io::Error),
}

impl DialError {
    /// Whether the host is there, and does not speak what it was asked in (RFC 7301, 3.2): HTTP/1.1, to most.
    pub fn wants_another_protocol(&self) -> bool {
        let DialError::Tls { source, .. } = self else { return false };
        let said = tls_error(root_cause(source.as_ref()));
        matches!(said, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::NoHost(url) => write!(f, "{url:?} names no host"),
            DialError::Resolve { host, source } => write!(f, "{host} cannot be resolved: {source}"),
            DialError::Refused { host, refusal } => write!(f, "{host} is refused: {refusal}"),
            DialError::Loop { host: host @ Host::Ip(_), address } => {
                write!(f, "{host} leads to {address}, which is seawall itself")
            }
            DialError::Loop { host, address } => {
                write!(f, "{host} resolves to me ({address}, which is seawall itself): {}", ADVICE)
            }
            DialError::Connect { host, source } => write!(f, "{host} cannot be reached: {source}"),
            DialError::Tls { host, source } => {
                let cause = root_cause(source.as_ref());
                write!(f, "TLS with {host} failed: {cause}{}", advice(cause))
            }
            DialError::ParentAway { parent, source } => match &**source {
                DialError::Loop { .. } => {
                    write!(f, "the parent proxy {parent} is seawall itself: upstream.proxy must be another")
                }
                DialError::Resolve { source, .. } => {
                    write!(f, "the parent proxy {parent} cannot be resolved: {source}")
                }
                DialError::Connect { source, .. } => write!(f, "the parent proxy {parent} cannot be reached: {source}"),
                other => write!(f, "the parent proxy {parent} cannot be reached: {other}"),
            },
            DialError::Parent { parent, source } => write!(f, "the parent proxy {parent} {source}"),
            DialError::Timeout { host, phase: Phase::Parent, after } => {
                let after = humantime::format_duration(*after);
                write!(f, "the parent proxy {host} gave no connection within {after}")
            }
            DialError::Timeout { host, phase, after } => {
                let what = match phase {
                    Phase::Connect | Phase::Parent => "accept a connection",
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
            DialError::ParentAway { source, .. } => Some(source),
            DialError::Parent { source, .. } => Some(source),
            DialError::NoHost(_) | DialError::Loop { .. } | DialError::Timeout { .. } => None,
        }
    }
}

const LEAST: &str = " (TLS 1.2 is the least)";
const ROOTS: &str = " (no root that is trusted here signed it: upstream.ca_file, or ca_file of the registry)";
const WANTS: &str = " (it wants a client certificate: client_certificate_file of the registry)";
const REFUSES: &str = " (it refuses the client certificate: client_certificate_file of the registry)";

/// What the operator can do about an alert (RFC 8446 6.2), by rustls' name of it.
const ALERTS: [(&str, &str); 9] = [
    ("ProtocolVersion", LEAST),
    ("CertificateRequired", WANTS),
    ("HandshakeFailure", " (it has no cipher in common with seawall, or wants a client certificate)"),
    ("BadCertificate", REFUSES),
    ("UnsupportedCertificate", REFUSES),
    ("CertificateExpired", REFUSES),
    ("CertificateUnknown", REFUSES),
    ("UnknownCA", REFUSES),
    ("DecryptError", REFUSES),
];

fn advice_on_alert(said: &str) -> &'static str {
    ALERTS.iter().find(|(name, _)| said.contains(name)).map_or("", |(_, advice)| advice)
}

/// What the operator can do about a handshake that failed.
pub(crate) fn advice(cause: &(dyn Error + 'static)) -> &'static str {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    match tls_error(cause) {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => ROOTS,
        Some(rustls::Error::PeerIncompatible(_)) => LEAST,
        Some(rustls::Error::AlertReceived(alert)) => advice_on_alert(&format!("{alert:?}")),
        _ => "",
    }
}

/// What rustls said, which is said within one [`io::Error`] or two; their `source` skips it.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = error;
    loop {
        match cause.downcast_ref() {
            Some(tls) => return Some(tls),
            None => cause = cause.downcast_ref::<io::Error>()?.get_ref()?,
        }
    }
}

/// What the other side says of our certificate after the handshake: in TLS 1.3 ours is over before it has looked. h2 keeps
/// the text alone of what broke a connection, and it may have broken before it was told why.
pub(crate) fn certificate_refused(error: &(dyn Error + 'static)) -> Option<String> {
    let said = chain(error).map(ToString::to_string).find(|said| said.contains("received fatal alert: "))?;
    let advice = advice_on_alert(&said);
    Some(said + advice)
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The reason in an error of hyper's client, if dialling was the reason.
pub fn dial_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a DialError> {
    chain(error).find_map(|cause| cause.downcast_ref::<DialError>())
}
