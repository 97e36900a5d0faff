//! Pulls that upstream was asked for and has not answered yet: of the last ones, many at once take no more than there are.

use std::collections::HashMap;

use super::{Ledger, Payer};

/// Payers with such pulls, and how many.
#[derive(Default)]
pub(super) struct Pending(HashMap<Payer, u64>);

impl Pending {
    pub(super) fn of(&self, payer: &Payer) -> u64 {
        self.0.get(payer).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, payer: &Payer) {
        *self.0.entry(payer.clone()).or_default() += 1;
    }

    fn take(&mut self, payer: &Payer) {
        if let Some(pulls) = self.0.get_mut(payer) {
            *pulls -= 1;
            if *pulls == 0 {
                self.0.remove(payer);
            }
        }
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Spending {
    pub(super) ledger: Ledger,
    pub(super) payer: Payer,
}

impl Drop for Spending {
    fn drop(&mut self) {
        self.ledger.0.lock().pending.take(&self.payer);
    }
}
