//! Bodies of HTTP messages, as something to read and from something that is written.

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::StatusCode;
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::mpsc;

/// The size of a pipe and of a piece, in bytes.
pub(super) const PIPE: usize = 256 << 10;

/// A body.
pub(super) type Body = BoxBody<Bytes, std::io::Error>;
/// A response.
pub(super) type Response = hyper::Response<Body>;

/// A body that is there.
pub(super) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// A body in pieces that come one after another.
pub(super) fn streamed(from: mpsc::Receiver<std::io::Result<Bytes>>) -> Body {
    let pieces = futures_util::stream::unfold(from, |mut from| async { from.recv().await.map(|piece| (piece, from)) });
    BodyExt::boxed(StreamBody::new(pieces.map_ok(Frame::data)))
}

/// The body of a message, as something to read. One that is cut short ends early: who reads knows the length.
pub(super) fn reader(mut body: Incoming) -> impl AsyncRead + Send + Unpin {
    let (near, mut far) = tokio::io::duplex(PIPE);
    crate::task::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && far.write_all(&data).await.is_err()
            {
                return;
            }
        }
    });
    near
}

/// A response with a text.
pub(super) fn text(status: StatusCode, kind: &str, text: impl Into<Bytes>) -> Response {
    let response = hyper::Response::builder().status(status).header(CONTENT_TYPE, kind);
    response.body(full(text)).unwrap_or_default()
}
