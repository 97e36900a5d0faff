//! Requests for tokens, and what clients get while the token service cannot be reached.

pub(super) mod login_prompt;
pub(super) mod offline;
mod request;
pub(super) mod service;
