//! Who may come in: by which name this listener is called, from where, and with what
//! (`policy/operator`).

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::reply::text;
use crate::ca::Leaves;
use crate::clock::Clock;
use crate::oci::media_type::essence;
use crate::operate::token::Token;
use crate::policy::operator::{Cause, Deed, Leave, Shown, Way, may};

/// What opens it, once that is loaded. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The operator's token. Never set: none could be kept, and nothing can be changed from here.
    pub token: Arc<OnceLock<Token>>,
    /// What it speaks TLS with.
    pub leaves: Arc<OnceLock<Arc<Leaves>>>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    pub(super) is_tls: bool,
}

/// The cookie of a session.
pub(super) const COOKIE: &str = "seawall";

/// What decides.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) keys: Keys,
    pub(super) clock: Clock,
}

/// Lets through who may see.
pub(super) async fn look(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.refusal(&request, Deed::Look) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// The same of a page: who may not is asked to sign in.
pub(super) async fn look_at_page(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.refusal(&request, Deed::Look) {
        None => next.run(request).await,
        Some(refusal) if refusal.status() == StatusCode::UNAUTHORIZED => {
            (StatusCode::SEE_OTHER, [(header::LOCATION, HeaderValue::from_static("/login"))]).into_response()
        }
        Some(refusal) => refusal,
    }
}

/// Lets through who may change something, by the API: browsers send neither JSON nor `Authorization`
/// for a page of elsewhere without asking first, and get no answer to that.
pub(super) async fn change(State(door): State<Door>, request: Request, next: Next) -> Response {
    if let Some(refusal) = door.refusal(&request, Deed::Change) {
        return refusal;
    }
    if !cause(request.headers()).is_own_or_program() {
        return text(StatusCode::FORBIDDEN, "a page of elsewhere asked for this: nothing was done\n");
    }
    let content_type = value(request.headers(), header::CONTENT_TYPE).unwrap_or_default();
    if request.method() == Method::POST && !essence(content_type).eq_ignore_ascii_case("application/json") {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a change is asked for with Content-Type: application/json\n");
    }
    next.run(request).await
}

impl Door {
    fn refusal(&self, request: &Request, deed: Deed) -> Option<Response> {
        let way = way(request.extensions().get(), request.headers());
        match may(way, self.shown(request.headers()), deed) {
            Leave::Granted => None,
            leave => Some(refused(leave, deed)),
        }
    }

    fn shown(&self, headers: &HeaderMap) -> Shown {
        let bearer = value(headers, header::AUTHORIZATION);
        let session = session(headers);
        let Some(token) = self.keys.token.get() else {
            return if bearer.is_some() { Shown::Wrong } else { Shown::Nothing };
        };
        match (bearer, session) {
            (Some(shown), _) => {
                let bearer = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                if bearer.is_some_and(|(_, shown)| token.is(shown.trim())) { Shown::Right } else { Shown::Wrong }
            }
            (None, Some(session)) if token.is_session(session, self.clock.now()) => Shown::Right,
            // One that is over is as none.
            (None, _) => Shown::Nothing,
        }
    }
}

/// No connection is known in a test of a router alone: it comes from nowhere.
pub(super) fn way(peer: Option<&Peer>, headers: &HeaderMap) -> Way {
    const RELAYED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
    match peer {
        Some(peer) if peer.ip.to_canonical().is_loopback() => {
            let is_relayed =
                RELAYED.iter().any(|name| headers.contains_key(*name)) || headers.contains_key(header::VIA);
            if is_relayed { Way::Relayed } else { Way::Loopback }
        }
        Some(peer) if peer.is_tls => Way::Tls,
        _ => Way::Clear,
    }
}

fn refused(leave: Leave, deed: Deed) -> Response {
    let (status, message) = match (leave, deed) {
        (Leave::Exposed, _) => (
            StatusCode::FORBIDDEN,
            "a token came in the clear, and whoever is between may have it: ask over https://, and replace it (remove the file, restart)\n",
        ),
        (Leave::WrongToken, _) => (StatusCode::UNAUTHORIZED, "this is not the token of admin.token_file\n"),
        (_, Deed::Change) => (
            StatusCode::UNAUTHORIZED,
            "a change needs the token of admin.token_file (Authorization: Bearer …), over https:// from beyond this machine\n",
        ),
        (_, Deed::Look) => (
            StatusCode::UNAUTHORIZED,
            "from beyond this machine this needs the token of admin.token_file (Authorization: Bearer …), over https://\n",
        ),
    };
    let mut response = text(status, message);
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"seawall admin\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Where a request says that it comes from.
pub(super) fn cause(headers: &HeaderMap) -> Cause<'_> {
    Cause {
        origin: value(headers, header::ORIGIN),
        site: value(headers, HeaderName::from_static("sec-fetch-site")),
        host: value(headers, header::HOST).unwrap_or_default(),
    }
}

/// The session that a browser shows.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, session)| (name == COOKIE).then_some(session))
}

/// A field; what is no text is as good as any word that is not known.
fn value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
