//! Responses in progress. A response that its client does not read keeps a request permit, buffers, and an HTTP/2
//! stream of its destination. If there are many, those that were unread for longest end, so that no other request waits
//! for them. A response that waits for its destination does not count as unread.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use super::bodies::{Body, BoxError};
use super::capacity::RequestPermit;
use crate::policy::{Intent, Reason};
use crate::sync::lock;

/// Maximum number of responses that stay unread for long, for one destination and in total: less than the HTTP/2
/// streams that any server grants, and than the request permits.
const OF_ONE: usize = 32;
const OF_ALL: usize = 128;
/// Entries of ended responses are removed when the list has become this long.
const TIDY: usize = 1024;

/// The responses, each with its client.
pub(super) struct Responses<C> {
    all: Mutex<Vec<Weak<Entry<C>>>>,
    /// The number of waiting requests, for each [`WaitFor`].
    waiting: [AtomicUsize; 2],
    watched: OnceLock<()>,
}

impl<C> Default for Responses<C> {
    fn default() -> Self {
        Self { all: Mutex::default(), waiting: Default::default(), watched: OnceLock::new() }
    }
}

/// What a request waits for, and unread responses may block.
#[derive(Clone, Copy)]
pub(super) enum WaitFor {
    /// A request permit. If there is none, responses count as unread a little earlier.
    RequestPermit,
    /// The response of its destination.
    Destination,
}

/// A request that waits.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Entry<C> {
    client: C,
    intent: Arc<Intent>,
    held: Mutex<Inner>,
}

struct Inner {
    /// `None` once it has ended.
    answer: Option<(Body, RequestPermit)>,
    /// Since when the client has not read available data.
    unread: Option<Instant>,
    /// Why it has ended, if the policy forbids it.
    why: Option<Reason>,
    /// Who waits for data.
    reader: Option<Waker>,
}

impl<C: Clone + Send + Sync + 'static> Responses<C> {
    /// Tracks a response together with the permit of its request.
    pub(super) fn track(
        &self,
        client: C,
        intent: &Arc<Intent>,
        response: Response<Body>,
        slot: RequestPermit,
    ) -> Response<Body> {
        response.map(|body| {
            let held = Mutex::new(Inner { answer: Some((body, slot)), unread: None, why: None, reader: None });
            let entry = Arc::new(Entry { client, intent: intent.clone(), held });
            let mut all = lock(&self.all);
            if all.len() >= TIDY {
                all.retain(|entry| entry.strong_count() > 0);
            }
            all.push(Arc::downgrade(&entry));
            Tracked(entry).boxed()
        })
    }

    /// Registers a waiting request until the result is dropped. The first call starts `watch`.
    pub(super) fn wait(&self, what: WaitFor, watch: impl FnOnce()) -> Waiting<'_> {
        self.watched.get_or_init(watch);
        let count = &self.waiting[what as usize];
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }

    /// Ends responses that were unread for `long`, while a request waits; returns their clients and intents.
    pub(super) fn evict_unread(&self, long: Duration) -> Vec<(C, Arc<Intent>)> {
        match self.waiting.each_ref().map(|count| count.load(Ordering::Relaxed)) {
            [0, 0] => Vec::new(),
            [0, _] => self.end_unread(long),
            _ => self.end_unread(long / 8),
        }
    }

    /// Ends the responses that the policy does not allow any more; returns their clients, intents and reasons.
    pub(super) fn end_forbidden(
        &self,
        forbidden: impl Fn(&C, &Intent) -> Option<Reason>,
    ) -> Vec<(C, Arc<Intent>, Reason)> {
        let entries: Vec<Arc<Entry<C>>> = lock(&self.all).iter().filter_map(Weak::upgrade).collect();
        let mut ended = Vec::new();
        for entry in entries {
            let Some(reason) = forbidden(&entry.client, &entry.intent) else { continue };
            let mut held = lock(&entry.held);
            if held.answer.take().is_some() {
                held.why = Some(reason.clone());
                if let Some(reader) = held.reader.take() {
                    reader.wake();
                }
                ended.push((entry.client.clone(), entry.intent.clone(), reason));
            }
        }
        ended
    }

    /// Ends the responses above the limits that were unread for `long`; returns their clients and intents.
    fn end_unread(&self, long: Duration) -> Vec<(C, Arc<Intent>)> {
        let now = Instant::now();
        let mut unread: Vec<(Instant, Arc<Entry<C>>)> = Vec::new();
        {
            let mut all = lock(&self.all);
            if all.len() <= OF_ONE {
                return Vec::new();
            }
            all.retain(|entry| {
                let Some(entry) = entry.upgrade() else { return false };
                // A response that is being read at this moment is not unread.
                let since = match entry.held.try_lock() {
                    Ok(held) => held.unread,
                    Err(TryLockError::Poisoned(held)) => PoisonError::into_inner(held).unread,
                    Err(TryLockError::WouldBlock) => None,
                };
                unread.extend(since.filter(|&since| now - since >= long).map(|since| (since, entry)));
                true
            });
        }
        unread.sort_unstable_by_key(|(since, _)| *since);
        let mut ended = Vec::new();
        let mut left: Vec<&Intent> = Vec::new();
        // The most recent ones may stay.
        for (since, entry) in unread.iter().rev() {
            let intent = &entry.intent;
            let same = left.iter().filter(|other| other.host == intent.host && other.port == intent.port).count();
            if same < OF_ONE && left.len() < OF_ALL {
                left.push(intent);
                continue;
            }
            let mut held = lock(&entry.held);
            // It may have been read meanwhile.
            if held.unread == Some(*since) && held.answer.take().is_some() {
                ended.push((entry.client.clone(), intent.clone()));
            }
        }
        ended
    }
}

