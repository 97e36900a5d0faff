//! Whole pulls, in the order in which docker, containerd and podman ask (docs/protocol.md 4.1),
//! every digest verified.
//!
//! ```ignore
//! let pulled = client.pull("docker.io/library/alpine:3.20", Style::Docker).await?;
//! let pulled = Pull::new("ghcr.io/acme/app:1", Style::Podman).user("alice", "secret").run(&client).await?;
//! ```

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use http::Method;
use http::uri::Uri;
use serde_json::Value;

use super::client::{self, Client};
use super::exchange::{ClientError, Open, Reply};
use super::image::{DOCKER_LIST, DOCKER_MANIFEST, Hash, OCI_INDEX, OCI_MANIFEST};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// GET /v2/, token, HEAD tag, GET by digest; six `Accept` lines; pre-emptive credentials.
    Docker,
    /// HEAD tag, token (POST with a user), HEAD tag, GET by digest; one `Accept` line.
    Containerd,
    /// GET /v2/, token, GET tag, GET by digest.
    Podman,
}

impl Style {
    pub(crate) const ALL: [Style; 3] = [Style::Docker, Style::Containerd, Style::Podman];
}

/// What one pull asked and got.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// The tag's digest.
    pub(crate) digest: String,
    /// The manifests by digest: media type and bytes.
    pub(crate) manifests: BTreeMap<String, (String, Bytes)>,
    /// Config and layers by digest, verified; empty bytes with `lengths_only`.
    pub(crate) blobs: BTreeMap<String, Bytes>,
    /// Body bytes of all blobs.
    pub(crate) blob_bytes: u64,
    /// `GET https://… 200`, in order.
    pub(crate) steps: Vec<String>,
    /// `Cache-Status` of manifests and blobs, in order.
    pub(crate) cache_status: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Pull {
    base: String,
    repository: String,
    reference: String,
    style: Style,
    user: Option<(String, String)>,
    query: String,
    platform: String,
    keep: Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Bytes,
    Lengths,
}

impl Pull {
    /// `HOST/repository:tag` or `…@digest`; `docker.io` is asked at registry-1.docker.io, as every
    /// client does.
    pub(crate) fn new(image: &str, style: Style) -> Pull {
        let (host, rest) = image.split_once('/').expect("HOST/repository:tag");
        let (repository, reference) = rest.split_once('@').or(rest.rsplit_once(':')).expect("a tag or digest");
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        Pull {
            base: format!("https://{host}"),
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            style,
            user: None,
            query: String::new(),
            platform: "linux/amd64".to_owned(),
            keep: Keep::Bytes,
        }
    }

    pub(crate) fn user(mut self, user: &str, password: &str) -> Pull {
        self.user = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Asked here instead, e.g. `http://127.0.0.1:3128`: a mirror.
    pub(crate) fn at(mut self, base: &str) -> Pull {
        self.base = base.to_owned();
        self
    }

    /// `ns=ghcr.io` on every pull request, as containerd's mirrors.
    pub(crate) fn query(mut self, query: &str) -> Pull {
        self.query = format!("?{query}");
        self
    }

    pub(crate) fn platform(mut self, platform: &str) -> Pull {
        self.platform = platform.to_owned();
        self
    }

    /// Big layers are verified and thrown away.
    pub(crate) fn lengths_only(mut self) -> Pull {
        self.keep = Keep::Lengths;
        self
    }

    pub(crate) async fn run(&self, client: &Client) -> Result<Pulled, ClientError> {
        let mut run = Run { pull: self, client, authorization: None, pulled: Pulled::default() };
        let mut accept = vec![DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX];
        match self.style {
            Style::Docker | Style::Podman => {
                accept.extend(["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json"]);
                run.ping().await?;
            }
            Style::Containerd => accept.push("*/*"),
        }
        let top = match self.style {
            Style::Podman => run.manifest(&self.reference, &accept).await?,
            Style::Docker | Style::Containerd => {
                let digest = run.resolve(&accept).await?;
                run.manifest(&digest, &accept).await?
            }
        };
        run.pulled.digest = top.digest.clone();
        let manifest = match top.json["manifests"].as_array() {
            None => top,
            Some(entries) => {
                let name = |entry: &Value| {
                    let part = |key: &str| entry["platform"][key].as_str().unwrap_or_default().to_owned();
                    part("os") + "/" + &part("architecture")
                };
                let ours = entries.iter().find(|entry| name(entry) == self.platform).or(entries.first());
                let digest = ours.and_then(|entry| entry["digest"].as_str()).unwrap_or_default().to_owned();
                run.manifest(&digest, &accept).await?
            }
        };
        let config = std::iter::once(&manifest.json["config"]).filter(|config| config.is_object());
        for blob in config.chain(manifest.json["layers"].as_array().into_iter().flatten()) {
            run.blob(blob).await?;
        }
        Ok(run.pulled)
    }
}

impl Client {
    /// An anonymous pull.
    pub(crate) async fn pull(&self, image: &str, style: Style) -> Result<Pulled, ClientError> {
        Pull::new(image, style).run(self).await
    }
}

struct Fetched {
    digest: String,
    json: Value,
}

struct Run<'a> {
    pull: &'a Pull,
    client: &'a Client,
    authorization: Option<String>,
    pulled: Pulled,
}

