//! What is left of a quota, asked without taking from it (protocol 1.5).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::ask::{ask_as_client, ask_with};
use super::question::{ANY_MANIFEST, Question, What};
use super::requester::Requester;
use super::sources::Sources;
use super::tokens::Tokens;
use crate::error::{Error, Kind, Result};
use crate::ledger::Identity;
use crate::oci::name::Repository;
use crate::oci::rate_limit::{RateLimit, source};
use crate::policy::registry::Site;

/// What a registry said to a HEAD.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Its quota. `None`: it counts no pulls of this source.
    pub quota: Option<RateLimit>,
    /// The source that it counts the request for, where it says so: an address, or an account.
    pub source: Option<String>,
}

/// The challenge says how the registry wants to be asked.
async fn learn_how(tokens: &Arc<Tokens>, anonymous: &Question<'_>) -> Result<()> {
    let Question { site, repository, .. } = anonymous;
    if tokens.auth.token_url(&site.namespace, repository).is_none() {
        tokens.learn(site, ask_with(tokens, anonymous, None).await?.headers());
    }
    Ok(())
}

/// Whether a registry takes the operator's account, whatever that may read there.
///
/// # Errors
/// It does not, or cannot be asked.
pub(super) async fn try_account(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    requester: &Requester,
) -> Result<()> {
    let fields = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST))]);
    let anonymous = Question::new(site, repository, what, requester, &Method::HEAD, &fields);
    learn_how(&sources.proofs.tokens, &anonymous).await?;
    sources.proofs.try_login(site, repository, &requester.cost).await
}

/// Asks as anonymous, or with the operator's account alone.
///
/// # Errors
/// No response came, the account cannot be used, or the response is no answer to this.
pub(super) async fn probe(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    charged: Identity,
    requester: &Requester,
) -> Result<Probed> {
    let fields = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST))]);
    let anonymous = Question::new(site, repository, what, requester, &Method::HEAD, &fields);
    let question = Question { charged, ..anonymous };
    let (proofs, tokens) = (&sources.proofs, &sources.proofs.tokens);
    let answer = match charged {
        Identity::Account => {
            learn_how(tokens, &anonymous).await?;
            let shown = proofs.presented(site, repository, &requester.cost).await?;
            let none = || Error::new(Kind::Missing, format!("{} asks for no account", site.registry.name));
            ask_with(tokens, &question, Some(shown.ok_or_else(none)?.value)).await?
        }
        Identity::Anonymous | Identity::Client(_) => ask_as_client(tokens, &question).await?,
    };
    let (quota, source) = (RateLimit::of(answer.headers()), source(answer.headers()));
    match answer.status() {
        // A 404 has the figures too.
        StatusCode::OK | StatusCode::NOT_FOUND => Ok(Probed { quota, source }),
        _ if quota.is_some() => Ok(Probed { quota, source }),
        _ => Err(sources.client().refusal(&site.origin.host.to_string(), answer).await),
    }
}
