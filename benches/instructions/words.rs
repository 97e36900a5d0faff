//! The cases that need no connection. Each is made ready, and then done round by round.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use seawall::ca::{Leaves, Permitted, Root, Settings};
use seawall::cache::manifests::Manifests;
use seawall::oci::digest::{Algorithm, Digest};
use seawall::oci::media_type::Accept;
use seawall::oci::route::route;
use seawall::server::sniff::{HelloReader, sniff};

/// What containerd sends.
pub(crate) const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

pub(crate) type Round = Box<dyn FnMut()>;

/// The work directory of this run.
pub(crate) fn dir() -> PathBuf {
    std::env::var_os("SEAWALL_INSTRUCTIONS_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

pub(crate) fn route_tag() -> Round {
    Box::new(|| drop(black_box(route(&Method::HEAD, black_box("/v2/library/alpine/manifests/3.20"), None))))
}

pub(crate) fn route_blob() -> Round {
    let path = format!("/v2/library/alpine/blobs/{}", Digest::of(Algorithm::Sha256, b"x"));
    Box::new(move || drop(black_box(route(&Method::GET, black_box(&path), None))))
}

pub(crate) fn read_accept() -> Round {
    Box::new(|| {
        black_box(Accept::of(black_box([ACCEPT]).into_iter()));
    })
}

pub(crate) fn find_manifest() -> Round {
    let manifests = Manifests::new(1 << 20);
    let digest = Digest::of(Algorithm::Sha256, b"x");
    manifests.read(&digest, b"{}".as_slice().into(), None);
    Box::new(move || drop(black_box(manifests.find(black_box(&digest)).expect("it is kept"))))
}

pub(crate) fn hash() -> Round {
    let bytes = vec![7; 1 << 20];
    Box::new(move || drop(black_box(Digest::of(Algorithm::Sha256, black_box(&bytes)))))
}

fn leaves() -> (Leaves, SystemTime) {
    let permitted = vec![Permitted::Dns("example.test".into())];
    let settings = Settings { dir: dir().join("ca"), permitted, constrained: true, leaf_days: 30 };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let root = Arc::new(Root::load_or_create(&settings, now).expect("a root"));
    (Leaves::new(root, 30).expect("leaves"), now)
}

pub(crate) fn mint() -> Round {
    let ((leaves, now), mut n) = (leaves(), 0_u64);
    Box::new(move || {
        n += 1;
        let host = format!("h{n}.example.test").parse().expect("a host");
        drop(black_box(leaves.config_for(&host, now).expect("a leaf")));
    })
}

pub(crate) fn known_leaf() -> Round {
    let (leaves, now) = leaves();
    let host = "warm.example.test".parse().expect("a host");
    Box::new(move || drop(black_box(leaves.config_for(&host, now).expect("a leaf"))))
}

/// What a client of rustls says first: with a post-quantum key share, so about 1.7 KiB.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "registry-1.docker.io".try_into().expect("a name");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("written to memory");
    bytes
}

pub(crate) fn read_hello() -> Round {
    let hello = hello();
    Box::new(move || {
        black_box(sniff(black_box(&hello)));
        black_box(HelloReader::new().read(&hello).expect("a hello").is_some());
    })
}
