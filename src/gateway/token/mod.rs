//! Requests for tokens: what is asked for, and what is answered while the token service cannot be.

pub(super) mod offline;
pub(super) mod request;
