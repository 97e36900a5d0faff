//! What a fake registry holds: repositories, users, tokens, signed URLs, quota, uploads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::image::{Blob, DOCKER_LIST, Image, OCI_INDEX, sha256};
use super::tls::Alpn;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    None,
    /// Bearer tokens from a token endpoint.
    Token,
    /// Basic on every request, as ECR.
    Basic,
}

/// How it is set up; read at every request.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) host: String,
    pub(super) auth: Auth,
    pub(super) auth_host: String,
    /// Instead of `https://AUTHHOST/token`.
    pub(super) realm: Option<String>,
    pub(super) service: String,
    pub(super) cdn: Option<String>,
    pub(super) aliases: Vec<String>,
    pub(super) tls: bool,
    /// Clients need a certificate.
    pub(super) mutual_tls: bool,
    pub(super) tls_versions: &'static [&'static rustls::SupportedProtocolVersion],
    pub(super) alpn: Alpn,
    /// Seconds; None: the token reply does not say, and 60 holds.
    pub(super) token_life: Option<u64>,
    pub(super) token_length: usize,
    /// How often one signed URL works.
    pub(super) url_uses: Option<usize>,
    pub(super) quota: Option<Quota>,
    /// tags/list and _catalog give at most so many at once.
    pub(super) page: usize,
    /// What somebody may not read is said not to be there.
    pub(super) hides: bool,
}

#[derive(Clone)]
pub(super) struct Quota {
    pub(super) limit: u64,
    pub(super) window: u64,
}

/// Where an anonymous client's quota is booked.
pub(crate) const ANONYMOUS_SOURCE: &str = "203.0.113.7";

#[derive(Default)]
pub(super) struct Repo {
    pub(super) tags: BTreeMap<String, String>,
    /// By digest: media type and bytes.
    pub(super) manifests: BTreeMap<String, (String, Bytes)>,
    pub(super) blobs: HashMap<String, Blob>,
    /// None: everybody.
    pub(super) readers: Option<BTreeSet<String>>,
    /// Who may read a tag or a digest, where that is not everybody who may read here.
    pub(super) rights: HashMap<String, BTreeSet<String>>,
    /// Digests that are refused to everybody, and how.
    pub(super) blocked: BTreeMap<String, u16>,
}

impl Repo {
    pub(super) fn opens(&self, reference: &str, user: Option<&str>) -> bool {
        self.rights.get(reference).is_none_or(|users| user.is_some_and(|user| users.contains(user)))
    }
}

/// What a token was issued for.
pub(super) struct Token {
    pub(super) user: Option<String>,
    /// (repository, action)
    pub(super) allowed: HashSet<(String, String)>,
    pub(super) until: Instant,
}

pub(super) struct Signed {
    pub(super) digest: String,
    pub(super) repository: String,
    pub(super) uses_left: Option<usize>,
}

pub(super) struct State {
    pub(super) setup: Setup,
    pub(super) repos: BTreeMap<String, Repo>,
    pub(super) users: HashMap<String, String>,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) signed: HashMap<u64, Signed>,
    /// Pulls made, by source.
    pub(super) spent: HashMap<String, u64>,
    pub(super) uploads: HashMap<String, Vec<u8>>,
    pub(super) serial: u64,
    /// Given by the test; every request remembers it.
    pub(super) moment: usize,
}

impl State {
    pub(super) fn new(setup: Setup) -> State {
        State {
            setup,
            repos: BTreeMap::new(),
            users: HashMap::new(),
            tokens: HashMap::new(),
            signed: HashMap::new(),
            spent: HashMap::new(),
            uploads: HashMap::new(),
            serial: 0,
            moment: 0,
        }
    }

    /// 1, 2, 3, …
    pub(super) fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn repo(&mut self, name: &str) -> &mut Repo {
        self.repos.entry(name.to_owned()).or_default()
    }

    pub(super) fn add_image(&mut self, repository: &str, tag: Option<&str>, image: &Image) -> String {
        let repo = self.repo(repository);
        for blob in image.blobs() {
            repo.blobs.insert(blob.digest(), blob);
        }
        for (media_type, bytes) in image.manifests() {
            repo.manifests.insert(sha256(&bytes), (media_type.to_owned(), bytes));
        }
        let digest = image.digest();
        if let Some(tag) = tag {
            repo.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    pub(super) fn issue(&mut self, user: Option<&str>, wanted: &[(String, String)]) -> (String, Option<u64>) {
        let mut allowed = HashSet::new();
        for (repository, action) in wanted {
            if self.may(user, repository, action) {
                allowed.insert((repository.clone(), action.clone()));
            }
        }
        let mut token = format!("token-{}-{}.", self.next(), user.unwrap_or("anonymous"));
        while token.len() < self.setup.token_length {
            token.push('x');
        }
        let until = Instant::now() + Duration::from_secs(self.setup.token_life.unwrap_or(60));
        self.tokens.insert(token.clone(), Token { user: user.map(str::to_owned), allowed, until });
        (token, self.setup.token_life)
    }

    /// Anonymous clients pull what is public; users pull that and what is theirs, and push what
    /// they may pull.
    pub(super) fn may(&self, user: Option<&str>, repository: &str, action: &str) -> bool {
        let readers = self.repos.get(repository).and_then(|repo| repo.readers.as_ref());
        match (user, readers) {
            (_, None) => action == "pull" || user.is_some(),
            (Some(user), Some(readers)) => readers.contains(user),
            (None, Some(_)) => false,
        }
    }

    /// A URL on the CDN that works as often as configured.
    pub(super) fn sign(&mut self, repository: &str, digest: &str) -> String {
        let n = self.next();
        let uses_left = self.setup.url_uses;
        self.signed.insert(n, Signed { digest: digest.to_owned(), repository: repository.to_owned(), uses_left });
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
        let scheme = if self.setup.tls { "https" } else { "http" };
        let cdn = self.setup.cdn.clone().unwrap_or_default();
        let sig = &sha256(format!("{n} {digest}").as_bytes())[7..39];
        let two = hex.get(..2).unwrap_or("00");
        format!("{scheme}://{cdn}/registry-v2/docker/registry/v2/blobs/{algorithm}/{two}/{hex}/data?sig={sig}&n={n}")
    }

    /// The manifest a reference means, to a client that accepts this: (digest, media type, bytes).
    pub(super) fn manifest(
        &self,
        repository: &str,
        reference: &str,
        accept: &[&str],
    ) -> Option<(String, String, Bytes)> {
        let repo = self.repos.get(repository)?;
        let tag = repo.tags.get(reference);
        let digest = tag.map_or(reference, String::as_str);
        let (media_type, bytes) = repo.manifests.get(digest)?;
        let is_index = media_type == OCI_INDEX || media_type == DOCKER_LIST;
        let admits = |wanted: &&&str| [media_type, "*/*"].contains(wanted);
        if tag.is_some() && is_index && !accept.is_empty() && !accept.iter().any(|wanted| admits(&wanted)) {
            let index: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            let child = index["manifests"][0]["digest"].as_str()?;
            let (media_type, bytes) = repo.manifests.get(child)?;
            return Some((child.to_owned(), media_type.clone(), bytes.clone()));
        }
        Some((digest.to_owned(), media_type.clone(), bytes.clone()))
    }

    pub(super) fn remaining(&self, source: &str) -> Option<u64> {
        let quota = self.setup.quota.as_ref()?;
        Some(quota.limit.saturating_sub(self.spent.get(source).copied().unwrap_or(0)))
    }
}
