//! What does a tag name now, and may this client read it?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tags::{self, Binding};
use super::{Cache, Gone, Pull};
use crate::error::{Error, Kind, Result};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::media_type::Accept;
use crate::oci::name::{Reference, Tag};
use crate::policy::freshness::{self, After, Answer, Before, Granted, Reason};
use crate::upstream::What;
use crate::upstream::requester::Credential;

/// A tag, resolved.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) binding: Binding,
    /// Since upstream last confirmed it.
    pub(super) age: Duration,
    /// Why that is longer ago than it should be.
    pub(super) stale: Option<Stale>,
}

/// Served although upstream did not say so now.
#[derive(Clone, Debug)]
pub struct Stale {
    /// Why.
    pub reason: Reason,
    /// What went wrong, for the client to read.
    pub message: String,
}

/// What is asked once for many: a tag, by clients that accept the same, for one credential, since the last push and
/// the last trial.
pub(super) type Question = (Arc<str>, Accept, Credential, u64, u64);

/// The ttl of what a tag names, as long as that is not here.
const SOON: Duration = Duration::from_secs(5);

impl Cache {
    pub(super) async fn resolve(&self, pull: &Pull, tag: &Tag, accept: Accept) -> Result<Resolved> {
        let key = tags::key(&pull.key, tag);
        let now = self.0.clock.now();
        let bound = self.0.bindings.find(&key, accept);
        // What upstream was told to remove is asked for anew, by its tags too.
        let named = bound.as_ref().map(|binding| &binding.digest);
        let known = self.0.grants.known(&pull.key, pull.requester.credential, named);
        let granted = yes(known.granted(self.0.grants.ttls(), now));
        let checked = bound.as_ref().map(|binding| binding.checked);
        let ttl = self.ttl(&key, bound.as_ref());
        if let (Before::Serve, Some(binding)) = (freshness::before(checked, ttl, granted, now), &bound) {
            return Ok(Resolved { age: age(binding, now), binding: binding.clone(), stale: None });
        }
        // While upstream is silent a binding of other clients will do, if these can read it.
        let kept = bound.clone().or_else(|| self.0.bindings.find_readable(&key, accept));
        // Impatient only where there is something to fall back on.
        let deadline = (kept.is_some() && known.usable_while_away(self.0.grants.ttls(), now))
            .then(|| self.0.upstream.resolve_deadline());
        let asking = Box::pin(self.ask_tag(pull, tag, accept, (&key, kept.clone())));
        let asked = self.0.upstream.in_time(&pull.site, deadline, asking).await;
        self.0.metrics.resolve(self.0.clock.now().duration_since(now).unwrap_or_default());
        self.settle(pull, kept, asked)
    }

    /// What never came, where something else could be served, may be out of reach: it is asked for again soon.
    fn ttl(&self, key: &str, bound: Option<&Binding>) -> Duration {
        let ttl = self.0.tags.ttl_of(key);
        let before = bound.and_then(|binding| Some((binding, binding.before.as_ref()?)));
        match before {
            Some((now, before)) if !self.is_here(&now.digest) && self.is_here(&before.digest) => ttl.min(SOON),
            _ => ttl,
        }
    }

    /// One HEAD for all who ask for the same at once. What it says is bound whether they wait for it or not.
    async fn ask_tag(
        &self,
        pull: &Pull,
        tag: &Tag,
        accept: Accept,
        (key, last): (&Arc<str>, Option<Binding>),
    ) -> Result<Binding> {
        let epoch = self.0.bindings.epoch();
        let (cache, pull, key) = (self.clone(), pull.clone(), key.clone());
        let what = What::Manifest(Reference::Tag(tag.clone()));
        let question = (key.clone(), accept, pull.requester.credential, epoch, self.0.upstream.generation(&pull.site));
        let work = move || async move {
            let described = cache.describe_tag(&pull, &what, accept).await;
            let (binding, grants_to) = described.inspect_err(|error| cache.believe(&pull, &key, error))?;
            cache.record_grant(&pull.key, grants_to, &binding.digest);
            let binding = binding.after(last, |digest| cache.is_here(digest));
            cache.0.bindings.bind(&key, accept, binding.clone(), epoch);
            Ok(binding)
        };
        self.0.questions.run(question, work).await
    }

