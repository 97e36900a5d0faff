//! Seawall as a mirror: what every tool that knows mirrors has in common.

use crate::http::origin::{Host, Scheme};
use crate::setup::{Facts, Mode};

/// Which images come.
pub(super) const PUBLIC: &str = "Clients keep their credentials from mirrors: public images come through seawall, private ones straight \
                                 from their registry. --mode proxy serves both.";

/// What is not seen.
pub(super) const SILENT: &str = "Where seawall answers with an error the client asks the registry itself and says nothing: seawall counts what it refused.";

/// By DNS, what is not on this machine.
pub(super) const NAMES: &str = "The registries' names have to lead to seawall, which has to listen on port 443: seawall setup dnsmasq, coredns, unbound, \
                                bind, or hosts on this machine alone.";

/// A list of registries is that of the machine on which the plan was made.
pub(super) fn list_note(facts: &Facts, client: &str, mode: Mode) -> String {
    format!(
        "The registries listed here are those of the seawall.toml at hand, or the built-in ones where there is none: \
         {}/setup/{client}?mode={mode} has those of seawall itself.",
        facts.address
    )
}

/// Whether the mirror's own certificate must be trusted.
pub(super) fn needs_ca(facts: &Facts) -> bool {
    facts.address.scheme == Scheme::Https
}

/// containerd's `hosts.toml` for every registry, in `_default`: `?ns=` says which one is meant, and
/// without `server` the registry itself comes last (containerd docs/hosts.md).
pub(super) fn hosts_toml(facts: &Facts, ca: Option<&str>) -> String {
    let url = &facts.address;
    let ca = ca.map(|path| format!("  ca = \"{path}\"\n")).unwrap_or_default();
    format!("# seawall\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n{ca}")
}

/// A sentence for clients that run in a container or machine of their own, where localhost is
/// themselves.
pub(super) fn loopback_note(facts: &Facts, place: &str) -> Option<String> {
    let local = match &facts.address.host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
    };
    let said =
        format!("{} is {place} itself there: give an --address that is reached from inside.", facts.address.host);
    local.then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn hosts_toml_is_toml() {
        let facts = example::facts("https://seawall.lab:3128");
        let table: toml::Table = hosts_toml(&facts, Some("/ca.crt")).parse().unwrap();
        let host = &table["host"]["https://seawall.lab:3128"];
        assert_eq!(host["ca"].as_str(), Some("/ca.crt"));
        assert!(!hosts_toml(&facts, None).contains("ca ="));
    }

    #[test]
    fn localhost_is_somebody_else_in_a_container() {
        for (address, expected) in
            [("http://127.0.0.1:3128", true), ("http://localhost:3128", true), ("http://10.0.0.1:1", false)]
        {
            assert_eq!(loopback_note(&example::facts(address), "the node").is_some(), expected, "{address}");
        }
    }
}
