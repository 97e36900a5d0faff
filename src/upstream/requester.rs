//! Who asks upstream, with which credential, and what it costs.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue};
use moka::sync::Cache;
use zeroize::Zeroizing;

use crate::http::via;
use crate::lane::Applicants;
use crate::ledger::Identity;
use crate::lru::lru;
use crate::policy::budget::Tenant;
use crate::policy::chain::{Reach, Source};
use crate::policy::quota::Aim;

/// A keyed hash of a credential. The key is this process's own, so the hash means nothing
/// elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// The name of a login that was proved before upstream was unreachable. It is made of keyed hashes,
/// the first eight bytes of one of the account, the rest of a slow one of all of it, and says
/// nothing of the credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginId(pub [u8; 24]);

impl fmt::Debug for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginId")
    }
}

/// Who a client is, as far as registries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// No credential, or a token that was issued to an anonymous request.
    Anonymous,
    /// The operator's account of the registry that is asked, for what the operator shares.
    Account,
    /// A credential of a client's own.
    Known(Fingerprint),
    /// A login that was good before upstream was unreachable. There is nothing to show to upstream,
    /// which is asked as anonymous.
    Remembered(LoginId),
}

impl Credential {
    /// As whom upstream is asked for it.
    #[must_use]
    pub fn asked_as(self) -> Credential {
        match self {
            Credential::Remembered(_) => Credential::Anonymous,
            other => other,
        }
    }

    /// Whose quota its requests count against.
    pub fn identity(self) -> Identity {
        match self {
            Credential::Anonymous | Credential::Remembered(_) => Identity::Anonymous,
            Credential::Account => Identity::Account,
            Credential::Known(Fingerprint(print)) => Identity::Client(print),
        }
    }
}

/// Whose credential is shown to upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// The client's own, if it has one.
    Own,
    /// The operator's account, for what the operator shares.
    Account,
    /// The operator's account, for what is public.
    AccountForAll,
}

/// Who asks, with which credential, and what the answer costs.
#[derive(Clone)]
pub struct Requester {
    /// Who asks. The operator's account has a credential like every client.
    pub credential: Credential,
    /// Whose credential is shown.
    pub payer: Payer,
    /// Whether the requester is known to have a grant for the repository.
    pub reach: Reach,
    /// The client's own `Authorization`; for the registry's own origin only.
    pub authorization: Option<HeaderValue>,
    /// The `Via` of seawalls that had the client's request before: it is sent on, and a loop of
    /// several is found by it.
    pub via: Option<HeaderValue>,
    /// What was asked of upstream for this requester.
    pub cost: Arc<UpstreamCost>,
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.credential, f)
    }
}

impl Requester {
    /// The same requester, with the operator's account.
    #[must_use]
    pub fn on_account(self) -> Requester {
        Requester { credential: Credential::Account, payer: Payer::Account, authorization: None, ..self }
    }

    /// The same requester, for what is public, paid for by the operator's account.
    #[must_use]
    pub fn on_account_for_all(self) -> Requester {
        Requester { payer: Payer::AccountForAll, ..self }
    }

    /// The same requester, by an offline token that represents a login.
    #[must_use]
    pub fn representing(self, login: LoginId) -> Requester {
        Requester { credential: Credential::Remembered(login), authorization: None, ..self }
    }

    /// The same requester, with the `Via` of these headers.
    #[must_use]
    pub fn through(self, headers: &HeaderMap) -> Requester {
        Requester { via: via::seawalls(headers), ..self }
    }

    /// The same requester, known to be granted to read.
    #[must_use]
    pub fn granted(self) -> Requester {
        Requester { reach: Reach::Allowed, ..self }
    }

    /// Anonymous, instead of this one: a question of seawall's own.
    #[must_use]
    pub fn as_anonymous(&self) -> Requester {
        let (via, cost) = (self.via.clone(), self.cost.clone());
        Requester {
            credential: Credential::Anonymous,
            payer: Payer::Own,
            reach: Reach::Unknown,
            authorization: None,
            via,
            cost,
        }
    }

    /// The same requester, of this share.
    #[must_use]
    pub fn of(self, tenant: Tenant) -> Requester {
        let mut cost = self.cost;
        match Arc::get_mut(&mut cost) {
            Some(own) => own.applicants = Applicants::new(tenant),
            None => cost = Arc::new(UpstreamCost::of(tenant)),
        }
        Requester { cost, ..self }
    }

    /// An anonymous requester instead of this one, with the account of another source if it has
    /// one.
    pub(super) fn at_source(&self, source: &Source) -> Requester {
        let payer = source.site.registry.account.as_ref().map_or(Payer::Own, |_| Payer::AccountForAll);
        Requester { payer, reach: self.reach, ..self.as_anonymous() }
    }
}

/// What one client's request made seawall ask of upstream.
#[derive(Debug)]
pub struct UpstreamCost {
    applicants: Applicants,
    requests: AtomicU32,
    charged: AtomicU32,
    pinned: AtomicBool,
    served_by: OnceLock<Arc<str>>,
}

impl Default for UpstreamCost {
    /// Of seawall's own questions.
    fn default() -> UpstreamCost {
        UpstreamCost::of(Tenant::own())
    }
}

