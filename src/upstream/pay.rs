//! Asking with the operator's account, and as anonymous where the account gets nothing.
//!
//! What a registry says to the account is the operator's business alone: no client sees a token of
//! it, a challenge to it, or what is said of it. Where the account gets nothing the client has the
//! answer that an anonymous client would have, with a challenge that it can meet itself.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tracing::debug;

use super::answer::{Answer, AnswerTo};
use super::ask::{ask_as_client, ask_with};
use super::proofs::{Proof, Proofs, Shown};
use super::question::Question;
use super::requester::Payer;
use crate::error::{Error, Kind, Reply, Result};
use crate::ledger::Identity;

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

/// The name of an account that is slow among what failed lately: no path is it.
const SLOW: &str = "";

/// What came of asking with the account.
enum Paid {
    /// The account got this.
    Answer(Box<Answer>),
    /// The registry refuses it to the account, or has no such thing.
    Refused(Kind),
    /// A 429 to the account holds.
    Limited(Error),
    /// The account cannot be used now.
    Unusable(Error),
}

/// The answer of one source, with the credential of who pays.
pub(super) async fn ask_as_payer(proofs: &Arc<Proofs>, question: &Question<'_>) -> Result<Answer> {
    match question.requester.payer {
        Payer::Own => ask_as_client(&proofs.tokens, question).await,
        Payer::Account | Payer::AccountForAll => ask_on_account(proofs, question).await,
    }
}

/// The answer to the account; where that gets nothing, the one to an anonymous client.
async fn ask_on_account(proofs: &Arc<Proofs>, question: &Question<'_>) -> Result<Answer> {
    let paid = paid(proofs, question).await?;
    if let Paid::Answer(answer) = paid {
        return Ok(*answer);
    }
    let answered = ask_as_client(&proofs.tokens, question).await;
    match (paid, question.requester.payer) {
        // A refusal to an anonymous client says nothing of what the operator shares.
        (Paid::Unusable(error), Payer::Account) => answered.map_err(|anonymous| blamed(anonymous, &error)),
        (Paid::Limited(error), Payer::Account) if has_nothing(&answered) => Err(error),
        (Paid::Limited(error), _) => answered.map_err(|anonymous| sooner(anonymous, error)),
        // Where an anonymous client cannot ask, the refusal to the account still counts.
        (Paid::Refused(kind), Payer::Account) => match answered {
            Ok(answer) => Ok(Answer { account: Some(kind), ..answer }),
            Err(anonymous) => Err(refused_too(anonymous, kind, question)),
        },
        _ => answered,
    }
}

async fn paid(proofs: &Arc<Proofs>, question: &Question<'_>) -> Result<Paid> {
    let question = &Question { charged: Identity::Account, ..*question };
    let client = &proofs.tokens.client;
    if let Some(error) = client.quota.held_back(question) {
        return Ok(Paid::Limited(error));
    }
    let shown = match shown_in_time(proofs, question).await {
        Ok(shown) => shown,
        Err(error) => return Ok(unusable(question, error)),
    };
    let value = shown.as_ref().map(|shown| shown.value.clone());
    let mut answer = match ask_with(&proofs.tokens, question, value).await {
        // Another request got a 429 meanwhile.
        Err(error) if error.kind() == Kind::Limited => return Ok(Paid::Limited(error)),
        answered => answered?,
    };
    if answer.status() == StatusCode::UNAUTHORIZED && answer.is_direct() && !question.is_beside {
        answer = match once_more(proofs, question, answer, shown).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(Paid::Refused(Kind::Refused)),
            Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::Timeout) => return Err(error),
            Err(error) => return Ok(unusable(question, error)),
        };
    }
    if gets_nothing(answer.status()) && answer.is_direct() {
        return Ok(nothing(proofs, question, answer.status()));
    }
    let fields = std::mem::take(answer.response.headers_mut());
    answer.response.headers_mut().extend(about_the_content(fields));
    Ok(Paid::Answer(Box::new(answer)))
}

/// What a status means with which the account gets nothing. A refusal is remembered.
fn nothing(proofs: &Proofs, question: &Question<'_>, status: StatusCode) -> Paid {
    let client = &proofs.tokens.client;
    debug!(site = ?question.site, %status, "the operator's account gets nothing");
    // What can be done without is refused for itself alone.
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !question.is_beside {
        proofs.accounts.denied(question.site, &question.what.path(question.repository), client.clock.now());
    }
    let limited = client.quota.limited(question).filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
    let kind = if status == StatusCode::NOT_FOUND { Kind::Missing } else { Kind::Refused };
    limited.map_or(Paid::Refused(kind), Paid::Limited)
}

