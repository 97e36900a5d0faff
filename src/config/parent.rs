//! `proxy`, `no_proxy` and `proxy_password_file` of `[upstream]`: the parent proxy. A URL that
//! holds a password is in no message.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::problem::{Fault, Problem};
use super::section::Section;
use super::tree::Value;
use crate::dial::own::OwnAddresses;
use crate::dial::parent::{Credentials, Parent, Protocol};
use crate::http::origin::{Host, parse_authority};
use crate::policy::no_proxy::{NoProxy, Rule};

const VALID: &str = "\"http://proxy.corp:8080\", \"http://user:password@proxy.corp:8080\", \"socks5h://10.0.0.1:1080\"";

/// hyper-util's SOCKS writes all it has to say into 262 bytes, the host's name included.
const MOST_SOCKS: usize = 128;

/// A proxy's URL, read.
#[derive(Clone)]
struct Url {
    protocol: Protocol,
    host: Host,
    port: u16,
    user: Option<String>,
    password: Option<Zeroizing<String>>,
}

/// Reads them; `own` is where seawall itself will listen.
pub(super) fn read(section: &mut Section, own: &[SocketAddr], problems: &mut Vec<Problem>) -> Option<Parent> {
    let before = problems.len();
    let url = section.take("proxy", problems, proxy).flatten();
    let from_file = section.take("proxy_password_file", problems, password_file).flatten();
    let rules = section.list("no_proxy", problems, no_proxy).unwrap_or_default();
    let Some(url) = url else {
        if from_file.is_some() && problems.len() == before {
            problems.push(section.problem("proxy_password_file", "there is no upstream.proxy to give it to"));
        }
        return None;
    };
    if is_own(&url, own) {
        let what = format!("{}:{} is seawall itself: a parent proxy is another", url.host, url.port);
        problems.push(section.problem("proxy", what));
    }
    let credentials = match (url.user, url.password, from_file) {
        (Some(_), Some(_), Some(_)) => {
            let what = "upstream.proxy has a password already: leave one of them out";
            problems.push(section.problem("proxy_password_file", what));
            None
        }
        (None, _, Some(_)) => {
            let what = "upstream.proxy must say whose it is; valid: proxy = \"http://user@proxy.corp:8080\"";
            problems.push(section.problem("proxy_password_file", what));
            None
        }
        (Some(user), in_url, from_file) => {
            Some(Credentials { user, password: in_url.or(from_file).unwrap_or_default() })
        }
        (None, _, None) => None,
    };
    if let Some(what) = credentials.as_ref().and_then(|credentials| unfit(url.protocol, credentials)) {
        problems.push(section.problem("proxy", what));
    }
    let Url { protocol, host, port, .. } = url;
    Some(Parent { protocol, host, port, credentials, no_proxy: NoProxy(rules) })
}

fn proxy(value: &Value) -> Result<Option<Url>, Fault> {
    match value.text(&format!("a URL such as {VALID}"))?.trim() {
        "" => Ok(None),
        text => parse(text).map(Some).map_err(|what| value.fault(format!("{what}; valid: {VALID}"))),
    }
}

/// Read once, now: the parent's password is part of the configuration as if it were written there.
fn password_file(value: &Value) -> Result<Option<Zeroizing<String>>, Fault> {
    let path = match value.text("the name of a file that holds the password")? {
        "" => return Ok(None),
        path => path,
    };
    let password = crate::upstream::login::password(Path::new(path)).map_err(|error| value.fault(error))?;
    if password.contains(char::is_control) {
        return Err(value.fault(format!("{path} must be the password alone, in one line")));
    }
    Ok(Some(password))
}

fn no_proxy(value: &Value) -> Result<Rule, Fault> {
    let valid = "\"registry.corp\", \".corp\", \"10.0.0.0/8\", \"lab:5000\", \"*\"";
    let text = value.text(&format!("a host such as {valid}"))?;
    text.trim().parse().map_err(|error| value.fault(format!("{error}; valid: {valid}")))
}

