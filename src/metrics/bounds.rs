//! How full is what all clients share (docs/security.md, "Bounds").

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is taken of something that has a bound. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Level(Gauge<u64, AtomicU64>);

impl Level {
    /// More is taken.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// Some is given back.
    pub fn sub(&self, count: u64) {
        self.0.dec_by(count);
    }

    /// How much is taken.
    pub fn read(&self) -> u64 {
        self.0.get()
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Bytes of answers that were given to connections and are not written.
    pub unwritten: Level,
    /// Bytes that fills have read and not written yet.
    pub buffered: Level,
    /// Requests that are being answered.
    pub answers: Level,
    /// Those that wait for a place.
    pub answers_waiting: Level,
    /// Passwords that are being checked.
    pub passwords: Level,
    /// Those that wait for a core.
    pub passwords_waiting: Level,
    /// Bodies that come from upstream.
    pub transfers: Level,
    /// Those that wait for a place.
    pub transfers_waiting: Level,
    /// Connections that were added for blobs that come already.
    pub added: Level,
    /// Requests to hosts that are no registries.
    pub forwards: Level,
    /// Those that wait for a place.
    pub forwards_waiting: Level,
    /// Short questions that are being asked.
    pub questions: Level,
    /// Those that wait for a place.
    pub questions_waiting: Level,
}

impl Bounds {
    pub(super) fn new(r: &mut Registry) -> Bounds {
        let mut level = |name: &str, help: &str| {
            let level = Level::default();
            r.register(name, help, level.0.clone());
            level
        };
        Bounds {
            unwritten: level("unwritten_bytes", "Bytes of answers given to connections and not written yet"),
            buffered: level("buffered_bytes", "Bytes that fills have read from upstream and not written yet"),
            answers: level("answers", "Requests of clients that are being answered now"),
            answers_waiting: level("answers_waiting", "Requests that wait for a place among those"),
            passwords: level("passwords", "Passwords that are being checked now"),
            passwords_waiting: level("passwords_waiting", "Passwords that wait for a core"),
            transfers: level("transfers", "Bodies that come from upstream now"),
            transfers_waiting: level("transfers_waiting", "Fetches that wait for a place among the transfers"),
            added: level("added", "Connections that were added for blobs that come already"),
            forwards: level("forwards", "Requests to hosts that are no registries, until they are answered"),
            forwards_waiting: level("forwards_waiting", "Those that wait for a place"),
            questions: level("questions", "Short questions that upstream is asked now"),
            questions_waiting: level("questions_waiting", "Questions that wait for a place"),
        }
    }
}
