//! Which registry and repository a request to the mirror names.

use std::borrow::Cow;

use super::registry::{Registries, Site};
use crate::oci::percent::decoded;

/// The registry and the repository that a name at the mirror resolves to.
#[derive(Clone, Debug)]
pub struct Meant {
    /// The registry that is meant.
    pub site: Site,
    /// The repository at that registry.
    pub repository: String,
}

/// The parts of a request that name the registry, besides the repository's name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// `host:port`, taken off the front of the path: no repository's name has a colon.
    pub host: Option<&'a str>,
    /// The query's `ns` (distribution-spec, "Registry Proxying").
    pub ns: Option<&'a str>,
}

/// Why no registry is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// It names a registry that is not configured: it is a key, never an address to dial.
    #[error("{0:?} is no registry that this mirror is configured for: add a [[registry]]")]
    Unknown(String),
    /// The path names one registry, `ns` another.
    #[error("the path is for the registry {path}, `ns` for {ns}: one of them is wrong")]
    Two {
        /// The registry that the path names.
        path: String,
        /// The registry that `ns` names.
        ns: String,
    },
    /// Either a host's path without `override_path`, or an owner called `v2`: the wrong guess would be
    /// another owner's image.
    #[error(
        "/v2/{0}/v2/… is what containerd asks of a host with a path: set `override_path = true` there (an owner called v2 is not \
         reached by this path: pull through HTTPS_PROXY)"
    )]
    NoOverride(String),
}

/// Which registry and repository `repository` means at a mirror.
///
/// 1. A host with its port before the name. What follows is the name as the registry knows it;
/// 2. `ns`, the registry's name as containerd sends it. A path that was configured besides
///    (`override_path`, BuildKit's and podman's mirrors, K3s' `rewrite`) is taken off where it
///    cannot be a part of the repository's name;
/// 3. a first part that names a registry: `ghcr.io/owner/app`, `dockerhub/library/nginx`; behind
///    `seawall/` too, for clients that take a first part with a dot for the host to ask
///    (go-containerregistry's default registry: kaniko's `--registry-map`);
/// 4. docker.io, with `library/` before a name of one part.
///
/// # Errors
/// A registry is named that is not configured, or two are, or docker.io was taken out of the
/// configuration.
pub fn meant(registries: &Registries, repository: &str, said: Said<'_>) -> Result<Meant, Unclear> {
    let named = |name: &str| registries.by_name(name).ok_or_else(|| Unclear::Unknown(name.to_owned()));
    match (said.host.map(named).transpose()?, said.ns.map(named).transpose()?) {
        (Some(path), Some(ns)) if path.namespace != ns.namespace => {
            Err(Unclear::Two { path: path.namespace.to_string(), ns: ns.namespace.to_string() })
        }
        (Some(site), _) => Ok(hub_name(site, repository)),
        (None, Some(site)) => {
            let repository = within(registries, &site, repository)?;
            Ok(hub_name(site, repository))
        }
        (None, None) => by_path(registries, repository),
    }
}

/// The path below `/v2/` that a path at a mirror means, if any: `/ghcr.io/v2/owner/…` is what containerd
/// makes of a host with a path, and `//v2/…` what others make of one that ends with a slash.
pub fn api_path<'a>(registries: &Registries, path: &'a str) -> Option<Cow<'a, str>> {
    let inner = path.trim_start_matches('/');
    let path = &path[(path.len() - inner.len()).saturating_sub(1)..];
    if path == "/v2" || path.starts_with("/v2/") {
        return Some(path.into());
    }
    let (first, rest) = inner.split_once('/')?;
    let below = rest.strip_prefix("v2").filter(|below| below.is_empty() || below.starts_with('/'))?;
    registries.by_name(&decoded(first))?;
    Some(if below.len() < 2 { "/v2/".into() } else { format!("/v2/{first}{below}").into() })
}

/// The registry that a mirror's path names by host and port (`/v2/lab:5000/app/…`), and the path
/// without it. No repository's name has a colon, so it is taken off before one is read.
pub fn with_port(path: &str) -> (Option<Cow<'_, str>>, Cow<'_, str>) {
    let named = path.strip_prefix("/v2/").and_then(|path| path.split_once('/'));
    match named.map(|(first, rest)| (decoded(first), rest)).filter(|(first, _)| first.contains(':')) {
        Some((host, rest)) => (Some(host), format!("/v2/{rest}").into()),
        None => (None, path.into()),
    }
}

