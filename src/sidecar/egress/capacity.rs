//! Limits over all connections: concurrent requests, memory of buffered bodies, and concurrent scans. Whatever exceeds
//! a limit waits for a while and is then refused. The serving threads never run a long scan.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::bodies::{Body, BoxError};
use crate::policy::Reason;
use crate::scan::{Budget, DecodeError};

/// Maximum number of concurrent requests. Each has a head, up to [`UNRESERVED`] bytes of a body, and the read-ahead of its
/// response. With all of them stalled, and with everything buffered and decoded, the process fits into the sidecar's
/// memory.
pub(super) const REQUESTS: u32 = 256;
/// The memory of a body that needs no reservation, in bytes.
pub(super) const UNRESERVED: usize = 64 << 10;
/// Maximum memory of buffered bodies and messages, in KiB.
const BUFFERED_KIB: u32 = 64 << 10;
/// How long to wait for a permit.
const PATIENCE: Duration = Duration::from_secs(10);
/// Timeouts of what is buffered. Tests shorten them.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// The longest pause in a body.
    pub(super) stall: Duration,
    /// The time for a body that is inspected as a whole.
    pub(super) whole: Duration,
    /// How long a response may stay unread while others wait: shorter than the wait for a permit.
    pub(super) unread: Duration,
    /// How long a request with a credential waits until fewer of its kind are in progress.
    pub(super) turn: Duration,
}
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    stall: Duration::from_mins(1),
    whole: Duration::from_mins(10),
    unread: Duration::from_secs(8),
    turn: Duration::from_secs(30),
};
/// The budget of a scan on the serving thread, and the longest text for it, in bytes.
const INLINE_BUDGET: u64 = 256 << 10;
const INLINE_LENGTH: usize = 64 << 10;
/// The budget of a short offloaded scan, in bytes, and how many run concurrently. Longer scans run one at a time.
const SHORT_BUDGET: u64 = 4 << 20;
const SHORT_MEMORY: u64 = 8 << 20;
const SHORT_SCANS: usize = 2;

/// The limits.
pub(super) struct Capacity {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    brief: Semaphore,
    long: Semaphore,
    pub(super) times: Timeouts,
}

/// Permits one request.
pub(super) type RequestPermit = OwnedSemaphorePermit;

impl Capacity {
    pub(super) fn new(times: Timeouts) -> Self {
        Self {
            times,
            requests: Arc::new(Semaphore::new(REQUESTS as usize)),
            memory: Arc::new(Semaphore::new(BUFFERED_KIB as usize)),
            brief: Semaphore::new(SHORT_SCANS),
            long: Semaphore::new(1),
        }
    }

    /// Waits for the permit of a request; it is held until the response was sent.
    pub(super) async fn request_permit(&self) -> Result<RequestPermit, Reason> {
        let slot = timeout(PATIENCE, self.requests.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or(Reason::Busy)
    }

    /// An empty reservation of memory.
    pub(super) fn memory(&self) -> MemoryPermit {
        MemoryPermit { from: self.memory.clone(), bytes: UNRESERVED, permit: None }
    }

    /// Scans inline if the text is short, otherwise on another thread. `scan` may be restarted with a larger budget, up
    /// to the one for `length` bytes.
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

    /// Scans a short text on this thread; `None` if it is too long or needs more work.
    pub(super) fn scan_inline<T>(
        length: usize,
        scan: impl FnOnce(&mut Budget) -> Result<T, DecodeError>,
    ) -> Option<Result<T, Reason>> {
        if length > INLINE_LENGTH {
            return None;
        }
        match scan(&mut Budget::new(INLINE_BUDGET, INLINE_BUDGET)) {
            Err(DecodeError::Exhausted(_)) => None,
            scanned => Some(scanned.map_err(Reason::from)),
        }
    }

    /// Scans on a thread that serves no connections.
    pub(super) async fn offload<T: Send + 'static>(
        &self,
        length: usize,
        scan: impl Fn(&mut Budget) -> Result<T, DecodeError> + Send + Sync + 'static,
    ) -> Result<T, Reason> {
        let scan = Arc::new(scan);
        let offload = async |mut budget: Budget| {
            let scan = scan.clone();
            let scanned = crate::task::blocking(move || scan(&mut budget)).await;
            scanned.map_err(|_| Reason::BadRequest("it could not be inspected"))
        };
        {
            let _turn = self.brief.acquire().await;
            match offload(Budget::new(SHORT_BUDGET, SHORT_MEMORY)).await? {
                Err(DecodeError::Exhausted(_)) => {}
                scanned => return Ok(scanned?),
            }
        }
        let _turn = self.long.acquire().await;
        Ok(offload(Budget::of(length)).await??)
    }
}

