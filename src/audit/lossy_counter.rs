//! Counts keys in bounded memory: lossy counting (Manku and Motwani, "Approximate frequency counts over data streams",
//! 2002). For N keys in a table of S slots, a count is never too high, and too low by at most N / (S / 4) + 1. So
//! repeated keys stand out among ever new ones, at eight bytes for a key.

/// The initial number of slots.
const LEAST: usize = 1 << 10;

/// The table: a fingerprint in the upper 56 bits of a slot, a count in the lower eight; 0 if the slot is free.
pub(super) struct LossyCounter {
    slots: Vec<u64>,
    used: usize,
    /// Maximum number of slots; a power of two.
    most: usize,
}

impl LossyCounter {
    pub(super) fn new(most: usize) -> Self {
        Self { slots: Vec::new(), used: 0, most: most.next_power_of_two().max(LEAST) }
    }

    /// Adds `times` to the count of a key, by its hash; returns the count, from 1 to 255.
    pub(super) fn add(&mut self, hash: u64, times: u64) -> u8 {
        if self.used >= self.slots.len() / 4 * 3 {
            self.make_room();
        }
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if *slot == 0 {
            self.used += 1;
            *slot = print(hash);
        }
        let count = (*slot & 0xff).saturating_add(times).min(0xff);
        *slot = (*slot & !0xff) | count;
        u8::try_from(count).unwrap_or(u8::MAX)
    }

    /// The slot of a key, or the free one where it belongs.
    fn find(&self, hash: u64) -> usize {
        let (print, mask) = (print(hash), self.slots.len() - 1);
        let mut at = place(hash) & mask;
        while self.slots[at] != 0 && self.slots[at] & !0xff != print {
            at = (at + 1) & mask;
        }
        at
    }

    /// Grows the table; at its maximum size, decrements every count, which removes keys that were seen once.
    fn make_room(&mut self) {
        let old = std::mem::take(&mut self.slots);
        let grown = (old.len() * 2).clamp(LEAST, self.most);
        let mut kept: Vec<u64> = old.iter().copied().filter(|&slot| slot != 0).collect();
        while kept.len() > grown / 2 {
            for slot in &mut kept {
                *slot -= 1;
            }
            kept.retain(|slot| slot & 0xff != 0);
        }
        self.slots = vec![0; grown];
        self.used = kept.len();
        let mask = grown - 1;
        for slot in kept {
            let mut at = place(slot) & mask;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }
}

fn print(hash: u64) -> u64 {
    // Never 0, which marks a free slot.
    (hash & !0xff) | (u64::from(hash >> 8 == 0) << 8)
}

fn place(slot: u64) -> usize {
    usize::try_from(slot >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Distributes keys as a keyed hash does.
    fn spread(key: u64) -> u64 {
        key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    proptest! {
        #[test]
        fn a_count_is_never_too_high_and_hardly_too_low(keys in proptest::collection::vec(0..4000_u64, 0..6000)) {
            let (mut sieve, mut exact) = (LossyCounter::new(LEAST), BTreeMap::<u64, u64>::new());
            let bound = keys.len() as u64 / (LEAST as u64 / 4) + 1;
            for key in keys {
                let count = exact.entry(key).or_default();
                *count += 1;
                let told = u64::from(sieve.add(spread(key), 1));
                prop_assert!(told <= *count && told + bound >= *count, "{told} of {count}");
                prop_assert!(sieve.slots.len() <= LEAST);
            }
        }
    }

    #[test]
    fn ten_among_a_million_are_told_apart() {
        let mut sieve = LossyCounter::new(1 << 20);
        let mut rare = 0;
        for key in 0..1_250_000 {
            assert!(sieve.add(spread(key), 1) == 1);
            if key % 125_000 == 0 {
                rare = sieve.add(spread(u64::MAX / 3), 1);
            }
        }
        assert!(rare >= 8, "{rare}");
    }
}
