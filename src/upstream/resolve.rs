//! From a name to addresses: by the system, or by name servers of our own where the system's answers lead to seawall.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Resolver {
    /// The system: `/etc/hosts`, NSS, search domains.
    System,
    /// These name servers and nothing else, `/etc/hosts` included: that is where DNS is overridden on a single machine.
    Servers(Box<TokioResolver>),
}

impl Resolver {
    /// The system's where there are no `nameservers`.
    ///
    /// # Errors
    /// The resolver cannot be built from them.
    pub fn new(nameservers: &[SocketAddr]) -> io::Result<Resolver> {
        if nameservers.is_empty() {
            return Ok(Resolver::System);
        }
        let servers = nameservers.iter().map(name_server).collect();
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), provider);
        *builder.options_mut() = options();
        Ok(Resolver::Servers(Box::new(builder.build().map_err(io::Error::other)?)))
    }

    /// All addresses of `name`, at least one.
    ///
    /// # Errors
    /// There is no such name, or nobody answers.
    pub async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found: Vec<IpAddr> = match self {
            Resolver::System => tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect(),
            Resolver::Servers(servers) => servers.lookup_ip(name).await.map_err(io::Error::other)?.iter().collect(),
        };
        if found.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")) } else { Ok(found) }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.try_tcp_on_error = true;
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = Resolver::new(&[]).unwrap().lookup("localhost").await.unwrap();
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
        let servers = [name_server([198, 51, 100, 7]).await];
        let resolver = Resolver::new(&servers).unwrap();
        let expected: Vec<IpAddr> = vec![[198, 51, 100, 7].into()];
        assert_eq!(resolver.lookup("registry-1.docker.io").await.unwrap(), expected);
        let hostname = "ip6-loopback"; // stands in /etc/hosts of most systems
        assert_eq!(resolver.lookup(hostname).await.unwrap(), expected);
    }
}
