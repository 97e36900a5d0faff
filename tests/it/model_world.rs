//! Plays the steps: a registry that does what they say, another that lies, and seawall before them.
//! What clients ask is in `model_asks`.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use http::Method;
use seawall::clock::Clock;

use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::model_books::Books;
use crate::model_past::{Past, Reader, Sought, Span};
use crate::model_steps::{Access, Change, IMAGES, Outage, REPOS, SHARED, Settings, Step, TAGS, Who};
use crate::model_stock::{Kind, Parts, STOCK, Stock, name};
use crate::nonsense::GZIP;

/// How long after upstream's return an answer may still say that it is away.
const GRACE: Duration = Duration::from_secs(6);
/// How long after a pull limit's end it may still be believed: it is doubted once a minute.
const WINDOW: Duration = Duration::from_secs(63);
const LIMIT: u64 = 1_000_000;
/// The liar says that everything is so long.
pub(crate) const LIE: usize = 77;
/// At a header as long upstream hangs up.
const LONG: usize = 5000;
/// What a gate sends, longer than anything there is.
const STREAM: usize = 400_000;
const PASSWORD: &str = "the-operators-own-password";

pub(crate) struct World {
    pki: Pki,
    pub(crate) registry: Registry,
    _liar: Registry,
    /// `None` only while it restarts.
    seawall: Option<Seawall>,
    clock: Clock,
    _password: tempfile::NamedTempFile,
    pub(crate) settings: Settings,
    pub(crate) books: Books,
    pub(crate) past: Past,
    pub(crate) moment: usize,
    /// The last token before this step.
    pub(crate) issued: u64,
    pub(crate) outage: Option<Outage>,
    /// When the last one of them ended.
    recovered: Option<SystemTime>,
    unlimited: Option<SystemTime>,
    pub(crate) tokens: HashMap<Who, String>,
    /// What a tag named last.
    last: HashMap<(u8, u8), Parts>,
    /// Whose each repository is: the first owner's, or the second's.
    owner: [u8; REPOS as usize],
    /// By place and digest: a client has had it there.
    pub(crate) read: HashSet<(String, String)>,
    /// Requests that upstream had not answered when they were read.
    pub(crate) pending: Vec<Seen>,
}

/// An answer that the model does not allow.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) step: usize,
    why: String,
}

impl Wrong {
    /// What is wrong, whoever asked for whatever.
    pub(crate) fn sort(&self) -> String {
        let line = self.why.lines().next().unwrap_or_default();
        let said = line.split_once("}: ").map_or(line, |(_step, said)| said);
        said.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '/')).collect()
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

fn toml(settings: Settings, password: &std::path::Path) -> String {
    let size = if settings.small { "max_size = \"400KiB\"\n" } else { "" };
    let gone = if settings.forget { "forget" } else { "serve" };
    let short = if settings.silence {
        "resolve_deadline = \"50ms\"\nidle_timeout = \"300ms\"\n"
    } else {
        "resolve_deadline = \"60s\"\n"
    };
    let shared = name(SHARED);
    let account = format!(
        "\n[[registry]]\nname = \"docker.io\"\nusername = \"ci\"\npassword_file = {password:?}\nshare = [{shared:?}]\n"
    );
    let account = if settings.account { &account } else { "" };
    format!("[cache]\n{size}[cache.tags]\ngone = \"{gone}\"\n[upstream]\n{short}CA_FILE{account}")
}

/// Every digest is there, it says to HEAD.
async fn liar(pki: &Pki) -> Registry {
    let liar = Registry::new("ghcr.io").start(pki).await;
    for digest in STOCK.digests() {
        for (kind, media_type) in [(Kind::Blob, "application/octet-stream"), (Kind::Manifest, OCI_MANIFEST)] {
            let lie = Fault::on(kind.path()).method(Method::HEAD).digest(digest);
            liar.fault(lie.answers(200, media_type, "x".repeat(LIE)).set("docker-content-digest", digest));
        }
    }
    liar
}

