//! The target of a request. The hosts that CONNECT, SNI, the URL and `Host` name must be one and
//! the same, or the request is misdirected (RFC 9110, 15.5.20 and 7.4).

use std::fmt;

use http::{Request, Version, header};

use super::session::{Ingress, Session};
use crate::error::{Error, Kind, Result};
use crate::http::origin::{Host, Origin, Scheme, parse_authority};
use crate::policy::addressee::{OwnNames, Reached};
use crate::policy::registry::{Registries, Role, Site};

/// What a request is for.
#[derive(Clone, Debug)]
pub enum RequestTarget {
    /// A registry or its token host, spoken to as itself.
    Registry {
        /// The registry.
        site: Site,
        /// What the host is to it.
        role: Role,
        /// The host as the client knows it.
        origin: Origin,
    },
    /// seawall itself, as a mirror or a web server.
    Own(Here),
    /// Another host, by an absolute URL.
    Other(Origin),
}

/// How a client reached seawall itself. Printed, it is a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// In the clear, or over TLS.
    pub scheme: Scheme,
    /// The host, with its port if the client said one; `None`: what it said is no host.
    pub host: Option<String>,
}

impl Here {
    /// The host, or a placeholder to be filled in by the reader.
    pub fn host_or_blank(&self) -> &str {
        self.host.as_deref().unwrap_or("SEAWALL:3128")
    }
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host_or_blank())
    }
}

/// Reads the target of a request.
///
/// # Errors
/// The names in it do not agree, or cannot be read.
pub fn target<B>(
    session: &Session,
    request: &Request<B>,
    registries: &Registries,
    own: &OwnNames,
) -> Result<RequestTarget> {
    let named = authority(request)?;
    if request.uri().path() == "*" {
        // Sent on behind an origin it would be a part of the host's name.
        return Err(Error::new(Kind::Request, "`*` (RFC 9112, 3.2.4) is not answered here: name a path"));
    }
    match &session.ingress {
        Ingress::Intercepted { site, role, origin, sni } => {
            let agree = |host: &Host| *host == origin.host;
            let is_the_name = |text: &str| matches!(&origin.host, Host::Name(name) if **name == *text);
            let (host, port) = named
                .filter(|text| !is_the_name(text))
                .map_or(Some((origin.host.clone(), origin.port)), |text| parse_authority(text, origin.port))
                .ok_or_else(|| misdirected(origin, named))?;
            if !agree(&host) || port != origin.port || !sni.as_ref().is_none_or(agree) {
                return Err(misdirected(origin, named));
            }
            Ok(RequestTarget::Registry { site: site.clone(), role: *role, origin: origin.clone() })
        }
        Ingress::Own(scheme) => match absolute(request)? {
            Some(origin) => Ok(match registries.by_host(origin.scheme, &origin.host, origin.port) {
                Some((site, role)) => RequestTarget::Registry { site, role, origin },
                // A client that reaches its mirror through its proxy.
                None if own.means(&origin.host, origin.port, session.reached) => {
                    RequestTarget::Own(Here { scheme: origin.scheme, host: Some(origin.authority()) })
                }
                None => RequestTarget::Other(origin),
            }),
            None => to_itself(session.reached, *scheme, named, registries, own),
        },
    }
}

/// The origin form (RFC 9112, 3.2.1), on a connection to seawall itself.
fn to_itself(
    reached: Reached,
    scheme: Scheme,
    named: Option<&str>,
    registries: &Registries,
    own: &OwnNames,
) -> Result<RequestTarget> {
    let read = named.and_then(|text| parse_authority(text, scheme.default_port()));
    // What can be printed is what can be read.
    let printable = named.filter(|_| read.is_some());
    match (scheme, read) {
        // In the clear anything goes: a mirror may be behind names that are not configured. But
        // over TLS the client checked the name.
        (Scheme::Https, Some((host, _))) if !own.contains(&host) => {
            let message = format!(
                "this connection is for seawall itself, the request on it for {host}, which is not in tls.names"
            );
            return Err(Error::new(Kind::Misdirected, message));
        }
        // With its port: pages repeat it, and where it is used 443 is not always the default.
        (Scheme::Https, Some((host, port))) => {
            return Ok(RequestTarget::Own(Here { scheme, host: Some(format!("{host}:{port}")) }));
        }
        // A connection to a registry that is spoken to in the clear, which the kernel redirected
        // here, or a resolver.
        (Scheme::Http, Some((host, port))) if reached.original.is_none_or(|to| to.port() == port) => {
            if let Some((site, role)) = registries.by_host(Scheme::Http, &host, port) {
                return Ok(RequestTarget::Registry { site, role, origin: Origin { scheme, host, port } });
            }
        }
        _ => {}
    }
    Ok(RequestTarget::Own(Here { scheme, host: printable.map(str::to_owned) }))
}

