//! Contents: blobs (given, or generated while they are read) and images made of them.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

const BLOCK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

/// A running digest; `finish` gives `sha256:…`.
pub(crate) struct Hash(Algorithm, digest::Context);

impl Hash {
    pub(crate) fn new(algorithm: Algorithm) -> Hash {
        Hash(
            algorithm,
            digest::Context::new(match algorithm {
                Algorithm::Sha256 => &digest::SHA256,
                Algorithm::Sha512 => &digest::SHA512,
            }),
        )
    }

    /// The algorithm a digest names.
    pub(crate) fn like(digest: &str) -> Hash {
        Hash::new(if digest.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.1.update(bytes);
    }

    pub(crate) fn finish(self) -> String {
        let name = match self.0 {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        format!("{name}:{}", HEXLOWER.encode(self.1.finish().as_ref()))
    }
}

/// `sha256:…` of the bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut hash = Hash::new(Algorithm::Sha256);
    hash.update(bytes);
    hash.finish()
}

/// Bytes with a digest. A generated one costs 64 KiB of memory however long it is.
#[derive(Clone)]
pub(crate) struct Blob {
    source: Source,
    algorithm: Algorithm,
    digest: Arc<OnceLock<String>>,
}

#[derive(Clone)]
enum Source {
    Given(Bytes),
    /// Block `n` is the table with `n` in its first eight bytes.
    Generated {
        table: Bytes,
        len: u64,
    },
}

impl Blob {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Blob {
        Blob { source: Source::Given(bytes.into()), algorithm: Algorithm::Sha256, digest: Arc::default() }
    }

    /// `len` pseudo-random bytes, the same for the same seed.
    pub(crate) fn generated(seed: u64, len: u64) -> Blob {
        let mut table = Vec::with_capacity(BLOCK);
        let mut state = seed;
        while table.len() < BLOCK {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            table.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        let source = Source::Generated { table: table.into(), len };
        Blob { source, algorithm: Algorithm::Sha256, digest: Arc::default() }
    }

    /// The same bytes, named by their SHA-512.
    pub(crate) fn sha512(self) -> Blob {
        Blob { algorithm: Algorithm::Sha512, digest: Arc::default(), ..self }
    }

    /// The same under a digest that is not its own: for one too long to be hashed.
    pub(crate) fn called(self, digest: &str) -> Blob {
        Blob { digest: Arc::new(OnceLock::from(digest.to_owned())), ..self }
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.source {
            Source::Given(bytes) => bytes.len() as u64,
            Source::Generated { len, .. } => *len,
        }
    }

    /// Up to `max` bytes from `at` on: fewer at a block's or the blob's end, none only there.
    pub(crate) fn read(&self, at: u64, max: u64) -> Bytes {
        let max = max.min(self.len().saturating_sub(at));
        match &self.source {
            Source::Given(bytes) => {
                let at = usize::try_from(at.min(self.len())).expect("in memory");
                bytes.slice(at..at + usize::try_from(max).expect("in memory"))
            }
            Source::Generated { table, .. } => {
                let within = usize::try_from(at % BLOCK as u64).expect("below 64 KiB");
                let n = usize::try_from(max.min((BLOCK - within) as u64)).expect("at most 64 KiB");
                let mut block = table.to_vec();
                block[..8].copy_from_slice(&(at / BLOCK as u64).to_le_bytes());
                Bytes::from(block).slice(within..within + n)
            }
        }
    }

    /// All of it: for small ones.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.source {
            Source::Given(bytes) => bytes.clone(),
            Source::Generated { .. } => self.chunks().flatten().collect::<Vec<u8>>().into(),
        }
    }

    /// Are these its bytes from `at` on?
    pub(crate) fn holds(&self, at: u64, bytes: &[u8]) -> bool {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let part = self.read(at, rest.len() as u64);
            if part.is_empty() || !rest.starts_with(&part) {
                return false;
            }
            at += part.len() as u64;
            rest = &rest[part.len()..];
        }
        true
    }

    pub(crate) fn digest(&self) -> String {
        let compute = || {
            let mut hash = Hash::new(self.algorithm);
            self.chunks().for_each(|part| hash.update(&part));
            hash.finish()
        };
        self.digest.get_or_init(compute).clone()
    }

    fn chunks(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let part = self.read(at, BLOCK as u64);
            at += part.len() as u64;
            (!part.is_empty()).then_some(part)
        })
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest(), "size": self.len() })
    }
}

impl<const N: usize> From<&[u8; N]> for Blob {
    fn from(bytes: &[u8; N]) -> Blob {
        Blob::new(bytes.to_vec())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Blob {
        Blob::new(bytes.to_vec())
    }
}

/// An image: one manifest with layers, or an index of several.
#[derive(Clone)]
pub(crate) struct Image {
    flavour: Flavour,
    platform: String,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Oci,
    Docker,
}

#[derive(Clone)]
enum Shape {
    Single(Vec<Blob>),
    Index(Vec<Image>),
}

impl Image {
    pub(crate) fn single(layers: &[&[u8]]) -> Image {
        Image::of(layers.iter().map(|layer| Blob::from(*layer)).collect())
    }

