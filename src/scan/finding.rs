//! What a scan finds.

use super::action::KNOWN_SECRET;

/// Something that must not leave. What it is in words, never what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `known-secret`, or the id of the rule.
    pub rule: String,
    /// What names this finding and no other, to be allowed by; a known secret has none.
    pub fingerprint: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A fingerprint begins with its rule.
        f.write_str(self.fingerprint.as_deref().unwrap_or(&self.rule))
    }
}

impl Finding {
    /// One of the bottle's own secrets.
    pub(super) fn known_secret() -> Self {
        Self { rule: KNOWN_SECRET.to_owned(), fingerprint: None }
    }
}
