//! TLS that came straight here, without a CONNECT: a DNS override, a redirection of the kernel, or somebody who means seawall.
//!
//! 1. By the name in its ClientHello, else by the address it was sent to: see `policy/addressee`.
//! 2. seawall's own name: TLS ends here, and inside it is what comes in the clear elsewhere.
//! 3. A registry: TLS ends here, with a leaf for it.
//! 4. Another host: passed through, unopened, if policy allows it.

use std::sync::Arc;

use rustls::ServerConfig;
use tracing::{debug, info};

use super::connect::not_dialled;
use super::connection::{Conn, Target, tunnelled};
use super::http;
use super::opening::{Alert, Greeting};
use crate::ca::CaError;
use crate::dial::connect::Trust;
use crate::dial::error::ADVICE;
use crate::dial::error::DialError;
use crate::gateway::Ingress;
use crate::http::origin::{Host, Origin, Scheme};
use crate::policy::addressee::{Addressee, addressee};
use crate::policy::clients::Refusal;
use crate::policy::intercept::Verdict;

/// Serves it as whom it is for.
pub(crate) async fn serve_tls(conn: Conn, greeting: Greeting) {
    let sni = greeting.hello().sni.as_ref();
    let to = conn.reached.destination();
    let whom = match addressee(&conn.shared.settings.own_names, sni, conn.reached) {
        // A registry on seawall's own machine has its name, and a port of its own.
        Addressee::Own => match sni.filter(|name| conn.is_registry(name, to.port())) {
            Some(name) => Some((name.clone(), to.port())),
            None => return as_itself(conn, greeting).await,
        },
        Addressee::Named(host) => {
            let port = conn.port_of_name(&host);
            Some((host, port))
        }
        Addressee::Sent(to) => Some((Host::from(to.ip()), to.port())),
        Addressee::Unknown => None,
    };
    if conn.shared.clients.authenticator().is_some() {
        // There is no way to ask for a password here, and a users_file that can be walked around is none.
        let why =
            "clients.users_file is set, and TLS to others that is not within a CONNECT has no place for a password";
        conn.shared.clients.refused(Refusal::Auth, conn.peer.ip(), why);
        return greeting.reject(Alert::AccessDenied).await;
    }
    let Some((host, port)) = whom else {
        let why = "TLS without a server name: nobody knows whom it is for (tls.names has no address)";
        conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
        return greeting.reject(Alert::UnrecognizedName).await;
    };
    match conn.shared.verdict(&host, port) {
        Verdict::Registry(site, role) => {
            let origin = Origin { scheme: Scheme::Https, host, port };
            terminate(conn, greeting, Target { site, role, origin }).await;
        }
        Verdict::Tunnel => pass_through(conn, greeting, &host, port).await,
        Verdict::Refuse(reason) => {
            let why = format!("TLS for {host} is not passed through: {reason}");
            conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
            greeting.reject(Alert::AccessDenied).await;
        }
    }
}

impl Conn {
    fn is_registry(&self, host: &Host, port: u16) -> bool {
        matches!(self.shared.verdict(host, port), Verdict::Registry(..))
    }

    /// The port a client meant that names `host` here: the one it sent this to, if it was redirected; else that of the listener
    /// where it means something, else 443, since a listener behind a port mapping has a port of its own.
    fn port_of_name(&self, host: &Host) -> u16 {
        if let Some(original) = self.reached.original_port() {
            return original;
        }
        let (usual, local) = (Scheme::Https.default_port(), self.reached.local.port());
        let here = self.is_registry(host, local) || self.shared.settings.tunnels.ports.contains(&local);
        if here && !self.is_registry(host, usual) { local } else { usual }
    }
}

/// TLS to seawall, by one of its names.
pub(crate) async fn as_itself(conn: Conn, greeting: Greeting) {
    let config = conn.shared.leaves.own_config(conn.shared.clock.now());
    finish(conn, greeting, config, "seawall itself", Ingress::Own(Scheme::Https)).await;
}

/// Finishes the handshake with a leaf for the target and serves it.
pub(crate) async fn terminate(conn: Conn, greeting: Greeting, target: Target) {
    let Target { site, role, origin } = target;
    let config = conn.shared.leaves.config_for(&origin.host, conn.shared.clock.now());
    let (host, sni) = (origin.host.to_string(), greeting.hello().sni.clone());
    finish(conn, greeting, config, &host, Ingress::Intercepted { site, role, origin, sni }).await;
}

async fn finish(
    conn: Conn,
    greeting: Greeting,
    config: Result<Arc<ServerConfig>, CaError>,
    host: &str,
    ingress: Ingress,
) {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            conn.shared.clients.refused(
                Refusal::Tunnel,
                conn.peer.ip(),
                format_args!("no certificate for {host}: {error}"),
            );
            return greeting.reject(Alert::InternalError).await;
        }
    };
    match tokio::time::timeout(conn.patience(), greeting.accept(config)).await {
        Ok(Ok(stream)) => http::encrypted(conn, stream, ingress).await,
        // At info: a client that does not trust the root is the first thing to go wrong in every installation.
        Ok(Err(error)) => info!(peer = %conn.peer, host, %error, "TLS handshake failed{}", advice(&error)),
        Err(_) => debug!(peer = %conn.peer, host, "TLS handshake took too long"),
    }
}

/// What a client that broke the handshake off probably lacks.
pub(crate) fn advice(error: &std::io::Error) -> &'static str {
    use rustls::AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown)) => {
            ": the client does not trust seawall's root (`seawall ca install`, or /ca.crt on this port; daemons read it once)"
        }
        _ => "",
    }
}

/// Passes TLS through to the true host, unopened.
///
/// A host that was named is looked up here, and not dialled at the address that the client sent this to: a client could pair the
/// name of a host that tunnels may reach with the address of one that they may not. Where that address is all there is, it is what
/// policy looked at.
async fn pass_through(conn: Conn, greeting: Greeting, host: &Host, port: u16) {
    let Some(_passage) = conn.shared.relayed.enter(greeting.bytes()) else {
        let why = format!(
            "TLS for {host} came back: what seawall dials for it leads to seawall (a name of a registry: {ADVICE}; a redirection: leave \
             seawall's own connections out of it; a name of seawall's own: put it in tls.names)"
        );
        conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
        return greeting.reject(Alert::InternalError).await;
    };
    match conn.shared.dialer.dial(host, port, Trust::Open).await {
        Ok(upstream) => tunnelled(conn, greeting.into_unread(), upstream).await,
        Err(error @ DialError::Loop { .. }) => {
            let why = format!("TLS for {host}: {error}; if {host} is a name of seawall's own, put it in tls.names");
            conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
            greeting.reject(Alert::UnrecognizedName).await;
        }
        Err(error) => {
            not_dialled(&conn, format_args!("TLS for {host} to be passed through"), &error);
            greeting.reject(Alert::InternalError).await;
        }
    }
}
