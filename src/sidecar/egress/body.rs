//! A request is looked at before it leaves: its head at once, a body of known and moderate length whole, any other as it
//! comes, with what may be the beginning of a secret held back. Answers pass, or are looked at where the user wants it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::drain::Asked;
use super::forward::{self, Body, BoxError};
use super::stats::Counters;
use super::{Egress, Outcome};
use crate::policy::{Intent, Reason};
use crate::scan::{DecodeError, Finding, Framed, FramedError, Head, Messages, Scanner, Seam, Shape, Stream};
use crate::sync::lock;

/// Largest body that is looked at whole, in bytes; encoded ones are never larger.
const MAX_WHOLE: usize = 8 << 20;
/// Larger ones are looked at aside, so that others need not wait.
const MAX_AT_ONCE: usize = 128 << 10;

/// Why a body was cut off while it was being sent.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    reason: Option<Reason>,
    /// Who is told when the answer has come before it.
    answered: Option<(Arc<Egress>, Intent)>,
}

impl Verdict {
    pub(super) fn reason(&self) -> Option<Reason> {
        lock(&self.0).reason.clone()
    }

    /// The answer has come: what is found from now on is told by itself.
    pub(super) fn answered(&self, egress: &Arc<Egress>, intent: &Intent) {
        lock(&self.0).answered = Some((egress.clone(), intent.clone()));
    }

    fn set(&self, reason: &Reason) {
        let mut said = lock(&self.0);
        if let Some((egress, intent)) = said.answered.take() {
            egress.decided(Some(&intent), Outcome::Refuse(reason));
        }
        said.reason = Some(reason.clone());
    }
}

/// Looks at the head of a request.
pub(super) fn check_head(scanner: &Scanner, head: &Parts, path: &str) -> Result<(), Reason> {
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let found = scanner.head(&Head { method: head.method.as_str(), path, headers });
    found.map_or(Ok(()), |(finding, place)| Err(Reason::SecretFound(finding, place)))
}

fn shape(headers: &HeaderMap) -> Result<Shape, Reason> {
    let text = |name: header::HeaderName| -> Result<Vec<&str>, DecodeError> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().map_err(|_| DecodeError::Unknown("not ASCII".to_owned()))).collect()
    };
    let kinds = text(header::CONTENT_TYPE)?;
    if kinds.len() > 1 {
        return Err(Reason::BadRequest("there are two Content-Type headers"));
    }
    let grpc = text(header::HeaderName::from_static("grpc-encoding"))?;
    let kind = kinds.first().copied().unwrap_or_default();
    let mut encodings = text(header::CONTENT_ENCODING)?;
    // S3's clients that say so by this alone frame the body, too.
    let streams = |value: &&str| value.starts_with("STREAMING-");
    if text(header::HeaderName::from_static("x-amz-content-sha256"))?.iter().any(streams) {
        encodings.push("aws-chunked");
    }
    Ok(Shape::read(kind, &encodings, grpc.first().copied())?)
}

/// Lets a body through: whole where that can be waited for, in pieces otherwise.
pub(super) async fn admit(
    egress: &Egress,
    scanner: &Arc<Scanner>,
    headers: &HeaderMap,
    body: Asked,
    verdict: &Verdict,
) -> Result<Body, Reason> {
    let counters = egress.counters.clone();
    if body.is_end_stream() {
        return Ok(forward::empty());
    }
    if !scanner.looks() {
        return Ok(Passing { inner: body, counters, counter: |counters| &counters.request_bytes }.boxed());
    }
    let shape = shape(headers)?;
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|&length| length <= MAX_WHOLE);
    if let Some(messages) = shape.messages() {
        let look = Look::Messages(messages?, Seam::default());
        return Ok(Scanned::new(body, look, scanner, verdict, counters).boxed());
    }
    let Some(_memory) = memory(egress, length, shape.is_encoded()).await else {
        let stream = Stream::new(scanner.clone());
        let look = if shape.is_framed() { Look::Framed(Framed::new(stream)) } else { Look::Text(stream) };
        return Ok(Scanned::new(body, look, scanner, verdict, counters).boxed());
    };
    let whole = Limited::new(body, MAX_WHOLE).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Reason::NotDecoded(DecodeError::TooLarge)
        } else {
            Reason::BadRequest("the body ended early")
        }
    })?;
    let trailers = whole.trailers().cloned();
    let bytes = whole.to_bytes();
    let finding = if bytes.len() <= MAX_AT_ONCE && !shape.is_encoded() {
        shape.whole(scanner, &bytes)?
    } else {
        let (scanner, bytes) = (scanner.clone(), bytes.clone());
        let looked = tokio::task::spawn_blocking(move || shape.whole(&scanner, &bytes)).await;
        looked.map_err(|_| Reason::BadRequest("the body could not be looked at"))??
    };
    if let Some(finding) = finding.or_else(|| in_trailers(scanner, trailers.as_ref())) {
        return Err(Reason::SecretFound(finding, "body"));
    }
    counters.request_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(match trailers {
        None => forward::full(bytes),
        Some(trailers) => {
            let trailers = async move { Some(Ok(trailers)) };
            http_body_util::Full::new(bytes).map_err(|never| match never {}).with_trailers(trailers).boxed()
        }
    })
}

