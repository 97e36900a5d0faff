//! A request's body on its way upstream: nothing is buffered, and nothing is read from the client
//! before upstream wants it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, capture_connection};
use tokio::sync::Notify;

use crate::upstream::{Activity, Forwarded};

/// How long a client that sent `Expect: 100-continue` waits for upstream's answer to that (RFC
/// 9110, 10.1.1: a client need not wait for ever, and neither need a proxy).
const PATIENCE: Duration = Duration::from_secs(2);

/// Called when all of a body has left.
pub(crate) type WhenLeft = Box<dyn FnOnce() + Send>;

/// The request to send upstream, with the client's body. hyper answers `100 Continue` when the body
/// is first polled: if the client waits for that, it is polled when upstream's own `100 Continue`
/// is here.
pub(crate) fn forward(
    headers: HeaderMap,
    method: Method,
    body: Incoming,
    mut when_left: Option<WhenLeft>,
) -> Forwarded {
    let activity = Activity::default();
    // An empty body is never polled. A POST without one begins an upload.
    if body.is_end_stream() && matches!(method, Method::PUT | Method::PATCH) {
        activity.all_left();
    }
    if let Some(when_left) = when_left.take_if(|_| body.is_end_stream()) {
        when_left();
    }
    let expects =
        headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let gate = expects.then(|| gate(&mut request));
    let upload = Upload { body, gate, when_left, activity: activity.clone() };
    let request = request.map(|()| upload.map_err(Into::into).boxed_unsync());
    Forwarded { request, activity: Some(activity) }
}

type Gate = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens when upstream wants the body of a request. hyper tells of 100 by HTTP/1.1 alone: over HTTP/2 it
/// is not waited for.
fn gate(request: &mut Request<()>) -> Gate {
    let (go, mut connection) = (Arc::new(Notify::new()), capture_connection(request));
    request.extensions_mut().insert(connection.clone());
    let wanted = go.clone();
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            wanted.notify_one();
        }
    });
    Box::pin(async move {
        let is_h2 = connection.wait_for_connection_metadata().await.as_ref().is_some_and(Connected::is_negotiated_h2);
        if !is_h2 {
            // An answer that comes too late is as good as none: old registries ignore Expect.
            let _ = tokio::time::timeout(PATIENCE, go.notified()).await;
        }
    })
}

/// The body, polled once its gate opens.
struct Upload {
    body: Incoming,
    gate: Option<Gate>,
    when_left: Option<WhenLeft>,
    activity: Activity,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        self.activity.touch(bytes.map_or(0, |bytes| bytes.len() as u64));
        // Behind the length that was said nothing is asked for.
        let is_all = || self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
        let is_last = frame.as_ref().is_none_or(|frame| frame.is_ok() && is_all());
        if is_last {
            self.activity.all_left();
        }
        if let Some(when_left) = self.when_left.take_if(|_| is_last) {
            when_left();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
