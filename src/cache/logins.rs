//! Logins that were good before upstream went away, and what they were let read (`cache.offline_grants`, off unless the operator says so).
//!
//! 1. Upstream takes a login: the token service answers it with a token, or a registry says yes to it. The login is hashed, slowly,
//!    off the threads that serve; the hash is its name ([`LoginId`]).
//! 2. Upstream says yes to a request with that token: the repository is written down under that name.
//! 3. Upstream is away, and the login is shown again: it is hashed again, and found. A token of our own stands for it; it opens what is
//!    written there, no older than the operator said, and only while upstream cannot be asked.
//! 4. Upstream refuses the login: all of it is forgotten. It refuses a repository: that is.
//!
//! # What an attacker gets
//!
//! - *The journal.* Names of logins that tell nothing, and which repositories they read. A name is bcrypt, salted by account, over an HMAC
//!   under a key that is not in the journal (`secret`, mode 0600), hashed once more: no guess can be tried.
//! - *The journal and the key.* Each guess costs a bcrypt for each account. Tokens that registries make cannot be guessed; passwords that
//!   people make can. No password and no token is ever written, nor kept in memory once it is hashed.
//! - *A network place.* An outage that an attacker brings about (a cut line) brings the last state back: somebody who lost access less
//!   than `offline_grants` ago, still has the old credential, and is an allowed client, reads what is in the cache and was theirs. This
//!   is why it is off by default, and what its length is for. While upstream answers, it is asked, and its no is final.
//! - *Guesses during an outage.* Each costs a bcrypt, so many at a time; what waits too long is told that upstream is away. Whoever
//!   floods this keeps others from logging in during an outage, and from nothing else.
//! - *A token of ours.* What its login may read here, for two minutes. It names the login by nothing that leads back to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::secret::Secret;
use crate::clock::Clock;
use crate::index::journal::{Journal, Table, seconds, time};
use crate::oci::login::Login;
use crate::policy::access::within;
use crate::task::{self, Tasks};
use crate::upstream::asker::{Fingerprint, LoginId};

/// bcrypt's: about 60 ms of a core.
const COST: u32 = if cfg!(debug_assertions) { 6 } else { 10 };
/// Hashes that wait. One more login is not remembered this time.
const WAITING: usize = 256;
/// How long a client waits for its login to be hashed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after its last use a login need not be hashed again.
const KNOWN_FOR: Duration = Duration::from_secs(10 * 60);
/// Logins that are remembered.
const MOST_LOGINS: usize = 10_000;
/// Repositories of one.
const MOST_PLACES: usize = 2_000;
/// What is written down is written again when it is this old.
const COARSE: Duration = Duration::from_secs(60);
/// How long what was shown to a registry itself (Basic) is known by its fingerprint.
const SHOWN_FOR: Duration = Duration::from_secs(10 * 60);

type Word = [u8; 32];

/// What a login is hashed from: neither its password nor its name.
#[derive(Clone)]
struct Proof {
    salt: [u8; 16],
    word: Zeroizing<Word>,
}

/// One that was good.
#[derive(Default)]
struct Good {
    proved: u64,
    places: HashMap<Arc<str>, u64>,
}

/// What a client shows with its pulls: a token, or the login itself.
struct Session {
    until: SystemTime,
    state: Mutex<State>,
}

enum State {
    /// Upstream has not said yes to it yet.
    Shown(Proof),
    /// It is being hashed. What upstream said meanwhile, in order: when it let it read, or that it did not.
    Hashing(Vec<(Arc<str>, Option<SystemTime>)>),
    /// It is this one.
    Hashed(LoginId),
}

/// The logins. Clones share one.
#[derive(Clone)]
pub struct Logins(Arc<Inner>);

struct Inner {
    term: Duration,
    secret: Arc<Secret>,
    journal: Journal,
    clock: Clock,
    tasks: Tasks,
    book: RwLock<HashMap<LoginId, Good>>,
    sessions: Cache<Fingerprint, Arc<Session>>,
    known: Cache<Word, (LoginId, SystemTime)>,
    cores: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logins")
    }
}

