//! The fake registry: a builder, then a handle that changes what it holds, breaks it, and tells
//! what reached it.
//!
//! ```ignore
//! let pki = Pki::new();
//! let registry = Registry::new("registry-1.docker.io")
//!     .image("library/alpine:3.20", Image::multi_layer())
//!     .token_auth()
//!     .cdn("cdn.example.test")
//!     .start(&pki)
//!     .await;
//! ```

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::faults::{Fault, Gate, PATIENCE};
use super::image::{Blob, Image, sha256};
use super::record::Seen;
use super::server::{Host, Shared};
use super::state::{Auth, Quota, Setup, State};
use super::tls::{Alpn, Mandatory, Pki};
use super::wire::News;

/// Dropped: it goes down.
pub(crate) struct Registry {
    pub(super) shared: Arc<Shared>,
    hosts: Vec<Arc<Host>>,
}

impl Registry {
    /// Over TLS, h1 and h2, no authentication, blobs answered directly.
    pub(crate) fn new(host: &str) -> Registry {
        let setup = Setup {
            host: host.to_owned(),
            auth: Auth::None,
            auth_host: host.to_owned(),
            realm: None,
            service: host.to_owned(),
            cdn: None,
            aliases: Vec::new(),
            tls: true,
            mutual_tls: false,
            tls_versions: rustls::ALL_VERSIONS,
            alpn: Alpn::Both,
            token_life: Some(300),
            token_length: 0,
            url_uses: None,
            quota: None,
            hides: false,
            page: 1000,
        };
        let shared = Shared {
            state: Mutex::new(State::new(setup)),
            faults: Mutex::default(),
            seen: Mutex::default(),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            news: News::new(),
        };
        Registry { shared: Arc::new(shared), hosts: Vec::new() }
    }

    fn setup(self, change: impl FnOnce(&mut Setup)) -> Registry {
        change(&mut self.shared.state.lock().setup);
        self
    }

    // How it is built.

    /// `name` is `repository:tag`.
    pub(crate) fn image(self, name: &str, image: Image) -> Registry {
        self.add_image(name, &image);
        self
    }

    pub(crate) fn blob(self, repository: &str, blob: impl Into<Blob>) -> Registry {
        self.add_blob(repository, blob);
        self
    }

    pub(crate) fn manifest(self, repository: &str, tag: &str, media_type: &str, bytes: impl Into<Bytes>) -> Registry {
        self.add_manifest(repository, tag, media_type, bytes);
        self
    }

    pub(crate) fn user(self, name: &str, password: &str) -> Registry {
        self.shared.state.lock().users.insert(name.to_owned(), password.to_owned());
        self
    }

    /// Only these users may read it.
    pub(crate) fn private(self, repository: &str, users: &[&str]) -> Registry {
        self.make_private(repository, users);
        self
    }

    /// Bearer tokens. Docker Hub's come from auth.docker.io, others' from the registry's own host,
    /// at `/token`.
    pub(crate) fn token_auth(self) -> Registry {
        let hub = self.shared.state.lock().setup.host == "registry-1.docker.io";
        self.setup(|setup| {
            setup.auth = Auth::Token;
            if hub {
                setup.auth_host = "auth.docker.io".to_owned();
                setup.service = "registry.docker.io".to_owned();
            }
        })
    }

    pub(crate) fn token_auth_at(self, host: &str) -> Registry {
        self.token_auth().setup(|setup| setup.auth_host = host.to_owned())
    }

    /// The challenge's realm, whatever the token endpoint's true address is.
    pub(crate) fn realm(self, url: &str) -> Registry {
        self.setup(|setup| setup.realm = Some(url.to_owned()))
    }

    /// Basic on every request, as ECR.
    pub(crate) fn basic_auth(self) -> Registry {
        self.setup(|setup| setup.auth = Auth::Basic)
    }

    /// Seconds until a token ends (300); None: the reply does not say and it is 60.
    pub(crate) fn token_life(self, seconds: Option<u64>) -> Registry {
        self.setup(|setup| setup.token_life = seconds)
    }

    /// Tokens at least so many bytes long.
    pub(crate) fn token_length(self, bytes: usize) -> Registry {
        self.setup(|setup| setup.token_length = bytes)
    }

    /// Blobs are 307 to signed URLs on this host.
    pub(crate) fn cdn(self, host: &str) -> Registry {
        self.setup(|setup| setup.cdn = Some(host.to_owned()))
    }

    /// A signed URL works so many times, then it is 403.
    pub(crate) fn signed_urls_expire_after(self, uses: usize) -> Registry {
        self.setup(|setup| setup.url_uses = Some(uses))
    }

    /// Another host name that is the same registry, on a port of its own.
    pub(crate) fn alias(self, host: &str) -> Registry {
        self.setup(|setup| setup.aliases.push(host.to_owned()))
    }

    /// Manifest GETs per source and 6 h, with Docker Hub's headers.
    pub(crate) fn quota(self, limit: u64) -> Registry {
        self.setup(|setup| setup.quota = Some(Quota { limit, window: 21600 }))
    }

