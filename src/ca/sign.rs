//! The key of a CA, the one signature it makes, and the certificate of a host that gets it.
//!
//! rcgen writes everything of a leaf but the issuer's name: its names hold one attribute of each
//! kind, and those of corporate CAs (`DC=corp, DC=example`, several `OU`) have more. RFC 5280
//! 4.1.2.4 and every verifier want the issuer's bytes to be the subject's of the CA, so they are
//! copied from there.

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::rand::SecureRandom as _;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize as _, Zeroizing};

use super::CaError;
use crate::http::origin::Host;

/// A private key that leaves memory when it is dropped and shows nothing.
pub(super) struct Key(KeyPair);

impl Key {
    /// A new P-256 key.
    pub(super) fn generate() -> Result<Key, rcgen::Error> {
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Key)
    }

    /// Reads PKCS#8, SEC1 or PKCS#1: P-256, P-384, P-521, Ed25519 or RSA. The error is what to tell
    /// the operator.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Key, &'static str> {
        const FORMATS: &str = "it holds no private key in PEM (PKCS#8, SEC1 or PKCS#1)";
        let der = Zeroizing::new(PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            match pem.windows(9).any(|w| w == b"ENCRYPTED") {
                true => "it is encrypted; write it without a pass phrase (`openssl pkey -in old.key -out ca.key`), mode 0600",
                false => FORMATS,
            }
        })?);
        KeyPair::try_from(&*der)
            .map(Key)
            .map_err(|_| "its kind is not P-256, P-384, P-521, Ed25519 or RSA, or it is damaged")
    }

    /// PKCS#8, as the file `ca.key` holds it.
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        let der = self.0.serialized_der();
        // Sized beforehand: a string that grows leaves its earlier copies in memory.
        let mut base64 = Zeroizing::new(String::with_capacity(data_encoding::BASE64.encode_len(der.len())));
        data_encoding::BASE64.encode_append(der, &mut base64);
        let mut pem = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / 64 + 64));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for start in (0..base64.len()).step_by(64) {
            pem.push_str(&base64[start..base64.len().min(start + 64)]);
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// PKCS#8, for a TLS library.
    pub(super) fn to_der(&self) -> Zeroizing<PrivateKeyDer<'static>> {
        Zeroizing::new(PrivateKeyDer::Pkcs8(self.0.serialize_der().into()))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// A key with the name it signs under.
#[derive(Debug)]
pub(super) struct Signer {
    key: Key,
    /// The subject of the CA's certificate, in DER.
    subject: Vec<u8>,
    /// For the authority key identifier.
    issuer: CertificateParams,
}

impl Signer {
    /// `subject` is DER, `key_id` the subject key identifier of the CA, if it has one.
    pub(super) fn new(key: Key, subject: &[u8], key_id: Option<&[u8]>) -> Signer {
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = DistinguishedName::new();
        if let Some(id) = key_id {
            issuer.key_identifier_method = KeyIdMethod::PreSpecified(id.to_vec());
        }
        Signer { key, subject: subject.to_vec(), issuer }
    }

    /// Signs a certificate for somebody's public key.
    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let draft = params.signed_by(public_key, &Issuer::from_params(&self.issuer, Unsigned(&self.key)))?;
        let (tbs, algorithm) = self.named(draft.der()).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let signature = self.key.sign(&tbs)?;
        let bits = tlv(BIT_STRING, &[&[0], &signature]);
        Ok(tlv(SEQUENCE, &[&tbs, algorithm, &bits]).into())
    }

    /// The part of a draft that is signed, with our name in it, and the algorithm's identifier (RFC
    /// 5280 4.1).
    fn named<'a>(&self, draft: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
        let certificate = content(element(draft)?.0)?;
        let (tbs, rest) = element(certificate)?;
        let (algorithm, _) = element(rest)?;
        let tbs = content(tbs)?;
        let mut at_issuer = tbs;
        for _ in ["version", "serialNumber", "signature"] {
            at_issuer = element(at_issuer)?.1;
        }
        let before = &tbs[..tbs.len() - at_issuer.len()];
        let (_, after) = element(at_issuer)?;
        Some((tlv(SEQUENCE, &[before, &self.subject, after]), algorithm))
    }
}

/// 127 random bits, positive (RFC 5280 4.1.2.2).
pub(super) fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // The top bit would make it negative; the one below keeps it 16 bytes long.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Signs the certificate of these hosts, with a key of its own.
pub(super) fn leaf(
    signer: &Signer,
    hosts: &[Host],
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<(CertificateDer<'static>, Key), CaError> {
    let mut params = CertificateParams::default();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(serial()?);
    // The name is in the SAN alone: no client reads it here, it may be longer than the 64 bytes a
    // common name has, and OpenSSL takes an address here for a DNS name when it checks name
    // constraints.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "seawall");
    let san = |host: &Host| match host {
        Host::Name(name) => Ok::<_, rcgen::Error>(SanType::DnsName(name.as_ref().try_into()?)),
        Host::Ip(ip) => Ok(SanType::IpAddress(*ip)),
    };
    params.subject_alt_names = hosts.iter().map(san).collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = Key::generate()?;
    Ok((signer.sign(&params, &key)?, key))
}

/// The public half alone: what it signs is a draft.
struct Unsigned<'a>(&'a Key);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(self.0)
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// How long the tag and length of the first DER element are, and its content (X.690 8.1.3, definite
/// form).
fn header(input: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*input.get(1)?);
    if first < 0x80 {
        return Some((2, first));
    }
    let bytes = first - 0x80;
    if !(1..=4).contains(&bytes) {
        return None;
    }
    let length = input.get(2..2 + bytes)?.iter().fold(0, |sum, b| (sum << 8) | usize::from(*b));
    Some((2 + bytes, length))
}

