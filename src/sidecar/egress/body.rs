//! A request is looked at before it leaves: its head at once, and its body whole, whatever its framing, up to a size; what
//! is longer in windows, with what a window ends within held back. Answers pass, or are looked at where the user wants it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use tokio::time::{Instant, timeout, timeout_at};

use super::drain::Asked;
use super::forward::{self, Body, BoxError};
use super::load::{Kept, Load, hold};
use super::stats::Counters;
use super::{Egress, Outcome};
use crate::policy::{Intent, Reason};
use crate::scan::{
    DecodeError, Finding, Framed, FramedError, Head, Messages, Scanner, Seam, Shape, Stream, Windows, Work,
};
use crate::sync::lock;

/// Largest body that is looked at whole, in bytes; encoded ones are never larger.
const MAX_WHOLE: usize = 8 << 20;
/// How long something may be kept while nothing more of it comes, and how long all of a body that is looked at whole may
/// take.
pub(super) const STALL: Duration = Duration::from_mins(1);
const WHOLE: Duration = Duration::from_mins(10);

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
pub(super) async fn check_head(load: &Load, scanner: &Arc<Scanner>, head: &Parts, path: &str) -> Result<(), Reason> {
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let headers: Vec<(String, Vec<u8>)> = headers.collect();
    let length = path.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let (scanner, method, path) = (scanner.clone(), head.method.as_str().to_owned(), path.to_owned());
    let looked = load.look(length, move |work| {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let found = scanner.head(&Head { method: &method, path: &path, headers }, work)?;
        scanner.tell(work);
        Ok(found)
    });
    looked.await?.map_or(Ok(()), |(finding, place)| Err(Reason::SecretFound(finding, place)))
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

/// Lets a body through: whole where it is not too long for that, in windows otherwise; messages one by one.
pub(super) async fn admit(
    egress: &Arc<Egress>,
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
    let hint = body.size_hint();
    let pieces = |look, inner, kept| Pieces {
        inner,
        look,
        scanner: scanner.clone(),
        egress: egress.clone(),
        kept,
        first: Bytes::new(),
        trailers: None,
        ended: false,
        verdict: verdict.clone(),
        counter: |counters| &counters.request_bytes,
        place: "body",
    };
    if let Some(messages) = shape.messages() {
        let look = Look::Messages(messages?, Seam::default());
        return Ok(pieces(look, body, egress.load.keep()).body(hint));
    }
    let length = hint.exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut body = body;
    let begun = match length {
        Some(length) if length > MAX_WHOLE => None,
        length => Some(gather(&egress.load, &mut body, length).await?),
    };
    let Some(Gathered { bytes, trailers, kept, ended: true }) = begun else {
        if shape.is_encoded() {
            return Err(Reason::NotDecoded(DecodeError::TooLarge));
        }
        let (begun, kept) = begun.map_or_else(|| (Bytes::new(), egress.load.keep()), |begun| (begun.bytes, begun.kept));
        if shape.is_framed() {
            let mut framed = Framed::new(Stream::new(scanner.clone()));
            let first = framed.push(&begun).map_err(|error| of_framed(error, "body"))?;
            let rest = pieces(Look::Framed(framed), body, kept);
            return Ok(rest.behind(first).body(hint));
        }
        let mut windows = Windows::new(scanner);
        windows.push(&begun);
        return Ok(pieces(Look::Windows(windows), body, kept).body(hint));
    };
    let (looking, text) = (scanner.clone(), bytes.clone());
    let lines = trailers.as_ref().map(trailer_text).unwrap_or_default();
    let looked = egress.load.look(bytes.len(), move |work| {
        let found = shape.whole(&looking, &text, work)?;
        let found = if found.is_some() { found } else { looking.look(&lines, work)? };
        looking.tell(work);
        Ok(found)
    });
    if let Some(finding) = looked.await? {
        return Err(Reason::SecretFound(finding, "body"));
    }
    counters.request_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let body = Full::new(bytes).map_err(|never| match never {});
    Ok(match trailers {
        None => hold(body, kept),
        Some(trailers) => hold(body.with_trailers(Box::pin(async move { Some(Ok(trailers)) })), kept),
    })
}

/// What has come of a body.
struct Gathered {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    /// The memory of it.
    kept: Kept,
    /// Whether that is all of it.
    ended: bool,
}

/// Reads a body to its end, or until it is too long to be looked at whole.
async fn gather(load: &Load, body: &mut Asked, length: Option<usize>) -> Result<Gathered, Reason> {
    let mut kept = load.keep();
    // What is known is taken at once, so that no two bodies wait for each other's rest.
    kept.reach(length.unwrap_or_default()).await?;
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    let latest = Instant::now() + WHOLE;
    while bytes.len() <= MAX_WHOLE {
        let soon = latest.min(Instant::now() + STALL);
        let frame = timeout_at(soon, body.frame()).await.map_err(|_| Reason::Stalled)?;
        let Some(frame) = frame else {
            return Ok(Gathered { bytes: bytes.freeze(), trailers, kept, ended: true });
        };
        match frame.map_err(|_| Reason::BadRequest("the body ended early"))?.into_data() {
            Ok(data) => {
                kept.grow(bytes.len() + data.len(), MAX_WHOLE).await?;
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Gathered { bytes: bytes.freeze(), trailers, kept, ended: false })
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
    let hint = body.size_hint();
    let pieces = Pieces {
        inner: body,
        look: Look::Live(Stream::new(scanner.clone())),
        scanner: scanner.clone(),
        egress: egress.clone(),
        kept: egress.load.keep(),
        first: Bytes::new(),
        trailers: None,
        ended: false,
        verdict,
        counter: |counters| &counters.response_bytes,
        place: "answer",
    };
    Ok(pieces.body(hint))
}

fn trailer_text(trailers: &HeaderMap) -> Vec<u8> {
    let lines =
        trailers.iter().map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}

/// A body that comes from somewhere.
trait Received: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin + Send + Sync + 'static {}
impl<B: hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin + Send + Sync + 'static> Received for B {}

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
    /// In windows, of which an end is held back.
    Windows(Windows),
    /// As one text in S3's framing.
    Framed(Framed),
    /// Piece by piece, with as little held back as can be.
    Live(Stream),
    /// Message by message: each is sent on at once.
    Messages(Messages, Seam),
}

/// A body in pieces.
struct Pieces<B> {
    inner: B,
    look: Look,
    scanner: Arc<Scanner>,
    egress: Arc<Egress>,
    kept: Kept,
    /// What leaves before anything else.
    first: Bytes,
    /// What comes after what was held back.
    trailers: Option<HeaderMap>,
    ended: bool,
    verdict: Verdict,
    counter: Counter,
    place: &'static str,
}

impl<B: Received> Pieces<B> {
    /// As a body of the size that it came with: nothing is added or left out.
    fn body(self, hint: SizeHint) -> Body {
        let frames = stream::unfold(Some(self), async |pieces| {
            let mut pieces = pieces?;
            match pieces.next().await {
                Ok(Some(frame)) => Some((Ok(frame), Some(pieces))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Sized { inner: StreamBody::new(Box::pin(frames)), left: hint }.boxed()
    }

    /// With bytes in front that were looked at already.
    fn behind(mut self, first: Bytes) -> Self {
        self.first = first;
        self
    }

    async fn next(&mut self) -> Result<Option<Frame<Bytes>>, BoxError> {
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            (self.counter)(&self.egress.counters).fetch_add(first.len() as u64, Ordering::Relaxed);
            return Ok(Some(Frame::data(first)));
        }
        while !self.ended {
            let came = self.come().await?;
            match self.pass(came).await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    (self.counter)(&self.egress.counters).fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    return Ok(Some(Frame::data(bytes)));
                }
                Err(reason) => return Err(self.stop(reason)),
            }
        }
        Ok(self.trailers.take().map(Frame::trailers))
    }

    fn stop(&mut self, reason: Reason) -> BoxError {
        self.verdict.set(&reason);
        Box::new(reason)
    }

    /// What comes next; nothing at the end.
    async fn come(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            let waits = match &self.look {
                Look::Windows(_) | Look::Framed(_) => true,
                Look::Live(_) => false,
                Look::Messages(messages, _) => messages.pending().0 > 0,
            };
            let frame = self.inner.frame();
            let frame = if waits {
                match timeout(STALL, frame).await {
                    Ok(frame) => frame,
                    Err(_) => return Err(self.stop(Reason::Stalled)),
                }
            } else {
                frame.await
            };
            match frame.transpose()?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(frame)) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// What leaves once a piece has come.
    async fn pass(&mut self, came: Option<Bytes>) -> Result<Bytes, Reason> {
        let end = came.is_none();
        if end {
            self.ended = true;
            if let Some(trailers) = &self.trailers {
                look(&self.egress.load, &self.scanner, trailer_text(trailers).into(), "trailers").await?;
            }
        }
        let piece = came.unwrap_or_default();
        match &mut self.look {
            Look::Live(stream) if end => Ok(stream.end()),
            Look::Framed(framed) if end => framed.end().map_err(|error| of_framed(error, self.place)),
            Look::Framed(framed) => framed.push(&piece).map_err(|error| of_framed(error, self.place)),
            Look::Live(stream) => {
                let text = stream.offer(piece);
                look(&self.egress.load, &self.scanner, text, self.place).await?;
                Ok(stream.accept())
            }
            Look::Windows(windows) => {
                self.kept.reach(2 * WINDOW_MEMORY).await?;
                windows.push(&piece);
                match windows.offer(end) {
                    None => Ok(if end { windows.end() } else { Bytes::new() }),
                    Some(window) => {
                        look(&self.egress.load, &self.scanner, window.clone(), self.place).await?;
                        let leaves = windows.accept(window, end);
                        self.kept.shrink(leaves.len().max(2 * WINDOW_MEMORY));
                        Ok(leaves)
                    }
                }
            }
            Look::Messages(messages, seam) => {
                if end {
                    return Ok(messages.end().map(|()| Bytes::new())?);
                }
                messages.push(&piece);
                let mut leaves = BytesMut::new();
                while let Some((frame, message, encoding)) = messages.take()? {
                    let (scanner, before) = (self.scanner.clone(), seam.clone());
                    let looked = self.egress.load.look(message.len(), move |work| {
                        let (text, found) = scanner.message(&message, encoding, work)?;
                        let found = match found {
                            None => scanner.look(&before.offer(&scanner, &text), work)?,
                            found => found,
                        };
                        scanner.tell(work);
                        Ok((text, found))
                    });
                    let (text, found) = looked.await?;
                    if let Some(finding) = found.or_else(|| seam.accept(&self.scanner, &text)) {
                        return Err(Reason::SecretFound(finding, self.place));
                    }
                    leaves.extend_from_slice(&frame);
                }
                let (there, whole) = messages.pending();
                self.kept.shrink(there);
                if there > 0 {
                    // All of it at once, so that no two messages wait for each other's rest.
                    self.kept.reach(whole).await?;
                }
                Ok(leaves.freeze())
            }
        }
    }
}

fn of_framed(error: FramedError, place: &'static str) -> Reason {
    match error {
        FramedError::Decode(error) => error.into(),
        FramedError::Found(finding) => Reason::SecretFound(finding, place),
    }
}

/// What a window and what is held of the one before it take, in bytes.
const WINDOW_MEMORY: usize = 320 << 10;

/// Looks at one text.
pub(super) async fn look(load: &Load, scanner: &Arc<Scanner>, text: Bytes, place: &'static str) -> Result<(), Reason> {
    let scanner = scanner.clone();
    let looked = load.look(text.len(), move |work: &mut Work| {
        let found = scanner.look(&text, work)?;
        scanner.tell(work);
        Ok(found)
    });
    let found: Option<Finding> = looked.await?;
    found.map_or(Ok(()), |finding| Err(Reason::SecretFound(finding, place)))
}

/// A body whose size is known, if that of what it is made of is.
struct Sized<B> {
    inner: B,
    left: SizeHint,
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
