//! What proves the operator's account to a registry: a name and a password, or a token.
//!
//! The login goes to the registry itself and to its realms (`Registry::is_realm`), and there only after one request has shown that it
//! is good.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tracing::warn;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::account::{self, Next};
use super::auth::Token;
use super::client::Upstream;
use super::quota::Applicant;
use super::request::{About, RequestBody, Wire, build};
use super::requester::UpstreamCost;
use super::send::MAX_TOKEN_REPLY;
use super::source;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::ledger::Identity;
use crate::oci::challenge::parse_token_reply;
use crate::oci::login::Login;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;

/// What is shown to a registry, and what it is made of.
pub(super) struct Shown {
    pub(super) value: HeaderValue,
    pub(super) proof: Proof,
}

/// What proves an account.
pub(super) enum Proof {
    /// A token that was issued at this URL.
    Token(String),
    /// The login itself.
    Login,
}

/// Where a login is proved.
enum Gate {
    /// At the token service, by a token for nothing.
    Realm(Origin, String),
    /// At the registry, by `/v2/`.
    Registry,
}

impl Upstream {
    /// What proves the account to `site`, as far as it is known how it wants that. `None`: it is not, or the operator has none there.
    ///
    /// # Errors
    /// The account cannot be used now.
    pub(super) async fn presented(
        &self,
        site: &Site,
        repository: &Repository,
        cost: &Arc<UpstreamCost>,
    ) -> Result<Option<Shown>> {
        if let Some(url) = self.0.auth.token_url(&site.namespace, repository) {
            let token = self.account_token(site, &url, cost).await?;
            return Ok(token.map(|token| Shown { value: token.authorization(), proof: Proof::Token(url) }));
        }
        if !self.0.auth.wants_basic(&site.namespace) {
            return Ok(None);
        }
        let Some(login) = self.good_login(site, Gate::Registry, cost).await? else { return Ok(None) };
        let no_password = || Error::new(Kind::Ours, format!("{} takes no identity token", site.registry.name));
        let value = basic(&login).ok_or_else(no_password)?;
        Ok(Some(Shown { value, proof: Proof::Login }))
    }

    /// A token of the account; many who want it cost one request.
    async fn account_token(&self, site: &Site, url: &str, cost: &Arc<UpstreamCost>) -> Result<Option<Arc<Token>>> {
        let now = self.0.clock.now();
        if let Some(token) = self.0.accounts.token(site, url, now) {
            return Ok(Some(token));
        }
        if let Some(error) = self.0.accounts.in_vain(site, url, now) {
            return Err(error);
        }
        let realm = realm(site, url).inspect_err(|error| {
            warn!("{error}");
            self.0.accounts.failed(site, url, error.clone(), now);
        })?;
        let gate = Gate::Realm(realm.0.clone(), without_scope(&realm.1));
        let Some(login) = self.good_login(site, gate, cost).await? else { return Ok(None) };
        let (upstream, site, url, cost) = (self.clone(), site.clone(), url.to_owned(), cost.clone());
        let key = (account::key(&site), url.clone());
        let work = move || async move {
            let issued = upstream.issued(&site, &realm, login, &cost).await;
            let now = upstream.0.clock.now();
            match &issued {
                Ok(token) => upstream.0.accounts.keep_token(&site, &url, token.clone()),
                Err(error) => upstream.0.accounts.failed(&site, &url, error.clone(), now),
            }
            issued
        };
        self.0.accounts.asked.run(key, work).await.map(Some)
    }

    /// The login at `site`, once it was seen to be good.
    async fn good_login(&self, site: &Site, gate: Gate, cost: &Arc<UpstreamCost>) -> Result<Option<Arc<Login>>> {
        let Some(login) = self.login(site).await? else { return Ok(None) };
        if self.0.accounts.is_good(site, &login) {
            return Ok(Some(login));
        }
        let key = account::key(site);
        let (upstream, tried, site, cost) = (self.clone(), login.clone(), site.clone(), cost.clone());
        let work = move || async move { upstream.prove(&site, gate, &tried, &cost).await };
        self.0.accounts.proofs.run(key, work).await?;
        Ok(Some(login))
    }

    /// The login at `site`, if the operator has one there.
    async fn login(&self, site: &Site) -> Result<Option<Arc<Login>>> {
        for _ in 0..2 {
            match self.0.accounts.next(site, self.0.clock.now()) {
                Next::Use(login) => return Ok(Some(login)),
                Next::None => return Ok(None),
                Next::Fail(error) => return Err(error),
                Next::Renew(login) => {
                    let (upstream, site) = (self.clone(), site.clone());
                    self.0.tasks.spawn(async move { upstream.read_login(&site).await });
                    return Ok(Some(login));
                }
                Next::Read => self.read_login(site).await,
            }
        }
        Err(Error::new(Kind::Ours, format!("seawall's account for {} changes too fast", site.registry.name)))
    }

    async fn read_login(&self, site: &Site) {
        let (upstream, site) = (self.clone(), site.clone());
        let key = account::key(&site);
        let work = move || async move {
            let read = source::read(&site).await;
            if read.is_err() {
                upstream.0.metrics.account_failed(&site.registry.name);
            }
            upstream.0.accounts.was_read(&site, read, upstream.0.clock.now());
        };
        self.0.accounts.reads.run(key, work).await;
    }

