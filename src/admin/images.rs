//! `/api/v1/images`: which tags are known, what they name, and how much of that is here.
//!
//! ```text
//! GET  /api/v1/images?after=NAME&limit=N     the tags behind NAME, in order; N is 100 unless said, 1000 at most
//! POST /api/v1/images   { "names": ["docker.io/library/alpine:3.20", "ghcr.io/acme/app@sha256:…"] }      1000 at most
//! ```
//! ```json
//! { "images": [ {
//!     "name": "docker.io/library/alpine:3.20", "cached": "partly", "platforms": ["linux/amd64"],
//!     "digest": "sha256:…", "media_type": "application/vnd.oci.image.index.v1+json", "size": 3623807,
//!     "checked_at": "2026-11-21T12:00:00Z", "used_at": "2026-11-21T12:00:00Z" } ],
//!   "next": "docker.io/library/alpine:3.20" }
//! ```
//!
//! - `cached`: `held` (all of it: it can be pulled while its registry is unreachable), `partly`
//!   (its manifest, and not all that it lists; of an index, some `platforms`), `no`.
//! - `size`: bytes of it that are here. `checked_at`: when upstream last confirmed the tag.
//!   `used_at`: when the manifest was last read.
//! - `next`: what to give as `after` for more; `null` at the end. A POST has none, and the order is
//!   that of `names`.
//!
//! Names of private repositories are among them: the listener is the operator's, as the names in
//! `/api/v1/ratelimits` and in the log are. No bytes of an image are had here.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::reply;
use crate::cache::Cache;
use crate::cache::images::{Budget, Image};
use crate::images::name::Name;
use crate::oci::name::Reference;
use crate::operate::times::rfc3339 as time;
use crate::policy::registry::Registries;
use crate::task;

/// In one answer, unless it is said.
const USUAL: usize = 100;
/// In one answer.
const MOST: usize = 1000;

/// What is shown of the cache, once that is loaded. Clones share it.
#[derive(Clone, Debug)]
pub struct Images {
    shown: Arc<OnceLock<(Cache, Arc<Registries>)>>,
    /// One looks at a time: that reads many files, and clients wait for files.
    looking: Arc<Semaphore>,
}

impl Default for Images {
    fn default() -> Images {
        Images { shown: Arc::default(), looking: Arc::new(Semaphore::new(1)) }
    }
}

impl Images {
    /// From now on it is this.
    pub fn show(&self, cache: Cache, registries: Arc<Registries>) {
        // Set once: a daemon has one cache.
        let _ = self.shown.set((cache, registries));
    }

    /// Does `work` on a thread of its own, and nothing else like it meanwhile, even if no request
    /// waits for it any more.
    async fn look<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let looking = self.looking.clone().acquire_owned().await.expect("never closed");
        task::blocking(move || {
            let _looking = looking;
            work()
        })
        .await
    }
}

/// What is asked for by name.
#[derive(Deserialize)]
pub(super) struct Wanted {
    names: Vec<String>,
}

pub(super) async fn listed(State(images): State<Images>, RawQuery(query): RawQuery) -> Response {
    let Some((cache, _)) = images.shown.get().cloned() else { return reply::starting() };
    let (after, limit) = match page(query.as_deref().unwrap_or_default()) {
        Ok(page) => page,
        Err(why) => return refused(&why),
    };
    let known = images.look(move || cache.images(&after, limit)).await;
    let next = known.last().filter(|_| known.len() == limit).map(|last| last.name.clone());
    let images: Vec<Value> = known.iter().map(image).collect();
    reply::json(StatusCode::OK, &json!({ "images": images, "next": next.as_deref() }))
}

pub(super) async fn looked_up(State(images): State<Images>, Json(wanted): Json<Wanted>) -> Response {
    let Some((cache, registries)) = images.shown.get().cloned() else { return reply::starting() };
    if wanted.names.len() > MOST {
        return refused(&format!("{} names are too many: at most {MOST}", wanted.names.len()));
    }
    let looked_up = move || {
        let mut budget = Budget::default();
        wanted.names.iter().map(|name| look_up(&cache, &registries, name, &mut budget)).collect::<Vec<_>>()
    };
    let images = images.look(looked_up).await;
    reply::json(StatusCode::OK, &json!({ "images": images }))
}

fn look_up(cache: &Cache, registries: &Registries, text: &str, budget: &mut Budget) -> Value {
    let nothing = |why: String| json!({ "name": text, "cached": "no", "error": why });
    let name = match Name::read(text) {
        Ok(name) => name,
        Err(error) => return nothing(error.to_string()),
    };
    let Some(site) = registries.by_name(&name.registry) else {
        return nothing(format!("{} is no registry that is configured", name.registry));
    };
    let latest = || "latest".parse().expect("a tag");
    let reference = match (name.digest, name.tag) {
        (Some(digest), _) => Reference::Digest(digest),
        (None, tag) => Reference::Tag(tag.unwrap_or_else(latest)),
    };
    let mut found = image(&cache.image(&site, &name.repository, &reference, budget));
    found["name"] = text.into();
    found
}

/// `after`, and how many.
fn page(query: &str) -> Result<(String, usize), String> {
    let (mut after, mut limit) = (String::new(), USUAL);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "after" => after = value.into_owned(),
            "limit" => {
                let read = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                limit = read.ok_or_else(|| format!("limit is a number from 1 to {MOST}"))?;
            }
            _ => return Err(format!("{key:?} is no parameter: after, limit")),
        }
    }
    Ok((after, limit))
}

fn image(known: &Image) -> Value {
    json!({
        "name": &*known.name,
        "cached": known.presence.as_str(),
        "platforms": known.platforms,
        "digest": known.digest.as_ref().map(ToString::to_string),
        "media_type": Some(&*known.media_type).filter(|name| !name.is_empty()),
        "size": known.bytes,
        "checked_at": known.checked.map(time),
        "used_at": known.used.map(time),
    })
}

fn refused(why: &str) -> Response {
    reply::text(StatusCode::BAD_REQUEST, format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages() {
        assert_eq!(page(""), Ok((String::new(), USUAL)));
        assert_eq!(page("after=docker.io%2Fa%3A1&limit=5"), Ok(("docker.io/a:1".to_owned(), 5)));
        for wrong in ["limit=0", "limit=1001", "limit=x", "page=2"] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_query(text in "(after|limit|=|&|%|[0-9]|\\PC){0,12}") {
            if let Ok((_, limit)) = page(&text) {
                prop_assert!((1..=MOST).contains(&limit));
            }
        }
    }
}
