//! One question, asked of the registry and of its other sources in turn, until one answers
//! (`policy/chain`).
//!
//! A client's own credential goes to the registry itself. Other sources are asked as anonymous, or
//! with an account of their own.

use std::sync::Arc;

use http::Method;
use tracing::debug;

use super::answer::Answer;
use super::client::Client;
use super::pay::ask_as_payer;
use super::proofs::Proofs;
use super::question::{Past, Question, What};
use super::requester::{Credential, Requester};
use crate::error::{Error, Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::name::{Reference, Repository};
use crate::policy::chain::{self, Asked, Leg, Source, below};
use crate::policy::registry::{Registries, Site};

/// Asks registries and their other sources. Clones share everything.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) proofs: Arc<Proofs>,
    pub(super) registries: Arc<Registries>,
}

impl Sources {
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.proofs.tokens.client
    }

    /// The first answer that settles the question; where no source has one, the registry's own
    /// failure.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answer> {
        self.ask_past(question, Past::Nobody).await
    }

    /// The same, where some are passed over.
    pub(super) async fn ask_past(&self, question: Question<'_>, past: Past) -> Result<Answer> {
        let chain = &question.site.registry.chain;
        if chain.is_plain() {
            return ask_as_payer(&self.proofs, &question).await;
        }
        let renamed = chain.renamed(question.repository);
        let question = Question { repository: &renamed, ..question };
        let mut failed = None;
        for leg in self.legs(&question) {
            let answered = match leg {
                Leg::Registry => self.ask_below(&question, chain.prefix.as_ref()).await,
                Leg::Source(source) => self.ask_source(&question, source).await,
            };
            let site = site_of(leg, question.site);
            let answered = answered.map(|answer| Answer {
                is_unable: self.is_unable(&question, site, &answer),
                sent_by: Some(site.namespace.clone()),
                ..answer
            });
            let is_passed_over = past == Past::Unable && answered.as_ref().is_ok_and(|answer| answer.is_unable);
            if !is_passed_over && !chain.goes_on(leg, outcome(&answered)) {
                return answered;
            }
            self.note_unsent(&question, site);
            debug!(
                site = ?question.site,
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

    /// The sources that are asked, in order. Who sent other bytes than those of this digest is asked last.
    fn legs<'a>(&self, question: &Question<'a>) -> Vec<Leg<'a>> {
        let chain = &question.site.registry.chain;
        let mut legs: Vec<_> = chain.legs(asked(question), question.requester.reach).collect();
        if let (Asked::Bytes, Some(digest)) = (asked(question), question.what.digest()) {
            let (wrong, now) = (&self.client().wrong, self.client().clock.now());
            legs.sort_by_cached_key(|leg| {
                wrong.has(&(digest.clone(), site_of(*leg, question.site).namespace.clone()), now)
            });
        }
        legs
    }

    /// Whether who names what a tag is of sends no manifest now, and others may: its quota is spent, or it
    /// did not send this one a moment ago.
    fn is_unable(&self, question: &Question<'_>, site: &Site, answer: &Answer) -> bool {
        let is_tag = matches!(question.what, What::Manifest(Reference::Tag(_))) && *question.method == Method::HEAD;
        if !is_tag || !answer.status().is_success() {
            return false;
        }
        let client = self.client();
        let counted = Question { site, method: &Method::GET, charged: answer.paid_by, ..*question };
        let was_sent = |digest: &Digest| {
            let what = unsent(digest, site, question.known_as, question.requester);
            !client.unsent.has(&what, client.clock.now())
        };
        client.quota.would_be_refused(&counted).is_some() || !answer.names.as_ref().is_none_or(was_sent)
    }

    /// Another source is asked for the manifest of a digest, since this one did not send it.
    fn note_unsent(&self, question: &Question<'_>, site: &Site) {
        if let (true, Some(digest)) = (question.is_counted(), question.what.digest()) {
            let what = unsent(digest, site, question.known_as, question.requester);
            self.client().unsent.note(what, self.client().clock.now());
        }
    }

    pub(super) fn is_unsent(
        &self,
        site: &Site,
        repository: &Repository,
        digest: &Digest,
        requester: &Requester,
    ) -> bool {
        let (chain, client) = (&site.registry.chain, self.client());
        let legs = || chain.legs(Asked::Tag, requester.reach).map(|leg| site_of(leg, site));
        let is = |site| client.unsent.has(&unsent(digest, site, repository, requester), client.clock.now());
        !chain.is_plain() && legs().any(is)
    }

    async fn ask_below(&self, question: &Question<'_>, prefix: Option<&Repository>) -> Result<Answer> {
        let too_long = || Error::new(Kind::Missing, "the repository's name is too long below the prefix of its source");
        let repository = below(prefix, question.repository).ok_or_else(too_long)?;
        ask_as_payer(&self.proofs, &Question { repository: &repository, ..*question }).await
    }

    async fn ask_source(&self, question: &Question<'_>, source: &Source) -> Result<Answer> {
        let requester = question.requester.at_source(source);
        let at_source = Question { site: &source.site, requester: &requester, ..*question };
        let answer = self.ask_below(&at_source, source.prefix.as_ref()).await?;
        if answer.status().is_success() {
            self.client().metrics.other_source(&source.site.registry.name, &source.site.namespace);
            question.requester.cost.served_by(&source.site.namespace);
        }
        Ok(Answer { grants: source.grants(), ..answer })
    }
}

fn unsent(
    digest: &Digest,
    site: &Site,
    repository: &Repository,
    requester: &Requester,
) -> (Digest, Arc<str>, Repository, Credential) {
    (digest.clone(), site.namespace.clone(), repository.clone(), requester.credential.asked_as())
}

fn site_of<'a>(leg: Leg<'a>, registry: &'a Site) -> &'a Site {
    if let Leg::Source(source) = leg { &source.site } else { registry }
}

fn asked(question: &Question<'_>) -> Asked {
    match question.what {
        What::List(_) => Asked::List,
        What::Manifest(Reference::Tag(_)) => Asked::Tag,
        What::Manifest(Reference::Digest(_)) | What::Blob(_) if *question.method == Method::HEAD => Asked::Permission,
        What::Manifest(Reference::Digest(_)) | What::Blob(_) => Asked::Bytes,
    }
}

/// What came of asking one source, for the decision whether the next is asked.
fn outcome(answered: &Result<Answer>) -> chain::Answer {
    match answered {
        Ok(answer) if !answer.is_direct() && !answer.status().is_success() => chain::Answer::None,
        Ok(answer) => chain::Answer::Status(answer.status().as_u16()),
        Err(error) => match error.kind() {
            Kind::Refused | Kind::Missing | Kind::Limited | Kind::Rejected => {
                chain::Answer::Status(error.status().as_u16())
            }
            Kind::Request | Kind::Misdirected => chain::Answer::Status(400),
            _ => chain::Answer::None,
        },
    }
}