impl Logins {
    /// With what the journal knew: seconds since 1970 by `LOGIN` (proved) and `LOGIN REGISTRY/REPOSITORY` (read). What is older than
    /// `term` is taken out of it; with none, everything.
    pub fn new(
        term: Duration,
        secret: Arc<Secret>,
        journal: Journal,
        clock: Clock,
        tasks: Tasks,
        written: Vec<(String, u64)>,
    ) -> Logins {
        let lru = || Cache::builder().max_capacity(50_000).eviction_policy(moka::policy::EvictionPolicy::lru());
        // Half of them go on serving.
        let cores = std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1));
        let logins = Logins(Arc::new(Inner {
            term,
            secret,
            journal,
            clock,
            tasks,
            book: RwLock::default(),
            sessions: lru().build(),
            known: Cache::builder().max_capacity(10_000).eviction_policy(moka::policy::EvictionPolicy::lru()).build(),
            cores: Arc::new(Semaphore::new(cores)),
            queue: Arc::new(Semaphore::new(WAITING)),
        }));
        logins.restore(written);
        logins.prune();
        logins
    }

    /// None, ever.
    #[cfg(test)]
    pub(super) fn off() -> Logins {
        let (clock, tasks) = (Clock::system(), Tasks::new());
        Logins::new(Duration::ZERO, Arc::new(Secret::random()), Journal::off(), clock, tasks, Vec::new())
    }

    fn restore(&self, written: Vec<(String, u64)>) {
        let mut book = self.0.book.write();
        for (key, at) in written {
            let (name, place) = key.split_once(' ').map_or((key.as_str(), None), |(name, place)| (name, Some(place)));
            let id = HEXLOWER.decode(name.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok()).map(LoginId);
            let Some(id) = id else {
                self.0.journal.remove(Table::Logins, key);
                continue;
            };
            let good = book.entry(id).or_default();
            match place {
                None => good.proved = at,
                Some(place) => drop(good.places.insert(place.into(), at)),
            }
        }
    }

    /// Whether anything is remembered at all.
    pub fn is_on(&self) -> bool {
        !self.0.term.is_zero()
    }

    fn proof(&self, namespace: &str, login: &Login) -> Proof {
        let (kind, account, word) = match login {
            Login::Password { username, password } => (&b"password"[..], username.as_str(), password),
            Login::Identity(token) => (&b"identity"[..], "", token),
        };
        let of = |use_of: &[u8], last: &[u8]| {
            self.0.secret.hash(&[use_of, namespace.as_bytes(), kind, account.as_bytes(), last])
        };
        let mut salt = [0; 16];
        salt.copy_from_slice(&of(b"salt", b"")[..16]);
        // bcrypt looks at 72 bytes: a hash of all of them is shorter.
        Proof { salt, word: of(b"word", word.as_bytes()) }
    }

    fn known(&self, proof: &Proof) -> Option<LoginId> {
        let now = self.0.clock.now();
        let (id, _) = self.0.known.get(&*proof.word).filter(|(_, until)| now < *until)?;
        self.0.known.insert(*proof.word, (id, now + KNOWN_FOR));
        Some(id)
    }

    /// The name of a login. `None`: too many wait.
    async fn hashed(&self, proof: &Proof) -> Option<LoginId> {
        if let Some(id) = self.known(proof) {
            return Some(id);
        }
        let waiting = self.0.queue.clone().try_acquire_owned().ok()?;
        let core = self.0.cores.clone().acquire_owned().await.ok()?;
        if let Some(id) = self.known(proof) {
            return Some(id);
        }
        let (logins, proof) = (self.clone(), proof.clone());
        // The permits go with it: it cannot be stopped when the client leaves.
        Some(
            task::blocking(move || {
                let slow = Zeroizing::new(bcrypt::bcrypt(COST, proof.salt, proof.word.as_slice()));
                let mut id = [0; 16];
                id.copy_from_slice(&logins.0.secret.hash(&[b"login", slow.as_slice()])[..16]);
                logins.0.known.insert(*proof.word, (LoginId(id), logins.0.clock.now() + KNOWN_FOR));
                drop((waiting, core));
                LoginId(id)
            })
            .await,
        )
    }

    /// The token service of `namespace` took `login`, and gave it a token that is shown as `print` for so long.
    pub fn proved(&self, namespace: &str, login: &Login, print: Fingerprint, good_for: Duration) {
        if self.is_on() {
            let session = Arc::new(Session {
                until: self.0.clock.now() + good_for,
                state: Mutex::new(State::Hashing(Vec::new())),
            });
            self.0.sessions.insert(print, session.clone());
            self.hash(session, self.proof(namespace, login));
        }
    }

    /// Off the threads that serve: the login is written down, with what it was let read meanwhile.
    fn hash(&self, session: Arc<Session>, proof: Proof) {
        let (logins, proved) = (self.clone(), self.0.clock.now());
        self.0.tasks.spawn(async move {
            let Some(id) = logins.hashed(&proof).await else { return };
            logins.note_proof(id, proved);
            let before = std::mem::replace(&mut *session.state.lock(), State::Hashed(id));
            if let State::Hashing(places) = before {
                for (place, at) in places {
                    match at {
                        Some(at) => logins.note_place(id, &place, at),
                        None => logins.forget_place(id, &place),
                    }
                }
            }
        });
    }

    fn note_proof(&self, id: LoginId, now: SystemTime) {
        let mut book = self.0.book.write();
        if book.len() >= MOST_LOGINS && !book.contains_key(&id) {
            let oldest = book.iter().min_by_key(|(_, good)| good.proved).map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.forget(&mut book, id));
        }
        let good = book.entry(id).or_default();
        if seconds(now).abs_diff(good.proved) >= COARSE.as_secs() {
            good.proved = seconds(now);
            self.0.journal.write(Table::Logins, key(id, None), &good.proved);
        }
    }

    fn note_place(&self, id: LoginId, place: &Arc<str>, now: SystemTime) {
        let mut book = self.0.book.write();
        // Forgotten meanwhile: upstream refused it.
        let Some(good) = book.get_mut(&id) else { return };
        if good.places.len() >= MOST_PLACES && !good.places.contains_key(place) {
            return;
        }
        let at = good.places.entry(place.clone()).or_default();
        if seconds(now).abs_diff(*at) >= COARSE.as_secs() {
            *at = seconds(now);
            self.0.journal.write(Table::Logins, key(id, Some(place)), at);
        }
    }

    fn session(&self, print: Fingerprint) -> Option<Arc<Session>> {
        self.0.sessions.get(&print).filter(|session| self.0.clock.now() < session.until)
    }

    /// Upstream let whoever shows `print` read in `place`.
    pub fn granted(&self, print: Fingerprint, place: &Arc<str>) {
        let Some(session) = self.session(print) else { return };
        let now = self.0.clock.now();
        let mut state = session.state.lock();
        match &mut *state {
            State::Hashed(id) => self.note_place(*id, place, now),
            State::Hashing(places) if places.len() < MOST_PLACES => places.push((place.clone(), Some(now))),
            State::Hashing(_) => {}
            State::Shown(proof) => {
                let proof = proof.clone();
                *state = State::Hashing(vec![(place.clone(), Some(now))]);
                self.hash(session.clone(), proof);
            }
        }
    }

    /// Upstream did not let whoever shows `print` read in `place`.
    pub fn revoked(&self, print: Fingerprint, place: &Arc<str>) {
        let Some(session) = self.session(print) else { return };
        match &mut *session.state.lock() {
            State::Hashed(id) => self.forget_place(*id, place),
            State::Hashing(places) => {
                places.retain(|(known, _)| known != place);
                places.push((place.clone(), None));
            }
            State::Shown(_) => {}
        }
    }

    /// The token service refused `login`: for these repositories, or altogether.
    pub fn refused(&self, namespace: &str, login: &Login, places: Option<Vec<Arc<str>>>) {
        if !self.is_on() || self.0.book.read().is_empty() {
            return;
        }
        let (logins, proof) = (self.clone(), self.proof(namespace, login));
        self.0.tasks.spawn(async move {
            let Some(id) = logins.hashed(&proof).await else { return };
            match places {
                Some(places) => places.iter().for_each(|place| logins.forget_place(id, place)),
                None => logins.forget(&mut logins.0.book.write(), id),
            }
        });
    }

    fn forget_place(&self, id: LoginId, place: &Arc<str>) {
        if self.0.book.write().get_mut(&id).is_some_and(|good| good.places.remove(place).is_some()) {
            self.0.journal.remove(Table::Logins, key(id, Some(place)));
        }
    }

    fn forget(&self, book: &mut HashMap<LoginId, Good>, id: LoginId) {
        if let Some(good) = book.remove(&id) {
            self.0.journal.remove(Table::Logins, key(id, None));
            good.places.keys().for_each(|place| self.0.journal.remove(Table::Logins, key(id, Some(place))));
        }
    }

    /// When upstream last let this login read in `place`, if it was proved no longer ago than the operator said.
    pub fn read(&self, id: LoginId, place: &str) -> Option<SystemTime> {
        let book = self.0.book.read();
        let good = book.get(&id).filter(|good| self.is_recent(good.proved))?;
        good.places.get(place).map(|at| time(*at))
    }

    /// The same of whoever shows `print`.
    pub fn read_by(&self, print: Fingerprint, place: &str) -> Option<SystemTime> {
        let session = self.is_on().then(|| self.session(print)).flatten()?;
        match &*session.state.lock() {
            State::Hashed(id) => self.read(*id, place),
            State::Hashing(places) => places.iter().rev().find(|(known, _)| **known == *place).and_then(|(_, at)| *at),
            State::Shown(_) => None,
        }
    }

    /// Whether some login may be known that was good for `namespace`: whether it is worth a bcrypt to look.
    pub fn knows_some(&self, namespace: &str) -> bool {
        let book = self.0.book.read();
        let here = |place: &Arc<str>| place.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        book.values().any(|good| self.is_recent(good.proved) && good.places.keys().any(here))
    }

    /// A login that cannot be shown to `namespace` now: the one that was good, if it is one.
    pub async fn recognised(&self, namespace: &str, login: &Login) -> Option<LoginId> {
        if !self.is_on() || !self.knows_some(namespace) {
            return None;
        }
        let proof = self.proof(namespace, login);
        let id = tokio::time::timeout(PATIENCE, self.hashed(&proof)).await.ok().flatten()?;
        self.0.book.read().get(&id).is_some_and(|good| self.is_recent(good.proved)).then_some(id)
    }

    /// A login that is shown to the registry itself, with each request (Basic). It is hashed when upstream says yes to it, or when it may
    /// be one that was good.
    pub async fn meet(&self, namespace: &str, login: &Login, print: Fingerprint) {
        if !self.is_on() || self.session(print).is_some() {
            return;
        }
        let state = match self.recognised(namespace, login).await {
            Some(id) => State::Hashed(id),
            None => State::Shown(self.proof(namespace, login)),
        };
        let until = self.0.clock.now() + SHOWN_FOR;
        self.0.sessions.insert(print, Arc::new(Session { until, state: Mutex::new(state) }));
    }

    /// Forgets what is too old to be of use.
    pub fn prune(&self) {
        let mut book = self.0.book.write();
        let old: Vec<LoginId> =
            book.iter().filter(|(_, good)| !self.is_recent(good.proved)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.forget(&mut book, id));
        for (id, good) in book.iter_mut() {
            good.places.retain(|place, at| {
                let stays = self.is_recent(*at);
                if !stays {
                    self.0.journal.remove(Table::Logins, key(*id, Some(place)));
                }
                stays
            });
        }
    }

    fn is_recent(&self, at: u64) -> bool {
        within(Some(time(at)), self.0.term, self.0.clock.now())
    }
}

fn key(id: LoginId, place: Option<&str>) -> String {
    let name = HEXLOWER.encode(&id.0);
    place.map_or_else(|| name.clone(), |place| format!("{name} {place}"))
}

#[cfg(test)]
mod tests;
