//! One request and the head of its response:
//!
//! 1. the breaker's permit, and the gate of upstream's quotas: a request that only would fail is
//!    not sent;
//! 2. a connection from the registry's pool;
//! 3. what the response means is counted: by the breaker, in the metrics, in the books of quota.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::answer::{Answer, Via};
use super::breaker::{Failing, Key, Outages};
use super::lanes::Transfer;
use super::lately::{Unsent, WrongSenders};
use super::permit::{Permit, is_gateways, silent_for};
use super::pool::{Pool, Pools};
use super::quota::QuotaGate;
use super::request::{About, NO_REGISTRY, RequestBody, Wire, build, unless_idle};
use super::resend::{Receiver, Resendable};
use super::retry_pacing::RetryPacing;
use crate::clock::Clock;
use crate::dial::connect::Dialer;
use crate::dial::error::{DialError, certificate_refused, dial_error};
use crate::dial::settings::Settings;
use crate::dial::stream::Answered;
use crate::dial::tls::TlsError;
use crate::error::{Error, Kind, Result};
use crate::http::via::Pseudonym;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::oci::route;
use crate::policy::breaker::{Failed, Failure, Pass};
use crate::policy::registry::Registries;
use crate::task::Tasks;

/// How often a request is sent over connections that are kept.
const KEPT_ATTEMPTS: usize = 3;

/// What upstream shares with the rest of the process.
#[derive(Clone)]
pub struct Shared {
    /// The clock that requests, limits and outages are timed by.
    pub clock: Clock,
    /// Runs what outlives a request.
    pub tasks: Tasks,
    /// Counts requests, their statuses, what is left of quotas.
    pub metrics: Metrics,
    /// The books of upstream's quota.
    pub ledger: Ledger,
    /// Bodies that may come from upstream at once.
    pub transfers: usize,
    /// Requests to hosts that are no registries at once.
    pub forwards: usize,
}

/// Sends requests to upstreams, one at a time or many.
pub(super) struct Client {
    pools: Pools,
    via: Pseudonym,
    pub(super) outages: Outages,
    pub(super) quota: QuotaGate,
    pub(super) retry_pacing: RetryPacing,
    pub(super) wrong: WrongSenders,
    pub(super) unsent: Unsent,
    /// How long a transfer may be silent.
    pub(super) idle_timeout: Duration,
    /// How long the answer to an upload is waited for that is all sent.
    upload_timeout: Duration,
    /// How long a HEAD may take while there is a copy to serve.
    pub(super) resolve_deadline: Duration,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
}

impl Client {
    /// # Errors
    /// The configured roots or client certificates cannot be used.
    pub(super) fn new(
        settings: &Settings,
        registries: &Registries,
        dialer: &Dialer,
        shared: Shared,
    ) -> std::result::Result<Client, TlsError> {
        let Shared { clock, tasks, metrics, ledger, .. } = shared;
        Ok(Client {
            pools: Pools::new(settings, registries, dialer)?,
            via: dialer.pseudonym().clone(),
            outages: Outages::new(clock.clone(), metrics.clone(), settings.resolve_deadline),
            quota: QuotaGate { ledger, clock: clock.clone(), metrics: metrics.clone() },
            retry_pacing: RetryPacing::default(),
            wrong: WrongSenders::wrong(),
            unsent: Unsent::unsent(),
            idle_timeout: settings.idle_timeout,
            upload_timeout: settings.upload_timeout,
            resolve_deadline: settings.resolve_deadline,
            clock,
            tasks,
            metrics,
        })
    }

    /// Whether a request was sent by this process: what it was sent to leads back.
    pub(super) fn has_sent(&self, headers: &HeaderMap) -> bool {
        self.via.has_signed(headers)
    }

