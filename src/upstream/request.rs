//! A request on its way upstream, and what seawall knows of it beside its head and its body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::requester::UpstreamCost;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::ledger::Identity;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;

/// The body of a request to an upstream: empty, a form, or what a client uploads.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// All of a form, which a request for a token has in memory: it may be sent again although it has begun, for
/// who asks for a token twice gets two.
#[derive(Clone)]
pub(super) struct Form(Bytes);

impl Form {
    pub(super) fn body(&self) -> RequestBody {
        Full::new(self.0.clone()).map_err(|never| match never {}).boxed_unsync()
    }
}

/// The same request, with a form.
pub fn with_form(request: Request<()>, form: impl Into<Bytes>) -> Request<RequestBody> {
    let form = Form(form.into());
    let mut request = request.map(|()| form.body());
    request.extensions_mut().insert(form);
    request
}

/// The registry's name in metrics and logs for hosts that belong to no registry.
pub const NO_REGISTRY: &str = "-";

/// The protocol that a request is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/2 where the other side has it, else HTTP/1.1.
    Any,
    /// HTTP/1.1, unless the host is known to speak HTTP/2 alone.
    H1,
}

/// Who wrote the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Seawall: the request is well formed.
    Seawall,
    /// A client, whose words are passed on, or whose credential is shown: a failure may be the
    /// request's own fault.
    Client,
}

/// What a request is about, for the breaker, the books of quota and the metrics.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// The name of the registry, or [`NO_REGISTRY`].
    pub(super) registry: &'a Arc<str>,
    pub(super) kind: route::Kind,
    /// What the client's request has cost so far; this request is added.
    pub(super) cost: &'a UpstreamCost,
    /// The quota that the request counts against; `None` where no quota counts it, or it does not
    /// go to the registry itself.
    pub(super) debit: Option<Debit<'a>>,
    /// Of a request for a token: who it is for; `None` where the credential is in a form or a
    /// query, which are not read.
    pub(super) applicant: Option<Identity>,
    pub(super) author: Author,
    pub(super) wire: Wire,
    /// Whether it asks for more of what is on its way already: it can be done without, so what becomes of
    /// it says nothing of its host.
    pub(super) is_beside: bool,
    /// Of an upload: when its body last moved. A request without one has to be answered within the
    /// idle timeout.
    pub(super) activity: Option<&'a Activity>,
}

impl<'a> About<'a> {
    /// A request of seawall's own, without a credential, that no quota counts.
    pub(super) fn new(registry: &'a Arc<str>, kind: route::Kind, cost: &'a UpstreamCost) -> About<'a> {
        About {
            registry,
            kind,
            cost,
            debit: None,
            applicant: Some(Identity::Anonymous),
            author: Author::Seawall,
            wire: Wire::Any,
            is_beside: false,
            activity: None,
        }
    }
}

impl About<'_> {
    /// How long its answer was waited for, of an idle timeout and that of what is all sent.
    pub(super) fn patience(&self, (idle, committed): (Duration, Duration)) -> Duration {
        if self.activity.is_some_and(Activity::has_left) { committed } else { idle }
    }
}

/// The quota that a request counts against.
#[derive(Clone, Copy)]
pub(super) struct Debit<'a> {
    pub(super) site: &'a Site,
    /// The repository's name as the client has it.
    pub(super) repository: &'a Repository,
    /// Whose credential the request shows.
    pub(super) charged: Identity,
}

/// A client's request, ready to be passed on.
#[derive(Debug)]
pub struct Forwarded {
    /// The head as the client sent it, and the body.
    pub request: Request<RequestBody>,
    /// When the body last moved; `None` where all of it is in memory.
    pub activity: Option<Activity>,
}

/// When a request's body last moved, and whether all of an upload has left: it may take hours, as long
/// as bytes move. Clones share one.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Moving>);

#[derive(Debug)]
struct Moving {
    so_far: Mutex<Moved>,
    left: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Moved {
    last: Instant,
    bytes: u64,
    has_left: bool,
}

impl Default for Activity {
    fn default() -> Activity {
        let so_far = Mutex::new(Moved { last: Instant::now(), bytes: 0, has_left: false });
        Activity(Arc::new(Moving { so_far, left: Notify::new() }))
    }
}

impl Activity {
    /// Notes that so many bytes moved just now.
    pub fn touch(&self, bytes: u64) {
        let mut so_far = self.0.so_far.lock();
        (so_far.last, so_far.bytes) = (Instant::now(), so_far.bytes + bytes);
    }

    /// Notes that all of an upload has left: a registry may take its time to commit it.
    pub fn all_left(&self) {
        let mut so_far = self.0.so_far.lock();
        (so_far.last, so_far.has_left) = (Instant::now(), true);
        drop(so_far);
        self.0.left.notify_one();
    }

    /// Bytes that moved so far.
    pub(super) fn moved(&self) -> u64 {
        self.read().bytes
    }

    pub(super) fn has_left(&self) -> bool {
        self.read().has_left
    }

    fn read(&self) -> Moved {
        *self.0.so_far.lock()
    }

    async fn left(&self) {
        self.0.left.notified().await;
    }
}

/// The result of `work`; `None` if it took longer than `idle`, counted again from each `activity`, or,
/// once all of an upload has left, than `committed`.
pub(super) async fn unless_idle<F: Future>(
    activity: Option<&Activity>,
    (idle, committed): (Duration, Duration),
    work: F,
) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    let begun = Instant::now();
    let idle_at = || match activity.map(Activity::read) {
        None => Some(begun + idle),
        Some(Moved { last, has_left: true, .. }) => last.checked_add(committed),
        Some(Moved { last, .. }) => Some(last + idle),
    };
    loop {
        let until = idle_at();
        tokio::select! {
            done = &mut work => return Some(done),
            () = async { activity.expect("checked by the guard").left().await }, if activity.is_some() => {}
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                if idle_at().is_some_and(|at| at <= Instant::now()) {
                    return None;
                }
            }
        }
    }
}

/// The body of a request that has none.
pub(super) fn no_body() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A request of seawall's own, without a body.
///
/// # Errors
/// Upstream named an invalid URL.
pub(super) fn build(
    method: &Method,
    origin: &Origin,
    target: &str,
    fields: &HeaderMap,
    authorization: Option<&HeaderValue>,
) -> Result<Request<RequestBody>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{origin}{target}"))
        .body(no_body())
        .map_err(|error| Error::caused(Kind::Broken, format!("{} named an invalid URL", origin.host), error))?;
    let headers = request.headers_mut();
    headers.extend(fields.clone());
    // Never a transport encoding: lengths and ranges must be those of the content.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("seawall/", env!("CARGO_PKG_VERSION"))));
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    Ok(request)
}

/// The request with the `Via` of those seawalls that had the client's request before: a loop of
/// several is found by it.
pub(super) fn with_via(mut request: Request<RequestBody>, via: Option<&HeaderValue>) -> Request<RequestBody> {
    if let Some(via) = via {
        request.headers_mut().insert(header::VIA, via.clone());
    }
    request
}
