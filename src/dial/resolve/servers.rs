//! Name servers of our own: see [`Servers::lookup`].

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{Future, StreamExt as _};
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
use tokio::time::{Instant, timeout, timeout_at};

use crate::dial::error::advice;
use crate::dial::nameserver::{NameServer, Transport};
use crate::dial::tls::tls_config;
use crate::http::origin::Host;

/// After this without an answer the next name server is asked too.
const SILENCE: Duration = Duration::from_millis(700);
/// How long one attempt of one of them may take; there are two. Lost datagrams are sent again
/// sooner.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How long all of them may take: a connection that hangs has no attempts.
const DEADLINE: Duration = Duration::from_secs(5);
/// RFC 8305, 3: how long addresses of one family wait for those of the other.
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// "No such name" is kept no longer than this, whatever the zone says: a name that was just made is
/// looked for.
const LONGEST_NO: Duration = Duration::from_secs(60);
/// An address is kept no longer than this.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Name servers. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Servers {
    all: Arc<[Asked]>,
    /// The index of the one that answered last.
    first: Arc<AtomicUsize>,
}

impl Servers {
    /// Asks `nameservers`, over TLS those that say so.
    ///
    /// # Errors
    /// TLS or the resolver cannot be configured.
    pub(crate) fn new(nameservers: &[NameServer], ca_pem: Option<&[u8]>) -> io::Result<Servers> {
        let is_plain = |server: &NameServer| matches!(server.transport, Transport::Udp | Transport::Tcp);
        // hickory makes TLS of its own where it is given none, needed or not.
        let roots = if nameservers.iter().all(is_plain) { None } else { ca_pem };
        let tls = tls_config(roots, None, None).map_err(io::Error::other)?;
        let all = nameservers.iter().map(|server| Asked::new(server, &tls)).collect::<io::Result<_>>()?;
        Ok(Servers { all, first: Arc::default() })
    }

    /// The first answer. All that failed are named, and all that were silent.
    pub(crate) async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (count, first) = (self.all.len(), self.first.load(Ordering::Relaxed));
        let mut waiting = (0..count).map(|n| (first + n) % count);
        let (mut asked, mut failures, mut silent) = (FuturesUnordered::new(), Vec::new(), BTreeSet::new());
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(n) = waiting.next() {
                silent.insert(n);
                asked.push(async move { (n, self.all[n].ask(name).await) });
            } else if asked.is_empty() {
                return Err(io::Error::other(failures.join("; ")));
            }
            let is_last = waiting.len() == 0;
            let patience = if is_last { deadline } else { deadline.min(Instant::now() + SILENCE) };
            match timeout_at(patience, asked.next()).await {
                Ok(Some((n, Ok(answer)))) => {
                    self.first.store(n, Ordering::Relaxed);
                    return answer;
                }
                Ok(Some((n, Err(why)))) => {
                    silent.remove(&n);
                    failures.push(format!("{} {why}", self.all[n].server));
                }
                // Silence: the next one, too.
                Err(_) if !is_last && Instant::now() < deadline => {}
                Err(_) => {
                    failures.extend(silent.iter().map(|n| format!("{} does not answer", self.all[*n].server)));
                    return Err(io::Error::new(io::ErrorKind::TimedOut, failures.join("; ")));
                }
                Ok(None) => {}
            }
        }
    }
}

/// One name server, with its answers of before.
struct Asked {
    server: NameServer,
    resolver: Resolving<Connecting>,
    /// Why there was no connection the last time: hickory 0.26 says no more than that there is
    /// none.
    failed: Arc<Mutex<Option<NetError>>>,
}

