//! Which registry does a mirror's request mean? And how often is it worth a line that one was refused?

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::clients::Notice;
use super::registry::{Registries, Site};

/// What a repository's name means at a mirror.
#[derive(Clone, Debug)]
pub struct Meant {
    /// The registry.
    pub site: Site,
    /// The repository there.
    pub repository: String,
}

/// `ns`, or the first part of a path, names a registry that is not configured: it is a key, never an address to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

/// Which registry and repository `repository` means at a mirror.
///
/// 1. `ns`, the registry's name as containerd sends it (distribution-spec, "Registry Proxying"). A path that was configured besides
///    (`override_path`, BuildKit's and podman's mirrors, K3s' `rewrite`) is taken off;
/// 2. a first part that names a registry: `ghcr.io/owner/app`, `dockerhub/library/nginx`; behind `seawall/` too, for clients that take a
///    first part with a dot for the host to ask (go-containerregistry's default registry: kaniko's `--registry-map`);
/// 3. docker.io, with `library/` before a name of one part.
///
/// # Errors
/// `ns` names nothing that is configured, a first part that can only be a host does not, or docker.io was taken out of the
/// configuration.
pub fn meant(registries: &Registries, repository: &str, ns: Option<&str>) -> Result<Meant, Unknown> {
    if let Some(ns) = ns {
        let site = registries.by_name(ns).ok_or_else(|| Unknown(ns.to_owned()))?;
        let repository = within(registries, &site, repository);
        return Ok(hub_name(site, repository));
    }
    let repository = past_own_name(repository);
    if let Some((first, rest)) = repository.split_once('/') {
        match registries.by_name(first) {
            Some(site) => return Ok(hub_name(site, rest)),
            // No name at Docker Hub has a dot in its first part.
            None if is_host(first) => return Err(Unknown(first.to_owned())),
            None => {}
        }
    }
    let site = registries.by_name("docker.io").ok_or_else(|| Unknown("docker.io".to_owned()))?;
    Ok(hub_name(site, repository))
}

/// The repository of `site` that a client means which says `ns` and a path: the path without the name of the very same registry in
/// front. An alias may be an owner's name there as well (`github` at ghcr.io): it is one where nothing but a name of one part would
/// be left, which only docker.io has.
fn within<'a>(registries: &Registries, site: &Site, repository: &'a str) -> &'a str {
    let Some((first, rest)) = repository.split_once('/') else { return repository };
    let names_it = registries.by_name(first).is_some_and(|named| named.namespace == site.namespace);
    let is_prefix = is_host(first) || rest.contains('/') || &*site.registry.name == "docker.io";
    if names_it && is_prefix { rest } else { repository }
}

/// A name at Docker Hub has two parts and no host in the second, so nothing of it is hidden.
fn past_own_name(repository: &str) -> &str {
    let rest = repository.strip_prefix("seawall/");
    rest.filter(|rest| rest.split_once('/').is_some_and(|(host, _)| is_host(host))).unwrap_or(repository)
}

/// Whether the first part of an image's name is a host, and no owner (distribution/reference, `splitDockerDomain`).
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// The same of the same registry is said once in this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Refusals of mirrors that were said. As many as there are (registry, code) at most.
#[derive(Debug, Default)]
pub struct Notices(HashMap<(String, &'static str), Said>);

#[derive(Debug)]
struct Said {
    at: SystemTime,
    unsaid: u64,
}

impl Notices {
    /// One more. `registry` and `code` are of fixed lists.
    pub fn notice(&mut self, registry: &str, code: &'static str, now: SystemTime) -> Notice {
        let said = self.0.entry((registry.to_owned(), code));
        let is_first = matches!(said, std::collections::hash_map::Entry::Vacant(_));
        let said = said.or_insert(Said { at: now, unsaid: 0 });
        let is_over = now.duration_since(said.at).is_ok_and(|passed| passed >= WINDOW);
        if is_first || is_over {
            said.at = now;
            return Notice::Say { unsaid: std::mem::take(&mut said.unsaid) };
        }
        said.unsaid += 1;
        Notice::Count
    }
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
            ("seawall/ghcr.io/owner/app", None, "ghcr.io owner/app"),
            ("seawall/docker.io/alpine", None, "docker.io library/alpine"),
            ("seawall/app", None, "docker.io seawall/app"),
            ("seawall/app.v2", None, "docker.io seawall/app.v2"),
            ("owner/app", Some("ghcr.io"), "ghcr.io owner/app"),
            ("ghcr.io/owner", Some("docker.io"), "docker.io ghcr.io/owner"),
            ("alpine", Some("registry-1.docker.io"), "docker.io library/alpine"),
            // A path and `ns`: one registry is said twice.
            ("docker.io/library/alpine", Some("docker.io"), "docker.io library/alpine"),
            ("docker.io/alpine", Some("docker.io"), "docker.io library/alpine"),
            ("dockerhub/library/alpine", Some("docker.io"), "docker.io library/alpine"),
            ("dockerhub/alpine", Some("registry-1.docker.io"), "docker.io library/alpine"),
            ("ghcr.io/owner/app", Some("ghcr.io"), "ghcr.io owner/app"),
            ("github/owner/app", Some("ghcr.io"), "ghcr.io owner/app"),
            ("github/app", Some("ghcr.io"), "ghcr.io github/app"),
            ("github/owner/app", Some("docker.io"), "docker.io github/owner/app"),
        ] {
            assert_eq!(read(repository, ns).as_deref(), Ok(expected));
        }
        // Pitfall 17: `ns` as a dial target.
        for ns in ["169.254.169.254", "localhost:22", "evil.example", ""] {
            assert_eq!(read("a/b", Some(ns)), Err(Unknown(ns.to_owned())));
        }
        assert_eq!(read("registry.corp/app", None), Err(Unknown("registry.corp".to_owned())), "no owner at docker.io");
        assert_eq!(read("localhost/app", None), Err(Unknown("localhost".to_owned())));
        assert_eq!(read("registry.corp", None).as_deref(), Ok("docker.io library/registry.corp"));
    }

    #[test]
    fn a_storm_of_refusals_is_a_line_a_minute() {
        let (start, mut notices) = (SystemTime::UNIX_EPOCH, Notices::default());
        let say = |unsaid| Notice::Say { unsaid };
        assert_eq!(notices.notice("docker.io", "DENIED", start), say(0));
        for _ in 0..1000 {
            assert_eq!(notices.notice("docker.io", "DENIED", start + WINDOW / 2), Notice::Count);
        }
        assert_eq!(notices.notice("docker.io", "TOOMANYREQUESTS", start), say(0));
        assert_eq!(notices.notice("ghcr.io", "DENIED", start), say(0));
        assert_eq!(notices.notice("docker.io", "DENIED", start + WINDOW), say(1000));
        assert_eq!(notices.notice("docker.io", "DENIED", start + WINDOW), Notice::Count);
        assert_eq!(notices.0.len(), 3);
    }
}
