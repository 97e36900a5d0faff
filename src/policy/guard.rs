//! Which addresses seawall never dials, whoever asks.
//!
//! Checked on every address that a name of a client, a redirect or a token realm resolves to; what
//! is dialled is the very address that was checked, so a second answer of the resolver (rebinding)
//! changes nothing. Names are looked at first: where a parent proxy resolves them there is nothing
//! else to go by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A kind of network that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// 127/8, ::1.
    Loopback,
    /// 169.254/16, fe80::/10.
    LinkLocal,
    /// Where clouds answer with credentials.
    Metadata,
    /// RFC 1918, RFC 6598, fc00::/7, and what else is only of use inside a site.
    Private,
}

impl Network {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Network::Loopback => "loopback",
            Network::LinkLocal => "link-local",
            Network::Metadata => "metadata",
            Network::Private => "private",
        }
    }

    fn contains(self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Network::Metadata, _) => METADATA.contains(&ip),
            (Network::Loopback, _) => ip.is_loopback(),
            (Network::LinkLocal, IpAddr::V4(v4)) => v4.is_link_local(),
            (Network::LinkLocal, IpAddr::V6(v6)) => v6.is_unicast_link_local(),
            (Network::Private, IpAddr::V4(v4)) => is_private_v4(v4),
            // fc00::/7 and the site-local addresses before it (fec0::/10, RFC 3879).
            (Network::Private, IpAddr::V6(v6)) => v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownNetwork(String);

impl fmt::Display for UnknownNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not one of \"loopback\", \"link-local\", \"metadata\", \"private\"", self.0)
    }
}

impl std::error::Error for UnknownNetwork {}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Network, UnknownNetwork> {
        [Network::Loopback, Network::LinkLocal, Network::Metadata, Network::Private]
            .into_iter()
            .find(|network| network.as_str() == text)
            .ok_or_else(|| UnknownNetwork(text.to_owned()))
    }
}

/// Where credentials are handed to whoever asks from the machine itself. Most lie in a link-local
/// or private network; named one by one, they stay refused when those are allowed.
const METADATA: [IpAddr; 14] = [
    v4(169, 254, 169, 254),                         // AWS, GCP, Azure, OpenStack, Oracle, DigitalOcean
    v4(169, 254, 170, 2),                           // AWS ECS task credentials
    v4(169, 254, 170, 23),                          // AWS EKS pod identity
    v4(169, 254, 0, 23),                            // Tencent
    v4(169, 254, 42, 42),                           // Scaleway
    v4(100, 100, 100, 200),                         // Alibaba
    v4(192, 0, 0, 192),                             // Oracle classic
    v4(168, 63, 129, 16),                           // Azure wire server, a public address
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]),      // AWS
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]),       // AWS EKS pod identity
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]),       // GCP
    v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]), // Oracle
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]),        // Scaleway
    v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),    // OpenStack
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(s: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]))
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        [100, b, ..] => b & 0xc0 == 0x40, // 100.64/10, RFC 6598
        [192, 0, 0, _] => true,           // RFC 6890
        [198, 18 | 19, ..] => true,       // benchmarks, RFC 2544
        _ => ip.is_private(),
    }
}

/// Names of the same. Some clouds have them resolved to addresses of other kinds.
const METADATA_NAMES: [&str; 7] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata", // GCP, by the search domain
    "instance-data.ec2.internal",
    "instance-data", // AWS, likewise
    "metadata.azure.internal",
    "metadata.tencentyun.com",
];

