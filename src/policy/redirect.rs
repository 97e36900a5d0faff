//! Where a redirect leads, and whether it is followed.

use std::fmt;

use url::Url;

use crate::http::origin::{Origin, Scheme};

/// Redirects of one request that are followed. registry.k8s.io needs three.
pub const MOST: u32 = 5;

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No Location, or none that can be read.
    Location,
    /// More than [`MOST`].
    TooMany,
    /// From TLS to plain HTTP.
    Downgrade,
}

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
/// 10.2.2).
///
/// # Errors
/// It leads nowhere, or not where it should.
pub fn next(origin: &Origin, target: &str, location: Option<&str>, hops: u32) -> Result<Next, Refused> {
    if hops >= MOST {
        return Err(Refused::TooMany);
    }
    let base = Url::parse(&format!("{origin}{target}")).map_err(|_| Refused::Location)?;
    let joined = base.join(location.ok_or(Refused::Location)?).map_err(|_| Refused::Location)?;
    let (to, target) = Origin::from_url(joined.as_str()).map_err(|_| Refused::Location)?;
    if origin.scheme == Scheme::Https && to.scheme == Scheme::Http {
        return Err(Refused::Downgrade);
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
            next(&from, "/v2/a/b/blobs/x?y", location, hops).map(|n| format!("{}{}", n.origin, n.target))
        };
        for (location, expected) in [
            ("https://cdn.example/sha256/x?sig=a%2Fb", "https://cdn.example/sha256/x?sig=a%2Fb"),
            ("/artifacts-downloads/t", "https://us.pkg.dev/artifacts-downloads/t"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("../y", "https://us.pkg.dev/v2/a/b/y"),
            ("https://cdn.example:8443", "https://cdn.example:8443/"),
        ] {
            assert_eq!(follow(Some(location), 0).as_deref(), Ok(expected));
        }
        assert_eq!(follow(Some("http://us.pkg.dev/x"), 0), Err(Refused::Downgrade));
        assert_eq!(follow(Some("https://u:p@cdn.example/x"), 0), Err(Refused::Location));
        assert_eq!(follow(Some("file:///etc/passwd"), 0), Err(Refused::Location));
        assert_eq!(follow(None, 0), Err(Refused::Location));
        assert_eq!(follow(Some("/x"), MOST), Err(Refused::TooMany));
    }

    /// The short forms of IPv4 become plain addresses here, so that the guard sees what will be
    /// dialled.
    #[test]
    fn disguised_addresses_are_unmasked() {
        let from = Origin::from_url("https://r.example").unwrap().0;
        for location in ["https://2130706433/", "https://0x7f.1/", "https://127.1/"] {
            assert_eq!(next(&from, "/", Some(location), 0).unwrap().origin.to_string(), "https://127.0.0.1");
        }
    }
}
