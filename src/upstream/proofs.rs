//! What proves the operator's accounts to registries: a name and a password, or a token.
//!
//! The login goes to the registry itself and to its realms (`Registry::is_realm`), and there only
//! after one request has shown that it is good.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tracing::warn;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::account::{self, Accounts, Key, Next};
use super::auth::Token;
use super::client::Client;
use super::login;
use super::request::{About, RequestBody, build, with_form};
use super::requester::UpstreamCost;
use super::tokens::{MAX_TOKEN_REPLY, Tokens, no_token};
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::ledger::Identity;
use crate::oci::challenge::parse_token_reply;
use crate::oci::login::Login;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;
use crate::task::Coalesced;

/// Shows the operator's accounts to registries.
pub(super) struct Proofs {
    pub(super) tokens: Arc<Tokens>,
    pub(super) accounts: Accounts,
    /// Reads of logins, proofs of them and requests for tokens that are under way: many who need
    /// one cost one.
    reads: Coalesced<Key, ()>,
    proofs: Coalesced<Key, Result<()>>,
    issues: Coalesced<(Key, String), Result<Arc<Token>>>,
}

/// The credential that is shown to a registry, and how it was made.
pub(super) struct Shown {
    pub(super) value: HeaderValue,
    pub(super) proof: Proof,
}

/// What a credential of an account is made of.
pub(super) enum Proof {
    /// A token that was issued at this URL.
    Token(String),
    /// The login itself.
    Login,
}

/// A token service: its origin, and its path and query.
type Realm = (Origin, String);

/// Where a login is proved.
enum Gate {
    /// At the token service, by a token without a scope.
    Realm(Realm),
    /// At the registry, by `/v2/`.
    Registry,
}

impl Proofs {
    pub(super) fn new(tokens: Arc<Tokens>) -> Proofs {
        Proofs {
            tokens,
            accounts: Accounts::default(),
            reads: Coalesced::default(),
            proofs: Coalesced::default(),
            issues: Coalesced::default(),
        }
    }

    fn client(&self) -> &Arc<Client> {
        &self.tokens.client
    }

    /// The credential of the account for `site`, as far as it is known how the registry wants to be
    /// asked. `None`: that is not known, or the operator has no account there.
    ///
    /// # Errors
    /// The account cannot be used now.
    pub(super) async fn presented(
        self: &Arc<Self>,
        site: &Site,
        repository: &Repository,
        cost: &Arc<UpstreamCost>,
    ) -> Result<Option<Shown>> {
        if let Some(url) = self.tokens.auth.token_url(&site.namespace, repository) {
            let token = self.token(site, &url, cost).await?;
            return Ok(token.map(|token| Shown { value: token.authorization(), proof: Proof::Token(url) }));
        }
        if !self.tokens.auth.wants_basic(&site.namespace) {
            return Ok(None);
        }
        let Some(login) = self.good_login(site, Gate::Registry, cost).await? else { return Ok(None) };
        let no_password = || {
            Error::new(
                Kind::Ours,
                format!(
                    "{} accepts a name and a password, and seawall's account has an identity token",
                    site.registry.name
                ),
            )
        };
        let value = basic(&login).ok_or_else(no_password)?;
        Ok(Some(Shown { value, proof: Proof::Login }))
    }

    /// Whether the login for `site` is good, as far as it is known how the registry wants to be asked.
    ///
    /// # Errors
    /// It is not, or cannot be used now.
    pub(super) async fn try_login(
        self: &Arc<Self>,
        site: &Site,
        repository: &Repository,
        cost: &Arc<UpstreamCost>,
    ) -> Result<()> {
        let gate = match self.tokens.auth.token_url(&site.namespace, repository) {
            Some(url) => gate_of(&realm(site, &url)?),
            None if self.tokens.auth.wants_basic(&site.namespace) => Gate::Registry,
            None => return self.login(site).await.map(drop),
        };
        self.good_login(site, gate, cost).await.map(drop)
    }

