//! One test root, leaves for the fakes, and what a client needs to trust them (or to trust a
//! proxy's own root).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use seawall::clock::Clock;

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
        self.server_asking(name, alpn, rustls::ALL_VERSIONS, WebPkiClientVerifier::no_client_auth())
    }

    /// The same, that has `verifier` look at the client's certificate.
    pub(super) fn server_asking(
        &self,
        name: &str,
        alpn: Alpn,
        versions: &[&'static SupportedProtocolVersion],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Arc<ServerConfig> {
        let (leaf, key) = self.leaf(name, |_| {});
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone(), self.der.clone()], private(&key))
            .expect("the key is the leaf's");
        config.alpn_protocols = alpn.protocols();
        Arc::new(config)
    }

    /// A server's TLS whose leaf ended long ago.
    pub(crate) fn expired_server(&self, name: &str) -> Arc<ServerConfig> {
        let (leaf, key) = self.leaf(name, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("TLS 1.2 and 1.3").with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![leaf.der().clone()], private(&key)).expect("the key is the leaf's"))
    }

    fn leaf(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a host name");
        params.distinguished_name.push(DnType::CommonName, "a fake");
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        (params.signed_by(&key, &self.issuer).expect("a leaf"), key)
    }

    /// A client's certificate and its key, PEM.
    pub(crate) fn client_certificate(&self) -> (String, String) {
        let usage = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        };
        let (leaf, key) = self.leaf("seawall.corp.test", usage);
        (leaf.pem(), key.serialize_pem())
    }

    /// A server's certificate for these names and its key, PEM.
    pub(crate) fn server_certificate(&self, names: &[&str]) -> (String, String) {
        let sans = |params: &mut CertificateParams| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            params.subject_alt_names = CertificateParams::new(names).expect("host names").subject_alt_names;
        };
        let (leaf, key) = self.leaf("replaced.test", sans);
        (leaf.pem(), key.serialize_pem())
    }

    /// Asks clients for a certificate of this root, and counts those that show one.
    pub(super) fn asking(&self, mandatory: Mandatory) -> Arc<Counting> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a root");
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if mandatory == Mandatory::No { builder.allow_unauthenticated() } else { builder };
        Arc::new(Counting { inner: builder.build().expect("a root"), shown: AtomicUsize::new(0) })
    }
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mandatory {
    Yes,
    No,
}

/// Counts the clients that show a certificate.
#[derive(Debug)]
pub(super) struct Counting {
    inner: Arc<dyn ClientCertVerifier>,
    shown: AtomicUsize,
}

impl Counting {
    pub(super) fn shown(&self) -> usize {
        self.shown.load(SeqCst)
    }
}

impl ClientCertVerifier for Counting {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.shown.fetch_add(1, SeqCst);
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
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

/// A clock that rustls reads.
#[derive(Debug)]
pub(super) struct TimeOf(pub(super) Clock);

impl TimeProvider for TimeOf {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.now().duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
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
