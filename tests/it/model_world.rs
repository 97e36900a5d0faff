//! Plays the steps: a registry that does what they say, seawall before it, and clients whose
//! answers are judged.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;

use crate::access::HUB;
use crate::harness::exchange::{ClientError, Reply};
use crate::harness::image::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::harness::pull::Pulled;
use crate::harness::*;
use crate::model::{Access, IMAGES, Outage, REPOS, Settings, Step, TAGS, Thing, Which, Who};
use crate::model_books::{Books, Span, wasted};

/// In every layer that is one repository's own.
pub(crate) const SECRET: &str = "nobody else's business";
/// How long after upstream's return an answer may still say that it is away.
const GRACE: Duration = Duration::from_secs(6);
/// How long after a pull limit's end it may still be believed: it is doubted once a minute.
const WINDOW: Duration = Duration::from_secs(63);
const LIMIT: u64 = 1_000_000;

pub(crate) struct World {
    pki: Pki,
    pub(crate) registry: Registry,
    /// `None` only while it restarts.
    seawall: Option<Seawall>,
    pub(crate) settings: Settings,
    pub(crate) books: Books,
    pub(crate) outage: Option<Outage>,
    /// When the last one of them ended.
    recovered: Option<SystemTime>,
    unlimited: Option<SystemTime>,
    /// Upstream said 404 to who asked last: it let them in, and has nothing there.
    pub(crate) is_gone: bool,
    tokens: HashMap<Who, String>,
    /// By repository.
    images: Vec<Vec<Image>>,
    /// Which image a tag named last.
    last: HashMap<(u8, u8), u8>,
    access: Vec<Access>,
    pub(crate) contents: HashMap<String, Bytes>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) who: Who,
    pub(crate) repo: u8,
    pub(crate) tag: u8,
    pub(crate) image: Which,
    pub(crate) thing: Thing,
    pub(crate) h2: bool,
}

pub(crate) fn name(repo: u8) -> String {
    format!("acme/{}", ["app", "base", "lib"][usize::from(repo)])
}

fn image(repo: u8, n: u8) -> Image {
    let base = Blob::generated(7, 8 << 10);
    let own = |part: &str| {
        let line = format!("{SECRET}, image {n} of {}{part}; ", name(repo));
        Blob::new(line.repeat(40 + 200 * usize::from(n)))
    };
    if n + 1 < IMAGES {
        return Image::of(vec![base, own("")]);
    }
    let platform = |part: &str| Image::of(vec![base.clone(), own(part)]);
    Image::index(&[("linux/amd64", platform(", amd64")), ("linux/arm64", platform(", arm64"))])
}

impl World {
    /// All of them, to the first answer that is wrong.
    pub(crate) async fn play(settings: Settings, steps: &[Step]) -> Result<(), String> {
        let mut world = World::start(settings).await;
        for (n, step) in steps.iter().enumerate() {
            let taken = world.take(*step).await;
            taken.map_err(|wrong| format!("step {n}, {step:?}: {wrong}\n  outage {:?}", world.outage))?;
        }
        Ok(())
    }

