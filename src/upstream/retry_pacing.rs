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

/// 0 to 1, of random bytes.
pub fn jitter() -> f64 {
    let mut byte = [0];
    // Without random bytes there is no jitter, which is no harm.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
