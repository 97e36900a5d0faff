//! Asking with the operator's account, and for nobody where that gets nothing.
//!
//! What a registry says to the account is nobody else's business: no client sees a token of it, a challenge to it, or what is said of
//! it. Where the account gets nothing the client has the answer that nobody would have, with a challenge that it can meet itself.

use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::debug;

use super::client::Upstream;
use super::prove::{Proof, Shown};
use super::question::Question;
use super::requester::Payer;
use super::send::is_via_redirect;
use crate::error::{Error, Kind, Reply, Result};
use crate::ledger::Identity;

/// Marks a response to the operator's account.
#[derive(Clone, Copy)]
struct OnAccount;

/// Whether a response is one to the operator's account.
pub(super) fn is_on_account(response: &Response<Incoming>) -> bool {
    response.extensions().get::<OnAccount>().is_some()
}

/// Fields of such a response that are about what was asked for, and not about who asked.
const ABOUT_THE_CONTENT: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_ENCODING,
    header::ACCEPT_RANGES,
    header::LINK,
    header::RETRY_AFTER,
    HeaderName::from_static("docker-content-digest"),
    HeaderName::from_static("oci-filters-applied"),
];

/// What came of asking with the account.
enum Paid {
    /// It got this.
    Answer(Response<Incoming>),
    /// The registry does not give it that: it may not, or there is no such thing.
    Refused(Kind),
    /// A 429 stands for it.
    Limited(Error),
    /// It cannot be used now.
    Unusable(Error),
}

impl Upstream {
    /// With the account; for nobody where that gets nothing.
    pub(super) async fn ask_on_account(&self, question: Question<'_>) -> Result<Response<Incoming>> {
        let paid = self.paid(question).await?;
        if let Paid::Answer(response) = paid {
            return Ok(response);
        }
        let answered = self.ask_as_client(question).await;
        match (paid, question.requester.payer) {
            // Nobody's lack of permission says nothing of what the operator shares.
            (Paid::Unusable(error), Payer::Account) => answered.map_err(|nobodys| blamed(nobodys, &error)),
            (Paid::Limited(error), Payer::Account) if has_nothing(&answered) => Err(error),
            (Paid::Limited(error), _) => answered.map_err(|nobodys| sooner(nobodys, error)),
            // That nobody cannot be asked is no reason to forget what the account was told.
            (Paid::Refused(kind), Payer::Account) => answered.map_err(|nobodys| refused_too(nobodys, kind, question)),
            _ => answered,
        }
    }

    async fn paid(&self, question: Question<'_>) -> Result<Paid> {
        let question = Question { charged: Identity::Account, ..question };
        if let Some(error) = self.held_back(question) {
            return Ok(Paid::Limited(error));
        }
        let shown = match self.shown_in_time(question).await {
            Ok(shown) => shown,
            Err(error) => return Ok(unusable(question, error)),
        };
        let mut response = match self.follow(question, shown.as_ref().map(|shown| shown.value.clone())).await {
            // Somebody else was told so meanwhile.
            Err(error) if error.kind() == Kind::Limited => return Ok(Paid::Limited(error)),
            answered => answered?,
        };
        if response.status() == StatusCode::UNAUTHORIZED && !is_via_redirect(&response) {
            response = match self.once_more(question, response, shown).await {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(Paid::Refused(Kind::Refused)),
                Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::Timeout) => return Err(error),
                Err(error) => return Ok(unusable(question, error)),
            };
        }
        if gets_nothing(response.status()) && !is_via_redirect(&response) {
            let (status, now) = (response.status(), self.0.clock.now());
            debug!(site = ?question.site, %status, "the operator's account gets nothing");
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                self.0.accounts.denied(question.site, question.repository, now);
            }
            let limited = self.limited(question).filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
            let kind = if status == StatusCode::NOT_FOUND { Kind::Missing } else { Kind::Refused };
            return Ok(limited.map_or(Paid::Refused(kind), Paid::Limited));
        }
        let fields = std::mem::take(response.headers_mut());
        response.headers_mut().extend(about_the_content(fields));
        response.extensions_mut().insert(OnAccount);
        Ok(Paid::Answer(response))
    }

    /// A pull does not wait long for an account.
    async fn shown_in_time(&self, question: Question<'_>) -> Result<Option<Shown>> {
        let Question { site, repository, requester, .. } = question;
        let (accounts, now) = (&self.0.accounts, self.0.clock.now());
        let vain = accounts.in_vain(site, repository.as_str(), now).or_else(|| accounts.in_vain(site, SLOW, now));
        if let Some(error) = vain {
            return Err(error);
        }
        match tokio::time::timeout(self.0.resolve_deadline, self.presented(site, repository, &requester.cost)).await {
            Ok(shown) => shown,
            Err(_) => {
                let message = format!("seawall's account for {} takes too long to be had", site.registry.name);
                let error = Error::new(Kind::Timeout, message);
                accounts.failed(site, SLOW, error.clone(), self.0.clock.now());
                Err(error)
            }
        }
    }

    /// After a 401: what the registry wants is learnt, what it did not take is dropped. `None`: it wants something else than there is.
    async fn once_more(
        &self,
        question: Question<'_>,
        refusal: Response<Incoming>,
        shown: Option<Shown>,
    ) -> Result<Option<Response<Incoming>>> {
        let site = question.site;
        if shown.is_none() {
            self.learn(site, refusal.headers());
        }
        let now = self.0.clock.now();
        match shown.map(|shown| shown.proof) {
            Some(Proof::Token(url)) => self.0.accounts.drop_token(site, &url),
            Some(Proof::Login) => self.0.accounts.doubt(site, now),
            None => {}
        }
        let Some(again) = self.shown_in_time(question).await? else { return Ok(None) };
        self.follow(question, Some(again.value)).await.map(Some)
    }
}

