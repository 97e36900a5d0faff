//! Names of repositories and of what is in them. Grammar: distribution-spec, "Pulling manifests".

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::digest::Digest;

/// A repository's name, `library/alpine`: without registry, tag or digest. A clone costs a counter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

/// A tag's name, `3.20`. A clone costs a counter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// What names a manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A name that upstream may move.
    Tag(Tag),
    /// The bytes themselves.
    Digest(Digest),
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository.
    #[error(
        "not a repository name (at most 255 of a-z, 0-9, single separators . _ __ - between them, parts divided by /)"
    )]
    Repository,
    /// Not a tag.
    #[error("not a tag (at most 128 of a-z, A-Z, 0-9, _ . -, not beginning with . or -)")]
    Tag,
}

impl Repository {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is made of a digest: what is about that is looked for there, mostly in vain (`sha256-<hex>`, at most 64 digits,
    /// distribution-spec, "Referrers Tag Schema"; cosign's `sha256-<hex>.sig`, `.att`, `.sbom`).
    pub fn is_of_digest(&self) -> bool {
        let hex = ["sha256-", "sha512-"].iter().find_map(|algorithm| self.0.strip_prefix(algorithm));
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count();
        hex.is_some_and(|hex| digits(hex) >= 64)
    }
}

impl FromStr for Repository {
    type Err = NameError;

    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, at most 255
    /// bytes.
    fn from_str(text: &str) -> Result<Repository, NameError> {
        if text.len() <= 255 && text.split('/').all(is_component) {
            Ok(Repository(text.into()))
        } else {
            Err(NameError::Repository)
        }
    }
}

fn is_component(part: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = part.as_bytes();
    loop {
        let letters = rest.iter().take_while(|b| word(b)).count();
        if letters == 0 {
            return false;
        }
        rest = &rest[letters..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|b| !word(b)).count();
        let (before, after) = rest.split_at(separator);
        if !matches!(before, b"." | b"_" | b"__") && before.iter().any(|b| *b != b'-') {
            return false;
        }
        rest = after;
    }
}

impl FromStr for Tag {
    type Err = NameError;

    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    fn from_str(text: &str) -> Result<Tag, NameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=128).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['.', '-']) {
            Ok(Tag(text.into()))
        } else {
            Err(NameError::Tag)
        }
    }
}

impl Reference {
    /// The tag, if it is one.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        }
    }

    /// The digest, if it is one.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// `REGISTRY/REPOSITORY`: a repository of one registry, and the unit of permission. Clones share
/// the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryKey(Arc<str>);

impl RepositoryKey {
    /// A repository of the registry that is called `namespace`.
    pub fn new(namespace: &str, repository: &Repository) -> RepositoryKey {
        RepositoryKey([namespace, "/", repository.as_str()].concat().into())
    }

    /// A registry as a whole: no repository has this key.
    pub fn of_registry(namespace: &str) -> RepositoryKey {
        RepositoryKey([namespace, "/"].concat().into())
    }

    /// The key as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the registry.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Whether the registry is called `namespace`.
    pub fn is_in(&self, namespace: &str) -> bool {
        self.0.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// A key that was written down, or the fixed text of a test.
impl From<&str> for RepositoryKey {
    fn from(text: &str) -> RepositoryKey {
        RepositoryKey(text.into())
    }
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repositories() {
        let longest = "a/".repeat(127) + "a";
        let too_long = "a/".repeat(127) + "aa";
        for good in
            ["a", "library/alpine", "a.b_c__d-e---f", "0/1", "foo/manifests/bar", "ghcr.io/o/i", longest.as_str()]
        {
            assert_eq!(good.parse::<Repository>().map(|r| r.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/..",
            "a/../b",
            ".a",
            "a.",
            "a..b",
            "a___b",
            "a._b",
            "a-_b",
            "-a",
            "a-",
            "A",
            "aB",
            "é",
            "a b",
            "a:b",
            "a@b",
            "a%2fb",
            "a\\b",
            "a\0",
            "_catalog",
            too_long.as_str(),
        ] {
            assert_eq!(bad.parse::<Repository>(), Err(NameError::Repository), "{bad}");
        }
    }

    #[test]
    fn tags() {
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        for good in ["latest", "3.20", "_", "V1-a_b.c", "sha256-00", "a..b", longest.as_str()] {
            assert_eq!(good.parse::<Tag>().map(|t| t.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ".", "..", "-a", ".a", "a/b", "a:b", "a b", "é", "a%20", "a+b", too_long.as_str()] {
            assert_eq!(bad.parse::<Tag>(), Err(NameError::Tag), "{bad}");
        }
    }

    #[test]
    fn tags_of_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        for (tag, is) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha512-{hex}.att"), true),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("v1-sha256-{hex}"), false),
            (hex.clone(), false),
        ] {
            assert_eq!(tag.parse::<Tag>().unwrap().is_of_digest(), is, "{tag}");
        }
    }

    #[test]
    fn a_reference_prints_what_it_is() {
        let tag = Reference::Tag("3.20".parse().unwrap());
        assert_eq!((tag.to_string().as_str(), tag.digest()), ("3.20", None));
    }

    proptest! {
        #[test]
        fn every_name_of_the_grammar(name in r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,3}") {
            prop_assert_eq!(name.parse::<Repository>().map(|r| r.to_string()), Ok(name));
        }

        #[test]
        fn every_tag_of_the_grammar(name in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(name.parse::<Tag>().map(|r| r.to_string()), Ok(name));
        }

        #[test]
        fn any_text_is_refused_or_kept(text in "([a-z0-9._/-]{0,20}|.{0,20})") {
            if let Ok(name) = text.parse::<Repository>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!text.contains("..") && !text.contains("//") && text.is_ascii());
            }
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert!(!tag.as_str().contains('/'));
            }
        }
    }
}
