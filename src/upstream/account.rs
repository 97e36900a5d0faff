//! What is known of the operator's accounts: their logins, whether these are good, and the tokens
//! that were issued for them.
//!
//! - A login is read again every few minutes, while the last one is used: secrets are rotated,
//!   ECR's are good for twelve hours.
//! - It is proved once, by one request, before it is used: Docker Hub locks names after some wrong
//!   logins.
//! - A login that was refused rests, until it is another one or some minutes have passed.
//! - What was slow or failed a moment ago is not waited for again: pulls go on without.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;
use tracing::warn;

use super::auth::Token;
use crate::error::{Error, Kind, Result};
use crate::lru::lru;
use crate::oci::login::Login;
use crate::policy::access::within;
use crate::policy::registry::Site;

/// How long a login is used before it is read again.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long it may be used while it is read again.
const OLD: Duration = Duration::from_secs(60 * 60);
/// How long what was refused is not tried again.
const REST: Duration = Duration::from_secs(5 * 60);
/// How long what failed, or was slow, is not tried again.
const RETRY: Duration = Duration::from_secs(10);

/// One account at one host: the registry's name, and the authority that is dialled.
pub(super) type Key = (Arc<str>, String);

pub(super) fn key(site: &Site) -> Key {
    (site.registry.name.clone(), site.origin.authority())
}

/// The operator's accounts at all registries.
pub(super) struct Accounts {
    kept: Cache<Key, Arc<Mutex<Kept>>>,
    tokens: Cache<(Key, String), Arc<Token>>,
    /// What failed lately, and until when it is not tried again: paths of what an account may not
    /// read, URLs of tokens.
    failures: Cache<(Key, String), (SystemTime, Error)>,
}

/// A login, and what became of it.
#[derive(Default)]
struct Kept {
    login: Option<Arc<Login>>,
    read: Option<SystemTime>,
    failed: Option<(SystemTime, Error)>,
    proof: Proof,
}

/// Whether a login is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Proof {
    /// It is not known whether the login is good.
    #[default]
    None,
    /// It was good at this time.
    Good(SystemTime),
    /// It was refused at this time.
    Refused(SystemTime),
}

/// What to do to get a login.
#[derive(Debug)]
pub(super) enum Next {
    /// The login is here.
    Use(Arc<Login>),
    /// The login is here, and should be read again meanwhile.
    Renew(Arc<Login>),
    /// The login has to be read first.
    Read,
    /// The operator has no login here.
    None,
    /// The login cannot be used now.
    Fail(Error),
}

impl Kept {
    fn next(&self, registry: &str, now: SystemTime) -> Next {
        let tried = self.read.max(self.failed.as_ref().map(|(at, _)| *at));
        if let Proof::Refused(_) = self.proof {
            return if within(tried, RETRY, now) { Next::Fail(resting(registry)) } else { Next::Read };
        }
        let failed = self.failed.as_ref().filter(|(at, _)| within(Some(*at), RETRY, now));
        match (&self.login, failed) {
            (Some(login), Some(_)) => Next::Use(login.clone()),
            (None, Some((_, error))) => Next::Fail(error.clone()),
            (Some(login), None) if within(self.read, FRESH, now) => Next::Use(login.clone()),
            (Some(login), None) if within(self.read, OLD, now) => Next::Renew(login.clone()),
            (None, None) if within(self.read, FRESH, now) => Next::None,
            _ => Next::Read,
        }
    }

    fn was_read(&mut self, read: Result<Option<Login>>, now: SystemTime) {
        let login = match read {
            Ok(login) => login.map(Arc::new),
            Err(error) => {
                self.failed = Some((now, error));
                return;
            }
        };
        let rested = matches!(self.proof, Proof::Refused(at) if !within(Some(at), REST, now));
        if rested || login != self.login {
            self.proof = Proof::None;
        }
        *self = Kept { login, read: Some(now), failed: None, proof: self.proof };
    }