/// Memory that is reserved for buffering; dropping it releases the memory.
pub(super) struct MemoryPermit {
    from: Arc<Semaphore>,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    /// Waits until this many bytes in total are reserved.
    pub(super) async fn reserve(&mut self, bytes: usize) -> Result<(), Reason> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) else { return Ok(()) };
        let kilobytes = u32::try_from(more.div_ceil(1024)).unwrap_or(u32::MAX);
        if kilobytes > BUFFERED_KIB {
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

    /// Reserves memory in large steps, for a body of unknown size.
    pub(super) async fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Reason> {
        if bytes <= self.bytes { Ok(()) } else { self.reserve(bytes.saturating_mul(2).min(most.max(bytes))).await }
    }

    /// Releases what is not needed for this many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes.max(UNRESERVED)) / 1024;
        if let Some(permit) = &mut self.permit
            && let Some(given) = permit.split(less.min(permit.num_permits()))
        {
            self.bytes -= given.num_permits() * 1024;
        }
    }
}

/// A body that keeps a value until it was sent.
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

/// Keeps a value until the body was sent.
pub(super) fn hold<B, H>(body: B, held: H) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError> + Send + Sync + Unpin + 'static,
    H: Send + Sync + Unpin + 'static,
{
    http_body_util::BodyExt::boxed(Holding { body, _held: held })
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn promise_15_so_many_requests_are_in_progress_and_further_ones_wait() {
        let capacity = Capacity::new(TIMEOUTS);
        let mut held = Vec::new();
        for _ in 0..REQUESTS {
            held.push(capacity.request_permit().await.unwrap());
        }
        let began = Instant::now();
        assert_eq!(capacity.request_permit().await.err(), Some(Reason::Busy));
        assert_eq!(began.elapsed(), PATIENCE);
        let ends = async {
            sleep(PATIENCE.saturating_sub(Duration::from_millis(1))).await;
            held.pop();
        };
        let (waited, ()) = tokio::join!(capacity.request_permit(), ends);
        assert!(waited.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_buffers_have_so_much_memory_and_further_ones_wait() {
        let capacity = Capacity::new(TIMEOUTS);
        let all = BUFFERED_KIB as usize * 1024;
        let (mut one, mut two) = (capacity.memory(), capacity.memory());
        one.reserve(UNRESERVED + all - 1024).await.unwrap();
        two.reserve(UNRESERVED + 1024).await.unwrap();
        // What needs no reservation has none.
        assert_eq!(capacity.memory().reserve(UNRESERVED).await, Ok(()));
        let began = Instant::now();
        assert_eq!(capacity.memory().reserve(UNRESERVED + 1).await, Err(Reason::Busy));
        assert_eq!(began.elapsed(), PATIENCE);
        two.shrink(0);
        assert_eq!(capacity.memory().reserve(UNRESERVED + 1).await, Ok(()));
        // What there is never room for does not wait.
        let began = Instant::now();
        assert_eq!(capacity.memory().reserve(UNRESERVED + all + 1024).await, Err(Reason::Busy));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
