//! A response from which the values of credentials are taken out while it is forwarded. Its length stays the same.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::bodies::IncomingBody;
use crate::credential::{RedactedStream, Redactor};

/// Dropped whole if a value is in them: clients keep them, and one with a placeholder would be sent back.
const DROPPED: [HeaderName; 3] = [
    header::SET_COOKIE,
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("proxy-authentication-info"),
];
/// A body without values; as it is if there is nothing to take out.
pub(super) struct Redacted<B> {
    inner: B,
    redaction: Option<(Arc<Redactor>, RedactedStream)>,
    rest: Rest,
}

/// What follows the data.
enum Rest {
    /// It is not known yet.
    Unknown,
    Trailers(Frame<Bytes>),
    End,
}

impl<B: IncomingBody> Redacted<B> {
    pub(super) fn new(inner: B, redactor: Option<&Arc<Redactor>>) -> Self {
        let redaction = redactor.map(|redactor| (redactor.clone(), RedactedStream::new(redactor.clone())));
        Self { inner, redaction, rest: Rest::Unknown }
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
            match std::mem::replace(&mut this.rest, Rest::Unknown) {
                Rest::Unknown => {}
                Rest::Trailers(trailers) => return Poll::Ready(Some(Ok(trailers))),
                Rest::End => {
                    // The inner body is not polled after its end.
                    this.rest = Rest::End;
                    return Poll::Ready(None);
                }
            }
            let frame = ready!(Pin::new(&mut this.inner).poll_frame(context)).transpose()?;
            let shown = match frame.map(Frame::into_data) {
                Some(Ok(data)) => stream.push(&data),
                last => {
                    let mut last = last.and_then(Result::err);
                    if let Some(trailers) = last.as_mut().and_then(Frame::trailers_mut) {
                        redact_headers(redactor, trailers);
                    }
                    this.rest = last.map_or(Rest::End, Rest::Trailers);
                    stream.boundary()
                }
            };
            if !shown.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(shown))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.held() == 0 && !matches!(self.rest, Rest::Trailers(_))
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

/// Takes the values out of headers or trailers.
pub(super) fn redact_headers(redactor: &Redactor, headers: &mut HeaderMap) {
    let shows = |headers: &HeaderMap, name: &HeaderName| {
        headers.get_all(name).iter().any(|value| redactor.text(value.as_bytes()).is_some())
    };
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in names {
        if redactor.is_in_name(name.as_str()) || DROPPED.contains(&name) && shows(headers, &name) {
            headers.remove(name);
        }
    }
    for value in headers.values_mut() {
        let Some(text) = redactor.text(value.as_bytes()) else { continue };
        // A placeholder has no character that a header cannot hold.
        *value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
}
