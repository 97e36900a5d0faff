//! The names of logins: what is left of them when they are hashed, slowly, off the threads that
//! serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::access::secret::Secret;
use crate::clock::Clock;
use crate::lru::lru;
use crate::oci::login::Login;
use crate::task::{self, Coalesced};
use crate::upstream::requester::LoginId;

/// bcrypt's: about 60 ms of a core.
const COST: u32 = if cfg!(debug_assertions) { 6 } else { 10 };
/// Logins of which upstream said something, and that wait. What is too much is not remembered, or
/// is taken back unseen.
const MOST_WORDS: usize = 256;
/// Logins that a client waits for, for each core: what 60 ms apiece lets through in less than its
/// patience.
const MOST_GUESSES: usize = 64;
/// … of one account: whoever guesses at one keeps no other waiting.
const MOST_OF_ONE: usize = 4;
/// How long after its last use a login need not be hashed again.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(10 * 60);

type Word = [u8; 32];
/// A keyed hash of a registry and an account's name.
pub(crate) type Account = [u8; 8];

/// What a login is hashed from: neither its password nor its name.
#[derive(Clone)]
pub(crate) struct Proof {
    salt: [u8; 16],
    word: Zeroizing<Word>,
}

impl Proof {
    /// Whose it is.
    pub(crate) fn account(&self) -> Account {
        let mut account = [0; 8];
        account.copy_from_slice(&self.salt[..8]);
        account
    }
}

/// Whose the login is that has this name.
pub(crate) fn account(id: LoginId) -> Account {
    let mut account = [0; 8];
    account.copy_from_slice(&id.0[..8]);
    account
}

/// Why a login is hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Upstream said something of it.
    Word,
    /// It may be one that was good.
    Guess,
}

/// Those that wait.
#[derive(Default)]
struct Queue {
    words: usize,
    guesses: HashMap<Account, usize>,
}

/// Gives logins their names. Clones share one.
#[derive(Clone)]
pub(crate) struct Hashes {
    secret: Arc<Secret>,
    clock: Clock,
    known: Cache<Word, (LoginId, SystemTime)>,
    asked: Arc<Coalesced<Word, Option<LoginId>>>,
    cores: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
    most_guesses: usize,
}

impl Hashes {
    pub(crate) fn new(secret: Arc<Secret>, clock: Clock) -> Hashes {
        // Half of them go on serving.
        let cores = std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1));
        let most_guesses = MOST_GUESSES * cores;
        let cores = Arc::new(Semaphore::new(cores));
        let (known, asked, queue) = (lru(10_000), Arc::default(), Arc::default());
        Hashes { secret, clock, known, asked, cores, queue, most_guesses }
    }

    pub(crate) fn proof(&self, namespace: &str, login: &Login) -> Proof {
        let (kind, account, word) = match login {
            Login::Password { username, password } => (&b"password"[..], username.as_str(), password),
            Login::Identity(token) => (&b"identity"[..], "", token),
        };
        let of = |use_of: &[u8], last: &[u8]| {
            self.secret.hash(&[use_of, namespace.as_bytes(), kind, account.as_bytes(), last])
        };
        let mut salt = [0; 16];
        salt.copy_from_slice(&of(b"salt", b"")[..16]);
        // bcrypt looks at 72 bytes: a hash of all of them is shorter.
        Proof { salt, word: of(b"word", word.as_bytes()) }
    }

    fn known(&self, proof: &Proof) -> Option<LoginId> {
        let now = self.clock.now();
        let (id, _) = self.known.get(&*proof.word).filter(|(_, until)| now < *until)?;
        self.known.insert(*proof.word, (id, now + KNOWN_FOR));
        Some(id)
    }

    /// Whether an answer of upstream about some login waits for its hash.
    pub(crate) fn has_words(&self) -> bool {
        self.queue.lock().words > 0
    }

    /// The name of a login; it is hashed once for all who show it. `None`: too many wait.
    pub(crate) async fn name(&self, proof: &Proof, why: Why) -> Option<LoginId> {
        if let Some(id) = self.known(proof) {
            return Some(id);
        }
        let (hashes, shown) = (self.clone(), proof.clone());
        self.asked.run(*proof.word, move || async move { hashes.hashed(shown, why).await }).await
    }

    async fn hashed(self, proof: Proof, why: Why) -> Option<LoginId> {
        let _place = self.line_up(proof.account(), why)?;
        let _core = self.cores.clone().acquire_owned().await.ok()?;
        if let Some(id) = self.known(&proof) {
            return Some(id);
        }
        let hashes = self.clone();
        Some(
            task::blocking_beside(move || {
                let id = hashes.hash(&proof);
                hashes.known.insert(*proof.word, (id, hashes.clock.now() + KNOWN_FOR));
                id
            })
            .await,
        )
    }

    fn hash(&self, proof: &Proof) -> LoginId {
        let slow = Zeroizing::new(bcrypt::bcrypt(COST, proof.salt, proof.word.as_slice()));
        let mut id = [0; 24];
        id[..8].copy_from_slice(&proof.account());
        id[8..].copy_from_slice(&self.secret.hash(&[b"login", slow.as_slice()])[..16]);
        LoginId(id)
    }

    fn line_up(&self, account: Account, why: Why) -> Option<Place> {
        let mut queue = self.queue.lock();
        match why {
            Why::Word if queue.words >= MOST_WORDS => return None,
            Why::Word => queue.words += 1,
            Why::Guess => {
                let all: usize = queue.guesses.values().sum();
                let of_one = queue.guesses.get(&account).copied().unwrap_or_default();
                if all >= self.most_guesses || of_one >= MOST_OF_ONE {
                    return None;
                }
                queue.guesses.insert(account, of_one + 1);
            }
        }
        drop(queue);
        Some(Place { queue: self.queue.clone(), account, why })
    }
}

