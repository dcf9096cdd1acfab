//! What must not leave, looked for in bytes: the bottle's own secrets in every encoding, and tokens of providers' formats.
//! Pure: no sockets, no clock. This stops accidents and careless injection; what an agent encrypts itself is limited by
//! the allowlist.

mod decode;
mod exact;
mod rules;
mod stream;

pub use decode::{DecodeError, Encoding, decode};
pub use exact::Exact;
pub use rules::{Rules, RulesError};
pub use stream::Stream;

use std::sync::Arc;

/// How many encodings around each other are looked through.
const MAX_DEPTH: usize = 3;

/// Something that must not leave. What it is in words, never what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `known-secret`, or the id of the rule.
    pub rule: String,
}

/// Everything that is looked for.
pub struct Scanner {
    exact: Exact,
    rules: Arc<Rules>,
}

impl Scanner {
    /// Looks for these secrets, and for what these rules describe.
    pub fn new(secrets: &[String], rules: Arc<Rules>) -> Self {
        Self { exact: Exact::new(secrets), rules }
    }

    /// Looks for nothing.
    pub fn nothing() -> Self {
        Self { exact: Exact::new(&[]), rules: Arc::new(Rules::none()) }
    }

    /// The first finding in a text that is whole: as it is, and with its escapes and encodings taken off.
    pub fn whole(&self, bytes: &[u8]) -> Option<Finding> {
        self.layer(bytes, 0)
    }

    /// How many bytes at the end may be the beginning of a known secret.
    pub fn pending(&self, bytes: &[u8]) -> usize {
        self.exact.pending(bytes)
    }

    fn layer(&self, bytes: &[u8], depth: usize) -> Option<Finding> {
        if let Some(finding) = self.plain(bytes) {
            return Some(finding);
        }
        if depth == MAX_DEPTH {
            return None;
        }
        decode::inner(bytes).into_iter().find_map(|inner| self.layer(&inner, depth + 1))
    }

    /// The first finding in bytes as they are. The automaton of known secrets knows their encodings by itself.
    fn plain(&self, bytes: &[u8]) -> Option<Finding> {
        if self.exact.is_in(bytes) {
            return Some(Finding { rule: "known-secret".to_owned() });
        }
        self.rules.find(bytes).map(|rule| Finding { rule: rule.to_owned() })
    }
}
