//! A client that asks once per connection, as docker does, and reads as it likes. What it costs is
//! not counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::HOST;
use crate::servers::Server;

const PATIENCE: Duration = Duration::from_secs(600);
const ROOM: usize = 256 << 10;

/// How keys are agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// X25519MLKEM768 and X25519, as Go since 1.24.
    AsGo,
    /// X25519 alone.
    Classic,
}

/// Whether a session is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    Full,
    Resumed,
}

/// How the connection is made.
#[derive(Clone)]
pub(crate) enum Way {
    Plain,
    /// TLS, the registry's name in SNI.
    Tls(Arc<ClientConfig>),
    /// The same through CONNECT.
    Connect(Arc<ClientConfig>),
}

/// Where and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) way: Way,
}

impl Target {
    /// TLS as docker does it: no ALPN, a full handshake.
    pub(crate) fn tls(server: &Server) -> Result<Target> {
        Target::at(server.tls, &server.ca_pem)
    }

    pub(crate) fn at(address: SocketAddr, ca_pem: &str) -> Result<Target> {
        Ok(Target { address, way: Way::Tls(trusting(ca_pem, Keys::AsGo, Session::Full)?) })
    }

    pub(crate) fn plain(server: &Server) -> Target {
        Target { address: server.plain, way: Way::Plain }
    }

    /// Asks for `/v2/PATH`; returns when the head is there.
    pub(crate) async fn open(&self, path: &str, accept: &str) -> Result<Open> {
        let accept = format!("Accept: {accept}");
        tokio::time::timeout(PATIENCE, self.ask(path, &accept, "200")).await.context("no answer")?
    }

    /// A part of a blob.
    pub(crate) async fn fetch_part(&self, path: &str, part: std::ops::Range<u64>) -> Result<()> {
        let asked = format!("Range: bytes={}-{}", part.start, part.end - 1);
        let mut open = tokio::time::timeout(PATIENCE, self.ask(path, &asked, "206")).await.context("no answer")??;
        ensure!(open.length == part.end - part.start, "{} bytes of {part:?}", open.length);
        while open.read < open.length {
            open.piece().await?;
        }
        Ok(())
    }

    async fn ask(&self, path: &str, more: &str, status: &str) -> Result<Open> {
        let began = Instant::now();
        let mut tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let (mut io, agreed, session): (Box<dyn Io>, String, Session) = match &self.way {
            Way::Plain => (Box::new(tcp), String::new(), Session::Full),
            Way::Tls(config) => secure(tcp, config).await?,
            Way::Connect(config) => {
                tcp.write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").as_bytes()).await?;
                let (head, _) = head(&mut tcp).await?;
                ensure!(head.starts_with("HTTP/1.1 200"), "CONNECT: {head}");
                secure(tcp, config).await?
            }
        };
        let host = if matches!(self.way, Way::Plain) { self.address.to_string() } else { HOST.to_owned() };
        let ask = format!("GET /v2/{path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\nConnection: close\r\n\r\n");
        io.write_all(ask.as_bytes()).await?;
        let (head, rest) = head(&mut io).await?;
        ensure!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        let length = field(&head, "content-length").with_context(|| format!("no length: {head}"))?.parse()?;
        let first = (!rest.is_empty()).then(|| began.elapsed());
        Ok(Open { io, began, first, length, read: rest.len() as u64, room: vec![0; ROOM], agreed, session })
    }

    /// All of it, which must be `len` bytes.
    pub(crate) async fn fetch(&self, path: &str, accept: &str, len: u64) -> Result<Fetched> {
        let mut open = self.open(path, accept).await?;
        ensure!(open.length == len, "{} bytes, not {len}", open.length);
        while open.read < open.length {
            open.piece().await?;
        }
        let (all, first) = (open.began.elapsed(), open.first.unwrap_or_default());
        Ok(Fetched { first, all, agreed: open.agreed, session: open.session })
    }
}

/// What a whole answer took.
pub(crate) struct Fetched {
    /// From before the connection to the first byte of the body.
    pub(crate) first: Duration,
    /// To the last.
    pub(crate) all: Duration,
    /// Version, cipher and key agreement.
    pub(crate) agreed: String,
    pub(crate) session: Session,
}

/// An answer whose body is being read.
pub(crate) struct Open {
    io: Box<dyn Io>,
    began: Instant,
    first: Option<Duration>,
    length: u64,
    read: u64,
    room: Vec<u8>,
    agreed: String,
    session: Session,
}

impl Open {
    pub(crate) fn is_whole(&self) -> bool {
        self.read == self.length
    }

    /// Reads what there is; returns how much.
    pub(crate) async fn piece(&mut self) -> Result<u64> {
        let reading = self.io.read(&mut self.room);
        let n = tokio::time::timeout(PATIENCE, reading).await.context("no byte")?? as u64;
        if n == 0 {
            bail!("ended after {} of {} bytes", self.read, self.length);
        }
        self.first.get_or_insert_with(|| self.began.elapsed());
        self.read += n;
        Ok(n)
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn secure(tcp: TcpStream, config: &Arc<ClientConfig>) -> Result<(Box<dyn Io>, String, Session)> {
    let name = ServerName::try_from(HOST)?;
    let io = TlsConnector::from(config.clone()).connect(name, tcp).await?;
    let tls = io.get_ref().1;
    let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
    let suite = tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let group = tls.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    let version = tls.protocol_version().map(|version| format!("{version:?}"));
    let agreed = [version, suite, group].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok((Box::new(io), agreed, if resumed { Session::Resumed } else { Session::Full }))
}

/// A head, and what came after it.
async fn head(io: &mut (impl AsyncRead + Unpin + ?Sized)) -> Result<(String, Vec<u8>)> {
    let (mut bytes, mut room) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let n = io.read(&mut room).await?;
        ensure!(n > 0, "no head");
        bytes.extend_from_slice(&room[..n]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// TLS that trusts this root alone.
pub(crate) fn trusting(ca_pem: &str, keys: Keys, session: Session) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(cert?)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    let classic: &'static dyn SupportedKxGroup = aws_lc_rs::kx_group::X25519;
    provider.kx_groups = match keys {
        Keys::AsGo => vec![aws_lc_rs::kx_group::X25519MLKEM768, classic],
        Keys::Classic => vec![classic],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    if session == Session::Full {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}
