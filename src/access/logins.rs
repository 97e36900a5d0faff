//! Logins that were good before upstream became unreachable, and what they were granted
//! (`cache.offline_grants`, off unless the operator says so).
//!
//! 1. Upstream takes a login: the token service answers it with a token, or a registry grants it
//!    something. The login is hashed, slowly, off the threads that serve; the hash is its name
//!    ([`LoginId`]).
//! 2. Upstream grants a request with that token: the repository is written down under that name.
//! 3. Upstream is unreachable, and the login is presented again: it is hashed again, and found. A
//!    token of our own represents it; it opens what is written there, no older than the operator
//!    said, and only while upstream cannot be asked.
//! 4. Upstream refuses the login: all of it is forgotten. It refuses a repository: that is. When
//!    too many wait to be hashed for this to be looked up, whatever is known of that account goes:
//!    a refusal is never lost.
//!
//! # What an attacker gets
//!
//! - *The journal.* Names of logins that tell nothing, and which repositories they read. A name is
//!   bcrypt, salted by account, over an HMAC under a key that is not in the journal (`secret`, mode
//!   0600), hashed once more: no guess can be tried.
//! - *The journal and the key.* Each guess costs a bcrypt for each account. Tokens that registries
//!   make cannot be guessed; passwords that people make can. No password and no token is ever
//!   written, nor kept in memory once it is hashed.
//! - *A place in the network.* An outage that an attacker brings about (a cut line) brings the last
//!   state back: somebody who lost access less than `offline_grants` ago, still has the old
//!   credential, and is an allowed client, reads what is in the cache and was theirs. This is why
//!   it is off by default, and what its length is for. While upstream answers, it is asked, and its
//!   no is final.
//! - *Guesses during an outage.* Each costs a bcrypt, whether the account is known or not, so many
//!   at a time, and few of one account; what waits too long hears that upstream is unreachable.
//!   Whoever floods this keeps others from logging in during an outage, and from nothing else.
//!   While upstream answers, no request waits for a hash.
//! - *A token of ours.* What its login may read here, for two minutes. It names the login by
//!   nothing that leads back to it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};

use self::book::{Book, Good, key};
use self::hashes::{Hashes, Proof, Why};
use super::secret::Secret;
use crate::clock::Clock;
use crate::lru::lru;
use crate::oci::login::Login;
use crate::oci::name::RepositoryKey;
use crate::policy::access::within;
use crate::policy::stamp::Stamp;
use crate::records::{Journal, Table, seconds, time};
use crate::task::Tasks;
use crate::upstream::requester::{Fingerprint, LoginId};

/// How long a client waits for its login to be hashed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Logins that are remembered.
const MOST_LOGINS: usize = 10_000;
/// Repositories of one.
const MOST_REPOSITORIES: usize = 2_000;
/// Repositories of all: some tens of megabytes of the journal.
const MOST_IN_ALL: usize = 200_000;
/// What upstream says of one while it is hashed.
const MOST_MEANWHILE: usize = 100;
/// What is written down is written again when it is this old.
const COARSE: Duration = Duration::from_secs(60);
/// How long what was shown to a registry itself (Basic) is known by its fingerprint.
const SHOWN_FOR: Duration = Duration::from_secs(10 * 60);

/// What a client shows with its pulls: a token, or the login itself.
struct Session {
    /// Of the registry that took it. Shown to another it says nothing of this login.
    namespace: Arc<str>,
    until: SystemTime,
    state: Mutex<State>,
}

enum State {
    /// Upstream has granted it nothing yet.
    Shown(Proof),
    /// It is being hashed. What upstream said meanwhile, in order: when it let it read, or that it
    /// did not.
    Hashing(Vec<(RepositoryKey, Option<Stamp>)>),
    /// It is this one.
    Hashed(LoginId),
}

/// The logins. Clones share one.
#[derive(Clone)]
pub struct Logins(Arc<Inner>);

struct Inner {
    term: Duration,
    hashes: Hashes,
    journal: Journal,
    clock: Clock,
    tasks: Tasks,
    book: RwLock<Book>,
    sessions: Cache<Fingerprint, Arc<Session>>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logins")
    }
}

