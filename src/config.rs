//! (stub: comes by merge from branch config)

/// Everything the configuration says, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data port.
    pub proxy: crate::proxy::Settings,
}
