//! Where a redirect leads, and whether it is followed.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use url::Url;

use crate::http::origin::{HostPattern, Origin, Scheme};

/// Redirects of one request that are followed. registry.k8s.io needs three.
pub const MOST: u32 = 5;

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No Location, or none that can be read.
    Location,
    /// More than [`MOST`].
    TooMany,
    /// From TLS to plain HTTP, where the operator did not say so.
    Downgrade,
}

/// What a query cannot hold on the wire (RFC 3986, 3.4). All else goes out as it came: storage signs
/// the text of its queries.
const UNSENDABLE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Location => "a redirect without a Location that leads anywhere",
            Refused::TooMany => "too many redirects",
            Refused::Downgrade => "a redirect from https to http",
        })
    }
}

/// The request that follows a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The host that is asked next.
    pub origin: Origin,
    /// Path and query.
    pub target: String,
}

/// Where `location` leads, seen from `target` at `origin` after `hops` redirects (RFC 9110,
/// 10.2.2). `named`: where it may lead in the clear.
///
/// # Errors
/// It leads nowhere, or not where it should.
pub fn next(
    (origin, target): (&Origin, &str),
    location: Option<&[u8]>,
    hops: u32,
    named: &[HostPattern],
) -> Result<Next, Refused> {
    if hops >= MOST {
        return Err(Refused::TooMany);
    }
    let base = Url::parse(&format!("{origin}{target}")).map_err(|_| Refused::Location)?;
    let location = percent_encode(location.ok_or(Refused::Location)?, UNSENDABLE).to_string();
    let mut joined = base.join(&location).map_err(|_| Refused::Location)?;
    let (to, mut target) = Origin::from_url(joined.as_str()).map_err(|_| Refused::Location)?;
    let is_named = || named.iter().any(|named| named.is_spoken(to.scheme, &to.host, to.port));
    if origin.scheme == Scheme::Https && to.scheme == Scheme::Http && !is_named() {
        return Err(Refused::Downgrade);
    }
    let before_fragment = location.split('#').next().unwrap_or_default();
    if let Some((_, query)) = before_fragment.split_once('?') {
        joined.set_query(None);
        target = format!("{}?{query}", joined.path());
    }
    Ok(Next { origin: to, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let from = Origin::from_url("https://us.pkg.dev").unwrap().0;
        let follow = |location: Option<&str>, hops| {
            let location = location.map(str::as_bytes);
            next((&from, "/v2/a/b/blobs/x?y"), location, hops, &[]).map(|n| format!("{}{}", n.origin, n.target))
        };
        for (location, expected) in [
            ("https://cdn.example/sha256/x?sig=a%2Fb", "https://cdn.example/sha256/x?sig=a%2Fb"),
            ("/artifacts-downloads/t", "https://us.pkg.dev/artifacts-downloads/t"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("../y", "https://us.pkg.dev/v2/a/b/y"),
            ("https://cdn.example:8443", "https://cdn.example:8443/"),
            ("https://cdn.example?sig=x", "https://cdn.example/?sig=x"),
            ("https://cdn.example/x#part?y", "https://cdn.example/x"),
            ("?z", "https://us.pkg.dev/v2/a/b/blobs/x?z"),
            ("?", "https://us.pkg.dev/v2/a/b/blobs/x?"),
            // A signature is of the text.
            ("https://cdn.example/x?f='a'&g=[b]|{c}^`~", "https://cdn.example/x?f='a'&g=[b]|{c}^`~"),
            ("https://cdn.example/x?a=%2f%2F+&b=?/\\c#d", "https://cdn.example/x?a=%2f%2F+&b=?/\\c"),
            ("https://cdn.example/x?f=\"a b\"<c>", "https://cdn.example/x?f=%22a%20b%22%3Cc%3E"),
            ("https://cdn.example/ä?name=ö", "https://cdn.example/%C3%A4?name=%C3%B6"),
        ] {
            assert_eq!(follow(Some(location), 0).as_deref(), Ok(expected));
        }
        assert_eq!(follow(Some("http://us.pkg.dev/x"), 0), Err(Refused::Downgrade));
        assert_eq!(follow(Some("https://u:p@cdn.example/x"), 0), Err(Refused::Location));
        assert_eq!(follow(Some("file:///etc/passwd"), 0), Err(Refused::Location));
        assert_eq!(follow(None, 0), Err(Refused::Location));
        assert_eq!(follow(Some("/x"), MOST), Err(Refused::TooMany));
    }

    #[test]
    fn what_is_no_text_is_encoded() {
        let from = Origin::from_url("https://r.example").unwrap().0;
        let latin1 = next((&from, "/"), Some(b"https://cdn.example/\xe4?\xf6"), 0, &[]).unwrap();
        assert_eq!(latin1.target, "/%E4?%F6");
    }

    #[test]
    fn in_the_clear_where_the_operator_says_so() {
        let named: Vec<HostPattern> =
            ["http://minio.corp:9000", "tls.corp", "http://*.clear.corp"].map(|named| named.parse().unwrap()).into();
        let follow = |from, location: &str| {
            let from = Origin::from_url(from).unwrap().0;
            next((&from, "/"), Some(location.as_bytes()), 0, &named).map(|_| ())
        };
        for (from, location, expected) in [
            ("https://r.example", "http://minio.corp:9000/x", Ok(())),
            ("https://r.example", "http://a.clear.corp/x", Ok(())),
            ("https://r.example", "http://minio.corp/x", Err(Refused::Downgrade)),
            ("https://r.example", "http://tls.corp/x", Err(Refused::Downgrade)),
            ("https://r.example", "http://other.corp:9000/x", Err(Refused::Downgrade)),
            ("http://lab:5000", "http://other.corp:9000/x", Ok(())),
        ] {
            assert_eq!(follow(from, location), expected, "{from} {location}");
        }
    }

    /// The short forms of IPv4 become plain addresses here, so that the guard sees what will be
    /// dialled.
    #[test]
    fn disguised_addresses_are_unmasked() {
        let from = Origin::from_url("https://r.example").unwrap().0;
        for location in ["https://2130706433/", "https://0x7f.1/", "https://127.1/"] {
            assert_eq!(
                next((&from, "/"), Some(location.as_bytes()), 0, &[]).unwrap().origin.to_string(),
                "https://127.0.0.1"
            );
        }
    }
}
