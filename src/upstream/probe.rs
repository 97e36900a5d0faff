//! What is left of a quota, asked without taking from it (protocol 1.5).

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::client::Upstream;
use super::fetch::ANY_MANIFEST;
use super::question::{Question, What};
use super::requester::Requester;
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
    /// Whom it takes it to be from, where it says so.
    pub source: Option<String>,
}

impl Upstream {
    /// Asks for nobody, or with the operator's account and never for somebody else.
    ///
    /// # Errors
    /// Nobody answered, the account cannot be used, or the answer is no answer to this.
    pub async fn probe(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        charged: Identity,
        requester: &Requester,
    ) -> Result<Probed> {
        let fields = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST))]);
        let (known_as, method) = (repository, &Method::HEAD);
        let question = Question { site, repository, known_as, what, method, fields: &fields, requester, charged };
        let response = match charged {
            Identity::Account => {
                if self.auth().token_url(&site.namespace, repository).is_none() {
                    // It says how it wants to be asked.
                    let nobody = Question { charged: Identity::Anonymous, ..question };
                    let challenge = self.follow(nobody, None).await?;
                    self.learn(site, challenge.headers());
                }
                let shown = self.presented(site, repository, &requester.cost).await?;
                let none = || Error::new(Kind::Ours, format!("{} wants no account", site.registry.name));
                self.follow(question, Some(shown.ok_or_else(none)?.value)).await?
            }
            Identity::Anonymous | Identity::Client(_) => self.ask_as_client(question).await?,
        };
        let (quota, source) = (RateLimit::of(response.headers()), source(response.headers()));
        match response.status() {
            // A 404 has the figures too.
            StatusCode::OK | StatusCode::NOT_FOUND => Ok(Probed { quota, source }),
            _ if quota.is_some() => Ok(Probed { quota, source }),
            _ => Err(self.refusal(&site.origin.host.to_string(), response).await),
        }
    }
}
