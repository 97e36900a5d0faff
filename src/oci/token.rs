//! What a token host answers (distribution-spec, auth/token.md "Token Response Fields").

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::name::Repository;

/// A token, and how long it is good.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenReply {
    /// To be sent as `Authorization: Bearer …`; printable ASCII without blanks.
    pub token: Zeroizing<String>,
    /// From the moment of receipt; at least 60 s, which is also what is meant when nothing is said,
    /// and at most a day.
    pub expires_in: Duration,
    /// The reply holds a secret of long life too: it belongs to whoever asked and is never to be
    /// kept.
    pub has_refresh_token: bool,
}

impl fmt::Debug for TokenReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReply").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

const SHORTEST: f64 = 60.0;
/// A number that cannot overflow a clock. Every client asks again on a 401 anyway.
const LONGEST: f64 = 86_400.0;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refresh_token: Option<Cow<'a, str>>,
    /// A number; a string with some.
    expires_in: Option<Value>,
}

/// Reads the body of a `200` from a token host. `None` when there is no token in it, or one that no
/// header could carry.
pub fn parse_token_reply(body: &[u8]) -> Option<TokenReply> {
    let fields: Fields<'_> = serde_json::from_slice(body).ok()?;
    let given = |text: &Cow<'_, str>| !text.is_empty();
    let token = fields.token.filter(given).or(fields.access_token.filter(given))?;
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let seconds = match fields.expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok().filter(|s: &f64| s.is_finite()),
        _ => None,
    };
    Some(TokenReply {
        token: Zeroizing::new(token.into_owned()),
        expires_in: Duration::from_secs_f64(seconds.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST)),
        has_refresh_token: fields.refresh_token.is_some_and(|t| !t.is_empty()),
    })
}

/// The query of a token request, with other names for its repositories.
pub fn renamed_scopes(query: &str, renamed: impl Fn(&Repository) -> Repository) -> String {
    let rename = |scope: &str| {
        let parts = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
        match parts.and_then(|(name, actions)| Some((name.parse().ok()?, actions))) {
            Some((repository, actions)) => format!("repository:{}:{actions}", renamed(&repository)),
            None => scope.to_owned(),
        }
    };
    let mut query_again = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "scope" {
            let scopes: Vec<String> = value.split(' ').map(rename).collect();
            query_again.append_pair(&name, &scopes.join(" "));
        } else {
            query_again.append_pair(&name, &value);
        }
    }
    query_again.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_are_renamed() {
        let renamed = |name: &Repository| name.as_str().replace("bitnami/", "bitnamilegacy/").parse().unwrap();
        let said =
            renamed_scopes("service=s&scope=repository:bitnami/nginx:pull+repository:a/b:pull,push&account=u", renamed);
        let expected =
            "service=s&scope=repository%3Abitnamilegacy%2Fnginx%3Apull+repository%3Aa%2Fb%3Apull%2Cpush&account=u";
        assert_eq!(said, expected);
        assert_eq!(renamed_scopes("scope=registry:catalog:*", renamed), "scope=registry%3Acatalog%3A*");
    }

    #[test]
    fn replies() {
        for (body, expected) in [
            (
                r#"{"token":"a.b-c_d","access_token":"e","expires_in":300,"issued_at":"x"}"#,
                Some(("a.b-c_d", 300, false)),
            ),
            (r#"{"token":"a"}"#, Some(("a", 60, false))),
            (r#"{"token":"","access_token":"b","expires_in":5}"#, Some(("b", 60, false))),
            (r#"{"access_token":"b","expires_in":null,"refresh_token":null}"#, Some(("b", 60, false))),
            (r#"{"token":"a","expires_in":3600.0,"refresh_token":"r"}"#, Some(("a", 3600, true))),
            (r#"{"token":"a","expires_in":-1}"#, Some(("a", 60, false))),
            (r#"{"token":"a","expires_in":1e300}"#, Some(("a", 86_400, false))),
            (r#"{"token":"a","expires_in":18446744073709551615}"#, Some(("a", 86_400, false))),
            (r#"{"token":"a","expires_in":"300"}"#, Some(("a", 300, false))),
            (r#"{"token":"a","expires_in":"NaN"}"#, Some(("a", 60, false))),
            (r#"{"token":"a\r\nb"}"#, None),
            (r#"{"token":"é"}"#, None),
            (r#"{"token":""}"#, None),
            (r#"{"details":"incorrect username or password"}"#, None),
            ("<html>", None),
            ("", None),
        ] {
            let reply = parse_token_reply(body.as_bytes());
            let row = reply.as_ref().map(|r| (r.token.as_str(), r.expires_in.as_secs(), r.has_refresh_token));
            assert_eq!(row, expected, "{body}");
        }
    }

    #[test]
    fn debug_hides_the_token() {
        let reply = parse_token_reply(br#"{"token":"secret"}"#).unwrap();
        assert_eq!(format!("{reply:?}"), "TokenReply { expires_in: 60s, .. }");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            parse_token_reply(&bytes);
        }

        #[test]
        fn any_life(seconds: f64) {
            let reply = parse_token_reply(format!(r#"{{"token":"a","expires_in":{seconds:e}}}"#).as_bytes());
            if let Some(reply) = reply {
                prop_assert!((60..=86_400).contains(&reply.expires_in.as_secs()));
            }
        }
    }
}
