//! The rest of a request body that was not read because the response came first. The response must still arrive: the rest
//! is read and dropped (RFC 9112, section 9.6), up to a limit. That is so over HTTP/2, too: httpx does not look at the
//! response before its upload has ended, and waits for leave to send more until it gives up. What is beyond the limit is
//! kept there until the response was sent, so that the client then learns that no more is wanted, rather than that the
//! stream failed (RFC 9113, section 8.1).

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

/// How much is read and dropped at most, in bytes; how long the client may be silent; and how long it may take in all. Some
/// clients send 64 KiB in 40 ms, because their system waits with the rest of a write (RFC 9293, section 3.7.4).
const MAX_BYTES: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(10);

/// The body of a request from the agent.
pub(super) struct RequestBody {
    body: Option<Incoming>,
    keeper: Option<Leftover>,
}

/// Keeps what is left of an unread body until the response was sent.
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
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let keeper = self.keeper.take();
        crate::task::spawn(async move {
            // A body that is not read in time is no error of this end.
            drain_in_time(&mut body).await;
            if let Some(keeper) = keeper {
                *lock(&keeper) = Some(body);
            }
        });
    }
}

async fn drain_in_time<B: hyper::body::Body<Data = Bytes> + Unpin>(body: &mut B) {
    let _ = tokio::time::timeout(LONGEST, drain(body)).await;
}

async fn drain<B: hyper::body::Body<Data = Bytes> + Unpin>(body: &mut B) {
    let mut left = MAX_BYTES;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, body.frame()).await {
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::StreamExt;
    use http_body_util::StreamBody;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// How many pieces of a body are read, one each `every`, and how long that takes.
    async fn read(pieces: usize, size: usize, every: Duration) -> (usize, Duration) {
        let (piece, began) = (Bytes::from(vec![0; size]), Instant::now());
        let mut taken = 0;
        {
            let frames = futures_util::stream::iter(0..pieces).then(|_| {
                let piece = piece.clone();
                async move {
                    sleep(every).await;
                    Ok::<_, Infallible>(Frame::data(piece))
                }
            });
            let frames = frames.inspect(|_| taken += 1);
            drain_in_time(&mut StreamBody::new(Box::pin(frames))).await;
        }
        (taken, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_so_much_of_the_rest_is_read_and_no_more() {
        const PIECE: usize = 1 << 20;
        let most = MAX_BYTES / PIECE;
        assert_eq!(read(most, PIECE, Duration::ZERO).await.0, most);
        assert_eq!(read(most + 9, PIECE, Duration::ZERO).await.0, most + 1, "the one beyond is the last");
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_the_rest_is_waited_for_so_long() {
        let just = PATIENCE.saturating_sub(Duration::from_millis(1));
        assert_eq!(read(3, 1, just).await, (3, 3 * just));
        assert_eq!(read(3, 1, PATIENCE + Duration::from_millis(1)).await, (0, PATIENCE));
        assert_eq!(read(10_000, 1, Duration::from_secs(1)).await.1, LONGEST);
    }
}
