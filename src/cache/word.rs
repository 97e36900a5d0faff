//! Upstream's word about a digest: what HEAD says, or GET where HEAD says nothing, and what that proves.

use super::parts::Parts;
use super::pull::{Pull, content_kind};
use crate::access::Inquiry;
use crate::error::{Error, Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::manifest::{ContentKind, MAX_MANIFEST};
use crate::upstream::{ANY_MANIFEST, Author, Description, Fetched, Past, What};

/// Upstream's answer about a digest.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) said: Description,
    /// Whether it is about that digest: it names it, or has the length of the verified bytes that
    /// are here. Then it is a yes. Storage that a registry redirects to names none.
    pub(super) is_proof: bool,
    /// The question that it answers.
    pub(super) inquiry: Inquiry,
}

/// What upstream says of a digest, which is heard.
pub(super) async fn asked(parts: &Parts, pull: &Pull, what: &What, digest: &Digest) -> Result<Word> {
    let (inquiry, content) = (parts.inquire(pull), (digest, content_kind(what)));
    let said = match described(parts, pull, what).await {
        Err(error) if content.1 == ContentKind::Manifest => read_after(parts, pull, what, digest, error).await,
        said => said,
    };
    let is_proved = parts.check(pull, content).permission.is_proved;
    let judged = said.and_then(|said| judged(parts, pull, what, digest, said, is_proved));
    let word = judged.map(|(said, is_proof)| Word { said, is_proof, inquiry: inquiry.clone() });
    match &word {
        Ok(word) if word.is_proof => parts.access.hear(&inquiry, word.said.proves, content),
        Ok(_) => {}
        Err(error) => parts.denied(&inquiry, Some(content), error).await,
    }
    word
}

/// What HEAD says. What a client wrote may be why there is no answer, or another: then what seawall asks
/// decides.
async fn described(parts: &Parts, pull: &Pull, what: &What) -> Result<Description> {
    let ask = async |accept: &str, author| {
        let (site, repository, asked) = (&pull.site, &pull.repository, (accept, Past::Nobody));
        parts.upstream.describe(site, repository, what, asked, author, &pull.requester).await
    };
    if let (What::Manifest(_), Some(types)) = (what, pull.types_of_its_own()) {
        match ask(&format!("{ANY_MANIFEST}, {types}"), Author::Client).await {
            Err(error) if error.kind() != Kind::Timeout => {}
            said => return said,
        }
    }
    ask(ANY_MANIFEST, Author::Seawall).await
}

/// What GET says of a manifest whose HEAD failed in a way that says nothing at that registry.
async fn read_after(parts: &Parts, pull: &Pull, what: &What, digest: &Digest, error: Error) -> Result<Description> {
    let namespace = &pull.site.namespace;
    if !parts.heads.are_in_doubt(namespace, &error) {
        return Err(error);
    }
    let read = Box::pin(read(parts, pull, what, digest)).await;
    parts.heads.got(namespace, &error, &read);
    read.map_err(|_| error)
}

/// A manifest that upstream sends to prove that it has it.
pub(super) async fn read(parts: &Parts, pull: &Pull, what: &What, digest: &Digest) -> Result<Description> {
    let content = (digest, ContentKind::Manifest);
    let (inquiry, fetched) = (parts.inquire(pull), parts.request(pull, what, digest).fetch(0).await?);
    let Fetched { body, media_type, proves, warnings, .. } = fetched;
    let bytes = parts.upstream.collect(body, MAX_MANIFEST).await?;
    if Digest::of(digest.algorithm(), &bytes) != *digest {
        return Err(unsound(pull));
    }
    parts.access.deliver(&inquiry, proves, content);
    let size = Some(bytes.len() as u64);
    Ok(Description { digest: Some(digest.clone()), media_type, size, proves, is_unable: false, warnings })
}

/// What an answer proves of a digest. The bytes of a digest have one length: an answer with another
/// than that of the bytes here is about something else. What is here is no measure for a registry
/// that never sent it.
fn judged(
    parts: &Parts,
    pull: &Pull,
    what: &What,
    digest: &Digest,
    said: Description,
    is_proved: bool,
) -> Result<(Description, bool)> {
    if said.digest.is_some() {
        return Ok((said, true));
    }
    // Some say 0 of every manifest. Of a blob the first byte was asked for as well.
    let is_manifest = matches!(what, What::Manifest(_));
    let Some(size) = said.size.filter(|size| *size > 0 || !is_manifest) else {
        return Ok((Description { size: None, ..said }, false));
    };
    let here = parts.verified_length(digest).filter(|_| is_proved);
    let is_nothing = || size == 0 && Digest::of(digest.algorithm(), b"") != *digest;
    if here.is_some_and(|here| here != size) || is_nothing() {
        let host = &pull.site.origin.host;
        let message = format!("{host} answered with another length than that of {digest}: is there a proxy between?");
        return Err(Error::new(Kind::Broken, message));
    }
    Ok((said, here.is_some()))
}

/// The error of an answer that is about nothing that was asked for.
pub(super) fn unsound(pull: &Pull) -> Error {
    let host = &pull.site.origin.host;
    Error::new(Kind::Broken, format!("{host} answered without saying of which digest: is there a proxy between?"))
}
