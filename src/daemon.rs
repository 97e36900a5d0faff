//! Builds everything, wires it, drains it: the only file that knows every type.

mod fitting;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tracing::{error, info, warn};

use self::fitting::{check_room, fit_descriptors};
use crate::access::configured::forget_changed;
use crate::access::presence::Presences;
use crate::access::secret::Secret;
use crate::access::{Access, Restored};
use crate::admin::{self, Admin, Images, Ready, Stage};
use crate::ca::{Leaves, Root};
use crate::cache::{Base, Cache};
use crate::clock::Clock;
use crate::config::Config;
use crate::dial::connect::Dialer;
use crate::dial::loops::{self, Evidence};
use crate::dial::own::OwnAddresses;
use crate::gateway::pages::Pages;
use crate::gateway::pings::Pings;
use crate::gateway::telemetry::Telemetry;
use crate::gateway::{Base as GatewayBase, Gateway};
use crate::ledger::{self, Ledger};
use crate::metrics::Metrics;
use crate::oci::challenge;
use crate::oci::digest::Digest;
use crate::operate::history::History;
use crate::operate::jobs::Jobs;
use crate::operate::status::Sources;
use crate::operate::token::Token;
use crate::policy::access::GrantTtls;
use crate::policy::budget::Descriptors;
use crate::policy::registry::Registries;
use crate::records::{Journal, Records, Table};
use crate::server::clients::Clients;
use crate::server::listener::{self, Listeners};
use crate::server::loops::Relayed;
use crate::server::shared::ServerShared;
use crate::store::Store;
use crate::store::index::Index;
use crate::task::{self, Tasks};
use crate::upstream::Upstream;
use crate::upstream::client::Shared;

/// A running seawall.
#[derive(Debug)]
pub struct Daemon {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    tasks: Tasks,
    admin_tasks: Tasks,
    ready: Ready,
    journal: Journal,
    ledger: Ledger,
    history: History,
    metrics: Metrics,
    drain: Duration,
}

/// How often the cache is kept within its limits when nothing comes in, the ledger written down,
/// the operator's certificate read again.
const TIDY_EVERY: Duration = Duration::from_secs(60);

impl Daemon {
    /// Binds, loads, serves.
    ///
    /// # Errors
    /// What kept it from starting, for the operator to read.
    pub async fn start(config: Config) -> anyhow::Result<Daemon> {
        Daemon::start_at(config, Clock::system()).await
    }

