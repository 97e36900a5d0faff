//! A client with raw control over how it reaches a proxy: CONNECT, DNS override, mirror or
//! absolute-form; ALPN or none; SNI, Host and dialled address each on its own. One connection per
//! request, as docker; or one kept (`connect`).
//!
//! ```ignore
//! let client = Client::via_connect(proxy, &ca_pem).h2();
//! let reply = client.get("https://registry-1.docker.io/v2/").header("authorization", "Bearer …").send().await?;
//! let mut open = client.get(url).open().await?;
//! let start = open.read_exactly(1000).await?;
//! drop(open); // hangs up
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{Method, Uri};
use rustls::{ClientConfig, HandshakeKind};
use seawall::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::exchange::{Ask, Carrier, ClientError, Connection, h1, h2};
use super::faults::PATIENCE;
use super::tls::{self, Alpn, Sni};

#[derive(Clone)]
enum Way {
    /// CONNECT for https, absolute-form for http.
    Proxy(SocketAddr),
    /// Whatever the URL's host: that address.
    Address(SocketAddr),
    /// As DNS would say.
    Resolving(HashMap<String, SocketAddr>),
}

#[derive(Clone)]
pub(crate) struct Client {
    way: Way,
    ca_pem: String,
    alpn: Alpn,
    server_name: Option<String>,
    sni: Sni,
    proxy_user: Option<(String, String)>,
    preamble: Bytes,
    source: Option<IpAddr>,
    tls: Arc<ClientConfig>,
}

impl Client {
    fn new(way: Way, ca_pem: &str) -> Client {
        let (alpn, sni) = (Alpn::None, Sni::Sent);
        let tls = tls::trusting(ca_pem, alpn, sni);
        let ca_pem = ca_pem.to_owned();
        Client {
            way,
            ca_pem,
            alpn,
            server_name: None,
            sni,
            proxy_user: None,
            preamble: Bytes::new(),
            source: None,
            tls,
        }
    }

    /// `HTTPS_PROXY=http://proxy`: https by CONNECT, http in absolute-form.
    pub(crate) fn via_connect(proxy: SocketAddr, ca_pem: &str) -> Client {
        Client::new(Way::Proxy(proxy), ca_pem)
    }

    /// DNS override: every host is this address; https says its name by SNI.
    pub(crate) fn direct_tls(addr: SocketAddr, ca_pem: &str) -> Client {
        Client::new(Way::Address(addr), ca_pem)
    }

    /// http URLs to one address in origin-form: a mirror.
    pub(crate) fn plain(addr: SocketAddr) -> Client {
        Client::new(Way::Address(addr), "")
    }

    /// No proxy: straight to the fakes.
    pub(crate) fn resolving(hosts: HashMap<String, SocketAddr>, ca_pem: &str) -> Client {
        Client::new(Way::Resolving(hosts), ca_pem)
    }

    fn offering(mut self, alpn: Alpn, sni: Sni) -> Client {
        (self.alpn, self.sni) = (alpn, sni);
        self.tls = tls::trusting(&self.ca_pem, alpn, sni);
        self
    }

    /// The default offers no ALPN. Without TLS, `H2` is h2 with prior knowledge.
    pub(crate) fn alpn(self, alpn: Alpn) -> Client {
        let sni = self.sni;
        self.offering(alpn, sni)
    }

    pub(crate) fn h2(self) -> Client {
        self.alpn(Alpn::H2)
    }

    pub(crate) fn no_sni(self) -> Client {
        let alpn = self.alpn;
        self.offering(alpn, Sni::Absent)
    }

    /// SNI, and the name the certificate must have, instead of the URL's host.
    pub(crate) fn sni(mut self, name: &str) -> Client {
        self.server_name = Some(name.to_owned());
        self
    }

    /// `Proxy-Authorization: Basic` on CONNECT and in absolute-form.
    pub(crate) fn proxy_user(mut self, user: &str, password: &str) -> Client {
        self.proxy_user = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Sent before anything else on a connection: a PROXY protocol header.
    pub(crate) fn preamble(mut self, bytes: impl Into<Bytes>) -> Client {
        self.preamble = bytes.into();
        self
    }

    /// From another address of this machine: another client.
    pub(crate) fn bound_to(mut self, source: [u8; 4]) -> Client {
        self.source = Some(source.into());
        self
    }

    /// Looks at certificates at this clock's time: a test that moves seawall's moves the days its
    /// leaves begin and end on.
    pub(crate) fn at_time_of(mut self, clock: &Clock) -> Client {
        let mut config = ClientConfig::clone(&self.tls);
        config.time_provider = Arc::new(tls::TimeOf(clock.clone()));
        self.tls = Arc::new(config);
        self
    }

    pub(crate) fn get(&self, url: &str) -> Ask<'_> {
        self.request(Method::GET, url)
    }

