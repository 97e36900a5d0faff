//! Which hosts the parent proxy is not asked for, written as `NO_PROXY` and read as Go reads it
//! (golang.org/x/net/http/httpproxy), but that a word which means nothing is an error.
//!
//! Names are compared as they are written: a CIDR means addresses in URLs, not what a name resolves
//! to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::http::origin::{Host, parse_authority};

/// One word of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `*`: everything.
    All,
    /// `10.0.0.0/8`: every address in it.
    Network(IpNet),
    /// One address, at one port or any: `10.0.0.1`, `[::1]:5000`.
    Address(IpAddr, Option<u16>),
    /// `corp.example`, it and all below it; `.corp.example`, only what is below. At one port or
    /// any.
    Domain {
        /// `corp.example`
        name: Host,
        /// Whether `name` itself is meant.
        itself: Itself,
        /// The port; `None` matches any.
        port: Option<u16>,
    },
}

/// Whether a domain's own name is meant, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Itself {
    /// `corp.example`
    Meant,
    /// `.corp.example`, `*.corp.example`
    Left,
}

/// None of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError(String);

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no host, suffix, address or network", self.0)
    }
}

impl std::error::Error for RuleError {}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let refused = || RuleError(text.to_owned());
        if text == "*" {
            return Ok(Rule::All);
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Rule::Network(network));
        }
        // Bare IPv6 has colons of its own.
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Rule::Address(ip.to_canonical(), None));
        }
        let bare = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        // Two defaults that differ only where no port was written.
        let read = |default| parse_authority(bare.unwrap_or(text), default).ok_or_else(refused);
        let ((host, one), (_, other)) = (read(1)?, read(2)?);
        let port = (one == other).then_some(one);
        match (host, bare) {
            (Host::Ip(ip), None) => Ok(Rule::Address(ip, port)),
            (Host::Ip(_), Some(_)) => Err(refused()),
            (name, None) => Ok(Rule::Domain { name, itself: Itself::Meant, port }),
            (name, Some(_)) => Ok(Rule::Domain { name, itself: Itself::Left, port }),
        }
    }
}

impl Rule {
    fn matches(&self, host: &Host, port: u16) -> bool {
        match (self, host) {
            (Rule::All, _) => true,
            (Rule::Network(network), Host::Ip(ip)) => network.contains(ip),
            (Rule::Address(ours, at), Host::Ip(ip)) => ours == ip && at.is_none_or(|at| at == port),
            (Rule::Domain { name: Host::Name(ours), itself, port: at }, Host::Name(name)) => {
                let meant = match name.strip_suffix(&**ours) {
                    Some("") => *itself == Itself::Meant,
                    Some(below) => below.ends_with('.'),
                    None => false,
                };
                meant && at.is_none_or(|at| at == port)
            }
            _ => false,
        }
    }
}

/// All words of `no_proxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(pub Vec<Rule>);

impl NoProxy {
    /// Whether `host:port` is dialled from here. As in Go, this machine always is: a parent's
    /// `localhost` is another.
    pub fn matches(&self, host: &Host, port: u16) -> bool {
        let is_here = match host {
            Host::Name(name) => &**name == "localhost",
            Host::Ip(ip) => ip.is_loopback(),
        };
        is_here || self.0.iter().any(|rule| rule.matches(host, port))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn direct(rules: &[&str], host: &str, port: u16) -> bool {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        NoProxy(rules).matches(&host.parse().unwrap(), port)
    }

    /// The cases of httpproxy's own test (proxy_test.go: UseProxyTests), and ports.
    #[test]
    fn as_go_reads_it() {
        let list =
            ["foobar.com", ".barbaz.net", "[::1]", "192.0.2.1", "192.168.1.0/24", "2001:db8::52:0:1", "[::1]:80"];
        for (host, is_direct) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("[2001:db8::52:0:1]", true),
            ("[2001:db8::52:0:2]", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("192.168.1.3", true),
            ("192.168.2.3", false),
            ("www.barbaz.net", true),
            ("foobar.com", true),
            ("www.foobar.com", true),
            ("foofoobar.com", false),
            ("baz.com", false),
            ("localhost.net", false),
            ("local.localhost", false),
            ("barbarbaz.net", false),
            ("barbaz.net", false),
            ("wwwfoobar.com", false),
        ] {
            assert_eq!(direct(&list, host, 443), is_direct, "{host}");
        }
    }

    #[test]
    fn ports_stars_and_clothes() {
        assert!(direct(&["lab:5000"], "lab", 5000) && !direct(&["lab:5000"], "lab", 443));
        assert!(direct(&[".lab.corp:5000"], "a.lab.corp", 5000) && !direct(&[".lab.corp:5000"], "lab.corp", 5000));
        assert!(direct(&["*.lab.corp"], "a.lab.corp", 1) && !direct(&["*.lab.corp"], "lab.corp", 1));
        assert!(direct(&["10.0.0.1:443"], "10.0.0.1", 443) && !direct(&["10.0.0.1:443"], "10.0.0.1", 444));
        assert!(direct(&["[2001:db8::1]:5000"], "[2001:db8::1]", 5000));
        assert!(direct(&["*"], "anything.example", 443) && direct(&["*"], "10.0.0.1", 22));
        assert!(direct(&["Corp.Example."], "Registry.CORP.example.", 443));
        // A v4 address in v6 clothes is the v4 address.
        assert!(direct(&["10.0.0.0/8"], "[::ffff:10.1.2.3]", 443) && direct(&["::ffff:10.1.2.3"], "10.1.2.3", 443));
        assert!(!direct(&["10.0.0.0/8"], "registry.corp", 443), "a network is no name");
        assert!(!direct(&[], "registry.corp", 443));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in
            ["", ".", "*.", "a b", "*.10.0.0.1", ".10.0.0.1", "10.0.0.0/33", "a:0", "a:x", "http://a", "a*.b", "**"]
        {
            assert!(text.parse::<Rule>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}", host in "[a-z]{1,4}(\\.[a-z]{1,4}){0,3}", port: u16) {
            if let Ok(rule) = text.parse::<Rule>() {
                rule.matches(&host.parse().unwrap(), port);
            }
            // A domain means itself and what is below it, and nothing that merely ends alike.
            let (below, alike) = (format!("x.{host}"), format!("x{host}"));
            prop_assert!(direct(&[&host], &host, port) && direct(&[&host], &below, port));
            prop_assert!(!direct(&[&host], &alike, port));
        }
    }
}
