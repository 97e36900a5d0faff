//! Reads the operator's login: from the file of a password, docker's configuration or a credential
//! program.

use std::path::Path;

use zeroize::Zeroizing;

use super::program;
use crate::error::{Error, Kind, Result};
use crate::http::origin::HostPattern;
use crate::oci::login::{DockerConfig, Entry, Login};
use crate::policy::registry::{Account, Site};
use crate::task;

/// The login for `site`, if the operator has one there.
///
/// # Errors
/// It cannot be read.
pub(super) async fn read(site: &Site) -> Result<Option<Login>> {
    let name = &site.registry.name;
    let wrong = |error: String| {
        Error::caused(Kind::Ours, format!("seawall's account for {name} cannot be read: its log says why"), error)
    };
    let file = match site.registry.account.clone() {
        None => return Ok(None),
        Some(Account::DockerConfig(file)) => file,
        Some(Account::Password { username, file }) => {
            let password = task::blocking(move || password(&file)).await.map_err(wrong)?;
            return Ok(Some(Login::Password { username: username.to_string(), password }));
        }
    };
    let hosts = hosts(site);
    match task::blocking(move || entry(&file, &hosts)).await.map_err(wrong)? {
        None => Ok(None),
        Some(Entry::Login(login)) => Ok(Some(login)),
        Some(Entry::Program { name, server, otherwise }) => match (program::ask(&name, &server).await, otherwise) {
            (Ok(login), _) | (Err(_), Some(login)) => Ok(Some(login)),
            (Err(error), None) => Err(wrong(error.to_string())),
        },
    }
}

/// The password in a file, without the line's end.
///
/// # Errors
/// It cannot be read, or holds nothing.
pub fn password(file: &Path) -> std::result::Result<Zeroizing<String>, String> {
    let text = Zeroizing::new(crate::fs::read_to_string(file).map_err(|error| error.to_string())?);
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if password.is_empty() { Err(format!("{} is empty", file.display())) } else { Ok(password) }
}

fn entry(file: &Path, hosts: &[String]) -> std::result::Result<Option<Entry>, String> {
    let text = Zeroizing::new(crate::fs::read(file).map_err(|error| error.to_string())?);
    let config = DockerConfig::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    config.entry(hosts).map_err(|error| format!("{}: {error}", file.display()))
}

/// The names that the registry may have in docker's configuration: the one that is dialled, and the
/// others if that is one of them.
fn hosts(site: &Site) -> Vec<String> {
    let (registry, dialled) = (&site.registry, &site.origin);
    let own = |host: &&HostPattern| !host.is_wildcard();
    let is_one_of_them = registry.hosts.iter().filter(own).any(|host| host.matches(&dialled.host, dialled.port, 443));
    let known = registry.hosts.iter().filter(own).map(HostPattern::authority);
    let others = std::iter::once(registry.name.to_string()).chain(known).filter(|_| is_one_of_them);
    let mut hosts: Vec<String> = std::iter::once(dialled.authority()).chain(others).collect();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::{Registries, Registry};

    fn named(name: &str, upstream: &str, hosts: &[&str]) -> Vec<String> {
        let registry = Registry {
            name: name.into(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            upstream: Some(Origin::from_url(upstream).unwrap().0),
            ..Registry::default()
        };
        super::hosts(&Registries::new(vec![registry]).by_name(name).unwrap())
    }

    #[test]
    fn a_registry_has_the_names_of_where_it_is_dialled() {
        let hub = ["registry-1.docker.io", "index.docker.io"];
        let expected = ["registry-1.docker.io", "docker.io", "registry-1.docker.io", "index.docker.io"];
        assert_eq!(named("docker.io", "https://registry-1.docker.io", &hub), expected);
        // Its login for ghcr.io is not harbor.corp's business.
        assert_eq!(named("ghcr.io", "https://harbor.corp", &["ghcr.io"]), ["harbor.corp"]);
    }

    #[test]
    fn a_password_is_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, read) in [("one\n", Some("one")), ("t w o\r\n\n", Some("t w o")), ("\n", None), ("", None)] {
            crate::fs::replace(file.path(), 0o600, text.as_bytes()).unwrap();
            assert_eq!(password(file.path()).ok().as_deref().map(String::as_str), read, "{text:?}");
        }
    }
}
