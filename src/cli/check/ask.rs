//! What `check` asks of registries: how much quota is left, and what an image names. HEADs alone,
//! which no registry counts.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::dial::connect::Dialer;
use crate::dial::loops::{self, Loop};
use crate::dial::own::OwnAddresses;
use crate::error::{Error, Kind};
use crate::ledger::{Identity, Ledger};
use crate::metrics::Metrics;
use crate::oci::name::{Reference, Repository};
use crate::policy::mirror::{Said, meant};
use crate::policy::registry::{Account, Site};
use crate::task::Tasks;
use crate::upstream::client::Shared;
use crate::upstream::requester::Requester;
use crate::upstream::{ANY_MANIFEST, Author, Description, Past, Probed, Upstream, What};

/// How long each question may take: a check before a restart does not wait for a network that is
/// not there.
const PATIENCE: Duration = Duration::from_secs(5);
/// Docker Hub's own image for this (docs/protocol.md 1.5).
const PREVIEW: &str = "ratelimitpreview/test";

/// Quota of one identity, or why it is not known.
pub(super) struct Quota {
    identity: Identity,
    said: Result<Probed, String>,
}

/// An image, as its registry describes it.
pub(super) struct Image {
    name: String,
    said: Result<Description, String>,
}

/// Asks registries as `serve` would, without one that runs.
pub(super) struct Asking {
    dialer: Dialer,
    upstream: Upstream,
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

    /// The operator's accounts that their registries refuse: whose, and where that is written.
    pub(super) async fn refused_accounts(&self, config: &Config) -> Vec<String> {
        let mut refused = Vec::new();
        for registry in config.registries.iter() {
            let own = config.registries.by_name(&registry.name);
            let sources = registry.chain.before.iter().chain(&registry.chain.after).map(|source| source.site.clone());
            for site in own.into_iter().chain(sources).filter(|site| site.registry.account.is_some()) {
                let (what, requester) = self.preview();
                let asked = self.upstream.try_account(&site, &what.0, &what.1, &requester);
                let asked = tokio::time::timeout(PATIENCE, asked).await;
                // Who is not reached says nothing of it.
                let is_refusal = |error: &Error| matches!(error.kind(), Kind::Ours | Kind::Refused);
                if let (Ok(Err(error)), Some(account)) = (asked, &site.registry.account)
                    && is_refusal(&error)
                {
                    refused.push(format!("{}: {error}: {}", site.origin, written(account)));
                }
            }
        }
        refused
    }

    async fn quota(&self, hub: &Site, identity: Identity) -> Quota {
        Quota { identity, said: in_time(self.probe(hub, identity)).await }
    }

    async fn probe(&self, site: &Site, identity: Identity) -> Result<Probed, Error> {
        let ((repository, what), requester) = self.preview();
        self.upstream.probe(site, &repository, &what, identity, &requester).await
    }

    fn preview(&self) -> ((Repository, What), Requester) {
        let repository: Repository = PREVIEW.parse().expect("a repository's name");
        let what = What::Manifest(Reference::Tag("latest".parse().expect("a tag")));
        ((repository, what), self.upstream.keyring().requester(None, self.clock.now()))
    }

    /// An image as people write it: `alpine`, `ghcr.io/owner/app:1`, `quay.io/a/b@sha256:…`.
    pub(super) async fn image(&self, config: &Config, name: &str) -> anyhow::Result<Image> {
        let (site, repository, reference) = read(config, name)?;
        if !site.registry.repositories.permits(&repository) {
            bail!("{repository} may not be pulled: `allow` and `deny` of {} say so", site.registry.name);
        }
        let keyring = self.upstream.keyring();
        let requester = keyring.requester(None, self.clock.now());
        let shared = site.registry.account.is_some() && site.registry.repositories.shares(&repository);
        let requester = if shared { requester.on_account() } else { requester };
        let joint = if reference.tag().is_some() { ':' } else { '@' };
        let name = format!("{}/{repository}{joint}{reference}", site.namespace);
        let what = What::Manifest(reference);
        let accept = (ANY_MANIFEST, Past::Nobody);
        let said = self.upstream.describe(&site, &repository, &what, accept, Author::Seawall, &requester);
        Ok(Image { name, said: in_time(said).await })
    }
}

/// Whose account it is, and where it is written.
fn written(account: &Account) -> String {
    match account {
        Account::Password { username, file } => format!("account {username}, password in {}", file.display()),
        Account::DockerConfig(file) => format!("account of {}", file.display()),
    }
}

async fn in_time<T>(asking: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {}", humantime::format_duration(PATIENCE))),
    }
}

fn read(config: &Config, name: &str) -> anyhow::Result<(Site, Repository, Reference)> {
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last..].rfind(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    let reference = digest.or(tag).unwrap_or("latest");
    let parsed = match digest {
        Some(digest) => digest.parse().ok().map(Reference::Digest),
        None => reference.parse().ok().map(Reference::Tag),
    };
    let reference = parsed.with_context(|| format!("{reference:?} is no tag and no digest"))?;
    let first = path.split_once('/').map_or("", |(first, _)| first);
    if first.contains(['.', ':']) && config.registries.by_name(first).is_none() {
        bail!("{first:?} is no registry that is configured: add a [[registry]]");
    }
    let meant = meant(&config.registries, path, Said::default()).ok().context("docker.io is not configured")?;
    let repository = meant.repository.parse();
    let repository = repository.ok().with_context(|| format!("{:?} is not a repository's name", meant.repository))?;
    Ok((meant.site, repository, reference))
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

impl Image {
    /// # Errors
    /// It is not there, or no upstream answered.
    pub(super) fn found(&self) -> anyhow::Result<()> {
        self.said.as_ref().map(|_| ()).map_err(|why| anyhow::anyhow!("{}: {why}", self.name))
    }

    pub(super) fn text(&self) -> Option<String> {
        let said = self.said.as_ref().ok()?;
        let digest = said.digest.as_ref().map_or_else(|| "no digest is said".to_owned(), ToString::to_string);
        let size = said.size.map(|size| format!(", {size} bytes")).unwrap_or_default();
        Some(format!("{}: {digest}, {}{size}", self.name, said.media_type))
    }

    pub(super) fn json(&self) -> Value {
        let said = self.said.as_ref().ok();
        json!({
            "name": self.name,
            "digest": said.and_then(|said| said.digest.as_ref()).map(ToString::to_string),
            "media_type": said.map(|said| &said.media_type),
            "size": said.and_then(|said| said.size),
            "error": self.said.as_ref().err(),
        })
    }
}
