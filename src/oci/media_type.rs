//! Media types of manifests, and what a client's `Accept` says about them.

/// OCI image-spec: an index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image-spec: an image, or anything else that is packed as one.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's older word for an index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's older word for an image, "schema 2".
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A blob: registries say no more about it.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// A media type without its parameters: `a/b` of `a/b; charset=utf-8`.
pub fn essence(value: &str) -> &str {
    let end = value.bytes().position(|byte| byte == b';').unwrap_or(value.len());
    value[..end].trim_ascii()
}

/// Whether it is JSON, or packed as it (RFC 6839, 3.1). Parameters and case do not matter.
pub fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type).to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Whether it is an index, OCI's or Docker's. Parameters and case do not matter.
pub fn is_index(media_type: &str) -> bool {
    bit(media_type) & (Accept::OCI_INDEX | Accept::DOCKER_LIST) != 0
}

/// Whether it is an image manifest, OCI's or Docker's. Parameters and case do not matter.
pub fn is_manifest(media_type: &str) -> bool {
    bit(media_type) & (Accept::OCI_MANIFEST | Accept::DOCKER_MANIFEST) != 0
}

/// Whether it is one of the two forms of Docker's schema 1, whose digest is not that of its bytes:
/// never to be stored.
pub fn is_schema1(media_type: &str) -> bool {
    let essence = essence(media_type);
    [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ]
    .iter()
    .any(|t| essence.eq_ignore_ascii_case(t))
}

fn bit(media_type: &str) -> u8 {
    let essence = essence(media_type);
    KNOWN.iter().find(|(t, _)| essence.eq_ignore_ascii_case(t)).map_or(0, |(_, bit)| *bit)
}

/// In the order in which [`Accept::header`] names them.
const KNOWN: [(&str, u8); 4] = [
    (OCI_INDEX, Accept::OCI_INDEX),
    (DOCKER_LIST, Accept::DOCKER_LIST),
    (OCI_MANIFEST, Accept::OCI_MANIFEST),
    (DOCKER_MANIFEST, Accept::DOCKER_MANIFEST),
];

/// Which kinds of manifest a client takes, so that its many spellings are one key: a registry may
/// answer a tag with another media type, and another digest, for another `Accept`.
///
/// Types other than the four manifests do not count. A client that takes all four takes anything:
/// then `*/*` is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Accept(u8);

impl Accept {
    const OCI_INDEX: u8 = 1;
    const OCI_MANIFEST: u8 = 2;
    const DOCKER_LIST: u8 = 4;
    const DOCKER_MANIFEST: u8 = 8;
    const ALL: u8 = 15;
    const ANY: u8 = 16;

    /// No `Accept`, or only `*/*`.
    pub const ANYTHING: Accept = Accept(Accept::ANY);

    /// Reads all `Accept` lines of a request (RFC 9110, 12.5.1). None, or only empty ones, mean
    /// anything.
    ///
    /// `q=0` refuses, in whatever order it comes; other weights do not count. A type that is
    /// refused where `*/*` is taken leaves the other three.
    pub fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Accept {
        let (mut taken, mut refused, mut said) = (0, 0, false);
        for element in lines.flat_map(elements) {
            said = true;
            let range = essence(element);
            let bit =
                if range == "*/*" || range.eq_ignore_ascii_case("application/*") { Accept::ANY } else { bit(range) };
            if range.len() < element.len() && is_refused(element) { refused |= bit } else { taken |= bit }
        }
        if !said {
            return Accept::ANYTHING;
        }
        if taken & Accept::ANY != 0 && refused != 0 {
            taken |= Accept::ALL;
        }
        taken &= !refused;
        if refused != 0 {
            taken &= !Accept::ANY;
        }
        Accept::from_bits(taken)
    }

