//! Permission is evidence: what upstream opened once is no reason to serve anything else. Each test
//! is an attack that worked (issue 13).

use http::Method;

use crate::access::{ALICE, BOB, HUB, token};
use crate::flight::landed;
use crate::harness::exchange::Reply;
use crate::harness::image::{OCI_INDEX, OCI_MANIFEST};
use crate::harness::*;
use crate::nonsense::MIRROR;
use crate::nonsense_bytes::came;
use crate::tags::{ALL, MINUTE};

const SECRET: &str = "nobody else's business";
/// Longer than `public_ttl`, and than `grant_ttl`.
pub(crate) const TTL: std::time::Duration = std::time::Duration::from_secs(15 * 60);
pub(crate) const FORGET: &str = "[cache.tags]\ngone = \"forget\"";

/// Docker Hub without a CDN: one question is one request.
pub(crate) fn hub() -> Registry {
    let registry = Registry::new("registry-1.docker.io").token_auth();
    registry.user("alice", "alices-password").user("bob", "bobs-password").user("carol", "carols-password")
}

/// An image of which every layer says whose it is.
pub(crate) fn secret(name: &str) -> Image {
    let layer = Blob::new(format!("{SECRET}, {name}; ").repeat(50));
    Image::index(&[("linux/amd64", Image::of(vec![layer]))])
}

/// Who asks, by which way in, and what they show.
#[derive(Clone)]
pub(crate) struct Reader {
    client: Client,
    base: String,
    authorization: Option<String>,
}

impl Reader {
    pub(crate) fn anonymous(seawall: &Seawall) -> Reader {
        Reader { client: seawall.client(), base: HUB.to_owned(), authorization: None }
    }

    pub(crate) fn showing(seawall: &Seawall, authorization: &str) -> Reader {
        Reader { authorization: Some(authorization.to_owned()), ..Reader::anonymous(seawall) }
    }

    /// With a token of its own for `repository`.
    pub(crate) async fn of(seawall: &Seawall, user: Option<(&str, &str)>, repository: &str) -> Reader {
        let token = token(&seawall.client(), user, repository).await;
        Reader::showing(seawall, &format!("Bearer {token}"))
    }

    pub(crate) fn at_mirror(seawall: &Seawall) -> Reader {
        Reader { client: Client::plain(seawall.addr()), base: MIRROR.to_owned(), authorization: None }
    }

    /// Of another registry.
    pub(crate) fn at(self, host: &str) -> Reader {
        Reader { base: format!("https://{host}"), ..self }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> exchange::Ask<'_> {
        let ask = self.client.request(method, &format!("{}{path}", self.base));
        let ask = ALL.iter().fold(ask, |ask, one| ask.header("accept", one));
        if let Some(value) = &self.authorization { ask.header("authorization", value) } else { ask }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str) -> Reply {
        self.request(method, path).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status.as_u16()
    }
}

