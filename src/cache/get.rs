//! The way of a pull through the cache, from what is asked to what is found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::admit::Cleared;
use super::content::Contents;
use super::flight;
use super::found::Found;
use super::heads::KnownHeads;
use super::lending::Lending;
use super::manifests::Manifests;
use super::parts::Parts;
use super::progress::Coming;
use super::pull::{Method, Pull, Wanted};
use super::push::Push;
use super::sweep::Sweep;
use super::tagged::Tagged;
use super::tags::{self, Bindings};
use crate::access::Access;
use crate::clock::Clock;
use crate::error::Result;
use crate::fs;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
use crate::oci::login::Login;
use crate::oci::manifest::ContentKind;
use crate::oci::name::{Reference, RepositoryKey, Tag};
use crate::policy::freshness::{Reason, Tags};
use crate::policy::verdict::Unreachable;
use crate::records::Journal;
use crate::store::Store;
use crate::store::index::Index;
use crate::store::open_files::OpenFiles;
use crate::task::Tasks;
use crate::upstream::requester::Fingerprint;
use crate::upstream::{Upstream, What};

/// What the configuration says of the cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `blobs/`, `partial/`, `index/`.
    pub data: PathBuf,
    /// Bytes; least recently used goes first.
    pub max_size: u64,
    /// Bytes of the file system left to others.
    pub min_free: u64,
    /// Bytes of manifests kept in memory.
    pub memory: u64,
    /// How long upstream's grant to anonymous is believed.
    pub public_ttl: Duration,
    /// How long upstream's grant to a credential is believed.
    pub grant_ttl: Duration,
    /// How long a login that upstream took may read what it was granted, while upstream cannot be
    /// asked. Zero: not at all.
    pub offline_grants: Duration,
    /// In which time all that is here is hashed again. `None`: never.
    pub verify_every: Option<Duration>,
    /// How tags age.
    pub tags: Tags,
}

/// The cache. Clones share one.
#[derive(Clone)]
pub struct Cache(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) parts: Arc<Parts>,
    pub(super) bindings: Arc<Bindings>,
    contents: Arc<Contents>,
    tagged: Tagged,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

/// How far ahead of what is hashed a blob comes, where there is memory for that.
const AHEAD: u64 = 1 << 30;

/// How full a cache is.
#[derive(Clone, Copy, Debug)]
pub struct Fullness {
    /// Bytes of blobs that are here.
    pub bytes: u64,
    /// How many.
    pub blobs: u64,
    /// Bytes that may be here.
    pub max_size: u64,
    /// When what goes next was last used.
    pub oldest_used: Option<SystemTime>,
    /// Since when nothing is kept for want of room.
    pub full_since: Option<SystemTime>,
}

/// What the cache stands on.
pub struct Base {
    /// What asks registries.
    pub upstream: Upstream,
    /// Who may read what.
    pub access: Access,
    /// The files.
    pub store: Arc<Store>,
    /// Which of them there are; restored already.
    pub index: Index,
    /// What the next start wants to know.
    pub journal: Journal,
    /// Records of tags, read at start.
    pub tags: Vec<(String, Vec<u8>)>,
    /// The time.
    pub clock: Clock,
    /// Runs what outlives a request.
    pub tasks: Tasks,
    /// Counts.
    pub metrics: Metrics,
}

impl Cache {
    /// A cache on what is there.
    pub fn new(settings: &Settings, base: Base) -> Cache {
        let Base { upstream, access, store, index, journal, tags, clock, tasks, metrics } = base;
        let flights = flight::Flights::default();
        let sweep = Sweep {
            store: store.clone(),
            index: index.clone(),
            presences: access.presences().clone(),
            flights: flights.clone(),
            opened: OpenFiles::default(),
            reserved: Arc::default(),
            bounded: Arc::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            max_size: settings.max_size,
            min_free: settings.min_free,
        };
        let bindings = Arc::new(Bindings::new(journal, tags));
        let manifests = Manifests::new(settings.memory);
        let tags = settings.tags.clone();
        let lending = Arc::new(Lending::new(clock.clone(), &metrics.bounds().added));
        let parts = Arc::new(Parts {
            upstream,
            access,
            store,
            index,
            flights,
            manifests,
            sweep,
            lending,
            tags,
            heads: KnownHeads::default(),
            clock,
            tasks,
            metrics,
            ahead: fs::memory().map_or(AHEAD, |memory| AHEAD.min(memory / 4)),
            full_since: Mutex::default(),
        });
        let contents = Arc::new(Contents::new(parts.clone()));
        let tagged = Tagged::new(parts.clone(), bindings.clone(), contents.clone());
        Cache(Arc::new(Inner { parts, bindings, contents, tagged }))
    }

