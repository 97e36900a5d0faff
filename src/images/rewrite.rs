//! The same images by the names that they have elsewhere: at seawall's mirror
//! (`seawall.corp:3128/docker.io/library/alpine:3.20`), or below a prefix for each registry, as an ECR
//! pull-through cache, a dependency proxy of GitLab's or a Harbor project wants it.
//!
//! A name keeps its tag and digest as they are written. For the mirror `rewrite` of a registry is not
//! applied: it does that on the way, and a name that has it twice would be another. Elsewhere it is.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use super::name::{HUB, Name, tail};
use super::read::{Kind, read};
use super::reference::{Place, Read, Reference};
use crate::oci::name::Repository;
use crate::policy::registry::{Registries, Site};

/// `seawall.corp:3128`, perhaps with a path: what is put before names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

/// Not something that can stand before names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot stand before names of images; valid: seawall.corp:3128, docker.io=registry.corp/hub")]
pub struct NotAPrefix(String);

impl std::str::FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Prefix, NotAPrefix> {
        let bare = text.trim_end_matches('/');
        // It must be read as a registry by every client, or the name would be docker.io's.
        let read = Name::read(&format!("{bare}/a"));
        let registry = bare.split('/').next().unwrap_or_default();
        match read {
            // A YAML scalar that begins with [ is a list.
            Ok(read) if read.registry == registry && !registry.starts_with('[') => Ok(Prefix(bare.to_owned())),
            _ => Err(NotAPrefix(text.to_owned())),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where names lead: all to a mirror, and those of some registries below a prefix of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    mirror: Option<Prefix>,
    places: Vec<(String, Prefix)>,
}

impl Targets {
    /// The same, with what another says besides.
    ///
    /// # Errors
    /// Both say it of the same.
    pub fn and(mut self, other: Targets) -> Result<Targets, String> {
        if let Some(mirror) = other.mirror
            && let Some(before) = self.mirror.replace(mirror)
        {
            return Err(format!("there is one mirror; {before} is another"));
        }
        for (registry, prefix) in other.places {
            if self.places.iter().any(|(known, _)| *known == registry) {
                return Err(format!("{registry} has two prefixes"));
            }
            self.places.push((registry, prefix));
        }
        Ok(self)
    }

    /// The registries that are named and not configured.
    pub fn unknown<'a>(&'a self, registries: &'a Registries) -> impl Iterator<Item = &'a str> {
        let names = self.places.iter().map(|(registry, _)| registry.as_str());
        names.filter(|registry| registries.by_name(registry).is_none())
    }

    fn prefixes(&self) -> impl Iterator<Item = &Prefix> {
        self.mirror.iter().chain(self.places.iter().map(|(_, prefix)| prefix))
    }

    fn place(&self, site: &Site, registries: &Registries) -> Option<&Prefix> {
        let is_its =
            |registry: &str| registries.by_name(registry).is_some_and(|named| named.namespace == site.namespace);
        self.places.iter().find(|(registry, _)| is_its(registry)).map(|(_, prefix)| prefix)
    }
}

/// `seawall.corp:3128`, or `docker.io=registry.corp/hub` for one registry.
impl std::str::FromStr for Targets {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Targets, NotAPrefix> {
        match text.split_once('=') {
            Some(("", _)) => Err(NotAPrefix(text.to_owned())),
            Some((registry, prefix)) => {
                Ok(Targets { mirror: None, places: vec![(registry.to_owned(), prefix.parse()?)] })
            }
            None => Ok(Targets { mirror: Some(text.parse()?), places: Vec::new() }),
        }
    }
}

/// Why a name stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It has the prefix already.
    Already,
    /// Its registry is not configured in seawall.
    NotConfigured(String),
    /// It is told of other registries where their images are.
    NoTarget(String),
    /// Its registry's name has a colon, which a path cannot, and no alias.
    NoPath(String),
    /// It is no name.
    NoName,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Already => f.write_str("it is rewritten already"),
            Kept::NotConfigured(registry) => {
                write!(f, "{registry} is no registry that is configured: add a [[registry]]")
            }
            Kept::NoTarget(registry) => write!(f, "no --rewrite {registry}=PREFIX says where it is"),
            Kept::NoPath(registry) => write!(f, "{registry} cannot stand in a path: give the [[registry]] an alias"),
            Kept::NoName => f.write_str("it is not the name of an image"),
        }
    }
}

