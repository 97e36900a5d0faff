//! A request on its way to an upstream, and what seawall knows of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::requester::UpstreamCost;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::ledger::Identity;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;

/// What is sent upstream: nothing, or what a client uploads.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The name of what is no registry.
pub const NO_REGISTRY: &str = "-";

/// What a request is spoken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/2 where the other side has it.
    Any,
    /// HTTP/1.1.
    H1,
}

/// What a request is about, for the metrics.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The registry's name.
    pub registry: &'a Arc<str>,
    /// Of what.
    pub kind: route::Kind,
    /// What it costs the client.
    pub cost: &'a UpstreamCost,
    /// Whose quota it is taken off; `None` for what no quota counts, or not the registry's own.
    pub debit: Option<Debit<'a>>,
}

/// What a request is taken off, if upstream counts it.
#[derive(Clone, Copy)]
pub struct Debit<'a> {
    /// Whose.
    pub site: &'a Site,
    /// As the client calls it.
    pub repository: &'a Repository,
    /// Whose credential is shown.
    pub charged: Identity,
}

/// When a request last got on: an upload may take hours, as long as bytes go.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Mutex<Instant>>);

impl Default for Activity {
    fn default() -> Activity {
        Activity(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Activity {
    /// It got on just now.
    pub fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    /// The result of `work`, unless nothing got on for `idle`.
    pub(super) async fn while_active<F: Future>(&self, idle: Duration, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        loop {
            let until = *self.0.lock() + idle;
            match tokio::time::timeout_at(until, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if *self.0.lock() + idle > until => {}
                Err(_) => return None,
            }
        }
    }
}

/// The body of a request that has none.
pub(super) fn no_body() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

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
        .map_err(|error| Error::caused(Kind::Broken, format!("{} named a URL that is none", origin.host), error))?;
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
