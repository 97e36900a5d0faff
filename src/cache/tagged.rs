//! A tag's manifest: what the tag names now, or, if the new manifest cannot be fetched, the previous one.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use super::admit::Cleared;
use super::content::Contents;
use super::found::{Content, Found, Stale, content_type};
use super::manifests::Manifest;
use super::parts::Parts;
use super::pull::{Method, Pull};
use super::resolve::{Resolved, Resolver, age};
use super::tags::Bindings;
use super::told::Binding;
use crate::error::{Error, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::http::warnings::Warnings;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::media_type::{Accept, is_index, is_manifest, is_schema1};
use crate::oci::name::{Reference, Tag};
use crate::policy::access::Verdict;
use crate::policy::freshness;
use crate::policy::sound;
use crate::task;
use crate::upstream::{Author, What, Wording, paced_at};

/// What of an image is not here, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MissingPart {
    /// Bytes, which no registry counts.
    Blob,
    /// Its manifest, or that of each of its platforms.
    Manifest,
}

/// Of what a manifest lists so much is looked at: no image has as many layers, and no index as many
/// platforms; whoever writes one that has is asked for by everybody.
const LOOKED_AT: usize = 128;

/// What a tag named before, and can be served better than what it names now.
struct Fallback {
    before: Binding,
    missing: MissingPart,
}

/// Finds manifests by tag.
pub(super) struct Tagged {
    parts: Arc<Parts>,
    bindings: Arc<Bindings>,
    resolver: Arc<Resolver>,
    contents: Arc<Contents>,
}

impl Tagged {
    pub(super) fn new(parts: Arc<Parts>, bindings: Arc<Bindings>, contents: Arc<Contents>) -> Tagged {
        let resolver = Resolver::new(parts.clone(), bindings.clone(), contents.admission.clone());
        Tagged { parts, bindings, resolver: Arc::new(resolver), contents }
    }

    /// A HEAD tells what a tag names now, though the quota for its bytes may be spent, or their
    /// store unreachable: then the answer is what the tag named before, if that is here.
    pub(super) async fn find(&self, pull: &Pull, tag: &Tag, accept: Accept) -> Result<Found> {
        let resolved = self.resolver.resolve(pull, tag, accept).await?;
        let Some(Fallback { before, missing }) = self.fallback(pull, accept, &resolved).await else {
            return self.named(pull, tag, accept, resolved).await;
        };
        let stale = match self.cannot_come(pull, &resolved, missing) {
            Some(stale) => stale,
            None => {
                let deadline = Some(self.parts.upstream.resolve_deadline());
                let named = Box::pin(self.named(pull, tag, accept, resolved));
                match crate::upstream::in_time(&pull.site, deadline, named).await {
                    Err(error) => self.parts.stale(pull, &error).ok_or(error)?,
                    found => return found,
                }
            }
        };
        let age = age(&before, self.parts.now());
        let before = Resolved { binding: before, age, stale: Some(stale), checked: None };
        self.named(pull, tag, accept, before).await
    }

    /// What the tag named before, if more of that is here than of what it names now.
    async fn fallback(&self, pull: &Pull, accept: Accept, resolved: &Resolved) -> Option<Fallback> {
        let before = resolved.binding.before.as_deref().filter(|before| self.parts.is_here(&before.digest))?;
        let now = self.parts.now();
        let permission = self.parts.check(pull, (&before.digest, ContentKind::Manifest)).permission;
        let stands = permission.is_granted() || permission.stands();
        let may_be_served =
            accept.admits(&before.media_type) && freshness::may_be_stale(before.checked, &self.parts.tags, now);
        if !stands || !may_be_served {
            return None;
        }
        let missing = Box::pin(self.missing(pull, &resolved.binding.digest)).await?;
        (Box::pin(self.missing(pull, &before.digest)).await < Some(missing))
            .then(|| Fallback { before: before.clone(), missing })
    }

    /// What of an image is not here for this requester: what it may not read might as well not be.
    /// Of an index one platform is enough.
    async fn missing(&self, pull: &Pull, digest: &Digest) -> Option<MissingPart> {
        let Some(manifest) = self.parts.manifest(digest).await else { return Some(MissingPart::Manifest) };
        if !is_index(&manifest.media_type) {
            return self.missing_of_platform(pull, &manifest).await;
        }
        let mut least = Some(MissingPart::Manifest).filter(|_| manifest.children().len() > 0);
        for child in manifest.children().take(LOOKED_AT) {
            let missing = match self.parts.manifest(child).await {
                Some(platform) if self.may_read(pull, (child, ContentKind::Manifest)) => {
                    self.missing_of_platform(pull, &platform).await
                }
                _ => Some(MissingPart::Manifest),
            };
            missing?;
            least = least.min(missing);
        }
        least
    }

    async fn missing_of_platform(&self, pull: &Pull, manifest: &Manifest) -> Option<MissingPart> {
        let blobs: Vec<&Digest> = manifest.children().take(LOOKED_AT).collect();
        let is_here = |blob: &&Digest| self.parts.is_here(blob) && self.may_read(pull, (blob, ContentKind::Blob));
        if !blobs.iter().all(is_here) {
            return Some(MissingPart::Blob);
        }
        let presumed = |blob: &Digest| Some((blob.clone(), self.parts.index.presumed(blob)?));
        let presumed: Vec<_> = blobs.into_iter().filter_map(presumed).collect();
        if presumed.is_empty() {
            return None;
        }
        let store = self.parts.store.clone();
        let is_long = move |(blob, size): &(Digest, u64)| store.look(blob).is_ok_and(|found| found.size == *size);
        let all_long = task::blocking(move || presumed.iter().all(is_long)).await;
        (!all_long).then_some(MissingPart::Blob)
    }

