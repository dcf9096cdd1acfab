//! What happens with what is found.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The rule of the bottle's own secrets.
pub const KNOWN_SECRET: &str = "known-secret";
/// Bytes of a fingerprint's hash: enough to name one finding, too few to hold it.
const PRINT: usize = 8;

/// What happens to a request or response that contains a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is not scanned.
    Off,
    /// It passes, and the audit log says so.
    Warn,
    /// It is refused.
    Block,
}

/// What is looked for, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dlp {
    /// What happens where nothing more particular is said.
    #[serde(default = "block")]
    pub action: Action,
    /// What happens for rules by their ids; `known-secret` is that of the bottle's own secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, Action>,
    /// Further rules: the content of files in gitleaks' form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Fingerprints of findings that are known and may pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What happens where an *answer* holds something that a rule finds.
    #[serde(default = "off")]
    pub responses: Action,
}

fn block() -> Action {
    Action::Block
}

fn off() -> Action {
    Action::Off
}

impl Default for Dlp {
    /// Everything that our own rules find in requests is refused.
    fn default() -> Self {
        Self { action: block(), actions: BTreeMap::new(), rules: Vec::new(), allow: Vec::new(), responses: off() }
    }
}

/// What happens for each rule, and what is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actions {
    action: Action,
    by_rule: BTreeMap<String, Action>,
    allowed: BTreeSet<String>,
}

impl Actions {
    /// As a user says it.
    pub fn new(dlp: &Dlp) -> Self {
        let allowed = dlp.allow.iter().cloned().collect();
        Self { action: dlp.action, by_rule: dlp.actions.clone(), allowed }
    }

    /// The same thing whatever the rule; what is let through is as a user says it.
    pub fn always(dlp: &Dlp, action: Action) -> Self {
        Self { action, by_rule: BTreeMap::new(), ..Self::new(dlp) }
    }

    /// What happens for a rule.
    pub fn of(&self, rule: &str) -> Action {
        self.by_rule.get(rule).copied().unwrap_or(self.action)
    }

    /// Whether somebody said `block` of this very rule: then it blocks at its provider's hosts, too.
    pub fn blocks(&self, rule: &str) -> bool {
        self.by_rule.get(rule) == Some(&Action::Block)
    }

    /// Whether a finding is known and may pass.
    pub fn allows(&self, fingerprint: &str) -> bool {
        self.allowed.contains(fingerprint)
    }

    /// What names a finding: its rule, and some of a hash of it and the token.
    pub fn fingerprint(rule: &str, token: &[u8]) -> String {
        let hash = Sha256::new().chain_update(rule).chain_update([0]).chain_update(token).finalize();
        format!("{rule}:{}", data_encoding::HEXLOWER.encode(&hash[..PRINT]))
    }
}