impl Run<'_> {
    fn fail<T>(&self, what: &str) -> Result<T, ClientError> {
        Err(ClientError::Pull(format!("{what}, after {:#?}", self.pulled.steps)))
    }

    async fn open(&mut self, method: Method, url: &str, accept: &[&str]) -> Result<Open, ClientError> {
        let mut url = url.to_owned();
        let mut authorization = self.authorization.clone();
        for _hop in 0..5 {
            let mut ask = self.client.request(method.clone(), &url);
            match self.pull.style {
                Style::Containerd if !accept.is_empty() => ask = ask.header("accept", &accept.join(", ")),
                _ => ask = accept.iter().fold(ask, |ask, one| ask.header("accept", one)),
            }
            ask = ask.header("user-agent", &format!("{:?}", self.pull.style));
            if let Some(authorization) = &authorization {
                ask = ask.header("authorization", authorization);
            }
            let open = ask.open().await?;
            self.pulled.steps.push(format!("{method} {url} {}", open.status.as_u16()));
            let location = open.headers.get("location").and_then(|value| value.to_str().ok());
            let Some(location) = location.filter(|_| open.status.is_redirection()) else { return Ok(open) };
            let origin =
                |url: &str| url.parse::<Uri>().ok().map(|url| (url.scheme().cloned(), url.authority().cloned()));
            let next = if location.starts_with('/') {
                let (scheme, authority) = origin(&url).expect("asked it");
                format!("{}://{}{location}", scheme.expect("absolute"), authority.expect("absolute"))
            } else {
                location.to_owned()
            };
            if origin(&next) != origin(&url) {
                authorization = None;
            }
            url = next;
        }
        self.fail("too many redirects")
    }

    /// … and again with credentials when they are asked for.
    async fn asked(&mut self, method: Method, path: &str, accept: &[&str]) -> Result<Open, ClientError> {
        let url = format!("{}/v2/{}{path}{}", self.pull.base, self.pull.repository, self.pull.query);
        let open = self.open(method.clone(), &url, accept).await?;
        if open.status != 401 || !self.answer_challenge(&open).await? {
            return Ok(open);
        }
        self.open(method, &url, accept).await
    }

    async fn ping(&mut self) -> Result<(), ClientError> {
        let url = format!("{}/v2/", self.pull.base);
        let open = self.open(Method::GET, &url, &[]).await?;
        match open.status.as_u16() {
            200 => Ok(()),
            401 => self.answer_challenge(&open).await.map(|_| ()),
            status => self.fail(&format!("/v2/ said {status}")),
        }
    }

    /// False: there is nothing to answer it with.
    async fn answer_challenge(&mut self, open: &Open) -> Result<bool, ClientError> {
        let challenge = open.headers.get("www-authenticate").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let challenge = challenge.to_owned();
        let param = |name: &str| {
            let rest = challenge.split_once(&format!("{name}=\""))?.1;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let user = self.pull.user.clone();
        if challenge.starts_with("Basic ") {
            let known = self.authorization.is_some();
            self.authorization = user.map(|(user, password)| client::basic(&user, &password));
            return Ok(!known && self.authorization.is_some());
        }
        let (Some(realm), service) = (param("realm"), param("service").unwrap_or_default()) else { return Ok(false) };
        let scope = param("scope").unwrap_or_else(|| format!("repository:{}:pull", self.pull.repository));
        let joint = if realm.contains('?') { '&' } else { '?' };
        let mut url = format!("{realm}{joint}service={service}&scope={}", scope.replace(' ', "+"));
        let reply = match (&user, self.pull.style) {
            (Some((name, password)), Style::Containerd) => {
                let form = format!(
                    "grant_type=password&service={service}&client_id=containerd-client&scope={scope}&username={name}&password={password}"
                );
                let kind = "application/x-www-form-urlencoded";
                let ask = self.client.request(Method::POST, &realm).header("content-type", kind).body(form);
                let posted = self.noted("POST", &realm, ask.send().await?);
                if [400, 401, 404, 405].contains(&posted.status.as_u16()) {
                    let again = self.client.get(&url).basic(name, password).send().await?;
                    self.noted("GET", &url, again)
                } else {
                    posted
                }
            }
            (Some((name, password)), _) => {
                url.push_str(&format!("&account={name}&client_id=docker"));
                let reply = self.client.get(&url).basic(name, password).send().await?;
                self.noted("GET", &url, reply)
            }
            (None, _) => {
                let reply = self.client.get(&url).send().await?;
                self.noted("GET", &url, reply)
            }
        };
        if reply.status != 200 {
            return self.fail(&format!("no token: {}", reply.status));
        }
        let json: Value = serde_json::from_slice(&reply.body?).unwrap_or_default();
        let token = json["token"].as_str().or(json["access_token"].as_str()).unwrap_or_default();
        self.authorization = Some(format!("Bearer {token}"));
        Ok(true)
    }

    fn noted(&mut self, method: &str, url: &str, reply: Reply) -> Reply {
        self.pulled.steps.push(format!("{method} {url} {}", reply.status.as_u16()));
        reply
    }

    async fn resolve(&mut self, accept: &[&str]) -> Result<String, ClientError> {
        let path = format!("/manifests/{}", self.pull.reference);
        let open = self.asked(Method::HEAD, &path, accept).await?;
        let digest = open.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        match digest.filter(|_| open.status == 200) {
            Some(digest) if open.headers.contains_key("content-length") => Ok(digest.to_owned()),
            _ if self.pull.style == Style::Containerd && ![200, 403, 405].contains(&open.status.as_u16()) => {
                self.fail(&format!("HEAD {}: {}", self.pull.reference, open.status))
            }
            // 4.2, 4.3: then they GET the tag, and hash.
            _ => Ok(self.manifest(&self.pull.reference.clone(), accept).await?.digest),
        }
    }

    async fn manifest(&mut self, reference: &str, accept: &[&str]) -> Result<Fetched, ClientError> {
        let mut open = self.asked(Method::GET, &format!("/manifests/{reference}"), accept).await?;
        let body = open.rest().await?;
        if open.status != 200 {
            return self.fail(&format!("manifest {reference}: {} {}", open.status, String::from_utf8_lossy(&body)));
        }
        self.note_cache(&open);
        let text =
            |name: &str| open.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let named = if reference.contains(':') { reference.to_owned() } else { text("docker-content-digest") };
        let mut hash = Hash::like(&named);
        hash.update(&body);
        let digest = hash.finish();
        if !named.is_empty() && named != digest {
            return self.fail(&format!("manifest {reference}: {digest} instead of {named}"));
        }
        let json = serde_json::from_slice(&body).unwrap_or_default();
        self.pulled.manifests.insert(digest.clone(), (text("content-type"), body));
        Ok(Fetched { digest, json })
    }

    async fn blob(&mut self, descriptor: &Value) -> Result<(), ClientError> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
        let accept: &[&str] = if self.pull.style == Style::Containerd { &[media_type, "*/*"] } else { &[] };
        let mut open = self.asked(Method::GET, &format!("/blobs/{digest}"), accept).await?;
        if open.status != 200 {
            return self.fail(&format!("blob {digest}: {}", open.status));
        }
        self.note_cache(&open);
        let mut hash = Hash::like(digest);
        let (mut bytes, mut len) = (BytesMut::new(), 0);
        while let Some(piece) = open.piece().await? {
            hash.update(&piece);
            len += piece.len() as u64;
            if self.pull.keep == Keep::Bytes {
                bytes.extend_from_slice(&piece);
            }
        }
        if hash.finish() != digest || descriptor["size"].as_u64() != Some(len) {
            return self.fail(&format!("blob {digest}: other bytes, {len} of them"));
        }
        self.pulled.blob_bytes += len;
        self.pulled.blobs.insert(digest.to_owned(), bytes.freeze());
        Ok(())
    }

    fn note_cache(&mut self, open: &Open) {
        let status = open.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.pulled.cache_status.push(status.to_owned());
    }
}
