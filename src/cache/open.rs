//! Begins a fill: what is here of a blob, and upstream's answer that goes on with it.

use std::ops::Range;

use tracing::info;

use super::fill::{Fill, is_unsatisfied, no_room};
use super::overlap;
use super::through::BlobRequest;
use crate::access::Inquiry;
use crate::error::{Error, Kind, Result};
use crate::http::range::{First, Selection, first, select};
use crate::lane::Place;
use crate::oci::digest::Digest;
use crate::policy::access::Verdict;
use crate::policy::segments::{ceil, floor};
use crate::store::Partial;
use crate::task;
use crate::upstream::{Fetched, Portion, What};

/// Upstream's answer, and the question that it answers.
pub(super) struct Opened {
    pub(super) partial: Partial,
    pub(super) fetched: Fetched,
    pub(super) inquiry: Inquiry,
    pub(super) request: BlobRequest,
    /// Whether only a part was asked for.
    pub(super) is_part: bool,
    /// So many connections it may have.
    pub(super) most: usize,
}

/// Who asks for so many at the end wants all of it.
const HUGE: u64 = 1 << 40;
/// Where it is known of nothing how long it is, its first bytes tell.
const FIRST: Range<u64> = 0..4 << 10;

impl Fill {
    /// What is here of the blob, and the rest from upstream, if upstream goes on with the very bytes
    /// that are here: somebody else may have fetched them, from another registry, and a name, a length
    /// or a page is not enough to give them away. Else it begins anew.
    pub(super) async fn open(&self) -> Result<Opened> {
        let (store, digest) = (self.parts.store.clone(), self.digest().clone());
        let request = self.parts.request(&self.pull, &self.what, &digest);
        let inquiry = self.parts.inquire(&self.pull);
        if self.must_ask_first(&digest).await {
            // A refusal is not to take longer where something is here.
            self.fetch((&request, &inquiry), None, &Portion::From(0)).await?;
        }
        // Before the file: who waits for one holds none.
        let mut place = Some(request.place().await?);
        let most = if self.parts.lending.is_alone(&digest) { 1 } else { self.pull.site.registry.segments.max(1) };
        let part = first_part(&request, self.pull.range.as_ref()).filter(|_| most > 1);
        let is_part = part.is_some();
        let mut partial = task::blocking(move || store.partial(&digest)).await.map_err(no_room)?;
        if !partial.is_empty() {
            match self.goes_on((&request, &inquiry), &mut place, &partial, is_part).await? {
                Gone::On(fetched) => {
                    info!(digest = %self.digest(), here = partial.here().bytes(), "resuming a partial blob");
                    return Ok(Opened { partial, fetched, inquiry, request, is_part, most });
                }
                Gone::Anew(fetched) => {
                    partial = self.anew(partial).await?;
                    if let Some(fetched) = fetched {
                        return Ok(Opened { partial, fetched, inquiry, request, is_part: false, most });
                    }
                }
            }
        }
        let portion = part.unwrap_or(Portion::From(0));
        let mut fetched = self.fetch((&request, &inquiry), place, &portion).await;
        if is_part && fetched.as_ref().is_err_and(is_unsatisfied) {
            fetched = self.fetch((&request, &inquiry), None, &Portion::Part(FIRST)).await;
        }
        // A part of nobody knows how much leads nowhere, and some registries are bad at parts.
        let is_lost = is_part && fetched.as_ref().map_or_else(is_bad_at_parts, |fetched| fetched.total.is_none());
        if is_lost {
            drop(fetched);
            fetched = self.fetch((&request, &inquiry), None, &Portion::From(0)).await;
            if let Ok(fetched) = &mut fetched {
                fetched.source.has_parts = false;
            }
        }
        Ok(Opened { partial, fetched: fetched?, inquiry, request, is_part: is_part && !is_lost, most })
    }

