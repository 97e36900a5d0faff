//! How much of what a manifest lists is here. A registry may list whatever it likes: how far one
//! looks has bounds.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;

use crate::oci::digest::Digest;
use crate::oci::manifest;
use crate::oci::media_type::is_index;

/// An index with more is `partly` here. The longest that are known have about fifty.
const MOST_LISTED: usize = 500;
/// An index may list indexes: that deep, and no deeper.
const DEEPEST: usize = 2;
/// Bytes of manifests that are read for one answer: a few seconds.
const MOST_READ: u64 = 512 << 20;

/// How much of an image is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Not its manifest.
    No,
    /// Its manifest, and not all that it lists.
    Partly,
    /// All of it: it can be pulled while its registry is unreachable.
    Held,
}

impl Presence {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Presence::No => "no",
            Presence::Partly => "partly",
            Presence::Held => "held",
        }
    }
}

/// What is left to be read, in bytes.
#[derive(Debug)]
pub struct Budget(u64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(MOST_READ)
    }
}

/// What is here.
pub(super) trait Kept {
    /// Its bytes, if it is no longer than a manifest may be.
    fn manifest(&self, digest: &Digest) -> Option<Bytes>;
    /// Whether a blob is.
    fn has(&self, digest: &Digest) -> bool;
}

