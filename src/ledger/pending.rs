//! Pulls that upstream was asked for and has not answered yet: of the last ones, many at once take
//! no more than there are.

use std::collections::HashMap;

use super::account::QuotaOwner;

/// Owners of quotas with such pulls, and how many.
#[derive(Default)]
pub(super) struct Pending(HashMap<QuotaOwner, u64>);

impl Pending {
    pub(super) fn of(&self, owner: &QuotaOwner) -> u64 {
        self.0.get(owner).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, owner: &QuotaOwner) {
        *self.0.entry(owner.clone()).or_default() += 1;
    }

    pub(super) fn take(&mut self, owner: &QuotaOwner) {
        if let Some(pulls) = self.0.get_mut(owner) {
            *pulls -= 1;
            if *pulls == 0 {
                self.0.remove(owner);
            }
        }
    }
}
