use rcgen::{Issuer, KeyPair};
use tempfile::TempDir;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

const DAY: Duration = Duration::from_secs(86_400);

fn dns(name: &str) -> Permitted {
    Permitted::Dns(name.to_owned())
}

fn settings(dir: &TempDir, permitted: &[Permitted]) -> Settings {
    Settings { dir: dir.path().join("ca"), permitted: permitted.to_vec(), constrained: true, leaf_days: 30 }
}

/// The operator's own: parameters that are right, to be spoilt by a test.
fn own() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now() - DAY).into();
    params.not_after = (now() + 100 * DAY).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Example Corp CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn put(settings: &Settings, certificate: &str, key: &str) {
    fs::create_dir(&settings.dir).unwrap();
    fs::replace(&settings.dir.join("ca.crt"), 0o644, certificate.as_bytes()).unwrap();
    fs::replace(&settings.dir.join("ca.key"), 0o600, key.as_bytes()).unwrap();
}

fn load_own(params: &CertificateParams, permitted: &[Permitted]) -> Result<Root, CaError> {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, permitted);
    let key = KeyPair::generate().unwrap();
    put(&settings, &params.self_signed(&key).unwrap().pem(), &key.serialize_pem());
    Root::load_or_create(&settings, now())
}

#[test]
fn the_first_start_makes_a_root_and_the_second_loads_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[dns("registry-1.docker.io"), dns("docker.io"), dns("ghcr.io")]);
    assert!(Root::load(&settings, now()).unwrap().is_none());
    let made = Root::load_or_create(&settings, now()).unwrap();
    assert_eq!(fs::mode(&settings.dir).unwrap(), 0o700);
    assert_eq!(fs::mode(&settings.dir.join("ca.key")).unwrap(), 0o600);
    assert_eq!(fs::mode(&settings.dir.join("ca.crt")).unwrap(), 0o644);
    let loaded = Root::load_or_create(&settings, now() + DAY).unwrap();
    assert_eq!(made.fingerprint_sha256(), loaded.fingerprint_sha256());
    assert_eq!(made.fingerprint_sha256().len(), 32 * 3 - 1);
    assert_eq!(made.certificate_pem(), fs::read_to_string(&settings.dir.join("ca.crt")).unwrap());
    assert!(made.is_ours() && made.subject() == made.issuer());
    assert_eq!(made.constraints(), ["permitted docker.io", "permitted ghcr.io", "excluded 0.0.0.0/0", "excluded ::/0"]);
    assert_eq!(made.intermediates().count(), 0, "clients have the root");
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn a_made_root_is_what_strict_verifiers_want() {
    // RFC 5280 4.2.1, and what OpenSSL's X509_V_FLAG_X509_STRICT asks of a CA.
    let dir = tempfile::tempdir().unwrap();
    let root = Root::load_or_create(&settings(&dir, &[dns("docker.io")]), now()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&root.anchor().der).unwrap();
    let basic = certificate.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(0));
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert!(certificate.name_constraints().unwrap().unwrap().critical);
    assert!(certificate.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert!(
        certificate.iter_extensions().any(|e| matches!(e.parsed_extension(), ParsedExtension::SubjectKeyIdentifier(_)))
    );
    assert_eq!(certificate.validity().not_before.timestamp(), 1_800_000_000 - 86_400);
    assert_eq!(certificate.validity().not_after.timestamp(), 1_800_000_000 + 3652 * 86_400);
    assert_eq!(certificate.version(), x509_parser::x509::X509Version::V3);
}

#[test]
fn without_constraints_it_may_sign_for_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&dir, &[dns("docker.io")]);
    settings.constrained = false;
    let root = Root::load_or_create(&settings, now()).unwrap();
    assert!(root.constraints().is_empty() && root.permits(&"10.0.0.1".parse().unwrap()));
}

