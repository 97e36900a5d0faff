//! What is configured of a registry and of its other sources. Both are dialled as a [`Site`], and a
//! site knows its registry: one file has all of these types.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use regex::Regex;

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
    /// Hosts that clients know it by, and how they speak to them.
    pub hosts: Vec<HostPattern>,
    /// Hosts of its token service, where that is not one of `hosts`.
    pub auth_hosts: Vec<HostPattern>,
    /// Where it is dialled. `None`: at the very host that the client asked for (patterns such as
    /// `*.pkg.dev`).
    pub upstream: Option<Origin>,
    /// Where its content is had besides, and under which names.
    pub chain: Chain,
    /// PEM of roots that are trusted for this registry alone, beside the system's: for what is
    /// asked on its behalf, where its redirects and realms lead included.
    pub ca_pem: Option<Vec<u8>>,
    /// Shown to its own hosts, if they ask, and to no host that they refer to.
    pub client_certificate: Option<ClientCertificate>,
    /// What may be asked for, and what is shared.
    pub repositories: Repositories,
    /// Where the operator's account is written, if there is one.
    pub account: Option<Account>,
    /// Pulls of the quota that are kept for what is pinned.
    pub reserve: u64,
    /// Connections that may bring one cold blob at once; 0 before that of all registries is put there.
    pub segments: usize,
    /// Hosts that the account may be sent to for a token, besides `hosts` and `auth_hosts`. They
    /// are not intercepted.
    pub realms: Vec<HostPattern>,
    /// Where its content may be although that is private or, if it is so named, in the clear.
    pub redirects: Vec<HostPattern>,
}

/// Where the operator's account for a registry is written. It is read again now and then: secrets
/// are rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// A name, and the file with the password.
    Password {
        /// The name of the account.
        username: Arc<str>,
        /// The password, with or without a line's end.
        file: PathBuf,
    },
    /// docker's `config.json` or podman's `auth.json`.
    DockerConfig(PathBuf),
}

impl Registry {
    /// Where it is asked, in order, as people read it. `name`: of an account.
    pub fn asked_at(&self, name: impl Fn(&Account) -> String) -> Vec<String> {
        let below =
            |prefix: &Option<Repository>| prefix.as_ref().map(|prefix| format!("/{prefix}")).unwrap_or_default();
        let source = |source: &Source| {
            let tags = (source.tags == Tags::Believed).then(|| "tags".to_owned());
            let account = source.site.registry.account.as_ref().map(|account| format!("account {}", name(account)));
            let more: Vec<_> = tags.into_iter().chain(account).collect();
            let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
            format!("{}{}{more}", source.site.origin, below(&source.prefix))
        };
        let own = self.upstream.as_ref().map_or_else(|| "the host asked for".to_owned(), ToString::to_string);
        let own = format!("{own}{}", below(&self.chain.prefix));
        let (before, after) = (self.chain.before.iter().map(source), self.chain.after.iter().map(source));
        before.chain([own]).chain(after).collect()
    }

    /// How it is dialled. How clients speak to its hosts has nothing to do with it.
    fn dialled_by(&self) -> Scheme {
        self.upstream.as_ref().map_or(Scheme::Https, |origin| origin.scheme)
    }

    /// Whether this is a place of the registry itself, by the operator's word.
    pub fn is_own(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        let upstream = self.upstream.as_ref();
        let is_upstream = upstream.is_some_and(|origin| origin.is(scheme, host, port));
        is_upstream || self.all_hosts().any(|(pattern, _)| pattern.matches(host, port, scheme.default_port()))
    }

    /// Whether the operator named this: the registry itself, its realms, its other sources, its
    /// storage. It may be dialled wherever it is.
    pub fn is_named(&self, scheme: Scheme, host: &Host, port: u16) -> bool {
        let mut sources = self.chain.before.iter().chain(&self.chain.after);
        self.is_own(scheme, host, port)
            || self.realms.iter().any(|realm| realm.matches(host, port, scheme.default_port()))
            || self.redirects.iter().any(|named| named.is_spoken(scheme, host, port))
            || sources.any(|source| source.site.origin.is(scheme, host, port))
    }

    /// Whether the operator's account may be sent to this origin for a token. Where the registry is
    /// spoken to over TLS, so is it.
    pub fn is_realm(&self, realm: &Origin) -> bool {
        let Origin { scheme, host, port } = realm;
        let named = |pattern: &HostPattern| pattern.matches(host, *port, scheme.default_port());
        (*scheme == Scheme::Https || self.dialled_by() == Scheme::Http)
            && (self.is_own(*scheme, host, *port) || self.realms.iter().any(named))
    }

    /// The names its own hosts and token hosts go by.
    pub(super) fn all_hosts(&self) -> impl Iterator<Item = (&HostPattern, Role)> {
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

/// One name space of content: a registry, at one host where it has many (`us-docker.pkg.dev` is not
/// `eu-docker.pkg.dev`).
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
    /// A repository of this registry, by the name that it has upstream: names that a rewrite makes one
    /// are one.
    pub fn key(&self, repository: &Repository) -> RepositoryKey {
        let chain = &self.registry.chain;
        if chain.rewrite.is_empty() {
            return RepositoryKey::new(&self.namespace, repository);
        }
        RepositoryKey::new(&self.namespace, &chain.renamed(repository))
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

/// A registry's other sources, and how it is asked.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Asked before the registry itself.
    pub before: Vec<Source>,
    /// Asked after it.
    pub after: Vec<Source>,
    /// Put before the names of repositories at the registry itself.
    pub prefix: Option<Repository>,
    /// Whether the registry's 404 is the last word.
    pub missing: Missing,
    /// Other names of repositories upstream; the first that fits.
    pub rewrite: Vec<Rewrite>,
}

/// Another place that has the registry's content.
#[derive(Clone, Debug)]
pub struct Source {
    /// As a site: where it is dialled, whose account is shown there.
    pub site: Site,
    /// Put before the names of repositories.
    pub prefix: Option<Repository>,
    /// Whether it is believed what tags name.
    pub tags: Tags,
    /// Whether its 404 is the last word.
    pub missing: Missing,
}

/// Whether a source is believed what tags name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// It may be behind, or somebody else's.
    Doubted,
    /// The operator says so.
    Believed,
}

/// What a 404 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// There is no such thing.
    #[default]
    Final,
    /// Another may have it.
    Next,
}

/// Another name upstream: `^bitnami/(.*)$` to `bitnamilegacy/$1`.
#[derive(Clone)]
pub struct Rewrite {
    /// What the whole name has to match.
    pub from: Regex,
    /// What it becomes.
    pub to: Arc<str>,
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
