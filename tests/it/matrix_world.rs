//! Plays the matrix: a registry with a repository for every scene, so that no scene learns from
//! another; requests; judgement.

use std::collections::HashMap;

use http::Method;

use crate::access::{ALICE, BOB, CAROL, HUB, hub};
use crate::harness::exchange::{Connection, Reply};
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::matrix::{Cell, Expected, How, Place, State, Thing, Who};

/// What is spoken to seawall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    H1,
    H2,
    /// In the clear, to a mirror. Whatever a client sends along, it is nobody there.
    Mirror,
}

impl Spoken {
    /// Whose part is played: all of it once, the core of it in the other ways.
    pub(crate) fn requesters(self) -> &'static [Who] {
        match self {
            Spoken::H1 => &Who::ALL,
            Spoken::H2 => &[Who::Nobody, Who::Alice, Who::Bob, Who::MadeUp],
            Spoken::Mirror => &[Who::Nobody, Who::Alice],
        }
    }
}

/// A repository in which nobody has asked for anything but what its scene says.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) state: State,
    pub(crate) repository: String,
    pub(crate) image: Image,
}

/// In every byte that nobody may see.
const SECRET: &str = "nobody else's business";
/// Where a fill stops in `State::InFlight`.
pub(crate) const HELD_AT: u64 = 1000;

impl Scene {
    pub(crate) fn new(place: Place, state: State, name: &str) -> Scene {
        let repository = format!("{place:?}/{state:?}/{name}").to_lowercase();
        let secret = format!("{SECRET}, of {repository}; ").repeat(100);
        Scene { place, state, image: Image::of(vec![Blob::new(secret)]), repository }
    }

    pub(crate) fn digest(&self, thing: Thing) -> String {
        match thing {
            Thing::Tag | Thing::Digest => self.image.digest(),
            Thing::Config => self.image.config().unwrap().digest(),
            Thing::Blob | Thing::Range => self.image.layers()[0].digest(),
        }
    }

    fn bytes(&self, thing: Thing) -> Vec<u8> {
        let bytes = match thing {
            Thing::Tag | Thing::Digest => self.image.manifest(),
            Thing::Config => self.image.config().unwrap().bytes(),
            Thing::Blob | Thing::Range => self.image.layers()[0].bytes(),
        };
        bytes.to_vec()
    }

    fn path(&self, thing: Thing) -> String {
        let kind = if thing.is_manifest() { "manifests" } else { "blobs" };
        let reference = if thing == Thing::Tag { "1".to_owned() } else { self.digest(thing) };
        format!("/v2/{}/{kind}/{reference}", self.repository)
    }
}

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) seawall: Seawall,
    spoken: Spoken,
    kept: Connection,
    tokens: HashMap<String, String>,
}

impl World {
    /// With these scenes as they were before anything was asked: what will turn private is public.
    pub(crate) async fn start(spoken: Spoken, scenes: &[Scene]) -> World {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        for scene in scenes {
            registry.add_image(&format!("{}:1", scene.repository), &scene.image);
            registry.add_image(&format!("{}:other", scene.repository), &Image::single(&[b"of no interest"]));
            if scene.place == Place::Private {
                registry.make_private(&scene.repository, &["alice", "carol"]);
            }
        }
        let toml = "[cache]\npublic_ttl = \"15m\"\ngrant_ttl = \"5m\"\ntags = { ttl = \"1m\" }";
        let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
        let kept = client(&seawall, spoken).connect(&base(&seawall, spoken)).await.unwrap();
        let mut world = World { registry, seawall, spoken, kept, tokens: HashMap::new() };
        // One token of each for all of its repositories: a long one, but one request.
        let scopes: String =
            scenes.iter().map(|scene| format!("&scope=repository:{}:pull", scene.repository)).collect();
        for (name, user) in [("nobody", None), ("alice", ALICE), ("bob", BOB), ("carol", CAROL)] {
            let token = world.token(user, &scopes).await;
            world.tokens.insert(name.to_owned(), token);
        }
        let elsewhere = world.token(ALICE, "&scope=repository:acme/other:pull").await;
        world.tokens.insert("elsewhere".to_owned(), elsewhere);
        world
    }

    async fn token(&self, user: Option<(&str, &str)>, scopes: &str) -> String {
        let client = self.seawall.client();
        let ask = client.get(&format!("https://auth.docker.io/token?service=registry.docker.io{scopes}"));
        let ask = if let Some((name, password)) = user { ask.basic(name, password) } else { ask };
        let reply = ask.send().await.unwrap();
        assert_eq!(reply.status, 200);
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    fn authorization(&self, who: Who) -> Option<String> {
        let bearer = |name: &str| Some(format!("Bearer {}", self.tokens[name]));
        match who {
            Who::Nobody => None,
            Who::Anonymous => bearer("nobody"),
            Who::Alice => bearer("alice"),
            Who::Bob => bearer("bob"),
            Who::Carol => bearer("carol"),
            Who::Elsewhere => bearer("elsewhere"),
            Who::MadeUp => Some("Bearer token-999-alice.".to_owned()),
            Who::Basic => Some("Basic YWxpY2U6YWxpY2VzLXBhc3N3b3Jk".to_owned()),
        }
    }

    fn url(&self, path: &str) -> String {
        base(&self.seawall, self.spoken) + path
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.seawall, self.spoken)
    }

