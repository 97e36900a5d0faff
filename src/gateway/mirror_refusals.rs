//! Counts and reports what a mirror refused: its client says nothing of it and asks the registry
//! itself, past the cache and out of its own rate limit.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::telemetry::{Record, Telemetry};
use crate::dial::error::ADVICE;
use crate::error::{Error, Kind};
use crate::oci::error::Code;
use crate::policy::clients::Notice;
use crate::policy::repeats::Repeats;
use crate::upstream::NO_REGISTRY;

/// The registry's label of a request that is for no known registry.
const UNKNOWN: &str = "unknown";

/// What was refused of late, so that the same refusal is reported once in a while.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Repeats<(String, &'static str)>>);

/// The same refusal of the same registry's is logged once in this time.
const WINDOW: Duration = Duration::from_secs(60);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals(Mutex::new(Repeats::new(1, WINDOW)))
    }
}

impl Refusals {
    /// Counts a request that the mirror did not answer, and reports it if that is news.
    pub(crate) fn note(&self, telemetry: &Telemetry, client: SocketAddr, record: &Record, error: &Error) {
        let registry = if &*record.registry == NO_REGISTRY { UNKNOWN } else { &record.registry };
        let (code, status) = (error.code().as_str(), error.status().as_u16());
        telemetry.metrics.mirror_refused(registry, code);
        if error.kind() == Kind::Missing {
            // The registry answers the same, and counts no pull for it: signatures are asked for
            // wherever there might be one.
            return debug!(registry, code, status, %error, "the mirror has no such thing");
        }
        let Notice::Say { unsaid } = self.notice(registry, code, telemetry.clock.now()) else { return };
        let client = client.ip().to_canonical();
        warn!(
            registry, code, status, %client, repository = %record.subject, unsaid, %error,
            "the mirror refused a request: its client will say nothing of it and ask the registry itself, past this cache and out \
             of its own rate limit (`unsaid` more of this kind were refused since the last such line): {}",
            remedy(error)
        );
    }

    /// Counts a pull whose client showed no password or a wrong one, and reports it if that is
    /// news. Many send theirs only once asked.
    pub(crate) fn note_unauthorized(&self, telemetry: &Telemetry, client: SocketAddr) {
        let (registry, code) = (UNKNOWN, Code::Unauthorized.as_str());
        telemetry.metrics.mirror_refused(registry, code);
        let Notice::Say { unsaid } = self.notice(registry, code, telemetry.clock.now()) else { return };
        let client = client.ip().to_canonical();
        info!(
            registry, code, %client, unsaid,
            "the mirror asked for a password (clients.users_file): a client that sends none to mirrors, as dockerd, will say nothing of \
             it and ask the registry itself, past this cache: let it come by HTTPS_PROXY with its password"
        );
    }

    /// Reports that a request of seawall's own came back, if that is news.
    pub(crate) fn say_looped(&self, now: SystemTime, error: &Error) {
        if let Notice::Say { unsaid } = self.notice(NO_REGISTRY, Kind::Looped.as_str(), now) {
            warn!(%error, unsaid, "a request of seawall's own came back to it");
        }
    }

    fn notice(&self, registry: &str, code: &'static str, now: SystemTime) -> Notice {
        self.0.lock().notice((registry.to_owned(), code), now)
    }
}

/// What the operator can do about a refusal.
fn remedy(error: &Error) -> &'static str {
    match (error.kind(), error.code()) {
        (Kind::Request, Code::NameUnknown) => "add a [[registry]] for it",
        (Kind::Request, Code::Denied) => "see allow and deny of its [[registry]]",
        (Kind::Request, Code::Unsupported) => {
            "a mirror is for pulls: give this client the registry itself for the rest"
        }
        (Kind::Request, _) => "the client asks for what cannot be",
        (Kind::Misdirected, _) => "name it in tls.names, if it is a name of seawall's own",
        (Kind::Looped | Kind::Forbidden, _) => ADVICE,
        (Kind::Refused, _) => {
            "a mirror is given no credentials: share the repository (`share` of its [[registry]], with an account), or let the \
             clients that need it come by HTTPS_PROXY"
        }
        (Kind::Limited, _) => "give its [[registry]] an account with a higher limit (username, password_file)",
        (Kind::Unreachable | Kind::Timeout | Kind::Broken, _) => "`seawall check` tells how far it gets",
        (Kind::Busy, _) => "try again: seawall_transfers and seawall_transfers_waiting show how much is being fetched",
        (Kind::Full, _) => "make room below the data directory, or lower cache.max_size",
        (Kind::Missing | Kind::Rejected | Kind::Corrupt | Kind::Ours, _) => "the error says what it is",
    }
}
