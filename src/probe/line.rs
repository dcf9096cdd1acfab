//! What is said of an attempt.

use serde::{Deserialize, Serialize};

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// What was tried.
    pub attempt: String,
    /// What a tight bottle answers.
    pub expected: String,
    /// What happened.
    pub happened: String,
    /// Whether that is as expected.
    pub ok: bool,
}

impl ProbeResult {
    pub(super) fn new(attempt: impl Into<String>, expected: &str, ok: bool, happened: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), expected: expected.into(), happened: happened.into(), ok }
    }
}

/// What the line of an attempt says that sent something on the network inside.
pub const SENT: &str = "sent";

/// Whether any attempt sent something on the network inside: then the host has something to say.
pub fn sent(lines: &[ProbeResult]) -> bool {
    lines.iter().any(|line| line.happened.starts_with(SENT))
}

/// Whether a probe's lines are all as expected.
pub fn passed(lines: &[ProbeResult]) -> bool {
    !lines.is_empty() && lines.iter().all(|line| line.ok)
}
