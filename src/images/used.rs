//! Each image once: what it is called at its registry, and how often it is used.

use std::collections::BTreeMap;

use super::name::Name;
use super::reference::Reference;
use crate::policy::registry::{Registries, Site};

/// An image and its uses.
#[derive(Clone, Debug)]
pub struct Used {
    /// Canonical, by the registry's own name where it is configured.
    pub name: Name,
    /// How many references name it.
    pub times: usize,
    /// Whether seawall knows its registry.
    pub is_configured: bool,
    /// What seawall asks for upstream, where that is another repository (`rewrite`).
    pub upstream: Option<String>,
}

/// Puts together what means the same. `prefix` is a mirror's: a name below it is the one behind it.
pub fn used<'a>(
    references: impl IntoIterator<Item = &'a Reference>,
    registries: &Registries,
    prefix: Option<&str>,
) -> Vec<Used> {
    let mut all: BTreeMap<Name, Used> = BTreeMap::new();
    for reference in references {
        let below = prefix.and_then(|prefix| reference.text.strip_prefix(prefix)?.strip_prefix('/'));
        let Ok(read) = Name::read(below.unwrap_or(&reference.text)) else { continue };
        let site = registries.by_name(&read.registry);
        let name = at_home(read, site.as_ref());
        let entry = all.entry(name.clone()).or_insert_with(|| Used {
            is_configured: site.is_some(),
            upstream: site.and_then(|site| upstream(&site, &name)),
            name,
            times: 0,
        });
        entry.times += usize::from(!reference.is_repeated);
    }
    all.into_values().collect()
}

/// The same under the registry's name in keys: `registry-1.docker.io` is `docker.io`. No tag and no
/// digest is `latest`.
fn at_home(name: Name, site: Option<&Site>) -> Name {
    let registry = site.map_or_else(|| name.registry.clone(), |site| site.namespace.to_string());
    let named = Name { registry, ..name };
    // docker.io's names of one part are below library/ by its other hosts as well.
    Name::read(&named.to_string()).unwrap_or(named)
}

fn upstream(site: &Site, name: &Name) -> Option<String> {
    let renamed = site.registry.chain.renamed(&name.repository);
    (renamed != name.repository).then(|| format!("{}/{renamed}", name.registry))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Place;
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::{Chain, Registry, Rewrite};

    pub(in crate::images) fn registries() -> Registries {
        let registry = |name: &str, hosts: &[&str], aliases: &[&str]| Registry {
            name: name.into(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            upstream: Some(Origin::https(hosts[0].split(':').next().unwrap().parse().unwrap())),
            ..Registry::default()
        };
        let rewrite = Rewrite { from: regex::Regex::new("^bitnami/(.*)$").unwrap(), to: "bitnamilegacy/$1".into() };
        let hub = registry("docker.io", &["registry-1.docker.io", "docker.io"], &["dockerhub"]);
        Registries::new(vec![
            Registry { chain: Chain { rewrite: vec![rewrite], ..Chain::default() }, ..hub },
            registry("ghcr.io", &["ghcr.io"], &[]),
            registry("lab:5000", &["lab:5000"], &["lab"]),
            registry("bare:5000", &["bare:5000"], &[]),
        ])
    }

    #[test]
    fn what_means_the_same_is_one() {
        let reference =
            |text: &str| Reference { text: text.to_owned(), line: 1, place: Place::Elsewhere(""), is_repeated: false };
        let references = [
            "alpine",
            "docker.io/library/alpine:latest",
            "registry-1.docker.io/alpine",
            "m:1/docker.io/library/alpine",
            "bitnami/redis:7",
            "quay.io/a/b",
        ]
        .map(reference);
        let used = used(&references, &registries(), Some("m:1"));
        let said = used.iter().map(|u| (u.name.to_string(), u.times, u.is_configured, u.upstream.clone()));
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                ("docker.io/bitnami/redis:7".to_owned(), 1, true, Some("docker.io/bitnamilegacy/redis".to_owned())),
                ("docker.io/library/alpine:latest".to_owned(), 4, true, None),
                ("quay.io/a/b:latest".to_owned(), 1, false, None),
            ]
        );
    }
}
