//! What of these images is in the cache of the seawall that runs: `/api/v1/images` of its admin
//! listener.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;

use crate::cli::api::{AdminArgs, Api};
use crate::config::Config;

/// What the API takes at a time.
const AT_A_TIME: usize = 1000;

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
pub(super) fn cached(admin: &AdminArgs, config: &Config, names: &[String]) -> (Cached, Option<anyhow::Error>) {
    let mut cached = Cached::new();
    let failed = ask(admin, config, names, &mut cached).err();
    (cached, failed)
}

fn ask(admin: &AdminArgs, config: &Config, names: &[String], cached: &mut Cached) -> anyhow::Result<()> {
    let api = Api::at(admin, config)?;
    for names in names.chunks(AT_A_TIME) {
        let answers: Answers = api.post("/api/v1/images", &json!({ "names": names }))?;
        cached.extend(answers.images.into_iter().map(|answer| (answer.name.clone(), answer)));
    }
    Ok(())
}
