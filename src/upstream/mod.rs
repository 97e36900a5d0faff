//! Everything that is asked of registries: one request, and its answer.
//!
//! - [`Upstream::describe`]: HEAD, which no registry counts: what does this tag name, may this
//!   client read this digest?
//! - [`Upstream::fetch`]: GET of a digest, redirects followed here.
//! - [`Upstream::pass`]: anything else, streamed untouched.
//!
//! The files in layers; each uses those above it alone:
//!
//! - [`requester`]: who asks, and who pays · `request`: a request, and what is known of it ·
//!   `question`: what is asked · `answer`: a response, and how it came
//! - [`auth`]: challenges and anonymous tokens · `account`: logins of the operator, whether they
//!   are good, their tokens · `program`,
//!   [`login`]: where logins are read · `retry_pacing`: budgets of attempts to resume
//! - [`breaker`], `permit`: hosts that do not answer are not asked · [`limit`], `quota`: what
//!   upstream would refuse is not sent
//! - `pool`: connections · [`client`]: one request over them
//! - `tokens`: tokens for anonymous requests · `redirects`, `ask`: a question through its redirects
//!   and its challenge
//! - `proofs`: what proves the operator's accounts · `pay`: a question with them · `sources`: a
//!   question to the registry and its other sources in turn
//! - `describe`, `fetch`, `probe`, `pass`: what the rest of seawall asks

mod account;
mod answer;
mod ask;
pub mod auth;
pub mod breaker;
pub mod client;
mod describe;
mod fetch;
mod lanes;
mod lately;
pub mod limit;
pub mod login;
mod pass;
mod pay;
mod permit;
mod pool;
mod probe;
mod program;
mod proofs;
mod question;
mod quota;
mod redirects;
mod request;
pub mod requester;
mod resend;
mod retry_pacing;
mod sources;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

pub use answer::{Answer, AnswerTo, Proves, Via, answered_to, leads_back};
pub use describe::Description;
pub use fetch::{Fetched, Portion, Source};
pub use lanes::{Transfer, paced_at};
pub use pay::is_bad_login;
pub use probe::Probed;
pub use question::{ANY_MANIFEST, Past, What, Wording, in_time};
pub use request::{Activity, Author, Forwarded, NO_REGISTRY, RequestBody, with_form};
pub use tokens::MAX_TOKEN_REPLY;

use auth::{Auth, Token};
use client::{Client, Shared};
use lanes::{Lanes, Sending};
use proofs::Proofs;
use requester::{Keyring, Requester, UpstreamCost};
use sources::Sources;
use tokens::Tokens;

use crate::dial::connect::Dialer;
use crate::dial::settings::Settings;
use crate::dial::tls::TlsError;
use crate::error::{Error, Result};
use crate::http::origin::Origin;
use crate::lane::Place;
use crate::ledger::Identity;
use crate::oci::challenge::Challenge;
use crate::oci::digest::Digest;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::{Registries, Role, Site};
use crate::policy::verdict::{Part, Unreachable};

/// Asks registries. Clones share everything.
#[derive(Clone)]
pub struct Upstream(Sources, Lanes);

impl Upstream {
    /// # Errors
    /// The configured roots or client certificates cannot be used.
    pub fn new(
        settings: &Settings,
        registries: &Registries,
        dialer: &Dialer,
        shared: Shared,
    ) -> std::result::Result<Upstream, TlsError> {
        let lanes = Lanes::new((shared.transfers, shared.forwards), shared.metrics.bounds());
        let client = Arc::new(Client::new(settings, registries, dialer, shared)?);
        let proofs = Proofs::new(Arc::new(Tokens::new(client)));
        Ok(Upstream(Sources { proofs: Arc::new(proofs), registries: Arc::new(registries.clone()) }, lanes))
    }

    fn client(&self) -> &Client {
        self.0.client()
    }

    fn tokens(&self) -> &Arc<Tokens> {
        &self.0.proofs.tokens
    }

    /// Asks what a tag names, or whether a repository holds a digest.
    ///
    /// # Errors
    /// Upstream refused, or did not answer.
    pub async fn describe(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        accept: (&str, Past),
        author: Author,
        requester: &Requester,
    ) -> Result<Description> {
        let _place = self.1.questions.enter_for(requester.cost.applicants()).await?;
        Box::pin(describe::describe(&self.0, site, repository, what, accept, author, requester)).await
    }

    /// Fetches a portion, in this place. Upstream may ignore that and send all: see [`Fetched::start`]. With what
    /// is asked for comes what a client takes of a manifest that no other does.
    ///
    /// # Errors
    /// Upstream refused, did not answer, or sent something that makes no sense.
    pub async fn fetch(
        &self,
        place: Place,
        site: &Site,
        repository: &Repository,
        what: (&What, Option<&str>),
        portion: &Portion,
        requester: &Requester,
    ) -> Result<Fetched> {
        Ok(Box::pin(fetch::fetch(&self.0, site, repository, what, portion, requester)).await?.at(place))
    }