    /// The same, by a clock that the caller can move.
    ///
    /// # Errors
    /// What kept it from starting, for the operator to read.
    pub async fn start_at(mut config: Config, clock: Clock) -> anyhow::Result<Daemon> {
        let metrics = Metrics::new();
        let (tasks, admin_tasks, ready) = (Tasks::new(), Tasks::new(), Ready::new());
        let (own, ledger, images) = (OwnAddresses::new(), Ledger::default(), Images::default());
        let keys = admin::Keys::default();
        let (status, started) = (Arc::new(OnceLock::new()), clock.now());
        let shown = Admin {
            metrics: metrics.clone(),
            ready: ready.clone(),
            ledger: ledger.clone(),
            images: images.clone(),
            status: status.clone(),
            clock: clock.clone(),
            hosts: config.admin.hosts.clone(),
            keys: keys.clone(),
            jobs: Jobs::default(),
            tasks: tasks.clone(),
        };
        let admin = serve_admin(&config, shown, &own, &admin_tasks).await?;

        let root = Arc::new(Root::load_or_create(&config.ca, clock.now())?);
        let leaves = Leaves::new(root.clone(), config.ca.leaf_days)?;
        let leaves = Arc::new(leaves.preferring(config.tls.preferred).speaking_as(&config.tls, clock.now())?);
        // Set once: it starts once.
        let _ = keys.leaves.set(leaves.clone());
        let mut loaded = load(&config, &clock).await?;
        give_token(&config, &keys).await?;
        check_room(&config)?;
        let (journal, pings) = (loaded.journal.clone(), loaded.pings(&config));

        let Descriptors { transfers, forwards, answers, .. } = fit_descriptors(&mut config)?;
        let listeners = bind(&config)?;
        let addresses = listeners.addresses();
        addresses.iter().for_each(|address| own.add(*address));
        let dialer = Dialer::new(&config.upstream, own.clone()).context("the resolver cannot be set up")?;
        ledger.restore(&loaded.records.quota, keeper(journal.clone()), clock.now());
        let history = History::new(&metrics, &clock, &journal, &loaded.records.statistics);
        let shared = Shared {
            clock: clock.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            ledger: ledger.clone(),
            transfers,
            forwards,
        };
        let upstream = Upstream::new(&config.upstream, &config.registries, &dialer, shared)?;
        for (namespace, challenges) in pings.challenges() {
            let challenges = challenge::parse(challenges.iter().map(String::as_str)).into();
            upstream.auth().learn(&namespace, &challenges);
        }
        let access = loaded.access(&config, &clock, &tasks);
        let base = Base {
            upstream: upstream.clone(),
            access,
            store: loaded.store,
            index: loaded.index,
            journal: loaded.journal,
            tags: loaded.records.tags,
            clock: clock.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
        };
        let cache = Cache::new(&config.cache, base);
        let registries = Arc::new(config.registries.clone());
        images.show(cache.clone(), registries.clone());
        let sources = Sources {
            cache: cache.clone(),
            ledger: ledger.clone(),
            metrics: metrics.clone(),
            registries: registries.clone(),
            history: history.clone(),
            root: root.clone(),
            listeners: addresses.clone(),
            started,
            clock: clock.clone(),
        };
        // Set once: it starts once.
        let _ = status.set(sources);
        if loops::may_be_overridden(&addresses) {
            tasks.spawn(watch_loops(dialer.clone(), registries.clone(), root.certificate_pem(), tasks.clone()));
        }
        let mut settings = config.proxy.clone();
        settings.own_names = settings.own_names.at(&addresses);
        let gateway = Arc::new(Gateway::new(GatewayBase {
            registries: registries.clone(),
            cache: cache.clone(),
            upstream,
            pages: Pages { ca_pem: root.certificate_pem(), fingerprint: root.fingerprint_sha256() },
            pings,
            own_names: settings.own_names.clone(),
            tunnels: settings.tunnels.clone(),
            telemetry: Telemetry { metrics: metrics.clone(), ledger: ledger.clone(), clock: clock.clone() },
            tasks: tasks.clone(),
            clock: clock.clone(),
        }));
        let shared = ServerShared {
            clients: Clients::new(&settings, &metrics, &clock),
            settings,
            gateway,
            registries,
            leaves: leaves.clone(),
            dialer: dialer.apart(),
            own,
            relayed: Relayed::default(),
            answers: ServerShared::answers(answers, &metrics),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            clock: clock.clone(),
        };
        tasks.spawn(listener::serve(Arc::new(shared), listeners));
        tasks.spawn(give_back(tasks.clone()));
        tasks.spawn(history.clone().keep(tasks.clone()));
        if let Some(every) = config.cache.verify_every {
            tasks.spawn(cache.clone().keep_verified(every));
        }
        tasks.spawn(keep_tidy(Kept { cache, ledger: ledger.clone(), leaves, clock }, tasks.clone()));
        ready.set(Stage::Serving);
        Ok(Daemon {
            addresses,
            admin,
            tasks,
            admin_tasks,
            ready,
            journal,
            ledger,
            history,
            metrics,
            drain: config.drain,
        })
    }

    /// Where clients reach it.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the operator reaches it.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stops accepting, and waits for what runs, at most as long as the configuration says.
    pub async fn drain(self) {
        self.ready.set(Stage::Draining);
        self.tasks.stop();
        if tokio::time::timeout(self.drain, self.tasks.drained()).await.is_err() {
            let running = self.tasks.running();
            warn!(running, "the drain took too long: what still runs is broken off");
        }
        self.ledger.save();
        self.history.save();
        let journal = self.journal.clone();
        task::blocking_beside(move || journal.close()).await;
        self.admin_tasks.stop();
        self.admin_tasks.drained().await;
    }
}

/// What is on disk.
struct Loaded {
    store: Arc<Store>,
    index: Index,
    presences: Presences,
    journal: Journal,
    records: Records,
    secret: Arc<Secret>,
}

impl Loaded {
    fn pings(&self, config: &Config) -> Pings {
        Pings::new(config.cache.public_ttl, self.journal.clone(), &self.records.challenges)
    }

    /// Who may read what, by what was recorded of it.
    fn access(&mut self, config: &Config, clock: &Clock, tasks: &Tasks) -> Access {
        let cache = &config.cache;
        let ttls = GrantTtls {
            public: cache.public_ttl,
            own: cache.grant_ttl,
            offline: cache.offline_grants,
            stale: cache.tags.stale,
        };
        let (presences, secret) = (self.presences.clone(), self.secret.clone());
        forget_changed(&config.registries, &presences, &self.journal, &mut self.records);
        Access::new(ttls, presences, secret, &self.journal, &mut self.records, clock, tasks)
    }
}

