//! Who is asked for what, in which order, what follows from an answer, and what a repository is
//! called there.

use super::site::{Chain, Missing, Source, Tags};
use crate::oci::name::Repository;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What a tag names.
    Tag,
    /// Whether the requester may read a digest: a HEAD.
    Permission,
    /// The bytes of a digest.
    Bytes,
    /// What changes without notice: lists.
    List,
}

/// Whether the requester is known to have a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Not known: sources whose answer is a grant are asked.
    #[default]
    Unknown,
    /// It has one: all sources are asked.
    Allowed,
}

/// One source that is asked.
#[derive(Clone, Copy, Debug)]
pub enum Leg<'a> {
    /// The registry itself.
    Registry,
    /// Another source.
    Source(&'a Source),
}

/// The outcome of one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A status of its own.
    Status(u16),
    /// No answer: it was unreachable or sent nonsense, or the host that it redirected to did.
    None,
}

impl Source {
    /// Whether its answer is a grant to anonymous requests.
    pub fn grants(&self) -> bool {
        self.tags == Tags::Believed && self.site.registry.account.is_none()
    }

    fn is_asked(&self, asked: Asked, reach: Reach) -> bool {
        match asked {
            Asked::List => false,
            Asked::Permission => self.grants(),
            Asked::Tag => self.tags == Tags::Believed && (self.grants() || reach == Reach::Allowed),
            Asked::Bytes => self.grants() || reach == Reach::Allowed,
        }
    }
}

impl Chain {
    /// Whether there is the registry itself alone, under its own names.
    pub fn is_plain(&self) -> bool {
        self.before.is_empty() && self.after.is_empty() && self.prefix.is_none() && self.rewrite.is_empty()
    }

    /// Whether there are sources that are asked only for who is known to be granted.
    pub fn has_closed_sources(&self) -> bool {
        self.before.iter().chain(&self.after).any(|source| !source.grants())
    }

    /// The registry and the sources that are asked, in order.
    pub fn legs(&self, asked: Asked, reach: Reach) -> impl Iterator<Item = Leg<'_>> {
        let is_asked = move |source: &&Source| source.is_asked(asked, reach);
        let before = self.before.iter().filter(is_asked).map(Leg::Source);
        let after = self.after.iter().filter(is_asked).map(Leg::Source);
        before.chain(std::iter::once(Leg::Registry)).chain(after)
    }

    /// Whether the next is asked after this answer.
    pub fn goes_on(&self, leg: Leg<'_>, answer: Answer) -> bool {
        let (missing, is_registry) = match leg {
            Leg::Registry => (self.missing, true),
            Leg::Source(source) => (source.missing, false),
        };
        match answer {
            Answer::None | Answer::Status(429 | 500..) => true,
            Answer::Status(404 | 410) => missing == Missing::Next,
            Answer::Status(200..400 | 416) => false,
            // The registry refuses this client; another source refuses seawall, and its no is nobody's.
            Answer::Status(_) => !is_registry,
        }
    }

    /// The name of a repository upstream. A rewrite that gives no valid name is not applied.
    pub fn renamed(&self, repository: &Repository) -> Repository {
        let name = repository.as_str();
        let rewritten = self.rewrite.iter().find(|rewrite| rewrite.from.is_match(name));
        let rewritten = rewritten.map(|rewrite| rewrite.from.replace(name, &*rewrite.to));
        rewritten.and_then(|name| name.parse().ok()).unwrap_or_else(|| repository.clone())
    }
}

impl Chain {
    /// The name of a repository at the registry itself.
    pub fn at_registry(&self, repository: &Repository) -> Repository {
        let renamed = self.renamed(repository);
        below(self.prefix.as_ref(), &renamed).unwrap_or(renamed)
    }
}