/// The host that the request itself names: the URL's authority and `Host`, which must agree if both
/// are there.
fn authority<B>(request: &Request<B>) -> Result<Option<&str>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(|value| value.to_str().unwrap_or("\u{0}"));
    if hosts.next().is_some() {
        return Err(Error::new(Kind::Request, "more than one Host"));
    }
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(Error::new(Kind::Request, "a request of HTTP/1.1 has a Host (RFC 9112, 3.2)"));
    }
    let url = request.uri().authority().map(http::uri::Authority::as_str);
    match (url, host) {
        (Some(url), Some(host)) if !url.eq_ignore_ascii_case(host) => {
            // One of them may leave out the scheme's default port.
            let port = request.uri().scheme_str().map_or(443, |scheme| if scheme == "http" { 80 } else { 443 });
            let same = parse_authority(url, port).is_some_and(|url| Some(url) == parse_authority(host, port));
            if same {
                Ok(Some(url))
            } else {
                Err(Error::new(Kind::Misdirected, "Host and the URL name different hosts"))
            }
        }
        (url, host) => Ok(url.or(host)),
    }
}

/// The origin of a URL in absolute form, in which a client speaks to its proxy. h2 has no other
/// form, so there it says nothing.
fn absolute<B>(request: &Request<B>) -> Result<Option<Origin>> {
    let uri = request.uri();
    if request.version() == Version::HTTP_2 || uri.scheme().is_none() {
        return Ok(None);
    }
    let refused = |error| Error::caused(Kind::Request, "the URL is not one that can be proxied", error);
    Origin::from_url(&uri.to_string()).map(|(origin, _)| Some(origin)).map_err(refused)
}

