//! What comes back from upstream: a response, and how it came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::requester::{Credential, Payer, Requester};
use crate::dial::error::ADVICE;
use crate::error::{Error, Kind, Reply};
use crate::http::origin::Origin;
use crate::http::via::Pseudonym;
use crate::ledger::Identity;
use crate::oci::digest::Digest;
use crate::oci::error::code_of;
use crate::policy::sound;

/// Bytes of an error's body that are read and passed on: what every answer may have in memory. Of a
/// longer one its status is.
const MAX_ERROR_BODY: usize = 16 << 10;

/// Where a response comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The host that was asked.
    Direct,
    /// Another origin, which a redirect led to: its refusals are not the registry's.
    Redirect,
}

/// Where an answer came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub origin: Origin,
    /// Path and query there; they may be signed.
    pub target: String,
}

/// What a success proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proves {
    /// Nothing: it came from a source that is trusted with bytes alone.
    Nothing,
    /// That the repository has it: the operator's account paid, which anonymous may not be.
    Presence,
    /// That this requester may read it there.
    Grant(Credential),
}

/// A response from upstream, and how it came.
#[derive(Debug)]
pub struct Answer {
    /// The response: of a question, neither a redirect nor a challenge that seawall can meet.
    pub response: Response<Incoming>,
    /// Where the response comes from.
    pub via: Via,
    /// Where the response to a question comes from, after redirects.
    pub address: Option<Address>,
    /// Whether a success is the registry's grant to the requester. A source that is trusted with
    /// bytes alone grants nothing.
    pub grants: bool,
    /// Of a success: the digest of the content, where it names one (see [`sound::judge`]). For a
    /// digest that was asked for, it is that one.
    ///
    /// [`sound::judge`]: crate::policy::sound::judge
    pub names: Option<Digest>,
    /// Of a question: whose credential it showed. Of any other request: whose quota it counted
    /// against.
    pub paid_by: Identity,
    /// What the operator's account got, if it was asked before, in vain.
    pub account: Option<Kind>,
    /// Of a tag's HEAD, where there are other sources: the books say that whoever named the digest
    /// sends no manifest to who asked, for want of quota.
    pub is_unable: bool,
    /// Where there are other sources: the name of the one that answered.
    pub sent_by: Option<Arc<str>>,
    /// Of a 429: what it means, until when it holds, and what can be done, in seawall's words.
    pub limit: Option<Error>,
}

impl Answer {
    /// What this answer to a requester proves, if it is a success.
    pub fn proves(&self, requester: &Requester) -> Proves {
        match (requester.payer, self.paid_by) {
            _ if !self.grants => Proves::Nothing,
            (Payer::AccountForAll, Identity::Account) => Proves::Presence,
            // The account was refused, or could not be used.
            (Payer::Account | Payer::AccountForAll, Identity::Anonymous) => Proves::Grant(Credential::Anonymous),
            _ => Proves::Grant(requester.credential.asked_as()),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the status is what the host that was asked says, and not where it redirected to.
    pub(super) fn is_direct(&self) -> bool {
        self.via == Via::Direct
    }

    /// Reads the rest of a response that is no success, and makes the error of it that a client
    /// gets. `own` is how this process knows a request of its own that came back.
    pub(super) async fn into_error(self, host: &str, own: &Pseudonym, idle_timeout: Duration) -> Error {
        let Answer { response, via, paid_by, account, limit, .. } = self;
        let (parts, body) = response.into_parts();
        let body = match tokio::time::timeout(idle_timeout, Limited::new(body, MAX_ERROR_BODY).collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            _ => Bytes::new(),
        };
        if let Some(limit) = limit {
            return limit;
        }
        let came_back = parts.status == StatusCode::LOOP_DETECTED && own.has_signed(&parts.headers);
        let kind = match () {
            () if came_back => Kind::Looped,
            // A gate's, or a store's, and no word of the registry's.
            () if is_refusal(parts.status) && via == Via::Direct && !sound::is_registrys(&parts.headers) => {
                Kind::Rejected
            }
            () => kind(parts.status, via),
        };
        let code = code_of(&body).map(|code| format!(" {code}")).unwrap_or_default();
        let message = match came_back {
            true => leads_back(host),
            false => format!("{host} answered {}{code}", parts.status.as_u16()),
        };
        let status = match (kind, via) {
            (Kind::Broken, Via::Redirect) => StatusCode::BAD_GATEWAY,
            // Nobody asked for what it says.
            _ if !parts.status.is_client_error() && !parts.status.is_server_error() => StatusCode::BAD_GATEWAY,
            _ => parts.status,
        };
        // Registries name the account in the body (Docker Hub: "pull rate limit as 'NAME'").
        let body = if paid_by == Identity::Account { Bytes::new() } else { body };
        let error = Error::replied(kind, message, Reply { status, headers: to_pass_on(parts.headers, via), body });
        error.because(AnswerTo { identity: paid_by, account })
    }
}

/// The cause of an error that is upstream's answer to this identity.
#[derive(Debug, thiserror::Error)]
#[error("it is upstream's answer")]
pub struct AnswerTo {
    /// Who asked last: where the account gets nothing, that is anonymous.
    pub identity: Identity,
    /// What the account got before that.
    pub account: Option<Kind>,
}

/// To whom upstream gave the answer that an error is made of.
pub fn answered_to(error: &Error) -> Option<&AnswerTo> {
    error.cause()?.downcast_ref()
}

fn kind(status: StatusCode, via: Via) -> Kind {
    match status {
        // Storage that a redirect led to: an expired signature says nothing about permission.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if via == Via::Redirect => Kind::Broken,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Refused,
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::Missing,
        StatusCode::TOO_MANY_REQUESTS => Kind::Limited,
        StatusCode::REQUEST_TIMEOUT => Kind::Broken,
        status if status.is_client_error() && via == Via::Direct => Kind::Rejected,
        _ => Kind::Broken,
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The fields of an error, which may be passed on to all who asked the same.
fn to_pass_on(mut headers: HeaderMap, via: Via) -> HeaderMap {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::SET_COOKIE);
    if via == Via::Redirect {
        headers.remove(header::WWW_AUTHENTICATE);
    }
    headers
}

/// The sentence about a host that leads back to seawall.
pub fn leads_back(host: &str) -> String {
    format!("{host} resolves to me: {ADVICE}")
}
