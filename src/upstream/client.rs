//! The connection pools, and one request over them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use super::account::Accounts;
use super::auth::Auth;
use super::breaker::Outages;
use super::pay::is_on_account;
use super::quota::ExplainedLimit;
use super::request::{About, Activity, NO_REGISTRY, RequestBody, Wire};
use super::requester::Keyring;
use super::retry_pacing::Paces;
use super::send::is_via_redirect;
use crate::clock::Clock;
use crate::dial::Settings;
use crate::dial::connect::Dialer;
use crate::dial::connector::{Https, Protocols, https_connector};
use crate::dial::error::certificate_refused;
use crate::dial::error::{DialError, dial_error};
use crate::dial::tls::{TlsError, tls_config};
use crate::error::{Error, Kind, Reply, Result};
use crate::http::via::Pseudonym;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::oci::error::code_of;
use crate::policy::registry::{Registries, Registry};
use crate::task::{Coalesced, Tasks};

/// Asks registries. Clones share everything.
#[derive(Clone)]
pub struct Upstream(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pools: HashMap<Arc<str>, Pool>,
    open: Pool,
    pub(super) idle_timeout: Duration,
    pub(super) resolve_deadline: Duration,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    pub(super) ledger: Ledger,
    pub(super) outages: Outages,
    pub(super) paces: Paces,
    pub(super) auth: Auth,
    pub(super) accounts: Accounts,
    pub(super) keyring: Keyring,
    via: Pseudonym,
    pub(super) tokens: Coalesced<(String, u64), Result<Arc<super::auth::Token>>>,
}

struct Pool {
    /// Manifests, tokens, uploads.
    both: Client<Https, RequestBody>,
    /// Blobs: a connection each, so that one does not wait for the window of another, and costs less per byte.
    h1: Client<Https, RequestBody>,
    /// Hosts that speak HTTP/2 alone.
    h2_alone: Mutex<HashSet<String>>,
}

/// Everything that [`Upstream`] shares with the rest of the process.
#[derive(Clone)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Runs what outlives a request.
    pub tasks: Tasks,
    /// Counts.
    pub metrics: Metrics,
    /// Keeps the books.
    pub ledger: Ledger,
}

/// Windows for upstreams far away: 8 MiB at 50 ms round trip is 160 MB/s a stream.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// ECR's and GitLab's tokens and signed URLs are kilobytes long.
const MAX_HEADERS: u32 = 128 << 10;
/// Bytes of one read, and of a head, over HTTP/1.1. hyper's own measure is 408 KiB, which a fast upstream fills before the first of them
/// is passed on, and a slow one leaves empty, but taken, around each frame.
const MAX_READ: usize = 128 << 10;
/// Bytes of an error's body that are read and passed on.
const MAX_ERROR_BODY: usize = 64 << 10;

impl Upstream {
    /// # Errors
    /// The configured roots are none.
    pub fn new(
        settings: &Settings,
        registries: &Registries,
        dialer: &Dialer,
        shared: Shared,
    ) -> std::result::Result<Upstream, TlsError> {
        let mut pools = HashMap::new();
        for registry in registries.iter() {
            pools.insert(registry.name.clone(), Pool::new(settings, registry, dialer)?);
        }
        let nobody = Arc::new(Registry { name: NO_REGISTRY.into(), ..Registry::default() });
        Ok(Upstream(Arc::new(Inner {
            pools,
            open: Pool::new(settings, &nobody, dialer)?,
            idle_timeout: settings.idle_timeout,
            resolve_deadline: settings.resolve_deadline,
            outages: Outages::new(shared.clock.clone(), shared.metrics.clone(), settings.resolve_deadline),
            paces: Paces::default(),
            clock: shared.clock,
            tasks: shared.tasks,
            metrics: shared.metrics,
            ledger: shared.ledger,
            auth: Auth::default(),
            accounts: Accounts::default(),
            keyring: Keyring::new(),
            via: dialer.pseudonym().clone(),
            tokens: Coalesced::default(),
        })))
    }

    /// Tells clients apart by their credentials.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// Whether a request was sent from here: what it was sent to leads back.
    pub fn has_sent(&self, headers: &HeaderMap) -> bool {
        self.0.via.has_signed(headers)
    }

    /// Signs an answer to what was sent from here: only so is it known who says that it came back.
    pub fn sign(&self, headers: &mut HeaderMap) {
        self.0.via.sign(headers);
    }

    /// Challenges and tokens of nobody.
    pub fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// How long a HEAD may take while there is a copy to serve.
    pub fn resolve_deadline(&self) -> Duration {
        self.0.resolve_deadline
    }

