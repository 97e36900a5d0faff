//! Logins that were good, and what each was granted.

use std::collections::HashMap;

use data_encoding::HEXLOWER;

use super::hashes::{Account, account};
use crate::oci::name::RepositoryKey;
use crate::upstream::requester::LoginId;

/// One that was good.
#[derive(Default)]
pub(super) struct Good {
    /// Seconds since 1970.
    pub(super) proved: u64,
    /// Microseconds: when its latest yes came.
    pub(super) repositories: HashMap<RepositoryKey, u64>,
}

/// All that were good.
#[derive(Default)]
pub(super) struct Book {
    pub(super) good: HashMap<LoginId, Good>,
    /// Repositories of all.
    pub(super) repositories: usize,
}

impl Book {
    pub(super) fn oldest(&self) -> Option<LoginId> {
        self.good.iter().min_by_key(|(_, good)| good.proved).map(|(id, _)| *id)
    }

    pub(super) fn of(&self, whose: Account) -> Vec<LoginId> {
        self.good.keys().filter(|id| account(**id) == whose).copied().collect()
    }
}

/// The key of a record: of a login itself, or of what it was granted.
pub(super) fn key(id: LoginId, repository: Option<&RepositoryKey>) -> String {
    let name = HEXLOWER.encode(&id.0);
    repository.map_or_else(|| name.clone(), |repository| format!("{name} {repository}"))
}