#[test]
fn half_a_root_is_not_made_whole_in_silence() {
    for gone in ["ca.crt", "ca.key"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, &[dns("docker.io")]);
        Root::load_or_create(&settings, now()).unwrap();
        fs::remove(&settings.dir.join(gone)).unwrap();
        let error = Root::load_or_create(&settings, now()).unwrap_err();
        assert!(matches!(&error, CaError::HalfMade { missing, .. } if missing.ends_with(gone)), "{error}");
    }
}

#[test]
fn a_registry_outside_the_constraints_is_named() {
    let dir = tempfile::tempdir().unwrap();
    Root::load_or_create(&settings(&dir, &[dns("docker.io")]), now()).unwrap();
    let wider = settings(&dir, &[dns("docker.io"), dns("registry.corp.example")]);
    let said = Root::load_or_create(&wider, now()).unwrap_err().to_string();
    assert!(said.contains("registry.corp.example") && said.contains("seawall ca renew"), "{said}");

    let renewed = Root::renew(&wider, now()).unwrap();
    assert!(renewed.permits(&"registry.corp.example".parse().unwrap()));
    assert_eq!(Root::load(&wider, now()).unwrap().unwrap().fingerprint_sha256(), renewed.fingerprint_sha256());
}

#[test]
fn renewal_keeps_the_old_root_beside_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[dns("docker.io")]);
    let old = Root::load_or_create(&settings, now()).unwrap();
    let old_key = fs::read(&settings.dir.join("ca.key")).unwrap();
    let later = now() + 11 * 365 * DAY;
    let said = Root::load_or_create(&settings, later).unwrap_err();
    assert!(matches!(said, CaError::Dates { .. }) && said.to_string().contains("seawall ca renew"), "{said}");

    let new = Root::renew(&settings, later).unwrap();
    assert_ne!(old.subject(), new.subject(), "two roots of one name would confuse stores");
    assert_eq!(fs::read_to_string(&settings.dir.join("ca.crt.old")).unwrap(), old.certificate_pem());
    assert_eq!(fs::read(&settings.dir.join("ca.key.old")).unwrap(), old_key);
    assert_eq!(fs::mode(&settings.dir.join("ca.key")).unwrap(), 0o600);
    assert_eq!(fs::mode(&settings.dir.join("ca.key.old")).unwrap(), 0o600);
}

#[test]
fn the_operators_root_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[dns("docker.io")]);
    let key = KeyPair::generate().unwrap();
    let pem = own().self_signed(&key).unwrap().pem();
    put(&settings, &pem, &key.serialize_pem());
    assert!(matches!(Root::renew(&settings, now()), Err(CaError::NotOurs(_))));
    assert_eq!(fs::read_to_string(&settings.dir.join("ca.crt")).unwrap(), pem);
}

#[test]
fn the_operators_root_works() {
    let root = load_own(&own(), &[dns("docker.io"), Permitted::Ip("10.0.0.1".parse().unwrap())]).unwrap();
    assert_eq!(root.subject(), "CN=Example Corp CA");
    assert!(!root.is_ours());
}

#[test]
fn what_is_wrong_with_the_operators_certificate_is_said() {
    type Spoil = fn(&mut CertificateParams);
    let spoilt = |spoil: Spoil| {
        let mut params = own();
        spoil(&mut params);
        load_own(&params, &[dns("docker.io")]).unwrap_err().to_string()
    };
    let cases: [(Spoil, &str); 8] = [
        (|p| p.is_ca = IsCa::NoCa, "is not a CA"),
        (|p| p.is_ca = IsCa::ExplicitNoCa, "is not a CA"),
        (|p| p.key_usages = vec![KeyUsagePurpose::CrlSign], "keyCertSign"),
        (|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning], "serverAuth"),
        (|p| p.not_after = (now() - Duration::from_secs(1)).into(), "has expired"),
        (|p| p.not_before = (now() + DAY).into(), "clock"),
        (|p| p.distinguished_name = rcgen::DistinguishedName::new(), "empty subject"),
        (|p| p.name_constraints = Some(constraints::written(&[dns("corp.example")])), "do not allow docker.io"),
    ];
    for (spoil, words) in cases {
        let said = spoilt(spoil);
        assert!(said.contains(words) && said.contains("ca.crt"), "{words}: {said}");
    }
}