    /// What a client takes besides the four manifests, as it is to be sent upstream with those: a type
    /// of its own, an artifact's, schema 1, and `*/*`. Not part of the set: who takes all four is
    /// served alike. What is no media type is left out, and so is what no client needs.
    pub fn others<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
        let mut others: Vec<&str> = Vec::new();
        let mut is_picky = false;
        for element in lines.flat_map(elements) {
            let range = essence(element);
            let is_refused = range.len() < element.len() && is_refused(element);
            is_picky |= is_refused;
            if bit(range) == 0 && !is_refused && is_range(range) && !others.contains(&range) {
                others.push(range);
            }
        }
        // Any is not what is meant where one is refused.
        others.retain(|range| !is_picky || !range.ends_with("/*"));
        others.sort_unstable();
        others.truncate(MOST_OTHERS);
        (!others.is_empty()).then(|| others.join(", "))
    }

    /// Whether an answer of this media type is one that the client takes. Parameters and case do
    /// not matter.
    pub fn admits(self, media_type: &str) -> bool {
        self.0 & (bit(media_type) | Accept::ANY) != 0
    }

    /// The `Accept` to send upstream: the same text for the same set. Empty for an empty set, which
    /// must not be sent.
    pub fn header(self) -> String {
        let mut types: Vec<&str> = KNOWN.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(t, _)| *t).collect();
        if self.0 & Accept::ANY != 0 {
            types.push("*/*");
        }
        types.join(", ")
    }

    /// Whether the client takes only types that are not known here (schema 1, say): its request is
    /// to be passed on untouched.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a byte, to be written down.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of a byte that [`Accept::bits`] gave. Bits that mean nothing are dropped.
    pub fn from_bits(bits: u8) -> Accept {
        let bits = bits & (Accept::ALL | Accept::ANY);
        if bits & Accept::ALL == Accept::ALL { Accept(Accept::ALL) } else { Accept(bits) }
    }
}

/// What clients' libraries take besides, in the same words for everybody.
const USUAL: [&str; 8] = [
    "*/*",
    "application/*",
    "application/json",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.plugin.v1+json",
    "application/vnd.oci.artifact.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
];

/// Whether what [`Accept::others`] gave is in words of the client's own.
pub fn is_worded(others: &str) -> bool {
    others.split(", ").any(|range| !USUAL.contains(&range))
}

/// Types of its own that a client sends: cosign and helm have two or three.
const MOST_OTHERS: usize = 12;

