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
