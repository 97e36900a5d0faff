//! What an image names, asked as `serve` would ask: by HEAD, which no registry counts, and by GET
//! where HEAD says less than GET.

use anyhow::{Context as _, bail};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};

use super::ask::{Asking, in_time};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{self, MAX_MANIFEST};
use crate::oci::media_type::{essence, is_schema1};
use crate::oci::name::{Reference, Repository};
use crate::policy::heads::Heads;
use crate::policy::mirror::{Said, meant};
use crate::policy::registry::{Registries, Site};
use crate::upstream::requester::Requester;
use crate::upstream::{ANY_MANIFEST, Author, Past, What, Wording};

/// An image, as its registry describes it.
pub(super) struct Image {
    name: String,
    said: std::result::Result<Named, String>,
}

/// What a reference names.
struct Named {
    digest: Digest,
    media_type: String,
    size: Option<u64>,
}

/// A manifest at a registry, and who asks for it.
struct Question {
    site: Site,
    repository: Repository,
    what: What,
    requester: Requester,
}

/// An image as people write it: `alpine`, `ghcr.io/owner/app:1`, `quay.io/a/b@sha256:…`.
pub(super) async fn image(asking: &Asking, config: &Config, name: &str) -> anyhow::Result<Image> {
    let (site, repository, reference) = read(&config.registries, name)?;
    if !site.registry.repositories.permits(&repository) {
        bail!("{repository} may not be pulled: `allow` and `deny` of {} say so", site.registry.name);
    }
    let requester = asking.requester();
    let shared = site.registry.account.is_some() && site.registry.repositories.shares(&repository);
    let requester = if shared { requester.on_account() } else { requester };
    let joint = if reference.tag().is_some() { ':' } else { '@' };
    let name = format!("{}/{repository}{joint}{reference}", site.namespace);
    let question = Question { site, repository, what: What::Manifest(reference), requester };
    Ok(Image { name, said: in_time(resolve(asking, &question)).await })
}

async fn resolve(asking: &Asking, question: &Question) -> Result<Named> {
    let error = match by_head(asking, question).await {
        Ok(Some(named)) => return Ok(named),
        Ok(None) => return by_get(asking, question).await,
        Err(error) => error,
    };
    let status = error.reply().map_or(0, |reply| reply.status.as_u16());
    if !Heads::default().asks_by_get(status) {
        return Err(error);
    }
    match by_get(asking, question).await {
        // Why it is refused is said in a body, which HEAD has none of.
        Err(said) if said.kind().is_answer() && said.kind() != Kind::Limited => Err(said),
        Err(_) => Err(error),
        named => named,
    }
}

/// `None`: no digest is said.
async fn by_head(asking: &Asking, question: &Question) -> Result<Option<Named>> {
    let Question { site, repository, what, requester } = question;
    let accept = (ANY_MANIFEST, Past::Nobody);
    let said = asking.upstream.describe(site, repository, what, accept, Author::Seawall, requester).await?;
    Ok(said.digest.map(|digest| Named { digest, media_type: said.media_type, size: said.size }))
}

async fn by_get(asking: &Asking, question: &Question) -> Result<Named> {
    let Question { site, repository, what, requester } = question;
    let fields = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST))]);
    let wording = Wording { method: &Method::GET, fields: &fields, author: Author::Seawall };
    let (answer, _place) = asking.upstream.fetch_as_asked(site, repository, what, wording, requester).await?;
    let named = answer.names;
    let media_type = answer.response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.map(|value| essence(value).to_owned()).unwrap_or_default();
    let bytes = asking.upstream.collect(answer.response.into_body(), MAX_MANIFEST).await?;
    let broken = |what: &str| Error::new(Kind::Broken, format!("{} answered with {what}", site.origin.host));
    if !manifest::parse(&bytes).is_ok_and(|manifest| manifest.is_recognisable()) {
        return Err(broken("what is no manifest: is there a proxy between?"));
    }
    let digest = named.unwrap_or_else(|| Digest::of(Algorithm::Sha256, &bytes));
    // The digest of a schema 1 leaves the signatures out.
    if Digest::of(digest.algorithm(), &bytes) != digest && !is_schema1(&media_type) {
        return Err(broken(&format!("other bytes than those of {digest}")));
    }
    Ok(Named { digest, media_type, size: Some(bytes.len() as u64) })
}

fn read(registries: &Registries, name: &str) -> anyhow::Result<(Site, Repository, Reference)> {
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last..].rfind(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    let reference = digest.or(tag).unwrap_or("latest");
    let parsed = match digest {
        Some(digest) => digest.parse().ok().map(Reference::Digest),
        None => reference.parse().ok().map(Reference::Tag),
    };
    let reference = parsed.with_context(|| format!("{reference:?} is no tag and no digest"))?;
    let first = path.split_once('/').map_or("", |(first, _)| first);
    if first.contains(['.', ':']) && registries.by_name(first).is_none() {
        bail!("{first:?} is no registry that is configured: add a [[registry]]");
    }
    let meant = meant(registries, path, Said::default()).ok().context("docker.io is not configured")?;
    let repository = meant.repository.parse();
    let repository = repository.ok().with_context(|| format!("{:?} is not a repository's name", meant.repository))?;
    Ok((meant.site, repository, reference))
}

impl Image {
    /// # Errors
    /// It is not there, or no upstream answered.
    pub(super) fn found(&self) -> std::result::Result<(), String> {
        self.said.as_ref().map(drop).map_err(|why| format!("{}: {why}", self.name))
    }

    pub(super) fn text(&self) -> String {
        match &self.said {
            Ok(Named { digest, media_type, size }) => {
                let size = size.map(|size| format!(", {size} bytes")).unwrap_or_default();
                format!("{}: {digest}, {media_type}{size}", self.name)
            }
            Err(why) => format!("{}: {why}", self.name),
        }
    }

    pub(super) fn json(&self) -> Value {
        let said = self.said.as_ref().ok();
        json!({
            "name": self.name,
            "digest": said.map(|said| said.digest.to_string()),
            "media_type": said.map(|said| &said.media_type),
            "size": said.and_then(|said| said.size),
            "error": self.said.as_ref().err(),
        })
    }
}
