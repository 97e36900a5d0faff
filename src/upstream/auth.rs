//! Challenges that registries made, and tokens that were issued to anonymous requests.
//!
//! A token of a request without credentials opens what is public, so one serves all for its life.
//! It is used for the next request without credentials, and given to the next client that asks for
//! one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use moka::sync::Cache;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::http::origin::Origin;
use crate::lru::lru;
use crate::oci::challenge::{Challenge, Scheme, TokenReply};
use crate::oci::name::Repository;

/// A token with less life than this is not given to clients: they take less than 60 s for 60 s.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Namespaces whose challenges are kept: a pattern such as `*.pkg.dev` has as many as clients ask
/// for.
const NAMESPACES: u64 = 4096;
/// Bytes of a URL whose token is kept: some dozens of scopes.
const LONGEST_URL: usize = 4 << 10;
/// Bytes of a token that is kept: GitLab's and ACR's are some thousands.
const LONGEST_TOKEN: usize = 16 << 10;
/// What is left of a token's life when it is no longer used upstream.
const MARGIN: Duration = Duration::from_secs(10);

/// A token that a token service issued.
pub struct Token {
    /// The token itself, as it stands in `Authorization` behind `Bearer`.
    pub value: Zeroizing<String>,
    until: SystemTime,
}

impl Token {
    /// The token of a reply received `now`.
    pub fn new(reply: TokenReply, now: SystemTime) -> Token {
        Token { until: now + reply.expires_in, value: reply.token }
    }

    /// Whether the token is valid for more than a moment.
    pub fn is_good(&self, now: SystemTime) -> bool {
        self.left(now) > MARGIN
    }

    /// The `Authorization` that shows the token to a registry.
    pub fn authorization(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", &*self.value));
        // Tokens are checked to be printable when they are read.
        let mut value = HeaderValue::try_from(text.as_str()).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// How long the token is still valid.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.until.duration_since(now).unwrap_or_default()
    }
}

/// How each namespace wants to be asked, and the anonymous tokens that are valid.
pub struct Auth {
    challenges: Cache<Arc<str>, Arc<[Challenge]>>,
    tokens: Cache<String, Arc<Token>>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { challenges: lru(NAMESPACES), tokens: lru(10_000) }
    }
}

impl Auth {
    /// Keeps the challenges of a 401.
    pub fn learn(&self, namespace: &Arc<str>, challenges: &Arc<[Challenge]>) {
        if !challenges.is_empty() {
            self.challenges.insert(namespace.clone(), challenges.clone());
        }
    }

    /// The challenges that `namespace` made last, if it made any.
    pub fn challenges(&self, namespace: &str) -> Option<Arc<[Challenge]>> {
        self.challenges.get(namespace)
    }

    /// The URL of a token to read `repository`, if `namespace` was ever seen to want one.
    pub fn token_url(&self, namespace: &str, repository: &Repository) -> Option<String> {
        token_url(&self.challenges.get(namespace)?, repository)
    }

    /// Whether seawall itself would ask so to read `repository`, but for a short name of the client.
    pub fn is_usual(&self, namespace: &str, repository: &Repository, url: &str) -> bool {
        let usual = self.token_url(namespace, repository);
        usual.is_some_and(|usual| key(&usual) == key(url) && url.len() <= usual.len() + LONGEST_CLIENT_ID)
    }

    /// Whether `namespace` was seen to want a name and a password.
    pub fn wants_basic(&self, namespace: &str) -> bool {
        self.challenges.get(namespace).is_some_and(|all| all.iter().any(|c| c.scheme == Scheme::Basic))
    }

    /// Whether `namespace` writes scopes into its realm, as nvcr.io does.
    pub fn writes_scopes(&self, namespace: &str) -> bool {
        let challenges = self.challenges.get(namespace);
        let mut realms = challenges.iter().flat_map(|all| all.iter()).filter_map(Challenge::realm);
        realms.any(|realm| realm.contains("?scope=") || realm.contains("&scope="))
    }

    /// Whether `namespace` named this path of this origin as its token service.
    pub fn is_realm(&self, namespace: &str, origin: &Origin, path: &str) -> bool {
        let challenges = self.challenges.get(namespace);
        let mut realms = challenges.iter().flat_map(|all| all.iter()).filter_map(Challenge::realm);
        realms.any(|realm| {
            let Ok((at, target)) = Origin::from_url(realm) else { return false };
            at == *origin && target.split('?').next() == Some(path)
        })
    }

