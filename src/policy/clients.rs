//! Who may use the data port: by address, by number, by password; and how often a refusal is worth
//! a line in the log.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::address::Block;

/// Whether `ip` is in one of the networks. A v4 client of a dual-stack socket has a v4-mapped v6
/// address.
pub fn may_connect(allow: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    allow.iter().any(|network| network.contains(&ip))
}

/// Whose connections are counted together: an IPv4 address, or an IPv6 /64, which is what one
/// machine is given (RFC 6177, RFC 7421) and can take 2^64 addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(Block);

impl Client {
    /// The one that `ip` belongs to.
    pub fn of(ip: IpAddr) -> Client {
        Client(Block::around(ip, 32, 64))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is not in `clients.allow`.
    Allow,
    /// It has `clients.max_per_client` connections.
    Limit,
    /// It is not in `clients.users_file`, or came by a way in that has no field for a password.
    Auth,
    /// It is in `clients.proxy_protocol_from` and sent no PROXY header, or a wrong one.
    ProxyHeader,
    /// It wanted to be tunnelled to where tunnels do not lead.
    Tunnel,
}

impl Refusal {
    /// As in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Allow => "allow",
            Refusal::Limit => "limit",
            Refusal::Auth => "auth",
            Refusal::ProxyHeader => "proxy_header",
            Refusal::Tunnel => "tunnel",
        }
    }
}

/// How a request came to seawall itself, in the clear or within TLS to one of its names: see RFC
/// 9112, 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// `CONNECT host:port`.
    Authority,
    /// `GET http://host/path`: to be forwarded.
    Absolute,
    /// `GET /path`: seawall is the server that is meant.
    Origin(&'a str),
}

/// The password that a request has to carry where there are users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// No password.
    Nothing,
    /// `Proxy-Authorization`, else 407 (RFC 9110, 11.7).
    Proxy,
    /// `Authorization`, else 401 (RFC 9110, 11.6).
    Origin,
}

/// The password that a request has to carry. Without one a client gets only what it needs before it
/// can be set up: how to use this proxy, its root, its health.
pub fn demanded(form: Form<'_>) -> Demand {
    match form {
        Form::Authority | Form::Absolute => Demand::Proxy,
        Form::Origin("/" | "/ca.crt" | "/healthz" | "/setup") => Demand::Nothing,
        Form::Origin(path) if path.starts_with("/setup/") => Demand::Nothing,
        Form::Origin(_) => Demand::Origin,
    }
}

/// The same refusal of the same client is logged once in this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines in one window: a scan from everywhere does not fill the disk.
const MOST: usize = 20;

/// Refusals that were logged, so that they are not logged again at once. Never holds more than it
/// says in one window.
#[derive(Debug)]
pub struct Notices {
    began: SystemTime,
    said: HashSet<(Client, Refusal)>,
    unsaid: u64,
}

/// Whether a refusal is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It is logged, with the number of those that were not since the last line.
    Say {
        /// Refusals that were not logged.
        unsaid: u64,
    },
    /// It is only counted.
    Count,
}

impl Notices {
    /// A window in which nothing was logged yet.
    pub fn new(now: SystemTime) -> Notices {
        Notices { began: now, said: HashSet::new(), unsaid: 0 }
    }

    /// Notes that `client` was refused.
    pub fn notice(&mut self, client: Client, refusal: Refusal, now: SystemTime) -> Notice {
        if now.duration_since(self.began).is_ok_and(|passed| passed >= WINDOW) {
            self.said.clear();
            self.began = now;
        }
        if self.said.len() < MOST && self.said.insert((client, refusal)) {
            return Notice::Say { unsaid: std::mem::take(&mut self.unsaid) };
        }
        self.unsaid += 1;
        Notice::Count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_are_told_from_clients() {
        let allow: Vec<IpNet> = ["127.0.0.0/8", "10.0.0.0/8", "fc00::/7"].map(|net| net.parse().unwrap()).to_vec();
        for (address, expected) in [
            ("127.0.0.1", true),
            ("::ffff:10.1.2.3", true),
            ("fd00::1", true),
            ("8.8.8.8", false),
            ("::ffff:8.8.8.8", false),
            ("::1", false),
        ] {
            assert_eq!(may_connect(&allow, ip(address)), expected, "{address}");
        }
        assert!(!may_connect(&[], ip("127.0.0.1")));
    }

    #[test]
    fn a_client_is_an_address_or_a_64() {
        for (one, other, same) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "0.0.0.1", false),
        ] {
            assert_eq!(Client::of(ip(one)) == Client::of(ip(other)), same, "{one} {other}");
        }
        assert_eq!(Client::of(ip("::ffff:10.0.0.1")).to_string(), "10.0.0.1");
        assert_eq!(Client::of(ip("2001:db8::1")).to_string(), "2001:db8::/64");
    }

    /// What is not known to be harmless is closed.
    #[test]
    fn what_is_open_and_what_is_not() {
        for (form, demand) in [
            (Form::Authority, Demand::Proxy),
            (Form::Absolute, Demand::Proxy),
            (Form::Origin("/"), Demand::Nothing),
            (Form::Origin("/ca.crt"), Demand::Nothing),
            (Form::Origin("/healthz"), Demand::Nothing),
            (Form::Origin("/v2"), Demand::Origin),
            (Form::Origin("/v2/"), Demand::Origin),
            (Form::Origin("/v2/library/alpine/manifests/1"), Demand::Origin),
            (Form::Origin("//v2/"), Demand::Origin),
            (Form::Origin("/setup"), Demand::Nothing),
            (Form::Origin("/setup/docker"), Demand::Nothing),
            (Form::Origin("/setups"), Demand::Origin),
            (Form::Origin("//setup/docker"), Demand::Origin),
            (Form::Origin("/ca.crt/"), Demand::Origin),
            (Form::Origin("/%2e/"), Demand::Origin),
            (Form::Origin("*"), Demand::Origin),
            (Form::Origin(""), Demand::Origin),
        ] {
            assert_eq!(demanded(form), demand, "{form:?}");
        }
    }

    #[test]
    fn a_refusal_is_said_once_in_a_while_and_a_flood_not_at_all() {
        let start = SystemTime::UNIX_EPOCH;
        let mut notices = Notices::new(start);
        let client = |n: u8| Client::of([10, 0, 0, n].into());
        let say = |unsaid| Notice::Say { unsaid };
        assert_eq!(notices.notice(client(1), Refusal::Allow, start), say(0));
        assert_eq!(notices.notice(client(1), Refusal::Allow, start), Notice::Count);
        assert_eq!(notices.notice(client(1), Refusal::Limit, start), say(1), "another reason is news");
        assert_eq!(notices.notice(client(2), Refusal::Allow, start), say(0), "another client, too");
        for n in 0..200 {
            notices.notice(client(n), Refusal::Auth, start);
        }
        assert_eq!(notices.said.len(), MOST);
        let later = start + WINDOW - Duration::from_millis(1);
        assert_eq!(notices.notice(client(201), Refusal::Allow, later), Notice::Count);
        assert_eq!(notices.notice(client(1), Refusal::Allow, start + WINDOW), say(184));
        assert_eq!(notices.said.len(), 1);
    }
}
