//! HEAD of a digest: what is known of it, or what upstream says.

use std::sync::Arc;

use super::admit::{Asked, Cleared};
use super::content::Contents;
use super::found::{Content, Found, or_octets};
use super::pull::{Method, Pull, content_kind, may_push};
use super::word::Word;
use crate::error::{Error, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::oci::digest::Digest;
use crate::oci::media_type::OCTET_STREAM;
use crate::policy::access::{Permission, Standing, Verdict};
use crate::upstream::What;

impl Contents {
    /// Answers a HEAD. Who asks for a blob's is about to push, and gets what upstream says now:
    /// pulls do without.
    pub(super) async fn describe(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        cleared: Cleared<'_>,
    ) -> Result<Found> {
        let content = (digest, content_kind(what));
        let checked = self.parts.check(pull, content);
        let Permission { verdict, standing, is_proved } = checked.permission;
        let here = self.parts.here(digest).filter(|_| is_proved);
        let outcome = if here.is_some() && checked.is_read { Outcome::Hit } else { Outcome::Bypass };
        // Of a blob's it is never answered from here.
        let asked =
            if outcome == Outcome::Hit && !may_push(pull, what) { Outcome::Revalidated } else { Outcome::Bypass };
        let is_granted = cleared.is_yes() || verdict == Verdict::Granted;
        if let Some((size, media_type)) = here.clone().filter(|_| is_granted && !may_push(pull, what)) {
            return Ok(self.described(digest, size, media_type, outcome));
        }
        let access = &self.parts.access;
        let is_denied = || may_push(pull, what) && access.was_missing(&pull.requester, &pull.key, content, standing);
        let stands = here.is_some() && standing != Standing::None && !is_denied();
        let asking = Box::pin(self.admission.ask_or_stand(pull, digest, what, stands));
        let named = || self.parts.named_size(pull, digest, what);
        match (asking.await?, here) {
            (Asked::Answer(Word { said, is_proof: true, .. }), here) => {
                match said.size.or(here.map(|(size, _)| size)).or_else(named) {
                    Some(size) if !is_proved => {
                        let content = Content::Sized(size);
                        let found = Found::new(digest.clone(), or_octets(&said.media_type), content, Outcome::Bypass);
                        Ok(Found { warnings: said.warnings, ..found })
                    }
                    Some(size) => {
                        let found = self.described(digest, size, Some(said.media_type.into()), asked);
                        Ok(Found { warnings: said.warnings, ..found })
                    }
                    None => self.measured(pull, digest, what, cleared).await,
                }
            }
            // Upstream's words alone, as far as they go: of a manifest, the bytes are asked for.
            (Asked::Answer(Word { said, .. }), _) => match (what, said.size.or_else(named)) {
                (What::Blob(_), Some(size)) => {
                    let content = Content::Unproved(size);
                    Ok(Found { warnings: said.warnings, ..Found::passed(digest.clone(), said.media_type, content) })
                }
                _ => self.measured(pull, digest, what, cleared).await,
            },
            (Asked::Stale(stale), here) => {
                let (size, media_type) = here.unwrap_or_default();
                let found = self.described(digest, size, media_type, Outcome::Stale);
                Ok(Found { stale: Some(stale), ..found })
            }
        }
    }

    fn described(&self, digest: &Digest, size: u64, media_type: Option<Arc<str>>, outcome: Outcome) -> Found {
        let manifest = self.parts.manifests.find(digest).map(|manifest| manifest.media_type.clone());
        let media_type = manifest.or(media_type).filter(|name| !name.is_empty());
        let media_type = media_type.unwrap_or_else(|| OCTET_STREAM.into());
        Found::new(digest.clone(), media_type, Content::Sized(size), outcome)
    }

    /// For registries that do not say how long a manifest is: it is fetched, and kept.
    async fn measured(&self, pull: &Pull, digest: &Digest, what: &What, cleared: Cleared<'_>) -> Result<Found> {
        let whole = Pull { method: Method::Get, range: None, ..pull.clone() };
        let found = Box::pin(self.find(&whole, digest, what, cleared)).await?;
        let size = match &found.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, Some(size)) | Content::Through(_, Some(size)) => *size,
            _ => return Err(Error::new(Kind::Broken, "upstream does not say how long this is")),
        };
        Ok(Found { content: Content::Sized(size), ..found })
    }
}
