//! `upstreams` and `rewrite` of a `[[registry]]`: where its content is had, and under which names.

use std::sync::Arc;

use regex::Regex;

use super::account;
use super::problem::{Fault, Problem};
use super::section::{Section, word};
use super::tree::Value;
use crate::http::origin::{HostPattern, Origin};
use crate::oci::name::Repository;
use crate::policy::registry::{Account, Chain, Missing, Registry, Rewrite, Site, Source, Tags};

/// One of `upstreams`.
pub(super) struct Written {
    pub(super) origin: Origin,
    pub(super) account: Option<Account>,
    prefix: Option<Repository>,
    tags: bool,
    missing: Option<Missing>,
}

/// Reads `upstreams`; what is wrong goes to `problems`.
pub(super) fn read(value: &Value, problems: &mut Vec<Problem>) -> Vec<Written> {
    let mut wrong = |fault: Fault| problems.push(fault.of("registry.upstreams"));
    let items = match value.items() {
        Ok(items) if items.is_empty() => {
            wrong(value.fault("must have one: [{ url = \"https://registry.corp\" }]"));
            return Vec::new();
        }
        Ok(items) => items,
        Err(fault) => {
            wrong(fault);
            return Vec::new();
        }
    };
    items.iter().filter_map(|item| one(item, problems)).collect()
}

fn one(value: &Value, problems: &mut Vec<Problem>) -> Option<Written> {
    let before = problems.len();
    let section = Section::new("registry.upstreams", value);
    let mut section = section.map_err(|fault| problems.push(fault.of("registry.upstreams"))).ok()?;
    let origin = section.take("url", problems, url);
    let prefix = section.take("prefix", problems, prefix).flatten();
    let tags = section.take("tags", problems, Value::truth).unwrap_or(false);
    let words = [("final", Missing::Final), ("next", Missing::Next)];
    let missing = section.take("missing", problems, |value| word(value, &words));
    let account = account::read(&mut section, problems);
    let absent = section.missing("url", "must be given; valid: \"https://registry.corp\"");
    section.end(problems);
    match origin {
        Some(origin) if problems.len() == before => Some(Written { origin, account, prefix, tags, missing }),
        None if problems.len() == before => {
            problems.push(absent);
            None
        }
        _ => None,
    }
}

fn url(value: &Value) -> Result<Origin, Fault> {
    let valid = "\"https://registry.corp\", \"http://lab:5000\"";
    let text = value.text(&format!("a URL such as {valid}"))?;
    match Origin::from_url(text) {
        Ok((origin, path)) if path == "/" => Ok(origin),
        Ok((_, path)) => {
            Err(value.fault(format!("{path:?} is too much: a URL without a path (see `prefix`); valid: {valid}")))
        }
        // Not repeated: it may hold a password.
        Err(error) => Err(value.fault(format!("{error}; valid: {valid}"))),
    }
}

fn prefix(value: &Value) -> Result<Option<Repository>, Fault> {
    let text = value.text("the start of repositories' names")?.trim_matches('/');
    let valid = "\"docker-hub\", \"acme-org/dependency_proxy/containers\"";
    match (text.is_empty(), text.parse()) {
        (true, _) => Ok(None),
        (false, Ok(prefix)) => Ok(Some(prefix)),
        (false, Err(_)) => Err(value.fault(format!("{text:?} is no start of a repository's name; valid: {valid}"))),
    }
}

/// Reads `rewrite`; what is wrong goes to `problems`.
pub(super) fn rewrites(section: &mut Section, problems: &mut Vec<Problem>) -> Vec<Rewrite> {
    let path = section.path_of("rewrite");
    let rules = section.list("rewrite", problems, |value| Section::new(&path, value)).unwrap_or_default();
    rules.into_iter().filter_map(|rule| rewrite(rule, problems)).collect()
}

fn rewrite(mut rule: Section, problems: &mut Vec<Problem>) -> Option<Rewrite> {
    let before = problems.len();
    let from = rule.take("from", problems, |value| {
        let text = value.text("a regular expression")?;
        // Of the whole name, or a part of it would be replaced.
        Regex::new(&format!("^(?:{text})$")).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            value.fault(format!("{text:?} is not a regular expression: {why}; valid: \"^bitnami/(.*)$\""))
        })
    });
    let to = rule.take("to", problems, |value| Ok(Arc::from(value.text("a name such as \"bitnamilegacy/$1\"")?)));
    let absent = rule.missing("", "a rule needs both: { from = \"^bitnami/(.*)$\", to = \"bitnamilegacy/$1\" }");
    rule.end(problems);
    match (from, to) {
        (Some(from), Some(to)) => Some(Rewrite { from, to }),
        _ => {
            if problems.len() == before {
                problems.push(absent);
            }
            None
        }
    }
}

/// The registry itself among what was written, and the others around it. It is the first that is
/// one of its hosts; where none is, it is the first: the operator says that the registry is there.
pub(super) fn arranged(
    (name, redirects): (&str, &[HostPattern]),
    mut written: Vec<Written>,
    hosts: &[HostPattern],
    rewrite: Vec<Rewrite>,
) -> (Option<Written>, Chain) {
    // However clients speak to it.
    let is_own = |one: &Written| {
        let Origin { scheme, host, port } = &one.origin;
        hosts.iter().any(|pattern| pattern.matches(host, *port, scheme.default_port()))
    };
    let Some(at) = written.iter().position(is_own).or((!written.is_empty()).then_some(0)) else {
        return (None, Chain { rewrite, ..Chain::default() });
    };
    let after = written.split_off(at + 1);
    let own = written.pop();
    let sources = |all: Vec<Written>| all.into_iter().map(|one| source((name, redirects), one)).collect();
    let chain = Chain {
        before: sources(written),
        after: sources(after),
        prefix: own.as_ref().and_then(|own| own.prefix.clone()),
        missing: own.as_ref().and_then(|own| own.missing).unwrap_or_default(),
        rewrite,
    };
    (own, chain)
}

fn source((name, redirects): (&str, &[HostPattern]), written: Written) -> Source {
    let Written { origin, account, prefix, tags, missing } = written;
    let hosts = vec![HostPattern::from(&origin)];
    let upstream = Some(origin.clone());
    let redirects = redirects.to_vec();
    let registry = Registry { name: name.into(), hosts, upstream, account, redirects, ..Registry::default() };
    Source {
        site: Site { registry: Arc::new(registry), namespace: origin.authority().into(), origin },
        prefix,
        tags: if tags { Tags::Believed } else { Tags::Doubted },
        // A mirror has not all that the registry has.
        missing: missing.unwrap_or(Missing::Next),
    }
}