pub(crate) fn manifest(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

pub(crate) fn blob(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// All of an image that can be asked for.
pub(crate) fn places(repository: &str, tag: &str, image: &Image) -> Vec<String> {
    let manifests = image.manifests().into_iter().map(|(_, bytes)| manifest(repository, &sha256(&bytes)));
    let blobs = image.blobs().into_iter().map(|one| blob(repository, &one.digest()));
    [manifest(repository, tag)].into_iter().chain(manifests).chain(blobs).collect()
}

/// A method and a field: GET, HEAD, parts, conditions.
pub(crate) fn ways(path: &str) -> [(Method, &'static str, String); 7] {
    let digest = format!("\"{}\"", path.rsplit('/').next().unwrap());
    [
        (Method::GET, "x-plain", "1".to_owned()),
        (Method::HEAD, "x-plain", "1".to_owned()),
        (Method::GET, "range", "bytes=0-3".to_owned()),
        (Method::GET, "range", "bytes=99999999-".to_owned()),
        (Method::GET, "if-none-match", digest),
        (Method::GET, "if-none-match", "*".to_owned()),
        (Method::HEAD, "if-none-match", "*".to_owned()),
    ]
}

/// Refused or failed, and nothing said of what is here.
pub(crate) fn nothing_of_it(reply: &Reply, case: &str) {
    let body = reply.body.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let case = format!("{case}: {} {:?} {body}", reply.status, reply.headers);
    assert!([401, 403, 404, 412, 429, 451, 502, 503, 504].contains(&reply.status.as_u16()), "{case}");
    for name in ["docker-content-digest", "etag", "content-range", "age"] {
        assert!(!reply.headers.contains_key(name), "{case}");
    }
    assert!(!reply.header("cache-status").contains("hit"), "{case}");
    assert!(["nobody else", "rootfs", "schemaVersion"].iter().all(|part| !body.contains(part)), "{case}");
}

pub(crate) async fn all_closed(who: &str, reader: &Reader, paths: &[String]) {
    for path in paths {
        for (method, name, value) in ways(path) {
            let reply = reader.request(method.clone(), path).header(name, &value).send().await.unwrap();
            nothing_of_it(&reply, &format!("{who}: {method} {path} {name}: {value}"));
        }
    }
}

pub(crate) async fn all_open(who: &str, reader: &Reader, paths: &[String]) {
    for path in paths {
        assert_eq!(reader.status(path).await, 200, "{who}: {path}");
    }
}

/// Who may not read what is alice's.
pub(crate) async fn strangers(seawall: &Seawall, repository: &str) -> Vec<(&'static str, Reader)> {
    vec![
        ("anonymous", Reader::anonymous(seawall)),
        ("at the mirror", Reader::at_mirror(seawall)),
        ("with an anonymous token", Reader::of(seawall, None, repository).await),
        ("bob", Reader::of(seawall, BOB, repository).await),
        ("made up", Reader::showing(seawall, "Bearer token-999-alice.")),
    ]
}

pub(crate) async fn pull_as_alice(seawall: &Seawall, image: &str) {
    let pull = Pull::new(image, Style::Podman).user("alice", "alices-password");
    pull.run(&seawall.client()).await.unwrap();
    landed(seawall).await;
}

/// What seawall asked of content, as whom: `HEAD manifests/1`, … Only that of `user`, if there is
/// one.
pub(crate) fn questions(registry: &Registry, user: Option<&str>) -> Vec<String> {
    let by = |seen: &Seen| {
        let shown = seen.authorization().unwrap_or_default();
        user.is_none_or(|user| shown.contains(&format!("-{user}.")))
    };
    let of_content = |seen: &Seen| ["manifests", "blobs"].contains(&seen.kind());
    let requests = registry.requests().into_iter().filter(|seen| of_content(seen) && by(seen));
    requests.map(|seen| format!("{} {}", seen.method, &seen.path[seen.path.find(seen.kind()).unwrap()..])).collect()
}

/// Item 1, rows 1 and 5: a repository turns private while it is believed to be public, and its
/// owner pulls a new tag. What was open stays so for its time, and opens nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_after_a_repository_turned_private_is_its_readers_alone() {
    for hides in [false, true] {
        let pki = Pki::new();
        let (old, new) = (Image::single(&[b"everybody's"]), secret("tag 2"));
        let registry = hub().image("acme/app:1", old.clone());
        let registry = if hides { registry.hides() } else { registry }.start(&pki).await;
        let seawall = Seawall::before(&registry).toml(FORGET).start(&pki).await;
        seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
        registry.make_private("acme/app", &["alice"]);
        registry.add_image("acme/app:2", &new);
        let (old, new) = (places("acme/app", "1", &old), places("acme/app", "2", &new));
        let who = strangers(&seawall, "acme/app").await;
        registry.reset_counts();
        for (name, reader) in &who {
            all_open(name, reader, &old).await;
        }
        assert_eq!(questions(&registry, None).len(), 0, "{}", registry.log());
        pull_as_alice(&seawall, "docker.io/acme/app:2").await;
        for (name, reader) in &who {
            all_closed(name, reader, &new).await;
        }
        if hides {
            // No 404 is a refusal of all that a repository has.
            all_open("believed", &who[0].1, &old[1..]).await;
        }
        seawall.clock.advance(TTL);
        for (name, reader) in &who {
            all_closed(name, reader, &old).await;
            all_closed(name, reader, &new).await;
        }
        registry.down();
        for (name, reader) in &who {
            all_closed(name, reader, &[old.clone(), new.clone()].concat()).await;
        }
    }
}

/// Item 1, of what is on its way to somebody who may read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_to_its_readers_reaches_nobody_else() {
    let pki = Pki::new();
    let (old, layer) = (Image::single(&[b"everybody's"]), Blob::generated(21, 200 << 10));
    let registry = hub().image("acme/app:1", old).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
    let who = strangers(&seawall, "acme/app").await;
    registry.make_private("acme/app", &["alice"]);
    registry.add_blob("acme/app", layer.clone());
    let (alice, path) = (Reader::of(&seawall, ALICE, "acme/app").await, blob("acme/app", &layer.digest()));
    let gate = registry.gate_blob(&layer.digest(), 100 << 10);
    let mut open = alice.request(Method::GET, &path).open().await.unwrap();
    gate.reached().await;
    for (name, reader) in &who {
        for (method, field, value) in ways(&path) {
            let reply = reader.request(method.clone(), &path).header(field, &value).open().await.unwrap();
            let case = format!("{name}: {method} {field}: {value}: {} {:?}", reply.status, reply.headers);
            assert!([401, 403].contains(&reply.status.as_u16()), "{case}\n{}", registry.log());
        }
    }
    gate.open();
    assert!(layer.holds(0, &open.rest().await.unwrap()));
}

/// Item 2, rows 2, 15 and 16: who lists a digest in a manifest of their own has it asked for there.
/// While it is open elsewhere it is served, which tells nobody anything; but who pushes is told
/// what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_opens_what_it_lists_only_while_that_is_open_elsewhere() {
    let pki = Pki::new();
    let (layer, more) = (Blob::from(b"nobody else's business, once everybody's"), Blob::from(b"the attacker's"));
    let registry = hub().image("library/base:1", Image::of(vec![layer.clone()]));
    let registry = registry.start(&pki).await;
    for name in ["evil/a", "evil/b", "evil/c", "evil/d"] {
        let listing = Image::of(vec![layer.clone(), more.clone()]).manifest();
        registry.add_manifest(name, "1", OCI_MANIFEST, listing);
        registry.add_blob(name, more.clone());
    }
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/library/base:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    let anonymous = Reader::anonymous(&seawall);
    let listed = async |name: &str| {
        assert_eq!(anonymous.status(&manifest(name, "1")).await, 200);
        registry.reset_counts();
        blob(name, &layer.digest())
    };
    let path = listed("evil/a").await;
    let reply = anonymous.get(&path).await;
    assert_eq!((reply.status.as_u16(), reply.bytes()), (200, &layer.bytes()));
    assert!(reply.header("cache-status").contains("fwd=miss"), "{:?}", reply.headers);
    assert_eq!(questions(&registry, None).len(), 0, "{}", registry.log());
    nothing_of_it(&anonymous.ask(Method::HEAD, &path).await, "HEAD");
    assert_eq!(questions(&registry, None), [format!("HEAD blobs/{}", layer.digest())]);
    // As what it lists, and nothing else.
    assert_eq!(anonymous.status(&manifest("evil/a", &layer.digest())).await, 404);

    registry.make_private("library/base", &["alice"]);
    let path = listed("evil/b").await;
    assert_eq!(anonymous.status(&path).await, 200, "open elsewhere, for its time");
    seawall.clock.advance(TTL);
    for name in ["evil/b", "evil/c"] {
        let path = listed(name).await;
        all_closed("it was public once", &anonymous, &[path]).await;
        let asked = questions(&registry, None);
        assert!(asked.iter().any(|line| line.ends_with(&layer.digest())), "{name}: {asked:?}");
    }
    // A refusal there is one at once.
    registry.make_public("library/base");
    assert_eq!(anonymous.status(&blob("library/base", &layer.digest())).await, 200, "{}", registry.log());
    let path = listed("evil/d").await;
    registry.make_private("library/base", &["alice"]);
    seawall.clock.advance(MINUTE);
    assert_eq!(anonymous.status(&manifest("library/base", "1")).await, 401);
    all_closed("it was refused since", &anonymous, &[path]).await;
}