    fn doubt(&mut self, now: SystemTime) {
        if let Proof::Good(at) = self.proof
            && !within(Some(at), RETRY, now)
        {
            (self.proof, self.read) = (Proof::None, None);
        }
    }
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts { kept: lru(4096), tokens: lru(10_000), failures: lru(10_000) }
    }
}

impl Accounts {
    fn at(&self, site: &Site) -> Arc<Mutex<Kept>> {
        self.kept.get_with(key(site), Arc::default)
    }

    /// What to do to get the login for `site`.
    pub(super) fn next(&self, site: &Site, now: SystemTime) -> Next {
        self.at(site).lock().next(&site.registry.name, now)
    }

    /// Keeps what came of reading a login.
    pub(super) fn was_read(&self, site: &Site, read: Result<Option<Login>>, now: SystemTime) {
        if let Err(error) = &read {
            warn!(registry = %site.registry.name, host = %site.origin.host, %error, "the operator's account cannot be read");
        }
        self.at(site).lock().was_read(read, now);
    }

    /// Whether this login was seen to be good.
    pub(super) fn is_good(&self, site: &Site, login: &Arc<Login>) -> bool {
        let kept = self.at(site);
        let kept = kept.lock();
        kept.login.as_ref() == Some(login) && matches!(kept.proof, Proof::Good(_))
    }

    /// Keeps that the registry took a login.
    pub(super) fn accepted(&self, site: &Site, login: &Arc<Login>, now: SystemTime) {
        self.judge(site, login, Proof::Good(now));
    }

    /// Keeps that the registry refused a login, and says so in the log.
    pub(super) fn refused(&self, site: &Site, login: &Arc<Login>, now: SystemTime) -> Error {
        let (registry, host) = (&site.registry.name, &site.origin.host);
        warn!(%registry, %host, "the operator's account was refused; it is not tried again for some minutes");
        self.judge(site, login, Proof::Refused(now));
        resting(&site.registry.name)
    }

    fn judge(&self, site: &Site, login: &Arc<Login>, proof: Proof) {
        let kept = self.at(site);
        let mut kept = kept.lock();
        if kept.login.as_ref() == Some(login) {
            kept.proof = proof;
        }
    }

    /// Something was refused to a login that was good: it is proved again, unless that was done a
    /// moment ago.
    pub(super) fn doubt(&self, site: &Site, now: SystemTime) {
        self.at(site).lock().doubt(now);
    }

    /// The token last issued for `url`, if it is good for more than a moment.
    pub(super) fn token(&self, site: &Site, url: &str, now: SystemTime) -> Option<Arc<Token>> {
        self.tokens.get(&(key(site), url.to_owned())).filter(|token| token.is_good(now))
    }

    pub(super) fn keep_token(&self, site: &Site, url: &str, token: Arc<Token>) {
        self.tokens.insert((key(site), url.to_owned()), token);
    }

    /// Drops a token that upstream did not take.
    pub(super) fn drop_token(&self, site: &Site, url: &str) {
        self.tokens.invalidate(&(key(site), url.to_owned()));
    }

    /// The failure of `subject`, the path of what was asked for or a token's URL, if it is too recent to try again.
    pub(super) fn failed_lately(&self, site: &Site, subject: &str, now: SystemTime) -> Option<Error> {
        let (until, error) = self.failures.get(&(key(site), subject.to_owned()))?;
        (now < until).then_some(error)
    }

    /// Keeps that the account may not read what is at a path. It may read the rest of its repository:
    /// rights are by tag at some.
    pub(super) fn denied(&self, site: &Site, path: &str, now: SystemTime) {
        let message = format!("{} refuses {path} to seawall's own account", site.registry.name);
        self.keep_failure(site, path, Error::new(Kind::Refused, message), now + REST);
    }

