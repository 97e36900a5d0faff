//! The link to a list's next page, rewritten so that the client goes on where it began: at this
//! mirror, under the name it used (distribution-spec, "Listing Tags").

use http::{HeaderMap, HeaderValue, Uri, header};

use crate::error::{Error, Kind, Result};
use crate::oci::percent::decoded;
use crate::policy::mirror::{ns_pair, without_ns};

/// One link of a `Link` field (RFC 8288, 3).
struct Link<'a> {
    target: &'a str,
    parameters: &'a str,
}

impl Link<'_> {
    /// Whether `next` is one of its relations; there may be several (RFC 8288, 3.3).
    fn is_next(&self) -> bool {
        let mut parameters = split_unquoted(self.parameters, ';').filter_map(|parameter| parameter.split_once('='));
        let rel = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("rel"));
        rel.is_some_and(|(_, value)| {
            value.trim().trim_matches('"').split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        })
    }
}

/// Rewrites the link to the next page, and removes all others. Upstream's may be a path or a whole
/// URL; where the page begins is in its query.
///
/// # Errors
/// The next page has a path that is no list's of this name: it cannot be reached at this mirror.
pub(crate) fn link_here(headers: &mut HeaderMap, asked: &Uri) -> Result<()> {
    let lines: Vec<HeaderValue> = headers.get_all(header::LINK).iter().cloned().collect();
    headers.remove(header::LINK);
    let texts = lines.iter().filter_map(|line| line.to_str().ok());
    let Some(next) = texts.flat_map(links).find(Link::is_next) else { return Ok(()) };
    let target = next.target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if !is_same_list(path, asked.path()) {
        let message = "the registry's list goes on at a path of its own, which has no name at this mirror";
        return Err(Error::new(Kind::Broken, message));
    }
    let query: Vec<&str> = without_ns(query).chain(ns_pair(asked.query())).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let parameters = next.parameters.trim();
    let link = format!("<{}{mark}{}>{parameters}", asked.path(), query.join("&"));
    if let Ok(value) = HeaderValue::try_from(link) {
        headers.insert(header::LINK, value);
    }
    Ok(())
}

/// Whether a link's path leads to the list that was asked for: what stands before its last part is
/// upstream's own affair.
fn is_same_list(path: &str, asked: &str) -> bool {
    let last = |path: &str| decoded(path.rsplit('/').next().unwrap_or_default()).into_owned();
    path.is_empty() || last(path) == last(asked)
}

/// The links of one line. What cannot be read as one is left out.
fn links(line: &str) -> impl Iterator<Item = Link<'_>> {
    split_unquoted(line, ',').filter_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        Some(Link { target: target.trim(), parameters })
    })
}

/// The parts between separators that are neither in quotes nor in angle brackets.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            _ => {}
        }
        c == separator && !quoted && !bracketed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(asked: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::LINK, line.parse().unwrap());
        }
        match link_here(&mut headers, &asked.parse().unwrap()) {
            Ok(()) => headers.get(header::LINK).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
            Err(error) => error.kind().as_str().to_owned(),
        }
    }

    #[test]
    fn links_lead_here() {
        for (asked, link, expected) in [
            ("/v2/a/tags/list", "</v2/a/tags/list?last=1>; rel=\"next\"", "</v2/a/tags/list?last=1>; rel=\"next\""),
            (
                "/v2/ghcr.io/a/tags/list?n=1",
                "<https://ghcr.io/v2/a/tags/list?last=1&n=1>; rel=next",
                "</v2/ghcr.io/a/tags/list?last=1&n=1>; rel=next",
            ),
            (
                "/v2/lab:5000/a/tags/list",
                "</v2/a/tags/list?last=1>;rel=next",
                "</v2/lab:5000/a/tags/list?last=1>;rel=next",
            ),
            (
                "/v2/a/tags/list?n=1&ns=lab%3A5000",
                "</v2/a/tags/list?ns=upstreams&last=1>; rel=next",
                "</v2/a/tags/list?last=1&ns=lab%3A5000>; rel=next",
            ),
            (
                "/v2/a/referrers/sha256:0?artifactType=x",
                "</v2/a/referrers/sha256:0?next=a%2Fb>; rel=next",
                "</v2/a/referrers/sha256:0?next=a%2Fb>; rel=next",
            ),
            ("/v2/a/tags/list", "nonsense", ""),
        ] {
            assert_eq!(rewritten(asked, &[link]), expected);
        }
    }

    /// RFC 8288: one line has many links, and there are many lines.
    #[test]
    fn of_many_links_it_is_the_next_page() {
        let read = |lines: &[&str]| rewritten("/v2/a/tags/list", lines);
        let next = "</v2/a/tags/list?last=2>; rel=\"next\"";
        assert_eq!(read(&["</v2/a/tags/list?n=1>; rel=\"first\", </v2/a/tags/list?last=2>; rel=\"next\""]), next);
        assert_eq!(read(&["</v2/a/tags/list?n=1>; rel=prev", next]), next);
        assert_eq!(
            read(&["<?last=a,b;c>; title=\"x, <y>; rel=next\"; rel=\"start next\""]),
            "</v2/a/tags/list?last=a,b;c>; title=\"x, <y>; rel=next\"; rel=\"start next\""
        );
        assert_eq!(read(&["</v2/a/tags/list?last=1>; rel=prev"]), "");
        assert_eq!(read(&["</v2/a/tags/list?last=1>"]), "");
        assert_eq!(read(&["</v2/a/tags/list>; rel=next"]), "</v2/a/tags/list>; rel=next");
        assert_eq!(read(&["</v2/a/tags/page/2>; rel=next"]), "broken", "it has no name here");
    }

    proptest! {
        #[test]
        fn any_link(link in "\\PC{0,40}", query in "[a-z=&]{0,12}") {
            if let Ok(value) = HeaderValue::try_from(format!("{link}; rel=next")) {
                let mut headers = HeaderMap::new();
                headers.insert(header::LINK, value);
                if link_here(&mut headers, &format!("/v2/a/tags/list?{query}").parse().unwrap()).is_ok() {
                    let left = headers.get(header::LINK).and_then(|value| value.to_str().ok());
                    prop_assert!(left.is_none_or(|left| left.starts_with("</v2/a/tags/list")));
                }
            }
        }
    }
}
