//! What a manifest lists: enough to know its children, whatever its type (image-spec manifest.md,
//! image-index.md; Docker's schema 2).

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::digest::Digest;
use super::media_type::{self, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

/// The longest manifest that is kept and looked into, in bytes. Registries must take 4 MiB.
pub const MAX_MANIFEST: usize = 8 << 20;

const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A manifest's type and children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its `mediaType`, which OCI manifests need not have. One that could not be a header's value
    /// is left out.
    pub media_type: Option<String>,
    /// What it lists, in its order: config, layers, manifests, blobs. The subject is no child.
    pub children: Vec<Descriptor>,
    shape: &'static str,
    is_recognisable: bool,
}

/// As what a repository has a digest. One is never the other: each has an endpoint of its own
/// (distribution-spec, "Pulling manifests", "Pulling blobs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentKind {
    /// A manifest or an index.
    Manifest,
    /// A layer, a configuration, or any other bytes.
    Blob,
}

/// What a manifest says about one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The child's name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its type; empty when there is none.
    pub media_type: String,
}

/// Why bytes are no manifest. It is no reason not to serve them: only their children are not known.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_MANIFEST`].
    #[error("a manifest of more than {MAX_MANIFEST} bytes")]
    TooLong,
    /// Not a JSON object, or one whose known fields have other types.
    #[error("not a manifest")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    config: Option<Child<'a>>,
    #[serde(borrow)]
    layers: Option<Vec<Child<'a>>>,
    #[serde(borrow)]
    manifests: Option<Vec<Child<'a>>>,
    #[serde(borrow)]
    blobs: Option<Vec<Child<'a>>>,
    /// Schema 1.
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Child<'a> {
    #[serde(borrow)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    digest: Option<Cow<'a, str>>,
    size: Option<u64>,
}

/// Reads a manifest or an index of any kind.
///
/// Children without a length, without a digest or with one that cannot be verified here are left
/// out; an object that lists nothing is a manifest without children.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    if bytes.len() > MAX_MANIFEST {
        return Err(ManifestError::TooLong);
    }
    let fields: Fields<'_> = serde_json::from_slice(bytes)?;
    let shape = shape(&fields);
    let is_recognisable = is_recognisable(&fields);
    let media_type = fields.media_type.filter(|t| is_header_value(t)).map(Cow::into_owned);
    let lists = [fields.layers, fields.manifests, fields.blobs];
    let children = fields.config.into_iter().chain(lists.into_iter().flatten().flatten());
    Ok(Manifest { media_type, children: children.filter_map(descriptor).collect(), shape, is_recognisable })
}

fn descriptor(child: Child<'_>) -> Option<Descriptor> {
    let media_type = child.media_type.unwrap_or_default().into_owned();
    Some(Descriptor { digest: child.digest?.parse().ok()?, size: child.size?, media_type })
}

