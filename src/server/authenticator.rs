//! The check of passwords: a few at a time, off the threads that serve, and not again for one that
//! was just right.
//!
//! 1. A password that was right or wrong a short while ago is known by a keyed hash, and answered
//!    at once.
//! 2. The client's turn: one check of a client at a time, whatever it opens. A flood of guesses has
//!    one place in the queue for each address, and docker's five connections of one pull are one
//!    check.
//! 3. A free core of those that may work on this. After each wait it is looked up again: another
//!    request may have found out.
//! 4. bcrypt, on a blocking thread. The permits go with it: it cannot be stopped when the client
//!    leaves.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::lru::lru;
use crate::policy::users::{Credential, Users};
use crate::task;

/// How long a password that was right is known after its last use. The users do not change while
/// the process runs: this bounds how long a hash of it is in memory.
const RIGHT_FOR: Duration = Duration::from_secs(10 * 60);
/// How long one that was wrong is known: a runner with an old password asks every few seconds.
const WRONG_FOR: Duration = Duration::from_secs(60);
/// Passwords that are known to be right, and as many that are wrong.
const KNOWN: u64 = 10_000;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A user's password.
    Right,
    /// No user's.
    Wrong,
    /// Not found out: too many are being checked.
    Busy,
}

type Fingerprint = [u8; 32];

/// Checks passwords.
pub(crate) struct Authenticator {
    users: Arc<Users>,
    clock: Clock,
    patience: Duration,
    key: hmac::Key,
    right: Cache<Fingerprint, SystemTime>,
    wrong: Cache<Fingerprint, SystemTime>,
    cores: Arc<Semaphore>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.users, f)
    }
}

impl Authenticator {
    /// A check of `users`. A request waits at most `patience` for its client's turn, and as long
    /// for a core.
    pub(crate) fn new(users: Arc<Users>, clock: Clock, patience: Duration) -> Authenticator {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        // The other half goes on serving.
        let cores = std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1));
        Authenticator {
            users,
            clock,
            patience,
            key: hmac::Key::generate(hmac::HMAC_SHA256, &rng).expect("the system gives random bytes"),
            right: lru(KNOWN),
            wrong: lru(KNOWN),
            cores: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Whether a user has shown this. `turn` is its client's semaphore, of one permit.
    pub(crate) async fn check(&self, shown: Credential, turn: &Arc<Semaphore>) -> Answer {
        let mut print = Fingerprint::default();
        print.copy_from_slice(hmac::sign(&self.key, shown.as_bytes()).as_ref());
        if let Some(known) = self.known(&print) {
            return known;
        }
        let Some(turn) = self.wait_for(turn).await else { return Answer::Busy };
        if let Some(known) = self.known(&print) {
            return known;
        }
        let Some(core) = self.wait_for(&self.cores).await else { return Answer::Busy };
        if let Some(known) = self.known(&print) {
            return known;
        }
        let users = self.users.clone();
        let is_right = task::blocking(move || {
            let is_right = users.check(&shown);
            drop((core, turn));
            is_right
        })
        .await;
        let (known, time, answer) = match is_right {
            true => (&self.right, RIGHT_FOR, Answer::Right),
            false => (&self.wrong, WRONG_FOR, Answer::Wrong),
        };
        known.insert(print, self.clock.now() + time);
        answer
    }

    async fn wait_for(&self, what: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let waited = tokio::time::timeout(self.patience, what.clone().acquire_owned()).await;
        waited.ok().map(|permit| permit.expect("the semaphore is never closed"))
    }

    fn known(&self, print: &Fingerprint) -> Option<Answer> {
        let now = self.clock.now();
        if self.right.get(print).is_some_and(|until| now < until) {
            self.right.insert(*print, now + RIGHT_FOR);
            return Some(Answer::Right);
        }
        self.wrong.get(print).filter(|until| now < *until).map(|_| Answer::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn authenticator(clock: &Clock) -> Authenticator {
        let text = format!("alice:{}", bcrypt::hash("right", 4).unwrap());
        Authenticator::new(Arc::new(Users::parse(&text).unwrap()), clock.clone(), PATIENCE)
    }

    fn presented(text: &str) -> Credential {
        Credential::parse(format!("Basic {}", BASE64.encode(text.as_bytes())).as_bytes()).unwrap()
    }

    fn turn() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1))
    }

    #[tokio::test]
    async fn what_was_found_out_is_known_for_a_while() {
        let clock = Clock::system();
        let all = authenticator(&clock);
        let ask = async |text: &str| all.check(presented(text), &turn()).await;
        assert_eq!(ask("alice:right").await, Answer::Right);
        assert_eq!(ask("alice:wrong").await, Answer::Wrong);
        assert_eq!(ask("bob:right").await, Answer::Wrong);
        // No core is free: only what is known is answered.
        let mut all = all;
        all.cores = Arc::new(Semaphore::new(0));
        all.patience = Duration::from_millis(10);
        let ask = async |text: &str| all.check(presented(text), &turn()).await;
        for _ in 0..3 {
            assert_eq!(ask("alice:right").await, Answer::Right);
            clock.advance(RIGHT_FOR * 2 / 3);
        }
        assert_eq!(ask("alice:wrong").await, Answer::Busy, "forgotten");
        assert_eq!(ask("alice:other").await, Answer::Busy);
        clock.advance(RIGHT_FOR);
        assert_eq!(ask("alice:right").await, Answer::Busy, "forgotten");
    }

    /// A client that guesses delays no client but itself.
    #[tokio::test(start_paused = true)]
    async fn one_check_of_a_client_at_a_time() {
        let all = authenticator(&Clock::system());
        let (busy, other) = (turn(), turn());
        let _guessing = busy.clone().acquire_owned().await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(all.check(presented("alice:right"), &busy).await, Answer::Busy);
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        assert_eq!(all.check(presented("alice:right"), &other).await, Answer::Right);
        assert_eq!(all.check(presented("alice:right"), &busy).await, Answer::Right, "known by now");
        assert_eq!(format!("{all:?}"), "Users(1)");
    }
}
