//! From a name to addresses: by the system, or by name servers of our own where the system's answers lead to seawall.
//!
//! 1. Name servers are asked in their order, beginning with the one that answered last.
//! 2. Where one fails, the next is asked at once; where one is silent, after 0.7 s, and the first to answer is believed.
//! 3. That there is no such name, or no address, is an answer. SERVFAIL, REFUSED and a broken connection are none.
//!
//! Names of name servers are never looked up: see [`NameServer`](super::nameserver). Nor is anything else asked of the system then.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::{ConnectionProvider, PoolContext, Resolver as Resolving};
use parking_lot::Mutex;
use rustls::ClientConfig;

use super::dial_error::advice;
use super::nameserver::{NameServer, Transport};
use super::tls::tls_config;
use crate::http::origin::Host;

/// After this without an answer the next name server is asked too.
const SILENCE: Duration = Duration::from_millis(700);
/// How long one attempt of one of them may take; there are two. Lost datagrams are sent again sooner.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Resolver {
    /// The system: `/etc/hosts`, NSS, search domains.
    System,
    /// These name servers and nothing else, `/etc/hosts` included: that is where DNS is overridden on a single machine.
    Servers(Servers),
}

impl Resolver {
    /// The system's where there are no `nameservers`. `ca_pem` are roots beside the system's, for those that are asked over TLS.
    ///
    /// # Errors
    /// The resolver cannot be built from them.
    pub fn new(nameservers: &[NameServer], ca_pem: Option<&[u8]>) -> io::Result<Resolver> {
        if nameservers.is_empty() {
            return Ok(Resolver::System);
        }
        let is_plain = |server: &NameServer| matches!(server.transport, Transport::Udp | Transport::Tcp);
        // hickory makes TLS of its own where it is given none, needed or not.
        let roots = if nameservers.iter().all(is_plain) { None } else { ca_pem };
        let tls = tls_config(roots, None, None).map_err(io::Error::other)?;
        let all = nameservers.iter().map(|server| Asked::new(server, &tls)).collect::<io::Result<_>>()?;
        Ok(Resolver::Servers(Servers { all, first: Arc::default() }))
    }

    /// All addresses of `name`, at least one.
    ///
    /// # Errors
    /// There is no such name, or nobody answers.
    pub async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found: Vec<IpAddr> = match self {
            Resolver::System => tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect(),
            Resolver::Servers(servers) => servers.lookup(name).await?,
        };
        if found.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")) } else { Ok(found) }
    }
}

/// Name servers. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Servers {
    all: Arc<[Asked]>,
    /// Which answered last.
    first: Arc<AtomicUsize>,
}

impl Servers {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (count, first) = (self.all.len(), self.first.load(Ordering::Relaxed));
        let mut waiting = (0..count).map(|n| (first + n) % count);
        let (mut asked, mut failures) = (FuturesUnordered::new(), Vec::new());
        loop {
            if let Some(n) = waiting.next() {
                asked.push(async move { (n, self.all[n].ask(name).await) });
            } else if asked.is_empty() {
                return Err(io::Error::other(failures.join("; ")));
            }
            let heard = if waiting.len() == 0 {
                asked.next().await
            } else {
                // Silence: the next one, too.
                let Ok(heard) = tokio::time::timeout(SILENCE, asked.next()).await else { continue };
                heard
            };
            match heard {
                Some((n, Ok(answer))) => {
                    self.first.store(n, Ordering::Relaxed);
                    return answer;
                }
                Some((n, Err(why))) => failures.push(format!("{} {why}", self.all[n].server)),
                None => {}
            }
        }
    }
}

/// One name server, and what it answered before.
struct Asked {
    server: NameServer,
    resolver: Resolving<Connecting>,
    /// Why there was no connection the last time: hickory 0.26 says no more than that there is none.
    failed: Arc<Mutex<Option<NetError>>>,
}

/// Connects as hickory does, and remembers why not.
#[derive(Clone)]
struct Connecting {
    runtime: TokioRuntimeProvider,
    failed: Arc<Mutex<Option<NetError>>>,
}

