//! (stub) Which addresses nobody may make seawall dial.

/// A kind of network that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// 127/8, ::1.
    Loopback,
    /// 169.254/16, fe80::/10.
    LinkLocal,
    /// Where clouds answer with credentials.
    Metadata,
    /// RFC 1918, RFC 6598, fc00::/7.
    Private,
}
