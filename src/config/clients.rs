//! `[clients]` and `[tunnel]`: who may use the data port, and for what.

use std::net::SocketAddr;
use std::time::Duration;

use super::problem::Problem;
use super::section::Section;
use super::words;
use crate::proxy;

/// How long a tunnel or a kept connection may be silent. Longer than what firewalls forget, shorter than a leak that hurts.
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
    clients: &mut Section,
    tunnel: &mut Section,
    problems: &mut Vec<Problem>,
) -> proxy::Settings {
    let allow = clients.list("allow", problems, words::network);
    if allow.as_ref().is_some_and(Vec::is_empty) {
        problems.push(clients.problem("allow", "nobody could connect; valid: [\"10.0.0.0/8\"]"));
    }
    let built_in = || DEFAULT_ALLOW.iter().map(|net| net.parse().expect("the table's networks are valid")).collect();
    let most = clients.take("max_connections", problems, |value| value.whole(1, 1_000_000));
    let everywhere = || vec![wildmatch::WildMatch::new("*")];
    let ports = tunnel.list("ports", problems, |value| value.whole(1, 65535));
    proxy::Settings {
        listen,
        allow: allow.unwrap_or_else(built_in),
        max_connections: most.and_then(|most| usize::try_from(most).ok()).unwrap_or(10_000),
        tunnel_hosts: tunnel.list("hosts", problems, words::host_glob).unwrap_or_else(everywhere),
        tunnel_ports: ports
            .map_or_else(|| vec![443], |all| all.into_iter().filter_map(|p| p.try_into().ok()).collect()),
        patience,
        idle_timeout: TUNNEL_IDLE,
    }
}