/// docker.io with an account of the operator's, and the file of its password.
pub(crate) fn account(more: &str) -> (String, tempfile::NamedTempFile) {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "ci").unwrap();
    let login = format!("username = \"ci\"\npassword_file = {:?}", password.path());
    (format!("[[registry]]\nname = \"docker.io\"\n{login}\n{more}\n"), password)
}

/// Item 4, row 22: another registry that says it has a digest, and has not, opens nothing. What is
/// asked for there is fetched there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_names_a_digest_must_deliver_it() {
    let pki = Pki::new();
    let (image, layer) = (secret("alice's"), Blob::from(b"nobody else's business, one layer"));
    let registry = hub().image("acme/app:1", image.clone()).blob("acme/app", layer.clone());
    let registry = registry.private("acme/app", &["alice"]).start(&pki).await;
    let ghcr = Registry::new("ghcr.io").start(&pki).await;
    let seawall = Seawall::before(&registry).front(&ghcr).start(&pki).await;
    pull_as_alice(&seawall, "docker.io/acme/app:1").await;
    let alice = Reader::of(&seawall, ALICE, "acme/app").await;
    assert_eq!(alice.status(&blob("acme/app", &layer.digest())).await, 200);
    landed(&seawall).await;
    let (top, octets) = (image.digest(), "application/octet-stream");
    let paths = [
        (blob("x/y", &layer.digest()), layer.digest(), octets),
        (manifest("x/y", &top), top.clone(), OCI_INDEX),
        (manifest("x/y", "latest"), top, OCI_INDEX),
    ];
    let anonymous = Reader::anonymous(&seawall).at("ghcr.io");
    for (kind, lie) in [
        ("404", None),
        ("junk", Some(Fault::on("*").method(Method::GET).answers(200, octets, "junk"))),
        ("it hangs up", Some(Fault::on("*").method(Method::GET).hang_up())),
    ] {
        seawall.clock.advance(MINUTE);
        for (path, digest, media_type) in &paths {
            ghcr.clear_faults();
            ghcr.fault(Fault::on("*").method(Method::HEAD).names(digest, media_type, 7777));
            lie.iter().for_each(|fault| ghcr.fault(fault.clone().set("docker-content-digest", digest)));
            ghcr.reset_counts();
            for (method, name, value) in ways(path) {
                if method == Method::GET {
                    let (status, bytes) = came(anonymous.request(method, path).header(name, &value)).await;
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let case = format!("{kind}: {path} {name}: {value}: {status} {text}");
                    assert!(![206, 304, 416].contains(&status), "{case}\n{}", ghcr.log());
                    assert!(!text.contains("nobody else") && !text.contains("manifests\":"), "{case}");
                }
            }
            assert!(ghcr.gets("blobs") + ghcr.gets("manifests") > 0, "{kind}: {path}\n{}", ghcr.log());
            let head = anonymous.ask(Method::HEAD, path).await;
            assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "7777"), "{kind}: {path}");
        }
    }
    // What it does deliver is its own.
    ghcr.clear_faults();
    ghcr.add_blob("x/y", layer.clone());
    ghcr.reset_counts();
    for transfers in [1, 1] {
        let reply = anonymous.get(&paths[0].0).await;
        assert_eq!((reply.status.as_u16(), reply.bytes()), (200, &layer.bytes()));
        landed(&seawall).await;
        assert_eq!(ghcr.gets("blobs"), transfers, "{}", ghcr.log());
    }
}

