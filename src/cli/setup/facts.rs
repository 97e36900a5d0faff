//! What a plan is made of, on the machine where the command runs: seawall's own, or a client's.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;

use super::SetupArgs;
use crate::ca::install;
use crate::config::Config;
use crate::fs;
use crate::http::origin::{Host, Origin, Scheme, parse_authority};
use crate::setup::{Facts, Mode, TrustStore};

/// How long the root may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a root; a chain has a few thousand.
const LONGEST: usize = 1 << 20;

pub(super) fn gather(args: &SetupArgs, mode: Mode, config: &Config) -> anyhow::Result<Facts> {
    let address = match &args.address {
        Some(text) => read_address(text)?,
        None => own_address(&config.proxy.listen)?,
    };
    let below = args.write.as_deref().unwrap_or(Path::new("/"));
    Ok(Facts {
        ca_pem: root(args, mode, config, &address)?,
        address,
        store: store(below),
        registries: config.registries.clone(),
        containerd: containerd(below)?,
    })
}

/// `HOST:PORT`, or a URL.
fn read_address(text: &str) -> anyhow::Result<Origin> {
    let example = "--address takes HOST:PORT (seawall.lab:3128) or a URL (https://seawall.lab:3128)";
    if text.contains("://") {
        let (origin, path) = Origin::from_url(text).with_context(|| format!("{text:?}: {example}"))?;
        if path != "/" {
            bail!("{text:?} has a path: {example}");
        }
        return Ok(origin);
    }
    match parse_authority(text, 3128) {
        Some((host, port)) => Ok(Origin { scheme: Scheme::Http, host, port }),
        None => bail!("{text:?}: {example}"),
    }
}

/// The first that is not for DNS; this machine's name where seawall listens on all addresses.
fn own_address(listen: &[SocketAddr]) -> anyhow::Result<Origin> {
    let needed = "say where clients reach seawall: --address HOST:PORT";
    let entry = listen.iter().find(|entry| entry.port() != 443).or(listen.first()).context(needed)?;
    let host = match entry.ip() {
        ip if ip.is_unspecified() => {
            let name = fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
            let host: Host =
                name.trim().parse().ok().filter(|host| !is_local(host)).with_context(|| needed.to_owned())?;
            eprintln!("Clients reach seawall as {host}:{}: --address says otherwise.", entry.port());
            host
        }
        ip => Host::from(ip),
    };
    if is_local(&host) {
        eprintln!("{host} is this machine alone: --address HOST:PORT is for clients elsewhere.");
    }
    Ok(Origin { scheme: Scheme::Http, host, port: entry.port() })
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => &**name == "localhost",
    }
}

/// From `--ca`, else from the CA's directory, else from seawall itself. A mirror in the clear needs none.
fn root(args: &SetupArgs, mode: Mode, config: &Config, address: &Origin) -> anyhow::Result<String> {
    let own = config.ca.dir.join("ca.crt");
    let file = args.ca.as_deref().or_else(|| fs::exists(&own).then_some(&own));
    let pem = match file {
        Some(file) => fs::read_to_string(file)?,
        None if mode == Mode::Mirror && address.scheme == Scheme::Http => return Ok(String::new()),
        None => {
            let pem = fetch(address).with_context(|| {
                format!("no root is at hand: --ca FILE names one, and http://{}/ca.crt", address_of(address))
            })?;
            eprintln!("The root is from http://{}/ca.crt. Compare with `seawall ca show` there:", address_of(address));
            eprintln!("sha256 {}", fingerprint(&pem)?);
            return Ok(last_certificate(&pem));
        }
    };
    fingerprint(&pem).with_context(|| file.map(|file| file.display().to_string()).unwrap_or_default())?;
    Ok(last_certificate(&pem))
}

fn address_of(address: &Origin) -> String {
    format!("{}:{}", address.host, address.port)
}

/// Of a chain, what clients must trust is the last.
fn last_certificate(pem: &str) -> String {
    let begin = pem.rfind("-----BEGIN CERTIFICATE-----").unwrap_or_default();
    format!("{}\n", pem[begin..].trim_end())
}

