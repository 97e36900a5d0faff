//! Who is spoken to: scheme, host and port (RFC 6454), and the patterns that name many hosts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The port that goes without saying.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// Reads it as it is written in a URL, in any case.
    fn read(text: &str) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https].into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
    }

    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A DNS name in lower case without its last dot, or an IP address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, at most 253 bytes, labels of 1 to 63.
    Name(Arc<str>),
    /// An address. Never a v4 address in v6 clothes: those are unwrapped.
    Ip(IpAddr),
}

/// Not a host, an authority, a URL or a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError(String);

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OriginError {}

fn label_is_valid(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl FromStr for Host {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Host, OriginError> {
        let refused = || OriginError(format!("{text:?} is not a host name or IP address"));
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return inner.parse::<Ipv6Addr>().map(|ip| Host::from(IpAddr::V6(ip))).map_err(|_| refused());
        }
        // Only what looks like an address is read as one: this is done for every request.
        let may_be_address = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') || text.contains(':');
        if may_be_address && let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Host::from(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let numeric = name.rsplit('.').next().is_some_and(looks_numeric);
        if name.len() > 253 || numeric || !name.split('.').all(label_is_valid) {
            return Err(refused());
        }
        Ok(Host::Name(name.to_ascii_lowercase().into()))
    }
}

/// A last label that is a number makes the whole an IPv4 address in one of its short forms
/// (`127.1`, `0x7f000001`, `2130706433`; WHATWG URL 3.5), which resolvers read and a guard of names
/// would not.
fn looks_numeric(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    hex.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
        || (!label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()))
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Host {
        Host::Ip(ip.to_canonical())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port` (RFC 3986 3.2, without user information).
pub fn parse_authority(text: &str, default_port: u16) -> Option<(Host, u16)> {
    let (host, port) = split_port(text)?;
    let port = match port {
        Some(digits) => parse_port(digits)?,
        None => default_port,
    };
    Some((host.parse().ok()?, port))
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0)
}

fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (host, rest) = text.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// Scheme, host and port: the unit to which credentials are bound.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// http or https.
    pub scheme: Scheme,
    /// A name or an IP address.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

impl Origin {
    /// TLS on its usual port.
    pub fn https(host: Host) -> Origin {
        Origin { scheme: Scheme::Https, host, port: 443 }
    }

    /// Reads an absolute `http` or `https` URL. The second part is its path and query, at least
    /// `/`; a fragment is dropped.
    ///
    /// # Errors
    /// Another scheme, user information, no valid host.
    pub fn from_url(url: &str) -> Result<(Origin, String), OriginError> {
        let refused = || OriginError("not an absolute http or https URL without user information".to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(refused)?;
        let scheme = Scheme::read(scheme).ok_or_else(refused)?;
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = parse_authority(authority, scheme.default_port()).ok_or_else(refused)?;
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok((Origin { scheme, host, port }, path))
    }

    /// Whether it is this.
    pub fn is(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        self.scheme == scheme && self.host == *host && self.port == port
    }

    /// `host` or `host:port`, the port only if it is not the scheme's own.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One host or many: `ghcr.io`, `*.pkg.dev`, `*.dkr.ecr.*.amazonaws.com`, `registry.corp:5000`. A
/// `*` is one whole label. Spoken to over TLS, but for `http://lab:5000`.
#[derive(Clone, PartialEq, Eq)]
pub struct HostPattern {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
}

impl HostPattern {
    /// Whether `host:port` is meant, when it is spoken to so.
    pub fn is_spoken(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        scheme == self.scheme && self.matches(host, port, scheme.default_port())
    }

    /// Whether `host:port` is meant, however it is spoken to. A pattern without a port means
    /// `default_port`.
    pub fn matches(&self, host: &Host, port: u16, default_port: u16) -> bool {
        if port != self.port.unwrap_or(default_port) {
            return false;
        }
        match host {
            Host::Ip(ip) => Host::from(*ip).to_string() == self.host,
            Host::Name(name) => {
                let mut wanted = self.host.split('.');
                let mut given = name.split('.');
                loop {
                    match (wanted.next(), given.next()) {
                        (None, None) => return true,
                        (Some("*"), Some(_)) => {}
                        (Some(w), Some(g)) if w == g => {}
                        _ => return false,
                    }
                }
            }
        }
    }

    /// Whether it means more than one host.
    pub fn is_wildcard(&self) -> bool {
        self.host.split('.').any(|label| label == "*")
    }

    /// The host part, stars included.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port, written or not.
    pub fn spoken_port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host` or `host:port`, as it was written.
    pub fn authority(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    /// Where it is, if it is one host.
    pub fn origin(&self) -> Option<Origin> {
        let host = (!self.is_wildcard()).then(|| self.host.parse().ok()).flatten()?;
        Some(Origin { scheme: self.scheme, host, port: self.spoken_port() })
    }
}

impl From<&Origin> for HostPattern {
    fn from(origin: &Origin) -> HostPattern {
        let port = (origin.port != origin.scheme.default_port()).then_some(origin.port);
        HostPattern { scheme: origin.scheme, host: origin.host.to_string(), port }
    }
}

impl FromStr for HostPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<HostPattern, OriginError> {
        let refused = || OriginError(format!("{text:?} is not a host, host:port or a pattern such as *.example.com"));
        let (scheme, authority) = match text.split_once("://") {
            None => (Scheme::Https, text),
            Some((scheme, rest)) => (Scheme::read(scheme).ok_or_else(refused)?, rest),
        };
        let (host, port) = split_port(authority).ok_or_else(refused)?;
        let port = port.map(|digits| parse_port(digits).ok_or_else(refused)).transpose()?;
        let labels: Vec<&str> = host.split('.').collect();
        let host = if labels.contains(&"*") {
            let named = labels.iter().rev().take_while(|label| **label != "*").count();
            if named < 2 || !labels.iter().all(|label| *label == "*" || label_is_valid(label)) {
                return Err(refused());
            }
            host.to_ascii_lowercase()
        } else {
            host.parse::<Host>().map_err(|_| refused())?.to_string()
        };
        Ok(HostPattern { scheme, host, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http://" } else { "" };
        write!(f, "{scheme}{}", self.authority())
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts() {
        for (text, printed) in [
            ("Ghcr.IO", "ghcr.io"),
            ("docker.io.", "docker.io"),
            ("10.1.2.3", "10.1.2.3"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), printed);
        }
        for text in
            ["", ".", "a..b", "-a.b", "a b", "a/b", "a:1", "[::1", "127.1", "0x7f000001", "2130706433", "a@b", "é.fr"]
        {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
        assert!(format!("{}.io", "a".repeat(64)).parse::<Host>().is_err());
    }

    #[test]
    fn authorities() {
        let read = |text| parse_authority(text, 443).map(|(h, p)| format!("{h} {p}"));
        assert_eq!(read("ghcr.io"), Some("ghcr.io 443".to_owned()));
        assert_eq!(read("ghcr.io:5000"), Some("ghcr.io 5000".to_owned()));
        assert_eq!(read("[::1]:80"), Some("[::1] 80".to_owned()));
        for text in ["a:", "a:0", "a:65536", "a:+1", "u@a", "::1:80", "[::1]x", "a:1:2", ""] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn urls() {
        let (origin, path) = Origin::from_url("https://Auth.docker.io/token?service=x#y").unwrap();
        assert_eq!((origin.to_string().as_str(), path.as_str()), ("https://auth.docker.io", "/token?service=x"));
        let (origin, path) = Origin::from_url("http://r:5000?x").unwrap();
        assert_eq!((origin.to_string().as_str(), path.as_str()), ("http://r:5000", "/?x"));
        for url in ["ftp://a/", "https://u:p@a/", "//a/b", "https://", "https:///x", "a", "http://a\\@b/"] {
            // A backslash ends the authority, as a browser reads it: `http://a\@b/` is host `a`.
            if url == "http://a\\@b/" {
                assert_eq!(Origin::from_url(url).unwrap().0.to_string(), "http://a");
            } else {
                assert!(Origin::from_url(url).is_err(), "{url}");
            }
        }
    }

    #[test]
    fn patterns() {
        let matches = |pattern: &str, host: &str, port| {
            pattern.parse::<HostPattern>().unwrap().matches(&host.parse().unwrap(), port, 443)
        };
        assert!(matches("*.pkg.dev", "us-docker.pkg.dev", 443));
        assert!(!matches("*.pkg.dev", "pkg.dev", 443));
        assert!(!matches("*.pkg.dev", "a.b.pkg.dev", 443));
        assert!(matches("*.dkr.ecr.*.amazonaws.com", "1234.dkr.ecr.us-east-1.amazonaws.com", 443));
        assert!(!matches("ghcr.io", "ghcr.io", 5000));
        assert!(matches("r.corp:5000", "r.corp", 5000));
        assert!(matches("10.0.0.1:5000", "10.0.0.1", 5000));
        for pattern in ["*", "*.com", "a.*", "a.*b.example.com", "", "x y", "a:0"] {
            assert!(pattern.parse::<HostPattern>().is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_printed_back(text in "\\PC{0,40}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
            if let Ok((origin, path)) = Origin::from_url(&text) {
                prop_assert_eq!(Origin::from_url(&format!("{origin}{path}")).unwrap(), (origin, path));
            }
            let _ = text.parse::<HostPattern>().map(|p| p.to_string().parse::<HostPattern>().unwrap());
        }
    }
}