    /// A token of the account.
    async fn token(self: &Arc<Self>, site: &Site, url: &str, cost: &Arc<UpstreamCost>) -> Result<Option<Arc<Token>>> {
        let now = self.client().clock.now();
        if let Some(token) = self.accounts.token(site, url, now) {
            return Ok(Some(token));
        }
        if let Some(error) = self.accounts.failed_lately(site, url, now) {
            return Err(error);
        }
        let realm = realm(site, url).inspect_err(|error| {
            warn!("{error}");
            self.accounts.failed(site, url, error.clone(), now);
        })?;
        let Some(login) = self.good_login(site, gate_of(&realm), cost).await? else { return Ok(None) };
        let (this, site, url, cost) = (self.clone(), site.clone(), url.to_owned(), cost.clone());
        let key = (account::key(&site), url.clone());
        let work = move || async move {
            let issued = this.issued(&site, &realm, login, &cost).await;
            match &issued {
                Ok(token) => this.accounts.keep_token(&site, &url, token.clone()),
                Err(error) => this.accounts.failed(&site, &url, error.clone(), this.client().clock.now()),
            }
            issued
        };
        self.issues.run(key, work).await.map(Some)
    }

    /// The login for `site`, once one request has shown that it is good.
    async fn good_login(
        self: &Arc<Self>,
        site: &Site,
        gate: Gate,
        cost: &Arc<UpstreamCost>,
    ) -> Result<Option<Arc<Login>>> {
        let Some(login) = self.login(site).await? else { return Ok(None) };
        if self.accounts.is_good(site, &login) {
            return Ok(Some(login));
        }
        let key = account::key(site);
        let (this, tried, site, cost) = (self.clone(), login.clone(), site.clone(), cost.clone());
        let work = move || async move { this.prove(&site, gate, &tried, &cost).await };
        self.proofs.run(key, work).await?;
        Ok(Some(login))
    }

    /// The login for `site`, if the operator has one there.
    async fn login(self: &Arc<Self>, site: &Site) -> Result<Option<Arc<Login>>> {
        for _ in 0..2 {
            match self.accounts.next(site, self.client().clock.now()) {
                Next::Use(login) => return Ok(Some(login)),
                Next::None => return Ok(None),
                Next::Fail(error) => return Err(error),
                Next::Renew(login) => {
                    let (this, site) = (self.clone(), site.clone());
                    self.client().tasks.spawn(async move { this.read_login(&site).await });
                    return Ok(Some(login));
                }
                Next::Read => self.read_login(site).await,
            }
        }
        Err(Error::new(
            Kind::Ours,
            format!("the login of seawall's account for {} changed while it was read", site.registry.name),
        ))
    }

    async fn read_login(self: &Arc<Self>, site: &Site) {
        let (this, site) = (self.clone(), site.clone());
        let key = account::key(&site);
        let work = move || async move {
            let read = login::read(&site).await;
            if read.is_err() {
                this.client().metrics.account_failed(&site.registry.name);
            }
            this.accounts.was_read(&site, read, this.client().clock.now());
        };
        self.reads.run(key, work).await;
    }

    /// Sends one request with a login, and keeps whether it is good.
    async fn prove(&self, site: &Site, gate: Gate, login: &Arc<Login>, cost: &UpstreamCost) -> Result<()> {
        let (request, about) = match &gate {
            Gate::Realm(realm) => (token_request(realm, login)?, about_token(site, cost)),
            Gate::Registry => {
                let request = build(&Method::GET, &site.origin, "/v2/", &HeaderMap::new(), basic(login).as_ref())?;
                (request, About::new(&site.registry.name, route::Kind::Other, cost))
            }
        };
        let status = self.client().send(about, request).await?.status();
        let now = self.client().clock.now();
        match status.as_u16() {
            401 | 403 => {
                self.client().metrics.account_failed(&site.registry.name);
                Err(self.accounts.refused(site, login, now))
            }
            429 => Err(Error::new(Kind::Limited, unwilling(site, status))),
            500.. => Err(Error::new(Kind::Broken, unwilling(site, status))),
            _ => {
                self.accounts.accepted(site, login, now);
                Ok(())
            }
        }
    }

    /// A token for a login that was good; if that is no longer so, for the one that is now.
    async fn issued(
        self: &Arc<Self>,
        site: &Site,
        realm: &Realm,
        login: Arc<Login>,
        cost: &Arc<UpstreamCost>,
    ) -> Result<Arc<Token>> {
        let issued = self.issue(site, realm, &login, cost).await;
        if !issued.as_ref().is_err_and(|error| error.kind() == Kind::Refused) {
            return issued;
        }
        self.accounts.doubt(site, self.client().clock.now());
        if self.accounts.is_good(site, &login) {
            return issued;
        }
        match self.good_login(site, gate_of(realm), cost).await? {
            Some(login) => self.issue(site, realm, &login, cost).await,
            None => issued,
        }
    }

