//! (stub: comes by merge from branch ca)

use std::path::PathBuf;

/// What the configuration says of the certificate authority.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where ca.crt and ca.key are.
    pub dir: PathBuf,
    /// What the root may sign for.
    pub permitted: Vec<Permitted>,
    /// Whether that is written into a root that is made here.
    pub constrained: bool,
    /// How long a leaf is good.
    pub leaf_days: u32,
}

/// A part of the name space that a root may sign for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Permitted {
    /// A name and all below it, without a leading dot.
    Dns(String),
    /// One address.
    Ip(std::net::IpAddr),
}
