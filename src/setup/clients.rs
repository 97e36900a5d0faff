//! One file per client.
