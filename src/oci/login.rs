//! Where docker and podman keep logins: `config.json`, `auth.json`, and the `docker-credential-*`
//! programs (docker's "Credential helper protocol").

use std::collections::HashMap;
use std::fmt;

use data_encoding::BASE64;
use serde::Deserialize;
use zeroize::Zeroizing;

/// How somebody proves to a registry who they are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password {
        /// The user's name.
        username: String,
        /// The password or token.
        password: Zeroizing<String>,
    },
    /// A refresh token, for the token service alone (distribution-spec, auth/oauth.md).
    Identity(Zeroizing<String>),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// `Basic …` (RFC 7617), of a name and a password.
    pub fn basic(&self) -> Option<Zeroizing<String>> {
        let Login::Password { username, password } = self else { return None };
        let plain = Zeroizing::new(format!("{username}:{}", password.as_str()));
        let encoded = Zeroizing::new(BASE64.encode(plain.as_bytes()));
        Some(Zeroizing::new(format!("Basic {}", encoded.as_str())))
    }
}

/// A login is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Not the JSON it should be. What it holds instead may be a secret, and is not repeated.
    #[error("it is no docker config.json: line {0}, column {1}")]
    Syntax(usize, usize),
    /// The `auth` of a registry is no base64 of `name:password`.
    #[error("the `auth` of {0} is not base64 of name:password")]
    Auth(String),
    /// The name of a credential program leads elsewhere.
    #[error("`docker-credential-{0}` is no name of a program")]
    Program(String),
    /// A credential program answered something else.
    #[error("it answered something that is no login")]
    Reply,
}

/// docker's `config.json`, as far as logins go.
#[derive(Deserialize)]
pub struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    programs: HashMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Zeroizing<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Zeroizing<String>,
    #[serde(default, rename = "identitytoken")]
    identity: Zeroizing<String>,
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DockerConfig")
    }
}

/// Where a login is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The login is written in the file itself.
    Login(Login),
    /// From the program `docker-credential-NAME`, asked for `server`.
    Program {
        /// The helper's name: `docker-credential-NAME`.
        name: String,
        /// What it is asked for.
        server: String,
        /// What holds if the program knows of none.
        otherwise: Option<Login>,
    },
}

impl DockerConfig {
    /// # Errors
    /// It is not JSON of that shape.
    pub fn parse(text: &[u8]) -> Result<DockerConfig, LoginError> {
        serde_json::from_slice(text).map_err(|error| LoginError::Syntax(error.line(), error.column()))
    }

    /// The login for a registry that goes by any of `hosts`; the first that is known is meant. As
    /// docker does: the program for that registry, else that for all registries that somebody
    /// logged in to, else what is written down.
    ///
    /// # Errors
    /// What is written down makes no sense.
    pub fn entry(&self, hosts: &[String]) -> Result<Option<Entry>, LoginError> {
        let auth = find(&self.auths, hosts);
        let login = auth.map_or(Ok(None), |(host, auth)| auth.login(host))?;
        let store = auth.filter(|_| !self.store.is_empty()).map(|(host, _)| (host, &self.store));
        let Some((server, name)) = find(&self.programs, hosts).or(store) else { return Ok(login.map(Entry::Login)) };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(LoginError::Program(name.chars().take(64).collect()));
        }
        let server = if is_hub(server) { HUB } else { server };
        Ok(Some(Entry::Program { name: name.clone(), server: server.to_owned(), otherwise: login }))
    }
}

/// What Docker Hub goes by in these files, and in what credential programs are asked for.
const HUB: &str = "https://index.docker.io/v1/";

