//! The result of an attempt.

use serde::{Deserialize, Serialize};

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The attempt.
    pub attempt: String,
    /// The result in a tight bottle.
    pub expected: String,
    /// The actual result.
    pub happened: String,
    /// Whether the result is as expected.
    pub ok: bool,
}

impl ProbeResult {
    pub(super) fn new(attempt: impl Into<String>, expected: &str, ok: bool, happened: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), expected: expected.into(), happened: happened.into(), ok }
    }
}

/// The beginning of a result that sent something on the network inside.
pub const SENT: &str = "sent";

/// Whether an attempt sent something on the network inside. The host then says whether it arrived.
pub fn sent(lines: &[ProbeResult]) -> bool {
    lines.iter().any(|line| line.happened.starts_with(SENT))
}

/// Whether all results are as expected.
pub fn passed(lines: &[ProbeResult]) -> bool {
    !lines.is_empty() && lines.iter().all(|line| line.ok)
}