    pub(crate) fn of(layers: Vec<Blob>) -> Image {
        Image { flavour: Flavour::Oci, platform: "linux/amd64".to_owned(), shape: Shape::Single(layers) }
    }

    /// One manifest, three layers of 1 KiB, 100 KiB and 300 KiB.
    pub(crate) fn multi_layer() -> Image {
        Image::of(vec![Blob::generated(1, 1 << 10), Blob::generated(2, 100 << 10), Blob::generated(3, 300 << 10)])
    }

    /// `("linux/arm64", image)`, …: the first is what a client gets that does not accept indexes.
    pub(crate) fn index(platforms: &[(&str, Image)]) -> Image {
        let name = |(platform, image): &(&str, Image)| Image { platform: (*platform).to_owned(), ..image.clone() };
        let shape = Shape::Index(platforms.iter().map(name).collect());
        Image { flavour: Flavour::Oci, platform: String::new(), shape }
    }

    /// An index of linux/amd64 and linux/arm64, each with two layers of its own.
    pub(crate) fn two_platforms() -> Image {
        Image::index(&[
            ("linux/amd64", Image::of(vec![Blob::generated(11, 2 << 10), Blob::generated(12, 50 << 10)])),
            ("linux/arm64", Image::of(vec![Blob::generated(13, 2 << 10), Blob::generated(14, 50 << 10)])),
        ])
    }

    /// The same with Docker's media types (schema 2).
    pub(crate) fn docker(mut self) -> Image {
        self.flavour = Flavour::Docker;
        if let Shape::Index(images) = &mut self.shape {
            images.iter_mut().for_each(|image| image.flavour = Flavour::Docker);
        }
        self
    }

    pub(crate) fn media_type(&self) -> &'static str {
        match (&self.shape, self.flavour) {
            (Shape::Single(_), Flavour::Oci) => OCI_MANIFEST,
            (Shape::Single(_), Flavour::Docker) => DOCKER_MANIFEST,
            (Shape::Index(_), Flavour::Oci) => OCI_INDEX,
            (Shape::Index(_), Flavour::Docker) => DOCKER_LIST,
        }
    }

    /// The top manifest's bytes.
    pub(crate) fn manifest(&self) -> Bytes {
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": self.media_type() });
        match &self.shape {
            Shape::Single(layers) => {
                let (config, layer) = match self.flavour {
                    Flavour::Oci => {
                        ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
                    }
                    Flavour::Docker => (
                        "application/vnd.docker.container.image.v1+json",
                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    ),
                };
                manifest["config"] = self.config().expect("a single one").descriptor(config);
                manifest["layers"] = layers.iter().map(|blob| blob.descriptor(layer)).collect();
            }
            Shape::Index(images) => {
                let entry = |image: &Image| {
                    let (os, architecture) = image.platform.split_once('/').unwrap_or(("linux", "amd64"));
                    let bytes = image.manifest();
                    json!({ "mediaType": image.media_type(), "digest": sha256(&bytes), "size": bytes.len(),
                            "platform": { "os": os, "architecture": architecture } })
                };
                manifest["manifests"] = images.iter().map(entry).collect();
            }
        }
        serde_json::to_vec(&manifest).expect("JSON").into()
    }

    /// The top manifest's digest.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest())
    }

    /// The images of an index; itself for a single one.
    pub(crate) fn platforms(&self) -> &[Image] {
        match &self.shape {
            Shape::Single(_) => std::slice::from_ref(self),
            Shape::Index(images) => images,
        }
    }

    pub(crate) fn layers(&self) -> &[Blob] {
        match &self.shape {
            Shape::Single(layers) => layers,
            Shape::Index(images) => images.first().map_or(&[], Image::layers),
        }
    }

    pub(crate) fn config(&self) -> Option<Blob> {
        let Shape::Single(layers) = &self.shape else { return None };
        let (os, architecture) = self.platform.split_once('/').unwrap_or(("linux", "amd64"));
        let diff_ids: Vec<String> = layers.iter().map(Blob::digest).collect();
        let config = json!({ "os": os, "architecture": architecture, "config": { "Cmd": ["/bin/sh"] },
                             "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        Some(Blob::new(serde_json::to_vec(&config).expect("JSON")))
    }

    /// Every manifest, children before the top: (media type, bytes).
    pub(crate) fn manifests(&self) -> Vec<(&'static str, Bytes)> {
        let mut all: Vec<_> = match &self.shape {
            Shape::Single(_) => Vec::new(),
            Shape::Index(images) => images.iter().flat_map(Image::manifests).collect(),
        };
        all.push((self.media_type(), self.manifest()));
        all
    }

    /// The digests of all of it.
    pub(crate) fn digests(&self) -> Vec<String> {
        let manifests = self.manifests().into_iter().map(|(_, bytes)| sha256(&bytes));
        manifests.chain(self.blobs().iter().map(Blob::digest)).collect()
    }

    /// Every config and layer.
    pub(crate) fn blobs(&self) -> Vec<Blob> {
        let of = |image: &Image| image.config().into_iter().chain(image.layers().to_vec()).collect::<Vec<_>>();
        self.platforms().iter().flat_map(of).collect()
    }
}
