//! GET: the bytes of a digest, or of a tag where HEAD does not say which digest that is.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;

use super::client::Upstream;
use super::question::What;
use super::requester::{Credential, Requester};
use crate::error::{Error, Kind, Result};
use crate::http::range::parse_content_range;
use crate::oci::media_type::essence;
use crate::oci::name::Repository;
use crate::policy::registry::Site;

/// A body on its way, and where in the whole it begins.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes.
    pub body: Incoming,
    /// Offset of the first of them in the whole.
    pub start: u64,
    /// Length of the whole, where upstream says it.
    pub total: Option<u64>,
    /// `Content-Type` without parameters; empty if there was none.
    pub media_type: String,
    /// Whether it is the registry's yes to who asked: see [`is_yes`](super::is_yes).
    pub is_yes: bool,
}

impl Fetched {
    /// To whom it is a yes, if to anybody.
    pub fn grants_to(&self, requester: &Requester) -> Option<Credential> {
        requester.grants_to().filter(|_| self.is_yes)
    }
}

/// What a manifest by digest is asked with: bytes have one type, whoever asks.
pub(super) const ANY_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*";

impl Upstream {
    /// Fetches from byte `from` on. Upstream may ignore that: see [`Fetched::start`].
    ///
    /// # Errors
    /// Upstream said no, nothing, or something that makes no sense.
    pub async fn fetch(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        from: u64,
        requester: &Requester,
    ) -> Result<Fetched> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let response = self.get(site, repository, what, range.as_deref(), requester).await?;
        let host = &site.origin.host;
        let total = response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(essence);
        let (media_type, is_yes) = (media_type.unwrap_or_default().to_owned(), super::is_yes(&response));
        match response.status() {
            StatusCode::OK => Ok(Fetched { body: response.into_body(), start: 0, total, media_type, is_yes }),
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(parse_content_range);
                let range = range.filter(|range| range.start == from);
                let range = range
                    .ok_or_else(|| Error::new(Kind::Broken, format!("{host} sent another range than asked for")))?;
                let total = range.total;
                Ok(Fetched { body: response.into_body(), start: from, total, media_type, is_yes })
            }
            _ => Err(self.refusal(&host.to_string(), response).await),
        }
    }

    /// Passes a client's `Range` on and the answer back, whatever it is: 200, 206 or 416.
    ///
    /// # Errors
    /// Upstream said no, or nothing.
    pub async fn fetch_range(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        range: &HeaderValue,
        requester: &Requester,
    ) -> Result<Response<Incoming>> {
        let response = self.get(site, repository, what, range.to_str().ok(), requester).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            _ => Err(self.refusal(&site.origin.host.to_string(), response).await),
        }
    }

    async fn get(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        range: Option<&str>,
        requester: &Requester,
    ) -> Result<Response<Incoming>> {
        let mut fields = HeaderMap::new();
        if let What::Manifest(_) = what {
            fields.insert(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST));
        }
        if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
            fields.insert(header::RANGE, range);
        }
        let response = self.ask(site, repository, what, &Method::GET, &fields, requester).await?;
        let encoded = response.headers().get(header::CONTENT_ENCODING).is_some_and(|e| e != "identity");
        if response.status().is_success() && encoded {
            let host = &site.origin.host;
            return Err(Error::new(Kind::Broken, format!("{host} compressed its answer though asked not to")));
        }
        Ok(response)
    }

    /// A GET with the client's own fields, for what is never kept.
    ///
    /// # Errors
    /// Upstream said no, or nothing.
    pub async fn fetch_as_asked(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        method: &Method,
        fields: &HeaderMap,
        requester: &Requester,
    ) -> Result<Response<Incoming>> {
        let response = self.ask(site, repository, what, method, fields, requester).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(&site.origin.host.to_string(), response).await)
    }
}
