//! The check of passwords: a few at a time, off the threads that serve, and not again for one that
//! was just right.
//!
//! 1. A password that was right or wrong a short while ago is known by a keyed hash, and answered
//!    at once.
//! 2. The client's turn: one check of a client at a time, whatever it opens. A flood of guesses has
//!    one place in the queue for each address, and docker's five connections of one pull are one
//!    check.
//! 3. A free core of those that may work on this, in turns by block (an IPv4 /24): who has many
//!    addresses has them there, and takes one turn of all. After each wait it is looked up again:
//!    another request may have found out.
//! 4. bcrypt, on a blocking thread. The permits go with it: it cannot be stopped when the client
//!    leaves.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::lane::Lane;
use crate::lru::lru;
use crate::metrics::bounds::Bounds;
use crate::policy::budget::Tenant;
use crate::policy::users::{Credential, UserId, Users};
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
    /// This user's password.
    Right(UserId),
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
    right: Cache<Fingerprint, (UserId, SystemTime)>,
    wrong: Cache<Fingerprint, SystemTime>,
    cores: Lane,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.users, f)
    }
}

impl Authenticator {
    /// A check of `users`. A request waits at most `patience` for its client's turn, and as long
    /// for a core.
    pub(crate) fn new(users: Arc<Users>, clock: Clock, patience: Duration, bounds: &Bounds) -> Authenticator {
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
            cores: Lane::new(cores, &bounds.passwords, &bounds.passwords_waiting),
        }
    }

    /// Whether a user has shown this, at that address. `turn` is its client's semaphore, of one permit.
    pub(crate) async fn check(&self, shown: Credential, turn: &Arc<Semaphore>, at: IpAddr) -> Answer {
        let mut print = Fingerprint::default();
        print.copy_from_slice(hmac::sign(&self.key, shown.as_bytes()).as_ref());
        if let Some(known) = self.known(&print) {
            return known;
        }
        let Some(turn) = self.wait_for(turn).await else { return Answer::Busy };
        if let Some(known) = self.known(&print) {
            return known;
        }
        let core = tokio::time::timeout(self.patience, self.cores.enter(Tenant::around(at))).await;
        let Ok(Ok(core)) = core else { return Answer::Busy };
        if let Some(known) = self.known(&print) {
            return known;
        }
        let users = self.users.clone();
        let found = task::blocking_beside(move || {
            let found = users.check(&shown);
            drop((core, turn));
            found
        })
        .await;
        let now = self.clock.now();
        match found {
            Some(user) => {
                self.right.insert(print, (user, now + RIGHT_FOR));
                Answer::Right(user)
            }
            None => {
                self.wrong.insert(print, now + WRONG_FOR);
                Answer::Wrong
            }
        }
    }

    async fn wait_for(&self, what: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let waited = tokio::time::timeout(self.patience, what.clone().acquire_owned()).await;
        waited.ok().map(|permit| permit.expect("the semaphore is never closed"))
    }

    fn known(&self, print: &Fingerprint) -> Option<Answer> {
        let now = self.clock.now();
        if let Some((user, _)) = self.right.get(print).filter(|(_, until)| now < *until) {
            self.right.insert(*print, (user, now + RIGHT_FOR));
            return Some(Answer::Right(user));
        }
        self.wrong.get(print).filter(|until| now < *until).map(|_| Answer::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::bounds::Level;
    use data_encoding::BASE64;

    const PATIENCE: Duration = Duration::from_secs(10);
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn authenticator(clock: &Clock) -> Authenticator {
        let text = format!("alice:{}", bcrypt::hash("right", 4).unwrap());
        Authenticator::new(Arc::new(Users::parse(&text).unwrap()), clock.clone(), PATIENCE, &Bounds::default())
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
        let ask = async |text: &str| all.check(presented(text), &turn(), HERE).await;
        assert!(matches!(ask("alice:right").await, Answer::Right(_)));
        assert_eq!(ask("alice:wrong").await, Answer::Wrong);
        assert_eq!(ask("bob:right").await, Answer::Wrong);
        // No core is free: only what is known is answered.
        let mut all = all;
        all.cores = Lane::new(0, &Level::default(), &Level::default());
        all.patience = Duration::from_millis(10);
        let ask = async |text: &str| all.check(presented(text), &turn(), HERE).await;
        for _ in 0..3 {
            assert!(matches!(ask("alice:right").await, Answer::Right(_)));
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
        assert_eq!(all.check(presented("alice:right"), &busy, HERE).await, Answer::Busy);
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        assert!(matches!(all.check(presented("alice:right"), &other, HERE).await, Answer::Right(_)));
        assert!(matches!(all.check(presented("alice:right"), &busy, HERE).await, Answer::Right(_)), "known by now");
        assert_eq!(format!("{all:?}"), "Users(1)");
    }

    /// Many addresses of one block take one turn of all: another's waits for no crowd.
    #[tokio::test]
    async fn a_crowd_of_guesses_has_one_turn() {
        let mut all = authenticator(&Clock::system());
        all.cores = Lane::new(1, &Level::default(), &Level::default());
        let (all, tasks) = (Arc::new(all), crate::task::Tasks::new());
        let held = all.cores.enter(Tenant::around([10, 9, 9, 9].into())).await.unwrap();
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let check = |text: String, at: [u8; 4]| {
            let (all, order) = (all.clone(), order.clone());
            tasks.spawn(async move {
                all.check(presented(&text), &turn(), at.into()).await;
                order.lock().push(at[1]);
            })
        };
        let mut checks: Vec<_> = (0..50).map(|n| check(format!("alice:{n}"), [10, 1, 1, n])).collect();
        tokio::task::yield_now().await;
        checks.push(check("alice:right".to_owned(), [10, 2, 1, 1]));
        tokio::task::yield_now().await;
        drop(held);
        for check in checks {
            check.await.unwrap();
        }
        let place = order.lock().iter().position(|tenant| *tenant == 2).unwrap();
        // Second by its turn; on a busy machine some of the crowd are told their answer before.
        assert!(place <= 10, "it was the {place}th: {:?}", order.lock());
    }
}
