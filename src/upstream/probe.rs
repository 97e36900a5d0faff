//! What is left of a quota, asked without taking from it (protocol 1.5).

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::ask::{ask_as_client, ask_with};
use super::question::{ANY_MANIFEST, Question, What};
use super::requester::Requester;
use super::sources::Sources;
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
            if tokens.auth.token_url(&site.namespace, repository).is_none() {
                // The challenge says how the registry wants to be asked.
                let challenge = ask_with(tokens, &anonymous, None).await?;
                tokens.learn(site, challenge.headers());
            }
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
