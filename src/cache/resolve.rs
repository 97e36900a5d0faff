//! What a tag names now, and whether the requester may read it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::found::{Stale, content_type};
use super::parts::Parts;
use super::pull::Pull;
use super::tags::{self, Binding, Bindings};
use crate::error::{Error, Kind, Result};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{self, ContentKind, MAX_MANIFEST};
use crate::oci::media_type::Accept;
use crate::oci::name::{Reference, Tag};
use crate::policy::access::Permission;
use crate::policy::freshness::{self, After, Answer, Before, Granted, Reason};
use crate::task::Coalesced;
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

/// What is asked once for many: a tag, by clients that accept the same, for one credential, since
/// the last push of it and the last trial.
type Question = (Arc<str>, Accept, Credential, Option<SystemTime>, u64);

/// The ttl of what a tag names, as long as that is not here.
const SOON: Duration = Duration::from_secs(5);

/// Resolves tags: what is bound, or what upstream answers to one HEAD.
pub(super) struct Resolver {
    parts: Arc<Parts>,
    bindings: Arc<Bindings>,
    asked: Coalesced<Question, Result<Binding>>,
}

impl Resolver {
    pub(super) fn new(parts: Arc<Parts>, bindings: Arc<Bindings>) -> Resolver {
        Resolver { parts, bindings, asked: Coalesced::default() }
    }

    pub(super) async fn resolve(&self, pull: &Pull, tag: &Tag, accept: Accept) -> Result<Resolved> {
        let parts = &self.parts;
        let (key, now) = (tags::key(&pull.key, tag), parts.now());
        let bound = self.bindings.find(&key, accept);
        // What was removed upstream is asked for again, by its tags too.
        let permission = parts.check(pull, bound.as_ref().map(|binding| (&binding.digest, ContentKind::Manifest)));
        let granted = granted(permission == Permission::Established);
        let checked = bound.as_ref().and_then(Binding::confirmed);
        let (ttl, pushed) = (self.ttl(&key, bound.as_ref()), self.bindings.pushes.of(&key));
        if let (Before::Serve, Some(binding)) = (freshness::before(checked, ttl, pushed, granted, now), &bound) {
            return Ok(Resolved { age: age(binding, now), binding: binding.clone(), stale: None });
        }
        // While upstream is silent a binding of other clients will do, if these can read it.
        let kept = bound.clone().or_else(|| self.bindings.find_readable(&key, accept));
        let copy = kept.as_ref().map_or(Permission::Required, |_| permission);
        let asking = Box::pin(self.ask(pull, tag, accept, (&key, kept.clone())));
        let asked = parts.in_time(pull, copy, asking).await;
        parts.metrics.resolve(parts.now().duration_since(now).unwrap_or_default());
        self.settle(pull, kept, asked)
    }

    /// What never came, where something else could be served, may be out of reach: it is asked for
    /// again soon.
    fn ttl(&self, key: &str, bound: Option<&Binding>) -> Duration {
        let ttl = self.parts.tags.ttl_of(key);
        let before = bound.and_then(|binding| Some((binding, binding.before.as_ref()?)));
        match before {
            Some((now, before)) if !self.parts.is_here(&now.digest) && self.parts.is_here(&before.digest) => {
                ttl.min(SOON)
            }
            _ => ttl,
        }
    }

    /// One HEAD for all who ask for the same at once. What it says is bound whether they wait for
    /// it or not.
    async fn ask(
        &self,
        pull: &Pull,
        tag: &Tag,
        accept: Accept,
        (key, last): (&Arc<str>, Option<Binding>),
    ) -> Result<Binding> {
        let pushed = self.bindings.pushes.generation(key);
        let generation = self.parts.upstream.generation(&pull.site);
        let question = (key.clone(), accept, pull.requester.credential, pushed, generation);
        let what = What::Manifest(Reference::Tag(tag.clone()));
        let (parts, bindings, pull, key) = (self.parts.clone(), self.bindings.clone(), pull.clone(), key.clone());
        let work = move || async move {
            let sent = parts.now();
            let described = describe(&parts, &pull, &what, accept, sent).await;
            let (binding, grants_to) =
                described.inspect_err(|error| after_refusal(&parts, &bindings, &pull, (&key, sent), error))?;
            parts.access.record_grant(&pull.key, grants_to, &binding.digest, ContentKind::Manifest);
            let binding = binding.after(last, |digest| parts.is_here(digest));
            bindings.bind(&key, accept, binding.clone(), parts.now());
            Ok(binding)
        };
        self.asked.run(question, work).await
    }

