//! The connections to upstreams: two clients of hyper's for each registry, and two for hosts that
//! belong to none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use super::request::{NO_REGISTRY, RequestBody, Wire};
use crate::dial::connect::Dialer;
use crate::dial::connector::{Https, Protocols, https_connector};
use crate::dial::settings::Settings;
use crate::dial::tls::{TlsError, tls_config};
use crate::policy::registry::{Registries, Registry};

/// Windows for upstreams far away: 8 MiB at 50 ms round trip is 160 MB/s a stream.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// ECR's and GitLab's tokens and signed URLs are kilobytes long.
const MAX_HEADERS: u32 = 128 << 10;
/// Bytes of one read, and of a head, over HTTP/1.1. hyper's own measure is 408 KiB, which a fast
/// upstream fills before the first of them is passed on, and a slow one leaves empty, but taken,
/// around each frame.
const MAX_READ: usize = 128 << 10;

/// hyper's client, which keeps connections for the next request.
pub(super) type HttpClient = Client<Https, RequestBody>;

/// The pools of all registries. Each has roots and certificates of its own, so none shares a
/// connection with another.
pub(super) struct Pools {
    registries: HashMap<Arc<str>, Pool>,
    /// For hosts that belong to no registry.
    others: Pool,
}

impl Pools {
    /// # Errors
    /// The configured roots or client certificates cannot be used.
    pub(super) fn new(settings: &Settings, registries: &Registries, dialer: &Dialer) -> Result<Pools, TlsError> {
        let mut pools = HashMap::new();
        for registry in registries.iter() {
            pools.insert(registry.name.clone(), Pool::new(settings, registry, dialer)?);
        }
        let none = Arc::new(Registry { name: NO_REGISTRY.into(), ..Registry::default() });
        Ok(Pools { registries: pools, others: Pool::new(settings, &none, &dialer.apart())? })
    }

    /// The pool of a registry.
    pub(super) fn of(&self, registry: &str) -> &Pool {
        self.registries.get(registry).unwrap_or(&self.others)
    }
}

/// The connections on behalf of one registry.
pub(super) struct Pool {
    /// Manifests, tokens, uploads.
    any: HttpClient,
    /// Blobs: a connection each, so that none waits for the window of another, and a byte costs
    /// less.
    h1: HttpClient,
    /// The same, without connections that are kept.
    fresh_any: HttpClient,
    fresh_h1: HttpClient,
    /// Hosts that speak HTTP/2 alone.
    h2_alone: Mutex<HashSet<String>>,
}

impl Pool {
    fn new(settings: &Settings, registry: &Arc<Registry>, dialer: &Dialer) -> Result<Pool, TlsError> {
        let (global, own) = (settings.ca_pem.as_deref(), registry.ca_pem.as_deref());
        let others = tls_config(global, own, None)?;
        let own = match &registry.client_certificate {
            Some(client) => tls_config(global, own, Some(client))?,
            None => others.clone(),
        };
        let client = |alpn, kept| {
            Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(kept)
                .http1_max_buf_size(MAX_READ)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_max_header_list_size(MAX_HEADERS)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .http2_keep_alive_timeout(Duration::from_secs(10))
                .build(https_connector(dialer.clone(), registry.clone(), own.clone(), others.clone(), alpn))
        };
        let [any, fresh_any] = [usize::MAX, 0].map(|kept| client(Protocols::H2AndH1, kept));
        let [h1, fresh_h1] = [usize::MAX, 0].map(|kept| client(Protocols::H1, kept));
        Ok(Pool { any, h1, fresh_any, fresh_h1, h2_alone: Mutex::default() })
    }

    /// The client for a request to `host` over `wire`.
    pub(super) fn client(&self, wire: Wire, host: &str) -> &HttpClient {
        if self.is_h1(wire, host) { &self.h1 } else { &self.any }
    }

    /// The same, over a connection that no other request had.
    pub(super) fn fresh(&self, wire: Wire, host: &str) -> &HttpClient {
        if self.is_h1(wire, host) { &self.fresh_h1 } else { &self.fresh_any }
    }

    fn is_h1(&self, wire: Wire, host: &str) -> bool {
        wire == Wire::H1 && !self.h2_alone.lock().contains(host)
    }

    /// Remembers that `host` speaks HTTP/2 alone.
    pub(super) fn note_h2_alone(&self, host: String) {
        self.h2_alone.lock().insert(host);
    }
}