    /// Whether upstream goes on with what is here, by the end of one part of it.
    async fn goes_on(
        &self,
        asked: (&BlobRequest, &Inquiry),
        place: &mut Option<Place>,
        partial: &Partial,
        is_part: bool,
    ) -> Result<Gone> {
        let ranges = partial.here().ranges();
        let Some(last) = ranges.last() else { return Ok(Gone::Anew(None)) };
        // What is longest tells most, unless the first bytes are enough to go on from.
        let longest = ranges.iter().max_by_key(|range| range.end - range.start).unwrap_or(last);
        let first = ranges
            .first()
            .filter(|range| !is_part && range.start == 0 && range.end >= overlap::OVERLAP)
            .unwrap_or(longest);
        let first = first.clone();
        let Some(end) = overlap::end_of(partial.file(), first.clone()).await else { return Ok(Gone::Anew(None)) };
        let from = first.end - end.len() as u64;
        let portion = if is_part { Portion::Part(from..first.end) } else { Portion::From(from) };
        let fetched = self.fetch(asked, place.take(), &portion).await;
        if fetched.as_ref().is_err_and(is_bad_at_parts) {
            return Ok(Gone::Anew(None));
        }
        let mut fetched = fetched?;
        let is_too_long = fetched.total.map_or(is_part, |total| last.end > total);
        if fetched.start != from || is_too_long {
            // It sends all again: that is what is wanted, if all is.
            return Ok(Gone::Anew(Some(fetched).filter(|fetched| fetched.start == 0 && !is_part)));
        }
        let is_same = overlap::begins_with(&mut fetched, &end, self.parts.upstream.idle_timeout()).await?;
        Ok(if is_same { Gone::On(fetched) } else { Gone::Anew(None) })
    }

    /// Whether upstream refused a question by HEAD, which comes first where a part of the blob is here:
    /// to read it takes time.
    async fn must_ask_first(&self, digest: &Digest) -> bool {
        let is_known = || self.parts.check(&self.pull, (digest, self.kind())).permission.verdict != Verdict::Ask;
        if self.is_cleared || is_known() {
            return false;
        }
        let (store, name) = (self.parts.store.clone(), digest.clone());
        let has_partial = task::blocking(move || store.has_partial(&name)).await;
        has_partial && self.admission.ask(&self.pull, digest, &self.what).await.is_err()
    }

    /// An empty partial in place of this one, which its readers still have.
    async fn anew(&self, partial: Partial) -> Result<Partial> {
        let (store, digest) = (self.parts.store.clone(), partial.digest().clone());
        drop(partial);
        let begin = move || {
            store.remove_partial(&digest)?;
            store.partial(&digest)
        };
        task::blocking(begin).await.map_err(no_room)
    }
}

/// How a partial file goes on.
enum Gone {
    On(Fetched),
    /// Not at all; and what upstream sent instead, if that is what is wanted.
    Anew(Option<Fetched>),
}

/// Whether an answer to a question for a part says nothing of the blob: it may be had as a whole.
fn is_bad_at_parts(error: &Error) -> bool {
    let is_ours = error.kind() == Kind::Broken && error.reply().is_none();
    is_ours || matches!(error.status().as_u16(), 400 | 416 | 501)
}

/// The part of a blob that is asked for first, where not all of it is.
fn first_part(request: &BlobRequest, range: Option<&http::HeaderValue>) -> Option<Portion> {
    let What::Blob(_) = request.what else { return None };
    let steps = |part: Range<u64>| Portion::Part(floor(part.start)..ceil(part.end));
    if let Some(total) = request.named {
        return match select(range, total) {
            Selection::Whole => None,
            Selection::Part(part) if part == (0..total) => None,
            Selection::Part(part) => Some(steps(part)),
            Selection::Parts(parts) => parts.into_iter().next().map(steps),
            Selection::Unsatisfiable => range.map(|_| Portion::Part(FIRST)),
        };
    }
    match first(range)? {
        First::From(start) => Some(Portion::From(floor(start))).filter(|portion| *portion != Portion::From(0)),
        First::Part(part) => Some(steps(part)),
        First::Last(length) => Some(Portion::Last(ceil(length))).filter(|_| length < HUGE),
    }
}