/// What a manifest without `mediaType` is, by what it has. Docker's have always had one, so its
/// names are guessed from its children.
fn shape(fields: &Fields<'_>) -> &'static str {
    let is =
        |child: &Child<'_>, name: &str| child.media_type.as_deref().is_some_and(|t| media_type::essence(t) == name);
    match fields {
        Fields { manifests: Some(children), .. } if !children.is_empty() => {
            if children.iter().all(|c| is(c, DOCKER_MANIFEST)) { DOCKER_LIST } else { OCI_INDEX }
        }
        Fields { config: Some(config), .. } if is(config, DOCKER_CONFIG) => DOCKER_MANIFEST,
        Fields { config: None, layers: None, manifests: Some(_), .. } => OCI_INDEX,
        Fields { config: None, layers: None, blobs: Some(_), .. } => OCI_ARTIFACT,
        _ => OCI_MANIFEST,
    }
}

/// Whether it lists something, be it nothing, or says of itself that it is a manifest.
fn is_recognisable(fields: &Fields<'_>) -> bool {
    let lists = [&fields.layers, &fields.manifests, &fields.blobs].into_iter().any(Option::is_some);
    let is_one = |name: &str| {
        media_type::is_manifest(name) || media_type::is_index(name) || media_type::essence(name) == OCI_ARTIFACT
    };
    lists || fields.fs_layers.is_some() || fields.media_type.as_deref().is_some_and(is_one)
}

fn is_header_value(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

impl Descriptor {
    /// As what the repository of the manifest has this child.
    pub fn kind(&self) -> ContentKind {
        let is_manifest = media_type::is_manifest(&self.media_type)
            || media_type::is_index(&self.media_type)
            || media_type::is_schema1(&self.media_type)
            || media_type::essence(&self.media_type) == OCI_ARTIFACT;
        if is_manifest { ContentKind::Manifest } else { ContentKind::Blob }
    }
}

impl Manifest {
    /// The `Content-Type` to serve it with when upstream gave none: what it says of itself, else
    /// what it looks like.
    pub fn inferred_media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or(self.shape)
    }

    /// Whether it is like a manifest. Any JSON object can be read as one that lists nothing: where
    /// no digest says which bytes are wanted, another answer must not be taken for one.
    pub fn is_recognisable(&self) -> bool {
        self.is_recognisable
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::digest::Algorithm;

    fn digest(n: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[n])
    }

    fn child(n: u8, media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{n},"annotations":{{"a":"b"}}}}"#, digest(n))
    }

    fn sizes(manifest: &Manifest) -> Vec<u64> {
        manifest.children.iter().map(|c| c.size).collect()
    }

    #[test]
    fn children_and_types_of_all_kinds() {
        let (layer, image) = (child(2, "application/x"), child(3, OCI_MANIFEST));
        let (docker, list) = (child(1, DOCKER_CONFIG), child(4, DOCKER_MANIFEST));
        for (json, media_type, expected) in [
            (
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{docker},"layers":[{layer}]}}"#
                ),
                DOCKER_MANIFEST,
                vec![1, 2],
            ),
            (
                format!(r#"{{"schemaVersion":2,"layers":[{layer},{layer}],"config":{docker}}}"#),
                DOCKER_MANIFEST,
                vec![1, 2, 2],
            ),
            (format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[],"subject":{image}}}"#), OCI_MANIFEST, vec![2]),
            (format!(r#"{{"schemaVersion":2,"manifests":[{image},{list}]}}"#), OCI_INDEX, vec![3, 4]),
            (format!(r#"{{"schemaVersion":2,"manifests":[{list}]}}"#), DOCKER_LIST, vec![4]),
            (r#"{"schemaVersion":2,"manifests":[]}"#.into(), OCI_INDEX, vec![]),
            (format!(r#"{{"blobs":[{layer}],"subject":{image}}}"#), OCI_ARTIFACT, vec![2]),
            (
                format!(r#"{{"mediaType":"application/x-own","config":null,"layers":null,"blobs":[{layer}]}}"#),
                "application/x-own",
                vec![2],
            ),
            ("{}".into(), OCI_MANIFEST, vec![]),
            (r#"{"mediaType":"a\r\nSet-Cookie: b"}"#.into(), OCI_MANIFEST, vec![]),
        ] {
            let manifest = parse(json.as_bytes()).unwrap();
            assert_eq!((manifest.inferred_media_type(), sizes(&manifest)), (media_type, expected), "{json}");
        }
    }

    #[test]
    fn a_manifest_is_told_from_other_json() {
        let (docker, list) = (child(1, DOCKER_CONFIG), child(4, DOCKER_MANIFEST));
        for (json, expected) in [
            (format!(r#"{{"config":{docker},"layers":[]}}"#), true),
            (format!(r#"{{"manifests":[{list}]}}"#), true),
            (r#"{"schemaVersion":2,"manifests":[]}"#.into(), true),
            (
                r#"{"schemaVersion":1,"name":"a/b","tag":"1","fsLayers":[{"blobSum":"sha256:00"}],"history":[]}"#
                    .into(),
                true,
            ),
            (format!(r#"{{"mediaType":"{OCI_ARTIFACT}","artifactType":"x/y"}}"#), true),
            (format!(r#"{{"mediaType":"{OCI_INDEX}"}}"#), true),
            ("{}".into(), false),
            (r#"{"status":"maintenance"}"#.into(), false),
            (r#"{"errors":[{"code":"UNAVAILABLE"}]}"#.into(), false),
            (r#"{"schemaVersion":2,"layers":null,"mediaType":"text/html"}"#.into(), false),
            (r#"{"config":{"theme":"dark"}}"#.into(), false),
        ] {
            assert_eq!(parse(json.as_bytes()).unwrap().is_recognisable(), expected, "{json}");
        }
    }

    #[test]
    fn children_that_cannot_be_verified_are_left_out() {
        let json = format!(
            r#"{{"layers":[{{"digest":"blake3:00","size":1}},{{"digest":"sha256:00","size":1}},{{"digest":"{0}"}},{{"size":1}},{{"digest":"{0}","size":7,"urls":["https://x"]}}]}}"#,
            digest(7)
        );
        let manifest = parse(json.as_bytes()).unwrap();
        assert_eq!(manifest.children, [Descriptor { digest: digest(7), size: 7, media_type: String::new() }]);
    }

    #[test]
    fn what_is_no_manifest() {
        for text in ["", "[]x", "null", "\"\"", "{", r#"{"layers":{}}"#, r#"{"layers":[{"digest":1}]}"#, "Not Found"] {
            assert!(matches!(parse(text.as_bytes()), Err(ManifestError::Malformed(_))), "{text}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(format!("{{\"x\":{}", "[".repeat(100_000)).as_bytes()).is_err());
        assert!(matches!(parse(&vec![b' '; MAX_MANIFEST + 1]), Err(ManifestError::TooLong)));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn each_prefix(cut in 0..400usize) {
            let json = format!(r#"{{"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#, child(1, "a/b"), child(2, "c/d"));
            let cut = cut.min(json.len());
            prop_assert_eq!(parse(&json.as_bytes()[..cut]).is_ok(), cut == json.len());
        }
    }
}
