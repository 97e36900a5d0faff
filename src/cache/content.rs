//! The bytes of a digest: here, on their way, or to be fetched. Whoever gets them has upstream's yes for this repository and digest.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Incoming;

use super::fill::Fill;
use super::flight::{Flight, Head, Joined, Progress};
use super::manifests::Manifest;
use super::reader::Source;
use super::resolve::{Stale, away};
use super::through::{Through, Way};
use super::{Cache, Found, Method, Pull};
use crate::error::{Error, Fault, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::http::range::{Selection, first_byte, select};
use crate::index::Held;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::media_type::{Accept, OCTET_STREAM};
use crate::store::is_missing;
use crate::upstream::asker::Credential;
use crate::upstream::{Fetched, What};
use crate::{fs, task};

/// What there is to send.
#[derive(Debug)]
pub enum Content {
    /// All of it, in memory.
    Memory(Bytes),
    /// A file, whole or growing, and its length if that is known.
    File(Source, Option<u64>),
    /// From upstream, verified on the way, and its length if that is known.
    Through(Box<Through>, Option<u64>),
    /// A part that upstream was asked for, as it answered.
    Part(Response<Incoming>),
    /// Nothing: only its length was asked for.
    Sized(u64),
}

/// Whether the client has upstream's yes for what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Yes {
    /// It has: the tag was resolved for it.
    Given,
    /// It may have.
    Needed,
}

/// What is asked once for many: a digest in a repository, for one credential.
pub(super) type Admission = (Arc<str>, What, Credential);

/// How far behind what a client asks for a fill may be. Further, and the client gets its bytes straight from upstream. Less would
/// send each of a client's parallel range requests upstream.
const FAR: u64 = 32 << 20;
/// A client whose leader was refused, or vanished, leads or follows again.
const ATTEMPTS: u32 = 4;

impl Cache {
    pub(super) async fn content(&self, pull: &Pull, digest: &Digest, what: &What, yes: Yes) -> Result<Found> {
        if pull.method == Method::Head {
            return self.described(pull, digest, what, yes).await;
        }
        let mut last = Error::new(Kind::Ours, "the download was given up again and again; try again");
        for _ in 0..ATTEMPTS {
            if let Some(manifest) = self.0.manifests.find(digest) {
                let stale = self.admit(pull, digest, what, yes).await?;
                return Ok(self.in_memory(pull, digest, &manifest, Outcome::Hit, stale));
            }
            match self.0.flights.join(digest, || self.0.index.hold(digest, self.0.clock.now())) {
                Joined::Held(held) => {
                    let stale = self.admit(pull, digest, what, yes).await?;
                    if let Some(found) = self.held(pull, digest, what, held, stale).await? {
                        return Ok(found);
                    }
                }
                Joined::Follow(flight) => {
                    let stale = self.admit(pull, digest, what, yes).await?;
                    match self.flown(pull, what, &flight, Outcome::Collapsed).await {
                        Ok(found) => return Ok(Found { stale, ..found }),
                        // Upstream would answer this client the same.
                        Err(error)
                            if error.kind().fault() == Fault::Upstream
                                && flight.was_asked_for(&pull.place(), pull.asker.credential) =>
                        {
                            return Err(error);
                        }
                        // Not this client's refusal, or not its source: it tries for itself.
                        Err(error) => last = error,
                    }
                }
                Joined::Lead(lead) => {
                    let flight = lead.flight().clone();
                    lead.ask_for(pull.place(), pull.asker.credential);
                    let fill = Fill { cache: self.clone(), way: self.way(pull, what), place: pull.place() };
                    self.0.tasks.spawn(fill.run(lead));
                    let led = self.flown(pull, what, &flight, Outcome::Miss).await;
                    return led.inspect_err(|error| self.refused(pull, error));
                }
            }
        }
        Err(last)
    }

    fn refused(&self, pull: &Pull, error: &Error) {
        if error.kind() == Kind::Refused {
            self.0.grants.revoke(&pull.place(), pull.asker.credential);
        }
    }