#[test]
fn what_is_wrong_with_the_files_is_said_and_nothing_of_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[dns("docker.io")]);
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let pem = own().self_signed(&key).unwrap().pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjSECRET\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (certificate, key, words) in [
        (pem.as_str(), other.serialize_pem(), "is not the key of the first certificate"),
        (&pem, encrypted.to_owned(), "pass phrase"),
        (&pem, pem.clone(), "no private key"),
        (&pem, "SECRET".to_owned(), "no private key"),
        ("SECRET", key.serialize_pem(), "no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key.serialize_pem(), "no X.509 certificate"),
    ] {
        put(&settings, certificate, &key);
        let error = Root::load_or_create(&settings, now()).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(words) && !said.contains("SECRET"), "{words}: {said}");
    }
}

#[test]
fn an_intermediate_signs_and_is_sent_along() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[dns("docker.io")]);
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let corporate = own();
    let corporate_pem = corporate.self_signed(&root_key).unwrap().pem();
    let mut between = own();
    between.distinguished_name.push(DnType::CommonName, "Example Corp registries");
    between.use_authority_key_identifier_extension = true;
    let between_pem = between.signed_by(&key, &Issuer::from_params(&corporate, &root_key)).unwrap().pem();

    put(&settings, &format!("{between_pem}{corporate_pem}"), &key.serialize_pem());
    let root = Root::load_or_create(&settings, now()).unwrap();
    assert_eq!((root.subject(), root.issuer()), ("CN=Example Corp CA", "CN=Example Corp registries"));
    assert_eq!(root.certificate_pem(), corporate_pem, "this is what clients trust");
    assert_eq!(root.intermediates().count(), 1);

    put(&settings, &between_pem, &key.serialize_pem());
    assert_eq!(
        Root::load_or_create(&settings, now()).unwrap().intermediates().count(),
        1,
        "the root itself may be left out"
    );

    let stranger = own().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    put(&settings, &format!("{between_pem}{stranger}"), &key.serialize_pem());
    let said = Root::load_or_create(&settings, now()).unwrap_err().to_string();
    assert!(said.contains("is refused") && said.contains("ca.crt"), "{said}");
}

#[test]
fn keys_of_every_kind_sign() {
    let kinds =
        [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256];
    for kind in kinds {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, &[dns("docker.io")]);
        let key = KeyPair::generate_for(kind).unwrap();
        put(&settings, &own().self_signed(&key).unwrap().pem(), &key.serialize_pem());
        Root::load_or_create(&settings, now()).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
    }
}

/// What the user root makes or renews for a service is the service's to read.
#[test]
fn a_root_belongs_to_whom_its_directory_or_the_one_before_belonged() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[dns("docker.io")]);
    let other = std::process::Command::new("chown").arg("65532:65533").arg(dir.path()).status();
    if !other.is_ok_and(|status| status.success()) {
        return; // Only root can make another's files.
    }
    let service = fs::owner(dir.path()).unwrap();
    let whose = |name: &str| fs::owner(&settings.dir.join(name)).unwrap();
    Root::load_or_create(&settings, now()).unwrap();
    assert_eq!([fs::owner(&settings.dir).unwrap(), whose("ca.key"), whose("ca.crt")], [service; 3]);
    Root::renew(&settings, now()).unwrap();
    for name in ["ca.key", "ca.crt", "ca.key.old", "ca.crt.old"] {
        assert_eq!(whose(name), service, "{name}");
    }
    assert_eq!(fs::mode(&settings.dir.join("ca.key")).unwrap(), 0o600);
}
