//! Errors, each with two messages: to the client in a sentence that says what to do, to the log
//! with its cause.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::oci::error::Code;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be answered as it is.
    Client,
    /// Something here is broken.
    Ours,
    /// Something between here and the registry is broken, or the registry refused.
    Upstream,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is malformed, or asks for what is not allowed here.
    Request,
    /// The request reached the wrong place: SNI, CONNECT host and Host do not agree (RFC 9110,
    /// 15.5.20).
    Misdirected,
    /// The request was sent by this very process: what it asked leads back here.
    Looped,
    /// The registry said 401 or 403.
    Refused,
    /// The registry said 404.
    Missing,
    /// The registry said 429.
    Limited,
    /// The registry does not take the request: 400, 405, 431 …
    Rejected,
    /// The registry said 5xx, or something that makes no sense.
    Broken,
    /// Upstream was unreachable: DNS, TCP, TLS.
    Unreachable,
    /// Upstream did not answer in time.
    Timeout,
    /// seawall may not dial where this leads.
    Forbidden,
    /// The bytes are not those of the digest.
    Corrupt,
    /// There is no room to keep it.
    Full,
    /// Others are served, and there is no place for this now.
    Busy,
    /// Something of seawall's own.
    Ours,
}

impl Kind {
    /// The log's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Request => "request",
            Kind::Misdirected => "misdirected",
            Kind::Looped => "loop",
            Kind::Refused => "refused",
            Kind::Missing => "missing",
            Kind::Limited => "rate-limited",
            Kind::Rejected => "rejected",
            Kind::Broken => "broken",
            Kind::Unreachable => "unreachable",
            Kind::Timeout => "timeout",
            Kind::Forbidden => "forbidden",
            Kind::Corrupt => "corrupt",
            Kind::Full => "full",
            Kind::Busy => "busy",
            Kind::Ours => "internal",
        }
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Kind::Request | Kind::Misdirected => Fault::Client,
            Kind::Full | Kind::Busy | Kind::Ours | Kind::Looped => Fault::Ours,
            _ => Fault::Upstream,
        }
    }

    /// Whether it is upstream's answer to who asked, which it would repeat; to another it may say
    /// something else.
    pub fn is_answer(self) -> bool {
        matches!(self, Kind::Refused | Kind::Missing | Kind::Limited | Kind::Rejected | Kind::Forbidden)
    }

    fn status(self) -> StatusCode {
        match self {
            Kind::Request => StatusCode::BAD_REQUEST,
            Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Kind::Looped => StatusCode::LOOP_DETECTED,
            Kind::Refused => StatusCode::FORBIDDEN,
            Kind::Missing => StatusCode::NOT_FOUND,
            Kind::Limited => StatusCode::TOO_MANY_REQUESTS,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Rejected | Kind::Broken | Kind::Unreachable | Kind::Forbidden | Kind::Corrupt => {
                StatusCode::BAD_GATEWAY
            }
            Kind::Full => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Ours => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(self) -> Code {
        match self {
            Kind::Request | Kind::Misdirected | Kind::Rejected => Code::Unsupported,
            Kind::Refused => Code::Denied,
            Kind::Missing => Code::NameUnknown,
            Kind::Limited => Code::TooManyRequests,
            Kind::Ours => Code::Unknown,
            _ => Code::Unavailable,
        }
    }
}

/// What a registry answered instead of what was asked for. It can be passed on as it is.
#[derive(Clone)]
pub struct Reply {
    /// The status of the response.
    pub status: StatusCode,
    /// Its fields, all of them.
    pub headers: HeaderMap,
    /// Its body, or the start of a long one.
    pub body: Bytes,
}

/// A failure. Clones share one: all who wait for a fill get the same.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    code: Code,
    status: StatusCode,
    message: String,
    reply: Option<Reply>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of most things.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `message` is for the client: what is wrong, and what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error::build(kind, message.into(), None, None)
    }

    /// A failure of ours or of the network, with its cause for the log.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::build(kind, message.into(), None, Some(source.into()))
    }

    /// A registry's answer that was not the one hoped for.
    pub fn replied(kind: Kind, message: impl Into<String>, reply: Reply) -> Error {
        Error::build(kind, message.into(), Some(reply), None)
    }

    /// The client's mistake, with the distribution-spec's code for it.
    pub fn request(code: Code, message: impl Into<String>) -> Error {
        let mut error = Error::build(Kind::Request, message.into(), None, None);
        if let Some(inner) = Arc::get_mut(&mut error.0) {
            inner.code = code;
            inner.status = match code {
                Code::NameUnknown | Code::ManifestUnknown | Code::BlobUnknown => StatusCode::NOT_FOUND,
                Code::Denied => StatusCode::FORBIDDEN,
                _ => inner.status,
            };
        }
        error
    }

    /// The same, with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.source = Some(source.into());
        }
        self
    }

    /// The same with another code in its JSON, for a registry's answer that has no words of its
    /// own.
    #[must_use]
    pub fn coded(mut self, code: Code) -> Error {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.code = code;
        }
        self
    }

    fn build(
        kind: Kind,
        message: String,
        reply: Option<Reply>,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let status = reply.as_ref().map_or(kind.status(), |r| r.status);
        Error(Arc::new(Inner { kind, code: kind.code(), status, message, reply, source }))
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The code of the JSON.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What brought it about.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }

    /// The registry's own words, if it was one that refused.
    pub fn reply(&self) -> Option<&Reply> {
        self.0.reply.as_ref()
    }
}

impl fmt::Display for Error {
    /// For the log: the message and all its causes. Never a header, a query or a body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self.0.message.clone(), self.cause()))
    }
}

/// `said`, then `cause` and what is below it, on one line. What the line has already is left out:
/// many errors print their cause as well as naming it.
pub fn chain(mut said: String, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    said
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_the_causes_and_the_client_does_not() {
        let error = Error::caused(Kind::Ours, "the cache cannot be read", std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "the cache cannot be read: disk on fire");
        assert_eq!(error.message(), "the cache cannot be read");
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("x cannot be resolved: {0}")]
        struct Resolving(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("connecting")]
        struct Connecting(#[source] Resolving);
        let error = Connecting(Resolving(std::io::Error::other("no such name")));
        let said = "connecting: x cannot be resolved: no such name";
        assert_eq!(Error::caused(Kind::Unreachable, "connecting", error).to_string(), said);
        let error = Connecting(Resolving(std::io::Error::other("no such name")));
        let message = "x cannot be resolved: no such name";
        assert_eq!(Error::caused(Kind::Unreachable, message, error).to_string(), format!("{message}: connecting"));
    }

    #[test]
    fn a_reply_keeps_its_status() {
        let reply = Reply { status: StatusCode::UNAUTHORIZED, headers: HeaderMap::new(), body: Bytes::new() };
        assert_eq!(Error::replied(Kind::Refused, "no", reply).status(), StatusCode::UNAUTHORIZED);
    }
}
