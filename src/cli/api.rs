//! The admin listener of the seawall that runs, as commands ask it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::admin_address::AdminAddress;
use super::log::printable;
use super::serve::reachable;
use crate::ca::Root;
use crate::clock::Clock;
use crate::config::Config;
use crate::dial::tls::tls_config;
use crate::operate::token::Token;

/// How long an answer may take: that about a thousand images reads their manifests.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer about a thousand images is 400 bytes for each.
const LONGEST: usize = 8 << 20;

/// Characters of a refusal that are shown.
const SAID: usize = 500;

/// Which seawall is asked.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct AdminArgs {
    /// Where the admin listener is, https:// too [default: `admin` of the configuration]
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) admin: Option<String>,
    /// A file with its token [default: `token_file` of [admin], for a listener on this machine]
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// Where it is.
#[derive(Debug)]
pub(super) struct Api {
    place: Place,
    runtime: tokio::runtime::Runtime,
}

/// The same, and what is shown there.
#[derive(Debug)]
pub(super) struct Place {
    address: AdminAddress,
    token: Result<Option<Token>, String>,
    root_pem: Option<String>,
}

impl Place {
    /// What answers in the clear, without a token.
    pub(super) fn open(address: std::net::SocketAddr) -> Place {
        let (host, port) = (address.ip().to_string(), address.port());
        Place { address: AdminAddress { host, port, is_tls: false }, token: Ok(None), root_pem: None }
    }
}

impl Api {
    /// Where that is said, else where the configuration has it.
    ///
    /// # Errors
    /// There is none; or its token cannot be shown.
    pub(super) fn at(args: &AdminArgs, config: &Config) -> anyhow::Result<Api> {
        let address = match (&args.admin, config.admin.listen) {
            (Some(admin), _) => AdminAddress::read(admin)?,
            (None, Some(address)) => AdminAddress::read(&reachable(address).to_string())?,
            (None, None) => bail!("there is no admin listener to ask: `admin` is \"\""),
        };
        let token = match &args.token_file {
            Some(_) if !address.is_tls && !address.is_loopback() => {
                bail!("a token goes over https:// alone: --admin https://{}", address.authority())
            }
            Some(file) => Ok(Some(Token::read(file).map_err(|why| anyhow::anyhow!("--token-file: {why}"))?)),
            // That of this machine is for no other.
            None if address.is_loopback() => Token::read(&config.token_file()).map(Some),
            None => Ok(None),
        };
        let root = address.is_tls.then(|| Root::load(&config.ca, Clock::system().now()).ok().flatten()).flatten();
        let root_pem = root.map(|root| root.certificate_pem());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Api { place: Place { address, token, root_pem }, runtime })
    }

    /// # Errors
    /// Nothing answers there, or not what seawall does.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// # Errors
    /// Nothing answers there, or not what seawall does.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.ask(Method::POST, path, serde_json::to_vec(body)?.into())
    }

    /// Whether anything listens there.
    pub(super) fn is_there(&self) -> bool {
        let AdminAddress { host, port, .. } = &self.place.address;
        let connecting = async { tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), *port))).await };
        self.runtime.block_on(connecting).is_ok_and(|connected| connected.is_ok())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let answered = self.runtime.block_on(answer(method, (&self.place, path), body, (PATIENCE, LONGEST)));
        answered
            .and_then(|body| serde_json::from_slice(&body).context("this is no admin listener of seawall"))
            .with_context(|| format!("{}{path}", self.place.address))
    }
}

/// The body of a success, in that time, and no longer than that.
///
/// # Errors
/// There is none: in the words of whoever answered, if somebody did.
pub(super) async fn answer(
    method: Method,
    place: (&Place, &str),
    body: Bytes,
    (patience, longest): (Duration, usize),
) -> anyhow::Result<Bytes> {
    let asking = tokio::time::timeout(patience, ask(method, place, body, longest));
    asking.await.unwrap_or_else(|_| bail!("no answer in {}", humantime::format_duration(patience)))
}

async fn ask(method: Method, (place, path): (&Place, &str), body: Bytes, longest: usize) -> anyhow::Result<Bytes> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, place.address.authority());
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Ok(Some(token)) = &place.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
    }
    let request = request.body(Full::new(body))?;
    let AdminAddress { host, port, is_tls } = &place.address;
    let stream = TcpStream::connect((host.as_str(), *port)).await.context("no answer (does seawall run?)")?;
    let response = match is_tls {
        false => exchange(stream, request, longest).await?,
        true => {
            let config = tls_config(None, place.root_pem.as_deref().map(str::as_bytes), None)?;
            let name = ServerName::try_from(host.clone())?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            exchange(stream, request, longest).await?
        }
    };
    let (status, body) = response;
    if status.is_success() {
        return Ok(body);
    }
    let said: String = String::from_utf8_lossy(&body).trim().chars().take(SAID).collect();
    match &place.token {
        Err(why) if status == StatusCode::UNAUTHORIZED => {
            bail!(
                "{status}: {}; its token cannot be read: {why} (as the user of the service, or root?)",
                printable(&said)
            )
        }
        _ => bail!("{status}: {}", printable(&said)),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let response = sender.send_request(request).await.context("no answer (does seawall run?)")?;
        let status = response.status();
        let body = Limited::new(response.into_body(), longest).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok((status, body.to_bytes()))
    };
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        answered = &mut asking => answered,
        ended = connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(anyhow::Error::new(error).context("the connection broke")),
        },
    }
}
