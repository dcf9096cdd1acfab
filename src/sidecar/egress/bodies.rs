//! Bodies that are forwarded: without inspection, in slices, or with a known size.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, SizeHint};

use super::stats::Counters;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
pub(super) type Body = BoxBody<Bytes, BoxError>;

/// Maximum size of a slice of a buffered body, in bytes: the HTTP client buffers each frame until the destination reads
/// it.
const SLICE: usize = 64 << 10;

/// A body that is received from the network.
pub(super) trait IncomingBody:
    hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin + Send + Sync + 'static
{
}
impl<B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin + Send + Sync + 'static> IncomingBody for B {}

/// Selects the counter that counts a body's bytes.
pub(super) type Counter = fn(&Counters) -> &AtomicU64;

/// A body that is not inspected.
pub(super) struct Uninspected<B> {
    pub(super) inner: B,
    pub(super) counters: Arc<Counters>,
    pub(super) counter: Counter,
}

impl<B: IncomingBody> hyper::body::Body for Uninspected<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            (self.counter)(&self.counters).fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A buffered body.
pub(super) struct Sliced(pub(super) Bytes);

impl hyper::body::Body for Sliced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let length = self.0.len().min(SLICE);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// A body with the size hint of the body that it was made from.
pub(super) struct Sized<B> {
    pub(super) inner: B,
    pub(super) left: SizeHint,
}

impl<B: hyper::body::Body<Data = Bytes, Error = BoxError> + Unpin> hyper::body::Body for Sized<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let (Some(left), Some(Ok(frame))) = (self.left.exact(), &frame) {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.left = SizeHint::with_exact(left.saturating_sub(length));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
    }
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