/// The pair `ns=…` of a query, as it is written there.
pub fn ns_pair(query: Option<&str>) -> Option<&str> {
    query?.split('&').find(|pair| is_ns(pair))
}

/// The registry that a query names by `ns` (distribution-spec, "Registry Proxying").
pub fn ns(query: Option<&str>) -> Option<Cow<'_, str>> {
    ns_pair(query)?.strip_prefix("ns=").map(decoded)
}

/// The pairs of a query but `ns`.
pub fn without_ns(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !is_ns(pair))
}

fn is_ns(pair: &str) -> bool {
    pair.starts_with("ns=")
}

fn by_path(registries: &Registries, repository: &str) -> Result<Meant, Unclear> {
    let repository = past_own_name(repository);
    if let Some((first, rest)) = repository.split_once('/') {
        match registries.by_name(first) {
            Some(site) => return Ok(hub_name(site, rest)),
            // No name at Docker Hub has a dot in its first part.
            None if is_host(first) => return Err(Unclear::Unknown(first.to_owned())),
            None => {}
        }
    }
    let site = registries.by_name("docker.io").ok_or_else(|| Unclear::Unknown("docker.io".to_owned()))?;
    Ok(hub_name(site, repository))
}

/// The repository of `site` that a client means which says `ns` and a path: the path without the
/// name of the very same registry in front, if that is a host. A name or an alias without a dot may
/// be an owner's name there as well (`github` at ghcr.io): it cannot be one only at docker.io,
/// where names have two parts and this leaves two.
fn within<'a>(registries: &Registries, site: &Site, repository: &'a str) -> Result<&'a str, Unclear> {
    let Some((first, rest)) = repository.split_once('/') else { return Ok(repository) };
    let names_it = registries.by_name(first).is_some_and(|named| named.namespace == site.namespace);
    let is_no_owner = is_host(first) || (&*site.registry.name == "docker.io" && rest.contains('/'));
    match rest.strip_prefix("v2/") {
        _ if !names_it || !is_no_owner => Ok(repository),
        Some(below) if below.contains('/') => Err(Unclear::NoOverride(first.to_owned())),
        _ => Ok(rest),
    }
}

/// A name at Docker Hub has two parts and no host in the second, so nothing of it is hidden.
fn past_own_name(repository: &str) -> &str {
    let rest = repository.strip_prefix("seawall/");
    rest.filter(|rest| rest.split_once('/').is_some_and(|(host, _)| is_host(host))).unwrap_or(repository)
}