impl UpstreamCost {
    /// Of a client there.
    pub fn of(tenant: Tenant) -> UpstreamCost {
        UpstreamCost {
            applicants: Applicants::new(tenant),
            requests: AtomicU32::default(),
            charged: AtomicU32::default(),
            pinned: AtomicBool::default(),
            served_by: OnceLock::default(),
        }
    }

    /// Whose share of the places upstream it takes.
    pub fn applicants(&self) -> &Applicants {
        &self.applicants
    }

    /// Counts one more request.
    pub fn add_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more request that upstream counts as a pull.
    pub fn add_charge(&self) {
        self.charged.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the request is for what is pinned: the last pulls are reserved for that.
    pub fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }

    /// What a pull for this request is for.
    pub fn aim(&self) -> Aim {
        if self.pinned.load(Ordering::Relaxed) { Aim::Pinned } else { Aim::Floating }
    }

    /// Notes that another source than the registry answered; the first one is kept.
    pub fn served_by(&self, source: &Arc<str>) {
        let _ = self.served_by.set(source.clone());
    }

    /// The source that answered instead of the registry, if one did.
    pub fn source(&self) -> Option<&str> {
        self.served_by.get().map(|source| &**source)
    }

    /// The number of requests that were sent.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The number of requests that upstream counted as pulls.
    pub fn charged(&self) -> u32 {
        self.charged.load(Ordering::Relaxed)
    }
}

/// Tells credentials apart without keeping them.
#[derive(Debug)]
pub struct Keyring {
    key: hmac::Key,
    /// Tokens that were issued to anonymous requests, and until when they are valid.
    anonymous: Cache<Fingerprint, SystemTime>,
}

impl Default for Keyring {
    fn default() -> Keyring {
        Keyring::new()
    }
}

impl Keyring {
    /// A keyring with a new key.
    pub fn new() -> Keyring {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rng).expect("the system gives random bytes");
        Keyring { key, anonymous: lru(20_000) }
    }

    fn fingerprint(&self, authorization: &[u8]) -> Fingerprint {
        let tag = hmac::sign(&self.key, authorization);
        let mut short = [0; 16];
        short.copy_from_slice(&tag.as_ref()[..16]);
        Fingerprint(short)
    }

    /// The requester that sent this `Authorization`.
    pub fn requester(&self, authorization: Option<&HeaderValue>, now: SystemTime) -> Requester {
        let credential = match authorization.map(|value| self.fingerprint(canonical(value.as_bytes()).as_slice())) {
            None => Credential::Anonymous,
            Some(print) if self.anonymous.get(&print).is_some_and(|until| now < until) => Credential::Anonymous,
            Some(print) => Credential::Known(print),
        };
        let authorization = authorization.cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Requester {
            credential,
            payer: Payer::Own,
            reach: Reach::Unknown,
            authorization,
            via: None,
            cost: Arc::default(),
        }
    }

    /// Remembers that `token` was issued to a request without credentials.
    pub fn remember_anonymous(&self, token: &str, good_for: Duration, now: SystemTime) {
        self.anonymous.insert(self.bearer(token), now + good_for);
    }

    /// The fingerprint of a client that will show this token.
    pub fn bearer(&self, token: &str) -> Fingerprint {
        self.fingerprint(Zeroizing::new(format!("bearer {token}")).as_bytes())
    }
}

/// The scheme's case does not matter (RFC 9110, 11.1), the rest does.
fn canonical(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let end = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
    let mut value = Zeroizing::new(value.to_vec());
    value[..end].make_ascii_lowercase();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_issued_to_anonymous_are_anonymous_while_they_are_valid() {
        let (ring, now) = (Keyring::new(), SystemTime::UNIX_EPOCH);
        let bearer = HeaderValue::from_static("bEARER abc");
        assert!(matches!(ring.requester(Some(&bearer), now).credential, Credential::Known(_)));
        ring.remember_anonymous("abc", Duration::from_secs(60), now);
        assert_eq!(ring.requester(Some(&bearer), now).credential, Credential::Anonymous);
        let later = now + Duration::from_secs(60);
        assert!(matches!(ring.requester(Some(&bearer), later).credential, Credential::Known(_)));
        let other = HeaderValue::from_static("Bearer ABC");
        assert!(matches!(ring.requester(Some(&other), now).credential, Credential::Known(_)));
        assert_eq!(ring.requester(None, now).credential, Credential::Anonymous);
    }

    /// Invariant 8: `Authorization` never enters a key but as a keyed hash, never a log.
    #[test]
    fn authorization_never_enters_a_key_or_a_log() {
        let (ring, now) = (Keyring::new(), SystemTime::UNIX_EPOCH);
        let secret = HeaderValue::from_static("Basic aHVudGVyMg==");
        let requester = ring.requester(Some(&secret), now);
        let printed = format!("{requester:?} {:?} {:?}", requester.credential, requester.authorization);
        assert!(!printed.contains("aHVudGVyMg"), "{printed}");
        let elsewhere = Keyring::new().requester(Some(&secret), now);
        assert_ne!(requester.credential, elsewhere.credential, "another process, another hash");
        assert_eq!(requester.credential, ring.requester(Some(&secret), now).credential);
    }
}