impl World {
    /// All of them, to the first answer that is wrong.
    pub(crate) async fn play(settings: Settings, steps: &[Step]) -> Result<(), Wrong> {
        let mut world = World::start(settings).await;
        for (n, step) in steps.iter().enumerate() {
            let taken = world.take(*step).await;
            let why = |wrong| format!("step {n}, {step:?}: {wrong}\n  outage {:?}", world.outage);
            taken.map_err(|wrong| Wrong { step: n, why: why(wrong) })?;
        }
        Ok(())
    }

    async fn start(settings: Settings) -> World {
        let pki = Pki::new();
        let registry = Registry::new("registry-1.docker.io").token_auth().quota(LIMIT);
        let registry = registry.user("alice", "alices-password").user("bob", "bobs-password").user("ci", PASSWORD);
        let registry = registry.start(&pki).await;
        if settings.hides {
            registry.hide();
        }
        let liar = liar(&pki).await;
        let password = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(password.path(), PASSWORD).expect("a file");
        let builder = Seawall::before(&registry).front(&liar).toml(&toml(settings, password.path()));
        let seawall = builder.start(&pki).await;
        let mut world = World {
            pki,
            registry,
            _liar: liar,
            clock: seawall.clock.clone(),
            seawall: Some(seawall),
            _password: password,
            settings,
            books: Books::default(),
            past: Past::default(),
            moment: 0,
            issued: 0,
            outage: None,
            recovered: None,
            unlimited: None,
            tokens: HashMap::new(),
            last: HashMap::new(),
            owner: [0; REPOS as usize],
            read: HashSet::new(),
            pending: Vec::new(),
        };
        world.lay_faults();
        for repo in 0..REPOS {
            for tag in 0..TAGS {
                world.push(repo, tag, tag);
            }
        }
        world.get_tokens().await;
        world.turn(1, Access::Alice);
        world.note();
        world.registry.reset_counts();
        world
    }

    /// While all is public: what a token opens is looked at again at every request.
    async fn get_tokens(&mut self) {
        let scopes = |actions: &str| -> String {
            (0..REPOS).map(|repo| format!("&scope=repository:{}:{actions}", name(repo))).collect()
        };
        let url = "https://auth.docker.io/token?service=registry.docker.io";
        let token = |reply: exchange::Reply| format!("Bearer {}", reply.json()["token"].as_str().expect("a token"));
        let direct = Client::resolving(self.registry.hosts(), &self.pki.ca_pem());
        for (who, user, password) in [(Who::Alice, "alice", "alices-password"), (Who::Bob, "bob", "bobs-password")] {
            let url = format!("{url}{}", scopes("pull,push"));
            let reply = direct.get(&url).basic(user, password).send().await.expect("a token");
            self.tokens.insert(who, token(reply));
        }
        let elsewhere = format!("{url}&scope=repository:acme/none:pull");
        let reply = self.seawall().client().get(&elsewhere).send().await.expect("a token");
        self.tokens.insert(Who::Elsewhere, token(reply));
        self.tokens.insert(Who::Stranger, "Bearer token-0-nobody.".to_owned());
        self.tokens.insert(Who::Long, format!("Bearer token-0-nobody.{}", "x".repeat(LONG)));
    }