/// The body of a tracked response.
struct Tracked<C>(Arc<Entry<C>>);

impl<C> hyper::body::Body for Tracked<C> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut held = lock(&self.0.held);
        held.unread = None;
        let Some((body, _)) = &mut held.answer else {
            let why = held.why.clone().unwrap_or(Reason::Unread);
            return Poll::Ready(Some(Err(Box::new(why))));
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(context) else {
            // Only where it waits: it may have to learn that it is forbidden.
            match &mut held.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        held.unread = frame.is_some().then(Instant::now);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0.held).answer.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0.held).answer.as_ref().map(|(body, _)| body.size_hint()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::StreamBody;
    use tokio::sync::Semaphore;
    use tokio::time::advance;

    use super::super::capacity::TIMEOUTS;
    use super::*;
    use crate::net::Host;
    use crate::policy::Form;

    const STEP: Duration = Duration::from_millis(1);

    /// Responses of hosts, by their numbers, one after the other: each with one piece that was read, and another one.
    async fn unread(responses: &Responses<usize>, hosts: impl Iterator<Item = usize>) -> Vec<Body> {
        let permits = Arc::new(Semaphore::new(1024));
        let mut bodies = Vec::new();
        for (number, host) in hosts.enumerate() {
            let host = Host::parse(&format!("h{host}.example.com")).unwrap();
            let intent = Intent { form: Form::Inside, method: "GET".into(), host, port: 443, path: Some("/".into()) };
            let pieces = futures_util::stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))));
            let permit = permits.clone().try_acquire_owned().unwrap();
            let body = Response::new(BodyExt::boxed(StreamBody::new(pieces)));
            let mut body = responses.track(number, &Arc::new(intent), body, permit).into_body();
            assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
            bodies.push(body);
            advance(STEP).await;
        }
        bodies
    }

    fn evicted(responses: &Responses<usize>) -> Vec<usize> {
        let mut ended: Vec<usize> =
            responses.evict_unread(TIMEOUTS.unread).into_iter().map(|(number, _)| number).collect();
        ended.sort_unstable();
        ended
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_so_many_responses_of_one_destination_stay_unread() {
        let responses = Responses::default();
        let waiting = responses.wait(WaitFor::Destination, || {});
        let mut bodies = unread(&responses, std::iter::repeat_n(0, OF_ONE)).await;
        advance(TIMEOUTS.unread).await;
        assert_eq!(evicted(&responses), Vec::<usize>::new());
        bodies.extend(unread(&responses, std::iter::once(0)).await);
        advance(TIMEOUTS.unread.saturating_sub(2 * STEP)).await;
        assert_eq!(evicted(&responses), Vec::<usize>::new(), "the last one is not unread for so long");
        advance(STEP).await;
        drop(waiting);
        assert_eq!(evicted(&responses), Vec::<usize>::new(), "nobody waits");
        let _waiting = responses.wait(WaitFor::Destination, || {});
        assert_eq!(evicted(&responses), [0], "the oldest");
        assert_eq!(evicted(&responses), Vec::<usize>::new());
        let ended = bodies[0].frame().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(ended.downcast_ref::<Reason>(), Some(&Reason::Unread));
        assert!(bodies[1].frame().now_or_never().unwrap().unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_so_many_responses_in_total_stay_unread() {
        let responses = Responses::default();
        let _waiting = responses.wait(WaitFor::Destination, || {});
        let of_each = OF_ONE - 1;
        let _bodies = unread(&responses, (0..OF_ALL).map(|number| number / of_each)).await;
        advance(TIMEOUTS.unread).await;
        assert_eq!(evicted(&responses), Vec::<usize>::new());
        let _more = unread(&responses, [100, 101].into_iter()).await;
        advance(TIMEOUTS.unread).await;
        assert_eq!(evicted(&responses), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_permit_they_are_unread_earlier() {
        let responses = Responses::default();
        let _waiting = responses.wait(WaitFor::RequestPermit, || {});
        let _bodies = unread(&responses, std::iter::repeat_n(0, OF_ONE + 1)).await;
        advance((TIMEOUTS.unread / 8).saturating_sub(2 * STEP)).await;
        assert_eq!(evicted(&responses), Vec::<usize>::new());
        advance(STEP).await;
        assert_eq!(evicted(&responses), [0]);
    }
}