    pub(crate) fn head(&self, url: &str) -> Ask<'_> {
        self.request(Method::HEAD, url)
    }

    pub(crate) fn request(&self, method: Method, url: &str) -> Ask<'_> {
        Ask::new(Carrier::Client(self), method, url)
    }

    /// A connection to the URL's host, for several requests.
    pub(crate) async fn connect(&self, url: &str) -> Result<Connection, ClientError> {
        let url = url.parse().expect("a URL");
        tokio::time::timeout(PATIENCE, self.dial(&url)).await.expect("no connection in time")
    }

    async fn dial(&self, url: &Uri) -> Result<Connection, ClientError> {
        let host = url.host().expect("an absolute URL");
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addr = match &self.way {
            Way::Proxy(addr) | Way::Address(addr) => *addr,
            Way::Resolving(hosts) => {
                let named = hosts.get(host).or_else(|| hosts.get(&format!("{host}:{port}"))).copied();
                named.or_else(|| format!("{host}:{port}").parse().ok()).expect("a host of a fake")
            }
        };
        let mut tcp = connect(self.source, addr).await.map_err(ClientError::Tcp)?;
        tcp.set_nodelay(true).map_err(ClientError::Tcp)?;
        tcp.write_all(&self.preamble).await.map_err(ClientError::Tcp)?;
        let proxied = matches!(self.way, Way::Proxy(_));
        if !secure {
            let sender = if self.alpn == Alpn::H2 { h2(tcp).await? } else { h1(tcp).await? };
            let authorization = self.proxy_user.as_ref().filter(|_| proxied).map(|user| basic(&user.0, &user.1));
            return Ok(Connection { sender, absolute: proxied, authorization, peer: None, resumed: false });
        }
        if proxied {
            tcp = self.tunnel(tcp, &format!("{host}:{port}")).await?;
        }
        let name = tls::server_name(self.server_name.as_deref().unwrap_or(host));
        let io = TlsConnector::from(self.tls.clone()).connect(name, tcp).await.map_err(ClientError::Tls)?;
        let tls = io.get_ref().1;
        let peer = tls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let is_h2 = tls.alpn_protocol() == Some(b"h2");
        let sender = if is_h2 { h2(io).await? } else { h1(io).await? };
        Ok(Connection { sender, absolute: false, authorization: None, peer, resumed })
    }

    async fn tunnel(&self, mut tcp: TcpStream, authority: &str) -> Result<TcpStream, ClientError> {
        let mut head =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: Go-http-client/1.1\r\n");
        if let Some((user, password)) = &self.proxy_user {
            head.push_str(&format!("Proxy-Authorization: {}\r\n", basic(user, password)));
        }
        head.push_str("\r\n");
        tcp.write_all(head.as_bytes()).await.map_err(ClientError::Tcp)?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            match tcp.read_u8().await {
                Ok(byte) => reply.push(byte),
                Err(error) if reply.is_empty() => return Err(ClientError::Tcp(error)),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&reply).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status == 200 {
            return Ok(tcp);
        }
        let reason = head.lines().next().and_then(|line| line.splitn(3, ' ').nth(2)).unwrap_or_default().to_owned();
        let field =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let length = head.lines().filter_map(field).find(|(name, _)| name == "content-length");
        let mut rest = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
        let _ = tcp.read_exact(&mut rest).await;
        Err(ClientError::Refused(status, reason, head + &String::from_utf8_lossy(&rest)))
    }
}

async fn connect(source: Option<IpAddr>, addr: SocketAddr) -> std::io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(addr).await };
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(addr).await
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

/// A bare connection: for what no HTTP library would send.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Raw {
        Raw(TcpStream::connect(addr).await.expect("a listener"))
    }

    /// An error (the other side has closed) is left for the next read to show.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// What comes up to and with this text; less when the other side closes before.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        self.read(|bytes| bytes.ends_with(text.as_bytes())).await
    }

    /// What comes until the other side closes.
    pub(crate) async fn read_to_end(&mut self) -> String {
        self.read(|_| false).await
    }

    /// No more will be sent, but answers are still read.
    pub(crate) async fn half_close(&mut self) {
        let _ = self.0.shutdown().await;
    }

    async fn read(&mut self, enough: impl Fn(&[u8]) -> bool) -> String {
        let mut bytes = Vec::new();
        let reading = async {
            while !enough(&bytes) {
                let Ok(byte) = self.0.read_u8().await else { break };
                bytes.push(byte);
            }
        };
        let end = tokio::time::timeout(PATIENCE, reading).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(end.is_ok(), "nothing more came after {text:?}");
        text
    }
}
