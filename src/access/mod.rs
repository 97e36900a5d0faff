//! Who may read what: evidence, logins, own tokens, who pays.
//!
//! [`Access::check`] answers whether a requester may read a digest in a repository, without asking
//! anybody; the rule is `policy/access`. What upstream says later is heard by the other methods
//! ([`heard`]). [`presence`] keeps what it said of digests, `persons` what it said to each requester,
//! `refusals` what ended the grants that are on disk, [`logins`] which logins were good before
//! upstream became unreachable. `stamps` puts all of it in order.

mod check;
pub mod configured;
pub mod heard;
mod inquiry;
mod known;
pub mod logins;
mod offline_login;
pub mod own_token;
mod payer;
mod persons;
pub mod presence;
mod refusals;
mod repositories;
pub mod secret;
mod stamps;

pub use check::{Access, Checked, Ended};
pub use heard::Ends;
pub use inquiry::{Given, Inquiry};
pub use known::Restored;
