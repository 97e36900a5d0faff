//! What clients ask of seawall: one request, pulls, pushes, and what reached upstream for it.

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use crate::access::HUB;
use crate::harness::exchange::ClientError;
use crate::harness::image::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::harness::pull::Pulled;
use crate::harness::*;
use crate::model_books::wasted;
use crate::model_past::{Heard, Span};
use crate::model_steps::{Change, Outage, REPOS, Step, Thing, Which, Who};
use crate::model_stock::{Kind, STOCK, name};
use crate::model_world::World;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) who: Who,
    pub(crate) repo: u8,
    pub(crate) tag: u8,
    pub(crate) image: Which,
    pub(crate) thing: Thing,
    pub(crate) h2: bool,
    pub(crate) is_liar: bool,
}

impl Asked {
    pub(crate) fn place(self) -> String {
        if self.is_liar { format!("ghcr.io/{}", name(self.repo)) } else { name(self.repo) }
    }
}

/// What its path names.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    path: &'static str,
    pub(crate) reference: String,
    /// As what it is asked for.
    pub(crate) kind: Kind,
}

impl Wanted {
    fn new(kind: Kind, reference: String) -> Wanted {
        Wanted { path: kind.path(), reference, kind }
    }

    pub(crate) fn digest(&self) -> Option<&str> {
        self.reference.contains(':').then_some(&*self.reference)
    }
}

/// A request that can be sent.
#[derive(Clone)]
struct Letter {
    client: Client,
    method: Method,
    url: String,
    fields: Vec<(&'static str, String)>,
}

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) is_whole: bool,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What upstream gave for a pull: of its tag, and of the image.
fn cost(log: &[Seen], repo: u8, tag: u8, top: &str) -> usize {
    let image = STOCK.pulled(top);
    let of_it = |seen: &&Seen| match (seen.ask.repository(), seen.ask.digest()) {
        (Some(place), Some(digest)) => place == name(repo) && image.iter().any(|(_, part)| part == digest),
        (Some(place), None) => place == name(repo) && seen.path.ends_with(&format!("/manifests/{tag}")),
        _ => false,
    };
    log.iter().filter(of_it).filter(|seen| seen.status() == 200).count()
}

