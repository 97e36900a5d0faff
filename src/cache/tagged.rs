//! A tag's manifest: what the tag names now, or what it named before where that alone can be had.

use http::{HeaderMap, HeaderValue, header};

use super::content::{Content, Yes};
use super::resolve::{Resolved, Stale, age};
use super::tags::Binding;
use super::{Cache, Found, Method, Pull};
use crate::error::Result;
use crate::http::cache_status::Outcome;
use crate::oci::media_type::{Accept, is_index, is_manifest, is_schema1};
use crate::oci::name::{Reference, Tag};
use crate::policy::freshness;
use crate::upstream::What;

impl Cache {
    /// A HEAD tells what a tag names now, though the quota for its bytes may be spent, or their store away: then the answer is what
    /// the tag named before, if that is here.
    pub(super) async fn tagged(&self, pull: &Pull, tag: &Tag, accept: Accept) -> Result<Found> {
        let resolved = self.resolve(pull, tag, accept).await?;
        let Some(before) = self.before(pull, &resolved) else {
            return self.named(pull, tag, accept, resolved).await;
        };
        let stale = match self.cannot_come(pull, &resolved) {
            Some(stale) => stale,
            None => match self.named(pull, tag, accept, resolved).await {
                Err(error) => self.stale(pull, &error).ok_or(error)?,
                found => return found,
            },
        };
        let age = age(&before, self.0.clock.now());
        let before = Resolved { binding: before, age, stale: Some(stale) };
        self.named(pull, tag, accept, before).await
    }

    /// What the tag named before, if that is here, and what it names now is not.
    fn before(&self, pull: &Pull, resolved: &Resolved) -> Option<Binding> {
        let before = resolved.binding.before.as_deref()?;
        let now = self.0.clock.now();
        let known = self.0.grants.known(&pull.place, pull.asker.credential, Some(&before.digest));
        let stands = known.stands(self.0.grants.belief(), now);
        let may_be_served = freshness::may_be_stale(before.checked, &self.0.tags, now);
        let alone = self.is_here(&before.digest) && !self.is_here(&resolved.binding.digest);
        (alone && stands && may_be_served).then(|| before.clone())
    }

    /// Why what a tag names now will not come, where that is known without asking for it: upstream is away, or no quota is left. Who
    /// asks by HEAD is about to GET it.
    fn cannot_come(&self, pull: &Pull, resolved: &Resolved) -> Option<Stale> {
        let what = What::Manifest(Reference::Digest(resolved.binding.digest.clone()));
        let spent = || self.0.upstream.spent(&pull.site, &pull.repository, &what, &self.payer(pull));
        resolved.stale.clone().or_else(|| self.stale(pull, &spent()?))
    }

    /// The manifest that a tag was resolved to.
    async fn named(&self, pull: &Pull, tag: &Tag, accept: Accept, resolved: Resolved) -> Result<Found> {
        let Resolved { binding, age, stale } = resolved;
        if is_schema1(&binding.media_type) {
            return self.as_asked(pull, tag, accept, binding).await;
        }
        let what = What::Manifest(Reference::Digest(binding.digest.clone()));
        if pull.method == Method::Head && pull.site.registry.reserve > 0 {
            self.0.bindings.tell(&pull.place, &binding.digest, self.0.clock.now());
        }
        let known_size = binding.size.filter(|_| pull.method == Method::Head);
        let mut found = match known_size {
            // What a HEAD wants to know is known, whether the bytes are here or not.
            Some(size) => Found {
                digest: binding.digest.clone(),
                media_type: binding.media_type.clone(),
                content: Content::Sized(size),
                outcome: Outcome::Hit,
                age: None,
                stale: None,
            },
            None => self.content(pull, &binding.digest, &what, Yes::Given).await?,
        };
        if is_manifest(&binding.media_type) || is_index(&binding.media_type) {
            found.media_type = binding.media_type;
        } else if let Some(manifest) = self.0.manifests.find(&binding.digest) {
            // Upstream says something else, or nothing: the bytes know better.
            found.media_type = manifest.media_type.clone();
        }
        if stale.is_some() {
            found.outcome = Outcome::Stale;
        }
        Ok(Found { age: Some(age), stale, ..found })
    }

    /// Schema 1 is not what its digest is of (the signatures are left out): it is passed on, and never kept.
    async fn as_asked(&self, pull: &Pull, tag: &Tag, accept: Accept, binding: Binding) -> Result<Found> {
        let what = What::Manifest(Reference::Tag(tag.clone()));
        let method = match pull.method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
        };
        let mut fields = HeaderMap::new();
        if let Ok(value) = HeaderValue::try_from(accept.header()) {
            fields.insert(header::ACCEPT, value);
        }
        let (site, repository, asker) = (&pull.site, &pull.repository, &pull.asker);
        let response = self.0.upstream.fetch_as_asked(site, repository, &what, &method, &fields, asker).await?;
        let (digest, media_type) = (binding.digest, binding.media_type);
        let content = Content::Part(response);
        Ok(Found { digest, media_type, content, outcome: Outcome::Bypass, age: None, stale: None })
    }
}