    /// Keeps that asking for `subject` failed, or was slow.
    pub(super) fn failed(&self, site: &Site, subject: &str, error: Error, now: SystemTime) {
        self.keep_failure(site, subject, error, now + RETRY);
    }

    fn keep_failure(&self, site: &Site, subject: &str, error: Error, until: SystemTime) {
        self.failures.insert((key(site), subject.to_owned()), (until, error));
    }
}

fn resting(registry: &str) -> Error {
    let message = format!("{registry} refused seawall's own account; it is not tried again for some minutes");
    Error::new(Kind::Ours, message)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn login(password: &str) -> Login {
        Login::Password { username: "ci".into(), password: Zeroizing::new(password.into()) }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// What to do to get a login at a second.
    fn said(kept: &Kept, seconds: u64) -> String {
        let password = |login: Arc<Login>| match &*login {
            Login::Password { password, .. } => password.to_string(),
            Login::Identity(_) => unreachable!("a password was kept"),
        };
        match kept.next("lab", at(seconds)) {
            Next::Use(login) => format!("use {}", password(login)),
            Next::Renew(login) => format!("renew {}", password(login)),
            Next::Read => "read".to_owned(),
            Next::None => "none".to_owned(),
            Next::Fail(error) => format!("fail: {}", error.message()),
        }
    }

    fn broken() -> Result<Option<Login>> {
        Err(Error::new(Kind::Ours, "broken"))
    }

    #[test]
    fn a_login_is_read_again_now_and_then_and_used_meanwhile() {
        let mut kept = Kept::default();
        assert_eq!(said(&kept, 0), "read");
        kept.was_read(Ok(Some(login("one"))), at(0));
        for (second, expected) in
            [(0, "use one"), (299, "use one"), (300, "renew one"), (3599, "renew one"), (3600, "read")]
        {
            assert_eq!(said(&kept, second), expected, "{second}");
        }
        kept.was_read(broken(), at(300));
        assert_eq!((said(&kept, 309), said(&kept, 310)), ("use one".to_owned(), "renew one".to_owned()));
        kept.was_read(Ok(None), at(400));
        assert_eq!((said(&kept, 401), said(&kept, 700)), ("none".to_owned(), "read".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_is_not_waited_for_by_every_request() {
        let mut kept = Kept::default();
        kept.was_read(broken(), at(30));
        assert_eq!((said(&kept, 39), said(&kept, 40)), ("fail: broken".to_owned(), "read".to_owned()));
    }

    /// Docker Hub locks a name for ten minutes after some wrong passwords.
    #[test]
    fn a_login_that_was_refused_rests_until_it_is_another() {
        let mut kept = Kept::default();
        kept.was_read(Ok(Some(login("one"))), at(0));
        kept.proof = Proof::Refused(at(1));
        assert!(said(&kept, 9).starts_with("fail: lab refused"));
        assert_eq!(said(&kept, 10), "read");
        kept.was_read(Ok(Some(login("one"))), at(10));
        assert!(said(&kept, 19).starts_with("fail: lab refused"), "the same");
        kept.was_read(Ok(Some(login("two"))), at(20));
        assert_eq!((said(&kept, 20), kept.proof), ("use two".to_owned(), Proof::None));
        kept.proof = Proof::Refused(at(21));
        kept.was_read(Ok(Some(login("two"))), at(21 + 300));
        assert_eq!((said(&kept, 321), kept.proof), ("use two".to_owned(), Proof::None), "rested");
    }

    #[test]
    fn a_refusal_of_one_repository_is_not_one_of_the_login() {
        let mut kept = Kept::default();
        kept.was_read(Ok(Some(login("one"))), at(0));
        kept.proof = Proof::Good(at(0));
        kept.doubt(at(9));
        assert_eq!((said(&kept, 9), kept.proof), ("use one".to_owned(), Proof::Good(at(0))));
        kept.doubt(at(10));
        assert_eq!((said(&kept, 10), kept.proof), ("read".to_owned(), Proof::None), "read and proved once more");
    }
}
