//! Keeps what is verified: file, then index, then landing. And a manifest that came as what a tag names,
//! which was hashed, and so is.

use tracing::warn;

use super::flight::{Joined, Lead};
use super::manifests::Manifest;
use super::parts::Parts;
use super::progress::Head;
use super::sweep::SpaceReservation;
use crate::error::{Error, Kind};
use crate::fs::{self, FsError};
use crate::http::warnings::Warnings;
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
    let Ok(Some(reservation)) = parts.sweep.make_room(Wish { size, missing: size }).await else {
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
    let (file, warnings) = (partial.file(), Warnings::default());
    let head = Head {
        file,
        total: Some(size),
        media_type: media_type.clone(),
        warnings,
        is_packed: false,
        has_segments: false,
    };
    lead.flow(None, head, partial.here().clone());
    lead.verify(size);
    land(parts, lead, (key, ContentKind::Manifest), (partial, reservation), &media_type).await;
}

/// Lands what is verified; tells whether it is kept.
pub(super) async fn land(
    parts: &Parts,
    lead: Lead,
    (key, kind): (&RepositoryKey, ContentKind),
    (partial, reservation): (Partial, SpaceReservation),
    media_type: &str,
) -> bool {
    debug_assert!(lead.flight().is_verified());
    let (digest, store, index, now) = (partial.digest().clone(), parts.store.clone(), parts.index.clone(), parts.now());
    let media_type = Some(media_type.to_owned()).filter(|name| !name.is_empty());
    let kept = task::blocking(move || {
        store.commit(&partial)?;
        let insert = || index.insert(partial.digest(), partial.len(), media_type.as_deref(), now);
        Ok::<_, FsError>(reservation.kept(insert))
    });
    let held = match kept.await {
        Ok(held) => {
            *parts.full_since.lock() = None;
            held
        }
        Err(error) => {
            warn!(%digest, %error, "a verified blob cannot be kept");
            lead.land(None);
            return false;
        }
    };
    parts.access.presences().landed(key, &digest, kind);
    parts.sweep.report();
    lead.land(Some(held));
    true
}

async fn written(parts: &Parts, digest: &Digest, manifest: &Manifest) -> fs::Result<Partial> {
    let (store, digest, bytes) = (parts.store.clone(), digest.clone(), manifest.bytes.clone());
    task::blocking(move || {
        store.remove_partial(&digest)?;
        let mut partial = store.partial(&digest)?;
        partial.write(&[(0, bytes)])?;
        Ok(partial)
    })
    .await
}
