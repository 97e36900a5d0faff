//! The certificate that seawall presents to a registry that asks for one.

use std::fmt;

use zeroize::Zeroizing;

/// A certificate chain and its key. `Debug` shows neither.
#[derive(Clone)]
pub struct ClientCertificate {
    /// PEM, the client's own certificate first. The key may be in it, too.
    pub chain_pem: Zeroizing<Vec<u8>>,
    /// PEM, not encrypted: PKCS#8, PKCS#1 or SEC 1.
    pub key_pem: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}
