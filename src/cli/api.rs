//! The admin listener of the seawall that runs, as commands ask it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::log::printable;
use super::serve::reachable;
use crate::config::Config;

/// How long an answer may take: that about a thousand images reads their manifests.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer about a thousand images is 400 bytes for each.
const LONGEST: usize = 8 << 20;

/// Characters of a refusal that are shown.
const SAID: usize = 500;

/// Where it is.
#[derive(Debug)]
pub(super) struct Api {
    base: String,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    /// At `admin`, else where the configuration has it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn at(admin: Option<&str>, config: &Config) -> anyhow::Result<Api> {
        let base = match (admin, config.admin.listen) {
            (Some(admin), _) if admin.starts_with("https://") => bail!("{admin}: the admin listener speaks http"),
            (Some(admin), _) => {
                let bare = admin.trim_end_matches('/');
                if bare.starts_with("http://") { bare.to_owned() } else { format!("http://{bare}") }
            }
            (None, Some(address)) => format!("http://{}", reachable(address)),
            (None, None) => bail!("there is no admin listener to ask: `admin` is \"\""),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Api { base, runtime })
    }

    /// # Errors
    /// Nothing answers there, or not what seawall does.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// # Errors
    /// Nothing answers there, or not what seawall does.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.ask(Method::POST, path, serde_json::to_vec(body)?.into())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.base);
        let answered = self.runtime.block_on(answer(method, &url, body, (PATIENCE, LONGEST)));
        answered
            .and_then(|body| serde_json::from_slice(&body).context("this is no admin listener of seawall"))
            .context(url)
    }
}

/// The body of a success, in that time, and no longer than that.
///
/// # Errors
/// There is none: in the words of whoever answered, if somebody did.
pub(super) async fn answer(
    method: Method,
    url: &str,
    body: Bytes,
    (patience, longest): (Duration, usize),
) -> anyhow::Result<Bytes> {
    let asking = tokio::time::timeout(patience, ask(method, url, body, longest));
    asking.await.unwrap_or_else(|_| bail!("no answer in {}", humantime::format_duration(patience)))
}

async fn ask(method: Method, url: &str, body: Bytes, longest: usize) -> anyhow::Result<Bytes> {
    let mut request = Request::builder().method(method).uri(url);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.request(request.body(Full::new(body))?).await.context("no answer (does seawall run?)")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), longest).collect().await.map_err(anyhow::Error::from_boxed)?;
    let body = body.to_bytes();
    if !status.is_success() {
        let said: String = String::from_utf8_lossy(&body).trim().chars().take(SAID).collect();
        bail!("{status}: {}", printable(&said));
    }
    Ok(body)
}