    /// The token last issued for this URL, if it is valid for more than a moment.
    pub fn token(&self, url: &str, now: SystemTime) -> Option<Arc<Token>> {
        self.tokens.get(&key(url)).filter(|token| token.is_good(now))
    }

    /// Keeps a token that was issued to an anonymous request.
    pub fn keep(&self, url: &str, reply: TokenReply, now: SystemTime) -> Arc<Token> {
        let token = Arc::new(Token::new(reply, now));
        // A client writes the URL. What is longer than any that means something is not kept.
        if url.len() <= LONGEST_URL && token.value.len() <= LONGEST_TOKEN {
            self.tokens.insert(key(url), token.clone());
        }
        token
    }

    /// Drops a token that upstream did not take.
    pub fn drop_token(&self, url: &str) {
        self.tokens.invalidate(&key(url));
    }
}

/// Bytes of `&client_id=…` that nothing stumbles over, with what clients escape and seawall does not.
const LONGEST_CLIENT_ID: usize = 64;

/// The URL of a token to read `repository`, by the challenges of its registry.
pub fn token_url(challenges: &[Challenge], repository: &Repository) -> Option<String> {
    let bearer = challenges.iter().find(|c| c.scheme == Scheme::Bearer)?;
    // public.ecr.aws wants the scope "aws" for everything.
    let own = bearer.scope().filter(|scope| !scope.is_empty() && !scope.contains(':'));
    let usual = format!("repository:{repository}:pull");
    let url = bearer.token_url(Some(own.unwrap_or(&usual)))?;
    // nvcr.io has the scope in the realm: what was learnt of one repository is no use for another.
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let scopes = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "scope");
    let ours = format!("repository:{repository}:");
    let mut others = scopes.filter(|(_, scope)| scope.starts_with("repository:") && !scope.starts_with(&ours));
    others.next().is_none().then_some(url)
}

/// The key of a token: the same whatever the order of parameters, and whatever client is named.
fn key(url: &str) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let counts = |pair: &&str| !pair.is_empty() && !pair.starts_with("client_id=");
    let mut pairs: Vec<String> = query.split('&').filter(counts).map(plain).collect();
    pairs.sort_unstable();
    format!("{path}?{}", pairs.join("&"))
}

/// Colons and slashes as clients write them, which some escape and some do not.
fn plain(pair: &str) -> String {
    pair.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(token: &str, seconds: u64) -> TokenReply {
        TokenReply {
            token: Zeroizing::new(token.into()),
            expires_in: Duration::from_secs(seconds),
            has_refresh_token: false,
        }
    }

    #[test]
    fn tokens_are_found_again_whatever_the_order_and_not_after_their_life() {
        let (auth, now) = (Auth::default(), SystemTime::UNIX_EPOCH);
        auth.keep("https://a/token?service=s&scope=repository%3Ax%2Fy%3Apull", reply("t", 300), now);
        let found = auth.token("https://a/token?client_id=docker&scope=repository:x/y:pull&service=s", now).unwrap();
        assert_eq!(&*found.value, "t");
        assert!(auth.token("https://a/token?scope=repository:x/z:pull&service=s", now).is_none());
        let late = now + Duration::from_secs(295);
        assert!(auth.token("https://a/token?service=s&scope=repository:x/y:pull", late).is_none());
    }

    #[test]
    fn challenges_lead_to_realms() {
        let auth = Auth::default();
        let namespace: Arc<str> = "docker.io".into();
        let repository: Repository = "library/alpine".parse().unwrap();
        assert_eq!(auth.token_url("docker.io", &repository), None);
        let learn = |line: &str| auth.learn(&namespace, &crate::oci::challenge::parse([line].into_iter()).into());
        learn(r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#);
        assert_eq!(
            auth.token_url("docker.io", &repository).unwrap(),
            "https://auth.docker.io/token?service=registry.docker.io&scope=repository%3Alibrary%2Falpine%3Apull"
        );
        let origin = Origin::from_url("https://auth.docker.io").unwrap().0;
        assert!(auth.is_realm("docker.io", &origin, "/token"));
        assert!(!auth.is_realm("docker.io", &origin, "/v2/"));
        learn(r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#);
        assert!(auth.token_url("docker.io", &repository).unwrap().ends_with("scope=aws"));
        learn(r#"Bearer realm="https://nvcr.io/proxy_auth?scope=repository:library/alpine:pull,push""#);
        assert!(auth.token_url("docker.io", &repository).is_some());
        assert_eq!(auth.token_url("docker.io", &"library/other".parse().unwrap()), None);
        assert!(auth.writes_scopes("docker.io") && !auth.writes_scopes("ghcr.io"));
    }
}
