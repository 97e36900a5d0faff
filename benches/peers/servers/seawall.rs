//! seawall: one listener for TLS by SNI (DNS override) and for the plain mirror.

use std::process::Command;

use anyhow::Result;

use super::{Lab, Server, free_address, launch, room, says};
use crate::HOST;

/// With its defaults, but for a tag's ttl, which is nginx's.
pub(crate) fn start(lab: &Lab<'_>) -> Result<Server> {
    start_with(lab, "seawall", 4)
}

/// The same, with so many segments.
pub(crate) fn start_with(lab: &Lab<'_>, name: &'static str, segments: u8) -> Result<Server> {
    let dir = room(lab)?;
    let address = free_address()?;
    let (ca, data) = (dir.path().join("upstream.pem"), dir.path().join("data"));
    std::fs::write(&ca, &lab.upstream.place.ca_pem)?;
    let upstream = lab.upstream.place.named;
    let text = format!(
        r#"listen = ["{address}"]
admin = ""
data = {data:?}
[log]
level = "warn"
[upstream]
ca_file = {ca:?}
segments = {segments}
hosts = {{ {HOST:?} = "{upstream}" }}
[cache.tags]
ttl = "1h"
"#
    );
    std::fs::write(dir.path().join("seawall.toml"), text)?;
    let mut command = Command::new(lab.seawall);
    command.args(["serve", "--config"]).arg(dir.path().join("seawall.toml")).env_remove("RUST_LOG");
    let child = launch(&mut command, dir.path(), &[address])?;
    let ca_pem = std::fs::read_to_string(data.join("ca/ca.crt"))?;
    let version = says(Command::new(lab.seawall).arg("--version"))?;
    let children = vec![child];
    Ok(Server { name, version, tls: address, plain: address, ca_pem, slowness: 1, children, dir })
}