async fn load(config: &Config, clock: &Clock) -> anyhow::Result<Loaded> {
    let (data, now) = (config.cache.data.clone(), clock.now());
    task::blocking(move || {
        let store = Arc::new(
            Store::open(&data)
                .with_context(|| format!("{} cannot be used (does another seawall run there?)", data.display()))?,
        );
        // Names of a million files, and what is known of them: half a second each, on two
        // processors.
        let mut restored = Restored::default();
        let (names, (journal, records)) = std::thread::scope(|scope| {
            let names = scope.spawn(|| store.names());
            let opened = Journal::open(&store.index_dir(), now, &mut |step| restored.read(step));
            (names.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), opened)
        });
        let index = Index::new(journal.clone());
        let look = |digest: &Digest| store.look(digest).map(|found| (found.size, found.modified));
        let presences = Presences::new(index.clone(), journal.clone());
        presences.restore(names?, restored, look);
        let (bytes, blobs) = index.size();
        info!(bytes, blobs, "the cache is loaded");
        let secret = Arc::new(Secret::load_or_create(&data));
        Ok(Loaded { store, index, presences, journal, records, secret })
    })
    .await
}

/// One that the operator named is a token, or there is no start; of its own seawall can do without.
async fn give_token(config: &Config, keys: &admin::Keys) -> anyhow::Result<()> {
    if config.admin.listen.is_none() {
        return Ok(());
    }
    let path = config.token_file();
    match task::blocking(move || Token::load_or_create(&path)).await {
        Ok(token) => drop(keys.token.set(token)),
        Err(why) if config.admin.token_file.is_some() => bail!("admin.token_file: {why}"),
        Err(why) => warn!(%why, "there is no token: nothing can be changed by the admin listener"),
    }
    Ok(())
}

fn bind(config: &Config) -> anyhow::Result<Listeners> {
    let mut inherited = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for n in 0..inherited.len() {
        sockets.extend(inherited.take_tcp_listener(n).context("an inherited socket is not a TCP listener")?);
    }
    Ok(if sockets.is_empty() { Listeners::bind(&config.proxy.listen)? } else { Listeners::inherit(sockets)? })
}

async fn serve_admin(
    config: &Config,
    shown: Admin,
    own: &OwnAddresses,
    tasks: &Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.admin.listen else { return Ok(None) };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("the admin listener cannot be bound to {address}: set `admin`, or \"\" for none"))?;
    let address = listener.local_addr()?;
    own.add(address);
    let stopping = tasks.clone();
    tasks.spawn(async move {
        let stop = async move { stopping.stopping().await };
        admin::serve(listener, shown, stop).await;
    });
    Ok(Some(address))
}

/// Does not keep the start waiting, nor the end. While any is found it is looked for again: what
/// was mended is dialled again.
async fn watch_loops(dialer: Dialer, registries: Arc<Registries>, root_pem: String, tasks: Tasks) {
    let mut said = Vec::new();
    loop {
        let mut found = loops::find(&dialer, &registries, Some(&root_pem), tasks.stopping()).await;
        found.retain(|found| found.evidence > Evidence::Root);
        match found.is_empty() {
            _ if found == said => {}
            false => error!("{}", loops::Sentence(&found)),
            true => info!("no registry's name leads to seawall any more"),
        }
        if found.is_empty() || tokio::time::timeout(TIDY_EVERY, tasks.stopping()).await.is_ok() {
            return;
        }
        said = found;
    }
}

/// What the ledger wants to be remembered goes to the journal.
fn keeper(journal: Journal) -> ledger::Keeper {
    Box::new(move |key, kept| match kept {
        Some(kept) => journal.write(Table::Quota, key, kept),
        None => journal.remove(Table::Quota, key),
    })
}

/// What is looked after while nothing comes in.
#[derive(Clone)]
struct Kept {
    cache: Cache,
    ledger: Ledger,
    leaves: Arc<Leaves>,
    clock: Clock,
}

/// How often memory that was freed is given back.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// The allocator gives freed memory back to the system when something large is freed a second later,
/// and not before: after a crowd has left nothing may be, for hours.
async fn give_back(tasks: Tasks) {
    let mut clock = tokio::time::interval(GIVE_BACK_EVERY);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = clock.tick() => drop(std::hint::black_box(vec![0u8; 4 << 20])),
        }
    }
}

async fn keep_tidy(kept: Kept, tasks: Tasks) {
    let mut clock = tokio::time::interval(TIDY_EVERY);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = clock.tick() => {
                kept.ledger.save();
                let (kept, tasks) = (kept.clone(), tasks.clone());
                task::blocking_beside(move || {
                    kept.cache.tidy(|| tasks.is_stopping());
                    kept.leaves.reload_own(kept.clock.now());
                })
                .await;
            }
        }
    }
}
