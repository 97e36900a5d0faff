//! What a plan is made of, on the machine where the command runs: seawall's own, or a client's.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::args::SetupArgs;
use super::root;
use crate::ca::install;
use crate::config::Config;
use crate::fs::{self, Tree};
use crate::http::origin::{Host, Origin, Scheme, parse_authority};
use crate::setup::{Client, Facts, Mode, Plan, TrustStore, write};

/// A placeholder for the root until it is known whether any file has it.
const NO_ROOT: &str = "-----BEGIN CERTIFICATE-----\nno root yet\n-----END CERTIFICATE-----\n";

/// The plan, and what it is made of.
pub(super) fn gather(args: &SetupArgs, mode: Mode, config: &Config) -> anyhow::Result<(Facts, Plan)> {
    let address = match &args.address {
        Some(text) => read_address(text)?,
        None => own_address(&config.proxy.listen)?,
    };
    if args.address.is_none() && args.write.is_some() && is_local(&address.host) {
        bail!(
            "seawall listens on {address}, for this machine alone: say so by --address {0}:{1}, or where clients reach it",
            address.host,
            address.port
        );
    }
    if args.address.is_none() && !args.offline {
        root::theirs(&address).map_or_else(|error| eprintln!("seawall: warning: {error:#}"), drop);
    }
    let theirs = (args.address.is_some() && !args.offline).then(|| root::theirs(&address)).transpose()?;
    let below = Tree::open(args.write.as_deref().unwrap_or(Path::new("/")))?;
    let mut facts = Facts {
        ca_pem: NO_ROOT.to_owned(),
        address,
        store: store(&below),
        registries: config.registries.clone(),
        containerd: if args.client == Client::Containerd { containerd(&below) } else { None },
    };
    let plan = |facts: &Facts| args.client.plan(mode, facts).context("a mode of this client has a plan");
    let mut made = plan(&facts)?;
    if format!("{made:?}").contains("no root yet") {
        facts.ca_pem = root::find(args, config, &facts.address, theirs)?;
        made = plan(&facts)?;
    }
    Ok((facts, made))
}

/// `HOST:PORT`, or a URL.
fn read_address(text: &str) -> anyhow::Result<Origin> {
    let example = "--address takes HOST:PORT (seawall.lab:3128) or a URL (https://seawall.lab:3128)";
    let origin = if text.contains("://") {
        let (origin, path) = Origin::from_url(text).with_context(|| format!("{text:?}: {example}"))?;
        if path != "/" {
            bail!("{text:?} has a path: {example}");
        }
        origin
    } else {
        let (host, port) = parse_authority(text, 3128).with_context(|| format!("{text:?}: {example}"))?;
        Origin { scheme: Scheme::Http, host, port }
    };
    if matches!(origin.host, Host::Ip(ip) if ip.is_unspecified()) {
        bail!("{text:?} is every address of a machine, which no client can reach: {example}");
    }
    Ok(origin)
}

/// The first that is not for DNS; this machine's name where seawall listens on all addresses.
fn own_address(listen: &[SocketAddr]) -> anyhow::Result<Origin> {
    let needed = "say where clients reach seawall: --address HOST:PORT";
    let entry = listen.iter().find(|entry| entry.port() != 443).or(listen.first()).context(needed)?;
    let host = match entry.ip() {
        ip if ip.is_unspecified() => {
            let name = fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
            let host: Host =
                name.trim().parse().ok().filter(|host| !is_local(host)).with_context(|| needed.to_owned())?;
            eprintln!("Clients reach seawall as {host}:{}: --address says otherwise.", entry.port());
            host
        }
        ip => Host::from(ip),
    };
    if is_local(&host) {
        eprintln!("{host} is this machine alone: --address HOST:PORT is for clients elsewhere.");
    }
    Ok(Origin { scheme: Scheme::Http, host, port: entry.port() })
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => &**name == "localhost",
    }
}

/// The trust store of the client's system, where that is known; else Debian's.
fn store(below: &Tree) -> TrustStore {
    match install::trust_store(below) {
        Some((file, command)) => TrustStore { file, command: command.to_owned() },
        None => TrustStore::debian(),
    }
}

/// What `version` says without what was written for anybody; 1 where there is a file that does not
/// say. What is wrong with the file is said by whoever writes it.
fn containerd(below: &Tree) -> Option<i64> {
    let bytes = write::without_ours(below, Path::new("/etc/containerd/config.toml")).ok()??;
    let table: toml::Table = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
    Some(table.get("version").and_then(toml::Value::as_integer).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_people_write() {
        for (text, read) in [
            ("seawall.lab:3128", "http://seawall.lab:3128"),
            ("seawall.lab", "http://seawall.lab:3128"),
            ("http://seawall.lab", "http://seawall.lab"),
            ("https://Seawall.lab:3128/", "https://seawall.lab:3128"),
            ("[fd00::1]:3128", "http://[fd00::1]:3128"),
        ] {
            assert_eq!(read_address(text).unwrap().to_string(), read);
        }
        for text in ["", "http://", "a b:1", "http://a/b", "ftp://a", "seawall.lab:0", "u:p@seawall:3128"] {
            let said = format!("{:#}", read_address(text).unwrap_err());
            assert!(said.contains("--address"), "{text:?}: {said}");
        }
        for text in ["0.0.0.0:3128", "[::]:3128", "http://0.0.0.0"] {
            assert!(read_address(text).unwrap_err().to_string().contains("no client can reach"), "{text}");
        }
    }

    #[test]
    fn what_it_listens_on_is_where_it_is() {
        let own = |listen: &[&str]| own_address(&listen.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(own(&["10.0.0.7:443", "10.0.0.7:3128"]).unwrap().to_string(), "http://10.0.0.7:3128");
        assert_eq!(own(&["127.0.0.1:3128"]).unwrap().to_string(), "http://127.0.0.1:3128");
        assert!(own(&[]).unwrap_err().to_string().contains("--address"));
        if let Ok(named) = own(&["0.0.0.0:3128"]) {
            assert!(named.port == 3128 && !is_local(&named.host));
        }
    }

    #[test]
    fn which_containerd_it_is() {
        let root = tempfile::tempdir().unwrap();
        let version = || containerd(&Tree::open(root.path()).unwrap());
        assert_eq!(version(), None);
        // Where links lead on that system.
        std::os::unix::fs::symlink("/srv/containerd", root.path().join("etc-containerd")).unwrap();
        fs::create_shared_dir(&root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../etc-containerd", root.path().join("etc/containerd")).unwrap();
        let file = root.path().join("srv/containerd/config.toml");
        fs::create_shared_dir(file.parent().unwrap()).unwrap();
        for (text, expected) in [("version = 3\n", Some(3)), ("disabled_plugins = [\"cri\"]\n", Some(1)), ("=", None)] {
            fs::replace(&file, 0o644, text.as_bytes()).unwrap();
            assert_eq!(version(), expected);
        }
    }
}
