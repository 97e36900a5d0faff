//! Pulls that upstream was asked for and has not answered yet: of the last ones, many at once take no more than there are.

use std::collections::HashMap;

use super::{Charged, Ledger};

/// Payers with such pulls, and how many.
#[derive(Default)]
pub(super) struct Pending(HashMap<Charged, u64>);

impl Pending {
    pub(super) fn of(&self, charged: &Charged) -> u64 {
        self.0.get(charged).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, charged: &Charged) {
        *self.0.entry(charged.clone()).or_default() += 1;
    }

    fn take(&mut self, charged: &Charged) {
        if let Some(pulls) = self.0.get_mut(charged) {
            *pulls -= 1;
            if *pulls == 0 {
                self.0.remove(charged);
            }
        }
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Spending {
    pub(super) ledger: Ledger,
    pub(super) charged: Charged,
}

impl Drop for Spending {
    fn drop(&mut self) {
        self.ledger.0.lock().pending.take(&self.charged);
    }
}