/// Whether the first part of an image's name is a host, and no owner (distribution/reference,
/// `splitDockerDomain`).
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
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

    fn registries() -> Registries {
        let registry = |name: &str, aliases: &[&str], hosts: &[&str]| Registry {
            name: name.into(),
            aliases: aliases.iter().map(ToString::to_string).collect(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            upstream: Some(Origin::https(hosts[0].split(':').next().unwrap().parse().unwrap())),
            ..Registry::default()
        };
        Registries::new(vec![
            registry("docker.io", &["dockerhub"], &["registry-1.docker.io"]),
            registry("ghcr.io", &["github"], &["ghcr.io"]),
            registry("lab", &[], &["lab:5000"]),
            Registry { upstream: None, ..registry("corp", &[], &["reg.corp:5000", "*.reg.corp:5000"]) },
        ])
    }

    fn read(repository: &str, host: Option<&str>, ns: Option<&str>) -> Result<String, Unclear> {
        meant(&registries(), repository, Said { host, ns }).map(|m| format!("{} {}", m.site.namespace, m.repository))
    }

    #[test]
    fn paths_that_clients_make() {
        let registries = registries();
        for (path, expected) in [
            ("/v2/a/tags/list", Some("/v2/a/tags/list")),
            ("/v2/", Some("/v2/")),
            ("/v2", Some("/v2")),
            ("//v2/", Some("/v2/")),
            ("//v2/a/tags/list", Some("/v2/a/tags/list")),
            ("/ghcr.io/v2/o/a/tags/list", Some("/v2/ghcr.io/o/a/tags/list")),
            ("/dockerhub/v2/library/nginx/manifests/1", Some("/v2/dockerhub/library/nginx/manifests/1")),
            ("/lab:5000/v2/a/tags/list", Some("/v2/lab:5000/a/tags/list")),
            ("/lab%3A5000/v2/a/tags/list", Some("/v2/lab%3A5000/a/tags/list")),
            ("/ghcr.io/v2", Some("/v2/")),
            ("/ghcr.io/v2/", Some("/v2/")),
            ("/evil.example/v2/a/tags/list", None),
            ("/ghcr.io/v21/a", None),
            ("/setup/docker", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(api_path(&registries, path).as_deref(), expected, "{path}");
        }
        let said = |name: &str| read(name, None, Some("ghcr.io"));
        assert_eq!(said("ghcr.io/v2/owner/app"), Err(Unclear::NoOverride("ghcr.io".to_owned())), "or an owner's name");
        assert_eq!(said("ghcr.io/v2/app").unwrap(), "ghcr.io v2/app", "an owner's name");
    }

    #[test]
    fn a_port_in_a_path_is_no_part_of_a_repositorys_name() {
        let read = |path: &str| {
            let (host, plain) = with_port(path);
            format!("{plain} {}", host.unwrap_or_default())
        };
        assert_eq!(read("/v2/lab:5000/a/tags/list"), "/v2/a/tags/list lab:5000");
        assert_eq!(read("/v2/lab%3A5000/a/tags/list"), "/v2/a/tags/list lab:5000");
        assert_eq!(read("/v2/lab/a/tags/list"), "/v2/lab/a/tags/list ");
        assert_eq!(read("/v2/a/manifests/sha256:0"), "/v2/a/manifests/sha256:0 ");
        assert_eq!(read("/v2/"), "/v2/ ");
    }

    #[test]
    fn names() {
        let read = |repository, ns| read(repository, None, ns);
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
            ("dockerhub/library/alpine", Some("registry-1.docker.io"), "docker.io library/alpine"),
            ("dockerhub/alpine", Some("docker.io"), "docker.io dockerhub/alpine"),
            ("ghcr.io/owner/app", Some("ghcr.io"), "ghcr.io owner/app"),
            // An owner has the alias's name: no client gets another's image.
            ("github/owner/app", Some("ghcr.io"), "ghcr.io github/owner/app"),
            ("github/app", Some("ghcr.io"), "ghcr.io github/app"),
            ("lab/team/app", Some("lab"), "lab lab/team/app"),
            ("lab/team/app", Some("lab:5000"), "lab lab/team/app"),
            ("lab/app", Some("lab"), "lab lab/app"),
            ("github/owner/app", Some("docker.io"), "docker.io github/owner/app"),
        ] {
            assert_eq!(read(repository, ns).as_deref(), Ok(expected));
        }
        // Pitfall 17: `ns` as a dial target.
        for ns in ["169.254.169.254", "localhost:22", "evil.example", ""] {
            assert_eq!(read("a/b", Some(ns)), Err(Unclear::Unknown(ns.to_owned())));
        }
        assert_eq!(
            read("registry.corp/app", None),
            Err(Unclear::Unknown("registry.corp".to_owned())),
            "no owner at docker.io"
        );
        assert_eq!(read("localhost/app", None), Err(Unclear::Unknown("localhost".to_owned())));
        assert_eq!(read("registry.corp", None).as_deref(), Ok("docker.io library/registry.corp"));
    }

    #[test]
    fn behind_a_host_with_its_port_is_the_name_as_it_is() {
        for (repository, host, ns, expected) in [
            ("lab/team/app", "lab:5000", None, "lab lab/team/app"),
            ("app", "lab:5000", Some("lab"), "lab app"),
            ("app", "reg.corp:5000", None, "corp app"),
            ("app", "eu.reg.corp:5000", Some("eu.reg.corp:5000"), "eu.reg.corp:5000 app"),
        ] {
            assert_eq!(read(repository, Some(host), ns).as_deref(), Ok(expected));
        }
        let two = Unclear::Two { path: "lab".to_owned(), ns: "ghcr.io".to_owned() };
        assert_eq!(read("app", Some("lab:5000"), Some("ghcr.io")), Err(two));
        assert_eq!(read("app", Some("lab:5001"), None), Err(Unclear::Unknown("lab:5001".to_owned())));
        assert_eq!(read("app", Some("lab:5000"), Some("x.y")), Err(Unclear::Unknown("x.y".to_owned())));
    }
}
