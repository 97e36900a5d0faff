//! Manifests in memory: small, asked for again and again, and the list of what a repository holds.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::access::grants::Grants;
use crate::oci::digest::Digest;
use crate::oci::manifest;
use crate::oci::media_type::{is_index, is_manifest, is_schema1};
use crate::oci::name::RepositoryKey;

/// A verified manifest.
#[derive(Debug)]
pub struct Manifest {
    /// Its bytes.
    pub bytes: Bytes,
    /// As upstream named it, or as it names itself.
    pub media_type: Arc<str>,
    children: Vec<Digest>,
    /// Where its children are already known to be.
    told: Mutex<Vec<RepositoryKey>>,
}

impl Manifest {
    /// Reads what it lists. `media_type` is upstream's word, which may be anything.
    pub fn read(bytes: Bytes, media_type: Option<&str>) -> Manifest {
        let parsed = manifest::parse(&bytes).ok();
        let said = media_type.filter(|name| is_manifest(name) || is_index(name) || is_schema1(name));
        let own = parsed.as_ref().map(manifest::Manifest::inferred_media_type);
        let media_type = said.or(own).or(media_type).filter(|name| !name.is_empty());
        let media_type = media_type.unwrap_or(crate::oci::media_type::OCTET_STREAM).into();
        let children = parsed.map(|m| m.children.into_iter().map(|child| child.digest).collect()).unwrap_or_default();
        Manifest { bytes, media_type, children, told: Mutex::default() }
    }

    /// What it lists.
    pub fn children(&self) -> &[Digest] {
        &self.children
    }

    /// Upstream has this in `key`: what it lists is claimed to be there too.
    pub fn vouch(&self, grants: &Grants, key: &RepositoryKey) {
        if self.told.lock().contains(key) {
            return;
        }
        grants.infer_presence(key, self.children.iter());
        self.told.lock().push(key.clone());
    }
}

/// The manifests that fit.
#[derive(Debug)]
pub struct Manifests(Cache<Digest, Arc<Manifest>>);

impl Manifests {
    /// Of `memory` bytes in all.
    pub fn new(memory: u64) -> Manifests {
        let weigh = |_: &Digest, manifest: &Arc<Manifest>| {
            // Bytes, children, keys; in KiB, because the weight is 32 bits wide.
            let bytes = manifest.bytes.len() + 48 * manifest.children.len() + 512;
            u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1)
        };
        let cache = Cache::builder().max_capacity(memory / 1024).weigher(weigh);
        Manifests(cache.eviction_policy(moka::policy::EvictionPolicy::lru()).build())
    }

    /// One that is in memory.
    pub fn find(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.0.get(digest)
    }

    /// Keeps one.
    pub fn keep(&self, digest: &Digest, manifest: Arc<Manifest>) {
        self.0.insert(digest.clone(), manifest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type::OCI_INDEX;

    /// Pitfall 12, and an upstream that lies about the type.
    #[test]
    fn a_manifest_has_a_type_whatever_upstream_says() {
        let bytes = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
        for (said, expected) in [
            (Some(OCI_INDEX), OCI_INDEX),
            (Some("text/html"), OCI_INDEX),
            (None, OCI_INDEX),
            (
                Some("application/vnd.docker.distribution.manifest.list.v2+json"),
                "application/vnd.docker.distribution.manifest.list.v2+json",
            ),
        ] {
            assert_eq!(&*Manifest::read(bytes.clone(), said).media_type, expected);
        }
        assert_eq!(&*Manifest::read(Bytes::from_static(b"x"), None).media_type, "application/octet-stream");
    }
}
