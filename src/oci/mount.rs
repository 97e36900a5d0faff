//! Cross-repository mounts: `POST …/blobs/uploads/?mount=DIGEST&from=REPOSITORY` (distribution-spec, "Mounting a blob from another
//! repository").

use super::name::Repository;
use super::percent;

/// The repositories that the query of an upload takes bytes from.
pub fn mounted_from(query: Option<&str>) -> Vec<Repository> {
    let values = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("from="));
    values.filter_map(|value| percent::decoded(value).parse().ok()).collect()
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
            (Some("from=A&xfrom=b"), ""),
        ] {
            let names: Vec<_> = mounted_from(query).iter().map(ToString::to_string).collect();
            assert_eq!(names.join(" "), expected, "{query:?}");
        }
    }
}
