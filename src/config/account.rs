//! The operator's account for a registry: a name and the file of its password, or docker's
//! configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Fault, Problem};
use super::section::Section;
use super::tree::Value;
use crate::oci::login::DockerConfig;
use crate::policy::registry::Account;
use crate::policy::repositories::Repositories;

/// Reads it; what is wrong goes to `problems`.
pub(super) fn read(section: &mut Section, problems: &mut Vec<Problem>) -> Option<Account> {
    let before = problems.len();
    let username = section.take("username", problems, username).flatten();
    let password = section.take("password_file", problems, password_file).flatten();
    let docker = section.take("docker_config", problems, docker_config).flatten();
    if problems.len() > before {
        return None;
    }
    let mut wrong = |key, what: &str| problems.push(section.problem(key, what));
    match (username, password, docker) {
        (None, None, docker) => docker.map(Account::DockerConfig),
        (Some(username), Some(file), None) => Some(Account::Password { username, file }),
        (_, _, Some(_)) => {
            wrong("docker_config", "there is a `username` or `password_file` too: give one account");
            None
        }
        (Some(_), None, None) => {
            wrong("username", "there is no `password_file`; valid: \"/etc/seawall/docker.io.password\"");
            None
        }
        (None, Some(_), None) => {
            wrong("password_file", "there is no `username` beside it");
            None
        }
    }
}

/// What is shared is read with the account.
pub(super) fn check_share(
    section: &Section,
    repositories: &Repositories,
    account: Option<&Account>,
    problems: &mut Vec<Problem>,
) {
    if !repositories.share.is_empty() && account.is_none() && problems.is_empty() {
        let what = "there is no account to read them with: give `username` and `password_file`, or `docker_config`";
        problems.push(section.problem("share", what));
    }
}

fn username(value: &Value) -> Result<Option<Arc<str>>, Fault> {
    let text = value.text("a name")?;
    // RFC 7617, section 2: the first colon ends it.
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err(value.fault("a name has no colon, and no control characters"));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

pub(super) fn file(value: &Value) -> Result<Option<PathBuf>, Fault> {
    let text = value.text("a file")?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn password_file(value: &Value) -> Result<Option<PathBuf>, Fault> {
    let Some(path) = file(value)? else { return Ok(None) };
    crate::upstream::login::password(&path).map_err(|error| value.fault(error))?;
    Ok(Some(path))
}

fn docker_config(value: &Value) -> Result<Option<PathBuf>, Fault> {
    let Some(path) = file(value)? else { return Ok(None) };
    readable(&path).map_err(|error| value.fault(error))?;
    Ok(Some(path))
}

fn readable(path: &Path) -> Result<(), String> {
    let text = zeroize::Zeroizing::new(crate::fs::read(path).map_err(|error| error.to_string())?);
    DockerConfig::parse(&text).map(|_| ()).map_err(|error| format!("{}: {error}", path.display()))
}
