//! One push, or removal, of tags on its way to upstream.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::tags::Bindings;
use crate::clock::Clock;

/// A push of tags. Dropped without having been [taken](Push::taken) it has changed nothing.
pub struct Push {
    bindings: Arc<Bindings>,
    clock: Clock,
    tags: Vec<Arc<str>>,
    left: Mutex<Option<SystemTime>>,
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Push of {:?}", self.tags)
    }
}

impl Push {
    pub(super) fn new(bindings: Arc<Bindings>, clock: Clock, tags: Vec<Arc<str>>) -> Push {
        Push { bindings, clock, tags, left: Mutex::default() }
    }

    /// All of it has left for upstream, which may take it from now on.
    pub fn left(&self) {
        let now = self.clock.now();
        let mut left = self.left.lock();
        if left.is_none() && self.bindings.pushes.note_waiting(&self.tags, now) {
            *left = Some(now);
        }
    }

    /// Upstream took it.
    pub fn taken(&self) {
        let now = self.clock.now();
        self.tags.iter().for_each(|tag| self.bindings.overtake(tag, now));
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        if let Some(left) = self.left.lock().take() {
            self.bindings.pushes.end_waiting(&self.tags, left);
        }
    }
}
