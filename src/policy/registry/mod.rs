//! The registries seawall knows, and where the content of one is had besides itself: `site` has
//! what is configured, `lookup` finds the registry of a host or a name, `chain` says who is asked
//! for what, in which order, and what each is believed.
//!
//! - Bytes are verified, so any source may give them to a requester with a grant.
//! - What a tag names is believed from the registry, and from sources with `tags`.
//! - A grant is believed from the registry, and from sources with `tags` and without an account of
//!   their own: what these answer, they answer to anonymous requests.

mod chain;
mod lookup;
mod site;

pub use chain::{Answer, Asked, Leg, Reach, below};
pub use lookup::Registries;
pub use site::{Account, Chain, Missing, Registry, Rewrite, Role, Site, Source, Tags};
