//! HEAD: what does a tag name, does a repository hold a digest, may this client read it? No registry counts these.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;

use super::client::Upstream;
use super::fetch::ANY_MANIFEST;
use super::question::What;
use super::requester::{Credential, Requester};
use super::send::is_via_redirect;
use crate::error::{Error, Kind, Result};
use crate::http::range::parse_content_range;
use crate::oci::digest::Digest;
use crate::oci::media_type::{Accept, essence};
use crate::oci::name::{Reference, Repository};
use crate::policy::registry::Site;

/// What upstream says of something without sending it.
#[derive(Clone, Debug)]
pub struct Description {
    /// `Docker-Content-Digest`; some registries leave it out.
    pub digest: Option<Digest>,
    /// `Content-Type` without parameters; empty if there was none.
    pub media_type: String,
    /// `Content-Length`.
    pub size: Option<u64>,
    /// Whether it is the registry's yes to who asked: see [`is_yes`](super::is_yes).
    pub is_yes: bool,
}

impl Upstream {
    /// Asks.
    ///
    /// # Errors
    /// Upstream said no, or nothing.
    pub async fn describe(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        accept: Accept,
        requester: &Requester,
    ) -> Result<Description> {
        let mut fields = HeaderMap::new();
        let accepted = match what {
            // distribution has no OCI manifest for who does not name the type, `*/*` or not.
            What::Manifest(Reference::Digest(_)) => Some(ANY_MANIFEST.to_owned()),
            What::Manifest(Reference::Tag(_)) => Some(accept.header()),
            What::Blob(_) | What::List(_) => None,
        };
        if let Some(value) = accepted.and_then(|text| HeaderValue::try_from(text).ok()) {
            fields.insert(header::ACCEPT, value);
        }
        let response = self.ask(site, repository, what, &Method::HEAD, &fields, requester).await?;
        let is_blob = matches!(what, What::Blob(_));
        if is_blob && response.status() == StatusCode::FORBIDDEN && is_via_redirect(&response) {
            return self.first_byte(site, repository, what, requester).await;
        }
        if response.status() != StatusCode::OK {
            let error = self.refusal(&site.origin.host.to_string(), response).await;
            return Err(if error.kind() == Kind::Missing { error.coded(what.unknown()) } else { error });
        }
        let said = Description::of(&response);
        if is_blob && said.size.is_none() { self.first_byte(site, repository, what, requester).await } else { Ok(said) }
    }

    /// Storage that signs its URLs for GET refuses HEAD with 403, and some registries leave the length out: a GET of one byte tells it.
    async fn first_byte(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        requester: &Requester,
    ) -> Result<Description> {
        let mut fields = HeaderMap::new();
        fields.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let response = self.ask(site, repository, what, &Method::GET, &fields, requester).await?;
        match response.status() {
            StatusCode::OK => Ok(Description::of(&response)),
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(parse_content_range);
                let size = range.and_then(|range| range.total);
                Ok(Description { size, ..Description::of(&response) })
            }
            _ => Err(self.refusal(&site.origin.host.to_string(), response).await),
        }
    }
}

/// What `asking` finds out, if it does so in time.
///
/// # Errors
/// Its own, and that it took too long.
pub async fn in_time<T>(site: &Site, deadline: Option<Duration>, asking: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else { return asking.await };
    match tokio::time::timeout(deadline, asking).await {
        Ok(said) => said,
        Err(_) => Err(Error::new(
            Kind::Timeout,
            format!("{} did not answer within {}", site.origin.host, humantime::format_duration(deadline)),
        )),
    }
}

impl Description {
    /// To whom it is a yes, if to anybody.
    pub fn grants_to(&self, requester: &Requester) -> Option<Credential> {
        requester.grants_to().filter(|_| self.is_yes)
    }

    fn of(response: &Response<Incoming>) -> Description {
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        Description {
            digest: text("docker-content-digest").and_then(|digest| digest.parse().ok()),
            media_type: text("content-type").map(|value| essence(value).to_owned()).unwrap_or_default(),
            size: text("content-length").and_then(|length| length.parse().ok()),
            is_yes: super::is_yes(response),
        }
    }
}
