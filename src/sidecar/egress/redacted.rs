//! A response from which the values of credentials are taken out while it is forwarded. Its length stays the same.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::bodies::IncomingBody;
use super::inject::redact_headers;
use crate::credential::{RedactedStream, Redactor};

/// A body without values; as it is if there is nothing to take out.
pub(super) struct Redacted<B> {
    inner: B,
    redaction: Option<(Arc<Redactor>, RedactedStream)>,
    /// Trailers, or the end, that follow the rest of the data.
    next: Option<Option<Frame<Bytes>>>,
}

impl<B: IncomingBody> Redacted<B> {
    pub(super) fn new(inner: B, redactor: Option<&Arc<Redactor>>) -> Self {
        let redaction = redactor.map(|redactor| (redactor.clone(), RedactedStream::new(redactor.clone())));
        Self { inner, redaction, next: None }
    }

    fn held(&self) -> usize {
        self.redaction.as_ref().map_or(0, |(_, stream)| stream.held())
    }
}

impl<B: IncomingBody> hyper::body::Body for Redacted<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some((redactor, stream)) = &mut this.redaction else {
            return Pin::new(&mut this.inner).poll_frame(context);
        };
        loop {
            if let Some(next) = this.next.take() {
                if next.is_none() {
                    // The inner body is not polled after its end.
                    this.next = Some(None);
                }
                return Poll::Ready(next.map(Ok));
            }
            let frame = ready!(Pin::new(&mut this.inner).poll_frame(context)).transpose()?;
            let shown = match frame.map(Frame::into_data) {
                Some(Ok(data)) => stream.push(data),
                last => {
                    let mut last = last.and_then(Result::err);
                    if let Some(trailers) = last.as_mut().and_then(Frame::trailers_mut) {
                        redact_headers(redactor, trailers);
                    }
                    this.next = Some(last);
                    stream.boundary()
                }
            };
            if !shown.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(shown))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.held() == 0 && matches!(self.next, None | Some(None))
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, held) = (self.inner.size_hint(), self.held() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