async fn send(letter: Letter) -> Result<Got, String> {
    let mut request = letter.client.request(letter.method, &letter.url);
    for (field, value) in &letter.fields {
        request = request.header(field, value);
    }
    let mut open = request.open().await.map_err(|error: ClientError| error.to_string())?;
    let mut body = Vec::new();
    let is_whole = loop {
        match open.piece().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Ok(Got { status: open.status, headers: open.headers.clone(), body, is_whole })
}

impl World {
    pub(crate) async fn serve(&mut self, step: Step) -> Result<(), String> {
        let (h2, is_liar) = (false, false);
        match step {
            Step::Pull { who, repo, tag, style } => self.pull(who, repo, tag, style).await,
            Step::Ask { who, repo, tag, image, thing, h2 } => {
                self.ask(Asked { who, repo, tag, image, thing, h2, is_liar }).await
            }
            Step::Liar { who, repo, tag, image, thing } => {
                self.ask(Asked { who, repo, tag, image, thing, h2, is_liar: true }).await
            }
            Step::Late { who, repo, tag, thing, change } => {
                self.late(Asked { who, repo, tag, image: None, thing, h2, is_liar }, change).await
            }
            Step::Put { who, repo, tag, image } => self.put(who, repo, tag, image).await,
            Step::Remove { who, repo, tag, digest } => self.remove(who, repo, tag, digest).await,
            _ => Ok(()),
        }
    }

    fn client(&self, h2: bool) -> Client {
        let client = self.seawall().client();
        let client = if h2 { client.h2() } else { client };
        client.at_time_of(&self.seawall().clock)
    }

    async fn pull(&mut self, who: Who, repo: u8, tag: u8, style: Style) -> Result<(), String> {
        let pull = Pull::new(&format!("docker.io/{}:{tag}", name(repo)), style);
        let pull = match who.user() {
            None => pull,
            Some(user) => pull.user(user, &format!("{user}s-password")),
        };
        let (from, must) = (self.now(), self.must_pull(who, repo, tag, style));
        let allowance = self.allowance(who, repo, tag);
        let here = self.here();
        let pulled: Result<Pulled, ClientError> = pull.run(&self.client(false)).await;
        let (now, log) = self.learn(from).await;
        if let (Ok(pulled), Who::Nobody) = (&pulled, who) {
            pulled.manifests.keys().for_each(|digest| self.books.given(&name(repo), digest));
        }
        let judged = self.judge_pull((who, repo, tag), must, &pulled, now);
        let judged = judged.and_then(|()| self.thrifty(&log, &here));
        let costs = pulled.as_ref().map_or(0, |pulled| cost(&log, repo, tag, &pulled.digest));
        let judged = judged.and_then(|()| match allowance {
            Some(allowed) if costs > allowed => Err(format!("{costs} questions for a pull that costs {allowed}")),
            _ => Ok(()),
        });
        judged.map_err(|wrong| self.with_log(&wrong, &name(repo), &log))
    }

    /// Nothing was asked of upstream in vain.
    fn thrifty(&self, log: &[Seen], here: &HashSet<String>) -> Result<(), String> {
        // Where no digest is named, one looks for oneself.
        match self.outage {
            Some(outage) if outage.is_nonsense() || outage == Outage::NoDigest => Ok(()),
            _ => wasted(log, |digest| here.contains(digest)),
        }
    }

    pub(crate) async fn ask(&mut self, asked: Asked) -> Result<(), String> {
        let wanted = self.wanted(asked);
        let letter = self.letter(asked, &wanted);
        let breaks = asked.thing == Thing::BrokenOff && self.outage.is_none();
        if breaks {
            let middle = STOCK.bytes(&wanted.reference).map_or(1, |bytes| bytes.len() as u64 / 2);
            self.registry.fault(Fault::on("bytes").cut_at(middle).times(1));
            let rest = |seen: &Seen| seen.range().is_some();
            self.registry.fault(Fault::on("blobs").when(rest).error(404, "BLOB_UNKNOWN"));
        }
        let from = self.now();
        let (must, free) = (self.must_answer(asked, &wanted), self.is_free(asked, &wanted));
        let here = self.here();
        let got = send(letter.clone()).await;
        let (now, log) = self.learn(from).await;
        if breaks {
            self.lay_faults();
        }
        let reads = asked.who == Who::Nobody && wanted.kind == Kind::Manifest && !asked.thing.is_head();
        if let (true, Ok(got)) = (reads && !asked.is_liar, &got)
            && got.status == 200
        {
            self.books.given(&asked.place(), got.header("docker-content-digest"));
        }
        let mut judged = self.judge_answer(asked, &wanted, must, &got, now);
        if asked.thing != Thing::BrokenOff {
            judged = judged.and_then(|()| self.thrifty(&log, &here));
        }
        // What anonymous is asked after the steps of others has nothing to do with this.
        let of_this = log.iter().filter(|seen| seen.method != Method::HEAD || seen.path.ends_with(&wanted.reference));
        judged = judged.and_then(|()| match (free, of_this.count()) {
            (true, 1..) => Err("something was asked of upstream for what is here and believed".to_owned()),
            _ => Ok(()),
        });
        judged.map_err(|wrong| self.with_log(&wrong, &asked.place(), &log))?;
        match got {
            Ok(got) if self.is_refused(asked, &wanted, &got, now) => self.compare(asked, &wanted, letter).await,
            _ => Ok(()),
        }
    }

    /// A refusal tells nothing of what is here: the same request for what is nowhere is answered the
    /// same. Each is sent twice, and the second ones compared: what has been asked is answered
    /// faster.
    async fn compare(&mut self, asked: Asked, wanted: &Wanted, letter: Letter) -> Result<(), String> {
        let nowhere = sha256(b"nowhere");
        let url = letter.url.replace(&wanted.reference, &nowhere);
        let twin = Letter { url, ..letter.clone() };
        let from = self.now();
        let _ = send(twin.clone()).await;
        let real = send(letter).await?;
        let none = send(twin).await?;
        let (_, log) = self.learn(from).await;
        let shape = |got: &Got| {
            let skipped = |name: &str| name == "date" || name.contains("ratelimit");
            let fields = got.headers.iter().filter(|(name, _)| !skipped(name.as_str()));
            let mut fields: Vec<String> = fields.map(|(name, value)| format!("{name}: {value:?}")).collect();
            fields.sort();
            let text = format!("{} {fields:?} {}", got.status, String::from_utf8_lossy(&got.body));
            text.replace(&wanted.reference, "D").replace(&nowhere, "D")
        };
        if shape(&real) == shape(&none) {
            return Ok(());
        }
        let wrong = format!("refused:\n    {}\n  what is nowhere:\n    {}", shape(&real), shape(&none));
        Err(self.with_log(&wrong, &asked.place(), &log))
    }

    async fn late(&mut self, asked: Asked, change: Change) -> Result<(), String> {
        if self.outage.is_some() {
            return self.ask(asked).await;
        }
        let wanted = self.wanted(asked);
        let gate = Gate::new();
        let contents = |seen: &Seen| ["manifests", "blobs"].contains(&seen.kind());
        self.registry.fault(Fault::on("*").when(contents).hold_answer(&gate).times(1));
        let from = self.now();
        let first = tokio::spawn(send(self.letter(asked, &wanted)));
        while gate.arrivals() == 0 && !first.is_finished() {
            tokio::task::yield_now().await;
        }
        self.change(asked.repo, asked.tag, change);
        let other = Asked { who: Who::Nobody, ..asked };
        let mut second = tokio::spawn(send(self.letter(other, &wanted)));
        // It may wait for the first.
        let early = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
        gate.open();
        let second = match early {
            Ok(got) => got,
            Err(_) => second.await,
        };
        let (first, second) = (first.await.expect("no panic"), second.expect("no panic"));
        self.lay_faults();
        let now = Span { from, to: self.now() };
        // Who was served first reads it first.
        let is_first = |got: &Got| got.status.is_success() && !was_here(got.header("cache-status"));
        if let (false, Some(digest)) = (asked.thing.is_head(), wanted.digest())
            && [&first, &second].into_iter().flatten().any(is_first)
        {
            self.read.insert((asked.place(), digest.to_owned()));
        }
        // Before what was refused meanwhile is known: whoever began may finish.
        let judged = self.judge_answer(asked, &wanted, None, &first, now);
        let judged = judged.and_then(|()| self.judge_answer(other, &wanted, None, &second, now));
        let (_, log) = self.learn(from).await;
        judged.map_err(|wrong| self.with_log(&wrong, &asked.place(), &log))
    }

    fn letter(&self, asked: Asked, wanted: &Wanted) -> Letter {
        let host = if asked.is_liar { "https://ghcr.io" } else { HUB };
        let url = format!("{host}/v2/{}/{}/{}", name(asked.repo), wanted.path, wanted.reference);
        let mut fields = Vec::new();
        if wanted.kind == Kind::Manifest {
            let accepted = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
            fields.extend(accepted.map(|accepted| ("accept", accepted.to_owned())));
        }
        if let Some(words) = self.tokens.get(&asked.who) {
            fields.push(("authorization", words.clone()));
        }
        match asked.thing {
            Thing::Range => fields.push(("range", "bytes=2-11".to_owned())),
            Thing::Beyond => fields.push(("range", "bytes=9999999-".to_owned())),
            Thing::Known => fields.push(("if-none-match", format!("\"{}\"", wanted.reference))),
            _ => {}
        }
        let method = if asked.thing.is_head() { Method::HEAD } else { Method::GET };
        Letter { client: self.client(asked.h2), method, url, fields }
    }

    /// The kind and the last part of a request's path.
    fn wanted(&self, asked: Asked) -> Wanted {
        let Asked { repo, tag, image, .. } = asked;
        let parts = self.parts(repo, tag, image);
        let other = || self.parts((repo + 1) % REPOS, tag, image).layer;
        match asked.thing {
            Thing::Tag | Thing::HeadTag => Wanted::new(Kind::Manifest, tag.to_string()),
            Thing::Manifest | Thing::HeadManifest => Wanted::new(Kind::Manifest, parts.top),
            Thing::Child => Wanted::new(Kind::Manifest, parts.child),
            Thing::Config => Wanted::new(Kind::Blob, parts.config),
            Thing::Base => Wanted::new(Kind::Blob, parts.base),
            Thing::Layer | Thing::Range | Thing::HeadLayer | Thing::Known | Thing::Beyond | Thing::BrokenOff => {
                Wanted::new(Kind::Blob, parts.layer)
            }
            Thing::Crossed => Wanted::new(Kind::Manifest, parts.layer),
            Thing::CrossedBlob => Wanted::new(Kind::Blob, parts.top),
            Thing::Foreign | Thing::HeadForeign => Wanted::new(Kind::Blob, other()),
            Thing::List => Wanted { path: "tags", reference: "list".to_owned(), kind: Kind::Blob },
        }
    }

    // What clients write.

    async fn put(&mut self, who: Who, repo: u8, tag: u8, image: u8) -> Result<(), String> {
        let image = image + crate::model_steps::IMAGES * self.owner(repo);
        let pushed = STOCK.image(repo, image);
        let (client, base, from) = (self.client(false), format!("{HUB}/v2/{}", name(repo)), self.now());
        let words = self.tokens.get(&who).cloned();
        let write = async |method: Method, url: String, kind: &str, body: bytes::Bytes| {
            let mut request = client.request(method, &url).header("content-type", kind).body(body);
            if let Some(words) = &words {
                request = request.header("authorization", words);
            }
            request.send().await.is_ok_and(|reply| reply.status.is_success())
        };
        let mut taken = Vec::new();
        let mut is_taken = true;
        for blob in pushed.blobs() {
            let url = format!("{base}/blobs/uploads/?digest={}", blob.digest());
            is_taken = is_taken && write(Method::POST, url, "application/octet-stream", blob.bytes()).await;
            taken.push(blob.digest());
        }
        for (media_type, bytes) in pushed.manifests() {
            let digest = sha256(&bytes);
            let reference = if digest == pushed.digest() { tag.to_string() } else { digest.clone() };
            // A refused push of a manifest is what this is about, too.
            is_taken &= write(Method::PUT, format!("{base}/manifests/{reference}"), media_type, bytes).await;
            taken.push(digest);
        }
        if is_taken {
            self.read.extend(taken.into_iter().map(|digest| (name(repo), digest)));
            self.is_pushed(repo, tag, image);
        }
        self.wrote(from, repo).await;
        Ok(())
    }

    async fn remove(&mut self, who: Who, repo: u8, tag: u8, digest: bool) -> Result<(), String> {
        let reference = if digest { self.parts(repo, tag, None).top } else { tag.to_string() };
        let (client, from) = (self.client(false), self.now());
        let url = format!("{HUB}/v2/{}/manifests/{reference}", name(repo));
        let mut request = client.request(Method::DELETE, &url);
        if let Some(words) = self.tokens.get(&who) {
            request = request.header("authorization", words);
        }
        let _ = request.send().await;
        self.wrote(from, repo).await;
        Ok(())
    }

    /// What upstream took ends what was before, from its answer on.
    async fn wrote(&mut self, from: std::time::SystemTime, repo: u8) {
        self.note();
        let (now, log) = self.learn(from).await;
        for seen in log.iter().filter(|seen| (200..300).contains(&seen.status())) {
            let record::Ask::Manifest { reference, .. } = &seen.ask else { continue };
            if ![Method::PUT, Method::DELETE].contains(&seen.method) {
                continue;
            }
            if !reference.contains(':') {
                self.past.push(&name(repo), reference, self.moment, now.to);
                self.books.is_pushed(&name(repo), reference);
            } else if seen.method == Method::DELETE {
                self.past.delete(&name(repo), reference, self.moment);
                self.books.forget(&name(repo), reference);
            }
        }
    }

    /// When all that a step began has ended: what reached upstream is taken in.
    async fn learn(&mut self, from: std::time::SystemTime) -> (Span, Vec<Seen>) {
        while self.seawall().metric("seawall_fills") > 0.0 {
            tokio::task::yield_now().await;
        }
        let now = Span { from, to: self.now() };
        let log = self.registry.requests();
        self.registry.reset_counts();
        // Those of before that were not answered yet, once more.
        let all = [&std::mem::take(&mut self.pending)[..], &log[..]].concat();
        self.pending = log.iter().filter(|seen| seen.status() == 0).cloned().collect();
        let foreign = self.tokens.get(&Who::Elsewhere).map_or("", String::as_str);
        let heard = Heard { at: now, outage: self.outage, settings: self.settings };
        self.past.read(&all, heard, self.issued, foreign);
        let past = &self.past;
        self.books.read(&all, heard, |moment, place, tag| past.tagged(moment, place, tag));
        let here = self.here();
        self.books.keep_words_of(|digest| here.contains(digest));
        (now, log)
    }

    fn with_log(&self, wrong: &str, place: &str, log: &[Seen]) -> String {
        let line = |seen: &Seen| {
            let shown = seen.authorization().map(|shown| shown.chars().take(40).collect::<String>());
            format!("    {} as {shown:?}, moment {}\n", seen.line(), seen.moment())
        };
        let lines: String = log.iter().map(line).collect();
        let past = self.past.told(place, self.now());
        format!("{wrong}\n  upstream saw:\n{lines}  it was, until moment {}:\n{past}", self.moment)
    }
}