fn misdirected(origin: &Origin, named: Option<&str>) -> Error {
    let named = named.unwrap_or("no host");
    Error::new(
        Kind::Misdirected,
        format!("this connection is for {}, the request on it for {named}", origin.authority()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::registry::Registry;

    fn registries() -> Registries {
        let registry = |name: &str, upstream: &str| Registry {
            name: name.into(),
            hosts: vec![upstream.parse().unwrap()],
            upstream: Some(Origin::from_url(upstream).unwrap().0),
            ..Registry::default()
        };
        Registries::new(vec![registry("ghcr.io", "https://ghcr.io"), registry("lab:5000", "http://lab:5000")])
    }

    fn inside(sni: Option<&str>) -> Session {
        let origin = Origin::https("ghcr.io".parse().unwrap());
        let (site, role) = registries().by_host(Scheme::Https, &origin.host, 443).unwrap();
        let sni = sni.map(|name| name.parse().unwrap());
        Session { ingress: Ingress::Intercepted { site, role, origin, sni }, ..own() }
    }

    fn own() -> Session {
        let reached = Reached { local: ([127, 0, 0, 1], 3128).into(), original: None };
        Session { peer: ([127, 0, 0, 1], 1).into(), reached, ingress: Ingress::Own(Scheme::Http) }
    }

    fn target<B>(session: &Session, request: &Request<B>, registries: &Registries) -> Result<RequestTarget> {
        let names = ["seawall.corp".parse().unwrap(), "10.1.2.3".parse().unwrap()];
        super::target(session, request, registries, &OwnNames::new(&names))
    }

    fn request(uri: &str, host: Option<&str>) -> Request<()> {
        // h1 has a Host.
        let version = if host.is_some() { Version::HTTP_11 } else { Version::HTTP_2 };
        let mut request = Request::builder().uri(uri).version(version);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        request.body(()).unwrap()
    }

    /// `https://ghcr.io` with `*` behind it is another host.
    #[test]
    fn the_asterisk_form_is_refused() {
        for session in [inside(None), own()] {
            let error = target(&session, &request("*", Some("ghcr.io")), &registries()).unwrap_err();
            assert_eq!(error.kind(), Kind::Request);
        }
    }

    /// Pitfall 2: `Host: other.example` inside a connection for a registry.
    #[test]
    fn names_agree_or_the_request_is_misdirected() {
        for (sni, uri, host, good) in [
            (Some("ghcr.io"), "/v2/", Some("ghcr.io"), true),
            (None, "/v2/", Some("GHCR.io:443"), true),
            (None, "/v2/", None, true),
            (None, "https://ghcr.io/v2/", None, true),
            (None, "https://ghcr.io/v2/", Some("ghcr.io:443"), true),
            (Some("ghcr.io"), "/v2/", Some("other.example"), false),
            (Some("ghcr.io"), "/v2/", Some("ghcr.io:444"), false),
            (Some("other.example"), "/v2/", Some("ghcr.io"), false),
            (Some("ghcr.io"), "https://other.example/v2/", Some("ghcr.io"), false),
            (Some("ghcr.io"), "https://ghcr.io/v2/", Some("other.example"), false),
            (Some("ghcr.io"), "/v2/", Some("ghcr.io@other.example"), false),
            (Some("ghcr.io"), "/v2/", Some(""), false),
        ] {
            let read = target(&inside(sni), &request(uri, host), &registries());
            assert_eq!(read.is_ok(), good, "{sni:?} {uri} {host:?}: {read:?}");
            if let Err(error) = read {
                assert_eq!(error.kind(), Kind::Misdirected);
            }
        }
    }

    #[test]
    fn two_hosts_are_one_too_many() {
        let mut two = request("/v2/", Some("ghcr.io"));
        two.headers_mut().append(header::HOST, "ghcr.io".parse().unwrap());
        assert!(target(&inside(None), &two, &registries()).is_err());
    }

    #[test]
    fn the_proxys_own_port() {
        let read = |uri, host| match target(&own(), &request(uri, host), &registries()).unwrap() {
            RequestTarget::Registry { site, .. } => format!("registry {}", site.namespace),
            RequestTarget::Own(here) => format!("own {}", here.host_or_blank()),
            RequestTarget::Other(origin) => format!("other {origin}"),
        };
        assert_eq!(read("/v2/", Some("mirror:3128")), "own mirror:3128");
        assert_eq!(read("/v2/", Some("<script>")), "own SEAWALL:3128");
        assert_eq!(read("http://lab:5000/v2/", Some("lab:5000")), "registry lab:5000");
        assert_eq!(read("http://ghcr.io/v2/", Some("ghcr.io")), "other http://ghcr.io");
        assert_eq!(read("http://example.com/", Some("example.com")), "other http://example.com");
        assert_eq!(read("https://ghcr.io/v2/", Some("ghcr.io")), "registry ghcr.io");
    }

    fn whose(session: &Session, uri: &str, host: Option<&str>) -> String {
        match target(session, &request(uri, host), &registries()) {
            Ok(RequestTarget::Registry { origin, .. }) => format!("registry {origin}"),
            Ok(RequestTarget::Own(here)) => format!("own {}", here.host_or_blank()),
            Ok(RequestTarget::Other(origin)) => format!("other {origin}"),
            Err(error) => error.status().as_u16().to_string(),
        }
    }

    #[test]
    fn over_tls_the_host_is_one_of_its_names() {
        let tls = Session { ingress: Ingress::Own(Scheme::Https), ..own() };
        assert_eq!(whose(&tls, "/v2/", Some("seawall.corp")), "own seawall.corp:443");
        assert_eq!(whose(&tls, "/v2/", Some("Seawall.Corp:3128")), "own seawall.corp:3128");
        assert_eq!(whose(&tls, "/v2/", Some("10.1.2.3:8443")), "own 10.1.2.3:8443");
        assert_eq!(whose(&tls, "https://seawall.corp/v2/", None), "own seawall.corp:443");
        assert_eq!(whose(&tls, "/v2/", Some("ghcr.io")), "421");
        assert_eq!(whose(&tls, "https://ghcr.io/v2/", None), "421");
        assert_eq!(whose(&tls, "http://lab:5000/v2/", Some("lab:5000")), "registry http://lab:5000", "as a proxy");
        assert_eq!(whose(&own(), "/v2/", Some("ghcr.io")), "own ghcr.io", "in the clear any name may be its own");
    }

    #[test]
    fn its_own_url_is_for_itself() {
        assert_eq!(whose(&own(), "http://seawall.corp:3128/v2/", Some("seawall.corp:3128")), "own seawall.corp:3128");
        assert_eq!(
            whose(&own(), "http://seawall.corp:9090/", Some("seawall.corp:9090")),
            "other http://seawall.corp:9090"
        );
        assert_eq!(whose(&own(), "http://other.corp:3128/", Some("other.corp:3128")), "other http://other.corp:3128");
    }

    #[test]
    fn what_was_taken_on_its_way_to_a_plain_registry_is_for_it() {
        let redirected = |to: &str| {
            let reached = Reached { original: Some(to.parse().unwrap()), ..own().reached };
            Session { reached, ..own() }
        };
        assert_eq!(whose(&redirected("192.0.2.7:5000"), "/v2/", Some("lab:5000")), "registry http://lab:5000");
        assert_eq!(whose(&redirected("192.0.2.7:80"), "/v2/", Some("lab:5000")), "own lab:5000");
        assert_eq!(whose(&redirected("192.0.2.7:80"), "/v2/", Some("ghcr.io")), "own ghcr.io");
        assert_eq!(whose(&own(), "/v2/", Some("lab:5000")), "registry http://lab:5000", "by its name alone");
    }

    /// RFC 9112, 3.2.
    #[test]
    fn http_1_1_has_a_host() {
        let mut request = request("/v2/", None);
        *request.version_mut() = Version::HTTP_11;
        assert_eq!(target(&inside(None), &request, &registries()).unwrap_err().kind(), Kind::Request);
        *request.version_mut() = Version::HTTP_10;
        assert!(target(&inside(None), &request, &registries()).is_ok());
    }
}
