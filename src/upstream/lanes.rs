//! Places for what is asked of upstream: transfers have one as long as their body comes, questions until
//! they are answered. Neither waits for the other.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::request::{Activity, Forwarded, NO_REGISTRY};
use crate::error::{Error, Kind};
use crate::lane::{Lane, Place, Reclaimable};
use crate::metrics::bounds::Bounds;
use crate::oci::route;

/// Questions at once.
const QUESTIONS: usize = 256;

/// All lanes. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// For fills, and for what goes through.
    pub transfers: Lane,
    /// For HEADs and what is short.
    pub questions: Lane,
    /// For hosts that are no registries: a client's own may be as slow as it likes.
    pub forwards: Lane,
}

impl Lanes {
    /// With places for so many transfers; how full they are is shown there.
    pub(super) fn new((transfers, forwards): (usize, usize), bounds: &Bounds) -> Lanes {
        Lanes {
            transfers: Lane::new(transfers, &bounds.transfers, &bounds.transfers_waiting),
            questions: Lane::new(QUESTIONS, &bounds.questions, &bounds.questions_waiting),
            forwards: Lane::new(forwards, &bounds.forwards, &bounds.forwards_waiting),
        }
    }

    /// For what goes on as a client sent it.
    pub(super) fn of(&self, registry: &str, kind: route::Kind) -> &Lane {
        match kind {
            _ if registry == NO_REGISTRY => &self.forwards,
            route::Kind::Manifest | route::Kind::Tags | route::Kind::Referrers | route::Kind::Token => &self.questions,
            route::Kind::Blob | route::Kind::Upload | route::Kind::Other => &self.transfers,
        }
    }
}

/// A body on its way, with its place.
#[derive(Debug)]
pub struct Transfer(Body);

#[derive(Debug)]
enum Body {
    /// At upstream's pace.
    Own(Coming),
    /// At a client's: it may be taken away.
    Paced(Arc<Mutex<Pace>>),
}

#[derive(Debug)]
struct Coming {
    body: Incoming,
    place: Option<Place>,
}

/// What comes at a client's pace.
#[derive(Debug)]
struct Pace {
    /// `None`: it was taken away.
    coming: Option<Coming>,
    /// Whether the client waits for upstream.
    is_awaited: bool,
    taken: u64,
    mark: Mark,
}

/// What had moved at some time.
#[derive(Debug)]
struct Mark {
    at: Instant,
    bytes: u64,
}

impl Mark {
    fn new(bytes: u64) -> Mark {
        Mark { at: Instant::now(), bytes }
    }

    /// Whether next to nothing has moved since, over a time that is over now.
    fn is_slow(&mut self, now: Instant, bytes: u64) -> bool {
        if now < self.at + IN {
            return false;
        }
        let before = std::mem::replace(self, Mark { at: now, bytes }).bytes;
        bytes - before < LEAST
    }
}

/// Where others wait, so much has to be taken in that time.
const LEAST: u64 = 64 << 10;
const IN: Duration = Duration::from_secs(10);

/// Why a body ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// Others waited for its place.
    #[error("its client took less than 64 KiB in 10 s, and others waited")]
    Reclaimed,
}

impl Transfer {
    /// The same, with its place.
    pub fn at(self, place: Place) -> Transfer {
        match self.0 {
            Body::Own(coming) => Transfer(Body::Own(Coming { place: Some(place), ..coming })),
            paced @ Body::Paced(_) => Transfer(paced),
        }
    }

    /// Its place, for what comes instead of it.
    pub fn take_place(&mut self) -> Option<Place> {
        match &mut self.0 {
            Body::Own(coming) => coming.place.take(),
            Body::Paced(_) => None,
        }
    }

    /// The same, at the pace of a client. Who takes next to nothing loses it to others who wait for a
    /// place.
    #[must_use]
    pub fn paced(self) -> Transfer {
        let coming = match self.0 {
            Body::Own(coming) if coming.place.is_some() => coming,
            other => return Transfer(other),
        };
        let lane = coming.place.as_ref().map(|place| place.lane().clone());
        let mark = Mark::new(0);
        let pace = Arc::new(Mutex::new(Pace { coming: Some(coming), is_awaited: true, taken: 0, mark }));
        let weak: Weak<Mutex<Pace>> = Arc::downgrade(&pace);
        if let Some(lane) = lane {
            lane.pace(weak);
        }
        Transfer(Body::Paced(pace))
    }
}

/// A request on its way to upstream with a body that its client sends. Who sends next to nothing loses the
/// place to others who wait for one.
#[derive(Debug)]
pub(super) struct Sending {
    activity: Activity,
    mark: Mutex<Mark>,
    cut: Notify,
}

