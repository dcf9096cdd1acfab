//! A body that is inspected while it is forwarded. Nothing leaves before it was scanned, and a possible beginning of a
//! secret does not leave before what follows it was scanned.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, SizeHint};
use hyper::header::HeaderMap;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Egress;
use super::bodies::{Body, BoxError, Counter, IncomingBody, Sized};
use super::capacity::MemoryPermit;
use super::inspect::{BodyRefusal, check_trailers, mask_message, scan_text, trailer_text};
use crate::policy::Reason;
use crate::scan::{
    AwsChunkedWindows, BodyFormat, Carrier, Encoding, GrpcMessages, LiveStream, Overlap, Scanner, Windows,
};

/// Memory of a window and the rest of the one before it, and of a body in S3's framing, in bytes.
const WINDOW_MEMORY: usize = 320 << 10;
/// Windows in memory concurrently: one is received, one is scanned, and one is sent.
const WINDOWS: usize = 3;
const FRAMED_MEMORY: usize = 2 << 20;
/// How much of a buffered beginning is processed at a time, in bytes.
const PIECE: usize = 256 << 10;

/// How a body is inspected.
pub(super) enum Inspection {
    /// In windows, the end of which is held back. The next one is received while one is scanned.
    Windows(Windows, Option<PendingWindow>),
    /// As one text, in S3's framing.
    AwsChunkedWindows(AwsChunkedWindows),
    /// Piece by piece, holding back as little as possible.
    Live(LiveStream),
    /// Message by message; each is forwarded at once.
    Messages(GrpcMessages, Overlap),
}

/// A window that is being scanned, and what is released afterwards.
pub(super) struct PendingWindow {
    task: AbortOnDropHandle<Result<(), Reason>>,
    leaves: Bytes,
}

impl PendingWindow {
    /// Starts the scan of a window. It has its thread before this returns: a task of its own would wait until this one yields, which
    /// it does not while it has something to send or to receive, and then the next window would be received before this one is scanned.
    async fn start(scan: impl Future<Output = Result<(), Reason>> + Send + 'static, leaves: Bytes) -> Self {
        let mut scan = Box::pin(scan);
        let begun = futures_util::poll!(&mut scan);
        let rest = async move {
            match begun {
                Poll::Ready(scanned) => scanned,
                Poll::Pending => scan.await,
            }
        };
        Self { task: AbortOnDropHandle::new(crate::task::spawn(rest)), leaves }
    }

    /// Waits for the scan. Cancel-safe.
    async fn done(&mut self) -> Result<Bytes, Reason> {
        let pending = (&mut self.task).await;
        pending.map_err(|_| Reason::BadRequest("it could not be inspected"))??;
        Ok(std::mem::take(&mut self.leaves))
    }
}

/// A body that is inspected while it is forwarded.
pub(super) struct InspectedBody<B> {
    pub(super) inner: B,
    pub(super) inspection: Inspection,
    pub(super) scanner: Arc<Scanner>,
    /// The format of the body, until its beginning is there: that may say whose upload it is.
    pub(super) format: Option<BodyFormat>,
    pub(super) egress: Arc<Egress>,
    pub(super) memory: MemoryPermit,
    /// Buffered input that was not scanned yet.
    pub(super) first: Bytes,
    /// Sent after everything else.
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
    pub(super) refusal: BodyRefusal,
    pub(super) counter: Counter,
    pub(super) place: &'static str,
}

