//! Who may look at a seawall, and change what is in it, on the operator's listener.
//!
//! Whoever is on the machine itself may look: what a proxy there passes on is not from there. All else, and
//! every change, needs the token, or a session that one began; beyond the machine both come over TLS alone.

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the machine itself.
    Loopback,
    /// From the machine itself, where a proxy passed it on (`Forwarded`, `X-Forwarded-For`).
    Relayed,
    /// From elsewhere, over TLS.
    Tls,
    /// From elsewhere, in the clear.
    Clear,
}

/// What it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// What is no token, and no session that is known.
    Wrong,
    /// The token, or a session.
    Right,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// To see.
    Look,
    /// To change something.
    Change,
}

/// Whether it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// With the token it may.
    NeedsToken,
    /// What it shows is not good.
    WrongToken,
    /// A token came in the clear: whoever was between has it now.
    Exposed,
}

/// Whether a request that came so, and shows that, may do this.
pub fn may(way: Way, shown: Shown, deed: Deed) -> Leave {
    match (shown, way, deed) {
        (Shown::Right | Shown::Wrong, Way::Clear, _) => Leave::Exposed,
        (Shown::Right, _, _) | (Shown::Nothing, Way::Loopback, Deed::Look) => Leave::Granted,
        (Shown::Wrong, _, _) => Leave::WrongToken,
        (Shown::Nothing, _, _) => Leave::NeedsToken,
    }
}

/// Where a request for a change says that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause<'a> {
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'a str>,
    /// `Host`, or what the request line says.
    pub host: &'a str,
}

impl Cause<'_> {
    /// Whether it is no page of elsewhere: programs say nothing of that, browsers do (RFC 6454, 7; Fetch
    /// Metadata).
    pub fn is_own_or_program(&self) -> bool {
        let is_foreign = self.site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        self.origin.is_none_or(|origin| self.is_own(origin)) && !is_foreign
    }

    /// Whether it is surely one of this listener's own pages.
    pub fn is_own_page(&self) -> bool {
        let says_own = self.origin.is_some_and(|origin| self.is_own(origin)) || self.site == Some("same-origin");
        says_own && self.is_own_or_program()
    }

    /// A proxy may have ended the TLS that a browser spoke.
    fn is_own(&self, origin: &str) -> bool {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody() {
        use Deed::{Change, Look};
        use Leave::{Exposed, Granted, NeedsToken, WrongToken};
        for (way, nothing, wrong, right) in [
            (Way::Loopback, (Granted, NeedsToken), WrongToken, Granted),
            (Way::Relayed, (NeedsToken, NeedsToken), WrongToken, Granted),
            (Way::Tls, (NeedsToken, NeedsToken), WrongToken, Granted),
            (Way::Clear, (NeedsToken, NeedsToken), Exposed, Exposed),
        ] {
            assert_eq!((may(way, Shown::Nothing, Look), may(way, Shown::Nothing, Change)), nothing, "{way:?}");
            for deed in [Look, Change] {
                assert_eq!((may(way, Shown::Wrong, deed), may(way, Shown::Right, deed)), (wrong, right), "{way:?}");
            }
        }
    }

    #[test]
    fn every_cause() {
        for (origin, site, is_own_or_program, is_own_page) in [
            (None, None, true, false),
            (None, Some("same-origin"), true, true),
            (None, Some("none"), true, false),
            (None, Some("cross-site"), false, false),
            (None, Some("same-site"), false, false),
            (Some("http://seawall:3129"), None, true, true),
            (Some("https://SEAWALL:3129"), Some("same-origin"), true, true),
            (Some("http://seawall:3129"), Some("cross-site"), false, false),
            (Some("http://seawall:3130"), None, false, false),
            (Some("http://seawall:3130"), Some("same-origin"), false, false),
            (Some("http://evil.example"), None, false, false),
            (Some("http://seawall:3129.evil.example"), None, false, false),
            (Some("null"), None, false, false),
            (Some("seawall:3129"), None, false, false),
            (Some(""), None, false, false),
        ] {
            let cause = Cause { origin, site, host: "seawall:3129" };
            assert_eq!((cause.is_own_or_program(), cause.is_own_page()), (is_own_or_program, is_own_page), "{cause:?}");
        }
    }
}
