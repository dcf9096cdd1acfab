//! A body in pieces is looked at while it goes on: nothing of it leaves before it was looked at, and what may be the beginning of
//! a secret not before what follows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, SizeHint};
use hyper::header::HeaderMap;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Egress;
use super::inspect::{Verdict, look, trailer_text};
use super::load::Kept;
use super::passing::{Body, BoxError, Counter, Received, Sized};
use crate::policy::Reason;
use crate::scan::{Framed, Messages, Scanner, Seam, Stream, Windows};

/// What a window and what is held of the one before it take, in bytes; and what one in S3's framing does, with that.
const WINDOW_MEMORY: usize = 320 << 10;
/// Windows in memory at once: one that comes, one that is looked at, and one that leaves.
const WINDOWS: usize = 3;
const FRAMED_MEMORY: usize = 2 << 20;
/// Of what came already, so much is taken at a time.
const PIECE: usize = 256 << 10;

/// How a body in pieces is looked at.
pub(super) enum Look {
    /// In windows, of which an end is held back. While one is looked at the next one comes.
    Windows(Windows, Option<Looked>),
    /// As one text in S3's framing.
    Framed(Framed),
    /// Piece by piece, with as little held back as can be.
    Live(Stream),
    /// Message by message: each is sent on at once.
    Messages(Messages, Seam),
}

/// A window that is being looked at, and what leaves of it then.
pub(super) struct Looked {
    task: AbortOnDropHandle<Result<(), Reason>>,
    leaves: Bytes,
}

impl Looked {
    /// Waits until that is over. May be asked again where it was not waited for to the end.
    async fn done(&mut self) -> Result<Bytes, Reason> {
        let looked = (&mut self.task).await;
        looked.map_err(|_| Reason::BadRequest("it could not be looked at"))??;
        Ok(std::mem::take(&mut self.leaves))
    }
}

/// A body in pieces.
pub(super) struct Pieces<B> {
    pub(super) inner: B,
    pub(super) look: Look,
    pub(super) scanner: Arc<Scanner>,
    pub(super) egress: Arc<Egress>,
    pub(super) kept: Kept,
    /// What has come already, and was not looked at.
    pub(super) first: Bytes,
    /// What comes after what was held back.
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
    pub(super) verdict: Verdict,
    pub(super) counter: Counter,
    pub(super) place: &'static str,
}

impl<B: Received> Pieces<B> {
    /// As a body of the size that it came with: nothing is added or left out.
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
            let passed = match self.come_or_looked().await? {
                Either::Left(came) => self.pass(came).await,
                Either::Right(looked) => looked,
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
        self.verdict.set(&reason);
        Box::new(reason)
    }

    /// What comes next, or what leaves of a window that was looked at meanwhile.
    async fn come_or_looked(&mut self) -> Result<Either<Option<Bytes>, Result<Bytes, Reason>>, BoxError> {
        let looked = if let Look::Windows(_, looked) = &mut self.look { looked.take() } else { None };
        let Some(mut looked) = looked else { return Ok(Either::Left(self.come().await?)) };
        tokio::select! {
            biased;
            leaves = looked.done() => Ok(Either::Right(leaves)),
            came = self.come() => {
                if let Look::Windows(_, place) = &mut self.look {
                    *place = Some(looked);
                }
                Ok(Either::Left(came?))
            }
        }
    }

    /// What comes next; nothing at the end.
    async fn come(&mut self) -> Result<Option<Bytes>, BoxError> {
        if !self.first.is_empty() {
            return Ok(Some(self.first.split_to(self.first.len().min(PIECE))));
        }
        loop {
            let waits = match &self.look {
                Look::Windows(..) | Look::Framed(_) => true,
                Look::Live(_) => false,
                Look::Messages(messages, _) => messages.pending().0 > 0,
            };
            let frame = self.inner.frame();
            let frame = if waits {
                match timeout(self.egress.load.times.stall, frame).await {
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
            Look::Framed(framed) => {
                // What has come already is in memory that is taken.
                self.kept.reach(FRAMED_MEMORY).await?;
                framed.push(&piece)?;
                let Some((window, lines)) = framed.offer(end)? else { return Ok(Bytes::new()) };
                look(&self.egress.load, &self.scanner, window.clone(), self.place).await?;
                look(&self.egress.load, &self.scanner, lines, self.place).await?;
                let leaves = framed.accept(window, end);
                self.kept.shrink(self.first.len() + leaves.len().max(FRAMED_MEMORY));
                Ok(leaves)
            }
            Look::Live(stream) => {
                let text = stream.offer(piece);
                look(&self.egress.load, &self.scanner, text, self.place).await?;
                Ok(stream.accept())
            }
            Look::Windows(windows, looked) => {
                self.kept.reach(WINDOWS * WINDOW_MEMORY).await?;
                windows.push(&piece);
                let window = windows.offer(end);
                if window.is_none() && !end {
                    return Ok(Bytes::new());
                }
                let before = match looked {
                    Some(looked) => looked.done().await?,
                    None => Bytes::new(),
                };
                *looked = None;
                let last = match window {
                    None => windows.end(),
                    Some(window) if end => {
                        look(&self.egress.load, &self.scanner, window.clone(), self.place).await?;
                        windows.accept(window, end)
                    }
                    Some(window) => {
                        let (egress, scanner, text, place) =
                            (self.egress.clone(), self.scanner.clone(), window.clone(), self.place);
                        let looking = async move { look(&egress.load, &scanner, text, place).await };
                        let task = AbortOnDropHandle::new(tokio::spawn(looking));
                        let leaves = windows.accept(window, end);
                        self.kept.shrink((before.len() + leaves.len()).max(WINDOWS * WINDOW_MEMORY));
                        *looked = Some(Looked { task, leaves });
                        return Ok(before);
                    }
                };
                Ok(if before.is_empty() { last } else { [before, last].concat().into() })
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
                            None => before.meets(&scanner, &text, work)?,
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
