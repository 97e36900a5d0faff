//! What is no pull: streamed both ways, untouched but for what is between two neighbours only.

use http::{HeaderMap, Request, Response, Uri, header};
use hyper::body::Incoming;

use super::breaker::Passed;
use super::client::Upstream;
use super::quota::Applicant;
use super::request::{About, RequestBody, Wire};
use super::requester::UpstreamCost;
use crate::error::{Error, Kind, Result};
use crate::http::headers::{strip_hop_by_hop, strip_look_alikes};
use crate::http::origin::Origin;
use crate::oci::route;

impl Upstream {
    /// Sends `request` to `origin` under the path and query `target`, with its own fields. Redirects are the client's to follow.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn pass(
        &self,
        registry: &std::sync::Arc<str>,
        kind: route::Kind,
        cost: &UpstreamCost,
        origin: &Origin,
        target: &str,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>> {
        let (mut parts, body) = request.into_parts();
        parts.uri = Uri::try_from(format!("{origin}{target}"))
            .map_err(|error| Error::caused(Kind::Request, "the path is not one that can be sent on", error))?;
        parts.version = http::Version::HTTP_11;
        parts.extensions.insert(Passed);
        clean(&mut parts.headers);
        if kind == route::Kind::Token {
            // Where it is in a form, or in the query, it is not seen.
            let shown = parts.headers.get(header::AUTHORIZATION);
            let requester = shown.map(|value| self.keyring().requester(Some(value), self.0.clock.now()));
            parts.extensions.insert(Applicant(requester.map(|requester| requester.credential.identity())));
        }
        self.send(About { registry, kind, cost, debit: None }, Wire::Any, Request::from_parts(parts, body)).await
    }
}

fn clean(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    strip_look_alikes(headers);
    // The client library writes its own, from the URL.
    headers.remove(header::HOST);
}