/// `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/]`, user and password percent-encoded (RFC 3986 3.2.1).
/// An error repeats nothing.
fn parse(text: &str) -> Result<Url, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("a proxy is a URL")?;
    let known = Protocol::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
    let (_, protocol) = known.ok_or("a proxy is http, https, socks5 or socks5h")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("a proxy's URL has no path (a / in a password is written %2F, a ? is %3F, a # is %23)");
    }
    let (info, authority) = match rest.rsplit_once('@') {
        Some((info, authority)) => (Some(info), authority),
        None => (None, rest),
    };
    let (host, port) =
        parse_authority(authority, protocol.default_port()).ok_or("its host, or its port, cannot be read")?;
    let (user, password) = match info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
        Some(("", "")) | None => (None, None),
        Some((user, "")) => (Some(decoded(user)?), None),
        Some((user, password)) => (Some(decoded(user)?), Some(Zeroizing::new(decoded(password)?))),
    };
    Ok(Url { protocol: *protocol, host, port, user, password })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let plain = percent_decode_str(text).decode_utf8().map_err(|_| "its user, or its password, is not UTF-8")?;
    if plain.contains(char::is_control) {
        return Err("its user, or its password, has control characters");
    }
    Ok(plain.into_owned())
}

/// Why the proxy's protocol cannot carry them.
fn unfit(protocol: Protocol, credentials: &Credentials) -> Option<String> {
    match protocol {
        Protocol::Http | Protocol::Https => {
            let has_colon = credentials.user.contains(':');
            has_colon.then(|| "a user's name has no colon (RFC 7617)".to_owned())
        }
        Protocol::Socks5 | Protocol::Socks5h => {
            let length = credentials.user.len() + credentials.password.len();
            (length > MOST_SOCKS).then(|| format!("user and password of SOCKS have {MOST_SOCKS} bytes at most here"))
        }
    }
}

/// What can be seen of it now. A name is found out when it is dialled.
fn is_own(url: &Url, own: &[SocketAddr]) -> bool {
    let listeners = OwnAddresses::new();
    own.iter().for_each(|address| listeners.add(*address));
    let ip = match &url.host {
        Host::Ip(ip) => *ip,
        Host::Name(name) if &**name == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Name(_) => return false,
    };
    listeners.contains(SocketAddr::new(ip, url.port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_of_proxies() {
        let read = |text: &str| {
            parse(text).map(|url| {
                let user = url.user.unwrap_or_default();
                format!("{:?} {} {} {user} {}", url.protocol, url.host, url.port, *url.password.unwrap_or_default())
            })
        };
        for (text, meaning) in [
            ("http://proxy.corp:8080", "Http proxy.corp 8080  "),
            ("HTTP://Proxy.corp/", "Http proxy.corp 80  "),
            ("https://u:p@proxy.corp", "Https proxy.corp 443 u p"),
            ("socks5://u@10.0.0.1", "Socks5 10.0.0.1 1080 u "),
            ("socks5h://[2001:db8::1]:9", "Socks5h [2001:db8::1] 9  "),
            ("http://CORP%5Cjane:p%40ss%3A%2F@proxy:3128", "Http proxy 3128 CORP\\jane p@ss:/"),
            ("http://u:p@ss:word@proxy:3128", "Http proxy 3128 u p@ss:word"),
            ("http://@proxy:3128", "Http proxy 3128  "),
        ] {
            assert_eq!(read(text).unwrap(), meaning, "{text}");
        }
        for text in [
            "proxy.corp:8080",
            "ftp://proxy",
            "http://",
            "http://u:secret@",
            "http://u:secret@a b",
            "http://u:sec/ret@proxy",
            "http://u:secret%ff@proxy",
            "http://u:secret%0a@proxy",
            "http://proxy:0",
            "http://proxy:99999",
            "http://proxy/path",
            "socks4://proxy",
            "http://127.1:8080",
        ] {
            assert!(!parse(text).err().unwrap().contains("secret"), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url = parse("http://jane:hunter2@proxy.corp:8080").unwrap();
        let (user, password) = (url.user.clone().unwrap(), url.password.clone().unwrap());
        let credentials = Some(Credentials { user, password });
        let (protocol, no_proxy) = (url.protocol, NoProxy::default());
        let parent = Parent { protocol, host: url.host.clone(), port: url.port, credentials, no_proxy };
        for shown in [format!("{parent:?} {parent}"), format!("{:?}", Some(&parent))] {
            assert!(shown.contains("proxy.corp") && !shown.contains("hunter2") && !shown.contains("jane"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(http|socks5h)?(://)?\\PC{0,24}(@proxy)?(:[0-9]{1,6})?") {
            let _ = parse(&text);
        }

        #[test]
        fn any_password_comes_through(password in "\\PC{1,12}") {
            let encoded = percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);
            let read = parse(&format!("http://u:{encoded}@proxy:8080")).unwrap();
            prop_assert_eq!(&*read.password.unwrap(), &password);
        }
    }
}
