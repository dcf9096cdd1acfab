//! The action for each finding: block, mask, warn or ignore.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The rule id of the bottle's own secrets.
pub const KNOWN_SECRET: &str = "known-secret";
/// Bytes of the hash in a fingerprint: enough to identify a finding, too few to recover the value.
const PRINT: usize = 8;

/// What happens to a request or response that contains a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is not scanned.
    Off,
    /// It passes, and the audit log says so.
    Warn,
    /// It passes with `*` for every byte of the value, if that is plain text of a body or a message; otherwise it is refused.
    Mask,
    /// It is refused.
    Block,
}

/// What is searched for, and what happens to a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dlp {
    /// The default action.
    #[serde(default = "block")]
    pub action: Action,
    /// Actions for single rules, by id; `known-secret` is the rule for the bottle's own secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, Action>,
    /// Further rules: the contents of files in gitleaks' format.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Fingerprints of findings that are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What happens to a *response* in which a rule finds something.
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
    /// Blocks whatever the built-in rules find in a request.
    fn default() -> Self {
        Self { action: block(), actions: BTreeMap::new(), rules: Vec::new(), allow: Vec::new(), responses: off() }
    }
}

/// The action of each rule, and the fingerprints that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actions {
    action: Action,
    by_rule: BTreeMap<String, Action>,
    allowed: BTreeSet<String>,
}

impl Actions {
    /// Reads the user's configuration.
    pub fn new(dlp: &Dlp) -> Self {
        let allowed = dlp.allow.iter().cloned().collect();
        Self { action: dlp.action, by_rule: dlp.actions.clone(), allowed }
    }

    /// One action for every rule, with the user's allowed fingerprints.
    pub fn always(dlp: &Dlp, action: Action) -> Self {
        Self { action, by_rule: BTreeMap::new(), ..Self::new(dlp) }
    }

    /// The action of a rule.
    pub fn of(&self, rule: &str) -> Action {
        self.by_rule.get(rule).copied().unwrap_or(self.action)
    }

    /// The action of a rule at a destination where findings are masked: the user's for this rule, if there is one.
    pub(super) fn masking(&self, rule: &str) -> Action {
        self.by_rule.get(rule).copied().unwrap_or(Action::Mask)
    }

    /// Whether findings of some rule are masked everywhere.
    pub(super) fn masks(&self) -> bool {
        self.action == Action::Mask || self.by_rule.values().any(|action| *action == Action::Mask)
    }

    /// Whether some rule but that of known secrets does anything.
    pub(super) fn any_rule_acts(&self) -> bool {
        let mut others = self.by_rule.iter().filter(|(rule, _)| *rule != KNOWN_SECRET);
        self.action != Action::Off || others.any(|(_, action)| *action != Action::Off)
    }

    /// Whether the user says something of this rule.
    pub(super) fn names(&self, rule: &str) -> bool {
        self.by_rule.contains_key(rule)
    }

    /// Whether the user set this rule to `block`. Such a rule blocks at its provider's hosts as well.
    pub fn blocks(&self, rule: &str) -> bool {
        self.by_rule.get(rule) == Some(&Action::Block)
    }

    /// Whether the fingerprint is allowed.
    pub fn allows(&self, fingerprint: &str) -> bool {
        self.allowed.contains(fingerprint)
    }

    /// The fingerprint of a finding: the rule's id and a truncated hash of the id and the token.
    pub fn fingerprint(rule: &str, token: &[u8]) -> String {
        let hash = Sha256::new().chain_update(rule).chain_update([0]).chain_update(token).finalize();
        format!("{rule}:{}", data_encoding::HEXLOWER.encode(&hash[..PRINT]))
    }
}
