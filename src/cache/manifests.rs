//! Manifests in memory: small, asked for again and again, and the list of what a repository holds.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::access::Given;
use crate::error::{Error, Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::manifest::{self, ContentKind};
use crate::oci::media_type::{is_index, is_manifest, is_schema1};
use crate::oci::name::RepositoryKey;
use crate::store::BlobFile;
use crate::task;
use crate::upstream::requester::Credential;

/// A verified manifest.
#[derive(Debug)]
pub struct Manifest {
    /// The bytes that its digest is of.
    pub bytes: Bytes,
    /// As upstream named it, or as it names itself.
    pub media_type: Arc<str>,
    children: Vec<(Digest, ContentKind)>,
    /// Their lengths, as it says.
    sizes: Vec<u64>,
    /// To whom it was given, on which yes: what it lists was granted to the same.
    given: Mutex<VecDeque<(RepositoryKey, Credential, Given)>>,
}

impl Manifest {
    /// Parses a manifest. `media_type` is what upstream named, which may be anything.
    pub fn read(bytes: Bytes, media_type: Option<&str>) -> Manifest {
        let parsed = manifest::parse(&bytes).ok();
        let said = media_type.filter(|name| is_manifest(name) || is_index(name) || is_schema1(name));
        let own = parsed.as_ref().map(manifest::Manifest::inferred_media_type);
        // What it says of itself, and what it looks like, no registry changes.
        let written = parsed.as_ref().and_then(|manifest| manifest.media_type.as_deref());
        let said = said.filter(|said| own.is_none_or(|own| is_index(own) == is_index(said)));
        let media_type = written.or(said).or(own).or(media_type).filter(|name| !name.is_empty());
        let media_type = media_type.unwrap_or(crate::oci::media_type::OCTET_STREAM).into();
        let listed = parsed.map(|manifest| manifest.children).unwrap_or_default();
        let sizes = listed.iter().map(|child| child.size).collect();
        let children = listed.into_iter().map(|child| (child.digest.clone(), child.kind())).collect();
        Manifest { bytes, media_type, children, sizes, given: Mutex::default() }
    }

    /// The digests that it lists.
    pub fn children(&self) -> impl ExactSizeIterator<Item = &Digest> {
        self.children.iter().map(|(digest, _)| digest)
    }

    /// The digests that it lists, and as what.
    pub fn listed(&self) -> &[(Digest, ContentKind)] {
        &self.children
    }

    /// How long it says that one of them is. Whoever wrote it chose that.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        let at = self.children().position(|child| child == digest)?;
        self.sizes.get(at).copied()
    }

    /// It is given to a requester in a repository: `grant` grants what it lists, unless it did so
    /// on that very yes.
    pub fn give(&self, key: &RepositoryKey, who: Credential, on: Given, grant: impl FnOnce(&[(Digest, ContentKind)])) {
        let mut given = self.given.lock();
        let last = given.iter().position(|(at, to, _)| at == key && *to == who);
        if last.is_some_and(|last| given[last].2 == on) {
            return;
        }
        if let Some(last) = last {
            given.remove(last);
        } else if given.len() >= MOST_GIVEN {
            given.pop_front();
        }
        given.push_back((key.clone(), who, on));
        drop(given);
        grant(&self.children);
    }
}

/// Requesters that a manifest was given to, as far as it is remembered.
const MOST_GIVEN: usize = 32;

/// The manifests that fit.
#[derive(Debug)]
pub struct Manifests(Cache<Digest, Arc<Manifest>>);

impl Manifests {
    /// A cache of `memory` bytes in all.
    pub fn new(memory: u64) -> Manifests {
        let weigh = |_: &Digest, manifest: &Arc<Manifest>| {
            // Bytes, children, keys; in KiB, because the weight is 32 bits wide.
            let bytes = manifest.bytes.len() + 56 * manifest.children.len() + 512;
            u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1)
        };
        let cache = Cache::builder().max_capacity(memory / 1024).weigher(weigh);
        Manifests(cache.eviction_policy(moka::policy::EvictionPolicy::lru()).build())
    }

    /// One that is in memory.
    pub fn find(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.0.get(digest)
    }

    /// Reads one and keeps it. `media_type` is what upstream named.
    pub fn read(&self, digest: &Digest, bytes: Bytes, media_type: Option<&str>) -> Arc<Manifest> {
        let manifest = Arc::new(Manifest::read(bytes, media_type));
        self.0.insert(digest.clone(), manifest.clone());
        manifest
    }

    /// Reads one from a file and keeps it. `None`: the bytes are not those of the digest.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn load(
        &self,
        digest: &Digest,
        file: BlobFile,
        size: u64,
        media_type: Option<&str>,
    ) -> Result<Option<Arc<Manifest>>> {
        let read = task::blocking(move || {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            let n = file.read_at(&mut bytes, 0)?;
            bytes.truncate(n);
            Ok::<_, std::io::Error>(Bytes::from(bytes))
        });
        let bytes = read.await.map_err(|error| Error::caused(Kind::Ours, "a cached file cannot be read", error))?;
        let is_whole = Digest::of(digest.algorithm(), &bytes) == *digest;
        Ok(is_whole.then(|| self.read(digest, bytes, media_type)))
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
