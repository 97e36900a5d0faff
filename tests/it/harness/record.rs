//! What reached the fake: every request, before it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};

use http::request::Parts;
use http::{HeaderMap, Method, Version, header};

/// What a path asks of a registry, an auth host or a CDN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Ping,
    Manifest { repository: String, reference: String },
    Blob { repository: String, digest: String },
    StartUpload { repository: String },
    Upload { repository: String, id: String },
    Tags { repository: String },
    Referrers { repository: String, digest: String },
    Catalog,
    Token,
    Signed { digest: String },
    Other,
}

impl Ask {
    pub(crate) fn of(path: &str) -> Ask {
        // quay.io has it below its API.
        if ["/token", "/v2/auth"].contains(&path) {
            return Ask::Token;
        }
        if let Some(hex) = path.strip_prefix("/registry-v2/docker/registry/v2/blobs/") {
            let parts: Vec<&str> = hex.split('/').collect();
            return match parts[..] {
                [algorithm, _, hex, "data"] => Ask::Signed { digest: format!("{algorithm}:{hex}") },
                _ => Ask::Other,
            };
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Ask::Other };
        let parts: Vec<&str> = rest.split('/').collect();
        let name = |parts: &[&str]| parts.join("/");
        match parts[..] {
            [""] => Ask::Ping,
            ["_catalog"] => Ask::Catalog,
            [ref n @ .., "tags", "list"] => Ask::Tags { repository: name(n) },
            [ref n @ .., "blobs", "uploads", ""] => Ask::StartUpload { repository: name(n) },
            [ref n @ .., "blobs", "uploads", id] => Ask::Upload { repository: name(n), id: id.to_owned() },
            [ref n @ .., "manifests", r] => Ask::Manifest { repository: name(n), reference: r.to_owned() },
            [ref n @ .., "blobs", d] => Ask::Blob { repository: name(n), digest: d.to_owned() },
            [ref n @ .., "referrers", d] => Ask::Referrers { repository: name(n), digest: d.to_owned() },
            _ => Ask::Other,
        }
    }

    /// The word that `gets`, `heads` and `Fault::on` take.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Ask::Ping => "ping",
            Ask::Manifest { .. } => "manifests",
            Ask::Blob { .. } => "blobs",
            Ask::StartUpload { .. } | Ask::Upload { .. } => "uploads",
            Ask::Tags { .. } => "tags",
            Ask::Referrers { .. } => "referrers",
            Ask::Catalog => "catalog",
            Ask::Token => "token",
            Ask::Signed { .. } => "cdn",
            Ask::Other => "other",
        }
    }

    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Ask::Manifest { repository, .. }
            | Ask::Blob { repository, .. }
            | Ask::StartUpload { repository }
            | Ask::Upload { repository, .. }
            | Ask::Tags { repository }
            | Ask::Referrers { repository, .. } => Some(repository),
            _ => None,
        }
    }

    /// The digest of a blob or of a manifest asked by digest.
    pub(crate) fn digest(&self) -> Option<&str> {
        match self {
            Ask::Blob { digest, .. } | Ask::Signed { digest } | Ask::Referrers { digest, .. } => Some(digest),
            Ask::Manifest { reference, .. } if reference.contains(':') => Some(reference),
            _ => None,
        }
    }
}

/// One request as the fake saw it, and how its answer went so far.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The fake host whose port it came in on.
    pub(crate) host: String,
    /// What the client called it: `:authority` or `Host`.
    pub(crate) authority: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    /// Connections of this registry are numbered from 1.
    pub(crate) connection: u64,
    pub(crate) ask: Ask,
    pub(super) fate: Arc<Fate>,
}

/// What became of a request.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) status: AtomicU16,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) end: AtomicU8,
    pub(super) moment: AtomicUsize,
}

/// How the body of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// The client left, or a fault broke it off.
    Broken,
}

impl Fate {
    pub(super) fn ended(&self, how: End) {
        self.end.store(if how == End::Whole { 1 } else { 2 }, SeqCst);
    }
}

impl Seen {
    pub(super) fn new(host: &str, connection: u64, parts: &Parts) -> Seen {
        let named = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Seen {
            host: host.to_owned(),
            authority: parts.uri.authority().map(|a| a.as_str()).or(named).unwrap_or_default().to_owned(),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.clone(),
            version: parts.version,
            connection,
            ask: Ask::of(parts.uri.path()),
            fate: Arc::default(),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.ask.kind()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn range(&self) -> Option<&str> {
        self.header("range")
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// The status it was answered with; 0 while it waits, or was never answered.
    pub(crate) fn status(&self) -> u16 {
        self.fate.status.load(SeqCst)
    }

    /// The moment (`Registry::mark`) at which its answer was made.
    pub(crate) fn moment(&self) -> usize {
        self.fate.moment.load(SeqCst)
    }

    /// Bytes of the answer's body given to the connection so far.
    pub(crate) fn sent(&self) -> u64 {
        self.fate.sent.load(SeqCst)
    }

    /// Bytes of the request's body that have come so far (uploads).
    pub(crate) fn received(&self) -> u64 {
        self.fate.received.load(SeqCst)
    }

    /// None while the answer's body is still going out (and for answers without one).
    pub(crate) fn end(&self) -> Option<End> {
        match self.fate.end.load(SeqCst) {
            1 => Some(End::Whole),
            2 => Some(End::Broken),
            _ => None,
        }
    }

    /// Decoded values of a query parameter.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        params(self.query.as_deref()).into_iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// `GET registry-1.docker.io/v2/… 200`, for a test's message.
    pub(crate) fn line(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{} {}{}{query} {}", self.method, self.host, self.path, self.status())
    }
}

/// A query or form, decoded.
pub(crate) fn params(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let hex = std::str::from_utf8(&digits).unwrap_or("3f");
                out.push(u8::from_str_radix(hex, 16).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