/// The name of a repository below a prefix. `None`: it would be too long.
pub fn below(prefix: Option<&Repository>, repository: &Repository) -> Option<Repository> {
    match prefix {
        None => Some(repository.clone()),
        Some(prefix) => format!("{prefix}/{repository}").parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use regex::Regex;

    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::{Account, Registry, Rewrite, Site};

    fn source(host: &str, tags: Tags, account: Option<Account>) -> Source {
        let registry = Arc::new(Registry { name: "docker.io".into(), account, ..Registry::default() });
        let origin = Origin::https(host.parse().unwrap());
        let site = Site { registry, namespace: host.into(), origin };
        Source { site, prefix: None, tags, missing: Missing::Next }
    }

    fn chain() -> Chain {
        let account = || Some(Account::DockerConfig("x".into()));
        Chain {
            before: vec![source("mirror", Tags::Believed, None), source("plain", Tags::Doubted, None)],
            after: vec![source("paid", Tags::Doubted, account()), source("paid-tags", Tags::Believed, account())],
            ..Chain::default()
        }
    }

    #[test]
    fn who_is_asked_for_what() {
        let chain = chain();
        let legs = |asked, reach| {
            let legs = chain.legs(asked, reach).map(|leg| match leg {
                Leg::Registry => "registry".to_owned(),
                Leg::Source(source) => source.site.namespace.to_string(),
            });
            legs.collect::<Vec<_>>().join(" ")
        };
        for (asked, reach, expected) in [
            (Asked::Tag, Reach::Unknown, "mirror registry"),
            (Asked::Tag, Reach::Allowed, "mirror registry paid-tags"),
            (Asked::Permission, Reach::Unknown, "mirror registry"),
            (Asked::Permission, Reach::Allowed, "mirror registry"),
            (Asked::Bytes, Reach::Unknown, "mirror registry"),
            (Asked::Bytes, Reach::Allowed, "mirror plain registry paid paid-tags"),
            (Asked::List, Reach::Allowed, "registry"),
        ] {
            assert_eq!(legs(asked, reach), expected, "{asked:?} {reach:?}");
        }
    }

    #[test]
    fn when_the_next_is_asked() {
        let chain = chain();
        let other = Leg::Source(&chain.before[0]);
        for (answer, after_registry, after_other) in [
            (Answer::None, true, true),
            (Answer::Status(429), true, true),
            (Answer::Status(503), true, true),
            (Answer::Status(404), false, true),
            (Answer::Status(401), false, true),
            (Answer::Status(403), false, true),
            (Answer::Status(400), false, true),
            (Answer::Status(412), false, true),
            (Answer::Status(451), false, true),
            (Answer::Status(200), false, false),
            (Answer::Status(206), false, false),
            (Answer::Status(416), false, false),
        ] {
            let said = (chain.goes_on(Leg::Registry, answer), chain.goes_on(other, answer));
            assert_eq!(said, (after_registry, after_other), "{answer:?}");
        }
        let next = Chain { missing: Missing::Next, ..Chain::default() };
        assert!(next.goes_on(Leg::Registry, Answer::Status(404)));
    }

    #[test]
    fn other_names_upstream() {
        let rewrite = |from: &str, to: &str| Rewrite { from: Regex::new(from).unwrap(), to: to.into() };
        let chain = Chain {
            rewrite: vec![rewrite("^bitnami/(.*)$", "bitnamilegacy/$1"), rewrite("^odd$", "NOT A NAME")],
            ..Chain::default()
        };
        let renamed = |name: &str| chain.renamed(&name.parse().unwrap()).to_string();
        assert_eq!(renamed("bitnami/nginx"), "bitnamilegacy/nginx");
        assert_eq!(renamed("library/bitnami"), "library/bitnami");
        assert_eq!(renamed("odd"), "odd");
        let prefix: Repository = "acme-org/dependency_proxy/containers".parse().unwrap();
        let name: Repository = "library/alpine".parse().unwrap();
        assert_eq!(
            below(Some(&prefix), &name).unwrap().as_str(),
            "acme-org/dependency_proxy/containers/library/alpine"
        );
        assert_eq!(below(Some(&prefix), &"a".repeat(250).parse().unwrap()), None);
    }
}
