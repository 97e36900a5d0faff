//! `[[registry]]`: what the operator says, put over what is built in.
//!
//! The operator's come first, in their order, so an exact host of theirs wins over a built-in's
//! pattern; then the built-ins that no `[[registry]]` replaces. In one that does, a key that is
//! left out keeps the built-in's value.

use wildmatch::WildMatch;

use super::account;
use super::builtin;
use super::client_certificate;
use super::problem::{Fault, Place, Problem};
use super::section::Section;
use super::sources;
use super::tree::Value;
use super::words;
use crate::http::origin::{HostPattern, Origin};
use crate::policy::registry::Registry;
use crate::policy::repositories::Repositories;

/// A registry and where it was written.
struct Placed {
    registry: Registry,
    place: Place,
}

/// Reads the `[[registry]]` sections; what is wrong goes to `problems`.
pub(super) fn read(top: &mut Section, problems: &mut Vec<Problem>) -> Vec<Registry> {
    let sections = top.list("registry", problems, |value| Ok((value.place.clone(), Section::new("registry", value)?)));
    let mut placed: Vec<Placed> = Vec::new();
    for (place, section) in sections.unwrap_or_default() {
        if let Some(registry) = one(section, problems) {
            placed.push(Placed { registry, place });
        }
    }
    for builtin in builtin::registries() {
        if !placed.iter().any(|ours| ours.registry.name == builtin.name) {
            placed.push(Placed { registry: builtin, place: Place::Default });
        }
    }
    for (n, ours) in placed.iter().enumerate() {
        for other in &placed[n + 1..] {
            if let Some(what) = conflict(&ours.registry, &other.registry) {
                // The later of two of the operator's, or the operator's of one and a built-in.
                let place = if other.place == Place::Default { &ours.place } else { &other.place };
                problems.push(Fault::at(place.clone(), what).of("registry"));
            }
        }
    }
    placed.into_iter().map(|placed| placed.registry).collect()
}

fn one(mut section: Section, problems: &mut Vec<Problem>) -> Option<Registry> {
    let before = problems.len();
    let name = section.take("name", problems, name);
    let builtin = builtin::registries().into_iter().find(|builtin| Some(&*builtin.name) == name.as_deref());
    let aliases = section.list("aliases", problems, self::name);
    let hosts = section.list("hosts", problems, words::spoken_host);
    let auth_hosts = section.list("auth_hosts", problems, words::spoken_host);
    let ca_pem = section.take("ca_file", problems, words::certificates);
    let client_certificate = client_certificate::read(&mut section, problems);
    let realms = section.list("realms", problems, words::host_pattern);
    let redirects = section.list("redirects", problems, words::spoken_host).unwrap_or_default();
    let repositories = repositories(&mut section, name.as_deref().unwrap_or_default(), problems);
    let account = account::read(&mut section, problems);
    account::check_share(&section, &repositories, account.as_ref(), problems);
    // None by default: whoever asks first pulls first.
    let reserve = section.take("reserve", problems, |value| value.whole(0, 1_000_000)).unwrap_or(0);
    let segments = section.take("segments", problems, |value| words::segments(value, 0)).unwrap_or(0);
    let sources = section.take("upstreams", problems, |value| Ok(value.clone()));
    let sources = sources.map(|value| sources::read(&value, problems)).unwrap_or_default();
    let rewrite = sources::rewrites(&mut section, problems);
    let missing = section.missing("name", "must be given; it is the registry's name in keys, paths and metrics");
    let no_hosts = section.problem("hosts", "must name at least one host; valid: [\"registry.corp:5000\"]");
    section.end(problems);
    let Some(name) = name else {
        if problems.len() == before {
            problems.push(missing);
        }
        return None;
    };
    let hosts = hosts.or_else(|| builtin.as_ref().map(|b| b.hosts.clone()));
    let hosts = hosts.unwrap_or_else(|| hosts_of(&name, sources.first().map(|source| &source.origin)));
    if problems.len() != before {
        return None;
    }
    if hosts.is_empty() {
        problems.push(no_hosts);
        return None;
    }
    let realms = realms.or_else(|| builtin.as_ref().map(|b| b.realms.clone())).unwrap_or_default();
    let (aliases_before, auth_before, upstream_before) = match builtin {
        Some(b) => {
            let kept = b.upstream.filter(|o| hosts.iter().any(|h| h.matches(&o.host, o.port, 443)));
            (b.aliases, b.auth_hosts, kept.or_else(|| first_host(&hosts)))
        }
        None => (Vec::new(), Vec::new(), first_host(&hosts)),
    };
    let (upstream, chain) = sources::arranged((&name, &redirects), sources, &hosts, rewrite);
    let upstream_account = upstream.as_ref().and_then(|own| own.account.clone());
    let upstream = upstream.map(|own| own.origin);
    Some(Registry {
        name: name.into(),
        aliases: aliases.unwrap_or(aliases_before),
        hosts,
        auth_hosts: auth_hosts.unwrap_or(auth_before),
        upstream: upstream.or(upstream_before),
        ca_pem: ca_pem.flatten(),
        client_certificate,
        repositories,
        account: upstream_account.or(account),
        chain,
        reserve: u64::try_from(reserve).unwrap_or(0),
        segments,
        realms,
        redirects,
    })
}

