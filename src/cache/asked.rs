//! A question about a tag: what upstream answers, and what that changes.

use std::sync::Arc;
use std::time::SystemTime;

use super::found::content_type;
use super::keep::keep;
use super::manifests::Manifest;
use super::parts::Parts;
use super::pull::Pull;
use super::tags::Bindings;
use super::told::{Binding, Told, ToldTo};
use crate::access::Inquiry;
use crate::error::{Error, Kind, Result};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{self, ContentKind, MAX_MANIFEST};
use crate::oci::media_type::Accept;
use crate::policy::freshness::{Gone, Reason};
use crate::upstream::requester::Credential;
use crate::upstream::{Author, Past, Proves, What, Wording};

/// Questions about a tag whose answers refusals overtake.
const ATTEMPTS: usize = 2;

/// A question about a tag.
pub(super) struct Asked {
    pub(super) pull: Pull,
    pub(super) what: What,
    pub(super) accept: Accept,
    pub(super) to: ToldTo,
    pub(super) key: Arc<str>,
    pub(super) looked: Option<SystemTime>,
    pub(super) by: By,
}

/// How a tag is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum By {
    /// No registry counts it.
    Head,
    /// What HEAD does not get.
    Get,
}

/// What a tag names, what that proves, and the bytes if they came with it.
type Described = (Binding, Proves, Option<Arc<Manifest>>);

impl Asked {
    /// Upstream's answer, bound.
    pub(super) async fn answer(self, parts: &Parts, bindings: &Bindings) -> Result<Binding> {
        let told = bindings.told(&self.key);
        if let Some(binding) = self.answered_meanwhile(&told).filter(|binding| is_granted(parts, &self.pull, binding)) {
            return Ok(binding);
        }
        for _ in 0..ATTEMPTS {
            if let Some((binding, proves)) = self.ask(parts, bindings).await? {
                return Ok(self.bind(parts, bindings, &told, binding, proves));
            }
        }
        let host = &self.pull.site.origin.host;
        Err(Error::new(Kind::Broken, format!("{host} let this be read and refused it at once: try again")))
    }

    /// What upstream answers, and what that proves. `None`: a refusal that came meanwhile voids it.
    async fn ask(&self, parts: &Parts, bindings: &Bindings) -> Result<Option<(Binding, Proves)>> {
        let (sent, inquiry) = (parts.now(), parts.inquire(&self.pull));
        let described = match self.describe(parts, sent).await {
            Ok(described) => described,
            Err(error) => {
                self.after_refusal(parts, bindings, (&inquiry, sent), &error).await;
                return Err(error);
            }
        };
        let (binding, proves) = self.hear(parts, &inquiry, described).await;
        let is_valid = parts.access.is_valid(&inquiry, (&binding.digest, ContentKind::Manifest));
        Ok(is_valid.then_some((binding, proves)))
    }

    /// What upstream sent is kept, like any manifest.
    async fn hear(&self, parts: &Parts, inquiry: &Inquiry, described: Described) -> (Binding, Proves) {
        let (binding, proves, manifest) = described;
        let content = (&binding.digest, ContentKind::Manifest);
        match manifest {
            Some(manifest) => {
                parts.access.deliver(inquiry, proves, content);
                keep(parts, &self.pull.key, &binding.digest, &manifest).await;
            }
            None => parts.access.hear(inquiry, proves, content),
        }
        (binding, proves)
    }

    fn bind(&self, parts: &Parts, bindings: &Bindings, told: &[Told], binding: Binding, proves: Proves) -> Binding {
        let binding = binding.after(self.last(told), |digest| parts.is_here(digest));
        // What the account was told in vain, and anonymous in its place, is anonymous's.
        let to = if proves == Proves::Grant(Credential::Anonymous) { ToldTo::Anonymous } else { self.to };
        bindings.bind(&self.key, Told { accept: self.accept, to, binding: binding.clone() }, parts.now());
        binding
    }

    /// What another's question brought since this one looked: who looked before its answer came, and
    /// asks after it has come.
    fn answered_meanwhile(&self, told: &[Told]) -> Option<Binding> {
        let mut same = told.iter().filter(|told| told.accept == self.accept && told.to == self.to);
        let answered = same.find(|told| told.binding.confirmed() > self.looked)?;
        Some(answered.binding.clone())
    }

