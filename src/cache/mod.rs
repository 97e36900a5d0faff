//! A pull: admit, resolve, content.
//!
//! ```text
//! get = resolve (tags only)   binding fresh and client granted → it; else one HEAD, which is both an answer and a yes
//!     → admit                 a grant that is believed, else HEAD of the digest with the client's own credential
//!     → content               held → open · on its way → follow it · neither → lead: a fill is spawned, and followed
//! ```
//!
//! [`grants`] knows who may, [`tags`] what tags name, [`flight`] what is on its way, `fill` brings it, [`reader`] reads it while it
//! comes, [`through`] does without the cache where that is full, [`sweep`] makes room.

pub mod chunk;
mod coalesce;
mod content;
mod fill;
pub mod flight;
pub mod images;
pub mod manifests;
mod meet;
pub mod open_files;
mod pay;
pub mod reader;
mod resolve;
pub mod sweep;
mod tagged;
pub mod tags;
pub mod through;

use crate::access::grants;
use crate::access::logins;
use crate::access::secret;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::clock::Clock;
use crate::error::Result;
use crate::http::cache_status::Outcome;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
use crate::oci::media_type::Accept;
use crate::oci::name::{Reference, Repository, RepositoryKey, Tag};
use crate::policy::access::GrantTtls;
pub use crate::policy::freshness::{Gone, Rule, Tags};
use crate::policy::registry::Site;
use crate::records::{Journal, Records};
use crate::store::Store;
use crate::store::index::Index;
use crate::task::{Coalesced, Tasks};
use crate::upstream::requester::Requester;
use crate::upstream::{Description, Upstream, What};

pub use content::Content;
pub use resolve::Stale;

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
    /// How long "anonymous may read this repository" is believed.
    pub public_ttl: Duration,
    /// How long upstream's yes to a credential is believed.
    pub grant_ttl: Duration,
    /// How long a login that upstream took may read what it was let read, while upstream cannot be asked. Nothing: not at all.
    pub offline_grants: Duration,
    /// How tags age.
    pub tags: Tags,
}

/// One request for a manifest or a blob.
#[derive(Clone, Debug)]
pub struct Pull {
    /// Where.
    pub site: Site,
    /// In which repository.
    pub repository: Repository,
    /// What.
    pub wanted: Wanted,
    /// For whom.
    pub requester: Requester,
    /// All of it, or what is known of it?
    pub method: Method,
    /// `Range`, as the client sent it.
    pub range: Option<HeaderValue>,
    /// `REGISTRY/REPOSITORY`: the unit of permission.
    pub key: RepositoryKey,
}

/// What a pull is for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A manifest, for a client that accepts these.
    Manifest(Reference, Accept),
    /// A blob.
    Blob(Digest),
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// All.
    Get,
    /// What would come with it.
    Head,
}

/// What a pull found.
#[derive(Debug)]
pub struct Found {
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: Arc<str>,
    /// Its bytes, or where they come from.
    pub content: Content,
    /// How it was found.
    pub outcome: Outcome,
    /// Of a tag: since upstream last confirmed it.
    pub age: Option<Duration>,
    /// Why upstream did not confirm it.
    pub stale: Option<Stale>,
}

/// The cache. Clones share one.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    upstream: Upstream,
    store: Arc<Store>,
    index: Index,
    flights: flight::Flights,
    grants: grants::Grants,
    bindings: tags::Bindings,
    manifests: manifests::Manifests,
    sweep: sweep::Sweep,
    questions: Coalesced<resolve::Question, Result<tags::Binding>>,
    admissions: Coalesced<content::Admission, Result<Description>>,
    negative: tagged::NegativeCache,
    tags: Tags,
    clock: Clock,
    tasks: Tasks,
    metrics: Metrics,
    secret: Arc<secret::Secret>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache")
    }
}

/// What the cache stands on.
pub struct Base {
    /// Who asks registries.
    pub upstream: Upstream,
    /// The files.
    pub store: Arc<Store>,
    /// Which of them there are.
    pub index: Index,
    /// What the next start wants to know.
    pub journal: Journal,
    /// What this start was told.
    pub records: Records,
    /// The time.
    pub clock: Clock,
    /// Runs what outlives a request.
    pub tasks: Tasks,
    /// Counts.
    pub metrics: Metrics,
    /// What this installation alone knows.
    pub secret: Arc<secret::Secret>,
}

