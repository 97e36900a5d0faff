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
use crate::http::warnings::Warnings;
use crate::lane::Place;
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{self, ContentKind, MAX_MANIFEST};
use crate::oci::media_type::{Accept, is_schema1};
use crate::policy::freshness::Gone;
use crate::upstream::requester::Credential;
use crate::upstream::{Answer, Author, Description, Past, Proves, What, Wording};

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
        // What the account was told in vain is anonymous's.
        let is_anonymous = inquiry.is_accounts() && proves == Proves::Grant(Credential::Anonymous);
        let inquiry = if is_anonymous { parts.access.asked_as_anonymous(&inquiry) } else { inquiry };
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
        // What this client takes besides, others who accept the same of the known types may not.
        let is_among = |others: String| others.split(", ").any(|range| range.eq_ignore_ascii_case(&binding.media_type));
        let is_own = !self.accept.admits(&binding.media_type) && self.pull.others().is_some_and(is_among);
        if !is_own {
            bindings.bind(&self.key, Told { accept: self.accept, to, binding: binding.clone() }, parts.now());
        }
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
        if self.by == By::Get {
            return self.read(parts, sent).await;
        }
        let said = match self.ask_in_words(parts).await? {
            // Who cannot deliver does not get to name.
            said if said.is_unable && said.digest.as_ref().is_some_and(|digest| !parts.is_here(digest)) => {
                let accepted = self.pull.accepted(self.accept);
                self.ask_head(parts, (&accepted, Past::Unable), Author::Seawall).await.unwrap_or(said)
            }
            said => said,
        };
        let Some(digest) = said.digest else { return self.read(parts, sent).await };
        let size = said.size.filter(|size| *size > 0);
        let binding = Binding::new(digest, said.media_type.into(), size, sent);
        Ok((Binding { warnings: said.warnings, ..binding }, said.proves, None))
    }

    /// What a client wrote may be why there is no answer, or another: then what seawall asks decides.
    async fn ask_in_words(&self, parts: &Parts) -> Result<Description> {
        let (accepted, author) = self.words();
        match self.ask_head(parts, (&accepted, Past::Nobody), author).await {
            Err(error) if author == Author::Client && error.kind() != Kind::Timeout => {
                self.ask_head(parts, (&self.accept.header(), Past::Nobody), Author::Seawall).await
            }
            said => said,
        }
    }

    /// `Accept`, and who wrote it: seawall, unless a client has types that no other has.
    fn words(&self) -> (String, Author) {
        let is_clients = self.pull.types_of_its_own().is_some() && !self.accept.is_empty();
        (self.pull.accepted(self.accept), if is_clients { Author::Client } else { Author::Seawall })
    }

    async fn ask_head(&self, parts: &Parts, asked: (&str, Past), author: Author) -> Result<Description> {
        let Asked { pull, what, .. } = self;
        parts.upstream.describe(&pull.site, &pull.repository, what, asked, author, &pull.requester).await
    }

    /// For registries whose HEAD says no digest: the digest is what the bytes hash to, if they are a
    /// manifest. Anything may answer with other bytes.
    async fn read(&self, parts: &Parts, sent: SystemTime) -> Result<Described> {
        let (accepted, author) = self.words();
        let (answer, _place) = match self.get(parts, &accepted, author).await {
            Err(error) if author == Author::Client && error.kind() != Kind::Timeout => {
                self.get(parts, &self.accept.header(), Author::Seawall).await?
            }
            answer => answer?,
        };
        let (pull, proves) = (&self.pull, answer.proves(&self.pull.requester));
        let named = answer.names;
        let response = answer.response;
        let warnings = Warnings::of(response.headers());
        let media_type = content_type(response.headers());
        let bytes = parts.upstream.collect(response.into_body(), MAX_MANIFEST).await?;
        if !manifest::parse(&bytes).is_ok_and(|manifest| manifest.is_recognisable()) {
            let host = &pull.site.origin.host;
            let message = format!("{host} answered with what is no manifest: is there a proxy between?");
            return Err(Error::new(Kind::Broken, message));
        }
        let digest = named.unwrap_or_else(|| Digest::of(Algorithm::Sha256, &bytes));
        if Digest::of(digest.algorithm(), &bytes) != digest {
            // Its digest leaves the signatures out.
            if is_schema1(&media_type) {
                let binding = Binding::new(digest, media_type.into(), None, sent);
                return Ok((Binding { warnings, ..binding }, proves, None));
            }
            let message = format!("{} sent other bytes than those of {digest}; try again", pull.site.origin.host);
            return Err(Error::new(Kind::Corrupt, message));
        }
        let manifest = parts.manifests.read(&digest, bytes, Some(&media_type));
        let size = Some(manifest.bytes.len() as u64);
        let binding = Binding::new(digest, manifest.media_type.clone(), size, sent);
        Ok((Binding { warnings, ..binding }, proves, Some(manifest)))
    }

    async fn get(&self, parts: &Parts, accepted: &str, author: Author) -> Result<(Answer, Place)> {
        let Asked { pull, what, .. } = self;
        let mut fields = http::HeaderMap::new();
        if let Ok(value) = http::HeaderValue::try_from(accepted) {
            fields.insert(http::header::ACCEPT, value);
        }
        let wording = Wording { method: &http::Method::GET, fields: &fields, author };
        parts.upstream.fetch_as_asked(&pull.site, &pull.repository, what, wording, &pull.requester).await
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