/// The first DER element, whole, and what follows it.
fn element(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, length) = header(input)?;
    input.split_at_checked(head.checked_add(length)?)
}

/// What is inside one DER element.
fn content(element: &[u8]) -> Option<&[u8]> {
    element.get(header(element)?.0..)
}

/// Writes one DER element.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let skip = bytes.iter().take_while(|b| **b == 0).count();
            out.push(0x80 | (bytes.len() - skip) as u8);
            out.extend_from_slice(&bytes[skip..]);
        }
    }
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn der_elements_read_back(tag: u8, body in proptest::collection::vec(any::<u8>(), 0..700), rest: [u8; 3]) {
            let mut bytes = tlv(tag, &[&body]);
            let length = bytes.len();
            bytes.extend_from_slice(&rest);
            let (first, after) = element(&bytes).unwrap();
            prop_assert_eq!((first.len(), after), (length, &rest[..]));
            prop_assert_eq!(content(first).unwrap(), &body[..]);
            prop_assert!(element(&bytes[..length - 1]).is_none());
        }

        #[test]
        fn no_bytes_break_the_reader(bytes: Vec<u8>) {
            let _ = element(&bytes).and_then(|(first, _)| content(first));
        }
    }

    #[test]
    fn keys_are_read_back_and_hidden() {
        let key = Key::generate().unwrap();
        let pem = key.to_pem();
        assert!(pem.lines().all(|line| line.len() <= 64), "RFC 7468 2");
        let again = Key::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(again.der_bytes(), key.der_bytes());
        assert_eq!(format!("{key:?}"), "Key(hidden)");
    }

    #[test]
    fn a_key_that_cannot_be_read_says_why() {
        let said = |pem: &str| Key::from_pem(pem.as_bytes()).unwrap_err();
        assert!(said("").contains("no private key"));
        assert!(
            said("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
                .contains("pass phrase")
        );
        assert!(said("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").contains("damaged"));
    }

    /// `DC=corp, DC=example`: two attributes of one kind, of which rcgen keeps one.
    fn active_directory_name() -> Vec<u8> {
        let component = |value: &str| {
            let oid = [0x06, 0x0a, 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19]; // RFC 4519 2.4
            tlv(0x31, &[&tlv(SEQUENCE, &[&oid, &tlv(0x16, &[value.as_bytes()])])])
        };
        tlv(SEQUENCE, &[&component("corp"), &component("example")])
    }

    #[test]
    fn a_ca_whose_name_rcgen_cannot_write_signs() {
        let name = active_directory_name();
        let key = Key::generate().unwrap();
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
        let mut params = CertificateParams::default();
        params.not_before = now.into();
        params.not_after = (now + std::time::Duration::from_secs(86_400)).into();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Self-signed under that name: the subject of rcgen's draft is replaced, and the whole
        // signed once more.
        let signer = Signer::new(Key::from_pem(key.to_pem().as_bytes()).unwrap(), &name, None);
        let draft = signer.sign(&params, &key).unwrap();
        let (tbs, rest) = element(content(&draft).unwrap()).unwrap();
        let mut parts = Vec::new();
        let mut left = content(tbs).unwrap();
        while !left.is_empty() {
            let (part, after) = element(left).unwrap();
            parts.push(part);
            left = after;
        }
        assert_eq!(parts[3], name, "the issuer");
        parts[5] = &name;
        let tbs = tlv(SEQUENCE, &parts);
        let signature = tlv(BIT_STRING, &[&[0], &key.sign(&tbs).unwrap()]);
        let certificate = tlv(SEQUENCE, &[&tbs, element(rest).unwrap().0, &signature]);

        let dir = tempfile::tempdir().unwrap();
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            data_encoding::BASE64.encode(&certificate)
        );
        crate::fs::create_new(&dir.path().join("ca.crt"), 0o644, pem.as_bytes()).unwrap();
        crate::fs::create_new(&dir.path().join("ca.key"), 0o600, key.to_pem().as_bytes()).unwrap();
        let permitted = vec![crate::ca::Permitted::Dns("docker.io".into())];
        let settings = crate::ca::Settings { dir: dir.path().into(), permitted, constrained: true, leaf_days: 30 };
        let root = crate::ca::Root::load_or_create(&settings, now).unwrap();
        assert_eq!(root.subject(), "DC=corp, DC=example");
    }
}