impl Cache {
    /// On what is there. The index is restored already.
    pub fn new(settings: &Settings, base: Base) -> Cache {
        let Base { upstream, store, index, journal, records, clock, tasks, metrics, secret } = base;
        let offline = settings.offline_grants;
        let ttls = GrantTtls { public: settings.public_ttl, own: settings.grant_ttl, offline };
        let (of_logins, at) = (records.logins, clock.clone());
        let logins = logins::Logins::new(offline, secret.clone(), journal.clone(), at, tasks.clone(), of_logins);
        let flights = flight::Flights::default();
        let sweep = sweep::Sweep {
            store: store.clone(),
            index: index.clone(),
            flights: flights.clone(),
            opened: open_files::OpenFiles::default(),
            promised: Arc::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            max_size: settings.max_size,
            min_free: settings.min_free,
        };
        let opened = grants::Opened { public: records.public, shared: records.shared };
        let grants = grants::Grants::new(ttls, index.clone(), journal.clone(), logins, opened);
        let bindings = tags::Bindings::new(journal, records.tags);
        // Of what is here the index knows.
        for (repository, digest) in bindings.words().into_iter().filter(|(_, digest)| !index.has(digest)) {
            grants.confirm_presence(&repository, &digest);
        }
        Cache(Arc::new(Inner {
            upstream,
            store,
            grants,
            index,
            flights,
            bindings,
            manifests: manifests::Manifests::new(settings.memory),
            sweep,
            questions: Coalesced::default(),
            admissions: Coalesced::default(),
            negative: tagged::NegativeCache::default(),
            tags: settings.tags.clone(),
            clock,
            tasks,
            metrics,
            secret,
        }))
    }

    /// Finds what a pull is for.
    ///
    /// # Errors
    /// Upstream refused, or has no such thing, or cannot be asked and there is no copy.
    pub async fn get(&self, pull: &Pull) -> Result<Found> {
        match self.presented(pull) {
            Some((print, login)) => Box::pin(self.get_by_login(pull, print, &login)).await,
            None => self.find(pull).await,
        }
    }

    async fn find(&self, pull: &Pull) -> Result<Found> {
        match &pull.wanted {
            Wanted::Blob(digest) => {
                self.content(pull, digest, &What::Blob(digest.clone()), content::Permission::Required).await
            }
            Wanted::Manifest(Reference::Digest(digest), _) => {
                if !self.0.bindings.was_advertised(&pull.key, digest, pull.requester.credential, self.0.clock.now()) {
                    pull.requester.cost.pin();
                }
                let what = What::Manifest(Reference::Digest(digest.clone()));
                self.content(pull, digest, &what, content::Permission::Required).await
            }
            Wanted::Manifest(Reference::Tag(tag), accept) => self.tagged(pull, tag, *accept).await,
        }
    }

    /// A push, or a removal, that upstream took: what the tag named is wrong now, and the next request for it asks.
    pub fn tag_changed(&self, site: &Site, repository: &Repository, tag: &Tag) {
        self.0.bindings.forget(&tags::key(&RepositoryKey::new(&site.namespace, repository), tag));
    }

    /// Whether its bytes are here.
    fn is_here(&self, digest: &Digest) -> bool {
        self.0.index.has(digest) || self.0.manifests.find(digest).is_some()
    }

    /// Upstream was told to remove a digest from a repository. The bytes stay for other repositories.
    pub fn digest_removed(&self, site: &Site, repository: &Repository, digest: &Digest) {
        self.0.grants.remove_presence(&RepositoryKey::new(&site.namespace, repository), digest);
    }

    /// Keeps the cache within its limits. Blocks; what can wait does when it is to stop.
    pub fn tidy(&self, is_stopping: impl Fn() -> bool) {
        self.logins().prune();
        self.0.upstream.tidy();
        self.0.sweep.tidy(is_stopping);
    }

    /// Fills that run.
    pub fn fills(&self) -> usize {
        self.0.flights.count()
    }
}