    /// How long a transfer may be silent.
    pub fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    /// Sends one request and waits for the head of its response, at most the idle timeout; not at all if its host is known not
    /// to answer.
    pub(super) async fn send(
        &self,
        about: About<'_>,
        wire: Wire,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>> {
        self.0.via.sign(request.headers_mut());
        let mut permit = self.0.outages.admit(about, &request)?;
        let method = label(request.method());
        let host = request.uri().host().unwrap_or_default().to_owned();
        let ask = self.may_ask(about, &request)?;
        about.cost.add_request();
        let pool = self.0.pools.get(about.registry).unwrap_or(&self.0.open);
        let client = match wire {
            Wire::H1 if !pool.h2_alone.lock().contains(&host) => &pool.h1,
            Wire::H1 | Wire::Any => &pool.both,
        };
        let activity = request.extensions().get::<Activity>().cloned().unwrap_or_default();
        let sent = activity.while_active(self.0.idle_timeout, client.request(request));
        let mut answered = match permit.watch(sent).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(failure(&host, error)),
            None => Err(Error::new(
                Kind::Timeout,
                format!("{host} did not answer within {}", humantime::format_duration(self.0.idle_timeout)),
            )),
        };
        permit.settle(&answered);
        if wire == Wire::H1 && answered.as_ref().is_err_and(speaks_h2_alone) {
            pool.h2_alone.lock().insert(host);
        }
        let status = answered.as_ref().map_or(0, |response| response.status().as_u16());
        self.0.metrics.upstream_request(about.registry, about.kind.as_str(), method, status);
        if let Ok(response) = &mut answered {
            self.keep_books(about, &ask, response);
        }
        answered
    }

    /// Reads the rest of a response that is not what was hoped for, and says what it means.
    pub(super) async fn refusal(&self, host: &str, response: Response<Incoming>) -> Error {
        let (elsewhere, on_account) = (is_via_redirect(&response), is_on_account(&response));
        let means = response.extensions().get::<ExplainedLimit>().cloned();
        let (parts, body) = response.into_parts();
        let limited = http_body_util::Limited::new(body, MAX_ERROR_BODY);
        let body = match tokio::time::timeout(self.0.idle_timeout, limited.collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            _ => Bytes::new(),
        };
        if let Some(ExplainedLimit(error)) = means {
            return error;
        }
        let came_back = parts.status == StatusCode::LOOP_DETECTED && self.has_sent(&parts.headers);
        let kind = match parts.status {
            _ if came_back => Kind::Looped,
            // Storage that a redirect led to: an expired signature is nobody's lack of permission.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if elsewhere => Kind::Broken,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Refused,
            StatusCode::NOT_FOUND | StatusCode::GONE => Kind::Missing,
            StatusCode::TOO_MANY_REQUESTS => Kind::Limited,
            StatusCode::REQUEST_TIMEOUT => Kind::Broken,
            status if status.is_client_error() && !elsewhere => Kind::Rejected,
            _ => Kind::Broken,
        };
        let said = code_of(&body).map(|code| format!(" {code}")).unwrap_or_default();
        let message = match came_back {
            true => leads_back(host),
            false => format!("{host} answered {}{said}", parts.status.as_u16()),
        };
        // Its words name the account (Docker Hub: "pull rate limit as 'NAME'").
        let body = if on_account { Bytes::new() } else { body };
        let mut headers = parts.headers;
        headers.remove(header::CONTENT_LENGTH);
        // It may be passed on to others who asked the same.
        headers.remove(header::SET_COOKIE);
        if elsewhere {
            headers.remove(header::WWW_AUTHENTICATE);
        }
        let status = if kind == Kind::Broken && elsewhere { StatusCode::BAD_GATEWAY } else { parts.status };
        Error::replied(kind, message, Reply { status, headers, body })
    }
}

/// What is said of a host that seawall is behind itself.
pub fn leads_back(host: &str) -> String {
    format!("{host} resolves to me: {}", crate::dial::error::ADVICE)
}

impl Pool {
    fn new(settings: &Settings, registry: &Arc<Registry>, dialer: &Dialer) -> std::result::Result<Pool, TlsError> {
        let (global, own) = (settings.ca_pem.as_deref(), registry.ca_pem.as_deref());
        let others = tls_config(global, own, None)?;
        let own = match &registry.client_certificate {
            Some(client) => tls_config(global, own, Some(client))?,
            None => others.clone(),
        };
        let client = |alpn| {
            Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(60))
                .http1_max_buf_size(MAX_READ)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_max_header_list_size(MAX_HEADERS)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .http2_keep_alive_timeout(Duration::from_secs(10))
                .build(https_connector(dialer.clone(), registry.clone(), own.clone(), others.clone(), alpn))
        };
        Ok(Pool { both: client(Protocols::H2AndH1), h1: client(Protocols::H1), h2_alone: Mutex::default() })
    }
}

/// The methods there are, so that nobody fills the metrics with others.
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

/// The other side has no protocol that was offered.
fn speaks_h2_alone(error: &Error) -> bool {
    error.cause().and_then(|cause| dial_error(cause)).is_some_and(DialError::wants_another_protocol)
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