/// Whether it is a media type, or a range of them (RFC 6838, 4.2).
fn is_range(text: &str) -> bool {
    let is_name = |name: &str| {
        let is_known = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        name == "*" || (1..=127).contains(&name.len()) && name.bytes().all(is_known)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

/// The elements of a comma-separated list; commas in quotes do not separate (RFC 9110, 5.6.1 and
/// 5.6.4).
fn elements(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let end = end_of_element(text.as_bytes());
            // A comma is one byte: what is before and behind it is text.
            rest = text.get(end + 1..);
            let element = text[..end].trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

/// Where the comma is, or the end.
fn end_of_element(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(step) = text[at..].iter().position(|byte| matches!(byte, b',' | b'"')) {
        at += step;
        if text[at] == b',' {
            return at;
        }
        at += 1 + quoted(&text[at + 1..]);
    }
    text.len()
}

/// How long a quoted string is behind its first quote, the last one included.
fn quoted(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `weight = OWS ";" OWS "q=" qvalue` (RFC 9110, 12.4.2), with a value of zero.
fn is_refused(element: &str) -> bool {
    element.split(';').skip(1).filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        let value = value.trim();
        name.trim().eq_ignore_ascii_case("q")
            && value.starts_with('0')
            && value.bytes().all(|b| matches!(b, b'0' | b'.'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Accept {
        Accept::of(lines.iter().copied())
    }

    #[test]
    fn what_else_a_client_takes() {
        let many: Vec<String> = (0..40).map(|n| format!("application/x-{n}")).collect();
        let many = many.join(", ");
        for (lines, expected) in [
            (vec![], None),
            (vec!["*/*"], Some("*/*")),
            (vec![OCI_INDEX, DOCKER_LIST], None),
            (vec![OCI_INDEX, "*/*"], Some("*/*")),
            (
                vec!["application/x.b, application/x.a;q=0.5", "*/*;q=0.1"],
                Some("*/*, application/x.a, application/x.b"),
            ),
            (vec!["application/x.a, application/x.a"], Some("application/x.a")),
            (vec!["application/x.a;q=0"], None),
            (
                vec!["application/vnd.oci.artifact.manifest.v1+json"],
                Some("application/vnd.oci.artifact.manifest.v1+json"),
            ),
            (vec!["nonsense, a/b/c, a/b\u{e9}, a/ b, ${x}/y, /, a/"], None),
        ] {
            assert_eq!(Accept::others(lines.iter().copied()).as_deref(), expected, "{lines:?}");
        }
        assert_eq!(Accept::others([many.as_str()].into_iter()).unwrap().split(", ").count(), MOST_OTHERS);
    }

    #[test]
    fn kinds() {
        assert_eq!(essence("a/b ; charset=utf-8"), "a/b");
        assert!(is_index(OCI_INDEX) && is_index(DOCKER_LIST) && !is_index(OCI_MANIFEST));
        assert!(is_manifest(OCI_MANIFEST) && is_manifest("APPLICATION/vnd.docker.distribution.manifest.v2+json; x=y"));
        assert!(!is_manifest("") && !is_manifest(OCTET_STREAM));
        assert!(is_schema1("application/vnd.docker.distribution.manifest.v1+prettyjws; charset=utf-8"));
        assert!(!is_schema1(DOCKER_MANIFEST));
    }

    #[test]
    fn the_clients_of_the_four_types_are_one_key() {
        let containerd = format!("{DOCKER_MANIFEST}, {DOCKER_LIST}, {OCI_MANIFEST}, {OCI_INDEX}, */*");
        let crane = format!("{OCI_INDEX},{DOCKER_LIST},{OCI_MANIFEST},{DOCKER_MANIFEST}");
        let docker = [
            OCI_MANIFEST,
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            DOCKER_LIST,
            "application/json",
            OCI_INDEX,
            DOCKER_MANIFEST,
        ];
        let key = of(&[&crane]);
        assert_eq!(of(&[&containerd]), key);
        assert_eq!(of(&docker), key);
        assert_eq!(key.header(), format!("{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"));
        assert!(key.admits(OCI_INDEX) && !key.admits("text/html"));
    }

    #[test]
    fn what_is_said_about_nothing_and_anything() {
        for lines in [&[][..], &[""], &[" , "], &["*/*"], &["text/html, */*;q=0.8"], &["application/*"]] {
            assert_eq!(of(lines), Accept::ANYTHING, "{lines:?}");
        }
        assert_eq!(Accept::ANYTHING.header(), "*/*");
        assert!(Accept::ANYTHING.admits(DOCKER_LIST) && Accept::ANYTHING.admits("x/y"));
        for lines in
            [&["application/json"][..], &["*/*;q=0"], &["application/vnd.docker.distribution.manifest.v1+json"]]
        {
            assert!(of(lines).is_empty(), "{lines:?}");
        }
        let one = of(&[&format!("{OCI_MANIFEST}, */*")]);
        assert_ne!(one, Accept::ANYTHING);
        assert_eq!(one.header(), format!("{OCI_MANIFEST}, */*"));
    }

    #[test]
    fn weights_refuse_only_at_zero() {
        let (image, index) = (OCI_MANIFEST, OCI_INDEX);
        for (line, header) in [
            (format!("{image};q=0.1, {index};q=0"), image.to_owned()),
            (format!("{image}; Q=0.000,{index} ; q=1"), index.to_owned()),
            (format!("{index};q=0, {index}"), String::new()),
            (format!("*/*, {index};q=0"), format!("{DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}")),
            (format!("{image}, */*;q=0"), image.to_owned()),
            (format!("{image};x=\"a,{index},\\\"b\", {DOCKER_LIST}"), format!("{DOCKER_LIST}, {image}")),
        ] {
            assert_eq!(of(&[&line]).header(), header, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text(lines: Vec<String>) {
            let accept = Accept::of(lines.iter().map(String::as_str));
            prop_assert_eq!(Accept::from_bits(accept.bits()), accept);
        }

        #[test]
        fn order_and_lines_do_not_matter(types in Just(vec![OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*", "x/y"]).prop_shuffle(), some in 1..=6usize) {
            let types = &types[..some];
            let mut sorted = types.to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(of(types), of(&[&sorted.join(",")]));
        }

        #[test]
        fn print_then_parse(bits in 1..32u8) {
            let accept = Accept::from_bits(bits);
            prop_assert_eq!(of(&[&accept.header()]), accept);
        }
    }
}
