//! TLS that ends here: with a certificate for seawall's own names, or with a leaf for a registry's
//! host.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info};

use super::connect::RegistryTarget;
use super::opening::{Alert, Greeting};
use super::shared::Conn;
use super::transport::Socket;
use crate::ca::CaError;
use crate::gateway::Ingress;
use crate::http::origin::Scheme;
use crate::policy::clients::Refusal;

/// A connection whose TLS handshake succeeded.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<Socket>,
    pub(crate) ingress: Ingress,
}

/// Finishes the handshake as seawall, by one of its names.
pub(crate) async fn as_itself(conn: &Conn, greeting: Greeting) -> Option<Secured> {
    let config = conn.shared.leaves.own_config(conn.shared.clock.now());
    let stream = finish(conn, greeting, config, "seawall itself").await?;
    Some(Secured { stream, ingress: Ingress::Own(Scheme::Https) })
}

/// Finishes the handshake with a leaf for the target.
pub(crate) async fn terminate(conn: &Conn, greeting: Greeting, target: RegistryTarget) -> Option<Secured> {
    let RegistryTarget { site, role, origin } = target;
    let config = conn.shared.leaves.config_for(&origin.host, conn.shared.clock.now());
    let (host, sni) = (origin.host.to_string(), greeting.hello().sni.clone());
    let stream = finish(conn, greeting, config, &host).await?;
    Some(Secured { stream, ingress: Ingress::Intercepted { site, role, origin, sni } })
}

async fn finish(
    conn: &Conn,
    greeting: Greeting,
    config: Result<Arc<ServerConfig>, CaError>,
    host: &str,
) -> Option<TlsStream<Socket>> {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let why = format!("no certificate for {host}: {error}");
            conn.shared.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
            greeting.reject(Alert::InternalError).await;
            return None;
        }
    };
    match tokio::time::timeout(conn.patience(), greeting.accept(config)).await {
        Ok(Ok(stream)) => {
            conn.shared.metrics.distrust().forget(conn.peer.ip());
            return Some(stream);
        }
        // At info: a client that does not trust the root is the first thing to go wrong in every
        // installation.
        Ok(Err(error)) => {
            let advice = advice(&error);
            if !advice.is_empty() {
                conn.shared.metrics.distrust().note(conn.peer.ip(), conn.shared.clock.now());
            }
            info!(peer = %conn.peer, host, %error, "TLS handshake failed{advice}");
        }
        Err(_) => debug!(peer = %conn.peer, host, "TLS handshake took too long"),
    }
    None
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
