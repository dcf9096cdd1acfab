//! Divides the size of a log, so that rare events find space when frequent ones have used theirs. Pure.

use std::hash::{BuildHasher, RandomState};

use super::lossy_counter::LossyCounter;
use super::{Event, Subject};

/// Bytes for allowed requests.
const ALLOWED: u64 = 8 << 20;
/// Bytes for all other decisions.
const OTHERS: u64 = 12 << 20;
/// Beyond that, bytes for destinations that were seen once, up to 3 times, up to 7 … with a code.
const RARE: u64 = 1 << 20;
const LEVELS: usize = 8;
/// Bytes for events about sidecars.
const SIDECARS: u64 = 2 << 20;
/// Bytes at the end for the last events that found no space.
pub(super) const CLOSING: u64 = 2 << 20;
/// The total.
pub(super) const ALL: u64 = ALLOWED + OTHERS + RARE * LEVELS as u64 + SIDECARS + CLOSING;

/// The remaining space.
pub(super) struct Quota {
    allowed: u64,
    others: u64,
    rare: [u64; LEVELS],
    sidecars: u64,
    hasher: RandomState,
    seen: LossyCounter,
}

impl Quota {
    pub(super) fn new() -> Self {
        let seen = LossyCounter::new(1 << 16);
        let hasher = RandomState::new();
        Self { allowed: ALLOWED, others: OTHERS, rare: [RARE; LEVELS], sidecars: SIDECARS, hasher, seen }
    }

    /// Takes space for an event, if there is enough.
    pub(super) fn take(&mut self, event: &Event, bytes: u64) -> bool {
        let kind = &event.kind;
        if kind.subject == Subject::Sidecar {
            return take(&mut self.sidecars, bytes);
        }
        if kind.decision == "allow" {
            return take(&mut self.allowed, bytes);
        }
        let key = self.hasher.hash_one((&kind.decision, &kind.code, &kind.destination));
        let seen = self.seen.add(key, event.count.max(1));
        let level = usize::try_from(seen.ilog2()).unwrap_or_default().min(LEVELS - 1);
        take(&mut self.others, bytes) || take(&mut self.rare[level], bytes)
    }
}

fn take(left: &mut u64, bytes: u64) -> bool {
    let quota = *left >= bytes;
    if quota {
        *left -= bytes;
    }
    quota
}

#[cfg(test)]
mod tests {
    use super::super::Details;
    use super::*;

    fn event(subject: Subject, decision: &str, destination: &str) -> Event {
        let kind = Details {
            subject,
            sidecar: "egress".into(),
            bottle: "b".into(),
            client: String::new(),
            decision: decision.into(),
            code: "denied".into(),
            reason: String::new(),
            form: String::new(),
            method: String::new(),
            destination: destination.into(),
        };
        Event { time: 1, count: 1, kind }
    }

    #[test]
    fn each_kind_of_event_has_room_of_its_own() {
        let mut quota = Quota::new();
        let mut used = |bytes: u64, event: &Event| quota.take(event, bytes);
        let allowed = event(Subject::Request, "allow", "a.com:443");
        assert!(used(ALLOWED, &allowed) && !used(1, &allowed));
        let sidecar = event(Subject::Sidecar, "alarm", "");
        assert!(used(SIDECARS, &sidecar) && !used(1, &sidecar));
        // Beyond the room of all, what was seen once has its own, and what was seen twice.
        assert!(used(OTHERS, &event(Subject::Request, "refuse", "first.com:443")));
        let new = |number: u32| event(Subject::Request, "refuse", &format!("h{number}.com:443"));
        assert!(used(RARE, &new(1)) && !used(1, &new(2)));
        assert!(used(RARE, &new(2)), "it is seen for the second time");
        for level in 2..LEVELS {
            let often = Event { count: 1 << level, ..event(Subject::Request, "refuse", &format!("l{level}.com:443")) };
            assert!(used(RARE, &often), "{level}");
        }
        let all = Event { count: 250, ..event(Subject::Request, "refuse", "more.com:443") };
        assert!(!used(1, &all));
    }
}
