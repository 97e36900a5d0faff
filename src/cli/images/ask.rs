//! What of these images is in the cache of the seawall that runs: `/api/v1/images` of its admin
//! listener.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::json;

use crate::cli::serve::reachable;
use crate::config::Config;

/// How long the answer about a thousand names may take: their manifests are read.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the API takes at a time.
const AT_A_TIME: usize = 1000;
/// An answer about so many is 400 bytes each.
const LONGEST: usize = 8 << 20;

/// By name. What is not in it is not known.
pub(super) type Cached = HashMap<String, Answer>;

/// What the cache has of one image.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) cached: String,
    #[serde(default)]
    pub(super) platforms: Vec<String>,
    #[serde(default)]
    pub(super) digest: Option<String>,
    #[serde(default)]
    pub(super) size: u64,
}

#[derive(Deserialize)]
struct Answers {
    images: Vec<Answer>,
}

/// Asks at `admin`, else where the configuration has it. What was answered until something failed,
/// and what that was: no daemon is there, or what answers is another program.
pub(super) fn cached(admin: Option<&str>, config: &Config, names: &[String]) -> (Cached, Option<anyhow::Error>) {
    let mut cached = Cached::new();
    let failed = ask(admin, config, names, &mut cached).err();
    (cached, failed)
}

fn ask(admin: Option<&str>, config: &Config, names: &[String], cached: &mut Cached) -> anyhow::Result<()> {
    let base = base(admin, config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("{base}/api/v1/images");
    for names in names.chunks(AT_A_TIME) {
        let asking = async { tokio::time::timeout(PATIENCE, post(&url, names)).await };
        let answers =
            runtime.block_on(asking).unwrap_or_else(|_| bail!("no answer in {}", humantime::format_duration(PATIENCE)));
        let answers = answers.with_context(|| url.clone())?;
        cached.extend(answers.images.into_iter().map(|answer| (answer.name.clone(), answer)));
    }
    Ok(())
}

fn base(admin: Option<&str>, config: &Config) -> anyhow::Result<String> {
    Ok(match (admin, config.admin.listen) {
        (Some(admin), _) => {
            let bare = admin.trim_end_matches('/');
            if bare.starts_with("http://") { bare.to_owned() } else { format!("http://{bare}") }
        }
        (None, Some(address)) => format!("http://{}", reachable(address)),
        (None, None) => bail!("there is no admin listener to ask: `admin` is \"\""),
    })
}

async fn post(url: &str, names: &[String]) -> anyhow::Result<Answers> {
    let body = Full::new(Bytes::from(json!({ "names": names }).to_string()));
    let request = Request::post(url).header(header::CONTENT_TYPE, "application/json").body(body)?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.request(request).await.context("no answer (does seawall run?)")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(anyhow::Error::from_boxed)?;
    let body = body.to_bytes();
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body).trim());
    }
    serde_json::from_slice(&body).context("this is no admin listener of seawall")
}