    /// It says 404 to a token that does not open what it is asked for, as GitHub does.
    pub(crate) fn hides(self) -> Registry {
        self.setup(|setup| setup.hides = true)
    }

    /// Lists have pages of so many.
    pub(crate) fn page(self, items: usize) -> Registry {
        self.setup(|setup| setup.page = items)
    }

    pub(crate) fn only_h1(self) -> Registry {
        self.setup(|setup| setup.alpn = Alpn::H1)
    }

    pub(crate) fn only_h2(self) -> Registry {
        self.setup(|setup| setup.alpn = Alpn::H2)
    }

    /// Its own host takes only clients with a certificate of the test's root; its other hosts ask
    /// for one, too.
    pub(crate) fn mutual_tls(self, versions: &'static [&'static rustls::SupportedProtocolVersion]) -> Registry {
        self.setup(|setup| (setup.mutual_tls, setup.tls_versions) = (true, versions))
    }

    /// How many connections to one of its hosts showed a certificate.
    pub(crate) fn certificates(&self, host: &str) -> usize {
        self.host(host).certificates.as_ref().map_or(0, |counting| counting.shown())
    }

    /// No TLS on any of its hosts.
    pub(crate) fn plain(self) -> Registry {
        self.setup(|setup| setup.tls = false)
    }

    pub(crate) async fn start(mut self, pki: &Pki) -> Registry {
        let setup = self.shared.state.lock().setup.clone();
        let mut names = vec![setup.host];
        names.extend(setup.aliases);
        names.extend((setup.auth == Auth::Token).then_some(setup.auth_host));
        names.extend(setup.cdn);
        for name in names {
            if self.hosts.iter().any(|host| host.name == name) {
                continue;
            }
            let bare = name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host);
            let mandatory = if self.shared.state.lock().setup.host == name { Mandatory::Yes } else { Mandatory::No };
            let asking = setup.mutual_tls.then(|| pki.asking(mandatory));
            let config = || match &asking {
                Some(asking) => pki.server_asking(bare, setup.alpn, setup.tls_versions, asking.clone()),
                None => pki.server(bare, setup.alpn),
            };
            let tls = setup.tls.then(|| TlsAcceptor::from(config()));
            let host = Arc::new(Host::new(&name, tls, setup.alpn, asking));
            host.up(&self.shared);
            self.hosts.push(host);
        }
        self
    }

    // Where it is.

    /// The loopback address of one of its hosts.
    pub(crate) fn addr(&self, host: &str) -> SocketAddr {
        self.host(host).addr
    }

    /// All of them, for `upstream.hosts` or `Client::resolving`.
    pub(crate) fn hosts(&self) -> HashMap<String, SocketAddr> {
        self.hosts.iter().map(|host| (host.name.clone(), host.addr)).collect()
    }

    fn host(&self, name: &str) -> &Arc<Host> {
        self.hosts.iter().find(|host| host.name == name).expect("a host of this registry")
    }

    // What it holds, at any time.

    /// Returns the top manifest's digest.
    pub(crate) fn add_image(&self, name: &str, image: &Image) -> String {
        let (repository, tag) = name.split_once(':').expect("repository:tag");
        self.shared.state.lock().add_image(repository, Some(tag), image)
    }

    pub(crate) fn add_blob(&self, repository: &str, blob: impl Into<Blob>) -> String {
        let blob = blob.into();
        let digest = blob.digest();
        self.shared.state.lock().repo(repository).blobs.insert(digest.clone(), blob);
        digest
    }

    pub(crate) fn add_manifest(&self, repo: &str, tag: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        let mut state = self.shared.state.lock();
        state.repo(repo).manifests.insert(digest.clone(), (media_type.to_owned(), bytes));
        state.repo(repo).tags.insert(tag.to_owned(), digest.clone());
        digest
    }

    /// Moves or makes a tag.
    pub(crate) fn tag(&self, repository: &str, tag: &str, digest: &str) {
        self.shared.state.lock().repo(repository).tags.insert(tag.to_owned(), digest.to_owned());
    }

    pub(crate) fn untag(&self, repository: &str, tag: &str) {
        self.shared.state.lock().repo(repository).tags.remove(tag);
    }

    /// The digest a tag has now.
    pub(crate) fn tagged(&self, repository: &str, tag: &str) -> Option<String> {
        self.shared.state.lock().repo(repository).tags.get(tag).cloned()
    }

    /// Forgets a blob or manifest of one repository.
    pub(crate) fn remove(&self, repository: &str, digest: &str) {
        let mut state = self.shared.state.lock();
        let repo = state.repo(repository);
        repo.blobs.remove(digest);
        repo.manifests.remove(digest);
    }

    /// What was pushed, or put there.
    pub(crate) fn stored(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let mut state = self.shared.state.lock();
        let repo = state.repo(repository);
        let manifest = repo.manifests.get(digest).map(|(_, bytes)| bytes.clone());
        manifest.or_else(|| repo.blobs.get(digest).map(Blob::bytes))
    }

    /// At once, for tokens issued before too.
    pub(crate) fn make_private(&self, repository: &str, users: &[&str]) {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.shared.state.lock().repo(repository).readers = Some(users);
    }

    pub(crate) fn make_public(&self, repository: &str) {
        self.shared.state.lock().repo(repository).readers = None;
    }

    /// Rights for each tag and digest (Artifactory, Nexus): of what may be read in a repository, only
    /// these users may read an image and all that is its own. To others it does not exist.
    pub(crate) fn make_private_within(&self, repository: &str, tag: &str, image: &Image, users: &[&str]) {
        let users: BTreeSet<String> = users.iter().map(|user| (*user).to_owned()).collect();
        let mut state = self.shared.state.lock();
        let rights = &mut state.repo(repository).rights;
        rights.extend(image.digests().into_iter().chain([tag.to_owned()]).map(|name| (name, users.clone())));
    }

    /// The one before is wrong from now on.
    pub(crate) fn set_password(&self, user: &str, password: &str) {
        self.shared.state.lock().users.insert(user.to_owned(), password.to_owned());
    }

    /// Every token issued so far stops working.
    pub(crate) fn revoke_tokens(&self) {
        let past = Instant::now();
        self.shared.state.lock().tokens.values_mut().for_each(|token| token.until = past);
    }

    /// An account that is no more: it gets no token, and those it got stop working.
    pub(crate) fn remove_user(&self, name: &str) {
        let (past, mut state) = (Instant::now(), self.shared.state.lock());
        state.users.remove(name);
        state
            .tokens
            .values_mut()
            .filter(|token| token.user.as_deref() == Some(name))
            .for_each(|token| token.until = past);
    }

    /// Every signed URL handed out so far stops working.
    pub(crate) fn expire_signed_urls(&self) {
        self.shared.state.lock().signed.values_mut().for_each(|signed| signed.uses_left = Some(0));
    }

    /// How much quota a source has left: `ANONYMOUS_SOURCE` or a user.
    pub(crate) fn remaining(&self, source: &str) -> Option<u64> {
        self.shared.state.lock().remaining(source)
    }

    pub(crate) fn set_remaining(&self, source: &str, remaining: u64) {
        let mut state = self.shared.state.lock();
        let limit = state.setup.quota.as_ref().expect("built with quota()").limit;
        state.spent.insert(source.to_owned(), limit - remaining);
    }

    // What goes wrong.

    pub(crate) fn fault(&self, fault: Fault) {
        self.shared.faults.lock().push(fault);
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.faults.lock().clear();
    }

    /// Every GET of these bytes, at the CDN if there is one, stops before byte `at` (below its
    /// length) until the gate opens.
    pub(crate) fn gate_blob(&self, digest: &str, at: u64) -> Gate {
        let gate = Gate::new();
        self.fault(Fault::on("bytes").digest(digest).hold_body(at, &gate));
        gate
    }

    /// All hosts refuse connections, and those that were open are gone.
    pub(crate) fn down(&self) {
        self.hosts.iter().for_each(|host| host.down());
    }

    pub(crate) fn down_host(&self, host: &str) {
        self.host(host).down();
    }

    /// All hosts are back, on the same ports.
    pub(crate) fn up(&self) {
        self.hosts.iter().for_each(|host| host.up(&self.shared));
    }

    // What reached it.

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.shared.seen.lock().iter().filter(|seen| wanted(seen)).count()
    }

    /// GETs of a kind: `manifests`, `blobs` (the registry host), `cdn`, `token`, `ping`, `tags`, …
    pub(crate) fn gets(&self, kind: &str) -> usize {
        self.count(|seen| seen.method == Method::GET && seen.kind() == kind)
    }

    pub(crate) fn heads(&self, kind: &str) -> usize {
        self.count(|seen| seen.method == Method::HEAD && seen.kind() == kind)
    }

    pub(crate) fn on_host(&self, host: &str) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.host == host).collect()
    }

    /// A barrier: returns when this holds. Looked at whenever a request, an answer's head or end, a
    /// piece of an upload, or a connection comes or goes.
    pub(crate) async fn until(&self, holds: impl Fn(&Registry) -> bool) {
        let mut news = self.shared.news.listen();
        let waiting = async {
            while !holds(self) {
                news.changed().await.expect("the registry is here");
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("never happened; the registry saw\n{}", self.log());
        }
    }

    /// One line per request, for the message of an assertion.
    pub(crate) fn log(&self) -> String {
        self.requests().iter().map(|seen| seen.line() + "\n").collect()
    }

    /// Body bytes given to connections, of all requests counted.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.seen.lock().iter().map(Seen::sent).sum()
    }

    /// Connections accepted since the start or `reset_counts`.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    pub(crate) fn reset_counts(&self) {
        self.shared.seen.lock().clear();
        self.shared.accepted.store(0, SeqCst);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.down();
    }
}
