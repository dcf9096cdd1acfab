//! Answers under way, with the places of their requests. One that its client does not read keeps its place, what is buffered
//! of it, and a stream of its destination's HTTP/2. Where there are many such, those that were left unread for longest end, so
//! that nobody else waits for them. An answer that waits for its destination is none of them, however long.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, ready};
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

/// So many answers may be left unread for long, of one destination and of all: fewer than the streams that any server of
/// HTTP/2 grants, and than the requests that there are places for.
const OF_ONE: usize = 32;
const OF_ALL: usize = 128;
/// Entries of answers that have ended are taken out of the list when it has become so long.
const TIDY: usize = 1024;

/// All of them, each with whose it is.
pub(super) struct Responses<C> {
    all: Mutex<Vec<Weak<Entry<C>>>>,
    /// How many requests wait, for each [`For`].
    waiting: [AtomicUsize; 2],
    watched: OnceLock<()>,
}

impl<C> Default for Responses<C> {
    fn default() -> Self {
        Self { all: Mutex::default(), waiting: Default::default(), watched: OnceLock::new() }
    }
}

/// What a request waits for that unread answers may be in the way of.
#[derive(Clone, Copy)]
pub(super) enum For {
    /// A place. Where there is none, an answer is unread for long a little sooner.
    ConnectionPermit,
    /// What its destination says.
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
    /// Gone once it has ended.
    answer: Option<(Body, RequestPermit)>,
    /// Since when there is something of it that the client does not take.
    unread: Option<Instant>,
}

impl<C: Clone + Send + Sync + 'static> Responses<C> {
    /// Keeps an answer together with its request's place.
    pub(super) fn track(
        &self,
        client: C,
        intent: &Arc<Intent>,
        response: Response<Body>,
        slot: RequestPermit,
    ) -> Response<Body> {
        response.map(|body| {
            let held = Mutex::new(Inner { answer: Some((body, slot)), unread: None });
            let entry = Arc::new(Entry { client, intent: intent.clone(), held });
            let mut all = lock(&self.all);
            if all.len() >= TIDY {
                all.retain(|entry| entry.strong_count() > 0);
            }
            all.push(Arc::downgrade(&entry));
            Tracked(entry).boxed()
        })
    }

    /// Notes that a request waits, until this is dropped. With the first one `watch` begins.
    pub(super) fn wait(&self, what: For, watch: impl FnOnce()) -> Waiting<'_> {
        self.watched.get_or_init(watch);
        let count = &self.waiting[what as usize];
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }

    /// Ends those that nobody has read for `long`, while somebody waits; whose they were, and what they were answers to.
    pub(super) fn make_way(&self, long: Duration) -> Vec<(C, Arc<Intent>)> {
        match self.waiting.each_ref().map(|count| count.load(Ordering::Relaxed)) {
            [0, 0] => Vec::new(),
            [0, _] => self.end_unread(long),
            _ => self.end_unread(long / 8),
        }
    }

    /// Ends those that have been unread for `long` and are too many; whose they were, and what they were answers to.
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
                // One that is being read at this moment is not unread.
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
        // The youngest may stay.
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

/// The body of an answer.
struct Tracked<C>(Arc<Entry<C>>);

impl<C> hyper::body::Body for Tracked<C> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut held = lock(&self.0.held);
        held.unread = None;
        let Some((body, _)) = &mut held.answer else { return Poll::Ready(Some(Err(Box::new(Reason::Unread)))) };
        let frame = ready!(Pin::new(body).poll_frame(context));
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