fn is_hub(server: &str) -> bool {
    matches!(server, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// What is written under a host, in one of the forms that `docker login` writes and wrote. Others
/// are about a part of a registry (podman: `quay.io/acme`), or no login for pulls (docker:
/// `https://index.docker.io/v1/refresh-token`).
fn find<'a, V>(map: &'a HashMap<String, V>, hosts: &[String]) -> Option<(&'a str, &'a V)> {
    let forms = ["", "https://", "http://"].map(|before| ["", "/", "/v1/", "/v2/"].map(|after| (before, after)));
    let keys = hosts
        .iter()
        .flat_map(|host| forms.iter().flatten().map(move |(before, after)| format!("{before}{host}{after}")));
    keys.into_iter().find_map(|key| map.get_key_value(&key)).map(|(key, value)| (key.as_str(), value))
}

impl Auth {
    fn login(&self, host: &str) -> Result<Option<Login>, LoginError> {
        if !self.identity.is_empty() {
            return Ok(Some(Login::Identity(self.identity.clone())));
        }
        if self.auth.is_empty() {
            let (username, password) = (self.username.clone(), self.password.clone());
            return Ok((!username.is_empty()).then_some(Login::Password { username, password }));
        }
        let wrong = || LoginError::Auth(host.to_owned());
        let bytes = Zeroizing::new(BASE64.decode(self.auth.as_bytes()).map_err(|_| wrong())?);
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
        // docker cuts NULs off the end.
        let (username, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(wrong)?;
        let password = Zeroizing::new(password.to_owned());
        Ok(Some(Login::Password { username: username.to_owned(), password }))
    }
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: Zeroizing<String>,
}

/// What a credential program printed after `get`.
///
/// # Errors
/// It is no login.
pub fn parse_program_reply(text: &[u8]) -> Result<Login, LoginError> {
    let said: Said = serde_json::from_slice(text).map_err(|_| LoginError::Reply)?;
    if said.secret.is_empty() {
        return Err(LoginError::Reply);
    }
    // "<token>": the secret is an identity token.
    Ok(if said.username == "<token>" {
        Login::Identity(said.secret)
    } else {
        Login::Password { username: said.username, password: said.secret }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn password(username: &str, password: &str) -> Login {
        Login::Password { username: username.into(), password: Zeroizing::new(password.into()) }
    }

    fn entry(json: &str, hosts: &[&str]) -> Result<Option<Entry>, LoginError> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        DockerConfig::parse(json.as_bytes())?.entry(&hosts)
    }

    const HOSTS: &[&str] = &["registry-1.docker.io", "docker.io", "index.docker.io"];

    #[test]
    fn logins_that_are_written_down() {
        let found = |json, hosts| entry(json, hosts).unwrap();
        let login = |login| Some(Entry::Login(login));
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="},"ghcr.io":{"username":"g","password":"h"}}}"#;
        assert_eq!(found(hub, HOSTS), login(password("u", "p:w")));
        assert_eq!(found(hub, &["ghcr.io"]), login(password("g", "h")));
        assert_eq!(found(hub, &["quay.io"]), None);
        assert_eq!(found(r#"{"auths":{"quay.io/acme":{"auth":"dTpw"}}}"#, &["quay.io"]), None);
        assert_eq!(
            found(r#"{"auths":{"https://r:5000/v2/":{"auth":"dTpwAAA="}}}"#, &["r:5000"]),
            login(password("u", "p"))
        );
        let identity = r#"{"auths":{"acr.io":{"auth":"MDowOg==","identitytoken":"i"}}}"#;
        assert_eq!(found(identity, &["acr.io"]), login(Login::Identity(Zeroizing::new("i".into()))));
        assert_eq!(found(r#"{"auths":{"r":{}}}"#, &["r"]), None);
        assert_eq!(found("{}", &["r"]), None);
        // What `docker login` by a browser leaves beside the login.
        let web = r#"{"auths":{"https://index.docker.io/v1/refresh-token":{"auth":"dTpy"},"https://index.docker.io/v1/":{"auth":"dTpw"},
            "https://index.docker.io/v1/access-token":{"auth":"dTph"}}}"#;
        assert_eq!(found(web, HOSTS), login(password("u", "p")));
    }

    #[test]
    fn logins_that_programs_know() {
        let program = |json, hosts| match entry(json, hosts).unwrap() {
            Some(Entry::Program { name, server, otherwise }) => format!("{name} {server} {}", otherwise.is_some()),
            other => panic!("{other:?}"),
        };
        let ecr = r#"{"credHelpers":{"1.dkr.ecr.eu.amazonaws.com":"ecr-login"},"credsStore":"pass","auths":{"ghcr.io":{"auth":"dTpw"}}}"#;
        assert_eq!(program(ecr, &["1.dkr.ecr.eu.amazonaws.com"]), "ecr-login 1.dkr.ecr.eu.amazonaws.com false");
        assert_eq!(program(ecr, &["ghcr.io"]), "pass ghcr.io true");
        assert_eq!(entry(ecr, HOSTS), Ok(None), "nobody logged in there");
        let store = r#"{"credsStore":"pass","auths":{"https://index.docker.io/v1/":{}}}"#;
        assert_eq!(program(store, HOSTS), "pass https://index.docker.io/v1/ false");
        let hub = r#"{"credHelpers":{"docker.io":"x"}}"#;
        assert_eq!(program(hub, HOSTS), "x https://index.docker.io/v1/ false");
    }

    #[test]
    fn what_makes_no_sense_is_said_without_the_secret() {
        assert_eq!(entry("{\n\"auths\": 3}", &[]), Err(LoginError::Syntax(2, 10)));
        for auth in ["!", "dTpw=", "bm9jb2xvbg=="] {
            let error = entry(&format!(r#"{{"auths":{{"r":{{"auth":"{auth}"}}}}}}"#), &["r"]).unwrap_err();
            assert_eq!(error.to_string(), "the `auth` of r is not base64 of name:password");
        }
        for name in ["../../evil", "a b", "$(x)", "a/b"] {
            let error = entry(&format!(r#"{{"credHelpers":{{"r":"{name}"}}}}"#), &["r"]).unwrap_err();
            assert_eq!(error, LoginError::Program(name.into()));
        }
    }

    #[test]
    fn what_programs_say() {
        assert_eq!(
            parse_program_reply(br#"{"ServerURL":"s","Username":"AWS","Secret":"t"}"#),
            Ok(password("AWS", "t"))
        );
        assert!(matches!(parse_program_reply(br#"{"Username":"<token>","Secret":"t"}"#), Ok(Login::Identity(_))));
        for wrong in ["credentials not found in native keychain", "{}", r#"{"Username":"u","Secret":""}"#, ""] {
            assert_eq!(parse_program_reply(wrong.as_bytes()), Err(LoginError::Reply), "{wrong}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let login = password("user", "hunter2");
        let config = DockerConfig::parse(br#"{"auths":{"r":{"password":"hunter2"}}}"#).unwrap();
        assert!(!format!("{login:?} {config:?}").contains("hunter2"));
        assert_eq!(login.basic().unwrap().as_str(), "Basic dXNlcjpodW50ZXIy");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse_program_reply(&bytes);
            if let Ok(config) = DockerConfig::parse(&bytes) {
                let _ = config.entry(&["r".to_owned()]);
            }
        }

        #[test]
        fn any_login_is_read_back(username in "[^:\0]{1,20}", secret in "[^\0]{1,40}") {
            let auth = BASE64.encode(format!("{username}:{secret}").as_bytes());
            let found = entry(&format!(r#"{{"auths":{{"r":{{"auth":"{auth}"}}}}}}"#), &["r"]);
            prop_assert_eq!(found, Ok(Some(Entry::Login(password(&username, &secret)))));
        }
    }
}