/// What anonymous may read elsewhere is no secret: the same bytes of two registries are fetched once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_elsewhere_is_not_fetched_twice() {
    let pki = Pki::new();
    let image = Image::multi_layer();
    let registry = hub().image("library/base:1", image.clone()).start(&pki).await;
    let ghcr = Registry::new("ghcr.io").image("x/y:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).front(&ghcr).start(&pki).await;
    seawall.client().pull("docker.io/library/base:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    assert_eq!(seawall.client().pull("ghcr.io/x/y:1", Style::Docker).await.unwrap().digest, image.digest());
    assert_eq!((ghcr.gets("manifests"), ghcr.gets("blobs")), (0, 0), "{}", ghcr.log());
}

/// Item 6, row 23: what anonymous was not granted is fetched with nobody's account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_fetches_nothing_that_anonymous_was_not_granted() {
    for turned in [false, true] {
        let pki = Pki::new();
        let (open, closed) = (Image::single(&[b"everybody's"]), secret("the operator's and alice's"));
        let registry = hub().user("ci", "ci").image("acme/app:1", open).image("acme/app:2", closed.clone());
        let registry = registry.image("acme/app:3", Image::single(&[b"more for everybody"])).start(&pki).await;
        registry.make_private_within("acme/app", "2", &closed, &["ci", "alice"]);
        let (toml, _password) = account("");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        let client = seawall.client();
        client.pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
        let paths = places("acme/app", "2", &closed);
        let who = strangers(&seawall, "acme/app").await;
        if turned {
            registry.make_private("acme/app", &["ci", "alice"]);
        }
        registry.reset_counts();
        for (name, reader) in &who {
            all_closed(name, reader, &paths).await;
        }
        assert_eq!(questions(&registry, Some("ci")), Vec::<String>::new(), "turned private: {turned}");
        if !turned {
            client.pull("docker.io/acme/app:3", Style::Podman).await.unwrap();
            let paid = questions(&registry, Some("ci"));
            assert!(
                paid.iter().any(|line| line.starts_with("GET manifests/")),
                "what is granted it pays for: {paid:?}"
            );
        }
    }
}

