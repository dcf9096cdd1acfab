//! The audit event: a decision of a sidecar about a request, or what happened to a sidecar itself.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One decision, or several similar ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970; of several decisions, the time of the last.
    pub time: u64,
    /// The number of decisions.
    #[serde(default = "one")]
    pub count: u64,
    /// The decision.
    #[serde(flatten)]
    pub kind: Details,
}

fn one() -> u64 {
    1
}

/// The subject of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A request, or a connection without one.
    #[default]
    Request,
    /// A sidecar, or the agent's pause; written by the holder.
    Sidecar,
    /// A request of the agent to its operator; written by the holder.
    Proposal,
}

impl Subject {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_request(&self) -> bool {
        *self == Self::Request
    }
}

/// The decision. Events with equal details are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Details {
    /// The subject; a request if absent.
    #[serde(default, skip_serializing_if = "Subject::is_request")]
    pub subject: Subject,
    /// The sidecar that decided, or that is concerned.
    pub sidecar: String,
    /// The bottle.
    #[serde(default)]
    pub bottle: String,
    /// The sidecar that sent the request, by name; the agent if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// `allow`, `refuse`; `audit` for what passed only because nothing is enforced, `warn` for a finding that passed;
    /// `alarm` and `note` for what happened to a sidecar.
    pub decision: String,
    /// The stable code of the reason; `allowed` if there is none.
    pub code: String,
    /// The reason in words; empty if there is none.
    pub reason: String,
    /// The form of the request: `connect`, `absolute`, `inside` intercepted TLS, `tcp`, or `tunnel` for TLS that is not
    /// inspected.
    pub form: String,
    /// The method.
    pub method: String,
    /// The destination, as far as it could be parsed and contains no secret: `host:port`; `*.DOMAIN` for several hosts
    /// of a domain that were counted together.
    pub destination: String,
}

/// The id of a refusal: the same for decisions that are counted together, and the same in the response to the agent and in the log.
pub fn denial_id(kind: &Details) -> String {
    let told = (&kind.code, &kind.reason, &kind.method, &kind.destination);
    let digest = Sha256::digest(serde_json::to_vec(&told).unwrap_or_default());
    format!("d{}", HEXLOWER.encode(&digest[..4]))
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