/// Connects as hickory does, and keeps the error.
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
        Ok(Box::pin(async move {
            let connected = connecting.await;
            *failed.lock() = connected.as_ref().err().cloned();
            connected
        }))
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
        let six = async { self.answer(self.resolver.ipv6_lookup(name).await) };
        let four = async { self.answer(self.resolver.ipv4_lookup(name).await) };
        let said = |what: &str| Ok(Err(io::Error::new(io::ErrorKind::NotFound, format!("{} {what}", self.server))));
        match both(six, four).await {
            Heard::Addresses(found) => Ok(Ok(found)),
            Heard::NoSuchName => said("says that there is no such name"),
            Heard::NoAddress => said("says that it has no address"),
            Heard::Nothing(why) => Err(why),
        }
    }

    /// Addresses, perhaps none; or `None`: no such name. An error is no answer.
    fn answer(&self, looked_up: Result<Lookup, NetError>) -> Answer {
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

/// The answer for one address family: addresses, perhaps none; or `None`: no such name. An error is
/// no answer.
type Answer = Result<Option<Vec<IpAddr>>, String>;

/// The answers for both address families, as one.
#[derive(Debug, PartialEq)]
enum Heard {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    NoAddress,
    Nothing(String),
}

/// The addresses of both families, `six` before `four`. Where one has some, the other is not waited
/// for.
async fn both(six: impl Future<Output = Answer>, four: impl Future<Output = Answer>) -> Heard {
    let has = |answer: &Answer| matches!(answer, Ok(Some(found)) if !found.is_empty());
    let late = || Err("does not answer".to_owned());
    let (six, four) = match select(pin!(six), pin!(four)).await {
        Either::Left((six, four)) if has(&six) => (six, timeout(OTHER_FAMILY, four).await.unwrap_or_else(|_| late())),
        Either::Left((six, four)) => (six, four.await),
        Either::Right((four, six)) if has(&four) => (timeout(OTHER_FAMILY, six).await.unwrap_or_else(|_| late()), four),
        Either::Right((four, six)) => (six.await, four),
    };
    heard(six, four)
}

fn heard(six: Answer, four: Answer) -> Heard {
    let found: Vec<IpAddr> = [&six, &four].into_iter().flatten().flatten().flatten().copied().collect();
    if !found.is_empty() {
        return Heard::Addresses(found);
    }
    match (six, four) {
        // Of the name, whatever was asked for (RFC 8020).
        (Ok(None), _) | (_, Ok(None)) => Heard::NoSuchName,
        (Ok(_), Ok(_)) => Heard::NoAddress,
        (Err(six), Err(four)) if six == four => Heard::Nothing(six),
        (Err(six), Err(four)) => Heard::Nothing(format!("{six} when asked for AAAA, and {four} when asked for A")),
        (Err(why), Ok(_)) => Heard::Nothing(format!("{why} when asked for AAAA, and has no A")),
        (Ok(_), Err(why)) => Heard::Nothing(format!("{why} when asked for A, and has no AAAA")),
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
    options.timeout = PATIENCE;
    options.attempts = 1;
    options.negative_max_ttl = Some(LONGEST_NO);
    options.positive_max_ttl = Some(LONGEST);
    options
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn some(ip: &str) -> Answer {
        Ok(Some(vec![ip.parse().unwrap()]))
    }

    fn addresses(ips: &[&str]) -> Heard {
        Heard::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    /// RFC 8305, 3: a name server, or a firewall, that drops what asks for AAAA.
    #[tokio::test(start_paused = true)]
    async fn one_family_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(both(pending(), ready(some("192.0.2.7"))).await, addresses(&["192.0.2.7"]));
        assert_eq!(begun.elapsed(), OTHER_FAMILY);
        assert_eq!(both(ready(some("2001:db8::7")), pending()).await, addresses(&["2001:db8::7"]));
        let later = async {
            tokio::time::sleep(OTHER_FAMILY / 2).await;
            some("2001:db8::7")
        };
        assert_eq!(both(later, ready(some("192.0.2.7"))).await, addresses(&["2001:db8::7", "192.0.2.7"]));
        let much_later = async {
            tokio::time::sleep(OTHER_FAMILY * 20).await;
            some("2001:db8::7")
        };
        assert_eq!(both(much_later, ready(Ok(Some(Vec::new())))).await, addresses(&["2001:db8::7"]), "nothing else");
    }

    #[test]
    fn what_two_answers_say() {
        let silent = || Err("does not answer".to_owned());
        let none = || Ok(Some(Vec::new()));
        for (six, four, expected) in [
            (Ok(None), Ok(None), Heard::NoSuchName),
            (silent(), Ok(None), Heard::NoSuchName),
            (none(), none(), Heard::NoAddress),
            (Ok(None), some("192.0.2.7"), addresses(&["192.0.2.7"])),
            (silent(), some("192.0.2.7"), addresses(&["192.0.2.7"])),
            (silent(), silent(), Heard::Nothing("does not answer".to_owned())),
            (silent(), none(), Heard::Nothing("does not answer when asked for AAAA, and has no A".to_owned())),
        ] {
            assert_eq!(heard(six, four), expected);
        }
    }
}
