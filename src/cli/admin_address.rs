//! Where an admin listener is, as a person writes it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, bail};
use http::uri::Authority;

/// Its port, where none is said.
const PORT: u16 = 3129;

/// It.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress {
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl AdminAddress {
    /// Reads `HOST[:PORT]`, `http://…` or `https://…`.
    ///
    /// # Errors
    /// It is nothing of that kind. What may be a password is not said again.
    pub(super) fn read(text: &str) -> anyhow::Result<AdminAddress> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => bail!("--admin: an admin listener speaks http or https"),
        };
        let bare = rest.strip_suffix('/').unwrap_or(rest);
        if bare.contains('@') {
            bail!("--admin: no login belongs into the address: --token-file FILE names a token");
        }
        let bare = if bare.parse::<Ipv6Addr>().is_ok() { format!("[{bare}]") } else { bare.to_owned() };
        let authority: Authority = bare.parse().ok().context("--admin wants HOST:PORT, or https://HOST:PORT")?;
        let port = match bare.strip_prefix(authority.host()).unwrap_or_default() {
            "" => PORT,
            port => {
                let number = port.strip_prefix(':').and_then(|port| port.parse().ok());
                number.context("--admin: the port is a number up to 65535")?
            }
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            bail!("--admin wants HOST:PORT, or https://HOST:PORT");
        }
        Ok(AdminAddress { host, port, is_tls })
    }

    /// Whether nobody is between.
    pub(super) fn is_loopback(&self) -> bool {
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(is_loopback)
    }

    /// As a `Host` field has it.
    pub(super) fn authority(&self) -> String {
        let host = &self.host;
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_it() {
        for (text, url, is_loopback) in [
            ("127.0.0.1:3129", "http://127.0.0.1:3129", true),
            ("localhost", "http://localhost:3129", true),
            ("::1", "http://[::1]:3129", true),
            ("[::1]:9", "http://[::1]:9", true),
            ("HTTP://127.0.0.1:1/", "http://127.0.0.1:1", true),
            ("https://seawall.corp", "https://seawall.corp:3129", false),
            ("Https://seawall.corp:443/", "https://seawall.corp:443", false),
            ("http://10.0.0.7:80", "http://10.0.0.7:80", false),
            ("::ffff:127.0.0.1", "http://[::ffff:127.0.0.1]:3129", true),
        ] {
            let read = AdminAddress::read(text).unwrap();
            assert_eq!((read.to_string().as_str(), read.is_loopback()), (url, is_loopback), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in ["", "ftp://a", "http://u:hunter2@a:1", "a:b:c", "a:70000", "a/b", "a b", "http://", ":3129"] {
            let said = AdminAddress::read(text).unwrap_err().to_string();
            assert!(said.starts_with("--admin") && !said.contains("hunter2"), "{text}: {said}");
        }
    }
}
