//! Micro benches: mint a leaf, read a path, sniff a ClientHello, find a manifest's way through the
//! words.
//!
//! `cargo bench --bench micro`. Times are noisy on a shared machine: compare within one run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use seawall::ca::{Leaves, Permitted, Root, Settings};
use seawall::oci::digest::{Algorithm, Digest, Hasher};
use seawall::oci::media_type::Accept;
use seawall::oci::route::route;
use seawall::server::sniff::{HelloReader, sniff};

fn mint(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let permitted = vec![Permitted::Dns("example.test".into())];
    let settings = Settings { dir: dir.path().join("ca"), permitted, constrained: true, leaf_days: 30 };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let root = Arc::new(Root::load_or_create(&settings, now).expect("a root"));
    let leaves = Leaves::new(root, 30).expect("leaves");
    let mut n = 0_u64;
    c.bench_function("leaf for a new host", |b| {
        b.iter(|| {
            n += 1;
            let host = format!("h{n}.example.test").parse().expect("a host");
            black_box(leaves.config_for(&host, now).expect("a leaf"))
        });
    });
    let host = "warm.example.test".parse().expect("a host");
    c.bench_function("leaf for a warm host", |b| b.iter(|| black_box(leaves.config_for(&host, now).expect("a leaf"))));
}

fn words(c: &mut Criterion) {
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let blob = format!("/v2/library/alpine/blobs/{digest}");
    c.bench_function("route a blob", |b| b.iter(|| route(&Method::GET, black_box(&blob), None)));
    c.bench_function("route a tag", |b| {
        b.iter(|| route(&Method::HEAD, black_box("/v2/library/alpine/manifests/3.20"), None));
    });
    let lines = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
        application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";
    c.bench_function("read Accept", |b| b.iter(|| Accept::of(black_box([lines]).into_iter())));
    let bytes = vec![7; 256 << 10];
    c.bench_function("hash 256 KiB", |b| {
        b.iter(|| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(black_box(&bytes));
            hasher.finish()
        });
    });
}

/// What a client of rustls says first: with a post-quantum key share, so about 1.7 KiB.
fn hello() -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "registry-1.docker.io".try_into().expect("a name");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("written to memory");
    bytes
}

fn first_bytes(c: &mut Criterion) {
    let hello = hello();
    c.bench_function("sniff", |b| b.iter(|| sniff(black_box(&hello))));
    c.bench_function("read a ClientHello", |b| {
        b.iter(|| black_box(HelloReader::new().read(&hello).expect("a hello").is_some()));
    });
}

criterion_group!(benches, mint, words, first_bytes);
criterion_main!(benches);
