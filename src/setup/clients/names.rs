//! The names that the registries go by, sorted by what other tools can be told of them.

use std::net::IpAddr;

use crate::http::origin::{HostPattern, Scheme};
use crate::policy::registry::Registries;

/// Names that a resolver can be told about, and those that it cannot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// One host each.
    pub(super) exact: Vec<String>,
    /// The rest of patterns that begin with their only star: `gcr.io` of `*.gcr.io`.
    pub(super) parents: Vec<String>,
    /// Patterns with a star elsewhere, as they are written: `*.dkr.ecr.*.amazonaws.com`.
    pub(super) scattered: Vec<String>,
    /// Not spoken to over TLS on port 443, or no names: a resolver does not lead them to seawall.
    pub(super) elsewhere: Vec<String>,
}

impl Names {
    /// Of every registry and of its token services.
    pub(super) fn of(registries: &Registries) -> Names {
        let mut names = Names::default();
        for registry in registries.iter() {
            for pattern in registry.hosts.iter().chain(&registry.auth_hosts) {
                names.add(pattern);
            }
        }
        names
    }

    fn add(&mut self, pattern: &HostPattern) {
        let (scheme, host) = (pattern.scheme(), pattern.host());
        let on_443 = pattern.spoken_port() == 443 && scheme == Scheme::Https;
        let (list, entry) = if !on_443 || is_address(host) {
            (&mut self.elsewhere, pattern.authority())
        } else if !pattern.is_wildcard() {
            (&mut self.exact, host.to_owned())
        } else if let Some(parent) = host.strip_prefix("*.").filter(|rest| !rest.split('.').any(|label| label == "*")) {
            (&mut self.parents, parent.to_owned())
        } else {
            (&mut self.scattered, host.to_owned())
        };
        if !list.contains(&entry) {
            list.push(entry);
        }
    }

    /// The exact ones that no parent covers, for servers whose wildcards take a whole subtree and
    /// its top.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &str> {
        let covered = |name: &str| self.parents.iter().any(|parent| is_within(name, parent));
        self.exact.iter().map(String::as_str).filter(move |name| !covered(name))
    }
}

/// The registries as image names call them, for tools with a list of mirrors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mirrored {
    /// `docker.io`, `ghcr.io`, `registry.corp:5000`.
    pub(super) hosts: Vec<String>,
    /// Patterns, which only a tool with a default for all can be told: `*.pkg.dev`.
    pub(super) patterns: Vec<String>,
}

impl Mirrored {
    /// Of every registry; token services are no part of an image's name.
    pub(super) fn of(registries: &Registries) -> Mirrored {
        let mut mirrored = Mirrored::default();
        for pattern in registries.iter().flat_map(|registry| &registry.hosts) {
            let list = if pattern.is_wildcard() { &mut mirrored.patterns } else { &mut mirrored.hosts };
            let entry = pattern.authority();
            if !list.contains(&entry) {
                list.push(entry);
            }
        }
        mirrored
    }

    /// What is lost to a tool that has no default for all.
    pub(super) fn note(&self, tool: &str) -> Option<String> {
        let patterns = self.patterns.join(", ");
        let said = format!("{tool} knows no wildcards: add an entry for each host of {patterns} that you pull from.");
        (!self.patterns.is_empty()).then_some(said)
    }
}

/// For tools whose mirrors are written as paths (`seawall:3128/ghcr.io`): hosts of image names, and
/// the first part of the path that means them at seawall. A part of a path has no colon, so a host
/// with a port goes by its registry's name.
pub(super) fn paths(registries: &Registries) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for registry in registries.iter() {
        for pattern in registry.hosts.iter().filter(|pattern| !pattern.is_wildcard()) {
            let host = pattern.authority();
            match &registry.upstream {
                _ if !host.contains(':') => paths.push((host.clone(), host)),
                Some(_) => paths.push((host, registry.name.to_string())),
                None => {}
            }
        }
    }
    paths
}

/// The hosts that are spoken to in the clear.
pub(super) fn plain_http(registries: &Registries) -> Vec<String> {
    let all = registries.iter().flat_map(|registry| &registry.hosts);
    all.filter(|pattern| pattern.scheme() == Scheme::Http).map(HostPattern::authority).collect()
}

/// Whether `name` is `parent` or lies below it.
pub(super) fn is_within(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn each_host_is_in_one_list() {
        let names = Names::of(&example::registries());
        assert_eq!(names.parents, ["gcr.io", "pkg.dev"]);
        assert_eq!(names.scattered, ["*.dkr.ecr.*.amazonaws.com"]);
        assert_eq!(names.elsewhere, ["lab.corp:5000", "tls.corp:8443", "10.1.2.3"]);
        let exact = [
            "docker.io",
            "registry-1.docker.io",
            "auth.docker.io",
            "ghcr.io",
            "gcr.io",
            "docker.elastic.co",
            "docker-auth.elastic.co",
        ];
        assert_eq!(names.exact, exact);
        assert!(!names.uncovered().any(|name| name == "gcr.io"));
    }

    #[test]
    fn mirrors_are_for_hosts_of_image_names() {
        let mirrored = Mirrored::of(&example::registries());
        assert!(mirrored.hosts.iter().any(|host| host == "lab.corp:5000"));
        assert!(!mirrored.hosts.iter().any(|host| host == "auth.docker.io"));
        assert_eq!(mirrored.patterns, ["*.gcr.io", "*.pkg.dev", "*.dkr.ecr.*.amazonaws.com"]);
        assert!(mirrored.note("it").unwrap().contains("*.pkg.dev"));
        assert_eq!(Mirrored::default().note("it"), None);
    }

    #[test]
    fn a_path_has_no_port_and_seawall_knows_it() {
        let registries = example::registries();
        let paths = paths(&registries);
        assert!(paths.contains(&("ghcr.io".to_owned(), "ghcr.io".to_owned())));
        assert!(paths.contains(&("lab.corp:5000".to_owned(), "lab".to_owned())));
        for (host, path) in &paths {
            assert!(!path.contains(':') && registries.by_name(path).is_some(), "{host} {path}");
        }
    }

    #[test]
    fn within() {
        for (name, parent, expected) in [
            ("gcr.io", "gcr.io", true),
            ("eu.gcr.io", "gcr.io", true),
            ("notgcr.io", "gcr.io", false),
            ("io", "gcr.io", false),
        ] {
            assert_eq!(is_within(name, parent), expected, "{name}");
        }
    }
}
