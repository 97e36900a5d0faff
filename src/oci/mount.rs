//! Cross-repository mounts: `POST …/blobs/uploads/?mount=DIGEST&from=REPOSITORY`
//! (distribution-spec, "Mounting a blob from another repository").

use url::form_urlencoded;

/// What the query of an upload says that bytes are taken from: repositories, if it makes sense.
pub fn mounted_from(query: Option<&str>) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(|(name, _)| name.eq_ignore_ascii_case("from")).map(|(_, value)| value.into_owned()).collect()
}

/// Whether an upload is to be a mount.
pub fn mounts(query: Option<&str>) -> bool {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.any(|(name, _)| name.eq_ignore_ascii_case("mount"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_from_counts() {
        for (query, expected) in [
            (None, ""),
            (Some("mount=sha256:00"), ""),
            (Some("mount=x&from=a/b"), "a/b"),
            (Some("from=a%2Fb&from=c"), "a/b c"),
            (Some("from=A&xfrom=b"), "A"),
            (Some("mount=x&%66rom=a/b"), "a/b"),
            (Some("mount=x&From=a/b"), "a/b"),
        ] {
            assert_eq!(mounted_from(query).join(" "), expected, "{query:?}");
        }
    }
}
