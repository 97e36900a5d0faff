//! The budgets of attempts to resume transfers, one for each registry: see policy/retry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::policy::retry::Pace;

/// Spreads the attempts of many transfers that one registry broke.
#[derive(Default)]
pub(super) struct RetryPacing(Mutex<HashMap<Arc<str>, Pace>>);

impl RetryPacing {
    /// Takes one attempt off the budget of a registry, and says how long it has to wait.
    pub(super) fn wait(&self, registry: &Arc<str>, now: SystemTime) -> Duration {
        self.0.lock().entry(registry.clone()).or_default().wait(now)
    }
}