    /// Finds what a pull is for.
    ///
    /// # Errors
    /// Upstream refused, or has no such thing, or cannot be asked and there is no copy.
    pub async fn get(&self, pull: &Pull) -> Result<Found> {
        let found = match self.0.parts.access.presented(&pull.requester) {
            Some((print, login)) => Box::pin(self.get_by_login(pull, print, &login)).await?,
            None => self.find(pull).await?,
        };
        match pull.method {
            Method::Head => Ok(found),
            Method::Get => Ok(self.0.contents.spare_memory(found).await),
        }
    }

    async fn find(&self, pull: &Pull) -> Result<Found> {
        let Inner { parts, bindings, contents, tagged } = &*self.0;
        match &pull.wanted {
            Wanted::Blob(digest) => contents.find(pull, digest, &What::Blob(digest.clone()), Cleared::No).await,
            Wanted::Manifest(Reference::Digest(digest), _) => {
                if !bindings.was_advertised(&pull.key, digest, pull.requester.credential, parts.now()) {
                    pull.requester.cost.pin();
                }
                let what = What::Manifest(Reference::Digest(digest.clone()));
                contents.find(pull, digest, &what, Cleared::No).await
            }
            Wanted::Manifest(Reference::Tag(tag), accept) => tagged.find(pull, tag, *accept).await,
        }
    }

    /// [`Cache::get`] for a login that is presented with the request. Upstream is asked first,
    /// whoever it is: only when it cannot be, or is silent for as long as a question may take, is
    /// it looked up whether the login was good, and what it was granted then.
    async fn get_by_login(&self, pull: &Pull, print: Fingerprint, login: &Login) -> Result<Found> {
        let (logins, namespace) = (self.0.parts.access.logins(), &pull.site.namespace);
        logins.observe_login(namespace, login, print);
        let mut finding = Box::pin(self.find(pull));
        let first = tokio::time::timeout(self.0.parts.upstream.resolve_deadline(), &mut finding).await.ok();
        match first {
            Some(Err(error)) if Reason::of(error.kind()).is_some() => {
                if !logins.recognise(namespace, login, print).await {
                    return Err(error);
                }
            }
            Some(answered) => return answered,
            None => {
                if !logins.recognise(namespace, login, print).await {
                    return finding.await;
                }
            }
        }
        drop(finding);
        self.find(pull).await
    }

    /// A push, or a removal, of tags that is about to be sent to upstream.
    pub fn push<'a>(&self, key: &RepositoryKey, tags: impl Iterator<Item = &'a Tag>) -> Push {
        let tags = tags.map(|tag| tags::key(key, tag)).collect();
        Push::new(self.0.bindings.clone(), self.0.parts.clock.clone(), tags)
    }

    /// A digest was removed from a repository upstream. The bytes stay for other repositories.
    pub async fn digest_removed(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) {
        self.0.parts.access.remove(key, digest, kind).await;
    }

    /// Who may read what.
    pub fn access(&self) -> &Access {
        &self.0.parts.access
    }

    /// Keeps the cache within its limits. Blocks; what can wait does when it is to stop.
    pub fn tidy(&self, is_stopping: impl Fn() -> bool) {
        let parts = &self.0.parts;
        parts.access.logins().prune();
        parts.upstream.tidy();
        parts.sweep.tidy(is_stopping);
    }

    /// Fills that run.
    pub fn fills(&self) -> usize {
        self.0.parts.flights.count()
    }

    /// What comes now, the longest first.
    pub fn coming(&self) -> Vec<Coming> {
        self.0.parts.flights.coming()
    }

    /// How full it is.
    pub fn fullness(&self) -> Fullness {
        let parts = &self.0.parts;
        let (bytes, blobs) = parts.index.size();
        let oldest = parts.index.oldest(parts.now());
        let oldest_used = oldest.and_then(|digest| parts.index.last_used(&digest));
        Fullness { bytes, blobs, max_size: parts.sweep.max_size, oldest_used, full_since: *parts.full_since.lock() }
    }

    /// Hosts that do not answer.
    pub fn unreachable(&self) -> Vec<Unreachable> {
        self.0.parts.upstream.unreachable_hosts()
    }
}
