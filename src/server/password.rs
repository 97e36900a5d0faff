//! The password of a request, where there are users: without a right one the answer is 407 or 401;
//! a right one is taken out.

use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};

use tracing::debug;

use super::authenticator::Answer;
use super::shared::Conn;
use crate::gateway::body::Body;
use crate::gateway::mirror::is_mirrored;
use crate::gateway::rescue::{ours, refused_connect};
use crate::gateway::target::{RequestTarget, target};
use crate::gateway::{Ingress, Session};
use crate::oci::error::Code;
use crate::policy::clients::{Demand, Form, Refusal, demanded};
use crate::policy::users::{Credential, UserId};

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"seawall\"");

/// Checks the password of a request and takes it out: it is for seawall alone. The user, if one was
/// shown.
///
/// # Errors
/// The response to a client that is no user.
pub(crate) async fn demand<B>(
    conn: &Conn,
    session: &Session,
    request: &mut Request<B>,
) -> Result<Option<UserId>, Box<Response<Body>>> {
    let Some(authenticator) = conn.shared.clients.authenticator() else { return Ok(None) };
    // Within a CONNECT it was checked already, and a credential there is the registry's.
    let Ingress::Own(_) = session.ingress else { return Ok(None) };
    if is_for_registry(conn, session, request) {
        let why = "clients.users_file is set, and a registry that is spoken to in the clear has no place for a password: use HTTP_PROXY";
        conn.shared.clients.refused(Refusal::Auth, conn.peer.ip(), why);
        return Err(Box::new(ours(StatusCode::FORBIDDEN, Code::Denied, why)));
    }
    let (field, demand) = match demanded(form(request)) {
        Demand::Nothing => return Ok(None),
        demand @ Demand::Proxy => (PROXY_AUTHORIZATION, demand),
        demand @ Demand::Origin => (AUTHORIZATION, demand),
    };
    let answer = match presented(request.headers(), &field) {
        Ok(credential) => Box::pin(authenticator.check(credential, conn.turn(), conn.peer.ip())).await,
        Err(why) => return Err(Box::new(turn_away(conn, request, demand, why))),
    };
    match answer {
        Answer::Right(user) => {
            request.headers_mut().remove(&field);
            Ok(Some(user))
        }
        Answer::Wrong => Err(Box::new(turn_away(conn, request, demand, Why::Wrong))),
        Answer::Busy => Err(Box::new(turn_away(conn, request, demand, Why::Busy))),
    }
}

/// Whether a request is for a registry, on a connection that the kernel redirected here: a
/// credential in it is the registry's, whatever its path looks like.
fn is_for_registry<B>(conn: &Conn, session: &Session, request: &Request<B>) -> bool {
    let shared = &conn.shared;
    session.reached.original.is_some()
        && matches!(form(request), Form::Origin(_))
        && matches!(
            target(session, request, &shared.registries, &shared.settings.own_names),
            Ok(RequestTarget::Registry { .. })
        )
}

fn form<B>(request: &Request<B>) -> Form<'_> {
    if request.method() == Method::CONNECT {
        return Form::Authority;
    }
    // h2 always says the scheme (RFC 9113, 8.3.1); see `target`.
    match request.uri().scheme() {
        Some(_) if request.version() != Version::HTTP_2 => Form::Absolute,
        _ => Form::Origin(request.uri().path()),
    }
}

/// Why a client is not taken for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Nothing,
    /// Another scheme than Basic, no base64, or two credentials.
    Unreadable,
    Wrong,
    Busy,
}

fn presented(headers: &HeaderMap, field: &HeaderName) -> Result<Credential, Why> {
    let mut lines = headers.get_all(field).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Err(Why::Nothing),
        (Some(value), None) => Credential::parse(value.as_bytes()).ok_or(Why::Unreadable),
        (Some(_), Some(_)) => Err(Why::Unreadable),
    }
}

