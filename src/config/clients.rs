//! `[clients]` and `[tunnel]`: who may use the data port, and for what.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::problem::{Fault, Problem};
use super::section::Section;
use super::tree::Value;
use super::words;
use crate::policy::addressee::OwnNames;
use crate::policy::intercept::Tunnels;
use crate::policy::users::{Users, UsersError};
use crate::server;

/// Of all clients together. A tunnel takes two file descriptors; systemd gives a service 524,288.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Of one client: a hundred runners behind one NAT with ten connections each, and a tenth of all.
const MAX_PER_CLIENT: usize = 1_000;

/// How long a tunnel or a kept connection may be silent. Longer than what firewalls forget, shorter
/// than a leak that hurts.
const TUNNEL_IDLE: Duration = Duration::from_secs(10 * 60);

const DEFAULT_ALLOW: [&str; 8] = [
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "fe80::/10",
];

/// Reads both; what is wrong goes to `problems`.
pub(super) fn read(
    listen: Vec<SocketAddr>,
    patience: Duration,
    own_names: OwnNames,
    clients: &mut Section,
    tunnel: &mut Section,
    problems: &mut Vec<Problem>,
) -> server::Settings {
    let allow = clients.list("allow", problems, words::network);
    if allow.as_ref().is_some_and(Vec::is_empty) {
        problems.push(clients.problem("allow", "nobody could connect; valid: [\"10.0.0.0/8\"]"));
    }
    let built_in = || DEFAULT_ALLOW.iter().map(|net| net.parse().expect("the table's networks are valid")).collect();
    let mut count = |key| {
        let count = clients.take(key, problems, |value| value.whole(1, 1_000_000));
        count.and_then(|count| usize::try_from(count).ok())
    };
    let max_connections = count("max_connections").unwrap_or(MAX_CONNECTIONS);
    // Whoever allows few of them still means that one client does not take them all.
    let max_per_client = count("max_per_client").unwrap_or((max_connections / 2).clamp(1, MAX_PER_CLIENT));
    let users = clients.take("users_file", problems, users).flatten();
    let proxy_protocol_from = clients.list("proxy_protocol_from", problems, words::network).unwrap_or_default();
    let everywhere = || vec![wildmatch::WildMatch::new("*")];
    let ports = tunnel.list("ports", problems, |value| value.whole(1, 65535));
    server::Settings {
        listen,
        allow: allow.unwrap_or_else(built_in),
        users,
        proxy_protocol_from,
        max_connections,
        max_per_client,
        tunnels: Tunnels {
            hosts: tunnel.list("hosts", problems, words::host_glob).unwrap_or_else(everywhere),
            ports: ports.map_or_else(|| vec![443], |all| all.into_iter().filter_map(|p| p.try_into().ok()).collect()),
        },
        own_names,
        patience,
        idle_timeout: TUNNEL_IDLE,
    }
}

/// The users of an htpasswd file; no file if its name is empty.
fn users(value: &Value) -> Result<Option<Arc<Users>>, Fault> {
    let path = value.text("the name of an htpasswd file")?;
    if path.is_empty() {
        return Ok(None);
    }
    let text = crate::fs::read_to_string(Path::new(path)).map_err(|error| value.fault(error))?;
    let users = Users::parse(&Zeroizing::new(text)).map_err(|error| {
        value.fault(match error {
            UsersError::Line { line, what } => format!("{path}:{line}: {what}"),
            empty @ UsersError::Empty => format!("{path} {empty}"),
        })
    })?;
    Ok(Some(Arc::new(users)))
}