    async fn start(settings: Settings) -> World {
        let pki = Pki::new();
        let registry = Registry::new("registry-1.docker.io").token_auth().quota(LIMIT);
        let registry = registry.user("alice", "alices-password").user("bob", "bobs-password");
        let registry = registry.start(&pki).await;
        let images: Vec<Vec<Image>> = (0..REPOS).map(|repo| (0..IMAGES).map(|n| image(repo, n)).collect()).collect();
        let contents = images.iter().flatten().flat_map(Image::manifests).map(|(_, bytes)| (sha256(&bytes), bytes));
        let blobs = images.iter().flatten().flat_map(Image::blobs).map(|blob| (blob.digest(), blob.bytes()));
        let contents = contents.chain(blobs).collect();
        let size = if settings.small { "max_size = \"100KiB\"\n" } else { "" };
        let gone = if settings.forget { "forget" } else { "serve" };
        let short = if settings.silence {
            "resolve_deadline = \"50ms\"\nidle_timeout = \"300ms\"\n"
        } else {
            "resolve_deadline = \"60s\"\n"
        };
        let toml = format!("[cache]\n{size}[cache.tags]\ngone = \"{gone}\"\n[upstream]\n{short}CA_FILE");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        let mut world = World {
            pki,
            registry,
            seawall: Some(seawall),
            settings,
            books: Books::default(),
            outage: None,
            recovered: None,
            unlimited: None,
            is_gone: false,
            tokens: HashMap::new(),
            images,
            last: HashMap::new(),
            access: vec![Access::Public; usize::from(REPOS)],
            contents,
        };
        for repo in 0..REPOS {
            for tag in 0..TAGS {
                world.push(repo, tag, tag);
            }
        }
        // While all is public: what a token opens is looked at again at every request.
        for (who, user, password) in [(Who::Alice, "alice", "alices-password"), (Who::Bob, "bob", "bobs-password")] {
            let scopes: String = (0..REPOS).map(|repo| format!("&scope=repository:{}:pull", name(repo))).collect();
            let url = format!("https://auth.docker.io/token?service=registry.docker.io{scopes}");
            let client = Client::resolving(world.registry.hosts(), &world.pki.ca_pem());
            let reply = client.get(&url).basic(user, password).send().await.unwrap();
            world.tokens.insert(who, format!("Bearer {}", reply.json()["token"].as_str().unwrap()));
        }
        world.turn(1, Access::Alice);
        world.registry.reset_counts();
        world
    }