impl<B: IncomingBody> InspectedBody<B> {
    /// As a body with the original size: nothing is added or left out.
    pub(super) fn body(self, hint: SizeHint) -> Body {
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

    async fn next(&mut self) -> Result<Option<Frame<Bytes>>, BoxError> {
        while !self.ended {
            let passed = match self.next_input_or_release().await? {
                Either::Left(input) => self.process(input).await,
                Either::Right(pending) => pending,
            };
            match passed {
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
        self.refusal.set(&reason);
        Box::new(reason)
    }

    /// The next input, or the release of a window that was scanned meanwhile.
    async fn next_input_or_release(&mut self) -> Result<Either<Option<Bytes>, Result<Bytes, Reason>>, BoxError> {
        let pending = if let Inspection::Windows(_, pending) = &mut self.inspection { pending.take() } else { None };
        let Some(mut pending) = pending else { return Ok(Either::Left(self.next_input().await?)) };
        tokio::select! {
            biased;
            leaves = pending.done() => Ok(Either::Right(leaves)),
            input = self.next_input() => {
                if let Inspection::Windows(_, place) = &mut self.inspection {
                    *place = Some(pending);
                }
                Ok(Either::Left(input?))
            }
        }
    }

    /// The next input; `None` at the end.
    async fn next_input(&mut self) -> Result<Option<Bytes>, BoxError> {
        if !self.first.is_empty() {
            return Ok(Some(self.first.split_to(self.first.len().min(PIECE))));
        }
        loop {
            let waits = match &self.inspection {
                Inspection::Windows(..) | Inspection::AwsChunkedWindows(_) => true,
                Inspection::Live(_) => false,
                Inspection::Messages(messages, _) => messages.buffered().0 > 0,
            };
            let frame = self.inner.frame();
            let frame = if waits {
                match timeout(self.egress.capacity.times.stall, frame).await {
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

    /// Processes input; returns what is released.
    async fn process(&mut self, input: Option<Bytes>) -> Result<Bytes, Reason> {
        let end = input.is_none();
        if end {
            self.ended = true;
            if let Some(trailers) = &self.trailers {
                if self.place == "body" {
                    check_trailers(trailers)?;
                }
                scan_text(&self.egress.capacity, &self.scanner, trailer_text(trailers).into(), "trailers").await?;
            }
        }
        let piece = input.unwrap_or_default();
        match &mut self.inspection {
            Inspection::Live(stream) if end => Ok(stream.end()),
            Inspection::AwsChunkedWindows(framed) => {
                // Buffered input is in reserved memory already.
                self.memory.reserve(FRAMED_MEMORY).await?;
                framed.push(&piece)?;
                let Some((window, lines)) = framed.offer(end)? else { return Ok(Bytes::new()) };
                scan_text(&self.egress.capacity, &self.scanner, window.clone(), self.place).await?;
                scan_text(&self.egress.capacity, &self.scanner, lines, self.place).await?;
                let leaves = framed.accept(window, end);
                self.memory.shrink(self.first.len() + leaves.len().max(FRAMED_MEMORY));
                Ok(leaves)
            }
            Inspection::Live(stream) => {
                let text = stream.offer(piece);
                scan_text(&self.egress.capacity, &self.scanner, text, self.place).await?;
                Ok(stream.accept())
            }
            Inspection::Windows(windows, pending) => {
                self.memory.reserve(WINDOWS * WINDOW_MEMORY).await?;
                windows.push(&piece);
                let window = windows.offer(end);
                // A form's fields come before its file.
                if let Some(first) = &window
                    && let Some(format) = self.format.take()
                    && let Some(id) = format.signer(first)
                {
                    self.scanner = Arc::new(self.scanner.for_signer(id));
                }
                if window.is_none() && !end {
                    return Ok(Bytes::new());
                }
                let before = match pending {
                    Some(pending) => pending.done().await?,
                    None => Bytes::new(),
                };
                *pending = None;
                let last = match window {
                    None => windows.end(),
                    Some(window) if end => {
                        scan_text(&self.egress.capacity, &self.scanner, window.clone(), self.place).await?;
                        windows.accept(window, end)
                    }
                    Some(window) => {
                        let (egress, scanner, text, place) =
                            (self.egress.clone(), self.scanner.clone(), window.clone(), self.place);
                        let scan = async move { scan_text(&egress.capacity, &scanner, text, place).await };
                        let leaves = windows.accept(window, end);
                        self.memory.shrink((before.len() + leaves.len()).max(WINDOWS * WINDOW_MEMORY));
                        *pending = Some(PendingWindow::start(scan, leaves).await);
                        return Ok(before);
                    }
                };
                Ok(if before.is_empty() { last } else { [before, last].concat().into() })
            }
            Inspection::Messages(messages, overlap) => {
                if end {
                    return Ok(messages.end().map(|()| Bytes::new())?);
                }
                messages.push(&piece);
                let mut leaves = BytesMut::new();
                while let Some((frame, message, encoding)) = messages.take()? {
                    let (egress, scanner, place) = (&self.egress, &self.scanner, self.place);
                    leaves.extend_from_slice(
                        &scan_grpc(egress, scanner, overlap, (frame, message, encoding), place).await?,
                    );
                }
                let (there, whole) = messages.buffered();
                self.memory.shrink(there);
                if there > 0 {
                    // The whole message at once, so that no two messages wait for each other's rest.
                    self.memory.reserve(whole).await?;
                }
                Ok(leaves.freeze())
            }
        }
    }
}

/// Scans a message of gRPC, with its prefix; returns the one that may leave. One that is compressed, and trailers, are not masked.
async fn scan_grpc(
    egress: &Egress,
    scanner: &Arc<Scanner>,
    overlap: &mut Overlap,
    (frame, message, encoding): (Bytes, Bytes, Option<Encoding>),
    place: &'static str,
) -> Result<Bytes, Reason> {
    if encoding.is_none() && !GrpcMessages::are_trailers(&frame) {
        let prefix = frame.len() - message.len();
        let masked = mask_message(egress, scanner, overlap, message.clone(), Carrier::Message, place).await?;
        return Ok(if masked == message { frame } else { [&frame[..prefix], &masked].concat().into() });
    }
    let (owned, before) = (scanner.clone(), overlap.clone());
    let pending = egress.capacity.scan(message.len(), move |budget| {
        let (text, found) = owned.scan_message(&message, encoding, budget)?;
        let found = match found {
            None => before.scan_overlap(&owned, &text, budget)?,
            found => found,
        };
        owned.report_warnings(budget);
        Ok((text, found))
    });
    let (text, found) = pending.await?;
    match found.or_else(|| overlap.accept(scanner, &text)) {
        Some(finding) => Err(Reason::SecretFound(finding, place)),
        None => Ok(frame),
    }
}