    fn may_read(&self, pull: &Pull, content: (&Digest, ContentKind)) -> bool {
        let permission = self.parts.check(pull, content).permission;
        permission.verdict != Verdict::Ask || permission.stands()
    }

    /// Why what a tag names now will not come, where that is known without asking for it: upstream
    /// is unreachable and there is no other source, it did not come a moment ago, or no quota is
    /// left. Who asks by HEAD is about to GET it.
    fn cannot_come(&self, pull: &Pull, resolved: &Resolved, missing: MissingPart) -> Option<Stale> {
        let chain = &pull.site.registry.chain;
        let is_alone = chain.before.is_empty() && chain.after.is_empty();
        if let Some(stale) = resolved.stale.as_ref().filter(|_| is_alone) {
            return Some(stale.clone());
        }
        let digest = &resolved.binding.digest;
        let what = What::Manifest(Reference::Digest(digest.clone()));
        let payer = || self.parts.payer(pull, (digest, ContentKind::Manifest));
        let spent = || self.parts.upstream.spent(&pull.site, &pull.repository, &what, &payer());
        let error = self
            .contents
            .negative
            .failed_lately(pull, digest, self.parts.now())
            .or_else(spent)
            .filter(|_| missing == MissingPart::Manifest)?;
        self.parts.stale(pull, &error)
    }

    /// The manifest that a tag was resolved to.
    async fn named(&self, pull: &Pull, tag: &Tag, accept: Accept, resolved: Resolved) -> Result<Found> {
        let was_asked = resolved.was_asked();
        let Resolved { mut binding, age, stale, checked } = resolved;
        if is_schema1(&binding.media_type) {
            return Box::pin(self.as_asked(pull, tag, accept, binding)).await;
        }
        let what = What::Manifest(Reference::Digest(binding.digest.clone()));
        if pull.method == Method::Head && pull.site.registry.reserve > 0 {
            self.bindings.advertise(&pull.key, &binding.digest, pull.requester.credential, self.parts.now());
        }
        let known_size = binding.size.filter(|_| pull.method == Method::Head);
        let mut found = match known_size {
            // What a HEAD wants to know is known, whether the bytes are here or not.
            Some(size) => {
                let content = (&binding.digest, ContentKind::Manifest);
                let was_held = || self.parts.is_here(content.0) && self.parts.check(pull, content).is_read;
                let outcome = if was_asked && !was_held() { Outcome::Miss } else { Outcome::Hit };
                Found::new(binding.digest.clone(), binding.media_type.clone(), Content::Sized(size), outcome)
            }
            None => match self.contents.find(pull, &binding.digest, &what, Cleared::Yes(checked.as_ref())).await {
                Err(error) if stale.is_none() && self.may_be_another(pull, &binding.digest, &error) => {
                    binding = self.resolver.read(pull, tag, accept).await.map_err(|_| error)?;
                    let what = What::Manifest(Reference::Digest(binding.digest.clone()));
                    self.contents.find(pull, &binding.digest, &what, Cleared::Yes(None)).await?
                }
                found => found?,
            },
        };
        if is_manifest(&binding.media_type) || is_index(&binding.media_type) {
            found.media_type = binding.media_type;
        } else if let Some(manifest) = self.parts.manifests.find(&binding.digest)
            && self.parts.check(pull, (&binding.digest, ContentKind::Manifest)).permission.is_proved
        {
            // Upstream says something else, or nothing: the bytes know better.
            found.media_type = manifest.media_type.clone();
        }
        found.outcome = match found.outcome {
            _ if stale.is_some() => Outcome::Stale,
            Outcome::Hit if was_asked => Outcome::Revalidated,
            outcome => outcome,
        };
        if !binding.warnings.is_empty() {
            found.warnings = binding.warnings;
        }
        Ok(Found { age: Some(age), stale, ..found })
    }

    /// Whether a GET of the tag may bring what its digest did not: some have a manifest by its tag alone, and
    /// who cannot deliver does not get to name.
    fn may_be_another(&self, pull: &Pull, digest: &Digest, failed: &Error) -> bool {
        let Pull { site, repository, requester, .. } = pull;
        failed.kind() == Kind::Missing || self.parts.upstream.is_unsent(site, repository, digest, requester)
    }

    /// Schema 1 is not what its digest is of (the signatures are left out): it is passed on, and
    /// never kept.
    async fn as_asked(&self, pull: &Pull, tag: &Tag, accept: Accept, binding: Binding) -> Result<Found> {
        let what = What::Manifest(Reference::Tag(tag.clone()));
        let method = match pull.method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
        };
        let mut fields = HeaderMap::new();
        if let Ok(value) = HeaderValue::try_from(pull.accepted(accept)) {
            fields.insert(header::ACCEPT, value);
        }
        let (site, repository, requester) = (&pull.site, &pull.repository, &pull.requester);
        let wording = Wording { method: &method, fields: &fields, author: Author::Seawall };
        let (answer, place) = self.parts.upstream.fetch_as_asked(site, repository, &what, wording, requester).await?;
        if let Some(coding) = sound::coding(answer.response.headers()) {
            let message = format!("{} sent it in {coding}, though asked not to", site.origin.host);
            return Err(Error::new(Kind::Broken, message));
        }
        // What it is of is said with it: another may have been named to another.
        let digest = answer.names.unwrap_or(binding.digest);
        let media_type = content_type(answer.response.headers());
        let media_type = if media_type.is_empty() { binding.media_type } else { media_type.into() };
        let warnings = Warnings::of(answer.response.headers());
        let content = Content::Part(paced_at(place, answer.response));
        Ok(Found { warnings, ..Found::new(digest, media_type, content, Outcome::Bypass) })
    }
}
