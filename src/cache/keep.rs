//! Keeps a manifest that came as what a tag names: it was hashed, so it is verified.

use tracing::warn;

use super::flight::{Head, Joined};
use super::manifests::Manifest;
use super::parts::Parts;
use crate::error::{Error, Kind};
use crate::fs;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::admission::Wish;
use crate::store::Partial;
use crate::task;

/// Keeps it, unless it is here or on its way. Where there is no room for it, it is in memory at least.
pub(super) async fn keep(parts: &Parts, key: &RepositoryKey, digest: &Digest, manifest: &Manifest) {
    let Joined::Lead(lead) = parts.flights.join(digest, || parts.index.hold(digest, parts.now())) else { return };
    let size = manifest.bytes.len() as u64;
    let Ok(Some(_reservation)) = parts.sweep.make_room(Wish { size, missing: size }).await else {
        return lead.fail(Error::new(Kind::Full, "the cache is full"));
    };
    let partial = match written(parts, digest, manifest).await {
        Ok(partial) => partial,
        Err(error) => {
            warn!(%digest, %error, "a manifest cannot be kept");
            return lead.fail(Error::caused(Kind::Full, "the cache cannot be written", error));
        }
    };
    let media_type = manifest.media_type.clone();
    lead.flow(None, Head { file: partial.file(), total: Some(size), media_type: media_type.clone() }, size);
    lead.verify(size);
    let store = parts.store.clone();
    if let Err(error) = task::blocking(move || store.commit(&partial)).await {
        warn!(%digest, %error, "a manifest cannot be kept");
        return lead.land(None);
    }
    let held = parts.index.insert(digest, size, Some(&media_type), parts.now());
    parts.access.presences().landed(key, digest, ContentKind::Manifest);
    parts.sweep.report();
    lead.land(Some(held));
}

async fn written(parts: &Parts, digest: &Digest, manifest: &Manifest) -> fs::Result<Partial> {
    let (store, digest, bytes) = (parts.store.clone(), digest.clone(), manifest.bytes.clone());
    task::blocking(move || {
        store.remove_partial(&digest)?;
        let mut partial = store.partial(&digest)?;
        partial.append(&[bytes])?;
        Ok(partial)
    })
    .await
}