    async fn issue(&self, site: &Site, realm: &Realm, login: &Login, cost: &UpstreamCost) -> Result<Arc<Token>> {
        let request = token_request(realm, login)?;
        let response = self.client().send(about_token(site, cost), request).await?.response;
        let status = response.status();
        match status.as_u16() {
            200 => {}
            401 | 403 => return Err(Error::new(Kind::Refused, unwilling(site, status))),
            429 => return Err(Error::new(Kind::Limited, unwilling(site, status))),
            _ => return Err(Error::new(Kind::Broken, unwilling(site, status))),
        }
        let body = Zeroizing::new(self.client().collect(response.into_body(), MAX_TOKEN_REPLY).await?.to_vec());
        let reply = parse_token_reply(&body).ok_or_else(|| no_token(&realm.0))?;
        Ok(Arc::new(Token::new(reply, self.client().clock.now())))
    }
}

/// A request for a token of the operator's account.
fn about_token<'a>(site: &'a Site, cost: &'a UpstreamCost) -> About<'a> {
    let applicant = Some(Identity::Account);
    About { applicant, ..About::new(&site.registry.name, route::Kind::Token, cost) }
}

fn unwilling(site: &Site, status: StatusCode) -> String {
    format!("{} answered {} to seawall's own account", site.registry.name, status.as_u16())
}

/// The token service at `url`, if the account may be sent there.
fn realm(site: &Site, url: &str) -> Result<Realm> {
    let registry = &site.registry.name;
    let realm = Origin::from_url(url)
        .map_err(|error| Error::caused(Kind::Broken, format!("{registry} has no usable realm"), error))?;
    if site.registry.is_realm(&realm.0) {
        return Ok(realm);
    }
    let message = format!(
        "{registry} names {} as its token service, which is none of its hosts: seawall's account is not sent there. \
         If it is right, add it to `realms` of that [[registry]]",
        realm.0.authority()
    );
    Err(Error::new(Kind::Ours, message))
}

/// Where a login is proved: at the token service, whatever it is for.
fn gate_of(realm: &Realm) -> Gate {
    Gate::Realm((realm.0.clone(), without_scope(&realm.1)))
}

fn without_scope(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("scope=")).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

fn basic(login: &Login) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(login.basic()?.as_str()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A GET with a name and a password (distribution-spec, auth/token.md), a POST with an identity
/// token (auth/oauth.md).
fn token_request(realm: &Realm, login: &Login) -> Result<Request<RequestBody>> {
    let (origin, target) = realm;
    let Login::Identity(identity) = login else {
        return build(&Method::GET, origin, target, &HeaderMap::new(), basic(login).as_ref());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut form = Serializer::new(query.to_owned());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "seawall");
    let form = form.append_pair("refresh_token", identity).finish();
    let mut request = build(&Method::POST, origin, path, &HeaderMap::new(), None)?;
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(with_form(request.map(drop), form))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_identity_token_is_posted_and_never_in_the_url() {
        let realm = Origin::from_url("https://acr.io/oauth2/token?service=acr.io&scope=repository%3Aa%3Apull").unwrap();
        let login = Login::Identity(Zeroizing::new("i/d+".to_owned()));
        let request = token_request(&realm, &login).unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::POST, "https://acr.io/oauth2/token")
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let expected = "service=acr.io&scope=repository%3Aa%3Apull&grant_type=refresh_token&client_id=seawall&refresh_token=i%2Fd%2B";
        assert_eq!(body, expected);
    }

    #[test]
    fn a_token_that_proves_a_login_has_no_scope() {
        for (target, expected) in [
            ("/token?service=s&scope=repository%3Aa%3Apull", "/token?service=s"),
            ("/token?scope=aws", "/token"),
            ("/token", "/token"),
            ("/proxy_auth?scope=a&service=s&scope=b", "/proxy_auth?service=s"),
        ] {
            assert_eq!(without_scope(target), expected);
        }
    }
}