    /// Fetches a portion beside another that comes from `source`. It can be done without, and has no
    /// place. `None`: that address is no longer good.
    ///
    /// # Errors
    /// It has no such portion, or not of the same bytes, as far as can be said.
    pub async fn fetch_beside(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        portion: &Portion,
        asked: (&Requester, &Source),
    ) -> Result<Option<Fetched>> {
        Box::pin(fetch::fetch_beside(&self.0, site, repository, what, portion, asked)).await
    }

    /// Whether somebody waits for a place to fetch something in.
    pub fn is_full(&self) -> bool {
        self.1.transfers.is_waited_for()
    }

    /// Passes a client's `Range` on and the answer back, whatever it is: 200, 206 or 416.
    ///
    /// # Errors
    /// Upstream refused, or did not answer.
    pub async fn fetch_range(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        range: &HeaderValue,
        requester: &Requester,
    ) -> Result<(Answer, Place)> {
        let place = self.place(what, requester).await?;
        let answer = Box::pin(fetch::fetch_range(&self.0, site, repository, what, range, requester)).await?;
        Ok((answer, place))
    }

    /// A place to fetch something in. A manifest is short, and keeps nobody waiting.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn place(&self, what: &What, requester: &Requester) -> Result<Place> {
        match what {
            What::Blob(_) => self.1.transfers.enter_for(requester.cost.applicants()).await,
            What::Manifest(_) | What::List(_) => self.1.questions.enter_for(requester.cost.applicants()).await,
        }
    }

    /// Sends a request with the client's own fields, for what is never kept.
    ///
    /// # Errors
    /// Upstream refused, or did not answer.
    pub async fn fetch_as_asked(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        wording: Wording<'_>,
        requester: &Requester,
    ) -> Result<(Answer, Place)> {
        let place = self.place(what, requester).await?;
        let answer = Box::pin(fetch::fetch_as_asked(&self.0, site, repository, what, wording, requester)).await?;
        Ok((answer, place))
    }

    /// Asks what is left of a quota, as anonymous, or with the operator's account.
    ///
    /// # Errors
    /// No response came, the account cannot be used, or the response is no answer to this.
    pub fn probe(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        charged: Identity,
        requester: &Requester,
    ) -> impl Future<Output = Result<Probed>> {
        probe::probe(&self.0, site, repository, what, charged, requester)
    }

    /// Whether a registry takes the operator's account, whatever that may read there. `what`: any
    /// content, for how the registry wants to be asked.
    ///
    /// # Errors
    /// It does not, or cannot be asked.
    pub fn try_account(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        requester: &Requester,
    ) -> impl Future<Output = Result<()>> {
        probe::try_account(&self.0, site, repository, what, requester)
    }

    /// Sends a client's request to `origin` under the path and query `target`, with its own fields.
    ///
    /// # Errors
    /// No response came.
    pub async fn pass(
        &self,
        registry: &Arc<str>,
        kind: route::Kind,
        cost: &UpstreamCost,
        origin: &Origin,
        target: &str,
        forwarded: Forwarded,
    ) -> Result<Response<Transfer>> {
        let place = self.1.of(registry, kind).enter_for(cost.applicants()).await?;
        let sending = Sending::at(&place, &forwarded);
        let passed = Box::pin(pass::pass(self.tokens(), registry, kind, cost, origin, target, forwarded));
        let answered = match sending {
            None => passed.await?,
            Some(sending) => tokio::select! {
                answered = passed => answered?,
                cut = sending.cut() => return Err(cut),
            },
        };
        Ok(paced_at(place, answered))
    }

    /// Gets a new token for anonymous requests at `url`; many who want it cost one request.
    ///
    /// # Errors
    /// The token service refused, did not answer, or answered with something that is no token.
    pub fn token(
        &self,
        site: &Site,
        url: String,
        requester: &Requester,
        author: Author,
    ) -> impl Future<Output = Result<Arc<Token>>> {
        self.tokens().issued(site, url, requester, author)
    }

    /// Reads all of a body, at most `most` bytes.
    ///
    /// # Errors
    /// The body broke off, is longer, or stopped coming.
    pub fn collect(&self, body: impl Into<Transfer>, most: usize) -> impl Future<Output = Result<Bytes>> {
        self.client().collect(body, most)
    }

    /// The challenges of registries, and anonymous tokens.
    pub fn auth(&self) -> &Auth {
        &self.tokens().auth
    }

    /// Forgets an anonymous token that a client showed and the registry did not take, if it is the one
    /// that is given to who asks for one to read `repository`.
    pub fn token_refused(&self, site: &Site, repository: &Repository, shown: &HeaderValue) {
        self.tokens().refused(site, &site.registry.chain.at_registry(repository), shown);
    }

    /// Keeps the challenges of a response, if it has any.
    pub fn learn(&self, site: &Site, headers: &HeaderMap) -> Arc<[Challenge]> {
        self.tokens().learn(site, headers)
    }

    /// Tells clients apart by their credentials.
    pub fn keyring(&self) -> &Keyring {
        &self.tokens().keyring
    }

    /// Whether a request was sent by this process: what it was sent to leads back.
    pub fn has_sent(&self, headers: &HeaderMap) -> bool {
        self.client().has_sent(headers)
    }

    /// Signs a response to a request of this process: without it anybody could say that the request
    /// came back.
    pub fn sign(&self, headers: &mut HeaderMap) {
        self.client().sign(headers);
    }

    /// How long a HEAD may take while there is a copy to serve.
    pub fn resolve_deadline(&self) -> Duration {
        self.client().resolve_deadline
    }

    /// How long a transfer may be silent.
    pub fn idle_timeout(&self) -> Duration {
        self.client().idle_timeout
    }

    /// Why no source gives the bytes of a manifest now for want of quota; `None` if one may.
    pub fn spent(&self, site: &Site, repository: &Repository, what: &What, requester: &Requester) -> Option<Error> {
        self.client().quota.spent(site, repository, what, requester)
    }

    /// Takes one attempt to resume a transfer off the budget of a registry, and says how long it
    /// has to wait.
    pub fn retry_pacing(&self, registry: &Arc<str>) -> Duration {
        self.client().retry_pacing.wait(registry, self.client().clock.now())
    }

    /// Why requests to `site` fail now, but for trials; `None` also where another source answers
    /// that is believed what tags name.
    pub fn unreachable(&self, site: &Site) -> Option<Error> {
        self.client().outages.unreachable(site)
    }

    /// A source sent other bytes than those of a digest: others are asked for it before, for an hour.
    pub fn sent_wrong(&self, digest: &Digest, source: &fetch::Source) {
        if let Some(name) = source.sent_by() {
            self.client().wrong.note((digest.clone(), name.clone()), self.client().clock.now());
        }
    }

    /// Whether a source lately did not send this requester a manifest that another source may name otherwise.
    pub fn is_unsent(&self, site: &Site, repository: &Repository, digest: &Digest, requester: &Requester) -> bool {
        self.0.is_unsent(site, repository, digest, requester)
    }

    /// All hosts that do not answer now, those first that are needed.
    pub fn unreachable_hosts(&self) -> Vec<Unreachable> {
        self.client().outages.report(|registry, origin| self.part(registry, origin))
    }

    /// What a host is to a registry.
    fn part(&self, registry: &str, origin: &Origin) -> Part {
        let Origin { scheme, host, port } = origin;
        let is_away = || self.is_away(registry);
        match self.0.registries.by_host(*scheme, host, *port) {
            // By a pattern.
            Some((site, _)) if site.namespace != site.registry.name => Part::Named,
            Some((_, Role::Tokens)) => Part::Needed,
            _ => {
                let site = self.0.registries.by_name(registry);
                let is_itself = site.is_some_and(|site| site.origin == *origin);
                if is_itself && is_away() { Part::Needed } else { Part::Bridged }
            }
        }
    }

    /// Whether it is known that a registry is unreachable.
    pub fn is_away(&self, namespace: &str) -> bool {
        let site = self.0.registries.by_name(namespace);
        site.is_some_and(|site| self.unreachable(&site).is_some())
    }

    /// Whether a request to `site` would be sent now.
    ///
    /// # Errors
    /// The host does not answer, and it is not time for a trial.
    pub fn is_due(&self, site: &Site) -> Result<()> {
        self.client().outages.is_due(site)
    }

    /// Part of the key of a question that many share. It changes after each failure, and when it is
    /// time for a trial: who asks then does not wait for an earlier question, which may never be
    /// answered. No value comes twice.
    pub fn generation(&self, site: &Site) -> u64 {
        self.client().outages.generation(site)
    }

    /// The result of `asking`, if it comes before the deadline. Who has a deadline has something to
    /// fall back on, and does not wait for a host that is unreachable. What `asking` has begun
    /// elsewhere by then goes on, and is the trial if one is due.
    ///
    /// # Errors
    /// Those of `asking`, that it took too long, and that the host is unreachable.
    pub fn in_time<T>(
        &self,
        site: &Site,
        deadline: Option<Duration>,
        asking: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.client().outages.in_time(site, deadline, asking)
    }

    /// Forgets hosts that were not asked for long.
    pub fn tidy(&self) {
        self.client().outages.tidy();
    }
}
