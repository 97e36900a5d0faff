//! Who may read what: grants, presence, logins, own tokens, who pays.
//!
//! [`Access::check`] answers whether a requester may read a digest in a repository, without asking
//! anybody. What upstream says later is recorded by the other methods. Grants, presence and logins
//! are kept apart: [`grants`] knows who was granted which repository, [`presence`] which repository
//! has which digest, [`logins`] which logins were good before upstream became unreachable.

pub mod grants;
mod known;
pub mod logins;
mod offline_login;
pub mod own_token;
mod payer;
pub mod presence;
mod repositories;
pub mod secret;

mod check;

pub use check::{Access, Moment};
pub use known::Restored;