impl Logins {
    /// With what the journal knew: seconds since 1970 by `LOGIN` (proved) and microseconds by `LOGIN
    /// REGISTRY/REPOSITORY` (read). What is older than `term` is taken out of it; with none,
    /// everything.
    pub fn new(
        term: Duration,
        secret: Arc<Secret>,
        journal: Journal,
        clock: Clock,
        tasks: Tasks,
        written: Vec<(String, u64)>,
    ) -> Logins {
        let logins = Logins(Arc::new(Inner {
            term,
            hashes: Hashes::new(secret, clock.clone()),
            journal,
            clock,
            tasks,
            book: RwLock::default(),
            sessions: lru(50_000),
        }));
        logins.restore(written);
        logins.prune();
        logins
    }

    fn restore(&self, written: Vec<(String, u64)>) {
        let mut book = self.0.book.write();
        for (key, at) in written {
            let (name, repository) =
                key.split_once(' ').map_or((key.as_str(), None), |(name, repository)| (name, Some(repository)));
            let id = HEXLOWER.decode(name.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok()).map(LoginId);
            let Some(id) = id else {
                self.0.journal.remove(Table::Logins, key);
                continue;
            };
            let good = book.good.entry(id).or_default();
            match repository {
                None => good.proved = at,
                Some(repository) => {
                    good.repositories.insert(repository.into(), at);
                    book.repositories += 1;
                }
            }
        }
    }

    /// The latest stamp that was read at start.
    pub(super) fn latest(&self) -> Stamp {
        let book = self.0.book.read();
        let all = book.good.values().flat_map(|good| good.repositories.values());
        all.max().map_or_else(Stamp::default, |at| Stamp::from_micros(*at))
    }

    /// Whether anything is remembered at all.
    pub fn is_on(&self) -> bool {
        !self.0.term.is_zero()
    }

    /// The token service of `namespace` took `login`, and gave it a token that is shown as `print`
    /// for so long.
    pub fn proved(&self, namespace: &Arc<str>, login: &Login, print: Fingerprint, good_for: Duration) {
        if self.is_on() {
            let session = Arc::new(Session {
                namespace: namespace.clone(),
                until: self.0.clock.now() + good_for,
                state: Mutex::new(State::Hashing(Vec::new())),
            });
            self.0.sessions.insert(print, session.clone());
            self.hash(session, self.0.hashes.proof(namespace, login));
        }
    }

    /// Off the threads that serve: the login is written down, with what it was let read meanwhile.
    fn hash(&self, session: Arc<Session>, proof: Proof) {
        let (logins, proved) = (self.clone(), self.0.clock.now());
        self.0.tasks.spawn(async move {
            let Some(id) = logins.0.hashes.name(&proof, Why::Word).await else {
                return logins.not_remembered(&session, proof);
            };
            logins.note_proof(id, proved);
            let before = std::mem::replace(&mut *session.state.lock(), State::Hashed(id));
            if let State::Hashing(repositories) = before {
                for (repository, at) in repositories {
                    match at {
                        Some(at) => logins.note_repository(id, &repository, at),
                        None => logins.forget_repository(id, &repository),
                    }
                }
            }
        });
    }

    /// Too many are hashed: what a session was let read is forgotten, what was taken from it is
    /// not.
    fn not_remembered(&self, session: &Session, proof: Proof) {
        let before = std::mem::replace(&mut *session.state.lock(), State::Shown(proof.clone()));
        let State::Hashing(repositories) = before else { return };
        let lost: Vec<_> =
            repositories.into_iter().filter(|(_, at)| at.is_none()).map(|(repository, _)| repository).collect();
        if !lost.is_empty() {
            self.take_back(proof, Some(lost));
        }
    }

    fn note_proof(&self, id: LoginId, now: SystemTime) {
        let mut book = self.0.book.write();
        if book.good.len() >= MOST_LOGINS && !book.good.contains_key(&id) {
            book.oldest().into_iter().for_each(|id| self.forget(&mut book, id));
        }
        let good = book.good.entry(id).or_default();
        if seconds(now).abs_diff(good.proved) >= COARSE.as_secs() {
            good.proved = seconds(now);
            self.0.journal.write(Table::Logins, key(id, None), &good.proved);
        }
    }

