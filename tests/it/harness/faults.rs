//! What a fake does wrong, and gates that hold it until the test says go on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::sync::watch;

use super::record::{Ask, Seen};

/// Holds answers until it is opened; it stays open then. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    waiting: Arc<watch::Sender<usize>>,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate { waiting: Arc::new(watch::Sender::new(0)), open: Arc::new(watch::Sender::new(false)) }
    }

    /// Returns when an answer has come to the gate; everything before it was given to the
    /// connection.
    pub(crate) async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// … when so many answers have.
    pub(crate) async fn reached_by(&self, answers: usize) {
        let mut waiting = self.waiting.subscribe();
        let come = waiting.wait_for(|n| *n >= answers);
        tokio::time::timeout(PATIENCE, come).await.expect("nothing came to the gate in time").expect("not dropped");
    }

    /// How many answers have come to it so far.
    pub(crate) fn arrivals(&self) -> usize {
        *self.waiting.borrow()
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(super) fn arrive(&self) {
        self.waiting.send_modify(|n| *n += 1);
    }

    pub(super) async fn opened(self) {
        let mut open = self.open.subscribe();
        // An error means that nobody can open it any more.
        let _ = open.wait_for(|open| *open).await;
    }
}

/// How long anything in a test may take before the test is called stuck. Not a pace: a hang must
/// end some time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(super) enum Effect {
    HoldHead(Gate),
    HoldAnswer(Gate),
    HoldBody { at: u64, gate: Gate },
    HangUp,
    Answer { status: u16, content_type: &'static str, body: Bytes },
    Redirect(String),
    LongLocation(usize),
    CutAt(u64),
    CutAfter(u64),
    Corrupt(u64),
    ClaimLength(i64),
    NoRange,
    Chunked,
    NoLength,
    NoDigest,
    Empty,
    Set(HeaderName, HeaderValue),
    ShiftRange(u64),
}

type Condition = dyn Fn(&Seen) -> bool + Send + Sync;

/// Something to go wrong with matching requests: always, or `times(n)`. All faults that match act
/// together.
#[derive(Clone)]
pub(crate) struct Fault {
    kind: String,
    host: Option<String>,
    method: Option<Method>,
    digest: Option<String>,
    path: Option<String>,
    when: Option<Arc<Condition>>,
    pub(super) left: Option<usize>,
    pub(super) effects: Vec<Effect>,
}

impl Fault {
    /// `kind`: `manifests`, `blobs` (the registry host), `cdn`, `bytes` (wherever blob bytes come
    /// from, GET only), `token`, `ping`, `tags`, `referrers`, `uploads`, `catalog`, `other`, or
    /// `*`.
    pub(crate) fn on(kind: &str) -> Fault {
        Fault {
            kind: kind.to_owned(),
            host: None,
            method: None,
            digest: None,
            path: None,
            when: None,
            left: None,
            effects: Vec::new(),
        }
    }

    // Which requests.

    pub(crate) fn host(mut self, host: &str) -> Fault {
        self.host = Some(host.to_owned());
        self
    }

    pub(crate) fn method(mut self, method: Method) -> Fault {
        self.method = Some(method);
        self
    }

    pub(crate) fn digest(mut self, digest: &str) -> Fault {
        self.digest = Some(digest.to_owned());
        self
    }

    pub(crate) fn path_contains(mut self, part: &str) -> Fault {
        self.path = Some(part.to_owned());
        self
    }

