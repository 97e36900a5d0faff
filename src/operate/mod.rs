//! What an operator sees of a cache and does to it: functions that return reports. The commands print
//! them, the admin listener answers with them.

pub mod history;
pub mod jobs;
mod kept;
pub mod status;
pub(crate) mod times;
pub mod token;
pub mod traffic;
pub mod verify;