/// The credential of the account: a pull does not wait long for it.
async fn shown_in_time(proofs: &Arc<Proofs>, question: &Question<'_>) -> Result<Option<Shown>> {
    let Question { site, repository, what, requester, .. } = *question;
    let (accounts, client) = (&proofs.accounts, &proofs.tokens.client);
    let now = client.clock.now();
    let failed = accounts.failed_lately(site, &what.path(repository), now);
    if let Some(error) = failed.or_else(|| accounts.failed_lately(site, SLOW, now)) {
        return Err(error);
    }
    let presented = proofs.presented(site, repository, &requester.cost);
    match tokio::time::timeout(client.resolve_deadline, presented).await {
        Ok(shown) => shown,
        Err(_) => {
            let message =
                format!("the login or the token of seawall's account for {} did not come in time", site.registry.name);
            let error = Error::new(Kind::Timeout, message);
            accounts.failed(site, SLOW, error.clone(), client.clock.now());
            Err(error)
        }
    }
}

/// After a 401: the registry's challenge is learnt, the credential that it did not take is dropped,
/// and the question is sent again. `None`: the registry wants something else than there is.
async fn once_more(
    proofs: &Arc<Proofs>,
    question: &Question<'_>,
    unauthorized: Answer,
    shown: Option<Shown>,
) -> Result<Option<Answer>> {
    let site = question.site;
    if shown.is_none() {
        proofs.tokens.learn(site, unauthorized.headers());
    }
    let now = proofs.tokens.client.clock.now();
    match shown.map(|shown| shown.proof) {
        Some(Proof::Token(url)) => proofs.accounts.drop_token(site, &url),
        Some(Proof::Login) => proofs.accounts.doubt(site, now),
        None => {}
    }
    let Some(again) = shown_in_time(proofs, question).await? else { return Ok(None) };
    ask_with(&proofs.tokens, question, Some(again.value)).await.map(Some)
}

fn unusable(question: &Question<'_>, error: Error) -> Paid {
    debug!(site = ?question.site, %error, "the operator's account cannot be used");
    match error.kind() {
        Kind::Refused => Paid::Refused(Kind::Refused),
        Kind::Limited => Paid::Limited(error),
        _ => Paid::Unusable(error),
    }
}

/// Whether an anonymous client gets nothing either, or has to wait too.
fn has_nothing(answered: &Result<Answer>) -> bool {
    match answered {
        Ok(answer) => gets_nothing(answer.status()) && answer.is_direct(),
        Err(error) => matches!(error.kind(), Kind::Refused | Kind::Missing | Kind::Limited),
    }
}

/// The error where the account was refused, and an anonymous client got an error that does not
/// help.
fn refused_too(anonymous: Error, kind: Kind, question: &Question<'_>) -> Error {
    if matches!(anonymous.kind(), Kind::Refused | Kind::Missing) {
        return anonymous.because(AnswerTo { identity: Identity::Anonymous, account: Some(kind) });
    }
    let status = if kind == Kind::Missing { StatusCode::NOT_FOUND } else { StatusCode::FORBIDDEN };
    let message = format!("{} does not let seawall's account read {}", question.site.registry.name, question.known_as);
    Error::replied(kind, message, Reply { status, headers: HeaderMap::new(), body: bytes::Bytes::new() })
}

/// The error of who waits less, where the account and anonymous clients have to wait.
fn sooner(anonymous: Error, account: Error) -> Error {
    let wait = |error: &Error| error.reply()?.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok();
    match (wait(&anonymous), wait(&account)) {
        (Some(first), Some(second)) if anonymous.kind() == Kind::Limited && second < first => account,
        _ => anonymous,
    }
}

/// The error where an anonymous client was refused as the account could not be used: the refusal is
/// passed on, and ends no grant.
fn blamed(anonymous: Error, unusable: &Error) -> Error {
    match (anonymous.kind(), anonymous.reply()) {
        (Kind::Refused, Some(reply)) => {
            let error = Error::replied(Kind::Broken, unusable.message(), reply.clone());
            if unusable.kind() == Kind::Ours { error.because(LoginIsBad) } else { error }
        }
        _ => anonymous,
    }
}

/// The cause of an error where the registry is there, and the operator's login is refused or cannot
/// be read.
#[derive(Debug, thiserror::Error)]
#[error("its login is refused, or cannot be read")]
struct LoginIsBad;

/// Whether an error is that of an account that upstream did not take.
pub fn is_bad_login(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.is::<LoginIsBad>())
}

/// 401 and 403: the account may not; 404: what some registries say instead; 429: the account has
/// used up its pulls.
fn gets_nothing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 429)
}

fn about_the_content(mut fields: HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    ABOUT_THE_CONTENT.into_iter().filter_map(move |name| Some((name.clone(), fields.remove(name)?)))
}
