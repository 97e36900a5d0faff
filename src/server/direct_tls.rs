//! TLS that came without a CONNECT: by a DNS override, by a redirection of the kernel, or for
//! seawall itself.
//!
//! 1. It is for the name in its ClientHello, else for the address it was sent to: see
//!    `policy/addressee`.
//! 2. seawall's own name: TLS ends here, and within it is what would otherwise come in the clear.
//! 3. A registry: TLS ends here, with a leaf for it.
//! 4. Another host: passed through unopened, if policy allows it.

use super::connect::{RegistryTarget, not_dialled};
use super::handshake::{Secured, as_itself, terminate};
use super::opening::{Alert, Greeting};
use super::shared::Conn;
use super::tunnel::tunnelled;
use crate::dial::connect::Trust;
use crate::dial::error::{ADVICE, DialError};
use crate::http::origin::{Host, Origin, Scheme};
use crate::policy::addressee::{Addressee, addressee};
use crate::policy::clients::Refusal;
use crate::policy::intercept::Verdict;

/// Serves TLS as its ClientHello says. The connection, if TLS ends here; `None` once it was passed
/// through or refused.
pub(crate) async fn accept(conn: &Conn, greeting: Greeting) -> Option<Secured> {
    let sni = greeting.hello().sni.as_ref();
    let to = conn.reached.destination();
    let named = match addressee(&conn.shared.settings.own_names, sni, conn.reached) {
        // A registry on seawall's own machine has its name, and a port of its own.
        Addressee::Own => match sni.filter(|name| is_registry(conn, name, to.port())) {
            Some(name) => Some((name.clone(), to.port())),
            None => return as_itself(conn, greeting).await,
        },
        Addressee::Named(host) => {
            let port = port_of_name(conn, &host);
            Some((host, port))
        }
        Addressee::Sent(to) => Some((Host::from(to.ip()), to.port())),
        Addressee::Unknown => None,
    };
    if conn.shared.clients.authenticator().is_some() {
        // A password cannot be asked for here, and a users_file that can be walked around protects
        // nothing.
        let why =
            "clients.users_file is set, and TLS to others that is not within a CONNECT has no place for a password";
        return refuse(conn, greeting, Refusal::Auth, why, Alert::AccessDenied).await;
    }
    let Some((host, port)) = named else {
        let why = "TLS without a server name: its target is unknown (tls.names has no address)";
        return refuse(conn, greeting, Refusal::Tunnel, why, Alert::UnrecognizedName).await;
    };
    match conn.shared.verdict(&host, port) {
        Verdict::Registry(site, role, _) => {
            let origin = Origin { scheme: Scheme::Https, host, port };
            terminate(conn, greeting, RegistryTarget { site, role, origin }).await
        }
        Verdict::Tunnel => {
            pass_through(conn, greeting, &host, port).await;
            None
        }
        Verdict::Refuse(reason) => {
            let why = format!("TLS for {host} is not passed through: {reason}");
            refuse(conn, greeting, Refusal::Tunnel, &why, Alert::AccessDenied).await
        }
    }
}

async fn refuse(conn: &Conn, greeting: Greeting, refusal: Refusal, why: &str, alert: Alert) -> Option<Secured> {
    conn.shared.clients.refused(refusal, conn.peer.ip(), why);
    greeting.reject(alert).await;
    None
}

fn is_registry(conn: &Conn, host: &Host, port: u16) -> bool {
    matches!(conn.shared.verdict(host, port), Verdict::Registry(..))
}

/// The port that a client means which names `host` here: the one it sent this to, if it was
/// redirected; else that of the listener where a registry or a tunnel has it, else 443, since a
/// listener behind a port mapping has a port of its own.
fn port_of_name(conn: &Conn, host: &Host) -> u16 {
    if let Some(original) = conn.reached.original_port() {
        return original;
    }
    let (usual, local) = (Scheme::Https.default_port(), conn.reached.local.port());
    let here = is_registry(conn, host, local) || conn.shared.settings.tunnels.ports.contains(&local);
    if here && !is_registry(conn, host, usual) { local } else { usual }
}

/// Passes TLS through to the true host, unopened.
///
/// A host that was named is looked up here, and not dialled at the address that the client sent
/// this to: a client could pair the name of a host that tunnels may reach with the address of one
/// that they may not. If that address is all there is, it is what policy looked at.
async fn pass_through(conn: &Conn, greeting: Greeting, host: &Host, port: u16) {
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
            not_dialled(conn, format_args!("TLS for {host} to be passed through"), &error);
            greeting.reject(Alert::InternalError).await;
        }
    }
}
