//! The tables, and what is read of them at start.

use std::time::{Duration, SystemTime};

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time of [`seconds`]; what no clock can show is 1970.
pub fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Everything that the tables said at start.
#[derive(Debug, Default)]
pub struct Records {
    /// JSON by `REGISTRY/REPOSITORY:TAG`.
    pub tags: Vec<(String, Vec<u8>)>,
    /// Microseconds since 1970 by `WHO REGISTRY/REPOSITORY`: when upstream last refused anonymous, or
    /// the operator's account.
    pub refusals: Vec<(String, u64)>,
    /// By the name of a registry: a digest of where it leads.
    pub registries: Vec<(String, String)>,
    /// JSON by name space: how it asks for credentials.
    pub challenges: Vec<(String, Vec<u8>)>,
    /// Microseconds since 1970 by what names a login (when it was proved), and by that and
    /// `REGISTRY/REPOSITORY` (when it was granted that).
    pub logins: Vec<(String, u64)>,
    /// JSON: the books of upstream's quota.
    pub quota: Vec<(String, Vec<u8>)>,
    /// JSON by span and position: what was counted in a minute or an hour.
    pub statistics: Vec<(String, Vec<u8>)>,
}

/// The tables by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// [`Records::tags`].
    Tags,
    /// [`Records::refusals`].
    Refusals,
    /// [`Records::registries`].
    Registries,
    /// [`Records::challenges`].
    Challenges,
    /// [`Records::logins`].
    Logins,
    /// [`Records::quota`].
    Quota,
    /// [`Records::statistics`].
    Statistics,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Tags => "tags",
            Table::Refusals => "refusals",
            Table::Registries => "registries",
            Table::Challenges => "challenges",
            Table::Logins => "logins",
            Table::Quota => "quota",
            Table::Statistics => "statistics",
        }
    }
}