/// What stands for an account that is slow, among what is in vain: no repository has this name.
const SLOW: &str = "";

fn unusable(question: Question<'_>, error: Error) -> Paid {
    debug!(site = ?question.site, %error, "the operator's account cannot be used");
    match error.kind() {
        Kind::Refused => Paid::Refused(Kind::Refused),
        Kind::Limited => Paid::Limited(error),
        _ => Paid::Unusable(error),
    }
}

/// Whether nobody gets it, or is told to come later too.
fn has_nothing(answered: &Result<Response<Incoming>>) -> bool {
    match answered {
        Ok(response) => gets_nothing(response.status()) && !is_via_redirect(response),
        Err(error) => matches!(error.kind(), Kind::Refused | Kind::Missing | Kind::Limited),
    }
}

/// The account was refused, and nobody was told nothing that helps.
fn refused_too(nobodys: Error, kind: Kind, question: Question<'_>) -> Error {
    if matches!(nobodys.kind(), Kind::Refused | Kind::Missing) {
        return nobodys;
    }
    let status = if kind == Kind::Missing { StatusCode::NOT_FOUND } else { StatusCode::FORBIDDEN };
    let message = format!("{} does not let seawall's account read {}", question.site.registry.name, question.known_as);
    Error::replied(kind, message, Reply { status, headers: HeaderMap::new(), body: bytes::Bytes::new() })
}

/// Nobody and the account have to wait: as long as who waits less.
fn sooner(nobodys: Error, accounts: Error) -> Error {
    let wait = |error: &Error| error.reply()?.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok();
    match (wait(&nobodys), wait(&accounts)) {
        (Some(nobody), Some(account)) if nobodys.kind() == Kind::Limited && account < nobody => accounts,
        _ => nobodys,
    }
}

/// Nobody was refused because the account could not be used: the refusal is passed on, and ends no grant.
fn blamed(nobodys: Error, unusable: &Error) -> Error {
    match (nobodys.kind(), nobodys.reply()) {
        (Kind::Refused, Some(reply)) => {
            let error = Error::replied(Kind::Broken, unusable.message(), reply.clone());
            if unusable.kind() == Kind::Ours { error.because(LoginIsBad) } else { error }
        }
        _ => nobodys,
    }
}

/// The registry is there, and it is the operator's login that is refused, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("its login is refused, or cannot be read")]
struct LoginIsBad;

/// Whether an error is that of an account that upstream did not take.
pub fn is_bad_login(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.is::<LoginIsBad>())
}

/// 401 and 403: it may not; 404: what some say instead; 429: it has used up its pulls.
fn gets_nothing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 429)
}

fn about_the_content(mut fields: HeaderMap) -> impl Iterator<Item = (HeaderName, http::HeaderValue)> {
    ABOUT_THE_CONTENT.into_iter().filter_map(move |name| Some((name.clone(), fields.remove(name)?)))
}
