//! The contents that repositories of the model have: all of them, made once.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::Value;

use crate::harness::image::OCI_MANIFEST;
use crate::harness::{Blob, Image, sha256};
use crate::model_steps::{IMAGES, REPOS};

/// In every layer that is one repository's own.
pub(crate) const SECRET: &str = "nobody else's business";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

impl Kind {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Kind::Manifest => "manifests",
            Kind::Blob => "blobs",
        }
    }
}

/// The digests of an image that requests are about.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) top: String,
    pub(crate) child: String,
    pub(crate) config: String,
    pub(crate) base: String,
    pub(crate) layer: String,
}

pub(crate) struct Stock {
    /// By repository: four of the first owner, four of the second. The first of each are the same.
    images: Vec<Vec<Image>>,
    parts: Vec<Vec<Parts>>,
    contents: HashMap<String, (Kind, Bytes)>,
    lists: HashMap<String, Vec<(Kind, String)>>,
}

pub(crate) static STOCK: LazyLock<Stock> = LazyLock::new(Stock::new);

pub(crate) fn name(repo: u8) -> String {
    format!("acme/{}", ["app", "base", "lib"][usize::from(repo)])
}

fn image(repo: u8, n: u8) -> Image {
    let base = Blob::generated(7, 8 << 10);
    let (owner, n) = (n / IMAGES, n % IMAGES);
    let own = |part: &str| {
        let owner = if n == 0 { String::new() } else { format!(" of owner {owner}") };
        let line = format!("{SECRET}, image {n} of {}{owner}{part}; ", name(repo));
        // The third is one whose middle lies behind everything that is read at once.
        Blob::new(line.repeat([40, 240, 5000, 400][usize::from(n)]))
    };
    if n + 1 < IMAGES {
        return Image::of(vec![base, own("")]);
    }
    let platform = |part: &str| Image::of(vec![base.clone(), own(part)]);
    Image::index(&[("linux/amd64", platform(", amd64")), ("linux/arm64", platform(", arm64"))])
}

impl Parts {
    fn of(image: &Image) -> Parts {
        let one = &image.platforms()[0];
        let [base, layer] = [0, 1].map(|n| one.layers()[n].digest());
        let config = one.config().expect("a single one").digest();
        Parts { top: image.digest(), child: one.digest(), config, base, layer }
    }
}

/// What a manifest lists.
fn listed(bytes: &[u8]) -> Vec<(Kind, String)> {
    let json: Value = serde_json::from_slice(bytes).expect("a manifest");
    let digests = |kind: Kind, of: &Value| {
        let entries = of.as_array().cloned().unwrap_or_else(|| vec![of.clone()]);
        let digests = entries.into_iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned));
        digests.map(|digest| (kind, digest)).collect::<Vec<_>>()
    };
    let all = [(Kind::Manifest, "manifests"), (Kind::Blob, "config"), (Kind::Blob, "layers")];
    all.into_iter().flat_map(|(kind, field)| digests(kind, &json[field])).collect()
}

impl Stock {
    fn new() -> Stock {
        let all = |repo| (0..2 * IMAGES).map(|n| image(repo, n)).collect::<Vec<_>>();
        let images: Vec<Vec<Image>> = (0..REPOS).map(all).collect();
        let parts = images.iter().map(|images| images.iter().map(Parts::of).collect()).collect();
        let mut stock = Stock { images, parts, contents: HashMap::new(), lists: HashMap::new() };
        for image in stock.images.concat() {
            image.manifests().into_iter().for_each(|(_, bytes)| stock.add_manifest(bytes));
            let blobs = image.blobs().into_iter().map(|blob| (blob.digest(), (Kind::Blob, blob.bytes())));
            stock.contents.extend(blobs);
        }
        let claims = (0..REPOS).flat_map(|repo| (0..2 * IMAGES).map(move |n| (repo, n)));
        claims.for_each(|(repo, n)| stock.add_manifest(stock.claim(repo, n).0));
        stock
    }

    fn add_manifest(&mut self, bytes: Bytes) {
        let digest = sha256(&bytes);
        self.lists.insert(digest.clone(), listed(&bytes));
        self.contents.insert(digest, (Kind::Manifest, bytes));
    }

    pub(crate) fn image(&self, repo: u8, n: u8) -> &Image {
        &self.images[usize::from(repo)][usize::from(n)]
    }

    pub(crate) fn parts(&self, repo: u8, n: u8) -> &Parts {
        &self.parts[usize::from(repo)][usize::from(n)]
    }

    /// A manifest of `repo` that lists what the image of the next repository has: its bytes, and
    /// what is asked for by it.
    pub(crate) fn claim(&self, repo: u8, n: u8) -> (Bytes, Parts) {
        let other = (repo + 1) % REPOS;
        let one = self.image(other, n).platforms()[0].manifest();
        // A digest of its own for each.
        let bytes = Bytes::from([" ".repeat(1 + usize::from(repo)).as_bytes(), &one[..]].concat());
        let digest = sha256(&bytes);
        let parts = Parts { top: digest.clone(), child: digest, ..self.parts(other, n).clone() };
        (bytes, parts)
    }

    pub(crate) const CLAIM: &str = OCI_MANIFEST;

    pub(crate) fn kind(&self, digest: &str) -> Option<Kind> {
        self.contents.get(digest).map(|(kind, _)| *kind)
    }

    pub(crate) fn bytes(&self, digest: &str) -> Option<&Bytes> {
        self.contents.get(digest).map(|(_, bytes)| bytes)
    }

    pub(crate) fn digests(&self) -> impl Iterator<Item = &String> {
        self.contents.keys()
    }

    pub(crate) fn lists(&self, manifest: &str) -> &[(Kind, String)] {
        self.lists.get(manifest).map_or(&[], Vec::as_slice)
    }

    /// The manifests that list it.
    pub(crate) fn listing<'a>(&'a self, kind: Kind, digest: &'a str) -> impl Iterator<Item = &'a String> {
        let lists = move |listed: &Vec<(Kind, String)>| listed.iter().any(|(k, d)| *k == kind && d == digest);
        self.lists.iter().filter(move |(_, listed)| lists(listed)).map(|(manifest, _)| manifest)
    }

    /// What a client of linux/amd64 fetches, the top first.
    pub(crate) fn pulled(&self, top: &str) -> Vec<(Kind, String)> {
        let mut all = vec![(Kind::Manifest, top.to_owned())];
        let lists = self.lists(top);
        match lists.first() {
            Some((Kind::Manifest, child)) => all.extend(self.pulled(child)),
            _ => all.extend(lists.iter().cloned()),
        }
        all
    }
}
