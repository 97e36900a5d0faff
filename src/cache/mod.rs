//! A pull: resolve, permission, content.
//!
//! ```text
//! get = resolve (tags only)   binding fresh and requester granted → it; else one HEAD, which is both an answer and a grant
//!     → permission            a grant that is fresh, else HEAD of the digest with the requester's own credential
//!     → content               held → open · on its way → follow it · neither → lead: a fill is spawned, and followed
//! ```
//!
//! From below: [`pushes`] knows which tags were pushed, [`tags`] what they name, `push` is one push
//! on its way; [`flight`] knows what is on its way, [`sweep`] makes room,
//! [`through`] does without the cache, [`reader`] reads a blob while it comes, `parts` holds all of
//! these, `word` is what upstream says of a digest, `admit` asks for permission, `fill` brings a blob (`open`, `pump`, `stream`, `coalesce`, what all share
//! of connections is in `lending`, what readers want in `wants`), `content` finds the bytes of a digest,
//! `resolve` the digest of a tag, `tagged` the manifest of a tag, `get` the answer to a pull.

mod admit;
mod asked;
mod beside;
mod bring;
pub mod chunk;
mod coalesce;
mod content;
mod describe;
mod fill;
pub mod flight;
mod found;
mod get;
mod heads;
pub mod images;
mod keep;
mod lending;
pub mod manifests;
mod negative;
mod open;
mod overlap;
mod parts;
mod progress;
mod pull;
mod pump;
mod push;
pub mod pushes;
pub mod reader;
mod resolve;
mod stream;
pub mod sweep;
mod tagged;
pub mod tags;
pub mod through;
mod told;
mod verify;
mod wants;
mod word;

pub use crate::policy::freshness::{Gone, Rule, Tags};
pub use found::{Content, Found, Stale};
pub use get::{Base, Cache, Fullness, Settings};
pub use progress::Coming;
pub use pull::{Method, Pull, Wanted};
pub use push::Push;
pub use verify::Pass;
