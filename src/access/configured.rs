//! What upstream said belongs to the registry that said it. Where the configuration of a registry
//! leads elsewhere than at the last start, nothing that was said before holds any more.

use std::fmt::Write as _;

use tracing::info;

use super::presence::Presences;
use crate::oci::digest::{Algorithm, Digest};
use crate::policy::registry::{Registries, Registry, Source};
use crate::records::{Journal, Records, Table};

/// Forgets what registries said that are configured otherwise now, and writes down how they are.
pub fn forget_changed(registries: &Registries, presences: &Presences, journal: &Journal, records: &mut Records) {
    let before = std::mem::take(&mut records.registries);
    let mut changed = Vec::new();
    for registry in registries.iter() {
        let now = identity(registry);
        match before.iter().find(|(name, _)| **name == *registry.name) {
            Some((_, known)) if *known == now => continue,
            Some(_) => changed.push(registry.name.clone()),
            None => {}
        }
        journal.write(Table::Registries, registry.name.to_string(), &now);
    }
    if changed.is_empty() {
        return;
    }
    info!(?changed, "these registries are configured otherwise: they are asked again for all that they said");
    presences.forget_said(|namespace| {
        registries.by_name(namespace).is_none_or(|site| changed.contains(&site.registry.name))
    });
}

/// Where a registry's repositories are, and who the operator is there: a digest of that.
fn identity(registry: &Registry) -> String {
    let chain = &registry.chain;
    let mut text = format!("{:?} {:?} {:?}", registry.upstream, chain.prefix, registry.account);
    for rewrite in &chain.rewrite {
        let _ = write!(text, " {rewrite:?}");
    }
    for Source { site, prefix, tags, .. } in chain.before.iter().chain(&chain.after) {
        let _ = write!(text, " {} {prefix:?} {tags:?} {:?}", site.origin, site.registry.account);
    }
    Digest::of(Algorithm::Sha256, text.as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;

    #[test]
    fn a_registry_is_where_it_leads() {
        let registry = |upstream: &str, prefix: Option<&str>| {
            let mut registry = Registry { name: "lab".into(), ..Registry::default() };
            registry.upstream = Some(Origin::from_url(upstream).unwrap().0);
            registry.chain.prefix = prefix.map(|prefix| prefix.parse().unwrap());
            identity(&registry)
        };
        assert_eq!(registry("https://old.test", None), registry("https://old.test", None));
        assert_ne!(registry("https://old.test", None), registry("https://new.test", None));
        assert_ne!(registry("https://old.test", None), registry("http://old.test", None));
        assert_ne!(registry("https://old.test", None), registry("https://old.test", Some("proxy")));
    }
}