    pub(crate) fn when(mut self, when: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Fault {
        self.when = Some(Arc::new(when));
        self
    }

    /// Only the next `n` of them.
    pub(crate) fn times(mut self, n: usize) -> Fault {
        self.left = Some(n);
        self
    }

    // What happens. Byte positions count from the blob's start, whatever the range.

    fn with(mut self, effect: Effect) -> Fault {
        self.effects.push(effect);
        self
    }

    /// No status line until the gate opens.
    pub(crate) fn hold_head(self, gate: &Gate) -> Fault {
        self.with(Effect::HoldHead(gate.clone()))
    }

    /// The answer is decided, with all that it changes, and waits for the gate.
    pub(crate) fn hold_answer(self, gate: &Gate) -> Fault {
        self.with(Effect::HoldAnswer(gate.clone()))
    }

    /// Bytes before `at` are sent, the rest when the gate opens. `at` is below the blob's length:
    /// h1 asks for nothing after the last byte.
    pub(crate) fn hold_body(self, at: u64, gate: &Gate) -> Fault {
        self.with(Effect::HoldBody { at, gate: gate.clone() })
    }

    /// The connection ends (h2: the stream is reset) instead of an answer.
    pub(crate) fn hang_up(self) -> Fault {
        self.with(Effect::HangUp)
    }

    /// The connection ends (h2: reset) before the blob's byte `at`.
    pub(crate) fn cut_at(self, at: u64) -> Fault {
        self.with(Effect::CutAt(at))
    }

    /// … after `bytes` of this answer: resuming makes progress, then breaks again.
    pub(crate) fn cut_after(self, bytes: u64) -> Fault {
        self.with(Effect::CutAfter(bytes))
    }

    /// The blob's byte `at` is another one.
    pub(crate) fn corrupt(self, at: u64) -> Fault {
        self.with(Effect::Corrupt(at))
    }

    /// `Content-Length` is off by so much. Too small a one on h1: the body ends there, cleanly.
    pub(crate) fn claim_length(self, off_by: i64) -> Fault {
        self.with(Effect::ClaimLength(off_by))
    }

    pub(crate) fn status(self, status: u16, body: &str) -> Fault {
        self.answers(status, "text/plain", body.to_owned())
    }

    /// Any answer in place of the registry's own, without its fields. `""`: no `Content-Type`.
    pub(crate) fn answers(self, status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Fault {
        self.with(Effect::Answer { status, content_type, body: body.into() })
    }

    /// What a registry says to HEAD of a digest that it has, whether it has it or not.
    pub(crate) fn names(self, digest: &str, media_type: &'static str, length: u32) -> Fault {
        self.answers(200, media_type, "").claim_length(length.into()).set("docker-content-digest", digest)
    }

    /// The page of a gate in front of the registry.
    pub(crate) fn page(self) -> Fault {
        self.answers(200, "text/html; charset=utf-8", PAGE)
    }

    /// A registry's JSON error.
    pub(crate) fn error(self, status: u16, code: &str) -> Fault {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"the fake says so"}}]}}"#);
        self.answers(status, "application/json", body)
    }

    /// Docker Hub's 429 for a spent quota.
    pub(crate) fn pull_limit(self) -> Fault {
        self.answers(429, "application/json", PULL_LIMIT)
    }

    /// Docker Hub's other 429: text, with `Retry-After`.
    pub(crate) fn abuse_limit(self, retry_after: u32) -> Fault {
        self.status(429, "Too Many Requests (HAP429).\n").set("retry-after", &retry_after.to_string())
    }

    /// 307 to any URL.
    pub(crate) fn redirect(self, url: &str) -> Fault {
        self.with(Effect::Redirect(url.to_owned()))
    }

    /// A redirect's `Location` is this many bytes longer.
    pub(crate) fn long_location(self, bytes: usize) -> Fault {
        self.with(Effect::LongLocation(bytes))
    }

    /// Ranges are ignored: 200 and everything.
    pub(crate) fn no_range(self) -> Fault {
        self.with(Effect::NoRange)
    }

    /// A 206 whose `Content-Range` and bytes begin so much later than asked.
    pub(crate) fn shift_range(self, by: u64) -> Fault {
        self.with(Effect::ShiftRange(by))
    }

    /// No `Content-Length`: chunked on h1.
    pub(crate) fn chunked(self) -> Fault {
        self.with(Effect::Chunked)
    }

    /// No `Content-Length`, and on h1 no chunks either: the body ends with the connection.
    pub(crate) fn no_length(self) -> Fault {
        self.with(Effect::NoLength)
    }

    /// No `Docker-Content-Digest`, no `ETag`.
    pub(crate) fn no_digest(self) -> Fault {
        self.with(Effect::NoDigest)
    }

    pub(crate) fn media_type(self, media_type: &str) -> Fault {
        self.set("content-type", media_type)
    }

    /// 200 with nothing in it.
    pub(crate) fn empty(self) -> Fault {
        self.with(Effect::Empty)
    }

    /// Any header: `content-encoding: gzip` that is a lie, `set-cookie`, `cache-control`, …
    pub(crate) fn set(self, name: &str, value: &str) -> Fault {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.with(Effect::Set(name, HeaderValue::from_str(value).expect("a header value")))
    }

    pub(super) fn matches(&self, seen: &Seen, serves_bytes: bool) -> bool {
        let kind = match self.kind.as_str() {
            "*" => true,
            "bytes" => serves_bytes && seen.method == Method::GET,
            kind => seen.kind() == kind,
        };
        kind && self.host.as_ref().is_none_or(|host| *host == seen.host)
            && self.method.as_ref().is_none_or(|method| *method == seen.method)
            && self.digest.as_ref().is_none_or(|digest| seen.ask.digest() == Some(digest))
            && self.path.as_ref().is_none_or(|part| seen.path.contains(part.as_str()))
            && self.when.as_ref().is_none_or(|when| when(seen))
    }
}

/// What a gate says.
pub(crate) const PAGE: &str = "<!doctype html><html><title>Sign in</title><p>We will be back.</html>";

pub(super) const PULL_LIMIT: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;

/// The effects of every fault that matches, used up by one.
pub(super) fn take(faults: &mut Vec<Fault>, seen: &Seen, has_cdn: bool) -> Vec<Effect> {
    let serves_bytes = match seen.ask {
        Ask::Signed { .. } => true,
        Ask::Blob { .. } => !has_cdn,
        _ => false,
    };
    let mut effects = Vec::new();
    for fault in faults.iter_mut().filter(|fault| fault.matches(seen, serves_bytes)) {
        if let Some(left) = &mut fault.left {
            *left -= 1;
        }
        effects.extend(fault.effects.clone());
    }
    faults.retain(|fault| fault.left != Some(0));
    effects
}
