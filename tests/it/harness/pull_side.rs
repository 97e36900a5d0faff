//! What clients read: manifests with their quota, blobs here or at the CDN, lists.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, Ranges};
use super::faults::PULL_LIMIT;
use super::image::{Blob, OCI_INDEX, sha256};
use super::record::{Ask, Seen};
use super::state::{ANONYMOUS_SOURCE, State};

pub(super) fn answer(state: &mut State, seen: &Seen, user: Option<&str>) -> Answer {
    match &seen.ask {
        Ask::Ping => Answer::json(StatusCode::OK, &json!({})),
        Ask::Manifest { repository, reference } => manifest(state, seen, user, repository, reference),
        Ask::Blob { repository, digest } => blob(state, user, repository, digest),
        Ask::Tags { repository } => tags(state, seen, repository),
        Ask::Catalog => {
            let names: Vec<String> = state.repos.keys().cloned().collect();
            let (page, next) = page(state, seen, &names);
            listed(json!({ "repositories": page }), "/v2/_catalog", next)
        }
        Ask::Referrers { repository, digest } => referrers(state, seen, repository, digest),
        _ => Answer::error(StatusCode::NOT_FOUND, "UNSUPPORTED"),
    }
}

fn manifest(state: &mut State, seen: &Seen, user: Option<&str>, repository: &str, reference: &str) -> Answer {
    let accept: Vec<&str> = seen
        .headers
        .get_all("accept")
        .iter()
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .map(|one| one.split(';').next().unwrap_or_default().trim())
        .collect();
    let source = user.unwrap_or(ANONYMOUS_SOURCE);
    let counted = seen.method == Method::GET;
    if counted && state.remaining(source) == Some(0) {
        let spent = Answer::new(StatusCode::TOO_MANY_REQUESTS, "application/json", Blob::new(PULL_LIMIT));
        return with_quota(state, spent, source);
    }
    let may = state.repos.get(repository).is_some_and(|repo| repo.opens(reference, user));
    let found = state.manifest(repository, reference, &accept).filter(|_| may);
    let Some((digest, media_type, bytes)) = found else {
        let code = if state.repos.contains_key(repository) { "MANIFEST_UNKNOWN" } else { "NAME_UNKNOWN" };
        let unknown = Answer::error(StatusCode::NOT_FOUND, code);
        return with_quota(state, unknown, source);
    };
    if let Some(refused) = blocked(state, repository, &digest) {
        return refused;
    }
    if counted && state.setup.quota.is_some() {
        *state.spent.entry(source.to_owned()).or_default() += 1;
    }
    // If-None-Match saves bytes, not quota (docs/protocol.md 1.2).
    let etag = format!("\"{digest}\"");
    let same = seen.header("if-none-match").is_some_and(|known| known.contains(&etag));
    let status = if same { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let answer = Answer::new(status, &media_type, Blob::new(bytes))
        .with("docker-content-digest", &digest)
        .with("docker-distribution-api-version", "registry/2.0")
        .with("etag", &etag);
    with_quota(state, answer, source)
}

/// Harbor's 412 of a scanner, a lawyer's 451.
fn blocked(state: &State, repository: &str, digest: &str) -> Option<Answer> {
    let status = state.repos.get(repository)?.blocked.get(digest)?;
    Some(Answer::error(StatusCode::from_u16(*status).expect("a status"), "DENIED"))
}

fn with_quota(state: &State, mut answer: Answer, source: &str) -> Answer {
    if let (Some(quota), Some(remaining)) = (&state.setup.quota, state.remaining(source)) {
        answer.set("ratelimit-limit", &format!("{};w={}", quota.limit, quota.window));
        answer.set("ratelimit-remaining", &format!("{remaining};w={}", quota.window));
        answer.set("docker-ratelimit-source", source);
    }
    answer
}

fn blob(state: &mut State, user: Option<&str>, repository: &str, digest: &str) -> Answer {
    let repo = state.repos.get(repository).filter(|repo| repo.opens(digest, user));
    let Some(blob) = repo.and_then(|repo| repo.blobs.get(digest)).cloned() else {
        return Answer::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    };
    if let Some(refused) = blocked(state, repository, digest) {
        return refused;
    }
    if state.setup.cdn.is_some() {
        let url = state.sign(repository, digest);
        let mut answer = Answer::empty(StatusCode::TEMPORARY_REDIRECT).with("location", &url);
        answer.set("docker-content-digest", digest);
        return answer;
    }
    bytes(blob).with("docker-content-digest", digest).with("etag", &format!("\"{digest}\""))
}

fn bytes(blob: Blob) -> Answer {
    let mut answer = Answer::new(StatusCode::OK, "application/octet-stream", blob);
    answer.ranges = Ranges::Honoured;
    answer
}

/// The CDN: only its own signatures open anything, and a second credential is one too many.
pub(super) fn signed(state: &mut State, seen: &Seen, digest: &str) -> Answer {
    if seen.authorization().is_some() {
        return Answer::text(StatusCode::BAD_REQUEST, "Only one auth mechanism allowed\n");
    }
    let n = seen.param("n").and_then(|n| n.parse::<u64>().ok());
    let Some(signed) = n.and_then(|n| state.signed.get_mut(&n)).filter(|signed| signed.digest == digest) else {
        return Answer::text(StatusCode::FORBIDDEN, "Request has expired\n");
    };
    if let Some(uses) = &mut signed.uses_left {
        if *uses == 0 {
            return Answer::text(StatusCode::FORBIDDEN, "Request has expired\n");
        }
        *uses -= 1;
    }
    let repository = signed.repository.clone();
    match state.repos.get(&repository).and_then(|repo| repo.blobs.get(digest)).cloned() {
        Some(blob) => bytes(blob).with("etag", "\"the-storage-has-its-own-0\""),
        None => Answer::text(StatusCode::NOT_FOUND, "NoSuchKey\n"),
    }
}

fn tags(state: &State, seen: &Seen, repository: &str) -> Answer {
    let Some(repo) = state.repos.get(repository) else {
        return Answer::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
    };
    let all: Vec<String> = repo.tags.keys().cloned().collect();
    let (page, next) = page(state, seen, &all);
    listed(json!({ "name": repository, "tags": page }), &format!("/v2/{repository}/tags/list"), next)
}

/// One page (`n`, `last`) and, when there are more, the next one's query.
fn page(state: &State, seen: &Seen, all: &[String]) -> (Vec<String>, Option<String>) {
    let n = seen.param("n").and_then(|n| n.parse().ok()).unwrap_or(state.setup.page).min(state.setup.page);
    let last = seen.param("last");
    let after = all.iter().filter(|item| last.as_ref().is_none_or(|last| *item > last));
    let mut page: Vec<String> = after.take(n + 1).cloned().collect();
    let more = page.len() > n;
    page.truncate(n);
    let next = page.last().filter(|_| more).map(|last| format!("n={n}&last={last}"));
    (page, next)
}

fn listed(body: Value, path: &str, next: Option<String>) -> Answer {
    let answer = Answer::json(StatusCode::OK, &body);
    match next {
        Some(query) => answer.with("link", &format!("<{path}?{query}>; rel=\"next\"")),
        None => answer,
    }
}

fn referrers(state: &State, seen: &Seen, repository: &str, digest: &str) -> Answer {
    let Some(repo) = state.repos.get(repository) else {
        return Answer::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
    };
    let wanted = seen.param("artifactType");
    let mut found = Vec::new();
    for (media_type, bytes) in repo.manifests.values() {
        let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let artifact = manifest["artifactType"].as_str();
        if manifest["subject"]["digest"].as_str() == Some(digest) && (wanted.is_none() || wanted.as_deref() == artifact)
        {
            found.push(json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len(),
                               "artifactType": artifact }));
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found });
    let answer = Answer::new(StatusCode::OK, OCI_INDEX, Blob::new(index.to_string()));
    if wanted.is_some() { answer.with("oci-filters-applied", "artifactType") } else { answer }
}