    fn settle(&self, pull: &Pull, kept: Option<Binding>, asked: Result<Binding>) -> Result<Resolved> {
        let (parts, answer) = (&self.parts, answer(&asked, kept.as_ref()));
        let permission = parts.check(pull, kept.as_ref().map(|binding| (&binding.digest, ContentKind::Manifest)));
        let permission = if answer == Answer::Missing { permission.after_not_found() } else { permission };
        let (stands, now) = (granted(permission.usable_while_away()), parts.now());
        let checked = kept.as_ref().map(|binding| binding.checked);
        match (freshness::after(answer, checked, stands, &parts.tags, now), asked, kept) {
            (After::Confirmed | After::Moved, Ok(binding), _) => {
                Ok(Resolved { binding, age: Duration::ZERO, stale: None })
            }
            (After::Stale(reason), Err(error), Some(binding)) => {
                parts.metrics.stale(&pull.site.registry.name, reason.as_str());
                let stale = Some(Stale { reason, message: error.message().to_owned() });
                Ok(Resolved { age: age(&binding, now), binding, stale })
            }
            (_, asked, _) => {
                Err(asked.err().unwrap_or_else(|| Error::new(Kind::Ours, "a tag was asked for and not answered")))
            }
        }
    }
}

/// What a tag names by upstream's answer to a question that is `sent` now, and to whom that is a
/// grant.
async fn describe(
    parts: &Parts,
    pull: &Pull,
    what: &What,
    accept: Accept,
    sent: SystemTime,
) -> Result<(Binding, Option<Credential>)> {
    let requester = parts.access.requester_for_upstream(&pull.requester, &pull.key);
    let said = parts.upstream.describe(&pull.site, &pull.repository, what, accept, &requester).await;
    match said {
        Ok(said) => {
            let grants_to = said.grants_to(&requester);
            let Some(digest) = said.digest else { return read(parts, pull, what, accept, sent).await };
            let (media_type, size) = (said.media_type.into(), said.size.filter(|size| *size > 0));
            Ok((Binding { digest, media_type, size, checked: sent, overtaken: false, before: None }, grants_to))
        }
        Err(error) if error.status().as_u16() == 405 => read(parts, pull, what, accept, sent).await,
        Err(error) => Err(error),
    }
}

/// For registries whose HEAD says no digest: the digest is what the bytes hash to, if they are a
/// manifest. Anything may answer with other bytes.
async fn read(
    parts: &Parts,
    pull: &Pull,
    what: &What,
    accept: Accept,
    sent: SystemTime,
) -> Result<(Binding, Option<Credential>)> {
    let mut fields = http::HeaderMap::new();
    if let Ok(value) = http::HeaderValue::try_from(accept.header()) {
        fields.insert(http::header::ACCEPT, value);
    }
    let (upstream, get) = (&parts.upstream, http::Method::GET);
    let answer = upstream.fetch_as_asked(&pull.site, &pull.repository, what, &get, &fields, &pull.requester).await?;
    let grants_to = answer.grants_to(&pull.requester);
    let response = answer.response;
    let media_type = content_type(response.headers());
    let bytes = upstream.collect(response.into_body(), MAX_MANIFEST).await?;
    if !manifest::parse(&bytes).is_ok_and(|manifest| manifest.is_recognisable()) {
        let message = format!("{} answered with what is no manifest: is there a proxy between?", pull.site.origin.host);
        return Err(Error::new(Kind::Broken, message));
    }
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let manifest = parts.manifests.read(&digest, bytes, Some(&media_type));
    let (media_type, size) = (manifest.media_type.clone(), Some(manifest.bytes.len() as u64));
    Ok((Binding { digest, media_type, size, checked: sent, overtaken: false, before: None }, grants_to))
}

/// Revokes what upstream refused, also when its answer comes too late for who asked.
fn after_refusal(parts: &Parts, bindings: &Bindings, pull: &Pull, (key, sent): (&Arc<str>, SystemTime), error: &Error) {
    parts.refused(pull, error);
    if parts.is_missing_for_all(pull, error) {
        bindings.forget(key, sent, parts.now());
    }
}

pub(super) fn age(binding: &Binding, now: SystemTime) -> Duration {
    now.duration_since(binding.checked).unwrap_or_default()
}

fn granted(is_granted: bool) -> Granted {
    if is_granted { Granted::Yes } else { Granted::No }
}

fn answer(asked: &Result<Binding>, kept: Option<&Binding>) -> Answer {
    match asked {
        Ok(binding) if kept.is_some_and(|kept| kept.digest == binding.digest) => Answer::Same,
        Ok(_) => Answer::Other,
        Err(error) => match Reason::of(error.kind()) {
            Some(reason) => Answer::Away(reason),
            None if error.kind() == Kind::Missing => Answer::Missing,
            None => Answer::Refused,
        },
    }
}