    fn note_repository(&self, id: LoginId, repository: &RepositoryKey, came: Stamp) {
        let mut book = self.0.book.write();
        // Forgotten meanwhile: upstream refused it.
        let Some(good) = book.good.get(&id) else { return };
        if !good.repositories.contains_key(repository) {
            if good.repositories.len() >= MOST_REPOSITORIES {
                return;
            }
            if book.repositories >= MOST_IN_ALL {
                book.oldest().filter(|oldest| *oldest != id).into_iter().for_each(|id| self.forget(&mut book, id));
            }
            if book.repositories >= MOST_IN_ALL {
                return;
            }
            book.repositories += 1;
        }
        let Some(good) = book.good.get_mut(&id) else { return };
        let at = good.repositories.entry(repository.clone()).or_default();
        *at = came.micros().max(*at);
        self.0.journal.write(Table::Logins, key(id, Some(repository)), at);
    }

    fn session(&self, print: Fingerprint) -> Option<Arc<Session>> {
        self.0.sessions.get(&print).filter(|session| self.0.clock.now() < session.until)
    }

    /// Upstream let whoever shows `print` read in `repository`, by an answer that came then.
    pub fn granted(&self, print: Fingerprint, repository: &RepositoryKey, came: Stamp) {
        let Some(session) = self.session(print).filter(|session| repository.is_in(&session.namespace)) else { return };
        let mut state = session.state.lock();
        match &mut *state {
            State::Hashed(id) => self.note_repository(*id, repository, came),
            State::Hashing(repositories) if repositories.len() < MOST_MEANWHILE => {
                repositories.push((repository.clone(), Some(came)))
            }
            State::Hashing(_) => {}
            State::Shown(proof) => {
                let proof = proof.clone();
                *state = State::Hashing(vec![(repository.clone(), Some(came))]);
                self.hash(session.clone(), proof);
            }
        }
    }

    /// Upstream did not let whoever shows `print` read in `repository`.
    pub fn revoked(&self, print: Fingerprint, repository: &RepositoryKey) {
        let Some(session) = self.session(print) else { return };
        match &mut *session.state.lock() {
            State::Hashed(id) => self.forget_repository(*id, repository),
            State::Hashing(repositories) => {
                repositories.retain(|(known, _)| known != repository);
                repositories.push((repository.clone(), None));
            }
            State::Shown(proof) => self.take_back(proof.clone(), Some(vec![repository.clone()])),
        }
    }

    /// The token service refused `login`: for these repositories, or altogether.
    pub fn refused(&self, namespace: &str, login: &Login, repositories: Option<Vec<RepositoryKey>>) {
        if self.is_on() {
            self.take_back(self.0.hashes.proof(namespace, login), repositories);
        }
    }

    fn take_back(&self, proof: Proof, repositories: Option<Vec<RepositoryKey>>) {
        let whose = proof.account();
        // What is hashed now may be in the book a moment later.
        if self.0.book.read().of(whose).is_empty() && !self.0.hashes.has_words() {
            return;
        }
        let logins = self.clone();
        self.0.tasks.spawn(async move {
            let named = logins.0.hashes.name(&proof, Why::Word).await.map(|id| vec![id]);
            // Too many wait to find out which login of this account it is.
            let ids = named.unwrap_or_else(|| logins.0.book.read().of(whose));
            for id in ids {
                match &repositories {
                    Some(repositories) => {
                        repositories.iter().for_each(|repository| logins.forget_repository(id, repository))
                    }
                    None => logins.forget(&mut logins.0.book.write(), id),
                }
            }
        });
    }

    fn forget_repository(&self, id: LoginId, repository: &RepositoryKey) {
        let mut book = self.0.book.write();
        if book.good.get_mut(&id).is_some_and(|good| good.repositories.remove(repository).is_some()) {
            book.repositories -= 1;
            self.0.journal.remove(Table::Logins, key(id, Some(repository)));
        }
    }

    fn forget(&self, book: &mut Book, id: LoginId) {
        if let Some(good) = book.good.remove(&id) {
            book.repositories -= good.repositories.len();
            self.0.journal.remove(Table::Logins, key(id, None));
            good.repositories
                .keys()
                .for_each(|repository| self.0.journal.remove(Table::Logins, key(id, Some(repository))));
        }
    }

