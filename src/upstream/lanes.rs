//! Places for what is asked of upstream: transfers have one as long as their body comes, questions until
//! they are answered. Neither waits for the other.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::lane::{Lane, Place};
use crate::metrics::bounds::Bounds;

/// Questions at once.
const QUESTIONS: usize = 256;

/// All lanes. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// For fills, and for what goes through.
    pub transfers: Lane,
    /// For HEADs and what is short.
    pub questions: Lane,
}

impl Lanes {
    /// With places for so many transfers; how full they are is shown there.
    pub(super) fn new(transfers: usize, bounds: &Bounds) -> Lanes {
        Lanes {
            transfers: Lane::new(transfers, &bounds.transfers, &bounds.transfers_waiting),
            questions: Lane::new(QUESTIONS, &bounds.questions, &bounds.questions_waiting),
        }
    }
}

/// A body on its way, with its place.
#[derive(Debug)]
pub struct Transfer {
    body: Incoming,
    place: Option<Place>,
}

impl Transfer {
    /// The same, with its place.
    pub fn at(self, place: Place) -> Transfer {
        Transfer { place: Some(place), ..self }
    }
}

impl From<Incoming> for Transfer {
    fn from(body: Incoming) -> Transfer {
        Transfer { body, place: None }
    }
}

impl Body for Transfer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.place = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
