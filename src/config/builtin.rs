//! The registries that are known without configuration, and what a root may sign for.

use std::net::IpAddr;

use crate::ca::Permitted;
use crate::http::origin::{Host, HostPattern, Origin};
use crate::policy::registry::Registry;

/// A registry that needs no configuration.
struct Builtin {
    name: &'static str,
    aliases: &'static [&'static str],
    hosts: &'static [&'static str],
    auth_hosts: &'static [&'static str],
    /// Where an account may be sent for a token besides, unintercepted.
    realms: &'static [&'static str],
    /// The host that is dialled. `None`: the one that was asked for.
    upstream: Option<&'static str>,
}

const fn single(name: &'static str, host: &'static [&'static str]) -> Builtin {
    Builtin { name, aliases: &[], hosts: host, auth_hosts: &[], realms: &[], upstream: Some(host[0]) }
}

const fn pattern(name: &'static str, hosts: &'static [&'static str]) -> Builtin {
    Builtin { name, aliases: &[], hosts, auth_hosts: &[], realms: &[], upstream: None }
}

/// Aliases are rare on purpose: on the mirror path `/v2/NAME/…` an alias hides Docker Hub's user of
/// that name.
///
/// `auth_hosts` are intercepted like the registry itself, so only a host that does nothing but
/// issue tokens may be one. registry.gitlab.com's token service is gitlab.com, which is also a web
/// site with people's sessions: it is left out, its tokens go through a tunnel, and pulls work as
/// before.
const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "docker.io",
        aliases: &["dockerhub"],
        hosts: &["registry-1.docker.io", "index.docker.io", "docker.io", "registry.hub.docker.com"],
        auth_hosts: &["auth.docker.io"],
        realms: &[],
        upstream: Some("registry-1.docker.io"),
    },
    single("ghcr.io", &["ghcr.io"]),
    single("quay.io", &["quay.io"]),
    pattern("gcr.io", &["gcr.io", "*.gcr.io"]),
    pattern("pkg.dev", &["*.pkg.dev"]),
    single("registry.k8s.io", &["registry.k8s.io"]),
    single("mcr.microsoft.com", &["mcr.microsoft.com"]),
    single("public.ecr.aws", &["public.ecr.aws"]),
    pattern("dkr.ecr.amazonaws.com", &["*.dkr.ecr.*.amazonaws.com"]),
    Builtin { realms: &["gitlab.com"], ..single("registry.gitlab.com", &["registry.gitlab.com"]) },
    single("nvcr.io", &["nvcr.io"]),
    Builtin {
        name: "docker.elastic.co",
        aliases: &[],
        hosts: &["docker.elastic.co"],
        auth_hosts: &["docker-auth.elastic.co"],
        realms: &[],
        upstream: Some("docker.elastic.co"),
    },
    single("lscr.io", &["lscr.io"]),
    single("registry.redhat.io", &["registry.redhat.io"]),
    single("registry.access.redhat.com", &["registry.access.redhat.com"]),
    single("dhi.io", &["dhi.io"]),
    single("registry.ollama.ai", &["registry.ollama.ai"]),
    single("cgr.dev", &["cgr.dev"]),
];

/// All of them, in the order of the documentation.
pub fn registries() -> Vec<Registry> {
    let pattern = |host: &&str| host.parse::<HostPattern>().expect("the table's hosts are valid");
    let origin = |host: &str| Origin::https(host.parse::<Host>().expect("the table's hosts are valid"));
    let made = BUILTINS.iter().map(|builtin| Registry {
        name: builtin.name.into(),
        aliases: builtin.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        hosts: builtin.hosts.iter().map(pattern).collect(),
        auth_hosts: builtin.auth_hosts.iter().map(pattern).collect(),
        realms: builtin.realms.iter().map(pattern).collect(),
        upstream: builtin.upstream.map(origin),
        ..Registry::default()
    });
    made.collect()
}

