//! `WWW-Authenticate` (RFC 9110, 11.6.1) and the token replies that its `realm` gives
//! (distribution-spec, auth/token.md).

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use super::percent;

pub use super::token::{TokenReply, parse_token_reply, renamed_scopes};

/// How a registry wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// A token from the realm.
    Bearer,
    /// A name and a password.
    Basic,
    /// Anything else, as it was written.
    Other(String),
}

/// One challenge of a `401`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Bearer or Basic.
    pub scheme: Scheme,
    /// A token68, of schemes that have one instead of parameters.
    token68: Option<String>,
    /// In their order, names in lower case.
    params: Vec<(String, String)>,
}

impl Challenge {
    /// Where tokens are given: a URL for Bearer, any text for Basic.
    pub fn realm(&self) -> Option<&str> {
        self.param("realm")
    }

    /// Whom the token is for. Some registries leave it out.
    pub fn service(&self) -> Option<&str> {
        self.param("service")
    }

    /// What the token must allow, `repository:library/alpine:pull`; more than one with spaces
    /// between. Often left out.
    pub fn scope(&self) -> Option<&str> {
        self.param("scope")
    }

    /// What was wrong with the token that was sent: `invalid_token`, `insufficient_scope`.
    pub fn error(&self) -> Option<&str> {
        self.param("error")
    }

    /// The same of no repository, and of no token that was sent before it.
    #[must_use]
    pub fn in_general(mut self) -> Challenge {
        // nvcr.io says in its realm what for.
        for (_, realm) in self.params.iter_mut().filter(|(name, _)| name == "realm") {
            if let Some((path, query)) = realm.split_once('?') {
                let kept: Vec<&str> = query.split('&').filter(|pair| !is_of_one(pair)).collect();
                let joint = if kept.is_empty() { "" } else { "?" };
                *realm = format!("{path}{joint}{}", kept.join("&"));
            }
        }
        self.params.retain(|(name, value)| match name.as_str() {
            "scope" => !value.contains(':'),
            "error" | "error_description" => false,
            _ => true,
        });
        self
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The URL to GET a token from, for the given scopes (spaces between them) instead of the
    /// challenge's own.
    ///
    /// The realm may have a query already; what that says about service and scope stands. `None`
    /// when this is no Bearer challenge or its realm is no http or https URL.
    pub fn token_url(&self, scope: Option<&str>) -> Option<String> {
        let realm = self.realm().filter(|_| self.scheme == Scheme::Bearer)?;
        let realm = realm.split_once('#').map_or(realm, |(url, _)| url);
        let (scheme, rest) = realm.split_once("://")?;
        let is_http = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
        if !is_http || rest.is_empty() || rest.starts_with(['/', '?']) || !realm.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let (_, query) = realm.split_once('?').unwrap_or_default();
        let says = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let mut url = realm.to_owned();
        let mut add = |name: &str, value: &str| {
            let separator = match url.find('?') {
                None => "?",
                Some(_) if url.ends_with(['?', '&']) => "",
                Some(_) => "&",
            };
            url.extend([separator, name, "=", &percent::encoded(value)]);
        };
        if let Some(service) = self.service().filter(|_| !says("service")) {
            add("service", service);
        }
        for scope in scope.filter(|_| !says("scope")).into_iter().flat_map(str::split_ascii_whitespace) {
            add("scope", scope);
        }
        Some(url)
    }
}

/// Whether a part of a query is a scope of one repository.
fn is_of_one(pair: &str) -> bool {
    pair.strip_prefix("scope=").is_some_and(|scope| scope.contains(':') || scope.contains("%3"))
}

/// Prints the value of a `WWW-Authenticate` line; it is printable ASCII.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Basic => "Basic",
            Scheme::Other(name) => name,
        })?;
        if let Some(token68) = &self.token68 {
            write!(f, " {token68}")?;
        }
        for (n, (name, value)) in self.params.iter().enumerate() {
            write!(f, "{}{name}=\"", if n == 0 { " " } else { "," })?;
            for c in value.chars() {
                write!(f, "{}{c}", if matches!(c, '"' | '\\') { "\\" } else { "" })?;
            }
            f.write_str("\"")?;
        }
        Ok(())
    }
}

/// Reads all `WWW-Authenticate` lines of a response, as if they were one list.
///
/// What breaks the grammar is skipped, or read as it was probably meant: values without quotes may
/// hold anything but blanks and commas, a quote that is never closed ends with the line. Characters
/// that cannot stand in a header become `?`.
pub fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for line in lines {
        Line { rest: line.chars().peekable() }.read(&mut found);
    }
    found
}

