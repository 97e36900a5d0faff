//! The operator's account: where its login comes from, and the tokens that were issued for it.
//!
//! - A login is read anew every few minutes: secrets are rotated, ECR's are good for twelve hours, gcloud's for one.
//! - What cannot be read now is used as it was last read.
//! - A login that was refused is not sent again until it is another one, or some time has passed: Docker Hub locks accounts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;
use tracing::warn;
use zeroize::Zeroizing;

use super::auth::Token;
use super::program;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::oci::login::{DockerConfig, Entry, Login};
use crate::policy::access::within;
use crate::policy::registry::{Account, Site};
use crate::task::{self, Coalesced, Tasks};

/// How long a login is used before it is read anew.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long one that was refused rests.
const REST: Duration = Duration::from_secs(5 * 60);
/// How soon one that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// One account at one host: the registry's name, and where it is dialled.
pub(super) type Key = (Arc<str>, String);

pub(super) fn key(site: &Site) -> Key {
    (site.registry.name.clone(), site.origin.authority())
}

/// All accounts.
pub(super) struct Accounts {
    kept: Mutex<HashMap<Key, Kept>>,
    reads: Coalesced<Key, Result<Arc<Login>>>,
    tokens: Cache<(Key, String), Arc<Token>>,
    pub(super) asked: Coalesced<(Key, String), Result<Arc<Token>>>,
}

/// A login, and what became of it.
#[derive(Clone, Default)]
struct Kept {
    login: Option<Arc<Login>>,
    read: Option<SystemTime>,
    failed: Option<(SystemTime, Error)>,
    refused: Option<SystemTime>,
}

impl Default for Accounts {
    fn default() -> Accounts {
        let policy = moka::policy::EvictionPolicy::lru();
        let tokens = Cache::builder().max_capacity(10_000).eviction_policy(policy).build();
        Accounts { kept: Mutex::default(), reads: Coalesced::default(), tokens, asked: Coalesced::default() }
    }
}

impl Accounts {
    /// The login of the operator's account at `site`.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it was refused a moment ago.
    pub(super) async fn login(&self, tasks: &Tasks, clock: &Clock, site: &Site) -> Result<Arc<Login>> {
        let (key, now) = (key(site), clock.now());
        let kept = self.kept.lock().get(&key).cloned().unwrap_or_default();
        if let Some(login) = kept.login.clone().filter(|_| kept.refused.is_none() && within(kept.read, FRESH, now)) {
            return Ok(login);
        }
        if let Some((_, error)) = kept.failed.as_ref().filter(|(at, _)| within(Some(*at), RETRY, now)) {
            return kept.login.clone().filter(|_| kept.refused.is_none()).ok_or_else(|| error.clone());
        }
        let (source, asked) = (site.registry.account.clone(), site.clone());
        let read = self.reads.run(tasks, key.clone(), move || read(source, asked)).await;
        self.remember(key, kept, read, now)
    }

    fn remember(&self, key: Key, kept: Kept, read: Result<Arc<Login>>, now: SystemTime) -> Result<Arc<Login>> {
        let (next, answer) = match read {
            Ok(login) => {
                let same = kept.login.as_ref() == Some(&login);
                let refused = kept.refused.filter(|at| same && within(Some(*at), REST, now));
                let answer = if refused.is_some() { Err(resting(&key.0)) } else { Ok(login.clone()) };
                (Kept { login: Some(login), read: Some(now), failed: None, refused }, answer)
            }
            Err(error) => {
                warn!(registry = %key.0, %error, "the operator's account cannot be read");
                let last = kept.login.clone().filter(|_| kept.refused.is_none());
                (Kept { failed: Some((now, error.clone())), ..kept }, last.ok_or(error))
            }
        };
        self.kept.lock().insert(key, next);
        answer
    }

