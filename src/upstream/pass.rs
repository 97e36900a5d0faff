//! What is no pull: streamed both ways, untouched but for what is between two neighbours only.

use std::sync::Arc;

use http::{HeaderMap, Request, Response, Uri, header};
use hyper::body::Incoming;

use super::request::{About, Author, Forwarded};
use super::requester::UpstreamCost;
use super::tokens::Tokens;
use crate::error::{Error, Kind, Result};
use crate::http::headers::{strip_hop_by_hop, strip_look_alikes};
use crate::http::origin::Origin;
use crate::ledger::Identity;
use crate::oci::route;

/// Sends a client's request to `origin` under the path and query `target`, with its own fields.
/// Redirects are the client's to follow.
///
/// # Errors
/// No response came.
pub(super) async fn pass(
    tokens: &Tokens,
    registry: &Arc<str>,
    kind: route::Kind,
    cost: &UpstreamCost,
    origin: &Origin,
    target: &str,
    forwarded: Forwarded,
) -> Result<Response<Incoming>> {
    let Forwarded { request, activity } = forwarded;
    let (mut parts, body) = request.into_parts();
    parts.uri = Uri::try_from(format!("{origin}{target}"))
        .map_err(|error| Error::caused(Kind::Request, "the path cannot be part of a URL", error))?;
    parts.version = http::Version::HTTP_11;
    clean(&mut parts.headers);
    let about = About { author: Author::Client, activity: activity.as_ref(), ..About::new(registry, kind, cost) };
    let about = match kind {
        route::Kind::Token => About { applicant: applicant(tokens, &parts.headers), ..about },
        _ => about,
    };
    Ok(tokens.client.send(about, Request::from_parts(parts, body)).await?.response)
}

/// Who a client's request for a token is for. A credential in a form, or in the query, is not seen.
fn applicant(tokens: &Tokens, headers: &HeaderMap) -> Option<Identity> {
    let shown = headers.get(header::AUTHORIZATION)?;
    Some(tokens.keyring.requester(Some(shown), tokens.client.clock.now()).credential.identity())
}

fn clean(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    strip_look_alikes(headers);
    // The client library writes its own, from the URL.
    headers.remove(header::HOST);
    // Some gateways go by these instead of the path, which is what was looked at.
    for name in ["x-original-url", "x-rewrite-url"] {
        headers.remove(name);
    }
}
