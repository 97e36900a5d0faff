//! What a client asks of a token service, and what it shows of itself (distribution-spec,
//! auth/token.md and auth/oauth.md).

use std::fmt;

use data_encoding::BASE64;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::login::Login;
use super::name::Repository;

/// One thing that a token is to allow (distribution-spec, auth/scope.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To read a repository.
    Pull(Repository),
    /// To read it, and more.
    PullAndMore(Repository),
    /// All of a registry: `aws`, which public.ecr.aws wants for everything.
    Whole,
    /// What no pull needs: to write only, to list the catalog.
    Other,
}

impl Scope {
    fn parse(text: &str) -> Scope {
        let Some((kind, rest)) = text.split_once(':') else { return Scope::Whole };
        let Some((name, actions)) = rest.rsplit_once(':') else { return Scope::Other };
        match name.parse() {
            Ok(repository) if kind == "repository" && actions == "pull" => Scope::Pull(repository),
            Ok(repository) if kind == "repository" && actions.split(',').any(|action| action == "pull") => {
                Scope::PullAndMore(repository)
            }
            _ => Scope::Other,
        }
    }

    /// The repository, if it is about one.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Scope::Pull(repository) | Scope::PullAndMore(repository) => Some(repository),
            Scope::Whole | Scope::Other => None,
        }
    }
}

/// A request for a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// What for. Nothing: to see whether a login is good.
    pub scopes: Vec<Scope>,
    /// Who asks, as far as the request's parameters say.
    pub login: Option<Login>,
    /// It has a `service` or a `scope`, and what else it has is known.
    pub is_sound: bool,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("scopes", &self.scopes).field("login", &self.login).finish_non_exhaustive()
    }
}

impl TokenRequest {
    /// Of a GET: the query of its URL. Who asks is in its `Authorization`, if anywhere; see
    /// [`basic`].
    pub fn of_query(query: &str) -> TokenRequest {
        let known = |name: &str| matches!(name, "service" | "scope" | "client_id" | "account" | "offline_token" | "");
        TokenRequest { login: None, ..TokenRequest::read(query.as_bytes(), known) }
    }

    /// Of a POST: its form. A grant that is neither of a password nor of a refresh token is no
    /// login, and not sound.
    pub fn of_form(form: &[u8]) -> TokenRequest {
        let read = TokenRequest::read(form, |_| true);
        TokenRequest { is_sound: read.is_sound && read.login.is_some(), ..read }
    }

    fn read(pairs: &[u8], known: impl Fn(&str) -> bool) -> TokenRequest {
        let (mut scopes, mut names_one, mut all_known) = (Vec::new(), false, true);
        let (mut grant, mut username, mut password, mut refresh) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(pairs) {
            let value = Zeroizing::new(value.into_owned());
            all_known &= known(&name);
            names_one |= matches!(&*name, "service" | "scope");
            match &*name {
                // More than one may stand in one parameter, with blanks between.
                "scope" => scopes.extend(value.split(' ').filter(|scope| !scope.is_empty()).map(Scope::parse)),
                "grant_type" => grant = Some(value),
                "username" => username = Some(value),
                "password" => password = Some(value),
                "refresh_token" => refresh = Some(value),
                _ => {}
            }
        }
        let login = match (grant.as_deref().map(String::as_str), username, password, refresh) {
            (Some("password"), Some(username), Some(password), _) => {
                Some(Login::Password { username: username.to_string(), password })
            }
            (Some("refresh_token"), _, _, Some(token)) => Some(Login::Identity(token)),
            _ => None,
        };
        TokenRequest { scopes, login, is_sound: names_one && all_known }
    }
}

/// The login of an `Authorization: Basic …` (RFC 7617, 2).
pub fn basic(authorization: &[u8]) -> Option<Login> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(rest.trim_ascii()).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Login::Password { username: username.to_owned(), password: Zeroizing::new(password.to_owned()) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(request: &TokenRequest) -> String {
        let word = |scope: &Scope| match scope {
            Scope::Pull(name) => name.to_string(),
            Scope::PullAndMore(name) => format!("{name}+"),
            Scope::Whole => "whole".to_owned(),
            Scope::Other => "other".to_owned(),
        };
        request.scopes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_a_token_is_asked_for() {
        for (query, expected, sound) in [
            ("service=s&scope=repository:a/b:pull", "a/b", true),
            ("scope=repository%3Aa%2Fb%3Apull&scope=repository:c:pull", "a/b c", true),
            ("scope=repository:a:pull%20repository:b:pull+repository:c:pull", "a b c", true),
            ("scope=repository:a:pull,push&client_id=docker&account=u", "a+", true),
            ("scope=repository:a:pull repository:b:*", "a other", true),
            ("scope=repository:A:pull&scope=repository:a", "other other", true),
            ("scope=registry:catalog:*", "other", true),
            ("scope=repository:a:push", "other", true),
            ("service=public.ecr.aws&scope=aws", "whole", true),
            ("scope=", "", true),
            ("service=s&offline_token=true", "", true),
            ("service=s&private_token=x", "", false),
            ("client_id=docker", "", false),
            ("", "", false),
        ] {
            let request = TokenRequest::of_query(query);
            assert_eq!((words(&request).as_str(), request.is_sound), (expected, sound), "{query}");
            assert_eq!(request.login, None, "{query}");
        }
    }

    #[test]
    fn what_a_client_shows() {
        let password = |name: &str, word: &str| {
            Some(Login::Password { username: name.into(), password: Zeroizing::new(word.into()) })
        };
        let service = "&service=s&client_id=containerd-client&scope=repository:a:pull repository:b:pull";
        for (form, login) in [
            ("grant_type=password&username=u&password=p%26w+x", password("u", "p&w x")),
            (
                "grant_type=refresh_token&refresh_token=r&access_type=offline",
                Some(Login::Identity(Zeroizing::new("r".into()))),
            ),
            ("grant_type=password&username=u", None),
            ("grant_type=authorization_code&username=u&password=p", None),
            ("username=u&password=p", None),
        ] {
            let request = TokenRequest::of_form(format!("{form}{service}").as_bytes());
            assert_eq!((words(&request).as_str(), request.is_sound), ("a b", login.is_some()), "{form}");
            assert_eq!(request.login, login, "{form}");
            assert!(!format!("{request:?}").contains("p&w"));
        }
        assert_eq!(basic(b"Basic dTpwOnc="), password("u", "p:w"));
        assert_eq!(basic(b"bASIC  dTpwOnc= "), password("u", "p:w"));
        for wrong in [&b"Basic"[..], b"Basic dTp", b"Basic !", b"Bearer dTpwOnc=", b"Basic dQ==", b""] {
            assert_eq!(basic(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            TokenRequest::of_form(&bytes);
            TokenRequest::of_query(&String::from_utf8_lossy(&bytes));
            basic(&bytes);
        }

        #[test]
        fn every_scope_is_found(names in prop::collection::vec("[a-z]{1,5}(/[a-z]{1,5})?", 1..5)) {
            let scopes: Vec<String> = names.iter().map(|name| format!("repository:{name}:pull")).collect();
            let together = TokenRequest::of_query(&format!("scope={}", scopes.join("+")));
            prop_assert_eq!(words(&together), names.join(" "));
            prop_assert_eq!(together, TokenRequest::of_query(&format!("scope={}", scopes.join("&scope="))));
        }
    }
}
