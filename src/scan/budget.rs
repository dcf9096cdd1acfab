//! How much looking a request may cause: one budget over all layers of all its parts, in bytes that are looked at or
//! decoded, so that the bound is the same on every machine.

use super::finding::Finding;

/// What every request may cause, and how much more for each byte of it: ordinary bodies need two to five times their size
/// (escapes in escapes, base 64 in both).
const BASE: u64 = 16 << 20;
const PER_BYTE: u64 = 8;
/// What may be in memory at once of what layers were decoded to, beside the text itself, in bytes.
const MAX_LIVE: u64 = 80 << 20;

/// The budget is spent: what is left of the text was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("to look through all of its layers takes more work than its size allows")]
pub struct Exhausted;

/// A budget, and what was found with it that may pass.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    live: u64,
    /// Told once all of the work is done: it may be begun again with a larger budget.
    pub(super) warnings: Vec<Finding>,
}

impl Budget {
    /// A budget of so many bytes, of which so many may be in memory at once.
    pub fn new(left: u64, live: u64) -> Self {
        Self { left, live, warnings: Vec::new() }
    }

    /// What a text of so many bytes may cause.
    pub fn of(length: usize) -> Self {
        Self::new(BASE + PER_BYTE * length as u64, MAX_LIVE)
    }

    /// Without a bound: for texts that no agent wrote.
    pub fn unbounded() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }

    /// A text grows the budget once its size is known, as that of a body whose encodings were taken off.
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