impl Sending {
    /// `None`: there is nothing to send, and its registry may be as slow as it likes.
    pub(super) fn at(place: &Place, Forwarded { request, activity }: &Forwarded) -> Option<Arc<Sending>> {
        let activity = activity.clone().filter(|_| !request.body().is_end_stream())?;
        let mark = Mutex::new(Mark::new(activity.moved()));
        let sending = Arc::new(Sending { activity, mark, cut: Notify::new() });
        let weak: Weak<Sending> = Arc::downgrade(&sending);
        place.lane().pace(weak);
        Some(sending)
    }

    /// Resolves when the place is lost.
    pub(super) async fn cut(&self) -> Error {
        self.cut.notified().await;
        Error::new(Kind::Busy, "its body came slower than 64 KiB in 10 s, and others wait: try again")
    }
}

impl Reclaimable for Sending {
    fn reclaim(&self, now: Instant) {
        if self.mark.lock().is_slow(now, self.activity.moved()) && !self.activity.has_left() {
            self.cut.notify_one();
        }
    }
}

/// An answer whose body goes to a client at its pace.
pub fn paced_at(place: Place, response: Response<Incoming>) -> Response<Transfer> {
    response.map(|body| Transfer::from(body).at(place).paced())
}

impl Reclaimable for Mutex<Pace> {
    fn reclaim(&self, now: Instant) {
        let mut pace = self.lock();
        let taken = pace.taken;
        let is_idle = pace.mark.is_slow(now, taken) && !pace.is_awaited;
        let lost = if is_idle { pace.coming.take() } else { None };
        drop(pace);
        drop(lost);
    }
}

impl From<Incoming> for Transfer {
    fn from(body: Incoming) -> Transfer {
        Transfer(Body::Own(Coming { body, place: None }))
    }
}

impl Coming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.place = None;
        }
        polled.map_err(Ended::Broken)
    }
}

impl Pace {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let Some(coming) = &mut self.coming else { return Poll::Ready(Some(Err(Ended::Reclaimed))) };
        let polled = coming.poll_frame(cx);
        self.is_awaited = polled.is_pending();
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.taken += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        }
        polled
    }
}

impl http_body::Body for Transfer {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        match &mut self.0 {
            Body::Own(coming) => coming.poll_frame(cx),
            Body::Paced(pace) => pace.lock().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Body::Own(coming) => coming.body.is_end_stream(),
            Body::Paced(pace) => pace.lock().coming.as_ref().is_some_and(|coming| coming.body.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Body::Own(coming) => coming.body.size_hint(),
            Body::Paced(pace) => pace.lock().coming.as_ref().map(|coming| coming.body.size_hint()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::super::request::no_body;
    use super::*;
    use crate::policy::budget::Tenant;
    use crate::task::Tasks;

    /// An upload that gets on keeps its place; one that drips loses it where others wait, and else to
    /// nobody; one that has left waits for its registry.
    #[tokio::test(start_paused = true)]
    async fn an_upload_that_drips_loses_its_place_to_who_waits() {
        for (bytes, leaves, is_cut) in [(1, false, true), (64 << 10, false, false), (0, true, false)] {
            let lane = Lane::new(1, &Default::default(), &Default::default());
            let (activity, tasks) = (Activity::default(), Tasks::new());
            let place = lane.enter(Tenant::own()).await.unwrap();
            let body = Full::new(Bytes::from_static(b"more")).map_err(|never| match never {}).boxed_unsync();
            let forwarded = Forwarded { request: http::Request::new(body), activity: Some(activity.clone()) };
            let sending = Sending::at(&place, &forwarded).unwrap();
            let nothing = Forwarded { request: http::Request::new(no_body()), activity: Some(activity.clone()) };
            assert!(Sending::at(&place, &nothing).is_none(), "whose registry is slow sends nothing");
            if leaves {
                activity.all_left();
            }
            let moving = activity.clone();
            tasks.spawn(async move {
                loop {
                    tokio::time::sleep(IN / 2).await;
                    moving.touch(bytes);
                }
            });
            assert!(tokio::time::timeout(10 * IN, sending.cut()).await.is_err(), "nobody waits");
            let waiting = lane.enter(Tenant::of([10, 0, 0, 1].into()));
            tokio::select! {
                refused = waiting => assert!(!is_cut && refused.is_err()),
                error = sending.cut() => assert!(is_cut && error.kind() == Kind::Busy),
            }
        }
    }
}
