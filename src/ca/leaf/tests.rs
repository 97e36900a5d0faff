use std::time::Duration;

use rcgen::{CertificateParams, SanType};
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, ServerConnection, SupportedProtocolVersion};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::*;
use crate::ca::sign::Key;
use crate::ca::{Permitted, Settings};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

struct Fixture {
    _dir: tempfile::TempDir,
    root: Arc<Root>,
    leaves: Leaves,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        dir: dir.path().join("ca"),
        permitted: vec![Permitted::Dns("docker.io".into()), Permitted::Ip("192.0.2.7".parse().unwrap())],
        constrained: true,
        leaf_days: 30,
    };
    let root = Arc::new(Root::load_or_create(&settings, now()).unwrap());
    Fixture { _dir: dir, leaves: Leaves::new(Arc::clone(&root), 30).unwrap(), root }
}

/// The client's clock.
#[derive(Debug)]
struct At(SystemTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(SystemTime::UNIX_EPOCH).ok()?))
    }
}

fn client(root: &Root, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut anchors = RootCertStore::empty();
    anchors.add(CertificateDer::from_pem_slice(root.certificate_pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_details(Arc::new(provider::default_provider()), Arc::new(At(now())))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(anchors)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// A handshake in memory, with one byte from the server so that the client takes its tickets.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking());
    Ok(client)
}

#[test]
fn the_operator_chooses_the_protocol_of_those_that_are_offered() {
    let Fixture { _dir, root, leaves } = fixture();
    let leaves = leaves.preferring(Preferred::H1);
    let config = leaves.config_for(&host("docker.io"), now()).unwrap();
    for (offered, chosen) in [(&["h2", "http/1.1"][..], "http/1.1"), (&["h2"], "h2")] {
        let client = client(&root, &[&rustls::version::TLS13], offered);
        let connection = shake(&client, &config, "docker.io").unwrap();
        assert_eq!(connection.alpn_protocol(), Some(chosen.as_bytes()));
    }
}

#[test]
fn a_leaf_is_what_strict_verifiers_want() {
    let Fixture { root, .. } = &fixture();
    let (der, _, not_after) = root.mint(&[host("registry-1.docker.io")], 30, now()).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(leaf.issuer().to_string(), root.subject());
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names, [GeneralName::DNSName("registry-1.docker.io")]);
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags.count_ones() == 1);
    let purposes = leaf.extended_key_usage().unwrap().unwrap();
    assert!(purposes.value.server_auth && !purposes.value.client_auth && !purposes.value.any);
    assert_eq!(leaf.validity().not_before.timestamp(), 1_800_000_000 - 86_400);
    assert_eq!(leaf.validity().not_after.timestamp(), 1_800_000_000 + 30 * 86_400);
    assert_eq!(not_after, now() + 30 * DAY);
    let (mut subject_id, mut authority_id) = (None, None);
    for extension in leaf.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority_id = id.key_identifier.as_ref().map(|k| k.0.to_vec())
            }
            _ => {}
        }
    }
    let anchor = CertificateDer::from_pem_slice(root.certificate_pem().as_bytes()).unwrap();
    let (_, anchor) = x509_parser::parse_x509_certificate(&anchor).unwrap();
    let roots = anchor.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    assert!(subject_id.is_some() && authority_id.is_some() && authority_id == roots);

    let (again, _, _) = root.mint(&[host("registry-1.docker.io")], 30, now()).unwrap();
    let (_, again) = x509_parser::parse_x509_certificate(&again).unwrap();
    assert_ne!(leaf.raw_serial(), again.raw_serial());
    assert_ne!(leaf.public_key().raw, again.public_key().raw, "every leaf has its own key");
    assert_eq!(leaf.raw_serial().len(), 16);
}

#[test]
fn an_address_is_an_address_in_the_leaf() {
    let Fixture { root, .. } = &fixture();
    let (der, _, _) = root.mint(&[host("192.0.2.7")], 30, now()).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names, [GeneralName::IPAddress(&[192, 0, 2, 7])]);
}

#[test]
fn clients_accept_it_and_resume() {
    let Fixture { root, leaves, .. } = &fixture();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for name in ["registry-1.docker.io", "docker.io", "192.0.2.7"] {
            let client = client(root, &[version], &["http/1.1", "h2"]);
            let server = leaves.config_for(&host(name), now()).unwrap();
            let first = shake(&client, &server, name).unwrap();
            assert_eq!(first.alpn_protocol(), Some(&b"h2"[..]), "the server's order wins");
            assert_ne!(first.handshake_kind(), Some(HandshakeKind::Resumed));
            let second = shake(&client, &server, name).unwrap();
            assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed), "{name} {version:?}");
        }
    }
}