    /// When upstream last let this login read in `repository`, if it was proved no longer ago than
    /// the operator said.
    pub fn read(&self, id: LoginId, repository: &RepositoryKey) -> Option<Stamp> {
        let book = self.0.book.read();
        let good = book.good.get(&id).filter(|good| self.is_recent(good.proved))?;
        good.repositories.get(repository).map(|at| Stamp::from_micros(*at))
    }

    /// The same of whoever shows `print`.
    pub fn read_by(&self, print: Fingerprint, repository: &RepositoryKey) -> Option<Stamp> {
        let session = self.is_on().then(|| self.session(print)).flatten()?;
        match &*session.state.lock() {
            State::Hashed(id) => self.read(*id, repository),
            State::Hashing(repositories) => {
                repositories.iter().rev().find(|(known, _)| known == repository).and_then(|(_, at)| *at)
            }
            State::Shown(_) => None,
        }
    }

    /// Whether some login may be known that was good for `namespace`: whether it is worth a bcrypt
    /// to look.
    pub fn knows_some(&self, namespace: &str) -> bool {
        let book = self.0.book.read();
        // All that a login reads is in one name space.
        let here = |good: &Good| good.repositories.keys().next().is_some_and(|repository| repository.is_in(namespace));
        book.good.values().any(|good| here(good) && self.is_recent(good.proved))
    }

    /// A login that cannot be shown to `namespace` now: the one that was good, if it is one.
    pub async fn recognised(&self, namespace: &str, login: &Login) -> Option<LoginId> {
        if !self.is_on() || !self.knows_some(namespace) {
            return None;
        }
        let proof = self.0.hashes.proof(namespace, login);
        let id = tokio::time::timeout(PATIENCE, self.0.hashes.name(&proof, Why::Guess)).await.ok().flatten()?;
        self.0.book.read().good.get(&id).is_some_and(|good| self.is_recent(good.proved)).then_some(id)
    }

    /// A login that is shown to the registry itself, with each request (Basic). It is hashed when
    /// upstream grants it something, or cannot say.
    pub fn observe_login(&self, namespace: &Arc<str>, login: &Login, print: Fingerprint) {
        if self.is_on() && self.session(print).is_none() {
            let (until, proof) = (self.0.clock.now() + SHOWN_FOR, self.0.hashes.proof(namespace, login));
            let state = Mutex::new(State::Shown(proof));
            self.0.sessions.insert(print, Arc::new(Session { namespace: namespace.clone(), until, state }));
        }
    }

    /// Whether it is found out just now that the login which is shown as `print` was good.
    pub async fn recognise(&self, namespace: &str, login: &Login, print: Fingerprint) -> bool {
        let is_new = |session: &Session| matches!(*session.state.lock(), State::Shown(_));
        let Some(session) = self.session(print).filter(|session| is_new(session)) else { return false };
        let Some(id) = self.recognised(namespace, login).await else { return false };
        let mut state = session.state.lock();
        if let State::Shown(_) = *state {
            *state = State::Hashed(id);
        }
        matches!(*state, State::Hashed(_))
    }

    /// Upstream refused the login which is presented as `print`. What it says later of it is
    /// recorded again.
    pub fn forget_presented(&self, print: Fingerprint) {
        self.0.sessions.invalidate(&print);
    }

    /// Forgets what is too old to be of use.
    pub fn prune(&self) {
        let mut book = self.0.book.write();
        let old: Vec<LoginId> =
            book.good.iter().filter(|(_, good)| !self.is_recent(good.proved)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.forget(&mut book, id));
        let mut left = 0;
        for (id, good) in &mut book.good {
            good.repositories.retain(|repository, at| {
                let stays = self.is_recent(*at / 1_000_000);
                if !stays {
                    self.0.journal.remove(Table::Logins, key(*id, Some(repository)));
                }
                stays
            });
            left += good.repositories.len();
        }
        book.repositories = left;
    }

    fn is_recent(&self, at: u64) -> bool {
        within(Some(time(at)), self.0.term, self.0.clock.now())
    }
}

mod book;
mod hashes;
#[cfg(test)]
mod tests;
