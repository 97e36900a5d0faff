//! Whose an address is: blocks of addresses that one client, or one site, is given.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A block of addresses: of IPv4 and of IPv6 each has a length of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(IpNet);

impl Block {
    /// The one around `ip`, which may be v4-mapped, as those of a dual-stack socket are.
    pub fn around(ip: IpAddr, v4_length: u8, v6_length: u8) -> Block {
        let ip = ip.to_canonical();
        let length = if ip.is_ipv4() { v4_length } else { v6_length };
        Block(IpNet::new_assert(ip, length).trunc())
    }

    /// A larger one around it, unless it is as large already.
    pub fn widened(self, v4_length: u8, v6_length: u8) -> Block {
        let length = if matches!(self.0, IpNet::V4(_)) { v4_length } else { v6_length };
        Block(IpNet::new_assert(self.0.addr(), length.min(self.0.prefix_len())).trunc())
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpNet::V4(net) if net.prefix_len() == 32 => net.addr().fmt(f),
            net => net.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_cut_where_its_length_says() {
        for (ip, v4, v6, printed) in [
            ("10.0.0.1", 32, 48, "10.0.0.1"),
            ("::ffff:10.0.0.1", 24, 48, "10.0.0.0/24"),
            ("2001:db8:1:2::1", 32, 64, "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", 32, 48, "2001:db8:1::/48"),
        ] {
            assert_eq!(Block::around(ip.parse().unwrap(), v4, v6).to_string(), printed);
        }
    }
}
