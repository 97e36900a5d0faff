//! A name server, as an operator writes it.
//!
//! | written | asked |
//! |---|---|
//! | `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::1]:53`, `udp://192.0.2.53` | by UDP; by TCP what does not fit (RFC 7766) |
//! | `tcp://192.0.2.53` | by TCP |
//! | `tls://1.1.1.1`, `tls://dns.corp.example@192.0.2.53:853` | by TLS (RFC 7858) |
//! | `https://1.1.1.1/dns-query`, `https://dns.corp.example@192.0.2.53/dns-query` | by HTTPS (RFC 8484) |
//!
//! `NAME@` is who its certificate must be for; without it, the address. A name alone is refused:
//! who would say where it is, is the resolver that is overridden.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::http::origin::{Host, parse_authority};

/// A name server's address, and the protocol that it is asked by. Prints as it is written, with
/// what goes without saying left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its address and port.
    pub address: SocketAddr,
    /// The protocol that it is asked by.
    pub transport: Transport,
}

/// How a name server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP for what does not fit.
    Udp,
    /// TCP alone.
    Tcp,
    /// DNS over TLS.
    Tls {
        /// The name that its certificate must have.
        name: Host,
    },
    /// DNS over HTTPS, HTTP/2.
    Https {
        /// The name that its certificate must have.
        name: Host,
        /// The path of its endpoint, `/dns-query`.
        path: Arc<str>,
    },
}

/// Why a text is no name server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameServerError {
    /// It has no IP address.
    #[error("{0:?} is not an IP address, with or without a port")]
    Address(String),
    /// It is a name, which would have to be resolved first.
    #[error("{name:?} is a name, and the resolver that is overridden cannot be asked where it is: write {instead}")]
    NoAddress {
        /// The name.
        name: String,
        /// The same, with an address.
        instead: String,
    },
    /// Its scheme is not known.
    #[error("{0:?} is not a way to ask a name server (udp, tcp, tls, https)")]
    Scheme(String),
    /// It names a certificate though its protocol has none, or by an invalid name.
    #[error("{0:?} cannot be the name of its certificate")]
    Name(String),
    /// It has a path, which only HTTPS has.
    #[error("{0:?} is a path, and only https has one")]
    Path(String),
    /// Its path cannot be part of a URL.
    #[error("{0:?} is not a path")]
    NotAPath(String),
    /// It is asked by HTTPS at an IPv6 address, without the name of its certificate.
    #[error("https to an IPv6 address needs its name: write https://dns.corp.example@[{0}]/dns-query")]
    Nameless(IpAddr),
}

const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;
const HTTPS: u16 = 443;
/// The path of nearly all servers.
const PATH: &str = "/dns-query";

impl FromStr for NameServer {
    type Err = NameServerError;

    fn from_str(text: &str) -> Result<NameServer, NameServerError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return plain("udp", text, Transport::Udp);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "udp" => plain("udp", rest, Transport::Udp),
            "tcp" => plain("tcp", rest, Transport::Tcp),
            "tls" => tls(rest),
            "https" => https(rest),
            _ => Err(NameServerError::Scheme(scheme.to_owned())),
        }
    }
}

fn plain(scheme: &'static str, rest: &str, transport: Transport) -> Result<NameServer, NameServerError> {
    let rest = without_path(rest)?;
    if let Some((name, _)) = rest.split_once('@') {
        return Err(NameServerError::Name(name.to_owned()));
    }
    Ok(NameServer { address: address(scheme, rest, DNS)?, transport })
}

fn tls(rest: &str) -> Result<NameServer, NameServerError> {
    let (name, address) = named("tls", without_path(rest)?, DNS_OVER_TLS)?;
    Ok(NameServer { address, transport: Transport::Tls { name } })
}

fn https(rest: &str) -> Result<NameServer, NameServerError> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, PATH),
    };
    let path = if path == "/" { PATH } else { path };
    let good = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#{}\"<>\\^`|".contains(&b));
    if !good {
        return Err(NameServerError::NotAPath(path.to_owned()));
    }
    let (name, address) = named("https", authority, HTTPS)?;
    match name {
        Host::Ip(ip @ IpAddr::V6(_)) => Err(NameServerError::Nameless(ip)),
        name => Ok(NameServer { address, transport: Transport::Https { name, path: path.into() } }),
    }
}

/// Only a `/` may stand behind the address.
fn without_path(rest: &str) -> Result<&str, NameServerError> {
    match rest.split_once('/') {
        None | Some((_, "")) => Ok(rest.trim_end_matches('/')),
        Some((_, path)) => Err(NameServerError::Path(format!("/{path}"))),
    }
}

fn named(scheme: &'static str, text: &str, port: u16) -> Result<(Host, SocketAddr), NameServerError> {
    match text.split_once('@') {
        None => address(scheme, text, port).map(|address| (Host::from(address.ip()), address)),
        Some((name, at)) => {
            let host = name.parse().map_err(|_| NameServerError::Name(name.to_owned()))?;
            Ok((host, address(scheme, at, port)?))
        }
    }
}