    fn way(&self, pull: &Pull, what: &What) -> Way {
        Way {
            upstream: self.0.upstream.clone(),
            site: pull.site.clone(),
            repository: pull.repository.clone(),
            what: what.clone(),
            asker: pull.asker.clone(),
        }
    }

    /// A grant that is believed; else upstream is asked, for this digest, with this client's credential. `Some`: upstream could not
    /// be asked, and its last word stands.
    async fn admit(&self, pull: &Pull, digest: &Digest, what: &What, yes: Yes) -> Result<Option<Stale>> {
        let place = pull.place();
        let known = self.0.grants.known(&place, pull.asker.credential, Some(digest));
        if yes == Yes::Given || known.granted(self.0.grants.belief(), self.0.clock.now()) {
            return Ok(None);
        }
        match self.ask_digest(pull, digest, what).await {
            Ok(_) => Ok(None),
            Err(error) => match away(&error) {
                Some(reason) if known.stands(self.0.grants.belief(), self.0.clock.now()) => {
                    self.0.metrics.stale(&pull.site.registry.name, reason.as_str());
                    Ok(Some(Stale { reason, message: error.message().to_owned() }))
                }
                _ => Err(error),
            },
        }
    }

    /// One HEAD for all who ask for the same at once. A yes is a grant, a no ends one.
    async fn ask_digest(&self, pull: &Pull, digest: &Digest, what: &What) -> Result<crate::upstream::Description> {
        let question = (pull.place(), what.clone(), pull.asker.credential);
        // Who has no earlier yes gets nothing by an early end.
        let known = self.0.grants.known(&pull.place(), pull.asker.credential, Some(digest));
        let hurry = pull.method == Method::Get && known.stands(self.0.grants.belief(), self.0.clock.now());
        let (cache, asked, subject) = (self.clone(), pull.clone(), what.clone());
        let work = move || async move {
            let upstream = &cache.0.upstream;
            let deadline = hurry.then(|| upstream.resolve_deadline());
            upstream.describe(&asked.site, &asked.repository, &subject, Accept::ANYTHING, &asked.asker, deadline).await
        };
        let said = self.0.admissions.run(&self.0.tasks, question, work).await;
        match &said {
            Ok(_) => {
                self.0.grants.grant(&pull.place(), pull.asker.credential, self.0.clock.now());
                self.0.grants.holds_all(&pull.place(), [digest].into_iter());
            }
            Err(error) if error.kind() == Kind::Missing => self.0.grants.holds_no_more(&pull.place(), digest),
            Err(error) => self.refused(pull, error),
        }
        said
    }

    /// A HEAD. Whoever asks with a credential may be about to push, and is told what upstream says now.
    async fn described(&self, pull: &Pull, digest: &Digest, what: &What, yes: Yes) -> Result<Found> {
        let pushing = pull.asker.credential != Credential::Anonymous && matches!(what, What::Blob(_));
        let held = self.0.index.hold(digest, self.0.clock.now());
        let known = self.0.grants.known(&pull.place(), pull.asker.credential, Some(digest));
        let granted = yes == Yes::Given || known.granted(self.0.grants.belief(), self.0.clock.now());
        let (size, media_type, outcome, stale) = match (&held, granted && !pushing) {
            (Some(held), true) => (held.size, held.media_type.clone(), Outcome::Hit, None),
            _ => match (self.ask_digest(pull, digest, what).await, &held) {
                (Ok(said), _) => {
                    let size = said.size.or(held.as_ref().map(|held| held.size));
                    let size =
                        size.ok_or_else(|| Error::new(Kind::Broken, "upstream does not say how long this is"))?;
                    let outcome = if held.is_some() { Outcome::Hit } else { Outcome::Bypass };
                    (size, Some(said.media_type.into()), outcome, None)
                }
                (Err(error), Some(held)) if known.stands(self.0.grants.belief(), self.0.clock.now()) => {
                    let reason = away(&error).ok_or(error.clone())?;
                    self.0.metrics.stale(&pull.site.registry.name, reason.as_str());
                    let stale = Stale { reason, message: error.message().to_owned() };
                    (held.size, held.media_type.clone(), Outcome::Stale, Some(stale))
                }
                (Err(error), _) => return Err(error),
            },
        };
        let manifest = self.0.manifests.find(digest).map(|manifest| manifest.media_type.clone());
        let media_type = manifest.or(media_type).filter(|name| !name.is_empty()).unwrap_or_else(|| OCTET_STREAM.into());
        Ok(Found { digest: digest.clone(), media_type, content: Content::Sized(size), outcome, age: None, stale })
    }

