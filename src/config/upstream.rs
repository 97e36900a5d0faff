//! `[upstream]`, and whom tunnels may reach.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::parent;
use super::problem::{Fault, Place, Problem};
use super::section::{Section, word};
use super::tree::{Kind, Table, Value};
use super::words;
use crate::dial;
use crate::http::origin::Host;
use crate::policy::guard::Network;

const NETWORKS: [(&str, Network); 4] = [
    ("loopback", Network::Loopback),
    ("link-local", Network::LinkLocal),
    ("metadata", Network::Metadata),
    ("private", Network::Private),
];

/// Reads both; what is wrong goes to `problems`. `own` is where seawall itself will listen.
pub(super) fn read(
    section: &mut Section,
    tunnel: &mut Section,
    own: &[SocketAddr],
    problems: &mut Vec<Problem>,
) -> dial::Settings {
    let seconds = Duration::from_secs;
    let usual = || vec![Network::Loopback, Network::LinkLocal, Network::Metadata];
    dial::Settings {
        ca_pem: section.take("ca_file", problems, words::certificates).flatten(),
        connect_timeout: section.take("connect_timeout", problems, words::timeout).unwrap_or(seconds(10)),
        idle_timeout: section.take("idle_timeout", problems, words::timeout).unwrap_or(seconds(60)),
        upload_timeout: section.take("upload_timeout", problems, words::upload_timeout).unwrap_or(Duration::MAX),
        resolve_deadline: section.take("resolve_deadline", problems, words::timeout).unwrap_or(seconds(2)),
        nameservers: section.list("nameservers", problems, words::nameserver).unwrap_or_default(),
        hosts: section.take("hosts", problems, fixed_hosts).unwrap_or_default(),
        proxy: parent::read(section, own, problems),
        deny_networks: tunnel.list("deny_networks", problems, |value| word(value, &NETWORKS)).unwrap_or_else(usual),
    }
}

/// What was meant by `registry-1.docker.io = …`, which is three keys in TOML.
fn unquoted(first: &str, below: &Table) -> String {
    let mut name = first.to_owned();
    let mut below = Some(below);
    while let Some((part, (_, value))) = below.and_then(|below| Table::iter(below).next()) {
        name = format!("{name}.{part}");
        below = if let Kind::Table(next) = &value.kind { Some(next) } else { None };
    }
    name
}

fn fixed_hosts(value: &Value) -> Result<HashMap<Host, dial::Fixed>, Fault> {
    let table = value.table()?;
    let one = |(host, (place, value)): (&String, &(Place, Value))| {
        if let Kind::Table(below) = &value.kind {
            let name = unquoted(host, below);
            return Err(Fault::at(place.clone(), format!("quote the name: \"{name}\" = \"192.0.2.1\"")));
        }
        let host =
            host.parse::<Host>().map_err(|error| Fault::at(place.clone(), format!("{error}, without a port")))?;
        Ok((host, words::fixed(value)?))
    };
    Table::iter(&table).map(one).collect()
}