fn repositories(section: &mut Section, registry: &str, problems: &mut Vec<Problem>) -> Repositories {
    let mut globs = |key| section.list(key, problems, |value| glob_within(value, registry));
    let (allow, deny, share) = (globs("allow"), globs("deny"), globs("share"));
    if allow.as_ref().is_some_and(Vec::is_empty) {
        problems.push(section.problem("allow", "nothing could be pulled; valid: [\"*\"], [\"library/*\"]"));
    }
    Repositories { allow: allow.unwrap_or_default(), deny: deny.unwrap_or_default(), share: share.unwrap_or_default() }
}

/// A glob that would never match is a denial that denies nothing.
fn glob_within(value: &Value, registry: &str) -> Result<WildMatch, Fault> {
    let glob = words::repository_glob(value)?;
    let text = value.text("a glob")?.trim();
    if let Some(rest) =
        text.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')).filter(|_| !registry.is_empty())
    {
        return Err(value
            .fault(format!("{text:?} would never match: repositories are named within {registry}; valid: {rest:?}")));
    }
    if registry == "docker.io" && !text.contains(['/', '*', '?']) {
        return Err(value.fault(format!("{text:?} would never match: it is \"library/{text}\" at {registry}")));
    }
    Ok(glob)
}

/// Where a registry is dialled that says nothing of it: its first host; with patterns, the host
/// that was asked for.
fn first_host(hosts: &[HostPattern]) -> Option<Origin> {
    if hosts.iter().any(HostPattern::is_wildcard) {
        return None;
    }
    hosts.first().and_then(HostPattern::origin)
}

/// The hosts of a registry that names none: where it is dialled, as it is dialled, and its name, if
/// that is the name of a host elsewhere.
fn hosts_of(name: &str, dialled: Option<&Origin>) -> Vec<HostPattern> {
    let named = name.parse::<HostPattern>().ok();
    let Some(dialled) = dialled else { return named.into_iter().collect() };
    let default_port = dialled.scheme.default_port();
    let is_elsewhere =
        |named: &HostPattern| name.contains(['.', ':']) && !named.matches(&dialled.host, dialled.port, default_port);
    named.filter(is_elsewhere).into_iter().chain([HostPattern::from(dialled)]).collect()
}

/// A name for keys, mirror paths and metrics.
fn name(value: &Value) -> Result<String, Fault> {
    let valid = "\"docker.io\", \"lab\", \"registry.corp:5000\"";
    let text = value.text(&format!("a name such as {valid}"))?;
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_:".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !first || text.len() > 128 || !text.bytes().all(inner) {
        let rule = "lower-case letters, digits and . - _ : , a letter or digit first, at most 128";
        return Err(value.fault(format!("{text:?} is not a name ({rule}); valid: {valid}")));
    }
    Ok(text.to_owned())
}

/// Why two registries cannot both be. The first is asked first.
fn conflict(first: &Registry, second: &Registry) -> Option<String> {
    let names = |r: &Registry| std::iter::once(r.name.to_string()).chain(r.aliases.clone()).collect::<Vec<_>>();
    let second_names = names(second);
    if let Some(name) = names(first).into_iter().find(|name| second_names.contains(name)) {
        return Some(if first.name == second.name {
            format!("two registries have the name {name:?}")
        } else {
            format!("{:?} and {:?} both go by the name {name:?}", &*first.name, &*second.name)
        });
    }
    let claims = |one: &HostPattern, other: &HostPattern| {
        if one.host() == other.host() {
            return (one.scheme(), one.spoken_port()) == (other.scheme(), other.spoken_port());
        }
        // An exact host that is asked for after a pattern that matches it would never be reached.
        other.origin().is_some_and(|exact| one.is_spoken(exact.scheme, &exact.host, exact.port))
    };
    // Two may share a token host.
    let against = |one: &HostPattern, others: &[HostPattern]| others.iter().find(|other| claims(one, other)).cloned();
    let clash =
        first.hosts.iter().find_map(|host| against(host, &second.hosts).or_else(|| against(host, &second.auth_hosts)));
    let clash = clash.or_else(|| first.auth_hosts.iter().find_map(|host| against(host, &second.hosts)))?;
    let advice = format!("to replace {:?}, give its name", &*second.name);
    Some(format!("{:?} and {:?} both claim the host {clash}; {advice}", &*first.name, &*second.name))
}