    /// What it names, and to whom that is a yes.
    async fn describe_tag(&self, pull: &Pull, what: &What, accept: Accept) -> Result<(Binding, Option<Credential>)> {
        let requester = self.requester_for_upstream(pull);
        let said = self.0.upstream.describe(&pull.site, &pull.repository, what, accept, &requester).await;
        match said {
            Ok(said) => {
                let grants_to = said.grants_to(&requester);
                let Some(digest) = said.digest else {
                    return Ok((self.read_tag(pull, what, accept).await?, grants_to));
                };
                let (media_type, size) = (said.media_type.into(), said.size.filter(|size| *size > 0));
                Ok((Binding { digest, media_type, size, checked: self.0.clock.now(), before: None }, grants_to))
            }
            Err(error) if error.status().as_u16() == 405 => {
                Ok((self.read_tag(pull, what, accept).await?, pull.requester.grants_to()))
            }
            Err(error) => Err(error),
        }
    }

    /// For registries whose HEAD says no digest: the digest is what the bytes hash to.
    async fn read_tag(&self, pull: &Pull, what: &What, accept: Accept) -> Result<Binding> {
        let mut fields = http::HeaderMap::new();
        if let Ok(value) = http::HeaderValue::try_from(accept.header()) {
            fields.insert(http::header::ACCEPT, value);
        }
        let upstream = &self.0.upstream;
        let get = http::Method::GET;
        let response =
            upstream.fetch_as_asked(&pull.site, &pull.repository, what, &get, &fields, &pull.requester).await?;
        let media_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = crate::oci::media_type::essence(media_type.unwrap_or_default()).to_owned();
        let bytes = upstream.collect(response.into_body(), MAX_MANIFEST).await?;
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let manifest = super::manifests::Manifest::read(bytes, Some(&media_type));
        let size = Some(manifest.bytes.len() as u64);
        let media_type = manifest.media_type.clone();
        self.0.manifests.keep(&digest, Arc::new(manifest));
        Ok(Binding { digest, media_type, size, checked: self.0.clock.now(), before: None })
    }

    fn settle(&self, pull: &Pull, kept: Option<Binding>, asked: Result<Binding>) -> Result<Resolved> {
        let now = self.0.clock.now();
        let named = kept.as_ref().map(|binding| &binding.digest);
        let known = self.0.grants.known(&pull.key, pull.requester.credential, named);
        let answer = answer(&asked, kept.as_ref());
        let known = if answer == Answer::Missing { known.after_not_found() } else { known };
        let stands = known.usable_while_away(self.0.grants.ttls(), now);
        let checked = kept.as_ref().map(|binding| binding.checked);
        match (freshness::after(answer, checked, yes(stands), &self.0.tags, now), asked, kept) {
            (After::Confirmed | After::Moved, Ok(binding), _) => {
                Ok(Resolved { binding, age: Duration::ZERO, stale: None })
            }
            (After::Stale(reason), Err(error), Some(binding)) => {
                self.0.metrics.stale(&pull.site.registry.name, reason.as_str());
                let stale = Some(Stale { reason, message: error.message().to_owned() });
                Ok(Resolved { age: age(&binding, now), binding, stale })
            }
            (_, asked, _) => {
                Err(asked.err().unwrap_or_else(|| Error::new(Kind::Ours, "a tag was asked for and not answered")))
            }
        }
    }

    /// What upstream's no takes away, also when it comes too late for who asked.
    fn believe(&self, pull: &Pull, key: &Arc<str>, error: &Error) {
        self.refused(pull, error);
        if error.kind() == Kind::Missing && self.0.tags.gone == Gone::Forget && self.0.bindings.knows(key) {
            self.0.bindings.forget(key);
        }
    }
}

pub(super) fn age(binding: &Binding, now: SystemTime) -> Duration {
    now.duration_since(binding.checked).unwrap_or_default()
}

fn yes(granted: bool) -> Granted {
    if granted { Granted::Yes } else { Granted::No }
}

fn answer(asked: &Result<Binding>, kept: Option<&Binding>) -> Answer {
    match asked {
        Ok(binding) if kept.is_some_and(|kept| kept.digest == binding.digest) => Answer::Same,
        Ok(_) => Answer::Other,
        Err(error) => match away(error) {
            Some(reason) => Answer::Away(reason),
            None if error.kind() == Kind::Missing => Answer::Missing,
            None => Answer::Refused,
        },
    }
}

/// Why upstream could not be asked, if that is what the error says.
pub(super) fn away(error: &Error) -> Option<Reason> {
    match error.kind() {
        Kind::Unreachable | Kind::Forbidden | Kind::Looped => Some(Reason::Unreachable),
        Kind::Timeout => Some(Reason::Timeout),
        Kind::Limited => Some(Reason::RateLimited),
        Kind::Broken | Kind::Corrupt => Some(Reason::Broken),
        Kind::Request
        | Kind::Misdirected
        | Kind::Rejected
        | Kind::Refused
        | Kind::Missing
        | Kind::Full
        | Kind::Ours => None,
    }
}