#[test]
fn a_session_outlives_its_leaf() {
    let Fixture { root, leaves, .. } = &fixture();
    let name = host("docker.io");
    let client = client(root, rustls::ALL_VERSIONS, &[]);
    let first = shake(&client, &leaves.config_for(&name, now()).unwrap(), "docker.io").unwrap();
    assert_eq!(first.alpn_protocol(), None, "the four main clients offer none");
    assert_eq!(first.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let renewed = leaves.config_for(&name, now() + 25 * DAY).unwrap();
    assert_eq!(shake(&client, &renewed, "docker.io").unwrap().handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn aes_128_is_chosen_where_it_is_cheap() {
    let Fixture { root, leaves, .. } = &fixture();
    let server = leaves.config_for(&host("docker.io"), now()).unwrap();
    let chosen = shake(&client(root, rustls::ALL_VERSIONS, &[]), &server, "docker.io").unwrap();
    let name = format!("{:?}", chosen.negotiated_cipher_suite().unwrap().suite());
    assert_eq!(name.contains("AES_128_GCM"), tls::aes_in_hardware(), "{name}");
}

#[test]
fn a_warm_host_keeps_its_leaf_until_two_thirds_of_its_life() {
    let Fixture { leaves, .. } = &fixture();
    let name = host("docker.io");
    let first = leaves.config_for(&name, now()).unwrap();
    let same = |later| Arc::ptr_eq(&first, &leaves.config_for(&name, later).unwrap());
    assert!(same(now()));
    assert!(same(now() + 19 * DAY));
    assert!(!same(now() + 20 * DAY), "the clock moved: a new leaf");
    let other = leaves.config_for(&host("auth.docker.io"), now()).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
}

#[test]
fn no_leaf_outlives_the_root_or_comes_after_it() {
    let Fixture { root, leaves, .. } = &fixture();
    let end = root.not_after();
    let (der, _, not_after) = root.mint(&[host("docker.io")], 30, end - 5 * DAY).unwrap();
    assert_eq!(not_after, end);
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(leaf.validity().not_after.timestamp() > 1_800_000_000);
    assert!(matches!(leaves.config_for(&host("docker.io"), end), Err(CaError::Dates { .. })));
}

#[test]
fn other_names_are_refused_here_and_by_clients() {
    let Fixture { root, leaves, .. } = &fixture();
    for name in ["example.com", "notdocker.io", "192.0.2.8", "2001:db8::1"] {
        assert!(matches!(leaves.config_for(&host(name), now()), Err(CaError::NotPermitted(_))), "{name}");
    }
    // A thief of the key asks no one: sign for example.com without the check above.
    for (san, name) in [
        (SanType::DnsName("example.com".try_into().unwrap()), "example.com"),
        (SanType::IpAddress("192.0.2.8".parse().unwrap()), "192.0.2.8"),
        (SanType::IpAddress("2001:db8::1".parse().unwrap()), "2001:db8::1"),
    ] {
        let key = Key::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_before = now().into();
        params.not_after = (now() + DAY).into();
        params.subject_alt_names = vec![san];
        let forged = root.signer().sign(&params, &key).unwrap();
        let signing = provider::sign::any_ecdsa_type(&key.to_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![forged], signing))));
        let refusal = shake(&client(root, rustls::ALL_VERSIONS, &[]), &Arc::new(server), name).unwrap_err();
        assert!(format!("{refusal:?}").contains("NameConstraintViolation"), "{name}: {refusal:?}");
    }
}

/// Let's Encrypt's certificates are renewed beneath a server that runs.
#[test]
fn the_operators_certificate_is_read_again() {
    use crate::ca::own::CertificateFiles;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.pem");
    let write = |from: SystemTime, days: u32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["seawall.corp".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (from.into(), (from + DAY * days).into());
        let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        crate::fs::replace(&file, 0o600, pem.as_bytes()).unwrap();
    };
    write(now() - DAY, 30);
    let names = vec![host("seawall.corp")];
    let certificate = CertificateFiles { certificate: file.clone(), key: None }.read(&names).unwrap();
    let own = OwnTls { preferred: Preferred::H2, names, certificate: Some(certificate) };
    let leaves = fixture().leaves.speaking_as(&own, now()).unwrap();
    let first = leaves.own_config(now()).unwrap();
    let is_first = || Arc::ptr_eq(&leaves.own_config(now()).unwrap(), &first);
    leaves.reload_own(now());
    assert!(is_first(), "nothing is new");
    write(now() - DAY * 9, 1);
    leaves.reload_own(now());
    assert!(is_first(), "it has expired");
    crate::fs::replace(&file, 0o600, b"half of").unwrap();
    leaves.reload_own(now());
    crate::fs::remove(&file).unwrap();
    leaves.reload_own(now());
    assert!(is_first(), "it is none");
    write(now() - DAY, 60);
    leaves.reload_own(now());
    assert!(!is_first());
}