/// Item 6, of another source with an account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_sources_account_fetches_nothing_that_anonymous_was_not_granted() {
    let pki = Pki::new();
    let (open, closed) = (Image::single(&[b"everybody's"]), secret("alice's"));
    let registry = hub().image("acme/app:1", open.clone()).image("acme/app:2", closed.clone()).start(&pki).await;
    registry.make_private_within("acme/app", "2", &closed, &["alice"]);
    let proxy = Registry::new("proxy.test").image("p/acme/app:1", open).image("p/acme/app:2", closed.clone());
    let proxy = proxy.user("ci", "ci").private("p/acme/app", &["ci"]).token_auth().start(&pki).await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "ci").unwrap();
    let account = format!("prefix = \"p\", username = \"ci\", password_file = {:?}", password.path());
    let (first, second) = ("{ url = \"https://registry-1.docker.io\", missing = \"next\" }", account);
    let second = format!("{{ url = \"https://proxy.test\", {second} }}");
    for chain in [format!("{first}, {second}"), format!("{second}, {first}")] {
        let toml = format!("[[registry]]\nname = \"docker.io\"\nupstreams = [{chain}]");
        let seawall = Seawall::before(&registry).front(&proxy).toml(&toml).start(&pki).await;
        seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
        proxy.reset_counts();
        let paths = places("acme/app", "2", &closed);
        for (name, reader) in &strangers(&seawall, "acme/app").await {
            all_closed(name, reader, &paths).await;
            registry.fault(Fault::on("*").host("registry-1.docker.io").status(503, "down"));
            all_closed(name, reader, &paths[..2]).await;
            registry.clear_faults();
            seawall.clock.advance(MINUTE / 10);
        }
        assert_eq!(proxy.requests().len(), 0, "{chain}\n{}", proxy.log());
    }
}
