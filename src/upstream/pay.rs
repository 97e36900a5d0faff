//! Asking with the operator's account.
//!
//! 1. What the registry was seen to want: a name and a password, or a token. Nothing was seen: nothing is shown.
//! 2. A 401: what it wants is learnt, what was shown is dropped, and once more.
//!
//! The account goes to the registry itself and to its realms, and is never handed on: no client sees a token of it, a challenge to it,
//! or what a registry says of it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tracing::debug;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::account;
use super::asker::Bill;
use super::auth::Token;
use super::client::{About, RequestBody, Upstream, Wire};
use super::send::{MAX_TOKEN_REPLY, Question, build, is_elsewhere};
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::oci::challenge::parse_token_reply;
use crate::oci::login::Login;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;

/// Marks a response to the operator's account: what it says of that is nobody else's business.
#[derive(Clone, Copy)]
struct OnAccount;

/// Whether a response is one to the operator's account.
pub(super) fn is_on_account(response: &Response<Incoming>) -> bool {
    response.extensions().get::<OnAccount>().is_some()
}

/// Fields that are about who asked.
const ABOUT_THE_ASKER: [&str; 7] = [
    "docker-ratelimit-source",
    "ratelimit-limit",
    "ratelimit-remaining",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "set-cookie",
    "www-authenticate",
];

impl Upstream {
    /// With the account, and for nobody where that gets nothing. The client has shown no credential, and may read this.
    pub(super) async fn ask_on_account_first(&self, question: Question<'_>) -> Result<Response<Incoming>> {
        match self.ask_on_account(question).await {
            Ok(response) if !gets_nothing(response.status()) => return Ok(response),
            Ok(response) => debug!(site = ?question.site, status = %response.status(), "the account gets nothing"),
            // Who is not there for the account is not there for nobody.
            Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::Timeout) => return Err(error),
            Err(error) => debug!(site = ?question.site, %error, "the account gets nothing"),
        }
        self.ask_as_client(question).await
    }

    /// With the account alone.
    pub(super) async fn ask_on_account(&self, question: Question<'_>) -> Result<Response<Incoming>> {
        let Question { site, repository, asker, .. } = question;
        let shown = self.shown(site, repository, &asker.bill).await?;
        let mut response = self.follow(question, shown.as_ref().map(|shown| shown.value.clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED && !is_elsewhere(&response) {
            self.learn(site, response.headers());
            if let Some(refused) = &shown {
                self.drop_shown(site, refused);
            }
            if let Some(again) = self.shown(site, repository, &asker.bill).await? {
                response = self.follow(question, Some(again.value)).await?;
            }
        }
        for name in ABOUT_THE_ASKER {
            response.headers_mut().remove(name);
        }
        response.extensions_mut().insert(OnAccount);
        Ok(response)
    }

    /// What proves the account to `site`, as far as it is known how it wants that.
    async fn shown(&self, site: &Site, repository: &Repository, bill: &Arc<Bill>) -> Result<Option<Shown>> {
        if let Some(url) = self.0.auth.token_url(&site.namespace, repository) {
            let token = self.account_token(site, &url, bill).await?;
            return Ok(Some(Shown { value: token.authorization(), proof: Proof::Token(url) }));
        }
        if !self.0.auth.wants_basic(&site.namespace) {
            return Ok(None);
        }
        let login = self.0.accounts.login(&self.0.tasks, &self.0.clock, site).await?;
        let no_password = || Error::new(Kind::Ours, format!("{} takes no identity token", site.registry.name));
        let value = basic(&login).ok_or_else(no_password)?;
        Ok(Some(Shown { value, proof: Proof::Login(login) }))
    }

    fn drop_shown(&self, site: &Site, shown: &Shown) {
        match &shown.proof {
            Proof::Token(url) => self.0.accounts.drop_token(site, url),
            Proof::Login(login) => self.0.accounts.refused(site, login, self.0.clock.now()),
        }
    }

    /// A token of the account; many who want it cost one request.
    async fn account_token(&self, site: &Site, url: &str, bill: &Arc<Bill>) -> Result<Arc<Token>> {
        if let Some(token) = self.0.accounts.token(site, url, self.0.clock.now()) {
            return Ok(token);
        }
        let (upstream, site, url, bill) = (self.clone(), site.clone(), url.to_owned(), bill.clone());
        let key = (account::key(&site), url.clone());
        let work = move || async move { upstream.fresh_account_token(&site, &url, &bill).await };
        self.0.accounts.asked.run(&self.0.tasks, key, work).await
    }

    async fn fresh_account_token(&self, site: &Site, url: &str, bill: &Bill) -> Result<Arc<Token>> {
        let registry = &site.registry.name;
        let (origin, target) = Origin::from_url(url)
            .map_err(|error| Error::caused(Kind::Broken, format!("{registry} has no usable realm"), error))?;
        if !site.registry.is_realm(&origin) {
            return Err(stranger(registry, &origin));
        }
        let login = self.0.accounts.login(&self.0.tasks, &self.0.clock, site).await?;
        let request = token_request(&origin, &target, &login)?;
        let about = About { registry, kind: route::Kind::Token, bill };
        let response = self.send(about, Wire::Any, request).await?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            self.0.accounts.refused(site, &login, self.0.clock.now());
        }
        if status != StatusCode::OK {
            let kind = match status.as_u16() {
                401 | 403 => Kind::Refused,
                429 => Kind::Limited,
                _ => Kind::Broken,
            };
            return Err(Error::new(
                kind,
                format!("{} answered {} to seawall's own account", origin.host, status.as_u16()),
            ));
        }
        let body = Zeroizing::new(self.collect(response.into_body(), MAX_TOKEN_REPLY).await?.to_vec());
        let reply = parse_token_reply(&body).ok_or_else(|| {
            Error::new(Kind::Broken, format!("{} answered a request for a token with something else", origin.host))
        })?;
        let token = Arc::new(Token::new(reply, self.0.clock.now()));
        self.0.accounts.keep_token(site, url, token.clone());
        Ok(token)
    }
}

/// What was shown to a registry, and what it was made of.
struct Shown {
    value: HeaderValue,
    proof: Proof,
}

enum Proof {
    Token(String),
    Login(Arc<Login>),
}

/// 401 and 403: the account may be the wrong one; 404: what some say instead; 429: it has used up its pulls.
fn gets_nothing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 429)
}

fn stranger(registry: &str, realm: &Origin) -> Error {
    let message = format!(
        "{registry} wants tokens to be had at {}, which is none of its hosts: seawall's account is not sent there. \
         If it is right, add it to `realms` of that [[registry]]",
        realm.authority()
    );
    tracing::warn!("{message}");
    Error::new(Kind::Ours, message)
}

fn basic(login: &Login) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(login.basic()?.as_str()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A GET with a name and a password (distribution-spec, auth/token.md), a POST with an identity token (auth/oauth.md).
fn token_request(origin: &Origin, target: &str, login: &Login) -> Result<Request<RequestBody>> {
    let Login::Identity(identity) = login else {
        return build(&Method::GET, origin, target, &HeaderMap::new(), basic(login).as_ref());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut form = Serializer::new(query.to_owned());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "seawall");
    let form = form.append_pair("refresh_token", identity).finish();
    let request = build(&Method::POST, origin, path, &HeaderMap::new(), None)?;
    let (mut parts, _) = request.into_parts();
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
}