    async fn prove(&self, site: &Site, gate: Gate, login: &Arc<Login>, cost: &UpstreamCost) -> Result<()> {
        let (request, kind) = match &gate {
            Gate::Realm(origin, target) => (token_request(origin, target, login)?, route::Kind::Token),
            Gate::Registry => {
                let fields = HeaderMap::new();
                let request = build(&Method::GET, &site.origin, "/v2/", &fields, basic(login).as_ref())?;
                (request, route::Kind::Other)
            }
        };
        let about = About { registry: &site.registry.name, kind, cost, debit: None };
        let status = self.send(about, Wire::Any, request).await?.status();
        let now = self.0.clock.now();
        match status.as_u16() {
            401 | 403 => {
                self.0.metrics.account_failed(&site.registry.name);
                Err(self.0.accounts.refused(site, login, now))
            }
            429 => Err(Error::new(Kind::Limited, unwilling(site, status))),
            500.. => Err(Error::new(Kind::Broken, unwilling(site, status))),
            _ => {
                self.0.accounts.accepted(site, login, now);
                Ok(())
            }
        }
    }

    /// A token for a login that was good; if that is no longer so, for the one that is now.
    async fn issued(
        &self,
        site: &Site,
        realm: &(Origin, String),
        login: Arc<Login>,
        cost: &Arc<UpstreamCost>,
    ) -> Result<Arc<Token>> {
        let issued = self.issue(site, realm, &login, cost).await;
        if !issued.as_ref().is_err_and(|error| error.kind() == Kind::Refused) {
            return issued;
        }
        self.0.accounts.doubt(site, self.0.clock.now());
        if self.0.accounts.is_good(site, &login) {
            return issued;
        }
        let gate = Gate::Realm(realm.0.clone(), without_scope(&realm.1));
        match self.good_login(site, gate, cost).await? {
            Some(login) => self.issue(site, realm, &login, cost).await,
            None => issued,
        }
    }

    async fn issue(
        &self,
        site: &Site,
        realm: &(Origin, String),
        login: &Login,
        cost: &UpstreamCost,
    ) -> Result<Arc<Token>> {
        let request = token_request(&realm.0, &realm.1, login)?;
        let about = About { registry: &site.registry.name, kind: route::Kind::Token, cost, debit: None };
        let response = self.send(about, Wire::Any, request).await?;
        let status = response.status();
        match status.as_u16() {
            200 => {}
            401 | 403 => return Err(Error::new(Kind::Refused, unwilling(site, status))),
            429 => return Err(Error::new(Kind::Limited, unwilling(site, status))),
            _ => return Err(Error::new(Kind::Broken, unwilling(site, status))),
        }
        let body = Zeroizing::new(self.collect(response.into_body(), MAX_TOKEN_REPLY).await?.to_vec());
        let reply = parse_token_reply(&body).ok_or_else(|| {
            Error::new(Kind::Broken, format!("{} answered a request for a token with something else", realm.0.host))
        })?;
        Ok(Arc::new(Token::new(reply, self.0.clock.now())))
    }
}

fn unwilling(site: &Site, status: StatusCode) -> String {
    format!("{} answered {} to seawall's own account", site.registry.name, status.as_u16())
}

/// Where a token is to be had, if the account may be sent there.
fn realm(site: &Site, url: &str) -> Result<(Origin, String)> {
    let registry = &site.registry.name;
    let realm = Origin::from_url(url)
        .map_err(|error| Error::caused(Kind::Broken, format!("{registry} has no usable realm"), error))?;
    if site.registry.is_realm(&realm.0) {
        return Ok(realm);
    }
    let message = format!(
        "{registry} wants tokens to be had at {}, which is none of its hosts: seawall's account is not sent there. \
         If it is right, add it to `realms` of that [[registry]]",
        realm.0.authority()
    );
    Err(Error::new(Kind::Ours, message))
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

/// A GET with a name and a password (distribution-spec, auth/token.md), a POST with an identity token (auth/oauth.md).
fn token_request(origin: &Origin, target: &str, login: &Login) -> Result<Request<RequestBody>> {
    let accounts = Applicant(Some(Identity::Account));
    let Login::Identity(identity) = login else {
        let mut request = build(&Method::GET, origin, target, &HeaderMap::new(), basic(login).as_ref())?;
        request.extensions_mut().insert(accounts);
        return Ok(request);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut form = Serializer::new(query.to_owned());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "seawall");
    let form = form.append_pair("refresh_token", identity).finish();
    let request = build(&Method::POST, origin, path, &HeaderMap::new(), None)?;
    let (mut parts, _) = request.into_parts();
    parts.extensions.insert(accounts);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Ok(Request::from_parts(parts, Full::from(form).map_err(|never| match never {}).boxed_unsync()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_identity_token_is_posted_and_never_in_the_url() {
        let origin = Origin::from_url("https://acr.io").unwrap().0;
        let login = Login::Identity(Zeroizing::new("i/d+".to_owned()));
        let request =
            token_request(&origin, "/oauth2/token?service=acr.io&scope=repository%3Aa%3Apull", &login).unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::POST, "https://acr.io/oauth2/token")
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let expected = "service=acr.io&scope=repository%3Aa%3Apull&grant_type=refresh_token&client_id=seawall&refresh_token=i%2Fd%2B";
        assert_eq!(body, expected);
    }

    #[test]
    fn a_token_for_nothing_has_no_scope() {
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
