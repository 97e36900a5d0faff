//! X.509 name constraints (RFC 5280 4.2.1.10): what a root may sign for, written and read.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{CidrSubnet, GeneralSubtree};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::{CaError, Permitted};
use crate::http::origin::Host;

/// What one certificate allows to those it signs. Of a kind that it says nothing about, it allows
/// everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Clone, Debug, Default)]
struct Subtrees {
    dns: Vec<String>,
    ip: Vec<Subnet>,
    /// Kinds that leaves do not have: e-mail, URI, directory names.
    others: Vec<String>,
}

/// An address and a mask, 4 or 16 bytes each.
#[derive(Clone, Debug)]
struct Subnet {
    address: Vec<u8>,
    mask: Vec<u8>,
}

impl Constraints {
    /// Reads those of a certificate; `None` when the extension is there twice or cannot be read.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Option<Constraints> {
        let Some(extension) = certificate.name_constraints().ok()? else { return Some(Constraints::default()) };
        let read = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
            let mut out = Subtrees::default();
            for subtree in subtrees.iter().flatten() {
                match &subtree.base {
                    GeneralName::DNSName(name) => out.dns.push(name.to_ascii_lowercase()),
                    GeneralName::IPAddress(bytes) => out.ip.push(Subnet::read(bytes)?),
                    GeneralName::Invalid(..) => return None,
                    other => out.others.push(other.to_string()),
                }
            }
            Some(out)
        };
        Some(Constraints {
            permitted: read(&extension.value.permitted_subtrees)?,
            excluded: read(&extension.value.excluded_subtrees)?,
        })
    }

    /// Whether a leaf for this host would be believed.
    pub(super) fn permits(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => self.permits_dns(name),
            Host::Ip(ip) => self.permits_ip(*ip),
        }
    }

    /// Whether leaves for all of this would be believed, but for holes that are excluded on
    /// purpose.
    pub(super) fn cover(&self, wanted: &Permitted) -> bool {
        match wanted {
            Permitted::Dns(name) => self.permits_dns(name),
            Permitted::Ip(ip) => self.permits_ip(ip.to_canonical()),
        }
    }

    fn permits_dns(&self, name: &str) -> bool {
        let permitted = &self.permitted.dns;
        (permitted.is_empty() || permitted.iter().any(|base| is_below(name, base)))
            && !self.excluded.dns.iter().any(|base| is_below(name, base))
    }

    fn permits_ip(&self, ip: IpAddr) -> bool {
        let permitted = &self.permitted.ip;
        (permitted.is_empty() || permitted.iter().any(|net| net.holds(ip)))
            && !self.excluded.ip.iter().any(|net| net.holds(ip))
    }

    /// One line each, `permitted: docker.io` say; empty when the certificate may sign for
    /// everything.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = |word: &'static str, subtrees: &Subtrees| {
            let dns = subtrees.dns.iter().map(|n| format!("{word} {n}"));
            let ip = subtrees.ip.iter().map(|n| format!("{word} {n}"));
            let others = subtrees.others.iter().map(|n| format!("{word} {n}"));
            dns.chain(ip).chain(others).collect::<Vec<_>>()
        };
        let mut all = lines("permitted", &self.permitted);
        all.extend(lines("excluded", &self.excluded));
        all
    }
}

/// "Any DNS name that can be constructed by simply adding zero or more labels to the left-hand side
/// of the name satisfies the name constraint" (RFC 5280 4.2.1.10). With a leading dot, as some CAs
/// write it: one or more.
fn is_below(name: &str, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    match name.strip_suffix(base) {
        Some("") => !base.starts_with('.'),
        Some(rest) => base.starts_with('.') || rest.ends_with('.'),
        None => false,
    }
}

impl Subnet {
    fn read(bytes: &[u8]) -> Option<Subnet> {
        let half = match bytes.len() {
            8 => 4,
            32 => 16,
            _ => return None,
        };
        let (address, mask) = bytes.split_at(half);
        Some(Subnet { address: address.to_vec(), mask: mask.to_vec() })
    }