/// The regions of `*.dkr.ecr.REGION.amazonaws.com`, GovCloud included (China's are below
/// amazonaws.com.cn: not these). X.509 constraints have no wildcards, and amazonaws.com as a whole
/// is everybody's. A new region needs a new root, or its name in `[ca] names` beforehand.
const AWS_REGIONS: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// What a root must be allowed to sign for so that all these can be intercepted, each part once.
pub(super) fn permitted<'a>(registries: impl Iterator<Item = &'a Registry>, names: &[Host]) -> Vec<Permitted> {
    let mut all: Vec<Permitted> = Vec::new();
    for registry in registries {
        for pattern in registry.hosts.iter().chain(&registry.auth_hosts) {
            all.extend(subtrees(pattern));
        }
    }
    all.extend(names.iter().map(|host| match host {
        Host::Name(name) => Permitted::Dns(name.to_string()),
        Host::Ip(ip) => Permitted::Ip(*ip),
    }));
    let mut kept: Vec<Permitted> = Vec::new();
    for one in &all {
        let covered = all.iter().any(|other| other != one && is_below(one, other));
        if !covered && !kept.contains(one) {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether all that `one` permits, `other` permits too.
fn is_below(one: &Permitted, other: &Permitted) -> bool {
    match (one, other) {
        (Permitted::Dns(one), Permitted::Dns(other)) => {
            one.strip_suffix(other.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
        _ => one == other,
    }
}

/// A subtree is what follows the last `*`.
fn subtrees(pattern: &HostPattern) -> Vec<Permitted> {
    let host = pattern.host();
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return vec![Permitted::Ip(ip)];
    }
    let tail = |host: &str| match host.rsplit_once("*.") {
        Some((_, tail)) => tail.to_owned(),
        None => host.to_owned(),
    };
    match host.strip_suffix(".*.amazonaws.com") {
        Some(start) => {
            AWS_REGIONS.iter().map(|region| Permitted::Dns(tail(&format!("{start}.{region}.amazonaws.com")))).collect()
        }
        None => vec![Permitted::Dns(tail(host))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::registry::Registries;

    fn dns(names: &[&str]) -> Vec<Permitted> {
        names.iter().map(|name| Permitted::Dns((*name).to_owned())).collect()
    }

    #[test]
    fn the_registries_of_the_design_are_built_in() {
        let registries = Registries::new(registries());
        let find = |host: &str| {
            let found = registries.by_host(crate::http::origin::Scheme::Https, &host.parse().unwrap(), 443);
            found.map(|(site, role)| format!("{} {site:?} {role:?}", site.registry.name))
        };
        for (host, found) in [
            ("registry-1.docker.io", "docker.io docker.io at https://registry-1.docker.io Registry"),
            ("index.docker.io", "docker.io docker.io at https://registry-1.docker.io Registry"),
            ("docker.io", "docker.io docker.io at https://registry-1.docker.io Registry"),
            ("registry.hub.docker.com", "docker.io docker.io at https://registry-1.docker.io Registry"),
            ("auth.docker.io", "docker.io docker.io at https://auth.docker.io Tokens"),
            ("ghcr.io", "ghcr.io ghcr.io at https://ghcr.io Registry"),
            ("quay.io", "quay.io quay.io at https://quay.io Registry"),
            ("gcr.io", "gcr.io gcr.io at https://gcr.io Registry"),
            ("mirror.gcr.io", "gcr.io mirror.gcr.io at https://mirror.gcr.io Registry"),
            ("us-docker.pkg.dev", "pkg.dev us-docker.pkg.dev at https://us-docker.pkg.dev Registry"),
            ("registry.k8s.io", "registry.k8s.io registry.k8s.io at https://registry.k8s.io Registry"),
            ("mcr.microsoft.com", "mcr.microsoft.com mcr.microsoft.com at https://mcr.microsoft.com Registry"),
            ("public.ecr.aws", "public.ecr.aws public.ecr.aws at https://public.ecr.aws Registry"),
            (
                "1234.dkr.ecr.eu-west-1.amazonaws.com",
                "dkr.ecr.amazonaws.com 1234.dkr.ecr.eu-west-1.amazonaws.com at \
                 https://1234.dkr.ecr.eu-west-1.amazonaws.com Registry",
            ),
            ("registry.gitlab.com", "registry.gitlab.com registry.gitlab.com at https://registry.gitlab.com Registry"),
            ("nvcr.io", "nvcr.io nvcr.io at https://nvcr.io Registry"),
            ("docker.elastic.co", "docker.elastic.co docker.elastic.co at https://docker.elastic.co Registry"),
            ("lscr.io", "lscr.io lscr.io at https://lscr.io Registry"),
            ("registry.redhat.io", "registry.redhat.io registry.redhat.io at https://registry.redhat.io Registry"),
            (
                "registry.access.redhat.com",
                "registry.access.redhat.com registry.access.redhat.com at https://registry.access.redhat.com Registry",
            ),
            ("dhi.io", "dhi.io dhi.io at https://dhi.io Registry"),
            ("registry.ollama.ai", "registry.ollama.ai registry.ollama.ai at https://registry.ollama.ai Registry"),
            ("cgr.dev", "cgr.dev cgr.dev at https://cgr.dev Registry"),
        ] {
            assert_eq!(find(host).as_deref(), Some(found), "{host}");
        }
        for host in ["gitlab.com", "github.com", "s3.amazonaws.com", "amazonaws.com", "hub.docker.com", "pkg.dev"] {
            assert_eq!(find(host), None, "{host} is nobody's registry");
        }
        assert!(registries.by_name("dockerhub").is_some());
    }

    #[test]
    fn a_root_signs_for_registries_and_for_nothing_else_of_their_owners() {
        let permitted = permitted(registries().iter(), &[]);
        for name in ["gcr.io", "pkg.dev", "docker.io", "dkr.ecr.us-east-1.amazonaws.com", "docker-auth.elastic.co"] {
            assert!(permitted.contains(&dns(&[name])[0]), "{name}");
        }
        for name in ["amazonaws.com", "auth.docker.io", "registry-1.docker.io", "gitlab.com", "redhat.com"] {
            assert!(!permitted.contains(&dns(&[name])[0]), "{name}");
        }
    }

    #[test]
    fn patterns_become_subtrees() {
        let of = |pattern: &str| subtrees(&pattern.parse().unwrap());
        assert_eq!(of("ghcr.io"), dns(&["ghcr.io"]));
        assert_eq!(of("*.pkg.dev:5000"), dns(&["pkg.dev"]));
        assert_eq!(of("a.*.b.*.corp.example"), dns(&["corp.example"]));
        assert_eq!(of("10.0.0.5:5000"), [Permitted::Ip("10.0.0.5".parse().unwrap())]);
        assert_eq!(of("[::1]:5000"), [Permitted::Ip("::1".parse().unwrap())]);
        let one = of("12.dkr.ecr.*.amazonaws.com");
        assert_eq!(one.len(), AWS_REGIONS.len());
        assert_eq!(one[0], dns(&["12.dkr.ecr.af-south-1.amazonaws.com"])[0]);
    }

    #[test]
    fn what_is_below_is_not_said_twice() {
        let names: Vec<Host> = ["a.corp", "corp", "x.a.corp", "acorp", "10.0.0.1", "10.0.0.1", "corp"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let mut expected = dns(&["corp", "acorp"]);
        expected.push(Permitted::Ip("10.0.0.1".parse().unwrap()));
        assert_eq!(permitted([].iter(), &names), expected);
    }
}