    pub(crate) fn seawall(&self) -> &Seawall {
        self.seawall.as_ref().expect("it runs")
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        self.issued = self.registry.issued();
        match step {
            Step::Push { repo, tag, image } => self.push(repo, tag, image + IMAGES * self.owner[usize::from(repo)]),
            Step::Claim { repo, tag, image } => self.claim(repo, tag, image),
            Step::Delete { repo, tag } => self.delete(repo, tag),
            Step::Remake { repo, to, image } => self.remake(repo, to, image),
            Step::Turn { repo, to } => self.turn(repo, to),
            Step::Block { repo, tag, law } => self.block(repo, tag, law),
            Step::Break(outage) => {
                self.recover();
                self.break_off(outage);
            }
            Step::Recover => self.recover(),
            Step::Restart => {
                let seawall = self.seawall.take().expect("it runs");
                self.seawall = Some(seawall.restart(&self.pki).await);
            }
            Step::Pass(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Step::Pull { .. }
            | Step::Ask { .. }
            | Step::Late { .. }
            | Step::Liar { .. }
            | Step::Put { .. }
            | Step::Remove { .. } => return self.serve(step).await,
        }
        self.note();
        Ok(())
    }

    /// Upstream is otherwise from now on.
    pub(crate) fn note(&mut self) {
        let places = (0..REPOS).map(|repo| (name(repo), self.registry.held(&name(repo))));
        self.moment = self.past.note(self.clock.now(), places);
        self.registry.mark(self.moment);
    }

    // What upstream does.

    pub(crate) fn change(&mut self, repo: u8, tag: u8, change: Change) {
        match change {
            Change::Turn(to) => self.turn(repo, to),
            Change::Push(image) => self.push(repo, tag, image + IMAGES * self.owner[usize::from(repo)]),
            Change::Delete => self.delete(repo, tag),
        }
        self.note();
    }

    fn push(&mut self, repo: u8, tag: u8, image: u8) {
        self.registry.add_image(&format!("{}:{tag}", name(repo)), STOCK.image(repo, image));
        self.is_pushed(repo, tag, image);
        self.registry.unblock(&name(repo), &self.parts(repo, tag, None).top);
    }

    pub(crate) fn is_pushed(&mut self, repo: u8, tag: u8, image: u8) {
        self.last.insert((repo, tag), STOCK.parts(repo, image).clone());
    }

    fn claim(&mut self, repo: u8, tag: u8, image: u8) {
        let other = usize::from((repo + 1) % REPOS);
        let (bytes, parts) = STOCK.claim(repo, image + IMAGES * self.owner[other]);
        self.registry.add_manifest(&name(repo), &tag.to_string(), Stock::CLAIM, bytes);
        self.last.insert((repo, tag), parts);
    }

    /// The image, not what it shares with others. Another tag of it has nothing to name then.
    fn delete(&mut self, repo: u8, tag: u8) {
        let Parts { top, child, config, layer, .. } = self.parts(repo, tag, None);
        self.registry.untag(&name(repo), &tag.to_string());
        [top, child, config, layer].iter().for_each(|digest| self.registry.remove(&name(repo), digest));
    }

    fn remake(&mut self, repo: u8, to: Access, image: u8) {
        self.registry.wipe(&name(repo));
        let owner = &mut self.owner[usize::from(repo)];
        *owner = 1 - *owner;
        let image = image + IMAGES * *owner;
        self.turn(repo, to);
        self.push(repo, 0, image);
    }

    fn turn(&mut self, repo: u8, to: Access) {
        match to.readers() {
            None => self.registry.make_public(&name(repo)),
            Some(readers) => self.registry.make_private(&name(repo), readers),
        }
    }

    fn block(&mut self, repo: u8, tag: u8, law: bool) {
        if let Some(digest) = self.registry.tagged(&name(repo), &tag.to_string()) {
            self.registry.block(&name(repo), &digest, if law { 451 } else { 412 });
        }
    }

    fn break_off(&mut self, outage: Outage) {
        let registry = &self.registry;
        match outage {
            Outage::Silent if self.settings.silence => registry.fault(Fault::on("*").hold_head(&Gate::new())),
            Outage::Down | Outage::Silent => registry.down(),
            Outage::HangUp => registry.fault(Fault::on("*").hang_up()),
            Outage::Broken => registry.fault(Fault::on("*").status(503, "maintenance")),
            Outage::Page => registry.fault(Fault::on("*").page()),
            Outage::PageButTokens => registry.fault(Fault::on("*").when(|seen| seen.kind() != "token").page()),
            Outage::Json => registry.fault(Fault::on("*").answers(200, "application/json", r#"{"status":"ok"}"#)),
            Outage::Empty => registry.fault(Fault::on("*").answers(200, "", "")),
            Outage::NoContent => registry.fault(Fault::on("*").answers(204, "", "")),
            Outage::Stream => {
                let bytes = Fault::on("*").answers(200, "application/octet-stream", "x".repeat(STREAM));
                registry.fault(bytes.chunked());
            }
            Outage::Packed => {
                let contents = |seen: &Seen| ["manifests", "blobs"].contains(&seen.kind());
                let packed = Fault::on("*").when(contents).answers(200, "application/octet-stream", GZIP);
                registry.fault(packed.set("content-encoding", "gzip"));
            }
            Outage::NoTokens => registry.fault(Fault::on("token").status(503, "maintenance")),
            Outage::AbuseLimit => registry.fault(Fault::on("*").abuse_limit(5)),
            Outage::PullLimit => self.set_quota(0),
            Outage::NoDigest => registry.fault(Fault::on("*").no_digest()),
        }
        self.outage = Some(outage);
    }

    fn set_quota(&self, left: u64) {
        let sources = [ANONYMOUS_SOURCE, "alice", "bob", "ci"];
        sources.iter().for_each(|source| self.registry.set_remaining(source, left));
    }

    /// What was asked and not answered never is: the connections go.
    fn recover(&mut self) {
        let Some(outage) = self.outage.take() else { return };
        self.lay_faults();
        self.registry.down();
        self.registry.up();
        self.set_quota(LIMIT);
        if outage == Outage::PullLimit {
            self.unlimited = Some(self.now());
        }
        self.recovered = Some(self.now());
    }

    /// Those that are always there.
    pub(crate) fn lay_faults(&self) {
        self.registry.clear_faults();
        let is_long = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.len() > LONG);
        self.registry.fault(Fault::on("*").when(is_long).hang_up());
    }

    // What is true.

    pub(crate) fn parts(&self, repo: u8, tag: u8, image: crate::model_steps::Which) -> Parts {
        let last = || self.last.get(&(repo, tag)).cloned();
        image.map(|n| STOCK.parts(repo, n).clone()).or_else(last).unwrap_or_else(|| STOCK.parts(repo, 0).clone())
    }

    /// The first owner's, or the second's.
    pub(crate) fn owner(&self, repo: u8) -> u8 {
        self.owner[usize::from(repo)]
    }

    /// What upstream would say that a tag names.
    pub(crate) fn named(&self, repo: u8, tag: u8) -> Option<String> {
        let digest = self.registry.tagged(&name(repo), &tag.to_string())?;
        self.has(repo, Kind::Manifest, &digest).then_some(digest)
    }

    pub(crate) fn has(&self, repo: u8, kind: Kind, digest: &str) -> bool {
        self.past.has(self.moment, Sought { place: &name(repo), kind, digest })
    }

    /// It is there, and refused to everybody.
    pub(crate) fn is_blocked(&self, repo: u8, kind: Kind, digest: &str) -> bool {
        self.registry.stored(&name(repo), digest).is_some() && !self.has(repo, kind, digest)
    }

    pub(crate) fn admits(&self, repo: u8, reader: Reader) -> bool {
        self.past.admits(self.moment, &name(repo), reader)
    }

    pub(crate) fn is_here(&self, digest: &str) -> bool {
        self.seawall().data.join("blobs/sha256").join(&digest[7..]).exists()
    }

    pub(crate) fn here(&self) -> HashSet<String> {
        STOCK.digests().filter(|digest| self.is_here(digest)).cloned().collect()
    }

    pub(crate) fn span(&self) -> Span {
        Span::at(self.now())
    }

    pub(crate) fn is_total(&self) -> bool {
        self.outage.is_some_and(Outage::is_total)
    }

    /// An outage is over, but that may not be known yet.
    pub(crate) fn is_recovering(&self, now: Span) -> bool {
        is_within(self.recovered, GRACE, now)
    }

    /// A pull limit is over, but may stand still for who ran into it.
    pub(crate) fn is_limited(&self, now: Span) -> bool {
        is_within(self.unlimited, WINDOW, now)
    }

    /// Anonymous's own question may not be answered.
    pub(crate) fn is_away(&self, now: Span) -> bool {
        self.settings.silence || self.outage.is_some_and(Outage::is_away) || self.is_recovering(now)
    }
}

fn is_within(since: Option<SystemTime>, limit: Duration, now: Span) -> bool {
    since.is_some_and(|at| now.from.duration_since(at).unwrap_or_default() < limit)
}
