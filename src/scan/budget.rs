//! The work that one request may cause: a single budget for all of its parts and layers, counted in bytes scanned or
//! decoded, so that the limit does not depend on the machine.

use super::finding::Finding;
use super::places::Places;

/// The work allowed for any request, and the addition for each of its bytes. Ordinary bodies need two to five times
/// their size (nested escapes, and base64 within them).
const BASE: u64 = 16 << 20;
const PER_BYTE: u64 = 8;
/// Maximum memory of decoded layers at one time, in bytes.
const MAX_LIVE: u64 = 80 << 20;

/// The budget is exhausted; the rest of the text was not scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("to look through all of its layers takes more work than its size allows")]
pub struct Exhausted;

/// A budget, and the findings that are let through.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    live: u64,
    /// Reported when the scan is complete: it may be restarted with a larger budget.
    pub(super) warnings: Vec<Finding>,
    /// Findings to be masked, while a text is scanned in which they may be.
    pub(super) masks: Option<Places>,
}

impl Budget {
    /// A budget of `left` bytes of work and `live` bytes of memory.
    pub fn new(left: u64, live: u64) -> Self {
        Self { left, live, warnings: Vec::new(), masks: None }
    }

    /// The budget for a text of this length.
    pub fn of(length: usize) -> Self {
        Self::new(BASE + PER_BYTE * length as u64, MAX_LIVE)
    }

    /// No limit: for texts that no agent wrote.
    pub fn unbounded() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }

    /// Adds the allowance for a text whose size became known only when it was decoded.
    pub fn grow(&mut self, length: usize) {
        self.left = self.left.saturating_add(PER_BYTE * length as u64);
    }

    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(Exhausted)?;
        Ok(())
    }

    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.live = self.live.checked_sub(bytes as u64).ok_or(Exhausted)?;
        Ok(())
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.live = self.live.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_15_a_budget_is_a_base_and_so_much_for_each_byte() {
        for length in [0, 1, 1000] {
            let all = usize::try_from(BASE + PER_BYTE * length).unwrap();
            let mut budget = Budget::of(usize::try_from(length).unwrap());
            assert_eq!(budget.spend(all), Ok(()));
            assert_eq!(budget.spend(1), Err(Exhausted));
            // What is decoded adds to it.
            budget.grow(2);
            assert_eq!(budget.spend(2 * usize::try_from(PER_BYTE).unwrap()), Ok(()));
            assert_eq!(budget.spend(1), Err(Exhausted));
        }
        let live = usize::try_from(MAX_LIVE).unwrap();
        let mut budget = Budget::of(0);
        assert_eq!((budget.reserve(live), budget.reserve(1)), (Ok(()), Err(Exhausted)));
        budget.release(1);
        assert_eq!(budget.reserve(1), Ok(()));
    }
}
