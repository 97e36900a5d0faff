//! Who may read what: evidence, logins, own tokens, who pays.

pub mod grants;
pub mod logins;
pub mod own_token;
pub mod repositories;
pub mod secret;
