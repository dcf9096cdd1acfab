//! Calls that wait for the holder, and calls that wait for a decision.
//!
//! Bounds: [`CALLS`] calls at a time and a rate of [`RATE`]; a call beyond them is answered at once. The last [`OUTCOMES`] decisions
//! are remembered, for those who come a moment later than a decision; everybody else asks the holder.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot};

use super::protocol::{Ask, Call, Reply, Status, View};
use crate::sync::lock;

/// Calls at a time, those that wait for a decision included.
const CALLS: usize = 64;
/// Questions to the holder: as many at once, and one more every so often.
const BURST: u32 = 40;
const RATE: Duration = Duration::from_millis(250);
/// How many decisions are remembered.
const OUTCOMES: usize = 64;
/// The time limit for an answer of the holder.
const PATIENCE: Duration = Duration::from_secs(20);

/// The calls of the agent.
pub(super) struct Desk {
    /// Sends a call to the holder.
    tell: fn(Call),
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Reply>>>,
    outcomes: Mutex<VecDeque<(String, Reply)>>,
    decided: Notify,
    permits: Semaphore,
    quota: Mutex<(u32, Instant)>,
    view: Mutex<View>,
}

impl Desk {
    pub(super) fn new(tell: fn(Call)) -> Self {
        Self {
            tell,
            // An answer to a call of an earlier run of this process is nobody's.
            next: AtomicU64::new(first()),
            waiting: Mutex::default(),
            outcomes: Mutex::default(),
            decided: Notify::new(),
            permits: Semaphore::new(CALLS),
            quota: Mutex::new((BURST, Instant::now())),
            view: Mutex::default(),
        }
    }

    /// A place for a call; `None` if too many are taken.
    pub(super) fn place(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.permits.try_acquire().ok()
    }

    /// Asks the holder.
    pub(super) async fn ask(&self, ask: Ask) -> Reply {
        if !self.take_quota() {
            return Reply::new(
                Status::Refused,
                "too many calls in a short time",
                "Wait a minute before you call this server again.",
            );
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(n, sender);
        let _forget = Forget(self, n);
        (self.tell)(Call { n, ask });
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(reply)) => reply,
            _ => Reply::new(
                Status::Refused,
                "bottler, which forwards requests to the operator, does not answer",
                "Go on with other work. To ask again later is safe: the same request counts once.",
            ),
        }
    }

    fn take_quota(&self) -> bool {
        let mut quota = lock(&self.quota);
        let back = u32::try_from(quota.1.elapsed().as_millis() / RATE.as_millis()).unwrap_or(BURST);
        if back > 0 {
            *quota = (quota.0.saturating_add(back).min(BURST), Instant::now());
        }
        let left = quota.0 > 0;
        quota.0 -= u32::from(left);
        left
    }

    /// Waits for the decision about a request; `None` if there is none in time.
    pub(super) async fn decision(&self, id: &str, patience: Duration) -> Option<Reply> {
        let decided = async {
            loop {
                let news = self.decided.notified();
                tokio::pin!(news);
                // From here on, no decision is missed.
                news.as_mut().enable();
                if let Some((_, reply)) = lock(&self.outcomes).iter().rev().find(|(known, _)| known == id) {
                    return reply.clone();
                }
                news.await;
            }
        };
        tokio::time::timeout(patience, decided).await.ok()
    }

    /// Takes the answer to a call. The call may have been given up.
    pub(super) fn answer(&self, n: u64, reply: Reply) {
        if let Some(waiting) = lock(&self.waiting).remove(&n) {
            let _ = waiting.send(reply);
        }
    }

    /// Takes a decision.
    pub(super) fn decide(&self, reply: Reply) {
        let Some(id) = reply.id.clone() else { return };
        {
            let mut outcomes = lock(&self.outcomes);
            outcomes.retain(|(known, _)| *known != id);
            if outcomes.len() == OUTCOMES {
                outcomes.pop_front();
            }
            outcomes.push_back((id, reply));
        }
        self.decided.notify_waiters();
    }

    pub(super) fn view(&self) -> View {
        lock(&self.view).clone()
    }

    pub(super) fn set_view(&self, view: View) {
        *lock(&self.view) = view;
    }
}

/// The number of the first call.
fn first() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness, calls of two runs can be mixed up, and nothing worse.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes) >> 2
}

/// Forgets a call that its client has given up.
struct Forget<'a>(&'a Desk, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.0.waiting).remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(id: &str) -> Reply {
        Reply::new(Status::Approved, "granted", "Go on.").about(id)
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_is_heard_before_and_after_somebody_waits_for_it() {
        let desk = Desk::new(drop);
        assert_eq!(desk.decision("r1", Duration::from_secs(45)).await, None);
        let (heard, ()) = tokio::join!(desk.decision("r1", Duration::from_secs(45)), async {
            desk.decide(decision("r2"));
            desk.decide(decision("r1"));
        });
        assert_eq!(heard, Some(decision("r1")));
        assert_eq!(desk.decision("r2", Duration::ZERO).await, Some(decision("r2")));
        for n in 0..OUTCOMES {
            desk.decide(decision(&format!("x{n}")));
        }
        assert_eq!(desk.decision("r1", Duration::ZERO).await, None);
        assert_eq!(lock(&desk.outcomes).len(), OUTCOMES);
    }

    #[test]
    fn questions_are_bounded() {
        let desk = Desk::new(drop);
        let taken = (0..1000).filter(|_| desk.take_quota()).count();
        assert!((BURST as usize..BURST as usize + 4).contains(&taken), "{taken}");
        let places: Vec<_> = (0..CALLS).filter_map(|_| desk.place()).collect();
        assert_eq!(places.len(), CALLS);
        assert!(desk.place().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_is_forgotten() {
        let desk = Desk::new(drop);
        let reply = desk.ask(Ask::Request { id: "r1".into() }).await;
        assert!(reply.message.contains("does not answer"), "{reply:?}");
        assert!(lock(&desk.waiting).is_empty());
        // An answer that comes too late is nobody's.
        desk.answer(desk.next.load(Ordering::Relaxed) - 1, decision("r1"));
    }
}
