//! Who may read what: evidence, logins, own tokens, who pays.

pub mod repositories;
