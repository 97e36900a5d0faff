//! The operator's accounts, a registry's own and those of its `upstreams`: whose, where they are
//! written, and whether their registries take them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::ask::{Asking, PATIENCE};
use crate::config::Config;
use crate::error::Kind;
use crate::http::origin::Origin;
use crate::policy::registry::{Account, Registry, Site, Source};

/// An account, and where it is written.
pub(super) struct Written {
    registry: Arc<str>,
    account: Account,
    /// Who would take it. `None`: the host that a client asks for, which no client did.
    site: Option<Site>,
}

/// An account, and what its registry says of it.
pub(super) struct Asked {
    written: Written,
    said: Verdict,
}

enum Verdict {
    /// Or no login was wanted.
    Good,
    Refused(String),
    /// Who is not reached says nothing of it.
    Unknown(String),
}

/// All that are configured, a registry's own before those of its other sources.
fn written(config: &Config) -> Vec<Written> {
    config.registries.iter().flat_map(of_registry).collect()
}

fn of_registry(registry: &Arc<Registry>) -> Vec<Written> {
    let name = &registry.name;
    let at = |origin: &Origin| Site { registry: registry.clone(), namespace: name.clone(), origin: origin.clone() };
    let site = registry.upstream.as_ref().map(at);
    let own = registry.account.clone().map(|account| Written { registry: name.clone(), account, site });
    let source = |source: &Source| {
        let account = source.site.registry.account.clone()?;
        Some(Written { registry: name.clone(), account, site: Some(source.site.clone()) })
    };
    let chain = &registry.chain;
    own.into_iter().chain(chain.before.iter().chain(&chain.after).filter_map(source)).collect()
}

/// Asks all of them.
pub(super) async fn asked(asking: &Asking, config: &Config) -> Vec<Asked> {
    let mut all = Vec::new();
    for written in written(config) {
        let said = match &written.site {
            Some(site) => verdict(asking, site).await,
            None => Verdict::Unknown("it is shown to the host that a client asks for".to_owned()),
        };
        all.push(Asked { written, said });
    }
    all
}

async fn verdict(asking: &Asking, site: &Site) -> Verdict {
    let ((repository, what), requester) = asking.preview();
    let asked = asking.upstream.try_account(site, &repository, &what, &requester);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(())) => Verdict::Good,
        Ok(Err(error)) if matches!(error.kind(), Kind::Ours | Kind::Refused) => Verdict::Refused(error.to_string()),
        Ok(Err(error)) => Verdict::Unknown(error.to_string()),
        Err(_) => Verdict::Unknown(format!("no answer in {}", humantime::format_duration(PATIENCE))),
    }
}

/// Whose it is, or the file that says so.
pub(super) fn name(account: &Account) -> String {
    match account {
        Account::Password { username, .. } => username.to_string(),
        Account::DockerConfig(file) => format!("of {}", file.display()),
    }
}

impl Written {
    /// Who, where, and by which file.
    fn text(&self) -> String {
        let account = match &self.account {
            Account::Password { username, file } => format!("account {username}, password in {}", file.display()),
            Account::DockerConfig(file) => format!("account of {}", file.display()),
        };
        let at = self.site.as_ref().map(|site| format!(" at {}", site.origin)).unwrap_or_default();
        format!("{}{at}: {account}", self.registry)
    }
}

impl Asked {
    /// Who is refused, if it is.
    pub(super) fn refused(&self) -> Option<String> {
        match &self.said {
            Verdict::Refused(why) => Some(format!("{}: {why}", self.written.text())),
            Verdict::Good | Verdict::Unknown(_) => None,
        }
    }

    pub(super) fn text(&self) -> String {
        let written = self.written.text();
        match &self.said {
            Verdict::Good => format!("{written}: not refused"),
            Verdict::Refused(why) => format!("{written}: REFUSED: {why}"),
            Verdict::Unknown(why) => format!("{written}: not known: {why}"),
        }
    }

    pub(super) fn json(&self) -> Value {
        let Written { registry, account, site } = &self.written;
        let (username, file) = match account {
            Account::Password { username, file } => (Some(&**username), file),
            Account::DockerConfig(file) => (None, file),
        };
        let (refused, error) = match &self.said {
            Verdict::Good => (Some(false), None),
            Verdict::Refused(why) => (Some(true), Some(why)),
            Verdict::Unknown(why) => (None, Some(why)),
        };
        json!({
            "registry": &**registry,
            "upstream": site.as_ref().map(|site| site.origin.to_string()),
            "username": username,
            "file": file.display().to_string(),
            "refused": refused,
            "error": error,
        })
    }
}
