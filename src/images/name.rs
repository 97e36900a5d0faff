//! An image's name as people write it, and what it means: `alpine` is
//! `docker.io/library/alpine:latest`.
//!
//! The rules are those of distribution/reference, which docker, containerd and Kubernetes use: the
//! first part is a registry if it has a dot, a colon or a capital, or is `localhost`; else the
//! registry is docker.io, where a name of one part is below `library/`.

use std::fmt;
use std::ops::Range;

use crate::http::origin::parse_authority;
use crate::oci::digest::Digest;
use crate::oci::name::{Repository, Tag};

/// The registry of names that have none.
pub(super) const HUB: &str = "docker.io";
/// docker.io's name of old, and the hosts behind it. The first means the same to every client, the
/// others lead there.
const HUB_BEFORE: &str = "index.docker.io";

/// An image. Prints as its canonical name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/alpine`
    pub repository: Repository,
    /// Without one and without a digest, `latest` is meant.
    pub tag: Option<Tag>,
    /// It wins over the tag.
    pub digest: Option<Digest>,
}

/// Not the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an image")]
pub struct NotAName(String);

/// Where the parts of a name stand in it: registry and repository, then tag and digest.
pub fn tail(text: &str) -> Range<usize> {
    let name = text.find('@').map_or(text, |at| &text[..at]);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let colon = name[last..].find(':').map_or(name.len(), |colon| last + colon);
    colon..text.len()
}

impl Name {
    /// Parses the name of an image.
    ///
    /// # Errors
    /// It is no name of an image.
    pub fn read(text: &str) -> Result<Name, NotAName> {
        let not = || NotAName(text.to_owned());
        let tail = tail(text);
        let (path, tail) = (&text[..tail.start], &text[tail]);
        let (tag, digest) = match tail.split_once('@') {
            Some((tag, digest)) => (tag, Some(digest.parse().map_err(|_| not())?)),
            None => (tail, None),
        };
        let tag = match tag.strip_prefix(':') {
            Some(tag) => Some(tag.parse().map_err(|_| not())?),
            None if tag.is_empty() => None,
            None => return Err(not()),
        };
        let (registry, repository) = split(path);
        if parse_authority(&registry, 443).is_none() {
            return Err(not());
        }
        Ok(Name { registry, repository: repository.parse().map_err(|_| not())?, tag, digest })
    }

    /// Whether it names a digest.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }
}

fn split(path: &str) -> (String, String) {
    let is_registry = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
    };
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first.to_owned(), rest),
        _ => (HUB.to_owned(), path),
    };
    let registry = if registry == HUB_BEFORE { HUB.to_owned() } else { registry };
    match registry == HUB && !repository.contains('/') {
        true => (registry, format!("library/{repository}")),
        false => (registry, repository.to_owned()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{digest}"),
            (None, Some(digest)) => write!(f, "@{digest}"),
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, None) => f.write_str(":latest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_and_what_they_mean() {
        for (text, meant) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("alpine:3.20", "docker.io/library/alpine:3.20".to_owned()),
            ("docker.io/alpine", "docker.io/library/alpine:latest".to_owned()),
            ("index.docker.io/library/alpine:1", "docker.io/library/alpine:1".to_owned()),
            ("acme/app", "docker.io/acme/app:latest".to_owned()),
            ("ghcr.io/acme/app:1", "ghcr.io/acme/app:1".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app", "localhost:5000/app:latest".to_owned()),
            ("[::1]:5000/app:2", "[::1]:5000/app:2".to_owned()),
            ("Lab/app", "Lab/app:latest".to_owned()),
            (&format!("alpine@{DIGEST}"), format!("docker.io/library/alpine@{DIGEST}")),
            (&format!("quay.io/a/b:1@{DIGEST}"), format!("quay.io/a/b:1@{DIGEST}")),
        ] {
            let read = Name::read(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.to_string(), meant);
            assert_eq!(Name::read(&meant).unwrap().to_string(), meant);
        }
        for text in [
            "",
            ":",
            "@",
            "Alpine",
            "a b",
            "alpine:",
            "alpine@sha256:12",
            "/x",
            "x/",
            "${IMAGE}",
            "a:b:c",
            "https://x/y",
            "ghcr.io/",
        ] {
            assert_eq!(Name::read(text), Err(NotAName(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn where_a_tag_begins() {
        for (text, name, rest) in [
            ("localhost:5000/app", "localhost:5000/app", ""),
            ("localhost:5000/app:1", "localhost:5000/app", ":1"),
            ("a:$TAG@sha256:0", "a", ":$TAG@sha256:0"),
            ("a@sha256:0", "a", "@sha256:0"),
        ] {
            let at = tail(text);
            assert_eq!((&text[..at.start], &text[at]), (name, rest));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_again(text in "([a-zA-Z.]{0,5}(:[0-9]{0,5})?/)?[a-z0-9_./-]{0,8}(:[a-z0-9.]{0,5})?(@sha256:[0-9a-f]{0,3})?|\\PC{0,12}") {
            if let Ok(name) = Name::read(&text) {
                let printed = name.to_string();
                prop_assert_eq!(Name::read(&printed).unwrap().to_string(), printed);
            }
        }
    }
}
