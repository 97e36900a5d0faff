//! What the other side did not process is sent again (RFC 9113, 6.8 and 8.7; RFC 9110, 9.2.2): it
//! announced that it takes no more on this connection, or closed a kept one just then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::request::Parts;
use http::{Extensions, Method, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Error;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use parking_lot::Mutex;

use super::request::{Form, RequestBody};
use crate::dial::error::{chain, dial_error};
use crate::dial::stream::Answered;

/// How long a request may lie at the connection that was chosen for it. Taking it up is a matter of
/// microseconds, unless the other side allows no more streams.
const TAKEN_UP: Duration = Duration::from_secs(1);

/// A request that can be sent again as long as nothing of its body was read.
pub(super) struct Resendable {
    head: Parts,
    body: Shared,
}

/// A body that one attempt reads: the last.
#[derive(Clone)]
struct Shared {
    reading: Arc<Mutex<Reading>>,
    attempt: usize,
}

struct Reading {
    body: RequestBody,
    form: Option<Form>,
    has_begun: bool,
    /// The connection has taken the attempt up: it looks at the body before it writes the head.
    is_taken_up: bool,
    attempt: usize,
}

impl Resendable {
    pub(super) fn new(request: Request<RequestBody>) -> Resendable {
        let (head, body) = request.into_parts();
        let form = head.extensions.get::<Form>().cloned();
        let reading = Reading { body, form, has_begun: false, is_taken_up: false, attempt: 0 };
        Resendable { head, body: Shared { reading: Arc::new(Mutex::new(reading)), attempt: 0 } }
    }

    /// One attempt, and what tells when a connection was chosen for it.
    pub(super) fn attempt(&self) -> (Request<RequestBody>, CaptureConnection) {
        let mut request = Request::from_parts(self.head.clone(), self.body.clone().boxed_unsync());
        // An upload that waits for `100 Continue` looks for it, too, and only the last who asks is told.
        let shared = request.extensions().get::<CaptureConnection>().cloned();
        let chosen = shared.unwrap_or_else(|| capture_connection(&mut request));
        (request, chosen)
    }

    /// Ends when the attempt was given to a connection that has not taken it up; then it never will.
    ///
    /// A request that is given to a connection of hyper's just as that one ends may be forgotten: what is
    /// sent to a channel of tokio's while its receiver is dropped stays there as long as the sender, which
    /// waits for the answer.
    pub(super) async fn is_left_lying(&mut self, mut chosen: CaptureConnection) {
        let is_chosen = chosen.wait_for_connection_metadata().await.is_some();
        tokio::time::sleep(TAKEN_UP).await;
        if !is_chosen || !self.body.reading.lock().leave() {
            std::future::pending().await
        }
        self.body.attempt += 1;
    }

    /// Whether it was not processed, by the way it failed. Then nothing reads its body any more but the
    /// next attempt.
    pub(super) fn may_be_sent_again(&mut self, error: &Error, receiver: Receiver) -> bool {
        let is_unprocessed = dial_error(error).is_none() && is_unprocessed(&self.head.method, error, receiver);
        let mut reading = self.body.reading.lock();
        if !is_unprocessed || !reading.may_begin() {
            return false;
        }
        reading.attempt += 1;
        reading.is_taken_up = false;
        self.body.attempt = reading.attempt;
        true
    }
}

impl Reading {
    /// Whether another attempt may read all of it.
    fn may_begin(&mut self) -> bool {
        if let (true, Some(form)) = (self.has_begun, &self.form) {
            self.body = form.body();
            self.has_begun = false;
        }
        !self.has_begun
    }

    /// Ends an attempt that nobody has taken up, if that is so.
    fn leave(&mut self) -> bool {
        self.attempt += usize::from(!self.is_taken_up);
        !self.is_taken_up
    }
}

/// Who gets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    /// A registry: what has no body there, or whose body has not begun, can be sent twice. (Twice begun
    /// uploads are two, and one of them is forgotten.)
    Registry,
    /// Any host: "A proxy MUST NOT automatically retry non-idempotent requests" (RFC 9110, 9.2.2).
    Other,
}

fn is_unprocessed(method: &Method, error: &Error, receiver: Receiver) -> bool {
    if has_not_left(error) {
        return true;
    }
    match protocol_error(error) {
        // Streams that it took before it failed get the same error.
        Some(h2) if h2.is_go_away() && h2.is_remote() => {
            h2.reason() == Some(h2::Reason::NO_ERROR) || method.is_idempotent()
        }
        Some(h2) if h2.is_reset() => h2.reason() == Some(h2::Reason::REFUSED_STREAM),
        _ => was_kept(error) && !is_garbled(error) && (receiver == Receiver::Registry || method.is_idempotent()),
    }
}

/// Whether no byte of it left: no connection was found for it, as the one that another request had made had
/// ended by then, or hyper gave its own up in favour of that one ("ALPN upgraded to HTTP/2"); or the
/// connection ended, maybe a new one, before it took the request up.
fn has_not_left(error: &Error) -> bool {
    let mut causes = chain(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>()).peekable();
    let had_connection = error.connect_info().is_some() || causes.peek().is_some();
    !had_connection || causes.any(hyper::Error::is_canceled)
}

/// Whether there was an answer, though no good one.
fn is_garbled(error: &Error) -> bool {
    chain(error).filter_map(|cause| cause.downcast_ref()).any(hyper::Error::is_parse)
}

fn protocol_error(error: &Error) -> Option<&h2::Error> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// Whether it was kept from an earlier request: then this one may have met its end.
fn was_kept(error: &Error) -> bool {
    let mut extensions = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extensions);
    }
    extensions.get::<Answered>().is_some_and(Answered::has_answered)
}

impl Body for Shared {
    type Data = bytes::Bytes;
    type Error = <RequestBody as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut reading = self.reading.lock();
        if reading.attempt != self.attempt {
            return Poll::Ready(Some(Err("another attempt reads the body".into())));
        }
        let frame = ready!(Pin::new(&mut reading.body).poll_frame(cx));
        reading.has_begun = true;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let mut reading = self.reading.lock();
        // What was left lying is not to be sent as a whole request, should it be taken up after all.
        let is_last = reading.attempt == self.attempt;
        reading.is_taken_up |= is_last;
        is_last && reading.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reading.lock().body.size_hint()
    }
}
