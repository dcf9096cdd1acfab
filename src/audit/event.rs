//! What the audit is about: one decision of a sidecar about a request, or what happened to a sidecar itself.

use serde::{Deserialize, Serialize};

/// One decision, or several that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970; of several, the last.
    pub time: u64,
    /// How many decisions this is.
    #[serde(default = "one")]
    pub count: u64,
    /// What was decided.
    #[serde(flatten)]
    pub kind: Details,
}

fn one() -> u64 {
    1
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A request, or a connection that became none.
    #[default]
    Request,
    /// A sidecar itself, or the agent's pause: written by the holder.
    Sidecar,
}

impl Subject {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_request(&self) -> bool {
        *self == Self::Request
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Details {
    /// What it is about; a request where nothing is said.
    #[serde(default, skip_serializing_if = "Subject::is_request")]
    pub subject: Subject,
    /// Which sidecar decided, or is concerned.
    pub sidecar: String,
    /// In which bottle.
    #[serde(default)]
    pub bottle: String,
    /// Which of the bottle's sidecars asked, by its name; the agent where nothing is said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// `allow`, `refuse`; `audit` for what passed only because nothing is enforced, `warn` for a finding that passed; `alarm`
    /// and `note` for what happened to a sidecar.
    pub decision: String,
    /// The reason's stable code, `allowed` for what may go.
    pub code: String,
    /// The reason in words; empty for what may go.
    pub reason: String,
    /// How it was asked for: `connect`, `absolute`, `inside` TLS that was taken off, `tcp`, or `tunnel`, where nobody looks
    /// inside.
    pub form: String,
    /// The request's method.
    pub method: String,
    /// Where it wanted to go, as far as it could be read and may be told: `host:port`. `*.DOMAIN` for further hosts of a
    /// domain that were counted together.
    pub destination: String,
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