    /// Signs a response to a request of this process: without it anybody could say that the request
    /// came back.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        self.via.sign(headers);
    }

    /// Sends one request, and waits for the head of its response as long as the idle timeout.
    ///
    /// # Errors
    /// The request is not sent, as its host is known not to answer or a limit holds; or no response
    /// came.
    pub(super) async fn send(self: &Arc<Self>, about: About<'_>, mut request: Request<RequestBody>) -> Result<Answer> {
        self.via.sign(request.headers_mut());
        let ask = |key| drop(self.tasks.spawn(self.clone().ask_itself(key)));
        let permit = Permit::admit(&self.outages, &about, &request, &ask)?;
        let method = label(request.method());
        let host = request.uri().host().unwrap_or_default().to_owned();
        let booking = self.quota.admit(&about, &request)?;
        about.cost.add_request();
        let pool = self.pools.of(about.registry);
        // Behind a registry's name is more than its API of images.
        let is_of_images = **about.registry != *NO_REGISTRY && about.kind != route::Kind::Other;
        let receiver = if is_of_images { Receiver::Registry } else { Receiver::Other };
        // Boxed: it is large, and what it is a part of is moved.
        let sending = Box::pin(sent((pool, receiver), about.wire, &host, request));
        let patience = (self.idle_timeout, self.upload_timeout);
        let answered = match permit.watch(unless_idle(about.activity, patience, sending)).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(failure(&host, error)),
            None => Err(Error::new(
                Kind::Timeout,
                format!("{host} did not answer within {}", humantime::format_duration(about.patience(patience))),
            )),
        };
        permit.settle(answered.as_ref().map(Response::status));
        if about.wire == Wire::H1 && answered.as_ref().is_err_and(wants_another_protocol) {
            pool.note_h2_alone(host);
        }
        let status = answered.as_ref().map_or(0, |response| response.status().as_u16());
        self.metrics.upstream_request(about.registry, about.kind.as_str(), method, status);
        let response = answered?;
        let limit = self.quota.record(&about, &booking, &response);
        let paid_by = booking.identity();
        Ok(Answer {
            response,
            via: Via::Direct,
            address: None,
            grants: true,
            names: None,
            paid_by,
            account: None,
            is_unable: false,
            sent_by: None,
            limit,
        })
    }

    /// A question of seawall's own, where one client alone says that a host does not answer: `GET /v2/`,
    /// which needs no credential and no quota counts. Any answer but a gateway's shows that it is there.
    async fn ask_itself(self: Arc<Self>, key: Key) {
        let (outages, (registry, origin)) = (&self.outages, &key);
        let (begun, host) = (outages.clock.now(), origin.host.to_string());
        let Ok(mut request) = build(&Method::GET, origin, "/v2/", &HeaderMap::new(), None) else { return };
        self.via.sign(request.headers_mut());
        let sending = sent((self.pools.of(registry), Receiver::Registry), Wire::Any, &host, request);
        let answered = match tokio::time::timeout(outages.silence, Box::pin(sending)).await {
            Ok(answered) => answered.map(|response| response.status()).map_err(|error| failure(&host, error)),
            Err(_) => Err(Error::new(Kind::Timeout, silent_for(outages.silence))),
        };
        let status = answered.as_ref().map_or(0, StatusCode::as_u16);
        self.metrics.upstream_request(registry, route::Kind::Other.as_str(), "GET", status);
        let (kind, why) = match answered {
            Ok(status) if is_gateways(status) => (Kind::Broken, format!("it answered {}", status.as_u16())),
            Ok(_) => return outages.answered(&key),
            Err(error) => (error.kind(), error.message().to_owned()),
        };
        let failed = Failed { how: Failure::Own, sent: begun, since: begun, at: outages.clock.now() };
        let asks_again = outages.failed(&key, Pass::Free, Failing { failed, kind, why: || why });
        debug_assert!(!asks_again, "its own failure leaves nothing to ask");
    }

    /// Reads the rest of a response of `host` that is no success, and makes the error of it that a
    /// client gets.
    pub(super) async fn refusal(&self, host: &str, answer: Answer) -> Error {
        answer.into_error(host, &self.via, self.idle_timeout).await
    }

    /// All of a body, at most `most` bytes.
    pub(super) async fn collect(&self, body: impl Into<Transfer>, most: usize) -> Result<Bytes> {
        match tokio::time::timeout(self.idle_timeout, Limited::new(body.into(), most).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(Error::caused(Kind::Broken, "upstream's response broke off, or is too long", error)),
            Err(_) => Err(Error::new(Kind::Timeout, "upstream stopped sending its response")),
        }
    }
}

/// The response to a request. What was not processed is sent again, in the end over a connection of
/// its own: all that are kept may be dead.
async fn sent(
    (pool, receiver): (&Pool, Receiver),
    wire: Wire,
    host: &str,
    request: Request<RequestBody>,
) -> std::result::Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let mut request = Resendable::new(request);
    for _ in 0..KEPT_ATTEMPTS {
        let (attempt, chosen) = request.attempt();
        let answered = tokio::select! {
            biased;
            answered = pool.client(wire, host).request(attempt) => answered,
            () = request.is_left_lying(chosen) => continue,
        };
        match answered {
            Err(error) if request.may_be_sent_again(&error, receiver) => {}
            answered => return answered.inspect(note_answer),
        }
    }
    pool.fresh(wire, host).request(request.attempt().0).await
}

fn note_answer(response: &Response<Incoming>) {
    if let Some(answered) = response.extensions().get::<Answered>() {
        answered.note();
    }
}

/// Whether a request failed as its host speaks HTTP/2 alone.
pub(super) fn wants_another_protocol(error: &Error) -> bool {
    error.cause().and_then(|cause| dial_error(cause)).is_some_and(DialError::wants_another_protocol)
}

/// A method's label in the metrics: those that exist, as a client may write any.
fn label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn failure(host: &str, error: hyper_util::client::legacy::Error) -> Error {
    let (kind, message) = match dial_error(&error) {
        Some(dial @ (DialError::Refused { .. } | DialError::Loop { .. } | DialError::NoHost(_))) => {
            (Kind::Forbidden, dial.to_string())
        }
        Some(dial @ DialError::Timeout { .. }) => (Kind::Timeout, dial.to_string()),
        Some(dial) => (Kind::Unreachable, dial.to_string()),
        None => match certificate_refused(&error) {
            Some(said) => (Kind::Unreachable, format!("TLS with {host} failed: {said}")),
            None => (Kind::Unreachable, format!("the connection to {host} broke before it answered")),
        },
    };
    Error::caused(kind, message, error)
}