    fn seawall(&self) -> &Seawall {
        self.seawall.as_ref().expect("it runs")
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.seawall().clock.now()
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Push { repo, tag, image } => self.push(repo, tag, image),
            Step::Delete { repo, tag } => self.delete(repo, tag),
            Step::Turn { repo, to } => self.turn(repo, to),
            Step::Break(outage) => {
                self.recover();
                self.break_off(outage);
            }
            Step::Recover => self.recover(),
            Step::Restart => {
                let seawall = self.seawall.take().expect("it runs");
                self.seawall = Some(seawall.restart(&self.pki).await);
                self.books.restarted();
            }
            Step::Pass(seconds) => self.seawall().clock.advance(Duration::from_secs(seconds)),
            Step::Pull { who, repo, tag, style } => return self.pull(who, repo, tag, style).await,
            Step::Ask { who, repo, tag, image, thing, h2 } => {
                return self.ask(Asked { who, repo, tag, image, thing, h2 }).await;
            }
        }
        Ok(())
    }

    // What upstream does.

    fn push(&mut self, repo: u8, tag: u8, image: u8) {
        let pushed = &self.images[usize::from(repo)][usize::from(image)];
        self.registry.add_image(&format!("{}:{tag}", name(repo)), pushed);
        self.last.insert((repo, tag), image);
    }

    /// The image, not what it shares with others. Another tag of it has nothing to name then.
    fn delete(&mut self, repo: u8, tag: u8) {
        let image = self.image(repo, tag, None).clone();
        self.registry.untag(&name(repo), &tag.to_string());
        let manifests = image.manifests().into_iter().map(|(_, bytes)| sha256(&bytes));
        let own = image.platforms().iter().flat_map(|one| [one.config().unwrap().digest(), one.layers()[1].digest()]);
        manifests.chain(own).for_each(|digest| self.registry.remove(&name(repo), &digest));
    }

    fn turn(&mut self, repo: u8, to: Access) {
        match to {
            Access::Public => self.registry.make_public(&name(repo)),
            Access::Alice => self.registry.make_private(&name(repo), &["alice"]),
            Access::Both => self.registry.make_private(&name(repo), &["alice", "bob"]),
        }
        self.access[usize::from(repo)] = to;
    }

    fn break_off(&mut self, outage: Outage) {
        let registry = &self.registry;
        match outage {
            Outage::Silent if self.settings.silence => registry.fault(Fault::on("*").hold_head(&Gate::new())),
            Outage::Down | Outage::Silent => registry.down(),
            Outage::HangUp => registry.fault(Fault::on("*").hang_up()),
            Outage::Broken => registry.fault(Fault::on("*").status(503, "maintenance")),
            Outage::NoTokens => registry.fault(Fault::on("token").status(503, "maintenance")),
            Outage::AbuseLimit => registry.fault(Fault::on("*").abuse_limit(5)),
            Outage::PullLimit => self.set_quota(0),
        }
        self.outage = Some(outage);
    }

    fn set_quota(&self, left: u64) {
        [ANONYMOUS_SOURCE, "alice", "bob"].iter().for_each(|source| self.registry.set_remaining(source, left));
    }

    /// What was asked and not answered never is: the connections go.
    fn recover(&mut self) {
        let Some(outage) = self.outage.take() else { return };
        self.registry.clear_faults();
        self.registry.down();
        self.registry.up();
        self.set_quota(LIMIT);
        if outage == Outage::PullLimit {
            self.unlimited = Some(self.now());
        }
        self.recovered = Some(self.now());
    }

    // What is true.

    pub(crate) fn image(&self, repo: u8, tag: u8, which: Which) -> &Image {
        let n = which.or(self.last.get(&(repo, tag)).copied()).unwrap_or(0);
        &self.images[usize::from(repo)][usize::from(n)]
    }

    pub(crate) fn image_of(&self, repo: u8, digest: &str) -> Option<&Image> {
        self.images[usize::from(repo)].iter().find(|image| image.digest() == digest)
    }

    /// What upstream would say that a tag names.
    pub(crate) fn named(&self, repo: u8, tag: u8) -> Option<String> {
        let digest = self.registry.tagged(&name(repo), &tag.to_string())?;
        self.has(repo, &digest).then_some(digest)
    }

    pub(crate) fn has(&self, repo: u8, digest: &str) -> bool {
        self.registry.stored(&name(repo), digest).is_some()
    }

    pub(crate) fn admits(&self, repo: u8, who: Who) -> bool {
        match self.access[usize::from(repo)] {
            Access::Public => true,
            Access::Alice => who == Who::Alice,
            Access::Both => who != Who::Nobody,
        }
    }

    pub(crate) fn is_here(&self, digest: &str) -> bool {
        self.seawall().data.join("blobs/sha256").join(&digest[7..]).exists()
    }

    /// An outage is over, but that may not be known yet.
    pub(crate) fn is_recovering(&self, now: Span) -> bool {
        is_within(self.recovered, GRACE, now)
    }

    /// A pull limit is over, but may stand still for who ran into it.
    pub(crate) fn is_limited(&self, now: Span) -> bool {
        is_within(self.unlimited, WINDOW, now)
    }

    // What clients ask.

    fn client(&self, h2: bool) -> Client {
        let client = self.seawall().client();
        let client = if h2 { client.h2() } else { client };
        client.at_time_of(&self.seawall().clock)
    }

    async fn pull(&mut self, who: Who, repo: u8, tag: u8, style: Style) -> Result<(), String> {
        let pull = Pull::new(&format!("docker.io/{}:{tag}", name(repo)), style);
        let pull = match who {
            Who::Nobody => pull,
            Who::Alice => pull.user("alice", "alices-password"),
            Who::Bob => pull.user("bob", "bobs-password"),
        };
        let (from, must) = (self.now(), self.must_pull(who, repo, tag));
        let here = self.here();
        let pulled: Result<Pulled, ClientError> = pull.run(&self.client(false)).await;
        let (now, log) = self.learn(from).await;
        let judged = self.judge_pull((who, repo, tag), must, &pulled, now);
        judged.and_then(|()| wasted(&log, |digest| here.contains(digest))).map_err(|wrong| with_log(&wrong, &log))
    }

    async fn ask(&mut self, asked: Asked) -> Result<(), String> {
        let client = self.client(asked.h2);
        let head = matches!(asked.thing, Thing::HeadTag | Thing::HeadManifest | Thing::HeadLayer);
        let (kind, reference) = self.wanted(asked);
        let url = format!("{HUB}/v2/{}/{kind}/{reference}", name(asked.repo));
        let mut request = client.request(if head { Method::HEAD } else { Method::GET }, &url);
        if kind == "manifests" {
            for accepted in [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] {
                request = request.header("accept", accepted);
            }
        }
        if let Some(words) = self.tokens.get(&asked.who) {
            request = request.header("authorization", words);
        }
        if asked.thing == Thing::Range {
            request = request.range("bytes=2-11");
        }
        let from = self.now();
        let (must, free) = (self.must_answer(asked, &reference, from), self.is_free(asked, &reference, from));
        let here = self.here();
        let reply: Result<Reply, ClientError> = request.send().await;
        let (now, log) = self.learn(from).await;
        let words = self.tokens.get(&asked.who).map(String::as_str);
        let judged = self.judge_answer(asked, &reference, words, must, &reply, now);
        let judged = judged.and_then(|()| wasted(&log, |digest| here.contains(digest)));
        let judged = judged.and_then(|()| match (free, log.len()) {
            (true, 1..) => Err("something was asked of upstream for what is here and believed".to_owned()),
            _ => Ok(()),
        });
        judged.map_err(|wrong| with_log(&wrong, &log))
    }

    /// The kind and the last part of a request's path.
    fn wanted(&self, asked: Asked) -> (&'static str, String) {
        let Asked { repo, tag, image, .. } = asked;
        let one = || self.image(repo, tag, image).platforms()[0].clone();
        match asked.thing {
            Thing::Tag | Thing::HeadTag => ("manifests", tag.to_string()),
            Thing::Manifest | Thing::HeadManifest => ("manifests", self.image(repo, tag, image).digest()),
            Thing::Config => ("blobs", one().config().unwrap().digest()),
            Thing::Base => ("blobs", one().layers()[0].digest()),
            Thing::Layer | Thing::Range | Thing::HeadLayer => ("blobs", one().layers()[1].digest()),
            Thing::Foreign => {
                let other = self.image((repo + 1) % REPOS, tag, image).platforms()[0].clone();
                ("blobs", other.layers()[1].digest())
            }
        }
    }

    fn here(&self) -> std::collections::HashSet<String> {
        self.contents.keys().filter(|digest| self.is_here(digest)).cloned().collect()
    }

    /// When all that a step began has ended: what reached upstream goes into the books.
    async fn learn(&mut self, from: SystemTime) -> (Span, Vec<Seen>) {
        while self.seawall().metric("seawall_fills") > 0.0 {
            tokio::task::yield_now().await;
        }
        let now = Span { from, to: self.now() };
        let log = self.registry.requests();
        self.registry.reset_counts();
        self.is_gone = log.iter().any(|seen| seen.status() == 404);
        let registry = &self.registry;
        self.books.read(&log, now, self.settings, |repository, tag| registry.tagged(repository, tag));
        let here = self.here();
        self.books.keep_words_of(|digest| here.contains(digest));
        (now, log)
    }
}

fn with_log(wrong: &str, log: &[Seen]) -> String {
    let lines: String = log.iter().map(|seen| format!("    {} as {:?}\n", seen.line(), seen.authorization())).collect();
    format!("{wrong}\n  upstream saw:\n{lines}")
}

fn is_within(since: Option<SystemTime>, limit: Duration, now: Span) -> bool {
    since.is_some_and(|at| now.from.duration_since(at).unwrap_or_default() < limit)
}