/// What is written in a name's place: registry and repository, without tag and digest.
///
/// # Errors
/// Why it stays as it is.
fn path(text: &str, registries: &Registries, targets: &Targets) -> Result<String, Kept> {
    let has = |prefix: &Prefix| text.strip_prefix(&prefix.0).is_some_and(|rest| rest.starts_with('/'));
    if targets.prefixes().any(has) {
        return Err(Kept::Already);
    }
    let name = Name::read(text).map_err(|_| Kept::NoName)?;
    let site = registries.by_name(&name.registry).ok_or_else(|| Kept::NotConfigured(name.registry.clone()))?;
    let repository = below_hub(&site, name)?;
    let path = match (targets.place(&site, registries), &targets.mirror) {
        (Some(place), _) => format!("{place}/{}", site.registry.chain.renamed(&repository)),
        (None, Some(mirror)) => {
            let part = path_part(&site).ok_or_else(|| Kept::NoPath(site.namespace.to_string()))?;
            format!("{mirror}/{part}/{repository}")
        }
        (None, None) => return Err(Kept::NoTarget(site.namespace.to_string())),
    };
    if Name::read(&path).is_ok() { Ok(path) } else { Err(Kept::NoPath(site.namespace.to_string())) }
}

/// Docker Hub's images of one part are below `library/`, whichever of its hosts the name has: see
/// [`Name`].
fn below_hub(site: &Site, name: Name) -> Result<Repository, Kept> {
    if &*site.namespace != HUB {
        return Ok(name.repository);
    }
    Name::read(&format!("{HUB}/{}", name.repository)).map(|name| name.repository).map_err(|_| Kept::NoName)
}

/// The registry's name as a part of a path: its own, or an alias where that has a colon.
fn path_part(site: &Site) -> Option<&str> {
    let names = std::iter::once(&*site.namespace).chain(site.registry.aliases.iter().map(String::as_str));
    names.into_iter().find(|name| !name.contains(':'))
}

/// A whole name, rewritten.
///
/// # Errors
/// Why it stays as it is.
pub fn renamed(text: &str, registries: &Registries, targets: &Targets) -> Result<String, Kept> {
    path(text, registries, targets).map(|path| path + &text[tail(text)])
}

/// A text with other names in it, and which stayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Every byte as it was, but the names.
    pub text: String,
    /// Line, name, why.
    pub kept: Vec<(usize, String, String)>,
}

/// A place, what is to be written there, and for which reference.
struct Change {
    at: Range<usize>,
    path: String,
    number: usize,
}

/// Rewrites the names in `found`, which were found in `text` as in a text of this `kind`.
///
/// What that makes is read again: where a name is another than it should be, what it was stays.
pub fn rewrite(kind: Kind, text: &str, found: &Read, registries: &Registries, targets: &Targets) -> Rewritten {
    let (mut changes, mut kept) = changes(text, found, registries, targets);
    loop {
        let rewritten = with(text, &changes);
        let Some(wrong) = wrong(kind, &rewritten, found, &changes, registries, targets) else {
            return Rewritten { text: rewritten, kept };
        };
        let is_wrong = |change: &Change| wrong.as_ref().is_none_or(|numbers| numbers.contains(&change.number));
        let (wrong, right): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_wrong);
        // One that is not rewritten is another: which change that was is not known.
        let (wrong, right) = if wrong.is_empty() { (right, Vec::new()) } else { (wrong, right) };
        for Reference { text, line, .. } in wrong.iter().filter_map(|change| found.references.get(change.number)) {
            kept.push((*line, text.clone(), "rewritten here it would change other names".to_owned()));
        }
        changes = right;
    }
}

/// What can be rewritten, in the order of the text, and what cannot.
fn changes(
    text: &str,
    found: &Read,
    registries: &Registries,
    targets: &Targets,
) -> (Vec<Change>, Vec<(usize, String, String)>) {
    let (mut changes, mut kept) = (Vec::<Change>::new(), Vec::new());
    for (number, Reference { text: name, line, place, .. }) in found.references.iter().enumerate() {
        match (path(name, registries, targets), place) {
            (Err(Kept::Already), _) => {}
            (Err(why), _) => kept.push((*line, name.clone(), why.to_string())),
            (Ok(_), Place::Elsewhere(why)) => kept.push((*line, name.clone(), (*why).to_owned())),
            (Ok(path), Place::Bytes(at)) => {
                let written = &text[at.clone()];
                let tail = tail(written);
                if written[..tail.start].contains('$') {
                    kept.push((*line, written.to_owned(), "a variable is in its name".to_owned()));
                } else {
                    changes.push(Change { at: at.start..at.start + tail.start, path, number });
                }
            }
        }
    }
    // One default of an ARG may be several images.
    changes.sort_by_key(|change| change.at.start);
    changes.dedup_by(|a, b| a.at == b.at && a.path == b.path);
    (changes, kept)
}