impl ConnectionProvider for Connecting {
    type Conn = <TokioRuntimeProvider as ConnectionProvider>::Conn;
    type FutureConn = BoxFuture<'static, Result<Self::Conn, NetError>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        cx: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let failed = self.failed.clone();
        let connecting = self.runtime.new_connection(ip, config, cx)?;
        Ok(Box::pin(async move { connecting.await.inspect_err(|error| *failed.lock() = Some(error.clone())) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.runtime
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server)
    }
}

impl Asked {
    fn new(server: &NameServer, tls: &ClientConfig) -> io::Result<Asked> {
        let config = ResolverConfig::from_name_servers(vec![config(server)]);
        let failed = Arc::default();
        let connecting = Connecting { runtime: TokioRuntimeProvider::default(), failed: Arc::clone(&failed) };
        let mut builder = Resolving::builder_with_config(config, connecting);
        *builder.options_mut() = options();
        let resolver = builder.with_tls_config(tls.clone()).build().map_err(io::Error::other)?;
        Ok(Asked { server: server.clone(), resolver, failed })
    }

    /// What it answers, or why that is no answer.
    async fn ask(&self, name: &str) -> Result<io::Result<Vec<IpAddr>>, String> {
        let (six, four) = tokio::join!(self.resolver.ipv6_lookup(name), self.resolver.ipv4_lookup(name));
        let (six, four) = (self.answer(six), self.answer(four));
        let found: Vec<IpAddr> = [&six, &four].into_iter().flatten().flatten().flatten().copied().collect();
        if !found.is_empty() {
            return Ok(Ok(found));
        }
        let said = |what: &str| io::Error::new(io::ErrorKind::NotFound, format!("{} {what}", self.server));
        match (six?, four?) {
            (None, _) | (_, None) => Ok(Err(said("says that there is no such name"))),
            _ => Ok(Err(said("says that it has no address"))),
        }
    }

    /// Addresses, perhaps none; or `None`: no such name. An error is no answer.
    fn answer(&self, looked_up: Result<Lookup, NetError>) -> Result<Option<Vec<IpAddr>>, String> {
        match looked_up {
            Ok(lookup) => Ok(Some(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect())),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.response_code == ResponseCode::NXDomain => {
                Ok(None)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.response_code == ResponseCode::NoError => {
                Ok(Some(Vec::new()))
            }
            Err(NetError::NoConnections) => Err(why(self.failed.lock().as_ref().unwrap_or(&NetError::NoConnections))),
            Err(error) => Err(why(&error)),
        }
    }
}

fn why(error: &NetError) -> String {
    match error {
        NetError::Timeout => "does not answer".to_owned(),
        NetError::Dns(DnsError::NoRecordsFound(none)) => format!("answers {}", none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("answers {code}"),
        NetError::Io(io) => format!("cannot be asked: {io}{}", advice(&**io)),
        other => format!("cannot be asked: {other}"),
    }
}

fn config(server: &NameServer) -> NameServerConfig {
    // An address as a certificate has it: without brackets.
    let named = |name: &Host| match name {
        Host::Name(name) => name.clone(),
        Host::Ip(ip) => ip.to_string().into(),
    };
    let protocols = match &server.transport {
        Transport::Udp => vec![ProtocolConfig::Udp, ProtocolConfig::Tcp],
        Transport::Tcp => vec![ProtocolConfig::Tcp],
        Transport::Tls { name } => vec![ProtocolConfig::Tls { server_name: named(name) }],
        Transport::Https { name, path } => {
            vec![ProtocolConfig::Https { server_name: named(name), path: path.clone() }]
        }
    };
    let connections = protocols.into_iter().map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = server.address.port();
        connection
    });
    NameServerConfig::new(server.address.ip(), true, connections.collect())
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    options.timeout = PATIENCE;
    options.attempts = 1;
    options
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = Resolver::new(&[], None).unwrap().lookup("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        assert!(Resolver::System.lookup("no-such-host.invalid").await.is_err());
    }

    /// A name server for all names: `answer` in A, nothing in AAAA.
    async fn name_server(answer: [u8; 4]) -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        crate::task::Tasks::new().spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query).await {
                let name = query[12..length].iter().position(|byte| *byte == 0).unwrap();
                let question = &query[12..12 + name + 5];
                let is_a = question[name + 1..name + 3] == [0, 1];
                let mut reply = query[..2].to_vec();
                reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                reply.extend(question);
                if is_a {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                    reply.extend(answer);
                }
                socket.send_to(&reply, client).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn own_name_servers_are_asked_on_their_port_and_nobody_else() {
        let servers = [name_server([198, 51, 100, 7]).await.to_string().parse().unwrap()];
        let resolver = Resolver::new(&servers, None).unwrap();
        let expected: Vec<IpAddr> = vec![[198, 51, 100, 7].into()];
        assert_eq!(resolver.lookup("registry-1.docker.io").await.unwrap(), expected);
        let hostname = "ip6-loopback"; // stands in /etc/hosts of most systems
        assert_eq!(resolver.lookup(hostname).await.unwrap(), expected);
    }
}
