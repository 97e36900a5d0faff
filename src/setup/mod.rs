//! How a client is pointed at seawall: the files, in the client's own format, and the commands.
//!
//! 1. [`Client::plan`] says which files a client needs, what is to be run and restarted afterwards,
//!    and which traps it has: pure, from [`Facts`]. One file per client in `clients`.
//! 2. [`Plan::text`] prints it, for the command line and for `/setup/CLIENT`.
//! 3. `write` merges the files into what is below a root directory, says what it changes, and takes
//!    it back.

mod clients;
mod objection;
mod plan;
mod text;
pub mod write;

pub use clients::Client;
pub use plan::{Content, Facts, File, Mode, Plan, TrustStore, Unknown};
pub use text::note_item;
