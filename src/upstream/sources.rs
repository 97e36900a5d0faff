//! One question, asked of the registry and of its other sources in turn, until one answers (`policy/chain`).
//!
//! A client's own credential goes to the registry itself. Other sources are asked for nobody, or with an account of their own.

use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use tracing::debug;

use super::client::Upstream;
use super::question::{Question, What};
use super::requester::Requester;
use super::send::is_via_redirect;
use crate::error::{Error, Kind, Result};
use crate::ledger::Identity;
use crate::oci::name::{Reference, Repository};
use crate::policy::chain::{Answer, Asked, Leg, Source, below};
use crate::policy::registry::Site;

/// Marks the answer of a source whose yes is not the registry's.
#[derive(Clone, Copy)]
struct BytesOnly;

/// Whether a success is the registry's yes, to who asked.
pub fn is_yes(response: &Response<Incoming>) -> bool {
    response.extensions().get::<BytesOnly>().is_none()
}

impl Upstream {
    /// The first answer that is one; where there is none, the registry's own failure.
    pub(super) async fn ask(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        method: &Method,
        fields: &HeaderMap,
        requester: &Requester,
    ) -> Result<Response<Incoming>> {
        let chain = &site.registry.chain;
        let charged = Identity::Anonymous;
        let question = Question { site, repository, known_as: repository, what, method, fields, requester, charged };
        if chain.is_plain() {
            return self.ask_one(question).await;
        }
        let renamed = chain.renamed(repository);
        let mut failed = None;
        for leg in chain.legs(asked(what, method), requester.reach) {
            let question = Question { repository: &renamed, ..question };
            let answered = match leg {
                Leg::Registry => self.ask_below(question, chain.prefix.as_ref()).await,
                Leg::Source(source) => self.ask_source(question, source).await,
            };
            if !chain.goes_on(leg, answer(&answered)) {
                return answered;
            }
            debug!(
                ?site,
                ?leg,
                error = answered.as_ref().err().map(tracing::field::display),
                "the next source is asked"
            );
            if failed.is_none() || matches!(leg, Leg::Registry) {
                failed = Some(answered);
            }
        }
        failed.unwrap_or_else(|| Err(Error::new(Kind::Ours, "no source was asked")))
    }

    async fn ask_below(&self, question: Question<'_>, prefix: Option<&Repository>) -> Result<Response<Incoming>> {
        let too_long = || Error::new(Kind::Missing, "the repository's name is too long below the prefix of its source");
        let repository = below(prefix, question.repository).ok_or_else(too_long)?;
        self.ask_one(Question { repository: &repository, ..question }).await
    }

    async fn ask_source(&self, question: Question<'_>, source: &Source) -> Result<Response<Incoming>> {
        let requester = question.requester.at_source(source);
        let question = Question { site: &source.site, requester: &requester, ..question };
        let mut response = self.ask_below(question, source.prefix.as_ref()).await?;
        if response.status().is_success() {
            self.0.metrics.other_source(&source.site.registry.name, &source.site.namespace);
            question.requester.cost.served_by(&source.site.namespace);
        }
        if !source.vouches() {
            response.extensions_mut().insert(BytesOnly);
        }
        Ok(response)
    }
}

fn asked(what: &What, method: &Method) -> Asked {
    match what {
        What::List(_) => Asked::List,
        What::Manifest(Reference::Tag(_)) => Asked::Tag,
        What::Manifest(Reference::Digest(_)) | What::Blob(_) if *method == Method::HEAD => Asked::Permission,
        What::Manifest(Reference::Digest(_)) | What::Blob(_) => Asked::Bytes,
    }
}

fn answer(answered: &Result<Response<Incoming>>) -> Answer {
    match answered {
        Ok(response) if is_via_redirect(response) && !response.status().is_success() => Answer::None,
        Ok(response) => Answer::Status(response.status().as_u16()),
        Err(error) => match error.kind() {
            Kind::Refused | Kind::Missing | Kind::Limited | Kind::Rejected => Answer::Status(error.status().as_u16()),
            Kind::Request | Kind::Misdirected => Answer::Status(400),
            _ => Answer::None,
        },
    }
}