    /// What the tag named until now.
    fn last(&self, told: &[Told]) -> Option<Binding> {
        let readable = |told: &&Told| told.accept == self.accept || self.accept.admits(&told.binding.media_type);
        let mine = told.iter().filter(|told| is_told(told.to, &self.pull)).filter(readable);
        let last = mine.max_by_key(|told| (told.accept == self.accept, told.binding.checked))?;
        Some(last.binding.clone())
    }

    /// What a tag names by upstream's answer to a question that is `sent` now.
    async fn describe(&self, parts: &Parts, sent: SystemTime) -> Result<Described> {
        let Asked { pull, what, accept, by, .. } = self;
        if *by == By::Get {
            return self.read(parts, sent).await;
        }
        let ask = |accept: String, past| async move {
            parts.upstream.describe(&pull.site, &pull.repository, what, (&accept, past), &pull.requester).await
        };
        let said = match Box::pin(ask(pull.accepted(*accept), Past::Nobody)).await {
            // What a client wrote may be why there is no answer: what seawall asks decides.
            Err(error) if pull.others().is_some() && Reason::of(error.kind()).is_some() => {
                ask(accept.header(), Past::Nobody).await
            }
            // Who cannot deliver does not get to name.
            Ok(said) if said.spent && said.digest.as_ref().is_some_and(|digest| !parts.is_here(digest)) => {
                Ok(ask(pull.accepted(*accept), Past::Spent).await.unwrap_or(said))
            }
            said => said,
        };
        match said {
            Ok(said) => {
                let Some(digest) = said.digest else { return self.read(parts, sent).await };
                let size = said.size.filter(|size| *size > 0);
                Ok((Binding::new(digest, said.media_type.into(), size, sent), said.proves, None))
            }
            Err(error) if error.status().as_u16() == 405 => self.read(parts, sent).await,
            Err(error) => Err(error),
        }
    }

    /// For registries whose HEAD says no digest: the digest is what the bytes hash to, if they are a
    /// manifest. Anything may answer with other bytes.
    async fn read(&self, parts: &Parts, sent: SystemTime) -> Result<Described> {
        let Asked { pull, what, .. } = self;
        let mut fields = http::HeaderMap::new();
        if let Ok(value) = http::HeaderValue::try_from(pull.accepted(self.accept)) {
            fields.insert(http::header::ACCEPT, value);
        }
        let upstream = &parts.upstream;
        let wording = Wording { method: &http::Method::GET, fields: &fields, author: Author::Seawall };
        let answer = upstream.fetch_as_asked(&pull.site, &pull.repository, what, wording, &pull.requester).await?;
        let proves = answer.proves(&pull.requester);
        let response = answer.response;
        let media_type = content_type(response.headers());
        let bytes = upstream.collect(response.into_body(), MAX_MANIFEST).await?;
        if !manifest::parse(&bytes).is_ok_and(|manifest| manifest.is_recognisable()) {
            let host = &pull.site.origin.host;
            let message = format!("{host} answered with what is no manifest: is there a proxy between?");
            return Err(Error::new(Kind::Broken, message));
        }
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let manifest = parts.manifests.read(&digest, bytes, Some(&media_type));
        let size = Some(manifest.bytes.len() as u64);
        Ok((Binding::new(digest, manifest.media_type.clone(), size, sent), proves, Some(manifest)))
    }

    /// Ends what upstream's answer ends, also when it comes too late for who asked. A 404 ends what
    /// anonymous was told only if the operator wants what is gone forgotten.
    async fn after_refusal(
        &self,
        parts: &Parts,
        bindings: &Bindings,
        (inquiry, sent): (&Inquiry, SystemTime),
        error: &Error,
    ) {
        parts.denied(inquiry, None, error).await;
        let is_kept = self.to == ToldTo::Anonymous && parts.tags.gone == Gone::Serve;
        if error.kind() == Kind::Missing && !is_kept {
            bindings.forget(&self.key, self.to, sent, parts.now());
        }
    }
}

fn is_granted(parts: &Parts, pull: &Pull, binding: &Binding) -> bool {
    parts.check(pull, (&binding.digest, ContentKind::Manifest)).permission.is_granted()
}

/// Whether what was told so is this requester's to use.
pub(super) fn is_told(to: ToldTo, pull: &Pull) -> bool {
    to == ToldTo::Anonymous || to == ToldTo::of(pull.requester.credential)
}
