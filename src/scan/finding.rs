//! What a scan finds.

use super::action::KNOWN_SECRET;

/// A finding. It names the rule, never the value that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `known-secret`, or the id of a rule.
    pub rule: String,
    /// Identifies this finding, so that it can be allowed; a known secret has none.
    pub fingerprint: Option<String>,
}

/// A finding that a message is not refused for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// The value leaves as it is.
    Warned(Finding),
    /// The value was overwritten, in this many places.
    Masked(Finding, u64),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A fingerprint begins with the rule's id.
        f.write_str(self.fingerprint.as_deref().unwrap_or(&self.rule))
    }
}

impl Finding {
    /// A finding of one of the bottle's own secrets.
    pub(super) fn known_secret() -> Self {
        Self { rule: KNOWN_SECRET.to_owned(), fingerprint: None }
    }
}
