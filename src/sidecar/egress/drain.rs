//! The rest of a request body that was not read because the response came first. The response must still arrive: over
//! HTTP/1.1 the rest is read and dropped (RFC 9112, section 9.6). Over HTTP/2 the body is kept until the response was
//! sent, so that the client then learns that no more is wanted, rather than that the stream failed (RFC 9113, section
//! 8.1).

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::{Request, Response, Version};

use super::bodies::{Body, BoxError};
use crate::sync::lock;

/// How much is read and dropped at most, in bytes, and for how long.
const MAX_BYTES: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of a request from the agent.
pub(super) struct RequestBody {
    body: Option<Incoming>,
    keeper: Option<Leftover>,
}

/// Keeps an unread body until the response was sent.
pub(super) type Leftover = Arc<Mutex<Option<Incoming>>>;

/// Wraps the body of a request.
pub(super) fn wrap(request: Request<Incoming>) -> (Request<RequestBody>, Option<Leftover>) {
    let keep = request.version() == Version::HTTP_2 && !request.body().is_end_stream();
    let keeper = keep.then(Leftover::default);
    let memory = keeper.clone();
    (request.map(|body| RequestBody { body: Some(body), keeper: memory }), keeper)
}

/// Keeps the rest of the request body as long as the response.
pub(super) fn keep(response: Response<Body>, keeper: Option<Leftover>) -> Response<Body> {
    match keeper {
        None => response,
        Some(keeper) => response.map(|inner| HoldingRequestBody { inner, _keeper: keeper }.boxed()),
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        match &self.keeper {
            Some(keeper) => *lock(keeper) = Some(body),
            None => drop(tokio::spawn(tokio::time::timeout(PATIENCE, drain(body)))),
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut left = MAX_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(length) else { return };
        left = less;
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(hyper::body::Body::size_hint).unwrap_or_default()
    }
}

/// A response that keeps the request's body.
struct HoldingRequestBody {
    inner: Body,
    _keeper: Leftover,
}

impl hyper::body::Body for HoldingRequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
