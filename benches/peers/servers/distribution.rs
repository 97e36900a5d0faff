//! CNCF Distribution as a pull-through cache: Debian's, and a current one from the Go module proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Lab, Missing, Server, free_address, launch, room, says, tool};
use crate::HOST;

const MODULE: &str = "github.com/distribution/distribution/v3";
const VERSION: &str = "v3.1.2";

fn configuration(lab: &Lab<'_>, address: SocketAddr, data: &Path, tls: &str) -> String {
    let upstream = lab.upstream.place.bare;
    format!(
        r#"version: 0.1
log: {{ level: error, accesslog: {{ disabled: true }} }}
storage: {{ filesystem: {{ rootdirectory: {data:?} }}, cache: {{ blobdescriptor: inmemory }}, delete: {{ enabled: true }} }}
http:
  addr: {address}
  {tls}
proxy: {{ remoteurl: "https://{upstream}" }}
"#
    )
}

/// Debian's.
pub(crate) fn debian(lab: &Lab<'_>) -> Result<Result<Server, Missing>> {
    match tool("docker-registry") {
        Some(binary) => run("docker-registry", &binary, lab).map(Ok),
        None => Ok(Err(Missing("docker-registry: apt-get install docker-registry".to_owned()))),
    }
}

/// Built once, in a minute.
pub(crate) fn current(lab: &Lab<'_>) -> Result<Result<Server, Missing>> {
    let binary = lab.cache.join(format!("bin-distribution-{VERSION}/registry"));
    if !binary.is_file() && build(&binary).is_none() {
        let how = format!("distribution: go and a Go module proxy build {MODULE}@{VERSION} (cmd/registry)");
        return Ok(Err(Missing(how)));
    }
    run("distribution", &binary, lab).map(Ok)
}

fn build(binary: &Path) -> Option<()> {
    println!("building {MODULE}@{VERSION} …");
    let module = format!("{MODULE}@{VERSION}");
    let told = says(Command::new("go").current_dir("/").args(["mod", "download", "-json", &module])).ok()?;
    let json = told.get(told.find('{')?..=told.rfind('}')?)?;
    let place: serde_json::Value = serde_json::from_str(json).ok()?;
    let source = PathBuf::from(place["Dir"].as_str()?);
    let mut go = Command::new("go");
    go.current_dir(source).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(binary).arg("./cmd/registry");
    says(&mut go).ok().map(|_| ())
}

/// It has one listener, with or without TLS: two processes, each with a cache of its own.
fn run(name: &'static str, binary: &Path, lab: &Lab<'_>) -> Result<Server> {
    let dir = room(lab)?;
    let (tls, plain) = (free_address()?, free_address()?);
    let (leaf, key) = lab.pki.server_certificate(&[HOST]);
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("leaf.pem"), leaf + &lab.pki.ca_pem())?;
    std::fs::write(at("leaf.key"), key)?;
    std::fs::write(at("upstream.pem"), &lab.upstream.place.ca_pem)?;
    let secure = format!("tls: {{ certificate: {:?}, key: {:?}, minimumtls: tls1.2 }}", at("leaf.pem"), at("leaf.key"));
    let mut children = Vec::new();
    for (what, address, tls) in [("tls", tls, secure.as_str()), ("plain", plain, "")] {
        let file = at(&format!("{what}.yml"));
        std::fs::write(&file, configuration(lab, address, &at(what), tls))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg(&file).env("SSL_CERT_FILE", at("upstream.pem")).env("OTEL_TRACES_EXPORTER", "none");
        children.push(launch(&mut command, dir.path(), &[address])?);
    }
    let said = says(Command::new(binary).arg("--version"))?;
    let version = said.split_whitespace().last().unwrap_or_default().to_owned();
    let version = if version.contains("unknown") { VERSION.to_owned() } else { version };
    let ca_pem = lab.pki.ca_pem();
    Ok(Server { name, version, tls, plain, ca_pem, slowness: 8, children, dir })
}
