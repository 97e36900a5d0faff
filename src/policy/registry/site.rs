//! The registries seawall knows: which hosts are theirs, where they are dialled.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::chain::Chain;
use crate::http::origin::{Host, HostPattern, Origin, Scheme};
use crate::oci::name::{Repository, RepositoryKey};
use crate::policy::client_certificate::ClientCertificate;
use crate::policy::repositories::Repositories;

/// One registry as configured, or built in.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// In keys, paths, metrics.
    pub name: Arc<str>,
    /// Other names of it in mirror paths.
    pub aliases: Vec<String>,
    /// Hosts that clients know it by.
    pub hosts: Vec<HostPattern>,
    /// Hosts of its token service, where that is not one of `hosts`.
    pub auth_hosts: Vec<HostPattern>,
    /// Where it is dialled. `None`: at the very host that the client asked for (patterns such as `*.pkg.dev`).
    pub upstream: Option<Origin>,
    /// Where its content is had besides, and under which names.
    pub chain: Chain,
    /// PEM of roots that are trusted for this registry alone, beside the system's: for what is asked on its behalf, where its
    /// redirects and realms lead included.
    pub ca_pem: Option<Vec<u8>>,
    /// Shown to its own hosts, if they ask, and to nobody that they refer to.
    pub client_certificate: Option<ClientCertificate>,
    /// What may be asked for, and what is shared.
    pub repositories: Repositories,
    /// Where the operator's account is written, if there is one.
    pub account: Option<Account>,
    /// Pulls of the quota that are kept for what is pinned.
    pub reserve: u64,
    /// Hosts that the account may be sent to for a token, besides `hosts` and `auth_hosts`. They are not intercepted.
    pub realms: Vec<HostPattern>,
}

/// Where the operator's account for a registry is written. It is read anew now and then: secrets are rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// A name, and the file with the password.
    Password {
        /// Who.
        username: Arc<str>,
        /// The password, with or without a line's end.
        file: PathBuf,
    },
    /// docker's `config.json` or podman's `auth.json`.
    DockerConfig(PathBuf),
}

impl Registry {
    /// How its hosts are spoken to.
    pub fn scheme(&self) -> Scheme {
        self.upstream.as_ref().map_or(Scheme::Https, |origin| origin.scheme)
    }

    /// Whether this is a place of the registry itself, by the operator's word.
    pub fn is_own(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        let upstream = self.upstream.as_ref();
        let is_upstream = upstream.is_some_and(|origin| origin.is(scheme, host, port));
        is_upstream || self.all_hosts().any(|(pattern, _)| pattern.matches(host, port, scheme.default_port()))
    }

    /// Whether the operator named this: the registry itself, its realms, its other sources. It may be dialled wherever it is.
    pub fn is_named(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        let mut sources = self.chain.before.iter().chain(&self.chain.after);
        self.is_own(scheme, host, port)
            || self.realms.iter().any(|realm| realm.matches(host, port, scheme.default_port()))
            || sources.any(|source| source.site.origin.is(scheme, host, port))
    }

    /// Whether the operator's account may be sent to this origin for a token. Where the registry is spoken to over TLS, so is it.
    pub fn is_realm(&self, realm: &Origin) -> bool {
        let Origin { scheme, host, port } = realm;
        let named = |pattern: &HostPattern| pattern.matches(host, *port, scheme.default_port());
        (*scheme == Scheme::Https || self.scheme() == Scheme::Http)
            && (self.is_own(*scheme, host, *port) || self.realms.iter().any(named))
    }

    /// The names its own hosts and token hosts go by.
    fn all_hosts(&self) -> impl Iterator<Item = (&HostPattern, Role)> {
        let hosts = self.hosts.iter().map(|h| (h, Role::Registry));
        hosts.chain(self.auth_hosts.iter().map(|h| (h, Role::Tokens)))
    }
}

/// What a host is to its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It answers `/v2/`.
    Registry,
    /// It issues tokens.
    Tokens,
}

/// One name space of content: a registry, at one host where it has many (`us-docker.pkg.dev` is not `eu-docker.pkg.dev`).
#[derive(Clone)]
pub struct Site {
    /// Whose configuration holds.
    pub registry: Arc<Registry>,
    /// In keys: the registry's name, or the host where its hosts are a pattern.
    pub namespace: Arc<str>,
    /// Where it is dialled.
    pub origin: Origin,
}

impl Site {
    /// A repository of this registry.
    pub fn key(&self, repository: &Repository) -> RepositoryKey {
        RepositoryKey::new(&self.namespace, repository)
    }

    /// The same, dialled elsewhere: at its token service.
    #[must_use]
    pub fn at(&self, origin: Origin) -> Site {
        Site { origin, ..self.clone() }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.namespace, self.origin)
    }
}

/// All registries, looked up by host or by name.
#[derive(Clone, Debug, Default)]
pub struct Registries(Vec<Arc<Registry>>);

impl Registries {
    /// Where two claim one host, the first is meant.
    pub fn new(registries: Vec<Registry>) -> Registries {
        Registries(registries.into_iter().map(Arc::new).collect())
    }

    /// In the order of configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.0.iter()
    }

    /// The registry that `host:port` belongs to when spoken to by `scheme`, what the host is to it, and where it is dialled.
    pub fn by_host(&self, scheme: Scheme, host: &Host, port: u16) -> Option<(Site, Role)> {
        self.0.iter().filter(|registry| registry.scheme() == scheme).find_map(|registry| {
            let (pattern, role) =
                registry.all_hosts().find(|(pattern, _)| pattern.matches(host, port, scheme.default_port()))?;
            let here = Origin { scheme, host: host.clone(), port };
            let namespace = if pattern.is_wildcard() { here.authority().into() } else { registry.name.clone() };
            let origin = match (role, &registry.upstream) {
                (Role::Registry, Some(upstream)) => upstream.clone(),
                _ => here,
            };
            Some((Site { registry: registry.clone(), namespace, origin }, role))
        })
    }

    /// The registry that a mirror's path or `ns` names: by its name, an alias or a host of its own.
    pub fn by_name(&self, name: &str) -> Option<Site> {
        let named = self.0.iter().find(|r| *r.name == *name || r.aliases.iter().any(|a| a == name));
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
            registry("lab", &["lab:5000"], Some("http://lab:5000")),
        ])
    }

    /// Pitfall 16: credentials sent to a token realm that a registry named on another host.
    #[test]
    fn a_credential_is_for_realms_of_the_registry() {
        let registry = |upstream| Registry {
            hosts: vec!["lab.example".parse().unwrap(), "*.lab.example".parse().unwrap()],
            auth_hosts: vec!["auth.example:8443".parse().unwrap()],
            realms: vec!["sso.example".parse().unwrap()],
            upstream: Some(Origin::from_url(upstream).unwrap().0),
            ..Registry::default()
        };
        let may = |upstream, realm| registry(upstream).is_realm(&Origin::from_url(realm).unwrap().0);
        for (realm, good) in [
            ("https://lab.example/token", true),
            ("https://eu.lab.example/token", true),
            ("https://auth.example:8443/token", true),
            ("https://sso.example/token", true),
            ("https://real.example:444/token", true),
            ("https://auth.example/token", false),
            ("https://evil.example/token", false),
            ("https://lab.example.evil.example/token", false),
            ("https://lab.example:444/token", false),
            ("http://lab.example/token", false),
            ("https://127.0.0.1/token", false),
        ] {
            assert_eq!(may("https://real.example:444", realm), good, "{realm}");
        }
        assert!(may("http://lab.example", "http://lab.example/token"));
        assert!(!may("http://lab.example", "http://evil.example/token"));
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
