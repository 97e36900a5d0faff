//! Which registry does a mirror's request mean?

use super::registry::{Registries, Site};

/// What a repository's name means at a mirror.
#[derive(Clone, Debug)]
pub struct Meant {
    /// The registry.
    pub site: Site,
    /// The repository there.
    pub repository: String,
}

/// `ns` names a registry that is not configured: it is a key, never an address to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

/// Which registry and repository `repository` means at a mirror.
///
/// 1. `ns`, the registry's name as containerd sends it (distribution-spec, "Registry Proxying");
/// 2. a first part that names a registry: `ghcr.io/owner/app`, `dockerhub/library/nginx`;
/// 3. docker.io, with `library/` before a name of one part.
///
/// # Errors
/// `ns` names nothing that is configured, or docker.io was taken out of the configuration.
pub fn meant(registries: &Registries, repository: &str, ns: Option<&str>) -> Result<Meant, Unknown> {
    if let Some(ns) = ns {
        let site = registries.by_name(ns).ok_or_else(|| Unknown(ns.to_owned()))?;
        return Ok(hub_name(site, repository));
    }
    let first_part = repository.split_once('/');
    if let Some((site, rest)) = first_part.and_then(|(first, rest)| Some((registries.by_name(first)?, rest))) {
        return Ok(hub_name(site, rest));
    }
    let site = registries.by_name("docker.io").ok_or_else(|| Unknown("docker.io".to_owned()))?;
    Ok(hub_name(site, repository))
}

fn hub_name(site: Site, repository: &str) -> Meant {
    let short = &*site.registry.name == "docker.io" && !repository.contains('/');
    let repository = if short { format!("library/{repository}") } else { repository.to_owned() };
    Meant { site, repository }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::Registry;

    #[test]
    fn names() {
        let registry = |name: &str, alias: &str, host: &str| Registry {
            name: name.into(),
            aliases: vec![alias.to_owned()],
            hosts: vec![host.parse().unwrap()],
            upstream: Some(Origin::https(host.parse().unwrap())),
            ..Registry::default()
        };
        let registries = Registries::new(vec![
            registry("docker.io", "dockerhub", "registry-1.docker.io"),
            registry("ghcr.io", "github", "ghcr.io"),
        ]);
        let read = |repository, ns| {
            meant(&registries, repository, ns).map(|m| format!("{} {}", m.site.namespace, m.repository))
        };
        for (repository, ns, expected) in [
            ("alpine", None, "docker.io library/alpine"),
            ("library/alpine", None, "docker.io library/alpine"),
            ("acme/app", None, "docker.io acme/app"),
            ("ghcr.io/owner/app", None, "ghcr.io owner/app"),
            ("dockerhub/library/nginx", None, "docker.io library/nginx"),
            ("dockerhub/nginx", None, "docker.io library/nginx"),
            ("owner/app", Some("ghcr.io"), "ghcr.io owner/app"),
            ("ghcr.io/owner", Some("docker.io"), "docker.io ghcr.io/owner"),
            ("alpine", Some("registry-1.docker.io"), "docker.io library/alpine"),
        ] {
            assert_eq!(read(repository, ns).as_deref(), Ok(expected));
        }
        // Pitfall 17: `ns` as a dial target.
        for ns in ["169.254.169.254", "localhost:22", "evil.example", ""] {
            assert_eq!(read("a/b", Some(ns)), Err(Unknown(ns.to_owned())));
        }
    }
}
