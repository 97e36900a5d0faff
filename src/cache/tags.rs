//! What tags name: bindings of (registry, repository, tag, what the client accepts) to a digest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::index::journal::{Journal, Table, seconds, time};
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::media_type::Accept;
use crate::oci::name::Tag;

/// What a tag names, for clients that accept the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The digest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: Arc<str>,
    /// Of the manifest in bytes, where upstream said it.
    pub size: Option<u64>,
    /// When upstream last confirmed it.
    pub checked: SystemTime,
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct Record {
    accept: u8,
    digest: Digest,
    media_type: Arc<str>,
    size: Option<u64>,
    checked: u64,
}

type Variants = Arc<[(Accept, Binding)]>;

/// The bindings.
#[derive(Debug)]
pub struct Bindings {
    journal: Journal,
    bound: Cache<Arc<str>, Variants>,
    /// Goes up with every push and removal: an answer that was asked for before one is old news after it.
    epoch: AtomicU64,
}

/// `REGISTRY/REPOSITORY:TAG`
pub fn key(place: &str, tag: &Tag) -> Arc<str> {
    format!("{place}:{tag}").into()
}

/// Tags that are remembered: about 400 bytes each.
const MOST: u64 = 200_000;

impl Bindings {
    /// With what the journal knew.
    pub fn new(journal: Journal, known: Vec<(String, Vec<u8>)>) -> Bindings {
        let bound = lru(MOST);
        for (key, value) in known {
            let Ok(records) = serde_json::from_slice::<Vec<Record>>(&value) else { continue };
            let variants: Variants = records.into_iter().map(Record::read).collect();
            bound.insert(key.into(), variants);
        }
        Bindings { journal, bound, epoch: AtomicU64::new(0) }
    }

    /// What the tag names for clients that accept just this.
    pub fn find(&self, key: &Arc<str>, accept: Accept) -> Option<Binding> {
        let variants = self.bound.get(key)?;
        variants.iter().find(|(bound, _)| *bound == accept).map(|(_, binding)| binding.clone())
    }

    /// The newest binding for other clients that these can read too: better than nothing while upstream is away.
    pub fn find_readable(&self, key: &Arc<str>, accept: Accept) -> Option<Binding> {
        let variants = self.bound.get(key)?;
        let readable = variants.iter().map(|(_, binding)| binding).filter(|binding| accept.admits(&binding.media_type));
        readable.max_by_key(|binding| binding.checked).cloned()
    }

    /// Of the last push or removal.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Binds, or confirms, what upstream said to a question of `epoch`; nothing, if that was before a push.
    pub fn bind(&self, key: &Arc<str>, accept: Accept, binding: Binding, epoch: u64) {
        if epoch != self.epoch() {
            return;
        }

        let others = self.bound.get(key);
        let others = others.iter().flat_map(|all| all.iter()).filter(|(bound, _)| *bound != accept).cloned();
        let variants: Variants = others.chain([(accept, binding)]).collect();
        self.write(key, &variants);
        self.bound.insert(key.clone(), variants);
    }

    /// Forgets a tag.
    pub fn forget(&self, key: &Arc<str>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.bound.invalidate(key);
        self.journal.remove(Table::Tags, key.to_string());
    }

    fn write(&self, key: &Arc<str>, variants: &Variants) {
        let records: Vec<Record> = variants.iter().map(|(accept, binding)| Record::of(*accept, binding)).collect();
        self.journal.write(Table::Tags, key.to_string(), &records);
    }
}

impl Record {
    fn of(accept: Accept, binding: &Binding) -> Record {
        Record {
            accept: accept.bits(),
            digest: binding.digest.clone(),
            media_type: binding.media_type.clone(),
            size: binding.size,
            checked: seconds(binding.checked),
        }
    }

    fn read(self) -> (Accept, Binding) {
        let Record { accept, digest, media_type, size, checked } = self;
        (Accept::from_bits(accept), Binding { digest, media_type, size, checked: time(checked) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};

    fn binding(media_type: &str, at: u64) -> Binding {
        let digest = Digest::of(Algorithm::Sha256, media_type.as_bytes());
        Binding { digest, media_type: media_type.into(), size: Some(1), checked: time(at) }
    }

    /// Pitfalls 1 and 13: the registry and what the client accepts are in the key.
    #[test]
    fn one_tag_names_different_things_for_different_clients_and_registries() {
        let bindings = Bindings::new(Journal::off(), Vec::new());
        let tag: Tag = "1".parse().unwrap();
        let (hub, ghcr) = (key("docker.io/a/b", &tag), key("ghcr.io/a/b", &tag));
        let (old, new) = (Accept::of([OCI_MANIFEST].into_iter()), Accept::of([OCI_MANIFEST, OCI_INDEX].into_iter()));
        bindings.bind(&hub, old, binding(OCI_MANIFEST, 1), 0);
        assert_eq!(bindings.find(&hub, new), None);
        assert_eq!(bindings.find(&ghcr, old), None);
        assert_eq!(bindings.find_readable(&hub, new).unwrap().media_type.as_ref(), OCI_MANIFEST);
        bindings.bind(&hub, new, binding(OCI_INDEX, 2), 0);
        assert_eq!(bindings.find(&hub, old).unwrap().media_type.as_ref(), OCI_MANIFEST);
        assert_eq!(bindings.find_readable(&hub, old).unwrap().media_type.as_ref(), OCI_MANIFEST);
        let asked_before = bindings.epoch();
        bindings.forget(&hub);
        assert_eq!(bindings.find_readable(&hub, new), None);
        bindings.bind(&hub, new, binding(OCI_INDEX, 9), asked_before);
        assert_eq!(bindings.find(&hub, new), None, "a push came between");
    }
}
