//! One test root, leaves for the fakes, and what a client needs to trust them (or to trust a proxy's own root).

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Which HTTP versions a side offers by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// No ALPN extension at all, as docker, containerd, podman and skopeo do: HTTP/1.1.
    None,
    H1,
    H2,
    /// h2 first, then http/1.1.
    Both,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Alpn::None => &[],
            Alpn::H1 => &[b"http/1.1"],
            Alpn::H2 => &[b"h2"],
            Alpn::Both => &[b"h2", b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// A root of its own; every fake of a test gets its leaves from the same one.
pub(crate) struct Pki {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "seawall test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).expect("a root");
        Pki { pem: root.pem(), der: root.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The root as PEM: what goes into `upstream.ca_file`.
    pub(crate) fn ca_pem(&self) -> String {
        self.pem.clone()
    }

    /// A server's TLS with a leaf for `name`, which may be an IP address.
    pub(crate) fn server(&self, name: &str, alpn: Alpn) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a host name");
        params.distinguished_name.push(DnType::CommonName, "a fake");
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), self.der.clone()], key)
            .expect("the key is the leaf's");
        config.alpn_protocols = alpn.protocols();
        Arc::new(config)
    }
}

/// A client's TLS that trusts the certificates in `ca_pem` and nothing else.
pub(crate) fn trusting(ca_pem: &str, alpn: Alpn, with_sni: Sni) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(cert.expect("PEM")).expect("a root");
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.protocols();
    config.enable_sni = with_sni == Sni::Sent;
    Arc::new(config)
}

/// Whether the client names the server in its hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sni {
    Sent,
    Absent,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Name a host is checked against.
pub(crate) fn server_name(host: &str) -> rustls::pki_types::ServerName<'static> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) => rustls::pki_types::ServerName::IpAddress(ip.into()),
        Err(_) => rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a host name"),
    }
}