    /// `login` was not taken.
    pub(super) fn refused(&self, site: &Site, login: &Arc<Login>, now: SystemTime) {
        let mut all = self.kept.lock();
        let Some(kept) = all.get_mut(&key(site)).filter(|kept| kept.login.as_ref() == Some(login)) else { return };
        if kept.refused.replace(now).is_none() {
            warn!(registry = %site.registry.name, host = %site.origin.host, "the operator's account was refused");
        }
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
}

fn resting(registry: &str) -> Error {
    let message = format!("{registry} refused seawall's own account; it is not tried again for some minutes");
    Error::new(Kind::Refused, message)
}

async fn read(source: Option<Account>, site: Site) -> Result<Arc<Login>> {
    let name = &site.registry.name;
    let wrong = |error: String| {
        Error::caused(Kind::Ours, format!("seawall's account for {name} cannot be read: its log says why"), error)
    };
    let login = match source {
        None => return Err(wrong("there is none".to_owned())),
        Some(Account::Password { username, file }) => {
            let read = task::blocking(move || password(&file)).await.map_err(wrong)?;
            Login::Password { username: username.to_string(), password: read }
        }
        Some(Account::DockerConfig(file)) => {
            let hosts = hosts(&site);
            let entry = task::blocking(move || entry(&file, &hosts)).await.map_err(wrong)?;
            match entry {
                Entry::Login(login) => login,
                Entry::Program { name, server, otherwise } => match program::ask(&name, &server).await {
                    Ok(login) => login,
                    Err(error) => otherwise.ok_or_else(|| wrong(error.to_string()))?,
                },
            }
        }
    };
    Ok(Arc::new(login))
}

/// What the file of a password holds, without the line's end.
///
/// # Errors
/// It cannot be read, or holds nothing.
pub fn password(file: &Path) -> std::result::Result<Zeroizing<String>, String> {
    let text = Zeroizing::new(crate::fs::read_to_string(file).map_err(|error| error.to_string())?);
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if password.is_empty() { Err(format!("{} is empty", file.display())) } else { Ok(password) }
}

/// What docker's configuration says of a registry that goes by any of `hosts`.
///
/// # Errors
/// It cannot be read, makes no sense, or says nothing of it.
pub fn entry(file: &Path, hosts: &[String]) -> std::result::Result<Entry, String> {
    let text = Zeroizing::new(crate::fs::read(file).map_err(|error| error.to_string())?);
    let config = DockerConfig::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let entry = config.entry(hosts).map_err(|error| format!("{}: {error}", file.display()))?;
    entry.ok_or_else(|| format!("{} has no login for {}", file.display(), hosts.join(" or ")))
}

/// What the registry may be called in docker's configuration: where it is dialled first.
fn hosts(site: &Site) -> Vec<String> {
    let known = site.registry.hosts.iter().filter(|host| !host.is_wildcard()).map(ToString::to_string);
    let one = site.namespace == site.registry.name;
    let others = std::iter::once(site.registry.name.to_string()).chain(known).filter(|_| one);
    std::iter::once(site.origin.authority()).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::{Registries, Registry};

    fn site(account: Account) -> Site {
        let registry = Registry {
            name: "docker.io".into(),
            hosts: vec!["registry-1.docker.io".parse().unwrap(), "index.docker.io".parse().unwrap()],
            upstream: Some(Origin::from_url("https://registry-1.docker.io").unwrap().0),
            account: Some(account),
            ..Registry::default()
        };
        Registries::new(vec![registry]).by_name("docker.io").unwrap()
    }

    struct World {
        accounts: Accounts,
        tasks: Tasks,
        clock: Clock,
        file: tempfile::NamedTempFile,
        site: Site,
    }

    impl World {
        fn new(password: &str) -> World {
            let file = tempfile::NamedTempFile::new().unwrap();
            let account = Account::Password { username: "ci".into(), file: file.path().to_owned() };
            let world = World {
                accounts: Accounts::default(),
                tasks: Tasks::new(),
                clock: Clock::system(),
                file,
                site: site(account),
            };
            world.write(password);
            world
        }

        fn write(&self, password: &str) {
            crate::fs::replace(self.file.path(), 0o600, password.as_bytes()).unwrap();
        }

        async fn login(&self) -> std::result::Result<String, String> {
            let login = self.accounts.login(&self.tasks, &self.clock, &self.site).await;
            let login = login.map_err(|error| error.message().to_owned())?;
            match &*login {
                Login::Password { username, password } => Ok(format!("{username}:{}", password.as_str())),
                Login::Identity(_) => panic!("a password was written"),
            }
        }

        async fn refuse(&self) {
            let login = self.accounts.login(&self.tasks, &self.clock, &self.site).await.unwrap();
            self.accounts.refused(&self.site, &login, self.clock.now());
        }
    }

    #[tokio::test]
    async fn a_login_is_read_anew_now_and_then() {
        let world = World::new("one\n");
        assert_eq!(world.login().await.unwrap(), "ci:one");
        world.write("two");
        assert_eq!(world.login().await.unwrap(), "ci:one");
        world.clock.advance(FRESH);
        assert_eq!(world.login().await.unwrap(), "ci:two");
    }

    /// Docker Hub locks a name for ten minutes after some wrong passwords.
    #[tokio::test]
    async fn a_login_that_was_refused_rests_until_it_is_another() {
        let world = World::new("one");
        world.refuse().await;
        assert!(world.login().await.unwrap_err().contains("refused seawall's own account"));
        world.write("two");
        assert_eq!(world.login().await.unwrap(), "ci:two", "a new secret is tried at once");
        world.refuse().await;
        world.clock.advance(REST);
        assert_eq!(world.login().await.unwrap(), "ci:two", "rested");
    }

    #[tokio::test]
    async fn what_cannot_be_read_now_is_used_as_it_was() {
        let world = World::new("one");
        assert_eq!(world.login().await.unwrap(), "ci:one");
        world.write("");
        world.clock.advance(FRESH);
        assert_eq!(world.login().await.unwrap(), "ci:one");
        let nothing = World::new("");
        let error = nothing.login().await.unwrap_err();
        assert_eq!(error, "seawall's account for docker.io cannot be read: its log says why");
        nothing.write("two");
        nothing.clock.advance(RETRY);
        assert_eq!(nothing.login().await.unwrap(), "ci:two");
    }

    #[test]
    fn dockers_names_for_a_registry() {
        let account = Account::DockerConfig("x".into());
        let expected = ["registry-1.docker.io", "docker.io", "registry-1.docker.io", "index.docker.io"];
        assert_eq!(hosts(&site(account)), expected);
    }
}
