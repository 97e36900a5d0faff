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

/// The step of dialling that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Resolving the host, and connecting to it.
    Connect,
    /// The TLS handshake with the host.
    Tls,
    /// Connecting to the parent proxy, and its answer.
    Parent,
}

/// Why there is no connection. Printed, it is fit for a client to read.
#[derive(Debug)]
pub enum DialError {
    /// A URL without a host that can be dialled.
    NoHost(String),
    /// The host has no address, or no resolver answers.
    Resolve {
        /// The host that was looked up.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// All addresses of the host are forbidden: see policy/guard.
    Refused {
        /// The host that was to be dialled.
        host: String,
        /// Why its first address, or its name, is forbidden.
        refusal: Refusal,
    },
    /// All addresses of the host are seawall's own.
    Loop {
        /// The host that was to be dialled.
        host: Host,
        /// Its first address.
        address: SocketAddr,
    },
    /// No address of the host accepts a connection.
    Connect {
        /// The host that was dialled.
        host: String,
        /// The error of its first address.
        source: io::Error,
    },
    /// The handshake failed: an untrusted certificate, another name, no TLS.
    Tls {
        /// The host that was dialled.
        host: String,
        /// The error of the TLS library.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The parent proxy itself cannot be reached.
    ParentUnreachable {
        /// Its host and port.
        parent: String,
        /// The error of dialling it.
        source: Box<DialError>,
    },
    /// The parent proxy is there, and gives no connection.
    Parent {
        /// Its host and port.
        parent: String,
        /// Its answer, or the lack of one.
        source: ParentError,
    },
    /// A step of dialling took too long.
    Timeout {
        /// The host; of [`Phase::Parent`], the parent proxy.
        host: String,
        /// The step.
        phase: Phase,
        /// The time that the step may take.
        after: Duration,
    },
}

/// Why the parent proxy gave no connection.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// It asks for credentials, or for others (RFC 9110, 15.5.8).
    #[error("wants other credentials: check upstream.proxy")]
    Credentials,
    /// It is this process: the CONNECT came back.
    #[error("is seawall itself: upstream.proxy must be another")]
    Itself,
    /// It refused: its status and the text of it, or what its SOCKS reply means.
    #[error("refused a connection to {host}: {said}")]
    Said {
        /// The host and port that it was asked for.
        host: String,
        /// Its answer.
        said: String,
    },
    /// It closed the connection, or speaks something else.
    #[error("gave no connection to {host}: {source}")]
    Broken {
        /// The host and port that it was asked for.
        host: String,
        /// The error of the protocol.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is no TLS server, or has a certificate that is not trusted.
    #[error("failed the TLS handshake: {0}")]
    Tls(io::Error),
}

impl DialError {
    /// Whether the host is there, and speaks none of the protocols that were offered (RFC 7301,
    /// 3.2): mostly HTTP/1.1.
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
            DialError::ParentUnreachable { parent, source } => match &**source {
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
            DialError::ParentUnreachable { source, .. } => Some(source),
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

/// The error of rustls, which is within one [`io::Error`] or two; their `source` skips it.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = error;
    loop {
        match cause.downcast_ref() {
            Some(tls) => return Some(tls),
            None => cause = cause.downcast_ref::<io::Error>()?.get_ref()?,
        }
    }
}

/// The alert about seawall's client certificate that came after the handshake: in TLS 1.3 a
/// client's handshake is over before the server has looked. h2 keeps only the text of the error
/// that broke a connection.
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