struct Line<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Line<'_> {
    fn read(mut self, found: &mut Vec<Challenge>) {
        loop {
            while self.rest.next_if(|c| is_blank(*c) || *c == ',').is_some() {}
            if self.rest.peek().is_none() {
                return;
            }
            let word = self.take(is_tchar);
            if word.is_empty() {
                self.skip_element();
                continue;
            }
            self.skip_blanks();
            if self.rest.next_if_eq(&'=').is_some() {
                let value = self.value();
                match found.last_mut() {
                    Some(challenge) if challenge.token68.is_none() => {
                        challenge.params.push((word.to_ascii_lowercase(), value));
                    }
                    _ => {}
                }
            } else {
                let scheme = match word.to_ascii_lowercase().as_str() {
                    "bearer" => Scheme::Bearer,
                    "basic" => Scheme::Basic,
                    _ => Scheme::Other(word),
                };
                found.push(Challenge { scheme, token68: self.token68(), params: Vec::new() });
            }
        }
    }

    /// `token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, and then nothing
    /// more in this element. A word that could be both is one: the only other reading is a scheme
    /// without its comma.
    fn token68(&mut self) -> Option<String> {
        let mut ahead = Line { rest: self.rest.clone() };
        let mut text = ahead.take(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        if text.is_empty() {
            return None;
        }
        text.push_str(&ahead.take(|c| c == '='));
        ahead.skip_blanks();
        if ahead.rest.peek().is_some_and(|c| *c != ',') {
            return None;
        }
        self.rest = ahead.rest.clone();
        Some(text)
    }

    /// What stands after `name=`: a quoted string or a token (RFC 9110, 5.6.4).
    fn value(&mut self) -> String {
        self.skip_blanks();
        if self.rest.next_if_eq(&'"').is_none() {
            return self.take(|c| !is_blank(c) && c != ',').chars().map(printable).collect();
        }
        let mut value = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '"' => break,
                '\\' => value.extend(self.rest.next().map(printable)),
                c => value.push(printable(c)),
            }
        }
        value
    }

    /// Skips what cannot be read, up to the next comma that is not in quotes.
    fn skip_element(&mut self) {
        let mut quoted = false;
        while let Some(c) = self.rest.next_if(|c| quoted || *c != ',') {
            match c {
                '"' => quoted = !quoted,
                '\\' if quoted => drop(self.rest.next()),
                _ => {}
            }
        }
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(|c| is_blank(*c)).is_some() {}
    }

    fn take(&mut self, good: impl Fn(char) -> bool) -> String {
        std::iter::from_fn(|| self.rest.next_if(|c| good(*c))).collect()
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// RFC 9110, 5.6.2.
fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        ' '..='~' => c,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Challenge {
        let mut found = parse([line].into_iter());
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        found.remove(0)
    }

    /// A challenge as a row of a table: `Bearer realm=https://x service=y`.
    fn row(challenge: &Challenge) -> String {
        let mut row = match &challenge.scheme {
            Scheme::Other(name) => name.clone(),
            known => format!("{known:?}"),
        };
        row.extend(challenge.token68.iter().flat_map(|t| [" ", t]));
        row.extend(challenge.params.iter().flat_map(|(n, v)| [" ", n, "=", v]));
        row
    }

    #[test]
    fn what_registries_send() {
        let hub = one(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push",error="invalid_token""#,
        );
        assert_eq!(hub.scheme, Scheme::Bearer);
        assert_eq!(hub.realm(), Some("https://auth.docker.io/token"));
        assert_eq!(hub.service(), Some("registry.docker.io"));
        assert_eq!(hub.scope(), Some("repository:library/alpine:pull,push"));
        assert_eq!(hub.error(), Some("invalid_token"));
        let general = hub.in_general().to_string();
        assert_eq!(general, r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#);
        let aws = r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#;
        assert_eq!(one(aws).in_general().to_string(), aws);
        let ecr = one(r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#);
        assert_eq!((ecr.scheme.clone(), ecr.token_url(None)), (Scheme::Basic, None));
    }

    #[test]
    fn lists_and_odd_spellings() {
        for (lines, expected) in [
            (
                &[r#"Basic realm="quay", Bearer realm="https://quay.io/v2/auth",service="quay.io""#][..],
                &["Basic realm=quay", "Bearer realm=https://quay.io/v2/auth service=quay.io"][..],
            ),
            (
                &[r#"Basic realm="a""#, "bEaReR Realm=https://b/c?d=e,service=f"],
                &["Basic realm=a", "Bearer realm=https://b/c?d=e service=f"],
            ),
            (&["Bearer realm=\"a\"", "service=\"b\""], &["Bearer realm=a service=b"]),
            (&[r#"Bearer realm="a\"b\\c, Basic d=\"e""#], &[r#"Bearer realm=a"b\c, Basic d="e"#]),
            (&["Negotiate, NTLM abc==, Basic realm=x"], &["Negotiate", "NTLM abc==", "Basic realm=x"]),
            (&["Negotiate YII+/~.-_= , Bearer"], &["Negotiate YII+/~.-_=", "Bearer"]),
            (&["Bearer realm = \"a\" , service\t=\tb ,,"], &["Bearer realm=a service=b"]),
            (&["Basic Bearer realm=\"a\""], &["Basic", "Bearer realm=a"]),
            (&["Bearer realm=\"a\" scope=\"b\""], &["Bearer realm=a scope=b"]),
            (&["Bearer realm=\"never closed, Basic"], &["Bearer realm=never closed, Basic"]),
            (&["Bearer realm=\"a\u{1}é\tb\""], &["Bearer realm=a?? b"]),
            (&["realm=\"a\", Basic realm=\"b\""], &["Basic realm=b"]),
            (&["\"a,b\", /, Basic realm=\"b\", \u{e9}\"x,\\\"y\", service=c"], &["Basic realm=b service=c"]),
            (&["", " , ,"], &[]),
        ] {
            let rows: Vec<String> = parse(lines.iter().copied()).iter().map(row).collect();
            assert_eq!(rows, expected, "{lines:?}");
        }
    }

    #[test]
    fn token_urls() {
        for (line, scope, url) in [
            (
                r#"Bearer realm="https://a/token",service="s.io""#,
                Some("repository:a/b:pull"),
                Some("https://a/token?service=s.io&scope=repository%3Aa%2Fb%3Apull"),
            ),
            (r#"Bearer realm="https://a/token",service="s t&u""#, None, Some("https://a/token?service=s%20t%26u")),
            (
                r#"Bearer realm="https://a/token""#,
                Some(" x:a:pull  x:b:pull "),
                Some("https://a/token?scope=x%3Aa%3Apull&scope=x%3Ab%3Apull"),
            ),
            (
                r#"Bearer realm="https://nvcr.io/proxy_auth?scope=repository:a:pull,push""#,
                Some("repository:a:pull"),
                Some("https://nvcr.io/proxy_auth?scope=repository:a:pull,push"),
            ),
            (r#"Bearer realm="https://a?x=1&",service="s""#, None, Some("https://a?x=1&service=s")),
            (r#"Bearer realm="https://a/b?",service="s""#, None, Some("https://a/b?service=s")),
            (r#"Bearer realm="HTTP://a/b#c",service="s""#, None, Some("HTTP://a/b?service=s")),
            (r#"Bearer realm="/token",service="s""#, None, None),
            (r#"Bearer realm="https:///token""#, None, None),
            (r#"Bearer realm="file://a/token""#, None, None),
            (r#"Bearer realm="https://a/ b""#, None, None),
            ("Bearer service=s", None, None),
            ("Bearer abc=", None, None),
        ] {
            assert_eq!(one(line).token_url(scope).as_deref(), url, "{line}");
        }
    }

    #[test]
    fn in_general_no_repository_is_named() {
        for (line, expected) in [
            (
                r#"Bearer realm="https://a/t",scope="repository:x:pull",error="invalid_token""#,
                r#"Bearer realm="https://a/t""#,
            ),
            (r#"Bearer realm="https://a/t",scope="aws""#, r#"Bearer realm="https://a/t",scope="aws""#),
            (r#"Bearer realm="https://a/t?scope=repository:x:pull,push""#, r#"Bearer realm="https://a/t""#),
            (r#"Bearer realm="https://a/t?b=c&scope=repository%3Ax%3Apull&d""#, r#"Bearer realm="https://a/t?b=c&d""#),
            (r#"Bearer realm="https://a/t?scope=aws""#, r#"Bearer realm="https://a/t?scope=aws""#),
            (r#"Basic realm="x""#, r#"Basic realm="x""#),
        ] {
            let general: Vec<String> =
                parse([line].into_iter()).into_iter().map(|c| c.in_general().to_string()).collect();
            assert_eq!(general, [expected]);
        }
    }

    proptest! {
        #[test]
        fn print_then_parse(lines in prop::collection::vec(r#"((Bearer|Basic|x|realm|scope)|[ =,"\\/]|"[a-c,\\" ]{0,4}"|.){0,16}"#, 0..3)) {
            for challenge in parse(lines.iter().map(String::as_str)) {
                let printed = challenge.to_string();
                prop_assert!(printed.bytes().all(|b| (b' '..=b'~').contains(&b)));
                prop_assert_eq!(parse([printed.as_str()].into_iter()), vec![challenge.clone()]);
                if let Some(url) = challenge.token_url(Some("a:b c")) {
                    prop_assert!(url.bytes().all(|b| b.is_ascii_graphic()));
                }
            }
        }

        #[test]
        fn any_text(lines: Vec<String>) {
            parse(lines.iter().map(String::as_str));
        }
    }
}
