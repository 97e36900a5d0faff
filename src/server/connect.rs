//! CONNECT (RFC 9110 9.3.6): a registry is answered for, seawall is seawall, others are tunnelled to, the rest is told why not.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use super::connection::{Conn, Target, serve_after_connect, serve_itself, tunnelled};
use super::http::take_transport;
use super::replay::Replay;
use super::transport::Transport;
use crate::dial::connect::Trust;
use crate::dial::error::DialError;
use crate::gateway::body::Body;
use crate::gateway::rescue::refused_connect as refuse;
use crate::gateway::{Ingress, Session};
use crate::http::origin::{Host, Origin, parse_authority};
use crate::policy::clients::Refusal;
use crate::policy::intercept::Verdict;

/// Answers a CONNECT. What follows a 200 runs as a task of its own.
pub(crate) async fn answer(conn: &Conn, session: &Session, request: Request<Incoming>) -> Response<Body> {
    if !matches!(session.ingress, Ingress::Own(_)) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is for the proxy, not for a registry");
    }
    if request.version() == Version::HTTP_2 {
        return refuse(StatusCode::NOT_IMPLEMENTED, "CONNECT is for HTTP/1.1 here");
    }
    let Some((host, port)) = target(&request) else {
        return refuse(StatusCode::BAD_REQUEST, "CONNECT needs host:port");
    };
    if let Err(error) = conn.shared.gateway.refuse_looped(&request) {
        return conn.shared.gateway.refused_connect(&error);
    }
    if conn.is_itself(&host, port) {
        return to_itself(conn, request);
    }
    match conn.shared.verdict(&host, port) {
        Verdict::Refuse(reason) => {
            let why = format!("CONNECT {host}:{port}: {reason}");
            conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
            refuse(StatusCode::FORBIDDEN, &reason.to_string())
        }
        Verdict::Tunnel => tunnel(conn, &host, port, request).await,
        Verdict::Registry(site, role) => {
            let origin = Origin { scheme: site.registry.scheme(), host, port };
            intercept(conn, Target { site, role, origin }, request)
        }
    }
}

/// A client that asks its proxy for its mirror. Inside is what would be there without a CONNECT, but no other such CONNECT.
fn to_itself(conn: &Conn, request: Request<Incoming>) -> Response<Body> {
    let Some(inside) = conn.nested() else {
        return refuse(
            StatusCode::FORBIDDEN,
            "this is seawall already: a CONNECT to it serve_after_connect another leads nowhere",
        );
    };
    let upgrade = hyper::upgrade::on(request);
    conn.shared.tasks.spawn(async move {
        if let Some((ahead, line)) = take_over(&inside, upgrade).await {
            serve_itself(inside, line, ahead).await;
        }
    });
    established()
}

fn target(request: &Request<Incoming>) -> Option<(Host, u16)> {
    // A port is required (RFC 9112 3.2.3).
    let authority = request.uri().authority()?;
    authority.port()?;
    parse_authority(authority.as_str(), 0)
}

fn intercept(conn: &Conn, target: Target, request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(request);
    let taken = conn.clone();
    conn.shared.tasks.spawn(async move {
        if let Some((ahead, socket)) = take_over(&taken, upgrade).await {
            serve_after_connect(taken, socket, ahead, target).await;
        }
    });
    established()
}

async fn tunnel(conn: &Conn, host: &Host, port: u16, request: Request<Incoming>) -> Response<Body> {
    let upstream = match conn.shared.dialer.dial(host, port, Trust::Open).await {
        Ok(upstream) => upstream,
        Err(error) => {
            not_dialled(conn, format_args!("CONNECT {host}:{port}"), &error);
            return refuse(status_of(&error), &error.to_string());
        }
    };
    let upgrade = hyper::upgrade::on(request);
    let taken = conn.clone();
    conn.shared.tasks.spawn(async move {
        if let Some((ahead, socket)) = take_over(&taken, upgrade).await {
            tunnelled(taken, Replay::new(ahead, socket), upstream).await;
        }
    });
    established()
}

/// Writes down that `what` led nowhere: policy's refusal, or the network's.
pub(crate) fn not_dialled(conn: &Conn, what: impl fmt::Display, error: &DialError) {
    if status_of(error) == StatusCode::FORBIDDEN {
        conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), format_args!("{what}: {error}"));
    } else {
        debug!(peer = %conn.peer, %error, "{what}: failed");
    }
}

fn status_of(error: &DialError) -> StatusCode {
    match error {
        DialError::Refused { .. } | DialError::Loop { .. } | DialError::NoHost(_) => StatusCode::FORBIDDEN,
        DialError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        DialError::Resolve { .. }
        | DialError::Connect { .. }
        | DialError::Tls { .. }
        | DialError::ParentUnreachable { .. }
        | DialError::Parent { .. } => StatusCode::BAD_GATEWAY,
    }
}

/// What is take_transport the request, and what was read of it already.
async fn take_over(conn: &Conn, upgrade: OnUpgrade) -> Option<(Bytes, Transport)> {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            debug!(peer = %conn.peer, %error, "the client left before its CONNECT was answered");
            return None;
        }
    };
    take_transport(upgraded)
}

fn established() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Connection established"));
    response
}
