//! Audit events: one line of JSON for every decision.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Message, stdio};
use crate::policy::{Intent, Reason};

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Which sidecar decided.
    pub sidecar: String,
    /// `allow` or `refuse`.
    pub decision: String,
    /// The reason's stable code, `allowed` for what may go.
    pub code: String,
    /// The reason in words; empty for what may go.
    pub reason: String,
    /// The request's method.
    pub method: String,
    /// Where it wanted to go, as far as it could be read: `host:port`.
    pub destination: String,
}

/// Tells a decision about an intent; `None` where none could be read from the request.
pub(super) fn decided(sidecar: &str, intent: Option<&Intent>, outcome: Result<(), &Reason>) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (decision, code, reason) = match outcome {
        Ok(()) => ("allow", "allowed", String::new()),
        Err(reason) => ("refuse", reason.code(), reason.to_string()),
    };
    stdio::tell(&Message::Audit(Event {
        time: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        sidecar: sidecar.to_owned(),
        decision: decision.to_owned(),
        code: code.to_owned(),
        reason,
        method: intent.map(|intent| intent.method.clone()).unwrap_or_default(),
        destination: intent.map(|intent| format!("{}:{}", intent.host, intent.port)).unwrap_or_default(),
    }));
}
