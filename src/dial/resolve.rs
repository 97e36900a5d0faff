//! From a name to addresses: by the system, or by name servers of our own where the system's
//! answers lead to seawall.
//!
//! The system (`system`) is asked for at most 32 names at a time: each costs a thread while it is
//! silent.
//!
//! Of our own (`servers`):
//! 1. Name servers are asked in their order, beginning with the one that answered last.
//! 2. Where one fails, the next is asked at once; where one is silent, after 0.7 s, and the first
//!    to answer is believed. 5 s are for all.
//! 3. That there is no such name, or no address, is an answer. SERVFAIL, REFUSED and a broken
//!    connection are none.
//! 4. Where one family has addresses, the other has 50 ms more.
//!
//! Names of name servers are never looked up: see [`NameServer`](super::nameserver). Nor is
//! anything else asked of the system then.

mod servers;
mod system;

use std::io;
use std::net::IpAddr;

pub use self::servers::Servers;
pub use self::system::System;

use super::nameserver::NameServer;

/// What resolves names.
#[derive(Clone, Debug)]
pub enum Resolver {
    /// The system: `/etc/hosts`, NSS, search domains.
    System(System),
    /// These name servers and nothing else, `/etc/hosts` included: that is where DNS is overridden
    /// on a single machine.
    Servers(Servers),
}

impl Resolver {
    /// The system's where there are no `nameservers`. `ca_pem` are roots beside the system's, for
    /// those that are asked over TLS.
    ///
    /// # Errors
    /// The resolver cannot be built from them.
    pub fn new(nameservers: &[NameServer], ca_pem: Option<&[u8]>) -> io::Result<Resolver> {
        if nameservers.is_empty() {
            return Ok(Resolver::System(System::default()));
        }
        Servers::new(nameservers, ca_pem).map(Resolver::Servers)
    }

    /// One that looks names up beside this one: the system's does so many at a time.
    #[must_use]
    pub fn apart(&self) -> Resolver {
        match self {
            Resolver::System(system) => Resolver::System(system.apart()),
            Resolver::Servers(servers) => Resolver::Servers(servers.clone()),
        }
    }

    /// All addresses of `name`, at least one.
    ///
    /// # Errors
    /// There is no such name, or no resolver answers.
    pub async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = match self {
            Resolver::System(system) => system.lookup(name).await?,
            Resolver::Servers(servers) => servers.lookup(name).await?,
        };
        if found.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = Resolver::new(&[], None).unwrap().lookup("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        assert!(Resolver::new(&[], None).unwrap().lookup("no-such-host.invalid").await.is_err());
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
    async fn own_name_servers_are_asked_on_their_port_and_nothing_else() {
        let servers = [name_server([198, 51, 100, 7]).await.to_string().parse().unwrap()];
        let resolver = Resolver::new(&servers, None).unwrap();
        let expected: Vec<IpAddr> = vec![[198, 51, 100, 7].into()];
        assert_eq!(resolver.lookup("registry-1.docker.io").await.unwrap(), expected);
        let hostname = "ip6-loopback"; // stands in /etc/hosts of most systems
        assert_eq!(resolver.lookup(hostname).await.unwrap(), expected);
    }
}