/// `192.0.2.53`, `2001:db8::1`, `[2001:db8::1]`, each of them but the second with a port.
fn address(scheme: &'static str, text: &str, port: u16) -> Result<SocketAddr, NameServerError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    match parse_authority(text, port) {
        Some((Host::Ip(ip), port)) => Ok(SocketAddr::new(ip, port)),
        Some((Host::Name(name), _)) => Err(no_address(scheme, &name)),
        None => Err(NameServerError::Address(text.to_owned())),
    }
}

fn no_address(scheme: &'static str, name: &str) -> NameServerError {
    let instead = match scheme {
        "tls" => format!("tls://{name}@192.0.2.53"),
        "https" => format!("https://{name}@192.0.2.53/dns-query"),
        _ => "its address".to_owned(),
    };
    NameServerError::NoAddress { name: name.to_owned(), instead }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name, port) = match &self.transport {
            Transport::Udp => ("", None, DNS),
            Transport::Tcp => ("tcp://", None, DNS),
            Transport::Tls { name } => ("tls://", Some(name), DNS_OVER_TLS),
            Transport::Https { name, .. } => ("https://", Some(name), HTTPS),
        };
        f.write_str(scheme)?;
        let host = Host::from(self.address.ip());
        if let Some(name) = name.filter(|name| **name != host) {
            write!(f, "{name}@")?;
        }
        write!(f, "{host}")?;
        if self.address.port() != port {
            write!(f, ":{}", self.address.port())?;
        }
        match &self.transport {
            Transport::Https { path, .. } => f.write_str(path),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_write_one() {
        for (text, printed, port) in [
            ("192.0.2.53", "192.0.2.53", 53),
            ("192.0.2.53:5353", "192.0.2.53:5353", 5353),
            ("2001:db8::1", "[2001:db8::1]", 53),
            ("[2001:db8::1]", "[2001:db8::1]", 53),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353", 5353),
            ("udp://192.0.2.53/", "192.0.2.53", 53),
            ("TCP://192.0.2.53", "tcp://192.0.2.53", 53),
            ("tcp://[::1]:54", "tcp://[::1]:54", 54),
            ("tls://1.1.1.1", "tls://1.1.1.1", 853),
            ("tls://1.1.1.1@1.1.1.1:853", "tls://1.1.1.1", 853),
            ("tls://Dns.Corp.example@192.0.2.53", "tls://dns.corp.example@192.0.2.53", 853),
            ("tls://dns.corp.example@[2001:db8::1]:8853/", "tls://dns.corp.example@[2001:db8::1]:8853", 8853),
            ("https://1.1.1.1", "https://1.1.1.1/dns-query", 443),
            ("https://1.1.1.1/", "https://1.1.1.1/dns-query", 443),
            ("https://dns.corp.example@192.0.2.53:8443/x/y", "https://dns.corp.example@192.0.2.53:8443/x/y", 8443),
            ("https://a.b@2001:db8::1/dns-query", "https://a.b@[2001:db8::1]/dns-query", 443),
        ] {
            let read: NameServer = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((read.to_string().as_str(), read.address.port()), (printed, port), "{text}");
            assert_eq!(printed.parse(), Ok(read));
        }
    }

    #[test]
    fn what_is_none_is_told_why() {
        for (text, why) in [
            ("", "\"\" is not an IP address, with or without a port"),
            (
                "dns.corp",
                "\"dns.corp\" is a name, and the resolver that is overridden cannot be asked where it is: write its address",
            ),
            ("192.0.2.53:0", "\"192.0.2.53:0\" is not an IP address, with or without a port"),
            ("192.0.2.53:99999", "\"192.0.2.53:99999\" is not an IP address, with or without a port"),
            ("quic://192.0.2.53", "\"quic\" is not a way to ask a name server (udp, tcp, tls, https)"),
            ("udp://x@192.0.2.53", "\"x\" cannot be the name of its certificate"),
            ("tls://@192.0.2.53", "\"\" cannot be the name of its certificate"),
            ("tls://192.0.2.53/dns-query", "\"/dns-query\" is a path, and only https has one"),
            ("https://192.0.2.53/dns-query{?dns}", "\"/dns-query{?dns}\" is not a path"),
            (
                "https://[2001:db8::1]/dns-query",
                "https to an IPv6 address needs its name: write https://dns.corp.example@[2001:db8::1]/dns-query",
            ),
        ] {
            assert_eq!(text.parse::<NameServer>().unwrap_err().to_string(), why, "{text}");
        }
        let said = "https://dns.corp.example/dns-query".parse::<NameServer>().unwrap_err().to_string();
        assert!(said.ends_with("write https://dns.corp.example@192.0.2.53/dns-query"), "{said}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_again(text in "(udp://|tcp://|tls://|https://|\\PC{0,3})?([a-z.]{0,8}@)?(192\\.0\\.2\\.[0-9]{1,4}|\\[[0-9a-f:]{0,8}\\]|\\PC{0,8})(:[0-9]{0,6})?(/\\PC{0,6})?") {
            if let Ok(read) = text.parse::<NameServer>() {
                prop_assert_eq!(read.to_string().parse::<NameServer>(), Ok(read));
            }
        }
    }
}