/// What is found of one image.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) presence: Presence,
    /// That are here.
    pub(super) bytes: u64,
    pub(super) media_type: String,
    /// Of an index, those that are here.
    pub(super) platforms: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Platform {
    fn name(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    /// BuildKit writes attestations down as manifests for no platform.
    fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// Looks at what `digest` names, which is of this type unless that is empty.
pub(super) fn of(digest: &Digest, media_type: &str, kept: &impl Kept, budget: &mut Budget) -> Found {
    let mut walk =
        Walk { kept, budget, known: HashMap::new(), counted: HashSet::new(), bytes: 0, platforms: Vec::new() };
    let mut media_type = media_type.to_owned();
    let presence = match walk.manifest(digest) {
        None => walk.unread(digest),
        Some(bytes) => {
            if media_type.is_empty() {
                media_type = manifest::parse(&bytes).map(|m| m.inferred_media_type().to_owned()).unwrap_or_default();
            }
            if is_index(&media_type) { walk.index(&bytes, 1) } else { walk.image(&bytes) }
        }
    };
    Found { presence, bytes: walk.bytes, media_type, platforms: walk.platforms }
}

struct Walk<'a, K> {
    kept: &'a K,
    budget: &'a mut Budget,
    /// Manifests that were looked at: an index may list one a thousand times.
    known: HashMap<Digest, Presence>,
    counted: HashSet<Digest>,
    bytes: u64,
    platforms: Vec<String>,
}

impl<K: Kept> Walk<'_, K> {
    /// Of an index at this depth.
    fn index(&mut self, bytes: &[u8], depth: usize) -> Presence {
        let Ok(index) = serde_json::from_slice::<Index>(bytes) else { return Presence::Partly };
        if index.manifests.len() > MOST_LISTED {
            return Presence::Partly;
        }
        let mut all = Presence::Held;
        for listed in index.manifests {
            let presence = self.listed(&listed.digest, depth);
            if listed.platform.as_ref().is_some_and(Platform::is_unknown) {
                continue;
            }
            match (presence, listed.platform.map(|platform| platform.name())) {
                (Presence::Held, Some(name)) if !self.platforms.contains(&name) => self.platforms.push(name),
                (Presence::Held, _) => {}
                (Presence::Partly | Presence::No, _) => all = Presence::Partly,
            }
        }
        all
    }

    fn listed(&mut self, digest: &Digest, depth: usize) -> Presence {
        if let Some(known) = self.known.get(digest) {
            return *known;
        }
        let presence = match self.manifest(digest) {
            None => self.unread(digest),
            Some(bytes) => match manifest::parse(&bytes) {
                Ok(parsed) if !is_index(parsed.inferred_media_type()) => self.children(parsed),
                Ok(_) if depth < DEEPEST => self.index(&bytes, depth + 1),
                _ => Presence::Partly,
            },
        };
        self.known.insert(digest.clone(), presence);
        presence
    }

    /// Of one manifest.
    fn image(&mut self, bytes: &[u8]) -> Presence {
        manifest::parse(bytes).map_or(Presence::Partly, |parsed| self.children(parsed))
    }

    /// Config and layers. What lists nothing, Docker's schema 1 as well, lists it in a request that
    /// is not known here.
    fn children(&mut self, parsed: manifest::Manifest) -> Presence {
        let mut all = if parsed.children.is_empty() { Presence::Partly } else { Presence::Held };
        for child in parsed.children {
            if !self.kept.has(&child.digest) {
                all = Presence::Partly;
            } else if self.counted.insert(child.digest) {
                self.bytes += child.size;
            }
        }
        all
    }

    /// What is not read may be here all the same: there was no budget for it, or it is too long.
    fn unread(&self, digest: &Digest) -> Presence {
        if self.kept.has(digest) { Presence::Partly } else { Presence::No }
    }

    /// Its bytes, if there are any and the budget has as many.
    fn manifest(&mut self, digest: &Digest) -> Option<Bytes> {
        if self.budget.0 == 0 {
            return None;
        }
        let bytes = self.kept.manifest(digest)?;
        let length = bytes.len() as u64;
        self.budget.0 = self.budget.0.saturating_sub(length);
        if self.counted.insert(digest.clone()) {
            self.bytes += length;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};

    #[derive(Default)]
    struct Fake {
        manifests: HashMap<Digest, Bytes>,
        blobs: HashSet<Digest>,
        reads: Cell<usize>,
    }

    impl Kept for Fake {
        fn manifest(&self, digest: &Digest) -> Option<Bytes> {
            self.reads.set(self.reads.get() + 1);
            self.manifests.get(digest).cloned()
        }

        fn has(&self, digest: &Digest) -> bool {
            self.blobs.contains(digest) || self.manifests.contains_key(digest)
        }
    }

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    impl Fake {
        fn with(mut self, text: &str) -> Fake {
            self.manifests.insert(digest(text), Bytes::copy_from_slice(text.as_bytes()));
            self
        }

        fn presence(&self, text: &str, media_type: &str) -> Found {
            of(&digest(text), media_type, self, &mut Budget::default())
        }
    }

    fn image(blob: &str) -> String {
        format!(r#"{{"config":{{"digest":"{}","size":7}},"layers":[]}}"#, digest(blob))
    }

    fn index(listed: &[String]) -> String {
        let one = |text: &String| {
            format!(
                r#"{{"digest":"{}","size":1,"mediaType":"x/y","platform":{{"os":"linux","architecture":"{}"}}}}"#,
                digest(text),
                text.len()
            )
        };
        format!(r#"{{"manifests":[{}]}}"#, listed.iter().map(one).collect::<Vec<_>>().join(","))
    }

    fn fake() -> Fake {
        Fake { blobs: HashSet::from([digest("here")]), ..Fake::default() }
    }

    #[test]
    fn what_cannot_be_read_is_never_held() {
        let schema1 = r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:00"}]}"#;
        for (text, media_type, expected) in [
            (image("here").as_str(), OCI_MANIFEST, Presence::Held),
            (image("away").as_str(), OCI_MANIFEST, Presence::Partly),
            ("no json", OCI_MANIFEST, Presence::Partly),
            (schema1, "application/vnd.docker.distribution.manifest.v1+json", Presence::Partly),
            ("{}", OCI_MANIFEST, Presence::Partly),
            ("{}", OCI_INDEX, Presence::Partly),
        ] {
            let found = fake().with(text).presence(text, media_type);
            assert_eq!(found.presence, expected, "{text}");
        }
        assert_eq!(fake().presence("nothing", "").presence, Presence::No);
    }

    #[test]
    fn an_index_of_indexes() {
        let (held, away) = (image("here"), image("away"));
        let inner = index(std::slice::from_ref(&held));
        let outer = index(std::slice::from_ref(&inner));
        let kept = fake().with(&held).with(&away).with(&inner).with(&outer);
        assert_eq!(kept.presence(&outer, OCI_INDEX).presence, Presence::Held);
        let broken = index(&[away]);
        let above = index(&[held, broken.clone()]);
        assert_eq!(kept.with(&broken).with(&above).presence(&above, OCI_INDEX).presence, Presence::Partly);
        let deeper = index(std::slice::from_ref(&outer));
        let kept = fake().with(&image("here")).with(&inner).with(&outer).with(&deeper);
        assert_eq!(kept.presence(&deeper, OCI_INDEX).presence, Presence::Partly, "too deep to say");
    }

    /// 16,000 times one manifest of 4 MB took minutes.
    #[test]
    fn no_index_makes_one_look_for_long() {
        let one = image("here");
        let often = index(&vec![one.clone(); MOST_LISTED]);
        let kept = fake().with(&one).with(&often);
        let found = kept.presence(&often, OCI_INDEX);
        assert_eq!((found.presence, kept.reads.get(), found.platforms.len()), (Presence::Held, 2, 1));
        let endless = index(&vec![one; MOST_LISTED + 1]);
        let kept = fake().with(&endless);
        assert_eq!((kept.presence(&endless, OCI_INDEX).presence, kept.reads.get()), (Presence::Partly, 1));
    }

    #[test]
    fn a_budget_is_for_all_of_an_answer() {
        let text = image("here");
        let kept = fake().with(&text);
        let mut budget = Budget(1);
        assert_eq!(of(&digest(&text), OCI_MANIFEST, &kept, &mut budget).presence, Presence::Held);
        assert_eq!(of(&digest(&text), OCI_MANIFEST, &kept, &mut budget).presence, Presence::Partly);
    }
}
