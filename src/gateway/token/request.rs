//! A client's request for a token, read before it is sent on: what it wants decides who may answer
//! it when the token service does not.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::error::{Error, Kind, Result};
use crate::gateway::relay::path_and_query;
use crate::gateway::upload;
use crate::oci::token_request::{TokenRequest, basic};
use crate::policy::offline_token::Shows;
use crate::upstream::requester::{Credential, Requester};
use crate::upstream::{Forwarded, with_form};

/// Bytes of a form: some scopes, and a refresh token of some thousand bytes.
const LONGEST_FORM: usize = 64 << 10;

/// A request for a token, ready to be sent on.
pub(crate) struct ClientTokenRequest {
    /// Path and query.
    pub(crate) target: String,
    /// Header fields and body.
    pub(crate) http: Forwarded,
    /// The scopes it wants and the login it shows, if it is of a form that is known.
    pub(crate) wanted: Option<TokenRequest>,
    /// Whether it shows a credential.
    pub(crate) shows: Shows,
    /// Whether it is anonymous: a GET without a credential whose URL names no account. Every client
    /// that sends the same gets the same.
    pub(crate) is_anonymous: bool,
}

impl ClientTokenRequest {
    /// Reads the query of a GET or the form of a POST; the client may be silent for `patience`.
    /// Whatever else is sent to a token service is left as it is.
    ///
    /// # Errors
    /// The form is too long, or broke off.
    pub(crate) async fn read(
        request: Request<Incoming>,
        requester: &Requester,
        patience: Duration,
    ) -> Result<ClientTokenRequest> {
        let (target, query) = (path_and_query(&request), request.uri().query().map(str::to_owned));
        let (parts, body) = request.into_parts();
        let is_get = parts.method == Method::GET;
        if !is_get && (parts.method != Method::POST || !is_form(&parts.headers)) {
            let http = upload::forward(parts.headers, parts.method, body, None);
            return Ok(ClientTokenRequest {
                target,
                http,
                wanted: None,
                shows: Shows::Credential,
                is_anonymous: false,
            });
        }
        let (wanted, http) = if is_get {
            let authorization = requester.authorization.as_ref();
            let login = authorization.and_then(|value| basic(value.as_bytes()));
            let wanted = TokenRequest { login, ..TokenRequest::of_query(query.as_deref().unwrap_or_default()) };
            (wanted, upload::forward(parts.headers, parts.method, body, None))
        } else {
            let form = collected(body, patience).await?;
            (TokenRequest::of_form(&form), posted(parts.headers, form))
        };
        let shows_nothing = is_get && requester.credential == Credential::Anonymous;
        let shows = if shows_nothing { Shows::Nothing } else { Shows::Credential };
        let is_anonymous = is_get && requester.authorization.is_none() && names_no_account(query.as_deref());
        Ok(ClientTokenRequest { target, http, wanted: Some(wanted), shows, is_anonymous })
    }
}

/// Whether the query of a request for a token names no account. A parameter that is not known may
/// be a credential: `account`, `private_token`.
fn names_no_account(query: Option<&str>) -> bool {
    let names =
        || query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split('=').next().unwrap_or(pair));
    let known = |name| matches!(name, "" | "service" | "scope" | "client_id");
    names().all(known) && names().any(|name| matches!(name, "service" | "scope"))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    crate::oci::media_type::essence(kind).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

async fn collected(body: Incoming, patience: Duration) -> Result<Bytes> {
    match tokio::time::timeout(patience, Limited::new(body, LONGEST_FORM).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        // The error may show what was read.
        Ok(Err(_)) => Err(Error::new(Kind::Request, "the form of a token request broke off, or is longer than 64 KiB")),
        Err(_) => Err(Error::new(Kind::Request, "the form of a token request stopped coming")),
    }
}

fn posted(mut headers: HeaderMap, form: Bytes) -> Forwarded {
    // It was read already: nothing is left to wait for, and its length is known.
    headers.remove(header::EXPECT);
    headers.remove(header::CONTENT_LENGTH);
    let mut request = with_form(Request::new(()), form);
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers;
    Forwarded { request, activity: None }
}
