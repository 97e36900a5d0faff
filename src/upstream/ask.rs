//! One question to one source, with the client's own credential, or as anonymous with a token that
//! seawall itself got. A token of the client's that was issued to anonymous is never shown: it may
//! be for something else, and what upstream says to anonymous holds for everybody.
//!
//! 1. a pull limit whose end is a guess is asked about first, by HEAD, which is not counted;
//! 2. the question is sent, and its redirects are followed;
//! 3. a 401 to an anonymous request: the challenge is learnt, a token is got, and the question is
//!    sent once more.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::auth::token_url;
use super::question::Question;
use super::redirects::follow;
use super::requester::{Credential, Payer};
use super::tokens::Tokens;
use crate::error::{Kind, Result};
use crate::ledger::Identity;

/// The answer of one source: no redirect, no challenge that could be met. A response that is no
/// success is an answer like others; a client that has shown no credential yet gets the challenge,
/// so that it can.
pub(super) async fn ask_as_client(tokens: &Arc<Tokens>, question: &Question<'_>) -> Result<Answer> {
    let requester = question.requester;
    if requester.payer == Payer::Own && matches!(requester.credential, Credential::Known(_)) {
        let question = Question { charged: requester.credential.identity(), ..*question };
        return ask_with(tokens, &question, requester.authorization.clone()).await;
    }
    let sent = tokens.known(question.site, question.repository);
    let answer = ask_with(tokens, question, sent.clone()).await?;
    match answer.status() {
        StatusCode::UNAUTHORIZED if answer.is_direct() => {}
        // A token may have lost its rights: what a new one gets is anonymous's answer.
        StatusCode::FORBIDDEN if sent.is_some() && answer.is_direct() => {}
        _ => return Ok(answer),
    }
    ask_with_new_token(tokens, question, answer, sent.as_ref()).await
}

/// Meets the challenge of a 401 to `sent`, as anonymous. Where no token helps, the challenge is the
/// client's to meet.
async fn ask_with_new_token(
    tokens: &Arc<Tokens>,
    question: &Question<'_>,
    unauthorized: Answer,
    sent: Option<&HeaderValue>,
) -> Result<Answer> {
    let Question { site, repository, requester, .. } = *question;
    let challenges = tokens.learn(site, unauthorized.headers());
    let challenged = tokens.client.refusal(&site.origin.host.to_string(), unauthorized).await;
    let known = || tokens.auth.token_url(&site.namespace, repository);
    let Some(url) = token_url(&challenges, repository).or_else(known) else { return Err(challenged) };
    let token = match tokens.another(site, url, sent, requester).await {
        Err(error) if error.kind() == Kind::Refused => return Err(challenged),
        token => token?,
    };
    let answer = ask_with(tokens, question, Some(token)).await?;
    let refused = matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if refused && requester.authorization.is_none() && answer.is_direct() { Err(challenged) } else { Ok(answer) }
}

/// The answer to a question with this credential.
pub(super) async fn ask_with(
    tokens: &Arc<Tokens>,
    question: &Question<'_>,
    authorization: Option<HeaderValue>,
) -> Result<Answer> {
    if tokens.client.quota.doubts_limit(question) {
        Box::pin(ask_about_limit(tokens, question, authorization.clone())).await;
    }
    follow(&tokens.client, question, authorization).await
}

/// Asks by HEAD whether a pull limit still holds. What the response says is in the books when this
/// returns.
async fn ask_about_limit(tokens: &Arc<Tokens>, question: &Question<'_>, authorization: Option<HeaderValue>) {
    let head = Question { method: &Method::HEAD, ..*question };
    let asked = async {
        match question.charged {
            Identity::Account => follow(&tokens.client, &head, authorization).await,
            // An anonymous request may need a token first.
            Identity::Anonymous | Identity::Client(_) => ask_as_client(tokens, &head).await,
        }
    };
    // Without a response nothing is known, and the pull finds out.
    let _ = tokio::time::timeout(tokens.client.resolve_deadline, asked).await;
}
