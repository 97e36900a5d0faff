//! What clients write: uploads (monolithic, streamed, chunked, mounted), manifests, deletions. All
//! of it is kept.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::answer::Answer;
use super::image::{Blob, Hash, sha256};
use super::record::{Ask, Seen, params};
use super::server::Shared;
use super::state::State;
use super::wire::News;

/// Reads what was sent; Err: the client broke off.
pub(super) async fn received(mut incoming: Incoming, seen: &Seen, news: &News) -> Result<Bytes, ()> {
    let mut bytes = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(|_| ())?.into_data() {
            bytes.extend_from_slice(&data);
            seen.fate.received.fetch_add(data.len() as u64, SeqCst);
            news.tell();
        }
    }
    Ok(bytes.into())
}

pub(super) async fn answer(shared: &Shared, seen: &Seen, incoming: Incoming) -> Answer {
    let Ok(bytes) = received(incoming, seen, &shared.news).await else {
        return Answer::error(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
    };
    let state = &mut *shared.state.lock();
    match &seen.ask {
        Ask::StartUpload { repository } if seen.method == Method::POST => start(state, seen, repository, bytes),
        Ask::Upload { repository, id } => upload(state, seen, repository, id, &bytes),
        Ask::Manifest { repository, reference } if seen.method == Method::PUT => {
            manifest(state, seen, repository, reference, bytes)
        }
        Ask::Manifest { repository, reference } if seen.method == Method::DELETE => {
            let repo = state.repo(repository);
            let known = repo.tags.remove(reference).is_some() | repo.manifests.remove(reference).is_some();
            repo.tags.retain(|_, digest| digest != reference);
            deleted(known, "MANIFEST_UNKNOWN")
        }
        Ask::Blob { repository, digest } if seen.method == Method::DELETE => {
            deleted(state.repo(repository).blobs.remove(digest).is_some(), "BLOB_UNKNOWN")
        }
        _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    }
}

fn deleted(known: bool, code: &str) -> Answer {
    if known { Answer::empty(StatusCode::ACCEPTED) } else { Answer::error(StatusCode::NOT_FOUND, code) }
}

fn start(state: &mut State, seen: &Seen, repository: &str, bytes: Bytes) -> Answer {
    if let Some(digest) = seen.param("digest") {
        return keep(state, repository, &digest, bytes);
    }
    if let (Some(digest), Some(from)) = (seen.param("mount"), seen.param("from")) {
        let there = state.repos.get(&from).and_then(|repo| repo.blobs.get(&digest)).cloned();
        if let Some(blob) = there {
            state.repo(repository).blobs.insert(digest.clone(), blob);
            return created(repository, "blobs", &digest);
        }
    }
    let id = format!("upload-{}", state.next());
    state.uploads.insert(id.clone(), Vec::new());
    progress(StatusCode::ACCEPTED, repository, &id, 0)
}

fn upload(state: &mut State, seen: &Seen, repository: &str, id: &str, bytes: &Bytes) -> Answer {
    let Some(upload) = state.uploads.get_mut(id) else {
        return Answer::error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    };
    let first = seen.header("content-range").and_then(|range| range.split('-').next()).and_then(|n| n.parse().ok());
    if first.is_some_and(|first: usize| first != upload.len()) {
        return progress(StatusCode::RANGE_NOT_SATISFIABLE, repository, id, upload.len());
    }
    upload.extend_from_slice(bytes);
    let len = upload.len();
    match seen.method {
        Method::PATCH => progress(StatusCode::ACCEPTED, repository, id, len),
        Method::GET => progress(StatusCode::NO_CONTENT, repository, id, len),
        Method::PUT => {
            let bytes = state.uploads.remove(id).expect("looked up above");
            let Some(digest) = seen.param("digest") else {
                return Answer::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
            };
            keep(state, repository, &digest, bytes.into())
        }
        Method::DELETE => {
            state.uploads.remove(id);
            Answer::empty(StatusCode::NO_CONTENT)
        }
        _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    }
}

fn keep(state: &mut State, repository: &str, digest: &str, bytes: Bytes) -> Answer {
    let mut hash = Hash::like(digest);
    hash.update(&bytes);
    if hash.finish() != digest {
        return Answer::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    let blob = Blob::new(bytes);
    let blob = if digest.starts_with("sha512:") { blob.sha512() } else { blob };
    state.repo(repository).blobs.insert(digest.to_owned(), blob);
    created(repository, "blobs", digest)
}

fn created(repository: &str, kind: &str, digest: &str) -> Answer {
    Answer::empty(StatusCode::CREATED)
        .with("location", &format!("/v2/{repository}/{kind}/{digest}"))
        .with("docker-content-digest", digest)
}

fn progress(status: StatusCode, repository: &str, id: &str, len: usize) -> Answer {
    Answer::empty(status)
        .with("location", &format!("/v2/{repository}/blobs/uploads/{id}?_state=opaque%2Fof%20{len}"))
        .with("range", &format!("0-{}", len.saturating_sub(1)))
        .with("docker-upload-uuid", id)
}

fn manifest(state: &mut State, seen: &Seen, repository: &str, reference: &str, bytes: Bytes) -> Answer {
    let digest = sha256(&bytes);
    if reference.contains(':') && reference != digest {
        return Answer::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    let Ok(json) = serde_json::from_slice::<Value>(&bytes) else {
        return Answer::error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    };
    let media_type = seen.header("content-type").or(json["mediaType"].as_str()).unwrap_or_default().to_owned();
    let repo = state.repo(repository);
    let tags = params(seen.query.as_deref()).into_iter().filter(|(key, _)| key == "tag").map(|(_, tag)| tag);
    let named = (!reference.contains(':')).then(|| reference.to_owned());
    for tag in tags.chain(named) {
        repo.tags.insert(tag, digest.clone());
    }
    repo.manifests.insert(digest.clone(), (media_type, bytes));
    let answer = created(repository, "manifests", &digest);
    match json["subject"]["digest"].as_str() {
        Some(subject) => answer.with("oci-subject", subject),
        None => answer,
    }
}
