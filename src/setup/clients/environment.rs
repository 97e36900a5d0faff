//! The variables that send a process through seawall (golang.org/x/net/http/httpproxy: the list that all these clients read).

use std::fmt::Write as _;
use std::path::PathBuf;

use super::names;
use crate::http::origin::Host;
use crate::policy::no_proxy::NoProxy;
use crate::policy::registry::Registries;
use crate::setup::{Content, Facts, File};

/// What is never asked through a proxy: this machine, private networks, a cluster's own services.
const DIRECT: &[&str] =
    &["localhost", "127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", ".svc", ".cluster.local"];

/// Of the variables, those that a password would be part of.
pub(super) const PASSWORD: &str = "Where seawall asks for names and passwords (clients.users_file), write http://NAME:PASSWORD@HOST:PORT: clients do not ask.";

/// Of every client in proxy mode.
pub(super) const ONCE: &str =
    "A process reads its environment and the system's roots once, when it starts: restart what runs already.";

/// The proxy's URL, its port written: not every client takes 80 or 443 for granted.
pub(super) fn proxy_url(facts: &Facts) -> String {
    let address = &facts.address;
    format!("{}://{}:{}", address.scheme.as_str(), address.host, address.port)
}

/// Names and values. Without a registry that is spoken to in the clear plain HTTP goes its own way.
pub(super) fn variables(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut variables = vec![("HTTPS_PROXY", proxy_url(facts)), ("NO_PROXY", no_proxy(&facts.registries))];
    if names::any_plain_http(&facts.registries) {
        variables.insert(0, ("HTTP_PROXY", proxy_url(facts)));
    }
    variables
}

/// The same, with each name in lower case too: curl reads `http_proxy` in lower case alone, Java's tools none.
pub(super) fn variables_in_both_cases(facts: &Facts) -> Vec<(String, String)> {
    let both = |(name, value): (&'static str, String)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)];
    variables(facts).into_iter().flat_map(both).collect()
}

/// [`DIRECT`] without what would lead a configured registry past seawall.
pub(super) fn no_proxy(registries: &Registries) -> String {
    let hosts: Vec<&str> =
        registries.iter().flat_map(|r| r.hosts.iter().chain(&r.auth_hosts)).map(|h| h.host()).collect();
    let kept = DIRECT.iter().copied().filter(|entry| !hosts.iter().any(|host| goes_past(entry, host)));
    kept.collect::<Vec<_>>().join(",")
}

/// Whether `entry` means a host that `pattern` means. Clients go past any proxy to this machine, whatever is listed.
fn goes_past(entry: &str, pattern: &str) -> bool {
    let Ok(host) = pattern.replace('*', "any").parse::<Host>() else { return false };
    let rule = NoProxy(vec![entry.parse().expect("the list's entries are valid")]);
    rule.matches(&host, 443) && !NoProxy::default().matches(&host, 443)
}

/// A systemd drop-in that gives them to a service.
pub(super) fn drop_in(facts: &Facts) -> String {
    let mut text =
        "# seawall: what this service fetches from registries comes through the cache.\n[Service]\n".to_owned();
    for (name, value) in variables(facts) {
        let _ = writeln!(text, "Environment=\"{name}={value}\"");
    }
    text
}

/// `NAME=VALUE` lines, each name with `prefix` before it.
pub(super) fn lines(facts: &Facts, prefix: &str) -> String {
    let line = |(name, value)| format!("{prefix}{name}={value}\n");
    variables(facts).into_iter().map(line).collect()
}

/// The entries of a container's `env`, indented by `by` spaces.
pub(super) fn yaml(facts: &Facts, by: usize) -> String {
    let space = " ".repeat(by);
    let entry = |(name, value)| format!("{space}- {{name: {name}, value: \"{value}\"}}\n");
    variables_in_both_cases(facts).into_iter().map(entry).collect()
}

/// The root in the system's store. It counts once `facts.store.command` has run.
pub(super) fn root_in_store(facts: &Facts) -> File {
    File { path: facts.store.file.clone(), content: Content::Whole(facts.ca_pem.clone()) }
}

/// A file of seawall's own.
pub(super) fn whole(path: impl Into<PathBuf>, text: impl Into<String>) -> File {
    File { path: path.into(), content: Content::Whole(text.into()) }
}

/// Text within YAML's `|` blocks.
pub(super) fn indented(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{space}{line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn a_registry_in_a_private_network_is_reached_through_seawall() {
        let list = no_proxy(&example::registries());
        assert!(!list.contains("10.0.0.0/8"), "{list}");
        assert!(list.contains("192.168.0.0/16") && list.contains("localhost"));
        for (entry, host, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            (".svc", "registry.default.svc", true),
            ("localhost", "localhost", false),
            ("::1", "::1", false),
            (".svc", "ghcr.io", false),
        ] {
            assert_eq!(goes_past(entry, host), expected, "{entry} {host}");
        }
    }

    #[test]
    fn a_drop_in_names_the_port() {
        let text = drop_in(&example::facts("http://seawall.lab:80"));
        assert!(text.contains("Environment=\"HTTPS_PROXY=http://seawall.lab:80\"\n"), "{text}");
        assert!(text.contains("HTTP_PROXY=") && text.contains("NO_PROXY="));
        let v6 = proxy_url(&example::facts("https://[fd00::1]:3128"));
        assert_eq!(v6, "https://[fd00::1]:3128");
    }

    #[test]
    fn without_a_registry_in_the_clear_plain_http_is_left_alone() {
        let mut facts = example::facts("http://seawall.lab:3128");
        facts.registries = Registries::default();
        assert_eq!(variables(&facts).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["HTTPS_PROXY", "NO_PROXY"]);
    }
}