/// Takes memory for a body that is looked at whole. `None` where it is to be looked at in pieces: it is long, or nobody
/// knows how long, or too much memory is taken. What is encoded can only be looked at whole, and waits.
async fn memory(egress: &Egress, length: Option<usize>, encoded: bool) -> Option<OwnedSemaphorePermit> {
    if encoded {
        return egress.decoding.clone().acquire_owned().await.ok();
    }
    let kilobytes = u32::try_from(length?.div_ceil(1024)).ok()?;
    egress.whole_bodies.clone().try_acquire_many_owned(kilobytes).ok()
}

/// Lets an answer through, and looks at it where `scanner` is there.
///
/// # Errors
/// It is to be looked at, and cannot be.
pub(super) fn answer(
    egress: &Arc<Egress>,
    scanner: Option<&Arc<Scanner>>,
    headers: &HeaderMap,
    body: Incoming,
    intent: &Intent,
) -> Result<Body, Reason> {
    let counters = egress.counters.clone();
    let Some(scanner) = scanner else {
        return Ok(Passing { inner: body, counters, counter: |counters| &counters.response_bytes }.boxed());
    };
    if shape(headers)?.is_encoded() {
        return Err(Reason::NotDecoded(DecodeError::Unknown("of an answer, which was asked for as it is".to_owned())));
    }
    let verdict = Verdict::default();
    verdict.answered(egress, intent);
    let look = Look::Text(Stream::new(scanner.clone()));
    let mut passed = Scanned::new(body, look, scanner, &verdict, counters);
    passed.counter = |counters| &counters.response_bytes;
    passed.place = "answer";
    Ok(passed.boxed())
}

fn in_trailers(scanner: &Scanner, trailers: Option<&HeaderMap>) -> Option<Finding> {
    trailers?.values().find_map(|value| scanner.whole(value.as_bytes()))
}

/// A body that comes from somewhere.
trait Received: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin {}
impl<B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin> Received for B {}

type Counter = fn(&Counters) -> &AtomicU64;

/// A body that nobody looks at.
struct Passing<B> {
    inner: B,
    counters: Arc<Counters>,
    counter: Counter,
}

impl<B: Received> hyper::body::Body for Passing<B> {
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

/// How a body in pieces is looked at.
enum Look {
    /// As one text.
    Text(Stream),
    /// As one text in S3's framing.
    Framed(Framed),
    /// Message by message: each is sent on at once.
    Messages(Messages, Seam),
}

impl Look {
    fn push(&mut self, scanner: &Scanner, piece: Bytes, place: &'static str) -> Result<Bytes, Reason> {
        let found = |finding| Reason::SecretFound(finding, place);
        match self {
            Self::Text(stream) => stream.push(piece).map_err(found),
            Self::Framed(framed) => framed.push(&piece).map_err(|error| of_framed(error, place)),
            Self::Messages(messages, seam) => {
                messages.push(&piece);
                let mut leaves = BytesMut::new();
                while let Some((frame, message)) = messages.take()? {
                    seam.look(scanner, &message).map_or(Ok(()), |finding| Err(found(finding)))?;
                    leaves.extend_from_slice(&frame);
                }
                Ok(leaves.freeze())
            }
        }
    }

    fn end(&mut self, place: &'static str) -> Result<Bytes, Reason> {
        match self {
            Self::Text(stream) => Ok(stream.end()),
            Self::Framed(framed) => framed.end().map_err(|error| of_framed(error, place)),
            Self::Messages(messages, _) => Ok(messages.end().map(|()| Bytes::new())?),
        }
    }
}

fn of_framed(error: FramedError, place: &'static str) -> Reason {
    match error {
        FramedError::Decode(error) => Reason::NotDecoded(error),
        FramedError::Found(finding) => Reason::SecretFound(finding, place),
    }
}

/// A body in pieces.
struct Scanned<B> {
    inner: B,
    look: Look,
    scanner: Arc<Scanner>,
    /// What comes after what was held back.
    trailers: Option<Frame<Bytes>>,
    ended: bool,
    verdict: Verdict,
    counters: Arc<Counters>,
    counter: Counter,
    place: &'static str,
}

impl<B> Scanned<B> {
    fn new(inner: B, look: Look, scanner: &Arc<Scanner>, verdict: &Verdict, counters: Arc<Counters>) -> Self {
        Self {
            inner,
            look,
            scanner: scanner.clone(),
            trailers: None,
            ended: false,
            verdict: verdict.clone(),
            counters,
            counter: |counters| &counters.request_bytes,
            place: "body",
        }
    }

    fn stop(&mut self, reason: Reason) -> BoxError {
        self.verdict.set(&reason);
        self.ended = true;
        Box::new(reason)
    }
}

impl<B: Received> hyper::body::Body for Scanned<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(this.trailers.take().map(Ok));
            }
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                None => None,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => Some(frame),
            };
            let leaves = match frame.map(Frame::into_data) {
                Some(Ok(data)) => this.look.push(&this.scanner, data, this.place),
                Some(Err(trailers)) => {
                    let finding = in_trailers(&this.scanner, trailers.trailers_ref());
                    this.trailers = Some(trailers);
                    finding.map_or(Ok(Bytes::new()), |finding| Err(Reason::SecretFound(finding, "trailers")))
                }
                None => {
                    this.ended = true;
                    this.look.end(this.place)
                }
            };
            match leaves {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    (this.counter)(&this.counters).fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Err(reason) => {
                    this.trailers = None;
                    return Poll::Ready(Some(Err(this.stop(reason))));
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
