//! Who may: challenges, the token endpoint, Basic.

use data_encoding::BASE64;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::answer::Answer;
use super::record::{Ask, Seen, params};
use super::state::{Auth, State};

/// The user a request comes from (None: anonymous), or the answer that refuses it.
pub(super) fn admit(state: &State, seen: &Seen) -> Result<Option<String>, Box<Answer>> {
    let action = if [Method::GET, Method::HEAD].contains(&seen.method) { "pull" } else { "push" };
    let repository = seen.ask.repository();
    match state.setup.auth {
        Auth::None => Ok(None),
        Auth::Basic => {
            let Some(Ok(user)) = basic(state, seen) else {
                let host = &state.setup.host;
                let mut answer = Answer::text(StatusCode::UNAUTHORIZED, "Not Authorized\n");
                answer
                    .set("www-authenticate", &format!(r#"Basic realm="https://{host}/",service="ecr.amazonaws.com""#));
                return Err(Box::new(answer));
            };
            if repository.is_some_and(|name| !state.may(Some(&user), name, action)) {
                return Err(Box::new(Answer::error(StatusCode::FORBIDDEN, "DENIED")));
            }
            Ok(Some(user))
        }
        Auth::Token => {
            let Some(credential) = seen.authorization() else {
                return Err(Box::new(challenge(state, seen, action, None)));
            };
            let sent = credential.strip_prefix("Bearer ").and_then(|token| state.tokens.get(token));
            let Some(token) = sent.filter(|token| token.until > tokio::time::Instant::now()) else {
                return Err(Box::new(challenge(state, seen, action, Some("invalid_token"))));
            };
            let covers = |name: &str| {
                token.allowed.contains(&(name.to_owned(), action.to_owned()))
                    && state.may(token.user.as_deref(), name, action)
            };
            let hidden =
                |name: &str| state.setup.hides && !covers(name) && !state.may(token.user.as_deref(), name, "pull");
            if repository.is_some_and(hidden) {
                return Err(Box::new(Answer::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN")));
            }
            if repository.is_some_and(|name| !covers(name)) {
                return Err(Box::new(challenge(state, seen, action, Some("insufficient_scope"))));
            }
            Ok(token.user.clone())
        }
    }
}

fn challenge(state: &State, seen: &Seen, action: &str, error: Option<&str>) -> Answer {
    let mut value = format!(r#"Bearer realm="{}",service="{}""#, realm(state), state.setup.service);
    if let Some(repository) = seen.ask.repository() {
        let actions = if action == "push" { "pull,push" } else { "pull" };
        value.push_str(&format!(r#",scope="repository:{repository}:{actions}""#));
    }
    if let Some(error) = error {
        value.push_str(&format!(r#",error="{error}""#));
    }
    let mut answer = Answer::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    answer.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_str(&value).expect("ASCII"));
    answer
}

fn realm(state: &State) -> String {
    let scheme = if state.setup.tls { "https" } else { "http" };
    state.setup.realm.clone().unwrap_or_else(|| format!("{scheme}://{}/token", state.setup.auth_host))
}

/// None: no Basic credentials were sent. Err: wrong ones.
fn basic(state: &State, seen: &Seen) -> Option<Result<String, ()>> {
    let encoded = seen.authorization()?.strip_prefix("Basic ")?;
    let decoded = BASE64.decode(encoded.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.unwrap_or_default();
    let (user, password) = decoded.split_once(':').unwrap_or_default();
    Some(verified(state, user, password))
}

fn verified(state: &State, user: &str, password: &str) -> Result<String, ()> {
    match state.users.get(user) {
        Some(known) if known == password => Ok(user.to_owned()),
        _ => Err(()),
    }
}

/// GET with Basic or nobody; POST with a password or a refresh token in its form.
pub(super) fn token(state: &mut State, seen: &Seen, form: &[u8]) -> Answer {
    debug_assert_eq!(seen.ask, Ask::Token);
    let form = String::from_utf8_lossy(form).into_owned();
    let asked = params(Some(if seen.method == Method::POST { &form } else { seen.query.as_deref().unwrap_or("") }));
    let field = |name: &str| asked.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let who = match field("grant_type") {
        Some("password") => {
            verified(state, field("username").unwrap_or_default(), field("password").unwrap_or_default()).map(Some)
        }
        Some("refresh_token") => {
            let user = field("refresh_token").and_then(|token| token.strip_prefix("refresh-"));
            user.filter(|user| state.users.contains_key(*user)).map(|user| Some(user.to_owned())).ok_or(())
        }
        Some(_) => Err(()),
        None => basic(state, seen).transpose(),
    };
    let Ok(user) = who else {
        let body = json!({ "details": "incorrect username or password" });
        return Answer::json(StatusCode::UNAUTHORIZED, &body);
    };
    let scopes = asked.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let wanted: Vec<(String, String)> = scopes.flat_map(scope).collect();
    let (token, life) = state.issue(user.as_deref(), &wanted);
    let mut reply = json!({ "token": token, "access_token": token });
    if let Some(life) = life {
        reply["expires_in"] = life.into();
    }
    if field("offline_token") == Some("true") || field("access_type") == Some("offline") {
        reply["refresh_token"] = format!("refresh-{}", user.as_deref().unwrap_or_default()).into();
    }
    Answer::json(StatusCode::OK, &reply)
}

/// `repository:a/b:pull,push` → (a/b, pull), (a/b, push)
fn scope(text: &str) -> Vec<(String, String)> {
    let Some((name, actions)) = text.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':')) else {
        return Vec::new();
    };
    actions.split(',').map(|action| (name.to_owned(), action.to_owned())).collect()
}