    fn in_memory(
        &self,
        pull: &Pull,
        digest: &Digest,
        manifest: &Manifest,
        outcome: Outcome,
        stale: Option<Stale>,
    ) -> Found {
        manifest.vouch(&self.0.grants, &pull.place());
        let outcome = if stale.is_some() { Outcome::Stale } else { outcome };
        // The file is used as much as the memory is.
        drop(self.0.index.hold(digest, self.0.clock.now()));
        let content = Content::Memory(manifest.bytes.clone());
        Found { digest: digest.clone(), media_type: manifest.media_type.clone(), content, outcome, age: None, stale }
    }

    /// `None`: the file is gone, and the index knows it now.
    async fn held(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        held: Held,
        stale: Option<Stale>,
    ) -> Result<Option<Found>> {
        let (store, name) = (self.0.store.clone(), digest.clone());
        let blob = match task::blocking(move || store.blob(&name)).await {
            Ok(blob) if blob.size == held.size => blob,
            Err(error) if !is_missing(&error) => {
                tracing::warn!(%error, "a cached file cannot be opened: this download is passed through");
                return self.through(pull, what, digest.clone(), None).await.map(Some);
            }
            _ => {
                tracing::warn!(%digest, "a cached file is gone or has another length: it is fetched again");
                self.0.sweep.remove(digest);
                return Ok(None);
            }
        };
        if let (What::Manifest(_), true) = (what, blob.size <= MAX_MANIFEST as u64) {
            return match self.load(digest, blob.file, blob.size, held.media_type.as_deref()).await {
                Ok(manifest) => Ok(Some(self.in_memory(pull, digest, &manifest, Outcome::Hit, stale))),
                Err(error) if error.kind() == Kind::Corrupt => {
                    tracing::warn!(%digest, "a cached manifest is not what it was: it is fetched again");
                    self.0.sweep.remove(digest);
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        }
        let media_type = held.media_type.clone().unwrap_or_else(|| OCTET_STREAM.into());
        let outcome = if stale.is_some() { Outcome::Stale } else { Outcome::Hit };
        let content = Content::File(Source::Held(blob.file, held), Some(blob.size));
        Ok(Some(Found { digest: digest.clone(), media_type, content, outcome, age: None, stale }))
    }

    async fn load(
        &self,
        digest: &Digest,
        file: Arc<std::fs::File>,
        size: u64,
        media_type: Option<&str>,
    ) -> Result<Arc<Manifest>> {
        let read = task::blocking(move || {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            let n = fs::read_at(&file, &mut bytes, 0)?;
            bytes.truncate(n);
            Ok::<_, std::io::Error>(Bytes::from(bytes))
        });
        let bytes = read.await.map_err(|error| Error::caused(Kind::Ours, "a cached file cannot be read", error))?;
        self.keep_in_memory(digest, bytes, media_type)
    }

    fn keep_in_memory(&self, digest: &Digest, bytes: Bytes, media_type: Option<&str>) -> Result<Arc<Manifest>> {
        if Digest::of(digest.algorithm(), &bytes) != *digest {
            return Err(Error::new(Kind::Corrupt, format!("these are other bytes than those of {digest}; try again")));
        }
        let manifest = Arc::new(Manifest::read(bytes, media_type));
        self.0.manifests.keep(digest, manifest.clone());
        Ok(manifest)
    }

    /// A blob on its way.
    async fn flown(&self, pull: &Pull, what: &What, flight: &Arc<Flight>, outcome: Outcome) -> Result<Found> {
        let digest = flight.digest().clone();
        let head = match flight.flowing().await {
            Err(error) if error.kind() == Kind::Full => {
                return self.through(pull, what, digest, flight.take_spare()).await;
            }
            other => other?,
        };
        if matches!(what, What::Manifest(_)) && head.total.is_none_or(|total| total <= MAX_MANIFEST as u64) {
            let size = match flight.verified().await {
                Err(error) if error.kind() == Kind::Full => return self.through(pull, what, digest, None).await,
                verified => verified?,
            };
            let manifest = self.load(&digest, head.file, size, Some(&head.media_type)).await?;
            return Ok(self.in_memory(pull, &digest, &manifest, outcome, None));
        }
        if head.total == Some(0) {
            // A response without a body has no last chunk that could be held back.
            flight.verified().await?;
        }
        let media_type = if head.media_type.is_empty() { OCTET_STREAM.into() } else { head.media_type.clone() };
        if let Some(part) = self.far(pull, what, flight, &head).await {
            let (outcome, content) = (Outcome::Bypass, Content::Part(part));
            return Ok(Found { digest, media_type, content, outcome, age: None, stale: None });
        }
        let source = Source::Flight(head.file, flight.clone(), self.way(pull, what));
        let content = Content::File(source, head.total);
        Ok(Found { digest, media_type, content, outcome, age: None, stale: None })
    }

    /// What a client wants from far ahead of the fill comes straight from upstream, while the fill goes on. `None`: it is near, or
    /// upstream has no ranges.
    async fn far(&self, pull: &Pull, what: &What, flight: &Flight, head: &Head) -> Option<Response<Incoming>> {
        let range = pull.range.as_ref()?;
        let start = match head.total.map(|total| select(Some(range), total)) {
            Some(Selection::Part(part)) => part.start,
            Some(_) => return None,
            None => first_byte(Some(range))?,
        };
        let Progress::Flowing { published } = flight.progress() else { return None };
        if start <= published.saturating_add(FAR) {
            return None;
        }
        let upstream = &self.0.upstream;
        let part = upstream.fetch_range(&pull.site, &pull.repository, what, range, &pull.asker).await.ok()?;
        (part.status() == http::StatusCode::PARTIAL_CONTENT).then_some(part)
    }

    /// Without the cache's disk. `spare`: upstream's answer, if it was asked already.
    async fn through(&self, pull: &Pull, what: &What, digest: Digest, spare: Option<Fetched>) -> Result<Found> {
        let (way, upstream, now) = (self.way(pull, what), &self.0.upstream, self.0.clock.now());
        if let (Some(range), What::Blob(_)) = (&pull.range, what) {
            let part = upstream.fetch_range(&pull.site, &pull.repository, what, range, &pull.asker).await?;
            self.0.grants.grant(&pull.place(), pull.asker.credential, now);
            let media_type = content_type(part.headers());
            return Ok(bypass(digest, &media_type, Content::Part(part)));
        }
        let fetched = match spare.filter(|fetched| fetched.start == 0) {
            Some(fetched) => fetched,
            None => way.fetch(0).await?,
        };
        self.0.grants.grant(&pull.place(), pull.asker.credential, now);
        let (total, media_type) = (fetched.total, fetched.media_type);
        if let (What::Manifest(_), true) = (what, total.is_none_or(|total| total <= MAX_MANIFEST as u64)) {
            // Memory has room for it: upstream counts these.
            let bytes = upstream.collect(fetched.body, MAX_MANIFEST).await?;
            let manifest = self.keep_in_memory(&digest, bytes, Some(&media_type))?;
            return Ok(self.in_memory(pull, &digest, &manifest, Outcome::Bypass, None));
        }
        let verify = Some((Hasher::new(digest.algorithm()), digest.clone()));
        let through = Through::new(fetched.body, verify, total, upstream.idle_timeout());
        Ok(bypass(digest, &media_type, Content::Through(Box::new(through), total)))
    }
}

fn bypass(digest: Digest, media_type: &str, content: Content) -> Found {
    let media_type = if media_type.is_empty() { OCTET_STREAM.into() } else { media_type.into() };
    Found { digest, media_type, content, outcome: Outcome::Bypass, age: None, stale: None }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    crate::oci::media_type::essence(value.unwrap_or_default()).to_owned()
}
