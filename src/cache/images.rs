//! What the operator may know of images: which tags are known, and how much of what they name is
//! here.
//!
//! An index is `held` when every platform that it lists is, attestations aside; most clients pull
//! one, and so it is `partly` that is usual there, with the platforms that are whole.

mod presence;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
pub use presence::{Budget, Presence};
use presence::{Found, Kept};

use super::Cache;
use super::tags::key;
use super::told::Binding;
use crate::oci::digest::Digest;
use crate::oci::manifest::{ContentKind, MAX_MANIFEST};
use crate::oci::name::{Reference, Repository};
use crate::policy::registry::Site;

/// An image that was pulled, or asked for.
#[derive(Clone, Debug)]
pub struct Image {
    /// `REGISTRY/REPOSITORY:TAG`, or `…@DIGEST`.
    pub name: Arc<str>,
    /// What it names, as far as is known.
    pub digest: Option<Digest>,
    /// Of the manifest; empty where it is not known.
    pub media_type: Arc<str>,
    /// When upstream last confirmed what a tag names.
    pub checked: Option<SystemTime>,
    /// When the manifest was last read, to the minute.
    pub used: Option<SystemTime>,
    /// Bytes of it that are here.
    pub bytes: u64,
    /// How much that is.
    pub presence: Presence,
    /// Of an index: the platforms that are here, `linux/amd64`.
    pub platforms: Vec<String>,
}

impl Cache {
    /// The tags that are known after the name `after`, by name, at most `limit`. Reads manifests:
    /// blocks.
    pub fn images(&self, after: &str, limit: usize) -> Vec<Image> {
        let (known, mut budget) = (self.0.bindings.known(after, limit), Budget::default());
        known.into_iter().map(|(name, binding)| self.bound(name, binding, &mut budget)).collect()
    }

    /// What is known of one image. Reads manifests, as many as are left to look at: blocks.
    pub fn image(&self, site: &Site, repository: &Repository, reference: &Reference, budget: &mut Budget) -> Image {
        let repository = site.key(repository);
        match reference {
            Reference::Tag(tag) => {
                let name = key(&repository, tag);
                match self.0.bindings.newest(&name) {
                    Some(binding) => self.bound(name, binding, budget),
                    None => Image::nothing(name),
                }
            }
            Reference::Digest(digest) => {
                let name = format!("{repository}@{digest}").into();
                // Of another repository it would not be served without asking upstream first.
                if !self.0.parts.access.presences().is_named(&repository, digest, ContentKind::Manifest) {
                    return Image::nothing(name);
                }
                self.presence(Image { digest: Some(digest.clone()), ..Image::nothing(name) }, budget)
            }
        }
    }

    fn bound(&self, name: Arc<str>, binding: Binding, budget: &mut Budget) -> Image {
        let image = Image {
            digest: Some(binding.digest),
            media_type: binding.media_type,
            checked: Some(binding.checked),
            ..Image::nothing(name)
        };
        self.presence(image, budget)
    }

    fn presence(&self, known: Image, budget: &mut Budget) -> Image {
        let Some(digest) = known.digest.as_ref() else { return known };
        let Found { presence, bytes, media_type, platforms } = presence::of(digest, &known.media_type, self, budget);
        let used = self.0.parts.index.last_used(digest).filter(|_| presence != Presence::No);
        Image { used, bytes, presence, media_type: media_type.into(), platforms, ..known }
    }
}

impl Kept for Cache {
    /// From its file first: who looks must not make it recently used in memory.
    fn manifest(&self, digest: &Digest) -> Option<Bytes> {
        let blob = || {
            let blob = self.0.parts.index.has(digest).then(|| self.0.parts.store.blob(digest).ok()).flatten()?;
            let mut bytes = vec![0; usize::try_from(blob.size).ok().filter(|size| *size <= MAX_MANIFEST)?];
            let read = blob.file.read_at(&mut bytes, 0).ok()?;
            (read == bytes.len()).then(|| bytes.into())
        };
        blob().or_else(|| self.0.parts.manifests.find(digest).map(|manifest| manifest.bytes.clone()))
    }

    fn has(&self, digest: &Digest) -> bool {
        self.0.parts.index.has(digest)
    }
}

impl Image {
    fn nothing(name: Arc<str>) -> Image {
        Image {
            name,
            digest: None,
            media_type: "".into(),
            checked: None,
            used: None,
            bytes: 0,
            presence: Presence::No,
            platforms: Vec::new(),
        }
    }
}