fn turn_away<B>(conn: &Conn, request: &Request<B>, demand: Demand, why: Why) -> Response<Body> {
    let what = match why {
        Why::Nothing => "a user name and a password are needed (clients.users_file)",
        Why::Unreadable => "the credential is not one of HTTP Basic",
        Why::Wrong => "wrong user name or password",
        Why::Busy => "too many passwords are being checked, try again",
    };
    let what_for = match form(request) {
        Form::Authority => "CONNECT",
        Form::Absolute => "plain HTTP to be forwarded",
        Form::Origin(_) => "the mirror",
    };
    if why == Why::Nothing && demand == Demand::Origin {
        // Clients send no password to a server before it has asked (RFC 9110, 11.6.1); to a proxy,
        // all do.
        debug!(peer = %conn.peer, "the mirror asks for a password");
    } else {
        conn.shared.clients.refused(Refusal::Auth, conn.peer.ip(), format_args!("{what_for}: {what}"));
    }
    let is_pull = is_mirrored(request.method(), request.uri()) && request.uri().path() != "/v2/";
    if demand == Demand::Origin && why != Why::Busy && is_pull {
        conn.shared.gateway.note_unauthorized(conn.peer);
    }
    respond(demand, why, what)
}

fn respond(demand: Demand, why: Why, what: &str) -> Response<Body> {
    let how = match demand {
        Demand::Proxy => "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
        Demand::Origin | Demand::Nothing => {
            "log in to this mirror (docker login HOST:PORT), or have it sent with each request"
        }
    };
    let text = if why == Why::Busy { what.to_owned() } else { format!("{what}: {how}") };
    let mut response = match (why, demand) {
        // Not a challenge: the password may be right.
        (Why::Busy, Demand::Proxy) => refused_connect(StatusCode::SERVICE_UNAVAILABLE, &text),
        (Why::Busy, _) => ours(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, &text),
        // Go shows the status text and nothing else.
        (_, Demand::Proxy) => {
            // What people look for.
            let text = format!("Proxy Authentication Required: {text}");
            refused_connect(StatusCode::PROXY_AUTHENTICATION_REQUIRED, &text)
        }
        (_, _) => ours(StatusCode::UNAUTHORIZED, Code::Unauthorized, &text),
    };
    let headers = response.headers_mut();
    match (why, demand) {
        (Why::Busy, _) => headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1")),
        (_, Demand::Proxy) => headers.insert(PROXY_AUTHENTICATE, CHALLENGE),
        (_, _) => headers.insert(WWW_AUTHENTICATE, CHALLENGE),
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_request_is_read() {
        let form_of = |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            let read = form(&request);
            format!("{read:?}")
        };
        assert_eq!(form_of(Method::CONNECT, "ghcr.io:443"), "Authority");
        assert_eq!(form_of(Method::GET, "http://ghcr.io/ca.crt"), "Absolute");
        assert_eq!(form_of(Method::GET, "http://ghcr.io"), "Absolute");
        assert_eq!(form_of(Method::GET, "/ca.crt?x=/v2/"), "Origin(\"/ca.crt\")");
        assert_eq!(form_of(Method::OPTIONS, "*"), "Origin(\"*\")");
        // No path, and not open.
        assert_eq!(demanded(form(&Request::get("ghcr.io:443").body(()).unwrap())), Demand::Origin);
    }

    #[test]
    fn one_credential_is_shown_or_none() {
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, HeaderValue::from_static(line));
            }
            presented(&headers, &AUTHORIZATION).err()
        };
        assert_eq!(read(&["Basic YTpi"]), None);
        assert_eq!(read(&[]), Some(Why::Nothing));
        assert_eq!(read(&["Bearer YTpi"]), Some(Why::Unreadable));
        assert_eq!(read(&["Basic YTpi", "Basic YTpi"]), Some(Why::Unreadable));
    }

    #[test]
    fn who_is_challenged_with_what() {
        for (demand, why, status, challenge) in [
            (Demand::Proxy, Why::Nothing, 407, Some(PROXY_AUTHENTICATE)),
            (Demand::Proxy, Why::Wrong, 407, Some(PROXY_AUTHENTICATE)),
            (Demand::Proxy, Why::Busy, 503, None),
            (Demand::Origin, Why::Unreadable, 401, Some(WWW_AUTHENTICATE)),
            (Demand::Origin, Why::Busy, 503, None),
        ] {
            let response = respond(demand, why, "what");
            assert_eq!(response.status(), status, "{demand:?} {why:?}");
            let here = |field: &HeaderName| response.headers().get(field) == Some(&CHALLENGE);
            assert_eq!([PROXY_AUTHENTICATE, WWW_AUTHENTICATE].into_iter().find(here), challenge, "{demand:?} {why:?}");
        }
    }
}
