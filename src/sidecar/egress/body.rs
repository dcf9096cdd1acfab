//! A request is looked at before it leaves: its head at once, a body of known and moderate length whole, any other as it
//! comes, with what may be the beginning of a secret held back.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;

use super::forward::{self, Body, BoxError};
use crate::policy::Reason;
use crate::scan::{DecodeError, Encoding, Finding, Scanner, Stream, decode};

/// Largest body that is looked at whole, in bytes; encoded ones are never larger.
const MAX_WHOLE: usize = 8 << 20;

/// Why a body was cut off while it was being sent.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Reason>>>);

impl Verdict {
    pub(super) fn reason(&self) -> Option<Reason> {
        crate::sync::lock(&self.0).clone()
    }
}

/// Looks at the path, the query and the headers: each for itself, and what is left when separators are taken out, for a
/// secret may be split over several.
pub(super) fn check_head(scanner: &Scanner, head: &Parts, path: &str) -> Result<(), Reason> {
    let found = |place| move |finding: Finding| Err(Reason::SecretFound(finding, place));
    scanner.whole(path.as_bytes()).map_or(Ok(()), found("path or query"))?;
    let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let values: Vec<&str> =
        query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)).collect();
    scanner.whole(values.concat().as_bytes()).map_or(Ok(()), found("query"))?;
    let mut lines = Vec::new();
    for (name, value) in &head.headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    scanner.whole(&lines).map_or(Ok(()), found("headers"))?;
    // As they came, and by their names: the two orders in which a receiver would put the parts together.
    let mut headers: Vec<(&str, &[u8])> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    for _ in 0..2 {
        let joined: Vec<u8> = headers.iter().flat_map(|(_, value)| value.iter().copied()).collect();
        scanner.whole(&joined).map_or(Ok(()), found("headers"))?;
        headers.sort_by_key(|(name, _)| *name);
    }
    Ok(())
}

/// Lets a body through: whole where that can be waited for, in pieces otherwise.
pub(super) async fn admit(
    scanner: &Arc<Scanner>,
    headers: &HeaderMap,
    body: Incoming,
    verdict: &Verdict,
) -> Result<Body, Reason> {
    if body.is_end_stream() {
        return Ok(forward::empty());
    }
    let mut encodings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| DecodeError::Unknown("not ASCII".to_owned()))?;
        encodings.extend(Encoding::list(text)?);
    }
    let known = body.size_hint().exact().is_some_and(|length| length <= MAX_WHOLE as u64);
    if !known && encodings.is_empty() {
        let stream = Stream::new(scanner.clone());
        let state = State::Open;
        return Ok(Scanned { inner: body, stream, trailers: None, state, verdict: verdict.clone() }.boxed());
    }
    let whole = Limited::new(body, MAX_WHOLE).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Reason::NotDecoded(DecodeError::TooLarge)
        } else {
            Reason::BadRequest("the body ended early")
        }
    })?;
    let trailers = whole.trailers().cloned();
    let bytes = whole.to_bytes();
    let finding =
        if encodings.is_empty() { scanner.whole(&bytes) } else { scanner.whole(&decode(&bytes, &encodings)?) };
    if let Some(finding) = finding.or_else(|| in_trailers(scanner, trailers.as_ref())) {
        return Err(Reason::SecretFound(finding, "body"));
    }
    Ok(forward::full(bytes))
}

fn in_trailers(scanner: &Scanner, trailers: Option<&HeaderMap>) -> Option<Finding> {
    trailers?.values().find_map(|value| scanner.whole(value.as_bytes()))
}

enum State {
    Open,
    Ended,
}

/// A body in pieces.
struct Scanned {
    inner: Incoming,
    stream: Stream,
    /// What comes after what was held back.
    trailers: Option<Frame<Bytes>>,
    state: State,
    verdict: Verdict,
}

impl Scanned {
    fn stop(&mut self, finding: Finding) -> BoxError {
        let reason = Reason::SecretFound(finding, "body");
        *crate::sync::lock(&self.verdict.0) = Some(reason.clone());
        self.state = State::Ended;
        Box::new(reason)
    }
}

impl hyper::body::Body for Scanned {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if matches!(self.state, State::Ended) {
                return Poll::Ready(self.trailers.take().map(Ok));
            }
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                None => None,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => Some(frame),
            };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => match self.stream.push(data) {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Err(finding) => return Poll::Ready(Some(Err(self.stop(finding)))),
                },
                Some(Err(trailers)) => {
                    let found = in_trailers(self.stream.scanner(), trailers.trailers_ref());
                    if let Some(finding) = found {
                        return Poll::Ready(Some(Err(self.stop(finding))));
                    }
                    self.trailers = Some(trailers);
                }
                None => {
                    self.state = State::Ended;
                    let held = self.stream.end();
                    if !held.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(held))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        // Nothing is added or left out.
        self.inner.size_hint()
    }
}
