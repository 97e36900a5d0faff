//! A blob that is not kept: from upstream to the client, hashed on the way. The last chunk is held
//! back until the digest is verified, as everywhere.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use http_body::Body as _;

use crate::error::{Error, Kind, Result};
use crate::lane::Place;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::name::Repository;
use crate::policy::registry::Site;
use crate::store::BlobFile;
use crate::task;
use crate::upstream::requester::Requester;
use crate::upstream::{Answer, Fetched, Portion, Source, Transfer, Upstream, What};

/// How one client gets at a blob without the cache.
#[derive(Clone)]
pub struct BlobRequest {
    /// What asks registries.
    pub upstream: Upstream,
    /// The registry.
    pub site: Site,
    /// The repository, as upstream knows it.
    pub repository: Repository,
    /// The manifest or blob.
    pub what: What,
    /// Who asks, and who pays.
    pub requester: Requester,
    /// Of a manifest: what the client takes that no other does.
    pub types: Option<Arc<str>>,
    /// How long it is by the manifest that named it, where upstream does not say.
    pub named: Option<u64>,
}

impl std::fmt::Debug for BlobRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} for {:?}", self.what, self.repository, self.requester)
    }
}

impl BlobRequest {
    /// Fetches a portion.
    ///
    /// # Errors
    /// Upstream said no, or nothing.
    pub async fn fetch(&self, portion: impl Into<Portion>) -> Result<Fetched> {
        self.fetch_in(self.place().await?, portion).await
    }

    /// The same, in a place that it has already.
    ///
    /// # Errors
    /// Upstream said no, or nothing.
    pub async fn fetch_in(&self, place: Place, portion: impl Into<Portion>) -> Result<Fetched> {
        let portion = portion.into();
        let asked = (&self.what, self.types.as_deref());
        self.upstream.fetch(place, &self.site, &self.repository, asked, &portion, &self.requester).await
    }

    /// Fetches a portion beside what comes from `source`. `None`: that address is no longer good.
    ///
    /// # Errors
    /// It has no such portion of the same bytes, as far as can be said.
    pub async fn fetch_beside(&self, portion: &Portion, source: &Source) -> Result<Option<Fetched>> {
        let asked = (&self.requester, source);
        self.upstream.fetch_beside(&self.site, &self.repository, &self.what, portion, asked).await
    }

    /// A place to fetch it in.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn place(&self) -> Result<Place> {
        self.upstream.place(&self.what, &self.requester).await
    }

    /// Asks for a part. What answers may be no part, or of the whole.
    ///
    /// # Errors
    /// Upstream said no, or nothing.
    pub async fn fetch_range(&self, range: &HeaderValue) -> Result<(Answer, Place)> {
        self.upstream.fetch_range(&self.site, &self.repository, &self.what, range, &self.requester).await
    }

    /// Goes on at byte `at`. `read`: where all of it is wanted, what the client has before that. What is no
    /// whole is not verified, as no part can be.
    ///
    /// # Errors
    /// Upstream said no, or nothing; the file cannot be read.
    pub async fn go_on(
        self,
        read: Option<BlobFile>,
        digest: Digest,
        at: u64,
        end: Option<u64>,
    ) -> Result<VerifyingBody> {
        let fetched = self.fetch(at).await?;
        if fetched.is_packed && read.is_none() {
            let host = &self.site.origin.host;
            return Err(Error::new(Kind::Broken, format!("{host} sends it packed, though asked not to")));
        }
        // Without ranges all of it comes again.
        let skip = at - fetched.start.min(at);
        let verify = match read {
            Some(file) => Some((hashed(file, &digest, at).await?, digest)),
            None => None,
        };
        let through =
            VerifyingBody::new(fetched.body.paced(), verify, end.map(|end| end - at), self.upstream.idle_timeout());
        Ok(VerifyingBody { skip, ..through })
    }
}

/// The hash over the first `len` bytes of a file.
async fn hashed(file: BlobFile, digest: &Digest, len: u64) -> Result<Hasher> {
    let mut hasher = Hasher::new(digest.algorithm());
    let read = task::blocking(move || file.scan(0..len, |bytes| hasher.update(bytes)).map(|()| hasher));
    read.await.map_err(|error| Error::caused(Kind::Ours, "a cached file cannot be read", error))
}

/// The body of such a blob.
pub struct VerifyingBody {
    body: Transfer,
    verify: Option<(Hasher, Digest)>,
    /// Bytes that the client has already.
    skip: u64,
    left: Option<u64>,
    held_back: Option<Bytes>,
    /// What is done once the bytes are verified.
    once_verified: Option<Box<dyn FnOnce() + Send>>,
    idle: std::time::Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
    ended: bool,
}

impl std::fmt::Debug for VerifyingBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl VerifyingBody {
    /// `verify` has the hash of what came before; `left`: bytes that are wanted, if that is not
    /// all.
    pub fn new(
        body: Transfer,
        verify: Option<(Hasher, Digest)>,
        left: Option<u64>,
        idle: std::time::Duration,
    ) -> VerifyingBody {
        let timer = Box::pin(tokio::time::sleep(idle));
        VerifyingBody { body, verify, skip: 0, left, held_back: None, once_verified: None, idle, timer, ended: false }
    }

    /// The same, which does this once its bytes are verified.
    #[must_use]
    pub fn then(self, once_verified: Box<dyn FnOnce() + Send>) -> VerifyingBody {
        VerifyingBody { once_verified: Some(once_verified), ..self }
    }

    /// The next chunk, `None` at the clean end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        use std::future::Future as _;
        while !self.ended {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    return self.fail(Error::new(Kind::Timeout, "upstream stopped sending"));
                }
            };
            let idle = tokio::time::Instant::now() + self.idle;
            self.timer.as_mut().reset(idle);
            match frame {
                Some(Err(error)) => return self.fail(Error::caused(Kind::Broken, "upstream broke off", error)),
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if let Some(before) = self.take_in(bytes) {
                        return Poll::Ready(Some(Ok(before)));
                    }
                }
                None => self.ended = true,
            }
        }
        if self.verify.take().is_some_and(|(hasher, digest)| hasher.finish() != digest) {
            return self.fail(Error::new(Kind::Corrupt, "upstream sent other bytes than those of the digest"));
        }
        if self.left.is_some_and(|left| left > 0) {
            self.left = None;
            return self.fail(Error::new(Kind::Broken, "upstream sent fewer bytes than it said"));
        }
        if let Some(then) = self.once_verified.take() {
            then();
        }
        Poll::Ready(self.held_back.take().map(Ok))
    }

    /// Takes a chunk and gives the one before it.
    fn take_in(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        let _ = bytes.split_to(skipped);
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            self.ended = *left == 0 && self.verify.is_none();
        }
        if bytes.is_empty() {
            return None;
        }
        if let Some((hasher, _)) = &mut self.verify {
            hasher.update(&bytes);
        }
        self.held_back.replace(bytes)
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes>>> {
        self.ended = true;
        self.verify = None;
        self.once_verified = None;
        self.held_back = None;
        Poll::Ready(Some(Err(error)))
    }
}
