//! `[admin]`, and its short form: `admin = "127.0.0.1:3129"`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::account::file;
use super::problem::Problem;
use super::section::Section;
use super::tree::{Kind, Table, Value};
use super::words;
use crate::http::origin::Host;

/// The operator's listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// Its address. `None`: there is none.
    pub listen: Option<SocketAddr>,
    /// Names that it may be called by, besides addresses and `localhost`.
    pub hosts: Vec<Host>,
    /// Where the token is that changes need. `None`: in the data directory.
    pub token_file: Option<PathBuf>,
}

/// Makes a section of the short form, so that variables and flags find one.
pub(super) fn lengthen(document: &mut Value) {
    let Kind::Table(top) = &mut document.kind else { return };
    let Some((key, value)) = top.get_mut("admin") else { return };
    if let Kind::Text(_) = value.kind {
        let (place, listen) = (value.place.clone(), value.clone());
        let section = Table::from([("listen".to_owned(), (key.clone(), listen))]);
        *value = Value { place, kind: Kind::Table(section) };
    }
}

/// The path of a key as a variable or a flag names it: `SEAWALL_ADMIN` is the short form too.
pub(super) fn path<'a>(named: &[&'a str]) -> Vec<&'a str> {
    if named == ["admin"] { vec!["admin", "listen"] } else { named.to_vec() }
}

/// Reads the section; whose address clients may not reach.
pub(super) fn read(section: &mut Section, clients: &[SocketAddr], problems: &mut Vec<Problem>) -> AdminSettings {
    let listen = section.take("listen", problems, |value| match &value.kind {
        Kind::Text(text) | Kind::Raw(text) if text.is_empty() => Ok(None),
        _ => words::listen(value).map(Some),
    });
    let listen = listen.unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 3129))));
    let hosts = section.list("hosts", problems, |value| {
        let text = value.text("the name of a host")?;
        text.parse()
            .map_err(|_| value.fault(format!("{text:?} is not the name of a host; valid: \"seawall.corp.example\"")))
    });
    let token_file = section.take("token_file", problems, file).flatten();
    if let Some(admin) = listen
        && let Some(address) = clients.iter().find(|address| is_same(**address, admin))
    {
        let what = format!("{admin} is taken by listen = {address}; clients must not reach the admin listener");
        problems.push(section.problem("listen", what));
    }
    AdminSettings { listen, hosts: hosts.unwrap_or_default(), token_file }
}

/// Whether two listeners cannot be. Port 0 is another port each time. 0.0.0.0 takes the port on every
/// address; v4 and v6 are apart.
pub(super) fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && ip
}
