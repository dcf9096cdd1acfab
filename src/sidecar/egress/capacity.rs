//! What egress carries at once, bounded as a sum over all connections, whatever they are and however many: requests under
//! way, memory of what is looked at whole, and work of looking. What exceeds a bound waits for a while and is refused
//! then; nothing makes the process larger, or keeps its serving threads from serving.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::bodies::{Body, BoxError};
use crate::policy::Reason;
use crate::scan::{Budget, DecodeError};

/// Requests under way: each has a head, up to [`FREE`] of a body, and what is read ahead of its answer. All of them that nobody
/// reads on, with all that is kept and decoded besides, fit into the sidecar's memory.
pub(super) const REQUESTS: u32 = 256;
/// So much of what is kept of a request is in its place already, in bytes.
pub(super) const FREE: usize = 64 << 10;
/// What is kept of bodies and messages until they were looked at and sent, in KiB.
const KEPT: u32 = 64 << 10;
/// How long to wait for either.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long something may take that is kept; tests have no time.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// While nothing more of it comes.
    pub(super) stall: Duration,
    /// Until all of a body is there that is looked at whole.
    pub(super) whole: Duration,
    /// While it is an answer that nobody reads, where there are many of them: less than the time to wait for a place.
    pub(super) unread: Duration,
}
pub(super) const TIMEOUTS: Timeouts =
    Timeouts { stall: Duration::from_mins(1), whole: Duration::from_mins(10), unread: Duration::from_secs(8) };
/// Work that is done at once, by the thread that serves; longer texts are not begun there.
const AT_ONCE: u64 = 256 << 10;
const AT_ONCE_LENGTH: usize = 64 << 10;
/// Work that most of what is not done at once needs, and how much of it is done at a time; what needs more is done one
/// after the other.
const BRIEF: u64 = 4 << 20;
const BRIEF_LIVE: u64 = 8 << 20;
const BRIEFLY: usize = 2;

/// The bounds.
pub(super) struct Capacity {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    brief: Semaphore,
    long: Semaphore,
    pub(super) times: Timeouts,
}

/// The place of a request.
pub(super) type RequestPermit = OwnedSemaphorePermit;

impl Capacity {
    pub(super) fn new(times: Timeouts) -> Self {
        Self {
            times,
            requests: Arc::new(Semaphore::new(REQUESTS as usize)),
            memory: Arc::new(Semaphore::new(KEPT as usize)),
            brief: Semaphore::new(BRIEFLY),
            long: Semaphore::new(1),
        }
    }

    /// A place for a request, until its answer has been sent.
    pub(super) async fn request_permit(&self) -> Result<RequestPermit, Reason> {
        let slot = timeout(PATIENCE, self.requests.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or(Reason::Busy)
    }

    /// Memory for something that will be kept.
    pub(super) fn memory(&self) -> MemoryPermit {
        MemoryPermit { from: self.memory.clone(), bytes: FREE, permit: None }
    }

    /// Looks at something, aside where it is long. `scan` may be begun anew with a larger budget, up to what `length` bytes
    /// allow.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        length: usize,
        scan: impl Fn(&mut Budget) -> Result<T, DecodeError> + Send + Sync + 'static,
    ) -> Result<T, Reason> {
        match Self::scan_inline(length, &scan) {
            Some(scanned) => scanned,
            None => self.offload(length, scan).await,
        }
    }

    /// Looks at something that is short, here: `None` where it is not, or needs more work than is done here.
    pub(super) fn scan_inline<T>(
        length: usize,
        scan: impl FnOnce(&mut Budget) -> Result<T, DecodeError>,
    ) -> Option<Result<T, Reason>> {
        if length > AT_ONCE_LENGTH {
            return None;
        }
        match scan(&mut Budget::new(AT_ONCE, AT_ONCE)) {
            Err(DecodeError::Exhausted(_)) => None,
            scanned => Some(scanned.map_err(Reason::from)),
        }
    }

    /// Looks at what was not looked at at once, by threads that serve nobody.
    pub(super) async fn offload<T: Send + 'static>(
        &self,
        length: usize,
        scan: impl Fn(&mut Budget) -> Result<T, DecodeError> + Send + Sync + 'static,
    ) -> Result<T, Reason> {
        let scan = Arc::new(scan);
        let offload = async |mut budget: Budget| {
            let scan = scan.clone();
            let scanned = tokio::task::spawn_blocking(move || scan(&mut budget)).await;
            scanned.map_err(|_| Reason::BadRequest("it could not be inspected"))
        };
        {
            let _turn = self.brief.acquire().await;
            match offload(Budget::new(BRIEF, BRIEF_LIVE)).await? {
                Err(DecodeError::Exhausted(_)) => {}
                scanned => return Ok(scanned?),
            }
        }
        let _turn = self.long.acquire().await;
        Ok(offload(Budget::of(length)).await??)
    }
}

/// Memory that is taken for something that is kept, and given back with this.
pub(super) struct MemoryPermit {
    from: Arc<Semaphore>,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    /// Takes memory until there is some for so many bytes.
    pub(super) async fn reserve(&mut self, bytes: usize) -> Result<(), Reason> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) else { return Ok(()) };
        let kilobytes = u32::try_from(more.div_ceil(1024)).unwrap_or(u32::MAX);
        if kilobytes > KEPT {
            return Err(Reason::Busy);
        }
        let permit = timeout(PATIENCE, self.from.clone().acquire_many_owned(kilobytes)).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(Reason::Busy)?;
        self.bytes += kilobytes as usize * 1024;
        match &mut self.permit {
            Some(taken) => taken.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    /// Takes memory for so many bytes in large steps: for what grows, and nobody knows to what size.
    pub(super) async fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Reason> {
        if bytes <= self.bytes { Ok(()) } else { self.reserve(bytes.saturating_mul(2).min(most.max(bytes))).await }
    }

    /// Gives back what is not needed for so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes.max(FREE)) / 1024;
        if let Some(permit) = &mut self.permit
            && let Some(given) = permit.split(less.min(permit.num_permits()))
        {
            self.bytes -= given.num_permits() * 1024;
        }
    }
}

/// A body that holds something until it has been sent.
pub(super) struct Holding<B, H> {
    pub(super) body: B,
    pub(super) _held: H,
}

impl<B: hyper::body::Body + Unpin, H: Unpin> hyper::body::Body for Holding<B, H> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that holds something.
pub(super) fn hold<B, H>(body: B, held: H) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError> + Send + Sync + Unpin + 'static,
    H: Send + Sync + Unpin + 'static,
{
    http_body_util::BodyExt::boxed(Holding { body, _held: held })
}
