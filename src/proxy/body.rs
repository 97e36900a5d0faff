//! What a response carries.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

/// A response body.
#[derive(Debug)]
pub struct Body(Option<Bytes>);

impl Body {
    /// Nothing.
    pub fn empty() -> Body {
        Body(None)
    }

    /// All of it, here already.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        Body(Some(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
