//! How `check` asks registries, and what is left of Docker Hub's quota: by HEAD, which no registry
//! counts.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::dial::connect::Dialer;
use crate::dial::loops::{self, Loop};
use crate::dial::own::OwnAddresses;
use crate::error::Error;
use crate::ledger::{Identity, Ledger};
use crate::metrics::Metrics;
use crate::oci::name::{Reference, Repository};
use crate::policy::registry::Site;
use crate::task::Tasks;
use crate::upstream::client::Shared;
use crate::upstream::requester::Requester;
use crate::upstream::{Probed, Upstream, What};

/// How long each question may take: a check before a restart does not wait for a network that is
/// not there.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Docker Hub's own image for this (docs/protocol.md 1.5).
const PREVIEW: &str = "ratelimitpreview/test";

/// Quota of one identity, or why it is not known.
pub(super) struct Quota {
    identity: Identity,
    said: Result<Probed, String>,
}

/// Asks registries as `serve` would, without one that runs.
pub(super) struct Asking {
    dialer: Dialer,
    pub(super) upstream: Upstream,
    clock: Clock,
}

impl Asking {
    pub(super) fn new(config: &Config) -> anyhow::Result<Asking> {
        let clock = Clock::system();
        let own = OwnAddresses::new();
        config.proxy.listen.iter().chain(&config.admin.listen).for_each(|listener| own.add(*listener));
        let dialer = Dialer::new(&config.upstream, own).context("the resolver cannot be set up")?;
        let shared = Shared {
            clock: clock.clone(),
            tasks: Tasks::new(),
            metrics: Metrics::new(),
            ledger: Ledger::default(),
            transfers: 16,
            forwards: 4,
        };
        let upstream = Upstream::new(&config.upstream, &config.registries, &dialer, shared)?;
        Ok(Asking { dialer, upstream, clock })
    }

    /// Which names of registries lead to the seawall that runs, or would run, by this
    /// configuration, or to one with its root. Names without an answer in time are not among them.
    pub(super) async fn loops(&self, config: &Config) -> Vec<Loop> {
        if !loops::may_be_overridden(&config.proxy.listen) {
            return Vec::new();
        }
        let root = crate::fs::read_to_string(&config.ca.dir.join("ca.crt")).ok();
        let enough = tokio::time::sleep(PATIENCE);
        loops::find(&self.dialer, &config.registries, root.as_deref(), enough).await
    }

    /// Docker Hub's quota, for anonymous requests and for the operator's account, if there is one.
    pub(super) async fn quotas(&self, config: &Config) -> Vec<Quota> {
        let Some(hub) = config.registries.by_name("docker.io") else { return Vec::new() };
        let anonymous = self.quota(&hub, Identity::Anonymous).await;
        match hub.registry.account {
            Some(_) => vec![anonymous, self.quota(&hub, Identity::Account).await],
            None => vec![anonymous],
        }
    }

    async fn quota(&self, hub: &Site, identity: Identity) -> Quota {
        Quota { identity, said: in_time(self.probe(hub, identity)).await }
    }

    async fn probe(&self, site: &Site, identity: Identity) -> Result<Probed, Error> {
        let ((repository, what), requester) = self.preview();
        self.upstream.probe(site, &repository, &what, identity, &requester).await
    }

    /// What every registry can be asked for, and nobody's requester.
    pub(super) fn preview(&self) -> ((Repository, What), Requester) {
        let repository: Repository = PREVIEW.parse().expect("a repository's name");
        let what = What::Manifest(Reference::Tag("latest".parse().expect("a tag")));
        ((repository, what), self.requester())
    }

    /// Anonymous.
    pub(super) fn requester(&self) -> Requester {
        self.upstream.keyring().requester(None, self.clock.now())
    }
}

/// What it answers, or why not, in words.
pub(super) async fn in_time<T>(asking: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {}", humantime::format_duration(PATIENCE))),
    }
}

impl Quota {
    pub(super) fn text(&self) -> String {
        let mut text = format!("docker.io {}: ", self.identity.as_str());
        let written = match &self.said {
            Err(why) => write!(text, "not known: {why}"),
            Ok(Probed { quota: None, .. }) => write!(text, "pulls are not counted"),
            Ok(Probed { quota: Some(quota), .. }) => write!(text, "{} of {} pulls left", quota.remaining, quota.limit),
        };
        written.expect("a String can be written to");
        if let Ok(Probed { quota, source }) = &self.said {
            let window = quota.as_ref().and_then(|quota| quota.window);
            let window = window.map(|window| format!(" in windows of {}", humantime::format_duration(window)));
            text += &window.unwrap_or_default();
            text += &source.as_ref().map(|source| format!(", counted for {source}")).unwrap_or_default();
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let probed = self.said.as_ref().ok();
        let quota = probed.and_then(|probed| probed.quota.as_ref());
        json!({
            "registry": "docker.io",
            "identity": self.identity.as_str(),
            "source": probed.and_then(|probed| probed.source.as_ref()),
            "limit": quota.map(|quota| quota.limit),
            "remaining": quota.map(|quota| quota.remaining),
            "window_seconds": quota.and_then(|quota| quota.window).map(|window| window.as_secs()),
            "error": self.said.as_ref().err(),
        })
    }
}
