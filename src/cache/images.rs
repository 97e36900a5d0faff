//! What the operator may know of images: which tags are known, and how much of what they name is here.
//!
//! An index is `held` when every platform that it lists is, attestations aside; most clients pull one, and so it is `partly` that is
//! usual there, with the platforms that are whole.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;

use super::tags::key;
use super::{Cache, place};
use crate::fs;
use crate::oci::digest::Digest;
use crate::oci::manifest::{self, MAX_MANIFEST};
use crate::oci::media_type::is_index;
use crate::oci::name::{Reference, Repository};
use crate::policy::registry::Site;

/// How much of an image is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Not its manifest.
    No,
    /// Its manifest, and not all that it lists.
    Partly,
    /// All of it: it can be pulled while its registry is away.
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

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
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

impl Cache {
    /// The tags that are known after the name `after`, by name, at most `limit`. Reads manifests: blocks.
    pub fn images(&self, after: &str, limit: usize) -> Vec<Image> {
        let names = self.0.bindings.names(after, limit);
        names.into_iter().map(|name| self.known_tag(name.clone()).unwrap_or_else(|| Image::nothing(name))).collect()
    }

    /// What is known of one image. Reads manifests: blocks.
    pub fn image(&self, site: &Site, repository: &Repository, reference: &Reference) -> Image {
        let place = place(site, repository);
        match reference {
            Reference::Tag(tag) => {
                let name = key(&place, tag);
                self.known_tag(name.clone()).unwrap_or_else(|| Image::nothing(name))
            }
            Reference::Digest(digest) => {
                let name = format!("{place}@{digest}").into();
                // Of another repository it would not be served without asking upstream first.
                if !self.0.index.is_seen_in(digest, &place) {
                    return Image::nothing(name);
                }
                self.presence(Image { digest: Some(digest.clone()), ..Image::nothing(name) })
            }
        }
    }

    fn known_tag(&self, name: Arc<str>) -> Option<Image> {
        let binding = self.0.bindings.newest(&name)?;
        Some(self.presence(Image {
            digest: Some(binding.digest),
            media_type: binding.media_type,
            checked: Some(binding.checked),
            ..Image::nothing(name)
        }))
    }

    fn presence(&self, mut known: Image) -> Image {
        let Some(digest) = known.digest.clone() else { return known };
        let Some(bytes) = self.manifest_bytes(&digest) else { return known };
        known.used = self.0.index.last_used(&digest);
        let mut counted = HashSet::from([digest]);
        known.bytes = bytes.len() as u64;
        if known.media_type.is_empty() {
            known.media_type = manifest::parse(&bytes).map(|m| m.inferred_media_type().into()).unwrap_or_default();
        }
        known.presence = if is_index(&known.media_type) {
            self.of_index(&bytes, &mut counted, &mut known)
        } else {
            self.of_image(&bytes, &mut counted, &mut known.bytes)
        };
        known
    }

    fn of_index(&self, bytes: &[u8], counted: &mut HashSet<Digest>, known: &mut Image) -> Presence {
        let Ok(index) = serde_json::from_slice::<Index>(bytes) else { return Presence::Partly };
        let mut all = Presence::Held;
        for listed in index.manifests {
            let is_attestation = listed.platform.as_ref().is_some_and(Platform::is_unknown);
            let presence = match self.manifest_bytes(&listed.digest) {
                None => Presence::No,
                Some(bytes) => {
                    if counted.insert(listed.digest) {
                        known.bytes += bytes.len() as u64;
                    }
                    self.of_image(&bytes, counted, &mut known.bytes)
                }
            };
            if is_attestation {
                continue;
            }
            match (presence, listed.platform) {
                (Presence::Held, Some(platform)) => known.platforms.push(platform.name()),
                (Presence::Held, None) => {}
                (Presence::Partly | Presence::No, _) => all = Presence::Partly,
            }
        }
        all
    }

    /// Config and layers of one manifest.
    fn of_image(&self, bytes: &[u8], counted: &mut HashSet<Digest>, sum: &mut u64) -> Presence {
        let Ok(manifest) = manifest::parse(bytes) else { return Presence::Held };
        let mut all = Presence::Held;
        for child in manifest.children {
            if !self.0.index.has(&child.digest) {
                all = Presence::Partly;
            } else if counted.insert(child.digest) {
                *sum += child.size;
            }
        }
        all
    }

    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        if let Some(manifest) = self.0.manifests.find(digest) {
            return Some(manifest.bytes.clone());
        }
        let blob = self.0.index.has(digest).then(|| self.0.store.blob(digest).ok()).flatten()?;
        let mut bytes = vec![0; usize::try_from(blob.size).ok().filter(|size| *size <= MAX_MANIFEST)?];
        let read = fs::read_at(&blob.file, &mut bytes, 0).ok()?;
        (read == bytes.len()).then(|| bytes.into())
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