/// Names of this machine, with all below them (RFC 6761, 6.3; the others are in everybody's
/// `/etc/hosts`).
const LOOPBACK_NAMES: [&str; 6] =
    ["localhost", "localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];

/// What no public name ends with (ICANN's .internal; RFC 6762 and its appendix G; RFC 8375).
const PRIVATE_SUFFIXES: [&str; 8] = ["internal", "local", "intranet", "private", "corp", "home", "lan", "home.arpa"];

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The address as it was resolved. `None`: its name says enough.
    pub ip: Option<IpAddr>,
    /// The network it is in, unless it is an address that nothing answers at in any network.
    pub network: Option<Network>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.network) {
            (Some(ip), Some(network)) => write!(f, "{ip} is a {network} address")?,
            (None, Some(network)) => write!(f, "that is a {network} name")?,
            (Some(ip), None) => return write!(f, "{ip} is no address of a host"),
            (None, None) => return f.write_str("that is no name of a host"),
        }
        self.network.map_or(Ok(()), |network| write!(f, ", and tunnel.deny_networks has \"{network}\""))
    }
}

impl std::error::Error for Refusal {}

/// Whether `ip` may be dialled, looked at as it is and as every IPv4 address that a translator
/// would read in it.
///
/// # Errors
/// The network that forbids it.
pub fn check(ip: IpAddr, deny: &[Network]) -> Result<(), Refusal> {
    let refuse = |network| Err(Refusal { ip: Some(ip), network });
    for seen in disguises(ip) {
        if let Some(network) = deny.iter().find(|network| network.contains(seen)) {
            return refuse(Some(*network));
        }
        if is_no_host(seen) {
            return refuse(None);
        }
    }
    Ok(())
}

/// Whether `name` (in lower case, without its last dot) may be dialled whatever it resolves to.
///
/// # Errors
/// The network that its name alone says it is in.
pub fn check_name(name: &str, deny: &[Network]) -> Result<(), Refusal> {
    let is_in = |network: &Network| match network {
        Network::Loopback => LOOPBACK_NAMES.iter().any(|suffix| is_below(name, suffix)),
        Network::Metadata => METADATA_NAMES.contains(&name),
        Network::Private => !name.contains('.') || PRIVATE_SUFFIXES.iter().any(|suffix| is_below(name, suffix)),
        Network::LinkLocal => false,
    };
    match deny.iter().find(|network| is_in(network)) {
        Some(network) => Err(Refusal { ip: None, network: Some(*network) }),
        None => Ok(()),
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Unspecified, multicast, broadcast, reserved, documentation, discard, 6to4's relays (RFC 7526).
fn is_no_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let o = v4.octets();
            o[0] == 0 || o[0] >= 224 || v4.is_documentation() || o[..3] == [192, 88, 99]
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            is_unassigned(v6)
                || s[..2] == [0x2001, 0xdb8]
                || (s[0] == 0x3fff && s[1] < 0x1000)
                // Benchmarks (RFC 5180), identifiers that are no addresses (RFC 4843, 7343).
                || s[..3] == [0x2001, 2, 0]
                || (s[0] == 0x2001 && (0x10..0x30).contains(&s[1]))
        }
    }
}

/// Neither global unicast (RFC 4291 2.4: 2000::/3), nor local, nor an IPv4 address in disguise.
fn is_unassigned(ip: Ipv6Addr) -> bool {
    match ip.segments()[0] {
        0 | 0x64 => !ip.is_loopback() && embedded(ip)[0].is_none(),
        first => first & 0xe000 != 0x2000 && first & 0xfe00 != 0xfc00 && first & 0xff80 != 0xfe80,
    }
}

/// `ip` and the IPv4 addresses within it.
pub fn disguises(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let inner = match ip {
        IpAddr::V4(_) => [None; 2],
        IpAddr::V6(v6) => embedded(v6),
    };
    std::iter::once(ip).chain(inner.into_iter().flatten().map(IpAddr::V4))
}