    /// On the connection that all of the world's requests share, one after the other.
    pub(crate) async fn ask(&self, scene: &Scene, who: Who, thing: Thing, how: How) -> Reply {
        let (method, fields) = self.request(scene, who, thing, how);
        let ask = self.kept.request(method, &self.url(&scene.path(thing)));
        fields.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await.unwrap()
    }

    /// On a connection of its own.
    pub(crate) async fn ask_apart(&self, scene: &Scene, who: Who, thing: Thing, how: How) -> Reply {
        let (method, fields) = self.request(scene, who, thing, how);
        let client = self.client();
        let ask = client.request(method, &self.url(&scene.path(thing)));
        fields.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await.unwrap()
    }

    fn request(&self, scene: &Scene, who: Who, thing: Thing, how: How) -> (Method, Vec<(&'static str, String)>) {
        let mut fields = vec![("accept", OCI_MANIFEST.to_owned())];
        fields.extend(self.authorization(who).map(|value| ("authorization", value)));
        if thing == Thing::Range {
            fields.push(("range", "bytes=2-11".to_owned()));
        }
        if how == How::Condition {
            fields.push(("if-none-match", format!("\"{}\"", scene.digest(thing))));
        }
        (if how == How::Head { Method::HEAD } else { Method::GET }, fields)
    }

    /// Who could have pulled it first.
    pub(crate) fn first(&self, scene: &Scene) -> Who {
        if scene.place == Place::Private { Who::Alice } else { Who::Nobody }
    }

    /// Puts all of it into the cache, by whoever may at first.
    pub(crate) async fn cache(&self, scene: &Scene) {
        for thing in [Thing::Tag, Thing::Digest, Thing::Config, Thing::Blob] {
            let reply = self.ask(scene, self.first(scene), thing, How::Get).await;
            assert_eq!(reply.status, 200, "{} {thing:?}\n{}", scene.repository, self.registry.log());
        }
    }

    /// What was public is known to be: an anonymous client has read another tag of it.
    pub(crate) async fn make_known(&self, scene: &Scene) {
        let url = self.url(&format!("/v2/{}/manifests/other", scene.repository));
        let ask = self.kept.request(Method::GET, &url).header("accept", OCI_MANIFEST);
        assert_eq!(ask.send().await.unwrap().status, 200, "{}", self.registry.log());
    }

    pub(crate) fn turn(&self, scene: &Scene) {
        if matches!(scene.place, Place::Turned | Place::TurnedLong) {
            self.registry.make_private(&scene.repository, &["alice", "carol"]);
        }
    }

    /// Returns when what was fetched is in the cache to stay.
    pub(crate) async fn settled(&self) {
        while self.seawall.metric("seawall_fills") > 0.0 {
            tokio::task::yield_now().await;
        }
    }

    /// Asks all that can be asked of the scene, and what is wrong with the answers.
    pub(crate) async fn asked_in_turn(&self, scene: &Scene, who: Who, asks: &[(Thing, How)]) -> Vec<String> {
        let mut wrong = Vec::new();
        for &(thing, how) in asks {
            let reply = self.ask(scene, who, thing, how).await;
            wrong.extend(self.judged(scene, who, thing, how, &reply));
        }
        wrong
    }

    pub(crate) fn requesters(&self) -> &'static [Who] {
        self.spoken.requesters()
    }

    /// To a mirror everybody is nobody.
    pub(crate) fn taken_for(&self, who: Who) -> Who {
        if self.spoken == Spoken::Mirror { Who::Nobody } else { who }
    }

    /// Credentials that reached whom they are not for: of a mirror's clients anybody, else anybody
    /// but the registry and its token service.
    pub(crate) fn gone_astray(&self) -> Vec<String> {
        let theirs = |seen: &Seen| {
            let sent = seen.authorization().unwrap_or_default();
            let known =
                Who::ALL.iter().filter(|who| **who != Who::Anonymous).filter_map(|who| self.authorization(*who));
            known.into_iter().any(|value| value == sent)
        };
        let registry = |seen: &Seen| ["registry-1.docker.io", "auth.docker.io"].contains(&&*seen.host);
        let astray = |seen: &Seen| theirs(seen) && (self.spoken == Spoken::Mirror || !registry(seen));
        let pulls = self.registry.requests().into_iter().filter(|seen| seen.kind() != "token");
        pulls.filter(astray).map(|seen| format!("a credential went with {}", seen.line())).collect()
    }