    fn holds(&self, ip: IpAddr) -> bool {
        let same = |octets: &[u8]| {
            octets.len() == self.address.len()
                && octets.iter().zip(&self.address).zip(&self.mask).all(|((a, b), mask)| a & mask == b & mask)
        };
        match ip {
            IpAddr::V4(ip) => same(&ip.octets()),
            IpAddr::V6(ip) => same(&ip.octets()),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ones: u32 = self.mask.iter().map(|b| b.count_ones()).sum();
        match (<[u8; 4]>::try_from(&self.address[..]), <[u8; 16]>::try_from(&self.address[..])) {
            (Ok(v4), _) => write!(f, "{}/{ones}", Ipv4Addr::from(v4)),
            (_, Ok(v6)) => write!(f, "{}/{ones}", Ipv6Addr::from(v6)),
            _ => f.write_str("?"),
        }
    }
}

/// Brings what may be signed for into one form: names in lower case, nothing twice, nothing that is
/// below another.
pub(super) fn normalised(permitted: &[Permitted]) -> Result<Vec<Permitted>, CaError> {
    let mut dns = BTreeSet::new();
    let mut ips = BTreeSet::new();
    for part in permitted {
        match part {
            Permitted::Ip(ip) => drop(ips.insert(ip.to_canonical())),
            Permitted::Dns(name) => match name.parse() {
                Ok(Host::Name(host)) => drop(dns.insert(host)),
                _ => return Err(CaError::BadName(name.clone())),
            },
        }
    }
    let top = dns.iter().filter(|name| !dns.iter().any(|base| base != *name && is_below(name, base)));
    Ok(top.map(|name| Permitted::Dns(name.to_string())).chain(ips.iter().map(|ip| Permitted::Ip(*ip))).collect())
}

/// What is written into a root that is made here. `permitted` is normalised.
///
/// Names without a leading dot: Go refused roots with one (moby#25031, golang#16347). A kind of
/// name that nothing is permitted of would be free, so both families of addresses are excluded
/// unless one of theirs is permitted.
pub(super) fn written(permitted: &[Permitted]) -> rcgen::NameConstraints {
    let mut subtrees: Vec<_> = permitted.iter().map(subtree).collect();
    if !permitted.iter().any(|p| matches!(p, Permitted::Dns(_))) {
        subtrees.push(GeneralSubtree::DnsName("invalid".to_owned())); // RFC 6761 6.4: no host has it
    }
    let has = |v6: bool| permitted.iter().any(|p| matches!(p, Permitted::Ip(ip) if ip.is_ipv6() == v6));
    let mut excluded = Vec::new();
    if !has(false) {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
    }
    if !has(true) {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    rcgen::NameConstraints { permitted_subtrees: subtrees, excluded_subtrees: excluded }
}

fn subtree(part: &Permitted) -> GeneralSubtree {
    match part {
        Permitted::Dns(name) => GeneralSubtree::DnsName(name.clone()),
        // The whole mask by hand: rcgen's prefix would do as well, but says nothing of what 32
        // means for which family.
        Permitted::Ip(IpAddr::V4(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V4(ip.octets(), [255; 4])),
        Permitted::Ip(IpAddr::V6(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V6(ip.octets(), [255; 16])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_base() {
        // RFC 5280 4.2.1.10: host.example.com satisfies example.com, myexample.com does not.
        for (name, base, expected) in [
            ("docker.io", "docker.io", true),
            ("auth.docker.io", "docker.io", true),
            ("a.b.docker.io", "docker.io", true),
            ("notdocker.io", "docker.io", false),
            ("io", "docker.io", false),
            ("anything", "", true),
            ("docker.io", ".docker.io", false),
            ("auth.docker.io", ".docker.io", true),
        ] {
            assert_eq!(is_below(name, base), expected, "{name} below {base:?}");
        }
    }

    #[test]
    fn excluded_beats_permitted_and_families_are_apart() {
        let constraints = Constraints {
            permitted: Subtrees {
                dns: vec!["corp".into()],
                ip: vec![Subnet::read(&[10, 0, 0, 0, 255, 0, 0, 0]).unwrap()],
                others: vec![],
            },
            excluded: Subtrees { dns: vec!["secret.corp".into()], ..Subtrees::default() },
        };
        let permits = |host: &str| constraints.permits(&host.parse().unwrap());
        assert!(permits("registry.corp") && permits("10.1.2.3"));
        assert!(!permits("a.secret.corp") && !permits("11.0.0.1") && !permits("::1") && !permits("example.com"));
        assert!(constraints.cover(&Permitted::Dns("corp".into())));
        assert!(!constraints.cover(&Permitted::Dns("secret.corp".into())));
    }

    #[test]
    fn one_form() {
        let dns = |n: &str| Permitted::Dns(n.into());
        let ip = Permitted::Ip("::ffff:10.0.0.1".parse().unwrap());
        let all = normalised(&[dns("Auth.Docker.io"), dns("docker.io"), ip, dns("docker.io"), dns("ghcr.io")]).unwrap();
        assert_eq!(all, [dns("docker.io"), dns("ghcr.io"), Permitted::Ip("10.0.0.1".parse().unwrap())]);
        for bad in ["*.docker.io", ".docker.io", "https://docker.io", "docker.io:443", "10.0.0.1", ""] {
            assert!(matches!(normalised(&[dns(bad)]), Err(CaError::BadName(_))), "{bad}");
        }
    }

    #[test]
    fn a_kind_of_name_that_is_not_permitted_is_never_free() {
        let kinds = |permitted: &[Permitted]| {
            let c = written(permitted);
            let dns = c.permitted_subtrees.iter().filter(|s| matches!(s, GeneralSubtree::DnsName(_))).count();
            (dns, c.permitted_subtrees.len() - dns, c.excluded_subtrees.len())
        };
        assert_eq!(kinds(&[]), (1, 0, 2));
        assert_eq!(kinds(&[Permitted::Dns("docker.io".into())]), (1, 0, 2));
        assert_eq!(kinds(&[Permitted::Ip("10.0.0.1".parse().unwrap())]), (1, 1, 1));
        assert_eq!(
            kinds(&[Permitted::Ip("10.0.0.1".parse().unwrap()), Permitted::Ip("::1".parse().unwrap())]),
            (1, 2, 0)
        );
    }
}
