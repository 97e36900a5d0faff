//! CONNECT (RFC 9110 9.3.6): a registry is intercepted, seawall itself is reached, other hosts are
//! tunnelled to if policy allows, and all else is refused with the reason.

use std::fmt;

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use tracing::debug;

use super::shared::Conn;
use crate::dial::connect::Trust;
use crate::dial::error::DialError;
use crate::dial::stream::Stream;
use crate::gateway::body::Body;
use crate::gateway::rescue::refused_connect;
use crate::gateway::{Ingress, Session};
use crate::http::origin::{Host, Origin, parse_authority};
use crate::policy::clients::Refusal;
use crate::policy::intercept::Verdict;
use crate::policy::registry::{Role, Site};

/// What a connection is for once the 200 to its CONNECT is sent.
pub(crate) enum ConnectTarget {
    /// seawall itself.
    Own,
    /// A registry, which is intercepted.
    Registry(RegistryTarget),
    /// Another host.
    Tunnel(Tunnel),
}

/// A tunnel that was granted.
pub(crate) struct Tunnel {
    /// The host that the CONNECT named, connected.
    pub(crate) upstream: Stream,
    /// Its port.
    pub(crate) port: u16,
}

/// The registry that a client wants to speak to.
pub(crate) struct RegistryTarget {
    pub(crate) site: Site,
    pub(crate) role: Role,
    /// The host as the client named it.
    pub(crate) origin: Origin,
}

/// Decides on a CONNECT; a tunnel is dialled before it is granted.
///
/// # Errors
/// The response that refuses it.
pub(crate) async fn grant(
    conn: &Conn,
    session: &Session,
    request: &Request<Incoming>,
) -> Result<ConnectTarget, Box<Response<Body>>> {
    if !matches!(session.ingress, Ingress::Own(_)) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is for the proxy, not for a registry");
    }
    if request.version() == Version::HTTP_2 {
        return refuse(StatusCode::NOT_IMPLEMENTED, "CONNECT is for HTTP/1.1 here");
    }
    let Some((host, port)) = host_and_port(request) else {
        return refuse(StatusCode::BAD_REQUEST, "CONNECT needs host:port");
    };
    let gateway = &conn.shared.gateway;
    gateway.refuse_looped(request).map_err(|error| Box::new(gateway.refused_connect(&error)))?;
    if conn.is_itself(&host, port) {
        return itself(conn);
    }
    match conn.shared.verdict(&host, port) {
        Verdict::Refuse(reason) => {
            let why = format!("CONNECT {host}:{port}: {reason}");
            conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
            refuse(StatusCode::FORBIDDEN, &reason.to_string())
        }
        Verdict::Tunnel => dial(conn, &host, port).await,
        Verdict::Registry(site, role, scheme) => {
            let origin = Origin { scheme, host, port };
            Ok(ConnectTarget::Registry(RegistryTarget { site, role, origin }))
        }
    }
}

/// The 200 after which the connection is the client's to use.
pub(crate) fn established() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Connection established"));
    response
}

/// Writes down that `what` led nowhere: policy refused it, or the network failed.
pub(crate) fn not_dialled(conn: &Conn, what: impl fmt::Display, error: &DialError) {
    if status_of(error) == StatusCode::FORBIDDEN {
        conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), format_args!("{what}: {error}"));
    } else {
        debug!(peer = %conn.peer, %error, "{what}: failed");
    }
}

fn refuse(status: StatusCode, reason: &str) -> Result<ConnectTarget, Box<Response<Body>>> {
    Err(Box::new(refused_connect(status, reason)))
}

fn host_and_port(request: &Request<Incoming>) -> Option<(Host, u16)> {
    // A port is required (RFC 9112 3.2.3).
    let authority = request.uri().authority()?;
    authority.port()?;
    parse_authority(authority.as_str(), 0)
}

/// A client that asks its proxy for its mirror. Within it is what would be there without a CONNECT,
/// but no other such CONNECT.
fn itself(conn: &Conn) -> Result<ConnectTarget, Box<Response<Body>>> {
    if conn.is_nested() {
        let reason = "this is seawall already: a CONNECT to it within another leads nowhere";
        return refuse(StatusCode::FORBIDDEN, reason);
    }
    Ok(ConnectTarget::Own)
}

async fn dial(conn: &Conn, host: &Host, port: u16) -> Result<ConnectTarget, Box<Response<Body>>> {
    match conn.shared.dialer.dial(host, port, Trust::Open).await {
        Ok(upstream) => Ok(ConnectTarget::Tunnel(Tunnel { upstream, port })),
        Err(error) => {
            not_dialled(conn, format_args!("CONNECT {host}:{port}"), &error);
            refuse(status_of(&error), &error.to_string())
        }
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