    /// What is wrong with an answer, if anything.
    pub(crate) fn judged(&self, scene: &Scene, who: Who, thing: Thing, how: How, reply: &Reply) -> Option<String> {
        let cell = Cell { place: scene.place, state: scene.state, who: self.taken_for(who), thing, how };
        let expected = cell.expected();
        let found = match expected {
            Expected::Served => served(scene, thing, how, reply).or_else(|| fresh(reply)),
            Expected::Stale => served(scene, thing, how, reply).or_else(|| stale(reply)),
            Expected::Refused => refused(self.spoken, reply).or_else(|| leaked(scene, thing, how, reply)),
            // Who shows nothing may be told so still that it was refused a moment ago.
            Expected::Error if refused_again(who, reply) => leaked(scene, thing, how, reply),
            Expected::Error => failed(reply).or_else(|| leaked(scene, thing, how, reply)),
        };
        let cache_status = reply.header("cache-status");
        found.map(|what| format!("{cell:?}: {expected:?}, but {what} ({} {who:?} {cache_status})", reply.status))
    }
}

fn client(seawall: &Seawall, spoken: Spoken) -> Client {
    match spoken {
        Spoken::H1 => seawall.client(),
        Spoken::H2 => seawall.client().h2(),
        Spoken::Mirror => Client::plain(seawall.addr()),
    }
}

fn base(seawall: &Seawall, spoken: Spoken) -> String {
    if spoken == Spoken::Mirror { format!("http://{}", seawall.addr()) } else { HUB.to_owned() }
}

fn served(scene: &Scene, thing: Thing, how: How, reply: &Reply) -> Option<String> {
    let whole = scene.bytes(thing);
    let (status, body) = match how {
        How::Condition => (304, &[][..]),
        How::Head => (200, &[][..]),
        How::Get if thing == Thing::Range => (206, &whole[2..12]),
        How::Get => (200, &whole[..]),
    };
    let digest = scene.digest(thing);
    if reply.status != status {
        return Some(format!("{status} was to come: {}", text(reply)));
    }
    if reply.body.as_ref().ok().is_none_or(|bytes| bytes != body) {
        return Some(format!("not its bytes: {:?}", reply.body));
    }
    let said = (reply.header("docker-content-digest"), reply.header("etag"));
    // The CDN names no digest: what is not here has none either.
    let is_unnamed = how == How::Head && !thing.is_manifest() && !is_here(scene.state) && said == ("", "");
    if !is_unnamed && said != (&*digest, &*format!("\"{digest}\"")) {
        return Some(format!("not its digest: {:?}", reply.headers));
    }
    let length = if how == How::Head { whole.len() } else { body.len() };
    let told = reply.header("content-length");
    (how != How::Condition && told != length.to_string()).then(|| format!("a length of {told:?}"))
}

fn is_here(state: State) -> bool {
    !matches!(state, State::NotCached | State::InFlight)
}

fn fresh(reply: &Reply) -> Option<String> {
    let marked = !reply.header("warning").is_empty() || reply.header("cache-status").contains("detail=");
    marked.then(|| format!("marked stale: {}", reply.header("warning")))
}

fn stale(reply: &Reply) -> Option<String> {
    let marked = !reply.header("warning").is_empty() && reply.header("cache-status").contains("fwd=stale");
    (!marked).then(|| "not marked stale".to_owned())
}

fn refused(spoken: Spoken, reply: &Reply) -> Option<String> {
    let status = reply.status.as_u16();
    if ![401, 403].contains(&status) {
        return Some("it was not refused".to_owned());
    }
    let challenged = reply.headers.contains_key("www-authenticate");
    match spoken {
        // Its client could only answer with a credential that is for the mirror.
        Spoken::Mirror => (challenged || status != 403).then(|| "a mirror passed a challenge on".to_owned()),
        Spoken::H1 | Spoken::H2 => (!challenged).then(|| "upstream's challenge is missing".to_owned()),
    }
}

fn refused_again(who: Who, reply: &Reply) -> bool {
    who == Who::Nobody && reply.status == 401 && reply.headers.contains_key("www-authenticate")
}

fn failed(reply: &Reply) -> Option<String> {
    (!(502..=504).contains(&reply.status.as_u16())).then(|| format!("it did not fail: {}", text(reply)))
}

/// Anything of the content in an answer that has none of it.
fn leaked(scene: &Scene, thing: Thing, how: How, reply: &Reply) -> Option<String> {
    let Ok(body) = &reply.body else { return Some("it broke off".to_owned()) };
    let whole = scene.bytes(thing);
    let said = text(reply);
    let length = body.len().to_string();
    if said.contains(SECRET) || whole.chunks_exact(16).any(|part| body.windows(16).any(|said| said == part)) {
        return Some(format!("bytes of it came: {said}"));
    }
    for name in ["docker-content-digest", "etag", "content-range", "age", "last-modified"] {
        if reply.headers.contains_key(name) {
            return Some(format!("{name}: {}", reply.header(name)));
        }
    }
    let told = reply.header("content-length");
    if (how != How::Head && told != length) || told == whole.len().to_string() {
        return Some(format!("a length of {told:?}"));
    }
    let parts: Vec<&str> = reply.header("cache-status").split(';').map(str::trim).collect();
    (parts.contains(&"hit") || parts.contains(&"stored")).then(|| "it says that it is here".to_owned())
}

fn text(reply: &Reply) -> String {
    let bytes = reply.body.as_ref().map(|bytes| bytes.to_vec()).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
