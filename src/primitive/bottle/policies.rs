//! The policies of a bottle, one for each egress. `sidecar/policy.rs` changes them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::policy::LivePolicy;

/// The policies that a bottle's egresses enforce.
#[derive(Default)]
pub(in crate::primitive) struct Policies {
    /// By the name of the egress. Locked while one is changed.
    pub(in crate::primitive) by_egress: tokio::sync::Mutex<BTreeMap<String, LivePolicy>>,
    agents: OnceLock<String>,
}

impl Policies {
    /// Notes which egress serves the agent: an operator's changes apply to that one.
    pub(in crate::primitive) fn note_agents(&self, egress: &str) {
        let _ = self.agents.set(egress.to_owned());
    }

    /// The name of the agent's egress, once there is an agent.
    pub(in crate::primitive) fn agents(&self) -> Option<&str> {
        self.agents.get().map(String::as_str)
    }
}
