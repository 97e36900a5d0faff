//! The request to log in that answers a failed pull, where a login could have served it.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::cache::Cache;
use crate::error::{Error, Kind, Reply};
use crate::gateway::challenges::Challenges;
use crate::gateway::pulls::Reading;
use crate::gateway::request::Presented;
use crate::upstream::limit::is_for_want_of_pulls;
use crate::upstream::requester::{Credential, Requester};

/// A pull that may fail, and what its client presented.
pub(crate) struct Attempt {
    pub(crate) reading: Reading,
    pub(crate) presented: Presented,
}

/// Asks clients to log in.
pub(crate) struct LoginPrompt {
    pub(crate) cache: Cache,
    pub(crate) challenges: Challenges,
}

impl LoginPrompt {
    /// Whether a failed pull may end in a request to log in.
    pub(crate) fn is_possible(&self, presented: Presented) -> bool {
        presented == Presented::Nothing || self.cache.access().logins().is_on()
    }

    /// The error that the client of a failed pull gets: a request to log in, as upstream would have
    /// sent it, if upstream is unreachable and the client's login may be remembered, or if the
    /// pulls of anonymous clients are spent. It is the same for every repository, whether it exists
    /// or not.
    pub(crate) fn instead_of(&self, error: Error, attempt: &Attempt) -> Error {
        let Attempt { reading: Reading { site, repository, requester }, presented } = attempt;
        let is_refused = error.reply().is_some_and(|reply| reply.status == StatusCode::UNAUTHORIZED);
        if is_refused && error.kind() == Kind::Refused {
            self.cache.access().login_refused(site, requester);
        }
        // 429: the pulls of anonymous clients are spent, those of a login need not be. A client
        // that presents nothing may have a login: containerd waits to be asked for it, and what is
        // public is asked for anonymously until then.
        let may_pay = is_for_want_of_pulls(&error) && *presented == Presented::Nothing;
        let is_unreachable = matches!(error.kind(), Kind::Unreachable | Kind::Timeout | Kind::Broken | Kind::Limited);
        let login_could_serve =
            is_unreachable && may_log_in(requester) && !self.cache.access().is_public(&site.key(repository));
        if !may_pay && !login_could_serve {
            return error;
        }
        let may_be_known = may_pay || self.cache.access().logins().knows_some(&site.namespace);
        let headers = match may_be_known {
            true => self.challenges.for_repository(site, repository),
            false => HeaderMap::new(),
        };
        if headers.is_empty() {
            return error;
        }
        let reply = Reply { status: StatusCode::UNAUTHORIZED, headers, body: bytes::Bytes::new() };
        Error::replied(Kind::Refused, format!("authentication required ({})", error.message()), reply)
    }
}

/// Whether the client could still show a login.
fn may_log_in(requester: &Requester) -> bool {
    let bearer = |value: &HeaderValue| value.as_bytes().get(..7).is_some_and(|b| b.eq_ignore_ascii_case(b"bearer "));
    match requester.credential {
        Credential::Anonymous => true,
        // A token may have expired; a login that is sent itself was looked up already.
        Credential::Known(_) => requester.authorization.as_ref().is_some_and(bearer),
        Credential::Account | Credential::Remembered(_) => false,
    }
}
