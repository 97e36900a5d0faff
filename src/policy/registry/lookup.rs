//! All registries, and how one is found: by a host of its own, or by its name.

use std::sync::Arc;

use super::site::{Registry, Role, Site};
use crate::http::origin::{Host, Origin, Scheme};

/// All registries, looked up by host or by name.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    all: Vec<Arc<Registry>>,
    /// Those that are spoken to in the clear: few are, and every request to a mirror asks for them.
    in_the_clear: Vec<Arc<Registry>>,
}

impl Registries {
    /// Where two claim one host, the first is meant.
    pub fn new(registries: Vec<Registry>) -> Registries {
        let all: Vec<_> = registries.into_iter().map(Arc::new).collect();
        let is_one = |registry: &&Arc<Registry>| registry.all_hosts().any(|(host, _)| host.scheme() == Scheme::Http);
        Registries { in_the_clear: all.iter().filter(is_one).cloned().collect(), all }
    }

    /// In the order of configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.all.iter()
    }

    /// The registry that `host:port` belongs to when a client speaks to it by `scheme`, what the host is to it,
    /// and where it is dialled.
    pub fn by_host(&self, scheme: Scheme, host: &Host, port: u16) -> Option<(Site, Role)> {
        let asked = if scheme == Scheme::Http { &self.in_the_clear } else { &self.all };
        asked.iter().find_map(|registry| {
            let (pattern, role) = registry.all_hosts().find(|(pattern, _)| pattern.is_spoken(scheme, host, port))?;
            let here = Origin { scheme, host: host.clone(), port };
            let namespace = if pattern.is_wildcard() { here.authority().into() } else { registry.name.clone() };
            let origin = match (role, &registry.upstream) {
                (Role::Registry, Some(upstream)) => upstream.clone(),
                _ => here,
            };
            Some((Site { registry: registry.clone(), namespace, origin }, role))
        })
    }

    /// The registry that has an upstream there, and repositories that are not permitted.
    pub fn restricted_upstream(&self, host: &Host, port: u16) -> Option<&Arc<Registry>> {
        let is_there = |origin: &Origin| origin.host == *host && origin.port == port;
        self.all.iter().filter(|registry| !registry.repositories.permits_all()).find(|registry| {
            let sources = registry.chain.before.iter().chain(&registry.chain.after);
            registry.upstream.iter().any(is_there) || sources.into_iter().any(|source| is_there(&source.site.origin))
        })
    }

    /// The registry that a mirror's path or `ns` names: by its name, an alias or a host of its own.
    pub fn by_name(&self, name: &str) -> Option<Site> {
        let named = self.all.iter().find(|r| *r.name == *name || r.aliases.iter().any(|a| a == name));
        if let Some((registry, origin)) = named.and_then(|registry| Some((registry, registry.upstream.clone()?))) {
            return Some(Site { registry: registry.clone(), namespace: registry.name.clone(), origin });
        }
        [Scheme::Https, Scheme::Http].into_iter().find_map(|scheme| {
            let (host, port) = crate::http::origin::parse_authority(name, scheme.default_port())?;
            self.by_host(scheme, &host, port).filter(|(_, role)| *role == Role::Registry).map(|(site, _)| site)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries() -> Registries {
        let registry = |name: &str, hosts: &[&str], upstream: Option<&str>| Registry {
            name: name.into(),
            aliases: vec![format!("{}hub", name.split('.').next().unwrap())],
            hosts: hosts.iter().map(|h| h.parse().unwrap()).collect(),
            auth_hosts: vec![format!("auth.{name}").parse().unwrap()],
            upstream: upstream.map(|u| Origin::from_url(u).unwrap().0),
            ..Registry::default()
        };
        Registries::new(vec![
            registry("docker.io", &["registry-1.docker.io", "docker.io"], Some("https://registry-1.docker.io")),
            registry("pkg.dev", &["*.pkg.dev"], None),
            registry("lab", &["http://lab:5000"], Some("http://lab:5000")),
            registry("quay.io", &["quay.io", "http://quay.io:8080"], Some("http://mirror.lan:8081")),
        ])
    }

    #[test]
    fn hosts_lead_to_their_registry() {
        let registries = registries();
        let find = |scheme, host: &str, port| {
            let found = registries.by_host(scheme, &host.parse().unwrap(), port);
            found.map(|(site, role)| format!("{site:?} {role:?}"))
        };
        let some = |text: &str| Some(text.to_owned());
        use Scheme::{Http, Https};
        assert_eq!(find(Https, "docker.io", 443), some("docker.io at https://registry-1.docker.io Registry"));
        assert_eq!(find(Https, "auth.docker.io", 443), some("docker.io at https://auth.docker.io Tokens"));
        assert_eq!(find(Https, "us.pkg.dev", 443), some("us.pkg.dev at https://us.pkg.dev Registry"));
        assert_eq!(find(Http, "lab", 5000), some("lab at http://lab:5000 Registry"));
        assert_eq!(find(Https, "lab", 5000), None);
        for (scheme, port) in [(Https, 443), (Http, 8080)] {
            assert_eq!(find(scheme, "quay.io", port), some("quay.io at http://mirror.lan:8081 Registry"));
            assert_eq!(find(scheme, "mirror.lan", 8081), None, "clients do not go there");
        }
        assert_eq!(find(Http, "quay.io", 80), None);
        assert_eq!(find(Https, "auth.quay.io", 443), some("quay.io at https://auth.quay.io Tokens"));
        assert_eq!(find(Https, "docker.io", 8443), None);
        assert_eq!(find(Https, "evil.example", 443), None);
    }

    #[test]
    fn names_lead_to_their_registry_and_nothing_else_does() {
        let registries = registries();
        let find = |name| registries.by_name(name).map(|site| format!("{site:?}"));
        for name in ["docker.io", "dockerhub", "registry-1.docker.io"] {
            assert_eq!(find(name).unwrap(), "docker.io at https://registry-1.docker.io");
        }
        assert_eq!(find("eu.pkg.dev").unwrap(), "eu.pkg.dev at https://eu.pkg.dev");
        assert_eq!(find("lab:5000").unwrap(), "lab at http://lab:5000");
        for name in ["pkg.dev", "169.254.169.254", "library", "auth.docker.io", "", "docker.io:5000"] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