/// SHA-256 of the certificate that clients must trust, as `openssl x509 -fingerprint` has it.
fn fingerprint(pem: &str) -> anyhow::Result<String> {
    let der = CertificateDer::from_pem_slice(last_certificate(pem).as_bytes())
        .map_err(|error| anyhow::anyhow!("it is no certificate in PEM: {error}"))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}

/// The data port speaks plain HTTP whatever else it speaks.
fn fetch(address: &Origin) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = tokio::time::timeout(PATIENCE, ask(address)).await;
        asked.map_err(|_| anyhow::anyhow!("did not answer within {}", humantime::format_duration(PATIENCE)))?
    })
}

async fn ask(address: &Origin) -> anyhow::Result<String> {
    let host = match &address.host {
        Host::Ip(IpAddr::V6(ip)) => ip.to_string(),
        host => host.to_string(),
    };
    let stream = TcpStream::connect((host.as_str(), address.port)).await.context("cannot be reached")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get("/ca.crt")
        .header(http::header::HOST, address_of(address))
        .body(Empty::<bytes::Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::OK {
            bail!("answered {}: is it seawall?", response.status());
        }
        let body =
            Limited::new(response.into_body(), LONGEST).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        Ok(String::from_utf8(body.to_bytes().to_vec())?)
    };
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

/// The client's system, where it can be told; else Debian's.
fn store(below: &Path) -> TrustStore {
    match install::trust_store(below) {
        Some((file, command)) => TrustStore { file, command: command.to_owned() },
        None => TrustStore::debian(),
    }
}

/// What `version` says; 1 where there is a file that does not say.
fn containerd(below: &Path) -> anyhow::Result<Option<i64>> {
    let file = below.join("etc/containerd/config.toml");
    if !fs::exists(&file) {
        return Ok(None);
    }
    // What is wrong with it is said by whoever writes it.
    let table: Option<toml::Table> = fs::read_to_string(&file)?.parse().ok();
    Ok(table.map(|table| table.get("version").and_then(toml::Value::as_integer).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_people_write() {
        for (text, read) in [
            ("seawall.lab:3128", "http://seawall.lab:3128"),
            ("seawall.lab", "http://seawall.lab:3128"),
            ("http://seawall.lab", "http://seawall.lab"),
            ("https://Seawall.lab:3128/", "https://seawall.lab:3128"),
            ("[fd00::1]:3128", "http://[fd00::1]:3128"),
        ] {
            assert_eq!(read_address(text).unwrap().to_string(), read);
        }
        for text in ["", "http://", "a b:1", "http://a/b", "ftp://a", "seawall.lab:0", "u:p@seawall:3128"] {
            let said = format!("{:#}", read_address(text).unwrap_err());
            assert!(said.contains("--address"), "{text:?}: {said}");
        }
    }

    #[test]
    fn what_it_listens_on_is_where_it_is() {
        let own = |listen: &[&str]| own_address(&listen.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(own(&["10.0.0.7:443", "10.0.0.7:3128"]).unwrap().to_string(), "http://10.0.0.7:3128");
        assert_eq!(own(&["127.0.0.1:3128"]).unwrap().to_string(), "http://127.0.0.1:3128");
        assert!(own(&[]).unwrap_err().to_string().contains("--address"));
        if let Ok(named) = own(&["0.0.0.0:3128"]) {
            assert!(named.port == 3128 && !is_local(&named.host));
        }
    }

    #[test]
    fn which_containerd_it_is() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(containerd(root.path()).unwrap(), None);
        let file = root.path().join("etc/containerd/config.toml");
        fs::create_shared_dir(file.parent().unwrap()).unwrap();
        for (text, version) in [("version = 3\n", Some(3)), ("disabled_plugins = [\"cri\"]\n", Some(1)), ("=", None)] {
            fs::replace(&file, 0o644, text.as_bytes()).unwrap();
            assert_eq!(containerd(root.path()).unwrap(), version);
        }
    }
}