fn with(text: &str, changes: &[Change]) -> String {
    let (mut rewritten, mut done) = (String::with_capacity(text.len() + 64 * changes.len()), 0);
    for Change { at, path, .. } in changes {
        rewritten.push_str(&text[done..at.start]);
        rewritten.push_str(path);
        done = at.end;
    }
    rewritten.push_str(&text[done..]);
    rewritten
}

/// `None`: `rewritten` names what it should. Else the numbers of references that are others now; of
/// all, where it names more or fewer.
fn wrong(
    kind: Kind,
    rewritten: &str,
    found: &Read,
    changes: &[Change],
    registries: &Registries,
    targets: &Targets,
) -> Option<Option<HashSet<usize>>> {
    if changes.is_empty() {
        return None;
    }
    let again = match read(kind, rewritten) {
        Ok(again) if again.references.len() == found.references.len() && again.unread.len() == found.unread.len() => {
            again
        }
        _ => return Some(None),
    };
    let pairs = found.references.iter().zip(&again.references).enumerate();
    let is_wrong = |before: &Reference, now: &Reference| {
        now.text != before.text && Ok(&now.text) != renamed(&before.text, registries, targets).as_ref()
    };
    let wrong: HashSet<_> =
        pairs.filter(|(_, (before, now))| is_wrong(before, now)).map(|(number, _)| number).collect();
    (!wrong.is_empty()).then_some(Some(wrong))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{kind, used::tests::registries};
    use super::*;

    fn prefix() -> Targets {
        "seawall.corp:3128".parse().unwrap()
    }

    #[test]
    fn names_below_a_mirror() {
        let registries = registries();
        let renamed = |text: &str| renamed(text, &registries, &prefix()).map_err(|kept| kept.to_string());
        let digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, below) in [
            ("alpine", "docker.io/library/alpine".to_owned()),
            ("alpine:3.20", "docker.io/library/alpine:3.20".to_owned()),
            ("registry-1.docker.io/alpine", "docker.io/library/alpine".to_owned()),
            ("bitnami/redis", "docker.io/bitnami/redis".to_owned()),
            (&format!("ghcr.io/a/b:1{digest}"), format!("ghcr.io/a/b:1{digest}")),
            ("lab:5000/app:1", "lab/app:1".to_owned()),
        ] {
            let once = renamed(text).unwrap();
            assert_eq!(once, format!("seawall.corp:3128/{below}"));
            assert_eq!(renamed(&once).unwrap_err(), "it is rewritten already");
        }
        for (text, why) in [
            ("localhost:5000/app", "localhost:5000 is no registry that is configured: add a [[registry]]"),
            ("bare:5000/app", "bare:5000 cannot stand in a path: give the [[registry]] an alias"),
            ("a b", "it is not the name of an image"),
        ] {
            assert_eq!(renamed(text).unwrap_err(), why);
        }
    }

    #[test]
    fn a_prefix_for_each_registry() {
        let ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-io";
        let targets: Targets = format!("docker.io={ecr}").parse().unwrap();
        let targets = targets.and("ghcr.io=harbor.corp/ghcr".parse().unwrap()).unwrap();
        let registries = registries();
        let said = |text: &str| renamed(text, &registries, &targets).map_err(|kept| kept.to_string());
        assert_eq!(said("alpine:3.20").unwrap(), format!("{ecr}/library/alpine:3.20"));
        assert_eq!(said("acme/app").unwrap(), format!("{ecr}/acme/app"));
        assert_eq!(said("ghcr.io/o/a:1").unwrap(), "harbor.corp/ghcr/o/a:1");
        assert_eq!(said("harbor.corp/ghcr/o/a:1").unwrap_err(), "it is rewritten already");
        assert!(said("quay.io/a/b").is_err());
        assert!(targets.clone().and("docker.io=x.corp".parse().unwrap()).is_err());
        let both = targets.and("seawall.corp:3128".parse().unwrap()).unwrap();
        assert_eq!(renamed("ghcr.io/o/a", &registries, &both).unwrap(), "harbor.corp/ghcr/o/a");
        assert!("=x.corp".parse::<Targets>().is_err());
        let unknown: Targets = "nowhere.test=x.corp".parse().unwrap();
        assert_eq!(unknown.unknown(&registries).collect::<Vec<_>>(), ["nowhere.test"]);
    }

    #[test]
    fn prefixes() {
        for good in ["seawall.corp:3128", "seawall.corp/", "localhost", "seawall.corp:3128/x"] {
            good.parse::<Prefix>().unwrap_or_else(|error| panic!("{error}"));
        }
        for bad in ["", "/", "[::1]:3128", "seawall", "http://seawall.corp", "a b", "seawall.corp:3128:1"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    fn rewritten(text: &str) -> Rewritten {
        rewrite(kind(text), text, &read(kind(text), text).unwrap(), &registries(), &prefix())
    }

    #[test]
    fn nothing_but_names_changes() {
        let yaml = "\
# é: a comment with image: nginx
services:
  web:   {image:   'nginx:1'} # here
  db:
    image: &db \"postgres@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"
  again: {image: *db}
  old: {image: localhost:5000/x}
  new: {image: seawall.corp:3128/docker.io/library/redis}
  tagged: {image: \"redis:${REDIS:-8}\"}
  odd: {image: \"${HUB:-docker.io}/redis\"}
  block:
    image: >-
      busybox
";
        let said = rewritten(yaml);
        let expected = yaml
            .replace("'nginx:1'", "'seawall.corp:3128/docker.io/library/nginx:1'")
            .replace("\"postgres@", "\"seawall.corp:3128/docker.io/library/postgres@")
            .replace("\"redis:$", "\"seawall.corp:3128/docker.io/library/redis:$");
        assert_eq!(said.text, expected);
        let kept: Vec<_> = said.kept.iter().map(|(line, _, why)| (*line, why.as_str())).collect();
        assert_eq!(
            kept,
            [
                (6, "an alias: it is written where its anchor is"),
                (7, "localhost:5000 is no registry that is configured: add a [[registry]]"),
                (10, "a variable is in its name"),
                (13, "written over several lines or with escapes"),
            ]
        );
        assert_eq!(rewritten(&said.text).text, said.text);
    }

    #[test]
    fn a_dockerfile() {
        let text = "ARG BASE=alpine:3\nFROM ${BASE} AS a\nFROM $BASE\nFROM node:$V\nFROM --platform=linux/amd64 ghcr.io/a/b\nCOPY --from=a / /\n";
        let expected = text
            .replace("BASE=alpine:3", "BASE=seawall.corp:3128/docker.io/library/alpine:3")
            .replace("ghcr.io/a/b", "seawall.corp:3128/ghcr.io/a/b");
        assert_eq!(rewritten(text).text, expected);
    }

    /// A golang that is `golang:1.25-m.corp/…` builds nothing.
    #[test]
    fn a_default_that_others_use_stays_and_is_said() {
        let text = "ARG BASE=alpine\nFROM $BASE\nFROM golang:1-$BASE\n";
        let said = rewritten(text);
        assert_eq!(said.text, text.replace("golang", "seawall.corp:3128/docker.io/library/golang"));
        assert_eq!(
            said.kept,
            [(2, "alpine".to_owned(), "the default of its variable is a part of other names".to_owned())]
        );
    }

    /// The net below all of it: whatever was read wrongly.
    #[test]
    fn what_would_change_other_names_is_put_back() {
        let text = "ARG X=alpine\nFROM busybox\nFROM golang:1-$X\n";
        let mut found = read(Kind::Dockerfile, text).unwrap();
        found.references[0] =
            Reference { text: "alpine".to_owned(), place: Place::Bytes(6..12), ..found.references[0].clone() };
        let said = rewrite(Kind::Dockerfile, text, &found, &registries(), &prefix());
        assert!(said.text.starts_with("ARG X=alpine\n"), "{said:?}");
        assert!(said.kept.iter().any(|(_, name, why)| name == "alpine" && why.contains("other names")), "{said:?}");
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "((services:|FROM|ARG A=|image:|- name: x\\n  image:|  a:) ?(alpine|ghcr\\.io/a/b:1|\\$A|\\$\\{A\\}|-\\$A|x/\\$A|'x/y'|\"z\"|&a q|\\*a|é|\\||>-|\\{|\\}|\\n| ){0,4}\\n){0,6}") {
            let kind = kind(&text);
            if let Ok(found) = read(kind, &text) {
                let once = rewrite(kind, &text, &found, &registries(), &prefix());
                let again = read(kind, &once.text).expect("it was read before");
                prop_assert_eq!(&rewrite(kind, &once.text, &again, &registries(), &prefix()).text, &once.text);
            }
        }
    }
}
