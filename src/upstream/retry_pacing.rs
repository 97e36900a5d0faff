//! Attempts again, spread: see policy/retry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::client::Upstream;
use crate::policy::retry::Pace;

/// The budgets of all registries. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Paces(Arc<Mutex<HashMap<Arc<str>, Pace>>>);

impl Upstream {
    /// How long until one more transfer of a registry may be taken up. It counts as taken up.
    pub fn retry_pacing(&self, registry: &Arc<str>) -> Duration {
        self.0.paces.0.lock().entry(registry.clone()).or_default().wait(self.0.clock.now())
    }
}
