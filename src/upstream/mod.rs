//! Everything that is asked of registries.
//!
//! - [`describe`](Upstream::describe): HEAD, which no registry counts: what does this tag name, may this client read this digest?
//! - [`fetch`](Upstream::fetch): GET of a digest, redirects followed here.
//! - [`pass`](Upstream::pass): anything else, streamed untouched.
//!
//! [`client`] sends, [`requester`] says for whom, [`quota`] keeps the books and holds back what would be refused, [`auth`] keeps challenges and tokens of nobody, `account` what is known of the
//! operator's logins: [`source`] reads them, `prove` shows them, `pay` asks with them; [`breaker`] knows who does not answer.

mod account;
pub mod auth;
pub mod breaker;
pub mod client;
mod describe;
mod fetch;
mod pass;
mod pay;
mod probe;
mod program;
mod prove;
pub mod question;
pub mod quota;
pub mod request;
pub mod requester;
pub mod retry_pacing;
mod send;
pub mod source;
mod sources;

pub use client::Upstream;
pub use describe::{Description, in_time};
pub use fetch::Fetched;
pub use pay::is_bad_login;
pub use probe::Probed;
pub use question::What;
pub use request::{Activity, NO_REGISTRY, RequestBody};
pub use send::MAX_TOKEN_REPLY;
pub use sources::is_yes;
