//! The built-in sidecars: roles of this same executable, each PID 1 of its container.
//!
//! A sidecar reads one line of JSON, its configuration, from its standard input; tells one line that it is ready; from
//! then on every line it writes is an audit event. It names neither Lua nor an engine.

mod audit;
pub mod ctl;
pub mod egress;
pub mod receiver;
pub(crate) mod stdio;
pub mod upstream;

use serde::{Deserialize, Serialize};
pub(crate) use stdio::MAX_LINE;

/// A line that a sidecar writes. By its number, who reads it anew, from the container's log, knows what it has read before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told<M = Message> {
    /// Which line it is, from 1.
    pub n: u64,
    /// What it says.
    pub message: M,
}

/// What a sidecar says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// It listens.
    Ready(Ready),
    /// It has taken what it was told later.
    Updated,
    /// It enforces a policy, or cannot.
    Policy(Applied),
    /// A grant for one request, by its number, was used.
    Spent(u64),
    /// It decided about a request.
    Audit(Event),
}

pub use crate::audit::{Event, Kind};

/// What became of a policy that a sidecar was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which one.
    pub generation: u64,
    /// Why it is not enforced, and the one before it still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a sidecar says when it listens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ready {
    /// The certificate of the bottle's CA, in PEM; the key stays in the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}
