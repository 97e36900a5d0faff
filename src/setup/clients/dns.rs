//! What the overrides of every resolver have in common: the registries' names lead to seawall.
//!
//! A is ours; AAAA and HTTPS (type 65, RFC 9460: its `ipv4hint` and `ipv6hint` lead around) are
//! answered empty, and the other way round where seawall's address is an IPv6 one.

use std::net::IpAddr;

use super::names::Names;
use crate::http::origin::Host;
use crate::setup::plan::PLACEHOLDER;
use crate::setup::{Facts, Mode};

/// All of them.
pub(super) const MODES: &[Mode] = &[Mode::Dns];

/// Where the names lead.
pub(super) struct Target {
    /// As it is written in a record.
    pub(super) address: String,
    /// `A` or `AAAA`.
    pub(super) record: &'static str,
    /// What must be answered empty: the other family, and HTTPS.
    pub(super) empty: [&'static str; 2],
    /// It is known only by name.
    pub(super) name: Option<String>,
}

impl Target {
    /// From the address that clients are given.
    pub(super) fn of(facts: &Facts) -> Target {
        let v4 = |address, name| Target { address, record: "A", empty: ["AAAA", "HTTPS"], name };
        match &facts.address.host {
            Host::Ip(IpAddr::V6(ip)) => {
                Target { address: ip.to_string(), record: "AAAA", empty: ["A", "HTTPS"], name: None }
            }
            Host::Ip(IpAddr::V4(ip)) => v4(ip.to_string(), None),
            Host::Name(name) => v4(PLACEHOLDER.to_owned(), Some(name.to_string())),
        }
    }

    fn note(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        (self.address == PLACEHOLDER)
            .then(|| format!("Write the IP address of {name} where it says {PLACEHOLDER}, or give --address IP:PORT."))
    }
}

/// Where a star may stand in a server's names.
pub(super) enum Wildcards {
    /// Anywhere.
    Anywhere,
    /// At the beginning: what the rest covers is said by an example for one region of ECR.
    First(fn(&str) -> String),
    /// Nowhere.
    Nowhere,
}

/// What is not in the records.
pub(super) fn notes(names: &Names, target: &Target, wildcards: Wildcards) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(target.note());
    notes.push(
        "seawall listens on port 443 for this (listen = [\"0.0.0.0:443\"], more addresses beside it) and must not ask this resolver \
         itself: set upstream.nameservers."
            .to_owned(),
    );
    notes.push(
        "Every client needs seawall's root (seawall ca install, or /ca.crt of seawall), and must be restarted if it is a daemon. A client \
         with a resolver of its own (DNS over HTTPS, a pod's or container's hosts file) goes past."
            .to_owned(),
    );
    notes.extend(missing(names, wildcards));
    if !names.elsewhere.is_empty() {
        notes.push(format!(
            "Not led to seawall, since only names on port 443 can be: {}. Use --mode proxy or mirror for these.",
            names.elsewhere.join(", ")
        ));
    }
    notes
}

fn missing(names: &Names, wildcards: Wildcards) -> Option<String> {
    let starred = || names.parents.iter().map(|parent| format!("*.{parent}"));
    let (missing, advice): (Vec<String>, String) = match wildcards {
        Wildcards::Anywhere => return None,
        Wildcards::First(example) => {
            let advice =
                format!("add a line for each parent that you use, such as {}", example(&an_example(&names.scattered)));
            (names.scattered.clone(), advice)
        }
        Wildcards::Nowhere => {
            let all = starred().chain(names.scattered.iter().cloned()).collect();
            (all, "add each host of theirs that you use".to_owned())
        }
    };
    (!missing.is_empty()).then(|| {
        format!("Not covered, there is no such wildcard here: {}. To cover them {advice}.", missing.join(", "))
    })
}

/// The parent of one host that the first pattern means.
fn an_example(scattered: &[String]) -> String {
    let pattern = scattered.first().map(String::as_str).unwrap_or_default();
    let rest = pattern.strip_prefix("*.").unwrap_or(pattern);
    rest.replace('*', "eu-central-1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn the_other_family_is_answered_empty() {
        let target = |address| Target::of(&example::facts(address));
        let v4 = target("http://192.0.2.7:3128");
        assert_eq!((v4.record, v4.empty), ("A", ["AAAA", "HTTPS"]));
        let v6 = target("http://[2001:db8::7]:3128");
        assert_eq!((v6.record, v6.empty, v6.address.as_str()), ("AAAA", ["A", "HTTPS"], "2001:db8::7"));
        let named = target("http://seawall.lab:3128");
        assert_eq!(named.address, PLACEHOLDER);
        assert!(named.note().unwrap().contains("seawall.lab"));
    }

    #[test]
    fn what_is_not_covered_is_said() {
        let names = Names::of(&example::registries());
        let target = Target::of(&example::facts("http://192.0.2.7:3128"));
        let said = |wildcards| notes(&names, &target, wildcards).join("\n");
        assert!(!said(Wildcards::Anywhere).contains("amazonaws"));
        let first = said(Wildcards::First(|parent| format!("<{parent}>")));
        assert!(first.contains("<dkr.ecr.eu-central-1.amazonaws.com>") && !first.contains("*.gcr.io"), "{first}");
        let nowhere = said(Wildcards::Nowhere);
        for part in ["*.gcr.io", "*.pkg.dev", "*.dkr.ecr.*.amazonaws.com", "lab.corp:5000", "upstream.nameservers"] {
            assert!(nowhere.contains(part), "{part}");
        }
    }
}
