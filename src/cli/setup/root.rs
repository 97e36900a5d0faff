//! The root that a client is to trust: which one it is decides who can read what that client pulls,
//! so it is always said where it is from.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;

use super::args::SetupArgs;
use crate::config::Config;
use crate::fs;
use crate::http::origin::{Host, Origin};

/// How long the root may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a root; a chain has a few thousand.
const LONGEST: usize = 1 << 20;

/// The root of the seawall at an address.
///
/// # Errors
/// There is none: what is written for that address would break every pull.
pub(super) fn theirs(address: &Origin) -> anyhow::Result<Der> {
    fetch(address).with_context(|| {
        format!(
            "no seawall answers at {0} (http://{0}/ca.crt). Start it, or say by --address where it is; --offline does not ask",
            address_of(address)
        )
    })
}

/// From `--ca`, else from the CA's directory, else from seawall itself, in PEM. `theirs` is what seawall
/// itself says, if it was asked.
pub(super) fn find(args: &SetupArgs, config: &Config, address: &Origin, theirs: Option<Der>) -> anyhow::Result<String> {
    let own = config.ca.dir.join("ca.crt");
    let (root, from) = match &args.ca {
        Some(file) => (read(file)?, file.display().to_string()),
        None if fs::exists(&own) => (our_own(args, &own, address, theirs)?, own.display().to_string()),
        None => {
            let from = format!("http://{}/ca.crt", address_of(address));
            let root = match theirs {
                Some(root) => root,
                None if args.offline => {
                    bail!("no root is at hand: --ca FILE names it, since --offline does not ask {from}")
                }
                None => {
                    fetch(address).with_context(|| format!("no root is at hand: --ca FILE names one, and {from}"))?
                }
            };
            if args.write.is_some() && args.ca_sha256.is_none() {
                bail!(
                    "anybody on the way can change what {from} brings. Compare it with `seawall ca show` there; if they are the same, say \
                     --ca-sha256 {}",
                    fingerprint(&root)
                );
            }
            (root, from)
        }
    };
    if let Some(expected) = &args.ca_sha256
        && normal(expected) != normal(&fingerprint(&root))
    {
        bail!("the root from {from} is another one than --ca-sha256 says: sha256 {}", fingerprint(&root));
    }
    eprintln!("The root is from {from}. `seawall ca show` there says the same:\nsha256 {}", fingerprint(&root));
    Ok(to_pem(&root))
}

type Der = CertificateDer<'static>;

/// One that lies wherever the command happens to run is that of the seawall at `--address` only if
/// that one says so.
fn our_own(args: &SetupArgs, file: &Path, address: &Origin, theirs: Option<Der>) -> anyhow::Result<Der> {
    let (root, address, at) = (read(file)?, address_of(address), file.display());
    if args.offline && file.is_relative() && args.address.is_some() && args.ca_sha256.is_none() {
        bail!("is {at} the root of {address}? --offline does not ask: --ca {at} says that it is");
    }
    if theirs.is_some_and(|theirs| theirs != root) {
        bail!("{at} is not the root of http://{address}/ca.crt: --ca FILE says which one it is to be");
    }
    Ok(root)
}

fn read(file: &Path) -> anyhow::Result<Der> {
    certificate(&fs::read(file)?).with_context(|| file.display().to_string())
}

/// Of a chain, what clients must trust is the last.
fn certificate(pem: &[u8]) -> anyhow::Result<Der> {
    if pem.windows(11).any(|word| word == b"PRIVATE KEY") {
        bail!("it has a private key in it, which no client may see: give the certificate alone");
    }
    let all: Result<Vec<Der>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| anyhow::anyhow!("it is no certificate in PEM: {error}"))?;
    all.into_iter().next_back().context("it is no certificate in PEM")
}

/// Printed again, so that nothing else of the file goes along.
fn to_pem(root: &Der) -> String {
    let base64 = BASE64.encode(root);
    let lines: Vec<&str> = (0..base64.len()).step_by(64).map(|at| &base64[at..base64.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// SHA-256, as `openssl x509 -fingerprint` has it.
fn fingerprint(root: &Der) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// A fingerprint, however it is written.
fn normal(fingerprint: &str) -> String {
    fingerprint.chars().filter(|c| c.is_ascii_hexdigit()).collect::<String>().to_ascii_lowercase()
}

fn address_of(address: &Origin) -> String {
    format!("{}:{}", address.host, address.port)
}

/// The data port speaks plain HTTP whatever else it speaks.
fn fetch(address: &Origin) -> anyhow::Result<Der> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked = tokio::time::timeout(PATIENCE, ask(address)).await;
        asked.map_err(|_| anyhow::anyhow!("did not answer within {}", humantime::format_duration(PATIENCE)))?
    })
}

async fn ask(address: &Origin) -> anyhow::Result<Der> {
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
        certificate(&body.to_bytes())
    };
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn of_a_file_nothing_but_the_last_certificate_goes_on() {
        let other = PEM.replace("AAAA", "BBBB");
        let root = certificate(format!("some words\n{other}bag attributes\n{PEM}and more\n").as_bytes()).unwrap();
        assert_eq!(to_pem(&root), PEM);
        let key = format!("{PEM}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        for pem in [key.clone(), key.replace("PRIVATE", "ENCRYPTED PRIVATE"), key.replace("PRIVATE", "EC PRIVATE")] {
            assert!(certificate(pem.as_bytes()).unwrap_err().to_string().contains("private key"));
        }
        assert!(certificate(b"").is_err());
    }

    #[test]
    fn a_fingerprint_is_the_same_however_it_is_written() {
        let root = certificate(PEM.as_bytes()).unwrap();
        let said = fingerprint(&root);
        assert_eq!(normal(&said.replace(':', "").to_lowercase()), normal(&said));
    }
}