/// A place in the queue.
struct Place {
    queue: Arc<Mutex<Queue>>,
    account: Account,
    why: Why,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        match self.why {
            Why::Word => queue.words -= 1,
            Why::Guess => {
                if let Some(waiting) = queue.guesses.get_mut(&self.account) {
                    *waiting -= 1;
                }
                queue.guesses.retain(|_, waiting| *waiting > 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes() -> Hashes {
        Hashes::new(Arc::new(Secret::random()), Clock::system())
    }

    fn login(username: &str, password: &str) -> Login {
        Login::Password { username: username.into(), password: Zeroizing::new(password.into()) }
    }

    /// bcrypt takes no more than 72 bytes, and some of its users stop at a NUL.
    #[tokio::test]
    async fn every_byte_of_a_login_counts() {
        let hashes = hashes();
        let long = "x".repeat(100);
        let mut all = Vec::new();
        for (namespace, login) in [
            ("r", login("alice", &long)),
            ("r", login("alice", &format!("{long}y"))),
            ("r", login("alice", &long[..72])),
            ("r", login("alice", "x\0a")),
            ("r", login("alice", "x\0b")),
            ("r", login("alice", "")),
            ("r", login("bob", &long)),
            ("q", login("alice", &long)),
            ("r", login("", &long)),
            ("r", Login::Identity(Zeroizing::new(long.clone()))),
        ] {
            all.push(hashes.name(&hashes.proof(namespace, &login), Why::Guess).await.unwrap());
        }
        for (n, id) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other != id), "{n}");
        }
        assert_eq!(account(all[0]), account(all[1]));
        assert!(account(all[0]) != account(all[6]) && account(all[0]) != account(all[7]));
        let elsewhere = self::hashes();
        let proof = elsewhere.proof("r", &login("alice", &long));
        assert_ne!(elsewhere.name(&proof, Why::Guess).await.unwrap(), all[0], "another installation");
    }

    /// A flood of guesses costs a known number of hashes at a time, and does not keep upstream's
    /// answers from being recorded.
    #[tokio::test]
    async fn guesses_wait_in_a_line_that_ends() {
        let hashes = hashes();
        let core = hashes.cores.clone().acquire_many_owned(u32::try_from(hashes.cores.available_permits()).unwrap());
        let core = core.await.unwrap();
        let mut line = Vec::new();
        for _ in 0..MOST_OF_ONE {
            line.push(hashes.line_up([0; 8], Why::Guess).unwrap());
        }
        assert!(hashes.line_up([0; 8], Why::Guess).is_none(), "of one account");
        let mut account = 0_u64;
        while let Some(place) = hashes.line_up(account.to_be_bytes().map(|b| b.wrapping_add(1)), Why::Guess) {
            (account, line) = (account + 1, line.into_iter().chain([place]).collect());
        }
        assert_eq!(line.len(), hashes.most_guesses);
        let proof = hashes.proof("r", &login("alice", "x"));
        assert!(hashes.name(&proof, Why::Guess).await.is_none());
        let mut heard = Box::pin(hashes.name(&proof, Why::Word));
        while !hashes.has_words() {
            assert!(futures_util::poll!(&mut heard).is_pending());
            tokio::task::yield_now().await;
        }
        drop((core, line));
        assert!(heard.await.is_some() && !hashes.has_words());
        assert!(hashes.queue.lock().guesses.is_empty());
    }
}