/// The IPv4 addresses that a host, a NAT64 or a relay reads in an IPv6 address.
fn embedded(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let o = ip.octets();
    let last = Some(Ipv4Addr::new(o[12], o[13], o[14], o[15]));
    match ip.segments() {
        // ::1 is not 0.0.0.1 (RFC 4291 2.5.3).
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None; 2],
        // ::a.b.c.d, ::ffff:a.b.c.d (RFC 4291 2.5.5), ::ffff:0:a.b.c.d (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => [last, None],
        // NAT64 (RFC 6052): the well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => [last, None],
        // NAT64, a site's own (RFC 8215): as a /48, which skips octet 8, or as a /96 within.
        [0x64, 0xff9b, 1, ..] => [Some(Ipv4Addr::new(o[6], o[7], o[9], o[10])), last],
        // 6to4 (RFC 3056).
        [0x2002, ..] => [Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])), None],
        // Teredo (RFC 4380 4): the server, and the client with its bits turned.
        [0x2001, 0, ..] => {
            [Some(Ipv4Addr::new(o[4], o[5], o[6], o[7])), Some(Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15]))]
        }
        // ISATAP (RFC 5214 6.1), in any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => [last, None],
        _ => [None; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Network::{LinkLocal, Loopback, Metadata, Private};

    const DEFAULT: [Network; 3] = [Loopback, LinkLocal, Metadata];
    const ALL: [Network; 4] = [Loopback, LinkLocal, Metadata, Private];

    fn verdict(ip: &str, deny: &[Network]) -> Result<(), Option<Network>> {
        check(ip.parse().unwrap(), deny).map_err(|refusal| refusal.network)
    }

    /// docs/protocol.md 5.4, each plain and in every disguise.
    #[test]
    fn denied_networks_are_refused_in_every_disguise() {
        for (ip, network) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.254", Some(Loopback)),
            ("10.0.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("100.127.255.255", Some(Private)),
            ("192.0.0.8", Some(Private)),
            ("198.18.0.1", Some(Private)),
            ("198.19.255.255", Some(Private)),
            ("169.254.1.1", Some(LinkLocal)),
            ("169.254.169.254", Some(LinkLocal)),
            ("169.254.170.2", Some(LinkLocal)),
            ("169.254.170.23", Some(LinkLocal)),
            ("100.100.100.200", Some(Metadata)),
            ("192.0.0.192", Some(Metadata)),
            ("168.63.129.16", Some(Metadata)),
            ("0.0.0.0", None),
            ("0.1.2.3", None),
            ("224.0.0.1", None),
            ("239.255.255.255", None),
            ("240.0.0.1", None),
            ("255.255.255.255", None),
            ("192.0.2.1", None),
            ("198.51.100.1", None),
            ("203.0.113.1", None),
            ("192.88.99.1", None),
            ("169.254.42.42", Some(LinkLocal)),
        ] {
            assert_eq!(verdict(ip, &ALL), Err(network), "{ip}");
            let inner: Ipv4Addr = ip.parse().unwrap();
            let [a, b, c, d] = inner.octets();
            let turned = Ipv4Addr::new(!a, !b, !c, !d);
            let mut disguises = vec![
                format!("::ffff:{inner}"),
                format!("::ffff:0:{inner}"),
                format!("64:ff9b::{inner}"),
                format!("64:ff9b:1:{a:02x}{b:02x}:00{c:02x}:{d:02x}00::"),
                format!("64:ff9b:1:808:8:800:{inner}"),
                format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
                format!("2001:0:{inner_hex}:0:0:f7f7:f7f7", inner_hex = format_args!("{a:02x}{b:02x}:{c:02x}{d:02x}")),
                format!("2001:0:808:808::{turned}"),
                format!("2606:4700::5efe:{inner}"),
                format!("2606:4700::200:5efe:{inner}"),
            ];
            if inner != Ipv4Addr::UNSPECIFIED {
                disguises.push(format!("::{inner}"));
            }
            for disguise in disguises {
                assert_eq!(verdict(&disguise, &ALL), Err(network), "{disguise} is {ip}");
            }
        }
    }

    #[test]
    fn denied_v6_networks_are_refused() {
        for (ip, network) in [
            ("::1", Some(Loopback)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fc00::1", Some(Private)),
            ("fdff::1", Some(Private)),
            ("fec0::1", Some(Private)),
            ("::", None),
            ("ff02::1", None),
            ("2001:db8::1", None),
            ("3fff:fff::1", None),
            ("100::1", None),
            ("ff0e::1", None),
            ("4000::1", None),
            ("5f00::1", None),
            ("fe00::1", None),
            ("64:ff9b:2::1", None),
            ("0:0:0:1::1", None),
            ("2001:2::1", None),
            ("2001:10::1", None),
            ("2001:2f:ffff::1", None),
        ] {
            assert_eq!(verdict(ip, &ALL), Err(network), "{ip}");
        }
    }

    #[test]
    fn metadata_stays_refused_where_its_network_is_allowed() {
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.42.42",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
        ] {
            assert_eq!(verdict(ip, &[Metadata]), Err(Some(Metadata)), "{ip}");
        }
    }

    #[test]
    fn the_default_lets_private_registries_be_reached() {
        for ip in
            ["10.0.0.1", "192.168.1.1", "fd12::1", "64:ff9b::10.0.0.1", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert_eq!(verdict(ip, &DEFAULT), Ok(()), "{ip}");
        }
        for ip in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "2003::1"]
        {
            assert_eq!(verdict(ip, &ALL), Ok(()), "{ip}");
        }
        assert_eq!(verdict("127.0.0.1", &[]), Ok(()));
        assert_eq!(verdict("0.0.0.0", &[]), Err(None));
    }

    /// All that can be known of a name that a parent proxy resolves.
    #[test]
    fn names_that_say_where_they_are() {
        let verdict = |name, deny: &[Network]| check_name(name, deny).map_err(|refusal| refusal.network);
        for (name, network) in [
            ("localhost", Loopback),
            ("a.b.localhost", Loopback),
            ("localhost.localdomain", Loopback),
            ("ip6-loopback", Loopback),
            ("metadata.google.internal", Metadata),
            ("metadata", Metadata),
            ("instance-data.ec2.internal", Metadata),
        ] {
            assert_eq!(verdict(name, &DEFAULT), Err(Some(network)), "{name}");
            assert_eq!(verdict(name, &[]), Ok(()), "{name}");
        }
        for name in ["git.corp.internal", "printer.local", "router.home.arpa", "intranet", "x.lan"] {
            assert_eq!(verdict(name, &DEFAULT), Ok(()), "{name}");
            assert_eq!(verdict(name, &ALL), Err(Some(Private)), "{name}");
        }
        for name in
            ["localhost.example", "mylocalhost.io", "local.example", "metadata.example", "github.com", "x.corpo"]
        {
            assert_eq!(verdict(name, &ALL), Ok(()), "{name}");
        }
        let said = check_name("localhost", &DEFAULT).unwrap_err().to_string();
        assert_eq!(said, "that is a loopback name, and tunnel.deny_networks has \"loopback\"");
    }

    #[test]
    fn names_are_read_back_and_a_refusal_says_why() {
        for network in ALL {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        assert!("Loopback".parse::<Network>().is_err());
        let refusal = check("::ffff:127.0.0.1".parse().unwrap(), &DEFAULT).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "::ffff:127.0.0.1 is a loopback address, and tunnel.deny_networks has \"loopback\""
        );
    }

    proptest::proptest! {
        #[test]
        fn a_disguise_is_refused_whenever_the_address_is(bits: u32) {
            let inner = Ipv4Addr::from_bits(bits);
            if check(inner.into(), &ALL).is_err() {
                proptest::prop_assert!(check(inner.to_ipv6_mapped().into(), &ALL).is_err());
                let nat64 = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(bits));
                proptest::prop_assert!(check(nat64.into(), &ALL).is_err());
            }
        }
    }
}
